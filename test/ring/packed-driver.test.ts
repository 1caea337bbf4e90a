import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { MBUF_DATA, MBUF_PORT, MBUF_ROOM } from '../../src/memory/mbuf-layout.ts';
import type { Mempool } from '../../src/memory/mempool.ts';
import {
  Q_ERRORS,
  Q_FREE,
  Q_NOTIFY,
  Q_OWN_INDEX,
  Q_PACKETS,
  Q_STATE,
  QUEUE_ERROR_BUFFERS,
  QUEUE_ERROR_ID,
  QUEUE_ERROR_LENGTH,
  QUEUE_EVENT_IDX,
  QUEUE_IN_ORDER,
  QUEUE_INDIRECT,
  QUEUE_MERGEABLE,
  QUEUE_PACKED,
  QUEUE_STOPPED,
} from '../../src/ring/queue-layout.ts';
import type { DriverQueue } from '../../src/ring/virtqueue.ts';
import { counter, frame, RingBench, TARGETS, type PairOptions } from '../support/ring-pair.ts';

const NEXT = 1;
const WRITE = 2;
const HEADER = 12;

/** virtio 1.2, 2.8.13: le64 addr, le32 len, le16 id, le16 flags. */
interface Descriptor {
  readonly address: number;
  readonly length: number;
  readonly id: number;
  readonly flags: number;
}

/** The other side of a driver's packed ring, which does what the test says and believes nothing. */
class Device {
  readonly bench: RingBench;
  readonly queue: DriverQueue;
  #index = 0;
  #wrap = true;

  constructor(bench: RingBench, queue: DriverQueue) {
    this.bench = bench;
    this.queue = queue;
  }

  descriptor(index: number): Descriptor {
    const at = this.queue.descriptors + 16 * index;
    const { bench } = this;
    return { address: bench.ld32(at), length: bench.ld32(at + 8), id: bench.ld16(at + 12), flags: bench.ld16(at + 14) };
  }

  /** 2.8.1: AVAIL (bit 7) is the wrap counter, USED (bit 15) is not; with WRITE and NEXT. */
  isAvailable(index: number, wrap: boolean): boolean {
    return (this.descriptor(index).flags & 0x8080) === (wrap ? 0x0080 : 0x8000);
  }

