/**
 * Making packets: the burst that txonly, tx_first and flowgen send.
 * @module
 */
import { copyPacket, copyWhereDifferent, ld32, ldu16, ldu32, sameBytes, st16, st32, stu16, stu32 } from '../memory/access.ts';
import { MBUF_DATA, MBUF_LENGTH, MBUF_NEXT, MBUF_SEGMENT_LENGTH, MBUF_SEGMENTS } from '../memory/mbuf-layout.ts';
import { mbufAllocate, packetsFree } from '../memory/mempool.kernel.ts';

/** What to make: u32 fields, then the segments' lengths and the bytes of the headers. */
export const TEMPLATE_POOL: u32 = 0;
/** Whole length in bytes. */
export const TEMPLATE_LENGTH: u32 = 4;
/** Number of segments; their lengths, u32 each, at TEMPLATE_SEGMENT_LENGTHS. */
export const TEMPLATE_SEGMENTS: u32 = 8;
/** Bytes at TEMPLATE_HEADERS that every packet starts with. */
export const TEMPLATE_HEADER_BYTES: u32 = 12;
/** Room for one handle. */
export const TEMPLATE_SCRATCH: u32 = 16;
/** flowgen: flows in all, and the next one. Flows 0: all packets are the same. */
export const TEMPLATE_FLOWS: u32 = 20;
export const TEMPLATE_NEXT_FLOW: u32 = 24;
/**
 * Fewest segments of a packet: each has a random number from it to TEMPLATE_SEGMENTS. 0: every packet has all. The first
 * segment holds the headers then, which are Ethernet, IPv4 without options and UDP.
 */
export const TEMPLATE_LEAST_SEGMENTS: u32 = 28;
/** What the random numbers are made from; not 0. */
export const TEMPLATE_RANDOM: u32 = 32;
export const TEMPLATE_SEGMENT_LENGTHS: u32 = 64;
/** Segments of a generated packet at most (testpmd's limit). */
export const SEGMENT_LIMIT: u32 = 255;
export const TEMPLATE_HEADERS: u32 = 64 + 4 * 256;
export const TEMPLATE_BYTES: u32 = 64 + 4 * 256 + 64;

/**
 * Writes the headers of a packet. A buffer that comes round again mostly holds them already, and a line that both sides merely read costs
 * nothing; so many are compared in line: making a packet takes 5.4 ns instead of 6.5 (bench/kernels.ts).
 */
function putHeaders(data: u32, headers: u32, bytes: u32, changing: u32): void {
  if (changing !== 0) copyPacket(data, headers, bytes);
  else if ((bytes - 32) >>> 0 > 16 || sameBytes(data, headers, bytes) === 0) copyWhereDifferent(data, headers, bytes);
}

/**
 * Makes `packets` packets after a template; their handles are written to `to`; all or none.
 * @returns packets made
 */
export function generatePackets(template: u32, lcore: u32, to: u32, packets: u32): u32 {
  const pool: u32 = ld32(template + TEMPLATE_POOL);
  if (mbufAllocate(pool, lcore, to, packets) === 0) return 0;
  const length: u32 = ld32(template + TEMPLATE_LENGTH);
  const segments: u32 = ld32(template + TEMPLATE_SEGMENTS);
  const first: u32 = ld32(template + TEMPLATE_SEGMENT_LENGTHS);
  const headers: u32 = ld32(template + TEMPLATE_HEADER_BYTES);
  const headerBytes: u32 = headers < first ? headers : first;
  const flows: u32 = ld32(template + TEMPLATE_FLOWS);
  const least: u32 = ld32(template + TEMPLATE_LEAST_SEGMENTS);
  for (let index: u32 = 0; index < packets; index++) {
    const packet: u32 = ld32(to + (index << 2));
    st32(packet + MBUF_LENGTH, length);
    st32(packet + MBUF_SEGMENT_LENGTH, first);
    putHeaders(ld32(packet + MBUF_DATA), template + TEMPLATE_HEADERS, headerBytes, flows);
    let count: u32 = segments;
    if (least !== 0) {
      count = least + (nextRandom(template) % (segments - least + 1));
      shorten(packet, template, count);
    }
    let last: u32 = packet;
    for (let segment: u32 = 1; segment < count; segment++) {
      if (mbufAllocate(pool, lcore, template + TEMPLATE_SCRATCH, 1) === 0) {
        st16(packet + MBUF_SEGMENTS, segment);
        packetsFree(to, packets, lcore);
        return 0;
      }
      const more: u32 = ld32(template + TEMPLATE_SCRATCH);
      st32(more + MBUF_SEGMENT_LENGTH, ld32(template + TEMPLATE_SEGMENT_LENGTHS + (segment << 2)));
      st32(last + MBUF_NEXT, more);
      last = more;
    }
    if (count !== 1) st16(packet + MBUF_SEGMENTS, count);
  }
  return packets;
}

