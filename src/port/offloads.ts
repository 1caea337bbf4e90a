/**
 * Offload bits, with DPDK's values (RTE_ETH_RX_OFFLOAD_*, RTE_ETH_TX_OFFLOAD_*).
 * @module
 */
export const RX_OFFLOAD_VLAN_STRIP = 1 << 0;
export const RX_OFFLOAD_IPV4_CKSUM = 1 << 1;
export const RX_OFFLOAD_UDP_CKSUM = 1 << 2;
export const RX_OFFLOAD_TCP_CKSUM = 1 << 3;
export const RX_OFFLOAD_TCP_LRO = 1 << 4;
export const RX_OFFLOAD_QINQ_STRIP = 1 << 5;
export const RX_OFFLOAD_OUTER_IPV4_CKSUM = 1 << 6;
export const RX_OFFLOAD_MACSEC_STRIP = 1 << 7;
export const RX_OFFLOAD_VLAN_FILTER = 1 << 9;
export const RX_OFFLOAD_VLAN_EXTEND = 1 << 10;
export const RX_OFFLOAD_SCATTER = 1 << 13;
export const RX_OFFLOAD_TIMESTAMP = 1 << 14;
export const RX_OFFLOAD_SECURITY = 1 << 15;
export const RX_OFFLOAD_KEEP_CRC = 1 << 16;
export const RX_OFFLOAD_SCTP_CKSUM = 1 << 17;
export const RX_OFFLOAD_OUTER_UDP_CKSUM = 1 << 18;
export const RX_OFFLOAD_RSS_HASH = 1 << 19;
export const RX_OFFLOAD_BUFFER_SPLIT = 1 << 20;
/** The checksums of the innermost headers. */
export const RX_OFFLOAD_CHECKSUM = RX_OFFLOAD_IPV4_CKSUM | RX_OFFLOAD_UDP_CKSUM | RX_OFFLOAD_TCP_CKSUM;
/** Those about VLAN tags: they can be switched while a port runs. */
export const RX_OFFLOAD_VLAN = RX_OFFLOAD_VLAN_STRIP | RX_OFFLOAD_VLAN_FILTER | RX_OFFLOAD_VLAN_EXTEND | RX_OFFLOAD_QINQ_STRIP;

export const TX_OFFLOAD_VLAN_INSERT = 1 << 0;
export const TX_OFFLOAD_IPV4_CKSUM = 1 << 1;
export const TX_OFFLOAD_UDP_CKSUM = 1 << 2;
export const TX_OFFLOAD_TCP_CKSUM = 1 << 3;
export const TX_OFFLOAD_SCTP_CKSUM = 1 << 4;
export const TX_OFFLOAD_TCP_TSO = 1 << 5;
export const TX_OFFLOAD_UDP_TSO = 1 << 6;
export const TX_OFFLOAD_OUTER_IPV4_CKSUM = 1 << 7;
export const TX_OFFLOAD_QINQ_INSERT = 1 << 8;
export const TX_OFFLOAD_VXLAN_TNL_TSO = 1 << 9;
export const TX_OFFLOAD_GRE_TNL_TSO = 1 << 10;
export const TX_OFFLOAD_IPIP_TNL_TSO = 1 << 11;
export const TX_OFFLOAD_GENEVE_TNL_TSO = 1 << 12;
export const TX_OFFLOAD_MACSEC_INSERT = 1 << 13;
export const TX_OFFLOAD_MT_LOCKFREE = 1 << 14;
export const TX_OFFLOAD_MULTI_SEGS = 1 << 15;
export const TX_OFFLOAD_MBUF_FAST_FREE = 1 << 16;
export const TX_OFFLOAD_SECURITY = 1 << 17;
export const TX_OFFLOAD_UDP_TNL_TSO = 1 << 18;
export const TX_OFFLOAD_IP_TNL_TSO = 1 << 19;
export const TX_OFFLOAD_OUTER_UDP_CKSUM = 1 << 20;
export const TX_OFFLOAD_SEND_ON_TIMESTAMP = 1 << 21;
