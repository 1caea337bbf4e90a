/**
 * Finishing a partial checksum: the sender left the sum of the pseudo header in the field, for a network card to add the rest
 * (Linux's CHECKSUM_PARTIAL).
 * @module
 */
import { ld8, ldu16, ldu32, stu16 } from '../memory/access.ts';

/** Types in network order, as a little-endian load sees them. */
const TYPE_IPV4: u32 = 0x0008;
const TYPE_IPV6: u32 = 0xdd86;
const TYPE_VLAN: u32 = 0x0081;
const TYPE_SERVICE_VLAN: u32 = 0xa888;
const PROTOCOL_TCP: u32 = 6;
const PROTOCOL_UDP: u32 = 17;
const HOP_BY_HOP: u32 = 0;
const ROUTING: u32 = 43;
const DESTINATION: u32 = 60;

function networkU16(at: u32): u32 {
  return (ld8(at) << 8) | ld8(at + 1);
}

/** Adds the 16-bit words of up to 64 KiB to a sum, in the order in which they lie in memory; not folded. */
function addWords(from: u32, bytes: u32, start: u32): u32 {
  let sum: u32 = start;
  let at: u32 = from;
  const end: u32 = from + bytes;
  while (at + 4 <= end) {
    const word: u32 = ldu32(at);
    sum += (word & 0xffff) + (word >>> 16);
    at += 4;
  }
  if (at + 2 <= end) {
    sum += ldu16(at);
    at += 2;
  }
  if (at < end) sum += ld8(at);
  return sum;
}

function fold(value: u32): u32 {
  let sum: u32 = (value & 0xffff) + (value >>> 16);
  sum = (sum & 0xffff) + (sum >>> 16);
  return (sum & 0xffff) + (sum >>> 16);
}

/** Finishes the checksum of the `bytes` at `transport`, the pseudo header's addresses having the sum `addresses`. */
function finish(transport: u32, bytes: u32, protocol: u32, addresses: u32): u32 {
  if (protocol !== PROTOCOL_TCP && protocol !== PROTOCOL_UDP) return 0;
  const field: u32 = protocol === PROTOCOL_TCP ? 16 : 6;
  if (bytes < field + 2) return 0;
  const pseudo: u32 = fold(addresses + (protocol << 8) + (((bytes >>> 8) | (bytes << 8)) & 0xffff));
  // anything else is not the sum of this pseudo header: a tunnel's inner packet, or no partial checksum at all
  if (ldu16(transport + field) !== pseudo) return 0;
  let sum: u32 = ~fold(addWords(transport, bytes, 0)) & 0xffff;
  if (sum === 0 && protocol === PROTOCOL_UDP) sum = 0xffff;
  stu16(transport + field, sum);
  return 1;
}

/**
 * Finishes the TCP or UDP checksum of the Ethernet frame at `packet`, VLAN tags and IPv6 extension headers aside.
 * @returns 1, or 0 when there is no partial checksum where it ought to be
 */
export function finishChecksum(packet: u32, length: u32): u32 {
  let at: u32 = 14;
  if (length < at) return 0;
  let type: u32 = ldu16(packet + at - 2);
  while ((type === TYPE_VLAN || type === TYPE_SERVICE_VLAN) && at + 4 <= length) {
    at += 4;
    type = ldu16(packet + at - 2);
  }
  const ip: u32 = packet + at;
  const left: u32 = length - at;
  if (type === TYPE_IPV4) {
    if (left < 20) return 0;
    const header: u32 = (ld8(ip) & 15) << 2;
    const total: u32 = networkU16(ip + 2);
    if (header < 20 || total < header || total > left) return 0;
    return finish(ip + header, total - header, ld8(ip + 9), addWords(ip + 12, 8, 0));
  }
  if (type !== TYPE_IPV6 || left < 40) return 0;
  const payload: u32 = networkU16(ip + 4);
  if (payload > left - 40) return 0;
  let protocol: u32 = ld8(ip + 6);
  let before: u32 = 0;
  while ((protocol === HOP_BY_HOP || protocol === ROUTING || protocol === DESTINATION) && before + 8 <= payload) {
    protocol = ld8(ip + 40 + before);
    before += (ld8(ip + 40 + before + 1) + 1) << 3;
  }
  if (before > payload) return 0;
  return finish(ip + 40 + before, payload - before, protocol, addWords(ip + 8, 32, 0));
}
