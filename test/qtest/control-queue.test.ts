/**
 * Network cards of QEMU that do what the port asks of them on their control queue: what comes through their filters, which queue it
 * comes to, and the hash that comes with it.
 */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { openPort } from '../../src/index.ts';
import { MBUF_FLAGS, MBUF_HASH, MBUF_HASH_VALID } from '../../src/memory/mbuf-layout.ts';
import { RX_OFFLOAD_RSS_HASH, RX_OFFLOAD_VLAN_FILTER } from '../../src/port/offloads.ts';
import type { Port } from '../../src/port/port.ts';
import { RSS_DEFAULT_KEY, RSS_IP, RSS_IPV4_UDP } from '../../src/port/rss.ts';
import { Q_FEATURES, QUEUE_PACKED } from '../../src/ring/queue-layout.ts';
import { sleep, until } from '../support/deadline.ts';
import { enterNetworkNamespace, ip, WHY_NO_NETWORK } from '../support/network.ts';
import { PortBench } from '../support/port-pair.ts';
import { Folder, Monitor, WHY_NO_QEMU } from './qemu.ts';
import { Wire } from './wire.ts';

const OWN = Uint8Array.of(0x52, 0x54, 0, 0, 0, 1);
const OTHER = Uint8Array.of(2, 0, 0, 0, 0, 7);
const GROUP = Uint8Array.of(1, 0, 0x5e, 0, 0, 9);
const BROADCAST = new Uint8Array(6).fill(0xff);
const SENDER = Uint8Array.of(2, 0, 0, 0, 0, 0x99);
const QUEUES = 4;

/** A frame of 60 bytes to an address, with a tag or without. */
function frameTo(mac: Uint8Array, vlan?: number): Buffer {
  const frame = Buffer.alloc(60, 0x55);
  frame.set(mac, 0);
  frame.set(SENDER, 6);
  if (vlan === undefined) {
    frame.writeUInt16BE(0x88b5, 12);
  } else {
    frame.writeUInt16BE(0x8100, 12);
    frame.writeUInt16BE(vlan, 14);
    frame.writeUInt16BE(0x88b5, 16);
  }
  return frame;
}

/** A UDP packet of a flow. */
function datagram(flow: number): Buffer {
  const frame = Buffer.alloc(60);
  frame.set(OWN, 0);
  frame.set(SENDER, 6);
  frame.writeUInt16BE(0x0800, 12);
  frame.set([0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2], 14);
  const header = frame.subarray(14, 34);
  let sum = 0;
  for (let at = 0; at < 20; at += 2) sum += header.readUInt16BE(at);
  header.writeUInt16BE(0xffff - ((sum & 0xffff) + (sum >>> 16)), 10);
  frame.writeUInt16BE(1000 + flow, 34);
  frame.writeUInt16BE(2000 + 7 * flow, 36);
  frame.writeUInt16BE(26, 38);
  return frame;
}

/** The Toeplitz hash of virtio 1.2, 5.1.6.4.3, bit by bit. */
function toeplitz(key: Uint8Array, input: Uint8Array): number {
  let hash = 0;
  const window = (bit: number): number => {
    let word = 0;
    for (let index = 0; index < 32; index++) {
      const at = bit + index;
      word = (word << 1) | (((key[at >>> 3] ?? 0) >>> (7 - (at & 7))) & 1);
    }
    return word >>> 0;
  };
  for (let bit = 0; bit < input.length * 8; bit++) {
    if ((((input[bit >>> 3] ?? 0) >>> (7 - (bit & 7))) & 1) !== 0) hash ^= window(bit);
  }
  return hash >>> 0;
}

/** Addresses, then ports. */
const addressesOf = (frame: Buffer): Buffer => frame.subarray(26, 34);
const flowOf = (frame: Buffer): Buffer => frame.subarray(26, 38);

interface Arrived {
  readonly queue: number;
  readonly bytes: Buffer;
  readonly hash: number | undefined;
}

