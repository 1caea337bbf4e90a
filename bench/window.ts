/**
 * One measuring window: both ends started anew, warmed up, measured, ended.
 *
 * The rate is the difference of the receiver's counter between two `show port stats` over our own clock. Right before and after, both
 * processes are stopped where they are (SIGSTOP, for some milliseconds: the packets in flight stay there) while the distance between the
 * cores is measured.
 * @module
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { BenchCase, Direction, End, Pairing } from './cases.ts';
import { coreState, type CoreState } from './core-distance.ts';
import { readStats, RefusedError, startEnds, stopForwarding, type EndPort, type Ends, type Setting } from './ends.ts';
import { parseForwardStats, parseLatency, type LatencyStats, type PortStats } from './port-stats.ts';
import { processMemory, type ProcessMemory } from './process-memory.ts';
import type { ProgramName } from './programs.ts';
import { busiestTask, taskTimes, type TaskTime } from './schedstat.ts';
import { searchZeroLoss, type ZeroLoss } from './zero-loss.ts';

export interface EndResult {
  readonly program: ProgramName;
  /** The thread that forwarded, and its share of a core, 0 to 1. */
  readonly thread: string;
  readonly coreShare: number;
  readonly startUpMs: number;
  readonly rxPackets: number;
  readonly txPackets: number;
  /** Packets that the forwarding engine dropped from its start to its end, because the other side had no room. */
  readonly txDropped: number;
  readonly memory: ProcessMemory;
}

export interface Measured {
  readonly seconds: number;
  readonly packetsPerSecond: number;
  readonly distanceBeforeNs: number;
  readonly distanceAfterNs: number;
  readonly stateBefore: CoreState;
  readonly stateAfter: CoreState;
  readonly ends: Readonly<Record<End, EndResult>>;
  /** What was found with a tester at one end; `packetsPerSecond` is the rate without loss then. */
  readonly zeroLoss?: ZeroLoss;
  readonly latency?: LatencyStats;
}

export interface WindowResult {
  readonly case: string;
  readonly direction: Direction['name'];
  readonly pairing: string;
  readonly round: number;
  readonly startedAt: string;
  readonly measured?: Measured;
  /** Why the window does not count; absent where it does. */
  readonly leftOut?: LeftOut;
}

export interface LeftOut {
  readonly reason: LeftOutReason;
  readonly detail: string;
}

export type LeftOutReason = 'refused' | 'failed' | 'cores moved' | 'no whole core' | 'other state';

/** Below this share of a core, another program or the host took the rest. */
export const WHOLE_CORE = 0.97;
/** After the processes run again and before the counters are read. */
const SETTLE_MS = 100;

/** Measures one window. What goes wrong in it is in the result; only an abort is thrown. */
export async function measureWindow(
  setting: Setting,
  benchCase: BenchCase,
  direction: Direction,
  pairing: Pairing,
  round: number,
): Promise<WindowResult> {
  const about = { case: benchCase.name, direction: direction.name, pairing: pairing.name, round, startedAt: new Date().toISOString() };
  try {
    const measured = await measure(setting, benchCase, direction, pairing);
    const leftOut = judge(measured, setting.wantedState, direction.tester);
    return leftOut === undefined ? { ...about, measured } : { ...about, measured, leftOut };
  } catch (error) {
    setting.signal.throwIfAborted();
    const reason = error instanceof RefusedError ? 'refused' : 'failed';
    return { ...about, leftOut: { reason, detail: error instanceof Error ? error.message : String(error) } };
  }
}

/**
 * Why a window does not count; undefined where it does. The trials of a search are a row of commands, for which a tester's own main thread
 * takes its core: they tell by themselves how late it was.
 */
export function judge(measured: Measured, wantedState: CoreState | 'any', tester?: End): LeftOut | undefined {
  const { stateBefore, stateAfter, ends } = measured;
  if (stateBefore !== stateAfter) {
    const from = `${stateBefore} (${Math.round(measured.distanceBeforeNs)} ns)`;
    return { reason: 'cores moved', detail: `${from} before, ${stateAfter} (${Math.round(measured.distanceAfterNs)} ns) after` };
  }
  for (const end of ['virtio', 'vhost'] as const) {
    if (end === tester && measured.zeroLoss !== undefined) continue;
    if (ends[end].coreShare < WHOLE_CORE) {
      return { reason: 'no whole core', detail: `the ${end} end's thread had ${ends[end].coreShare.toFixed(3)} of a core` };
    }
  }
  if (wantedState !== 'any' && stateBefore !== wantedState) {
    return { reason: 'other state', detail: `the cores were ${stateBefore}` };
  }
  return undefined;
}

