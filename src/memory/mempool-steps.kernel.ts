/**
 * The test for four mbufs at once of mempool.kernel.ts, in JavaScript; mempool-steps.kernel.wasm.ts is the twin that AssemblyScript compiles, by
 * vectors.
 * @module
 */
import { ld32 } from './access.ts';
import { MBUF_POOL, MBUF_SEGMENTS, ONE_SEGMENT_ONE_OWNER } from './mbuf-layout.ts';

/** How a packet differs from one segment with one owner, out of `pool`. */
function difference(packet: u32, pool: u32): u32 {
  return (ld32(packet + MBUF_SEGMENTS) ^ ONE_SEGMENT_ONE_OWNER) | (ld32(packet + MBUF_POOL) ^ pool);
}

/** 0 when the four packets whose handles are at `from` are single segments with one owner, out of `pool`. */
export function plainFour(from: u32, pool: u32): u32 {
  return (
    difference(ld32(from), pool) | difference(ld32(from + 4), pool) | difference(ld32(from + 8), pool) | difference(ld32(from + 12), pool)
  );
}
