/**
 * One measuring window: both ends started anew, warmed up, measured, ended.
 *
 * The rate is the difference of the receiver's counter between two `show port stats` over our own clock. Right before and after, both
 * processes are stopped where they are (SIGSTOP, for some milliseconds: the packets in flight stay there) while the distance between the
 * cores is measured.
 * @module
 */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { DEFAULT_BURST, DEFAULT_BURSTS_IN_FLIGHT, QUEUE_SIZE, type BenchCase, type Direction, type End, type Pairing } from './cases.ts';
import { coreState, type CoreDistance, type CoreState } from './core-distance.ts';
import { parseForwardStats, parsePortStats, type ForwardStats, type PortStats } from './port-stats.ts';
import { processMemory, type ProcessMemory } from './process-memory.ts';
import { testpmdArguments, type Memory, type Program, type ProgramName } from './programs.ts';
import { busiestTask, taskTimes, type TaskTime } from './schedstat.ts';
import { startTestpmd, type Testpmd } from './testpmd-process.ts';

/** What all windows of a run have in common. */
export interface Setting {
  readonly programs: Readonly<Partial<Record<ProgramName, Program>>>;
  readonly cpus: readonly [number, number];
  readonly memory: Memory;
  readonly seconds: number;
  readonly warmUpSeconds: number;
  readonly nearBelowNs: number;
  readonly wantedState: CoreState | 'any';
  readonly distance: CoreDistance;
  /** An empty directory for sockets and run-time files, removed at the end. */
  readonly directory: string;
  readonly signal: AbortSignal;
}

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

export type LeftOutReason = 'failed' | 'cores moved' | 'no whole core' | 'other state';

/** Below this share of a core, another program or the host took the rest. */
export const WHOLE_CORE = 0.97;
/** After the processes run again and before the counters are read. */
const SETTLE_MS = 100;
const LINK_TIMEOUT_MS = 10_000;

let serial = 0;

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
    const leftOut = judge(measured, setting.wantedState, benchCase.oneCore === true ? WHOLE_CORE / 2 : WHOLE_CORE);
    return leftOut === undefined ? { ...about, measured } : { ...about, measured, leftOut };
  } catch (error) {
    setting.signal.throwIfAborted();
    return { ...about, leftOut: { reason: 'failed', detail: error instanceof Error ? error.message : String(error) } };
  }
}

/** Why a window does not count; undefined where it does. */
export function judge(measured: Measured, wantedState: CoreState | 'any', wholeCore = WHOLE_CORE): LeftOut | undefined {
  const { stateBefore, stateAfter, ends } = measured;
  if (stateBefore !== stateAfter) {
    const from = `${stateBefore} (${Math.round(measured.distanceBeforeNs)} ns)`;
    return { reason: 'cores moved', detail: `${from} before, ${stateAfter} (${Math.round(measured.distanceAfterNs)} ns) after` };
  }
  for (const end of ['virtio', 'vhost'] as const) {
    if (ends[end].coreShare < wholeCore) {
      return { reason: 'no whole core', detail: `the ${end} end's thread had ${ends[end].coreShare.toFixed(3)} of a core` };
    }
  }
  if (wantedState !== 'any' && stateBefore !== wantedState) {
    return { reason: 'other state', detail: `the cores were ${stateBefore}` };
  }
  return undefined;
}

async function measure(setting: Setting, benchCase: BenchCase, direction: Direction, pairing: Pairing): Promise<Measured> {
  // The vhost end listens, so it is there first whoever sends.
  await using vhost = await startEnd(setting, benchCase, pairing, 'vhost');
  await using virtio = await startEnd(setting, benchCase, pairing, 'virtio');
  const both: Readonly<Record<End, Testpmd>> = { virtio, vhost };
  await untilLinkUp(vhost, setting.signal);
  await startForwarding(both, benchCase, direction);
  await sleep(setting.warmUpSeconds * 1000, undefined, { signal: setting.signal });

  const distanceBeforeNs = await distanceWhilePaused(both, setting.distance);
  await sleep(SETTLE_MS, undefined, { signal: setting.signal });
  const before = await snapshot(both, direction.receiver);
  await sleep(setting.seconds * 1000, undefined, { signal: setting.signal });
  const after = await snapshot(both, direction.receiver);
  const distanceAfterNs = await distanceWhilePaused(both, setting.distance);

  const seconds = (after.clock - before.clock) / 1000;
  const packets = after.stats[direction.receiver].rxPackets - before.stats[direction.receiver].rxPackets;
  const memory = { virtio: processMemory(virtio.pid), vhost: processMemory(vhost.pid) };
  // The sender first, or it would count as dropped what nobody took any more.
  const sender = senderOf(direction);
  const forward: Partial<Record<End, ForwardStats | undefined>> = {};
  for (const end of [sender, direction.receiver]) {
    forward[end] = parseForwardStats(await both[end].command('stop'));
  }
  // The one that connected leaves first.
  await virtio.quit();
  await vhost.quit();
  if (packets <= 0) {
    throw new Error(`no packet arrived at the ${direction.receiver} end in ${seconds.toFixed(1)} s`);
  }
  const endResult = (end: End): EndResult => {
    const task = busiestTask(before.tasks[end], after.tasks[end]);
    return {
      program: pairing[end],
      thread: task?.name ?? 'none',
      coreShare: (task?.nanoseconds ?? 0) / ((after.tasksClock[end] - before.tasksClock[end]) * 1e6),
      startUpMs: both[end].startUpMs,
      rxPackets: after.stats[end].rxPackets - before.stats[end].rxPackets,
      txPackets: after.stats[end].txPackets - before.stats[end].txPackets,
      txDropped: forward[end]?.txDropped ?? 0,
      memory: memory[end],
    };
  };
  return {
    seconds,
    packetsPerSecond: packets / seconds,
    distanceBeforeNs,
    distanceAfterNs,
    stateBefore: coreState(distanceBeforeNs, setting.nearBelowNs),
    stateAfter: coreState(distanceAfterNs, setting.nearBelowNs),
    ends: { virtio: endResult('virtio'), vhost: endResult('vhost') },
  };
}

