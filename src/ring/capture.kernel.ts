/**
 * Writing the packets of a burst into a capture's ring (capture-layout.ts): reserved and filled before the packets are given away,
 * committed when it is known how many of them were.
 * @module
 */
import { atomicExchangeIf32, atomicLoad32, atomicStore32, ld32, ldu32, st32, stu32 } from '../memory/access.ts';
import { MBUF_LENGTH } from '../memory/mbuf-layout.ts';
import { BLOCK_ENHANCED_PACKET, ENHANCED_PACKET_BYTES, PCAP_RECORD_BYTES } from '../net/pcap-format.ts';
import {
  CAPTURE_OPTION_BYTES,
  CHUNK_BYTES,
  CHUNK_HEADER,
  CHUNK_PACKETS,
  CHUNK_STATE,
  ENTRY_BLOCKS,
  ENTRY_CHUNK,
  ENTRY_DIRECTION,
  ENTRY_DROPPED,
  ENTRY_PACKETS,
  ENTRY_QUEUE,
  ENTRY_RING,
  ENTRY_SNAP_LENGTH,
  ENTRY_TIME,
  ENTRY_USED,
  RING_BUFFER,
  RING_HEAD,
  RING_ROOM,
  RING_TAIL,
} from './capture-layout.ts';
import { gatherPacket } from './copy-packet.kernel.ts';
import { count } from './counters.kernel.ts';

/** epb_flags and epb_queue: code in the low half, length in the high one. */
const OPTION_FLAGS: u32 = 0x00040002;
const OPTION_QUEUE: u32 = 0x00040006;

function recordBytes(entry: u32, packet: u32): u32 {
  const length: u32 = ld32(packet + MBUF_LENGTH);
  const snap: u32 = ld32(entry + ENTRY_SNAP_LENGTH);
  const kept: u32 = length < snap ? length : snap;
  if (ld32(entry + ENTRY_BLOCKS) === 0) return PCAP_RECORD_BYTES + kept;
  return ENHANCED_PACKET_BYTES + CAPTURE_OPTION_BYTES + (((kept + 3) >>> 2) << 2);
}

/** Sets PACKETS and USED to what of the packets fits `limit` bytes; returns the bytes of the chunk. */
function measure(entry: u32, mbufs: u32, packets: u32, limit: u32): u32 {
  let used: u32 = 0;
  let fit: u32 = 0;
  // a chunk is a multiple of its header, and so is the limit
  const most: u32 = limit > CHUNK_HEADER ? limit - CHUNK_HEADER : 0;
  for (; fit < packets; fit++) {
    const bytes: u32 = recordBytes(entry, ld32(mbufs + (fit << 2)));
    if (bytes > most - used) break;
    used += bytes;
  }
  st32(entry + ENTRY_PACKETS, fit);
  st32(entry + ENTRY_USED, used);
  return (((CHUNK_HEADER + used + CHUNK_HEADER - 1) / CHUNK_HEADER) >>> 0) * CHUNK_HEADER;
}

function writeRecord(entry: u32, at: u32, packet: u32): u32 {
  const length: u32 = ld32(packet + MBUF_LENGTH);
  const snap: u32 = ld32(entry + ENTRY_SNAP_LENGTH);
  const kept: u32 = length < snap ? length : snap;
  if (ld32(entry + ENTRY_BLOCKS) === 0) {
    stu32(at, ld32(entry + ENTRY_TIME));
    stu32(at + 4, ld32(entry + ENTRY_TIME + 4));
    stu32(at + 8, kept);
    stu32(at + 12, length);
    gatherPacket(at + PCAP_RECORD_BYTES, packet, kept);
    return at + PCAP_RECORD_BYTES + kept;
  }
  const padded: u32 = ((kept + 3) >>> 2) << 2;
  const total: u32 = ENHANCED_PACKET_BYTES + CAPTURE_OPTION_BYTES + padded;
  st32(at, BLOCK_ENHANCED_PACKET);
  st32(at + 4, total);
  st32(at + 8, 0);
  st32(at + 12, ld32(entry + ENTRY_TIME));
  st32(at + 16, ld32(entry + ENTRY_TIME + 4));
  st32(at + 20, kept);
  st32(at + 24, length);
  // the ring is zero where the padding and the end of the options are
  gatherPacket(at + 28, packet, kept);
  const options: u32 = at + 28 + padded;
  st32(options, OPTION_FLAGS);
  st32(options + 4, ld32(entry + ENTRY_DIRECTION));
  st32(options + 8, OPTION_QUEUE);
  st32(options + 12, ld32(entry + ENTRY_QUEUE));
  st32(at + total - 4, total);
  return at + total;
}

/** Copies as many of the packets as there is room for; captureCommit() follows. */
export function captureBegin(entry: u32, mbufs: u32, packets: u32): void {
  const ring: u32 = ld32(entry + ENTRY_RING);
  const room: u32 = ld32(ring + RING_ROOM);
  st32(entry + ENTRY_CHUNK, 0);
  let head: u32 = 0;
  let total: u32 = 0;
  let rest: u32 = 0;
  while (true) {
    head = atomicLoad32(ring + RING_HEAD);
    const free: u32 = room - ((head - atomicLoad32(ring + RING_TAIL)) >>> 0);
    const end: u32 = room - (head & (room - 1));
    rest = 0;
    total = measure(entry, mbufs, packets, free);
    if (total > end) {
      // what is left before the end is passed over
      rest = end;
      total = measure(entry, mbufs, packets, free > end ? free - end : 0);
    }
    if (ld32(entry + ENTRY_PACKETS) === 0) return;
    if (atomicExchangeIf32(ring + RING_HEAD, head, (head + rest + total) >>> 0) === head) break;
  }
  let chunk: u32 = ld32(ring + RING_BUFFER) + (head & (room - 1));
  if (rest !== 0) {
    st32(chunk + CHUNK_BYTES, rest);
    atomicStore32(chunk + CHUNK_STATE, 1);
    chunk = ld32(ring + RING_BUFFER);
  }
  st32(chunk + CHUNK_BYTES, total);
  st32(entry + ENTRY_CHUNK, chunk);
  const fit: u32 = ld32(entry + ENTRY_PACKETS);
  let at: u32 = chunk + CHUNK_HEADER;
  for (let index: u32 = 0; index < fit; index++) at = writeRecord(entry, at, ld32(mbufs + (index << 2)));
}

/** Hands over the first `packets` of the burst; those that had no room are counted. */
export function captureCommit(entry: u32, packets: u32): void {
  const chunk: u32 = ld32(entry + ENTRY_CHUNK);
  const fit: u32 = chunk === 0 ? 0 : ld32(entry + ENTRY_PACKETS);
  const kept: u32 = packets < fit ? packets : fit;
  if (packets !== kept) count(entry + ENTRY_DROPPED, packets - kept);
  if (chunk === 0) return;
  let used: u32 = ld32(entry + ENTRY_USED);
  if (kept !== fit) {
    let at: u32 = chunk + CHUNK_HEADER;
    const blocks: u32 = ld32(entry + ENTRY_BLOCKS);
    for (let index: u32 = 0; index < kept; index++) at += blocks === 0 ? PCAP_RECORD_BYTES + ldu32(at + 8) : ld32(at + 4);
    used = at - chunk - CHUNK_HEADER;
  }
  st32(entry + ENTRY_CHUNK, 0);
  st32(chunk + CHUNK_PACKETS, kept);
  atomicStore32(chunk + CHUNK_STATE, 1 + used);
}
