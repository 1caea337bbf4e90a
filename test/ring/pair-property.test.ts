/**
 * Both ends of a ring under random operations: against a plain model, one target against the other, and with one end that
 * writes random bytes.
 */
import { describe, expect, it } from 'vitest';
import fc from 'fast-check';
import { MBUF_BUFFER, MBUF_WORK } from '../../src/memory/mbuf-layout.ts';
import { POOL_FIRST } from '../../src/memory/mempool-layout.ts';
import { createMempool } from '../../src/memory/mempool.ts';
import { loadKernels, type Kernels } from '../../src/ring/kernels.ts';
import { PACKED_BYTES, PACKED_F_BOTH, PACKED_WORD, POSITION_INDEX, POSITION_START, POSITION_WRAP } from '../../src/ring/packed-layout.ts';
import {
  Q_DROPPED,
  Q_ERROR,
  Q_ERRORS,
  Q_FREE,
  Q_HANDLED,
  Q_OFFLOADS,
  Q_NOTIFY,
  Q_OWN_INDEX,
  Q_PACKETS,
  Q_STATE,
  QUEUE_EVENT_IDX,
  QUEUE_IN_ORDER,
  QUEUE_INDIRECT,
  QUEUE_MERGEABLE,
  QUEUE_PACKED,
  QUEUE_RUNNING,
  QUEUE_VECTORIZED,
  REGIONS_BYTES,
} from '../../src/ring/queue-layout.ts';
import { DeviceQueue, DriverQueue, packedRingBytes, splitRingBytes } from '../../src/ring/virtqueue.ts';
import { counter, frame, moveIndices, RingBench, TARGETS, testArena, type PacketShape } from '../support/ring-pair.ts';

const MIB = 1024 * 1024;
/** Milliseconds for all runs of a property, shrinking included. */
const LIMIT = 12_000;

interface Shape {
  readonly length: number;
  readonly segments: readonly number[];
  readonly headroom: number;
}

type Operation =
  | { readonly kind: 'send'; readonly packets: readonly Shape[] }
  | { readonly kind: 'enqueue'; readonly packets: readonly Shape[] }
  | { readonly kind: 'dequeue'; readonly count: number; readonly lcore: number }
  | { readonly kind: 'receive'; readonly count: number; readonly lcore: number }
  | { readonly kind: 'reclaim' };

const length = fc.oneof(
  { weight: 5, arbitrary: fc.integer({ min: 14, max: 300 }) },
  { weight: 2, arbitrary: fc.constantFrom(60, 64, 1514, 1518, 2047, 2048, 2049) },
  { weight: 1, arbitrary: fc.integer({ min: 300, max: 9000 }) },
);
const shape = fc.record({
  length,
  segments: fc.oneof(
    { weight: 3, arbitrary: fc.constant([]) },
    { weight: 1, arbitrary: fc.array(fc.integer({ min: 0, max: 400 }), { maxLength: 4 }) },
  ),
  headroom: fc.oneof({ weight: 3, arbitrary: fc.constant(128) }, { weight: 1, arbitrary: fc.integer({ min: 0, max: 130 }) }),
});
const packets = fc.array(shape, { minLength: 1, maxLength: 40, size: 'max' });
const count = fc.integer({ min: 1, max: 64 });
const lcore = fc.integer({ min: 0, max: 2 });
const operation: fc.Arbitrary<Operation> = fc.oneof(
  fc.record({ kind: fc.constant('send'), packets }),
  fc.record({ kind: fc.constant('enqueue'), packets }),
  fc.record({ kind: fc.constant('dequeue'), count, lcore }),
  fc.record({ kind: fc.constant('receive'), count, lcore }),
  fc.record({ kind: fc.constant('reclaim') }),
);
const operations = fc.array(operation, { minLength: 1, maxLength: 50, size: 'max' });
const FORMATS = ['split', 'packed'] as const;
type Format = (typeof FORMATS)[number];
/** Every target with every format. */
const ENDS = TARGETS.flatMap((target) => FORMATS.map((format) => [target, format] as const));
const common = {
  mergeable: fc.boolean(),
  inOrder: fc.boolean(),
  header: fc.constantFrom(10, 12),
  addressHigh: fc.constantFrom(0, 1),
  eventIndex: fc.boolean(),
  indirect: fc.boolean(),
  vectorized: fc.boolean(),
};
const settings = {
  split: fc.record({
    ...common,
    packed: fc.constant(false),
    size: fc.constantFrom(2, 4, 16, 64, 256),
    /** Where the 16-bit indices start, so that they wrap, or events that are kept far move on. */
    start: fc.constantFrom(0, 0x3ff0, 0xfff0),
  }),
  packed: fc.record({
    ...common,
    packed: fc.constant(true),
    size: fc.constantFrom(2, 3, 5, 16, 17, 64, 100, 256),
    /** The position where both sides start, in either lap. */
    start: fc.constantFrom(POSITION_START, POSITION_START | 1, 1),
  }),
} as const;
type Setting = (typeof settings)[Format] extends fc.Arbitrary<infer T> ? T : never;

