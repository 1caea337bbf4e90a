/** Translations of an IOMMU: kept by the control plane, searched by kernels; both against a plain map of bytes. */
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TRANSLATION_LIMIT, TranslationTable, TRANSLATIONS_BYTES } from '../../src/backend/translation-table.ts';
import { bindAccess } from '../../src/memory/access.ts';
import { reach, translate } from '../../src/ring/peer-memory.kernel.ts';
import { REGIONS_TO_READ } from '../../src/ring/queue-layout.ts';
import { RingBench } from '../support/ring-pair.ts';

const PAGE = 4096n;

describe('a table of translations', () => {
  let bench: RingBench;
  let at: number;
  beforeAll(() => {
    bench = new RingBench('javascript');
    bindAccess(bench.arena.views);
    at = bench.own(TRANSLATIONS_BYTES);
  });
  afterAll(() => bench[Symbol.dispose]());
  const words = (address: bigint): [low: number, high: number] => [Number(address & 0xffff_ffffn), Number(address >> 32n)];

  it('joins what touches, and cuts what is taken out of the middle', () => {
    const table = new TranslationTable();
    expect(table.insert(0x1000n, PAGE, 0x20_1000)).toBe(false);
    expect(table.insert(0x3000n, PAGE, 0x20_3000)).toBe(false);
    expect(table.insert(0x2000n, PAGE, 0x20_2000)).toBe(false);
    expect(table.size).toBe(1);
    expect(table.find(0x1fffn, 0x1002)).toBe(0x20_1fff);
    // side by side here, and not there
    table.insert(0x4000n, PAGE, 0x50_0000);
    expect([table.size, table.find(0x3fffn, 2), table.gap(0x3fffn, 0x4001n)]).toEqual([2, undefined, undefined]);
    expect(table.remove(0x2800n, 0x2900n)).toBe(true);
    expect(table.remove(0x2800n, 0x2900n)).toBe(false);
    expect([table.find(0x1000n, 0x1800), table.find(0x1000n, 0x1801), table.find(0x2900n, 0x1700)]).toEqual([
      0x20_1000,
      undefined,
      0x20_2900,
    ]);
    expect(table.gap(0x1000n, 0x9000n)).toBe(0x2800n);
    expect(table.gap(0x2900n, 0x9000n)).toBe(0x5000n);
    // other memory for the same addresses
    expect(table.insert(0x1000n, PAGE, 0x60_0000)).toBe(true);
    expect(table.find(0x1000n, 1)).toBe(0x60_0000);
  });

  it('never joins to more than a u32 of bytes', () => {
    const table = new TranslationTable();
    table.insert(0n, 0xffff_f000n, 0x1000);
    table.insert(0xffff_f000n, 0x1000n, 0x1_0000_0000);
    expect(table.size).toBe(2);
    table.write(bench.u32, at, REGIONS_TO_READ, 0);
    expect(translate(at, 0xffff_efff, 0, 1)).toBe(0xffff_ffff);
  });

  it('has room for so many, and takes others out for more', () => {
    const table = new TranslationTable();
    for (let page = 0n; page < 3n * BigInt(TRANSLATION_LIMIT); page++) table.insert(2n * page * PAGE, PAGE, 0x1000);
    expect(table.size).toBe(TRANSLATION_LIMIT);
    const last = 2n * (3n * BigInt(TRANSLATION_LIMIT) - 1n) * PAGE;
    expect(table.find(last, 4096)).toBe(0x1000);
    // a hole makes two of one, for which there is no room
    table.remove(last + 16n, last + 32n);
    expect(table.size).toBeLessThanOrEqual(TRANSLATION_LIMIT);
    table.write(bench.u32, at, REGIONS_TO_READ, 0);
    expect(translate(at, ...words(last), 16)).toBe(0x1000);
    expect(translate(at, ...words(last), 17)).toBe(0);
  });

  it('agrees, on both sides of it, with a map of pages for any insertions and removals', () => {
    const base = fc.constantFrom(0n, 0xffff_8000n, 0x7fff_ffff_0000_0000n, 0xffff_ffff_ffff_0000n);
    const change = fc.record({
      base,
      page: fc.nat(13),
      pages: fc.integer({ min: 1, max: 3 }),
      // few places: neighbours must meet
      offset: fc.oneof(fc.constant(undefined), fc.integer({ min: 1, max: 20 })),
    });
    const probe = fc.record({ base, at: fc.nat(16 * 4096 - 1), length: fc.integer({ min: 1, max: 20_000 }) });
    fc.assert(
      fc.property(fc.array(change, { maxLength: 30 }), fc.array(probe, { minLength: 1, maxLength: 20 }), (changes, probes) => {
        const table = new TranslationTable();
        const model = new Map<bigint, number>();
        for (const { base: from, page, pages, offset } of changes) {
          const start = from + BigInt(page) * PAGE;
          const end = start + BigInt(pages) * PAGE;
          let known = false;
          for (let address = start; address < end; address += PAGE) {
            known = model.delete(address) || known;
            if (offset !== undefined) model.set(address, offset * 4096 + Number(address - start));
          }
          expect(offset === undefined ? table.remove(start, end) : table.insert(start, end - start, offset * 4096)).toBe(known);
        }
        table.write(bench.u32, at, REGIONS_TO_READ, 0);
        const place = (address: bigint): number | undefined => {
          const page = model.get(address & ~0xfffn);
          return page === undefined ? undefined : page + Number(address & 0xfffn);
        };
        for (const { base: from, at: distance, length } of probes) {
          const start = from + BigInt(distance);
          const first = place(start);
          let together = first === undefined ? 0 : 1;
          while (together !== 0 && together < length && place(start + BigInt(together)) === (first ?? 0) + together) together++;
          let covered = 0;
          while (covered < length && place(start + BigInt(covered)) !== undefined) covered++;
          expect(table.find(start, length)).toBe(together === length ? first : undefined);
          expect(table.gap(start, start + BigInt(length))).toBe(covered === length ? undefined : start + BigInt(covered));
          expect(translate(at, ...words(start), length)).toBe(together === length ? first : 0);
          expect(Math.min(reach(at, ...words(start)), length)).toBe(together);
        }
      }),
      { numRuns: 200 },
    );
  });
});
