import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { MBUF_BUFFER, MBUF_DATA, MBUF_PORT, MBUF_REFERENCES, MBUF_ROOM } from '../../src/memory/mbuf-layout.ts';
import {
  Q_ERRORS,
  Q_FREE,
  Q_FREE_HEAD,
  Q_FREE_RING,
  Q_NO_MBUF,
  Q_NOTIFY,
  Q_PACKETS,
  Q_STATE,
  QUEUE_ERROR_BUFFERS,
  QUEUE_ERROR_ID,
  QUEUE_ERROR_INDEX,
  QUEUE_ERROR_LENGTH,
  QUEUE_EVENT_IDX,
  QUEUE_IN_ORDER,
  QUEUE_INDIRECT,
  QUEUE_MERGEABLE,
  QUEUE_STOPPED,
} from '../../src/ring/queue-layout.ts';
import type { DriverQueue } from '../../src/ring/virtqueue.ts';
import { counter, frame, RingBench, TARGETS } from '../support/ring-pair.ts';

interface Descriptor {
  readonly address: number;
  readonly high: number;
  readonly length: number;
  readonly flags: number;
  readonly next: number;
}

/** virtio 1.2, 2.7.5: le64 addr, le32 len, le16 flags, le16 next. */
function descriptor(bench: RingBench, queue: DriverQueue, index: number): Descriptor {
  const at = queue.descriptors + 16 * index;
  return {
    address: bench.ld32(at),
    high: bench.ld32(at + 4),
    length: bench.ld32(at + 8),
    flags: bench.ld16(at + 12),
    next: bench.ld16(at + 14),
  };
}

/** virtio 1.2, 2.7.6: le16 flags, le16 idx, ring. */
const available = (bench: RingBench, queue: DriverQueue): { flags: number; index: number } => ({
  flags: bench.ld16(queue.available),
  index: bench.ld16(queue.available + 2),
});
const availableEntry = (bench: RingBench, queue: DriverQueue, at: number): number =>
  bench.ld16(queue.available + 4 + 2 * (at & (queue.size - 1)));

/** virtio 1.2, 2.7.8: used elements le32 id, le32 len behind le16 flags, le16 idx. Only visible once the index is stored. */
function use(bench: RingBench, queue: DriverQueue, at: number, id: number, length: number): void {
  const element = queue.used + 4 + 8 * (at & (queue.size - 1));
  bench.st32(element, id);
  bench.st32(element + 4, length);
}
function setUsedIndex(bench: RingBench, queue: DriverQueue, index: number): void {
  bench.st16(queue.used + 2, index & 0xffff);
}

function freeDescriptors(bench: RingBench, queue: DriverQueue): number[] {
  const head = queue.get(Q_FREE_HEAD);
  return Array.from({ length: queue.get(Q_FREE) }, (_, at) => bench.ld16(queue.get(Q_FREE_RING) + 2 * ((head + at) & (queue.size - 1))));
}

