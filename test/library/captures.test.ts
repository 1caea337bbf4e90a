/**
 * Captures and capture files through the library.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import { launch, openPort } from '../../src/index.ts';
import { readCapture } from '../../src/net/pcap.ts';
import { pcapFile } from '../support/captures.ts';
import { frame } from '../support/ring-pair.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'dpdk-ts-captures-'));
  return () => {
    rmSync(directory, { recursive: true, force: true });
  };
});
const path = (name: string): string => join(directory, name);
const small = { mbufs: 2048, pageSize: 4096 } as const;
const packetsIn = (name: string): Buffer[] => readCapture(name, readFileSync(path(name))).packets.map(({ bytes }) => Buffer.from(bytes));

test('a capture has what a program sends and receives, and ends with the port', async () => {
  await using port = await openPort('net_ring', { environment: small });
  await port.start();
  const capture = port.capture({ file: path('a.pcapng') });
  await port.send([frame(60, 1), frame(3000, 2)]);
  for await (const packet of port.packets()) if (packet.length === 3000) break;
  await port.close();
  await capture.finished;
  expect(packetsIn('a.pcapng')).toEqual([frame(60, 1), frame(3000, 2), frame(60, 1), frame(3000, 2)]);
  expect(capture.statistics()).toMatchObject({ packets: 4, dropped: 0, failed: 0 });
});

test('a capture has what lcores move', async () => {
  await using port = await openPort('net_null', { environment: small, size: 100 });
  await port.start();
  await using capture = port.capture({ file: path('a.pcap'), direction: 'rx', count: 500 });
  await using cores = await launch('io', { lcores: [{ id: 1, cpus: [0] }], ports: [port] });
  await capture.finished;
  expect(cores.counters()[0]?.rxPackets).toBeGreaterThanOrEqual(500);
  await cores.stop();
  expect(packetsIn('a.pcap').map(({ length }) => length)).toEqual(Array.from({ length: 500 }, () => 100));
});

test('keys that may be several take a list', async () => {
  for (const name of ['a,1.pcap', 'b.pcap']) writeFileSync(path(name), pcapFile([frame(60, name.length)]));
  await using port = await openPort('net_pcap', {
    environment: small,
    rx_pcap: [path('a,1.pcap'), path('b.pcap')],
    tx_pcap: [path('c.pcap'), path('d.pcap')],
    queues: 2,
  });
  await port.start();
  using burst = port.arena.burst(32);
  for (const queue of [0, 1]) {
    const count = port.rxBurst(queue, burst, 32);
    expect([count, port.txBurst(queue, burst, count)]).toEqual([1, 1]);
  }
  await port.stop();
  expect([packetsIn('c.pcap'), packetsIn('d.pcap')]).toEqual([[frame(60, 8)], [frame(60, 6)]]);
});
