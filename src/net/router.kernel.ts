/**
 * Routes IPv4 and IPv6 packets: checks them (RFC 1812, 5.2.2; RFC 8200), takes one from their time to live, finds the port that they
 * leave by, and gives them its Ethernet addresses. Packets that are no IP, that are malformed or whose time is over are dropped.
 *
 * As in DPDK's l3fwd-power, what has no route, or one to a port that does not take part, leaves by the port that it came from.
 * @module
 */
import { copyBytes, ld16, ld32, ld8, ldu16, st32, st8, stu16 } from '../memory/access.ts';
import { MBUF_DATA, MBUF_LENGTH, MBUF_SEGMENT_LENGTH, MBUF_PORT } from '../memory/mbuf-layout.ts';
import { packetFree } from '../memory/mempool.kernel.ts';
import { addSum, foldSum, networkU16 } from './checksum.kernel.ts';
import { flowKey, flowLookup } from './flow-table.kernel.ts';
import { parseIp, TYPE_IPV4, TYPE_IPV6 } from './headers.kernel.ts';
import { NO_ROUTE } from './lpm-layout.ts';
import { lpmLookup } from './lpm.kernel.ts';
import {
  LIST_BYTES,
  LISTS_COUNTS,
  LISTS_HANDLES,
  LISTS_KEY,
  ROUTER_FLOWS,
  ROUTER_IPV4,
  ROUTER_IPV6,
  ROUTER_PORT_ADDRESSES,
  ROUTER_PORT_BYTES,
  ROUTER_PORT_LIMIT,
  ROUTER_PORT_OUTPUT,
  ROUTER_PORTS,
} from './router-layout.ts';

const ETHERNET_BYTES: u32 = 14;

/** Whether the IPv4 header behind the Ethernet header may be forwarded; `first` bytes lie together, of `length`. */
function isGoodIpv4(frame: u32, first: u32, length: u32): u32 {
  const ip: u32 = frame + ETHERNET_BYTES;
  if (first < ETHERNET_BYTES + 20 || ld8(ip) >>> 4 !== 4) return 0;
  const header: u32 = (ld8(ip) & 15) << 2;
  if (header < 20 || ETHERNET_BYTES + header > first) return 0;
  const total: u32 = networkU16(ip + 2);
  if (total < header || ETHERNET_BYTES + total > length) return 0;
  if (addSum(ip, header, 0) !== 0xffff) return 0;
  return ld8(ip + 8) > 1 ? 1 : 0;
}

function isGoodIpv6(frame: u32, first: u32, length: u32): u32 {
  const ip: u32 = frame + ETHERNET_BYTES;
  if (first < ETHERNET_BYTES + 40 || ld8(ip) >>> 4 !== 6) return 0;
  if (ETHERNET_BYTES + 40 + networkU16(ip + 4) > length) return 0;
  return ld8(ip + 7) > 1 ? 1 : 0;
}

/** The port that a good packet leaves by, or NO_ROUTE. */
function lookUp(router: u32, frame: u32, first: u32, version: u32, key: u32): u32 {
  const flows: u32 = ld32(router + ROUTER_FLOWS);
  if (flows !== 0 && parseIp(frame, ETHERNET_BYTES, first, version) !== 0) {
    flowKey(frame, first, key);
    const port: u32 = flowLookup(flows, key);
    if (port !== NO_ROUTE) return port;
  }
  const table: u32 = ld32(router + (version === 4 ? ROUTER_IPV4 : ROUTER_IPV6));
  if (table === 0) return NO_ROUTE;
  return version === 4 ? lpmLookup(table, frame + ETHERNET_BYTES + 16, 4) : lpmLookup(table, frame + ETHERNET_BYTES + 24, 16);
}

function outputOf(router: u32, port: u32): u32 {
  return port < ROUTER_PORT_LIMIT ? ld32(router + ROUTER_PORTS + port * ROUTER_PORT_BYTES + ROUTER_PORT_OUTPUT) : 0;
}

/**
 * Sorts the `count` packets listed at `mbufs`, 512 at most, into the lists of the ports that they leave by, ready to be sent.
 * @returns how many were dropped
 */
export function routePackets(router: u32, mbufs: u32, count: u32, lists: u32, outputs: u32, lcore: u32): u32 {
  for (let output: u32 = 0; output < outputs; output++) st32(lists + LISTS_COUNTS + (output << 2), 0);
  let dropped: u32 = 0;
  for (let index: u32 = 0; index < count; index++) {
    const packet: u32 = ld32(mbufs + (index << 2));
    const frame: u32 = ld32(packet + MBUF_DATA);
    const first: u32 = ld32(packet + MBUF_SEGMENT_LENGTH);
    const length: u32 = ld32(packet + MBUF_LENGTH);
    const type: u32 = first < ETHERNET_BYTES ? 0 : ldu16(frame + 12);
    let version: u32 = 0;
    if (type === TYPE_IPV4) version = isGoodIpv4(frame, first, length) !== 0 ? 4 : 0;
    else if (type === TYPE_IPV6) version = isGoodIpv6(frame, first, length) !== 0 ? 6 : 0;
    let port: u32 = 0;
    let output: u32 = 0;
    if (version !== 0) {
      port = lookUp(router, frame, first, version, lists + LISTS_KEY);
      output = port === NO_ROUTE ? 0 : outputOf(router, port);
      if (output === 0) {
        port = ld16(packet + MBUF_PORT);
        output = outputOf(router, port);
      }
    }
    if (output === 0 || output > outputs) {
      packetFree(packet, lcore);
      dropped++;
      continue;
    }
    copyBytes(frame, router + ROUTER_PORTS + port * ROUTER_PORT_BYTES + ROUTER_PORT_ADDRESSES, 12);
    const ip: u32 = frame + ETHERNET_BYTES;
    if (version === 4) {
      // the time to live is the first byte of a word that the sum covers (RFC 1624, 3)
      const before: u32 = ldu16(ip + 8);
      const after: u32 = before - 1;
      stu16(ip + 8, after);
      stu16(ip + 10, ~foldSum((~ldu16(ip + 10) & 0xffff) + (~before & 0xffff) + after) & 0xffff);
    } else st8(ip + 7, ld8(ip + 7) - 1);
    const counter: u32 = lists + LISTS_COUNTS + ((output - 1) << 2);
    const place: u32 = ld32(counter);
    st32(lists + LISTS_HANDLES + (output - 1) * LIST_BYTES + (place << 2), packet);
    st32(counter, place + 1);
  }
  return dropped;
}
