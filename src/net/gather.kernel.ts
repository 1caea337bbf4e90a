/**
 * Generic receive offload: segments of a TCP stream over IPv4 that follow each other are put into one large packet, their
 * payloads chained, not copied. What comes between them on the same connection ends the large packet, so that nothing is overtaken.
 * @module
 */
import { ld16, ld32, ld8, ldu16, ldu32, st16, st32, st8, stu16 } from '../memory/access.ts';
import {
  MBUF_DATA,
  MBUF_FLAGS,
  MBUF_HEADER_LENGTH,
  MBUF_LENGTH,
  MBUF_NEXT,
  MBUF_SEGMENT_LENGTH,
  MBUF_SEGMENT_SIZE,
  MBUF_SEGMENTS,
  MBUF_VLAN,
  MBUF_WORK_CHECKSUM,
  MBUF_WORK_SEGMENTS,
  MBUF_WORK_TCP4,
  MBUF_WORK_VLAN,
} from '../memory/mbuf-layout.ts';
import { packetFree } from '../memory/mempool.kernel.ts';
import { networkU16, swapBytes16 } from './checksum.kernel.ts';
import {
  ipEnd,
  ipProtocol,
  ipStart,
  ipVersion,
  isFragment,
  parseHeaders,
  payloadStart,
  PROTOCOL_TCP,
  storeIpChecksum,
  transportStart,
} from './headers.kernel.ts';
import {
  askChecksum,
  CHAIN_BYTES,
  CHAIN_LIMIT,
  CSUM_ASK_TCP,
  CSUM_ASK_TCP_SEGMENTS,
  CSUM_CHAINS,
  CSUM_NEXT_CHAIN,
  CSUM_SWITCHES,
  recomputeTransportChecksum,
} from './recompute-checksums.kernel.ts';

/* A large packet being gathered, u32 each: its handle (0: none), its last mbuf, */
const CHAIN_HEAD: u32 = 0;
const CHAIN_LAST: u32 = 4;
/** the sequence number that would follow it, */
const CHAIN_SEQUENCE: u32 = 8;
/** the payload bytes of its first segment, which only the last may have less of, */
const CHAIN_SIZE: u32 = 12;
/** the IP identification of the last one, how many there are, and where the IP header is. */
const CHAIN_IDENTIFICATION: u32 = 16;
const CHAIN_PACKETS: u32 = 20;
const CHAIN_IP: u32 = 24;

/** mbufs in a large packet, and bytes behind its Ethernet header. */
const SEGMENT_LIMIT: u32 = 64;
const IP_LIMIT: u32 = 65_535;

const TCP_ACK: u32 = 0x10;
const TCP_PSH: u32 = 0x08;
/** Do not fragment, as the first byte of its field. */
const IP_DF: u32 = 0x40;

/** A u32 in network order. */
function networkU32(at: u32): u32 {
  return ((networkU16(at) << 16) | networkU16(at + 2)) >>> 0;
}

function sameBytes(a: u32, b: u32, bytes: u32): u32 {
  for (let at: u32 = 0; at < bytes; at++) if (ld8(a + at) !== ld8(b + at)) return 0;
  return 1;
}

/** Gives a large packet its headers' lengths and checksums, and forgets the chain. */
function finishChain(settings: u32, chain: u32): void {
  const head: u32 = ld32(chain + CHAIN_HEAD);
  st32(chain + CHAIN_HEAD, 0);
  if (ld32(chain + CHAIN_PACKETS) === 1) return;
  const frame: u32 = ld32(head + MBUF_DATA);
  const first: u32 = ld32(head + MBUF_SEGMENT_LENGTH);
  const ip: u32 = ld32(chain + CHAIN_IP);
  stu16(frame + ip + 2, swapBytes16(ld32(head + MBUF_LENGTH) - ip));
  parseHeaders(frame, 0, first);
  storeIpChecksum(frame);
  const switches: u32 = ld32(settings + CSUM_SWITCHES);
  if ((switches & CSUM_ASK_TCP_SEGMENTS) !== 0) {
    // the port may take it apart again where the other side has no use for it
    askChecksum(head, frame);
    st16(head + MBUF_SEGMENT_SIZE, ld32(chain + CHAIN_SIZE));
    st16(head + MBUF_HEADER_LENGTH, payloadStart(frame, first));
    st32(head + MBUF_FLAGS, ld32(head + MBUF_FLAGS) | MBUF_WORK_TCP4);
  } else if ((switches & CSUM_ASK_TCP) !== 0) askChecksum(head, frame);
  else {
    recomputeTransportChecksum(head, frame);
    st32(head + MBUF_FLAGS, ld32(head + MBUF_FLAGS) & ~MBUF_WORK_CHECKSUM);
  }
}

