/**
 * Between the virtio-net header and the work that a packet's mbuf tells of (virtio 1.2, 5.1.6.2 and 5.1.6.4).
 *
 *     u8 flags | u8 gso_type | le16 hdr_len | le16 gso_size | le16 csum_start | le16 csum_offset | le16 num_buffers | le32 hash | le16 type
 *
 * A header may lie in memory that the other side still writes: every field is read once, and what was read is what is checked.
 * @module
 */
import { ld16, ld32, ldu16, ldu32, st16, st32, stu16, stu32 } from '../memory/access.ts';
import {
  MBUF_CHECKSUM_GOOD,
  MBUF_CHECKSUM_OFFSET,
  MBUF_CHECKSUM_START,
  MBUF_FLAGS,
  MBUF_HASH,
  MBUF_HASH_VALID,
  MBUF_HEADER_LENGTH,
  MBUF_LENGTH,
  MBUF_SEGMENT_SIZE,
  MBUF_WORK,
  MBUF_WORK_CHECKSUM,
  MBUF_WORK_ECN,
  MBUF_WORK_SEGMENTS,
  MBUF_WORK_TCP4,
  MBUF_WORK_TCP6,
  MBUF_WORK_UDP,
} from '../memory/mbuf-layout.ts';
import {
  NET_HEADER_BUFFERS,
  NET_HEADER_BYTES,
  NET_HEADER_CHECKSUM_OFFSET,
  NET_HEADER_GSO_SIZE,
  NET_HEADER_HASH,
  NET_HEADER_HASH_REPORT,
} from './virtio-net-header.ts';

const NEEDS_CHECKSUM: u32 = 1;
const DATA_VALID: u32 = 2;
const GSO_NONE: u32 = 0;
const GSO_TCPV4: u32 = 1;
const GSO_TCPV6: u32 = 4;
const GSO_UDP_L4: u32 = 5;
const GSO_ECN: u32 = 0x80;

/**
 * Takes what the header at `header` says over into a received packet, whose LENGTH is set and whose FLAGS are 0.
 * @param allowed MBUF_WORK_* bits that were negotiated; a checksum counts as known good with any of them. MBUF_HASH_VALID: the header
 *   has 20 bytes and tells the packet's hash
 * @returns 1; 0 when the header asks for what was not negotiated or names bytes outside the packet: drop it
 */
export function readNetHeader(header: u32, packet: u32, allowed: u32): u32 {
  let known: u32 = 0;
  if ((allowed & MBUF_HASH_VALID) !== 0 && ldu16(header + NET_HEADER_HASH_REPORT) !== 0) {
    st32(packet + MBUF_HASH, ldu32(header + NET_HEADER_HASH));
    known = MBUF_HASH_VALID;
    st32(packet + MBUF_FLAGS, known);
  }
  const first: u32 = ldu32(header);
  if ((first & 0xffff) === 0 || (allowed & MBUF_WORK) === 0) return 1;
  const flags: u32 = first & 0xff;
  const type: u32 = (first >>> 8) & 0xff;
  const length: u32 = ld32(packet + MBUF_LENGTH);
  let work: u32 = 0;
  if ((flags & NEEDS_CHECKSUM) !== 0) {
    const second: u32 = ldu32(header + NET_HEADER_GSO_SIZE);
    const start: u32 = second >>> 16;
    const offset: u32 = ldu16(header + NET_HEADER_CHECKSUM_OFFSET);
    if (start + offset + 2 > length) return 0;
    work = MBUF_WORK_CHECKSUM;
    if (type !== GSO_NONE) {
      const kind: u32 = type & ~GSO_ECN;
      if (kind === GSO_TCPV4) work |= MBUF_WORK_TCP4;
      else if (kind === GSO_TCPV6) work |= MBUF_WORK_TCP6;
      else if (kind === GSO_UDP_L4) work |= MBUF_WORK_UDP;
      else return 0;
      if ((type & GSO_ECN) !== 0) work |= MBUF_WORK_ECN;
      const size: u32 = second & 0xffff;
      if (size === 0) return 0;
      st16(packet + MBUF_SEGMENT_SIZE, size);
      // a hint only; beyond the packet it is none
      const headers: u32 = first >>> 16;
      st16(packet + MBUF_HEADER_LENGTH, headers <= length ? headers : 0);
    }
    if ((work & ~allowed) !== 0) return 0;
    st16(packet + MBUF_CHECKSUM_START, start);
    st16(packet + MBUF_CHECKSUM_OFFSET, offset);
    st32(packet + MBUF_FLAGS, work | known);
    return 1;
  }
  // segmentation without a checksum to be made (5.1.6.2.1)
  if (type !== GSO_NONE) return 0;
  if ((flags & DATA_VALID) !== 0) st32(packet + MBUF_FLAGS, MBUF_CHECKSUM_GOOD | known);
  return 1;
}

/**
 * Writes the header of a packet with work at `header`.
 * @param bytes of the header; with num_buffers from 12 on
 * @param buffers num_buffers
 */
export function writeNetHeader(header: u32, bytes: u32, packet: u32, buffers: u32): void {
  const work: u32 = ld32(packet + MBUF_FLAGS);
  let first: u32 = 0;
  let second: u32 = 0;
  let offset: u32 = 0;
  if ((work & MBUF_WORK_CHECKSUM) !== 0) {
    first = NEEDS_CHECKSUM;
    second = ld16(packet + MBUF_CHECKSUM_START) << 16;
    offset = ld16(packet + MBUF_CHECKSUM_OFFSET);
  }
  if ((work & MBUF_WORK_SEGMENTS) !== 0) {
    let type: u32 = GSO_UDP_L4;
    if ((work & MBUF_WORK_TCP4) !== 0) type = GSO_TCPV4;
    else if ((work & MBUF_WORK_TCP6) !== 0) type = GSO_TCPV6;
    if ((work & MBUF_WORK_ECN) !== 0) type |= GSO_ECN;
    first |= (type << 8) | (ld16(packet + MBUF_HEADER_LENGTH) << 16);
    second |= ld16(packet + MBUF_SEGMENT_SIZE);
  }
  stu32(header, first);
  stu32(header + NET_HEADER_GSO_SIZE, second);
  stu16(header + NET_HEADER_CHECKSUM_OFFSET, offset);
  if (bytes >= NET_HEADER_BYTES) stu16(header + NET_HEADER_BUFFERS, buffers);
}
