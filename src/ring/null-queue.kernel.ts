/**
 * The queues of net_null: receiving makes packets of one size out of nothing, transmitting frees them. The state is a
 * queue state (queue-layout.ts) of which only a few fields are used.
 * @module
 */
import { copyBytes, ld32, st16, st32 } from '../memory/access.ts';
import { MBUF_DATA, MBUF_LENGTH, MBUF_PORT, MBUF_SEGMENT_LENGTH } from '../memory/mbuf-layout.ts';
import { mbufAllocate, packetsFree } from '../memory/mempool.kernel.ts';
import { count, countBurst } from './counters.kernel.ts';
import { Q_HEADERS, Q_LCORE, Q_NO_MBUF, Q_POOL, Q_PORT, Q_SIZE, Q_STATE, QUEUE_RUNNING } from './queue-layout.ts';

/** Q_SIZE is the packets' length, Q_HEADERS the offset of bytes to copy into each (0: none). */
export function nullReceive(queue: u32, to: u32, packets: u32): u32 {
  if (ld32(queue + Q_STATE) !== QUEUE_RUNNING) return 0;
  if (mbufAllocate(ld32(queue + Q_POOL), ld32(queue + Q_LCORE), to, packets) === 0) {
    count(queue + Q_NO_MBUF, packets);
    return 0;
  }
  const length: u32 = ld32(queue + Q_SIZE);
  const port: u32 = ld32(queue + Q_PORT);
  const template: u32 = ld32(queue + Q_HEADERS);
  for (let index: u32 = 0; index < packets; index++) {
    const packet: u32 = ld32(to + (index << 2));
    st32(packet + MBUF_LENGTH, length);
    st32(packet + MBUF_SEGMENT_LENGTH, length);
    st16(packet + MBUF_PORT, port);
    if (template !== 0) copyBytes(ld32(packet + MBUF_DATA), template, length);
  }
  countBurst(queue, packets, packets * length);
  return packets;
}

export function nullTransmit(queue: u32, from: u32, packets: u32): u32 {
  if (ld32(queue + Q_STATE) !== QUEUE_RUNNING) return 0;
  const sink: u32 = ld32(queue + Q_HEADERS);
  const length: u32 = ld32(queue + Q_SIZE);
  let bytes: u32 = 0;
  for (let index: u32 = 0; index < packets; index++) {
    const packet: u32 = ld32(from + (index << 2));
    bytes += ld32(packet + MBUF_LENGTH);
    const first: u32 = ld32(packet + MBUF_SEGMENT_LENGTH);
    if (sink !== 0) copyBytes(sink, ld32(packet + MBUF_DATA), first < length ? first : length);
  }
  packetsFree(from, packets, ld32(queue + Q_LCORE));
  countBurst(queue, packets, bytes);
  return packets;
}
