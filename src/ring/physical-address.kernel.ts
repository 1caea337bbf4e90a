/**
 * Physical addresses of arena offsets, for devices that nothing translates for (virtio 1.2, 6.1 without VIRTIO_F_ACCESS_PLATFORM; legacy
 * devices). The table is made by physical-addresses.ts; a queue that is told physical addresses has its offset in Q_PHYSICAL.
 *
 *     u32 phase | u32 0 | for each 2 MiB page: u32 low word, u32 high word
 *
 * The phase is what the arena's base lies behind a boundary of 2 MiB: offset + phase counts from there.
 * @module
 */
import { ld32 } from '../memory/access.ts';

/** Entries follow two words. */
export const PHYSICAL_ENTRIES: u32 = 8;
/** Pages are of 2 MiB, or parts of larger ones. */
export const PHYSICAL_PAGE_SHIFT: u32 = 21;

/** Low word of the physical address of `offset`. */
export function physicalLow(table: u32, offset: u32): u32 {
  const place: u32 = offset + ld32(table);
  return ld32(table + PHYSICAL_ENTRIES + ((place >>> PHYSICAL_PAGE_SHIFT) << 3)) + (place & 0x1fffff);
}

/** High word of the physical address of `offset`. */
export function physicalHigh(table: u32, offset: u32): u32 {
  return ld32(table + PHYSICAL_ENTRIES + (((offset + ld32(table)) >>> PHYSICAL_PAGE_SHIFT) << 3) + 4);
}
