/**
 * Programs in turn: each has its packets going, and runs for some milliseconds while the others are stopped (SIGSTOP). What slows a virtual
 * machine down for seconds slows all of them down alike, and its cores are near or far for all of them, so that a few per cent show, which
 * windows one after the other do not show.
 *
 *     npx tsx bench/in-turn.ts [--path packed-vectorized] [--size 64] [--queue 256] [--rounds 7] [PROGRAM ...]
 *     npx tsx bench/in-turn.ts --direction io-loop --rounds 200 [--path ...] [PROGRAM ...]
 *
 * PROGRAM: `ours`, `dpdk` or the folder of another build of this package; `ours dpdk` if left out.
 *
 * Without a direction both ports of a program are in one process, on one lcore of CPU `--cpu`, with 256 packets going round: a round is 20
 * slices of 40 ms, and packets are divided by the CPU time of the lcore. With one, a program is two processes on `--cpus`, a round is 80 ms
 * of each, and counts as near or far by the round trip of a cache line before and after it. Medians, quartiles, and the ratio to the last
 * program's median.
 * @module
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Command, Option } from 'commander';
import { DIRECTIONS, type BenchCase, type Direction } from './cases.ts';
import { coreState, DEFAULT_NEAR_BELOW_NS, openCoreDistance, type CoreState } from './core-distance.ts';
import { readStats, startEnds, type Ends, type StartedEnds, type Starting } from './ends.ts';
import { allowedCpus, prepareMemory } from './machine.ts';
import { matrixCases, PATHS, TESTS } from './matrix.ts';
import { twoCpus, wholeNumber } from './options.ts';
import { findCommand, programAt, type Program } from './programs.ts';
import { busiestTask, taskTimes } from './schedstat.ts';
import { median, quantile } from './statistics.ts';
import { killAll } from './testpmd-process.ts';

const SLICE_MS = 40;
const SLICES = 20;
const WARM_UP_MS = 800;
/** Of two processes: before the counters are read, and between the readings. */
const SETTLE_MS = 20;
const WINDOW_MS = 80;

interface TurnOptions {
  readonly path: string;
  readonly size: number;
  readonly queue: number;
  readonly direction?: string;
  readonly cpu: string;
  readonly cpus: readonly [number, number];
  readonly rounds: number;
}

const command = new Command('npx tsx bench/in-turn.ts')
  .argument('[programs...]', 'ours, dpdk, or the folder of another build', ['ours', 'dpdk'])
  .addOption(new Option('--path <name>', 'the path of the drivers').choices(PATHS.map(({ name }) => name)).default('packed-vectorized'))
  .option('--size <bytes>', 'bytes of a packet', wholeNumber, 64)
  .option('--queue <n>', 'descriptors of a ring', wholeNumber, 256)
  .addOption(new Option('--direction <name>', 'two processes; default: both ports in one').choices(DIRECTIONS.map(({ name }) => name)))
  .option('--cpu <n>', 'the CPU, without --direction', '1')
  .option('--cpus <a,b>', 'the two CPUs, with --direction', twoCpus, [0, 1])
  .option('--rounds <n>', 'rounds', wholeNumber, 7)
  .parse();
const values = command.opts<TurnOptions>();
const [programNames] = command.processedArgs as [string[]];

function findProgram(name: string): Program {
  const path = name === 'dpdk' ? findCommand('dpdk-testpmd') : findCommand(join(name === 'ours' ? '.' : name, 'dist/cli/testpmd-main.js'));
  if (path === undefined) throw new Error(`no program '${name}': ours (npm run build), dpdk, or the folder of a build`);
  return programAt(name === 'dpdk' ? 'dpdk' : 'ours', path);
}

interface Plan {
  readonly benchCase: BenchCase;
  readonly direction: Direction;
  readonly common: Omit<Starting, 'programs'>;
}

/** A program with its packets going, stopped. */
class Turn {
  readonly #ends: StartedEnds;
  readonly #direction: Direction;
  #before = taskTimes(process.pid);
  #packets = 0;

  private constructor(ends: StartedEnds, direction: Direction) {
    this.#ends = ends;
    this.#direction = direction;
  }

  static async start(name: string, { benchCase, direction, common }: Plan): Promise<Turn> {
    const program = findProgram(name);
    const setting: Starting = { ...common, programs: { [program.name]: program } };
    const ends = await startEnds(setting, benchCase, direction, { name, virtio: program.name, vhost: program.name });
    const turn = new Turn(ends, direction);
    await sleep(WARM_UP_MS);
    turn.#pause();
    return turn;
  }

