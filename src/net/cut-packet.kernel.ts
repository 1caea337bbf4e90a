/**
 * Cutting a large packet (TSO, USO, LRO) into packets that fit the wire, in software, for a port that cannot.
 *
 * What the packet says about itself in MBUF_HEADER_LENGTH came from a peer and is a hint only (virtio 1.2, 5.1.6.2): headers are
 * found by reading them, in a copy at the front of the first new packet, where they lie in one piece.
 * @module
 */
import { copyBytes, ld16, ld32, ld8, ldu32, st16, st32, st8, stu16, stu32 } from '../memory/access.ts';
import {
  MBUF_CHECKSUM_OFFSET,
  MBUF_CHECKSUM_START,
  MBUF_DATA,
  MBUF_FLAGS,
  MBUF_HASH,
  MBUF_HEADROOM,
  MBUF_LENGTH,
  MBUF_NEXT,
  MBUF_PORT,
  MBUF_ROOM,
  MBUF_SEGMENT_LENGTH,
  MBUF_SEGMENT_SIZE,
  MBUF_SEGMENTS,
  MBUF_USER,
  MBUF_VLAN,
  MBUF_WORK_CHECKSUM,
  MBUF_WORK_ECN,
  MBUF_WORK_SEGMENTS,
  MBUF_WORK_TCP4,
  MBUF_WORK_TCP6,
  MBUF_WORK_UDP,
} from '../memory/mbuf-layout.ts';
import { mbufAllocate, packetsFree } from '../memory/mempool.kernel.ts';
import { addPacketSum, networkU16, swapBytes16 } from './checksum.kernel.ts';
import {
  checksumField,
  ipProtocol,
  ipStart,
  ipVersion,
  isFragment,
  parseHeaders,
  payloadStart,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  pseudoHeaderSum,
  storeIpChecksum,
  transportChecksum,
  transportStart,
} from './headers.kernel.ts';

/** cutPacket: the packet cannot be cut, whatever mbufs there are. */
export const CUT_MALFORMED: u32 = 0xffffffff;

const MORE_FRAGMENTS: u32 = 0x2000;
const TCP_SEQUENCE: u32 = 4;
const TCP_FLAGS: u32 = 13;
const TCP_FIN_PSH: u32 = 0x09;
const TCP_CWR: u32 = 0x80;

/** Where cutPacket reads: a segment of the large packet, and a byte of it. */
let source: u32 = 0;
let sourceAt: u32 = 0;

/** Copies the next bytes of the large packet to `to`. */
function readOn(to: u32, bytes: u32): void {
  let done: u32 = 0;
  while (done < bytes && source !== 0) {
    const left: u32 = ld32(source + MBUF_SEGMENT_LENGTH) - sourceAt;
    const wanted: u32 = bytes - done;
    const part: u32 = left < wanted ? left : wanted;
    copyBytes(to + done, ld32(source + MBUF_DATA) + sourceAt, part);
    done += part;
    sourceAt += part;
    if (part === left) {
      source = ld32(source + MBUF_NEXT);
      sourceAt = 0;
    }
  }
}

/** Starts reading at a byte of the packet. */
function readFrom(packet: u32, place: u32): void {
  source = packet;
  sourceAt = place;
  while (source !== 0 && sourceAt >= ld32(source + MBUF_SEGMENT_LENGTH)) {
    sourceAt -= ld32(source + MBUF_SEGMENT_LENGTH);
    source = ld32(source + MBUF_NEXT);
  }
}

/** Bytes of headers before the payload in the `length` bytes at `frame`; 0 when they are not what the flags say. */
function headerBytes(frame: u32, length: u32, flags: u32): u32 {
  if (parseHeaders(frame, 0, length) === 0 || isFragment !== 0) return 0;
  const kind: u32 = flags & MBUF_WORK_SEGMENTS;
  const tcp: u32 = ipVersion === 4 ? MBUF_WORK_TCP4 : MBUF_WORK_TCP6;
  if (kind !== (ipProtocol === PROTOCOL_UDP ? MBUF_WORK_UDP : tcp)) return 0;
  return payloadStart(frame, length);
}

/** Fills one mbuf, or a chain of them, with the next `bytes` of payload behind `headers` bytes; 0 when mbufs ran out. */
function fillPacket(head: u32, headers: u32, bytes: u32, pool: u32, lcore: u32, scratch: u32): u32 {
  const room: u32 = ld32(head + MBUF_ROOM) - MBUF_HEADROOM;
  let part: u32 = headers + bytes < room ? bytes : room - headers;
  readOn(ld32(head + MBUF_DATA) + headers, part);
  st32(head + MBUF_SEGMENT_LENGTH, headers + part);
  st32(head + MBUF_LENGTH, headers + bytes);
  let done: u32 = part;
  let last: u32 = head;
  let segments: u32 = 1;
  while (done < bytes) {
    const found: u32 = mbufAllocate(pool, lcore, scratch, 1);
    const more: u32 = ld32(scratch);
    st32(scratch, head);
    if (found === 0) return 0;
    const left: u32 = bytes - done;
    part = left < room ? left : room;
    readOn(ld32(more + MBUF_DATA), part);
    st32(more + MBUF_SEGMENT_LENGTH, part);
    st32(last + MBUF_NEXT, more);
    last = more;
    segments++;
    st16(head + MBUF_SEGMENTS, segments);
    done += part;
  }
  return 1;
}

