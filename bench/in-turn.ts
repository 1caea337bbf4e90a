/**
 * Programs in turn on one CPU: each has both ports in one process, on one lcore, with 256 packets going round, and runs for 40 ms while the
 * others are stopped (SIGSTOP). What slows a virtual machine down for seconds slows all of them down alike, so that a few per cent show,
 * which windows one after the other do not show. Packets are divided by the CPU time of the lcore.
 *
 *     npx tsx bench/in-turn.ts [--path packed-vectorized] [--size 64] [--queue 256] [--cpu 1] [--rounds 7] [--slices 20] [PROGRAM ...]
 *
 * PROGRAM: `ours`, `dpdk` or the folder of another build of this package; `ours dpdk` if left out. Mpps of every round, then the medians
 * and those of the ratios to the last program.
 * @module
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { ALL_DIRECTIONS, type BenchCase } from './cases.ts';
import { attachVirtio, freshSocket, readStats, startEnd, startForwarding, untilLinkUp, type Ends, type Starting } from './ends.ts';
import { prepareMemory } from './machine.ts';
import { matrixCases, PATHS, TESTS } from './matrix.ts';
import { findCommand, programAt, type Program } from './programs.ts';
import { busiestTask, taskTimes } from './schedstat.ts';
import { summarize } from './statistics.ts';
import { killAll } from './testpmd-process.ts';

const SLICE_MS = 40;
const WARM_UP_MS = 800;

const { values, positionals } = parseArgs({
  options: {
    path: { type: 'string', default: 'packed-vectorized' },
    size: { type: 'string', default: '64' },
    queue: { type: 'string', default: '256' },
    cpu: { type: 'string', default: '1' },
    rounds: { type: 'string', default: '7' },
    slices: { type: 'string', default: '20' },
  },
  allowPositionals: true,
});

function positive(name: 'size' | 'queue' | 'rounds' | 'slices'): number {
  const value = Number(values[name]);
  if (!Number.isInteger(value) || value < 1) throw new Error(`--${name} '${values[name]}': a positive number is needed`);
  return value;
}

function findProgram(name: string): Program {
  const path = name === 'dpdk' ? findCommand('dpdk-testpmd') : findCommand(join(name === 'ours' ? '.' : name, 'dist/cli/testpmd-main.js'));
  if (path === undefined) throw new Error(`no program '${name}': ours (npm run build), dpdk, or the folder of a build`);
  return programAt(name === 'dpdk' ? 'dpdk' : 'ours', path);
}

/** A program with its packets going round, stopped. */
class Turn {
  readonly name: string;
  readonly #ends: Ends;
  #before = taskTimes(process.pid);
  #packets = 0;

  private constructor(name: string, ends: Ends) {
    this.name = name;
    this.#ends = ends;
  }

  static async start(name: string, benchCase: BenchCase, common: Omit<Starting, 'programs'>): Promise<Turn> {
    const program = findProgram(name);
    const setting: Starting = { ...common, programs: { [program.name]: program } };
    const socket = freshSocket(setting);
    const pairing = { name, virtio: program.name, vhost: program.name };
    const testpmd = await startEnd(setting, benchCase, pairing, 'vhost', socket);
    const ends: Ends = { vhost: { testpmd, port: 0 }, virtio: { testpmd, port: 1 } };
    const turn = new Turn(name, ends);
    try {
      await attachVirtio(testpmd, program.name, benchCase, socket);
      await untilLinkUp(ends.vhost, setting.signal);
      const direction = ALL_DIRECTIONS.find((each) => each.name === 'io-loop');
      if (direction === undefined) throw new Error('no io loop among the directions');
      await startForwarding(ends, benchCase, direction);
      await sleep(WARM_UP_MS);
    } catch (error) {
      await turn.close();
      throw error;
    }
    testpmd.pause();
    return turn;
  }

  async begin(): Promise<void> {
    const { testpmd } = this.#ends.virtio;
    testpmd.resume();
    this.#packets = (await readStats(this.#ends.virtio)).rxPackets;
    this.#before = taskTimes(testpmd.pid);
    testpmd.pause();
  }

  async run(): Promise<void> {
    const { testpmd } = this.#ends.virtio;
    testpmd.resume();
    await sleep(SLICE_MS);
    testpmd.pause();
  }

  /** Mpps of CPU time since begin(). */
  async end(): Promise<number> {
    const { testpmd } = this.#ends.virtio;
    testpmd.resume();
    const after = taskTimes(testpmd.pid);
    const packets = (await readStats(this.#ends.virtio)).rxPackets - this.#packets;
    testpmd.pause();
    return (packets * 1000) / (busiestTask(this.#before, after)?.nanoseconds ?? Infinity);
  }

  async close(): Promise<void> {
    await this.#ends.vhost.testpmd[Symbol.asyncDispose]();
  }
}

async function main(): Promise<void> {
  const names = positionals.length === 0 ? ['ours', 'dpdk'] : positionals;
  const [rounds, slices] = [positive('rounds'), positive('slices')];
  const paths = PATHS.filter(({ name }) => name === values.path);
  const tests = TESTS.filter(({ name }) => name === 'one-core');
  const [benchCase] = matrixCases({ paths, queues: [positive('queue')], sizes: [positive('size')], tests });
  if (benchCase === undefined) throw new Error(`--path '${values.path}': one of ${PATHS.map(({ name }) => name).join(', ')}`);
  const cpu = Number(values.cpu);
  const stop = new AbortController();
  process.on('SIGINT', () => {
    stop.abort(new Error('interrupted'));
  });
  const directory = mkdtempSync(join(tmpdir(), 'dpdk-ts-bench-'));
  const common = { cpus: [cpu, cpu], memory: prepareMemory(), directory, signal: stop.signal } as const;
  const programs: Turn[] = [];
  try {
    for (const name of names) programs.push(await Turn.start(name, benchCase, common));
    const found: number[][] = [];
    for (let round = 0; round < rounds; round++) {
      for (const program of programs) await program.begin();
      for (let slice = 0; slice < slices; slice++) {
        stop.signal.throwIfAborted();
        for (const program of programs) await program.run();
      }
      const row: number[] = [];
      for (const program of programs) row.push(await program.end());
      found.push(row);
      console.log(programs.map(({ name }, index) => `${name} ${(row[index] ?? 0).toFixed(1)}`).join('   '));
    }
    const last = programs.length - 1;
    for (const [index, { name }] of programs.entries()) {
      const rate = summarize(found.map((row) => row[index] ?? 0));
      const ratio = summarize(found.map((row) => (row[index] ?? 0) / (row[last] ?? 0)));
      if (rate === undefined || ratio === undefined) continue;
      const spread = `(${ratio.min.toFixed(2)}-${ratio.max.toFixed(2)})`;
      console.log(`${name}: ${rate.median.toFixed(1)} Mpps, ${ratio.median.toFixed(3)} ${spread} of ${names[last] ?? ''}`);
    }
  } finally {
    for (const program of programs) await program.close();
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
