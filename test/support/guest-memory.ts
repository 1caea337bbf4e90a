/**
 * Buffers of a driver written by hand: published memory that the driver knows by guest addresses of its own.
 * @module
 */
import type { RingBench } from './ring-pair.ts';

/** Where the driver's buffers lie, as it says itself: 4 GiB and up, so that both words of an address count. */
export const GUEST = 0x1_0000_0000n;
/** Bytes of them. */
export const BUFFERS = 256 * 1024;

export class GuestMemory {
  readonly bench: RingBench;
  /** Arena offset of the buffers. */
  readonly buffers: number;

  constructor(bench: RingBench) {
    this.bench = bench;
    this.buffers = bench.published(BUFFERS, 4096);
  }

  /** Guest address of a byte of the buffers. */
  at(offset: number): bigint {
    return GUEST + BigInt(offset);
  }

  write(offset: number, bytes: Uint8Array): void {
    this.bench.write(this.buffers + offset, bytes);
  }

  read(offset: number, length: number): Buffer {
    return this.bench.read(this.buffers + offset, length);
  }
}