/** Whether a packet of the connection of a chain, whose headers were found, is what follows it. */
function follows(chain: u32, packet: u32, frame: u32, payload: u32): u32 {
  const head: u32 = ld32(chain + CHAIN_HEAD);
  const before: u32 = ld32(head + MBUF_DATA);
  const ip: u32 = frame + ipStart;
  const ipBefore: u32 = before + ld32(chain + CHAIN_IP);
  const transport: u32 = frame + transportStart;
  const transportBefore: u32 = ipBefore + 20;
  const tags: u32 = ld32(head + MBUF_FLAGS) ^ ld32(packet + MBUF_FLAGS);
  if (networkU32(transport + 4) !== ld32(chain + CHAIN_SEQUENCE) || payload > ld32(chain + CHAIN_SIZE)) return 0;
  // another acknowledgement, other options, another header below
  if (ldu32(transport + 8) !== ldu32(transportBefore + 8) || ipStart !== ld32(chain + CHAIN_IP)) return 0;
  if (ld8(transport + 12) !== ld8(transportBefore + 12)) return 0;
  if (sameBytes(transport + 20, transportBefore + 20, ((ld8(transport + 12) >>> 4) << 2) - 20) === 0) return 0;
  if (sameBytes(frame, before, ipStart) === 0 || (tags & MBUF_WORK_VLAN) !== 0) return 0;
  if (ld16(packet + MBUF_VLAN) !== ld16(head + MBUF_VLAN) && (ld32(head + MBUF_FLAGS) & MBUF_WORK_VLAN) !== 0) return 0;
  // type of service; flags, time to live, protocol
  if (ld8(ip + 1) !== ld8(ipBefore + 1) || ldu16(ip + 6) !== ldu16(ipBefore + 6) || ld8(ip + 8) !== ld8(ipBefore + 8)) return 0;
  // the identification means nothing where fragments are forbidden (RFC 6864, 4.1)
  if ((ld8(ip + 6) & IP_DF) === 0 && networkU16(ip + 4) !== ((ld32(chain + CHAIN_IDENTIFICATION) + 1) & 0xffff)) return 0;
  if (ld16(head + MBUF_SEGMENTS) + ld16(packet + MBUF_SEGMENTS) > SEGMENT_LIMIT) return 0;
  return ld32(head + MBUF_LENGTH) - ipStart + payload <= IP_LIMIT ? 1 : 0;
}

function lastMbuf(packet: u32): u32 {
  let mbuf: u32 = packet;
  while (ld32(mbuf + MBUF_NEXT) !== 0) mbuf = ld32(mbuf + MBUF_NEXT);
  return mbuf;
}

/** Chains the payload of a packet behind a large one. */
function append(chain: u32, packet: u32, frame: u32, headers: u32, payload: u32, lcore: u32): void {
  const head: u32 = ld32(chain + CHAIN_HEAD);
  const last: u32 = lastMbuf(packet);
  st32(chain + CHAIN_SEQUENCE, (ld32(chain + CHAIN_SEQUENCE) + payload) >>> 0);
  st32(chain + CHAIN_IDENTIFICATION, networkU16(frame + ipStart + 4));
  st32(chain + CHAIN_PACKETS, ld32(chain + CHAIN_PACKETS) + 1);
  const flags: u32 = ld32(head + MBUF_DATA) + ld32(chain + CHAIN_IP) + 20 + 13;
  st8(flags, ld8(flags) | ld8(frame + transportStart + 13));
  let added: u32 = packet;
  let segments: u32 = ld16(packet + MBUF_SEGMENTS);
  if (segments !== 1) st16(packet + MBUF_SEGMENTS, 1);
  if (ld32(packet + MBUF_SEGMENT_LENGTH) === headers) {
    // no byte of payload in the first mbuf
    added = ld32(packet + MBUF_NEXT);
    segments--;
    st32(packet + MBUF_NEXT, 0);
    packetFree(packet, lcore);
  } else {
    st32(packet + MBUF_DATA, frame + headers);
    st32(packet + MBUF_SEGMENT_LENGTH, ld32(packet + MBUF_SEGMENT_LENGTH) - headers);
  }
  st32(ld32(chain + CHAIN_LAST) + MBUF_NEXT, added);
  st32(chain + CHAIN_LAST, last);
  st16(head + MBUF_SEGMENTS, ld16(head + MBUF_SEGMENTS) + segments);
  st32(head + MBUF_LENGTH, ld32(head + MBUF_LENGTH) + payload);
}

