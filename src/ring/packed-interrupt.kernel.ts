/**
 * Notifications of packed virtqueues (virtio 1.2, 2.8.10 and 2.8.14): a queue whose owner wants to sleep says in its event suppression
 * structure that it wants to be told, and then looks once more; as interrupt.kernel.ts does for split ones. With VIRTIO_F_EVENT_IDX it
 * asks for the next descriptor alone, and is told once; without it, of every burst until it polls again.
 * @module
 */
import { atomicStore32, ld32 } from '../memory/access.ts';
import { EVENT_DESCRIPTOR, EVENT_DISABLE, EVENT_ENABLE } from './packed-layout.ts';
import { descriptorAt, isAvailable, isUsed, loadWord } from './packed-ring.kernel.ts';
import { QUEUE_EVENT_IDX, Q_AVAILABLE, Q_BATCH, Q_FEATURES, Q_FREE, Q_HANDLED, Q_MISS, Q_SIZE, Q_USED } from './queue-layout.ts';

/** What the owner of a queue writes who waits for the descriptor at `position`: one word, off_wrap and flags. */
function wish(queue: u32, position: u32): u32 {
  return (ld32(queue + Q_FEATURES) & QUEUE_EVENT_IDX) !== 0 ? position | (EVENT_DESCRIPTOR << 16) : EVENT_ENABLE << 16;
}

/** Driver: asks for a call when the device has used buffers. @returns 1, or 0 when it has already, and no call may come for those */
export function packedDriverArm(queue: u32): u32 {
  const position: u32 = ld32(queue + Q_HANDLED);
  atomicStore32(ld32(queue + Q_AVAILABLE), wish(queue, position));
  if (ld32(queue + Q_BATCH) !== 0) return 0;
  if (ld32(queue + Q_FREE) === ld32(queue + Q_SIZE)) return 1;
  return isUsed(loadWord(descriptorAt(queue, position)), position) === 0 ? 1 : 0;
}

/** Driver: polls from now on; calls that are under way may still come. */
export function packedDriverDisarm(queue: u32): void {
  atomicStore32(ld32(queue + Q_AVAILABLE), EVENT_DISABLE << 16);
}

/** Device: asks for a kick when the driver has made buffers available. @returns 1, or 0 when it has already */
export function packedDeviceArm(queue: u32): u32 {
  const position: u32 = ld32(queue + Q_HANDLED);
  atomicStore32(ld32(queue + Q_USED), wish(queue, position));
  // as in splitDeviceArm
  if (ld32(queue + Q_MISS) !== 0) return 1;
  return isAvailable(loadWord(descriptorAt(queue, position)), position) === 0 ? 1 : 0;
}

/** Device: polls from now on. */
export function packedDeviceDisarm(queue: u32): void {
  atomicStore32(ld32(queue + Q_USED), EVENT_DISABLE << 16);
}
