/**
 * mac: gives every packet the peer's address as destination and the transmit port's as source.
 * @module
 */
import type { ForwardingEngine } from './engine.ts';

export const mac: ForwardingEngine = {
  name: 'mac',
  forward(stream) {
    const count = stream.receive();
    if (count === 0) return;
    stream.context.kernels.setEthernetAddresses(stream.mbufs, count, stream.addresses);
    stream.send(count);
  },
};
