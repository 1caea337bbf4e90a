/**
 * Making and unmaking virtqueues: the control side of both ends. The bursts are in *.kernel.ts.
 * @module
 */
import type { Arena, ArenaViews } from '../memory/arena.ts';
import { signalEventFd } from '../system/event-fd.ts';
import type { Kernels } from './kernels.ts';
import { DEVICE_SCRATCH_BYTES } from './pieces.kernel.ts';
import { EVENT_BYTES, EVENT_DISABLE, PACKED_BYTES, PACKED_SIZE_LIMIT, POSITION_INDEX, POSITION_START } from './packed-layout.ts';
import {
  Q_ADDRESS_HIGH,
  Q_ARMED,
  Q_AVAILABLE,
  Q_BATCH,
  Q_BYTES_TOTAL,
  Q_DESCRIPTORS,
  Q_ERROR,
  Q_FEATURES,
  Q_FREE,
  Q_FREE_HEAD,
  Q_FREE_RING,
  Q_FREE_TAIL,
  Q_HANDLED,
  Q_HEADER,
  Q_HEADERS,
  Q_INTERRUPT_FD,
  Q_LCORE,
  Q_LENGTH_LIMIT,
  Q_NOTIFY,
  Q_NOTIFY_FD,
  Q_OFFLOADS,
  Q_OWN_INDEX,
  Q_PHYSICAL,
  Q_POOL,
  Q_PORT,
  Q_REGIONS,
  Q_SCRATCH,
  Q_SEEN,
  Q_SHADOW,
  Q_SIZE,
  Q_STATE,
  Q_USED,
  Q_WAITING,
  Q_WAKE_FD,
  NO_LENGTH_LIMIT,
  QUEUE_DEVICE,
  QUEUE_EVENT_IDX,
  QUEUE_PACKED,
  QUEUE_STOPPED,
  SHADOW_BYTES,
  SHADOW_MBUF,
  TRANSMIT_AREA_BYTES,
  WAITING_BYTES,
  WAITING_COUNT,
  WAITING_FIRST,
  WAITING_HANDLES,
} from './queue-layout.ts';
import {
  AVAILABLE_F_NO_INTERRUPT,
  AVAILABLE_RING,
  EVENT_FAR,
  SPLIT_SIZE_LIMIT,
  USED_ELEMENT_BYTES,
  USED_F_NO_NOTIFY,
  USED_INDEX,
  USED_RING,
} from './split-layout.ts';

/** No eventfd to write. */
export const NO_DESCRIPTOR = 0xffff_ffff;
/** Slot of the main thread in the caches of pools; lcores of Workers take 1 and up. */
export const MAIN_LCORE_SLOT = 0;

/** Bytes of the three parts of a split ring of `size` descriptors (virtio 1.2, 2.7). */
export function splitRingBytes(size: number): { readonly descriptors: number; readonly available: number; readonly used: number } {
  return { descriptors: 16 * size, available: 6 + 2 * size, used: 6 + 8 * size };
}

/** Bytes of the three parts of a packed ring of `size` descriptors (virtio 1.2, 2.8): the events of the driver, then the device's. */
export function packedRingBytes(size: number): ReturnType<typeof splitRingBytes> {
  return { descriptors: PACKED_BYTES * size, available: EVENT_BYTES, used: EVENT_BYTES };
}

/** @throws RangeError unless `size` is 2 to 32768 */
export function checkRingSize(what: string, size: number): void {
  if (!Number.isInteger(size) || size < 2 || size > PACKED_SIZE_LIMIT) {
    throw new RangeError(`${what} ${String(size)}: a ring has 2 to ${String(PACKED_SIZE_LIMIT)} descriptors`);
  }
}

/** @throws RangeError unless `size` is a power of two up to 32768 */
export function checkSplitSize(what: string, size: number): void {
  if (!Number.isInteger(size) || size < 2 || size > SPLIT_SIZE_LIMIT || (size & (size - 1)) !== 0) {
    throw new RangeError(`${what} ${String(size)}: a split ring has a power of two of descriptors, 2 to ${String(SPLIT_SIZE_LIMIT)}`);
  }
}

