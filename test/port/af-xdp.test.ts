/**
 * net_af_xdp on pairs of veth interfaces: both ends ours, net_af_packet or the kernel's stack at the other.
 * @module
 */
import { readdirSync } from 'node:fs';
import { afterEach, beforeAll, describe, expect, test } from 'vitest';
import { SocketMap, XDP_FLAGS_SKB_MODE } from '../../src/system/bpf.ts';
import { closeFd } from '../../src/system/event-fd.ts';
import { bindNative } from '../../src/system/ffi.ts';
import { NetworkInterface } from '../../src/system/network-interface.ts';
import { until } from '../support/deadline.ts';
import { enterNetworkNamespace, ip, makeVeth, removeInterfaces, WHY_NO_NETWORK } from '../support/network.ts';
import { expectToFollowInterface, PortBench, receive, send, take } from '../support/port-pair.ts';
import { frame, TARGETS } from '../support/ring-pair.ts';

/** AF_XDP, SOCK_RAW. */
const HAS_XDP = ((): boolean => {
  if (WHY_NO_NETWORK !== undefined) return false;
  const { value } = bindNative('socket', 'i32', ['i32', 'i32', 'i32'])(44, 3, 0);
  if (value >= 0) closeFd(value);
  return value >= 0;
})();

function openDescriptors(): number {
  return readdirSync('/proc/self/fd').length;
}

/** What the kernel says about the program of an interface: xdp (in the driver), xdpgeneric, or nothing. */
function program(name: string): string {
  return /\bxdp\w*/.exec(ip(`link show ${name}`).split('\n', 1)[0] ?? '')?.[0] ?? '';
}

