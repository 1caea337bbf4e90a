/**
 * Translation of a peer's guest addresses into arena offsets: the whole range is checked, before any use.
 *
 * A table holds either the regions that the peer shares or, behind an IOMMU (VIRTIO_F_ACCESS_PLATFORM), translations that come and
 * go. What is not among the regions is an error; what is not among the translations is noted (Q_MISS) and tried again with the next burst.
 * @module
 */
import { atomicLoad32, atomicStore32, ld32, st32 } from '../memory/access.ts';
import { giveUp } from './give-up.kernel.ts';
import {
  NOTIFY_MISS,
  QUEUE_ERROR_ADDRESS,
  Q_MISS,
  Q_MISS_HIGH,
  Q_MISS_LENGTH,
  Q_MISS_LOW,
  Q_NOTIFY,
  Q_REGIONS,
  REGIONS_PERMISSION,
  REGIONS_READABLE,
  REGION_BYTES,
  REGION_FIRST,
  REGION_GUEST_HIGH,
  REGION_GUEST_LOW,
  REGION_OFFSET,
  REGION_SIZE,
} from './queue-layout.ts';

function inRegion(region: u32, low: u32, high: u32, length: u32): u32 {
  const start: u32 = ld32(region + REGION_GUEST_LOW);
  const distance: u32 = (low - start) >>> 0;
  const borrow: u32 = low < start ? 1 : 0;
  if ((high - borrow) >>> 0 !== ld32(region + REGION_GUEST_HIGH)) return 0;
  const size: u32 = ld32(region + REGION_SIZE);
  if (distance >= size || length > size - distance) return 0;
  return ld32(region + REGION_OFFSET) + distance;
}

/** Of sorted translations the last that begins at or before an address; the first entry when there is none. */
function nearest(regions: u32, low: u32, high: u32): u32 {
  let from: u32 = 1;
  let to: u32 = ld32(regions);
  while (from < to) {
    const middle: u32 = (from + to) >>> 1;
    const entry: u32 = regions + REGION_FIRST + middle * REGION_BYTES;
    const entryHigh: u32 = ld32(entry + REGION_GUEST_HIGH);
    if (entryHigh < high || (entryHigh === high && ld32(entry + REGION_GUEST_LOW) <= low)) from = middle + 1;
    else to = middle;
  }
  return regions + REGION_FIRST + (from - 1) * REGION_BYTES;
}

/** Arena offset of `length` bytes at a guest address, or 0 when they do not lie within one region. */
export function translate(regions: u32, low: u32, high: u32, length: u32): u32 {
  const first: u32 = inRegion(regions + REGION_FIRST, low, high, length);
  if (first !== 0) return first;
  if (ld32(regions + REGIONS_PERMISSION) !== 0) return inRegion(nearest(regions, low, high), low, high, length);
  const end: u32 = regions + REGION_FIRST + ld32(regions) * REGION_BYTES;
  for (let region: u32 = regions + REGION_FIRST + REGION_BYTES; region < end; region += REGION_BYTES) {
    const found: u32 = inRegion(region, low, high, length);
    if (found !== 0) return found;
  }
  return 0;
}

/** Bytes from a guest address to the end of the translation that it lies in; 0 when there is none, or no IOMMU. */
export function reach(regions: u32, low: u32, high: u32): u32 {
  if (ld32(regions + REGIONS_PERMISSION) === 0) return 0;
  const entry: u32 = nearest(regions, low, high);
  if (inRegion(entry, low, high, 1) === 0) return 0;
  return ld32(entry + REGION_SIZE) - ((low - ld32(entry + REGION_GUEST_LOW)) >>> 0);
}

/** Not all of `length` bytes at a guest address can be translated: an error of the peer, or something to wait for. */
export function untranslated(queue: u32, regions: u32, low: u32, high: u32, length: u32): void {
  const permission: u32 = ld32(regions + REGIONS_PERMISSION);
  if (permission === 0) {
    giveUp(queue, QUEUE_ERROR_ADDRESS);
    return;
  }
  if (atomicLoad32(queue + Q_MISS) !== 0) return;
  st32(queue + Q_MISS_LOW, low);
  st32(queue + Q_MISS_HIGH, high);
  st32(queue + Q_MISS_LENGTH, length);
  atomicStore32(queue + Q_MISS, permission);
  if (ld32(queue + Q_NOTIFY) === 0) st32(queue + Q_NOTIFY, NOTIFY_MISS);
}

/** 1 when translations cover a range, be it in several pieces. */
function isCovered(regions: u32, low: u32, high: u32, length: u32): u32 {
  let nextLow: u32 = low;
  let nextHigh: u32 = high;
  let left: u32 = length;
  while (left !== 0) {
    const part: u32 = reach(regions, nextLow, nextHigh);
    if (part === 0) return 0;
    if (part >= left) return 1;
    left -= part;
    nextLow = (nextLow + part) >>> 0;
    if (nextLow < part) nextHigh = (nextHigh + 1) >>> 0;
  }
  return 1;
}

/**
 * Arena offset of a table of indirect descriptors, which is read whatever the queue does with buffers, or 0: the queue cannot go on
 * with it now, or was given up.
 */
export function translateTable(queue: u32, low: u32, high: u32, length: u32): u32 {
  const own: u32 = ld32(queue + Q_REGIONS);
  const readable: u32 = ld32(own + REGIONS_READABLE);
  const regions: u32 = readable === 0 ? own : readable;
  const table: u32 = translate(regions, low, high, length);
  if (table !== 0 && (table & 3) === 0) return table;
  // a table in pieces of memory that do not lie side by side is not for this device
  if (table !== 0 || isCovered(regions, low, high, length) !== 0) giveUp(queue, QUEUE_ERROR_ADDRESS);
  else untranslated(queue, regions, low, high, length);
  return 0;
}
