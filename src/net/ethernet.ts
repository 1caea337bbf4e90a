/**
 * The Ethernet header, read (IEEE 802.3, 3.2: destination, source, type or length).
 * @module
 */
import { formatMac } from './mac-address.ts';

/** Bytes of the header. */
export const ETHERNET_HEADER_BYTES = 14;

export interface EthernetHeader {
  /** `AA:BB:CC:DD:EE:FF`. */
  readonly source: string;
  readonly destination: string;
  /** EtherType: 0x0800 IPv4, 0x86dd IPv6, 0x0806 ARP, 0x8100 a VLAN tag; below 0x0600 it is a length. */
  readonly type: number;
}

/** The header at the beginning of a packet, or undefined when the packet is shorter than it. */
export function parseEthernet(bytes: Uint8Array): EthernetHeader | undefined {
  if (bytes.length < ETHERNET_HEADER_BYTES) return undefined;
  return {
    source: formatMac(bytes.subarray(6, 12)),
    destination: formatMac(bytes.subarray(0, 6)),
    type: ((bytes[12] ?? 0) << 8) | (bytes[13] ?? 0),
  };
}