/** A counter of two u32, low word first, that an lcore may be writing. @param counter arena offset */
export function readCounter(words: Int32Array, counter: number): number {
  const index = counter >>> 2;
  for (;;) {
    // an lcore may be carrying from the low word to the high one
    const high = Atomics.load(words, index + 1) >>> 0;
    const low = Atomics.load(words, index) >>> 0;
    if (Atomics.load(words, index + 1) >>> 0 === high) return high * 0x1_0000_0000 + low;
  }
}

/** A state in the arena with its counters; the common part of every queue. */
export class QueueState {
  readonly offset: number;
  readonly #arena: Arena;
  readonly #baselines = new Map<number, number>();
  protected readonly views: ArenaViews;
  #errorTaken = false;
  #open = true;

  constructor(arena: Arena, name: string, port: number) {
    this.#arena = arena;
    this.views = arena.views;
    this.offset = arena.allocateOwn(Q_BYTES_TOTAL, `the state of ${name}`);
    this.set(Q_PORT, port);
    this.set(Q_LCORE, MAIN_LCORE_SLOT);
    this.set(Q_NOTIFY_FD, NO_DESCRIPTOR);
    this.set(Q_INTERRUPT_FD, NO_DESCRIPTOR);
    this.set(Q_WAKE_FD, NO_DESCRIPTOR);
  }

  get(field: number): number {
    return this.views.u32[(this.offset + field) >>> 2] ?? 0;
  }

  set(field: number, value: number): void {
    this.views.u32[(this.offset + field) >>> 2] = value;
  }

  /** Starts or stops the queue for the kernels; follow a stop with a grace period before touching anything else. */
  setState(state: number): void {
    Atomics.store(this.views.i32, (this.offset + Q_STATE) >>> 2, state);
    // an lcore that sleeps waits for what it knew of the queue when it fell asleep
    const wake = this.get(Q_WAKE_FD);
    if (wake !== NO_DESCRIPTOR) signalEventFd(wake);
  }

  /** Why a kernel gave up (QUEUE_ERROR_*), or 0. */
  get error(): number {
    return this.get(Q_ERROR);
  }

  /** The same, but once for every time that a kernel gives up. */
  takeError(): number {
    const { error } = this;
    if (error === 0 || this.#errorTaken) return 0;
    this.#errorTaken = true;
    return error;
  }

  /**
   * Tells the other side that this one polls (virtio 1.2, 2.7.7, 2.7.10 and 2.8.10), in what this side writes: the flags of a split ring,
   * or with VIRTIO_F_EVENT_IDX its event, and flags of 0; the event suppression structure of a packed one.
   * @param flags arena offset of the flags or of that structure
   * @param event arena offset of the event of a split ring
   */
  protected poll(flags: number, noNotification: number, event: number): void {
    const { u16, u32 } = this.views;
    const features = this.get(Q_FEATURES);
    this.set(Q_ARMED, 0);
    if ((features & QUEUE_PACKED) !== 0) {
      u32[flags >>> 2] = EVENT_DISABLE << 16;
      return;
    }
    const events = (features & QUEUE_EVENT_IDX) !== 0;
    u16[flags >>> 1] = events ? 0 : noNotification;
    if (events) u16[event >>> 1] = this.get(Q_HANDLED) + EVENT_FAR;
  }

  protected clearError(): void {
    this.set(Q_ERROR, 0);
    this.#errorTaken = false;
  }

  /** A counter since the last reset. */
  counter(field: number): number {
    return this.#raw(field) - (this.#baselines.get(field) ?? 0);
  }

  /** Makes counters read zero from now on; the lcore's own words are left alone. */
  resetCounters(fields: readonly number[]): void {
    for (const field of fields) this.#baselines.set(field, this.#raw(field));
  }

  #raw(field: number): number {
    return readCounter(this.views.i32, this.offset + field);
  }

