/**
 * l3fwd: routes IP packets by longest prefix or by flow, from any port to any other.
 * @module
 */
import { LIST_BYTES, LISTS_COUNTS, LISTS_HANDLES } from '../../net/router-layout.ts';
import { VirtioError } from '../../system/error.ts';
import type { ForwardingEngine } from './engine.ts';

export const l3fwd: ForwardingEngine = {
  name: 'l3fwd',
  begin({ router }) {
    if (router === 0) throw new VirtioError('l3fwd: it needs routes', { code: 'EINVAL' });
  },
  forward(stream) {
    const count = stream.receive();
    if (count === 0) return;
    const { context, lists, outputs } = stream;
    const dropped = context.kernels.routePackets(stream.router, stream.mbufs, count, lists, outputs.length, stream.lcore);
    if (dropped !== 0) stream.countDropped(dropped);
    for (let output = 0; output < outputs.length; output++) {
      const sent = context.views.u32[(lists + LISTS_COUNTS + 4 * output) >>> 2] ?? 0;
      if (sent !== 0) outputs[output]?.send(lists + LISTS_HANDLES + LIST_BYTES * output, sent);
    }
  },
};
