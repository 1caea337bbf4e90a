/**
 * The driver of a packed virtqueue written by hand (virtio 1.2, 2.8): a plain model, byte by byte, that makes available whatever a test
 * wants, right or wrong, and keeps books of what has been used.
 * @module
 */
import type { Mempool } from '../../src/memory/mempool.ts';
import { PACKED_BYTES, POSITION_START } from '../../src/ring/packed-layout.ts';
import { QUEUE_IN_ORDER, QUEUE_PACKED, QUEUE_RUNNING } from '../../src/ring/queue-layout.ts';
import { DeviceQueue, packedRingBytes } from '../../src/ring/virtqueue.ts';
import { BUFFERS, GUEST, GuestMemory } from './guest-memory.ts';
import type { Region, RingBench } from './ring-pair.ts';

export const NEXT = 1;
export const WRITE = 2;
export const INDIRECT = 4;
export const AVAIL = 0x80;
export const USED = 0x8000;

/** What a descriptor describes; flags besides NEXT, AVAIL and USED. */
export interface Element {
  readonly address: bigint;
  readonly length: number;
  readonly flags?: number;
}

export interface UsedBuffer {
  readonly id: number;
  /** As the used descriptor has it; undefined where its flags say that nothing was written, or in order it was left out. */
  readonly length: number | undefined;
}

export interface PackedDriverOptions {
  readonly size?: number;
  readonly features?: number;
  readonly header?: number;
  readonly pool?: Mempool | undefined;
  /** Position where both sides start. */
  readonly base?: number;
  readonly offloads?: number;
  readonly regions?: (buffers: number) => readonly Region[];
}

export class PackedDriver extends GuestMemory {
  readonly size: number;
  readonly ring: number;
  /** Event suppression structures of the driver and of the device. */
  readonly driverEvents: number;
  readonly deviceEvents: number;
  readonly device: DeviceQueue;
  readonly #inOrder: boolean;
  readonly #outstanding: { readonly id: number; readonly descriptors: number }[] = [];
  #free: number;
  #index: number;
  #wrap: boolean;
  #usedIndex: number;
  #usedWrap: boolean;
  #id = 0;

  constructor(bench: RingBench, options: PackedDriverOptions = {}) {
    super(bench);
    const { size = 16, features = 0, header = 12, pool, base = POSITION_START, offloads } = options;
    const bytes = packedRingBytes(size);
    this.size = size;
    this.#free = size;
    this.#inOrder = (features & QUEUE_IN_ORDER) !== 0;
    this.ring = bench.published(bytes.descriptors, 16);
    this.driverEvents = bench.published(bytes.available, 4);
    this.deviceEvents = bench.published(bytes.used, 4);
    this.#index = this.#usedIndex = base & 0x7fff;
    this.#wrap = this.#usedWrap = (base & 0x8000) !== 0;
    this.device = new DeviceQueue(bench.arena, { name: 'device', port: 7, pool: pool?.offset });
    this.device.attach(
      {
        size,
        descriptors: this.ring,
        available: this.driverEvents,
        used: this.deviceEvents,
        features: features | QUEUE_PACKED,
        headerBytes: header,
        offloads,
        regions: bench.regions(options.regions?.(this.buffers) ?? [{ guest: GUEST, size: BUFFERS, offset: this.buffers }]),
      },
      base,
    );
    this.device.setState(QUEUE_RUNNING);
  }

  /** Descriptors that are not outstanding. */
  get free(): number {
    return this.#free;
  }

  /** Ids of buffers that are outstanding, the oldest first. */
  get outstanding(): readonly number[] {
    return this.#outstanding.map(({ id }) => id);
  }

  get error(): number {
    return this.device.error;
  }

  /** Flags by which a descriptor becomes available at the driver's place, or a number of descriptors behind it. */
  availableFlags(ahead = 0): number {
    const wrap = this.#index + ahead < this.size ? this.#wrap : !this.#wrap;
    return wrap ? AVAIL : USED;
  }

