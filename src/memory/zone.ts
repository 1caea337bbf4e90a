/**
 * A first-fit allocator over one range of the arena. Control path only: rings, pools and states are made here, packets never.
 * @module
 */
import { VirtioError } from '../system/error.ts';

interface Range {
  readonly start: number;
  readonly end: number;
}

export class Zone {
  readonly name: string;
  readonly start: number;
  readonly end: number;
  readonly #base: number;
  #free: readonly Range[];
  readonly #allocated = new Map<number, number>();

  /**
   * @param name what the range is, for messages
   * @param base address of offset 0: alignment is one of addresses
   */
  constructor(name: string, start: number, end: number, base = 0) {
    this.#base = base;
    this.name = name;
    this.start = start;
    this.end = end;
    this.#free = end > start ? [{ start, end }] : [];
  }

  /** Bytes not allocated. */
  get freeBytes(): number {
    return this.#free.reduce((sum, range) => sum + range.end - range.start, 0);
  }

  /**
   * @param align a power of two
   * @param what named in the error
   * @returns the offset
   * @throws VirtioError ENOMEM
   */
  allocate(bytes: number, align: number, what: string): number {
    for (const [index, range] of this.#free.entries()) {
      const start = Math.ceil((this.#base + range.start) / align) * align - this.#base;
      const end = start + bytes;
      if (end > range.end) continue;
      const rest = [
        { start: range.start, end: start },
        { start: end, end: range.end },
      ].filter((part) => part.end > part.start);
      this.#free = [...this.#free.slice(0, index), ...rest, ...this.#free.slice(index + 1)];
      this.#allocated.set(start, end);
      return start;
    }
    throw new VirtioError(
      `no room for ${what}: ${String(bytes)} bytes wanted, ${String(this.freeBytes)} of ${String(this.end - this.start)} left in ${this.name}`,
      { code: 'ENOMEM' },
    );
  }

  /** Gives an allocation back. */
  release(start: number): void {
    const end = this.#allocated.get(start);
    if (end === undefined) throw new RangeError(`offset ${String(start)} is not allocated in ${this.name}`);
    this.#allocated.delete(start);
    const merged: Range[] = [];
    for (const range of [...this.#free, { start, end }].sort((a, b) => a.start - b.start)) {
      const last = merged.at(-1);
      if (last?.end === range.start) merged[merged.length - 1] = { start: last.start, end: range.end };
      else merged.push(range);
    }
    this.#free = merged;
  }
}
