/**
 * VIRTIO_F_EVENT_IDX on split rings (virtio 1.2, 2.7.7 and 2.7.10), for either side: who wants to be notified says at which index, behind
 * the ring that it writes.
 *
 *     available ring | used_event    by the driver: a call once the used index has passed it
 *     used ring      | avail_event   by the device: a kick once the available index has passed it
 *
 * The flags stay 0. Who polls keeps its event where the other side's index cannot come, and moves it once in a quarter of the index's
 * range: what both sides merely read costs nothing.
 * @module
 */
import { atomicStore16, ld32, st16, st32 } from '../memory/access.ts';
import { Q_ARMED, Q_AVAILABLE, Q_HANDLED, Q_SIZE, Q_USED } from './queue-layout.ts';
import { AVAILABLE_RING, EVENT_FAR, USED_ELEMENT_BYTES, USED_RING } from './split-layout.ts';

/** Bits of an index that change once in a quarter of its range. */
const QUARTER: u32 = 0xc000;

/** Offset of used_event. */
export function usedEvent(queue: u32): u32 {
  return ld32(queue + Q_AVAILABLE) + AVAILABLE_RING + (ld32(queue + Q_SIZE) << 1);
}

/** Offset of avail_event. */
export function availableEvent(queue: u32): u32 {
  return ld32(queue + Q_USED) + USED_RING + ld32(queue + Q_SIZE) * USED_ELEMENT_BYTES;
}

/** 1 when an index that went from `before` to `index` has passed the other side's event. */
export function isPassed(event: u32, before: u32, index: u32): u32 {
  return ((index - event - 1) & 0xffff) < ((index - before) & 0xffff) ? 1 : 0;
}

/** Asks for a notification of the next entry, by the event at `event`. */
export function armEvent(queue: u32, event: u32): void {
  st32(queue + Q_ARMED, 1);
  atomicStore16(event, ld32(queue + Q_HANDLED));
}

/** Asks for none. */
export function disarmEvent(queue: u32, event: u32): void {
  st32(queue + Q_ARMED, 0);
  atomicStore16(event, (ld32(queue + Q_HANDLED) + EVENT_FAR) & 0xffff);
}

/**
 * Before this side's index goes from `before` to `index`: keeps its event far, unless it waits for it. The other side is never more than
 * a ring (0x8000 at most) ahead of what was handled, and between two moves this side goes on by less than 0x4000.
 */
export function keepFar(queue: u32, event: u32, before: u32, index: u32): void {
  if (((before ^ index) & QUARTER) === 0 || ld32(queue + Q_ARMED) !== 0) return;
  st16(event, (ld32(queue + Q_HANDLED) + EVENT_FAR) & 0xffff);
}
