/**
 * Where the headers of a frame are: Ethernet, VLAN tags, IPv4 or IPv6 with extension headers, and what is behind them.
 *
 * The result of the last call is in this module's variables, so that nothing is allocated: read them before the next call.
 * @module
 */
import { ld8, ldu16 } from '../memory/access.ts';
import { networkU16 } from './checksum.kernel.ts';

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
 * Finds the headers of the Ethernet frame of which `length` bytes are at `frame`.
 * @returns 1 when there is a whole IPv4 or IPv6 header, else 0
 */
export function parseHeaders(frame: u32, length: u32): u32 {
  ipVersion = 0;
  isFragment = 0;
  ipProtocol = 0;
  ipStart = ETHERNET_BYTES;
  ipEnd = 0;
  transportStart = 0;
  if (length < ETHERNET_BYTES) return 0;
  let at: u32 = ETHERNET_BYTES;
  let type: u32 = ldu16(frame + at - 2);
  while ((type === TYPE_VLAN || type === TYPE_SERVICE_VLAN) && at + 4 <= length) {
    at += 4;
    type = ldu16(frame + at - 2);
  }
  ipStart = at;
  const ip: u32 = frame + at;
  if (type === TYPE_IPV4 && at + 20 <= length) {
    const header: u32 = (ld8(ip) & 15) << 2;
    if (header < 20 || at + header > length) return 0;
    ipVersion = 4;
    ipEnd = at + networkU16(ip + 2);
    ipProtocol = ld8(ip + 9);
    isFragment = (networkU16(ip + 6) & 0x3fff) !== 0 ? 1 : 0;
    transportStart = at + header;
    return 1;
  }
  if (type === TYPE_IPV6 && at + 40 <= length) {
    ipVersion = 6;
    ipEnd = at + 40 + networkU16(ip + 4);
    ipProtocol = ld8(ip + 6);
    transportStart = skipExtensions(frame, at, length);
    return 1;
  }
  return 0;
}

/** First byte of the checksum field, counted from the transport header; 0 for a protocol that is neither TCP nor UDP. */
export function checksumField(protocol: u32): u32 {
  if (protocol === PROTOCOL_TCP) return 16;
  return protocol === PROTOCOL_UDP ? 6 : 0;
}
