/**
 * Where the latency of packets is recorded: a histogram in the arena, log-linear, written by one lcore and read by anybody.
 *
 *     nanoseconds  0 ... 127 | 128 ... 255 | 256 ... 511 | ... | 2^31 ... 2^32 - 1
 *     buckets       one each |  64 of 2 ns |  64 of 4 ns | ... | 64 of 33554432 ns
 *
 * So a value is known to 1.6 %, and no value costs more than another. What takes longer than 4.29 s is in the last bucket.
 *
 * Stamped packets hold, little-endian, from LATENCY_STAMP on: the mark of the run, then the time of sending in nanoseconds, low word first.
 * @module
 */

/** u32: what the packets of this run are known by. */
export const RECORDER_MARK: u32 = 0;
/** u32: counts the times that the control plane asked for an empty histogram; the lcore empties it, and says so in RECORDER_CLEARED. */
export const RECORDER_CLEAR: u32 = 4;
/** The time, low word and high word: written by the lcore before it stamps and measures. Nanoseconds. */
export const RECORDER_TIME: u32 = 64;
export const RECORDER_CLEARED: u32 = 72;
/** u32: the longest, nanoseconds. */
export const RECORDER_LONGEST: u32 = 76;
/** Packets without the mark, of two u32 as all counters. */
export const RECORDER_OTHERS: u32 = 80;
/** Counters of two u32. */
export const RECORDER_BUCKETS: u32 = 128;

/** Buckets that a power of two is divided into. */
export const BUCKETS_A_POWER: u32 = 64;
export const BUCKETS: u32 = 27 * 64;
export const RECORDER_BYTES: u32 = 128 + 8 * 27 * 64;

/** Offset in the packet: behind Ethernet, IPv4 without options and UDP. */
export const LATENCY_STAMP: u32 = 42;
export const LATENCY_STAMP_BYTES: u32 = 12;
