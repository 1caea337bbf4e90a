/**
 * Statistics of a burst. A counter is two u32 halves: at 20 million packets a second a u32 of bytes wraps in 3.4 s.
 * @module
 */
import { ld32, ldu16, ldu32, st32 } from '../memory/access.ts';
import { MBUF_DATA, MBUF_LENGTH } from '../memory/mbuf-layout.ts';
import { Q_BROADCAST, Q_BYTES, Q_MULTICAST, Q_PACKETS, Q_SIZES } from './queue-layout.ts';

/** Adds to one counter. */
export function count(counter: u32, amount: u32): void {
  const before: u32 = ld32(counter);
  const after: u32 = (before + amount) >>> 0;
  st32(counter, after);
  if (after < before) st32(counter + 4, ld32(counter + 4) + 1);
}

/** Adds one burst to packets and bytes. */
export function countBurst(queue: u32, packets: u32, bytes: u32): void {
  count(queue + Q_PACKETS, packets);
  count(queue + Q_BYTES, bytes);
}

/** Size class of a packet, as an offset into Q_SIZES: the bins of DPDK's xstats. */
function sizeClass(length: u32): u32 {
  if (length === 64) return 8;
  if (length < 64) return 0;
  if (length < 128) return 16;
  if (length < 256) return 24;
  if (length < 512) return 32;
  if (length < 1024) return 40;
  return length < 1519 ? 48 : 56;
}

/** Adds `packets` packets of one length to their size class. */
export function countSizes(queue: u32, length: u32, packets: u32): void {
  count(queue + Q_SIZES + sizeClass(length), packets);
}

/** Adds one packet, whose Ethernet header is at `data`, to multicast or broadcast if it is either. */
export function countGroupAddress(queue: u32, data: u32): void {
  const low: u32 = ldu32(data);
  if ((low & 1) === 0) return;
  if (low === 0xffffffff && ldu16(data + 4) === 0xffff) count(queue + Q_BROADCAST, 1);
  else count(queue + Q_MULTICAST, 1);
}

/** 0 when four packets have the same length and, with `groups`, none of them is multicast or broadcast. */
function unlike(from: u32, length: u32, groups: u32): u32 {
  const packet0: u32 = ld32(from);
  const packet1: u32 = ld32(from + 4);
  const packet2: u32 = ld32(from + 8);
  const packet3: u32 = ld32(from + 12);
  const first: u32 = (ld32(packet0 + MBUF_LENGTH) ^ length) | (ld32(packet1 + MBUF_LENGTH) ^ length);
  const lengths: u32 = first | (ld32(packet2 + MBUF_LENGTH) ^ length) | (ld32(packet3 + MBUF_LENGTH) ^ length);
  if (groups === 0) return lengths;
  const front: u32 = ldu32(ld32(packet0 + MBUF_DATA)) | ldu32(ld32(packet1 + MBUF_DATA));
  return lengths | ((front | ldu32(ld32(packet2 + MBUF_DATA)) | ldu32(ld32(packet3 + MBUF_DATA))) & 1);
}

/**
 * Counts at least one packet, whose handles are at `from`.
 * @param groups 0: none is multicast or broadcast, or nobody looks into packets to count those
 */
export function countPackets(queue: u32, from: u32, packets: u32, groups: u32): void {
  let bytes: u32 = 0;
  let runLength: u32 = ld32(ld32(from) + MBUF_LENGTH);
  let run: u32 = 0;
  let index: u32 = 0;
  while (index < packets) {
    const place: u32 = from + (index << 2);
    // the usual case: four of the length of those before, for one host
    if (index + 4 <= packets && unlike(place, runLength, groups) === 0) {
      run += 4;
      index += 4;
      continue;
    }
    const packet: u32 = ld32(place);
    const length: u32 = ld32(packet + MBUF_LENGTH);
    if (length !== runLength) {
      if (run !== 0) countSizes(queue, runLength, run);
      bytes += runLength * run;
      runLength = length;
      run = 0;
    }
    run++;
    index++;
    if (groups !== 0) countGroupAddress(queue, ld32(packet + MBUF_DATA));
  }
  countSizes(queue, runLength, run);
  countBurst(queue, packets, bytes + runLength * run);
}