/** Data rooms hold any length used here, so that a packet in one segment is possible. */
const ROOM = 9216 + 256;
const RX_ROOM = 2176;

/** Cuts as many segments of a packet as its length allows. */
function packetShape({ length: whole, segments, headroom }: Shape): PacketShape {
  const kept: number[] = [];
  let left = whole;
  for (const segment of segments) {
    if (segment >= left) break;
    kept.push(segment);
    left -= segment;
  }
  return { segments: kept, headroom };
}

/** A port's two rings with a driver and a device, over pools of their own. */
class Port {
  readonly bench: RingBench;
  readonly options: Setting & { readonly features: number };
  readonly driverPool;
  readonly receivePool;
  readonly devicePool;
  readonly transmit: { readonly driver: DriverQueue; readonly device: DeviceQueue };
  readonly receive: { readonly driver: DriverQueue; readonly device: DeviceQueue };
  readonly #table: number;
  readonly #guards: number[] = [];

  constructor(bench: RingBench, given: Setting) {
    this.bench = bench;
    // without mergeable buffers or VERSION_1 the header is 10 bytes; with them 12
    const header = given.mergeable ? 12 : given.header;
    const features =
      (given.mergeable ? QUEUE_MERGEABLE : 0) |
      (given.inOrder ? QUEUE_IN_ORDER : 0) |
      (given.packed ? QUEUE_PACKED : 0) |
      (given.eventIndex ? QUEUE_EVENT_IDX : 0) |
      (given.indirect ? QUEUE_INDIRECT : 0) |
      (given.vectorized && given.packed && given.inOrder && !given.mergeable ? QUEUE_VECTORIZED : 0);
    this.options = { ...given, header, features };
    const { arena } = bench;
    // the caches of two other lcores may keep 48 each: a whole burst must still be there
    this.devicePool = createMempool(arena, { count: 200, dataRoom: ROOM, cacheSize: 32 });
    // what the device may reach lies between the two guards
    this.#guards.push(guard(bench));
    this.driverPool = createMempool(arena, { count: 48, dataRoom: ROOM, cacheSize: 8 });
    this.receivePool = createMempool(arena, { count: 320, dataRoom: RX_ROOM, cacheSize: 32 });
    this.#table = arena.allocateOwn(REGIONS_BYTES, 'regions');
    this.transmit = this.#ring(undefined, this.devicePool.offset);
    this.receive = this.#ring(this.receivePool.offset, undefined);
    this.#guards.push(guard(bench));
    const [low = 0, high = 0] = this.#guards.map((offset, index) => offset + (index === 0 ? GUARD_BYTES : 0));
    bench.writeRegions(this.#table, [{ guest: (BigInt(given.addressHigh) << 32n) + BigInt(low), size: high - low, offset: low }]);
  }

  /** Offsets of guards that were overwritten. */
  get deadGuards(): readonly number[] {
    return this.#guards.filter((offset) => this.bench.u8.subarray(offset, offset + GUARD_BYTES).some((byte) => byte !== GUARD));
  }

  #ring(driverPool: number | undefined, devicePool: number | undefined): { readonly driver: DriverQueue; readonly device: DeviceQueue } {
    const { size, packed, features, header, addressHigh, start } = this.options;
    const { arena } = this.bench;
    const driver = new DriverQueue(arena, { name: 'driver', size, port: 1, pool: driverPool, addressHigh });
    driver.negotiate(features, header);
    if (packed) movePositions(this.bench, driver, start);
    else moveIndices(this.bench, driver, start);
    const device = new DeviceQueue(arena, { name: 'device', port: 2, pool: devicePool });
    const { descriptors, available, used } = driver;
    device.attach({ size, descriptors, available, used, features, headerBytes: header, regions: this.#table }, start);
    for (const queue of [driver, device]) {
      queue.set(Q_NOTIFY, 0);
      queue.setState(QUEUE_RUNNING);
    }
    return { driver, device };
  }

  get queues(): readonly (DriverQueue | DeviceQueue)[] {
    return [this.transmit.driver, this.transmit.device, this.receive.driver, this.receive.device];
  }

  close(kernels: Kernels): void {
    for (const { driver, device } of [this.transmit, this.receive]) {
      device.close();
      driver.reset(kernels);
      driver.close();
    }
    // each throws unless all of its mbufs have come back
    for (const pool of [this.driverPool, this.devicePool, this.receivePool]) {
      if (new Set(this.bench.freeHandles(pool)).size !== pool.count) throw new Error('an mbuf is free twice');
      pool.close();
    }
    this.bench.arena.own.release(this.#table);
    for (const offset of this.#guards) this.bench.arena.published.release(offset);
  }
}

const GUARD = 0xc3;
const GUARD_BYTES = 4096;

/** Published memory that nobody has any business with. */
function guard(bench: RingBench): number {
  const offset = bench.arena.allocatePublished(GUARD_BYTES, 'a guard');
  bench.u8.fill(GUARD, offset, offset + GUARD_BYTES);
  return offset;
}

/** Runs a property over one arena; a run that fails leaves its arena behind, and shrinking goes on in a new one. */
class Benches implements Disposable {
  readonly #make: () => RingBench;
  #bench: RingBench;

  constructor(make: () => RingBench) {
    this.#make = make;
    this.#bench = make();
  }

  run(given: Setting, property: (bench: RingBench, port: Port) => void): void {
    try {
      const port = new Port(this.#bench, given);
      property(this.#bench, port);
      port.close(this.#bench.kernels);
    } catch (error) {
      this.#bench.arena.close();
      this.#bench = this.#make();
      throw error;
    }
  }

  [Symbol.dispose](): void {
    this.#bench[Symbol.dispose]();
    this.#bench.arena.close();
  }
}

/** As toEqual, but fast enough for thousands of packets. */
function expectSame(bytes: Buffer, expected: Buffer | undefined): void {
  if (expected === undefined) throw new Error(`a packet of ${bytes.length} bytes that nobody sent`);
  if (!bytes.equals(expected)) expect(bytes).toEqual(expected);
}

/** Starts a fresh packed ring at another position than its first. */
function movePositions(bench: RingBench, driver: DriverQueue, start: number): void {
  for (const field of [Q_OWN_INDEX, Q_HANDLED]) driver.set(field, start);
  // as if all had been used once, those before the start twice
  for (let index = 0; index < driver.size; index++) {
    const lap = index < (start & POSITION_INDEX) ? start & POSITION_WRAP : (start & POSITION_WRAP) ^ POSITION_WRAP;
    bench.st32(driver.descriptors + index * PACKED_BYTES + PACKED_WORD, lap === 0 ? 0 : (PACKED_F_BOTH << 16) >>> 0);
  }
}

describe.each(ENDS)('a driver and a device on %s, %s rings', (target, format) => {
  it('lose, double, change and reorder nothing, whatever is negotiated', () => {
    using benches = new Benches(() => new RingBench(target, testArena(6 * MIB)));
    let moved = 0;
    const check = (given: Setting, steps: readonly Operation[]): void =>
      benches.run(given, (bench, port) => {
        const { kernels } = bench;
        const { features, header } = port.options;
        const onTheWire: Buffer[] = [];
        const toTheDriver: Buffer[] = [];
        let seed = 0;
        let tooLarge = 0;
        let unsendable = 0;
        /** As many of the packets as the pool has mbufs for. */
        const all = (pool: typeof port.driverPool, packets: readonly Shape[]): { readonly mbuf: number; readonly bytes: Buffer }[] => {
          const made: { readonly mbuf: number; readonly bytes: Buffer }[] = [];
          for (const packet of packets) {
            const bytes = frame(packet.length, seed++);
            const mbuf = bench.packet(pool, bytes, packetShape(packet));
            if (mbuf === undefined) break;
            made.push({ mbuf, bytes });
          }
          return made;
        };
        const drain = (count: number, lcore: number): void => {
          for (const bytes of bench.take(kernels.virtqueueReceive, port.transmit.device.offset, count, lcore))
            expectSame(bytes, onTheWire.shift());
        };
        const take = (count: number, lcore: number): void => {
          for (const bytes of bench.take(kernels.virtqueueReceive, port.receive.driver.offset, count, lcore))
            expectSame(bytes, toTheDriver.shift());
        };
        for (const step of steps) {
          if (step.kind === 'send') {
            const made = all(port.driverPool, step.packets);
            const taken = bench.send(
              kernels.virtqueueTransmit,
              port.transmit.driver.offset,
              made.map(({ mbuf }) => mbuf),
            );
            for (const [index, { bytes }] of made.slice(0, taken).entries()) {
              const asked = step.packets[index];
              const cut = asked === undefined ? undefined : packetShape(asked);
              const descriptors = (cut?.segments?.length ?? 0) + 1 + ((cut?.headroom ?? 128) < header ? 1 : 0);
              if (descriptors > given.size) unsendable++;
              else onTheWire.push(bytes);
            }
          } else if (step.kind === 'enqueue') {
            const made = all(port.devicePool, step.packets);
            const taken = bench.send(
              kernels.virtqueueTransmit,
              port.receive.device.offset,
              made.map(({ mbuf }) => mbuf),
            );
            for (const { bytes } of made.slice(0, taken)) {
              const buffers = (features & QUEUE_MERGEABLE) !== 0 ? given.size : 1;
              if (bytes.length + header > buffers * (RX_ROOM - 128 + header)) tooLarge++;
              else toTheDriver.push(bytes);
            }
          } else if (step.kind === 'dequeue') drain(step.count, step.lcore);
          else if (step.kind === 'receive') take(step.count, step.lcore);
          else kernels.driverReclaim(port.transmit.driver.offset);
          if (port.queues.some((queue) => queue.get(Q_STATE) !== QUEUE_RUNNING)) break;
        }
        for (let round = 0; round < 600 && (onTheWire.length > 0 || toTheDriver.length > 0); round++) {
          drain(32, 0);
          take(32, 0);
        }
        expect(port.queues.map((queue) => queue.error)).toEqual([0, 0, 0, 0]);
        // both sides poll
        expect(port.queues.map((queue) => queue.get(Q_NOTIFY))).toEqual([0, 0, 0, 0]);
        expect([onTheWire.length, toTheDriver.length]).toEqual([0, 0]);
        expect(counter(port.receive.device, Q_DROPPED)).toBe(tooLarge);
        expect(counter(port.transmit.driver, Q_ERRORS)).toBe(unsendable);
        // every descriptor is free again
        expect(kernels.driverReclaim(port.transmit.driver.offset)).toBe(given.size);
        expect(port.driverPool.free()).toBe(48);
        moved += counter(port.transmit.device, Q_PACKETS) + counter(port.receive.driver, Q_PACKETS);
      });
    fc.assert(fc.property(settings[format], operations, check), { numRuns: 150, interruptAfterTimeLimit: LIMIT });
    expect(moved).toBeGreaterThan(5000);
  });
});

describe.each(FORMATS)('both targets, %s rings', (format) => {
  it('leave the same bytes behind after every operation', () => {
    using benches = new Benches(() => new RingBench('javascript', testArena(5 * MIB)));
    const check = (given: Setting, steps: readonly Operation[]): void =>
      benches.run(given, (bench, port) => {
        const { arena, kernels: script } = bench;
        const wasm = loadKernels('wasm', arena).kernels;
        const parts = [arena.own, arena.published] as const;
        const copy = (): Buffer[] => parts.map(({ start, end }) => bench.read(start, end - start));
        const restore = (saved: readonly Buffer[]): void => {
          for (const [index, { start }] of parts.entries()) bench.u8.set(saved[index] ?? [], start);
        };
        const both = (what: string, run: (kernels: Kernels) => number): number => {
          const before = copy();
          const first = run(wasm);
          const after = copy();
          restore(before);
          const second = run(script);
          expect(second, what).toBe(first);
          for (const [index, { start, end }] of parts.entries()) {
            const same = after[index]?.compare(bench.u8.subarray(start, end)) === 0;
            const differs = same ? -1 : (after[index]?.findIndex((byte, at) => bench.u8[start + at] !== byte) ?? 0);
            expect(differs, `${what}: first byte that differs in part ${index}`).toBe(-1);
          }
          return first;
        };
        let seed = 0;
        for (const step of steps) {
          if (step.kind === 'send' || step.kind === 'enqueue') {
            const sends = step.kind === 'send';
            const pool = sends ? port.driverPool : port.devicePool;
            const queue = sends ? port.transmit.driver.offset : port.receive.device.offset;
            const made = step.packets.flatMap((packet) => bench.packet(pool, frame(packet.length, seed++), packetShape(packet)) ?? []);
            bench.list(made);
            const taken = both(step.kind, (kernels) => kernels.virtqueueTransmit(queue, bench.handles, made.length));
            for (const packet of made.slice(taken)) script.packetFree(packet, 0);
          } else if (step.kind === 'reclaim') {
            both('reclaim', (kernels) => kernels.driverReclaim(port.transmit.driver.offset));
          } else {
            const dequeues = step.kind === 'dequeue';
            const queue = dequeues ? port.transmit.device.offset : port.receive.driver.offset;
            const received = both(step.kind, (kernels) => kernels.virtqueueReceive(queue, bench.handles, step.count));
            both('free', (kernels) => {
              kernels.packetsFree(bench.handles, received, step.lcore);
              return 0;
            });
          }
        }
      });
    fc.assert(fc.property(settings[format], fc.array(operation, { minLength: 1, maxLength: 16 }), check), {
      numRuns: 40,
      interruptAfterTimeLimit: LIMIT,
    });
  });
});

/** What a hostile end writes, between two bursts of the other end. */
const damage = fc.record({
  /** Which part: descriptors, available ring, used ring, any published byte of the pools. */
  part: fc.constantFrom('descriptors', 'available', 'used', 'available index', 'used index', 'buffers'),
  at: fc.nat(1 << 20),
  bytes: fc.oneof(
    fc.uint8Array({ minLength: 1, maxLength: 32 }),
    fc.constantFrom(Uint8Array.of(0), Uint8Array.of(0xff, 0xff), Uint8Array.of(1, 0, 0, 0)),
  ),
});
const attack = fc.array(fc.tuple(fc.array(damage, { maxLength: 6 }), operation), { minLength: 1, maxLength: 30, size: 'max' });

type Attack = typeof attack extends fc.Arbitrary<infer T> ? T : never;

describe.each(ENDS)('a hostile end on %s, %s rings', (target, format) => {
  const attacked = (honest: 'driver' | 'device'): void => {
    using benches = new Benches(() => {
      const bench = new RingBench(target, testArena(6 * MIB));
      bench.canaries();
      return bench;
    });
    let stopped = 0;
    const check = (given: Setting, steps: Attack): void =>
      benches.run(given, (bench, port) => {
        const { kernels } = bench;
        const pools = [port.driverPool, port.receivePool];
        // a hostile device may write every published byte, a hostile driver too; the state of the honest end is its own
        const spans = (part: string): readonly (readonly [start: number, bytes: number])[] => {
          if (part === 'buffers') return pools.map(({ count, dataRoom }) => [firstBuffer(bench, pools, dataRoom), count * 64] as const);
          return [port.transmit, port.receive].map(({ driver }) => {
            const bytes = (given.packed ? packedRingBytes : splitRingBytes)(given.size);
            if (part === 'descriptors') return [driver.descriptors, bytes.descriptors] as const;
            if (part === 'available') return [driver.available, bytes.available] as const;
            if (part === 'used') return [driver.used, bytes.used] as const;
            return [(part === 'used index' ? driver.used : driver.available) + 2, 2] as const;
          });
        };
        // headers are believed in half of the runs
        for (const queue of port.queues) queue.set(Q_OFFLOADS, steps.length % 2 === 0 ? MBUF_WORK : 0);
        for (const [harm, step] of steps) {
          for (const { part, at, bytes } of harm) {
            for (const [start, span] of spans(part)) {
              const from = start + (at % span);
              bench.write(from, bytes.subarray(0, Math.min(bytes.length, start + span - from)));
            }
          }
          const sends = step.kind === 'send' || step.kind === 'enqueue';
          const transmits = honest === 'driver' ? step.kind === 'send' : step.kind === 'enqueue';
          const { driver, device } =
            honest === 'driver' ? (transmits ? port.transmit : port.receive) : transmits ? port.receive : port.transmit;
          if (sends && transmits) {
            const pool = honest === 'driver' ? port.driverPool : port.devicePool;
            const made = step.packets.flatMap((packet, seed) => bench.packet(pool, frame(packet.length, seed), packetShape(packet)) ?? []);
            const taken = bench.send(kernels.virtqueueTransmit, (honest === 'driver' ? driver : device).offset, made);
            expect(taken).toBeLessThanOrEqual(made.length);
          } else if (step.kind === 'reclaim') {
            kernels.driverReclaim(port.transmit.driver.offset);
          } else if (!sends) {
            const queue = honest === 'driver' ? port.receive.driver : port.transmit.device;
            const received = bench.take(kernels.virtqueueReceive, queue.offset, step.count, step.lcore);
            expect(received.length).toBeLessThanOrEqual(step.count);
            for (const bytes of received) expect(bytes.length).toBeGreaterThanOrEqual(14);
          }
          for (const queue of port.queues) {
            const error = queue.get(Q_ERROR);
            expect(error).toBeLessThanOrEqual(6);
            expect(queue.get(Q_STATE) === QUEUE_RUNNING).toBe(error === 0);
            if (error !== 0) stopped++;
          }
          for (const driverQueue of [port.transmit.driver, port.receive.driver])
            expect(driverQueue.get(Q_FREE)).toBeLessThanOrEqual(given.size);
        }
        expect([...port.deadGuards, ...bench.deadCanaries()]).toEqual([]);
      });
    fc.assert(fc.property(settings[format], attack, check), { numRuns: 250, interruptAfterTimeLimit: LIMIT });
    // or the damage was too tame to mean anything
    expect(stopped).toBeGreaterThan(20);
  };

  it('a device that writes random bytes stops a queue or loses packets, and nothing else', () => {
    attacked('driver');
  });

  it('a driver that writes random bytes stops a queue or loses packets, and nothing else', () => {
    attacked('device');
  });
});

/** The lowest buffer of the pool with this data room. */
function firstBuffer(bench: RingBench, pools: readonly { readonly offset: number; readonly dataRoom: number }[], dataRoom: number): number {
  const pool = pools.find((candidate) => candidate.dataRoom === dataRoom);
  return bench.ld32(bench.ld32((pool?.offset ?? 0) + POOL_FIRST) + MBUF_BUFFER);
}
