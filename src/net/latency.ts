/**
 * What a recorder of latencies has seen: percentiles of its histogram (latency-layout.ts).
 * @module
 */
import {
  BUCKETS,
  BUCKETS_A_POWER,
  RECORDER_BUCKETS,
  RECORDER_CLEAR,
  RECORDER_CLEARED,
  RECORDER_LONGEST,
  RECORDER_OTHERS,
} from './latency-layout.ts';

export const LATENCY_PERCENTILES = [50, 90, 99, 99.9, 99.99, 99.999] as const;

export interface Latency {
  /** Packets that came back and were measured. */
  readonly packets: number;
  /** Received packets that were none of the run's. */
  readonly others: number;
  /** Nanoseconds that so many per cent of the packets stayed below, to 1.6 %; 0 without packets. */
  readonly percentiles: readonly { readonly percent: number; readonly nanoseconds: number }[];
  /** Nanoseconds; 4294967295 stands for all that took longer. */
  readonly longest: number;
}

/** Reads a recorder at an arena offset, at any time: what is recorded meanwhile is in it or is not. */
export function readLatency(u32: Readonly<Uint32Array>, recorder: number): Latency {
  const load = (field: number): number => u32[(recorder + field) >>> 2] ?? 0;
  const counter = (field: number): number => load(field) + load(field + 4) * 2 ** 32;
  // asked to be emptied, and no packet has come since
  const isEmpty = load(RECORDER_CLEAR) !== load(RECORDER_CLEARED);
  const counts = Array.from({ length: BUCKETS }, (_, bucket) => (isEmpty ? 0 : counter(RECORDER_BUCKETS + 8 * bucket)));
  const packets = counts.reduce((sum, count) => sum + count, 0);
  const longest = isEmpty ? 0 : load(RECORDER_LONGEST);
  return {
    packets,
    others: isEmpty ? 0 : counter(RECORDER_OTHERS),
    percentiles: LATENCY_PERCENTILES.map((percent) => ({ percent, nanoseconds: Math.min(longest, below(counts, packets, percent)) })),
    longest,
  };
}

/** The largest value of the bucket that the percentile is in. */
function below(counts: readonly number[], packets: number, percent: number): number {
  const wanted = Math.ceil((packets * percent) / 100);
  let seen = 0;
  for (const [bucket, count] of counts.entries()) {
    seen += count;
    if (seen >= wanted) return largestOf(bucket);
  }
  return 0;
}

function largestOf(bucket: number): number {
  if (bucket < 2 * BUCKETS_A_POWER) return bucket;
  const shift = Math.floor(bucket / BUCKETS_A_POWER) - 1;
  return ((bucket % BUCKETS_A_POWER) + BUCKETS_A_POWER + 1) * 2 ** shift - 1;
}
