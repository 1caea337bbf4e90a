/**
 * The queues of net_af_packet: frames of a packet socket's rings (packet-ring-layout.ts) to mbufs and back. Sending is done by
 * the kernel when the socket is written to, once a burst: Q_NOTIFY asks the caller for it.
 * @module
 */
import { atomicLoad32, atomicStore32, copyBytes, ld16, ld32, ldu16, st16, st32, stu16, stu32 } from '../memory/access.ts';
import {
  MBUF_CHECKSUM_START,
  MBUF_DATA,
  MBUF_FLAGS,
  MBUF_HEADER_LENGTH,
  MBUF_LENGTH,
  MBUF_PORT,
  MBUF_SEGMENT_LENGTH,
  MBUF_WORK,
  MBUF_WORK_CHECKSUM,
  MBUF_WORK_SEGMENTS,
} from '../memory/mbuf-layout.ts';
import { mbufAllocate, packetFree, packetsFree } from '../memory/mempool.kernel.ts';
import { swapBytes16 } from '../net/checksum.kernel.ts';
import { finishChecksum } from '../net/finish-checksum.kernel.ts';
import { TYPE_VLAN } from '../net/headers.kernel.ts';
import { readNetHeader, writeNetHeader } from '../net/net-header.kernel.ts';
import { fillPacket, gatherPacket } from './copy-packet.kernel.ts';
import { count, countBurst } from './counters.kernel.ts';
import {
  FRAME_CAPTURED,
  FRAME_DATA,
  FRAME_LENGTH,
  FRAME_MAC,
  FRAME_STATUS,
  FRAME_VLAN,
  FRAME_VLAN_TYPE,
  PACKET_BLOCK_BYTES,
  PACKET_BLOCK_FRAMES,
  PACKET_COPIED,
  PACKET_CUT,
  PACKET_FRAME_BYTES,
  PACKET_FRAMES,
  PACKET_HEADER,
  PACKET_LONGEST,
  PACKET_NEXT,
  PACKET_RING,
  TP_STATUS_CSUMNOTREADY,
  TP_STATUS_SENDING,
  TP_STATUS_SEND_REQUEST,
  TP_STATUS_USER,
  TP_STATUS_VLAN_TPID_VALID,
  TP_STATUS_VLAN_VALID,
} from './packet-ring-layout.ts';
import {
  Q_ERRORS,
  Q_FREE,
  Q_LCORE,
  Q_NO_MBUF,
  Q_NOTIFY,
  Q_OFFLOADS,
  Q_POOL,
  Q_PORT,
  Q_STATE,
  Q_UNFINISHED,
  QUEUE_RUNNING,
} from './queue-layout.ts';
import { isUnfinished } from './unfinished.kernel.ts';

const ETHERNET_BYTES: u32 = 14;
const ADDRESSES_BYTES: u32 = 12;
const VLAN_BYTES: u32 = 4;
/** Of a virtio-net header without num_buffers. */
const PLAIN_HEADER_BYTES: u32 = 10;

function frameAt(queue: u32, index: u32): u32 {
  const inBlock: u32 = ld32(queue + PACKET_BLOCK_FRAMES);
  const block: u32 = (index / inBlock) >>> 0;
  return (
    ld32(queue + PACKET_RING) + block * ld32(queue + PACKET_BLOCK_BYTES) + (index - block * inBlock) * ld32(queue + PACKET_FRAME_BYTES)
  );
}

/** The other order of the bytes of a u16. */
/**
 * Copies a frame into one mbuf or a chain; the handle is written to `to`.
 * @returns bytes of the packet, or 0 when the pool is empty
 */
