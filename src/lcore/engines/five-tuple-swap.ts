/**
 * 5tswap: swaps Ethernet addresses, IPv4 or IPv6 addresses, and TCP or UDP ports.
 * @module
 */
import type { ForwardingEngine } from './engine.ts';

export const fiveTupleSwap: ForwardingEngine = {
  name: '5tswap',
  forward(stream) {
    const count = stream.receive();
    if (count === 0) return;
    stream.context.kernels.swapFiveTuples(stream.mbufs, count);
    stream.send(count);
  },
};
