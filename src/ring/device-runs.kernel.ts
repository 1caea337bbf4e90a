/**
 * The steps of device-fours.kernel.ts, in JavaScript: four descriptors at a time, of either format, are looked at and their packets found or
 * fitted. device-runs.kernel.wasm.ts is the twin that AssemblyScript compiles, by vectors of four words.
 *
 *     bytes of a descriptor    0          4          8          12
 *                              low word   high word  length     word: flags (split, low half; packed, high half)
 *
 * What the peer may write is read once, but for the word: availableFours() has read it before the rest may be; it is tested again.
 *
 * Measured on Zen 4 by bench/kernels.ts, 64 B, both ends in one thread, ns a packet: one descriptor at a time, four by scalars, four by
 * vectors: packed rings, taking 14.0, 10.3, 9.2, putting 14.8, 12.4, 9.7; split rings 14.0, 11.9, 10.1 and 14.8, 12.4, 10.5.
 * @module
 */
import { ld32, st32, touch } from '../memory/access.ts';
import { MBUF_FLAGS, MBUF_LENGTH, MBUF_NEXT, MBUF_WORK } from '../memory/mbuf-layout.ts';
import { FOUND_BYTES, FOUND_LENGTH, FOUND_PACKET, SHORT, firstReach } from './device-fours.kernel.ts';
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
} from './queue-layout.ts';

const BYTES: u32 = 16;
const LOW: u32 = 0;
const HIGH: u32 = 4;
const LENGTH: u32 = 8;
const WORD: u32 = 12;

/** 0 when an address is no further than `last` behind the beginning of the region. */
function outside(place: u32, high: u32, regionHigh: u32, last: u32): u32 {
  return (high ^ regionHigh) | (place > last ? 1 : 0);
}

/**
 * Taking: looks at `descriptors` descriptors from `descriptor` on, a multiple of four, and leaves what it finds in the scratch room behind
 * the `before` packets that are there. Reads a word of each packet: their lines arrive together.
 * @param room bytes that a packet may have
 * @param kind the bits of `mask` that every word must have
 * @param words where the words are put, one a packet; 0: nowhere
 * @returns how many are sound, a multiple of four
 */
export function findRun(queue: u32, descriptor: u32, descriptors: u32, before: u32, room: u32, kind: u32, mask: u32, words: u32): u32 {
  const regions: u32 = ld32(queue + Q_REGIONS);
  const header: u32 = ld32(queue + Q_HEADER);
  const last: u32 = firstReach(regions);
  const low: u32 = ld32(regions + REGION_FIRST + REGION_GUEST_LOW);
  const high: u32 = ld32(regions + REGION_FIRST + REGION_GUEST_HIGH);
  const base: u32 = ld32(regions + REGION_FIRST + REGION_OFFSET) + header;
  const entries: u32 = ld32(queue + Q_SCRATCH) + before * FOUND_BYTES;
  if (last === 0 || header + room > SHORT) return 0;
  let sum: u32 = 0;
  let found: u32 = 0;
  while (found < descriptors) {
    let wrong: u32 = 0;
    for (let index: u32 = found; index < found + 4; index++) {
      const at: u32 = descriptor + index * BYTES;
      const entry: u32 = entries + index * FOUND_BYTES;
      const place: u32 = (ld32(at + LOW) - low) >>> 0;
      const length: u32 = ld32(at + LENGTH) - header;
      const word: u32 = ld32(at + WORD);
      // the sign bit: nothing behind the header, more than there is room for
      wrong |= outside(place, ld32(at + HIGH), high, last) | (((length - 1) | (room - length)) >>> 31) | ((word ^ kind) & mask);
      st32(entry + FOUND_PACKET, base + place);
      st32(entry + FOUND_LENGTH, length);
      if (words !== 0) st32(words + (index << 2), word);
    }
    if (wrong !== 0) break;
    for (let index: u32 = found; index < found + 4; index++) sum += touch(ld32(entries + index * FOUND_BYTES + FOUND_PACKET) & ~3);
    found += 4;
  }
  st32(queue + Q_TOUCH, sum);
  return found;
}

/**
 * Putting: looks at the buffers of `descriptors` descriptors from `descriptor` on, a multiple of four, and at the packets whose handles are
 * at `from`; leaves the places in the scratch room behind the `before` ones that are there, for copyRun().
 * @param kind the bits of `mask` that every word must have
 * @param used of a packed ring: the flags of used descriptors, which are written at once; 0: none are
 * @param first where the burst's first descriptor is, whose word waits in Q_FIRST_WORD
 * @returns how many of the packets fit as they are, a multiple of four
 */
export function fitRun(
  queue: u32,
  descriptor: u32,
  descriptors: u32,
  from: u32,
  before: u32,
  kind: u32,
  mask: u32,
  used: u32,
  first: u32,
): u32 {
  const regions: u32 = ld32(queue + Q_REGIONS);
  const header: u32 = ld32(queue + Q_HEADER);
  const last: u32 = firstReach(regions);
  const low: u32 = ld32(regions + REGION_FIRST + REGION_GUEST_LOW);
  const high: u32 = ld32(regions + REGION_FIRST + REGION_GUEST_HIGH);
  const base: u32 = ld32(regions + REGION_FIRST + REGION_OFFSET);
  const limit: u32 = ld32(queue + Q_LENGTH_LIMIT) + header;
  const longest: u32 = limit < SHORT ? limit : SHORT;
  const places: u32 = ld32(queue + Q_SCRATCH) + (before << 2);
  if (last === 0) return 0;
  let fitting: u32 = 0;
  while (fitting < descriptors) {
    let wrong: u32 = 0;
    for (let index: u32 = fitting; index < fitting + 4; index++) {
      const at: u32 = descriptor + index * BYTES;
      const packet: u32 = ld32(from + (index << 2));
      const place: u32 = (ld32(at + LOW) - low) >>> 0;
      const wanted: u32 = ld32(packet + MBUF_LENGTH) + header;
      // the sign bit: too long for the buffer, too long at all
      wrong |= outside(place, ld32(at + HIGH), high, last) | (((ld32(at + LENGTH) - wanted) | (longest - wanted)) >>> 31);
      wrong |= ((ld32(at + WORD) ^ kind) & mask) | ld32(packet + MBUF_NEXT) | (ld32(packet + MBUF_FLAGS) & MBUF_WORK);
      st32(places + (index << 2), base + place);
    }
    if (wrong !== 0) break;
    fitting += 4;
  }
  if (used !== 0)
    for (let index: u32 = 0; index < fitting; index++) {
      const at: u32 = descriptor + index * BYTES;
      // its id, whatever that is by now, goes back to who wrote it
      const word: u32 = ((ld32(at + WORD) & 0xffff) | used) >>> 0;
      st32(at + LENGTH, ld32(ld32(from + (index << 2)) + MBUF_LENGTH) + header);
      if (at === first) st32(queue + Q_FIRST_WORD, word);
      else st32(at + WORD, word);
    }
  return fitting;
}
