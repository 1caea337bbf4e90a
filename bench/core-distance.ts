/**
 * How far apart the two cores are now: the round trip of one cache line each way between two pinned threads.
 *
 * A virtual machine's cores wander over the real ones, and with them every rate in this benchmark, up to fourfold, for seconds or minutes at
 * a time, while no statistic of the guest's scheduler shows it. So each window has this measured before and after it; a few milliseconds.
 * @module
 */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { PING_PONG_WASM } from './core-distance-wasm.ts';
import { median } from './statistics.ts';

/** On the machines this was written on, near was 81-134 ns and far 340-530 ns. */
export const DEFAULT_NEAR_BELOW_NS = 210;

export type CoreState = 'near' | 'far';

export interface CoreDistance {
  /** One round trip in nanoseconds, the median of the batches. */
  measure(): Promise<number>;
  close(): Promise<void>;
}

const ROUNDS_A_BATCH = 500;
const BATCHES = 21;
/** Far below what an i32 holds; the numbers of the rounds start again from 1 after so many. */
const LAST_ROUND = 0x4000_0000;
const TIME_LIMIT_MS = 20_000;

export function coreState(nanoseconds: number, nearBelow: number): CoreState {
  return nanoseconds < nearBelow ? 'near' : 'far';
}

/** Starts the two threads and pins them, one to each of the two CPUs. Close it when done: its threads keep the process alive. */
export async function openCoreDistance(cpus: readonly [number, number]): Promise<CoreDistance> {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
  const workers = [startWorker('ping', memory), startWorker('pong', memory)] as const;
  try {
    await Promise.all(workers.map((worker, index) => pin(worker, cpus[index === 0 ? 0 : 1])));
  } catch (error) {
    await Promise.all(workers.map((worker) => worker.terminate()));
    throw error;
  }
  let first = 1;
  return {
    async measure() {
      const order = { first, rounds: ROUNDS_A_BATCH, batches: BATCHES };
      first = first + ROUNDS_A_BATCH * BATCHES;
      if (first > LAST_ROUND) {
        first = 1;
      }
      const answers = workers.map((worker) => nextMessage(worker));
      for (const worker of workers) {
        worker.postMessage(order);
      }
      const [ping] = await Promise.all(answers);
      const nanoseconds: unknown = ping?.['nanoseconds'];
      if (!Array.isArray(nanoseconds)) {
        throw new Error(`core distance: no round trip between CPU ${cpus[0]} and CPU ${cpus[1]} (are both there and not overloaded?)`);
      }
      return median(nanoseconds.filter((value): value is number => typeof value === 'number'));
    },
    async close() {
      await Promise.all(workers.map((worker) => worker.terminate()));
    },
  };
}

function startWorker(role: 'ping' | 'pong', memory: WebAssembly.Memory): Worker {
  // No inherited execArgv: the loader that runs this file is not needed there, and would start a thread of its own.
  return new Worker(new URL('./core-distance-worker.mjs', import.meta.url), {
    workerData: { code: PING_PONG_WASM, memory, role },
    execArgv: [],
  });
}

async function pin(worker: Worker, cpu: number): Promise<void> {
  const thread = (await nextMessage(worker))['thread'];
  if (typeof thread !== 'number') {
    throw new Error('core distance: a thread did not say who it is');
  }
  try {
    execFileSync('taskset', ['-p', '-c', String(cpu), String(thread)], { stdio: 'pipe', timeout: TIME_LIMIT_MS });
  } catch (error) {
    throw new Error(`core distance: could not pin a thread to CPU ${cpu} with taskset (util-linux)`, { cause: error });
  }
}

async function nextMessage(worker: Worker): Promise<Record<string, unknown>> {
  const [message] = (await once(worker, 'message', { signal: AbortSignal.timeout(TIME_LIMIT_MS) })) as unknown[];
  if (typeof message !== 'object' || message === null) {
    throw new TypeError('core distance: a thread answered with something else than an object');
  }
  return { ...message };
}
