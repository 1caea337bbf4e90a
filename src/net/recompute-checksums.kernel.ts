/**
 * What the csum engine does to a burst: addresses, checksums recomputed or asked of the port, segmentation asked of the port.
 * @module
 */
import { copyBytes, ld16, ld32, ldu16, st16, st32, stu16 } from '../memory/access.ts';
import {
  MBUF_CHECKSUM_BAD,
  MBUF_CHECKSUM_OFFSET,
  MBUF_CHECKSUM_START,
  MBUF_DATA,
  MBUF_FLAGS,
  MBUF_HEADER_LENGTH,
  MBUF_IP_CHECKSUM_BAD,
  MBUF_LENGTH,
  MBUF_SEGMENT_LENGTH,
  MBUF_SEGMENT_SIZE,
  MBUF_WORK_CHECKSUM,
  MBUF_WORK_SEGMENTS,
  MBUF_WORK_TCP4,
  MBUF_WORK_TCP6,
  MBUF_WORK_UDP,
} from '../memory/mbuf-layout.ts';
import { addPacketSum } from './checksum.kernel.ts';
import {
  checksumField,
  ipEnd,
  ipProtocol,
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
import { parseInside } from './tunnel.kernel.ts';

/* A stream's settings of the csum engine, u32 each; also those of gather.kernel.ts and cut-large.kernel.ts. */
/** CSUM_ASK_* and what else is switched on. */
export const CSUM_SWITCHES: u32 = 0;
/** `tso set`: payload bytes of the segments; 0: off. */
export const CSUM_SEGMENT_SIZE: u32 = 4;
/** `set gso segsz`: bytes of the longest packet, headers included; 0: gso is off. */
export const CSUM_GSO_SIZE: u32 = 8;
/** Pool of the packets that gso makes. */
export const CSUM_POOL: u32 = 12;
/** Where cutLargePackets() goes on. */
export const CSUM_NEXT: u32 = 16;
/** Packets that cutLargePackets() had to drop, since it was last set to 0. */
export const CSUM_LOST: u32 = 20;
/** Wrong checksums among the packets received, since they were last set to 0: IP's, and TCP's or UDP's. */
export const CSUM_BAD_IP: u32 = 24;
export const CSUM_BAD_TRANSPORT: u32 = 28;
/** `set gro flush`: bursts from which packets are gathered; 0: gro is off. */
export const CSUM_GRO_CYCLES: u32 = 32;
/** The chains that gatherPackets() has open, and the one to give up next. */
export const CSUM_NEXT_CHAIN: u32 = 36;
/** Handles held back for gro, and from how many bursts. */
export const CSUM_HELD: u32 = 40;
export const CSUM_HELD_BURSTS: u32 = 44;
export const CSUM_CHAINS: u32 = 64;
export const CHAIN_BYTES: u32 = 32;
export const CHAIN_LIMIT: u32 = 16;
export const CSUM_BYTES: u32 = 64 + 32 * 16;

/** The port computes TCP's checksums, UDP's; cuts TCP segments, UDP datagrams. */
export const CSUM_ASK_TCP: u32 = 1;
export const CSUM_ASK_UDP: u32 = 2;
export const CSUM_ASK_TCP_SEGMENTS: u32 = 4;
export const CSUM_ASK_UDP_SEGMENTS: u32 = 8;
/** Tunnels are looked into. */
export const CSUM_TUNNELS: u32 = 16;
/** Ethernet addresses are rewritten. */
export const CSUM_ADDRESSES: u32 = 32;

/** Leaves the checksum of the transport header that was found to the port: the pseudo header's sum, and where it is. */
export function askChecksum(packet: u32, frame: u32): void {
  const field: u32 = checksumField(ipProtocol);
  stu16(frame + transportStart + field, pseudoHeaderSum(frame, ipEnd - transportStart));
  st16(packet + MBUF_CHECKSUM_START, transportStart);
  st16(packet + MBUF_CHECKSUM_OFFSET, field);
  st32(packet + MBUF_FLAGS, ld32(packet + MBUF_FLAGS) | MBUF_WORK_CHECKSUM);
}

/** Stores the checksum of the TCP or UDP packet that was found. */
export function recomputeTransportChecksum(packet: u32, frame: u32): void {
  const at: u32 = frame + transportStart + checksumField(ipProtocol);
  stu16(at, 0);
  stu16(at, transportChecksum(addPacketSum(packet, transportStart, ipEnd, pseudoHeaderSum(frame, ipEnd - transportStart))));
}

/** Whether the headers that were found end in a whole TCP or UDP header, of which `first` bytes are in one piece, with a checksum. */
function hasTransport(packet: u32, frame: u32, first: u32): u32 {
  const field: u32 = checksumField(ipProtocol);
  if (isFragment !== 0 || field === 0 || ipEnd > ld32(packet + MBUF_LENGTH)) return 0;
  const end: u32 = transportStart + field + 2;
  if (end > first || end > ipEnd) return 0;
  // a datagram without a checksum stays without (RFC 768)
  return ipProtocol === PROTOCOL_UDP && ldu16(frame + transportStart + field) === 0 ? 0 : 1;
}

/** The segmentation that `tso set` asks for, as MBUF_WORK_*; 0 for none. */
function wantedSegments(settings: u32, packet: u32, frame: u32, first: u32): u32 {
  const size: u32 = ld32(settings + CSUM_SEGMENT_SIZE);
  const length: u32 = ld32(packet + MBUF_LENGTH);
  if (size === 0 || ipEnd !== length) return 0;
  const switches: u32 = ld32(settings + CSUM_SWITCHES);
  const headers: u32 = payloadStart(frame, first);
  if (headers === 0 || length <= headers + size) return 0;
  if (ipProtocol === PROTOCOL_TCP) {
    if ((switches & CSUM_ASK_TCP_SEGMENTS) === 0) return 0;
    return ipVersion === 4 ? MBUF_WORK_TCP4 : MBUF_WORK_TCP6;
  }
  return (switches & CSUM_ASK_UDP_SEGMENTS) === 0 ? 0 : MBUF_WORK_UDP;
}

/** Asks for segmentation; what a packet received large says of its segments holds, unless they are too large. */
function askSegments(settings: u32, packet: u32, frame: u32, first: u32, kind: u32): void {
  const flags: u32 = ld32(packet + MBUF_FLAGS);
  const size: u32 = ld32(settings + CSUM_SEGMENT_SIZE);
  if ((flags & MBUF_WORK_SEGMENTS) !== 0) {
    if (ld16(packet + MBUF_SEGMENT_SIZE) > size) st16(packet + MBUF_SEGMENT_SIZE, size);
    return;
  }
  if ((flags & MBUF_WORK_CHECKSUM) === 0) askChecksum(packet, frame);
  st16(packet + MBUF_SEGMENT_SIZE, size);
  st16(packet + MBUF_HEADER_LENGTH, payloadStart(frame, first));
  st32(packet + MBUF_FLAGS, ld32(packet + MBUF_FLAGS) | kind);
}

/** The transport checksum of the headers that were found; `switches` says what the port may be asked. */
function handleTransport(settings: u32, packet: u32, frame: u32, first: u32, switches: u32): void {
  if (hasTransport(packet, frame, first) === 0) return;
  const kind: u32 = (switches & (CSUM_ASK_TCP_SEGMENTS | CSUM_ASK_UDP_SEGMENTS)) === 0 ? 0 : wantedSegments(settings, packet, frame, first);
  if (kind !== 0) {
    askSegments(settings, packet, frame, first, kind);
    return;
  }
  // work that came with the packet goes on with it
  if ((ld32(packet + MBUF_FLAGS) & MBUF_WORK_CHECKSUM) !== 0) return;
  const ask: u32 = switches & (ipProtocol === PROTOCOL_TCP ? CSUM_ASK_TCP : CSUM_ASK_UDP);
  // a port sums to the packet's end
  if (ask !== 0 && ipEnd === ld32(packet + MBUF_LENGTH)) askChecksum(packet, frame);
  else recomputeTransportChecksum(packet, frame);
}

/** A tunnel's inner packet first, then the outer one; returns 0 when there is no tunnel. */
function handleTunnel(settings: u32, packet: u32, frame: u32, first: u32, switches: u32): u32 {
  const covered: u32 = ipProtocol === PROTOCOL_UDP ? hasTransport(packet, frame, first) : 0;
  if (isFragment !== 0 || parseInside(frame, first) === 0) {
    parseHeaders(frame, 0, first);
    return 0;
  }
  const partial: u32 = ld32(packet + MBUF_FLAGS) & MBUF_WORK_CHECKSUM;
  storeIpChecksum(frame);
  // the outer datagram's checksum covers the inner one, which must be there then; no port is asked to cut what is in a tunnel
  const askable: u32 = covered !== 0 ? 0 : switches & (CSUM_ASK_TCP | CSUM_ASK_UDP);
  handleTransport(settings, packet, frame, first, askable);
  parseHeaders(frame, 0, first);
  storeIpChecksum(frame);
  if (covered !== 0 && partial === 0) recomputeTransportChecksum(packet, frame);
  return 1;
}

function handlePacket(settings: u32, packet: u32, switches: u32): void {
  const frame: u32 = ld32(packet + MBUF_DATA);
  const first: u32 = ld32(packet + MBUF_SEGMENT_LENGTH);
  if (parseHeaders(frame, 0, first) === 0) return;
  if ((switches & CSUM_TUNNELS) !== 0 && handleTunnel(settings, packet, frame, first, switches) !== 0) return;
  storeIpChecksum(frame);
  handleTransport(settings, packet, frame, first, switches);
}

/**
 * Handles a burst: addresses (12 bytes at `addresses`), IPv4 header checksums, TCP and UDP checksums. What cannot be parsed keeps
 * its bytes; what was received with a partial checksum or for segmentation keeps that.
 */
export function recomputeChecksums(settings: u32, addresses: u32, mbufs: u32, packets: u32): void {
  const switches: u32 = ld32(settings + CSUM_SWITCHES);
  let badIp: u32 = 0;
  let badTransport: u32 = 0;
  for (let index: u32 = 0; index < packets; index++) {
    const packet: u32 = ld32(mbufs + (index << 2));
    const flags: u32 = ld32(packet + MBUF_FLAGS);
    if ((flags & (MBUF_CHECKSUM_BAD | MBUF_IP_CHECKSUM_BAD)) !== 0) {
      if ((flags & MBUF_IP_CHECKSUM_BAD) !== 0) badIp++;
      if ((flags & MBUF_CHECKSUM_BAD) !== 0) badTransport++;
      st32(packet + MBUF_FLAGS, flags & ~(MBUF_CHECKSUM_BAD | MBUF_IP_CHECKSUM_BAD));
    }
    if ((switches & CSUM_ADDRESSES) !== 0) copyBytes(ld32(packet + MBUF_DATA), addresses, 12);
    handlePacket(settings, packet, switches);
  }
  st32(settings + CSUM_BAD_IP, ld32(settings + CSUM_BAD_IP) + badIp);
  st32(settings + CSUM_BAD_TRANSPORT, ld32(settings + CSUM_BAD_TRANSPORT) + badTransport);
}
