/**
 * The device side's view of one buffer of the driver, whatever the ring's format: a list of pieces of memory, checked and translated.
 *
 *     u32 arena offset, u32 bytes | u32 arena offset, u32 bytes | ...   up to PIECES of them
 *
 * The peer may change a descriptor at any time: the walk over a chain reads every descriptor once and leaves pieces; what copies
 * packets afterwards looks at those only.
 * @module
 */
import { copyBytes, ld16, ld32, st16, st32 } from '../memory/access.ts';
import {
  MBUF_BUFFER,
  MBUF_DATA,
  MBUF_FLAGS,
  MBUF_LENGTH,
  MBUF_NEXT,
  MBUF_ROOM,
  MBUF_SEGMENTS,
  MBUF_SEGMENT_LENGTH,
} from '../memory/mbuf-layout.ts';
import { mbufAllocate, packetFree } from '../memory/mempool.kernel.ts';
import { readNetHeader } from '../net/net-header.kernel.ts';
import { giveUp } from './give-up.kernel.ts';
import { reach, translate, translateTable, untranslated } from './peer-memory.kernel.ts';
import {
  QUEUE_ERROR_CHAIN,
  QUEUE_INDIRECT,
  Q_FEATURES,
  Q_LCORE,
  Q_OFFLOADS,
  Q_POOL,
  Q_REGIONS,
  Q_SCRATCH,
  Q_TOUCH,
} from './queue-layout.ts';
import { DESCRIPTOR_BYTES, SPLIT_SIZE_LIMIT } from './split-layout.ts';

/** Longest packet taken from a driver: 64 KiB of payload and headers before it. */
export const PACKET_LIMIT: u32 = 65_535 + 64;

/** Pieces that one packet may be spread over. */
export const PIECES: u32 = 512;
/** Instead of a number of pieces: the queue was given up, or waits for a translation. */
export const FAILED: u32 = 0xffffffff;

/** Scratch room of a device queue: what a burst leaves for itself, then a handle, the gathered header of a chain, and a packet's pieces. */
const ONE_HANDLE: u32 = 4096;
const GATHERED_HEADER: u32 = 4112;
export const SCRATCH_PIECES: u32 = 4160;
/** Two words for each buffer of a packet: packed-device-enqueue.kernel.ts. */
export const SCRATCH_BUFFERS: u32 = 8256;
export const DEVICE_SCRATCH_BYTES: u32 = 12_352;

/** Longest table of indirect descriptors. */
const TABLE_LIMIT: u32 = SPLIT_SIZE_LIMIT * DESCRIPTOR_BYTES;

/** Outcomes of taking one packet. */
export const TAKEN: u32 = 0;
export const DROPPED: u32 = 1;
export const NO_MEMORY: u32 = 2;
export const BROKEN: u32 = 3;

function putPiece(piece: u32, at: u32, bytes: u32): void {
  st32(piece, at);
  st32(piece + 4, bytes);
}

/** The pieces of a buffer that several translations of an IOMMU share; see addPiece(). */
function addScattered(queue: u32, pieces: u32, before: u32, limit: u32, low: u32, high: u32, bytes: u32): u32 {
  const regions: u32 = ld32(queue + Q_REGIONS);
  let nextLow: u32 = low;
  let nextHigh: u32 = high;
  let left: u32 = bytes;
  let found: u32 = before;
  while (left !== 0 && found < limit) {
    const most: u32 = reach(regions, nextLow, nextHigh);
    if (most === 0) {
      untranslated(queue, regions, nextLow, nextHigh, left);
      return FAILED;
    }
    const part: u32 = most < left ? most : left;
    putPiece(pieces + (found << 3), translate(regions, nextLow, nextHigh, part), part);
    found++;
    left -= part;
    nextLow = (nextLow + part) >>> 0;
    if (nextLow < part) nextHigh = (nextHigh + 1) >>> 0;
  }
  return found;
}

/**
 * Adds what a descriptor describes to the `found` pieces at `pieces`, and its bytes to Q_TOUCH; there is room for `limit`, the
 * rest is left out.
 * @returns pieces now, or FAILED: the queue was given up, or has to wait for a translation and leaves the buffer where it is
 */
export function addPiece(queue: u32, pieces: u32, found: u32, limit: u32, low: u32, high: u32, bytes: u32): u32 {
  if (bytes === 0 || found >= limit) return found;
  const sum: u32 = ld32(queue + Q_TOUCH);
  // a sum beyond any packet needs no precision
  st32(queue + Q_TOUCH, bytes > PACKET_LIMIT || sum + bytes > PACKET_LIMIT ? PACKET_LIMIT : sum + bytes);
  const at: u32 = translate(ld32(queue + Q_REGIONS), low, high, bytes);
  if (at === 0) return addScattered(queue, pieces, found, limit, low, high, bytes);
  putPiece(pieces + (found << 3), at, bytes);
  return found + 1;
}

