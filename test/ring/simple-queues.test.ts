import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import fc from 'fast-check';
import { MBUF_LENGTH, MBUF_PORT } from '../../src/memory/mbuf-layout.ts';
import { RING_ITEMS, RING_RECEIVED, RING_SENT, RING_SIZE } from '../../src/ring/handle-ring.kernel.ts';
import {
  Q_BYTES,
  Q_DESCRIPTORS,
  Q_HEADERS,
  Q_NO_MBUF,
  Q_PACKETS,
  Q_POOL,
  Q_PORT,
  Q_SIZE,
  QUEUE_RUNNING,
  QUEUE_STOPPED,
} from '../../src/ring/queue-layout.ts';
import { checkSplitSize, DeviceQueue, DriverQueue, QueueState, splitRingBytes } from '../../src/ring/virtqueue.ts';
import { frame, RingBench, TARGETS } from '../support/ring-pair.ts';

describe.each(TARGETS)('queues without a virtqueue on %s', (target) => {
  let bench: RingBench;
  const queues: QueueState[] = [];
  beforeEach(() => {
    bench = new RingBench(target);
  });
  afterEach(() => {
    for (const queue of queues.splice(0)) queue.close();
    bench[Symbol.dispose]();
  });
  const queue = (port: number): QueueState => {
    const made = new QueueState(bench.arena, 'a queue', port);
    queues.push(made);
    made.setState(QUEUE_RUNNING);
    return made;
  };
  /** Both ends of a ring of handles whose positions begin at `start`. */
  const ring = (size: number, start = 0): { readonly tx: QueueState; readonly rx: QueueState; readonly ring: number } => {
    const offset = bench.own(RING_ITEMS + 4 * size + 64);
    bench.u8.fill(0x7e, offset + RING_ITEMS + 4 * size, offset + RING_ITEMS + 4 * size + 64);
    bench.st32(offset + RING_SIZE, size);
    bench.st32(offset + RING_SENT, start);
    bench.st32(offset + RING_RECEIVED, start);
    const [tx, rx] = [queue(1), queue(2)];
    for (const end of [tx, rx]) end.set(Q_DESCRIPTORS, offset);
    return { tx, rx, ring: offset };
  };

  it.each([0, 0xffff_fff0])('carry handles in order across the wrap of positions, from %i', (start) => {
    const pool = bench.pool({ count: 64 });
    const { tx, rx, ring: offset } = ring(16, start);
    const { ringTransmit, ringReceive } = bench.kernels;
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.boolean(), fc.integer({ min: 1, max: 24 })), { maxLength: 40 }), (steps) => {
        const inside: Buffer[] = [];
        let seed = 0;
        for (const [sends, count] of [...steps, [false, 24] as const]) {
          if (sends) {
            const packets = Array.from({ length: count }, () => frame(60, seed++));
            const handles = packets.map((bytes) => bench.packet(pool, bytes) ?? 0);
            const taken = bench.send(ringTransmit, tx.offset, handles);
            expect(taken).toBe(Math.min(count, 16 - inside.length));
            inside.push(...packets.slice(0, taken));
          } else {
            const expected = inside.splice(0, count);
            expect(bench.take(ringReceive, rx.offset, count)).toEqual(expected);
          }
        }
        expect(pool.free()).toBe(64);
        expect(bench.read(offset + RING_ITEMS + 64, 64)).toEqual(Buffer.alloc(64, 0x7e));
      }),
      { numRuns: 60 },
    );
    expect(tx.counter(Q_PACKETS)).toBe(rx.counter(Q_PACKETS));
    expect(tx.counter(Q_BYTES)).toBe(60 * rx.counter(Q_PACKETS));
  });

  it('write the receiving port into each packet, and do nothing while stopped', () => {
    const pool = bench.pool({ count: 8 });
    const { tx, rx } = ring(4);
    const packet = bench.packet(pool, frame(60)) ?? 0;
    tx.setState(QUEUE_STOPPED);
    expect(bench.kernels.ringTransmit(tx.offset, bench.list([packet]), 1)).toBe(0);
    tx.setState(QUEUE_RUNNING);
    expect(bench.kernels.ringTransmit(tx.offset, bench.list([packet]), 1)).toBe(1);
    rx.setState(QUEUE_STOPPED);
    expect(bench.kernels.ringReceive(rx.offset, bench.handles, 1)).toBe(0);
    rx.setState(QUEUE_RUNNING);
    expect(bench.kernels.ringReceive(rx.offset, bench.handles, 1)).toBe(1);
    expect([bench.listed(1), bench.ld16(packet + MBUF_PORT)]).toEqual([[packet], rx.get(Q_PORT)]);
    bench.kernels.packetFree(packet, 0);
  });

  it('make packets out of nothing, all that were asked for or none', () => {
    const pool = bench.pool({ count: 40, cacheSize: 0 });
    const rx = queue(5);
    const template = bench.own(100);
    bench.write(template, frame(100, 8));
    rx.set(Q_POOL, pool.offset);
    rx.set(Q_SIZE, 100);
    rx.set(Q_HEADERS, template);
    const { nullReceive, nullTransmit } = bench.kernels;
    expect(nullReceive(rx.offset, bench.handles, 32)).toBe(32);
    const packets = bench.listed(32);
    for (const packet of packets) {
      expect(bench.bytesOf(packet)).toEqual(frame(100, 8));
      expect([bench.ld32(packet + MBUF_LENGTH), bench.ld16(packet + MBUF_PORT)]).toEqual([100, 5]);
    }
    expect(nullReceive(rx.offset, bench.handles, 32)).toBe(0);
    expect([rx.counter(Q_NO_MBUF), rx.counter(Q_PACKETS), rx.counter(Q_BYTES)]).toEqual([32, 32, 3200]);
    const tx = queue(6);
    expect(nullTransmit(tx.offset, bench.list(packets), 32)).toBe(32);
    expect([pool.free(), tx.counter(Q_BYTES)]).toEqual([40, 3200]);
  });

  it('copy no more of a packet than the sink holds, and free all its segments', () => {
    const pool = bench.pool({ count: 8 });
    const tx = queue(6);
    const sink = bench.own(128);
    bench.u8.fill(0x11, sink, sink + 128);
    tx.set(Q_SIZE, 64);
    tx.set(Q_HEADERS, sink);
    const packet = bench.packet(pool, frame(200, 4), { segments: [90] }) ?? 0;
    expect(bench.kernels.nullTransmit(tx.offset, bench.list([packet]), 1)).toBe(1);
    expect(bench.read(sink, 128)).toEqual(Buffer.concat([frame(200, 4).subarray(0, 64), Buffer.alloc(64, 0x11)]));
    expect([pool.free(), tx.counter(Q_BYTES)]).toEqual([8, 200]);
  });
});

