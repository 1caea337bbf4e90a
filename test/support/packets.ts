/**
 * Packets in the mbufs of a bench: made with marks, read back, freed; and nothing written outside of them.
 * @module
 */
import { expect } from 'vitest';
import {
  MBUF_CHECKSUM_OFFSET,
  MBUF_CHECKSUM_START,
  MBUF_FLAGS,
  MBUF_HEADER_LENGTH,
  MBUF_SEGMENT_SIZE,
} from '../../src/memory/mbuf-layout.ts';
import type { Mempool } from '../../src/memory/mempool.ts';
import { CSUM_ADDRESSES, CSUM_BYTES, CSUM_SWITCHES } from '../../src/net/recompute-checksums.kernel.ts';
import type { KernelTarget } from '../../src/ring/kernels.ts';
import { RingBench, type PacketShape } from './ring-pair.ts';

/** What travels with a packet. */
export interface Marks {
  readonly flags: number;
  readonly start: number;
  readonly offset: number;
  readonly size: number;
  readonly headers: number;
}

/** One pool, settings of the csum engine, and kernels on one target. Closing it checks that every mbuf is back. */
export class PacketBench implements Disposable {
  readonly ring: RingBench;
  readonly pool: Mempool;
  /** Arena offset of the csum engine's settings, and of 12 bytes of addresses. */
  readonly settings: number;
  readonly addresses: number;
  /** Arena offset of room for 512 handles. */
  readonly list: number;

  constructor(target: KernelTarget, mbufs = 256) {
    this.ring = new RingBench(target);
    this.pool = this.ring.pool({ count: mbufs, cacheSize: 32 });
    this.settings = this.ring.own(CSUM_BYTES);
    this.addresses = this.ring.own(16);
    this.list = this.ring.own(2048);
    this.ring.canaries();
  }

  /** Writes settings by field, the others being 0. */
  set(fields: Readonly<Record<number, number>>): void {
    const { ring, settings } = this;
    ring.u32.fill(0, settings >>> 2, (settings + CSUM_BYTES) >>> 2);
    for (const [field, value] of Object.entries(fields)) ring.st32(settings + Number(field), value);
  }

  get(field: number): number {
    return this.ring.ld32(this.settings + field);
  }

  /** A packet; the last segments hold 2048 bytes at most. @throws Error when the pool is empty */
  packet(bytes: Uint8Array, marks: Partial<Marks> = {}, shape: PacketShape = {}): number {
    const segments = [...(shape.segments ?? [])];
    let left = bytes.length - segments.reduce((sum, length) => sum + length, 0);
    for (; left > 2048; left -= 2048) segments.push(2048);
    const packet = this.ring.packet(this.pool, bytes, { ...shape, segments });
    if (packet === undefined) throw new Error('the pool is empty');
    this.ring.st32(packet + MBUF_FLAGS, marks.flags ?? 0);
    this.ring.st16(packet + MBUF_CHECKSUM_START, marks.start ?? 0);
    this.ring.st16(packet + MBUF_CHECKSUM_OFFSET, marks.offset ?? 0);
    this.ring.st16(packet + MBUF_SEGMENT_SIZE, marks.size ?? 0);
    this.ring.st16(packet + MBUF_HEADER_LENGTH, marks.headers ?? 0);
    return packet;
  }

  marks(packet: number): Marks {
    const { ring } = this;
    return {
      flags: ring.ld32(packet + MBUF_FLAGS),
      start: ring.ld16(packet + MBUF_CHECKSUM_START),
      offset: ring.ld16(packet + MBUF_CHECKSUM_OFFSET),
      size: ring.ld16(packet + MBUF_SEGMENT_SIZE),
      headers: ring.ld16(packet + MBUF_HEADER_LENGTH),
    };
  }

  bytes(packets: readonly number[]): Buffer[] {
    return packets.map((packet) => this.ring.bytesOf(packet));
  }

  free(packets: readonly number[]): void {
    this.ring.kernels.packetsFree(this.ring.list(packets), packets.length, 0);
  }

  /** recomputeChecksums() on packets, whose addresses stay. */
  recompute(packets: readonly number[]): void {
    const { ring, settings, addresses } = this;
    ring.st32(settings + CSUM_SWITCHES, this.get(CSUM_SWITCHES) & ~CSUM_ADDRESSES);
    ring.kernels.recomputeChecksums(settings, addresses, ring.list(packets), packets.length);
  }

  /** gatherPackets() and finishGathering() on packets; returns those that are left. */
  gather(packets: readonly number[]): number[] {
    const { ring, settings } = this;
    const count = ring.kernels.gatherPackets(settings, ring.list(packets), packets.length, ring.handles, 0, 0);
    ring.kernels.finishGathering(settings);
    return ring.listed(count);
  }

  [Symbol.dispose](): void {
    const dead = this.ring.deadCanaries();
    this.ring[Symbol.dispose]();
    expect(dead, 'bytes written where nobody may').toEqual([]);
  }
}