function takePacket(queue: u32, frame: u32, status: u32, to: u32): u32 {
  const pool: u32 = ld32(queue + Q_POOL);
  const lcore: u32 = ld32(queue + Q_LCORE);
  if (mbufAllocate(pool, lcore, to, 1) === 0) return 0;
  const packet: u32 = ld32(to);
  const source: u32 = frame + ld16(frame + FRAME_MAC);
  const captured: u32 = ld32(frame + FRAME_CAPTURED);
  const data: u32 = ld32(packet + MBUF_DATA);
  if (fillPacket(packet, source, captured, pool, lcore, to) === 0) {
    packetFree(packet, lcore);
    return 0;
  }
  let length: u32 = captured;
  if ((status & TP_STATUS_VLAN_VALID) !== 0) {
    // the tag goes back to where it was; the headroom has room for the addresses before it
    st32(packet + MBUF_DATA, data - VLAN_BYTES);
    copyBytes(data - VLAN_BYTES, source, ADDRESSES_BYTES);
    const type: u32 = (status & TP_STATUS_VLAN_TPID_VALID) !== 0 ? swapBytes16(ld16(frame + FRAME_VLAN_TYPE)) : TYPE_VLAN;
    stu16(data - VLAN_BYTES + ADDRESSES_BYTES, type);
    stu16(data - VLAN_BYTES + ADDRESSES_BYTES + 2, swapBytes16(ld16(frame + FRAME_VLAN)));
    st32(packet + MBUF_SEGMENT_LENGTH, ld32(packet + MBUF_SEGMENT_LENGTH) + VLAN_BYTES);
    length += VLAN_BYTES;
  }
  st32(to, packet);
  st32(packet + MBUF_LENGTH, length);
  st16(packet + MBUF_PORT, ld32(queue + Q_PORT));
  return length;
}

/** Whether the frame holds a whole packet that could be sent on as it is; finishes its checksum. */
function isWhole(queue: u32, frame: u32, status: u32): u32 {
  const captured: u32 = ld32(frame + FRAME_CAPTURED);
  const start: u32 = ld16(frame + FRAME_MAC);
  const bytes: u32 = ld32(queue + PACKET_FRAME_BYTES);
  if (captured < ld32(frame + FRAME_LENGTH) || start > bytes || captured > bytes - start) {
    st32(queue + PACKET_CUT, ld32(queue + PACKET_CUT) + 1);
    return 0;
  }
  if (captured < ETHERNET_BYTES) return 0;
  // with offloads, what is left to do goes on with the packet
  if ((status & TP_STATUS_CSUMNOTREADY) === 0 || ld32(queue + Q_OFFLOADS) !== 0) return 1;
  return finishChecksum(frame + start, captured);
}

/** Takes the work that the kernel left over into a received packet; 0 for work that the port was not configured for. */
function takeWork(queue: u32, frame: u32, status: u32, packet: u32): u32 {
  const header: u32 = ld32(queue + PACKET_HEADER);
  const allowed: u32 = ld32(queue + Q_OFFLOADS);
  if (header === 0 || allowed === 0) return 1;
  if (readNetHeader(frame + ld16(frame + FRAME_MAC) - header, packet, allowed) === 0) return 0;
  if ((status & TP_STATUS_VLAN_VALID) !== 0 && (ld32(packet + MBUF_FLAGS) & MBUF_WORK_CHECKSUM) !== 0) {
    // counted without the tag that was put back
    st16(packet + MBUF_CHECKSUM_START, ld16(packet + MBUF_CHECKSUM_START) + VLAN_BYTES);
    const headers: u32 = ld16(packet + MBUF_HEADER_LENGTH);
    if (headers !== 0) st16(packet + MBUF_HEADER_LENGTH, headers + VLAN_BYTES);
  }
  return 1;
}

/** Receives up to `packets` packets; their handles are written to `to`. */
export function packetReceive(queue: u32, to: u32, packets: u32): u32 {
  if (ld32(queue + Q_STATE) !== QUEUE_RUNNING) return 0;
  const frames: u32 = ld32(queue + PACKET_FRAMES);
  let next: u32 = ld32(queue + PACKET_NEXT);
  let received: u32 = 0;
  let bytes: u32 = 0;
  let errors: u32 = 0;
  while (received < packets) {
    const frame: u32 = frameAt(queue, next);
    const status: u32 = atomicLoad32(frame + FRAME_STATUS);
    if ((status & TP_STATUS_USER) === 0) break;
    if (isWhole(queue, frame, status) !== 0) {
      const length: u32 = takePacket(queue, frame, status, to + (received << 2));
      if (length === 0) {
        // the frame stays; the kernel counts what finds no free one
        count(queue + Q_NO_MBUF, 1);
        break;
      }
      const packet: u32 = ld32(to + (received << 2));
      if (takeWork(queue, frame, status, packet) !== 0) {
        received++;
        bytes += length;
      } else {
        packetFree(packet, ld32(queue + Q_LCORE));
        errors++;
      }
    } else {
      errors++;
    }
    atomicStore32(frame + FRAME_STATUS, 0);
    next++;
    if (next === frames) next = 0;
  }
  st32(queue + PACKET_NEXT, next);
  if (errors !== 0) count(queue + Q_ERRORS, errors);
  if (received !== 0) countBurst(queue, received, bytes);
  return received;
}