/** Takes what has come, until so many packets are there, or nothing comes any more. */
async function take(bench: PortBench, port: Port, wanted: number): Promise<Arrived[]> {
  const arrived: Arrived[] = [];
  const { handles } = bench.bench;
  const look = (): boolean => {
    for (let queue = 0; queue < (port.configuration?.rxQueues ?? 0); queue++) {
      const count = port.rxBurst(queue, handles, 32);
      for (const packet of bench.bench.listed(count)) {
        const known = (bench.bench.ld32(packet + MBUF_FLAGS) & MBUF_HASH_VALID) !== 0;
        arrived.push({ queue, bytes: bench.bench.bytesOf(packet), hash: known ? bench.bench.ld32(packet + MBUF_HASH) : undefined });
        bench.context.main.kernels.packetFree(packet, 0);
      }
    }
    return arrived.length >= wanted;
  };
  await until(5000, `${wanted} packets; ${bench.log.join('; ')}`, look, 5);
  // what should not be there comes later, if at all
  await sleep(50);
  look();
  return arrived;
}

const NIC = 'guest_announce=on,host_mtu=2000,speed=25000,duplex=full';
const MAC_TEXT = 'mac=52:54:00:00:00:01';

describe.skipIf(WHY_NO_QEMU !== undefined)('a network card of QEMU', () => {
  async function card(bench: PortBench, wire: Wire, more = '', rx = 0, ring = 'packed=off'): Promise<Port> {
    const device = `device=[${NIC},${MAC_TEXT},${ring}]`;
    const port = await bench.open(`net_virtio_qtest0,qemu=auto,netdev=[${wire.netdev}],${device}${more}`, 1, true, { rx });
    await bench.linksUp(port);
    return port;
  }

  /** Which of the frames come through, told apart by their bytes. */
  async function passed(bench: PortBench, port: Port, wire: Wire, frames: Readonly<Record<string, Buffer>>): Promise<string[]> {
    // a broadcast ends what is waited for
    await wire.send(...Object.values(frames), frameTo(BROADCAST));
    const arrived: string[] = [];
    while (!arrived.includes('broadcast')) {
      for (const { bytes } of await take(bench, port, 1)) {
        const found = Object.entries(frames).find(([, frame]) => frame.equals(bytes));
        arrived.push(found?.[0] ?? (bytes.equals(frameTo(BROADCAST)) ? 'broadcast' : bytes.toString('hex')));
      }
    }
    return arrived.filter((name) => name !== 'broadcast');
  }

  test.each(['packed=off', 'packed=on'])('lets through what it is told to (%s)', async (ring) => {
    await using bench = new PortBench();
    await using wire = await Wire.create();
    const port = await card(bench, wire, '', 0, ring);
    const state = port.rxQueueHandle(0).state;
    expect((bench.bench.ld32(state + Q_FEATURES) & QUEUE_PACKED) !== 0).toBe(ring === 'packed=on');
    expect(port.link()).toMatchObject({ up: true, speed: 25_000, fullDuplex: true });
    expect(port.info).toMatchObject({ maxMtu: 2000, maxMacAddresses: 64 });
    const frames = { own: frameTo(OWN), other: frameTo(OTHER), group: frameTo(GROUP) };
    const through = (): Promise<string[]> => passed(bench, port, wire, frames);
    expect(await through()).toEqual(['own']);
    await port.setPromiscuous(true);
    expect(await through()).toEqual(['own', 'other', 'group']);
    await port.setPromiscuous(false);
    await port.setAllMulticast(true);
    expect(await through()).toEqual(['own', 'group']);
    await port.setAllMulticast(false);
    await port.addMac(OTHER);
    expect(await through()).toEqual(['own', 'other']);
    await port.setMulticastAddresses([GROUP]);
    expect(await through()).toEqual(['own', 'other', 'group']);
    // the device forgets at a reset, and is told again
    await port.stop();
    await port.start();
    expect(await through()).toEqual(['own', 'other', 'group']);
    await port.removeMac(OTHER);
    await port.setMulticastAddresses([]);
    expect(await through()).toEqual(['own']);
    await port.setMac(OTHER);
    expect(await through()).toEqual(['other']);
    await port.stop();
    await port.start();
    expect(await through()).toEqual(['other']);
    for (let round = 0; round < 10; round++) {
      await port.stop();
      await port.start();
    }
    // a QEMU that does not bear it dies within a second or two
    await sleep(2000);
    expect(await through()).toEqual(['other']);
    expect(bench.log).toEqual([]);
  });

  test('filters by VLANs when it is asked to', async () => {
    await using bench = new PortBench();
    await using wire = await Wire.create();
    const port = await card(bench, wire);
    const frames = { 5: frameTo(OWN, 5), 6: frameTo(OWN, 6), priority: frameTo(OWN, 0), own: frameTo(OWN) };
    const through = (): Promise<string[]> => passed(bench, port, wire, frames);
    const all = Object.keys(frames);
    expect(await through()).toEqual(all);
    await port.setVlanOffloads(RX_OFFLOAD_VLAN_FILTER);
    expect(await through()).toEqual(['own']);
    await port.setVlanFilter(5, true);
    expect(await through()).toEqual(['5', 'own']);
    await port.stop();
    await port.start();
    expect(await through()).toEqual(['5', 'own']);
    await port.setVlanFilter(5, false);
    expect(await through()).toEqual(['own']);
    await port.setVlanOffloads(0);
    expect(await through()).toEqual(all);
  });

  test('has itself announced', async () => {
    using folder = new Folder();
    await using bench = new PortBench();
    await using wire = await Wire.create();
    const qmp = join(folder.path, 'qmp');
    const port = await card(bench, wire, `,qmp=${qmp}`);
    const monitor = await Monitor.connect(qmp);
    await monitor.run('announce-self', { initial: 50, max: 50, rounds: 1, step: 0 });
    const frame = await wire.received('a reverse ARP of the port', (bytes) => bytes.readUInt16BE(12) === 0x8035 && bytes.length === 60);
    expect(frame.subarray(6, 12)).toEqual(Buffer.from(OWN));
    expect(port.link().up).toBe(true);
    monitor.close();
  });
});

