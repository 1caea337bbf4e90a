/**
 * The queues of net_pcap: packets out of a buffer that holds a piece of a capture file, and into one that becomes its next.
 *
 * The kernels never wait: where the buffer is used up, or full, they set FILE_WANTS, and the thread that called reads or
 * writes the file, a large piece at a time, and calls again (port/pcap-queue.ts). Q_DESCRIPTORS of the queue is the offset
 * of what is described here; 0 for a queue without a file.
 * @module
 */
import { ld32, ld8, ldu16, ldu32, st16, st32, st8, stu32 } from '../memory/access.ts';
import { MBUF_LENGTH, MBUF_PORT } from '../memory/mbuf-layout.ts';
import { mbufAllocate, packetFree, packetsFree } from '../memory/mempool.kernel.ts';
import {
  BLOCK_ENHANCED_PACKET,
  BLOCK_INTERFACE,
  BLOCK_OBSOLETE_PACKET,
  BLOCK_SECTION,
  BLOCK_SIMPLE_PACKET,
  BYTE_ORDER_MAGIC,
  CAPTURE_BAD_BLOCK,
  CAPTURE_BAD_INTERFACE,
  CAPTURE_BAD_SECTION,
  CAPTURE_BLOCK_LIMIT,
  CAPTURE_CUT,
  CAPTURE_INTERFACE_LIMIT,
  CAPTURE_PACKET_LIMIT,
  CAPTURE_TOO_LONG,
  CAPTURE_TOO_MANY_INTERFACES,
  ENHANCED_PACKET_BYTES,
  INTERFACE_BYTES,
  LINK_TYPE_ETHERNET,
  PCAP_RECORD_BYTES,
  SECTION_BYTES,
  SIMPLE_PACKET_BYTES,
} from '../net/pcap-format.ts';
import { fillPacket, gatherPacket } from './copy-packet.kernel.ts';
import { count, countBurst } from './counters.kernel.ts';
import { giveUp } from './give-up.kernel.ts';
import { Q_DESCRIPTORS, Q_DROPPED, Q_ERRORS, Q_LCORE, Q_NO_MBUF, Q_POOL, Q_PORT, Q_STATE, QUEUE_RUNNING } from './queue-layout.ts';
import { isUnfinished } from './unfinished.kernel.ts';

/** u32: offset of the buffer, and its bytes. */
export const FILE_BUFFER: u32 = 0;
export const FILE_ROOM: u32 = 4;
/** u32: position in the buffer of the next record to be read. */
export const FILE_AT: u32 = 8;
/** u32: bytes in the buffer. */
export const FILE_END: u32 = 12;
/** u32: 0 for pcap, 1 for pcapng. */
export const FILE_BLOCKS: u32 = 16;
/** u32: 1 when the file's byte order is not little-endian. */
export const FILE_SWAPPED: u32 = 20;
/** u32: set by a kernel: read more, or write what is there, and call again. */
export const FILE_WANTS: u32 = 24;
/** u32: 1 when the file ends with what is in the buffer. */
export const FILE_ENDED: u32 = 28;
/** u32: 1 when the buffer, which then holds the whole file, is to be read over and over. */
export const FILE_REPEATS: u32 = 32;
/** u32: bytes of a block that holds no packet and that are still to come. */
export const FILE_SKIP: u32 = 36;
/** u32: interfaces described so far in this section (pcapng), and the first one's snap length. */
export const FILE_INTERFACES: u32 = 40;
export const FILE_SNAP_LENGTH: u32 = 44;
/** u32: descriptor of the file. */
export const FILE_DESCRIPTOR: u32 = 48;
/** u32: time of the burst to be written: seconds and nanoseconds (pcap), high and low word of nanoseconds (pcapng). */
export const FILE_TIME: u32 = 52;
/** u32: packets in the buffer that are not written yet, and their bytes. */
export const FILE_PACKETS: u32 = 60;
export const FILE_BYTES: u32 = 64;
/** Two u32, low word first: offset in the file of the buffer's first byte. */
export const FILE_POSITION: u32 = 68;
/** u32: errno of the read or write that failed. */
export const FILE_ERRNO: u32 = 76;
/** u32: packets of another link type than Ethernet that were left out. */
export const FILE_OTHERS: u32 = 80;
/** u32: length of the record found, and the position after it. */
export const FILE_FOUND: u32 = 84;
export const FILE_AFTER: u32 = 88;
/** u32: room for a handle. */
export const FILE_SCRATCH: u32 = 92;
/** u8 an interface: 1 for Ethernet. */
export const FILE_LINKS: u32 = 128;
export const FILE_STATE_BYTES: u32 = 384;

