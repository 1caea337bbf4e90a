/**
 * What forwarding engines do to packets: Ethernet addresses and the 5-tuple.
 * @module
 */
import { copyBytes, ld32, ld8, ldu16, ldu32, stu16, stu32 } from '../memory/access.ts';
import { MBUF_DATA, MBUF_SEGMENT_LENGTH } from '../memory/mbuf-layout.ts';
import { PROTOCOL_TCP, PROTOCOL_UDP, TYPE_IPV4, TYPE_IPV6, TYPE_VLAN } from './headers.kernel.ts';

/** Gives every packet the destination and source address whose 12 bytes are at `addresses`. */
export function setEthernetAddresses(mbufs: u32, packets: u32, addresses: u32): void {
  for (let index: u32 = 0; index < packets; index++) {
    const data: u32 = ld32(ld32(mbufs + (index << 2)) + MBUF_DATA);
    copyBytes(data, addresses, 12);
  }
}

function swap32(a: u32, b: u32): void {
  const first: u32 = ldu32(a);
  stu32(a, ldu32(b));
  stu32(b, first);
}

function swap16(a: u32, b: u32): void {
  const first: u32 = ldu16(a);
  stu16(a, ldu16(b));
  stu16(b, first);
}

/** Swaps source and destination address of one frame. */
function swapAddresses(data: u32): void {
  swap32(data, data + 6);
  swap16(data + 4, data + 10);
}

/** Swaps the Ethernet addresses of every packet. */
export function swapEthernetAddresses(mbufs: u32, packets: u32): void {
  for (let index: u32 = 0; index < packets; index++) swapAddresses(ld32(ld32(mbufs + (index << 2)) + MBUF_DATA));
}

/** Swaps Ethernet, IPv4 or IPv6 addresses, and TCP or UDP ports; checksums stay right, for they are sums. */
export function swapFiveTuples(mbufs: u32, packets: u32): void {
  for (let index: u32 = 0; index < packets; index++) {
    const packet: u32 = ld32(mbufs + (index << 2));
    const data: u32 = ld32(packet + MBUF_DATA);
    const end: u32 = data + ld32(packet + MBUF_SEGMENT_LENGTH);
    swapAddresses(data);
    let type: u32 = ldu16(data + 12);
    let at: u32 = data + 14;
    while (type === TYPE_VLAN && at + 4 <= end) {
      type = ldu16(at + 2);
      at += 4;
    }
    let protocol: u32 = 0;
    let transport: u32 = 0;
    if (type === TYPE_IPV4 && at + 20 <= end) {
      swap32(at + 12, at + 16);
      // a later fragment has no ports
      if ((ldu16(at + 6) & 0xff1f) !== 0) continue;
      const words: u32 = ld8(at) & 15;
      // a header that says it is shorter than a header has no ports behind it
      if (words < 5) continue;
      protocol = ld8(at + 9);
      transport = at + (words << 2);
    } else if (type === TYPE_IPV6 && at + 40 <= end) {
      for (let word: u32 = 0; word < 16; word += 4) swap32(at + 8 + word, at + 24 + word);
      protocol = ld8(at + 6);
      transport = at + 40;
    }
    if ((protocol === PROTOCOL_TCP || protocol === PROTOCOL_UDP) && transport + 4 <= end) swap16(transport, transport + 2);
  }
}