  /** Makes room for packets that wait after having been finished; for transmit queues, before their first burst. */
  makeWaitingRoom(): void {
    if (this.get(Q_WAITING) !== 0) return;
    const waiting = this.#arena.allocateOwn(WAITING_BYTES, 'packets that wait');
    this.views.u32.fill(0, waiting >>> 2, (waiting + WAITING_HANDLES) >>> 2);
    this.set(Q_WAITING, waiting);
  }

  /** Frees the packets that wait; no lcore may be working on the queue. */
  dropWaiting(kernels: Kernels): void {
    const waiting = this.get(Q_WAITING);
    if (waiting === 0) return;
    const { u32 } = this.views;
    const first = u32[(waiting + WAITING_FIRST) >>> 2] ?? 0;
    const count = u32[(waiting + WAITING_COUNT) >>> 2] ?? 0;
    kernels.packetsFree(waiting + WAITING_HANDLES + 4 * first, count, MAIN_LCORE_SLOT);
    u32[(waiting + WAITING_COUNT) >>> 2] = 0;
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    const waiting = this.get(Q_WAITING);
    if (waiting !== 0) this.#arena.own.release(waiting);
    this.#arena.own.release(this.offset);
  }
}

export interface DriverQueueOptions {
  /** Name in messages. */
  readonly name: string;
  /** Descriptors: 2 to 32768; a power of two unless RING_PACKED will be negotiated. */
  readonly size: number;
  readonly port: number;
  /** Pool that receive buffers come from; undefined for a transmit queue. */
  readonly pool?: number | undefined;
  /** High word of every address that the device is told. */
  readonly addressHigh?: number;
  /** Arena offset of the table of physical addresses (physical-addresses.ts), where the device is told those; 0 or undefined: it is not. */
  readonly physicalAddresses?: number;
  /** The three parts in one piece, the used ring on a page of 4 KiB of its own (virtio 1.2, 2.7.2: legacy devices). */
  readonly onePiece?: boolean;
}

/** The used ring of a legacy device starts on a page (virtio 1.2, 2.7.2). */
const LEGACY_ALIGN = 4096;

/** What begins at a multiple of it lies within one page of 2 MiB, as no part is larger. */
const withinPage = (bytes: number): number => Math.max(LEGACY_ALIGN, 2 ** Math.ceil(Math.log2(bytes)));

/** The driver side: the ring itself, with room for either format, its shadow and its free descriptors. */
export class DriverQueue extends QueueState {
  readonly size: number;
  /** Arena offsets of the three parts. */
  readonly descriptors: number;
  readonly available: number;
  readonly used: number;
  readonly #arena: Arena;
  readonly #name: string;
  readonly #own: number[];
  readonly #published: number[];

  /** @throws RangeError for an impossible size; VirtioError ENOMEM */
  constructor(arena: Arena, options: DriverQueueOptions) {
    checkRingSize(`${options.name}: size`, options.size);
    super(arena, options.name, options.port);
    this.#arena = arena;
    this.#name = options.name;
    this.size = options.size;
    const bytes = splitRingBytes(options.size);
    const own: number[] = [];
    const published: number[] = [];
    this.#own = own;
    this.#published = published;
    const takeOwn = (count: number): number => {
      const offset = arena.allocateOwn(count, options.name);
      own.push(offset);
      return offset;
    };
    const takePublished = (count: number, align: number): number => {
      const offset = arena.allocatePublished(count, options.name, align);
      published.push(offset);
      return offset;
    };
    try {
      if (options.onePiece === true) {
        const usedAt = Math.ceil((bytes.descriptors + bytes.available) / LEGACY_ALIGN) * LEGACY_ALIGN;
        this.descriptors = takePublished(usedAt + bytes.used, withinPage(usedAt + bytes.used));
        this.available = this.descriptors + bytes.descriptors;
        this.used = this.descriptors + usedAt;
      } else {
        this.descriptors = takePublished(bytes.descriptors, withinPage(bytes.descriptors));
        // on lines of their own: each is written by one side only
        this.available = takePublished(bytes.available, Math.max(128, 2 ** Math.ceil(Math.log2(bytes.available))));
        this.used = takePublished(bytes.used, withinPage(bytes.used));
      }
      this.set(Q_SHADOW, takeOwn(options.size * SHADOW_BYTES));
      this.set(Q_FREE_RING, takeOwn(options.size * 2));
      this.set(Q_SCRATCH, takeOwn((options.size + 1024) * 4));
      if (options.pool === undefined) this.set(Q_HEADERS, takePublished(options.size * TRANSMIT_AREA_BYTES, TRANSMIT_AREA_BYTES));
    } catch (error) {
      this.close();
      throw error;
    }
    this.set(Q_SIZE, options.size);
    this.set(Q_DESCRIPTORS, this.descriptors);
    this.set(Q_AVAILABLE, this.available);
    this.set(Q_USED, this.used);
    this.set(Q_POOL, options.pool ?? 0);
    this.set(Q_ADDRESS_HIGH, options.addressHigh ?? 0);
    this.set(Q_PHYSICAL, options.physicalAddresses ?? 0);
    this.#clear();
  }

