/**
 * A ring of mbuf handles between one lcore that sends and one that receives: the queues of net_ring.
 * @module
 */
import { atomicLoad32, atomicStore32, ld32, st16, st32 } from '../memory/access.ts';
import { MBUF_LENGTH, MBUF_PORT } from '../memory/mbuf-layout.ts';
import { countBurst } from './counters.kernel.ts';
import { Q_PORT, Q_DESCRIPTORS, Q_STATE, QUEUE_RUNNING } from './queue-layout.ts';

/** u32: entries (a power of two); free-running positions of the sender and the receiver, each on a line of its own. */
export const RING_SIZE: u32 = 0;
export const RING_SENT: u32 = 64;
export const RING_RECEIVED: u32 = 128;
export const RING_ITEMS: u32 = 192;

/** Q_DESCRIPTORS of the queue state is the ring's offset. */
export function ringTransmit(queue: u32, from: u32, packets: u32): u32 {
  if (ld32(queue + Q_STATE) !== QUEUE_RUNNING) return 0;
  const ring: u32 = ld32(queue + Q_DESCRIPTORS);
  const size: u32 = ld32(ring + RING_SIZE);
  const sent: u32 = ld32(ring + RING_SENT);
  const room: u32 = size - ((sent - atomicLoad32(ring + RING_RECEIVED)) >>> 0);
  const taken: u32 = packets < room ? packets : room;
  let bytes: u32 = 0;
  for (let index: u32 = 0; index < taken; index++) {
    const packet: u32 = ld32(from + (index << 2));
    bytes += ld32(packet + MBUF_LENGTH);
    st32(ring + RING_ITEMS + (((sent + index) & (size - 1)) << 2), packet);
  }
  if (taken === 0) return 0;
  countBurst(queue, taken, bytes);
  atomicStore32(ring + RING_SENT, (sent + taken) >>> 0);
  return taken;
}

export function ringReceive(queue: u32, to: u32, packets: u32): u32 {
  if (ld32(queue + Q_STATE) !== QUEUE_RUNNING) return 0;
  const ring: u32 = ld32(queue + Q_DESCRIPTORS);
  const size: u32 = ld32(ring + RING_SIZE);
  const port: u32 = ld32(queue + Q_PORT);
  const received: u32 = ld32(ring + RING_RECEIVED);
  const ahead: u32 = (atomicLoad32(ring + RING_SENT) - received) >>> 0;
  const taken: u32 = packets < ahead ? packets : ahead;
  let bytes: u32 = 0;
  for (let index: u32 = 0; index < taken; index++) {
    const packet: u32 = ld32(ring + RING_ITEMS + (((received + index) & (size - 1)) << 2));
    bytes += ld32(packet + MBUF_LENGTH);
    st16(packet + MBUF_PORT, port);
    st32(to + (index << 2), packet);
  }
  if (taken === 0) return 0;
  countBurst(queue, taken, bytes);
  atomicStore32(ring + RING_RECEIVED, (received + taken) >>> 0);
  return taken;
}
