/**
 * What the burst functions of a virtqueue cost by themselves: both ends of a ring in one thread, so that no cache line travels.
 *
 *     npx tsx bench/kernels.ts [--size 64] [--queue 256] [--path packed-vectorized] [--windows 41]
 *
 * Nanoseconds a packet, the least and the median of the windows. What a pair of cores adds is measured by bench/main.ts.
 * @module
 */
import { Command, Option } from 'commander';
import { GENERATED_HEADER_BYTES, generatedHeaders, TXONLY_FLOW } from '../src/lcore/generated-packet.ts';
import * as template from '../src/net/generate.kernel.ts';
import { QUEUE_IN_ORDER, QUEUE_MERGEABLE, QUEUE_PACKED, QUEUE_VECTORIZED } from '../src/ring/queue-layout.ts';
import type { Mempool } from '../src/memory/mempool.ts';
import { RingBench, testArena } from '../test/support/ring-pair.ts';
import { wholeNumber } from './options.ts';
import { median } from './statistics.ts';

const PATHS = [
  ['split', QUEUE_MERGEABLE | QUEUE_IN_ORDER],
  ['split-regular', 0],
  ['packed', QUEUE_PACKED | QUEUE_MERGEABLE | QUEUE_IN_ORDER],
  ['packed-in-order', QUEUE_PACKED | QUEUE_IN_ORDER],
  ['packed-vectorized', QUEUE_PACKED | QUEUE_IN_ORDER | QUEUE_VECTORIZED],
] as const;

const {
  size,
  queue: ring,
  windows,
  path: wanted,
} = new Command('npx tsx bench/kernels.ts')
  .option('--size <bytes>', 'bytes of a packet', wholeNumber, 64)
  .option('--queue <n>', 'descriptors of a ring', wholeNumber, 256)
  .option('--windows <n>', 'windows, the first five of which warm up', wholeNumber, 41)
  .addOption(new Option('--path <name>', 'that path alone').choices(PATHS.map(([path]) => path)))
  .allowExcessArguments(false)
  .parse()
  .opts<{ readonly size: number; readonly queue: number; readonly windows: number; readonly path?: string }>();

const BURST = 32;
/** Bursts of one kernel between two readings of the clock: what a ring holds. */
const BURSTS = ring / BURST;
/** Rounds of a window. */
const ROUNDS = 400;

type Step = readonly [name: string, run: (handles: number) => number];

/** Runs `steps` one after the other over a whole ring, again and again; microseconds of each window by step. */
function measure(steps: readonly Step[], handles: number): void {
  const times = steps.map((): number[] => []);
  for (let window = 0; window < windows; window++) {
    const spent = steps.map(() => 0);
    for (let round = 0; round < ROUNDS; round++) {
      for (const [index, [name, run]] of steps.entries()) {
        const before = performance.now();
        for (let burst = 0; burst < BURSTS; burst++) {
          const done = run(handles + burst * BURST * 4);
          if (done !== BURST) throw new Error(`${name}: ${done} packets`);
        }
        spent[index] = (spent[index] ?? 0) + performance.now() - before;
      }
    }
    // the first windows warm up
    if (window < 5) continue;
    for (const [index, milliseconds] of spent.entries()) times[index]?.push((milliseconds * 1e6) / (ROUNDS * BURSTS * BURST));
  }
  const cells = steps.map(([name], index) => {
    const all = times[index] ?? [];
    return `${name} ${Math.min(...all).toFixed(2)} (${median(all).toFixed(2)})`;
  });
  console.log(`    ${cells.join('   ')}`);
}

/** What txonly sends, or flowgen. */
function templateOf(bench: RingBench, pool: Mempool, flows: number): number {
  const offset = bench.own(template.TEMPLATE_BYTES);
  const set = (field: number, value: number): void => {
    bench.st32(offset + field, value);
  };
  set(template.TEMPLATE_POOL, pool.offset);
  set(template.TEMPLATE_LENGTH, size);
  set(template.TEMPLATE_SEGMENTS, 1);
  set(template.TEMPLATE_SEGMENT_LENGTHS, size);
  set(template.TEMPLATE_HEADER_BYTES, GENERATED_HEADER_BYTES);
  set(template.TEMPLATE_FLOWS, flows);
  const [source, destination] = [Uint8Array.of(2, 0, 0, 0, 0, 1), Uint8Array.of(2, 0, 0, 0, 0, 2)];
  bench.write(offset + template.TEMPLATE_HEADERS, Buffer.from(generatedHeaders({ source, destination, length: size, ...TXONLY_FLOW })));
  return offset;
}

for (const [name, features] of PATHS.filter(([path]) => wanted === undefined || wanted === path)) {
  console.log(name);
  using bench = new RingBench('wasm', testArena(32 * 1024 * 1024));
  const { kernels } = bench;
  const pool = bench.pool({ count: 2048, cacheSize: 256 });
  const devicePool = bench.pool({ count: 2048, cacheSize: 256 });
  const handles = bench.own(ring * 4);
  const options = { size: ring, features, pool, devicePool };
  const transmit = bench.pair(options);
  const receive = bench.pair(options);
  const make = (from: Mempool, flows: number) => {
    const place = templateOf(bench, from, flows);
    return (to: number): number => {
      const made = kernels.generatePackets(place, 0, to, BURST);
      if (flows !== 0) kernels.spreadFlows(place, to, BURST);
      return made;
    };
  };
  const free = (from: number): number => {
    kernels.packetsFree(from, BURST, 0);
    return BURST;
  };
  measure(
    [
      ['flowgen', make(pool, 1024)],
      ['free', free],
    ],
    handles,
  );
  measure(
    [
      ['make', make(pool, 0)],
      ['driver-tx', (from) => kernels.virtqueueTransmit(transmit.driver.offset, from, BURST)],
      ['device-rx', (to) => kernels.virtqueueReceive(transmit.device.offset, to, BURST)],
      ['free', free],
    ],
    handles,
  );
  kernels.driverReclaim(transmit.driver.offset);
  while (kernels.driverRefill(receive.driver.offset, 0) !== 0) continue;
  measure(
    [
      ['make', make(devicePool, 0)],
      ['device-tx', (from) => kernels.virtqueueTransmit(receive.device.offset, from, BURST)],
      ['driver-rx', (to) => kernels.virtqueueReceive(receive.driver.offset, to, BURST)],
      ['free', free],
    ],
    handles,
  );
}
