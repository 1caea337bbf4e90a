/**
 * Driver queues of both formats against a device that uses buffers in any order, as one may without VIRTIO_F_IN_ORDER (virtio 1.2, 2.7.5 and
 * 2.8.1): no packet is lost, doubled or taken for another, whether its neighbours come back with it or not.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Q_FREE, Q_PACKETS, QUEUE_ERROR_ID, QUEUE_MERGEABLE, QUEUE_PACKED, QUEUE_VECTORIZED } from '../../src/ring/queue-layout.ts';
import type { DriverQueue } from '../../src/ring/virtqueue.ts';
import { counter, frame, RingBench, TARGETS } from '../support/ring-pair.ts';

const NEXT = 1;
const HEADER = 12;

interface Place {
  readonly address: number;
  readonly length: number;
}

/** A buffer that the device has, by its id (split: its first descriptor), and the places that it is made of. */
interface Taken {
  readonly id: number;
  readonly places: readonly Place[];
}

interface Device {
  /** What has become available. */
  take(): Taken[];
  use(buffer: Taken, length: number): void;
}

class SplitDevice implements Device {
  readonly #bench: RingBench;
  readonly #queue: DriverQueue;
  #seen = 0;
  #used = 0;

  constructor(bench: RingBench, queue: DriverQueue) {
    this.#bench = bench;
    this.#queue = queue;
  }

