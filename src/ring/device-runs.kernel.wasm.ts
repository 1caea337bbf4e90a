// The WebAssembly twin of device-runs.kernel.ts, by vectors of four words: four descriptors are turned round, so that a vector has the
// same word of each. Only asc reads this file.
import { ld32, st32, touch } from '../memory/access';
import { MBUF_LENGTH, MBUF_NEXT, MBUF_WORK } from '../memory/mbuf-layout';
import { FOUND_BYTES, SHORT, firstReach } from './device-fours.kernel';
import {
  Q_FIRST_WORD,
  Q_HEADER,
  Q_LENGTH_LIMIT,
  Q_REGIONS,
  Q_SCRATCH,
  Q_TOUCH,
  REGION_FIRST,
  REGION_GUEST_HIGH,
  REGION_GUEST_LOW,
  REGION_OFFSET,
} from './queue-layout';

const BYTES: u32 = 16;
const LENGTH: u32 = 8;

export function findRun(queue: u32, descriptor: u32, descriptors: u32, before: u32, room: u32, kind: u32, mask: u32, words: u32): u32 {
  const regions: u32 = ld32(queue + Q_REGIONS);
  const header: u32 = ld32(queue + Q_HEADER);
  const last: u32 = firstReach(regions);
  if (last === 0 || header + room > SHORT) return 0;
  const lows: v128 = i32x4.splat(ld32(regions + REGION_FIRST + REGION_GUEST_LOW));
  const highs: v128 = i32x4.splat(ld32(regions + REGION_FIRST + REGION_GUEST_HIGH));
  const lasts: v128 = i32x4.splat(last);
  const bases: v128 = i32x4.splat(ld32(regions + REGION_FIRST + REGION_OFFSET) + header);
  const headers: v128 = i32x4.splat(header);
  const ones: v128 = i32x4.splat(1);
  const rooms: v128 = i32x4.splat(room);
  const kinds: v128 = i32x4.splat(kind);
  const masks: v128 = i32x4.splat(mask);
  let entry: u32 = ld32(queue + Q_SCRATCH) + before * FOUND_BYTES;
  let at: u32 = descriptor;
  let sum: u32 = 0;
  let found: u32 = 0;
  for (; found < descriptors; found += 4) {
    const d0: v128 = v128.load(at);
    const d1: v128 = v128.load(at, 16);
    const d2: v128 = v128.load(at, 32);
    const d3: v128 = v128.load(at, 48);
    const a: v128 = v128.shuffle<u32>(d0, d1, 0, 4, 1, 5);
    const b: v128 = v128.shuffle<u32>(d2, d3, 0, 4, 1, 5);
    const places: v128 = i32x4.sub(v128.shuffle<u64>(a, b, 0, 2), lows);
    const c: v128 = v128.shuffle<u32>(d0, d1, 2, 6, 3, 7);
    const d: v128 = v128.shuffle<u32>(d2, d3, 2, 6, 3, 7);
    const lengths: v128 = i32x4.sub(v128.shuffle<u64>(c, d, 0, 2), headers);
    const word: v128 = v128.shuffle<u64>(c, d, 1, 3);
    const other: v128 = v128.and(v128.xor(word, kinds), masks);
    const elsewhere: v128 = v128.or(
      v128.xor(v128.shuffle<u64>(a, b, 1, 3), highs),
      v128.xor(v128.min<u32>(places, lasts), places),
    );
    const wrong: v128 = i32x4.shr_s(v128.or(i32x4.sub(lengths, ones), i32x4.sub(rooms, lengths)), 31);
    if (words !== 0) v128.store(words + (found << 2), word);
    const packets: v128 = i32x4.add(places, bases);
    v128.store(entry, v128.shuffle<u32>(packets, lengths, 0, 4, 1, 5));
    v128.store(entry, v128.shuffle<u32>(packets, lengths, 2, 6, 3, 7), 16);
    if (v128.any_true(v128.or(v128.or(elsewhere, wrong), other))) break;
    sum +=
      touch(i32x4.extract_lane(packets, 0)) +
      touch(i32x4.extract_lane(packets, 1)) +
      touch(i32x4.extract_lane(packets, 2)) +
      touch(i32x4.extract_lane(packets, 3));
    entry += 4 * FOUND_BYTES;
    at += 4 * BYTES;
  }
  st32(queue + Q_TOUCH, sum);
  return found;
}