  /** Mpps of a window of a clock's time. */
  async window(): Promise<number> {
    this.#resume();
    await sleep(SETTLE_MS);
    const [before, from] = [await this.#received(), performance.now()];
    await sleep(WINDOW_MS);
    const [after, to] = [await this.#received(), performance.now()];
    this.#pause();
    return (after - before) / (to - from) / 1000;
  }

  async begin(): Promise<void> {
    this.#resume();
    this.#packets = await this.#received();
    this.#before = taskTimes(this.#receiver.testpmd.pid);
    this.#pause();
  }

  async slice(): Promise<void> {
    this.#resume();
    await sleep(SLICE_MS);
    this.#pause();
  }

  /** Mpps of CPU time since begin(). */
  async end(): Promise<number> {
    this.#resume();
    const after = taskTimes(this.#receiver.testpmd.pid);
    const packets = (await this.#received()) - this.#packets;
    this.#pause();
    return (packets * 1000) / (busiestTask(this.#before, after)?.nanoseconds ?? Infinity);
  }

  async close(): Promise<void> {
    await this.#ends[Symbol.asyncDispose]();
  }

  get #receiver(): Ends['vhost'] {
    return this.#ends[this.#direction.receiver];
  }

  async #received(): Promise<number> {
    return (await readStats(this.#receiver)).rxPackets;
  }

  #pause(): void {
    this.#ends.virtio.testpmd.pause();
    this.#ends.vhost.testpmd.pause();
  }

  #resume(): void {
    this.#ends.virtio.testpmd.resume();
    this.#ends.vhost.testpmd.resume();
  }
}

/** A row of rates, one a program, of a round. */
type Row = readonly number[];

async function inSlices(programs: readonly Turn[], signal: AbortSignal): Promise<Row> {
  for (const program of programs) await program.begin();
  for (let slice = 0; slice < SLICES; slice++) {
    signal.throwIfAborted();
    for (const program of programs) await program.slice();
  }
  const row: number[] = [];
  for (const program of programs) row.push(await program.end());
  return row;
}

async function inWindows(programs: readonly Turn[]): Promise<Row> {
  const row: number[] = [];
  for (const program of programs) row.push(await program.window());
  return row;
}

function print(title: string, names: readonly string[], rows: readonly Row[]): void {
  const rates = names.map((_, index) => rows.map((row) => row[index] ?? 0));
  const last = rates.at(-1) ?? [];
  if (last.length === 0) return;
  for (const [index, name] of names.entries()) {
    const own = rates[index] ?? [];
    const [middle, low, high] = [median(own), quantile(own, 0.25), quantile(own, 0.75)];
    const ratio = (middle / median(last)).toFixed(2);
    console.log(
      `${title}, ${name}: ${middle.toFixed(1)} Mpps (${low.toFixed(1)}-${high.toFixed(1)}), ${ratio} of ${names.at(-1) ?? ''}, ${own.length} rounds`,
    );
  }
}

async function measure(plan: Plan, names: readonly string[], rounds: number): Promise<void> {
  const isOne = plan.benchCase.oneProcess === true;
  const { cpus, signal } = plan.common;
  const distance = isOne ? undefined : await openCoreDistance(cpus);
  const programs: Turn[] = [];
  try {
    const rows: Record<CoreState | 'one core', Row[]> = { near: [], far: [], 'one core': [] };
    for (const name of names) programs.push(await Turn.start(name, plan));
    const state = async (): Promise<CoreState | 'one core'> =>
      distance === undefined ? 'one core' : coreState(await distance.measure(), DEFAULT_NEAR_BELOW_NS);
    for (let round = 0; round < rounds; round++) {
      signal.throwIfAborted();
      const before = await state();
      const row = await (isOne ? inSlices(programs, signal) : inWindows(programs));
      if ((await state()) === before) rows[before].push(row);
    }
    for (const [title, found] of Object.entries(rows)) print(title, names, found);
  } finally {
    for (const program of programs) await program.close();
    await distance?.close();
  }
}

async function main(): Promise<void> {
  const wanted = values.direction ?? 'io-loop';
  const direction = DIRECTIONS.find(({ name }) => name === wanted);
  const paths = PATHS.filter(({ name }) => name === values.path);
  const test = values.direction === undefined ? 'one-core' : direction?.loop === true ? 'loop' : 'one-way';
  const tests = TESTS.filter(({ name }) => name === test);
  const [benchCase] = matrixCases({ paths, queues: [values.queue], sizes: [values.size], tests });
  if (benchCase === undefined || direction === undefined) throw new Error(`no case: ${values.path}, ${wanted}`);
  const [first, second] = values.direction === undefined ? [Number(values.cpu), Number(values.cpu)] : values.cpus;
  if (![first, second].every((cpu) => allowedCpus().includes(cpu)))
    throw new Error('--cpu, --cpus: CPUs that this process may use, as in 0,1');
  const stop = new AbortController();
  process.on('SIGINT', () => {
    stop.abort(new Error('interrupted'));
  });
  const directory = mkdtempSync(join(tmpdir(), 'dpdk-ts-bench-'));
  try {
    const common = { cpus: [first, second], memory: prepareMemory(), directory, signal: stop.signal } as const;
    await measure({ benchCase, direction, common }, programNames, values.rounds);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

try {
  await main();
} catch (error) {
  process.stderr.write(`bench: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
} finally {
  killAll();
}
