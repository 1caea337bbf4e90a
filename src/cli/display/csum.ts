/**
 * `csum show`, `show port N gro` and `show port N gso`.
 * @module
 */
import * as bits from '../../port/offloads.ts';

const layers = [
  ['IP', bits.TX_OFFLOAD_IPV4_CKSUM],
  ['UDP', bits.TX_OFFLOAD_UDP_CKSUM],
  ['TCP', bits.TX_OFFLOAD_TCP_CKSUM],
  ['SCTP', bits.TX_OFFLOAD_SCTP_CKSUM],
  ['Outer-Ip', bits.TX_OFFLOAD_OUTER_IPV4_CKSUM],
  ['Outer-Udp', bits.TX_OFFLOAD_OUTER_UDP_CKSUM],
] as const;

/** Which checksums a port with these transmit offloads computes itself. */
export function csumText(parseTunnels: boolean, txOffloads: number): string {
  const lines = layers.map(([name, bit]) => `${name} checksum offload is ${(txOffloads & bit) === 0 ? 'sw' : 'hw'}`);
  return `Parse tunnel is ${parseTunnels ? 'on' : 'off'}\n${lines.join('\n')}\n`;
}

/** Packets that DPDK gathers from: four flows of 32 packets within a burst, 64 of 32 across bursts. */
const withinBurst = 128;
const acrossBursts = 2048;

export function groText(id: number, on: boolean, flushCycles: number): string {
  if (!on) return `Port ${id} doesn't enable GRO.\n`;
  const packets = flushCycles === 1 ? withinBurst : acrossBursts;
  return `GRO type: TCP/IPv4\nMax number of packets to perform GRO: ${packets}\nFlushing cycles: ${flushCycles}\n`;
}

export function gsoText(id: number, on: boolean, size: number): string {
  return on ? `Max GSO'd packet size: ${size}B\nSupported GSO types: TCP/IPv4, TCP/IPv6, UDP/IPv4\n` : `GSO is not enabled on Port ${id}\n`;
}
