/**
 * txonly: sends UDP packets as fast as the transmit queue takes them, and receives nothing.
 *
 * Sent packets are taken back before new ones are made, so that each slot of the ring meets the same buffer again, and
 * none are made that the queue has no room for. (DPDK makes them and counts them as dropped.) With a rate (`set txrate`), none are made
 * before they are due.
 * @module
 */
import { ALL_DESCRIPTORS } from '../../ring/queue-layout.ts';
import type { EngineStream, ForwardingEngine } from './engine.ts';

/** Makes and sends what is due of a burst, or as much of it as there is room for; waits for room for 32 packets, or for all of it. */
export function sendGenerated(stream: EngineStream, afterwards?: (stream: EngineStream, count: number) => void): void {
  const { burst, segments } = stream;
  const due = stream.due(burst);
  if (due === 0) return;
  const fits = (stream.room(due * segments) / segments) | 0;
  const count = fits < due ? fits : due;
  if (count === 0 || (count < due && count < 32 && segments === 1)) return;
  if (stream.context.kernels.generatePackets(stream.template, stream.lcore, stream.mbufs, count) === 0) {
    stream.countNoMbuf(count);
    // all of them may lie in the transmit ring, sent: that is looked at only when it is asked for more room than there is
    stream.room(ALL_DESCRIPTORS);
    return;
  }
  stream.spend(count);
  afterwards?.(stream, count);
  stream.send(count);
}

export const txonly: ForwardingEngine = {
  name: 'txonly',
  forward(stream) {
    sendGenerated(stream);
  },
};
