/**
 * Translations of an IOMMU for one permission, as the control plane keeps them: ranges of I/O virtual addresses and the arena offsets that
 * they stand for, sorted, and written out in the form in which kernels search them (src/ring/peer-memory.kernel.ts).
 *
 * Ranges that touch in both become one, so that a buffer may cross from one page into the next.
 * @module
 */
import {
  REGION_BYTES,
  REGION_FIRST,
  REGION_GUEST_HIGH,
  REGION_GUEST_LOW,
  REGION_OFFSET,
  REGION_SIZE,
  REGIONS_PERMISSION,
  REGIONS_READABLE,
} from '../ring/queue-layout.ts';

/** Ranges that a table has room for; with more, others go, and have to be asked for again. */
export const TRANSLATION_LIMIT = 4096;
/** Bytes of a table in the arena: the longest range stands in it twice. */
export const TRANSLATIONS_BYTES = REGION_FIRST + REGION_BYTES * (TRANSLATION_LIMIT + 1);
/** A size is a u32. */
const SIZE_LIMIT = 0xffff_ffffn;
/** Steps by which the range to go is chosen: a prime, so that all have their turn. */
const VICTIM_STEP = 1627;

interface Range {
  readonly start: bigint;
  /** Behind the last byte. */
  readonly end: bigint;
  /** Arena offset of the first byte. */
  readonly offset: number;
  /** Both words of the start, and the length: a table is written far more often than a range is made. */
  readonly low: number;
  readonly high: number;
  readonly bytes: number;
}

function makeRange(start: bigint, end: bigint, offset: number): Range {
  return { start, end, offset, low: Number(start & 0xffff_ffffn), high: Number(start >> 32n), bytes: Number(end - start) };
}

const NOTHING = makeRange(0n, 0n, 0);

function join(left: Range | undefined, right: Range | undefined): Range | undefined {
  if (left === undefined || right === undefined) return undefined;
  if (left.end !== right.start || left.offset + left.bytes !== right.offset) return undefined;
  return right.end - left.start > SIZE_LIMIT ? undefined : makeRange(left.start, right.end, left.offset);
}

export class TranslationTable {
  readonly #ranges: Range[] = [];
  #victim = 0;

  /** Ranges that it holds now. */
  get size(): number {
    return this.#ranges.length;
  }

  /**
   * Adds a translation of 1 to 2^32-1 bytes; what was known of these addresses is forgotten.
   * @returns whether anything was
   */
  insert(start: bigint, bytes: bigint, offset: number): boolean {
    const replaced = this.remove(start, start + bytes);
    if (this.#ranges.length >= TRANSLATION_LIMIT) {
      this.#victim = (this.#victim + VICTIM_STEP) % this.#ranges.length;
      this.#ranges.splice(this.#victim, 1);
    }
    const at = this.#after(start);
    let range: Range = makeRange(start, start + bytes, offset);
    const left = join(this.#ranges[at - 1], range);
    range = left ?? range;
    const right = join(range, this.#ranges[at]);
    range = right ?? range;
    const first = left === undefined ? at : at - 1;
    this.#ranges.splice(first, (right === undefined ? at : at + 1) - first, range);
    return replaced;
  }

  /** Forgets the addresses from `start` up to `end`. @returns whether any of them was known */
  remove(start: bigint, end: bigint): boolean {
    const first = this.#firstBeyond(start);
    const kept: Range[] = [];
    let last = first;
    for (; last < this.#ranges.length; last++) {
      const range = this.#ranges[last];
      if (range === undefined || range.start >= end) break;
      if (range.start < start) kept.push(makeRange(range.start, start, range.offset));
      if (range.end > end) kept.push(makeRange(end, range.end, range.offset + Number(end - range.start)));
    }
    if (last === first) return false;
    // a hole in the middle makes two of one
    this.#ranges.splice(first, last - first, ...(this.#ranges.length < TRANSLATION_LIMIT ? kept : kept.slice(0, last - first)));
    return true;
  }

  clear(): void {
    this.#ranges.length = 0;
  }

  /** Arena offset of `bytes` bytes that lie side by side there too; otherwise undefined. */
  find(address: bigint, bytes: number): number | undefined {
    const range = this.#ranges[this.#firstBeyond(address)];
    if (range === undefined || range.start > address || address + BigInt(bytes) > range.end) return undefined;
    return range.offset + Number(address - range.start);
  }

  /** The first address from `start` up to `end` that is not known; undefined when all are. */
  gap(start: bigint, end: bigint): bigint | undefined {
    let address = start;
    for (let index = this.#firstBeyond(start); address < end; index++) {
      const range = this.#ranges[index];
      if (range === undefined || range.start > address) return address;
      address = range.end;
    }
    return undefined;
  }

  /** Writes it for the kernels. @param readable arena offset of the table of what may be read */
  write(u32: Uint32Array, table: number, permission: number, readable: number): void {
    let at = (table + REGION_FIRST) >>> 2;
    const entry = ({ low, high, bytes, offset }: Range): void => {
      u32[at + (REGION_GUEST_LOW >>> 2)] = low;
      u32[at + (REGION_GUEST_HIGH >>> 2)] = high;
      u32[at + (REGION_SIZE >>> 2)] = bytes;
      u32[at + (REGION_OFFSET >>> 2)] = offset;
      at += REGION_BYTES >>> 2;
    };
    entry(this.#ranges.reduce((longest, range) => (range.bytes > longest.bytes ? range : longest), NOTHING));
    for (const range of this.#ranges) entry(range);
    u32[table >>> 2] = this.#ranges.length + 1;
    u32[(table + REGIONS_PERMISSION) >>> 2] = permission;
    u32[(table + REGIONS_READABLE) >>> 2] = readable;
  }

  /** Index of the first range that ends behind an address. */
  #firstBeyond(address: bigint): number {
    return this.#search((range) => range.end > address);
  }

  /** Index of the first range that begins behind an address. */
  #after(address: bigint): number {
    return this.#search((range) => range.start > address);
  }

  /** Index of the first range that passes a test which all behind it pass too. */
  #search(test: (range: Range) => boolean): number {
    let from = 0;
    let to = this.#ranges.length;
    while (from < to) {
      const middle = (from + to) >>> 1;
      const range = this.#ranges[middle];
      if (range !== undefined && test(range)) to = middle;
      else from = middle + 1;
    }
    return from;
  }
}
