/**
 * Packets into plain bytes, and plain bytes into packets of as many mbufs as they take.
 * @module
 */
import { copyPacket, ld32, st16, st32 } from '../memory/access.ts';
import { MBUF_DATA, MBUF_HEADROOM, MBUF_LENGTH, MBUF_NEXT, MBUF_ROOM, MBUF_SEGMENT_LENGTH, MBUF_SEGMENTS } from '../memory/mbuf-layout.ts';
import { mbufAllocate } from '../memory/mempool.kernel.ts';

/**
 * Fills the free mbuf `packet`, and as many behind it as `length` bytes take. `scratch` is room for a handle.
 * @returns 1; 0 when the pool has no more: the packet is to be freed, with the mbufs that it has by then
 */
export function fillPacket(packet: u32, from: u32, length: u32, pool: u32, lcore: u32, scratch: u32): u32 {
  const room: u32 = ld32(packet + MBUF_ROOM) - MBUF_HEADROOM;
  const first: u32 = length < room ? length : room;
  st32(packet + MBUF_LENGTH, length);
  st32(packet + MBUF_SEGMENT_LENGTH, first);
  copyPacket(ld32(packet + MBUF_DATA), from, first);
  if (first === length) return 1;
  let done: u32 = first;
  let last: u32 = packet;
  let segments: u32 = 1;
  while (done < length) {
    if (mbufAllocate(pool, lcore, scratch, 1) === 0) return 0;
    const more: u32 = ld32(scratch);
    const part: u32 = length - done < room ? length - done : room;
    st32(more + MBUF_SEGMENT_LENGTH, part);
    copyPacket(ld32(more + MBUF_DATA), from + done, part);
    st32(last + MBUF_NEXT, more);
    last = more;
    segments++;
    st16(packet + MBUF_SEGMENTS, segments);
    done += part;
  }
  return 1;
}

/** Writes the first `length` bytes of a packet to `to`. */
export function gatherPacket(to: u32, packet: u32, length: u32): void {
  let mbuf: u32 = packet;
  let done: u32 = 0;
  while (mbuf !== 0 && done < length) {
    let part: u32 = ld32(mbuf + MBUF_SEGMENT_LENGTH);
    if (part > length - done) part = length - done;
    copyPacket(to + done, ld32(mbuf + MBUF_DATA), part);
    done += part;
    mbuf = ld32(mbuf + MBUF_NEXT);
  }
}
