/**
 * Offloads of ports: what is negotiated travels, what is not is finished in software, and nothing is lost on the way.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  MBUF_CHECKSUM_OFFSET,
  MBUF_CHECKSUM_START,
  MBUF_FLAGS,
  MBUF_HEADER_LENGTH,
  MBUF_REFERENCES,
  MBUF_SEGMENT_SIZE,
  MBUF_VLAN,
  MBUF_VLAN_STRIPPED,
  MBUF_WORK,
  MBUF_WORK_CHECKSUM,
  MBUF_WORK_TCP4,
  MBUF_WORK_TCP6,
  MBUF_WORK_UDP,
  MBUF_WORK_VLAN,
} from '../../src/memory/mbuf-layout.ts';
import {
  RX_OFFLOAD_TCP_CKSUM,
  RX_OFFLOAD_TCP_LRO,
  RX_OFFLOAD_VLAN_STRIP,
  TX_OFFLOAD_TCP_CKSUM,
  TX_OFFLOAD_TCP_TSO,
  TX_OFFLOAD_UDP_CKSUM,
  TX_OFFLOAD_UDP_TSO,
  TX_OFFLOAD_VLAN_INSERT,
} from '../../src/port/offloads.ts';
import type { Port } from '../../src/port/port.ts';
import { buildFrame, type Frame } from '../support/frames.ts';
import { frame } from '../support/ring-pair.ts';
import { PortBench, type Offloads } from '../support/port-pair.ts';

const TX_CKSUM = TX_OFFLOAD_TCP_CKSUM | TX_OFFLOAD_UDP_CKSUM;
const MSS = 1448;
const PAYLOAD = 20_000;

const payload = Buffer.from(Array.from({ length: PAYLOAD }, (_, at) => (at * 7 + (at >>> 8)) & 0xff));

function large(version: 4 | 6, protocol: 'tcp' | 'udp' = 'tcp'): Frame {
  return buildFrame({ version, protocol, payload, flags: 0x18, checksum: 'partial' });
}

/** What a receiver without offloads is to see of it. */
function parts(version: 4 | 6, protocol: 'tcp' | 'udp', checksum: 'full' | 'partial'): string[] {
  const count = Math.ceil(PAYLOAD / MSS);
  return Array.from({ length: count }, (_, index) =>
    buildFrame({
      version,
      protocol,
      payload: payload.subarray(index * MSS, (index + 1) * MSS),
      sequence: 1 + index * MSS,
      identification: 0x1234 + index,
      flags: index === count - 1 ? 0x18 : 0x10,
      checksum,
    }).bytes.toString('hex'),
  );
}

