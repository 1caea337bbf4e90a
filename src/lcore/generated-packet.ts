/**
 * The packets that txonly, flowgen and tx_first send: Ethernet, IPv4, UDP, and whatever bytes the buffer holds.
 * @module
 */
import type { MacAddress } from '../net/mac-address.ts';

/** Bytes of the three headers. */
export const GENERATED_HEADER_BYTES = 42;

export interface GeneratedPacket {
  readonly source: MacAddress;
  readonly destination: MacAddress;
  /** Bytes of the whole packet, at least 42. */
  readonly length: number;
  readonly sourceAddress: readonly [number, number, number, number];
  readonly destinationAddress: readonly [number, number, number, number];
  readonly sourcePort: number;
  readonly destinationPort: number;
}

/** txonly: the benchmark network 198.18.0.0/15 (RFC 2544), discard port. */
export const TXONLY_FLOW = {
  sourceAddress: [198, 18, 0, 1],
  destinationAddress: [198, 18, 0, 2],
  sourcePort: 9,
  destinationPort: 9,
} as const;
/** flowgen: the destination counts up from 10.253.0.0. */
export const FLOWGEN_FLOW = {
  sourceAddress: [10, 254, 0, 0],
  destinationAddress: [10, 253, 0, 0],
  sourcePort: 1000,
  destinationPort: 1001,
} as const;

/** The 42 bytes of headers, IPv4 checksum filled in, UDP checksum left out (0). */
export function generatedHeaders(packet: GeneratedPacket): Uint8Array {
  const bytes = new Uint8Array(GENERATED_HEADER_BYTES);
  const data = new DataView(bytes.buffer);
  bytes.set(packet.destination, 0);
  bytes.set(packet.source, 6);
  data.setUint16(12, 0x0800);
  data.setUint8(14, 0x45);
  data.setUint16(16, packet.length - 14);
  data.setUint8(22, 64);
  data.setUint8(23, 17);
  bytes.set(packet.sourceAddress, 26);
  bytes.set(packet.destinationAddress, 30);
  let sum = 0;
  for (let at = 14; at < 34; at += 2) sum += data.getUint16(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  data.setUint16(24, ~sum & 0xffff);
  data.setUint16(34, packet.sourcePort);
  data.setUint16(36, packet.destinationPort);
  data.setUint16(38, packet.length - 34);
  return bytes;
}
