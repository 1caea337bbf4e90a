/**
 * Capture files between the programs: what DPDK's net_pcap writes ours reads, and the other way round; and readers that have nothing to do
 * with either, libpcap's own tcpdump.
 * @module
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { readCapture } from '../../src/net/pcap.ts';
import { pcapFile, pcapngFile } from '../support/captures.ts';
import { until } from '../support/deadline.ts';
import { readPcap, writePcap } from '../support/pcap-file.ts';
import { findExecutable, lcoresArgument, type Program } from '../support/program.ts';
import { frame } from '../support/ring-pair.ts';
import { Testpmd } from '../support/testpmd.ts';
import { WHY_NO_PEERS } from './matrix.ts';

const WHY = WHY_NO_PEERS ?? (findExecutable('tcpdump') === undefined ? 'no tcpdump: apt-get install tcpdump' : undefined);

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'dpdk-ts-pcap-'));
  return () => {
    rmSync(directory, { recursive: true, force: true });
  };
});
const path = (name: string): string => join(directory, name);
const SIZES = [60, 61, 64, 65, 127, 128, 1000, 1514, 2048, 2049, 9000];
/** Of an experimental type: what others print of a packet is its length and its bytes. */
const packetsOf = (count: number, first = 0): Buffer[] =>
  Array.from({ length: count }, (_, index) => {
    const packet = frame(SIZES[(first + index) % SIZES.length] ?? 60, first + index);
    packet.writeUInt16BE(0x88b5, 12);
    return packet;
  });
const PACKETS = 200;

function start(program: Program, vdevs: readonly string[], app: readonly string[] = [], side: 0 | 1 = 0): Promise<Testpmd> {
  const eal = [...lcoresArgument(side), '--no-huge', '-m', '192', ...vdevs.flatMap((vdev) => ['--vdev', vdev])];
  return Testpmd.start({ program, eal, app: ['--total-num-mbufs=8192', '--no-flush-rx', ...app] });
}

/** Reads files and writes what is in them, a queue each. */
async function pass(program: Program, from: readonly string[], to: readonly string[], total: number): Promise<void> {
  const keys = [...from.map((file) => `rx_pcap=${file}`), ...to.map((file) => `tx_pcap=${file}`)].join(',');
  await using testpmd = await start(program, [`net_pcap0,${keys}`], [`--rxq=${from.length}`, `--txq=${from.length}`]);
  await testpmd.command('start');
  await testpmd.waitForStatistics('all packets', ({ txPackets }) => txPackets >= total);
  await testpmd.command('stop');
  const { rxPackets, txPackets, rxErrors, txErrors } = await testpmd.statistics();
  expect({ rxPackets, txPackets, rxErrors, txErrors }).toEqual({ rxPackets: total, txPackets: total, rxErrors: 0, txErrors: 0 });
  await testpmd.quit();
}

/** What tcpdump finds in a file: its lines, times with nanoseconds, and what it says of the file. */
function tcpdump(file: string): { readonly lines: readonly string[]; readonly kind: string } {
  const { status, stdout, stderr } = spawnSync('tcpdump', ['-r', file, '-nn', '-e', '-tt', '--nano'], {
    encoding: 'utf8',
    maxBuffer: 64 << 20,
  });
  if (status !== 0) throw new Error(`tcpdump: ${stderr}`);
  // bytes of what it does not know follow in lines of their own
  return { lines: stdout.split('\n').filter((line) => /^\d/.test(line)), kind: stderr };
}

const lengths = (lines: readonly string[]): number[] => lines.map((line) => Number(/length (\d+)/.exec(line)?.[1]));

describe.skipIf(WHY !== undefined)('capture files', () => {
  test.each([1, 2])('go from DPDK to us and back unchanged, %i queues', async (queues) => {
    const names = (stage: string, ending = 'pcap'): string[] =>
      Array.from({ length: queues }, (_, queue) => path(`${stage}${queue}.${ending}`));
    const packets = Array.from({ length: queues }, (_, queue) => packetsOf(PACKETS, 37 * queue));
    for (const [queue, file] of names('in').entries()) writePcap(file, packets[queue] ?? []);
    const total = PACKETS * queues;
    await pass('dpdk', names('in'), names('dpdk'), total);
    await pass('dpdk-ts', names('dpdk'), names('ours'), total);
    await pass('dpdk-ts', names('ours'), names('ours', 'pcapng'), total);
    await pass('dpdk', names('ours', 'pcapng'), names('back'), total);
    for (const stage of ['dpdk', 'ours', 'back'])
      for (const [queue, file] of names(stage).entries()) expect(readPcap(file)).toEqual(packets[queue]);
    for (const file of [...names('ours'), ...names('ours', 'pcapng')]) expect(tcpdump(file).lines.length).toBe(PACKETS);
  });

  test('of every kind are read by libpcap as by us', () => {
    const packets = packetsOf(20);
    for (const [name, bytes] of [
      ['us', pcapFile(packets)],
      ['ns', pcapFile(packets, { nanoseconds: true })],
      ['swapped', pcapFile(packets, { bigEndian: true, nanoseconds: true })],
      ['ng', pcapngFile(packets)],
    ] as const) {
      writeFileSync(path(name), bytes);
      const ours = readCapture(name, bytes).packets;
      const { lines } = tcpdump(path(name));
      expect(lengths(lines)).toEqual(ours.map(({ length }) => length));
      if (name === 'ng') continue;
      const times = lines.map((line) => line.split(' ')[0]);
      expect(times).toEqual(ours.map(({ seconds, nanoseconds }) => `${seconds}.${String(nanoseconds).padStart(9, '0')}`));
    }
  });

  test.each(['dpdk-ts', 'dpdk'] as const)('go round in %s with infinite_rx', async (program) => {
    const file = path('in.pcap');
    writePcap(
      file,
      packetsOf(20).map((packet) => packet.subarray(0, 1000)),
    );
    await using testpmd = await start(program, [`net_pcap0,rx_pcap=${file},infinite_rx=1`, 'net_null0']);
    await testpmd.command('start');
    await testpmd.waitForStatistics('more than the file has', ({ rxPackets }) => rxPackets > 5000);
    await testpmd.command('stop');
    await testpmd.quit();
  });

  test('begin anew when the port does, and lose what came before the flush at the start, in both programs', async () => {
    const file = path('in.pcap');
    writePcap(file, packetsOf(50));
    for (const program of ['dpdk', 'dpdk-ts'] as const) {
      const out = path(`${program}.pcap`);
      await using testpmd = await start(program, [`net_pcap0,rx_pcap=${file},tx_pcap=${out}`], ['--cmdline-file=/dev/null']);
      await testpmd.command('start');
      await testpmd.waitForStatistics('the file', ({ txPackets }) => txPackets === 50);
      await testpmd.command('stop');
      await testpmd.commands('port stop 0', 'port start 0', 'start');
      await testpmd.waitForStatistics('the file again', ({ txPackets }) => txPackets === 100);
      await testpmd.command('stop');
      await testpmd.commands('port stop 0', 'port start 0', 'set flush_rx on', 'start', 'stop');
      expect((await testpmd.statistics()).txPackets).toBe(100);
      await testpmd.quit();
      expect(readPcap(out)).toEqual([]);
    }
  });
});

