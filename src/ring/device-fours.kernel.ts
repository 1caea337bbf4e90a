/**
 * Four descriptors a step on the device side, whatever the ring's format: descriptors that lie one behind the other, whose buffers begin in
 * the first of the peer's regions. One test for four, and the region looked up once a burst, is what this is for; what is not so plain is
 * left to the loops that look at one descriptor at a time. The steps themselves are in device-runs.kernel.ts.
 * @module
 */
import { ld32, ldu32 } from '../memory/access.ts';
import { REGION_FIRST, REGION_GUEST_LOW, REGION_SIZE } from './queue-layout.ts';

/** Bytes of anything that is looked at with three others; what is longer is looked at alone. */
export const SHORT: u32 = 0x20000;

/** What a first pass over a burst leaves of each packet in the scratch room: its arena offset, its bytes. */
export const FOUND_PACKET: u32 = 0;
export const FOUND_LENGTH: u32 = 4;
export const FOUND_BYTES: u32 = 8;

/** Behind that in the scratch room: of each descriptor of a run the word that its flags are in. */
export const SCRATCH_WORDS: u32 = 2048;

/**
 * How far behind the beginning of the first region SHORT bytes may begin: addresses whose high word is the region's and whose low word
 * is no further are within it. 0 when it is too small for that.
 */
export function firstReach(regions: u32): u32 {
  const start: u32 = ld32(regions + REGION_FIRST + REGION_GUEST_LOW);
  const size: u32 = ld32(regions + REGION_FIRST + REGION_SIZE);
  // not further than where the high word changes
  const before: u32 = (0 - start) >>> 0;
  const bytes: u32 = start !== 0 && before < size ? before : size;
  return bytes <= SHORT ? 0 : bytes - SHORT;
}

/**
 * Of a split ring: how many entries of the available ring, from `entry` on and `most` at most, name descriptors that lie one behind the
 * other from `head` on, as they do for ever with a driver that gets them back in order; a multiple of four.
 */
export function consecutive(size: u32, head: u32, entry: u32, most: u32): u32 {
  let found: u32 = 0;
  while (found + 4 <= most && head + found + 4 <= size) {
    const next: u32 = head + found;
    const low: u32 = ldu32(entry + (found << 1)) ^ (next | ((next + 1) << 16));
    const high: u32 = ldu32(entry + (found << 1) + 4) ^ ((next + 2) | ((next + 3) << 16));
    if ((low | high) !== 0) break;
    found += 4;
  }
  return found;
}
