/**
 * Stamps packets with the time, and records how long those that come back were away (latency-layout.ts).
 * @module
 */
import { ld32, ldu32, st32, stu32 } from '../memory/access.ts';
import { MBUF_DATA, MBUF_SEGMENT_LENGTH } from '../memory/mbuf-layout.ts';
import {
  BUCKETS,
  BUCKETS_A_POWER,
  LATENCY_STAMP,
  LATENCY_STAMP_BYTES,
  RECORDER_BUCKETS,
  RECORDER_CLEAR,
  RECORDER_CLEARED,
  RECORDER_LONGEST,
  RECORDER_MARK,
  RECORDER_OTHERS,
  RECORDER_TIME,
} from './latency-layout.ts';

const LONGEST: u32 = 0xffff_ffff;

/** Writes mark and time into packets whose first segment has room for them. */
export function stampPackets(recorder: u32, mbufs: u32, packets: u32): void {
  const mark: u32 = ld32(recorder + RECORDER_MARK);
  const low: u32 = ld32(recorder + RECORDER_TIME);
  const high: u32 = ld32(recorder + RECORDER_TIME + 4);
  for (let index: u32 = 0; index < packets; index++) {
    const stamp: u32 = ld32(ld32(mbufs + (index << 2)) + MBUF_DATA) + LATENCY_STAMP;
    stu32(stamp, mark);
    stu32(stamp + 4, low);
    stu32(stamp + 8, high);
  }
}

/** Records the packets that have the mark, and counts the others. */
export function recordLatency(recorder: u32, mbufs: u32, packets: u32): void {
  clearWhereAsked(recorder);
  const mark: u32 = ld32(recorder + RECORDER_MARK);
  const low: u32 = ld32(recorder + RECORDER_TIME);
  const high: u32 = ld32(recorder + RECORDER_TIME + 4);
  let longest: u32 = ld32(recorder + RECORDER_LONGEST);
  for (let index: u32 = 0; index < packets; index++) {
    const packet: u32 = ld32(mbufs + (index << 2));
    const stamp: u32 = ld32(packet + MBUF_DATA) + LATENCY_STAMP;
    if (ld32(packet + MBUF_SEGMENT_LENGTH) < LATENCY_STAMP + LATENCY_STAMP_BYTES || ldu32(stamp) !== mark) {
      addOne(recorder + RECORDER_OTHERS);
      continue;
    }
    const from: u32 = ldu32(stamp + 4);
    const borrow: u32 = low < from ? 1 : 0;
    const seconds: u32 = (high - ldu32(stamp + 8) - borrow) >>> 0;
    const away: u32 = seconds === 0 ? (low - from) >>> 0 : LONGEST;
    if (away > longest) longest = away;
    addOne(recorder + RECORDER_BUCKETS + (bucketOf(away) << 3));
  }
  st32(recorder + RECORDER_LONGEST, longest);
}

function bucketOf(nanoseconds: u32): u32 {
  let value: u32 = nanoseconds;
  let first: u32 = 0;
  while (value >= 2 * BUCKETS_A_POWER) {
    value = value >>> 1;
    first += BUCKETS_A_POWER;
  }
  return first + value;
}

function addOne(counter: u32): void {
  const low: u32 = (ld32(counter) + 1) >>> 0;
  st32(counter, low);
  if (low === 0) st32(counter + 4, (ld32(counter + 4) + 1) >>> 0);
}

function clearWhereAsked(recorder: u32): void {
  const asked: u32 = ld32(recorder + RECORDER_CLEAR);
  if (asked === ld32(recorder + RECORDER_CLEARED)) return;
  for (let bucket: u32 = 0; bucket < 2 * BUCKETS; bucket++) st32(recorder + RECORDER_BUCKETS + (bucket << 2), 0);
  st32(recorder + RECORDER_OTHERS, 0);
  st32(recorder + RECORDER_OTHERS + 4, 0);
  st32(recorder + RECORDER_LONGEST, 0);
  st32(recorder + RECORDER_CLEARED, asked);
}
