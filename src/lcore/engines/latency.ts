/**
 * latency: sends packets with the time in them, at the rate of `set txrate`, and records how long those that come back were away.
 *
 * The time is taken right before a burst is sent and right after one was received, by the same clock: the far side only has to return
 * the packets, on whichever of the streams' ports.
 * @module
 */
import { LATENCY_STAMP, LATENCY_STAMP_BYTES } from '../../net/latency-layout.ts';
import { TEMPLATE_SEGMENT_LENGTHS } from '../../net/generate.kernel.ts';
import { VirtioError } from '../../system/error.ts';
import type { EngineStream, ForwardingEngine } from './engine.ts';
import { sendGenerated } from './txonly.ts';

const SHORTEST = LATENCY_STAMP + LATENCY_STAMP_BYTES;

function stamp(stream: EngineStream, count: number): void {
  stream.tellTime();
  stream.context.kernels.stampPackets(stream.recorder, stream.mbufs, count);
}

export const latency: ForwardingEngine = {
  name: 'latency',
  begin({ context, template }) {
    const first = context.views.u32[(template + TEMPLATE_SEGMENT_LENGTHS) >>> 2] ?? 0;
    if (first < SHORTEST) {
      throw new VirtioError(
        `latency: the first segment of ${String(first)} bytes has no room for the time; make it ${String(SHORTEST)} bytes or more`,
        { code: 'EINVAL' },
      );
    }
  },
  forward(stream) {
    const count = stream.receive();
    if (count !== 0) {
      stream.tellTime();
      stream.context.kernels.recordLatency(stream.recorder, stream.mbufs, count);
      stream.free(count);
    }
    sendGenerated(stream, stamp);
  },
};
