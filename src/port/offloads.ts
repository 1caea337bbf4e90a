/**
 * Offload bits, with DPDK's values (RTE_ETH_RX_OFFLOAD_*, RTE_ETH_TX_OFFLOAD_*).
 * @module
 */
export const RX_OFFLOAD_VLAN_STRIP = 1 << 0;
export const RX_OFFLOAD_UDP_CKSUM = 1 << 2;
export const RX_OFFLOAD_TCP_CKSUM = 1 << 3;
export const RX_OFFLOAD_TCP_LRO = 1 << 4;
export const RX_OFFLOAD_SCATTER = 1 << 13;
export const TX_OFFLOAD_VLAN_INSERT = 1 << 0;
export const TX_OFFLOAD_UDP_CKSUM = 1 << 2;
export const TX_OFFLOAD_TCP_CKSUM = 1 << 3;
export const TX_OFFLOAD_TCP_TSO = 1 << 5;
export const TX_OFFLOAD_UDP_TSO = 1 << 6;
export const TX_OFFLOAD_MULTI_SEGS = 1 << 15;
