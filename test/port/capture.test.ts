/**
 * Captures of running ports: what is in the file is what went through the port.
 */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { capturesText } from '../../src/cli/display/captures.ts';
import { readCapture } from '../../src/net/pcap.ts';
import { parseCaptureOptions, parseCaptureWish } from '../../src/port/capture-options.ts';
import { startCapture, type CaptureOptions } from '../../src/port/capture.ts';
import type { Port } from '../../src/port/port.ts';
import { until } from '../support/deadline.ts';
import { PortBench } from '../support/port-pair.ts';
import { frame, TARGETS } from '../support/ring-pair.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'dpdk-ts-capture-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));
const path = (name: string): string => join(directory, name);

interface Block {
  readonly bytes: Buffer;
  readonly length: number;
  readonly direction: number;
  readonly queue: number;
}

/** Enhanced packet blocks with their options, read apart from what the reader of the library does. */
function blocks(file: string): readonly Block[] {
  const content = readFileSync(file);
  const found: Block[] = [];
  for (let at = 0; at < content.length; at += content.readUInt32LE(at + 4)) {
    if (content.readUInt32LE(at) !== 6) continue;
    const kept = content.readUInt32LE(at + 20);
    const options = at + 28 + ((kept + 3) & ~3);
    expect([content.readUInt16LE(options), content.readUInt16LE(options + 2)]).toEqual([2, 4]);
    expect([content.readUInt16LE(options + 8), content.readUInt16LE(options + 10)]).toEqual([6, 4]);
    expect(content.readUInt32LE(options + 16)).toBe(0);
    found.push({
      bytes: content.subarray(at + 28, at + 28 + kept),
      length: content.readUInt32LE(at + 24),
      direction: content.readUInt32LE(options + 4) & 3,
      queue: content.readUInt32LE(options + 12),
    });
  }
  return found;
}