function swap32(value: u32): u32 {
  return ((value >>> 24) | ((value >>> 8) & 0xff00) | ((value & 0xff00) << 8) | (value << 24)) >>> 0;
}

function field32(p: u32, swapped: u32): u32 {
  const value: u32 = ldu32(p);
  return swapped === 0 ? value : swap32(value);
}

function field16(p: u32, swapped: u32): u32 {
  const value: u32 = ldu16(p);
  return swapped === 0 ? value : ((value >>> 8) | (value << 8)) & 0xffff;
}

/** The record is not in the buffer as a whole: more is wanted, or the file ends here, well or not. */
function starve(queue: u32, file: u32): u32 {
  if (ld32(file + FILE_ENDED) === 0) st32(file + FILE_WANTS, 1);
  else if (ld32(file + FILE_AT) !== ld32(file + FILE_END) || ld32(file + FILE_SKIP) !== 0) return fail(queue, CAPTURE_CUT);
  return 0;
}

function fail(queue: u32, error: u32): u32 {
  count(queue + Q_ERRORS, 1);
  giveUp(queue, error);
  return 0;
}

/** Offset of the next packet's first byte, with FILE_FOUND and FILE_AFTER set; 0 when there is none. */
function nextRecord(queue: u32, file: u32): u32 {
  let at: u32 = ld32(file + FILE_AT);
  const end: u32 = ld32(file + FILE_END);
  if (at === end && ld32(file + FILE_REPEATS) !== 0) {
    at = 0;
    st32(file + FILE_AT, 0);
  }
  if (end - at < PCAP_RECORD_BYTES) return starve(queue, file);
  const record: u32 = ld32(file + FILE_BUFFER) + at;
  const captured: u32 = field32(record + 8, ld32(file + FILE_SWAPPED));
  if (captured > CAPTURE_PACKET_LIMIT) return fail(queue, CAPTURE_TOO_LONG);
  if (end - at - PCAP_RECORD_BYTES < captured) return starve(queue, file);
  st32(file + FILE_FOUND, captured);
  st32(file + FILE_AFTER, at + PCAP_RECORD_BYTES + captured);
  return record + PCAP_RECORD_BYTES;
}

