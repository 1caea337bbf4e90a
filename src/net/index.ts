/**
 * `dpdk-ts/net`: addresses and headers of Ethernet and IP, tables of routes and flows, and the virtio-net header.
 * @module
 */
export { ETHERNET_HEADER_BYTES, parseEthernet, type EthernetHeader } from './ethernet.ts';
export { FlowTable, type Flow, type FlowHash } from './flow-table.ts';
export { formatIpAddress, formatPrefix, parseIpAddress, parsePrefix, type Prefix } from './ip-address.ts';
export { LpmTable, type LpmRule, type LpmTableOptions } from './lpm-table.ts';
export { formatMac, isUnicast, parseMac, randomMac, type MacAddress } from './mac-address.ts';
export { Router, type RouterOptions, type RouterPort } from './router.ts';
export * from './virtio-net-header.ts';
