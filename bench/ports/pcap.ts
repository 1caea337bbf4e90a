/**
 * Capture files: packets of 64 bytes read from a file and written to one by net_pcap, ours beside DPDK's, and captured from a running
 * port while it receives all that net_null makes.
 *
 *     npx tsx bench/ports/pcap.ts [ROUNDS] [DIRECTORY]
 *
 * The files are real ones in DIRECTORY (default: the system's for temporary files), made anew and removed. The programs take turns; each
 * row is the median of the rounds, with the slowest and the fastest, of packets a second of the clock and of packets a second that the
 * thread which reads or writes had a CPU: what else runs on the machine takes the first one down.
 * @module
 */
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import { captureHeader, captureRecord, type CaptureFormat } from '../../src/net/pcap.ts';
import { parsePortStats } from '../port-stats.ts';
import { wholeNumber } from '../options.ts';
import { findCommand, programAt, type Program } from '../programs.ts';
import { busiestTask, taskTimes } from '../schedstat.ts';
import { summarize } from '../statistics.ts';
import { startTestpmd, type Testpmd } from '../testpmd-process.ts';

const PACKET_BYTES = 64;
const FILE_PACKETS = 8_000_000;
const WARM_UP_MS = 300;
const WINDOW_MS = 1000;
const POLL_MS = 5;

interface Rates {
  readonly clock: number;
  readonly cpu: number;
}

interface Reading {
  readonly packets: number;
  readonly clock: number;
  readonly tasks: ReturnType<typeof taskTimes>;
}

const [rounds, place] = new Command('npx tsx bench/ports/pcap.ts')
  .argument('[rounds]', 'windows of each row', wholeNumber, 3)
  .argument('[directory]', 'where the files are', tmpdir())
  .allowExcessArguments(false)
  .parse().processedArgs as [number, string];
const directory = mkdtempSync(join(place, 'dpdk-ts-bench-'));
process.on('exit', () => {
  rmSync(directory, { recursive: true, force: true });
});

/** A file of equal packets. */
function makeFile(format: CaptureFormat): string {
  const path = join(directory, `in.${format}`);
  const packet = Buffer.alloc(PACKET_BYTES, 1);
  packet.writeUInt16BE(0x0800, 12);
  const record = Buffer.from(captureRecord(format, packet, 1, 0));
  const block = Buffer.concat(Array.from({ length: 10_000 }, () => record));
  const descriptor = openSync(path, 'w');
  try {
    writeSync(descriptor, captureHeader(format));
    for (let done = 0; done < FILE_PACKETS; done += 10_000) writeSync(descriptor, block);
  } finally {
    closeSync(descriptor);
  }
  return path;
}

let serial = 0;
function start(program: Program, vdev: string, app: readonly string[] = [], lcores = '0@0,1@1'): Promise<Testpmd> {
  const eal = ['--lcores', lcores, '--no-pci', '--no-huge', '-m', '192', '--file-prefix', `bench-pcap-${process.pid}-${serial++}`];
  return startTestpmd({
    command: program.command,
    args: [...program.prefix, ...eal, '--vdev', vdev, '--', '-i', '--total-num-mbufs=8192', '--no-flush-rx', ...app],
    env: { RUNTIME_DIRECTORY: directory },
  });
}

async function read(testpmd: Testpmd, count: (output: string) => number | undefined, command: string): Promise<Reading> {
  const output = await testpmd.command(command);
  const packets = count(output);
  if (packets === undefined) throw new Error(`'${command}' was answered '${output.trim()}'`);
  return { packets, clock: performance.now(), tasks: taskTimes(testpmd.pid) };
}

/** @param thread that does the work; by default the one that ran most */
function between(from: Reading, to: Reading, thread?: number): Rates {
  const packets = to.packets - from.packets;
  const ran =
    thread === undefined
      ? busiestTask(from.tasks, to.tasks)?.nanoseconds
      : (to.tasks.get(thread)?.nanoseconds ?? 0) - (from.tasks.get(thread)?.nanoseconds ?? 0);
  if (packets <= 0 || ran === undefined) throw new Error('no packet moved');
  return { clock: (packets * 1000) / (to.clock - from.clock), cpu: (packets * 1e9) / ran };
}

const received = (output: string): number | undefined => parsePortStats(output, 0)?.rxPackets;
const sent = (output: string): number | undefined => parsePortStats(output, 0)?.txPackets;
const captured = (output: string): number | undefined => {
  const count = /Captured: (\d+)/.exec(output)?.[1];
  return count === undefined ? undefined : Number(count);
};