  take(): Taken[] {
    const { available, descriptors, size } = this.#queue;
    const taken: Taken[] = [];
    for (; this.#seen !== this.#bench.ld16(available + 2); this.#seen = (this.#seen + 1) & 0xffff) {
      const id = this.#bench.ld16(available + 4 + 2 * (this.#seen % size));
      const places: Place[] = [];
      for (let at = id, more = true; more; at = this.#bench.ld16(descriptors + 16 * at + 14)) {
        const descriptor = descriptors + 16 * at;
        places.push({ address: this.#bench.ld32(descriptor), length: this.#bench.ld32(descriptor + 8) });
        more = (this.#bench.ld16(descriptor + 12) & NEXT) !== 0;
      }
      taken.push({ id, places });
    }
    return taken;
  }

  use({ id }: Taken, length: number): void {
    const { used, size } = this.#queue;
    const element = used + 4 + 8 * (this.#used % size);
    this.#bench.st32(element, id);
    this.#bench.st32(element + 4, length);
    this.#used = (this.#used + 1) & 0xffff;
    this.#bench.st16(used + 2, this.#used);
  }
}

/** A place of the ring, and the lap that goes on there. */
class Cursor {
  index = 0;
  wrap = true;

  advance(size: number, by: number): void {
    this.index += by;
    if (this.index < size) return;
    this.index -= size;
    this.wrap = !this.wrap;
  }
}

class PackedDevice implements Device {
  readonly #bench: RingBench;
  readonly #queue: DriverQueue;
  readonly #next = new Cursor();
  readonly #use = new Cursor();

  constructor(bench: RingBench, queue: DriverQueue) {
    this.#bench = bench;
    this.#queue = queue;
  }

  take(): Taken[] {
    const { descriptors, size } = this.#queue;
    const taken: Taken[] = [];
    let places: Place[] = [];
    for (;;) {
      const descriptor = descriptors + 16 * this.#next.index;
      const flags = this.#bench.ld16(descriptor + 14);
      if ((flags & 0x8080) !== (this.#next.wrap ? 0x0080 : 0x8000)) return taken;
      places.push({ address: this.#bench.ld32(descriptor), length: this.#bench.ld32(descriptor + 8) });
      this.#next.advance(size, 1);
      if ((flags & NEXT) !== 0) continue;
      taken.push({ id: this.#bench.ld16(descriptor + 12), places });
      places = [];
    }
  }

  use({ id, places }: Taken, length: number): void {
    const { descriptors, size } = this.#queue;
    const descriptor = descriptors + 16 * this.#use.index;
    this.#bench.st32(descriptor + 8, length);
    this.#bench.st16(descriptor + 12, id);
    this.#bench.st16(descriptor + 14, this.#use.wrap ? 0x8080 : 0);
    this.#use.advance(size, places.length);
  }
}

const FORMATS = [
  ['split', 0, [16, 64]],
  ['split, mergeable', QUEUE_MERGEABLE, [16, 64]],
  ['split, vectorized', QUEUE_VECTORIZED, [16, 64]],
  ['packed', QUEUE_PACKED, [16, 17, 50]],
  ['packed, mergeable', QUEUE_PACKED | QUEUE_MERGEABLE, [16, 17, 50]],
] as const;
const CASES = TARGETS.flatMap((target) => FORMATS.map(([name, features, sizes]) => [target, name, features, sizes] as const));

/** In which order the device uses what it has. */
const ORDERS = {
  'as it came': (buffers: readonly Taken[]) => [...buffers],
  'the other way round': (buffers: readonly Taken[]) => [...buffers].reverse(),
  'the first one last': (buffers: readonly Taken[]) => [...buffers.slice(1), ...buffers.slice(0, 1)],
  'its halves exchanged': (buffers: readonly Taken[]) => {
    const half = (buffers.length >> 1) & ~3;
    return [...buffers.slice(half), ...buffers.slice(0, half)];
  },
  'the odd ones first': (buffers: readonly Taken[]) => [
    ...buffers.filter((_, index) => index % 2 === 1),
    ...buffers.filter((_, index) => index % 2 === 0),
  ],
};

/** A burst, the order of the device, and how many buffers it keeps for later. */
const steps = fc.array(
  fc.record({
    packets: fc.integer({ min: 1, max: 40 }),
    segmentedEvery: fc.constantFrom(0, 3, 7),
    order: fc.constantFrom(...(Object.keys(ORDERS) as (keyof typeof ORDERS)[])),
    kept: fc.constantFrom(0, 0, 0, 1, 4, 6),
  }),
  { minLength: 1, maxLength: 40 },
);

describe.each(CASES)('a driver on %s, %s, and a device that works in any order', (target, _, features, sizes) => {
  const device = (bench: RingBench, queue: DriverQueue): Device =>
    (features & QUEUE_PACKED) === 0 ? new SplitDevice(bench, queue) : new PackedDevice(bench, queue);

  it('property: every packet sent arrives once, and every mbuf comes back', () => {
    fc.assert(
      fc.property(fc.constantFrom(...sizes), steps, (size, given) => {
        using bench = new RingBench(target);
        bench.canaries();
        const pool = bench.pool();
        const queue = bench.driver({ size, features, header: HEADER });
        const model = device(bench, queue);
        const expected: string[] = [];
        const arrived: string[] = [];
        let held: Taken[] = [];
        let seed = 0;
        const receive = (): void => {
          for (const buffer of model.take()) {
            const bytes = Buffer.concat(buffer.places.map(({ address, length }) => bench.read(address, length)));
            arrived.push(bytes.subarray(HEADER).toString('hex'));
            held.push(buffer);
          }
        };
        for (const { packets, segmentedEvery, order, kept } of given) {
          const sent = Array.from({ length: packets }, (__, index) => {
            const bytes = frame(60 + (index % 5), seed++);
            const isSegmented = segmentedEvery !== 0 && index % segmentedEvery === 1;
            return { bytes, handle: bench.packet(pool, bytes, isSegmented ? { segments: [20] } : {}) ?? 0 };
          });
          const taken = bench.send(
            bench.kernels.virtqueueTransmit,
            queue.offset,
            sent.map(({ handle }) => handle),
          );
          expected.push(...sent.slice(0, taken).map(({ bytes }) => bytes.toString('hex')));
          receive();
          const ordered = ORDERS[order](held);
          const used = Math.max(0, ordered.length - kept);
          for (const buffer of ordered.slice(0, used)) model.use(buffer, 0);
          held = ordered.slice(used);
        }
        for (const buffer of held) model.use(buffer, 0);
        expect(arrived).toEqual(expected);
        expect(bench.kernels.driverReclaim(queue.offset)).toBe(size);
        expect([queue.error, pool.free(), counter(queue, Q_PACKETS)]).toEqual([0, 512, expected.length]);
        expect(bench.deadCanaries()).toEqual([]);
      }),
      { numRuns: 40 },
    );
  });

  it('that names a buffer again which it used out of turn: the queue is given up before it', () => {
    using bench = new RingBench(target);
    bench.canaries();
    const pool = bench.pool();
    const queue = bench.driver({ size: 16, features, header: HEADER, pool });
    const model = device(bench, queue);
    bench.kernels.virtqueueReceive(queue.offset, bench.handles, 32);
    const buffers = model.take();
    const use = (ids: readonly number[]): Buffer[] => {
      for (const id of ids) {
        const buffer = buffers.find((taken) => taken.id === id) ?? { id, places: [] };
        bench.write(buffer.places[0]?.address ?? 0, Buffer.concat([Buffer.alloc(HEADER), frame(60, id)]));
        model.use(buffer, HEADER + 60);
      }
      return bench.take(bench.kernels.virtqueueReceive, queue.offset, 32);
    };
    expect(use([7, 1, 2, 3])).toEqual([7, 1, 2, 3].map((id) => frame(60, id)));
    // the ring of free descriptors still has 4, 5, 6 and 7 there
    expect(use([4, 5, 6, 7])).toEqual([4, 5, 6].map((id) => frame(60, id)));
    expect(queue.error).toBe(QUEUE_ERROR_ID);
    expect(bench.deadCanaries()).toEqual([]);
  });

  it('property: every packet received is the one that the device put there, in the order of its use', () => {
    fc.assert(
      fc.property(fc.constantFrom(...sizes), steps, (size, given) => {
        using bench = new RingBench(target);
        bench.canaries();
        const pool = bench.pool();
        const queue = bench.driver({ size, features, header: HEADER, pool });
        const model = device(bench, queue);
        const free = pool.free();
        let held: Taken[] = [];
        let seed = 0;
        bench.kernels.virtqueueReceive(queue.offset, bench.handles, 32);
        for (const { packets, order, kept } of given) {
          held.push(...model.take());
          const ordered = ORDERS[order](held);
          const used = Math.min(packets, Math.max(0, ordered.length - kept));
          const sent = ordered.slice(0, used).map((buffer) => {
            const bytes = frame(60 + (seed % 5), seed++);
            const [place] = buffer.places;
            bench.write(place?.address ?? 0, Buffer.concat([Buffer.alloc(HEADER), bytes]));
            if ((features & QUEUE_MERGEABLE) !== 0) bench.st16((place?.address ?? 0) + 10, 1);
            model.use(buffer, HEADER + bytes.length);
            return bytes.toString('hex');
          });
          held = ordered.slice(used);
          const received: Buffer[] = [];
          while (received.length < sent.length) {
            const some = bench.take(bench.kernels.virtqueueReceive, queue.offset, 32);
            if (some.length === 0) break;
            received.push(...some);
          }
          expect(received.map((bytes) => bytes.toString('hex'))).toEqual(sent);
        }
        expect([queue.error, free - pool.free()]).toEqual([0, size - queue.get(Q_FREE)]);
        expect(bench.deadCanaries()).toEqual([]);
      }),
      { numRuns: 40 },
    );
  });
});