describe.each(TARGETS)('transmitting as a driver on %s', (target) => {
  let bench: RingBench;
  beforeEach(() => {
    bench = new RingBench(target);
  });
  afterEach(() => bench[Symbol.dispose]());
  const transmit = (queue: DriverQueue, packets: readonly number[]): number =>
    bench.send(bench.kernels.splitDriverTransmit, queue.offset, packets);
  const packets = (pool: Parameters<RingBench['packet']>[0], count: number, length = 60): number[] =>
    Array.from({ length: count }, (_, index) => bench.packet(pool, frame(length, index)) ?? 0);

  it.each([10, 12])('puts a header of %i zero bytes before the packet in one descriptor', (header) => {
    const pool = bench.pool();
    const queue = bench.driver({ header });
    const packet = bench.packet(pool, frame(60)) ?? 0;
    const data = bench.ld32(packet + MBUF_DATA);
    bench.u8.fill(0xff, data - 16, data);
    expect(transmit(queue, [packet])).toBe(1);
    expect(descriptor(bench, queue, 0)).toEqual({ address: data - header, high: 0, length: 60 + header, flags: 0, next: 0 });
    expect(bench.read(data - 16, 16)).toEqual(Buffer.concat([Buffer.alloc(16 - header, 0xff), Buffer.alloc(header)]));
    expect(bench.read(data, 60)).toEqual(frame(60));
    expect(available(bench, queue)).toEqual({ flags: 1, index: 1 });
  });

  it('tells the device the high word of its addresses', () => {
    const pool = bench.pool();
    const queue = bench.driver({ addressHigh: 1 });
    transmit(queue, [bench.packet(pool, frame(60)) ?? 0, bench.packet(pool, frame(60), { headroom: 0 }) ?? 0]);
    expect([0, 1, 2].map((index) => descriptor(bench, queue, index).high)).toEqual([1, 1, 1]);
  });

  it.each([0, 1, 9, 11])('takes a descriptor for the header when there are only %i bytes before the packet', (headroom) => {
    const pool = bench.pool();
    const queue = bench.driver();
    const packet = bench.packet(pool, frame(60), { headroom }) ?? 0;
    transmit(queue, [packet]);
    const [header, data] = [descriptor(bench, queue, 0), descriptor(bench, queue, 1)];
    expect(header).toMatchObject({ length: 12, flags: 1, next: 1 });
    expect(bench.read(header.address, 12)).toEqual(Buffer.alloc(12));
    expect(data).toMatchObject({ address: bench.ld32(packet + MBUF_DATA), length: 60, flags: 0 });
    expect(bench.read(data.address, 60)).toEqual(frame(60));
    expect(queue.get(Q_FREE)).toBe(62);
  });

  it.each([12, 13, 14, 15])('writes the header into a headroom of exactly %i bytes, at any alignment', (headroom) => {
    const pool = bench.pool();
    const queue = bench.driver();
    const packet = bench.packet(pool, frame(61), { headroom }) ?? 0;
    const buffer = bench.ld32(packet + MBUF_BUFFER);
    bench.u8.fill(0xee, buffer, buffer + headroom);
    transmit(queue, [packet]);
    expect(descriptor(bench, queue, 0)).toMatchObject({ address: buffer + headroom - 12, length: 73, flags: 0 });
    expect(bench.read(buffer, headroom)).toEqual(Buffer.concat([Buffer.alloc(headroom - 12, 0xee), Buffer.alloc(12)]));
  });

  it('does not write before a packet that somebody else owns too', () => {
    const pool = bench.pool();
    const { driver, device } = bench.pair({ devicePool: bench.pool() });
    const packet = bench.packet(pool, frame(60), { references: 2 }) ?? 0;
    const data = bench.ld32(packet + MBUF_DATA);
    bench.u8.fill(0xdd, data - 16, data);
    transmit(driver, [packet]);
    expect(bench.read(data - 16, 16)).toEqual(Buffer.alloc(16, 0xdd));
    expect(bench.take(bench.kernels.splitDeviceDequeue, device.offset, 8)).toEqual([frame(60)]);
    bench.kernels.splitDriverReclaim(driver.offset);
    expect(bench.ld16(packet + MBUF_REFERENCES)).toBe(1);
    expect(pool.free()).toBe(511);
    bench.kernels.packetFree(packet, 0);
  });

  it('chains the segments of a packet, the header before the first', () => {
    const pool = bench.pool();
    const queue = bench.driver();
    const packet = bench.packet(pool, frame(300), { segments: [100, 50, 50] }) ?? 0;
    transmit(queue, [packet]);
    const chain = [0, 1, 2, 3].map((index) => descriptor(bench, queue, index));
    expect(chain.map(({ length, flags }) => [length, flags])).toEqual([
      [112, 1],
      [50, 1],
      [50, 1],
      [100, 0],
    ]);
    expect(chain.slice(0, 3).map(({ next }) => next)).toEqual([1, 2, 3]);
    expect(available(bench, queue).index).toBe(1);
    expect(counter(queue, Q_PACKETS)).toBe(1);
  });

  it('drops a packet of more segments than the ring has descriptors, counts it, and sends the others', () => {
    const pool = bench.pool();
    const queue = bench.driver({ size: 4 });
    const long = bench.packet(pool, frame(500), { segments: [100, 100, 100, 100] }) ?? 0;
    const sole = bench.packet(pool, frame(400), { segments: [100, 100, 100], headroom: 0 }) ?? 0;
    const fits = bench.packet(pool, frame(60)) ?? 0;
    expect(transmit(queue, [long, sole, fits])).toBe(3);
    expect(counter(queue, Q_ERRORS)).toBe(2);
    expect(counter(queue, Q_PACKETS)).toBe(1);
    expect(available(bench, queue).index).toBe(1);
    expect(pool.free()).toBe(511);
  });

  it('leaves what does not fit into a full ring to the caller', () => {
    const pool = bench.pool();
    const queue = bench.driver({ size: 8 });
    expect(transmit(queue, packets(pool, 20))).toBe(8);
    expect(queue.get(Q_FREE)).toBe(0);
    expect(transmit(queue, packets(pool, 1))).toBe(0);
    expect(pool.free()).toBe(504);
    expect(counter(queue, Q_PACKETS)).toBe(8);
  });

  it('does not begin a chain that the free descriptors cannot hold', () => {
    const pool = bench.pool();
    const queue = bench.driver({ size: 4 });
    const long = bench.packet(pool, frame(90), { segments: [30, 30] }) ?? 0;
    expect(transmit(queue, [...packets(pool, 2), long])).toBe(2);
    expect([available(bench, queue).index, queue.get(Q_FREE)]).toEqual([2, 2]);
  });

  describe('with indirect descriptors', () => {
    const INDIRECT = 4;
    const entries = (
      address: number,
      count: number,
    ): readonly (readonly [address: number, length: number, flags: number, next: number])[] =>
      Array.from({ length: count }, (_, index) => {
        const at = address + 16 * index;
        return [bench.ld32(at), bench.ld32(at + 8), bench.ld16(at + 12), bench.ld16(at + 14)] as const;
      });

    it('describes a packet of several segments in a table, by one descriptor of the ring', () => {
      const pool = bench.pool();
      const queue = bench.driver({ features: QUEUE_INDIRECT, addressHigh: 1 });
      const packet = bench.packet(pool, frame(300), { segments: [100, 50, 50] }) ?? 0;
      expect(transmit(queue, [packet])).toBe(1);
      const inRing = descriptor(bench, queue, 0);
      // virtio 1.2, 2.7.5.3.1: INDIRECT without NEXT
      expect(inRing).toMatchObject({ high: 1, length: 4 * 16, flags: INDIRECT, next: 0 });
      expect(queue.get(Q_FREE)).toBe(63);
      const table = entries(inRing.address, 4);
      expect(table.map(([, length, flags, next]) => [length, flags, next])).toEqual([
        [112, 1, 1],
        [50, 1, 2],
        [50, 1, 3],
        [100, 0, 0],
      ]);
      expect(Buffer.concat(table.map(([address, length], index) => bench.read(address, length).subarray(index === 0 ? 12 : 0)))).toEqual(
        frame(300),
      );
      expect([0, 1, 2, 3].map((index) => bench.ld32(inRing.address + 16 * index + 4))).toEqual([1, 1, 1, 1]);
    });

    it('keeps a header that finds no headroom before the table, and neither is on another page', () => {
      const pool = bench.pool();
      const queue = bench.driver({ features: QUEUE_INDIRECT, size: 256 });
      for (let index = 0; index < 256; index++) {
        transmit(queue, [bench.packet(pool, frame(60, index), { headroom: 3 }) ?? 0]);
        const { address, length, flags } = descriptor(bench, queue, index);
        expect([length, flags]).toEqual([32, INDIRECT]);
        const [first, second] = entries(address, 2);
        expect(first?.slice(1)).toEqual([12, 1, 1]);
        expect(bench.read(first?.[0] ?? 0, 12)).toEqual(Buffer.alloc(12));
        expect(bench.read(second?.[0] ?? 0, second?.[1] ?? 0)).toEqual(frame(60, index));
        expect(Math.floor((first?.[0] ?? 0) / 128)).toBe(Math.floor((address + 95) / 128));
        expect(Math.floor(address / 128)).toBe(Math.floor((first?.[0] ?? 0) / 128));
      }
      expect([queue.get(Q_FREE), available(bench, queue).index]).toEqual([0, 256]);
    });

    it.each([
      [5, 128, 1, 6],
      [6, 128, 7, 0],
      [4, 0, 1, 6],
      [5, 0, 7, 0],
      [0, 128, 1, 0],
    ])('%i more segments behind a headroom of %i take %i descriptors of the ring, %i of a table', (more, headroom, taken, inTable) => {
      const pool = bench.pool();
      const queue = bench.driver({ features: QUEUE_INDIRECT });
      bench.canaries();
      const bytes = frame(700, more);
      transmit(queue, [bench.packet(pool, bytes, { segments: Array.from({ length: more }, () => 70), headroom }) ?? 0]);
      expect(64 - queue.get(Q_FREE)).toBe(taken);
      const { flags, length } = descriptor(bench, queue, 0);
      expect(flags & INDIRECT).toBe(inTable === 0 ? 0 : INDIRECT);
      if (inTable !== 0) expect(length).toBe(16 * inTable);
      expect(bench.deadCanaries()).toEqual([]);
    });

    it('sends a packet of several segments while a single descriptor is free', () => {
      const pool = bench.pool();
      const queue = bench.driver({ features: QUEUE_INDIRECT, size: 8 });
      const long = bench.packet(pool, frame(90), { segments: [30, 30] }) ?? 0;
      expect(transmit(queue, [...packets(pool, 7), long])).toBe(8);
      expect(queue.get(Q_FREE)).toBe(0);
    });

    it('still drops what is longer than the ring', () => {
      // virtio 1.2, 2.7.5.3.1: no chain is longer than the queue size
      const pool = bench.pool();
      const queue = bench.driver({ features: QUEUE_INDIRECT, size: 2 });
      expect(transmit(queue, [bench.packet(pool, frame(90), { segments: [30, 30] }) ?? 0])).toBe(1);
      expect(counter(queue, Q_ERRORS)).toBe(1);
      expect(pool.free()).toBe(512);
    });

    it.each([0, QUEUE_IN_ORDER])('is taken whole by the device, and every descriptor comes back (features %i)', (features) => {
      const pool = bench.pool();
      const devicePool = bench.pool();
      const { driver, device } = bench.pair({ size: 16, features: features | QUEUE_INDIRECT, devicePool });
      for (let round = 0; round < 60; round++) {
        const sent = Array.from({ length: 7 }, (_, index) => frame(200 + round + index, round * 7 + index));
        const shapes = [{}, { segments: [20, 30] }, { headroom: 0 }, { segments: [5, 5, 5, 5, 5, 5, 5, 5] }];
        expect(
          transmit(
            driver,
            sent.map((bytes, index) => bench.packet(pool, bytes, shapes[(round + index) % (index === 3 ? 4 : 3)]) ?? 0),
          ),
        ).toBe(7);
        expect(bench.take(bench.kernels.splitDeviceDequeue, device.offset, 16)).toEqual(sent);
      }
      expect(bench.kernels.splitDriverReclaim(driver.offset)).toBe(16);
      expect(new Set(freeDescriptors(bench, driver)).size).toBe(16);
      expect([driver.error, device.error, pool.free()]).toEqual([0, 0, 512]);
    });
  });

  it('takes sent packets back, in any order that the device used them', () => {
    const pool = bench.pool();
    const queue = bench.driver({ size: 8 });
    transmit(queue, packets(pool, 8));
    for (const [at, id] of [5, 0, 7, 2].entries()) use(bench, queue, at, id, 0);
    setUsedIndex(bench, queue, 4);
    expect(bench.kernels.splitDriverReclaim(queue.offset)).toBe(4);
    expect(freeDescriptors(bench, queue)).toEqual([5, 0, 7, 2]);
    expect(pool.free()).toBe(508);
  });

  it('names the descriptors that came back in the middle of a burst', () => {
    const pool = bench.pool();
    const { driver, device } = bench.pair({ size: 4, devicePool: bench.pool() });
    const long = [1, 2].map((seed) => bench.packet(pool, frame(90, seed), { segments: [45] }) ?? 0);
    transmit(driver, packets(pool, 2));
    expect(bench.take(bench.kernels.splitDeviceDequeue, device.offset, 8)).toHaveLength(2);
    // the other way round than they were sent
    for (const [at, id] of [1, 0].entries()) use(bench, driver, at, id, 0);
    expect(transmit(driver, long)).toBe(2);
    expect(Array.from({ length: 2 }, (_, at) => availableEntry(bench, driver, 2 + at))).toEqual([2, 1]);
    expect(bench.take(bench.kernels.splitDeviceDequeue, device.offset, 8)).toEqual([frame(90, 1), frame(90, 2)]);
    expect([driver.error, device.error]).toEqual([0, 0]);
  });

  it('takes a batch back of which the device wrote the last element only, when in order', () => {
    // virtio 1.2, 2.7.9: "the device ... write[s] out only a single used ring entry with the id corresponding to the head entry of the last buffer"
    const pool = bench.pool();
    const queue = bench.driver({ size: 8, features: QUEUE_IN_ORDER });
    transmit(queue, packets(pool, 8));
    use(bench, queue, 0, 4, 0);
    setUsedIndex(bench, queue, 5);
    expect(bench.kernels.splitDriverReclaim(queue.offset)).toBe(5);
    expect(freeDescriptors(bench, queue)).toEqual([0, 1, 2, 3, 4]);
    expect(pool.free()).toBe(509);
  });

  it('keeps slot and descriptor number equal for ever when the device works in order', () => {
    const pool = bench.pool();
    const queue = bench.driver({ size: 8, features: QUEUE_IN_ORDER });
    let index = 0;
    for (let round = 0; round < 40; round++) {
      index += transmit(queue, packets(pool, 5));
      setUsedIndex(bench, queue, index);
      bench.kernels.splitDriverReclaim(queue.offset);
      expect(Array.from({ length: 8 }, (_, at) => availableEntry(bench, queue, at)).slice(0, Math.min(index, 8))).toEqual(
        Array.from({ length: Math.min(index, 8) }, (_, at) => at),
      );
    }
    expect(pool.free()).toBe(512);
  });

  it.each([0, QUEUE_IN_ORDER])('goes on when the 16-bit index wraps (features %i)', (features) => {
    const pool = bench.pool();
    const devicePool = bench.pool();
    const { driver, device } = bench.pair({ size: 32, features, devicePool });
    for (let sent = 0; sent < 66_000; sent += 30) {
      expect(bench.kernels.splitDriverTransmit(driver.offset, bench.list(packets(pool, 30, 20)), 30)).toBe(30);
      const received = bench.kernels.splitDeviceDequeue(device.offset, bench.handles, 64);
      expect(received).toBe(30);
      bench.kernels.packetsFree(bench.handles, received, 0);
    }
    expect(available(bench, driver).index).toBe(66_000 & 0xffff);
    expect(new Set([...freeDescriptors(bench, driver)]).size).toBe(driver.get(Q_FREE));
    expect(driver.error).toBe(0);
    expect(counter(driver, Q_PACKETS)).toBe(66_000);
  });

  it.each([
    [1, 0],
    [0, 1],
    [0xfffe, 1],
    [0xffff, 0],
  ])('asks for a kick according to the flags %i of the used ring: %i', (flags, wanted) => {
    // virtio 1.2, 2.7.10: VIRTQ_USED_F_NO_NOTIFY is bit 0, the others mean nothing
    const pool = bench.pool();
    const queue = bench.driver();
    bench.st16(queue.used, flags);
    transmit(queue, packets(pool, 1));
    expect(queue.get(Q_NOTIFY)).toBe(wanted);
  });

  it.each([
    // virtio 1.2, 2.7.10.1: a kick once the index of an entry equals avail_event
    [0, 1, 0, 1],
    [0, 1, 1, 0],
    [0, 2, 1, 1],
    [0, 3, 0, 1],
    [0, 3, 0xffff, 0],
    [0, 3, 0xbfff, 0],
    [0xfffe, 1, 0xfffe, 1],
    [0xfffe, 2, 0xffff, 1],
    [0xfffe, 2, 0, 0],
    [0xfffe, 3, 0, 1],
    [0xfffe, 3, 1, 0],
    [0xfffe, 3, 0xfffd, 0],
  ])('with EVENT_IDX, from index %i on, %i packets and an avail_event of %i: kicks %i', (start, count, event, wanted) => {
    const pool = bench.pool();
    const queue = bench.driver({ features: QUEUE_EVENT_IDX, start });
    // virtio 1.2, 2.7.8: behind the ring; the flags mean nothing then
    bench.st16(queue.used, wanted);
    bench.st16(queue.used + 4 + 8 * queue.size, event);
    expect(transmit(queue, packets(pool, count))).toBe(count);
    expect(queue.get(Q_NOTIFY)).toBe(wanted);
    expect(bench.ld16(queue.available)).toBe(0);
  });

  it('does nothing while it is stopped', () => {
    const pool = bench.pool();
    const queue = bench.driver();
    queue.setState(QUEUE_STOPPED);
    expect(transmit(queue, packets(pool, 3))).toBe(0);
    expect(available(bench, queue).index).toBe(0);
    expect(pool.free()).toBe(512);
  });

  it.each([
    ['refuses a used index further ahead than the ring is long', 9, 0, QUEUE_ERROR_INDEX],
    ['refuses a used index that goes back', 0xffff, 0, QUEUE_ERROR_INDEX],
    ['refuses a used id outside the ring', 1, 8, QUEUE_ERROR_ID],
    ['refuses a used id of 2^32-1', 1, 0xffff_ffff, QUEUE_ERROR_ID],
    ['refuses a used id that would wrap an address', 1, 0x2000_0001, QUEUE_ERROR_ID],
    ['refuses a used id that is not outstanding', 1, 6, QUEUE_ERROR_ID],
    ['refuses a used id twice', 3, 2, QUEUE_ERROR_ID],
  ])('%s', (_, index, id, error) => {
    const pool = bench.pool();
    const queue = bench.driver({ size: 8 });
    transmit(queue, packets(pool, 4));
    for (let at = 0; at < 8; at++) use(bench, queue, at, id, 0);
    setUsedIndex(bench, queue, index);
    bench.kernels.splitDriverReclaim(queue.offset);
    expect([queue.get(Q_STATE), queue.error]).toEqual([QUEUE_STOPPED, error]);
    expect(transmit(queue, packets(pool, 1))).toBe(0);
    queue.reset(bench.kernels);
    expect(pool.free()).toBe(512);
    expect(freeDescriptors(bench, queue)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  });

  it('refuses more used elements than packets are outstanding, in order', () => {
    const pool = bench.pool();
    const queue = bench.driver({ size: 8, features: QUEUE_IN_ORDER });
    transmit(queue, packets(pool, 3));
    setUsedIndex(bench, queue, 4);
    bench.kernels.splitDriverReclaim(queue.offset);
    expect([queue.get(Q_STATE), queue.error]).toEqual([QUEUE_STOPPED, QUEUE_ERROR_ID]);
    expect(pool.free()).toBe(512);
  });

  it('does not touch the id of a middle descriptor of a chain as if it were a packet', () => {
    const pool = bench.pool();
    const queue = bench.driver({ size: 8 });
    transmit(queue, [bench.packet(pool, frame(90), { segments: [30, 30] }) ?? 0]);
    use(bench, queue, 0, 1, 0);
    setUsedIndex(bench, queue, 1);
    bench.kernels.splitDriverReclaim(queue.offset);
    expect(queue.error).toBe(QUEUE_ERROR_ID);
  });
});

describe.each(TARGETS)('receiving as a driver on %s', (target) => {
  let bench: RingBench;
  beforeEach(() => {
    bench = new RingBench(target);
  });
  afterEach(() => bench[Symbol.dispose]());
  const receive = (queue: DriverQueue, count = 32): Buffer[] => bench.take(bench.kernels.splitDriverReceive, queue.offset, count);
  /** What a device does: header and bytes into the buffer of descriptor `id`, then a used element. */
  const deliver = (queue: DriverQueue, at: number, id: number, bytes: Uint8Array, buffers = 1, header = 12): void => {
    const { address } = descriptor(bench, queue, id);
    bench.write(address, Buffer.alloc(header, 0x55));
    if (header === 12) bench.st16((address + 10) & ~1, buffers);
    bench.write(address + header, bytes);
    use(bench, queue, at, id, header + bytes.length);
    setUsedIndex(bench, queue, at + 1);
  };

  it.each([10, 12])('posts writable buffers of the whole data room, room for a header of %i bytes before it', (header) => {
    const pool = bench.pool({ count: 40 });
    const queue = bench.driver({ size: 32, header, pool });
    expect(receive(queue)).toEqual([]);
    expect(available(bench, queue).index).toBe(32);
    for (let index = 0; index < 32; index++) {
      expect(descriptor(bench, queue, index)).toMatchObject({ length: 2176 - 128 + header, flags: 2 });
    }
    expect(pool.free()).toBe(8);
  });

  it('posts what the pool has, counts what it has not, and goes on when there is more', () => {
    const pool = bench.pool({ count: 40, cacheSize: 0 });
    const held = Array.from({ length: 30 }, () => bench.packet(pool, frame(60)) ?? 0);
    const queue = bench.driver({ size: 64, pool });
    expect(receive(queue)).toEqual([]);
    expect(available(bench, queue).index).toBe(10);
    expect(counter(queue, Q_NO_MBUF)).toBeGreaterThan(0);
    expect(pool.free()).toBe(0);
    for (const packet of held) bench.kernels.packetFree(packet, 0);
    receive(queue);
    expect(available(bench, queue).index).toBeGreaterThan(10);
  });

  it.each([10, 12])('takes a packet without its header of %i bytes, and writes the port into it', (header) => {
    const pool = bench.pool();
    const queue = bench.driver({ size: 32, header, pool });
    receive(queue);
    deliver(queue, 0, 0, frame(60, 5), 1, header);
    expect(bench.kernels.splitDriverReceive(queue.offset, bench.handles, 32)).toBe(1);
    const [packet = 0] = bench.listed(1);
    expect(bench.bytesOf(packet)).toEqual(frame(60, 5));
    expect(bench.ld16(packet + MBUF_PORT)).toBe(3);
    bench.kernels.packetFree(packet, 0);
    expect(counter(queue, Q_PACKETS)).toBe(1);
  });

  it('takes buffers in the order in which a device used them', () => {
    const pool = bench.pool();
    const queue = bench.driver({ size: 32, pool });
    receive(queue);
    for (const [at, id] of [7, 3, 31, 0].entries()) deliver(queue, at, id, frame(60 + id, id));
    expect(receive(queue)).toEqual([7, 3, 31, 0].map((id) => frame(60 + id, id)));
  });

  it('takes no more than were asked for, and the rest later', () => {
    const pool = bench.pool();
    const queue = bench.driver({ size: 32, pool });
    receive(queue);
    for (let at = 0; at < 10; at++) deliver(queue, at, at, frame(60, at));
    expect(receive(queue, 4)).toEqual([0, 1, 2, 3].map((id) => frame(60, id)));
    expect(receive(queue, 4)).toEqual([4, 5, 6, 7].map((id) => frame(60, id)));
    expect(receive(queue, 4)).toEqual([8, 9].map((id) => frame(60, id)));
  });

  it.each([0, QUEUE_IN_ORDER])('joins as many buffers as the header says (features %i)', (features) => {
    // virtio 1.2, 5.1.6.4: only the first buffer carries a header; the others are data from their first byte
    const pool = bench.pool();
    const queue = bench.driver({ size: 32, pool, features: features | QUEUE_MERGEABLE });
    receive(queue);
    const room = 2176 - 128 + 12;
    const bytes = frame(room - 12 + room + 700, 9);
    deliver(queue, 0, 0, bytes.subarray(0, room - 12), 3);
    bench.write(descriptor(bench, queue, 1).address, bytes.subarray(room - 12, 2 * room - 12));
    use(bench, queue, 1, 1, room);
    bench.write(descriptor(bench, queue, 2).address, bytes.subarray(2 * room - 12));
    use(bench, queue, 2, 2, 700);
    setUsedIndex(bench, queue, 2);
    expect(receive(queue)).toEqual([]);
    setUsedIndex(bench, queue, 3);
    expect(receive(queue)).toEqual([bytes]);
  });

  it.each([0, 1])('takes num_buffers %i for one buffer', (buffers) => {
    const pool = bench.pool();
    const queue = bench.driver({ size: 32, pool, features: QUEUE_MERGEABLE });
    receive(queue);
    deliver(queue, 0, 0, frame(60), buffers);
    expect(receive(queue)).toEqual([frame(60)]);
  });

  it('refuses num_buffers beyond the ring', () => {
    const pool = bench.pool();
    const queue = bench.driver({ size: 32, pool, features: QUEUE_MERGEABLE });
    receive(queue);
    deliver(queue, 0, 0, frame(60), 33);
    expect(receive(queue)).toEqual([]);
    expect([queue.get(Q_STATE), queue.error]).toEqual([QUEUE_STOPPED, QUEUE_ERROR_BUFFERS]);
  });

  it('ignores num_buffers when mergeable buffers were not negotiated', () => {
    const pool = bench.pool();
    const queue = bench.driver({ size: 32, pool });
    receive(queue);
    deliver(queue, 0, 0, frame(60), 999);
    expect(receive(queue)).toEqual([frame(60)]);
  });

  it('takes a batch of which the device wrote the last element only, when in order', () => {
    // virtio 1.2, 2.7.9: buffers that were skipped count as written completely
    const pool = bench.pool({ dataRoom: 256 });
    const queue = bench.driver({ size: 32, pool, features: QUEUE_IN_ORDER });
    receive(queue);
    const bytes = [0, 1, 2].map((id) => frame(128, id));
    for (const id of [0, 1, 2]) bench.write(descriptor(bench, queue, id).address + 12, bytes[id] ?? frame(0));
    use(bench, queue, 0, 2, 12 + 60);
    setUsedIndex(bench, queue, 3);
    expect(receive(queue)).toEqual([bytes[0], bytes[1], bytes[2]?.subarray(0, 60)]);
    deliver(queue, 3, 3, frame(70, 3));
    expect(receive(queue)).toEqual([frame(70, 3)]);
  });

  it('gives packets shorter than an Ethernet header back and counts them', () => {
    const pool = bench.pool();
    const queue = bench.driver({ size: 32, pool });
    receive(queue);
    for (const [at, length] of [0, 1, 13, 14].entries()) deliver(queue, at, at, frame(length));
    expect(receive(queue)).toEqual([frame(14)]);
    expect([counter(queue, Q_ERRORS), counter(queue, Q_PACKETS), queue.error]).toEqual([3, 1, 0]);
  });

  it('goes on after a packet of several buffers without a single byte', () => {
    const pool = bench.pool();
    const queue = bench.driver({ size: 32, pool, features: QUEUE_MERGEABLE });
    receive(queue);
    deliver(queue, 0, 0, frame(0), 2);
    use(bench, queue, 1, 1, 0);
    setUsedIndex(bench, queue, 2);
    deliver(queue, 2, 2, frame(60, 2));
    expect(receive(queue)).toEqual([frame(60, 2)]);
    expect([counter(queue, Q_ERRORS), queue.error]).toEqual([1, 0]);
  });

  it.each([
    ['refuses a used length beyond the buffer', 0, 2176 - 128 + 12 + 1, 1, QUEUE_ERROR_LENGTH],
    ['refuses a used length of 2^32-1', 0, 0xffff_ffff, 1, QUEUE_ERROR_LENGTH],
    ['refuses a used length shorter than the header', 0, 11, 1, QUEUE_ERROR_LENGTH],
    ['refuses a used length of 0', 0, 0, 1, QUEUE_ERROR_LENGTH],
    ['refuses a used id outside the ring', 32, 72, 1, QUEUE_ERROR_ID],
    ['refuses a used id of 2^32-1', 0xffff_ffff, 72, 1, QUEUE_ERROR_ID],
    ['refuses a used index further ahead than buffers are posted', 0, 72, 33, QUEUE_ERROR_INDEX],
    ['refuses a used index that goes back', 0, 72, 0xffff, QUEUE_ERROR_INDEX],
    ['refuses a used id twice', 0, 72, 2, QUEUE_ERROR_ID],
  ])('%s, and loses no buffer', (_, id, length, index, error) => {
    for (const features of [0, QUEUE_MERGEABLE]) {
      const pool = bench.pool({ count: 64 });
      const queue = bench.driver({ size: 32, pool, features });
      receive(queue);
      for (let at = 0; at < 32; at++) use(bench, queue, at, id, length);
      setUsedIndex(bench, queue, index);
      receive(queue);
      expect([queue.get(Q_STATE), queue.error]).toEqual([QUEUE_STOPPED, error]);
      expect(receive(queue)).toEqual([]);
      queue.reset(bench.kernels);
      expect(pool.free()).toBe(64);
      expect(new Set(bench.freeHandles(pool)).size).toBe(64);
    }
  });

  it.each([32, 0xffff_ffff])('refuses a used id %i outside the ring, in order', (id) => {
    const pool = bench.pool({ count: 64 });
    const queue = bench.driver({ size: 32, pool, features: QUEUE_IN_ORDER });
    receive(queue);
    use(bench, queue, 0, id, 72);
    setUsedIndex(bench, queue, 1);
    expect(receive(queue)).toEqual([]);
    expect(queue.error).toBe(QUEUE_ERROR_ID);
  });

  it.each([
    ['too long', 0xffff, QUEUE_ERROR_LENGTH],
    ['with an id that is not outstanding', 60, QUEUE_ERROR_ID],
  ])('gives the first buffers of a packet back when a later one is %s', (_, length, error) => {
    const pool = bench.pool({ count: 64 });
    const queue = bench.driver({ size: 32, pool, features: QUEUE_MERGEABLE });
    receive(queue);
    deliver(queue, 0, 0, frame(60), 3);
    use(bench, queue, 1, 1, 60);
    use(bench, queue, 2, error === QUEUE_ERROR_ID ? 0 : 2, length);
    setUsedIndex(bench, queue, 3);
    expect(receive(queue)).toEqual([]);
    expect(queue.error).toBe(error);
    queue.reset(bench.kernels);
    expect(pool.free()).toBe(64);
  });

  it('never believes what the device writes over the descriptors', () => {
    const pool = bench.pool();
    const queue = bench.driver({ size: 32, pool });
    receive(queue);
    deliver(queue, 0, 0, frame(60));
    bench.u8.fill(0xff, queue.descriptors, queue.descriptors + 16 * 32);
    bench.u8.fill(0xff, queue.available + 4, queue.available + 4 + 64);
    expect(receive(queue)).toEqual([frame(60)]);
  });

  it('posts each buffer at the place of its mbuf, as large as its room', () => {
    const pool = bench.pool({ dataRoom: 1000 });
    const queue = bench.driver({ size: 32, pool });
    receive(queue);
    deliver(queue, 0, 0, frame(1000 - 128));
    bench.kernels.splitDriverReceive(queue.offset, bench.handles, 1);
    const [packet = 0] = bench.listed(1);
    expect(bench.ld32(packet + MBUF_ROOM)).toBe(1000);
    expect(bench.ld32(packet + MBUF_DATA)).toBe(bench.ld32(packet + MBUF_BUFFER) + 128);
    bench.kernels.packetFree(packet, 0);
  });

  it.each([2, 4, 8, 16])('keeps a ring of %i descriptors going', (size) => {
    const pool = bench.pool();
    const queue = bench.driver({ size, pool });
    receive(queue);
    expect(available(bench, queue).index).toBe(size);
    let at = 0;
    for (let round = 0; round < 30; round++) {
      const posted = available(bench, queue).index;
      const sent: Buffer[] = [];
      for (; at !== posted; at++) {
        deliver(queue, at, availableEntry(bench, queue, at), frame(60, at));
        sent.push(frame(60, at));
      }
      expect(receive(queue)).toEqual(sent);
      receive(queue);
    }
    expect(queue.error).toBe(0);
    expect(at).toBeGreaterThan(size);
  });

  it.each([1, 0])('asks for a kick after posting buffers unless the device does not want one (flags %i)', (flags) => {
    const pool = bench.pool();
    const queue = bench.driver({ size: 32, pool });
    bench.st16(queue.used, flags);
    receive(queue);
    expect(queue.get(Q_NOTIFY)).toBe(1 - flags);
  });
});
