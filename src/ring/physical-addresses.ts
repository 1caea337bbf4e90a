/**
 * The table of physical addresses of an arena's published part, for devices that nothing translates for. Its layout is told in
 * physical-address.kernel.ts.
 * @module
 */
import type { Arena } from '../memory/arena.ts';
import { VirtioError } from '../system/error.ts';
import { physicalAddressesOf } from '../system/pagemap.ts';
import { PHYSICAL_ENTRIES, PHYSICAL_PAGE_SHIFT } from './physical-address.kernel.ts';

/** Bytes of a page that has an address of its own. */
export const PHYSICAL_PAGE = 2 ** PHYSICAL_PAGE_SHIFT;
/** For every page that an offset of 32 bits and the phase can lie in. */
const BYTES = PHYSICAL_ENTRIES + 8 * (2 ** 32 / PHYSICAL_PAGE + 1);

/** An address of a device, as two words. */
export interface DeviceAddress {
  readonly low: number;
  readonly high: number;
}

export interface PhysicalAddresses {
  /** Arena offset of the table. */
  readonly table: number;
  /** The physical address of an arena offset in the published part. */
  addressOf(offset: number): DeviceAddress;
}

const known = new WeakMap<Arena, PhysicalAddresses>();

/**
 * The arena's table, made at the first call; it lives as long as the arena.
 * @throws VirtioError ENOTSUP on small pages, which the kernel may move, and where the kernel does not tell physical addresses
 */
export function physicalAddressesIn(arena: Arena): PhysicalAddresses {
  const before = known.get(arena);
  if (before !== undefined) return before;
  const { publishedRegion, pageSize, base } = arena;
  if (pageSize < PHYSICAL_PAGE) {
    throw new VirtioError(
      `packet memory on pages of ${String(pageSize / 1024)} KiB has no lasting physical addresses: use huge pages (echo 512 > /proc/sys/vm/nr_hugepages, no --no-huge)`,
      { code: 'ENOTSUP' },
    );
  }
  const phase = base % PHYSICAL_PAGE;
  const first = publishedRegion.guestAddress;
  const offsets = Array.from({ length: publishedRegion.bytes / PHYSICAL_PAGE }, (_, page) => first + page * PHYSICAL_PAGE);
  const physical = physicalAddressesOf(offsets.map((offset) => base + offset));
  const table = arena.allocateOwn(BYTES, 'the table of physical addresses');
  const { u32 } = arena.views;
  u32[table >>> 2] = phase;
  for (const [index, offset] of offsets.entries()) {
    const entry = (table + PHYSICAL_ENTRIES + 8 * Math.floor((offset + phase) / PHYSICAL_PAGE)) >>> 2;
    const address = physical[index] ?? 0n;
    u32[entry] = Number(address & 0xffff_ffffn);
    u32[entry + 1] = Number(address >> 32n);
  }
  const addresses: PhysicalAddresses = {
    table,
    addressOf(offset) {
      const page = (table + PHYSICAL_ENTRIES + 8 * Math.floor((offset + phase) / PHYSICAL_PAGE)) >>> 2;
      return { low: (u32[page] ?? 0) + ((offset + phase) % PHYSICAL_PAGE), high: u32[page + 1] ?? 0 };
    },
  };
  known.set(arena, addresses);
  return addresses;
}
