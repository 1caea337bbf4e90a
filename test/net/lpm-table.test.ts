/**
 * Longest-prefix match: both targets of the lookup against a plain list of prefixes, through any sequence of changes.
 */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { formatPrefix, maskAddress, parseIpAddress, parsePrefix, type Prefix } from '../../src/net/ip-address.ts';
import { NO_ROUTE } from '../../src/net/lpm-layout.ts';
import { LpmTable } from '../../src/net/lpm-table.ts';
import { loadKernels, type Kernels } from '../../src/ring/kernels.ts';
import { RingBench, TARGETS } from '../support/ring-pair.ts';

function prefix(text: string): Prefix {
  const parsed = parsePrefix(text);
  if (parsed === undefined) throw new Error(text);
  return parsed;
}

class TableBench implements Disposable {
  readonly bench = new RingBench('wasm');
  readonly table: LpmTable;
  readonly kernels: readonly Kernels[];
  readonly #address: number;

  constructor(addressBytes: 4 | 16, nodes?: number) {
    this.table = new LpmTable(this.bench.arena, { addressBytes, ...(nodes === undefined ? {} : { nodes }) });
    this.kernels = TARGETS.map((target) => loadKernels(target, this.bench.arena).kernels);
    this.#address = this.bench.own(16);
  }

  /** What both targets say; they have to agree. */
  look(address: Uint8Array): number | undefined {
    this.bench.write(this.#address, address);
    const [first, ...others] = this.kernels.map((kernels) => kernels.lpmLookup(this.table.offset, this.#address, address.length) >>> 0);
    for (const other of others) expect(other).toBe(first);
    return first === NO_ROUTE ? undefined : first;
  }

  lookText(text: string): number | undefined {
    return this.look(parseIpAddress(text) ?? new Uint8Array(4));
  }

  [Symbol.dispose](): void {
    this.table.close();
    this.bench[Symbol.dispose]();
  }
}

test('the longest prefix wins, whatever the order', () => {
  const routes = ['0.0.0.0/0', '10.0.0.0/8', '10.1.0.0/16', '10.1.2.0/24', '10.1.2.128/25', '10.1.2.3/32', '10.1.2.4/30'];
  for (const order of [routes, routes.toReversed()]) {
    using bench = new TableBench(4);
    for (const route of order) bench.table.add(prefix(route), routes.indexOf(route));
    const found = ['192.0.2.1', '10.9.9.9', '10.1.9.9', '10.1.2.9', '10.1.2.200', '10.1.2.3', '10.1.2.6'].map((text) =>
      bench.lookText(text),
    );
    expect(found).toEqual([0, 1, 2, 3, 4, 5, 6]);
    bench.table.delete(prefix('10.1.2.0/24'));
    expect(bench.lookText('10.1.2.9')).toBe(2);
    expect(bench.lookText('10.1.2.3')).toBe(5);
    bench.table.delete(prefix('0.0.0.0/0'));
    expect(bench.lookText('192.0.2.1')).toBeUndefined();
    expect(bench.table.rules).toHaveLength(5);
  }
});

test('IPv6, down to the last bit', () => {
  using bench = new TableBench(16);
  bench.table.add(prefix('2001:200::/64'), 1);
  bench.table.add(prefix('2001:200::8/127'), 2);
  bench.table.add(prefix('2001:200::9'), 3);
  bench.table.add(prefix('::/0'), 65_535);
  expect(['2001:200::1', '2001:200::8', '2001:200::9', '2001:200:0:1::', 'fe80::1'].map((text) => bench.lookText(text))).toEqual([
    1, 2, 3, 65_535, 65_535,
  ]);
});

test('a prefix again has the other next hop; one that is not there is not taken out', () => {
  using bench = new TableBench(4);
  bench.table.add(prefix('10.0.0.0/8'), 1);
  bench.table.add(prefix('10.1.2.3/8'), 2);
  expect(bench.lookText('10.0.0.1')).toBe(2);
  expect(bench.table.rules.map(formatPrefix)).toEqual(['10.0.0.0/8']);
  expect(bench.table.delete(prefix('10.0.0.0/9'))).toBe(false);
  expect(bench.table.delete(prefix('10.0.0.0/8'))).toBe(true);
  expect(bench.table.delete(prefix('10.0.0.0/8'))).toBe(false);
});

test('what cannot be added', () => {
  using bench = new TableBench(4, 2);
  expect(() => bench.table.add(prefix('::/0'), 1)).toThrow(/0\.\.32 bits/);
  expect(() => bench.table.add(prefix('10.0.0.0/8'), 65_536)).toThrow(/0\.\.65535/);
  bench.table.add(prefix('10.1.2.3/32'), 1);
  expect(() => bench.table.add(prefix('10.2.0.0/24'), 1)).toThrow(expect.objectContaining({ code: 'ENOSPC' }));
  // the table is as it was
  expect(bench.lookText('10.1.2.3')).toBe(1);
  expect(bench.lookText('10.2.0.1')).toBeUndefined();
  expect(() => new LpmTable(bench.bench.arena, { addressBytes: 4, nodes: -1 })).toThrow(RangeError);
});

interface Change {
  readonly add: boolean;
  readonly address: Uint8Array;
  readonly length: number;
  readonly nextHop: number;
}

describe.each([4, 16] as const)('property: addresses of %s bytes', (bytes) => {
  // few different bytes, so that prefixes lie within each other
  const byte = fc.constantFrom(0, 1, 127, 128, 255);
  const address = fc.array(byte, { minLength: bytes, maxLength: bytes }).map((list) => Uint8Array.from(list));
  const change: fc.Arbitrary<Change> = fc.record({
    add: fc.boolean(),
    address,
    length: fc.oneof(fc.integer({ min: 0, max: 8 * bytes }), fc.constantFrom(0, 8, 15, 16, 17, 24, 25, 8 * bytes)),
    nextHop: fc.integer({ min: 0, max: 65_535 }),
  });

  test('says what a list of prefixes says', () => {
    fc.assert(
      fc.property(fc.array(change, { maxLength: 25 }), fc.array(address, { minLength: 1, maxLength: 20 }), (changes, asked) => {
        using bench = new TableBench(bytes, bytes === 4 ? 64 : 400);
        const model = new Map<string, { readonly address: Uint8Array; readonly length: number; readonly nextHop: number }>();
        for (const { add, address: at, length, nextHop } of changes) {
          const rule = { address: maskAddress(at, length), length, nextHop };
          const key = formatPrefix(rule);
          if (add) {
            bench.table.add({ address: at, length }, nextHop);
            model.set(key, rule);
          } else expect(bench.table.delete({ address: at, length })).toBe(model.delete(key));
        }
        for (const one of [...asked, ...changes.map(({ address: at }) => at)]) {
          const fitting = [...model.values()].filter((rule) => Buffer.compare(maskAddress(one, rule.length), rule.address) === 0);
          const best = fitting.toSorted((a, b) => b.length - a.length)[0];
          expect(bench.look(one)).toBe(best?.nextHop);
        }
      }),
      { numRuns: 60 },
    );
  });
});