  /** Takes the next buffer: its descriptors, the id in the last. */
  take(): { readonly list: readonly Descriptor[]; readonly at: number; readonly wrap: boolean } | undefined {
    const [at, wrap] = [this.#index, this.#wrap];
    if (!this.isAvailable(at, wrap)) return undefined;
    const list: Descriptor[] = [];
    for (;;) {
      const found = this.descriptor(this.#index);
      list.push(found);
      if (++this.#index === this.queue.size) {
        this.#index = 0;
        this.#wrap = !this.#wrap;
      }
      if ((found.flags & NEXT) === 0) return { list, at, wrap };
      expect(this.isAvailable(this.#index, this.#wrap), `descriptor ${this.#index} of a list`).toBe(true);
    }
  }

  takeAll(): ReturnType<Device['take']>[] {
    const all: ReturnType<Device['take']>[] = [];
    for (let next = this.take(); next !== undefined; next = this.take()) all.push(next);
    return all;
  }

  /** 2.8.1: both bits are the wrap counter. */
  use(at: number, wrap: boolean, id: number, length: number): void {
    const offset = this.queue.descriptors + 16 * at;
    this.bench.st32(offset + 8, length);
    this.bench.st16(offset + 12, id);
    this.bench.st16(offset + 14, wrap ? 0x8080 : 0);
  }
}

describe.each(TARGETS)('the driver side of a packed ring on %s', (target) => {
  let bench: RingBench;
  let pool: Mempool;
  beforeEach(() => {
    bench = new RingBench(target);
    pool = bench.pool();
    bench.canaries();
  });
  afterEach(() => {
    expect(bench.deadCanaries()).toEqual([]);
    bench[Symbol.dispose]();
  });

  const start = (options: PairOptions = {}): { queue: DriverQueue; device: Device } => {
    const queue = bench.driver({ size: 5, header: HEADER, ...options, features: (options.features ?? 0) | QUEUE_PACKED });
    return { queue, device: new Device(bench, queue) };
  };
  const packets = (count: number, length = 60): number[] =>
    Array.from({ length: count }, (_, index) => bench.packet(pool, frame(length, index)) ?? 0);
  const transmit = (queue: DriverQueue, list: readonly number[]): number =>
    bench.send(bench.kernels.packedDriverTransmit, queue.offset, list);
  const receive = (queue: DriverQueue, count = 32): Buffer[] => bench.take(bench.kernels.packedDriverReceive, queue.offset, count);
  const fill = (queue: DriverQueue): void => {
    while (bench.kernels.packedDriverRefill(queue.offset, 0) !== 0) continue;
  };
  /** Puts a header and a packet into the buffer at `address`; num_buffers at 10 (5.1.6). */
  const put = (address: number, bytes: Uint8Array, buffers = 1): void => {
    bench.u8.fill(0, address, address + HEADER);
    bench.st16(address + 10, buffers);
    bench.write(address + HEADER, bytes);
  };

  describe('with indirect descriptors', () => {
    const INDIRECT = 4;
    const table = ({ address, length }: Descriptor): Descriptor[] =>
      Array.from({ length: length / 16 }, (_, index) => {
        const at = address + 16 * index;
        return { address: bench.ld32(at), length: bench.ld32(at + 8), id: bench.ld16(at + 12), flags: bench.ld16(at + 14) };
      });
    const textOf = (entries: readonly Descriptor[]): Buffer =>
      Buffer.concat(entries.map(({ address, length }) => bench.read(address, length))).subarray(HEADER);

    it('describes a packet of several segments in a table, by one descriptor of the ring', () => {
      const { queue, device } = start({ features: QUEUE_INDIRECT, addressHigh: 1 });
      expect(transmit(queue, [bench.packet(pool, frame(300), { segments: [100, 50, 50] }) ?? 0])).toBe(1);
      // 2.8.7: INDIRECT without NEXT; 0x80: available
      const inRing = device.descriptor(0);
      expect(inRing).toMatchObject({ length: 4 * 16, id: 0, flags: 0x80 | INDIRECT });
      expect([queue.get(Q_FREE), queue.get(Q_OWN_INDEX), bench.ld32(queue.descriptors + 4)]).toEqual([4, 0x8001, 1]);
      const entries = table(inRing);
      // flags but for WRITE are reserved in a table, and so is the id
      expect(entries.map(({ length, id, flags }) => [length, id, flags])).toEqual([
        [112, 0, 0],
        [50, 0, 0],
        [50, 0, 0],
        [100, 0, 0],
      ]);
      expect(entries.map((_, index) => bench.ld32(inRing.address + 16 * index + 4))).toEqual([1, 1, 1, 1]);
      expect(textOf(entries)).toEqual(frame(300));
    });

    it('takes one for a header without headroom, and goes round the ring with a table for each buffer id', () => {
      const { queue, device } = start({ features: QUEUE_INDIRECT });
      for (let round = 0; round < 13; round++) {
        const [one, other] = [frame(60, round), frame(70, round)];
        const shape = { headroom: 3 };
        expect(transmit(queue, [bench.packet(pool, one, shape) ?? 0, bench.packet(pool, other, { segments: [1] }) ?? 0])).toBe(2);
        const taken = device.takeAll();
        expect(taken.map((buffer) => textOf(table(buffer?.list[0] ?? device.descriptor(0))))).toEqual([one, other]);
        // the later one first
        const [first, second] = taken;
        device.use(first?.at ?? 0, first?.wrap ?? false, second?.list[0]?.id ?? 0, 0);
        device.use(second?.at ?? 0, second?.wrap ?? false, first?.list[0]?.id ?? 0, 0);
        expect(bench.kernels.packedDriverReclaim(queue.offset)).toBe(5);
      }
      expect([queue.error, pool.free()]).toEqual([0, 512]);
    });

    it.each([
      [5, 128, 1, 6],
      [6, 128, 7, 0],
      [4, 0, 1, 6],
      [5, 0, 7, 0],
      [0, 128, 1, 0],
    ])('%i more segments behind a headroom of %i take %i descriptors of the ring, %i of a table', (more, headroom, taken, inTable) => {
      const { queue, device } = start({ features: QUEUE_INDIRECT, size: 9 });
      transmit(queue, [bench.packet(pool, frame(700, more), { segments: Array.from({ length: more }, () => 70), headroom }) ?? 0]);
      expect(9 - queue.get(Q_FREE)).toBe(taken);
      const { flags, length } = device.descriptor(0);
      expect(flags & INDIRECT).toBe(inTable === 0 ? 0 : INDIRECT);
      if (inTable !== 0) expect(length).toBe(16 * inTable);
    });

    it('sends a packet of several segments while a single descriptor is free, and drops what is longer than the ring', () => {
      const { queue } = start({ features: QUEUE_INDIRECT });
      const long = bench.packet(pool, frame(90), { segments: [30, 30] }) ?? 0;
      expect(transmit(queue, [...packets(4), long])).toBe(5);
      expect(queue.get(Q_FREE)).toBe(0);
      const tiny = start({ features: QUEUE_INDIRECT, size: 2 }).queue;
      expect(transmit(tiny, [bench.packet(pool, frame(90), { segments: [30, 30] }) ?? 0])).toBe(1);
      expect([counter(tiny, Q_ERRORS), tiny.get(Q_FREE)]).toEqual([1, 2]);
    });

    it.each([0, QUEUE_IN_ORDER])('is taken whole by the device, and every descriptor comes back (features %i)', (more) => {
      const devicePool = bench.pool();
      const features = QUEUE_PACKED | QUEUE_INDIRECT | more;
      const { driver, device } = bench.pair({ size: 13, features, devicePool });
      const shapes = [{}, { segments: [20, 30] }, { headroom: 0 }, { segments: [5, 5, 5, 5, 5, 5, 5] }];
      for (let round = 0; round < 60; round++) {
        // 5 tables or single descriptors at most, and 8 descriptors of the one that is too long for a table
        const sent = Array.from({ length: 6 }, (_, index) => frame(200 + round + index, round * 6 + index));
        const list = sent.map((bytes, index) => bench.packet(pool, bytes, shapes[index === 3 ? 3 : (round + index) % 3]) ?? 0);
        expect(transmit(driver, list)).toBe(6);
        expect(bench.take(bench.kernels.packedDeviceDequeue, device.offset, 16)).toEqual(sent);
      }
      expect(bench.kernels.packedDriverReclaim(driver.offset)).toBe(13);
      expect([driver.error, device.error, pool.free()]).toEqual([0, 0, 512]);
    });
  });

  describe('transmitting', () => {
    it('describes a packet and its header in one descriptor, and says that it is polled', () => {
      const { queue, device } = start();
      const [packet = 0] = packets(1);
      const data = bench.ld32(packet + MBUF_DATA);
      expect(transmit(queue, [packet])).toBe(1);
      // 0x80: AVAIL with a wrap counter of 1, USED without
      expect(device.descriptor(0)).toEqual({ address: data - HEADER, length: 60 + HEADER, id: 0, flags: 0x80 });
      expect(bench.read(data - HEADER, HEADER)).toEqual(Buffer.alloc(HEADER));
      // driver event suppression: RING_EVENT_FLAGS_DISABLE
      expect(bench.ld32(queue.available)).toBe(0x1_0000);
      expect(queue.get(Q_OWN_INDEX)).toBe(0x8001);
      expect(device.isAvailable(1, true)).toBe(false);
    });

    it('lays the descriptors of a packet one behind the other, over the end of the ring, where the wrap counter turns', () => {
      const { queue, device } = start();
      transmit(queue, packets(3));
      for (const [id, taken] of device.takeAll().entries()) device.use(taken?.at ?? 0, true, id, 0);
      const bytes = frame(300);
      transmit(queue, [bench.packet(pool, bytes, { segments: [100, 50], headroom: 0 }) ?? 0]);
      const taken = device.take();
      expect(taken?.at).toBe(3);
      expect(taken?.list.map(({ flags }) => flags)).toEqual([0x81, 0x81, 0x8001, 0x8000]);
      expect(new Set(taken?.list.map(({ id }) => id)).size).toBe(1);
      expect(taken?.list.map(({ length }) => length)).toEqual([HEADER, 100, 50, 150]);
      const parts = taken?.list.slice(1).map(({ address, length }) => bench.read(address, length)) ?? [];
      expect(Buffer.concat(parts)).toEqual(bytes);
      expect(queue.get(Q_FREE)).toBe(1);
    });

    it.each([
      ['in order', QUEUE_IN_ORDER, [0, 1, 2, 3, 4]],
      ['in any order', 0, [3, 0, 4, 2, 1]],
    ])('takes packets back that were used %s, lap after lap', (_, features, order) => {
      const { queue, device } = start({ features });
      for (let lap = 0; lap < 9; lap++) {
        expect(transmit(queue, packets(5))).toBe(5);
        const taken = device.takeAll();
        const ids = taken.map((buffer) => buffer?.list[0]?.id ?? -1);
        expect(new Set(ids).size).toBe(5);
        // used descriptors are written in the order of the ring, whatever their ids
        for (const [index, which] of order.entries()) device.use(taken[index]?.at ?? 0, taken[index]?.wrap ?? false, ids[which] ?? -1, 0);
      }
      expect(bench.kernels.packedDriverReclaim(queue.offset)).toBe(5);
      expect(queue.error).toBe(0);
    });

    it('in order, takes one used descriptor for all up to its id', () => {
      const { queue, device } = start({ features: QUEUE_IN_ORDER });
      for (let lap = 0; lap < 7; lap++) {
        expect(transmit(queue, [...packets(2), bench.packet(pool, frame(99), { segments: [20] }) ?? 0])).toBe(3);
        const taken = device.takeAll();
        device.use(taken[0]?.at ?? 0, taken[0]?.wrap ?? false, taken[2]?.list[0]?.id ?? -1, 0);
        expect(bench.kernels.packedDriverReclaim(queue.offset)).toBe(5);
      }
      expect(counter(queue, Q_PACKETS)).toBe(21);
    });

    it('takes no more packets than there are descriptors, and drops one that never fits', () => {
      const { queue, device } = start();
      expect(transmit(queue, packets(7))).toBe(5);
      for (const taken of device.takeAll()) device.use(taken?.at ?? 0, taken?.wrap ?? false, taken?.list[0]?.id ?? 0, 0);
      expect(transmit(queue, [bench.packet(pool, frame(200), { segments: [20, 20, 20, 20, 20] }) ?? 0])).toBe(1);
      expect(counter(queue, Q_ERRORS)).toBe(1);
      expect(device.take()).toBe(undefined);
    });

    it.each([
      ['an id outside the ring', [5, 6, 0xffff]],
      ['an id that is not outstanding', [2, 3, 4]],
    ])('gives up at %s', (_, ids) => {
      for (const id of ids) {
        const { queue, device } = start();
        transmit(queue, packets(2));
        device.use(0, true, id, 0);
        bench.kernels.packedDriverReclaim(queue.offset);
        expect([queue.error, queue.get(Q_STATE)]).toEqual([QUEUE_ERROR_ID, QUEUE_STOPPED]);
        expect(transmit(queue, packets(1))).toBe(0);
      }
    });

    it('gives up at an id that is used twice', () => {
      const { queue, device } = start();
      transmit(queue, packets(3));
      device.use(0, true, 1, 0);
      device.use(1, true, 1, 0);
      expect(bench.kernels.packedDriverReclaim(queue.offset)).toBe(3);
      expect(queue.error).toBe(QUEUE_ERROR_ID);
    });

    it('waits for a descriptor whose wrap counter is the wrong one', () => {
      const { queue, device } = start();
      transmit(queue, packets(2));
      device.use(0, false, 0, 0);
      expect(bench.kernels.packedDriverReclaim(queue.offset)).toBe(3);
      expect(queue.error).toBe(0);
    });

    it('never takes back more than it sent, whatever all descriptors say', () => {
      const { queue, device } = start();
      transmit(queue, packets(2));
      for (let index = 0; index < 5; index++) device.use(index, true, index, 0);
      expect(bench.kernels.packedDriverReclaim(queue.offset)).toBe(5);
      expect(queue.error).toBe(0);
    });
  });

  describe('notifications (2.8.10)', () => {
    // le16 off_wrap, le16 flags: 0 enable, 1 disable, 2 at a descriptor
    it.each([
      ['enabled', 0, 0, 1],
      ['disabled', 0, 1, 0],
      ['at the first descriptor of the burst', 0x8001, 2, 1],
      ['at the last one', 0x8003, 2, 1],
      ['at the one behind it', 0x8004, 2, 0],
      ['at one before it', 0x8000, 2, 0],
      ['at one of the lap after', 0x0001, 2, 0],
      ['at one that the ring has not', 0x8007, 2, 0],
    ])('%s', (_, offWrap, flags, wanted) => {
      const { queue } = start();
      bench.st32(queue.used, 1 << 16);
      transmit(queue, packets(1));
      queue.set(Q_NOTIFY, 0);
      bench.st32(queue.used, offWrap | (flags << 16));
      transmit(queue, packets(3));
      expect(queue.get(Q_NOTIFY)).toBe(wanted);
    });

    it('over the end of the ring', () => {
      for (const [offWrap, wanted] of [
        [0x8004, 1],
        [0x0000, 1],
        [0x0001, 0],
        [0x8000, 0],
        [0x8003, 0],
      ] as const) {
        const { queue, device } = start();
        transmit(queue, packets(4));
        for (const taken of device.takeAll()) device.use(taken?.at ?? 0, true, taken?.list[0]?.id ?? 0, 0);
        queue.set(Q_NOTIFY, 0);
        bench.st32(queue.used, offWrap | (2 << 16));
        // descriptors 4 of this lap and 0 of the next
        transmit(queue, packets(2));
        expect(queue.get(Q_NOTIFY), `off_wrap ${offWrap.toString(16)}`).toBe(wanted);
      }
    });

    it.each([
      ['at all', 0, 0],
      // 2.8.10: off_wrap and flags of 2, the next descriptor to be used: number 0, wrap counter 1
      ['for one descriptor', QUEUE_EVENT_IDX, 0x0002_8000],
    ])('are asked for when armed, %s, unless something is there', (_, features, wish) => {
      const { queue, device } = start({ pool, features });
      fill(queue);
      expect(bench.kernels.driverArm(queue.offset)).toBe(1);
      expect(bench.ld32(queue.available)).toBe(wish);
      bench.kernels.driverDisarm(queue.offset);
      expect(bench.ld32(queue.available)).toBe(0x1_0000);
      const taken = device.take();
      device.use(0, true, taken?.list[0]?.id ?? 0, 100);
      expect(bench.kernels.driverArm(queue.offset)).toBe(0);
    });
  });

  describe('receiving', () => {
    it('posts one writable descriptor a buffer, in the order of the ring', () => {
      const { queue, device } = start({ pool, size: 7 });
      fill(queue);
      const taken = device.takeAll();
      expect(taken.length).toBe(7);
      expect(taken.map((buffer) => buffer?.list[0]?.flags)).toEqual(Array.from({ length: 7 }, () => 0x80 | WRITE));
      expect(queue.get(Q_FREE)).toBe(0);
      expect(queue.get(Q_OWN_INDEX)).toBe(0);
    });

    it.each([
      ['in order', QUEUE_IN_ORDER],
      ['in any order', 0],
    ])('takes packets %s and posts new buffers, lap after lap', (_, features) => {
      const { queue, device } = start({ pool, features, size: 6 });
      fill(queue);
      for (let lap = 0; lap < 9; lap++) {
        const taken = device.takeAll();
        const order = taken.map((__, index) => (features === 0 ? taken.length - 1 - index : index));
        for (const [index, which] of order.entries()) {
          const buffer = taken[which]?.list[0];
          put(buffer?.address ?? 0, frame(60 + index, lap));
          device.use(taken[index]?.at ?? 0, taken[index]?.wrap ?? false, buffer?.id ?? 0, HEADER + 60 + index);
        }
        expect(receive(queue)).toEqual(taken.map((__, index) => frame(60 + index, lap)));
      }
      expect(queue.error).toBe(0);
    });

    it('puts the port into the mbuf', () => {
      const { queue, device } = start({ pool });
      fill(queue);
      const buffer = device.take()?.list[0];
      put(buffer?.address ?? 0, frame(64));
      device.use(0, true, buffer?.id ?? 0, HEADER + 64);
      expect(bench.kernels.packedDriverReceive(queue.offset, bench.handles, 1)).toBe(1);
      const [packet = 0] = bench.listed(1);
      expect(bench.ld16(packet + MBUF_PORT)).toBe(3);
      bench.kernels.packetFree(packet, 0);
    });

    it('waits until all buffers of a mergeable packet are there, and puts them together', () => {
      const { queue, device } = start({ pool, features: QUEUE_MERGEABLE });
      fill(queue);
      const taken = device.takeAll();
      const first = taken[0]?.list[0];
      const room = first?.length ?? 0;
      const bytes = frame(room - HEADER + 500);
      put(first?.address ?? 0, bytes.subarray(0, room - HEADER), 2);
      device.use(0, true, first?.id ?? 0, room);
      expect(receive(queue)).toEqual([]);
      const second = taken[1]?.list[0];
      bench.write(second?.address ?? 0, bytes.subarray(room - HEADER));
      device.use(1, true, second?.id ?? 0, 500);
      expect(receive(queue)).toEqual([bytes]);
    });

    it('in order, takes the buffers that were left out as filled, and the last with its length', () => {
      const { queue, device } = start({ pool, features: QUEUE_IN_ORDER });
      fill(queue);
      const taken = device.takeAll();
      for (const buffer of taken.slice(0, 3)) put(buffer?.list[0]?.address ?? 0, frame(60));
      device.use(0, true, taken[2]?.list[0]?.id ?? 0, HEADER + 60);
      const lengths = receive(queue, 2).map(({ length }) => length);
      const room = bench.ld32((bench.freeHandles(pool)[0] ?? 0) + MBUF_ROOM) - 128;
      expect(lengths).toEqual([room, room]);
      expect(bench.kernels.driverArm(queue.offset)).toBe(0);
      expect(receive(queue)).toEqual([frame(60)]);
      expect(queue.error).toBe(0);
    });

    it.each([
      ['an id outside the ring', 5, HEADER + 60, 1, QUEUE_ERROR_ID],
      ['a length beyond the buffer', 0, 100_000, 1, QUEUE_ERROR_LENGTH],
      ['a length shorter than the header', 0, 5, 1, QUEUE_ERROR_LENGTH],
      ['more buffers than the ring has', 0, HEADER + 60, 6, QUEUE_ERROR_BUFFERS],
    ])('gives up at %s', (_, id, length, buffers, error) => {
      const { queue, device } = start({ pool, features: QUEUE_MERGEABLE });
      fill(queue);
      put(device.take()?.list[0]?.address ?? 0, frame(60), buffers);
      device.use(0, true, id, length);
      expect(receive(queue)).toEqual([]);
      expect([queue.error, queue.get(Q_STATE)]).toEqual([error, QUEUE_STOPPED]);
    });

    it('gives up at an id that is used twice', () => {
      const { queue, device } = start({ pool });
      fill(queue);
      put(device.take()?.list[0]?.address ?? 0, frame(60));
      device.use(0, true, 0, HEADER + 60);
      device.use(1, true, 0, HEADER + 60);
      expect(receive(queue).length).toBe(1);
      expect(queue.error).toBe(QUEUE_ERROR_ID);
    });

    it('counts what is shorter than an Ethernet header, and goes on', () => {
      const { queue, device } = start({ pool });
      fill(queue);
      for (const [index, length] of [13, 60].entries()) {
        const buffer = device.take()?.list[0];
        put(buffer?.address ?? 0, frame(60));
        device.use(index, true, buffer?.id ?? 0, HEADER + length);
      }
      expect(receive(queue)).toEqual([frame(60)]);
      expect(counter(queue, Q_ERRORS)).toBe(1);
    });
  });

  it('frees everything that lies in the ring when it is emptied, and starts anew', () => {
    const { queue, device } = start({ pool });
    fill(queue);
    device.take();
    queue.reset(bench.kernels);
    expect(queue.get(Q_FREE)).toBe(5);
    expect(bench.freeHandles(pool).length).toBe(512);
    fill(queue);
    expect(new Device(bench, queue).takeAll().length).toBe(5);
  });
});