/** The chain of the connection of the packet whose headers were found; 0 when there is none. */
function findChain(settings: u32, frame: u32): u32 {
  const addresses: u32 = frame + ipStart + 12;
  const ports: u32 = frame + transportStart;
  for (let index: u32 = 0; index < CHAIN_LIMIT; index++) {
    const chain: u32 = settings + CSUM_CHAINS + index * CHAIN_BYTES;
    const head: u32 = ld32(chain + CHAIN_HEAD);
    if (head === 0) continue;
    const ip: u32 = ld32(head + MBUF_DATA) + ld32(chain + CHAIN_IP);
    if (ldu32(ip + 20) !== ldu32(ports) || ldu32(ip + 12) !== ldu32(addresses) || ldu32(ip + 16) !== ldu32(addresses + 4)) continue;
    return chain;
  }
  return 0;
}

/** Begins a chain with a packet; the oldest makes room for it. */
function openChain(settings: u32, packet: u32, frame: u32, payload: u32): void {
  const index: u32 = ld32(settings + CSUM_NEXT_CHAIN);
  const chain: u32 = settings + CSUM_CHAINS + index * CHAIN_BYTES;
  st32(settings + CSUM_NEXT_CHAIN, index + 1 === CHAIN_LIMIT ? 0 : index + 1);
  const ip: u32 = ipStart;
  const sequence: u32 = networkU32(frame + transportStart + 4);
  if (ld32(chain + CHAIN_HEAD) !== 0) finishChain(settings, chain);
  st32(chain + CHAIN_HEAD, packet);
  st32(chain + CHAIN_LAST, lastMbuf(packet));
  st32(chain + CHAIN_SEQUENCE, (sequence + payload) >>> 0);
  st32(chain + CHAIN_SIZE, payload);
  st32(chain + CHAIN_IDENTIFICATION, networkU16(frame + ip + 4));
  st32(chain + CHAIN_PACKETS, 1);
  st32(chain + CHAIN_IP, ip);
}

/** Bytes of headers before the payload of a packet that can be part of a large one; 0 for any other. */
function gatherable(packet: u32, frame: u32, first: u32): u32 {
  const flags: u32 = ld8(frame + transportStart + 13);
  const length: u32 = ld32(packet + MBUF_LENGTH);
  if ((flags & ~TCP_PSH) !== TCP_ACK || transportStart !== ipStart + 20 || ipEnd !== length) return 0;
  if ((ld32(packet + MBUF_FLAGS) & MBUF_WORK_SEGMENTS) !== 0) return 0;
  const headers: u32 = payloadStart(frame, first);
  return headers < length ? headers : 0;
}

/** Takes one packet in; returns 1 when it is now part of another. */
function gatherOne(settings: u32, packet: u32, lcore: u32): u32 {
  const frame: u32 = ld32(packet + MBUF_DATA);
  const first: u32 = ld32(packet + MBUF_SEGMENT_LENGTH);
  if (parseHeaders(frame, 0, first) === 0 || ipVersion !== 4 || ipProtocol !== PROTOCOL_TCP || isFragment !== 0) return 0;
  if (transportStart + 20 > first) return 0;
  const headers: u32 = gatherable(packet, frame, first);
  const payload: u32 = ld32(packet + MBUF_LENGTH) - headers;
  const pushed: u32 = ld8(frame + transportStart + 13) & TCP_PSH;
  const chain: u32 = findChain(settings, frame);
  if (chain !== 0) {
    if (headers !== 0 && follows(chain, packet, frame, payload) !== 0) {
      append(chain, packet, frame, headers, payload, lcore);
      if (pushed !== 0 || payload < ld32(chain + CHAIN_SIZE)) finishChain(settings, chain);
      return 1;
    }
    finishChain(settings, chain);
    parseHeaders(frame, 0, first);
  }
  if (headers !== 0 && pushed === 0) openChain(settings, packet, frame, payload);
  return 0;
}

/**
 * Gathers what belongs together among the `count` packets at `from` and those of earlier calls; what is left is listed at `to`,
 * behind the `before` handles that are there. The lists may be the same. Large packets are whole only after finishGathering().
 * @returns handles at `to`
 */
export function gatherPackets(settings: u32, from: u32, count: u32, to: u32, before: u32, lcore: u32): u32 {
  let kept: u32 = before;
  for (let index: u32 = 0; index < count; index++) {
    const packet: u32 = ld32(from + (index << 2));
    if (gatherOne(settings, packet, lcore) !== 0) continue;
    st32(to + (kept << 2), packet);
    kept++;
  }
  return kept;
}

/** Gives every large packet its headers: before any of them is sent. */
export function finishGathering(settings: u32): void {
  for (let index: u32 = 0; index < CHAIN_LIMIT; index++) {
    const chain: u32 = settings + CSUM_CHAINS + index * CHAIN_BYTES;
    if (ld32(chain + CHAIN_HEAD) !== 0) finishChain(settings, chain);
  }
}
