/**
 * The virtio-net header of a packet on its way into a ring (virtio 1.2, 5.1.6), on either side. Every store is made only if it changes
 * something: a line that both sides merely read costs nothing.
 * @module
 */
import { ld16, ld32, st16, st32, stu16, stu32 } from '../memory/access.ts';
import { MBUF_BUFFER, MBUF_DATA, MBUF_FLAGS, MBUF_REFERENCES, MBUF_WORK } from '../memory/mbuf-layout.ts';
import { writeNetHeader } from '../net/net-header.kernel.ts';
import { NET_HEADER_BUFFERS, NET_HEADER_BYTES } from '../net/virtio-net-header.ts';

/** Bytes of an Ethernet header: nothing shorter is a packet. */
export const SHORTEST_PACKET: u32 = 14;

/** The last word of a header: csum_offset 0, num_buffers 1. */
const ONE_BUFFER: u32 = 0x10000;

/**
 * Driver: puts the header of a packet without offloads at `header`: all zero (virtio 1.2, 5.1.6.2), but for a num_buffers of 1.
 *
 * That 1 is what the device wrote when the packet was received. No device reads the field, and zeroing it, as the
 * specification asks of the driver, makes the device fetch the line and write 1 again, packet for packet: it costs the
 * io loop 20 % with near cores and 40 % with far ones. DPDK's driver leaves it, too.
 */
export function writeSentHeader(header: u32, bytes: u32): void {
  if ((header & 3) === 0) {
    if (ld32(header) !== 0) st32(header, 0);
    if (ld32(header + 4) !== 0) st32(header + 4, 0);
    if (bytes >= NET_HEADER_BYTES) {
      const last: u32 = ld32(header + 8);
      if (last !== 0 && last !== ONE_BUFFER) st32(header + 8, 0);
    } else if (ld16(header + 8) !== 0) st16(header + 8, 0);
    return;
  }
  stu32(header, 0);
  stu32(header + 4, 0);
  stu16(header + 8, 0);
  if (bytes >= NET_HEADER_BYTES) stu16(header + NET_HEADER_BUFFERS, 0);
}

/** Driver: puts the header of any packet at `header`. */
export function putSentHeader(header: u32, bytes: u32, packet: u32): void {
  if ((ld32(packet + MBUF_FLAGS) & MBUF_WORK) === 0) writeSentHeader(header, bytes);
  else writeNetHeader(header, bytes, packet, 0);
}

/** Driver: 1 when the header can be put before the packet: there is room, and nobody else reads this mbuf. */
export function hasHeadroom(packet: u32, header: u32): u32 {
  if (ld16(packet + MBUF_REFERENCES) !== 1) return 0;
  return ld32(packet + MBUF_DATA) - ld32(packet + MBUF_BUFFER) >= header ? 1 : 0;
}

/** Device: writes a header without offloads; `buffers` is num_buffers (virtio 1.2, 5.1.6.4.1). */
export function writeReceivedHeader(header: u32, bytes: u32, buffers: u32): void {
  if ((header & 3) === 0) {
    if (ld32(header) !== 0) st32(header, 0);
    if (ld32(header + 4) !== 0) st32(header + 4, 0);
    if (bytes !== NET_HEADER_BYTES) {
      if (ld16(header + 8) !== 0) st16(header + 8, 0);
    } else if (ld32(header + 8) !== (buffers << 16) >>> 0) st32(header + 8, (buffers << 16) >>> 0);
    return;
  }
  stu32(header, 0);
  stu32(header + 4, 0);
  stu16(header + 8, 0);
  if (bytes === NET_HEADER_BYTES) stu16(header + NET_HEADER_BUFFERS, buffers);
}

/** Device: writes the header of any packet. */
export function putReceivedHeader(header: u32, bytes: u32, packet: u32, buffers: u32): void {
  if ((ld32(packet + MBUF_FLAGS) & MBUF_WORK) === 0) writeReceivedHeader(header, bytes, buffers);
  else writeNetHeader(header, bytes, packet, buffers);
}
