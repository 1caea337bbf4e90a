/**
 * A driver written by hand (virtio 1.2, 2.7), at a split ring that the kernels of a device serve: any descriptor can be anything.
 * @module
 */
import type { Mempool } from '../../src/memory/mempool.ts';
import { DeviceQueue, splitRingBytes } from '../../src/ring/virtqueue.ts';
import { BUFFERS, GUEST, GuestMemory } from './guest-memory.ts';
import type { Region, RingBench } from './ring-pair.ts';

const NEXT = 1;

export interface Link {
  readonly address: bigint;
  readonly length: number;
  readonly flags?: number;
  readonly next?: number;
}

/** A driver written by hand (virtio 1.2, 2.7): rings and buffers byte by byte, whatever they are to be. */
export class HandDriver extends GuestMemory {
  readonly size: number;
  readonly descriptors: number;
  readonly available: number;
  readonly used: number;
  readonly device: DeviceQueue;
  #index: number;

  constructor(
    bench: RingBench,
    options: {
      readonly size?: number;
      readonly features?: number;
      readonly header?: number;
      readonly pool?: Mempool;
      readonly index?: number;
      readonly regions?: (buffers: number) => readonly Region[];
      /** Arena offset of a table that stands already, instead of `regions`. */
      readonly table?: number;
    } = {},
  ) {
    super(bench);
    const { size = 16, features = 0, header = 12, pool, index = 0 } = options;
    this.size = size;
    const bytes = splitRingBytes(size);
    this.descriptors = bench.published(bytes.descriptors, 16);
    this.available = bench.published(bytes.available, 4);
    this.used = bench.published(bytes.used, 4);
    this.#index = index;
    bench.st16(this.available + 2, index);
    bench.st16(this.used + 2, index);
    const regions = options.regions?.(this.buffers) ?? [{ guest: GUEST, size: BUFFERS, offset: this.buffers }];
    this.device = new DeviceQueue(bench.arena, { name: 'device', port: 7, pool: pool?.offset });
    this.device.attach({
      size,
      descriptors: this.descriptors,
      available: this.available,
      used: this.used,
      features,
      headerBytes: header,
      regions: options.table ?? bench.regions(regions),
    });
    this.device.setState(1);
  }

  descriptor(index: number, link: Link): void {
    this.#describe(this.descriptors + 16 * index, link);
  }

  /** A table of indirect descriptors in the buffers, from byte `offset` on. */
  table(offset: number, links: readonly Link[]): void {
    for (const [index, link] of links.entries()) this.#describe(this.buffers + offset + 16 * index, link);
  }

  #describe(at: number, { address, length, flags = 0, next = 0 }: Link): void {
    const { bench } = this;
    bench.st32(at, Number(address & 0xffff_ffffn));
    bench.st32(at + 4, Number(address >> 32n));
    bench.st32(at + 8, length);
    bench.st16(at + 12, flags);
    bench.st16(at + 14, next);
  }

  /** Descriptors from `first` on, each linked to the next one. */
  chain(first: number, links: readonly Omit<Link, 'next'>[]): void {
    for (const [place, link] of links.entries()) {
      const more = place + 1 < links.length;
      this.descriptor(first + place, { ...link, flags: (link.flags ?? 0) | (more ? NEXT : 0), next: more ? first + place + 1 : 0 });
    }
  }

  offer(...heads: readonly number[]): void {
    for (const head of heads) {
      this.bench.st16(this.available + 4 + 2 * (this.#index & (this.size - 1)), head);
      this.#index = (this.#index + 1) & 0xffff;
    }
    this.bench.st16(this.available + 2, this.#index);
  }

  jump(by: number): void {
    this.#index = (this.#index + by) & 0xffff;
    this.bench.st16(this.available + 2, this.#index);
  }

  get usedIndex(): number {
    return this.bench.ld16(this.used + 2);
  }

  usedElement(at: number): { readonly id: number; readonly length: number } {
    const element = this.used + 4 + 8 * (at & (this.size - 1));
    return { id: this.bench.ld32(element), length: this.bench.ld32(element + 4) };
  }

  receive(count = 32): Buffer[] {
    return this.bench.take(this.bench.kernels.splitDeviceDequeue, this.device.offset, count);
  }

  send(pool: Mempool, ...packets: readonly Uint8Array[]): number {
    const mbufs = packets.map((bytes) => this.bench.packet(pool, bytes) ?? 0);
    return this.bench.send(this.bench.kernels.splitDeviceEnqueue, this.device.offset, mbufs);
  }

  get error(): number {
    return this.device.error;
  }
}