  /**
   * Sets what was negotiated: QUEUE_* bits, the bytes of the virtio-net header, MBUF_WORK_* bits, and the bytes of the longest packet
   * sent. The ring must be empty.
   * @throws RangeError when a split ring cannot have that many descriptors
   */
  negotiate(features: number, headerBytes: number, offloads = 0, lengthLimit = NO_LENGTH_LIMIT): void {
    if ((features & QUEUE_PACKED) === 0) checkSplitSize(`${this.#name}: size`, this.size);
    this.set(Q_FEATURES, features);
    this.#clear();
    this.set(Q_HEADER, headerBytes);
    this.set(Q_OFFLOADS, offloads);
    this.set(Q_LENGTH_LIMIT, lengthLimit);
  }

  /**
   * Where the device begins, as vhost says it (vhost-user, "Vring state"): an index; for a packed ring a position in either half, where
   * descriptors become available and where they become used.
   */
  get base(): number {
    return (this.get(Q_FEATURES) & QUEUE_PACKED) === 0 ? 0 : POSITION_START * 0x1_0001;
  }

  /**
   * Frees every packet in the ring and empties the ring. No lcore and no device may be working on it.
   */
  reset(kernels: Kernels): void {
    const shadow = this.get(Q_SHADOW);
    for (let index = 0; index < this.size; index++) {
      const entry = (shadow + index * SHADOW_BYTES + SHADOW_MBUF) >>> 2;
      const mbuf = this.views.u32[entry] ?? 0;
      if (mbuf !== 0) kernels.packetFree(mbuf, MAIN_LCORE_SLOT);
    }
    this.#clear();
  }