function senderOf(direction: Direction): End {
  return direction.receiver === 'vhost' ? 'virtio' : 'vhost';
}

/** Starts one end and waits for its prompt. */
export async function startEnd(
  setting: Setting,
  benchCase: BenchCase,
  pairing: Pairing,
  end: End,
  more: readonly string[] = [],
): Promise<Testpmd> {
  const name = pairing[end];
  const program = setting.programs[name];
  if (program === undefined) {
    throw new Error(`no program for '${name}'`);
  }
  if (end === 'vhost') {
    serial += 1;
  }
  const socket = join(setting.directory, `${serial}.sock`);
  const vdev = end === 'vhost' ? `net_vhost0,iface=${socket},queues=1` : `virtio_user0,path=${socket},queues=1,queue_size=${QUEUE_SIZE}`;
  return startTestpmd({
    command: program.command,
    args: [
      ...program.prefix,
      ...testpmdArguments({
        cpu: end === 'vhost' || benchCase.oneCore === true ? setting.cpus[0] : setting.cpus[1],
        memory: setting.memory,
        filePrefix: `bench-${process.pid}-${serial}-${end}`,
        vdev: vdev + (benchCase.devargs?.[end] ?? ''),
        ...(benchCase.eal?.[name] === undefined ? {} : { eal: benchCase.eal[name] }),
        testpmd: [...(benchCase.testpmd ?? []), ...more],
      }),
    ],
    // DPDK keeps run-time files of each process, and leaves them behind: in our directory they go with it.
    env: { RUNTIME_DIRECTORY: setting.directory },
    signal: setting.signal,
  });
}

/** The handshake goes on after the front-end's prompt: wait for the back-end to see the link. */
async function untilLinkUp(vhost: Testpmd, signal: AbortSignal): Promise<void> {
  const deadline = performance.now() + LINK_TIMEOUT_MS;
  while (!(await vhost.command('show port info 0')).includes('Link status: up')) {
    if (performance.now() > deadline) {
      throw new Error(`the vhost end's link was not up within ${LINK_TIMEOUT_MS} ms`);
    }
    await sleep(20, undefined, { signal });
  }
}

async function startForwarding(both: Readonly<Record<End, Testpmd>>, benchCase: BenchCase, direction: Direction): Promise<void> {
  const sender = senderOf(direction);
  for (const end of [direction.receiver, sender]) {
    const burst = benchCase.burst ?? DEFAULT_BURST;
    if (burst !== DEFAULT_BURST) {
      await expectOutput(both[end], `set burst ${burst}`, /Number of packets per burst/);
    }
    await expectOutput(both[end], `set fwd ${direction.forward[end]}`, /packet forwarding mode/);
    if (end === sender) {
      await both[end].command(`set txpkts ${benchCase.segments.join(',')}`);
    }
    const txFirst = direction.loop && end === sender ? ` tx_first ${benchCase.burstsInFlight ?? DEFAULT_BURSTS_IN_FLIGHT}` : '';
    await expectOutput(both[end], `start${txFirst}`, /packet forwarding - ports=1/);
  }
}

async function expectOutput(testpmd: Testpmd, command: string, expected: RegExp): Promise<void> {
  const output = await testpmd.command(command);
  if (!expected.test(output)) {
    throw new Error(`'${command}' was answered '${output.trim()}'`);
  }
}

async function distanceWhilePaused(both: Readonly<Record<End, Testpmd>>, distance: CoreDistance): Promise<number> {
  try {
    both.virtio.pause();
    both.vhost.pause();
    return await distance.measure();
  } finally {
    both.virtio.resume();
    both.vhost.resume();
  }
}

interface Snapshot {
  /** Milliseconds, when the receiver's counter was read. */
  readonly clock: number;
  readonly stats: Readonly<Record<End, PortStats>>;
  readonly tasksClock: Readonly<Record<End, number>>;
  readonly tasks: Readonly<Record<End, ReadonlyMap<number, TaskTime>>>;
}

async function snapshot(both: Readonly<Record<End, Testpmd>>, receiver: End): Promise<Snapshot> {
  const stats: Partial<Record<End, PortStats>> = {};
  const tasks: Partial<Record<End, ReadonlyMap<number, TaskTime>>> = {};
  const tasksClock: Partial<Record<End, number>> = {};
  let clock = 0;
  for (const end of ['virtio', 'vhost'] as const) {
    stats[end] = await readStats(both[end]);
    if (end === receiver) {
      clock = performance.now();
    }
  }
  for (const end of ['virtio', 'vhost'] as const) {
    tasks[end] = taskTimes(both[end].pid);
    tasksClock[end] = performance.now();
  }
  return { clock, stats: complete(stats), tasks: complete(tasks), tasksClock: complete(tasksClock) };
}

/** The port's counters now. */
export async function readStats(testpmd: Testpmd): Promise<PortStats> {
  const output = await testpmd.command('show port stats 0');
  const stats = parsePortStats(output);
  if (stats === undefined) {
    throw new Error(`'show port stats 0' was answered '${output.trim()}'`);
  }
  return stats;
}

function complete<T>(record: Partial<Record<End, T>>): Record<End, T> {
  const { virtio, vhost } = record;
  if (virtio === undefined || vhost === undefined) {
    throw new Error('one end was left out');
  }
  return { virtio, vhost };
}