describe.each(TARGETS)('capture on %s', (target) => {
  let bench: PortBench;
  beforeEach(() => {
    bench = new PortBench(target);
  });
  afterEach(() => bench[Symbol.asyncDispose]());

  const send = (port: Port, packets: readonly Uint8Array[], queue = 0, segments?: readonly number[]): number => {
    const handles = packets.map((bytes) => bench.bench.packet(bench.pool, bytes, { segments }) ?? 0);
    return bench.bench.send((_, mbufs, count) => port.txBurst(queue, mbufs, count), 0, handles);
  };
  const receive = (port: Port, most = 32, queue = 0): Buffer[] =>
    bench.bench.take((_, mbufs, count) => port.rxBurst(queue, mbufs, count), 0, most);
  const start = (port: Port, options: CaptureOptions) => startCapture(bench.context, port, options);
  const frames = (count: number, length = 60, first = 0): Buffer[] =>
    Array.from({ length: count }, (_, index) => frame(length, first + index));

  it('writes what is received and sent, in order, with direction and queue', async () => {
    const port = await bench.open('net_ring0', 2);
    send(port, frames(3, 60, 100));
    receive(port);
    const before = Date.now();
    const capture = start(port, { file: path('a.pcapng') });
    const chain = frame(4000, 7);
    expect(send(port, frames(5))).toBe(5);
    expect(send(port, [chain], 1, [1, 1500, 1000])).toBe(1);
    expect(receive(port)).toEqual(frames(5));
    expect(receive(port, 32, 1)).toEqual([chain]);
    await capture.stop();
    await capture.stop();
    send(port, frames(2));
    receive(port);
    const found = blocks(path('a.pcapng'));
    expect(found.map(({ direction, queue }) => `${String(direction)} ${String(queue)}`)).toEqual([
      ...Array.from({ length: 5 }, () => '2 0'),
      '2 1',
      ...Array.from({ length: 5 }, () => '1 0'),
      '1 1',
    ]);
    expect(found.map(({ bytes }) => bytes)).toEqual([...frames(5), chain, ...frames(5), chain]);
    const { packets, problem } = readCapture('a.pcapng', readFileSync(path('a.pcapng')));
    expect(problem).toBeUndefined();
    for (const { seconds, nanoseconds } of packets) {
      const time = seconds * 1000 + nanoseconds / 1e6;
      expect(time).toBeGreaterThan(before - 50);
      expect(time).toBeLessThan(Date.now() + 50);
    }
    expect(capture.statistics()).toMatchObject({
      packets: 12,
      dropped: 0,
      failed: 0,
      waiting: 0,
      bytes: readFileSync(path('a.pcapng')).length,
    });
    expect(bench.log).toEqual([]);
  });

  it('writes only what was asked for', async () => {
    const port = await bench.open('net_ring0', 2);
    const captures = [
      start(port, { file: path('rx.pcap'), direction: 'rx' }),
      start(port, { file: path('tx.pcap'), direction: 'tx', snaplen: 30 }),
      start(port, { file: path('q1.pcapng'), queue: 1 }),
      start(port, { file: path('count.pcap'), count: 7 }),
      start(port, { file: path('size.pcap'), size: 24 + 3 * 76 + 10 }),
    ];
    for (let round = 0; round < 4; round++) {
      send(port, frames(2), 0);
      send(port, frames(2, 60, 10), 1);
      receive(port, 32, 0);
      receive(port, 32, 1);
    }
    for (const capture of captures) await capture.stop();
    const packetsIn = (name: string): Buffer[] =>
      readCapture(name, readFileSync(path(name))).packets.map(({ bytes }) => Buffer.from(bytes));
    const round = [...frames(2), ...frames(2, 60, 10)];
    expect(packetsIn('rx.pcap')).toEqual([...round, ...round, ...round, ...round]);
    expect(packetsIn('tx.pcap')).toEqual([...round, ...round, ...round, ...round].map((bytes) => bytes.subarray(0, 30)));
    expect(blocks(path('q1.pcapng')).every(({ queue }) => queue === 1)).toBe(true);
    expect(blocks(path('q1.pcapng')).length).toBe(16);
    expect(packetsIn('count.pcap')).toEqual([...round, ...frames(2), frame(60, 10)].slice(0, 7));
    expect(packetsIn('size.pcap')).toEqual([...frames(2), frame(60, 10)]);
  });

  it('ends by itself at its limit', async () => {
    const port = await bench.open('net_null0');
    const capture = start(port, { file: path('a.pcap'), count: 100 });
    for (let turn = 0; turn < 10; turn++) receive(port);
    await capture.finished;
    expect(readCapture('a.pcap', readFileSync(path('a.pcap'))).packets.length).toBe(100);
    expect(capture.active).toBe(false);
    expect(bench.log).toEqual([`net_null0: capture ${path('a.pcap')}: ended with 100 packets`]);
  });

  it('follows the port through stop, start and a new set-up, and ends with it', async () => {
    const port = await bench.open('net_ring0');
    const capture = start(port, { file: path('a.pcap') });
    send(port, frames(1));
    receive(port);
    await port.stop();
    await bench.setUp(port, 2);
    await port.start();
    send(port, frames(1, 70), 1);
    receive(port, 32, 1);
    await port.close();
    expect(capture.active).toBe(false);
    expect(readCapture('a.pcap', readFileSync(path('a.pcap'))).packets.map(({ length }) => length)).toEqual([60, 60, 70, 70]);
    expect(() => start(port, { file: path('b.pcap') })).toThrow(/net_ring0: capture: the port is closed/);
    expect(existsSync(path('b.pcap'))).toBe(false);
  });

  it('loses packets of its own when it cannot keep up, counts them, and none of the port', async () => {
    const port = await bench.open('net_null0,size=1500');
    const capture = start(port, { file: path('a.pcapng'), buffer: 1 });
    const rounds = 200;
    // the main thread does not look at the ring meanwhile
    for (let round = 0; round < rounds; round++) expect(receive(port).length).toBe(32);
    expect(capture.statistics().dropped).toBeGreaterThan(32 * 100);
    await capture.stop();
    const { packets, dropped, failed } = capture.statistics();
    expect([packets + dropped, failed]).toEqual([32 * rounds, 0]);
    const file = readCapture('a', readFileSync(path('a.pcapng')));
    expect([file.packets.length, file.problem]).toEqual([packets, undefined]);
    expect(port.statistics().rxPackets).toBe(32 * rounds);
    expect(bench.log).toEqual([
      expect.stringMatching(/packets come faster than they can be written; some are left out, and counted/),
      expect.stringMatching(/ended with \d+ packets; \d+ more could not be written/),
    ]);
  });

  it('goes round its ring many times', async () => {
    const port = await bench.open('net_null0,size=1000');
    const capture = start(port, { file: path('a.pcapng'), buffer: 1 });
    let received = 0;
    for (let round = 0; round < 100; round++) {
      for (let burst = 0; burst < 8; burst++) received += receive(port, 1 + ((round + burst) % 32)).length;
      await until(5000, 'the ring to be emptied', () => capture.statistics().packets === received, 1);
    }
    await capture.stop();
    expect(capture.statistics()).toMatchObject({ packets: received, dropped: 0 });
    const file = readCapture('a', readFileSync(path('a.pcapng')));
    expect([file.packets.length, file.problem]).toEqual([received, undefined]);
  });

  it('counts what a full disk does not take, says so once, and leaves a file that can be read', async () => {
    const port = await bench.open('net_null0,size=1000');
    expect(() => start(port, { file: '/dev/full' })).toThrow(/net_null0: capture: \/dev\/full: No space left on device/);
    mkdirSync(path('small'));
    // needs root
    if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'none', path('small')]).status !== 0) return;
    try {
      const capture = start(port, { file: path('small/a.pcapng') });
      for (let round = 0; round < 60; round++) receive(port);
      await capture.stop();
      const { packets, failed, dropped } = capture.statistics();
      expect([packets + failed, dropped]).toEqual([60 * 32, 0]);
      expect(failed).toBeGreaterThan(500);
      const file = readCapture('a', readFileSync(path('small/a.pcapng')));
      expect([file.packets.length, file.problem]).toEqual([packets, undefined]);
      expect(bench.log[0]).toMatch(/cannot write: No space left on device; packets that do not reach the file are counted/);
      expect(bench.log.length).toBe(2);
    } finally {
      spawnSync('umount', [path('small')]);
    }
  });

  it('writes into a pipe, and does not wait for its reader', async () => {
    execFileSync('mkfifo', [path('pipe.pcapng')]);
    const port = await bench.open('net_null0,size=1000');
    expect(() => start(port, { file: path('pipe.pcapng') })).toThrow(/No such device or address/);
    const cat = spawn('sh', ['-c', `exec cat ${path('pipe.pcapng')} > ${path('out.pcapng')}`]);
    try {
      let capture: ReturnType<typeof start> | undefined;
      await until(
        3000,
        'a reader',
        () => {
          try {
            capture = start(port, { file: path('pipe.pcapng') });
            return true;
          } catch {
            return false;
          }
        },
        5,
      );
      if (capture === undefined) throw new Error('no capture');
      for (let round = 0; round < 50; round++) receive(port);
      await capture.stop();
      await until(3000, 'all packets', () => readCapture('out', readFileSync(path('out.pcapng'))).packets.length === 1600, 10);
      expect(capture.statistics()).toMatchObject({ packets: 1600, dropped: 0, failed: 0 });
    } finally {
      cat.kill();
    }
  });

  it.each<[CaptureOptions, RegExp]>([
    [{ file: '' }, /net_null0: capture: file: expected/],
    [{ file: '/nowhere/a.pcap' }, /net_null0: capture: \/nowhere\/a.pcap: No such file or directory/],
    [{ file: '/tmp' }, /Is a directory/],
    [{ file: '/tmp/a.pcap', queue: 5000 }, /queue 5000: the port has 1024 at most/],
    [{ file: '/tmp/a.pcap', snaplen: 0 }, /snaplen 0: expected a whole number from 1 to 262144/],
    [{ file: '/tmp/a.pcap', count: 0.5 }, /count 0.5/],
    [{ file: '/tmp/a.pcap', buffer: 3 }, /buffer 3: expected a power of two/],
    [{ file: '/tmp/a.pcap', buffer: 1024 }, /1024 MiB .* do not fit what is left of the address window/],
  ])('refuses %j, and opens nothing', async (options, message) => {
    const port = await bench.open('net_null0');
    const before = readdirSync('/proc/self/fd').length;
    expect(() => start(port, options)).toThrow(message);
    expect(readdirSync('/proc/self/fd').length).toBe(before);
  });
});