/** What a packet has besides its bytes. */
function copyMetadata(to: u32, from: u32): void {
  st32(to + MBUF_FLAGS, ld32(from + MBUF_FLAGS) & ~(MBUF_WORK_SEGMENTS | MBUF_WORK_ECN | MBUF_WORK_CHECKSUM));
  st16(to + MBUF_PORT, ld16(from + MBUF_PORT));
  st16(to + MBUF_VLAN, ld16(from + MBUF_VLAN));
  st32(to + MBUF_HASH, ld32(from + MBUF_HASH));
  st32(to + MBUF_USER, ld32(from + MBUF_USER));
  st32(to + MBUF_USER + 4, ld32(from + MBUF_USER + 4));
}

/** A u32 in network order, as a little-endian access sees it, and back. */
function swapBytes32(value: u32): u32 {
  return ((value << 24) | ((value & 0xff00) << 8) | ((value >>> 8) & 0xff00) | (value >>> 24)) >>> 0;
}

/** Lengths, identification and checksum of the IP header of packet number `index`. */
function writeIpHeader(frame: u32, length: u32, index: u32): void {
  const ip: u32 = frame + ipStart;
  if (ipVersion === 6) {
    stu16(ip + 4, swapBytes16(length - ipStart - 40));
    return;
  }
  stu16(ip + 2, swapBytes16(length - ipStart));
  stu16(ip + 4, swapBytes16((networkU16(ip + 4) + index) & 0xffff));
  storeIpChecksum(frame);
}

/** The transport header of packet number `index`, whose payload begins at byte `done` of all; the checksum field is left with the pseudo header's sum. */
function writeTransportHeader(frame: u32, length: u32, index: u32, done: u32, last: u32): void {
  const transport: u32 = frame + transportStart;
  const bytes: u32 = length - transportStart;
  if (ipProtocol === PROTOCOL_TCP) {
    const sequence: u32 = swapBytes32(ldu32(transport + TCP_SEQUENCE));
    stu32(transport + TCP_SEQUENCE, swapBytes32((sequence + done) >>> 0));
    let flags: u32 = ld8(transport + TCP_FLAGS);
    if (last === 0) flags &= ~TCP_FIN_PSH;
    // the receiver shall learn once that the window was reduced (RFC 3168, 6.1.2)
    if (index !== 0) flags &= ~TCP_CWR;
    st8(transport + TCP_FLAGS, flags);
  } else stu16(transport + 4, swapBytes16(bytes));
  stu16(transport + checksumField(ipProtocol), pseudoHeaderSum(frame, bytes));
}

/** Finishes the checksum of a packet that this module has made, or leaves it to the port. */
function finishTransport(packet: u32, keepChecksum: u32): void {
  const field: u32 = checksumField(ipProtocol);
  if (keepChecksum !== 0) {
    st16(packet + MBUF_CHECKSUM_START, transportStart);
    st16(packet + MBUF_CHECKSUM_OFFSET, field);
    st32(packet + MBUF_FLAGS, ld32(packet + MBUF_FLAGS) | MBUF_WORK_CHECKSUM);
    return;
  }
  const sum: u32 = addPacketSum(packet, transportStart, ld32(packet + MBUF_LENGTH), 0);
  stu16(ld32(packet + MBUF_DATA) + transportStart + field, transportChecksum(sum));
}

/** Takes `packets` mbufs, the first of them being there already; all or none. */
function allocateRest(pool: u32, lcore: u32, to: u32, packets: u32): u32 {
  if (packets === 1 || mbufAllocate(pool, lcore, to + 4, packets - 1) !== 0) return 1;
  packetsFree(to, 1, lcore);
  return 0;
}

/**
 * Cuts a packet with MBUF_WORK_TCP4, MBUF_WORK_TCP6 or MBUF_WORK_UDP into packets of MBUF_SEGMENT_SIZE bytes of payload out of
 * `pool`; their handles are written to `to`, room for `limit`. Each has headers of its own: lengths, identification counted up,
 * sequence number, FIN and PSH in the last, CWR in the first. With `keepChecksum` 1 the transport checksum is left to the port
 * (MBUF_WORK_CHECKSUM), else it is finished. The large packet stays as it is, and the caller's.
 * @returns the number of packets; 0 when mbufs ran out, CUT_MALFORMED when the headers are not what the flags say or more than
 *   `limit` packets would come out: then nothing is kept
 */
