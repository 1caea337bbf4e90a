/**
 * Exact match: both targets of the lookup against a plain map, through any sequence of changes.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { FlowTable, type Flow } from '../../src/net/flow-table.ts';
import { KEY_BYTES } from '../../src/net/flow-table-layout.ts';
import { NO_ROUTE } from '../../src/net/lpm-layout.ts';
import { loadKernels, type Kernels } from '../../src/ring/kernels.ts';
import { RingBench, TARGETS } from '../support/ring-pair.ts';

/** The key as flow-table-layout.ts describes it, made a second time. */
function keyOf({ destination, source, destinationPort, sourcePort, protocol }: Flow): Buffer {
  const key = Buffer.alloc(KEY_BYTES);
  key.set(destination, 0);
  key.set(source, 16);
  key.writeUInt16BE(destinationPort, 32);
  key.writeUInt16BE(sourcePort, 34);
  key[36] = protocol;
  key[37] = destination.length === 4 ? 4 : 6;
  return key;
}

class TableBench implements Disposable {
  readonly bench = new RingBench('wasm');
  readonly table: FlowTable;
  readonly kernels: readonly Kernels[];
  readonly #key: number;

  constructor(flows: number) {
    this.kernels = TARGETS.map((target) => loadKernels(target, this.bench.arena).kernels);
    this.#key = this.bench.own(KEY_BYTES);
    this.table = new FlowTable(this.bench.arena, { flowHash: (key) => this.kernels[0]?.flowHash(key) ?? 0 }, flows);
  }

  look(flow: Flow): number | undefined {
    this.bench.write(this.#key, keyOf(flow));
    const [hash, ...hashes] = this.kernels.map((kernels) => kernels.flowHash(this.#key) >>> 0);
    for (const other of hashes) expect(other).toBe(hash);
    const [first, ...others] = this.kernels.map((kernels) => kernels.flowLookup(this.table.offset, this.#key) >>> 0);
    for (const other of others) expect(other).toBe(first);
    return first === NO_ROUTE ? undefined : first;
  }

  [Symbol.dispose](): void {
    this.table.close();
    this.bench[Symbol.dispose]();
  }
}

const flowOf = (number: number): Flow => ({
  destination: Uint8Array.of(198, 18, number >>> 8, number & 0xff),
  source: Uint8Array.of(198, 19, 0, 1),
  destinationPort: 9,
  sourcePort: number,
  protocol: 17,
});

test('a full table finds every flow, and no other', () => {
  using bench = new TableBench(1000);
  for (let number = 0; number < 1000; number++) bench.table.add(flowOf(number), number);
  expect(bench.table.size).toBe(1000);
  for (let number = 0; number < 1000; number++) expect(bench.look(flowOf(number))).toBe(number);
  for (let number = 1000; number < 1100; number++) expect(bench.look(flowOf(number))).toBeUndefined();
  expect(() => bench.table.add(flowOf(1000), 1)).toThrow(expect.objectContaining({ code: 'ENOSPC' }));
  // what is there may change all the same
  bench.table.add(flowOf(7), 700);
  expect(bench.look(flowOf(7))).toBe(700);
});

test('every part of the key counts', () => {
  using bench = new TableBench(4);
  const flow = flowOf(258);
  bench.table.add(flow, 1);
  const others: Flow[] = [
    { ...flow, destination: flow.source, source: flow.destination },
    { ...flow, sourcePort: 9 },
    { ...flow, destinationPort: 10 },
    { ...flow, protocol: 6 },
    {
      ...flow,
      destination: Uint8Array.from([...flow.destination, ...new Uint8Array(12)]),
      source: Uint8Array.from([...flow.source, ...new Uint8Array(12)]),
    },
  ];
  expect(bench.look(flow)).toBe(1);
  for (const other of others) expect(bench.look(other)).toBeUndefined();
});

test('what cannot be added', () => {
  using bench = new TableBench(4);
  expect(() => bench.table.add({ ...flowOf(1), source: new Uint8Array(16) }, 1)).toThrow(/two addresses/);
  expect(() => bench.table.add({ ...flowOf(1), sourcePort: 65_536 }, 1)).toThrow(/0\.\.65535/);
  expect(() => bench.table.add({ ...flowOf(1), protocol: 256 }, 1)).toThrow(/0\.\.255/);
  expect(() => bench.table.add(flowOf(1), -1)).toThrow(/next hop/);
  expect(() => new FlowTable(bench.bench.arena, bench.kernels[0] ?? { flowHash: () => 0 }, 0)).toThrow(RangeError);
});

test('property: says what a map says', () => {
  const flow: fc.Arbitrary<Flow> = fc
    .record({
      six: fc.boolean(),
      a: fc.integer({ min: 0, max: 2 }),
      b: fc.integer({ min: 0, max: 2 }),
      port: fc.integer({ min: 0, max: 2 }),
    })
    .map(({ six, a, b, port }) => ({
      destination: new Uint8Array(six ? 16 : 4).fill(a),
      source: new Uint8Array(six ? 16 : 4).fill(b),
      destinationPort: port,
      sourcePort: 65_535 - port,
      protocol: 6 + 11 * (a & 1),
    }));
  const change = fc.record({ add: fc.boolean(), flow, nextHop: fc.integer({ min: 0, max: 65_535 }) });
  fc.assert(
    fc.property(fc.array(change, { maxLength: 60 }), (changes) => {
      using bench = new TableBench(16);
      const model = new Map<string, number>();
      for (const { add, flow: one, nextHop } of changes) {
        const key = keyOf(one).toString('hex');
        if (!add) expect(bench.table.delete(one)).toBe(model.delete(key));
        else if (model.has(key) || model.size < 16) {
          bench.table.add(one, nextHop);
          model.set(key, nextHop);
        } else expect(() => bench.table.add(one, nextHop)).toThrow();
        expect(bench.table.size).toBe(model.size);
      }
      for (const { flow: one } of changes) expect(bench.look(one)).toBe(model.get(keyOf(one).toString('hex')));
    }),
    { numRuns: 80 },
  );
});
