/**
 * Where the headers of a frame are: Ethernet, VLAN tags, IPv4 or IPv6 with extension headers, and what is behind them.
 *
 * The result of the last call is in this module's variables, so that nothing is allocated: read them before the next call.
 * @module
 */
import { ld8, ldu16, stu16 } from '../memory/access.ts';
import { addSum, checksumOfSum, networkU16, swapBytes16 } from './checksum.kernel.ts';

/** Types in network order, as a little-endian load sees them. */
export const TYPE_IPV4: u32 = 0x0008;
export const TYPE_IPV6: u32 = 0xdd86;
export const TYPE_VLAN: u32 = 0x0081;
export const TYPE_SERVICE_VLAN: u32 = 0xa888;

export const PROTOCOL_TCP: u32 = 6;
export const PROTOCOL_UDP: u32 = 17;

const HOP_BY_HOP: u32 = 0;
const ROUTING: u32 = 43;
const FRAGMENT: u32 = 44;
const DESTINATION: u32 = 60;

const ETHERNET_BYTES: u32 = 14;

/** 4, 6, or 0 when there is no whole IP header. */
export let ipVersion: u32 = 0;
/** First byte of the IP header, or of what is behind the Ethernet header; from the beginning of the frame. */
export let ipStart: u32 = 0;
/** Last byte of the IP packet, as its header says; may lie behind the frame's. */
export let ipEnd: u32 = 0;
/** The protocol behind the IP headers. */
export let ipProtocol: u32 = 0;
/** First byte behind the IP headers. */
export let transportStart: u32 = 0;
/** 1 for a fragment, first or later. */
export let isFragment: u32 = 0;

/** Skips the extension headers behind the IPv6 header at `start`, as far as they lie in the frame's `length` bytes. */
function skipExtensions(frame: u32, start: u32, length: u32): u32 {
  let at: u32 = start + 40;
  while (at + 8 <= length) {
    if (ipProtocol === FRAGMENT) {
      // offset and more-fragments bit; an atomic fragment (RFC 6946) has neither
      if ((networkU16(frame + at + 2) & 0xfff9) !== 0) isFragment = 1;
      ipProtocol = ld8(frame + at);
      at += 8;
    } else if (ipProtocol === HOP_BY_HOP || ipProtocol === ROUTING || ipProtocol === DESTINATION) {
      ipProtocol = ld8(frame + at);
      at += (ld8(frame + at + 1) + 1) << 3;
    } else return at;
  }
  return at;
}

/**
 * Finds what is in the IP packet that begins at byte `start` of the frame of which `length` bytes are at `frame`.
 * @returns 1 when there is a whole header of that version, else 0
 */
export function parseIp(frame: u32, start: u32, length: u32, version: u32): u32 {
  ipVersion = 0;
  isFragment = 0;
  ipProtocol = 0;
  ipStart = start;
  ipEnd = 0;
  transportStart = 0;
  const ip: u32 = frame + start;
  if (version === 4 && start + 20 <= length) {
    const header: u32 = (ld8(ip) & 15) << 2;
    if (header < 20 || start + header > length) return 0;
    ipVersion = 4;
    ipEnd = start + networkU16(ip + 2);
    ipProtocol = ld8(ip + 9);
    isFragment = (networkU16(ip + 6) & 0x3fff) !== 0 ? 1 : 0;
    transportStart = start + header;
    return 1;
  }
  if (version === 6 && start + 40 <= length) {
    ipVersion = 6;
    ipEnd = start + 40 + networkU16(ip + 4);
    ipProtocol = ld8(ip + 6);
    transportStart = skipExtensions(frame, start, length);
    return 1;
  }
  return 0;
}

/** First byte behind the Ethernet header that begins at byte `start`, and behind its VLAN tags; the type is at the two bytes before. */
export function skipEthernet(frame: u32, start: u32, length: u32): u32 {
  let at: u32 = start + ETHERNET_BYTES;
  while (at + 4 <= length) {
    const type: u32 = ldu16(frame + at - 2);
    if (type !== TYPE_VLAN && type !== TYPE_SERVICE_VLAN) break;
    at += 4;
  }
  return at;
}

/**
 * Finds the headers of an Ethernet frame that begins at byte `start` of the `length` bytes at `frame`: 0, or further on in a tunnel.
 * @returns 1 when there is a whole IPv4 or IPv6 header, else 0
 */
export function parseHeaders(frame: u32, start: u32, length: u32): u32 {
  if (start + ETHERNET_BYTES > length) return 0;
  const at: u32 = skipEthernet(frame, start, length);
  const type: u32 = ldu16(frame + at - 2);
  return parseIp(frame, at, length, type === TYPE_IPV4 ? 4 : type === TYPE_IPV6 ? 6 : 0);
}

/** First byte of the checksum field, counted from the transport header; 0 for a protocol that is neither TCP nor UDP. */
export function checksumField(protocol: u32): u32 {
  if (protocol === PROTOCOL_TCP) return 16;
  return protocol === PROTOCOL_UDP ? 6 : 0;
}

/** First byte of the payload behind the TCP or UDP header that was found; 0 when it is neither, or not whole within `length`. */
export function payloadStart(frame: u32, length: u32): u32 {
  if (ipProtocol === PROTOCOL_UDP) return transportStart + 8 > length ? 0 : transportStart + 8;
  if (ipProtocol !== PROTOCOL_TCP || transportStart + 20 > length) return 0;
  const header: u32 = (ld8(frame + transportStart + 12) >>> 4) << 2;
  return header < 20 || transportStart + header > length ? 0 : transportStart + header;
}

/** The sum of the pseudo header before `bytes` bytes of the transport that was found (RFC 9293, 3.1; RFC 8200, 8.1). */
export function pseudoHeaderSum(frame: u32, bytes: u32): u32 {
  const first: u32 = (ipProtocol << 8) + swapBytes16(bytes);
  return ipVersion === 4 ? addSum(frame + ipStart + 12, 8, first) : addSum(frame + ipStart + 8, 32, first);
}

/** What the field of the transport checksum that was found holds, given the sum of everything. */
export function transportChecksum(sum: u32): u32 {
  return checksumOfSum(sum, ipProtocol === PROTOCOL_UDP ? 1 : 0);
}

/** Stores the checksum of the IPv4 header that was found; IPv6 has none. */
export function storeIpChecksum(frame: u32): void {
  if (ipVersion !== 4) return;
  const ip: u32 = frame + ipStart;
  stu16(ip + 10, 0);
  stu16(ip + 10, ~addSum(ip, transportStart - ipStart, 0) & 0xffff);
}
