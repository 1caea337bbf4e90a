/**
 * What sleeping costs and saves: l3fwd-power on one end of a vhost-user socket returns single packets, sent after pauses in which it has
 * fallen asleep; once as it is, and once so that it never sleeps. The time from sending to receiving, and CPU time, of either.
 *
 *     this process, on CPU 0: a packet, then polls for it --- socket --- l3fwd-power, its lcore on CPU 1
 *
 *     npm run bench:wake-up -- [--packets N] [--pause MS] [--idle SECONDS]
 * @module
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Command } from 'commander';
import { openPort, type PacketPort } from '../src/index.ts';
import { availableCpus, pinThread } from '../src/system/cpu.ts';
import { L3fwdPower } from '../test/support/l3fwd-power.ts';
import { cpuMilliseconds } from '../test/support/processes.ts';
import { wholeNumber } from './options.ts';
import { quantile } from './statistics.ts';

/** Polls without a packet before it sleeps: never. */
const NEVER = 1_000_000_000;
/** Longest time for a packet to come back. */
const LIMIT_MS = 1000;

interface Wish {
  readonly packets: number;
  readonly pauseMs: number;
  readonly idleSeconds: number;
}

interface Result {
  readonly what: string;
  /** Of one CPU: while nothing comes, and with the packets and pauses. */
  readonly idleShare: number;
  readonly pacedShare: number;
  /** Microseconds from sending to receiving. */
  readonly median: number;
  readonly p99: number;
  readonly lost: number;
}

/** UDP to an address without a route: it comes back. */
function packet(): Uint8Array {
  const bytes = Buffer.from(
    '02000000000102000000000208004500002e00004000401100000a000001c0000201' + '00090009001a0000'.padEnd(52, '0'),
    'hex',
  );
  let sum = 0;
  for (let at = 14; at < 34; at += 2) sum += bytes.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  bytes.writeUInt16BE(~sum & 0xffff, 24);
  return bytes;
}

/** One packet there and back, in microseconds; undefined when it did not come back. */
function roundTrip(port: PacketPort, bytes: Uint8Array): number | undefined {
  using burst = port.arena.burst(1);
  port.arena.allocate(burst, 1);
  port.arena.write(burst.handles[0] ?? 0, bytes);
  const begin = performance.now();
  if (port.txBurst(0, burst, 1) !== 1) throw new Error('the ring is full');
  for (;;) {
    const count = port.rxBurst(0, burst, 1);
    const now = performance.now();
    if (count === 1) {
      port.arena.free(burst, 1);
      return (now - begin) * 1000;
    }
    if (now - begin > LIMIT_MS) return undefined;
  }
}

async function measure(role: 'driver' | 'device', emptyPolls: number | undefined, wish: Wish): Promise<Result> {
  const directory = mkdtempSync(join(tmpdir(), 'dpdk-ts-'));
  try {
    const socket = join(directory, 'socket');
    const vdev = role === 'device' ? `net_vhost0,iface=${socket}` : `virtio_user0,path=${socket}`;
    const start = (): L3fwdPower =>
      new L3fwdPower([
        '-l',
        '0-1',
        `--vdev=${vdev}`,
        '--',
        '-p',
        '1',
        ...(emptyPolls === undefined ? [] : [`--empty-polls=${String(emptyPolls)}`]),
      ]);
    const open = (): Promise<PacketPort> =>
      role === 'device' ? openPort('virtio_user', { path: socket }) : openPort('net_vhost', { iface: socket });
    // whoever listens is first
    const early = role === 'device' ? start() : undefined;
    await early?.printed(/Checking link status/);
    await using port = await open();
    await port.start();
    await using router = early ?? start();
    await router.printed(/entering main interrupt loop/);
    await port.waitForLink(true, { timeout: 10_000 });
    const share = async (work: () => Promise<void>): Promise<number> => {
      const [cpu, begin] = [cpuMilliseconds(router.pid), performance.now()];
      await work();
      return (cpuMilliseconds(router.pid) - cpu) / (performance.now() - begin);
    };
    const bytes = packet();
    // compiled, and in its stride
    for (let turn = 0; turn < 200; turn++) roundTrip(port, bytes);
    await sleep(500);
    const idleShare = await share(() => sleep(wish.idleSeconds * 1000));
    const times: number[] = [];
    let lost = 0;
    const pacedShare = await share(async () => {
      for (let turn = 0; turn < wish.packets; turn++) {
        await sleep(wish.pauseMs);
        const time = roundTrip(port, bytes);
        if (time === undefined) lost++;
        else times.push(time);
      }
    });
    await router.stop();
    const what = `${role === 'device' ? 'net_vhost' : 'virtio_user'}, ${emptyPolls === undefined ? 'asleep' : 'polling'}`;
    return { what, idleShare, pacedShare, median: quantile(times, 0.5), p99: quantile(times, 0.99), lost };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

const options = new Command('npm run bench:wake-up --')
  .option('--packets <n>', 'packets that are sent', wholeNumber, 300)
  .option('--pause <ms>', 'from one to the next', wholeNumber, 20)
  .option('--idle <s>', 'without a packet, before them', wholeNumber, 5)
  .allowExcessArguments(false)
  .parse()
  .opts<{ readonly packets: number; readonly pause: number; readonly idle: number }>();
const wish = { packets: options.packets, pauseMs: options.pause, idleSeconds: options.idle };
if (availableCpus().length < 2) throw new Error('two CPUs are needed: one for each end');
pinThread(availableCpus().slice(0, 1));
const percent = (part: number): string => `${(100 * part).toFixed(1)} %`;
console.log(`${String(wish.packets)} packets, one every ${String(wish.pauseMs)} ms; Node ${process.version}`);
console.log('l3fwd-power on          | CPU idle | CPU paced | median us | 99 % us | lost');
for (const role of ['device', 'driver'] as const) {
  for (const emptyPolls of [undefined, NEVER]) {
    const { what, idleShare, pacedShare, median, p99, lost } = await measure(role, emptyPolls, wish);
    const cells = [
      what.padEnd(23),
      percent(idleShare).padStart(8),
      percent(pacedShare).padStart(9),
      median.toFixed(1).padStart(9),
      p99.toFixed(1).padStart(7),
      String(lost),
    ];
    console.log(cells.join(' | '));
  }
}
