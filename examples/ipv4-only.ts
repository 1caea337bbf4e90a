/**
 * A forwarding engine: drops what is not IPv4, sends the rest back or on with its Ethernet addresses swapped.
 *
 *     dpdk-ts-testpmd -l 0-1 --vdev net_null0 -- --forward-mode=./examples/ipv4-only.ts
 *
 * or, from a program: launch(new URL('./ipv4-only.ts', import.meta.url), { lcores: [1], ports: [port], topology: 'loop' })
 * @module
 */
import type { ForwardingEngine } from 'dpdk-ts';
import { MbufAccess } from 'dpdk-ts/memory';

let mbufs: MbufAccess;

export const engine: ForwardingEngine = {
  name: 'ipv4-only',
  begin(stream) {
    mbufs = new MbufAccess(stream.context.views);
  },
  forward(stream) {
    const count = stream.receive();
    if (count === 0) return;
    const { u8, u32 } = mbufs;
    const first = stream.mbufs >>> 2;
    // those to keep come first, those to drop after them
    let kept = 0;
    for (let index = 0; index < count; index++) {
      const handle = u32[first + index] ?? 0;
      const at = mbufs.data(handle);
      if (u8[at + 12] !== 0x08 || u8[at + 13] !== 0x00) continue;
      u32[first + index] = u32[first + kept] ?? 0;
      u32[first + kept++] = handle;
    }
    const { kernels } = stream.context;
    if (kept < count) kernels.packetsFree(stream.mbufs + (kept << 2), count - kept, stream.lcore);
    if (kept === 0) return;
    kernels.swapEthernetAddresses(stream.mbufs, kept);
    stream.send(kept);
  },
};
