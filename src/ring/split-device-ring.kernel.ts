/**
 * What both directions share on the device side of a split virtqueue (virtio 1.2, 2.7). The peer's rings and buffers are mapped into the arena's window.
 *
 * The peer may write all of that memory at any time. Every descriptor is read once; every address is translated with its
 * whole length before use; a chain has at most as many links as the ring has descriptors. An impossible value stops the
 * queue with a reason (Q_ERROR); a packet that makes no sense in an otherwise sound ring is counted and dropped.
 * @module
 */
import { atomicLoad16, atomicStore16, ld32, st32 } from '../memory/access.ts';
import { giveUp } from './give-up.kernel.ts';
import { QUEUE_ERROR_INDEX, Q_AVAILABLE, Q_HANDLED, Q_NOTIFY, Q_OWN_INDEX, Q_SEEN, Q_SIZE, Q_USED } from './queue-layout.ts';
import { AVAILABLE_FLAGS, AVAILABLE_F_NO_INTERRUPT, AVAILABLE_INDEX, USED_ELEMENT_BYTES, USED_INDEX, USED_RING } from './split-layout.ts';

/** Longest packet taken from a driver: 64 KiB of payload and headers before it. */
export const PACKET_LIMIT: u32 = 65_535 + 64;

/** Entries of the available ring that are not handled yet; 0xffffffff after an error. */
export function availableAhead(queue: u32): u32 {
  const seen: u32 = atomicLoad16(ld32(queue + Q_AVAILABLE) + AVAILABLE_INDEX);
  st32(queue + Q_SEEN, seen);
  const ahead: u32 = (seen - ld32(queue + Q_HANDLED)) & 0xffff;
  if (ahead > ld32(queue + Q_SIZE)) {
    giveUp(queue, QUEUE_ERROR_INDEX);
    return 0xffffffff;
  }
  return ahead;
}

export function writeUsed(used: u32, index: u32, mask: u32, id: u32, length: u32): void {
  const element: u32 = used + USED_RING + (index & mask) * USED_ELEMENT_BYTES;
  if (ld32(element) !== id) st32(element, id);
  if (ld32(element + 4) !== length) st32(element + 4, length);
}

/** Makes the used elements up to `index` visible and finds out whether the driver wants a call. */
export function publishUsed(queue: u32, index: u32): void {
  st32(queue + Q_OWN_INDEX, index);
  atomicStore16(ld32(queue + Q_USED) + USED_INDEX, index);
  if ((atomicLoad16(ld32(queue + Q_AVAILABLE) + AVAILABLE_FLAGS) & AVAILABLE_F_NO_INTERRUPT) === 0) st32(queue + Q_NOTIFY, 1);
}
