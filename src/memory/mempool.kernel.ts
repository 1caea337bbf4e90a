/**
 * Taking mbufs from a pool and giving them back.
 *
 * A cache hands out the mbufs freed last, and those in the order in which they were freed: then a slot of a ring meets
 * the same buffer in every round, and descriptors need not be written again (docs/performance.md).
 * @module
 */
import { atomicExchangeIf32, atomicLoad32, atomicStore32, copyBytes, copyWords, ld16, ld32, st16, st32 } from './access.ts';
import {
  MBUF_BUFFER,
  MBUF_DATA,
  MBUF_FLAGS,
  MBUF_HEADROOM,
  MBUF_NEXT,
  MBUF_POOL,
  MBUF_REFERENCES,
  MBUF_SEGMENTS,
  ONE_SEGMENT_ONE_OWNER,
} from './mbuf-layout.ts';
import { plainFour } from './mempool-steps.kernel.ts';
import {
  CACHE_ITEMS,
  CACHE_LENGTH,
  POOL_CACHE_SIZE,
  POOL_CACHE_STRIDE,
  POOL_CACHES,
  POOL_FREE,
  POOL_LOCK,
  POOL_STACK,
} from './mempool-layout.ts';

function lock(pool: u32): void {
  while (atomicExchangeIf32(pool + POOL_LOCK, 0, 1) !== 0) continue;
}

function unlock(pool: u32): void {
  atomicStore32(pool + POOL_LOCK, 0);
}

function takeShared(pool: u32, to: u32, count: u32): u32 {
  lock(pool);
  const free: u32 = ld32(pool + POOL_FREE);
  const taken: u32 = free < count ? free : count;
  copyBytes(to, ld32(pool + POOL_STACK) + ((free - taken) << 2), taken << 2);
  st32(pool + POOL_FREE, free - taken);
  unlock(pool);
  return taken;
}

function giveShared(pool: u32, from: u32, count: u32): void {
  lock(pool);
  const free: u32 = ld32(pool + POOL_FREE);
  copyBytes(ld32(pool + POOL_STACK) + (free << 2), from, count << 2);
  st32(pool + POOL_FREE, free + count);
  unlock(pool);
}

/**
 * Writes the handles of `count` free mbufs to `to`, with DATA behind the headroom and no flags; all or none.
 * LENGTH and SEGMENT_LENGTH are left as they are.
 * @returns `count` or 0
 */
export function mbufAllocate(pool: u32, lcore: u32, to: u32, count: u32): u32 {
  const cache: u32 = ld32(pool + POOL_CACHES) + lcore * ld32(pool + POOL_CACHE_STRIDE);
  const size: u32 = ld32(pool + POOL_CACHE_SIZE);
  let length: u32 = ld32(cache + CACHE_LENGTH);
  if (count > size) {
    // more than a cache is meant to hold: straight from the shared stack, or nothing
    if (count > ld32(pool + POOL_FREE)) return 0;
    const taken: u32 = takeShared(pool, to, count);
    if (taken < count) {
      giveShared(pool, to, taken);
      return 0;
    }
  } else {
    if (length < count) {
      length += takeShared(pool, cache + CACHE_ITEMS + (length << 2), size);
      st32(cache + CACHE_LENGTH, length);
      if (length < count) return 0;
    }
    length -= count;
    st32(cache + CACHE_LENGTH, length);
    copyBytes(to, cache + CACHE_ITEMS + (length << 2), count << 2);
  }
  for (let index: u32 = 0; index < count; index++) {
    const mbuf: u32 = ld32(to + (index << 2));
    st32(mbuf + MBUF_DATA, ld32(mbuf + MBUF_BUFFER) + MBUF_HEADROOM);
    st32(mbuf + MBUF_FLAGS, 0);
  }
  return count;
}

