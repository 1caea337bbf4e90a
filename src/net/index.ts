/**
 * `dpdk-ts/net`: Ethernet addresses and headers, and the virtio-net header.
 * @module
 */
export { ETHERNET_HEADER_BYTES, parseEthernet, type EthernetHeader } from './ethernet.ts';
export { formatMac, isUnicast, parseMac, randomMac, type MacAddress } from './mac-address.ts';
export * from './virtio-net-header.ts';