export function fitRun(queue: u32, descriptor: u32, descriptors: u32, from: u32, before: u32, kind: u32, mask: u32, used: u32, first: u32): u32 {
  const regions: u32 = ld32(queue + Q_REGIONS);
  const header: u32 = ld32(queue + Q_HEADER);
  const last: u32 = firstReach(regions);
  if (last === 0) return 0;
  const limit: u32 = ld32(queue + Q_LENGTH_LIMIT) + header;
  const lows: v128 = i32x4.splat(ld32(regions + REGION_FIRST + REGION_GUEST_LOW));
  const highs: v128 = i32x4.splat(ld32(regions + REGION_FIRST + REGION_GUEST_HIGH));
  const lasts: v128 = i32x4.splat(last);
  const bases: v128 = i32x4.splat(ld32(regions + REGION_FIRST + REGION_OFFSET));
  const headers: v128 = i32x4.splat(header);
  const kinds: v128 = i32x4.splat(kind);
  const masks: v128 = i32x4.splat(mask);
  const ids: v128 = i32x4.splat(0xffff);
  const useds: v128 = i32x4.splat(used);
  const longest: v128 = i32x4.splat(limit < SHORT ? limit : SHORT);
  // of NEXT and the three words behind it
  const plain: v128 = i32x4(-1, 0, 0, MBUF_WORK);
  let places: u32 = ld32(queue + Q_SCRATCH) + (before << 2);
  let handles: u32 = from;
  let at: u32 = descriptor;
  let fitting: u32 = 0;
  for (; fitting < descriptors; fitting += 4) {
    const p0: u32 = ld32(handles);
    const p1: u32 = ld32(handles + 4);
    const p2: u32 = ld32(handles + 8);
    const p3: u32 = ld32(handles + 12);
    const d0: v128 = v128.load(at);
    const d1: v128 = v128.load(at, 16);
    const d2: v128 = v128.load(at, 32);
    const d3: v128 = v128.load(at, 48);
    const a: v128 = v128.shuffle<u32>(d0, d1, 0, 4, 1, 5);
    const b: v128 = v128.shuffle<u32>(d2, d3, 0, 4, 1, 5);
    const found: v128 = i32x4.sub(v128.shuffle<u64>(a, b, 0, 2), lows);
    const c: v128 = v128.shuffle<u32>(d0, d1, 2, 6, 3, 7);
    const d: v128 = v128.shuffle<u32>(d2, d3, 2, 6, 3, 7);
    const bytes: v128 = v128.shuffle<u64>(c, d, 0, 2);
    const words: v128 = v128.shuffle<u64>(c, d, 1, 3);
    const other: v128 = v128.and(v128.xor(words, kinds), masks);
    const elsewhere: v128 = v128.or(v128.xor(v128.shuffle<u64>(a, b, 1, 3), highs), v128.xor(v128.min<u32>(found, lasts), found));
    let lengths: v128 = v128.load32_zero(p0 + MBUF_LENGTH);
    lengths = v128.load32_lane(p1 + MBUF_LENGTH, lengths, 1);
    lengths = v128.load32_lane(p2 + MBUF_LENGTH, lengths, 2);
    lengths = v128.load32_lane(p3 + MBUF_LENGTH, lengths, 3);
    const wanted: v128 = i32x4.add(lengths, headers);
    const more: v128 = v128.or(
      v128.or(v128.load(p0 + MBUF_NEXT), v128.load(p1 + MBUF_NEXT)),
      v128.or(v128.load(p2 + MBUF_NEXT), v128.load(p3 + MBUF_NEXT)),
    );
    const wrong: v128 = i32x4.shr_s(v128.or(i32x4.sub(bytes, wanted), i32x4.sub(longest, wanted)), 31);
    v128.store(places, i32x4.add(found, bases));
    if (v128.any_true(v128.or(v128.or(elsewhere, wrong), v128.or(other, v128.and(more, plain))))) break;
    if (used !== 0) {
      const done: v128 = v128.or(v128.and(words, ids), useds);
      const front: v128 = v128.shuffle<u32>(wanted, done, 0, 4, 1, 5);
      const back: v128 = v128.shuffle<u32>(wanted, done, 2, 6, 3, 7);
      if (at === first) {
        st32(at + LENGTH, i32x4.extract_lane(front, 0));
        st32(queue + Q_FIRST_WORD, i32x4.extract_lane(front, 1));
      } else v128.store64_lane(at, front, 0, LENGTH);
      v128.store64_lane(at, front, 1, BYTES + LENGTH);
      v128.store64_lane(at, back, 0, 2 * BYTES + LENGTH);
      v128.store64_lane(at, back, 1, 3 * BYTES + LENGTH);
    }
    places += 16;
    handles += 16;
    at += 4 * BYTES;
  }
  return fitting;
}