/** Whether the interface would take a packet of this length: 1 or 0. */
function fits(queue: u32, packet: u32, length: u32): u32 {
  if (length < ETHERNET_BYTES || length > ld32(queue + PACKET_FRAME_BYTES) - FRAME_DATA - ld32(queue + PACKET_HEADER)) return 0;
  const longest: u32 = ld32(queue + PACKET_LONGEST);
  if (length <= longest || (ld32(packet + MBUF_FLAGS) & MBUF_WORK_SEGMENTS) !== 0) return 1;
  if (length > longest + VLAN_BYTES) return 0;
  return ldu16(ld32(packet + MBUF_DATA) + ADDRESSES_BYTES) === TYPE_VLAN ? 1 : 0;
}

/**
 * Writes the header of a packet to send. Its hdr_len is what the kernel copies: the whole of a short packet, which spares it
 * the handling of pages, about a tenth of what such a packet costs.
 */
function writeHeader(header: u32, packet: u32, length: u32): void {
  if ((ld32(packet + MBUF_FLAGS) & MBUF_WORK) !== 0) {
    writeNetHeader(header, PLAIN_HEADER_BYTES, packet, 0);
    return;
  }
  stu32(header, length <= PACKET_COPIED ? length << 16 : 0);
  stu32(header + 4, 0);
  stu16(header + 8, 0);
}

/** Puts up to `packets` packets into frames and frees them; what is too long for the interface is dropped and counted. */
export function packetTransmit(queue: u32, from: u32, packets: u32): u32 {
  if (ld32(queue + Q_STATE) !== QUEUE_RUNNING) return 0;
  const frames: u32 = ld32(queue + PACKET_FRAMES);
  const header: u32 = ld32(queue + PACKET_HEADER);
  let next: u32 = ld32(queue + PACKET_NEXT);
  let taken: u32 = 0;
  let sent: u32 = 0;
  let bytes: u32 = 0;
  while (taken < packets) {
    const packet: u32 = ld32(from + (taken << 2));
    if (isUnfinished(queue, packet) !== 0) break;
    const length: u32 = ld32(packet + MBUF_LENGTH);
    if (fits(queue, packet, length) === 0) {
      if ((ld32(packet + MBUF_FLAGS) & MBUF_WORK_SEGMENTS) !== 0) {
        // larger than a frame: cut in software
        st32(queue + Q_UNFINISHED, 1);
        break;
      }
      taken++;
      continue;
    }
    const frame: u32 = frameAt(queue, next);
    if ((atomicLoad32(frame + FRAME_STATUS) & (TP_STATUS_SEND_REQUEST | TP_STATUS_SENDING)) !== 0) break;
    const data: u32 = frame + FRAME_DATA + header;
    if (header !== 0) writeHeader(frame + FRAME_DATA, packet, length);
    gatherPacket(data, packet, length);
    st32(frame + FRAME_LENGTH, header + length);
    st32(frame + FRAME_CAPTURED, header + length);
    atomicStore32(frame + FRAME_STATUS, TP_STATUS_SEND_REQUEST);
    next++;
    if (next === frames) next = 0;
    taken++;
    sent++;
    bytes += length;
  }
  st32(queue + PACKET_NEXT, next);
  packetsFree(from, taken, ld32(queue + Q_LCORE));
  const free: u32 = ld32(queue + Q_FREE);
  st32(queue + Q_FREE, free > sent ? free - sent : 0);
  if (taken !== sent) count(queue + Q_ERRORS, taken - sent);
  if (sent !== 0) countBurst(queue, sent, bytes);
  // a full ring is told again too: the kernel stops early when it is short of memory
  if (sent !== 0 || taken < packets) st32(queue + Q_NOTIFY, 1);
  return taken;
}

/** Frames free for sending; none: the kernel is asked to go on. */
export function packetRoom(queue: u32): u32 {
  const frames: u32 = ld32(queue + PACKET_FRAMES);
  let free: u32 = 0;
  if (ld32(queue + Q_STATE) === QUEUE_RUNNING) {
    let next: u32 = ld32(queue + PACKET_NEXT);
    while (free < frames && (ld32(frameAt(queue, next) + FRAME_STATUS) & (TP_STATUS_SEND_REQUEST | TP_STATUS_SENDING)) === 0) {
      free++;
      next++;
      if (next === frames) next = 0;
    }
    if (free === 0) st32(queue + Q_NOTIFY, 1);
  }
  st32(queue + Q_FREE, free);
  return free;
}
