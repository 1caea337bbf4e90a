/**
 * The queues of net_tap: where the next packet is read to, or written from, and what becomes of it. The system calls, one a packet,
 * are port/tap-queue.ts's.
 *
 * A packet is read into an mbuf at once, its virtio-net header into the headroom, as long as the interface's packets fit one mbuf;
 * else into scratch room, and copied from there into a chain. Written it is from where it lies, the header before it, or from scratch
 * room when it lies in several segments, has no headroom, or others own it too.
 * @module
 */
import { ld16, ld32, st16, st32 } from '../memory/access.ts';
import {
  MBUF_BUFFER,
  MBUF_DATA,
  MBUF_HEADROOM,
  MBUF_LENGTH,
  MBUF_NEXT,
  MBUF_PORT,
  MBUF_REFERENCES,
  MBUF_ROOM,
  MBUF_SEGMENT_LENGTH,
} from '../memory/mbuf-layout.ts';
import { mbufAllocate, packetFree, packetsFree } from '../memory/mempool.kernel.ts';
import { readNetHeader, writeNetHeader } from '../net/net-header.kernel.ts';
import { fillPacket, gatherPacket } from './copy-packet.kernel.ts';
import { count, countBurst } from './counters.kernel.ts';
import {
  Q_AVAILABLE,
  Q_BATCH,
  Q_DESCRIPTORS,
  Q_ERRORS,
  Q_HANDLED,
  Q_HEADER,
  Q_LCORE,
  Q_NO_MBUF,
  Q_OFFLOADS,
  Q_OWN_INDEX,
  Q_POOL,
  Q_PORT,
  Q_SCRATCH,
  Q_SIZE,
  Q_USED,
} from './queue-layout.ts';
import { isUnfinished } from './unfinished.kernel.ts';

/** Fields of a queue's state, under the names that they have here. u32: receive: the mbuf that the next packet goes into; 0: none. */
export const TAP_SPARE: u32 = Q_DESCRIPTORS;
/** u32: offset of room for one packet with its header, and the bytes of that room. */
export const TAP_SCRATCH: u32 = Q_AVAILABLE;
export const TAP_SCRATCH_BYTES: u32 = Q_USED;
/** u32: what to read or write next: its offset, and its bytes. */
export const TAP_AT: u32 = Q_OWN_INDEX;
export const TAP_BYTES: u32 = Q_HANDLED;
/** u32: receive: 1 while every packet of the interface fits an mbuf. */
export const TAP_DIRECT: u32 = Q_SIZE;
/** u32: receive: packets that were longer than the room for them. */
export const TAP_CUT: u32 = Q_BATCH;
/** u32: room for a handle. */
const TAP_HANDLE: u32 = Q_SCRATCH;

/** What tapPrepare() says of a packet. */
export const TAP_DROP: u32 = 0;
export const TAP_WRITE: u32 = 1;
export const TAP_WAIT: u32 = 2;

const ETHERNET_BYTES: u32 = 14;

/** Sets TAP_AT and TAP_BYTES for the next read; returns 1, or 0 when there is no mbuf. */
export function tapPlace(queue: u32): u32 {
  let spare: u32 = ld32(queue + TAP_SPARE);
  if (spare === 0) {
    if (mbufAllocate(ld32(queue + Q_POOL), ld32(queue + Q_LCORE), queue + TAP_SPARE, 1) === 0) {
      st32(queue + TAP_SPARE, 0);
      count(queue + Q_NO_MBUF, 1);
      return 0;
    }
    spare = ld32(queue + TAP_SPARE);
  }
  if (ld32(queue + TAP_DIRECT) !== 0) {
    const header: u32 = ld32(queue + Q_HEADER);
    st32(queue + TAP_AT, ld32(spare + MBUF_DATA) - header);
    st32(queue + TAP_BYTES, ld32(spare + MBUF_ROOM) - MBUF_HEADROOM + header);
  } else {
    st32(queue + TAP_AT, ld32(queue + TAP_SCRATCH));
    st32(queue + TAP_BYTES, ld32(queue + TAP_SCRATCH_BYTES));
  }
  return 1;
}

/**
 * Makes a packet of the `bytes` that were read to TAP_AT, and writes its handle to `to`.
 * @returns 1, or 0 when it was dropped and counted
 */
export function tapReceive(queue: u32, to: u32, bytes: u32): u32 {
  const header: u32 = ld32(queue + Q_HEADER);
  const at: u32 = ld32(queue + TAP_AT);
  const packet: u32 = ld32(queue + TAP_SPARE);
  if (bytes === ld32(queue + TAP_BYTES)) {
    // the kernel cuts without a word: what fills the room was longer, as far as anybody can tell
    st32(queue + TAP_CUT, ld32(queue + TAP_CUT) + 1);
    count(queue + Q_ERRORS, 1);
    return 0;
  }
  if (bytes < header + ETHERNET_BYTES) {
    count(queue + Q_ERRORS, 1);
    return 0;
  }
  const length: u32 = bytes - header;
  const lcore: u32 = ld32(queue + Q_LCORE);
  st32(packet + MBUF_LENGTH, length);
  if (readNetHeader(at, packet, ld32(queue + Q_OFFLOADS)) === 0) {
    count(queue + Q_ERRORS, 1);
    packetFree(packet, lcore);
    st32(queue + TAP_SPARE, 0);
    return 0;
  }
  if (ld32(queue + TAP_DIRECT) !== 0) {
    st32(packet + MBUF_SEGMENT_LENGTH, length);
  } else if (fillPacket(packet, at + header, length, ld32(queue + Q_POOL), lcore, queue + TAP_HANDLE) === 0) {
    count(queue + Q_NO_MBUF, 1);
    packetFree(packet, lcore);
    st32(queue + TAP_SPARE, 0);
    return 0;
  }
  st16(packet + MBUF_PORT, ld32(queue + Q_PORT));
  st32(to, packet);
  st32(queue + TAP_SPARE, 0);
  countBurst(queue, 1, length);
  return 1;
}

/** Sets TAP_AT and TAP_BYTES for the packet whose handle is at `from`. @returns TAP_* */
export function tapPrepare(queue: u32, from: u32): u32 {
  const packet: u32 = ld32(from);
  if (isUnfinished(queue, packet) !== 0) return TAP_WAIT;
  const header: u32 = ld32(queue + Q_HEADER);
  const length: u32 = ld32(packet + MBUF_LENGTH);
  if (length < ETHERNET_BYTES || length > ld32(queue + TAP_SCRATCH_BYTES) - header) return TAP_DROP;
  const data: u32 = ld32(packet + MBUF_DATA);
  let at: u32 = data - header;
  if (ld32(packet + MBUF_NEXT) !== 0 || data - ld32(packet + MBUF_BUFFER) < header || ld16(packet + MBUF_REFERENCES) !== 1) {
    at = ld32(queue + TAP_SCRATCH);
    gatherPacket(at + header, packet, length);
  }
  writeNetHeader(at, header, packet, 0);
  st32(queue + TAP_AT, at);
  st32(queue + TAP_BYTES, header + length);
  return TAP_WRITE;
}

/** Frees the first `taken` packets at `from`, of which `sent`, with `bytes` together, were written and the others are errors. */
export function tapSent(queue: u32, from: u32, taken: u32, sent: u32, bytes: u32): void {
  packetsFree(from, taken, ld32(queue + Q_LCORE));
  if (sent !== 0) countBurst(queue, sent, bytes);
  if (taken !== sent) count(queue + Q_ERRORS, taken - sent);
}