describe('a capture on a command line', () => {
  it('has a port, a file, and keys', () => {
    expect(parseCaptureWish('port=0,file=x.pcapng')).toEqual({ port: 0, options: { file: 'x.pcapng' } });
    expect(parseCaptureWish('file=/tmp/a.pcap,port=3,rx,queue=1,snaplen=96,count=10,size=0x1000,buffer=32')).toEqual({
      port: 3,
      options: { file: '/tmp/a.pcap', direction: 'rx', queue: 1, snaplen: 96, count: 10, size: 4096, buffer: 32 },
    });
    expect(parseCaptureOptions('a', 'direction=tx')).toMatchObject({ file: 'a', direction: 'tx' });
  });

  it.each([
    ['', /capture: file is mandatory/],
    ['file=a', /capture: port is mandatory/],
    ['port=0,file=', /file=: expected a text/],
    ['port=a,file=a', /port=a: expected a number/],
    ['port=0,file=a,rx,tx', /capture: rx and tx: give one of rx, tx, both/],
    ['port=0,file=a,snapln=9', /unknown key snapln; did you mean snaplen/],
    ['port=0,file=a,count=0', /count=0: expected a number from 1/],
  ])('refuses "%s"', (text, message) => {
    expect(() => parseCaptureWish(text)).toThrow(message);
  });
});

it('captures are shown as ports are', () => {
  expect(capturesText([])).toBe('No port is being captured\n');
  const statistics = () => ({ packets: 1234, bytes: 98765, dropped: 5, failed: 0, waiting: 0 });
  expect(capturesText([{ port: 3, capture: { file: 'x.pcapng', direction: 'rx', active: false, statistics } }]).split('\n')).toEqual([
    '',
    '  ######################## Capture of port 3 ########################',
    '  File: x.pcapng (ended; packets received)',
    '  Captured: 1234         Bytes: 98765',
    '  Dropped: 5             Not written: 0',
    '  ###################################################################',
    '',
  ]);
});
