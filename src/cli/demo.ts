/**
 * `npm start`: a testpmd for ten seconds whose two ports, virtio_user and net_vhost, are joined by a socket and send each
 * other the same packets round and round. Needs no root, no huge pages and no kernel module.
 * @module
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { availableCpus } from '../system/cpu.ts';
import { hugePagePools } from '../system/hugepages.ts';
import type { Session } from './session.ts';
import { runTestpmd } from './testpmd.ts';

const SECONDS = 10;
const HUGE_PAGE = 2 * 1024 * 1024;
/** More than testpmd takes with its default number of mbufs. */
const HUGE_PAGES = 64;

const terminal = process.stdout.isTTY;
const coloured = terminal && (process.env['NO_COLOR'] ?? '') === '';
const colour = (code: number, text: string): string => (coloured ? `\x1b[${String(code)}m${text}\x1b[0m` : text);

/** Main thread and two forwarding lcores: a CPU for each of the two where there are two. */
function lcoresArgument(): string {
  const [first = 0, second = first] = availableCpus();
  return `0@${String(first)},1@${String(first)},2@${String(second)}`;
}

function memoryArguments(): readonly string[] {
  const enough = hugePagePools().some((pool) => pool.pageSize === HUGE_PAGE && pool.free >= HUGE_PAGES);
  return enough ? ['--in-memory', '--single-file-segments'] : ['--no-huge'];
}

function rateText(packets: number, seconds: number): string {
  return `${(packets / seconds / 1e6).toFixed(2).padStart(6)} Mpps`;
}

/** A line a second about what each port received; ends the session after the last. */
function showRates(session: Session): void {
  const ports = session.ports.list().map(({ port }) => port);
  const received = (): readonly number[] => ports.map((port) => port.statistics().rxPackets);
  let before = received();
  let at = performance.now();
  let line = 0;
  const timer = setInterval(() => {
    const now = performance.now();
    const counts = received();
    const rates = ports.map(
      (port, index) => `${port.name} ${colour(32, rateText((counts[index] ?? 0) - (before[index] ?? 0), (now - at) / 1000))}`,
    );
    const text = `${String(++line).padStart(3)} s  received by ${rates.join(', by ')}`;
    process.stdout.write(terminal ? `\r\x1b[2K${text}` : `${text}\n`);
    [before, at] = [counts, now];
    if (line === SECONDS) session.interrupt();
  }, 1000);
  session.signal.addEventListener('abort', () => {
    clearInterval(timer);
    if (terminal && line > 0) process.stdout.write('\n');
  });
}

const directory = mkdtempSync(join(tmpdir(), 'dpdk-ts-'));
const socket = join(directory, 'vhost.sock');
let status: number;
try {
  console.log(
    colour(
      1,
      `For ${String(SECONDS)} seconds, testpmd sends packets from virtio_user to net_vhost and back, over ${socket} and shared memory:`,
    ),
  );
  const argv = [
    ...['--lcores', lcoresArgument(), '--no-pci', '--file-prefix', 'dpdk-ts-demo', ...memoryArguments()],
    ...['--vdev', `virtio_user0,path=${socket}`, '--vdev', `net_vhost0,iface=${socket}`],
    ...['--', '--nb-cores=2', '--port-topology=loop', '--tx-first', '--burst=64'],
  ];
  // what is not a terminal may end at once, and would end the demonstration
  const input = process.stdin.isTTY ? {} : { input: new PassThrough() };
  status = await runTestpmd(argv, { observe: showRates, ...input });
} finally {
  rmSync(directory, { recursive: true, force: true });
}
if (status === 0)
  console.log(
    colour(1, 'Next: node dist/cli/testpmd-main.js --help, the examples/ folder, or npm run bench; README.md shows DPDK at the other end.'),
  );
process.exitCode = status;
process.stdout.write('', () => {
  process.exit(status);
});
