/**
 * The longest packet that a driver may send, and a device may pass, once an MTU was agreed on (VIRTIO_NET_F_MTU; virtio 1.2, 5.1.4.1 and
 * 5.1.4.2).
 *
 * Burst loops compare a packet's length with Q_LENGTH_LIMIT, which is out of reach where there is no MTU, and ask here about those that
 * are longer.
 * @module
 */
import { ld32 } from '../memory/access.ts';
import { MBUF_DATA, MBUF_FLAGS, MBUF_LENGTH, MBUF_SEGMENT_LENGTH, MBUF_WORK_SEGMENTS } from '../memory/mbuf-layout.ts';
import { skipEthernet } from '../net/headers.kernel.ts';
import { count } from './counters.kernel.ts';
import { SHORTEST_PACKET } from './packet-header.kernel.ts';
import { Q_LENGTH_LIMIT, Q_OVERSIZE } from './queue-layout.ts';

/**
 * 1 for a packet beyond the MTU, which is counted: the caller drops it. VLAN tags belong to the header and not to what the MTU limits; a
 * packet that the other side is to cut may have any length.
 */
export function isOversize(queue: u32, packet: u32): u32 {
  const limit: u32 = ld32(queue + Q_LENGTH_LIMIT);
  const length: u32 = ld32(packet + MBUF_LENGTH);
  if (length <= limit || (ld32(packet + MBUF_FLAGS) & MBUF_WORK_SEGMENTS) !== 0) return 0;
  const tags: u32 = skipEthernet(ld32(packet + MBUF_DATA), 0, ld32(packet + MBUF_SEGMENT_LENGTH)) - SHORTEST_PACKET;
  if (length - tags <= limit) return 0;
  count(queue + Q_OVERSIZE, 1);
  return 1;
}
