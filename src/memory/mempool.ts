/**
 * Mempools: making a pool of mbufs and looking at it. Taking and giving back is in mempool.kernel.ts.
 * @module
 */
import type { Arena } from './arena.ts';
import { VirtioError } from '../system/error.ts';
import { MBUF_BUFFER, MBUF_BYTES, MBUF_HEADROOM, MBUF_POOL, MBUF_REFERENCES, MBUF_ROOM, MBUF_SEGMENTS } from './mbuf-layout.ts';
import {
  CACHE_ITEMS,
  CACHE_LENGTH,
  CACHE_LIMIT,
  LCORE_SLOTS,
  POOL_BYTES,
  POOL_CACHE_SIZE,
  POOL_CACHE_STRIDE,
  POOL_CACHES,
  POOL_COUNT,
  POOL_FIRST,
  POOL_FREE,
  POOL_ROOM,
  POOL_STACK,
} from './mempool-layout.ts';

export interface MempoolOptions {
  /** Name in messages. */
  readonly name?: string;
  /** Number of mbufs. */
  readonly count: number;
  /** Bytes of a data room, the headroom of 128 included; default 2176. */
  readonly dataRoom?: number;
  /** Free mbufs that each lcore keeps for itself, 0..512; default 250. */
  readonly cacheSize?: number;
}

export interface Mempool {
  readonly name: string;
  readonly count: number;
  readonly dataRoom: number;
  readonly cacheSize: number;
  /** Arena offset of the pool's state, for kernels. */
  readonly offset: number;
  /** Free mbufs, those in caches included. Exact while no lcore works on the pool. */
  free(): number;
  /** Gives the memory back; no mbuf may be in use. */
  close(): void;
}

/** Arena bytes that a pool takes: what it needs of the own and of the published part. */
export function mempoolBytes(options: MempoolOptions): { readonly own: number; readonly published: number } {
  const stride = CACHE_ITEMS + 4 * cacheEntries(options.cacheSize ?? 250);
  return {
    own: POOL_BYTES + stride * LCORE_SLOTS + options.count * (MBUF_BYTES + 4) + 256,
    published: buffersBytes(options.count, roomStride(options.dataRoom ?? 2176)) + 64,
  };
}

/** Whole cache lines, so that two buffers never share one. */
function roomStride(dataRoom: number): number {
  return Math.ceil(dataRoom / 64) * 64;
}

/** No buffer lies across a boundary of two pages, which need not be neighbours in physical memory. */
const BUFFER_PAGE = 2 * 1024 * 1024;

/** Room for buffers of `rooms` bytes wherever the first of them lies in its page. */
function buffersBytes(count: number, rooms: number): number {
  return (count + 1 + Math.ceil(count / Math.floor(BUFFER_PAGE / rooms))) * rooms;
}

/** A cache that holds one mbuf too few for a burst as large as itself is given a whole cache more. */
function cacheEntries(cacheSize: number): number {
  return Math.ceil((2 * cacheSize + 1) / 16) * 16;
}

/**
 * Makes a pool.
 * @throws RangeError for impossible sizes; VirtioError ENOMEM when the arena is too small
 */
export function createMempool(arena: Arena, options: MempoolOptions): Mempool {
  const { count, name = 'mbuf_pool', dataRoom = 2176, cacheSize = 250 } = options;
  if (!Number.isInteger(count) || count < 1) throw new RangeError(`mempool ${name}: count ${String(count)} must be a positive integer`);
  if (!Number.isInteger(dataRoom) || dataRoom < MBUF_HEADROOM + 64 || dataRoom > 65_535) {
    throw new RangeError(`mempool ${name}: dataRoom ${String(dataRoom)} must be ${String(MBUF_HEADROOM + 64)}..65535 bytes`);
  }
  if (!Number.isInteger(cacheSize) || cacheSize < 0 || cacheSize > CACHE_LIMIT) {
    throw new RangeError(`mempool ${name}: cacheSize ${String(cacheSize)} must be 0..${String(CACHE_LIMIT)}`);
  }
  const { u32, u16 } = arena.views;
  const stride = CACHE_ITEMS + 4 * cacheEntries(cacheSize);
  const rooms = roomStride(dataRoom);
  const offset = arena.allocateOwn(POOL_BYTES + stride * LCORE_SLOTS, `the state of mempool ${name}`);
  const released: (() => void)[] = [
    () => {
      arena.own.release(offset);
    },
  ];
  const release = (): void => {
    for (const undo of released.reverse()) undo();
  };
  let first: number;
  let stack: number;
  let buffers: number;
  try {
    first = arena.own.allocate(count * MBUF_BYTES, 64, `${String(count)} mbufs of mempool ${name}`);
    released.push(() => {
      arena.own.release(first);
    });
    stack = arena.own.allocate(count * 4, 64, `the stack of mempool ${name}`);
    released.push(() => {
      arena.own.release(stack);
    });
    buffers = arena.published.allocate(
      buffersBytes(count, rooms),
      64,
      `${String(count)} buffers of ${String(dataRoom)} bytes of mempool ${name}`,
    );
    released.push(() => {
      arena.published.release(buffers);
    });
  } catch (error) {
    release();
    throw error;
  }
  u32[(offset + POOL_COUNT) >> 2] = count;
  u32[(offset + POOL_ROOM) >> 2] = dataRoom;
  u32[(offset + POOL_FREE) >> 2] = count;
  u32[(offset + POOL_STACK) >> 2] = stack;
  u32[(offset + POOL_CACHE_SIZE) >> 2] = cacheSize;
  u32[(offset + POOL_CACHES) >> 2] = offset + POOL_BYTES;
  u32[(offset + POOL_CACHE_STRIDE) >> 2] = stride;
  u32[(offset + POOL_FIRST) >> 2] = first;
  u32.fill(0, first >> 2, (first + count * MBUF_BYTES) >> 2);
  const phase = arena.base % BUFFER_PAGE;
  let buffer = buffers;
  for (let index = 0; index < count; index++) {
    const mbuf = first + index * MBUF_BYTES;
    const left = BUFFER_PAGE - ((buffer + phase) % BUFFER_PAGE);
    if (left < rooms) buffer += left;
    u32[(mbuf + MBUF_BUFFER) >> 2] = buffer;
    buffer += rooms;
    u32[(mbuf + MBUF_ROOM) >> 2] = dataRoom;
    u32[(mbuf + MBUF_POOL) >> 2] = offset;
    u16[(mbuf + MBUF_SEGMENTS) >> 1] = 1;
    u16[(mbuf + MBUF_REFERENCES) >> 1] = 1;
    u32[(stack >> 2) + index] = mbuf;
  }
  let open = true;
  return {
    name,
    count,
    dataRoom,
    cacheSize,
    offset,
    free() {
      let free = u32[(offset + POOL_FREE) >> 2] ?? 0;
      for (let lcore = 0; lcore < LCORE_SLOTS; lcore++) free += u32[(offset + POOL_BYTES + lcore * stride + CACHE_LENGTH) >> 2] ?? 0;
      return free;
    },
    close() {
      if (!open) return;
      const missing = count - this.free();
      if (missing !== 0) {
        throw new VirtioError(
          `mempool ${name}: ${String(missing)} of ${String(count)} mbufs are still in use; stop and close its ports first`,
          { code: 'EBUSY' },
        );
      }
      open = false;
      release();
    },
  };
}