let folder: string;
let path: string;
let ports: PortBench;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'offloads-'));
  path = join(folder, 'sock');
  ports = new PortBench();
});
afterEach(async () => {
  await ports[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

/** A packet of a large frame, marked as one that is to be cut. */
function largePacket({ bytes, transport, field, payload: start }: Frame, work: number): number {
  const { bench, pool } = ports;
  const segments = Array.from({ length: Math.ceil(bytes.length / 2000) - 1 }, () => 2000);
  const packet = bench.packet(pool, bytes, { segments }) ?? 0;
  bench.st32(packet + MBUF_FLAGS, work | MBUF_WORK_CHECKSUM);
  bench.st16(packet + MBUF_CHECKSUM_START, transport);
  bench.st16(packet + MBUF_CHECKSUM_OFFSET, field);
  bench.st16(packet + MBUF_SEGMENT_SIZE, MSS);
  bench.st16(packet + MBUF_HEADER_LENGTH, start);
  return packet;
}

async function pair(driver: Offloads, device: Offloads = {}, devargs = ',tso=1', virtio = ''): Promise<{ virtio: Port; vhost: Port }> {
  const vhost = await ports.open(`net_vhost0,iface=${path}${devargs}`, 1, true, device);
  const made = await ports.open(`virtio_user0,path=${path}${virtio}`, 1, true, driver);
  await ports.linksUp(vhost, made);
  return { virtio: made, vhost };
}

/** Sends packets and receives on the other port until nothing more comes; handles of what came. */
function carry(from: Port, to: Port, packets: readonly number[]): number[] {
  const { bench } = ports;
  const received: number[] = [];
  let left = [...packets];
  for (let idle = 0; idle < 20; idle++) {
    const taken = from.txBurst(0, bench.list(left), left.length);
    left = left.slice(taken);
    const count = to.rxBurst(0, bench.handles, 32);
    received.push(...bench.listed(count));
    if (count !== 0 || taken !== 0) idle = 0;
  }
  expect(left).toEqual([]);
  return received;
}

/** Frees packets; returns their bytes. */
function bytesOf(packets: readonly number[]): string[] {
  const { bench } = ports;
  return packets.map((packet) => {
    const bytes = bench.bytesOf(packet).toString('hex');
    bench.kernels.packetFree(packet, 0);
    return bytes;
  });
}

const flagsOf = (packets: readonly number[]): number[] => packets.map((packet) => ports.bench.ld32(packet + MBUF_FLAGS));

const KINDS = [
  [4, 'tcp', MBUF_WORK_TCP4],
  [6, 'tcp', MBUF_WORK_TCP6],
  [4, 'udp', MBUF_WORK_UDP],
] as const;

describe('offloads between virtio_user and net_vhost', () => {
  it.each(KINDS)('a large IPv%i %s packet passes as it is where both ends agreed, forth and back', async (version, protocol, work) => {
    const { virtio, vhost } = await pair({
      rx: RX_OFFLOAD_TCP_LRO | RX_OFFLOAD_TCP_CKSUM,
      tx: TX_CKSUM | TX_OFFLOAD_TCP_TSO | TX_OFFLOAD_UDP_TSO,
    });
    const whole = large(version, protocol);
    const there = carry(virtio, vhost, [largePacket(whole, work)]);
    expect(flagsOf(there)).toEqual([work | MBUF_WORK_CHECKSUM]);
    expect(there.map((packet) => ports.bench.ld16(packet + MBUF_SEGMENT_SIZE))).toEqual([MSS]);
    const back = carry(vhost, virtio, there);
    expect(flagsOf(back)).toEqual([work | MBUF_WORK_CHECKSUM]);
    expect(bytesOf(back)).toEqual([whole.bytes.toString('hex')]);
  });

  it.each(KINDS)('a large IPv%i %s packet is cut and summed for a port without offloads, either way', async (version, protocol, work) => {
    const { virtio, vhost } = await pair({});
    for (const [from, to] of [
      [virtio, vhost],
      [vhost, virtio],
    ] as const) {
      const received = carry(from, to, [largePacket(large(version, protocol), work)]);
      expect(flagsOf(received).filter((flags) => (flags & MBUF_WORK) !== 0)).toEqual([]);
      expect(bytesOf(received)).toEqual(parts(version, protocol, 'full'));
      expect(from.statistics()).toMatchObject({ txPackets: parts(version, protocol, 'full').length, txErrors: 0 });
    }
  });

  it('checksums are left to a device that does them, also behind cut packets', async () => {
    const { virtio, vhost } = await pair({ tx: TX_CKSUM });
    const received = carry(virtio, vhost, [largePacket(large(4), MBUF_WORK_TCP4)]);
    expect(new Set(flagsOf(received))).toEqual(new Set([MBUF_WORK_CHECKSUM]));
    expect(bytesOf(received)).toEqual(parts(4, 'tcp', 'partial'));
  });

  it('net_vhost offers segmentation with tso=1 only, and a driver without mergeable buffers takes no large packets', async () => {
    const plain = await pair({ tx: TX_CKSUM }, {}, '', ',mrg_rxbuf=0');
    expect(plain.virtio.info.txOffloadCapabilities & TX_OFFLOAD_TCP_TSO).toBe(0);
    await plain.virtio.stop();
    await expect(ports.setUp(plain.virtio, 1, { tx: TX_CKSUM | TX_OFFLOAD_TCP_TSO })).rejects.toThrow(/transmit offloads 0x2c/);
    await ports.setUp(plain.virtio, 1, { rx: RX_OFFLOAD_TCP_LRO, tx: TX_CKSUM });
    await plain.virtio.start();
    await ports.linksUp(plain.virtio, plain.vhost);
    expect(bytesOf(carry(plain.vhost, plain.virtio, [largePacket(large(4), MBUF_WORK_TCP4)]))).toEqual(parts(4, 'tcp', 'full'));
  });

  it('packets of one burst keep their order around one that is finished, and what finds no room waits', async () => {
    const { virtio, vhost } = await pair({}, {}, '', ',queue_size=8');
    const { bench, pool } = ports;
    const small = [0, 1, 2, 3].map((seed) => bench.packet(pool, frame(100, seed)) ?? 0);
    const packets = [...small.slice(0, 2), largePacket(large(4), MBUF_WORK_TCP4), ...small.slice(2)];
    const expected = [frame(100, 0), frame(100, 1)].map((bytes) => bytes.toString('hex'));
    expected.push(...parts(4, 'tcp', 'full'), ...[frame(100, 2), frame(100, 3)].map((bytes) => bytes.toString('hex')));
    expect(bytesOf(carry(virtio, vhost, packets))).toEqual(expected);
    // what still waits when the port closes goes back to its pool, or this bench complains
    expect(virtio.txBurst(0, bench.list([largePacket(large(4), MBUF_WORK_TCP4)]), 1)).toBe(1);
  });

  it('a packet that others own too is copied before it is finished', async () => {
    const { virtio, vhost } = await pair({});
    const { bench } = ports;
    const whole = buildFrame({ version: 4, protocol: 'tcp', payload: payload.subarray(0, 3000), checksum: 'partial' });
    const packet = largePacket(whole, 0);
    for (let mbuf = packet; mbuf !== 0; mbuf = bench.ld32(mbuf + 16)) bench.st16(mbuf + MBUF_REFERENCES, 2);
    const finished = buildFrame({ version: 4, protocol: 'tcp', payload: payload.subarray(0, 3000) });
    expect(bytesOf(carry(virtio, vhost, [packet]))).toEqual([finished.bytes.toString('hex')]);
    expect(flagsOf([packet])).toEqual([MBUF_WORK_CHECKSUM]);
    expect(bytesOf([packet])).toEqual([whole.bytes.toString('hex')]);
  });

  it('work that makes no sense is an error, counted, and its packet is freed', async () => {
    const { virtio, vhost } = await pair({});
    const { bench, pool } = ports;
    const packet = bench.packet(pool, frame(100)) ?? 0;
    bench.st32(packet + MBUF_FLAGS, MBUF_WORK_CHECKSUM);
    bench.st16(packet + MBUF_CHECKSUM_START, 99);
    const nonsense = bench.packet(pool, frame(2000)) ?? 0;
    bench.st32(nonsense + MBUF_FLAGS, MBUF_WORK_CHECKSUM | MBUF_WORK_TCP4);
    bench.st16(nonsense + MBUF_SEGMENT_SIZE, 100);
    expect(carry(virtio, vhost, [packet, nonsense])).toEqual([]);
    expect(virtio.statistics()).toMatchObject({ txPackets: 0, txErrors: 2 });
  });

  it('VLAN tags are put in and taken out, in software', async () => {
    const { virtio, vhost } = await pair({ rx: RX_OFFLOAD_VLAN_STRIP, tx: TX_OFFLOAD_VLAN_INSERT });
    const { bench, pool } = ports;
    const packet = bench.packet(pool, frame(100)) ?? 0;
    bench.st32(packet + MBUF_FLAGS, MBUF_WORK_VLAN);
    bench.st16(packet + MBUF_VLAN, 0x2123);
    const tagged = Buffer.concat([frame(100).subarray(0, 12), Buffer.from('81002123', 'hex'), frame(100).subarray(12)]);
    const there = carry(virtio, vhost, [packet]);
    expect(there.map((one) => bench.bytesOf(one).toString('hex'))).toEqual([tagged.toString('hex')]);
    const back = carry(vhost, virtio, there);
    expect(flagsOf(back)).toEqual([MBUF_VLAN_STRIPPED]);
    expect(back.map((one) => bench.ld16(one + MBUF_VLAN))).toEqual([0x2123]);
    expect(bytesOf(back)).toEqual([frame(100).toString('hex')]);
    await virtio.setVlanOffloads(0);
    const more = bench.packet(pool, tagged) ?? 0;
    expect(bytesOf(carry(vhost, virtio, [more]))).toEqual([tagged.toString('hex')]);
  });
});
