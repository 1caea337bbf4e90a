import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import fc from 'fast-check';
import { bindAccess } from '../../src/memory/access.ts';
import { translate } from '../../src/ring/peer-memory.kernel.ts';
import { REGION_LIMIT } from '../../src/ring/queue-layout.ts';
import { RingBench, type Region } from '../support/ring-pair.ts';

describe('translation of guest addresses', () => {
  let bench: RingBench;
  beforeAll(() => {
    bench = new RingBench('javascript');
    bindAccess(bench.arena.views);
  });
  afterAll(() => bench[Symbol.dispose]());
  const at = (table: number, address: bigint, length: number): number =>
    translate(table, Number(address & 0xffff_ffffn), Number((address >> 32n) & 0xffff_ffffn), length);

  it('finds the first and the last byte of every region', () => {
    const table = bench.regions([
      { guest: 0x10_0000n, size: 0x1000, offset: 0x20_0000 },
      { guest: 0x1_0000_0000n, size: 0x2000, offset: 0x30_0000 },
    ]);
    expect(at(table, 0x10_0000n, 1)).toBe(0x20_0000);
    expect(at(table, 0x10_0fffn, 1)).toBe(0x20_0fff);
    expect(at(table, 0x10_0000n, 0x1000)).toBe(0x20_0000);
    expect(at(table, 0x1_0000_1fffn, 1)).toBe(0x30_1fff);
  });

  it.each([
    ['before a region', 0xf_ffffn, 1],
    ['after a region', 0x10_1000n, 1],
    ['over its end', 0x10_0fffn, 2],
    ['longer than the region', 0x10_0000n, 0x1001],
    ['of 2^32-1 bytes', 0x10_0000n, 0xffff_ffff],
    ['in another 4 GiB', 0x1_0010_0000n, 1],
    ['at 0', 0n, 1],
    ['at 2^64-1', 0xffff_ffff_ffff_ffffn, 1],
    ['that wraps beyond 2^64', 0xffff_ffff_ffff_fff0n, 0x20],
  ])('refuses a range %s', (_, address, length) => {
    const table = bench.regions([{ guest: 0x10_0000n, size: 0x1000, offset: 0x20_0000 }]);
    expect(at(table, address, length)).toBe(0);
  });

  it('finds a region that crosses 4 GiB, on both sides', () => {
    const table = bench.regions([{ guest: 0xffff_f000n, size: 0x2000, offset: 0x20_0000 }]);
    expect(at(table, 0xffff_ffffn, 2)).toBe(0x20_0fff);
    expect(at(table, 0x1_0000_0000n, 0x1000)).toBe(0x20_1000);
    expect(at(table, 0x1_0000_0000n, 0x1001)).toBe(0);
    expect(at(table, 0x1_ffff_ffffn, 1)).toBe(0);
  });

  it('finds nothing beyond 2^64 in a region that ends there', () => {
    const table = bench.regions([{ guest: 0xffff_ffff_ffff_f000n, size: 0x1000, offset: 0x20_0000 }]);
    expect(at(table, 0xffff_ffff_ffff_ffffn, 1)).toBe(0x20_0fff);
    expect(at(table, 0xffff_ffff_ffff_ffffn, 2)).toBe(0);
    expect(at(table, 0n, 1)).toBe(0);
  });

  it('finds nothing in an empty table', () => {
    expect(at(bench.regions([]), 0n, 1)).toBe(0);
  });

  it('agrees with arithmetic on 64 bits for any regions and any address', () => {
    const table = bench.regions([]);
    const anchor = fc.constantFrom(0n, 0xffff_0000n, 0x1_0000_0000n, 0x7fff_ffff_ffff_0000n, 0xffff_ffff_fff0_0000n);
    const region = fc.record({
      base: anchor,
      up: fc.nat(0x8_0000),
      size: fc.integer({ min: 1, max: 0x4_0000 }),
      offset: fc.integer({ min: 1, max: 0xf000_0000 }),
    });
    const probe = fc.record({
      base: anchor,
      up: fc.nat(0xc_0000),
      length: fc.oneof(fc.integer({ min: 1, max: 0x4_0000 }), fc.constantFrom(0xffff_ffff, 0x8000_0000)),
    });
    fc.assert(
      fc.property(fc.array(region, { maxLength: REGION_LIMIT }), fc.array(probe, { maxLength: 20 }), (described, probes) => {
        const regions: Region[] = [];
        for (const { base, up, size, offset } of described) {
          const guest = base + BigInt(up);
          const free = regions.every((other) => guest >= other.guest + BigInt(other.size) || other.guest >= guest + BigInt(size));
          if (free && guest + BigInt(size) <= 1n << 64n) regions.push({ guest, size, offset });
        }
        bench.writeRegions(table, regions);
        for (const { base, up, length } of probes) {
          const address = (base + BigInt(up)) & 0xffff_ffff_ffff_ffffn;
          const found = regions.find(({ guest, size }) => address >= guest && address + BigInt(length) <= guest + BigInt(size));
          const expected = found === undefined ? 0 : found.offset + Number(address - found.guest);
          expect(at(table, address, length)).toBe(expected);
        }
      }),
      { numRuns: 300 },
    );
  });
});
