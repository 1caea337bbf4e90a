// The WebAssembly twin of mempool-steps.kernel.ts. Only asc reads this file.
import { ld32 } from './access';
import { MBUF_NEXT, ONE_SEGMENT_ONE_OWNER } from './mbuf-layout';

// @ts-ignore: decorator
@inline
export function plainFour(from: u32, pool: u32): u32 {
  // NEXT, SEGMENTS and REFERENCES, POOL, FLAGS
  const expected: v128 = i32x4.replace_lane(i32x4(0, ONE_SEGMENT_ONE_OWNER, 0, 0), 2, pool);
  const first: v128 = v128.or(v128.xor(v128.load(ld32(from) + MBUF_NEXT), expected), v128.xor(v128.load(ld32(from + 4) + MBUF_NEXT), expected));
  const last: v128 = v128.or(v128.xor(v128.load(ld32(from + 8) + MBUF_NEXT), expected), v128.xor(v128.load(ld32(from + 12) + MBUF_NEXT), expected));
  return v128.any_true(v128.and(v128.or(first, last), i32x4(0, -1, -1, 0))) ? 1 : 0;
}
