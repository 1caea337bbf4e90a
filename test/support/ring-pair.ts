/**
 * A driver's and a device's end of virtqueues in one small arena, on either target of the kernels, for tests: the device's
 * table of regions points at the arena's own published part, so that what one end writes the other reads.
 * @module
 */
import { Arena } from '../../src/memory/arena.ts';
import {
  MBUF_BUFFER,
  MBUF_DATA,
  MBUF_LENGTH,
  MBUF_NEXT,
  MBUF_REFERENCES,
  MBUF_ROOM,
  MBUF_SEGMENT_LENGTH,
  MBUF_SEGMENTS,
} from '../../src/memory/mbuf-layout.ts';
import { createMempool, type Mempool, type MempoolOptions } from '../../src/memory/mempool.ts';
import {
  CACHE_ITEMS,
  CACHE_LENGTH,
  LCORE_SLOTS,
  POOL_CACHE_STRIDE,
  POOL_CACHES,
  POOL_FREE,
  POOL_STACK,
} from '../../src/memory/mempool-layout.ts';
import { loadKernels, prepareKernels, type Kernels, type KernelTarget } from '../../src/ring/kernels.ts';
import {
  Q_FEATURES,
  Q_HANDLED,
  Q_OWN_INDEX,
  Q_SEEN,
  QUEUE_EVENT_IDX,
  QUEUE_RUNNING,
  REGION_BYTES,
  REGION_FIRST,
  REGION_GUEST_HIGH,
  REGION_GUEST_LOW,
  REGION_OFFSET,
  REGION_SIZE,
  REGIONS_BYTES,
} from '../../src/ring/queue-layout.ts';
import { EVENT_FAR } from '../../src/ring/split-layout.ts';
import { DeviceQueue, DriverQueue } from '../../src/ring/virtqueue.ts';

await prepareKernels('javascript');

export const TARGETS = ['wasm', 'javascript'] as const satisfies readonly KernelTarget[];

const MIB = 1024 * 1024;
const CANARY_BYTES = 4096;
const CANARY = 0xa5;

export function testArena(bytes = 4 * MIB): Arena {
  return new Arena({ bytes, ownBytes: 2 * MIB, peerBytes: 64 * MIB, pageSize: 4096, filePrefix: 'test' });
}

export interface Region {
  readonly guest: bigint;
  readonly size: number;
  readonly offset: number;
}

export interface PacketShape {
  /** Bytes in each segment; the rest goes into the last. Default: everything in one. */
  readonly segments?: readonly number[] | undefined;
  /** Bytes before the data of the first segment; default 128. */
  readonly headroom?: number | undefined;
  readonly references?: number | undefined;
}

export interface PairOptions {
  readonly size?: number;
  readonly features?: number;
  readonly header?: number;
  readonly pool?: Mempool | undefined;
  readonly devicePool?: Mempool | undefined;
  readonly addressHigh?: number;
  /** Arena offset of a table of physical addresses that the device is told. */
  readonly physicalAddresses?: number;
  /** MBUF_WORK_* bits negotiated. */
  readonly offloads?: number;
  /** Bytes of the longest packet sent on the ring, by whichever side; default: any. */
  readonly lengthLimit?: number | undefined;
  /** Where the indices of a split ring start; default 0. */
  readonly start?: number;
}

/** One direction of a port: both ends of a single ring. */
export interface Pair {
  readonly driver: DriverQueue;
  readonly device: DeviceQueue;
}

/** Everything made here is closed in reverse; a pool that misses an mbuf then throws. */
export class RingBench implements Disposable {
  readonly arena: Arena;
  readonly kernels: Kernels;
  readonly u8: Uint8Array;
  readonly u16: Uint16Array;
  readonly u32: Uint32Array;
  /** Arena offset of room for 2048 handles. */
  readonly handles: number;
  readonly #undo: (() => void)[] = [];
  readonly #canaries: number[] = [];
  readonly #ownsArena: boolean;

  constructor(target: KernelTarget, arena?: Arena) {
    this.arena = arena ?? testArena();
    this.#ownsArena = arena === undefined;
    this.kernels = loadKernels(target, this.arena).kernels;
    this.u8 = this.arena.views.u8;
    this.u16 = this.arena.views.u16;
    this.u32 = this.arena.views.u32;
    this.handles = this.own(2048 * 4);
  }

