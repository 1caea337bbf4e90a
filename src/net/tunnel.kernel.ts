/**
 * Packets in packets: GTP, VXLAN, VXLAN-GPE, Geneve, GRE, and IP in IP, by the ports and types that are theirs.
 * @module
 */
import { ld8 } from '../memory/access.ts';
import { networkU16 } from './checksum.kernel.ts';
import { ipEnd, ipProtocol, parseHeaders, parseIp, PROTOCOL_UDP, transportStart } from './headers.kernel.ts';

const PROTOCOL_IPV4: u32 = 4;
const PROTOCOL_IPV6: u32 = 41;
const PROTOCOL_GRE: u32 = 47;

/** UDP destinations: 3GPP TS 29.281, RFC 7348, draft-ietf-nvo3-vxlan-gpe, RFC 8926. */
const PORT_GTP: u32 = 2152;
const PORT_VXLAN: u32 = 4789;
const PORT_VXLAN_GPE: u32 = 4790;
const PORT_GENEVE: u32 = 6081;

const ETHERTYPE_IPV4: u32 = 0x0800;
const ETHERTYPE_IPV6: u32 = 0x86dd;
/** Transparent Ethernet bridging. */
const ETHERTYPE_BRIDGING: u32 = 0x6558;

const GTP_USER_DATA: u32 = 0xff;
const UDP_BYTES: u32 = 8;

/** What is inside: an IP version, ETHERNET, or 0 when this is no tunnel. */
const ETHERNET: u32 = 1;
let inside: u32 = 0;

function insideOfType(type: u32): u32 {
  if (type === ETHERTYPE_IPV4) return 4;
  if (type === ETHERTYPE_IPV6) return 6;
  return type === ETHERTYPE_BRIDGING ? ETHERNET : 0;
}

/** 4 or 6 by the first nibble of an IP header. */
function insideOfVersion(at: u32): u32 {
  const version: u32 = ld8(at) >>> 4;
  return version === 4 || version === 6 ? version : 0;
}

/** First byte inside a UDP datagram of at least 16 bytes at byte `udp` of the frame; sets `inside`. */
function lookIntoUdp(frame: u32, udp: u32, length: u32): u32 {
  const port: u32 = networkU16(frame + udp + 2);
  const at: u32 = udp + UDP_BYTES;
  if (port === PORT_VXLAN) {
    inside = ETHERNET;
    return at + 8;
  }
  if (port === PORT_VXLAN_GPE) {
    const next: u32 = ld8(frame + at + 3);
    inside = next <= 1 ? 4 : next === 2 ? 6 : next === 3 ? ETHERNET : 0;
    return at + 8;
  }
  if (port === PORT_GENEVE) {
    inside = insideOfType(networkU16(frame + at + 2));
    return at + 8 + ((ld8(frame + at) & 0x3f) << 2);
  }
  if (port === PORT_GTP && ld8(frame + at + 1) === GTP_USER_DATA) {
    // any of the three flags brings all three fields
    const start: u32 = at + ((ld8(frame + at) & 7) !== 0 ? 12 : 8);
    if (start < length) inside = insideOfVersion(frame + start);
    return start;
  }
  return 0;
}

/**
 * Finds the headers inside a tunnel: to be called with the outer ones found (headers.kernel.ts), which are then forgotten.
 * @returns 1 when there is a whole IP header inside that does not reach out of the tunnel
 */
export function parseInside(frame: u32, length: u32): u32 {
  const end: u32 = ipEnd;
  const transport: u32 = transportStart;
  const protocol: u32 = ipProtocol;
  let start: u32 = transport;
  inside = 0;
  if (protocol === PROTOCOL_UDP) {
    if (transport + UDP_BYTES + 8 > length) return 0;
    start = lookIntoUdp(frame, transport, length);
  } else if (protocol === PROTOCOL_GRE) {
    if (transport + 4 > length) return 0;
    const flags: u32 = ld8(frame + transport);
    inside = insideOfType(networkU16(frame + transport + 2));
    // checksum, key, sequence number
    start = transport + 4 + ((flags & 0x80) >>> 5) + ((flags & 0x20) >>> 3) + ((flags & 0x10) >>> 2);
  } else if (protocol === PROTOCOL_IPV4 || protocol === PROTOCOL_IPV6) {
    if (transport < length) inside = insideOfVersion(frame + transport);
  }
  if (inside === 0) return 0;
  const found: u32 = inside === ETHERNET ? parseHeaders(frame, start, length) : parseIp(frame, start, length, inside);
  return found !== 0 && ipEnd <= end ? 1 : 0;
}