  #clear(): void {
    const { u8, u16 } = this.views;
    const bytes = splitRingBytes(this.size);
    u8.fill(0, this.descriptors, this.descriptors + bytes.descriptors);
    u8.fill(0, this.available, this.available + bytes.available);
    u8.fill(0, this.used, this.used + bytes.used);
    u8.fill(0, this.get(Q_SHADOW), this.get(Q_SHADOW) + this.size * SHADOW_BYTES);
    const ring = this.get(Q_FREE_RING) >>> 1;
    for (let index = 0; index < this.size; index++) u16[ring + index] = index;
    const packed = (this.get(Q_FEATURES) & QUEUE_PACKED) !== 0;
    this.clearError();
    for (const field of [Q_SEEN, Q_FREE_HEAD, Q_FREE_TAIL, Q_BATCH, Q_NOTIFY]) this.set(field, 0);
    for (const field of [Q_OWN_INDEX, Q_HANDLED]) this.set(field, packed ? POSITION_START : 0);
    this.set(Q_FREE, this.size);
    this.poll(this.available, AVAILABLE_F_NO_INTERRUPT, this.available + AVAILABLE_RING + 2 * this.size);
  }

  override close(): void {
    for (const offset of this.#own.splice(0)) this.#arena.own.release(offset);
    for (const offset of this.#published.splice(0)) this.#arena.published.release(offset);
    super.close();
  }
}

export interface DeviceRing {
  readonly size: number;
  /** Arena offsets (in the window) of the three parts of the driver's ring. */
  readonly descriptors: number;
  readonly available: number;
  readonly used: number;
  /** QUEUE_* bits. */
  readonly features: number;
  readonly headerBytes: number;
  /** MBUF_WORK_* bits: what the peer leaves undone in its transmit queue, what may be left to it in its receive queue. Default 0. */
  readonly offloads?: number | undefined;
  /** Bytes of the longest packet put into the ring; default NO_LENGTH_LIMIT. */
  readonly lengthLimit?: number | undefined;
  /** Table of the peer's memory. */
  readonly regions: number;
}

/** The device side: a state that is pointed at a ring in the peer's memory. */
export class DeviceQueue extends QueueState {
  readonly #arena: Arena;
  #scratch: number | undefined;

  constructor(arena: Arena, options: { readonly name: string; readonly port: number; readonly pool?: number | undefined }) {
    super(arena, options.name, options.port);
    this.#arena = arena;
    try {
      this.#scratch = arena.allocateOwn(DEVICE_SCRATCH_BYTES, options.name);
    } catch (error) {
      this.close();
      throw error;
    }
    this.set(Q_SCRATCH, this.#scratch);
    this.set(Q_POOL, options.pool ?? 0);
    this.set(Q_FEATURES, QUEUE_DEVICE);
  }

  setPool(pool: number): void {
    this.set(Q_POOL, pool);
  }

  /**
   * Points the queue at a ring; it must be stopped. The device of a split ring goes on where the used ring's index stands: what the
   * driver says of its base may be older (vhost-user, SET_VRING_BASE after a reconnection). A packed ring knows no such index.
   * @param base position (packed-layout.ts) where the device of a packed ring goes on
   * @throws RangeError for an impossible size or base
   */
  attach(ring: DeviceRing, base = POSITION_START): void {
    this.#place(ring);
    const packed = (ring.features & QUEUE_PACKED) !== 0;
    if (packed && (base & POSITION_INDEX) >= ring.size)
      throw new RangeError(`ring base ${String(base & POSITION_INDEX)}: the ring has ${String(ring.size)} descriptors`);
    const index = packed ? base & 0xffff : (this.views.u16[(ring.used + USED_INDEX) >>> 1] ?? 0);
    this.clearError();
    this.set(Q_OWN_INDEX, index);
    this.set(Q_HANDLED, index);
    this.set(Q_SEEN, index);
    // who stopped before may not have notified of the last elements, which by VIRTIO_F_EVENT_IDX is not made good by later ones
    this.set(Q_NOTIFY, (ring.features & QUEUE_EVENT_IDX) === 0 ? 0 : 1);
    this.#poll();
  }

  /** Points the queue at the same ring at other offsets, its indices unchanged. It polls from now on. */
  point(ring: DeviceRing): void {
    this.#place(ring);
    this.#poll();
  }

  #place(ring: DeviceRing): void {
    ((ring.features & QUEUE_PACKED) === 0 ? checkSplitSize : checkRingSize)('ring size', ring.size);
    this.set(Q_SIZE, ring.size);
    this.set(Q_DESCRIPTORS, ring.descriptors);
    this.set(Q_AVAILABLE, ring.available);
    this.set(Q_USED, ring.used);
    this.set(Q_FEATURES, ring.features | QUEUE_DEVICE);
    this.set(Q_HEADER, ring.headerBytes);
    this.set(Q_OFFLOADS, ring.offloads ?? 0);
    this.set(Q_LENGTH_LIMIT, ring.lengthLimit ?? NO_LENGTH_LIMIT);
    this.set(Q_REGIONS, ring.regions);
  }

  #poll(): void {
    const used = this.get(Q_USED);
    this.poll(used, USED_F_NO_NOTIFY, used + USED_RING + USED_ELEMENT_BYTES * this.get(Q_SIZE));
  }

  /** u16 index of the next entry of the available ring that the device will look at; packed: the position of the next descriptor. */
  get nextAvailable(): number {
    return this.get(Q_HANDLED);
  }

  override close(): void {
    if (this.#scratch !== undefined) this.#arena.own.release(this.#scratch);
    this.#scratch = undefined;
    this.setState(QUEUE_STOPPED);
    super.close();
  }
}
