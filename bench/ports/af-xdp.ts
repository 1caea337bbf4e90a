/**
 * net_af_xdp: what is to be gained over net_af_packet; and DPDK's, where its build has it.
 * @module
 */
import type { Contender } from './af-packet-window.ts';

export const AF_XDP: Contender = { name: 'af_xdp', program: 'ours', device: 'net_af_xdp0' };
export const AF_XDP_BUSY: Contender = { name: 'af_xdp, busy_budget=64', program: 'ours', device: 'net_af_xdp0,busy_budget=64' };
export const DPDK_AF_XDP: Contender = { name: 'af_xdp, DPDK', program: 'dpdk', device: 'net_af_xdp0' };
