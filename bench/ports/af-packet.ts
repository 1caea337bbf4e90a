/**
 * net_af_packet beside DPDK's, with the settings that both have by default.
 * @module
 */
import type { Contender } from './af-packet-window.ts';

const DEVICE = 'net_af_packet0,blocksz=4096,framesz=2048,framecnt=512,qdisc_bypass=1';

/** What the others are compared with. */
export const DPDK_AF_PACKET: Contender = { name: 'af_packet, DPDK', program: 'dpdk', device: DEVICE };
export const AF_PACKET: Contender = { name: 'af_packet', program: 'ours', device: DEVICE };
