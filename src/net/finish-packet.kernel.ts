/**
 * The work that a packet carries (MBUF_WORK_*), done in software for a port that cannot: partial checksums, VLAN tags.
 * Cutting large packets is in cut-packet.kernel.ts.
 * @module
 */
import { ld16, ld32, ldu32, st16, st32, st8, stu16, stu32 } from '../memory/access.ts';
import {
  MBUF_BUFFER,
  MBUF_CHECKSUM_OFFSET,
  MBUF_CHECKSUM_START,
  MBUF_DATA,
  MBUF_FLAGS,
  MBUF_HEADER_LENGTH,
  MBUF_LENGTH,
  MBUF_NEXT,
  MBUF_SEGMENT_LENGTH,
  MBUF_VLAN,
  MBUF_WORK_CHECKSUM,
  MBUF_WORK_SEGMENTS,
  MBUF_WORK_VLAN,
} from '../memory/mbuf-layout.ts';
import { addPacketSum, checksumOfSum, swapBytes16 } from './checksum.kernel.ts';
import { TYPE_VLAN } from './headers.kernel.ts';

const ADDRESSES_BYTES: u32 = 12;
const VLAN_BYTES: u32 = 4;
/** Where UDP has its checksum. */
const UDP_CHECKSUM_FIELD: u32 = 6;

/** Stores one byte at a place of a packet that lies in it. */
function storeByte(packet: u32, place: u32, value: u32): void {
  let mbuf: u32 = packet;
  let at: u32 = place;
  while (mbuf !== 0) {
    const length: u32 = ld32(mbuf + MBUF_SEGMENT_LENGTH);
    if (at < length) {
      st8(ld32(mbuf + MBUF_DATA) + at, value);
      return;
    }
    at -= length;
    mbuf = ld32(mbuf + MBUF_NEXT);
  }
}

/**
 * Finishes the checksum of a packet with MBUF_WORK_CHECKSUM, and clears the flag: the sum of what is between CHECKSUM_START and
 * the packet's end, in which the field holds the pseudo header's (virtio 1.2, 5.1.6.2). Segments may end anywhere.
 * @returns 1, or 0 when the field does not lie in the packet; then nothing has changed
 */
export function finishPacketChecksum(packet: u32): u32 {
  const flags: u32 = ld32(packet + MBUF_FLAGS);
  if ((flags & MBUF_WORK_CHECKSUM) === 0) return 1;
  const start: u32 = ld16(packet + MBUF_CHECKSUM_START);
  const offset: u32 = ld16(packet + MBUF_CHECKSUM_OFFSET);
  const field: u32 = start + offset;
  const length: u32 = ld32(packet + MBUF_LENGTH);
  if (field + 2 > length) return 0;
  const sum: u32 = checksumOfSum(addPacketSum(packet, start, length, 0), offset === UDP_CHECKSUM_FIELD ? 1 : 0);
  if (field + 2 <= ld32(packet + MBUF_SEGMENT_LENGTH)) stu16(ld32(packet + MBUF_DATA) + field, sum);
  else {
    storeByte(packet, field, sum & 0xff);
    storeByte(packet, field + 1, sum >>> 8);
  }
  st32(packet + MBUF_FLAGS, flags & ~MBUF_WORK_CHECKSUM);
  return 1;
}

/**
 * Inserts the tag in MBUF_VLAN behind the addresses of a packet with MBUF_WORK_VLAN, into the headroom, and clears the flag.
 * @returns 1, or 0 when there is no headroom, or no addresses in the first segment; then nothing has changed
 */
export function insertVlan(packet: u32): u32 {
  const flags: u32 = ld32(packet + MBUF_FLAGS);
  if ((flags & MBUF_WORK_VLAN) === 0) return 1;
  const data: u32 = ld32(packet + MBUF_DATA);
  const length: u32 = ld32(packet + MBUF_SEGMENT_LENGTH);
  if (data < ld32(packet + MBUF_BUFFER) + VLAN_BYTES || length < ADDRESSES_BYTES) return 0;
  const moved: u32 = data - VLAN_BYTES;
  for (let at: u32 = 0; at < ADDRESSES_BYTES; at += 4) stu32(moved + at, ldu32(data + at));
  stu16(moved + ADDRESSES_BYTES, TYPE_VLAN);
  stu16(moved + ADDRESSES_BYTES + 2, swapBytes16(ld16(packet + MBUF_VLAN)));
  st32(packet + MBUF_DATA, moved);
  st32(packet + MBUF_SEGMENT_LENGTH, length + VLAN_BYTES);
  st32(packet + MBUF_LENGTH, ld32(packet + MBUF_LENGTH) + VLAN_BYTES);
  if ((flags & MBUF_WORK_CHECKSUM) !== 0) st16(packet + MBUF_CHECKSUM_START, ld16(packet + MBUF_CHECKSUM_START) + VLAN_BYTES);
  if ((flags & MBUF_WORK_SEGMENTS) !== 0) st16(packet + MBUF_HEADER_LENGTH, ld16(packet + MBUF_HEADER_LENGTH) + VLAN_BYTES);
  st32(packet + MBUF_FLAGS, flags & ~MBUF_WORK_VLAN);
  return 1;
}
