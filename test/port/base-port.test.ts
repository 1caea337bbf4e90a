import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createMempool } from '../../src/memory/mempool.ts';
import type { Port, PortInfo } from '../../src/port/port.ts';
import { PortBench } from '../support/port-pair.ts';
import { frame } from '../support/ring-pair.ts';

let bench: PortBench;
beforeEach(() => {
  bench = new PortBench();
});
afterEach(() => bench[Symbol.asyncDispose]());

describe('the life of a port', () => {
  it.each([
    [
      'more receive queues than it has',
      { rxQueues: 17, txQueues: 1, rxOffloads: 0, txOffloads: 0 },
      /number of receive queues 17 is outside 0..16/,
    ],
    ['half a queue', { rxQueues: 1, txQueues: 0.5, rxOffloads: 0, txOffloads: 0 }, /number of transmit queues 0.5/],
    [
      'offloads that it does not have',
      { rxQueues: 1, txQueues: 1, rxOffloads: 1, txOffloads: 0 },
      /receive offloads 0x1 are not within its capabilities 0x2000/,
    ],
  ])('refuses %s', async (_, configuration, text) => {
    const port = await bench.open('net_ring0', 1, false);
    await expect((async () => port.configure(configuration))()).rejects.toThrow(text);
    expect(port.configuration).toMatchObject({ rxQueues: 1 });
  });

  it('does not start before it is configured and every queue is set up', async () => {
    const port = await bench.open('net_ring0', 1, false);
    await port.configure({ rxQueues: 2, txQueues: 1, rxOffloads: 0, txOffloads: 0 });
    await expect(port.start()).rejects.toThrow(/a queue is not set up/);
    await expect((async () => port.setupRxQueue(2, { descriptors: 0, pool: bench.pool }))()).rejects.toThrow(
      /receive queue 2: the port is configured with 2/,
    );
    expect(() => port.rxBurst(0, 0, 1)).toThrow(/no receive queue 0/);
    expect(() => port.rxQueueHandle(0)).toThrow(/receive queue 0 is not set up/);
  });

  it('changes nothing while it runs, and nothing any more when it is closed', async () => {
    const port = await bench.open('net_ring0');
    expect(port.state).toBe('started');
    await expect((async () => port.configure({ rxQueues: 1, txQueues: 1, rxOffloads: 0, txOffloads: 0 }))()).rejects.toThrow(
      /stop the port first/,
    );
    await expect((async () => port.setupTxQueue(0, { descriptors: 0 }))()).rejects.toThrow(/stop the port first/);
    await port.start();
    await port.close();
    await port.close();
    await expect(port.start()).rejects.toThrow(/the port is closed/);
    expect(port.state).toBe('closed');
  });

  it('checks addresses and MTU', async () => {
    const port = await bench.open('net_ring0', 1, false);
    for (const mac of [
      [1, 0, 0, 0, 0, 0],
      [0, 0, 0, 0, 0, 0],
      [2, 0, 0],
    ]) {
      await expect((async () => port.setMac(Uint8Array.from(mac)))()).rejects.toThrow(/unicast/);
    }
    await port.setMac(Uint8Array.of(2, 0, 0, 0, 0, 9));
    expect([...port.mac]).toEqual([2, 0, 0, 0, 0, 9]);
    for (const mtu of [67, 65_536, 100.5]) await expect((async () => port.setMtu(mtu))()).rejects.toThrow(/MTU .* is outside 68..65535/);
  });

  it('counts since the last reset', async () => {
    const port = await bench.open('net_ring0');
    bench.pass(port, port, { count: 40 });
    expect(port.statistics()).toMatchObject({ rxPackets: 40, txPackets: 40, rxBytes: 2400 });
    port.resetStatistics();
    expect(port.statistics()).toMatchObject({ rxPackets: 0, txPackets: 0, rxBytes: 0 });
    bench.pass(port, port, { count: 2 });
    expect(port.extendedStatistics()).toContainEqual({ name: 'rx_good_packets', value: 2 });
  });
});

