/**
 * net_tap against the kernel itself: what goes through the interface is seen by a packet socket on it.
 */
import { createSocket } from 'node:dgram';
import { existsSync, readdirSync } from 'node:fs';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  MBUF_CHECKSUM_OFFSET,
  MBUF_CHECKSUM_START,
  MBUF_DATA,
  MBUF_FLAGS,
  MBUF_HEADER_LENGTH,
  MBUF_SEGMENT_SIZE,
  MBUF_WORK_CHECKSUM,
  MBUF_WORK_TCP4,
} from '../../src/memory/mbuf-layout.ts';
import {
  RX_OFFLOAD_TCP_CKSUM,
  RX_OFFLOAD_TCP_LRO,
  RX_OFFLOAD_UDP_CKSUM,
  TX_OFFLOAD_TCP_CKSUM,
  TX_OFFLOAD_TCP_TSO,
} from '../../src/port/offloads.ts';
import type { Port } from '../../src/port/port.ts';
import { until } from '../support/deadline.ts';
import { enterNetworkNamespace, ip, removeInterfaces, WHY_NO_NETWORK } from '../support/network.ts';
import { PortBench } from '../support/port-pair.ts';
import { frame, TARGETS } from '../support/ring-pair.ts';

const WHY = WHY_NO_NETWORK ?? (existsSync('/dev/net/tun') ? undefined : 'no /dev/net/tun');

interface LinkEntry {
  readonly ifname: string;
  readonly mtu: number;
  readonly address: string;
  readonly flags: readonly string[];
}
const links = (): readonly LinkEntry[] => JSON.parse(ip('-j link show')) as readonly LinkEntry[];
const linkOf = (name: string): LinkEntry | undefined => links().find(({ ifname }) => ifname === name);

/** A frame that no host of the kernel's takes an interest in. */
const quiet = (length: number, seed: number): Buffer => {
  const bytes = frame(length, seed);
  bytes[0] = 0x02;
  bytes[6] = 0x02;
  bytes.writeUInt16BE(0x88b5, 12);
  return bytes;
};

