/**
 * The question of every transmit kernel: can this packet be sent as it is?
 * @module
 */
import { ld32, st32 } from '../memory/access.ts';
import { MBUF_FLAGS, MBUF_WORK } from '../memory/mbuf-layout.ts';
import { Q_OFFLOADS, Q_UNFINISHED } from './queue-layout.ts';

/** 1 when the queue has to stop before `packet`, whose work the other side does not do; the caller is told by Q_UNFINISHED. */
export function isUnfinished(queue: u32, packet: u32): u32 {
  if ((ld32(packet + MBUF_FLAGS) & MBUF_WORK & ~ld32(queue + Q_OFFLOADS)) === 0) return 0;
  st32(queue + Q_UNFINISHED, 1);
  return 1;
}
