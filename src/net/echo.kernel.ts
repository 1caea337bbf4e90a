/**
 * Answers to ARP requests and ICMP echo requests, made of the requests themselves.
 * @module
 */
import { copyBytes, ld32, ld8, ldu16, ldu32, st32, st8, stu16, stu32 } from '../memory/access.ts';
import { MBUF_DATA, MBUF_LENGTH, MBUF_SEGMENT_LENGTH } from '../memory/mbuf-layout.ts';
import { packetFree } from '../memory/mempool.kernel.ts';
import { foldSum } from './checksum.kernel.ts';
import {
  ipEnd,
  ipProtocol,
  ipStart,
  isFragment,
  parseIp,
  skipEthernet,
  storeIpChecksum,
  transportStart,
  TYPE_IPV4,
} from './headers.kernel.ts';

/** In network order, as a little-endian load sees it. */
const TYPE_ARP: u32 = 0x0608;
/** Ethernet, IPv4, and the lengths of their addresses (RFC 826), as four bytes of each half are loaded. */
const ARP_ETHERNET_IPV4: u32 = 0x0008_0100;
const ARP_LENGTHS: u32 = 0x0406;
const ARP_REQUEST: u32 = 0x0100;
const ARP_REPLY: u32 = 0x0200;
const ARP_BYTES: u32 = 28;

const PROTOCOL_ICMP: u32 = 1;
/** Type 8, code 0 (RFC 792). */
const ECHO_REQUEST: u32 = 0x0008;

/** Turns an ARP request at byte `at` of a frame into a reply: the address asked for is at `mac`. */
function answerArp(frame: u32, at: u32, mac: u32): u32 {
  const arp: u32 = frame + at;
  if (ldu32(arp) !== ARP_ETHERNET_IPV4 || ldu16(arp + 4) !== ARP_LENGTHS || ldu16(arp + 6) !== ARP_REQUEST) return 0;
  copyBytes(frame, frame + 6, 6);
  copyBytes(frame + 6, mac, 6);
  stu16(arp + 6, ARP_REPLY);
  const asking: u32 = ldu32(arp + 14);
  const asked: u32 = ldu32(arp + 24);
  copyBytes(arp + 18, arp + 8, 6);
  copyBytes(arp + 8, mac, 6);
  stu32(arp + 14, asked);
  stu32(arp + 24, asking);
  return 1;
}

/** Turns an echo request over IPv4 at byte `at` of a frame into a reply; its checksum is taken to be right. */
function answerEcho(frame: u32, at: u32, first: u32, length: u32): u32 {
  if (parseIp(frame, at, first, 4) === 0 || ipProtocol !== PROTOCOL_ICMP || isFragment !== 0) return 0;
  const icmp: u32 = frame + transportStart;
  if (transportStart + 8 > first || ipEnd > length || transportStart + 8 > ipEnd || ldu16(icmp) !== ECHO_REQUEST) return 0;
  const low: u32 = ldu32(frame);
  const high: u32 = ldu16(frame + 4);
  copyBytes(frame, frame + 6, 6);
  stu32(frame + 6, low);
  stu16(frame + 10, high);
  const ip: u32 = frame + ipStart;
  const source: u32 = ldu32(ip + 12);
  if (ld8(ip + 16) === 224) {
    // nobody answers as a group: as the neighbour of who asks
    const last: u32 = ld8(ip + 15);
    st8(ip + 15, (last & 0xfc) | ((last & 3) === 1 ? 2 : 1));
    stu32(ip + 16, source);
    storeIpChecksum(frame);
  } else {
    stu32(ip + 12, ldu32(ip + 16));
    stu32(ip + 16, source);
  }
  // type 8 becomes 0: RFC 1624, 3
  stu16(icmp, 0);
  stu16(icmp + 2, ~foldSum((~ldu16(icmp + 2) & 0xffff) + (~ECHO_REQUEST & 0xffff)) & 0xffff);
  return 1;
}

/** Answers one packet; returns 0 when it is none of the two requests. */
function answer(packet: u32, mac: u32): u32 {
  const frame: u32 = ld32(packet + MBUF_DATA);
  const first: u32 = ld32(packet + MBUF_SEGMENT_LENGTH);
  if (first < 14) return 0;
  const at: u32 = skipEthernet(frame, 0, first);
  const type: u32 = ldu16(frame + at - 2);
  if (type === TYPE_ARP) return at + ARP_BYTES <= first ? answerArp(frame, at, mac) : 0;
  return type === TYPE_IPV4 ? answerEcho(frame, at, first, ld32(packet + MBUF_LENGTH)) : 0;
}

/**
 * Answers the requests among the `count` packets at `mbufs`, and frees the others; the answers are listed there then. `mac` is
 * the offset of the six bytes that ARP replies give.
 * @returns the number of answers
 */
export function answerRequests(mbufs: u32, count: u32, mac: u32, lcore: u32): u32 {
  let answers: u32 = 0;
  for (let index: u32 = 0; index < count; index++) {
    const packet: u32 = ld32(mbufs + (index << 2));
    if (answer(packet, mac) === 0) {
      packetFree(packet, lcore);
      continue;
    }
    st32(mbufs + (answers << 2), packet);
    answers++;
  }
  return answers;
}