describe.skipIf(WHY !== undefined).each(TARGETS)('net_tap on %s', (target) => {
  let bench: PortBench;
  beforeAll(enterNetworkNamespace);
  beforeEach(() => {
    bench = new PortBench(target);
  });
  afterEach(async () => {
    await bench[Symbol.asyncDispose]();
    removeInterfaces();
  });

  const send = (port: Port, packets: readonly Uint8Array[], queue = 0, segments?: readonly number[]): number => {
    const handles = packets.map((bytes) => bench.bench.packet(bench.pool, bytes, { segments }) ?? 0);
    return bench.bench.send((_, mbufs, count) => port.txBurst(queue, mbufs, count), 0, handles);
  };
  const receive = async (port: Port, wanted: number, queue = 0): Promise<Buffer[]> => {
    const packets: Buffer[] = [];
    await until(
      5000,
      `${String(wanted)} packets on ${port.name}, ${bench.log.join('; ')}`,
      () => {
        packets.push(...bench.bench.take((_, mbufs, count) => port.rxBurst(queue, mbufs, count), 0, 32));
        return packets.length >= wanted;
      },
      1,
    );
    return packets;
  };
  /** The tap, its interface silent, and a packet socket on that. */
  const pair = async (keys = '', framesz = 2048): Promise<readonly [Port, Port]> => {
    const tap = await bench.open(`net_tap0,iface=tt0${keys}`, 1, false);
    ip('link set tt0 addrgenmode none');
    await tap.start();
    const socket = await bench.open(`net_af_packet0,iface=tt0,framesz=${String(framesz)},blocksz=${String(Math.max(4096, framesz))}`);
    await bench.linksUp(tap, socket);
    return [tap, socket];
  };

  it('sends to the interface and receives what the kernel sends out of it, byte for byte', async () => {
    const [tap, socket] = await pair();
    const packets = [14, 60, 64, 65, 1000, 1514].map((length, index) => quiet(length, index));
    expect(send(tap, packets)).toBe(packets.length);
    expect(await receive(socket, packets.length)).toEqual(packets);
    expect(send(socket, packets)).toBe(packets.length);
    expect(await receive(tap, packets.length)).toEqual(packets);
    const bytes = packets.reduce((sum, packet) => sum + packet.length, 0);
    expect(tap.statistics()).toMatchObject({
      rxPackets: 6,
      txPackets: 6,
      rxBytes: bytes,
      txBytes: bytes,
      rxErrors: 0,
      txErrors: 0,
      rxMissed: 0,
    });
    expect(tap.rxBurst(0, bench.bench.handles, 32)).toBe(0);
  });

  it('sends chains, and receives packets longer than an mbuf as chains', async () => {
    const [tap, socket] = await pair('', 16384);
    ip('link set tt0 mtu 9000');
    await until(3000, 'the new MTU', () => tap.mtu === 9000 && socket.mtu === 9000, 10);
    const packets = [quiet(9014, 1), quiet(2048, 2), quiet(60, 3)];
    const chains = [[20, 1500, 2000, 2000, 2000], [1000], [14]];
    for (const [index, segments] of chains.entries()) expect(send(tap, packets.slice(index, index + 1), 0, segments)).toBe(1);
    expect(await receive(socket, 3)).toEqual(packets);
    for (const [index, segments] of chains.entries()) expect(send(socket, packets.slice(index, index + 1), 0, segments)).toBe(1);
    expect(await receive(tap, 3)).toEqual(packets);
  });

  it('names its interfaces dtap0, dtap1 ..., takes a MAC, and takes them away again', async () => {
    const before = readdirSync('/proc/self/fd').length;
    const ports = [await bench.open('net_tap0,mac=fixed'), await bench.open('net_tap1,mac=02:11:22:33:44:55')];
    expect(linkOf('dtap0')?.address).toBe('02:64:74:61:70:30');
    expect(linkOf('dtap1')?.address).toBe('02:11:22:33:44:55');
    expect(Buffer.from(ports[0]?.mac ?? []).toString('hex')).toBe('026474617030');
    expect(ports.map((port) => port.link().up)).toEqual([true, true]);
    await ports[0]?.setMac(Uint8Array.of(2, 0, 0, 0, 0, 9));
    await ports[0]?.setMtu(1400);
    await ports[0]?.setPromiscuous(true);
    expect(linkOf('dtap0')).toMatchObject({ mtu: 1400, address: '02:00:00:00:00:09' });
    expect(linkOf('dtap0')?.flags).toEqual(expect.arrayContaining(['UP', 'PROMISC']));
    await ports[0]?.stop();
    expect(linkOf('dtap0')?.flags).not.toContain('UP');
    for (const port of ports) await port.close();
    expect(links().map(({ ifname }) => ifname)).toEqual(['lo']);
    expect(readdirSync('/proc/self/fd').length).toBe(before);
  });

  it('has a queue a pair, each with its share', async () => {
    const tap = await bench.open('net_tap0,iface=tt0', 4, false);
    ip('link set tt0 addrgenmode none');
    await tap.start();
    const socket = await bench.open('net_af_packet0,iface=tt0');
    await bench.linksUp(tap, socket);
    for (let queue = 0; queue < 4; queue++) expect(send(tap, [quiet(60, queue)], queue)).toBe(1);
    expect((await receive(socket, 4)).length).toBe(4);
    // flows of different ports spread over the queues, and nothing is lost where nobody looks
    const flows = Array.from({ length: 64 }, (_, index) => {
      const packet = Buffer.from(
        '020000000001020000000002080045000032000000004011000001010101020202020000000000000000'.padEnd(120, '0'),
        'hex',
      );
      packet.writeUInt16BE(1000 + 7 * index, 34);
      packet.writeUInt16BE(9, 36);
      packet.writeUInt16BE(26, 38);
      return packet;
    });
    for (let at = 0; at < 64; at += 32) expect(send(socket, flows.slice(at, at + 32))).toBe(32);
    let received = 0;
    await until(
      5000,
      'all flows',
      () => {
        for (let queue = 0; queue < 4; queue++)
          received += bench.bench.take((_, mbufs, count) => tap.rxBurst(queue, mbufs, count), 0, 32).length;
        return received === 64;
      },
      1,
    );
    await tap.stop();
    await bench.setUp(tap, 1);
    await tap.start();
    await bench.linksUp(tap, socket);
    expect(send(socket, flows.slice(0, 32))).toBe(32);
    expect((await receive(tap, 32)).length).toBe(32);
  });

  it('says so when the interface goes, and lets it be', async () => {
    const [tap] = await pair();
    const events: string[] = [];
    tap.onEvent(({ type }) => events.push(type));
    ip('link set tt0 down');
    await until(3000, 'link down', () => !tap.link().up, 10);
    expect(send(tap, [])).toBe(0);
    ip('link set tt0 up');
    await until(3000, 'link up', () => tap.link().up, 10);
    ip('link del tt0');
    await until(3000, 'link down again', () => !tap.link().up, 10);
    expect(events).toEqual(['intr_lsc', 'intr_lsc', 'intr_lsc']);
    expect(bench.log).toContain('net_tap0: the interface tt0 was removed; close the port and open it again');
    await tap.stop();
    await expect(tap.start()).rejects.toThrow(/net_tap0: the interface tt0 was removed/);
  });

  it('keeps the interface with persist, and takes an existing one', async () => {
    const first = await bench.open('net_tap0,iface=tt0,persist=1');
    await first.close();
    expect(linkOf('tt0')).toBeDefined();
    const again = await bench.open('net_tap0,iface=tt0');
    expect(again.link().up).toBe(true);
    await again.close();
    expect(linkOf('tt0')).toBeDefined();
    ip('tuntap add one mode tap');
    const plain = await bench.open('net_tap1,iface=one');
    expect(plain.link().up).toBe(true);
  });

  it('counts what an interface does not take', async () => {
    const [tap] = await pair();
    ip('link set tt0 down');
    // before the port has seen it, or after
    const sent = send(tap, [quiet(60, 1), quiet(60, 2)]);
    expect(tap.statistics()).toMatchObject({ txPackets: 0, txErrors: sent });
  });

  it('leaves checksum and segmentation to the kernel, and takes them from it', async () => {
    const tap = await bench.open('net_tap0,iface=tt0', 1, false);
    const rxOffloads = RX_OFFLOAD_UDP_CKSUM | RX_OFFLOAD_TCP_CKSUM | RX_OFFLOAD_TCP_LRO;
    await tap.configure({ rxQueues: 1, txQueues: 1, rxOffloads, txOffloads: TX_OFFLOAD_TCP_CKSUM | TX_OFFLOAD_TCP_TSO });
    await tap.setupRxQueue(0, { descriptors: 0, pool: bench.pool });
    await tap.setupTxQueue(0, { descriptors: 0 });
    ip('link set tt0 addrgenmode none');
    await tap.start();
    ip('addr add 10.9.0.1/24 dev tt0');
    ip('neigh add 10.9.0.2 lladdr 02:00:00:00:00:02 dev tt0');
    const socket = createSocket('udp4');
    const payload = Buffer.alloc(100, 7);
    await new Promise<void>((resolve, reject) => {
      socket.send(payload, 9, '10.9.0.2', (error) => {
        if (error === null) resolve();
        else reject(error);
      });
    });
    const { handles } = bench.bench;
    let handle = 0;
    await until(
      3000,
      'the datagram',
      () => {
        const count = tap.rxBurst(0, handles, 1);
        if (count === 0) return false;
        handle = bench.bench.ld32(handles);
        const data = bench.bench.ld32(handle + MBUF_DATA);
        const isUdp = bench.context.arena.views.u8[data + 23] === 17;
        if (!isUdp) bench.bench.kernels.packetFree(handle, 0);
        return isUdp;
      },
      1,
    );
    const { u16 } = bench.context.arena.views;
    expect(bench.bench.ld32(handle + MBUF_FLAGS)).toBe(MBUF_WORK_CHECKSUM);
    expect(u16[(handle + MBUF_CHECKSUM_START) >>> 1]).toBe(34);
    expect(u16[(handle + MBUF_CHECKSUM_OFFSET) >>> 1]).toBe(6);
    bench.bench.kernels.packetFree(handle, 0);
    socket.close();

    // 3000 bytes of TCP to be cut into segments of 1000 by the interface: a packet socket sees one large packet
    const watcher = await bench.open('net_af_packet0,iface=tt0,framesz=8192,blocksz=8192');
    await bench.linksUp(tap, watcher);
    const header =
      '02000000000102000000000208004500' +
      '0be0' +
      '00004000' +
      '4006' +
      '0000' +
      '0a0900020a090001' +
      '04d204d3' +
      '0000000100000000' +
      '5010ffff' +
      '0000' +
      '0000';
    const packet = Buffer.concat([Buffer.from(header, 'hex'), Buffer.alloc(3000, 5)]);
    const large = bench.bench.packet(bench.pool, packet, { segments: [54, 2000, 1000] }) ?? 0;
    const { u32 } = bench.context.arena.views;
    u32[(large + MBUF_FLAGS) >>> 2] = MBUF_WORK_CHECKSUM | MBUF_WORK_TCP4;
    u16[(large + MBUF_CHECKSUM_START) >>> 1] = 34;
    u16[(large + MBUF_CHECKSUM_OFFSET) >>> 1] = 16;
    u16[(large + MBUF_SEGMENT_SIZE) >>> 1] = 1000;
    u16[(large + MBUF_HEADER_LENGTH) >>> 1] = 54;
    expect(bench.bench.send((_, mbufs, count) => tap.txBurst(0, mbufs, count), 0, [large])).toBe(1);
    expect(tap.statistics()).toMatchObject({ txPackets: 1, txBytes: 3054, txErrors: 0 });
    const [{ stats64 }] = JSON.parse(ip('-s -j link show tt0')) as [{ readonly stats64: { readonly rx: { readonly bytes: number } } }];
    expect(stats64.rx.bytes).toBe(3054);
  });

  it.each([
    ['remote=eth0', /net_tap0: remote=eth0: mirroring.*net_af_packet0,iface=eth0/],
    ['iface=sixteen-letters-', /net_tap0: iface=.*at most 15/],
    ['iface=a%d', /number for the %/],
    ['iface=lo', /net_tap0: tap lo: an interface of this name exists that is no tap/],
    ['mac=fix', /mac=fix: expected six bytes/],
    ['mac=01:00:00:00:00:00', /unicast/],
    ['persist=2', /persist=2: expected 0 or 1/],
    ['ifaces=a', /unknown key ifaces; did you mean iface/],
  ])('refuses "%s"', async (text, message) => {
    const before = readdirSync('/proc/self/fd').length;
    await expect(bench.open(`net_tap0,${text}`)).rejects.toThrow(message);
    expect(readdirSync('/proc/self/fd').length).toBe(before);
  });
});