/** Where the IPv4 header of a generated packet begins, and fields of it (RFC 791). */
const IP: u32 = 14;
const IP_LENGTH: u32 = 2;
const IP_CHECKSUM: u32 = 10;
const IP_DESTINATION: u32 = 16;

/** Adds `amount` to a one's complement checksum field in network order, so that it stays right when a sum of words grows by as much. */
function adjustChecksum(field: u32, before: u32, after: u32): void {
  // RFC 1624: HC' = ~(~HC + ~m + m'); byte order does not matter to a one's complement sum
  let sum: u32 = (~ldu16(field) & 0xffff) + (~before & 0xffff) + after;
  sum = (sum & 0xffff) + (sum >>> 16);
  sum = (sum & 0xffff) + (sum >>> 16);
  stu16(field, ~sum & 0xffff);
}

/** The other order of the bytes of a u16. */
function swapHalf(value: u32): u32 {
  return ((value >>> 8) | (value << 8)) & 0xffff;
}

/** The other order of the bytes of a u32. */
function swap(value: u32): u32 {
  return ((value >>> 24) | ((value >>> 8) & 0xff00) | ((value & 0xff00) << 8) | (value << 24)) >>> 0;
}

/** Marsaglia's xorshift: what is random here need not be hard to guess. */
function nextRandom(template: u32): u32 {
  let state: u32 = ld32(template + TEMPLATE_RANDOM);
  state = (state ^ (state << 13)) >>> 0;
  state = (state ^ (state >>> 17)) >>> 0;
  state = (state ^ (state << 5)) >>> 0;
  st32(template + TEMPLATE_RANDOM, state);
  return state;
}

/** Writes the length of a packet of the first `count` segments into its mbuf and its headers. */
function shorten(packet: u32, template: u32, count: u32): void {
  let length: u32 = 0;
  for (let segment: u32 = 0; segment < count; segment++) length += ld32(template + TEMPLATE_SEGMENT_LENGTHS + (segment << 2));
  st32(packet + MBUF_LENGTH, length);
  const ip: u32 = ld32(packet + MBUF_DATA) + IP;
  const before: u32 = ldu16(ip + IP_LENGTH);
  const after: u32 = swapHalf(length - IP);
  adjustChecksum(ip + IP_CHECKSUM, before, after);
  stu16(ip + IP_LENGTH, after);
  stu16(ip + 24, swapHalf(length - 34));
}

/**
 * Gives packets made after a template their flow: the destination IPv4 address counts through TEMPLATE_FLOWS values.
 *
 * Address and checksum are those of the template, brought forward: what was just stored to the packet is not read again (10.7 ns a packet with making it,
 * 13.0 otherwise).
 */
export function spreadFlows(template: u32, mbufs: u32, packets: u32): void {
  const flows: u32 = ld32(template + TEMPLATE_FLOWS);
  // a shortened packet has a checksum of its own
  const alike: u32 = ld32(template + TEMPLATE_LEAST_SEGMENTS) === 0 ? 1 : 0;
  let flow: u32 = ld32(template + TEMPLATE_NEXT_FLOW);
  for (let index: u32 = 0; index < packets; index++) {
    const ip: u32 = ld32(ld32(mbufs + (index << 2)) + MBUF_DATA) + IP;
    const origin: u32 = alike !== 0 ? template + TEMPLATE_HEADERS + IP : ip;
    const before: u32 = ldu32(origin + IP_DESTINATION);
    // in network order; the sum carries into the upper half
    const after: u32 = swap((swap(before) + flow) >>> 0);
    // RFC 1624: HC' = ~(~HC + ~m + m'), for both halves at once
    let sum: u32 = (~ldu16(origin + IP_CHECKSUM) & 0xffff) + (~before & 0xffff) + (~before >>> 16) + (after & 0xffff) + (after >>> 16);
    sum = (sum & 0xffff) + (sum >>> 16);
    sum = (sum & 0xffff) + (sum >>> 16);
    stu16(ip + IP_CHECKSUM, ~sum & 0xffff);
    stu32(ip + IP_DESTINATION, after);
    flow++;
    if (flow >= flows) flow = 0;
  }
  st32(template + TEMPLATE_NEXT_FLOW, flow);
}