/** The mbuf that was freed last into the cache of `lcore`, and would be allocated first; 0 when that is empty. */
export function freedLast(pool: u32, lcore: u32): u32 {
  const cache: u32 = ld32(pool + POOL_CACHES) + lcore * ld32(pool + POOL_CACHE_STRIDE);
  const length: u32 = ld32(cache + CACHE_LENGTH);
  return length === 0 ? 0 : ld32(cache + CACHE_ITEMS + ((length - 1) << 2));
}

/** Gives up one of several references; returns 1 when it was the last one after all. */
function dropReference(mbuf: u32): u32 {
  // SEGMENTS and REFERENCES share an aligned word
  let word: u32 = atomicLoad32(mbuf + MBUF_SEGMENTS);
  while (word >>> 16 !== 1) {
    const found: u32 = atomicExchangeIf32(mbuf + MBUF_SEGMENTS, word, word - 0x10000);
    if (found === word) return 0;
    word = found;
  }
  return 1;
}

function giveOne(mbuf: u32, lcore: u32): void {
  if (ld16(mbuf + MBUF_REFERENCES) !== 1 && dropReference(mbuf) === 0) return;
  if (ld32(mbuf + MBUF_NEXT) !== 0) st32(mbuf + MBUF_NEXT, 0);
  if (ld16(mbuf + MBUF_SEGMENTS) !== 1) st16(mbuf + MBUF_SEGMENTS, 1);
  const pool: u32 = ld32(mbuf + MBUF_POOL);
  const size: u32 = ld32(pool + POOL_CACHE_SIZE);
  const cache: u32 = ld32(pool + POOL_CACHES) + lcore * ld32(pool + POOL_CACHE_STRIDE);
  let length: u32 = ld32(cache + CACHE_LENGTH);
  st32(cache + CACHE_ITEMS + (length << 2), mbuf);
  length++;
  if (length > size + (size >>> 1)) {
    giveShared(pool, cache + CACHE_ITEMS + (size << 2), length - size);
    length = size;
  }
  st32(cache + CACHE_LENGTH, length);
}

/** Gives one packet back, all its segments. */
export function packetFree(packet: u32, lcore: u32): void {
  let mbuf: u32 = packet;
  while (mbuf !== 0) {
    const next: u32 = ld32(mbuf + MBUF_NEXT);
    giveOne(mbuf, lcore);
    mbuf = next;
  }
}

/** Gives `count` packets back, whose handles are at `from`. */
export function packetsFree(from: u32, count: u32, lcore: u32): void {
  let index: u32 = 0;
  while (index < count) {
    // a run of plain packets of one pool goes into the cache without a look at anything else
    const pool: u32 = ld32(ld32(from + (index << 2)) + MBUF_POOL);
    const size: u32 = ld32(pool + POOL_CACHE_SIZE);
    const limit: u32 = size + (size >>> 1);
    const cache: u32 = ld32(pool + POOL_CACHES) + lcore * ld32(pool + POOL_CACHE_STRIDE);
    let length: u32 = ld32(cache + CACHE_LENGTH);
    let packet: u32 = 0;
    while (index + 4 <= count && length + 4 <= limit && plainFour(from + (index << 2), pool) === 0) {
      copyWords(cache + CACHE_ITEMS + (length << 2), from + (index << 2));
      length += 4;
      index += 4;
    }
    while (index < count && length <= limit) {
      packet = ld32(from + (index << 2));
      if (ld32(packet + MBUF_SEGMENTS) !== ONE_SEGMENT_ONE_OWNER || ld32(packet + MBUF_POOL) !== pool) break;
      st32(cache + CACHE_ITEMS + (length << 2), packet);
      length++;
      index++;
    }
    if (length > limit) {
      giveShared(pool, cache + CACHE_ITEMS + (size << 2), length - size);
      length = size;
    }
    st32(cache + CACHE_LENGTH, length);
    if (index < count) {
      packet = ld32(from + (index << 2));
      if (ld32(packet + MBUF_SEGMENTS) !== ONE_SEGMENT_ONE_OWNER) {
        packetFree(packet, lcore);
        index++;
      }
    }
  }
}
