/**
 * icmpecho: answers ARP requests for any address and ICMP echo requests, out of the port that they came from; everything else is
 * freed.
 * @module
 */
import type { ForwardingEngine } from './engine.ts';

/** Offset of the port's own address behind the peer's. */
const OWN_ADDRESS = 6;

export const icmpecho: ForwardingEngine = {
  name: 'icmpecho',
  forward(stream) {
    const count = stream.receive();
    if (count === 0) return;
    const answers = stream.context.kernels.answerRequests(stream.mbufs, count, stream.addresses + OWN_ADDRESS, stream.lcore);
    if (answers !== 0) stream.send(answers);
  },
};