describe.skipIf(!HAS_XDP)('net_af_xdp', () => {
  beforeAll(enterNetworkNamespace);
  afterEach(removeInterfaces);

  describe.each(TARGETS)('%s kernels', (target) => {
    test.each(['net_af_xdp1,iface=vb,force_copy=1,busy_budget=64', 'net_af_packet1,iface=vb,framecnt=1024'])(
      'every length arrives byte for byte, both ways, the rings going round; the other end is %s',
      async (other) => {
        makeVeth('va', 'vb');
        await using ports = new PortBench(target);
        const a = await ports.open('net_af_xdp0,iface=va');
        const b = await ports.open(other);
        await ports.linksUp(a, b);
        for (const length of [14, 15, 60, 64, 333, 1024, 1514]) {
          ports.pass(a, b, { count: 700, length });
          ports.pass(b, a, { count: 700, length });
        }
        expect(a.statistics()).toMatchObject({ txPackets: 4900, rxPackets: 4900, rxMissed: 0, rxErrors: 0, txErrors: 0, rxNoMbuf: 0 });
        expect(b.statistics()).toEqual(a.statistics());
      },
    );

    test('packets of several segments are sent, packets longer than an mbuf are received as chains, longer ones than a chunk not at all', async () => {
      makeVeth('va', 'vb', 3400);
      await using ports = new PortBench(target);
      const a = await ports.open('net_af_xdp0,iface=va');
      const b = await ports.open('net_af_xdp1,iface=vb');
      await ports.linksUp(a, b);
      const packets = [frame(3414, 1), frame(2100, 2), frame(2049, 3), frame(2048, 4)];
      const segments = [[1, 1500, 1700], [20, 2048], [1, 2], []];
      for (const [index, packet] of packets.entries()) expect(send(ports, a, [packet], segments[index])).toBe(1);
      expect(send(ports, a, [frame(3415), frame(3900)], [2000])).toBe(2);
      expect(await receive(ports, b, 4)).toEqual(packets);
      expect(a.statistics()).toMatchObject({ txPackets: 4, txErrors: 2 });
    });

    test('VLAN tags stay where they are', async () => {
      makeVeth('va', 'vb');
      await using ports = new PortBench(target);
      const a = await ports.open('net_af_packet0,iface=va');
      const b = await ports.open('net_af_xdp1,iface=vb');
      await ports.linksUp(a, b);
      const tagged = [60, 1514, 1518].map((length) => {
        const bytes = frame(length, length);
        bytes.writeUInt16BE(0x8100, 12);
        bytes.writeUInt16BE(0xa123, 14);
        bytes.writeUInt16BE(0x88b5, 16);
        return bytes;
      });
      expect(send(ports, a, tagged)).toBe(3);
      expect(await receive(ports, b, 3)).toEqual(tagged);
      expect(send(ports, b, tagged)).toBe(3);
      expect(await receive(ports, a, 3)).toEqual(tagged);
    });

    test('packets wait while the pool is empty, and nothing is lost but what finds the ring full', async () => {
      makeVeth('va', 'vb');
      await using ports = new PortBench(target);
      const a = await ports.open('net_af_packet0,iface=va,framecnt=1024');
      const b = await ports.open('net_af_xdp1,iface=vb', 1, false);
      const small = ports.bench.pool({ name: 'small', count: 40, cacheSize: 0 });
      await b.configure({ rxQueues: 1, txQueues: 1, rxOffloads: 0, txOffloads: 0 });
      await b.setupRxQueue(0, { descriptors: 64, pool: small });
      await b.setupTxQueue(0, { descriptors: 64 });
      await b.start();
      await ports.linksUp(a, b);
      for (let round = 0; round < 5; round++) {
        send(
          ports,
          a,
          Array.from({ length: 20 }, (_, index) => frame(60, 20 * round + index)),
        );
      }
      const { bench } = ports;
      expect(b.rxBurst(0, bench.handles, 64)).toBe(32);
      const kept = Array.from({ length: 32 }, (_, index) => bench.u32[(bench.handles >> 2) + index] ?? 0);
      expect(take(ports, b).length).toBe(8);
      for (const [index, handle] of kept.entries()) {
        expect(bench.bytesOf(handle)).toEqual(frame(60, index));
        bench.kernels.packetFree(handle, 0);
      }
      expect((await receive(ports, b, 24)).length).toBe(24);
      expect(b.statistics()).toMatchObject({ rxPackets: 64, rxMissed: 36, rxErrors: 0 });
      b.resetStatistics();
      expect(b.statistics()).toMatchObject({ rxPackets: 0, rxMissed: 0, rxNoMbuf: 0 });
    });
  });

  test.each([0, 1])('each queue has a socket; shared_umem=%i', async (shared) => {
    makeVeth('va', 'vb', 1500, 3);
    await using ports = new PortBench();
    const a = await ports.open(`net_af_xdp0,iface=va,queue_count=3,shared_umem=${shared}`, 3);
    const b = await ports.open(`net_af_xdp1,iface=vb,start_queue=1,queue_count=2,shared_umem=${shared}`, 2);
    await ports.linksUp(a, b);
    for (let round = 0; round < 10; round++) {
      for (const queue of [1, 2]) {
        const packets = Array.from({ length: 40 }, (_, index) => frame(60 + index, 100 * queue + round));
        expect(send(ports, a, packets, undefined, queue)).toBe(40);
        // a veth puts what one end sends on a queue into the same queue of the other
        expect(await receive(ports, b, 40, queue - 1)).toEqual(packets);
        expect(send(ports, b, packets, undefined, queue - 1)).toBe(40);
        expect(await receive(ports, a, 40, queue)).toEqual(packets);
      }
    }
    // nobody's queue: it is the kernel's
    expect(send(ports, a, [frame(60)], undefined, 0)).toBe(1);
    expect([take(ports, b, 0), take(ports, b, 1)]).toEqual([[], []]);
    expect(Object.fromEntries(b.extendedStatistics().map(({ name, value }) => [name, value]))).toMatchObject({
      rx_q0_packets: 400,
      rx_q1_packets: 400,
      rx_q0_xdp_dropped: 0,
      rx_q1_xdp_ring_full: 0,
      tx_q1_xdp_invalid_descriptors: 0,
    });
  });

  test('MAC address, MTU, promiscuous mode and link are those of the interface', async () => {
    makeVeth('va', 'vb');
    await using ports = new PortBench();
    const a = await ports.open('net_af_xdp0,iface=va');
    const b = await ports.open('net_af_xdp1,iface=vb');
    await ports.linksUp(a, b);
    const shown = (): { address: string; mtu: number; promiscuity: number; allmulti: number; flags: string[] } =>
      (JSON.parse(ip('-d -j link show va')) as [ReturnType<typeof shown>])[0];
    expect(Buffer.from(a.mac).toString('hex')).toBe(shown().address.replaceAll(':', ''));
    await a.setMac(Uint8Array.of(2, 0, 0, 0, 0, 9));
    await a.setPromiscuous(true);
    await a.setAllMulticast(true);
    expect(shown()).toMatchObject({ address: '02:00:00:00:00:09', promiscuity: 1, allmulti: 1 });
    await expect(a.setMtu(9000)).rejects.toThrow(/MTU 9000 is outside 68\.\.3822/);
    // larger chunks while the port runs
    for (const port of [a, b]) await port.setMtu(3000);
    expect(shown()).toMatchObject({ mtu: 3000, promiscuity: 1, allmulti: 1 });
    await ports.linksUp(a, b);
    for (let seed = 0; seed < 20; seed++) expect(send(ports, a, [frame(3014, seed)], [1500])).toBe(1);
    expect(await receive(ports, b, 20)).toEqual(Array.from({ length: 20 }, (_, seed) => frame(3014, seed)));
    await a.stop();
    expect(shown()).toMatchObject({ promiscuity: 0, allmulti: 0 });
    await a.start();
    expect(shown()).toMatchObject({ promiscuity: 1, allmulti: 1 });
    ip('link set va mtu 1300');
    await until(2000, 'the new MTU', () => a.mtu === 1300);
    expect(send(ports, a, [frame(1314), frame(1315)])).toBe(2);
    expect(a.statistics().txErrors).toBe(1);
    await a.setLink(false);
    expect([a.link().up, shown().flags.includes('UP')]).toEqual([false, false]);
    await a.setLink(true);
    await until(3000, 'the link after its interface', () => a.link().up);
  });

  test('an interface that goes down, up, away and comes back takes the link along', async () => {
    makeVeth('va', 'vb');
    await using ports = new PortBench();
    const a = await ports.open('net_af_xdp0,iface=va');
    const b = await ports.open('net_af_xdp1,iface=vb');
    await expectToFollowInterface(ports, a, b);
  });

  test('where the driver cannot, the program runs in the stack, and one line says so', async () => {
    await using ports = new PortBench();
    ip('link set lo mtu 1500');
    const port = await ports.open('net_af_xdp0,iface=lo');
    expect(program('lo')).toBe('xdpgeneric');
    await ports.linksUp(port);
    // lo carries the port's own packets to itself
    expect(send(ports, port, [frame(60, 5)])).toBe(1);
    expect(await receive(ports, port, 1)).toEqual([frame(60, 5)]);
    expect(ports.log).toEqual([
      'net_af_xdp0: the driver of lo runs no XDP programs itself, or not at this MTU: packets take the way through the stack and are copied',
    ]);
    await port.stop();
    await port.start();
    expect(ports.log.length).toBe(1);
  });

  test('starts and stops leave nothing behind', async () => {
    makeVeth('va', 'vb');
    const before = openDescriptors();
    {
      await using ports = new PortBench();
      const free = ports.context.arena.window.freeBytes;
      const port = await ports.open('net_af_xdp0,iface=va', 1, false);
      const own = ports.context.arena.own.freeBytes;
      const between = openDescriptors();
      expect(program('va')).toBe('');
      for (let round = 0; round < 20; round++) {
        await port.start();
        expect([port.link().up, program('va')]).toEqual([true, 'xdp']);
        await port.stop();
        expect(program('va')).toBe('');
      }
      expect([ports.context.arena.window.freeBytes, ports.context.arena.own.freeBytes, openDescriptors()]).toEqual([free, own, between]);
      await port.start();
      // a queue that another socket has
      await expect(ports.open('net_af_xdp1,iface=va')).rejects.toThrow(/another XDP program is attached \(ip link show va\)/);
    }
    expect(program('va')).toBe('');
    expect(openDescriptors()).toBe(before);
  });

  test("another program's interface, and queues of sizes that no ring has, are refused", async () => {
    makeVeth('va', 'vb');
    await using ports = new PortBench();
    using other = new SocketMap('a test', 1);
    using va = new NetworkInterface('va');
    const link = other.attach(va.index() ?? 0, XDP_FLAGS_SKB_MODE);
    expect(link).toHaveProperty('fd');
    const before = openDescriptors();
    const port = await ports.open('net_af_xdp0,iface=va', 1, false);
    await expect(port.start()).rejects.toThrow(/iface=va: another XDP program is attached .*ip link set dev va xdp off/);
    if ('fd' in link) closeFd(link.fd);
    await port.start();
    await port.stop();
    expect(openDescriptors()).toBe(before);
    expect(() => port.setupRxQueue(0, { descriptors: 100, pool: ports.pool })).toThrow(/100 receive descriptors: .* power of two/);
    expect(() => port.setupTxQueue(0, { descriptors: 32_768 })).toThrow(/outside 32\.\.16384/);
  });

  test('an MTU that fits no chunk is refused at the start, and reported while running', async () => {
    makeVeth('va', 'vb', 9000);
    await using ports = new PortBench();
    const port = await ports.open('net_af_xdp0,iface=va', 1, false);
    await expect(port.start()).rejects.toThrow(/interface va has an MTU of 9000, .*ip link set va mtu 3822/);
    ip('link set va mtu 1500');
    await port.start();
    expect(program('va')).toBe('xdpgeneric');
    ip('link set va mtu 5000');
    await until(2000, 'the message', () => ports.log.some((line) => line.includes('MTU of 5000')));
    await ports.linksUp(port);
  });

  test.each([
    ['net_af_xdp0', /iface is mandatory: net_af_xdp0,iface=NAME; there are: lo/],
    ['net_af_xdp0,iface=none', /iface=none: no such interface in this network namespace; there are: lo/],
    ['net_af_xdp0,iface=lo,start_queue=-1', /from 0 to 4095/],
    ['net_af_xdp0,iface=lo,queue_count=0', /from 1 to 64/],
    ['net_af_xdp0,iface=lo,force_copy=2', /expected 0 or 1/],
    ['net_af_xdp0,iface=lo,busy_budget=65536', /from 0 to 65535/],
    ['net_af_xdp0,iface=lo,xdp_prog=/tmp/x.o', /xdp_prog: programs from object files are not loaded/],
    ['net_af_xdp0,iface=lo,queue=2', /unknown key queue/],
  ])('%s is refused', async (text, message) => {
    await using ports = new PortBench();
    const before = openDescriptors();
    await expect(ports.open(text)).rejects.toThrow(message);
    expect(openDescriptors()).toBe(before);
  });

  test('queues that the interface has not are refused', async () => {
    makeVeth('va', 'vb', 1500, 2);
    await using ports = new PortBench();
    await expect(ports.open('net_af_xdp0,iface=va,start_queue=2')).rejects.toThrow(/queue 2 wanted .* it has 2, counted from 0/);
    await expect(ports.open('net_af_xdp0,iface=va,queue_count=3')).rejects.toThrow(/queues 0 to 2 wanted/);
    ip('link set lo mtu 1500');
    // lo does not say how many it has: the kernel does
    await expect(ports.open('net_af_xdp0,iface=lo,start_queue=3')).rejects.toThrow(/queue 3: the interface has no such queue/);
    expect(program('lo')).toBe('');
  });
});
