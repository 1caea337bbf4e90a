/**
 * One measuring window over a pair of veth interfaces, in a network namespace of the benchmark's own.
 *
 * Two rates come out of it: packets a second of the clock, and packets a second that the forwarding thread really had a CPU. The
 * kernel does its part of the work within that thread's calls, so that the second rate stands where other programs take the first
 * one down; the two agree on a machine with nothing else to do.
 * @module
 */
import { spawnSync } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { bindNative } from '../../src/system/ffi.ts';
import { parsePortStats } from '../port-stats.ts';
import { testpmdArguments, type Memory, type Program, type ProgramName } from '../programs.ts';
import { busiestTask, taskTimes } from '../schedstat.ts';
import { startTestpmd, type Testpmd } from '../testpmd-process.ts';

const CLONE_NEWNET = 0x40000000;
const WARM_UP_MS = 300;

export interface Contender {
  readonly name: string;
  readonly program: ProgramName;
  /** Device and its keys, but for `iface`. */
  readonly device: string;
}

/**
 * `send`: what one end sends into an interface whose other end drops it. `receive`: what one end receives while DPDK's net_af_packet sends.
 * `loop`: one thread with a port at each end, 512 packets that go round.
 */
export type WindowKind = 'send' | 'receive' | 'loop';

export interface PortsSetting {
  readonly programs: Readonly<Record<ProgramName, Program>>;
  readonly memory: Memory;
  readonly cpus: readonly [number, number];
  readonly seconds: number;
  readonly directory: string;
}

export interface WindowRates {
  readonly packetsPerSecond: number;
  readonly packetsPerCpuSecond: number;
}

let serial = 0;

/** Moves this thread, and whatever it starts from now on, into a network namespace of its own. Root only. */
export function enterNamespace(): void {
  if (bindNative('unshare', 'i32', ['i32'])(CLONE_NEWNET).value !== 0) throw new Error('no network namespace: run the benchmark as root');
}

function ip(command: string): void {
  const { status, stderr } = spawnSync('ip', command.split(' '), { encoding: 'utf8' });
  if (status !== 0) throw new Error(`ip ${command}: ${stderr}`);
}

/** @throws Error when a program fails, or no packet moves */
export async function measureWindow(setting: PortsSetting, contender: Contender, kind: WindowKind, size: number): Promise<WindowRates> {
  ip('link add va type veth peer name vb');
  try {
    for (const name of ['va', 'vb']) ip(`link set ${name} addrgenmode none up`);
    return await measure(setting, contender, kind, size);
  } finally {
    ip('link del va');
  }
}

async function measure(setting: PortsSetting, contender: Contender, kind: WindowKind, size: number): Promise<WindowRates> {
  const { program, device } = contender;
  const begin = async (testpmd: Testpmd, ...commands: readonly string[]): Promise<void> => {
    for (const command of commands) await testpmd.command(command);
  };
  if (kind === 'loop') {
    const second = device.replace(/^(\w+?)0/, '$11');
    await using both = await start(setting, program, 0, [`${device},iface=va`, `${second},iface=vb`]);
    await begin(both, `set txpkts ${size}`, 'start tx_first 8');
    return await rates(setting, both, both, 'rxPackets');
  }
  if (kind === 'send') {
    await using sender = await start(setting, program, 0, [`${device},iface=va`]);
    await begin(sender, `set txpkts ${size}`, 'set fwd txonly', 'start');
    return await rates(setting, sender, sender, 'txPackets');
  }
  await using receiver = await start(setting, program, 0, [`${device},iface=va`]);
  await begin(receiver, 'set fwd rxonly', 'start');
  await using sender = await start(setting, 'dpdk', 1, ['net_af_packet0,iface=vb']);
  await begin(sender, `set txpkts ${size}`, 'set fwd txonly', 'start');
  // what is received costs the sender its time: the kernel does it within the sender's calls
  return await rates(setting, receiver, sender, 'rxPackets');
}

function start(setting: PortsSetting, name: ProgramName, cpu: 0 | 1, devices: readonly string[]): Promise<Testpmd> {
  const { command, prefix } = setting.programs[name];
  serial += 1;
  const line = testpmdArguments({
    cpu: setting.cpus[cpu],
    memory: setting.memory,
    filePrefix: `bench-ports-${process.pid}-${serial}`,
    vdev: devices[0] ?? '',
    eal: devices.slice(1).flatMap((device) => ['--vdev', device]),
    testpmd: ['--no-flush-rx'],
  });
  return startTestpmd({ command, args: [...prefix, ...line], env: { RUNTIME_DIRECTORY: setting.directory } });
}

async function rates(setting: PortsSetting, counted: Testpmd, timed: Testpmd, counter: 'rxPackets' | 'txPackets'): Promise<WindowRates> {
  await sleep(WARM_UP_MS);
  const from = await read(counted, timed, counter);
  await sleep(setting.seconds * 1000);
  const to = await read(counted, timed, counter);
  const task = busiestTask(from.tasks, to.tasks);
  const packets = to.packets - from.packets;
  if (packets <= 0 || task === undefined) throw new Error(`no packet moved in ${setting.seconds} s: ${counted.errors().slice(-500)}`);
  return { packetsPerSecond: (packets * 1000) / (to.clock - from.clock), packetsPerCpuSecond: (packets * 1e9) / task.nanoseconds };
}

async function read(counted: Testpmd, timed: Testpmd, counter: 'rxPackets' | 'txPackets') {
  const output = await counted.command('show port stats 0');
  const stats = parsePortStats(output, 0);
  if (stats === undefined) throw new Error(`'show port stats 0' was answered '${output.trim()}'`);
  return { packets: stats[counter], clock: performance.now(), tasks: taskTimes(timed.pid) };
}
