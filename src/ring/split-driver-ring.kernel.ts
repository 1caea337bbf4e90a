/**
 * What transmitting and receiving share on the driver side of a split virtqueue (virtio 1.2, 2.7.13 and 2.7.14).
 *
 * Descriptors are taken from a ring of free ones and go back to its end, so that with a device that works in order, slot
 * and descriptor number stay equal for ever; and every store into the ring is made only if it changes something: a line
 * that both sides merely read costs nothing (figures in docs/performance.md).
 *
 * The ring and the headers are memory that the device may write at any time: what is read from there is checked once,
 * and what must not change is kept in the shadow.
 * @module
 */
import { atomicLoad16, atomicStore16, ld16, ld32, st16, st32 } from '../memory/access.ts';
import {
  QUEUE_EVENT_IDX,
  Q_AVAILABLE,
  Q_FEATURES,
  Q_FREE,
  Q_FREE_HEAD,
  Q_FREE_RING,
  Q_HANDLED,
  Q_NOTIFY,
  Q_OWN_INDEX,
  Q_SEEN,
  Q_SHADOW,
  Q_USED,
  SHADOW_BYTES,
  SHADOW_COUNT,
  SHADOW_NEXT,
} from './queue-layout.ts';
import {
  AVAILABLE_INDEX,
  DESCRIPTOR_ADDRESS_HIGH,
  DESCRIPTOR_ADDRESS_LOW,
  DESCRIPTOR_FLAGS,
  DESCRIPTOR_LENGTH,
  USED_FLAGS,
  USED_F_NO_NOTIFY,
  USED_INDEX,
} from './split-layout.ts';
import { availableEvent, isPassed, keepFar, usedEvent } from './split-events.kernel.ts';

/** Reads the device's index; returns how many used elements are not handled yet, as far as the device is to be believed. */
export function usedAhead(queue: u32): u32 {
  const seen: u32 = atomicLoad16(ld32(queue + Q_USED) + USED_INDEX);
  st32(queue + Q_SEEN, seen);
  return (seen - ld32(queue + Q_HANDLED)) & 0xffff;
}

/** Gives the descriptors of the chain that starts at `head` back to the end of the free ring. */
export function releaseChain(queue: u32, head: u32, mask: u32): u32 {
  const shadow: u32 = ld32(queue + Q_SHADOW);
  const chain: u32 = ld16(shadow + head * SHADOW_BYTES + SHADOW_COUNT);
  const ring: u32 = ld32(queue + Q_FREE_RING);
  let tail: u32 = ld32(queue + Q_FREE_HEAD) + ld32(queue + Q_FREE);
  let descriptor: u32 = head;
  for (let index: u32 = 0; index < chain; index++) {
    const slot: u32 = ring + ((tail & mask) << 1);
    if (ld16(slot) !== descriptor) st16(slot, descriptor);
    tail++;
    descriptor = ld16(shadow + descriptor * SHADOW_BYTES + SHADOW_NEXT);
  }
  st32(queue + Q_FREE, ld32(queue + Q_FREE) + chain);
  return chain;
}

export function writeDescriptor(descriptor: u32, address: u32, high: u32, length: u32, flagsAndNext: u32): void {
  if (ld32(descriptor + DESCRIPTOR_ADDRESS_LOW) !== address) st32(descriptor + DESCRIPTOR_ADDRESS_LOW, address);
  if (ld32(descriptor + DESCRIPTOR_ADDRESS_HIGH) !== high) st32(descriptor + DESCRIPTOR_ADDRESS_HIGH, high);
  if (ld32(descriptor + DESCRIPTOR_LENGTH) !== length) st32(descriptor + DESCRIPTOR_LENGTH, length);
  if (ld32(descriptor + DESCRIPTOR_FLAGS) !== flagsAndNext) st32(descriptor + DESCRIPTOR_FLAGS, flagsAndNext);
}

/** Makes the entries of the available ring up to `index` visible and finds out whether the device wants a kick. */
export function publish(queue: u32, index: u32): void {
  const before: u32 = ld32(queue + Q_OWN_INDEX);
  const events: u32 = ld32(queue + Q_FEATURES) & QUEUE_EVENT_IDX;
  if (events !== 0) keepFar(queue, usedEvent(queue), before, index);
  st32(queue + Q_OWN_INDEX, index);
  atomicStore16(ld32(queue + Q_AVAILABLE) + AVAILABLE_INDEX, index);
  // the store above is sequentially consistent: what the device wants is read after it (virtio 1.2, 2.7.13.4.1)
  if (events !== 0) {
    if (isPassed(atomicLoad16(availableEvent(queue)), before, index) !== 0) st32(queue + Q_NOTIFY, 1);
  } else if ((atomicLoad16(ld32(queue + Q_USED) + USED_FLAGS) & USED_F_NO_NOTIFY) === 0) st32(queue + Q_NOTIFY, 1);
}
