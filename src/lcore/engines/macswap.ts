/**
 * macswap: swaps source and destination Ethernet address.
 * @module
 */
import type { ForwardingEngine } from './engine.ts';

export const macswap: ForwardingEngine = {
  name: 'macswap',
  forward(stream) {
    const count = stream.receive();
    if (count === 0) return;
    stream.context.kernels.swapEthernetAddresses(stream.mbufs, count);
    stream.send(count);
  },
};
