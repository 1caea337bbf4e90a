/**
 * Finishing in software what a transmit queue cannot have done by the other side: a burst kernel stops before such a packet
 * and sets Q_UNFINISHED, the caller has it finished here, and sends what waits with the same burst kernel.
 * @module
 */
import { copyBytes, ld16, ld32, st16, st32 } from '../memory/access.ts';
import {
  MBUF_BUFFER,
  MBUF_CHECKSUM_OFFSET,
  MBUF_CHECKSUM_START,
  MBUF_DATA,
  MBUF_FLAGS,
  MBUF_LENGTH,
  MBUF_NEXT,
  MBUF_POOL,
  MBUF_PORT,
  MBUF_REFERENCES,
  MBUF_ROOM,
  MBUF_SEGMENTS,
  MBUF_SEGMENT_LENGTH,
  MBUF_SEGMENT_SIZE,
  MBUF_HEADER_LENGTH,
  MBUF_VLAN,
  MBUF_WORK,
  MBUF_WORK_CHECKSUM,
  MBUF_WORK_SEGMENTS,
  MBUF_WORK_VLAN,
} from '../memory/mbuf-layout.ts';
import { mbufAllocate, packetFree } from '../memory/mempool.kernel.ts';
import { CUT_MALFORMED, cutPacket } from '../net/cut-packet.kernel.ts';
import { finishPacketChecksum, insertVlan } from '../net/finish-packet.kernel.ts';
import { count } from './counters.kernel.ts';
import {
  Q_ERRORS,
  Q_LCORE,
  Q_NO_MBUF,
  Q_OFFLOADS,
  Q_WAITING,
  WAITING_COUNT,
  WAITING_FIRST,
  WAITING_HANDLES,
  WAITING_LIMIT,
} from './queue-layout.ts';

/** 1 when every segment has one owner only, so that the packet may be written to. */
function isOwn(packet: u32): u32 {
  let mbuf: u32 = packet;
  while (mbuf !== 0) {
    if (ld16(mbuf + MBUF_REFERENCES) !== 1) return 0;
    mbuf = ld32(mbuf + MBUF_NEXT);
  }
  return 1;
}

/** A copy of a packet that others own as well; 0 without mbufs. `slot` is room for one handle. */
function copyOf(packet: u32, lcore: u32, slot: u32): u32 {
  const pool: u32 = ld32(packet + MBUF_POOL);
  if (mbufAllocate(pool, lcore, slot, 1) === 0) return 0;
  const copy: u32 = ld32(slot);
  st32(copy + MBUF_LENGTH, ld32(packet + MBUF_LENGTH));
  st32(copy + MBUF_SEGMENT_LENGTH, 0);
  st32(copy + MBUF_FLAGS, ld32(packet + MBUF_FLAGS));
  // PORT and VLAN, CHECKSUM_START and CHECKSUM_OFFSET, SEGMENT_SIZE and HEADER_LENGTH
  st16(copy + MBUF_PORT, ld16(packet + MBUF_PORT));
  st16(copy + MBUF_VLAN, ld16(packet + MBUF_VLAN));
  st16(copy + MBUF_CHECKSUM_START, ld16(packet + MBUF_CHECKSUM_START));
  st16(copy + MBUF_CHECKSUM_OFFSET, ld16(packet + MBUF_CHECKSUM_OFFSET));
  st16(copy + MBUF_SEGMENT_SIZE, ld16(packet + MBUF_SEGMENT_SIZE));
  st16(copy + MBUF_HEADER_LENGTH, ld16(packet + MBUF_HEADER_LENGTH));
  let last: u32 = copy;
  let mbuf: u32 = packet;
  while (mbuf !== 0) {
    let from: u32 = ld32(mbuf + MBUF_DATA);
    let left: u32 = ld32(mbuf + MBUF_SEGMENT_LENGTH);
    while (left !== 0) {
      const filled: u32 = ld32(last + MBUF_SEGMENT_LENGTH);
      const end: u32 = ld32(last + MBUF_DATA) + filled;
      const room: u32 = ld32(last + MBUF_BUFFER) + ld32(last + MBUF_ROOM) - end;
      if (room === 0) {
        if (mbufAllocate(pool, lcore, slot, 1) === 0) {
          packetFree(copy, lcore);
          return 0;
        }
        st32(ld32(slot) + MBUF_SEGMENT_LENGTH, 0);
        st32(last + MBUF_NEXT, ld32(slot));
        st16(copy + MBUF_SEGMENTS, ld16(copy + MBUF_SEGMENTS) + 1);
        last = ld32(slot);
        continue;
      }
      const part: u32 = left < room ? left : room;
      copyBytes(end, from, part);
      st32(last + MBUF_SEGMENT_LENGTH, filled + part);
      from += part;
      left -= part;
    }
    mbuf = ld32(mbuf + MBUF_NEXT);
  }
  return copy;
}

/**
 * Does the work of `packet` that is not in the queue's Q_OFFLOADS, and lets the outcome wait at Q_WAITING, which must be empty.
 * @returns 1 when the packet was taken: its parts wait, or it made no sense, was counted as an error and freed; 0 without mbufs: try
 * again later
 */
export function finishTransmit(queue: u32, packet: u32): u32 {
  const offloads: u32 = ld32(queue + Q_OFFLOADS);
  const lcore: u32 = ld32(queue + Q_LCORE);
  const waiting: u32 = ld32(queue + Q_WAITING);
  const handles: u32 = waiting + WAITING_HANDLES;
  let own: u32 = packet;
  if (isOwn(packet) === 0) {
    own = copyOf(packet, lcore, handles);
    if (own === 0) {
      count(queue + Q_NO_MBUF, 1);
      return 0;
    }
  }
  let parts: u32 = 1;
  if ((ld32(own + MBUF_FLAGS) & MBUF_WORK_VLAN & ~offloads) !== 0 && insertVlan(own) === 0) parts = CUT_MALFORMED;
  const undone: u32 = ld32(own + MBUF_FLAGS) & MBUF_WORK & ~offloads;
  if (parts !== CUT_MALFORMED && (undone & MBUF_WORK_SEGMENTS) !== 0) {
    parts = cutPacket(own, ld32(own + MBUF_POOL), lcore, handles, WAITING_LIMIT, (offloads & MBUF_WORK_CHECKSUM) !== 0 ? 1 : 0);
    if (parts === 0) {
      count(queue + Q_NO_MBUF, 1);
      if (own !== packet) packetFree(own, lcore);
      return 0;
    }
    packetFree(own, lcore);
  } else {
    if (parts !== CUT_MALFORMED && (undone & MBUF_WORK_CHECKSUM) !== 0 && finishPacketChecksum(own) === 0) parts = CUT_MALFORMED;
    if (parts === CUT_MALFORMED) packetFree(own, lcore);
    // what may be left says how to cut, and the other side does that
    else st32(own + MBUF_FLAGS, ld32(own + MBUF_FLAGS) & (~MBUF_WORK | offloads));
    st32(handles, own);
  }
  if (own !== packet) packetFree(packet, lcore);
  if (parts === CUT_MALFORMED) {
    count(queue + Q_ERRORS, 1);
    return 1;
  }
  st32(waiting + WAITING_FIRST, 0);
  st32(waiting + WAITING_COUNT, parts);
  return 1;
}
