/**
 * Translation of a peer's guest addresses into arena offsets: the whole range is checked, before any use.
 * @module
 */
import { ld32 } from '../memory/access.ts';
import { REGION_BYTES, REGION_FIRST, REGION_GUEST_HIGH, REGION_GUEST_LOW, REGION_OFFSET, REGION_SIZE } from './queue-layout.ts';

function inRegion(region: u32, low: u32, high: u32, length: u32): u32 {
  const start: u32 = ld32(region + REGION_GUEST_LOW);
  const distance: u32 = (low - start) >>> 0;
  const borrow: u32 = low < start ? 1 : 0;
  if ((high - borrow) >>> 0 !== ld32(region + REGION_GUEST_HIGH)) return 0;
  const size: u32 = ld32(region + REGION_SIZE);
  if (distance >= size || length > size - distance) return 0;
  return ld32(region + REGION_OFFSET) + distance;
}

/** Arena offset of `length` bytes at a guest address, or 0 when they do not lie within one region. */
export function translate(regions: u32, low: u32, high: u32, length: u32): u32 {
  const first: u32 = inRegion(regions + REGION_FIRST, low, high, length);
  if (first !== 0) return first;
  const end: u32 = regions + REGION_FIRST + ld32(regions) * REGION_BYTES;
  for (let region: u32 = regions + REGION_FIRST + REGION_BYTES; region < end; region += REGION_BYTES) {
    const found: u32 = inRegion(region, low, high, length);
    if (found !== 0) return found;
  }
  return 0;
}