/** From the first packets to the last look at which there were more to come. */
async function reading(program: Program, file: string): Promise<Rates> {
  await using testpmd = await start(program, `net_pcap0,rx_pcap=${file}`, ['--forward-mode=rxonly']);
  await testpmd.command('start');
  const readings: Reading[] = [];
  for (;;) {
    const now = await read(testpmd, received, 'show port stats 0');
    if (now.packets === FILE_PACKETS) break;
    if (now.packets !== 0) readings.push(now);
    await sleep(POLL_MS);
  }
  const [first] = readings;
  const last = readings.at(-1);
  if (first === undefined || last === undefined) throw new Error(`the file of ${FILE_PACKETS} packets was read between two looks`);
  return between(first, last);
}

async function window(testpmd: Testpmd, count: (output: string) => number | undefined, command: string, thread?: number): Promise<Rates> {
  await sleep(WARM_UP_MS);
  const from = await read(testpmd, count, command);
  await sleep(WINDOW_MS);
  return between(from, await read(testpmd, count, command), thread);
}

async function writing(program: Program, ending: CaptureFormat): Promise<Rates> {
  const file = join(directory, `out.${ending}`);
  try {
    await using testpmd = await start(program, `net_pcap0,tx_pcap=${file}`, ['--forward-mode=txonly', `--txpkts=${PACKET_BYTES}`]);
    await testpmd.command('start');
    return await window(testpmd, sent, 'show port stats 0');
  } finally {
    rmSync(file, { force: true });
  }
}

async function capturing(program: Program, ending: CaptureFormat): Promise<Rates> {
  const file = join(directory, `capture.${ending}`);
  try {
    const app = ['--forward-mode=rxonly', `--capture=port=0,file=${file},rx,buffer=32`];
    await using testpmd = await start(program, `net_null0,size=${PACKET_BYTES}`, app);
    await testpmd.command('start');
    // the main thread writes the file, and what it cannot keep up with is left out
    return await window(testpmd, captured, 'show capture', testpmd.pid);
  } finally {
    rmSync(file, { force: true });
  }
}

const ours = programAt('ours', fileURLToPath(new URL('../../dist/cli/testpmd-main.js', import.meta.url)));
const dpdkPath = findCommand('dpdk-testpmd');
const dpdk = dpdkPath === undefined ? undefined : programAt('dpdk', dpdkPath);
const [pcap, pcapng] = [makeFile('pcap'), makeFile('pcapng')];

const cases: readonly (readonly [string, () => Promise<Rates>])[] = [
  ['read pcap, ours', () => reading(ours, pcap)],
  ...(dpdk === undefined ? [] : [['read pcap, DPDK', () => reading(dpdk, pcap)] as const]),
  ['read pcapng, ours', () => reading(ours, pcapng)],
  ...(dpdk === undefined ? [] : [['read pcapng, DPDK', () => reading(dpdk, pcapng)] as const]),
  ['write pcap, ours', () => writing(ours, 'pcap')],
  ...(dpdk === undefined ? [] : [['write pcap, DPDK', () => writing(dpdk, 'pcap')] as const]),
  ['write pcapng, ours', () => writing(ours, 'pcapng')],
  ['capture pcap, ours', () => capturing(ours, 'pcap')],
  ['capture pcapng, ours', () => capturing(ours, 'pcapng')],
];
const results = cases.map((): Rates[] => []);
for (let round = 0; round < rounds; round++) {
  for (const [index, [name, measure]] of cases.entries()) {
    try {
      const rates = await measure();
      results[index]?.push(rates);
      console.error(`round ${round + 1}: ${name}: ${(rates.clock / 1e6).toFixed(2)} Mpps`);
    } catch (error) {
      // a window in which a program had no CPU at all
      console.error(`round ${round + 1}: ${name}: left out: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
}
const text = (values: readonly number[]): string => {
  const summary = summarize(values);
  if (summary === undefined) return '-';
  const mega = (value: number): string => (value / 1e6).toFixed(2);
  return `${mega(summary.median)} (${mega(summary.min)}-${mega(summary.max)})`;
};
console.log('| 64 B, Mpps | of the clock | of a CPU |\n| --- | --- | --- |');
for (const [index, [name]] of cases.entries()) {
  const rates = results[index] ?? [];
  console.log(`| ${name} | ${text(rates.map(({ clock }) => clock))} | ${text(rates.map(({ cpu }) => cpu))} |`);
}