describe('making virtqueues', () => {
  let bench: RingBench;
  beforeEach(() => {
    bench = new RingBench('wasm');
  });
  afterEach(() => bench[Symbol.dispose]());

  it('takes the bytes of virtio 1.2, 2.7: 16N, 6+2N, 6+8N', () => {
    expect(splitRingBytes(256)).toEqual({ descriptors: 4096, available: 518, used: 2054 });
  });

  it.each([0, 1, 3, 100, 65_536, -2, 2.5, Number.NaN])('refuses a ring of %d descriptors', (size) => {
    expect(() => {
      checkSplitSize('queue_size', size);
    }).toThrow(/^queue_size .*: a split ring has a power of two of descriptors, 2 to 32768$/);
  });

  it.each([2, 64, 1024])('aligns the parts of a ring of %i, and gives everything back', (size) => {
    const { arena } = bench;
    const before = [arena.own.freeBytes, arena.published.freeBytes];
    const queue = new DriverQueue(arena, { name: 'a queue', size, port: 0 });
    // virtio 1.2, 2.7: 16, 2 and 4; addresses, as the device sees them
    expect([(arena.base + queue.descriptors) % 16, (arena.base + queue.available) % 2, (arena.base + queue.used) % 4]).toEqual([0, 0, 0]);
    expect(bench.ld16(queue.available)).toBe(1);
    queue.close();
    queue.close();
    expect([arena.own.freeBytes, arena.published.freeBytes]).toEqual(before);
  });

  it('gives back what it had taken when the arena is too small', () => {
    const { arena } = bench;
    const before = [arena.own.freeBytes, arena.published.freeBytes];
    const full = arena.allocatePublished(arena.published.freeBytes - 20_000, 'everything', 1);
    expect(() => new DriverQueue(arena, { name: 'tx queue 0 of a port', size: 1024, port: 0 })).toThrow(/no room for tx queue 0 of a port/);
    arena.published.release(full);
    expect([arena.own.freeBytes, arena.published.freeBytes]).toEqual(before);
  });

  it('refuses a ring of an impossible size on the device side too', () => {
    const queue = new DeviceQueue(bench.arena, { name: 'a queue', port: 0 });
    const ring = { size: 100, descriptors: 0, available: 0, used: 0, features: 0, headerBytes: 12, regions: 0 };
    expect(() => {
      queue.attach(ring);
    }).toThrow(/ring size 100/);
    queue.close();
  });
});
