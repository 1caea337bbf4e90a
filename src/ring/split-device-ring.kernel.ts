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
import { FAILED, PIECES, addPiece, openTable } from './pieces.kernel.ts';
import {
  QUEUE_ERROR_CHAIN,
  QUEUE_ERROR_ID,
  QUEUE_ERROR_INDEX,
  QUEUE_EVENT_IDX,
  Q_AVAILABLE,
  Q_DESCRIPTORS,
  Q_FEATURES,
  Q_HANDLED,
  Q_NOTIFY,
  Q_OWN_INDEX,
  Q_SEEN,
  Q_SIZE,
  Q_TOUCH,
  Q_USED,
} from './queue-layout.ts';
import {
  AVAILABLE_FLAGS,
  AVAILABLE_F_NO_INTERRUPT,
  AVAILABLE_INDEX,
  DESCRIPTOR_ADDRESS_HIGH,
  DESCRIPTOR_ADDRESS_LOW,
  DESCRIPTOR_BYTES,
  DESCRIPTOR_FLAGS,
  DESCRIPTOR_F_INDIRECT,
  DESCRIPTOR_F_NEXT,
  DESCRIPTOR_F_WRITE,
  DESCRIPTOR_LENGTH,
  USED_ELEMENT_BYTES,
  USED_INDEX,
  USED_RING,
} from './split-layout.ts';
import { availableEvent, isPassed, keepFar, usedEvent } from './split-events.kernel.ts';

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
  const before: u32 = ld32(queue + Q_OWN_INDEX);
  const events: u32 = ld32(queue + Q_FEATURES) & QUEUE_EVENT_IDX;
  if (events !== 0) keepFar(queue, availableEvent(queue), before, index);
  st32(queue + Q_OWN_INDEX, index);
  atomicStore16(ld32(queue + Q_USED) + USED_INDEX, index);
  // the store above is sequentially consistent: what the driver wants is read after it (virtio 1.2, 2.7.7.2)
  if (events !== 0) {
    if (isPassed(atomicLoad16(usedEvent(queue)), before, index) !== 0) st32(queue + Q_NOTIFY, 1);
  } else if ((atomicLoad16(ld32(queue + Q_AVAILABLE) + AVAILABLE_FLAGS) & AVAILABLE_F_NO_INTERRUPT) === 0) st32(queue + Q_NOTIFY, 1);
}

/**
 * Walks the chain at `head`, and a table of indirect descriptors at its end (virtio 1.2, 2.7.5.3), and leaves its pieces at `pieces`
 * behind the `before` that are there; their bytes in Q_TOUCH.
 * @param direction DESCRIPTOR_F_WRITE: every descriptor must be for the device to write; 0: to read
 * @returns pieces now, or FAILED
 */
export function collectChain(queue: u32, head: u32, direction: u32, pieces: u32, before: u32): u32 {
  let table: u32 = ld32(queue + Q_DESCRIPTORS);
  let entries: u32 = ld32(queue + Q_SIZE);
  let nested: u32 = 0;
  let index: u32 = head;
  let found: u32 = before;
  let links: u32 = 0;
  st32(queue + Q_TOUCH, 0);
  while (links < entries) {
    if (index >= entries) {
      giveUp(queue, QUEUE_ERROR_ID);
      return FAILED;
    }
    const descriptor: u32 = table + index * DESCRIPTOR_BYTES;
    const low: u32 = ld32(descriptor + DESCRIPTOR_ADDRESS_LOW);
    const high: u32 = ld32(descriptor + DESCRIPTOR_ADDRESS_HIGH);
    const bytes: u32 = ld32(descriptor + DESCRIPTOR_LENGTH);
    const flagsAndNext: u32 = ld32(descriptor + DESCRIPTOR_FLAGS);
    if ((flagsAndNext & DESCRIPTOR_F_INDIRECT) !== 0) {
      // WRITE is to be ignored here; a table in a table, or something behind it, there cannot be
      table = openTable(queue, low, high, bytes, (flagsAndNext & DESCRIPTOR_F_NEXT) | nested);
      if (table === 0) return FAILED;
      entries = bytes / DESCRIPTOR_BYTES;
      nested = 1;
      index = 0;
      links = 0;
      continue;
    }
    if ((flagsAndNext & DESCRIPTOR_F_WRITE) !== direction) {
      giveUp(queue, QUEUE_ERROR_CHAIN);
      return FAILED;
    }
    found = addPiece(queue, pieces, found, PIECES, low, high, bytes);
    if (found === FAILED) return FAILED;
    if ((flagsAndNext & DESCRIPTOR_F_NEXT) === 0) return found;
    index = flagsAndNext >>> 16;
    links++;
  }
  giveUp(queue, QUEUE_ERROR_CHAIN);
  return FAILED;
}