export function cutPacket(packet: u32, pool: u32, lcore: u32, to: u32, limit: u32, keepChecksum: u32): u32 {
  const size: u32 = ld16(packet + MBUF_SEGMENT_SIZE);
  const length: u32 = ld32(packet + MBUF_LENGTH);
  if (size === 0 || limit === 0) return CUT_MALFORMED;
  if (mbufAllocate(pool, lcore, to, 1) === 0) return 0;
  const first: u32 = ld32(to);
  const room: u32 = ld32(first + MBUF_ROOM) - MBUF_HEADROOM;
  const front: u32 = ld32(first + MBUF_DATA);
  const looked: u32 = length < room ? length : room;
  readFrom(packet, 0);
  readOn(front, looked);
  const headers: u32 = headerBytes(front, looked, ld32(packet + MBUF_FLAGS));
  const payload: u32 = length - headers;
  const packets: u32 = payload === 0 ? 1 : ((payload + size - 1) / size) >>> 0;
  if (headers === 0 || packets > limit) {
    packetsFree(to, 1, lcore);
    return CUT_MALFORMED;
  }
  if (allocateRest(pool, lcore, to, packets) === 0) return 0;
  // the first one last: the others are given its headers as they came
  readFrom(packet, headers + (payload < size ? payload : size));
  for (let turn: u32 = 1; turn <= packets; turn++) {
    const index: u32 = turn === packets ? 0 : turn;
    const head: u32 = ld32(to + (index << 2));
    const done: u32 = index * size;
    const bytes: u32 = payload - done < size ? payload - done : size;
    if (index === 0) readFrom(packet, headers);
    else copyBytes(ld32(head + MBUF_DATA), front, headers);
    if (fillPacket(head, headers, bytes, pool, lcore, to + (index << 2)) === 0) {
      packetsFree(to, packets, lcore);
      return 0;
    }
    copyMetadata(head, packet);
    const frame: u32 = ld32(head + MBUF_DATA);
    writeIpHeader(frame, headers + bytes, index);
    writeTransportHeader(frame, headers + bytes, index, done, index === packets - 1 ? 1 : 0);
    finishTransport(head, keepChecksum);
  }
  return packets;
}

/**
 * Cuts an IPv4 packet into fragments (RFC 791, 3.2) that are no longer than `size` bytes with their Ethernet header; whether it
 * forbids that does not matter here. Its transport checksum must be finished. For the rest as cutPacket().
 */
export function cutFragments(packet: u32, pool: u32, lcore: u32, to: u32, limit: u32, size: u32): u32 {
  const length: u32 = ld32(packet + MBUF_LENGTH);
  if (limit === 0 || mbufAllocate(pool, lcore, to, 1) === 0) return limit === 0 ? CUT_MALFORMED : 0;
  const first: u32 = ld32(to);
  const room: u32 = ld32(first + MBUF_ROOM) - MBUF_HEADROOM;
  const front: u32 = ld32(first + MBUF_DATA);
  const looked: u32 = length < room ? length : room;
  readFrom(packet, 0);
  readOn(front, looked);
  const found: u32 = parseHeaders(front, 0, looked);
  const headers: u32 = transportStart;
  // offsets count units of eight bytes
  const part: u32 = size > headers ? (size - headers) & 0xfff8 : 0;
  const payload: u32 = length - headers;
  const packets: u32 = part === 0 ? 0 : ((payload + part - 1) / part) >>> 0;
  if (found === 0 || ipVersion !== 4 || headers !== ipStart + 20 || isFragment !== 0 || packets === 0 || packets > limit) {
    packetsFree(to, 1, lcore);
    return CUT_MALFORMED;
  }
  if (allocateRest(pool, lcore, to, packets) === 0) return 0;
  readFrom(packet, headers);
  for (let index: u32 = 0; index < packets; index++) {
    const head: u32 = ld32(to + (index << 2));
    const frame: u32 = ld32(head + MBUF_DATA);
    const done: u32 = index * part;
    const bytes: u32 = payload - done < part ? payload - done : part;
    if (index !== 0) copyBytes(frame, front, headers);
    if (fillPacket(head, headers, bytes, pool, lcore, to + (index << 2)) === 0) {
      packetsFree(to, packets, lcore);
      return 0;
    }
    copyMetadata(head, packet);
    stu16(frame + ipStart + 6, swapBytes16((done >>> 3) | (index === packets - 1 ? 0 : MORE_FRAGMENTS)));
    writeIpHeader(frame, headers + bytes, 0);
  }
  return packets;
}
