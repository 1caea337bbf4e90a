/**
 * What both sides do with positions and flags of a packed virtqueue (virtio 1.2, 2.8). The format is drawn in packed-layout.ts.
 * @module
 */
import { atomicLoad32, atomicStore32, ld32, st32 } from '../memory/access.ts';
import {
  EVENT_DESCRIPTOR,
  EVENT_ENABLE,
  PACKED_ADDRESS_HIGH,
  PACKED_ADDRESS_LOW,
  PACKED_BYTES,
  PACKED_F_AVAILABLE,
  PACKED_F_BOTH,
  PACKED_F_USED,
  PACKED_LENGTH,
  PACKED_WORD,
  POSITION_INDEX,
  POSITION_WRAP,
} from './packed-layout.ts';
import { Q_DESCRIPTORS, Q_NOTIFY, Q_OWN_INDEX, Q_SIZE } from './queue-layout.ts';

/** The position `by` descriptors on, `by` up to the size of the ring. */
export function advance(position: u32, by: u32, size: u32): u32 {
  const index: u32 = (position & POSITION_INDEX) + by;
  if (index < size) return index | (position & POSITION_WRAP);
  return (index - size) | ((position & POSITION_WRAP) ^ POSITION_WRAP);
}

/** Arena offset of the descriptor at a position. */
export function descriptorAt(queue: u32, position: u32): u32 {
  return ld32(queue + Q_DESCRIPTORS) + (position & POSITION_INDEX) * PACKED_BYTES;
}

/** AVAIL and USED of an available descriptor at `position`. */
export function availableFlags(position: u32): u32 {
  return (position & POSITION_WRAP) !== 0 ? PACKED_F_AVAILABLE : PACKED_F_USED;
}

/** AVAIL and USED of a used descriptor at `position`. */
export function usedFlags(position: u32): u32 {
  return (position & POSITION_WRAP) !== 0 ? PACKED_F_BOTH : 0;
}

/**
 * Id and flags of a descriptor. With the load come the rest of it, and of those behind it, that the other side wrote before; an atomic
 * load costs no more than another one on x86-64.
 */
export function loadWord(descriptor: u32): u32 {
  return atomicLoad32(descriptor + PACKED_WORD);
}

/** Driver: writes all of a descriptor but its word. */
export function putDescriptor(descriptor: u32, address: u32, high: u32, length: u32): void {
  st32(descriptor + PACKED_ADDRESS_LOW, address);
  st32(descriptor + PACKED_ADDRESS_HIGH, high);
  st32(descriptor + PACKED_LENGTH, length);
}

/** 1 when the word of the descriptor at `position` says that the driver made it available. */
export function isAvailable(word: u32, position: u32): u32 {
  return ((word >>> 16) & PACKED_F_BOTH) === availableFlags(position) ? 1 : 0;
}

/** 1 when the word of the descriptor at `position` says that the device has used it. */
export function isUsed(word: u32, position: u32): u32 {
  return ((word >>> 16) & PACKED_F_BOTH) === usedFlags(position) ? 1 : 0;
}

/** How far `position` lies behind the start of its pair of laps. */
function lapped(position: u32, size: u32): u32 {
  return (position & POSITION_INDEX) + ((position & POSITION_WRAP) !== 0 ? 0 : size);
}

/** How far it is from one position to a later one. */
function distance(from: u32, to: u32, size: u32): u32 {
  const start: u32 = lapped(from, size);
  const end: u32 = lapped(to, size);
  return end >= start ? end - start : end + 2 * size - start;
}

/**
 * Makes a burst visible by the word of its first descriptor, and finds out by the other side's event suppression structure whether it
 * wants to be told (2.8.21.3): sets Q_NOTIFY if so.
 * @param position where this side goes on
 * @param events offset of the other side's structure
 */
export function publishBurst(queue: u32, first: u32, word: u32, position: u32, events: u32): void {
  const before: u32 = ld32(queue + Q_OWN_INDEX);
  st32(queue + Q_OWN_INDEX, position);
  atomicStore32(first + PACKED_WORD, word);
  // the store above is sequentially consistent: the other side's wish is read after it
  const event: u32 = atomicLoad32(events);
  const flags: u32 = (event >>> 16) & 3;
  if (flags === EVENT_ENABLE) {
    st32(queue + Q_NOTIFY, 1);
  } else if (flags === EVENT_DESCRIPTOR) {
    const size: u32 = ld32(queue + Q_SIZE);
    // told when the descriptor at off_wrap is one of those just written; an off_wrap outside the ring never is
    if ((event & POSITION_INDEX) < size && distance(before, event & 0xffff, size) < distance(before, position, size))
      st32(queue + Q_NOTIFY, 1);
  }
}