  /** Number of the descriptor that comes `ahead` behind the driver's place. */
  place(ahead = 0): number {
    return (this.#index + ahead) % this.size;
  }

  /** Writes a descriptor of the ring, or of a table of them elsewhere, as it is told. */
  descriptor(index: number, { address, length, flags = 0 }: Element, id = 0, table = this.ring): void {
    const { bench } = this;
    const at = table + PACKED_BYTES * index;
    bench.st32(at, Number(address & 0xffff_ffffn));
    bench.st32(at + 4, Number(address >> 32n));
    bench.st32(at + 8, length);
    bench.st16(at + 12, id);
    bench.st16(at + 14, flags);
  }

  readDescriptor(index: number): { readonly address: bigint; readonly length: number; readonly id: number; readonly flags: number } {
    const { bench } = this;
    const at = this.ring + PACKED_BYTES * index;
    return {
      address: (BigInt(bench.ld32(at + 4)) << 32n) + BigInt(bench.ld32(at)),
      length: bench.ld32(at + 8),
      id: bench.ld16(at + 12),
      flags: bench.ld16(at + 14),
    };
  }

  /** Makes a list available, its id in its last descriptor only (2.8.6). @returns its id; by default the next of a sequence */
  offer(elements: readonly Element[], id = this.#id++ & 0xffff): number {
    if (elements.length > this.#free) throw new RangeError('the test offers more descriptors than the ring has');
    // the first one last
    for (const [ahead, element] of [...elements.entries()].reverse()) {
      const last = ahead === elements.length - 1;
      const flags = (element.flags ?? 0) | this.availableFlags(ahead) | (last ? 0 : NEXT);
      this.descriptor(this.place(ahead), { ...element, flags }, last ? id : 0x5555);
    }
    this.#advance(elements.length);
    this.#outstanding.push({ id, descriptors: elements.length });
    this.#free -= elements.length;
    return id;
  }

  /** Writes a table of indirect descriptors into the buffers and makes it available. */
  offerTable(offset: number, entries: readonly Element[], flags = 0, length = entries.length * PACKED_BYTES): number {
    for (const [index, entry] of entries.entries()) this.descriptor(index, entry, 0x7777, this.buffers + offset);
    return this.offer([{ address: this.at(offset), length, flags: flags | INDIRECT }]);
  }

  /** What the device has used since the last call, left out ones too. Throws when it is nothing that was outstanding. */
  takeUsed(): UsedBuffer[] {
    const found: UsedBuffer[] = [];
    while (this.#outstanding.length > 0) {
      const { id, flags, length } = this.readDescriptor(this.#usedIndex);
      if ((flags & (AVAIL | USED)) !== (this.#usedWrap ? AVAIL | USED : 0)) break;
      for (;;) {
        const buffer = this.#outstanding.shift();
        if (buffer === undefined) throw new Error(`buffer ${id} was used, which is not outstanding`);
        const named = buffer.id === id;
        if (!named && !this.#inOrder) throw new Error(`buffer ${id} was used before buffer ${buffer.id}`);
        found.push({ id: buffer.id, length: named && (flags & WRITE) !== 0 ? length : undefined });
        this.#free += buffer.descriptors;
        this.#usedIndex += buffer.descriptors;
        if (this.#usedIndex >= this.size) {
          this.#usedIndex -= this.size;
          this.#usedWrap = !this.#usedWrap;
        }
        if (named) break;
      }
    }
    return found;
  }

  receive(count = 32): Buffer[] {
    return this.bench.take(this.bench.kernels.packedDeviceDequeue, this.device.offset, count);
  }

  send(pool: Mempool, ...packets: readonly Uint8Array[]): number {
    const mbufs = packets.map((bytes) => this.bench.packet(pool, bytes) ?? 0);
    return this.bench.send(this.bench.kernels.packedDeviceEnqueue, this.device.offset, mbufs);
  }

  #advance(by: number): void {
    this.#index += by;
    if (this.#index < this.size) return;
    this.#index -= this.size;
    this.#wrap = !this.#wrap;
  }
}
