/**
 * The two ends of a measurement: their processes, their ports, and the commands that set them forwarding.
 *
 * Mostly each end is a process of its own with one port. In a case of one process, the virtio_user port is attached to the process that
 * holds the net_vhost port, and one lcore forwards on both.
 * @module
 */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { DEFAULT_BURST, DEFAULT_BURSTS_IN_FLIGHT, QUEUE_SIZE, type BenchCase, type Direction, type End, type Pairing } from './cases.ts';
import type { CoreDistance, CoreState } from './core-distance.ts';
import { parsePortStats, type PortStats } from './port-stats.ts';
import { testpmdArguments, type Memory, type Program, type ProgramName } from './programs.ts';
import { startTestpmd, type Testpmd } from './testpmd-process.ts';

/** What all windows of a run have in common. */
export interface Setting {
  readonly programs: Readonly<Partial<Record<ProgramName, Program>>>;
  /** The vhost end's and the virtio end's. */
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

/** What it takes to start a process. */
export type Starting = Pick<Setting, 'programs' | 'cpus' | 'memory' | 'directory' | 'signal'>;

export interface EndPort {
  readonly testpmd: Testpmd;
  readonly port: number;
}

export type Ends = Readonly<Record<End, EndPort>>;
export type StartedEnds = Ends & AsyncDisposable;

const LINK_TIMEOUT_MS = 10_000;

/** A program does not take a device as the case wants it. */
export class RefusedError extends Error {}

let serial = 0;

/** A socket that no other window uses. */
export function freshSocket(setting: Pick<Setting, 'directory'>): string {
  serial += 1;
  return join(setting.directory, `${serial}.sock`);
}

/** The end that sends, or sends the loop's first packets. */
export function senderOf(direction: Direction): End {
  return direction.receiver === 'vhost' ? 'virtio' : 'vhost';
}

/** Starts one end's process and waits for its prompt. */
export async function startEnd(
  setting: Starting,
  benchCase: BenchCase,
  pairing: Pairing,
  end: End,
  socket: string,
  more: readonly string[] = [],
): Promise<Testpmd> {
  const name = pairing[end];
  const program = setting.programs[name];
  if (program === undefined) {
    throw new Error(`no program for '${name}'`);
  }
  const eal = benchCase.eal?.[name];
  const line = testpmdArguments({
    cpu: setting.cpus[end === 'vhost' ? 0 : 1],
    memory: setting.memory,
    filePrefix: `bench-${process.pid}-${serial}-${end}`,
    vdev: device(benchCase, end, socket),
    ...(eal === undefined ? {} : { eal }),
    testpmd: [...(benchCase.oneProcess === true ? ['--port-topology=loop'] : []), ...(benchCase.testpmd ?? []), ...more],
  });
  const testpmd = await startTestpmd({
    command: program.command,
    args: [...program.prefix, ...line],
    // DPDK keeps run-time files of each process, and leaves them behind: in our directory they go with it.
    env: { RUNTIME_DIRECTORY: setting.directory },
    signal: setting.signal,
  });
  const reason = refusalIn(testpmd.errors() + testpmd.output());
  if (reason !== undefined) {
    await testpmd.quit();
    throw new RefusedError(`${name}: ${reason}`);
  }
  return testpmd;
}

/** Why a device was not made, as testpmd said it right before it went on without; undefined where it was. */
export function refusalIn(output: string): string | undefined {
  const lines = output.split('\n').map((line) => line.trim());
  const failed = lines.findIndex((line) => /failed to initialize \S+ device|Cannot attach/.test(line));
  return failed === -1 ? undefined : lines[Math.max(0, failed - 1)];
}

/** Adds the virtio_user port to the process that holds the net_vhost port, as its second. */
async function attachVirtio(vhost: Testpmd, program: ProgramName, benchCase: BenchCase, socket: string): Promise<Testpmd> {
  const output = await vhost.command(`port attach ${device(benchCase, 'virtio', socket)}`);
  if (!output.includes('is attached')) {
    throw new RefusedError(`${program}: ${refusalIn(vhost.errors() + output) ?? output.trim()}`);
  }
  await expectOutput(vhost, 'port start 1', /Done/);
  return vhost;
}

/** The handshake goes on after the front-end's prompt: wait for the back-end to see the link. */
async function untilLinkUp({ testpmd, port }: EndPort, signal: AbortSignal): Promise<void> {
  const deadline = performance.now() + LINK_TIMEOUT_MS;
  while (!(await testpmd.command(`show port info ${port}`)).includes('Link status: up')) {
    if (performance.now() > deadline) {
      throw new Error(`the vhost end's link was not up within ${LINK_TIMEOUT_MS} ms`);
    }
    await sleep(20, undefined, { signal });
  }
}

/** The receiver first, so that it is there when the first packet comes. */
async function startForwarding(ends: Ends, benchCase: BenchCase, direction: Direction): Promise<void> {
  const sender = senderOf(direction);
  const processes = new Set([direction.receiver, sender].map((end) => ends[end].testpmd));
  // With both ports in one process, each of them sends the loop's first packets: half of them each.
  const bursts = (benchCase.burstsInFlight ?? DEFAULT_BURSTS_IN_FLIGHT) / (3 - processes.size);
  for (const testpmd of processes) {
    const end = testpmd === ends[sender].testpmd ? sender : direction.receiver;
    await expectOutput(testpmd, `set fwd ${direction.forward[end]}`, /packet forwarding mode/);
    if (end === sender) {
      await testpmd.command(`set txpkts ${benchCase.segments.join(',')}`);
    }
    if (end === direction.tester && direction.rate !== undefined) {
      await expectOutput(testpmd, `set txrate ${direction.rate}`, /Packets /);
    }
    const txFirst = direction.loop && end === sender ? ` tx_first ${bursts}` : '';
    const { burst = DEFAULT_BURST } = benchCase;
    if (txFirst === '' || burst === DEFAULT_BURST) {
      await expectOutput(testpmd, `start${txFirst}`, /packet forwarding - ports=/);
      continue;
    }
    // Bursts are short for the first packets alone: a vectorized driver receives nothing in bursts of less than eight.
    await expectOutput(testpmd, `set burst ${burst}`, /Number of packets per burst/);
    await expectOutput(testpmd, `start${txFirst}`, /packet forwarding - ports=/);
    await expectOutput(testpmd, 'stop', /Done/);
    await testpmd.command('set flush_rx off');
    await expectOutput(testpmd, `set burst ${DEFAULT_BURST}`, /Number of packets per burst/);
    await expectOutput(testpmd, 'start', /packet forwarding - ports=/);
  }
}

/** Starts both ends and has them forward; disposed of, their processes end. The vhost end listens, so it is there first whoever sends. */
export async function startEnds(setting: Starting, benchCase: BenchCase, direction: Direction, pairing: Pairing): Promise<StartedEnds> {
  const socket = freshSocket(setting);
  const isOne = benchCase.oneProcess === true;
  const vhost = await startEnd(setting, benchCase, pairing, 'vhost', socket);
  let virtio = vhost;
  const end = async (): Promise<void> => {
    await virtio[Symbol.asyncDispose]();
    await vhost[Symbol.asyncDispose]();
  };
  try {
    virtio = isOne
      ? await attachVirtio(vhost, pairing.vhost, benchCase, socket)
      : await startEnd(setting, benchCase, pairing, 'virtio', socket);
    const ends: Ends = { virtio: { testpmd: virtio, port: isOne ? 1 : 0 }, vhost: { testpmd: vhost, port: 0 } };
    await untilLinkUp(ends.vhost, setting.signal);
    await startForwarding(ends, benchCase, direction);
    return { ...ends, [Symbol.asyncDispose]: end };
  } catch (error) {
    await end();
    throw error;
  }
}

/** Stops the sender first, or it would count as dropped what nobody took any more. Returns what each end printed. */
export async function stopForwarding(ends: Ends, direction: Direction): Promise<Readonly<Record<End, string>>> {
  const sender = senderOf(direction);
  const ofSender = await ends[sender].testpmd.command('stop');
  const isOneProcess = ends.virtio.testpmd === ends.vhost.testpmd;
  const ofReceiver = isOneProcess ? ofSender : await ends[direction.receiver].testpmd.command('stop');
  return sender === 'virtio' ? { virtio: ofSender, vhost: ofReceiver } : { virtio: ofReceiver, vhost: ofSender };
}

/** The port's counters now. */
export async function readStats({ testpmd, port }: EndPort): Promise<PortStats> {
  const output = await testpmd.command(`show port stats ${port}`);
  const stats = parsePortStats(output, port);
  if (stats === undefined) {
    throw new Error(`'show port stats ${port}' was answered '${output.trim()}'`);
  }
  return stats;
}

function device(benchCase: BenchCase, end: End, socket: string): string {
  const { queueSize = QUEUE_SIZE } = benchCase;
  const keys = end === 'vhost' ? `net_vhost0,iface=${socket},queues=1` : `virtio_user0,path=${socket},queues=1,queue_size=${queueSize}`;
  return keys + (benchCase.devargs?.[end] ?? '');
}

/** Sends a command that has to be answered so. Throws with the answer where it is another. */
export async function expectOutput(testpmd: Testpmd, command: string, expected: RegExp): Promise<void> {
  const output = await testpmd.command(command);
  if (!expected.test(output)) {
    throw new Error(`'${command}' was answered '${output.trim()}'`);
  }
}