/** The same for pcapng; blocks without packets are taken in on the way. */
function nextBlock(queue: u32, file: u32): u32 {
  const end: u32 = ld32(file + FILE_END);
  while (true) {
    let at: u32 = ld32(file + FILE_AT);
    const skip: u32 = ld32(file + FILE_SKIP);
    if (skip !== 0) {
      const there: u32 = skip < end - at ? skip : end - at;
      at += there;
      st32(file + FILE_AT, at);
      st32(file + FILE_SKIP, skip - there);
    }
    const left: u32 = end - at;
    if (left < 12) return starve(queue, file);
    const block: u32 = ld32(file + FILE_BUFFER) + at;
    const section: u32 = ldu32(block) === BLOCK_SECTION ? 1 : 0;
    if (section !== 0) {
      if (left < SECTION_BYTES) return starve(queue, file);
      const order: u32 = ldu32(block + 8);
      const swapped: u32 = order === BYTE_ORDER_MAGIC ? 0 : 1;
      if (swapped !== 0 && swap32(order) !== BYTE_ORDER_MAGIC) return fail(queue, CAPTURE_BAD_SECTION);
      if (field16(block + 12, swapped) !== 1) return fail(queue, CAPTURE_BAD_SECTION);
      st32(file + FILE_SWAPPED, swapped);
      st32(file + FILE_INTERFACES, 0);
    }
    const swapped: u32 = ld32(file + FILE_SWAPPED);
    const type: u32 = field32(block, swapped);
    const total: u32 = field32(block + 4, swapped);
    let least: u32 = 12;
    if (section !== 0) least = SECTION_BYTES;
    else if (type === BLOCK_INTERFACE) least = INTERFACE_BYTES;
    else if (type === BLOCK_SIMPLE_PACKET) least = SIMPLE_PACKET_BYTES;
    else if (type === BLOCK_ENHANCED_PACKET || type === BLOCK_OBSOLETE_PACKET) least = ENHANCED_PACKET_BYTES;
    if (total < least || (total & 3) !== 0) return fail(queue, CAPTURE_BAD_BLOCK);
    if (least === 12 || section !== 0) {
      const there: u32 = total < left ? total : left;
      st32(file + FILE_AT, at + there);
      st32(file + FILE_SKIP, total - there);
      continue;
    }
    if (total > CAPTURE_BLOCK_LIMIT) return fail(queue, CAPTURE_TOO_LONG);
    if (total > left) return starve(queue, file);
    if (field32(block + total - 4, swapped) !== total) return fail(queue, CAPTURE_BAD_BLOCK);
    const interfaces: u32 = ld32(file + FILE_INTERFACES);
    if (type === BLOCK_INTERFACE) {
      if (interfaces === CAPTURE_INTERFACE_LIMIT) return fail(queue, CAPTURE_TOO_MANY_INTERFACES);
      st8(file + FILE_LINKS + interfaces, field16(block + 8, swapped) === LINK_TYPE_ETHERNET ? 1 : 0);
      if (interfaces === 0) st32(file + FILE_SNAP_LENGTH, field32(block + 12, swapped));
      st32(file + FILE_INTERFACES, interfaces + 1);
      st32(file + FILE_AT, at + total);
      continue;
    }
    let from: u32 = 0;
    let data: u32 = block + 12;
    let room: u32 = total - SIMPLE_PACKET_BYTES;
    let captured: u32 = 0;
    if (type === BLOCK_SIMPLE_PACKET) {
      const snap: u32 = ld32(file + FILE_SNAP_LENGTH);
      captured = field32(block + 8, swapped);
      if (captured > room) captured = room;
      if (snap !== 0 && captured > snap) captured = snap;
    } else {
      from = type === BLOCK_OBSOLETE_PACKET ? field16(block + 8, swapped) : field32(block + 8, swapped);
      data = block + 28;
      room = total - ENHANCED_PACKET_BYTES;
      captured = field32(block + 20, swapped);
    }
    if (from >= interfaces) return fail(queue, CAPTURE_BAD_INTERFACE);
    if (captured > CAPTURE_PACKET_LIMIT) return fail(queue, CAPTURE_TOO_LONG);
    if (captured > room) return fail(queue, CAPTURE_BAD_BLOCK);
    if (ld8(file + FILE_LINKS + from) === 0) {
      st32(file + FILE_OTHERS, ld32(file + FILE_OTHERS) + 1);
      count(queue + Q_ERRORS, 1);
      st32(file + FILE_AT, at + total);
      continue;
    }
    st32(file + FILE_FOUND, captured);
    st32(file + FILE_AFTER, at + total);
    return data;
  }
}

