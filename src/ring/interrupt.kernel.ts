/**
 * Receive interrupts of split virtqueues (virtio 1.2, 2.7.7 and 2.7.10): a queue whose owner wants to sleep asks the other side for a
 * notification, by its flags or with VIRTIO_F_EVENT_IDX by its event, and then looks once more. What came before the other side could see
 * the request is found by that look; what comes after it is notified. Both accesses are sequentially consistent, as are the other side's.
 * @module
 */
import { atomicLoad16, atomicStore16, ld32 } from '../memory/access.ts';
import { QUEUE_EVENT_IDX, Q_AVAILABLE, Q_FEATURES, Q_HANDLED, Q_MISS, Q_USED } from './queue-layout.ts';
import { armEvent, availableEvent, disarmEvent, usedEvent } from './split-events.kernel.ts';
import { AVAILABLE_F_NO_INTERRUPT, AVAILABLE_FLAGS, AVAILABLE_INDEX, USED_F_NO_NOTIFY, USED_FLAGS, USED_INDEX } from './split-layout.ts';

/** Driver: asks for a call when the device has used buffers. @returns 1, or 0 when it has already, and no call may come for those */
export function splitDriverArm(queue: u32): u32 {
  if ((ld32(queue + Q_FEATURES) & QUEUE_EVENT_IDX) !== 0) armEvent(queue, usedEvent(queue));
  else atomicStore16(ld32(queue + Q_AVAILABLE) + AVAILABLE_FLAGS, 0);
  return atomicLoad16(ld32(queue + Q_USED) + USED_INDEX) === ld32(queue + Q_HANDLED) ? 1 : 0;
}

/** Driver: polls from now on; calls that are under way may still come. */
export function splitDriverDisarm(queue: u32): void {
  if ((ld32(queue + Q_FEATURES) & QUEUE_EVENT_IDX) !== 0) disarmEvent(queue, usedEvent(queue));
  else atomicStore16(ld32(queue + Q_AVAILABLE) + AVAILABLE_FLAGS, AVAILABLE_F_NO_INTERRUPT);
}

/** Device: asks for a kick when the driver has made buffers available. @returns 1, or 0 when it has already */
export function splitDeviceArm(queue: u32): u32 {
  if ((ld32(queue + Q_FEATURES) & QUEUE_EVENT_IDX) !== 0) armEvent(queue, availableEvent(queue));
  else atomicStore16(ld32(queue + Q_USED) + USED_FLAGS, 0);
  // what is there cannot be reached yet: the control plane wakes the sleeper when it can (Q_WAKE_FD)
  if (ld32(queue + Q_MISS) !== 0) return 1;
  return atomicLoad16(ld32(queue + Q_AVAILABLE) + AVAILABLE_INDEX) === ld32(queue + Q_HANDLED) ? 1 : 0;
}

/** Device: polls from now on. */
export function splitDeviceDisarm(queue: u32): void {
  if ((ld32(queue + Q_FEATURES) & QUEUE_EVENT_IDX) !== 0) disarmEvent(queue, availableEvent(queue));
  else atomicStore16(ld32(queue + Q_USED) + USED_FLAGS, USED_F_NO_NOTIFY);
}