/**
 * Checks a table of indirect descriptors of `bytes` bytes at the peer's address.
 * @param wrong other than 0: it is in a place where no table may be
 * @returns its arena offset; 0: the queue was given up, or has to wait for a translation
 */
export function openTable(queue: u32, low: u32, high: u32, bytes: u32, wrong: u32): u32 {
  const odd: u32 = (bytes & (DESCRIPTOR_BYTES - 1)) | wrong;
  if (odd !== 0 || bytes === 0 || bytes > TABLE_LIMIT || (ld32(queue + Q_FEATURES) & QUEUE_INDIRECT) === 0) {
    giveUp(queue, QUEUE_ERROR_CHAIN);
    return 0;
  }
  return translateTable(queue, low, high, bytes);
}

/** Copies `length` bytes to the end of a packet, adding segments; returns the last segment, or 0 without memory. */
function append(queue: u32, packet: u32, segment: u32, from: u32, length: u32): u32 {
  let last: u32 = segment;
  let source: u32 = from;
  let left: u32 = length;
  while (left !== 0) {
    const filled: u32 = ld32(last + MBUF_SEGMENT_LENGTH);
    const data: u32 = ld32(last + MBUF_DATA);
    const room: u32 = ld32(last + MBUF_BUFFER) + ld32(last + MBUF_ROOM) - data - filled;
    if (room === 0) {
      const scratch: u32 = ld32(queue + Q_SCRATCH) + ONE_HANDLE;
      if (mbufAllocate(ld32(queue + Q_POOL), ld32(queue + Q_LCORE), scratch, 1) === 0) return 0;
      const more: u32 = ld32(scratch);
      st32(more + MBUF_SEGMENT_LENGTH, 0);
      st32(last + MBUF_NEXT, more);
      st16(packet + MBUF_SEGMENTS, ld16(packet + MBUF_SEGMENTS) + 1);
      last = more;
      continue;
    }
    const part: u32 = left < room ? left : room;
    copyBytes(data + filled, source, part);
    st32(last + MBUF_SEGMENT_LENGTH, filled + part);
    source += part;
    left -= part;
  }
  return last;
}

/** Takes a packet, behind its header of `header` bytes, out of pieces; its first mbuf is `packet`. Returns an outcome. */
export function gatherPieces(queue: u32, packet: u32, pieces: u32, found: u32, header: u32): u32 {
  st32(packet + MBUF_SEGMENT_LENGTH, 0);
  // some of it may have been left out
  if (found >= PIECES) return DROPPED;
  const gathered: u32 = ld32(queue + Q_SCRATCH) + GATHERED_HEADER;
  let skip: u32 = header;
  let length: u32 = 0;
  let last: u32 = packet;
  for (let index: u32 = 0; index < found; index++) {
    const source: u32 = ld32(pieces + (index << 3));
    const bytes: u32 = ld32(pieces + (index << 3) + 4);
    if (bytes > PACKET_LIMIT || length + bytes > PACKET_LIMIT) return DROPPED;
    const skipped: u32 = skip < bytes ? skip : bytes;
    if (skipped !== 0) copyBytes(gathered + header - skip, source, skipped);
    skip -= skipped;
    length += bytes - skipped;
    if (bytes === skipped) continue;
    last = append(queue, packet, last, source + skipped, bytes - skipped);
    if (last === 0) return NO_MEMORY;
  }
  // a chain that is no longer than the header holds no packet
  if (length === 0) return DROPPED;
  st32(packet + MBUF_LENGTH, length);
  const offloads: u32 = ld32(queue + Q_OFFLOADS);
  if (offloads !== 0 && readNetHeader(gathered, packet, offloads) === 0) return DROPPED;
  return TAKEN;
}

/** Makes the first mbuf of a packet that was not taken fit for the next one; the others go back to their pool. */
export function emptyPacket(packet: u32, lcore: u32): void {
  st32(packet + MBUF_FLAGS, 0);
  const next: u32 = ld32(packet + MBUF_NEXT);
  if (next === 0) return;
  st32(packet + MBUF_NEXT, 0);
  st16(packet + MBUF_SEGMENTS, 1);
  packetFree(next, lcore);
}

/** Copies a packet into pieces, which have room for it, `header` bytes into the first. */
export function spreadPacket(packet: u32, pieces: u32, found: u32, header: u32): void {
  let piece: u32 = 0;
  let to: u32 = ld32(pieces) + header;
  let space: u32 = ld32(pieces + 4) - header;
  let segment: u32 = packet;
  while (segment !== 0) {
    let from: u32 = ld32(segment + MBUF_DATA);
    let left: u32 = ld32(segment + MBUF_SEGMENT_LENGTH);
    while (left !== 0) {
      if (space === 0) {
        piece++;
        if (piece >= found) return;
        to = ld32(pieces + (piece << 3));
        space = ld32(pieces + (piece << 3) + 4);
      }
      const part: u32 = left < space ? left : space;
      copyBytes(to, from, part);
      to += part;
      space -= part;
      from += part;
      left -= part;
    }
    segment = ld32(segment + MBUF_NEXT);
  }
}
