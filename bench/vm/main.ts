/**
 * `npm run bench:vm`: our testpmd and DPDK's in turn in the test machine, on the kernel's vhost-net and on PCI cards, in one boot; prints medians, their
 * spread (half of the range) and the ratio. Under emulation the figures show how the two compare there, not how fast they are.
 * @module
 */
import { loadavg } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { BEHIND_IOMMU, card, vfioMachine, wire } from '../../test/vm/cards.ts';
import { MachineError, runInMachine } from '../../test/vm/machine.ts';
import { whyNoPrograms } from '../../test/vm/requirements.ts';
import { ratioOfMedians, relativeSpread, summarize, type Summary } from '../statistics.ts';

interface VmCase {
  readonly name: string;
  readonly title: string;
  readonly unit: string;
  /** A smaller figure is the better one: the ratio is turned round. */
  readonly smallerIsBetter?: boolean;
}

const CASES: readonly VmCase[] = [
  { name: 'txonly', title: 'txonly into tap0, 64 B', unit: 'kpps' },
  { name: 'ping', title: 'ping through icmpecho', unit: 'us', smallerIsBetter: true },
  { name: 'tcp-io', title: 'TCP through io, no offloads', unit: 'Mbit/s' },
  { name: 'tcp-io-offloads', title: 'TCP through io, TSO and LRO', unit: 'Mbit/s' },
  { name: 'tcp-csum', title: 'TCP through csum, TSO and LRO', unit: 'Mbit/s' },
  { name: 'vfio-txonly', title: 'vfio, txonly to the kernel, 64 B', unit: 'kpps' },
  { name: 'vfio-rxonly', title: 'vfio, rxonly from DPDK, 64 B', unit: 'kpps' },
];

/** Wire 0: ours and the guest kernel's card; wire 1: ours and that of the sender, DPDK's testpmd. */
const CARDS = [
  ...wire(0, 'h0', 'h1'),
  ...wire(1, 'h2', 'h3'),
  ...card('0x10', 'h0', BEHIND_IOMMU),
  ...card('0x11', 'h1'),
  ...card('0x12', 'h2', BEHIND_IOMMU),
  ...card('0x13', 'h3', BEHIND_IOMMU),
];

const HELP = `npm run bench:vm -- [options]

  --rounds N       times that each program is started for each case (3)
  --seconds N      length of a window (3)
  --cases A,B      ${CASES.map(({ name }) => name).join(', ')}
  -h, --help       this text

A ratio above 1 says that ours is the better one. The machine: docs/testing.md`;

const SECONDS_OF_A_START = 40;
const MEASURE = fileURLToPath(new URL('measure.sh', import.meta.url));

function wholeNumber(name: string, text: string): number {
  if (!/^[1-9]\d*$/.test(text)) throw new RangeError(`--${name} ${text}: not a whole number above 0`);
  return Number(text);
}

/** The windows of a case and a program, in the case's unit; windows in which nothing came through count as 0. */
function figures(printed: string, { name, unit }: VmCase, program: string): number[] {
  const found = printed.matchAll(new RegExp(`^${name} ${program} (\\S+)$`, 'gm'));
  return Array.from(found, ([, value]) => (value === '-' ? 0 : Number(value) / (unit === 'kpps' ? 1000 : 1)));
}

function cell(summary: Summary | undefined): string {
  if (summary === undefined) return '-';
  if (summary.median === 0) return 'nothing';
  return `${summary.median.toFixed(summary.median < 100 ? 1 : 0)} ± ${(50 * relativeSpread(summary)).toFixed(0)} %`;
}

function row(printed: string, entry: VmCase): readonly string[] {
  const ours = summarize(figures(printed, entry, 'ours'));
  const dpdk = summarize(figures(printed, entry, 'dpdk'));
  const ratio = entry.smallerIsBetter === true ? ratioOfMedians(dpdk, ours) : ratioOfMedians(ours, dpdk);
  return [entry.title, entry.unit, cell(ours), cell(dpdk), ratio === undefined ? '-' : ratio.toFixed(2)];
}

function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((cells) => cells[column]?.length ?? 0)));
  return rows.map((cells) => cells.map((text, column) => text.padEnd(widths[column] ?? 0)).join('  ')).join('\n');
}

async function main(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      rounds: { type: 'string', default: '3' },
      seconds: { type: 'string', default: '3' },
      cases: { type: 'string', default: CASES.map(({ name }) => name).join() },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) {
    console.log(HELP);
    return;
  }
  const rounds = wholeNumber('rounds', values.rounds);
  const seconds = wholeNumber('seconds', values.seconds);
  const names = values.cases.split(',');
  const unknown = names.filter((name) => !CASES.some((entry) => entry.name === name));
  if (unknown.length > 0) throw new RangeError(`--cases ${unknown.join()}: known are ${CASES.map(({ name }) => name).join(', ')}`);
  const why = whyNoPrograms();
  if (why !== undefined) throw new MachineError(why);
  const starts = rounds * 2 * names.length;
  const before = loadavg()[0] ?? 0;
  console.error(`${String(starts)} starts of testpmd: about ${String(Math.ceil((starts * (20 + seconds)) / 60))} minutes on an idle host`);
  const { status, stdout, stderr, accelerator } = await runInMachine({
    ...(names.some((name) => name.startsWith('vfio')) ? vfioMachine(CARDS) : {}),
    command: ['sh', MEASURE, String(rounds), String(seconds), names.join()],
    limit: starts * (SECONDS_OF_A_START + 2 * seconds) * 1000,
  });
  const head = ['case', 'unit', 'ours', 'DPDK', 'ratio'];
  const rows = CASES.filter(({ name }) => names.includes(name)).map((entry) => row(stdout, entry));
  console.log(table([head, ...rows]));
  const loads = [before, loadavg()[0] ?? 0].map((load) => load.toFixed(1)).join(' before, ');
  console.log(
    `\n${accelerator === 'kvm' ? 'KVM' : 'emulated'}; ${String(rounds)} rounds, windows of ${String(seconds)} s; load of the host ${loads} at the end`,
  );
  if (status !== 0) throw new MachineError(`ended with status ${String(status)}:\n${stdout}${stderr}`);
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  const usage = error instanceof RangeError || (error instanceof TypeError && 'code' in error);
  if (!usage && !(error instanceof MachineError)) throw error;
  console.error(`bench:vm: ${error.message}${usage ? `\n\n${HELP}` : ''}`);
  process.exitCode = usage ? 2 : 1;
}
