/**
 * The mempool's state in the own part of the arena: a stack of free mbufs that all lcores share under a lock, and a
 * small cache for each lcore in front of it.
 * @module
 */

/** u32: mbufs in the pool. */
export const POOL_COUNT: u32 = 0;
/** u32: bytes of a data room, headroom included. */
export const POOL_ROOM: u32 = 4;
/** u32: 1 while an lcore works on the shared stack. */
export const POOL_LOCK: u32 = 8;
/** u32: free mbufs on the shared stack. */
export const POOL_FREE: u32 = 12;
/** u32: offset of the shared stack: POOL_COUNT handles. */
export const POOL_STACK: u32 = 16;
/** u32: mbufs that a cache keeps; it gives back what exceeds this once it holds half as many again. */
export const POOL_CACHE_SIZE: u32 = 20;
/** u32: offset of the first cache. */
export const POOL_CACHES: u32 = 24;
/** u32: bytes from one cache to the next. */
export const POOL_CACHE_STRIDE: u32 = 28;
/** u32: offset of the first mbuf. */
export const POOL_FIRST: u32 = 32;
/** u32: impossible handles that were handed in. */
export const POOL_ERRORS: u32 = 36;
export const POOL_BYTES: u32 = 64;

/** u32: mbufs in this cache; their handles follow from CACHE_ITEMS on. */
export const CACHE_LENGTH: u32 = 0;
export const CACHE_ITEMS: u32 = 64;

/** Caches in a pool: lcores 0..LCORE_SLOTS-1 may use it at the same time. */
export const LCORE_SLOTS: u32 = 32;
/** A cache is at most this large (RTE_MEMPOOL_CACHE_MAX_SIZE). */
export const CACHE_LIMIT: u32 = 512;