describe('offloads of a port', () => {
  const LRO = 0x10;
  const able = (port: Port, more: Partial<PortInfo>): void => {
    Object.defineProperty(port, 'info', { value: { ...port.info, maxMtu: 9000, maxRxPacketLength: 9022, ...more } });
  };
  const wanted = { rxQueues: 1, txQueues: 1, txOffloads: 0, rxOffloads: LRO };

  it.each([
    [0, 1521, /largest packet of receive offload 1521 is outside 1522..1522/],
    [0, 1523, /1523 is outside 1522..1522/],
    [65_535, 63, /63 is outside 64..65535/],
    [65_535, 65_536, /65536 is outside 64..65535/],
    [65_535, 64.5, /64.5 is outside/],
  ])('with a limit of %i refuses LRO to %d bytes', async (maxLroPacketSize, size, text) => {
    const port = await bench.open('net_ring0', 1, false);
    able(port, { rxOffloadCapabilities: LRO, maxLroPacketSize });
    await expect((async () => port.configure({ ...wanted, maxLroPacketSize: size }))()).rejects.toThrow(text);
    await port.configure({ ...wanted, rxOffloads: 0, maxLroPacketSize: size });
    for (const fits of maxLroPacketSize === 0 ? [0, 1522] : [0, 64, 65_535]) await port.configure({ ...wanted, maxLroPacketSize: fits });
    expect(port.configuration).toMatchObject({ rxOffloads: LRO });
  });

  it('about VLAN tags are switched within its capabilities, and nothing else with them', async () => {
    const port = await bench.open('net_ring0', 1, false);
    able(port, { rxOffloadCapabilities: 0x2001 });
    await port.configure({ ...wanted, rxOffloads: 0x2000 });
    await expect(port.setVlanOffloads(0x200)).rejects.toThrow(/receive offloads 0x2200 are not within its capabilities 0x2001/);
    await port.setVlanOffloads(0x1 | LRO);
    expect(port.configuration).toMatchObject({ rxOffloads: 0x2001 });
    await port.setVlanOffloads(0);
    expect(port.configuration).toMatchObject({ rxOffloads: 0x2000 });
    await port.close();
    await expect(port.setVlanOffloads(1)).rejects.toMatchObject({ code: 'ENODEV' });
  });
});

describe('net_ring', () => {
  it('receives on each queue what was sent on it, in order', async () => {
    const port = await bench.open('net_ring0', 3);
    for (const queue of [2, 0, 1]) bench.pass(port, port, { queue, count: 3000 });
  });

  it('takes 1024 packets and leaves the others to the caller', async () => {
    const port = await bench.open('net_ring0');
    let taken = 0;
    while (bench.offer(port)) taken++;
    expect(taken).toBe(1024);
    expect(bench.pool.free()).toBe(3000 - 1024);
  });

  it('gives packets back that nobody received, when it is stopped', async () => {
    const port = await bench.open('net_ring0');
    for (let count = 0; count < 10; count++) bench.offer(port);
    await port.stop();
    expect(bench.pool.free()).toBe(3000);
    await port.start();
    bench.pass(port, port);
  });
});

describe('net_null', () => {
  const receive = (port: Port, count: number): number[] => bench.bench.listed(port.rxBurst(0, bench.bench.handles, count));

  it.each([
    ['net_null0', 64],
    ['net_null0,size=1500', 1500],
    ['net_null0,copy=1,size=100', 100],
  ])('makes packets out of nothing: %s', async (text, size) => {
    const port = await bench.open(text);
    const packets = receive(port, 32);
    expect(packets.map((packet) => bench.lengthOf(packet))).toEqual(Array.from({ length: 32 }, () => size));
    expect(port.statistics()).toMatchObject({ rxPackets: 32, rxBytes: 32 * size });
    expect(port.txBurst(0, bench.bench.list(packets), 32)).toBe(32);
    expect(port.statistics()).toMatchObject({ txPackets: 32, txBytes: 32 * size });
    expect(bench.pool.free()).toBe(3000);
  });

  it('copies zeroes into what it makes when asked to', async () => {
    const port = await bench.open('net_null0,copy=1,size=200');
    const used = bench.bench.packet(bench.pool, frame(200, 3)) ?? 0;
    bench.bench.kernels.packetFree(used, 0);
    const [packet = 0] = receive(port, 1);
    expect(bench.bench.bytesOf(packet)).toEqual(Buffer.alloc(200));
    bench.bench.kernels.packetFree(packet, 0);
  });

  it('receives nothing when asked to', async () => {
    const port = await bench.open('net_null0,no-rx=1');
    expect(receive(port, 32)).toEqual([]);
    expect(bench.offer(port)).toBe(true);
  });

  it('counts what an empty pool cost it', async () => {
    const port = await bench.open('net_null0', 1, false);
    const small = createMempool(bench.context.arena, { count: 10 });
    await port.setupRxQueue(0, { descriptors: 0, pool: small });
    await port.start();
    expect(receive(port, 32)).toEqual([]);
    expect(port.statistics().rxNoMbuf).toBe(32);
    small.close();
  });

  it('refuses packets that no mbuf holds', async () => {
    await expect(bench.open('net_null0,size=9000')).rejects.toThrow(/size=9000 does not fit the 2048 bytes of an mbuf/);
  });
});
