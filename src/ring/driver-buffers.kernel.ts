/**
 * Fresh buffers for the driver's receive queues, whatever the ring's format.
 * @module
 */
import { ld32 } from '../memory/access.ts';
import { mbufAllocate } from '../memory/mempool.kernel.ts';
import { count } from './counters.kernel.ts';
import { Q_FREE, Q_NO_MBUF, Q_POOL, Q_SCRATCH } from './queue-layout.ts';

/** Buffers posted at a time. */
const BATCH: u32 = 32;

/**
 * Takes buffers for free descriptors out of the cache of `lcore`: a batch, or single ones from a pool that runs dry. Their handles are
 * in the scratch room then.
 * @returns how many; 0 when no descriptor is free or the pool is empty
 */
export function takeBuffers(queue: u32, lcore: u32): u32 {
  const free: u32 = ld32(queue + Q_FREE);
  if (free === 0) return 0;
  const scratch: u32 = ld32(queue + Q_SCRATCH);
  const pool: u32 = ld32(queue + Q_POOL);
  const wanted: u32 = free < BATCH ? free : BATCH;
  if (mbufAllocate(pool, lcore, scratch, wanted) !== 0) return wanted;
  if (mbufAllocate(pool, lcore, scratch, 1) !== 0) return 1;
  count(queue + Q_NO_MBUF, 1);
  return 0;
}

/** Free descriptors from which on it pays to post buffers. */
export function refillThreshold(size: u32): u32 {
  return size >= 2 * BATCH ? BATCH : size >>> 1;
}