describe.skipIf(WHY_NO_QEMU !== undefined || WHY_NO_NETWORK !== undefined)('a card on a tap, whose packets have headers', () => {
  beforeAll(enterNetworkNamespace);

  test('tells the hash of what it receives', async () => {
    await using bench = new PortBench();
    const port = await bench.open(
      `net_virtio_qtest0,qemu=auto,irq=intx,netdev=[tap,ifname=hashtap,script=no,downscript=no],device=[hash=on,${MAC_TEXT}]`,
      1,
      true,
      { rx: RX_OFFLOAD_RSS_HASH },
    );
    expect(() => port.rss()).toThrow('packets are not spread by a hash');
    ip('link set hashtap addrgenmode none up');
    const sender = await bench.open('net_af_packet0,iface=hashtap');
    await bench.linksUp(port, sender);
    const frames = [...Array.from({ length: 8 }, (_, flow) => datagram(flow)), frameTo(OWN)];
    const packets = frames.map((frame) => bench.bench.packet(bench.pool, frame) ?? 0);
    expect(bench.bench.send((_, mbufs, count) => sender.txBurst(0, mbufs, count), 0, packets)).toBe(9);
    const arrived = await take(bench, port, 9);
    expect(arrived.map(({ bytes }) => bytes)).toEqual(frames);
    // by their addresses, as RSS_IP asks for; not IP: none
    const hash = toeplitz(RSS_DEFAULT_KEY, addressesOf(datagram(0)));
    expect(arrived.map((packet) => packet.hash)).toEqual([...frames.slice(1).map(() => hash), undefined]);
  });

  test('tells it in the library', async () => {
    await using port = await openPort('net_virtio_qtest', {
      qemu: 'auto',
      netdev: 'tap,ifname=libtap,script=no,downscript=no',
      device: `hash=on,${MAC_TEXT}`,
      rxOffloads: ['rss_hash'],
    });
    ip('link set libtap addrgenmode none up');
    await using sender = await openPort('net_af_packet', { iface: 'libtap', environment: port.environment });
    for (const one of [port, sender]) await one.start();
    for (const one of [port, sender]) await one.waitForLink(true, { timeout: 10_000 });
    await sender.send([datagram(1), frameTo(OWN)]);
    const hashes: (number | undefined)[] = [];
    for await (const packet of port.packets({ signal: AbortSignal.timeout(10_000) })) {
      if (hashes.push(packet.hash) === 2) break;
    }
    expect(hashes).toEqual([toeplitz(RSS_DEFAULT_KEY, addressesOf(datagram(1))), undefined]);
  });

  test('spreads packets by it, over several queue pairs', async () => {
    await using bench = new PortBench();
    const port = await bench.open(
      `net_virtio_qtest0,qemu=auto,irq=intx,queues=${QUEUES},netdev=[tap,ifname=rsstap,queues=${QUEUES},script=no,downscript=no],device=[rss=on,hash=on,${MAC_TEXT}]`,
      QUEUES,
      true,
      { rx: RX_OFFLOAD_RSS_HASH },
    );
    ip('link set rsstap addrgenmode none up');
    const sender = await bench.open('net_af_packet0,iface=rsstap');
    await bench.linksUp(port, sender);
    const frames = Array.from({ length: 64 }, (_, flow) => datagram(flow));
    const send = async (): Promise<Arrived[]> => {
      const packets = frames.map((frame) => bench.bench.packet(bench.pool, frame) ?? 0);
      for (let at = 0; at < packets.length; at += 16) {
        expect(bench.bench.send((_, mbufs, count) => sender.txBurst(0, mbufs, count), 0, packets.slice(at, at + 16))).toBe(16);
        await sleep(2);
      }
      const arrived = await take(bench, port, frames.length);
      const order = (bytes: Buffer): string => createHash('md5').update(bytes).digest('hex');
      expect(arrived.map(({ bytes }) => order(bytes)).sort()).toEqual(frames.map(order).sort());
      return arrived;
    };
    const queueOf = (hash: number): number | undefined => port.rssTable()[hash % 128];
    const expectSpread = (arrived: readonly Arrived[], key: Uint8Array, input: (frame: Buffer) => Buffer): Set<number> => {
      for (const { queue, bytes, hash } of arrived) {
        expect(hash).toBe(toeplitz(key, input(bytes)));
        expect(queue).toBe(queueOf(hash ?? 0));
      }
      return new Set(arrived.map(({ queue }) => queue));
    };
    expect(port.rss().types).toBe(RSS_IP);
    // one pair of addresses, one queue
    expect(expectSpread(await send(), RSS_DEFAULT_KEY, addressesOf).size).toBe(1);
    await port.updateRss({ types: RSS_IPV4_UDP });
    expect(expectSpread(await send(), RSS_DEFAULT_KEY, flowOf).size).toBe(QUEUES);
    await port.updateRssTable(port.rssTable().map((_, index) => (index < 64 ? 3 : 2)));
    expect(expectSpread(await send(), RSS_DEFAULT_KEY, flowOf)).toEqual(new Set([2, 3]));
    const key = Uint8Array.from(RSS_DEFAULT_KEY, (byte, index) => byte ^ (index + 1));
    await port.updateRss({ key });
    expectSpread(await send(), key, flowOf);
    // a device that was reset is told again
    await port.stop();
    await port.start();
    await bench.linksUp(port);
    expectSpread(await send(), key, flowOf);
    await port.updateRss({ types: 0n });
    expect(new Set((await send()).map(({ queue, hash }) => `${queue} ${String(hash)}`))).toEqual(new Set(['0 undefined']));
    expect(bench.log).toEqual([]);
  });
});
