/**
 * Taking VLAN tags out of received packets (802.1Q), as a network card with that offload does.
 * @module
 */
import { ld16, ld32, ldu16, ldu32, st16, st32, stu32 } from '../memory/access.ts';
import {
  MBUF_CHECKSUM_START,
  MBUF_DATA,
  MBUF_FLAGS,
  MBUF_HEADER_LENGTH,
  MBUF_LENGTH,
  MBUF_SEGMENT_LENGTH,
  MBUF_VLAN,
  MBUF_VLAN_STRIPPED,
  MBUF_WORK_CHECKSUM,
} from '../memory/mbuf-layout.ts';
import { TYPE_VLAN } from './headers.kernel.ts';

const TAG_BYTES: u32 = 4;

/** Takes the outermost tag out of each of the `count` packets listed at `mbufs` that has one; it is then in MBUF_VLAN. */
export function stripVlans(mbufs: u32, count: u32): void {
  for (let index: u32 = 0; index < count; index++) {
    const packet: u32 = ld32(mbufs + (index << 2));
    const data: u32 = ld32(packet + MBUF_DATA);
    const length: u32 = ld32(packet + MBUF_SEGMENT_LENGTH);
    if (length < 18 || ldu16(data + 12) !== TYPE_VLAN) continue;
    const tag: u32 = ldu16(data + 14);
    // the addresses move up over the tag, last word first
    stu32(data + 12, ldu32(data + 8));
    stu32(data + 8, ldu32(data + 4));
    stu32(data + 4, ldu32(data));
    st32(packet + MBUF_DATA, data + TAG_BYTES);
    st32(packet + MBUF_SEGMENT_LENGTH, length - TAG_BYTES);
    st32(packet + MBUF_LENGTH, ld32(packet + MBUF_LENGTH) - TAG_BYTES);
    const flags: u32 = ld32(packet + MBUF_FLAGS);
    st32(packet + MBUF_FLAGS, flags | MBUF_VLAN_STRIPPED);
    st16(packet + MBUF_VLAN, ((tag << 8) | (tag >>> 8)) & 0xffff);
    if ((flags & MBUF_WORK_CHECKSUM) !== 0) {
      // never before the end of the tag: whoever says otherwise has its checksum made where it asked for, within the packet
      const start: u32 = ld16(packet + MBUF_CHECKSUM_START);
      st16(packet + MBUF_CHECKSUM_START, start < TAG_BYTES ? 0 : start - TAG_BYTES);
      const headers: u32 = ld16(packet + MBUF_HEADER_LENGTH);
      st16(packet + MBUF_HEADER_LENGTH, headers < TAG_BYTES ? 0 : headers - TAG_BYTES);
    }
  }
}
