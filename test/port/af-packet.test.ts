/**
 * net_af_packet on pairs of veth interfaces: both ends ours, or the kernel's stack at the other.
 * @module
 */
import { createSocket } from 'node:dgram';
import { readdirSync } from 'node:fs';
import { connect } from 'node:net';
import { afterEach, beforeAll, describe, expect, test } from 'vitest';
import {
  MBUF_CHECKSUM_OFFSET,
  MBUF_CHECKSUM_START,
  MBUF_FLAGS,
  MBUF_HEADER_LENGTH,
  MBUF_SEGMENT_SIZE,
  MBUF_WORK_CHECKSUM,
  MBUF_WORK_TCP4,
} from '../../src/memory/mbuf-layout.ts';
import { RX_OFFLOAD_TCP_LRO, RX_OFFLOAD_UDP_CKSUM, TX_OFFLOAD_TCP_TSO, TX_OFFLOAD_UDP_CKSUM } from '../../src/port/offloads.ts';
import { until } from '../support/deadline.ts';
import { enterNetworkNamespace, ip, makeVeth, removeInterfaces, WHY_NO_NETWORK } from '../support/network.ts';
import { expectToFollowInterface, PortBench, receive, send, take } from '../support/port-pair.ts';
import { frame, TARGETS } from '../support/ring-pair.ts';

/** An Ethernet frame with IPv4 and UDP of one flow. */
function udpFrame(flow: number): Buffer {
  const bytes = Buffer.alloc(60);
  bytes.write('020000000001020000000002', 0, 'hex');
  bytes.writeUInt16BE(0x0800, 12);
  bytes.write('4500002e000000004011', 14, 'hex');
  bytes.writeUInt32BE(0x0a000000 + flow, 26);
  bytes.writeUInt32BE(0x0a010001, 30);
  bytes.writeUInt16BE(1000 + flow, 34);
  bytes.writeUInt16BE(53, 36);
  bytes.writeUInt16BE(26, 38);
  return bytes;
}

function wordSum(bytes: Uint8Array, start = 0): number {
  let sum = start;
  for (let at = 0; at < bytes.length; at += 2) sum += ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum;
}

/** Whether the TCP or UDP checksum of a frame is right (RFC 1071: the sum of everything is all ones). */
function checksumHolds(packet: Buffer): boolean {
  const version4 = packet.readUInt16BE(12) === 0x0800;
  const transport = version4 ? packet.subarray(34, 14 + packet.readUInt16BE(16)) : packet.subarray(54, 54 + packet.readUInt16BE(18));
  const protocol = packet[version4 ? 23 : 20] ?? 0;
  return wordSum(transport, wordSum(packet.subarray(version4 ? 26 : 22, version4 ? 34 : 54)) + protocol + transport.length) === 0xffff;
}

function openDescriptors(): number {
  return readdirSync('/proc/self/fd').length;
}