describe.skipIf(WHY !== undefined)('a capture of a running port', () => {
  test('has what an lcore received from DPDK and what it sent, and is read by others', async () => {
    const socket = path('vhost.sock');
    const [rx, both] = [path('rx.pcap'), path('both.pcapng')];
    await using ours = await Testpmd.start({
      program: 'dpdk-ts',
      eal: [...lcoresArgument(0), '--no-huge', '-m', '192', '--vdev', `net_vhost0,iface=${socket}`],
      app: ['--total-num-mbufs=8192', `--capture=port=0,file=${both},buffer=64`, '--forward-mode=macswap'],
    });
    const input = path('in.pcap');
    const packets = packetsOf(2000).map((packet) => packet.subarray(0, 1514));
    writePcap(input, packets);
    await using theirs = await start(
      'dpdk',
      [`virtio_user0,path=${socket},queue_size=1024`, `net_pcap0,rx_pcap=${input},tx_pcap=${path('out.pcap')}`],
      [],
      1,
    );
    await ours.waitForLink();
    expect(await ours.command(`capture start port 0 file ${rx} rx,snaplen=100`)).toContain(`Port 0: capturing to ${rx}`);
    // nothing is to be lost on the way
    await ours.commands('set fwd macswap retry', 'set burst tx delay 10 retry 100000', 'start');
    await theirs.commands('set fwd io retry', 'set burst tx delay 10 retry 100000', 'start');
    await until(
      10_000,
      () => `all packets\n${ours.transcript()}\n${theirs.transcript()}`,
      async () => (await ours.statistics()).rxPackets >= 2000 && (await theirs.statistics(0)).rxPackets >= 2000,
    );
    await theirs.command('stop');
    await ours.command('stop');
    // counted are those in the file, which the main thread writes a little later
    let shown = '';
    await until(
      5000,
      () => `4000 packets in the file\n${shown}`,
      async () => {
        shown = await ours.command('show capture');
        return /Captured: 4000 .*\n *Dropped: 0 /.test(shown);
      },
    );
    expect(await ours.command('capture stop port 0')).toContain(`Port 0: 2000 packets captured to ${rx}`);
    const { rxPackets, txPackets } = await ours.statistics();
    expect([rxPackets, txPackets]).toEqual([2000, 2000]);
    const swapped = packets.map((packet) => Buffer.concat([packet.subarray(6, 12), packet.subarray(0, 6), packet.subarray(12)]));
    const all = readCapture(both, readFileSync(both)).packets.map(({ bytes }) => Buffer.from(bytes));
    // received before sent, each direction in order
    const found = new Map<string, Buffer[]>([
      ['received', []],
      ['sent', []],
    ]);
    for (const packet of all) {
      const list = found.get('received') ?? [];
      const isReceived = list.length < 2000 && packet.equals(packets[list.length] ?? Buffer.alloc(0));
      (found.get(isReceived ? 'received' : 'sent') ?? []).push(packet);
    }
    expect(found.get('received')).toEqual(packets);
    expect(found.get('sent')).toEqual(swapped);
    const { lines, kind } = tcpdump(both);
    expect(lines.length).toBe(4000);
    expect(kind).toContain('link-type EN10MB');
    expect(lengths(tcpdump(rx).lines)).toEqual(packets.map(({ length }) => length));
    await theirs.quit();
    await ours.quit();
  });

  test('for a port that is not there ends the program with a reason', async () => {
    const testpmd = Testpmd.spawn({
      program: 'dpdk-ts',
      eal: [...lcoresArgument(0), '--no-huge', '-m', '64', '--vdev', 'net_null0'],
      app: ['--total-num-mbufs=2048', `--capture=port=3,file=${path('a.pcap')}`],
    });
    await using _ = testpmd;
    const exit = await testpmd.waitForExit();
    expect(exit).toMatchObject({ code: 1 });
    expect(testpmd.transcript()).toContain('capture: port 3 is not there; ports: 0');
  });
});