  /** Own memory that is given back at the end. */
  own(bytes: number): number {
    const offset = this.arena.allocateOwn(bytes, 'a test');
    this.#undo.push(() => {
      this.arena.own.release(offset);
    });
    return offset;
  }

  published(bytes: number, align = 64): number {
    const offset = this.arena.allocatePublished(bytes, 'a test', align);
    this.#undo.push(() => {
      this.arena.published.release(offset);
    });
    return offset;
  }

  pool(options: Partial<MempoolOptions> = {}): Mempool {
    const pool = createMempool(this.arena, { count: 512, ...options });
    this.#undo.push(() => {
      pool.close();
    });
    return pool;
  }

  /** A table of regions; by default the whole published part at its own offset. */
  regions(regions: readonly Region[] = [this.wholeRegion()]): number {
    const table = this.own(REGIONS_BYTES);
    this.writeRegions(table, regions);
    return table;
  }

  wholeRegion(addressHigh = 0): Region {
    const { guestAddress, bytes } = this.arena.publishedRegion;
    return { guest: (BigInt(addressHigh) << 32n) + BigInt(guestAddress), size: bytes, offset: guestAddress };
  }

  writeRegions(table: number, regions: readonly Region[]): void {
    this.u32.fill(0, table >>> 2, (table + REGIONS_BYTES) >>> 2);
    this.u32[table >>> 2] = regions.length;
    for (const [index, { guest, size, offset }] of regions.entries()) {
      const entry = table + REGION_FIRST + index * REGION_BYTES;
      this.u32[(entry + REGION_GUEST_LOW) >>> 2] = Number(guest & 0xffff_ffffn);
      this.u32[(entry + REGION_GUEST_HIGH) >>> 2] = Number(guest >> 32n);
      this.u32[(entry + REGION_SIZE) >>> 2] = size;
      this.u32[(entry + REGION_OFFSET) >>> 2] = offset;
    }
  }

  driver(options: PairOptions = {}): DriverQueue {
    const { size = 64, features = 0, header = 12, pool, addressHigh = 0, physicalAddresses = 0 } = options;
    const driver = new DriverQueue(this.arena, { name: 'driver', size, port: 3, pool: pool?.offset, addressHigh, physicalAddresses });
    this.#undo.push(() => {
      driver.reset(this.kernels);
      driver.close();
    });
    driver.negotiate(features, header, options.offloads, options.lengthLimit);
    if (options.start !== undefined) moveIndices(this, driver, options.start);
    driver.setState(QUEUE_RUNNING);
    return driver;
  }

  device(driver: DriverQueue, options: PairOptions = {}, regions = this.regions([this.wholeRegion(options.addressHigh)])): DeviceQueue {
    const { size = 64, features = 0, header = 12, devicePool } = options;
    const device = new DeviceQueue(this.arena, { name: 'device', port: 7, pool: devicePool?.offset });
    this.#undo.push(() => {
      device.close();
    });
    const { descriptors, available, used } = driver;
    const { offloads, lengthLimit } = options;
    device.attach({ size, descriptors, available, used, features, headerBytes: header, offloads, lengthLimit, regions });
    device.setState(QUEUE_RUNNING);
    return device;
  }

  pair(options: PairOptions = {}): Pair {
    const driver = this.driver(options);
    return { driver, device: this.device(driver, options) };
  }

  ld16(offset: number): number {
    return this.u16[offset >>> 1] ?? 0;
  }

  ld32(offset: number): number {
    return this.u32[offset >>> 2] ?? 0;
  }

  st16(offset: number, value: number): void {
    this.u16[offset >>> 1] = value;
  }

  st32(offset: number, value: number): void {
    this.u32[offset >>> 2] = value;
  }

  /** Bytes of the arena, copied. */
  read(offset: number, length: number): Buffer {
    return Buffer.from(this.u8.slice(offset, offset + length));
  }

  write(offset: number, bytes: Uint8Array): void {
    this.u8.set(bytes, offset);
  }

  /** Makes a packet; undefined when the pool is empty. */
  packet(pool: Mempool, bytes: Uint8Array, shape: PacketShape = {}): number | undefined {
    const lengths = [...(shape.segments ?? [])];
    lengths.push(bytes.length - lengths.reduce((sum, length) => sum + length, 0));
    const scratch = this.handles + 2047 * 4;
    let first = 0;
    let last = 0;
    let done = 0;
    for (const length of lengths) {
      if (this.kernels.mbufAllocate(pool.offset, 0, scratch, 1) === 0) {
        if (first !== 0) this.kernels.packetFree(first, 0);
        return undefined;
      }
      const mbuf = this.ld32(scratch);
      const data = this.ld32(mbuf + MBUF_BUFFER) + (first === 0 ? (shape.headroom ?? 128) : 0);
      if (data + length > this.ld32(mbuf + MBUF_BUFFER) + this.ld32(mbuf + MBUF_ROOM))
        throw new RangeError('a segment larger than its room');
      this.st32(mbuf + MBUF_DATA, data);
      this.st32(mbuf + MBUF_SEGMENT_LENGTH, length);
      this.write(data, bytes.subarray(done, done + length));
      done += length;
      if (first === 0) first = mbuf;
      else this.st32(last + MBUF_NEXT, mbuf);
      last = mbuf;
    }
    this.st32(first + MBUF_LENGTH, bytes.length);
    this.st16(first + MBUF_SEGMENTS, lengths.length);
    if (shape.references !== undefined) this.st16(first + MBUF_REFERENCES, shape.references);
    return first;
  }

  /** The bytes of a packet; throws when its lengths or its number of segments do not agree. */
  bytesOf(packet: number): Buffer {
    const parts: Buffer[] = [];
    for (let mbuf = packet; mbuf !== 0; mbuf = this.ld32(mbuf + MBUF_NEXT)) {
      parts.push(this.read(this.ld32(mbuf + MBUF_DATA), this.ld32(mbuf + MBUF_SEGMENT_LENGTH)));
    }
    const bytes = Buffer.concat(parts);
    if (bytes.length !== this.ld32(packet + MBUF_LENGTH)) {
      throw new Error(`the segments hold ${bytes.length} bytes, the packet says ${this.ld32(packet + MBUF_LENGTH)}`);
    }
    if (parts.length !== this.ld16(packet + MBUF_SEGMENTS)) {
      throw new Error(`${parts.length} segments, the packet says ${this.ld16(packet + MBUF_SEGMENTS)}`);
    }
    return bytes;
  }

  /** Writes handles to `this.handles` and returns that offset. */
  list(packets: readonly number[]): number {
    this.u32.set(packets, this.handles >>> 2);
    return this.handles;
  }

  /** The first `count` handles at `this.handles`. */
  listed(count: number): number[] {
    return [...this.u32.subarray(this.handles >>> 2, (this.handles >>> 2) + count)];
  }

  /** Sends packets; those that were not taken are freed. Returns how many were taken. */
  send(burst: (queue: number, mbufs: number, count: number) => number, queue: number, packets: readonly number[]): number {
    const taken = burst(queue, this.list(packets), packets.length);
    for (const packet of packets.slice(taken)) this.kernels.packetFree(packet, 0);
    return taken;
  }

  /** Receives up to `count` packets: their bytes; the packets are freed. */
  take(burst: (queue: number, mbufs: number, count: number) => number, queue: number, count: number, lcore = 0): Buffer[] {
    const received = burst(queue, this.handles, count);
    const packets = this.listed(received).map((packet) => this.bytesOf(packet));
    this.kernels.packetsFree(this.handles, received, lcore);
    return packets;
  }

  /** Handles of all free mbufs of a pool, in caches and on the shared stack. */
  freeHandles(pool: Mempool): number[] {
    const { offset } = pool;
    const stack = this.ld32(offset + POOL_STACK) >>> 2;
    const found = [...this.u32.subarray(stack, stack + this.ld32(offset + POOL_FREE))];
    for (let lcore = 0; lcore < LCORE_SLOTS; lcore++) {
      const cache = this.ld32(offset + POOL_CACHES) + lcore * this.ld32(offset + POOL_CACHE_STRIDE);
      const items = (cache + CACHE_ITEMS) >>> 2;
      found.push(...this.u32.subarray(items, items + this.ld32(cache + CACHE_LENGTH)));
    }
    return found;
  }

  /** Puts ranges that nobody may write into both parts of the arena, behind what was allocated so far. */
  canaries(): void {
    for (const offset of [this.own(CANARY_BYTES), this.published(CANARY_BYTES)]) {
      this.u8.fill(CANARY, offset, offset + CANARY_BYTES);
      this.#canaries.push(offset);
    }
  }

  /** Offsets of canary bytes that were overwritten. */
  deadCanaries(): number[] {
    return this.#canaries.flatMap((offset) => {
      const wrong = this.u8.subarray(offset, offset + CANARY_BYTES).findIndex((byte) => byte !== CANARY);
      return wrong < 0 ? [] : [offset + wrong];
    });
  }

  [Symbol.dispose](): void {
    const errors: unknown[] = [];
    for (const undo of this.#undo.splice(0).reverse()) {
      try {
        undo();
      } catch (error) {
        errors.push(error);
      }
    }
    if (this.#ownsArena) this.arena.close();
    if (errors.length > 0) throw errors[0];
  }
}

/** Starts a fresh split ring at another index than 0: the driver's end, before a device is attached. */
export function moveIndices(bench: RingBench, driver: DriverQueue, start: number): void {
  for (const field of [Q_OWN_INDEX, Q_HANDLED, Q_SEEN]) driver.set(field, start);
  bench.st16(driver.available + 2, start);
  bench.st16(driver.used + 2, start);
  // virtio 1.2, 2.7.6: used_event follows the ring
  if ((driver.get(Q_FEATURES) & QUEUE_EVENT_IDX) !== 0) bench.st16(driver.available + 4 + 2 * driver.size, start + EVENT_FAR);
}

/** A counter of a queue since its start. */
export function counter(queue: { counter(field: number): number }, field: number): number {
  return queue.counter(field);
}

/** Bytes that differ from packet to packet: an Ethernet frame whose payload counts up from `seed`. */
export function frame(length: number, seed = 0): Buffer {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length; at++) bytes[at] = (seed * 7 + at * 13 + (at >>> 8)) & 0xff;
  // a unicast destination
  if (length > 0) bytes[0] = (bytes[0] ?? 0) & 0xfe;
  return bytes;
}
