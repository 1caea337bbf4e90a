// The WebAssembly twin of driver-steps.kernel.ts, by vectors of four words: four mbufs, or four shadows, are turned round, so that a vector
// has the same word of each. Only asc reads this file.
import { ld32 } from '../memory/access';
import { MBUF_NEXT, MBUF_WORK, ONE_SEGMENT_ONE_OWNER } from '../memory/mbuf-layout';
import { ONE_DESCRIPTOR, SHADOW_COUNT_MASK } from './queue-layout';

// @ts-ignore: decorator
@inline
export function unfitFour(from: u32, header: u32, limit: u32): u32 {
  const p0: u32 = ld32(from);
  const p1: u32 = ld32(from + 4);
  const p2: u32 = ld32(from + 8);
  const p3: u32 = ld32(from + 12);
  // BUFFER, DATA, LENGTH
  const m0: v128 = v128.load(p0);
  const m1: v128 = v128.load(p1);
  const m2: v128 = v128.load(p2);
  const m3: v128 = v128.load(p3);
  const a: v128 = v128.shuffle<u32>(m0, m1, 0, 4, 1, 5);
  const b: v128 = v128.shuffle<u32>(m2, m3, 0, 4, 1, 5);
  const lengths: v128 = v128.shuffle<u64>(v128.shuffle<u32>(m0, m1, 2, 6, 3, 7), v128.shuffle<u32>(m2, m3, 2, 6, 3, 7), 0, 2);
  const places: v128 = i32x4.sub(v128.shuffle<u64>(a, b, 1, 3), i32x4.splat(header));
  const beyond: v128 = v128.or(i32x4.sub(places, v128.shuffle<u64>(a, b, 0, 2)), i32x4.sub(i32x4.splat(limit), lengths));
  // the sign bits of that, the low bits of the places
  const wrong: v128 = v128.or(i32x4.shr_s(beyond, 31), v128.and(places, i32x4.splat(3)));
  // NEXT, SEGMENTS and REFERENCES, POOL, FLAGS
  const expected: v128 = i32x4(0, ONE_SEGMENT_ONE_OWNER, 0, 0);
  const work: v128 = v128.or(
    v128.or(v128.xor(v128.load(p0 + MBUF_NEXT), expected), v128.xor(v128.load(p1 + MBUF_NEXT), expected)),
    v128.or(v128.xor(v128.load(p2 + MBUF_NEXT), expected), v128.xor(v128.load(p3 + MBUF_NEXT), expected)),
  );
  // the headers, and the word before them: that behind is the packet's, whose line need not come (docs/performance.md); num_buffers may be
  // what the device wrote there
  const fronts: v128 = i32x4.sub(places, i32x4.splat(4));
  const headers: v128 = v128.or(
    v128.or(v128.load(i32x4.extract_lane(fronts, 0)), v128.load(i32x4.extract_lane(fronts, 1))),
    v128.or(v128.load(i32x4.extract_lane(fronts, 2)), v128.load(i32x4.extract_lane(fronts, 3))),
  );
  const used: v128 = v128.or(v128.and(work, i32x4(0, -1, 0, MBUF_WORK)), v128.and(headers, i32x4(0, -1, -1, 0xfffeffff)));
  return v128.any_true(v128.or(wrong, used)) ? 1 : 0;
}

// @ts-ignore: decorator
@inline
export function takeFour(to: u32, shadow: u32): u32 {
  const front: v128 = v128.load(shadow);
  const back: v128 = v128.load(shadow, 16);
  const packets: v128 = v128.shuffle<u32>(front, back, 0, 2, 4, 6);
  const several: v128 = v128.xor(v128.shuffle<u32>(front, back, 1, 3, 5, 7), i32x4.splat(ONE_DESCRIPTOR));
  if (v128.any_true(v128.and(several, i32x4.splat(SHADOW_COUNT_MASK))) || !i32x4.all_true(packets)) return 0;
  v128.store(to, packets);
  v128.store(shadow, i32x4.splat(0));
  v128.store(shadow, i32x4.splat(0), 16);
  return 1;
}
