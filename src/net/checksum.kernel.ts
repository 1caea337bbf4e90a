/**
 * The Internet checksum (RFC 1071) of memory and of packets. Sums are kept in the order in which the bytes lie in memory: a one's
 * complement sum comes out the same, its bytes swapped as those of the words were.
 * @module
 */
import { ld32, ld8, sumWords } from '../memory/access.ts';
import { MBUF_DATA, MBUF_NEXT, MBUF_SEGMENT_LENGTH } from '../memory/mbuf-layout.ts';

/** The other order of the bytes of a u16: a number in network order as a little-endian load sees it, and back. */
export function swapBytes16(value: u32): u32 {
  return ((value >>> 8) | (value << 8)) & 0xffff;
}

/** A u16 in network order, at any alignment. */
export function networkU16(at: u32): u32 {
  return (ld8(at) << 8) | ld8(at + 1);
}

/** A sum of words in 16 bits. */
export function foldSum(value: u32): u32 {
  let sum: u32 = (value & 0xffff) + (value >>> 16);
  sum = (sum & 0xffff) + (sum >>> 16);
  return (sum & 0xffff) + (sum >>> 16);
}

/** Adds the 16-bit words of up to 64 KiB of memory to a sum below 1 << 30; the sum comes back in 16 bits. */
export function addSum(from: u32, bytes: u32, sum: u32): u32 {
  return foldSum(sumWords(from, bytes) + sum);
}

/** Adds the words of a packet, from its byte `start` to before `end`, across segments of any length; the sum comes back in 16 bits. */
export function addPacketSum(packet: u32, start: u32, end: u32, before: u32): u32 {
  let sum: u32 = before;
  let skip: u32 = start;
  let left: u32 = end - start;
  let odd: u32 = 0;
  let mbuf: u32 = packet;
  while (mbuf !== 0 && left !== 0) {
    const length: u32 = ld32(mbuf + MBUF_SEGMENT_LENGTH);
    if (skip < length) {
      const bytes: u32 = length - skip < left ? length - skip : left;
      const part: u32 = addSum(ld32(mbuf + MBUF_DATA) + skip, bytes, 0);
      // bytes that lie at odd places of the packet are the other halves of their words
      sum = foldSum(sum + (odd !== 0 ? swapBytes16(part) : part));
      odd ^= bytes & 1;
      left -= bytes;
      skip = 0;
    } else skip -= length;
    mbuf = ld32(mbuf + MBUF_NEXT);
  }
  return sum;
}

/** What a checksum's field holds: the sum's complement. UDP says by 0 that there is none, and takes 0xffff in its place (RFC 768). */
export function checksumOfSum(sum: u32, isUdp: u32): u32 {
  const checksum: u32 = ~sum & 0xffff;
  return checksum === 0 && isUdp !== 0 ? 0xffff : checksum;
}
