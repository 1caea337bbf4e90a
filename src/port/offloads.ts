/**
 * Offload bits, with DPDK's values (RTE_ETH_RX_OFFLOAD_*, RTE_ETH_TX_OFFLOAD_*).
 * @module
 */
export const RX_OFFLOAD_SCATTER = 1 << 13;
export const TX_OFFLOAD_MULTI_SEGS = 1 << 15;