describe.skipIf(WHY_NO_NETWORK !== undefined)('net_af_packet', () => {
  beforeAll(enterNetworkNamespace);
  afterEach(removeInterfaces);

  describe.each(TARGETS)('%s kernels', (target) => {
    test('every length arrives byte for byte, both ways, the rings going round', async () => {
      makeVeth('va', 'vb');
      await using ports = new PortBench(target);
      const a = await ports.open('net_af_packet0,iface=va');
      const b = await ports.open('eth_af_packet1,iface=vb,blocksz=8192,framesz=3072,framecnt=64,qdisc_bypass=0');
      await ports.linksUp(a, b);
      for (const length of [14, 15, 60, 64, 333, 1024, 1514]) {
        ports.pass(a, b, { count: 700, length });
        ports.pass(b, a, { count: 700, length });
      }
      expect(a.statistics()).toMatchObject({ txPackets: 4900, rxPackets: 4900, rxMissed: 0, rxErrors: 0, txErrors: 0, rxNoMbuf: 0 });
      expect(b.statistics()).toEqual(a.statistics());
    });

    test('packets of several segments are sent, and packets longer than an mbuf are received as chains', async () => {
      makeVeth('va', 'vb', 9000);
      await using ports = new PortBench(target);
      const a = await ports.open('net_af_packet0,iface=va,blocksz=65536,framesz=16384,framecnt=64');
      const b = await ports.open('net_af_packet1,iface=vb,blocksz=65536,framesz=16384,framecnt=64');
      await ports.linksUp(a, b);
      const packets = [frame(9014, 1), frame(4100, 2), frame(2049, 3), frame(2048, 4)];
      const segments = [[1, 1500, 2048, 1920, 1700], [20, 2048], [1, 2], []];
      for (const [index, packet] of packets.entries()) expect(send(ports, a, [packet], segments[index])).toBe(1);
      expect(await receive(ports, b, 4)).toEqual(packets);
    });

    test('a VLAN tag that the kernel took out is put back', async () => {
      makeVeth('va', 'vb');
      await using ports = new PortBench(target);
      const a = await ports.open('net_af_packet0,iface=va');
      const b = await ports.open('net_af_packet1,iface=vb');
      await ports.linksUp(a, b);
      const tagged = [0x8100, 0x88a8].flatMap((type) =>
        [60, 1514, 1518].map((length) => {
          const bytes = frame(length, length);
          bytes.writeUInt16BE(type, 12);
          bytes.writeUInt16BE(0xa123, 14);
          bytes.writeUInt16BE(0x88b5, 16);
          return bytes;
        }),
      );
      // a service tag has no room of its own beyond the MTU
      const sent = tagged.filter((bytes) => bytes.length <= 1514 || bytes.readUInt16BE(12) === 0x8100);
      expect(send(ports, a, tagged)).toBe(tagged.length);
      expect(await receive(ports, b, sent.length)).toEqual(sent);
      expect(a.statistics()).toMatchObject({ txPackets: sent.length, txErrors: tagged.length - sent.length });
    });

    test('a checksum that the kernel left to the card is finished', async () => {
      makeVeth('va', 'vb');
      ip('addr add 10.77.0.1/24 dev va');
      ip('neigh add 10.77.0.2 lladdr 02:00:00:00:00:02 dev va');
      ip('addr add fd77::1/64 dev va nodad');
      ip('neigh add fd77::2 lladdr 02:00:00:00:00:02 dev va');
      await using ports = new PortBench(target);
      const b = await ports.open('net_af_packet0,iface=vb');
      await ports.linksUp(b);
      const sender4 = createSocket('udp4');
      const sender6 = createSocket('udp6');
      const stream = connect(80, '10.77.0.2').on('error', () => undefined);
      try {
        for (const length of [0, 1, 7, 100, 1001]) {
          sender4.send(Buffer.alloc(length, 0xa7), 4000, '10.77.0.2');
          sender6.send(Buffer.alloc(length, 0x3c), 4000, 'fd77::2');
        }
        const got: Buffer[] = [];
        const ours = (packet: Buffer): boolean => {
          const protocol = packet[packet.readUInt16BE(12) === 0x0800 ? 23 : 20];
          return protocol === 17 || protocol === 6;
        };
        await until(5000, 'the packets of the kernel', () => got.push(...take(ports, b).filter(ours)) >= 11, 1);
        expect(got.map(checksumHolds)).toEqual(got.map(() => true));
        expect(got.filter((packet) => packet.readUInt16BE(12) === 0x86dd).length).toBe(5);
        expect(b.statistics().rxErrors).toBe(0);
      } finally {
        stream.destroy();
        sender4.close();
        sender6.close();
      }
    });
  });

  test('what the kernel left undone travels as work to a port that hands it on, and is finished for one that does not', async () => {
    makeVeth('va', 'vb');
    makeVeth('vc', 'vd');
    ip('addr add 10.77.0.1/24 dev va');
    ip('neigh add 10.77.0.2 lladdr 02:00:00:00:00:02 dev va');
    await using ports = new PortBench();
    const from = await ports.open('net_af_packet0,iface=vb', 1, false);
    const to = await ports.open('net_af_packet1,iface=vc', 1, false);
    const end = await ports.open('net_af_packet2,iface=vd');
    const { bench } = ports;
    const sender = createSocket('udp4');
    try {
      for (const txOffloads of [0, TX_OFFLOAD_UDP_CKSUM]) {
        for (const port of [from, to]) {
          await port.stop();
          await port.configure({ rxQueues: 1, txQueues: 1, rxOffloads: port === from ? RX_OFFLOAD_UDP_CKSUM : 0, txOffloads });
          await port.setupRxQueue(0, { descriptors: 0, pool: ports.pool });
          await port.setupTxQueue(0, { descriptors: 0 });
          await port.start();
        }
        await ports.linksUp(from, to, end);
        sender.send(Buffer.alloc(301, 0xa7), 4000, '10.77.0.2');
        await until(5000, 'the packet of the kernel', () => from.rxBurst(0, bench.handles, 1) === 1, 1);
        const packet = bench.u32[bench.handles >> 2] ?? 0;
        expect([bench.ld32(packet + MBUF_FLAGS), bench.ld32(packet + MBUF_CHECKSUM_START)]).toEqual([MBUF_WORK_CHECKSUM, 34 | (6 << 16)]);
        expect(checksumHolds(bench.bytesOf(packet))).toBe(false);
        expect(to.txBurst(0, bench.handles, 1)).toBe(1);
        const [got] = await receive(ports, end, 1);
        expect([got?.length, checksumHolds(got ?? Buffer.alloc(64))]).toEqual([343, true]);
      }
    } finally {
      sender.close();
    }
  });

  test('a packet to be cut crosses the kernel whole where both ports have room for it, and is cut for a port without', async () => {
    makeVeth('va', 'vb');
    await using ports = new PortBench();
    const large = 'blocksz=69632,framesz=69632,framecnt=16';
    const a = await ports.open(`net_af_packet0,iface=va,${large}`, 1, false);
    const b = await ports.open(`net_af_packet1,iface=vb,${large}`, 1, false);
    const { bench } = ports;
    const bytes = Buffer.alloc(10_054, 0x5a);
    bytes.write('02000000000102000000000208004500', 'hex');
    bytes.writeUInt16BE(10_040, 16);
    bytes.write('000000004006', 18, 'hex');
    bytes.write('00000a4d00010a4d0002', 24, 'hex');
    bytes.writeUInt16BE(wordSum(bytes.subarray(14, 34)) ^ 0xffff, 24);
    bytes.write('0050005100000001000000025010ffff00000000', 34, 'hex');
    bytes.writeUInt16BE(wordSum(bytes.subarray(26, 34), 6 + 10_020), 50);
    for (const whole of [true, false]) {
      for (const port of [a, b]) {
        await port.stop();
        const txOffloads = whole ? TX_OFFLOAD_TCP_TSO : 0;
        await port.configure({ rxQueues: 1, txQueues: 1, rxOffloads: whole ? RX_OFFLOAD_TCP_LRO : 0, txOffloads });
        await port.setupRxQueue(0, { descriptors: 0, pool: ports.pool });
        await port.setupTxQueue(0, { descriptors: 0 });
        await port.start();
      }
      await ports.linksUp(a, b);
      const packet = bench.packet(ports.pool, bytes, { segments: [2000, 2000, 2000, 2000] }) ?? 0;
      bench.u32[(packet + MBUF_FLAGS) >> 2] = MBUF_WORK_CHECKSUM | MBUF_WORK_TCP4;
      bench.u16[(packet + MBUF_CHECKSUM_START) >> 1] = 34;
      bench.u16[(packet + MBUF_CHECKSUM_OFFSET) >> 1] = 16;
      bench.u16[(packet + MBUF_SEGMENT_SIZE) >> 1] = 1448;
      bench.u16[(packet + MBUF_HEADER_LENGTH) >> 1] = 54;
      expect(bench.send((_, mbufs, count) => a.txBurst(0, mbufs, count), 0, [packet])).toBe(1);
      if (whole) {
        await until(5000, 'the packet', () => b.rxBurst(0, bench.handles, 1) === 1, 1);
        const got = bench.u32[bench.handles >> 2] ?? 0;
        expect(bench.ld32(got + MBUF_FLAGS)).toBe(MBUF_WORK_CHECKSUM | MBUF_WORK_TCP4);
        expect(bench.u16[(got + MBUF_SEGMENT_SIZE) >> 1]).toBe(1448);
        expect(bench.bytesOf(got).equals(bytes)).toBe(true);
        bench.kernels.packetFree(got, 0);
      } else {
        const parts = await receive(ports, b, 7);
        expect(parts.map((part) => part.length)).toEqual([1502, 1502, 1502, 1502, 1502, 1502, 54 + 10_000 - 6 * 1448]);
        expect(parts.every(checksumHolds)).toBe(true);
      }
    }
  });

  test('flows are spread over the queues, each packet once', async () => {
    makeVeth('va', 'vb');
    await using ports = new PortBench();
    const a = await ports.open('net_af_packet0,iface=va,qpairs=2', 2);
    const b = await ports.open('net_af_packet1,iface=vb,qpairs=4', 4);
    await ports.linksUp(a, b);
    const seen = [0, 0, 0, 0];
    const flows = new Map<string, Set<number>>();
    for (let round = 0; round < 20; round++) {
      const packets = Array.from({ length: 50 }, (_, index) => udpFrame(index));
      expect(send(ports, a, packets, undefined, round % 2)).toBe(50);
      for (const queue of seen.keys()) {
        for (const packet of take(ports, b, queue)) {
          seen[queue] = (seen[queue] ?? 0) + 1;
          const key = packet.toString('hex', 26, 36);
          flows.set(key, (flows.get(key) ?? new Set()).add(queue));
        }
      }
    }
    expect(seen.reduce((sum, count) => sum + count, 0)).toBe(1000);
    expect(seen.every((count) => count > 0)).toBe(true);
    expect([...flows.values()].every((queues) => queues.size === 1)).toBe(true);
    expect(flows.size).toBe(50);
  });

  test('MAC address, MTU, promiscuous mode and link are those of the interface', async () => {
    makeVeth('va', 'vb');
    await using ports = new PortBench();
    const a = await ports.open('net_af_packet0,iface=va');
    const shown = (): { address: string; mtu: number; promiscuity: number; allmulti: number; flags: string[] } =>
      (JSON.parse(ip('-d -j link show va')) as [ReturnType<typeof shown>])[0];
    expect(Buffer.from(a.mac).toString('hex')).toBe(shown().address.replaceAll(':', ''));
    await a.setMac(Uint8Array.of(2, 0, 0, 0, 0, 9));
    await a.setMtu(1400);
    await a.setPromiscuous(true);
    await a.setAllMulticast(true);
    expect(shown()).toMatchObject({ address: '02:00:00:00:00:09', mtu: 1400, promiscuity: 1, allmulti: 1 });
    expect(a).toMatchObject({ mtu: 1400, promiscuous: true, allMulticast: true });
    await expect(a.setMtu(9000)).rejects.toThrow(/MTU 9000 is outside 68\.\.1954/);
    // through a restart, and back
    await a.stop();
    expect(shown()).toMatchObject({ promiscuity: 0, allmulti: 0 });
    await a.start();
    expect(shown()).toMatchObject({ promiscuity: 1, allmulti: 1 });
    await a.setPromiscuous(false);
    expect(shown()).toMatchObject({ promiscuity: 0, allmulti: 1 });
    ip('link set va mtu 1300');
    await until(2000, 'the new MTU', () => a.mtu === 1300);
    expect(send(ports, a, [frame(1314), frame(1315)])).toBe(2);
    expect(a.statistics()).toMatchObject({ txPackets: 1, txErrors: 1 });
    await a.setLink(false);
    expect([a.link().up, shown().flags.includes('UP')]).toEqual([false, false]);
    await a.setLink(true);
    // the kernel's link watch reports the carrier in its own time, up to a second after the flag
    await until(3000, 'the link after its interface', () => a.link().up);
    expect(shown().flags).toContain('UP');
  });

  test('an interface that goes down, up, away and comes back takes the link along', async () => {
    makeVeth('va', 'vb');
    await using ports = new PortBench();
    const a = await ports.open('net_af_packet0,iface=va,qpairs=2', 2);
    const b = await ports.open('net_af_packet1,iface=vb');
    await expectToFollowInterface(ports, a, b);
  });

  test('started on an interface that is down, the link waits for it', async () => {
    makeVeth('va', 'vb');
    ip('link set va down');
    await using ports = new PortBench();
    const a = await ports.open('net_af_packet0,iface=va,qpairs=2', 2);
    const b = await ports.open('net_af_packet1,iface=vb');
    expect(a.link().up).toBe(false);
    expect(ports.log.join('\n')).toMatch(/interface va is down: ip link set va up/);
    ip('link set va up');
    await ports.linksUp(a, b);
    ports.pass(a, b, { count: 100 });
  });

  test('what finds no free frame is missed, what does not fit a frame is an error, and both are counted', async () => {
    makeVeth('va', 'vb', 4000);
    await using ports = new PortBench();
    const a = await ports.open('net_af_packet0,iface=va,blocksz=8192,framesz=8192,framecnt=8');
    const b = await ports.open('net_af_packet1,iface=vb,framecnt=64');
    await ports.linksUp(a, b);
    for (let round = 0; round < 25; round++) expect(send(ports, a, [frame(60), frame(60), frame(60), frame(60)])).toBe(4);
    expect(take(ports, b).length).toBe(64);
    expect(b.statistics()).toMatchObject({ rxPackets: 64, rxMissed: 36 });
    expect(send(ports, a, [frame(1972), frame(1973), frame(3000)], [972])).toBe(3);
    expect((await receive(ports, b, 1)).map((bytes) => bytes.length)).toEqual([1972]);
    expect(take(ports, b)).toEqual([]);
    expect(b.statistics()).toMatchObject({ rxPackets: 65, rxErrors: 2 });
    await until(2000, 'the reason', () => ports.log.join('\n').includes('longer than 1972 bytes do not fit framesz=2048'));
    b.resetStatistics();
    expect(b.statistics()).toMatchObject({ rxPackets: 0, rxErrors: 0, rxMissed: 0 });
  });

  test('starts and stops leave nothing behind', async () => {
    makeVeth('va', 'vb');
    const before = openDescriptors();
    {
      await using ports = new PortBench();
      const free = ports.context.arena.window.freeBytes;
      const port = await ports.open('net_af_packet0,iface=va,qpairs=2', 2, false);
      const between = openDescriptors();
      for (let round = 0; round < 25; round++) {
        await port.start();
        expect(port.link().up).toBe(true);
        await port.stop();
      }
      expect([ports.context.arena.window.freeBytes, openDescriptors()]).toEqual([free, between]);
      await expect(ports.open('net_af_packet1,iface=va,framesz=4096,framecnt=16777216')).rejects.toThrow(
        /do not fit the .* address window/,
      );
      await port.start();
    }
    expect(openDescriptors()).toBe(before);
  });

  test.each([
    ['net_af_packet0', /iface is mandatory: net_af_packet0,iface=NAME; there are: lo/],
    ['net_af_packet0,iface=', /expected a text/],
    ['net_af_packet0,iface=none', /iface=none: no such interface in this network namespace; there are: lo/],
    ['net_af_packet0,iface=loo', /did you mean lo\?/],
    ['net_af_packet0,iface=abcdefghijklmnop', /16 characters, and an interface's name has at most 15/],
    ['net_af_packet0,iface=a/b', /no '\/'/],
    ['net_af_packet0,iface=lo,qpairs=0', /from 1 to 16/],
    ['net_af_packet0,iface=lo,qpairs=17', /from 1 to 16/],
    ['net_af_packet0,iface=lo,blocksz=5000', /blocksz=5000: expected a multiple of the page size, 4096/],
    ['net_af_packet0,iface=lo,framesz=2050', /framesz=2050: expected a multiple of 16/],
    ['net_af_packet0,iface=lo,framesz=8192', /framesz=8192: a frame lies in one block, and blocksz is 4096/],
    ['net_af_packet0,iface=lo,framecnt=511', /framecnt=511: expected a multiple of 2/],
    ['net_af_packet0,iface=lo,framecnt=0', /from 1 to/],
    ['net_af_packet0,iface=lo,qdisc_bypass=2', /expected 0 or 1/],
    ['net_af_packet0,iface=lo,frames=2', /unknown key frames/],
  ])('%s is refused', async (text, message) => {
    await using ports = new PortBench();
    const before = openDescriptors();
    await expect(ports.open(text)).rejects.toThrow(message);
    expect(openDescriptors()).toBe(before);
  });

  test('an interface without Ethernet headers is refused', async () => {
    ip('tuntap add dev tn0 mode tun');
    await using ports = new PortBench();
    await expect(ports.open('net_af_packet0,iface=tn0')).rejects.toThrow(/iface=tn0: not an Ethernet interface/);
    ip('link del tn0');
  });
});