/** Reads up to `packets` packets. FILE_WANTS is set when the buffer is used up before that and the file goes on. */
export function pcapReceive(queue: u32, to: u32, packets: u32): u32 {
  if (ld32(queue + Q_STATE) !== QUEUE_RUNNING) return 0;
  const file: u32 = ld32(queue + Q_DESCRIPTORS);
  if (file === 0) return 0;
  const blocks: u32 = ld32(file + FILE_BLOCKS);
  const pool: u32 = ld32(queue + Q_POOL);
  const lcore: u32 = ld32(queue + Q_LCORE);
  const port: u32 = ld32(queue + Q_PORT);
  // mbufs only when there is a packet: a file that is through costs nothing
  let data: u32 = blocks === 0 ? nextRecord(queue, file) : nextBlock(queue, file);
  if (data === 0) return 0;
  if (mbufAllocate(pool, lcore, to, packets) === 0) {
    count(queue + Q_NO_MBUF, packets);
    return 0;
  }
  let done: u32 = 0;
  let bytes: u32 = 0;
  while (data !== 0) {
    const length: u32 = ld32(file + FILE_FOUND);
    if (length === 0) {
      // nothing was captured of it
      count(queue + Q_ERRORS, 1);
    } else {
      const packet: u32 = ld32(to + (done << 2));
      if (fillPacket(packet, data, length, pool, lcore, file + FILE_SCRATCH) === 0) {
        count(queue + Q_NO_MBUF, 1);
        packetFree(packet, lcore);
        // the record stays where it is, for the next burst
        packetsFree(to + ((done + 1) << 2), packets - done - 1, lcore);
        if (done !== 0) countBurst(queue, done, bytes);
        return done;
      }
      st16(packet + MBUF_PORT, port);
      bytes += length;
      done++;
    }
    st32(file + FILE_AT, ld32(file + FILE_AFTER));
    if (done === packets) break;
    data = blocks === 0 ? nextRecord(queue, file) : nextBlock(queue, file);
  }
  if (done < packets) packetsFree(to + (done << 2), packets - done, lcore);
  if (done !== 0) countBurst(queue, done, bytes);
  return done;
}

/** Appends packets to the buffer. FILE_WANTS is set when it has no room for the next one: it is to be written first. */
export function pcapTransmit(queue: u32, from: u32, packets: u32): u32 {
  if (ld32(queue + Q_STATE) !== QUEUE_RUNNING) return 0;
  const file: u32 = ld32(queue + Q_DESCRIPTORS);
  let done: u32 = 0;
  let dropped: u32 = 0;
  let bytes: u32 = 0;
  if (file === 0) {
    while (done < packets) {
      bytes += ld32(ld32(from + (done << 2)) + MBUF_LENGTH);
      done++;
    }
  } else {
    const blocks: u32 = ld32(file + FILE_BLOCKS);
    const buffer: u32 = ld32(file + FILE_BUFFER);
    const room: u32 = ld32(file + FILE_ROOM);
    const time: u32 = ld32(file + FILE_TIME);
    const fraction: u32 = ld32(file + FILE_TIME + 4);
    let end: u32 = ld32(file + FILE_END);
    for (; done < packets; done++) {
      const packet: u32 = ld32(from + (done << 2));
      if (isUnfinished(queue, packet) !== 0) break;
      const length: u32 = ld32(packet + MBUF_LENGTH);
      if (length > CAPTURE_PACKET_LIMIT) {
        dropped++;
        continue;
      }
      const total: u32 = blocks === 0 ? PCAP_RECORD_BYTES + length : ENHANCED_PACKET_BYTES + (((length + 3) >>> 2) << 2);
      if (room - end < total) {
        st32(file + FILE_WANTS, 1);
        break;
      }
      const record: u32 = buffer + end;
      if (blocks === 0) {
        stu32(record, time);
        stu32(record + 4, fraction);
        stu32(record + 8, length);
        stu32(record + 12, length);
        gatherPacket(record + PCAP_RECORD_BYTES, packet, length);
      } else {
        stu32(record, BLOCK_ENHANCED_PACKET);
        stu32(record + 4, total);
        stu32(record + 8, 0);
        stu32(record + 12, time);
        stu32(record + 16, fraction);
        stu32(record + 20, length);
        stu32(record + 24, length);
        // the padding first, the packet over it
        stu32(record + total - 8, 0);
        gatherPacket(record + 28, packet, length);
        stu32(record + total - 4, total);
      }
      end += total;
      bytes += length;
    }
    st32(file + FILE_END, end);
    st32(file + FILE_PACKETS, ld32(file + FILE_PACKETS) + done - dropped);
    st32(file + FILE_BYTES, ld32(file + FILE_BYTES) + bytes);
  }
  if (done === 0) return 0;
  packetsFree(from, done, ld32(queue + Q_LCORE));
  countBurst(queue, done - dropped, bytes);
  if (dropped !== 0) count(queue + Q_DROPPED, dropped);
  return done;
}