async function measure(setting: Setting, benchCase: BenchCase, direction: Direction, pairing: Pairing): Promise<Measured> {
  await using ends = await startEnds(setting, benchCase, direction, pairing);
  const [virtio, vhost] = [ends.virtio.testpmd, ends.vhost.testpmd];
  await sleep(setting.warmUpSeconds * 1000, undefined, { signal: setting.signal });

  const distanceBeforeNs = await distanceWhilePaused(ends, setting);
  await sleep(SETTLE_MS, undefined, { signal: setting.signal });
  const before = await readEnds(ends);
  const found = await measureInside(setting, ends, direction);
  const after = await readEnds(ends);
  const distanceAfterNs = await distanceWhilePaused(ends, setting);

  const memory = { virtio: processMemory(virtio.pid), vhost: processMemory(vhost.pid) };
  const printed = await stopForwarding(ends, direction);
  // The one that connected leaves first.
  await virtio.quit();
  await vhost.quit();
  const { receiver } = direction;
  const seconds = (after[receiver].clock - before[receiver].clock) / 1000;
  const packets = after[receiver].stats.rxPackets - before[receiver].stats.rxPackets;
  if (packets <= 0) {
    throw new Error(`no packet arrived at the ${receiver} end in ${seconds.toFixed(1)} s`);
  }
  const endResult = (end: End): EndResult => {
    const [from, to] = [before[end], after[end]];
    const task = busiestTask(from.tasks, to.tasks);
    return {
      program: pairing[end],
      thread: task?.name ?? 'none',
      coreShare: (task?.nanoseconds ?? 0) / ((to.tasksClock - from.tasksClock) * 1e6),
      startUpMs: ends[end].testpmd.startUpMs,
      rxPackets: to.stats.rxPackets - from.stats.rxPackets,
      txPackets: to.stats.txPackets - from.stats.txPackets,
      txDropped: parseForwardStats(printed[end], ends[end].port)?.txDropped ?? 0,
      memory: memory[end],
    };
  };
  return {
    seconds,
    packetsPerSecond: found.zeroLoss?.rate ?? packets / seconds,
    ...found,
    distanceBeforeNs,
    distanceAfterNs,
    stateBefore: coreState(distanceBeforeNs, setting.nearBelowNs),
    stateAfter: coreState(distanceAfterNs, setting.nearBelowNs),
    ends: { virtio: endResult('virtio'), vhost: endResult('vhost') },
  };
}

/** What there is to do between the two readings of the counters: wait, mostly. */
async function measureInside(setting: Setting, ends: Ends, direction: Direction): Promise<Pick<Measured, 'zeroLoss' | 'latency'>> {
  const { seconds, signal } = setting;
  const tester = direction.tester === undefined ? undefined : ends[direction.tester];
  if (tester !== undefined && direction.rate === undefined) {
    return { zeroLoss: await searchZeroLoss(tester, seconds, direction.lossLimit ?? 0, signal) };
  }
  // What was away while the processes were stopped for the distance does not count.
  await tester?.testpmd.command('clear fwd stats all');
  await sleep(seconds * 1000, undefined, { signal });
  if (tester === undefined) {
    return {};
  }
  const output = await tester.testpmd.command('show fwd latency');
  const latency = parseLatency(output, tester.port);
  if (latency === undefined) {
    throw new Error(`'show fwd latency' was answered '${output.trim()}'`);
  }
  return { latency };
}

async function distanceWhilePaused(ends: Ends, setting: Setting): Promise<number> {
  try {
    ends.virtio.testpmd.pause();
    ends.vhost.testpmd.pause();
    return await setting.distance.measure();
  } finally {
    ends.virtio.testpmd.resume();
    ends.vhost.testpmd.resume();
  }
}

interface Reading {
  readonly stats: PortStats;
  /** `performance.now()` when the counters were read, and when the threads' times were. */
  readonly clock: number;
  readonly tasksClock: number;
  readonly tasks: ReadonlyMap<number, TaskTime>;
}

async function readEnds(ends: Ends): Promise<Readonly<Record<End, Reading>>> {
  return { virtio: await readEnd(ends.virtio), vhost: await readEnd(ends.vhost) };
}

async function readEnd(end: EndPort): Promise<Reading> {
  const stats = await readStats(end);
  const clock = performance.now();
  const tasks = taskTimes(end.testpmd.pid);
  return { stats, clock, tasks, tasksClock: performance.now() };
}
