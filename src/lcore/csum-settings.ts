/**
 * The settings of the csum engine on their way to an lcore: written by the main thread, read by the kernels once a burst.
 * @module
 */
import {
  CSUM_ADDRESSES,
  CSUM_ASK_TCP,
  CSUM_ASK_TCP_SEGMENTS,
  CSUM_ASK_UDP,
  CSUM_ASK_UDP_SEGMENTS,
  CSUM_GRO_CYCLES,
  CSUM_GSO_SIZE,
  CSUM_SEGMENT_SIZE,
  CSUM_SWITCHES,
  CSUM_TUNNELS,
} from '../net/recompute-checksums.kernel.ts';
import { TX_OFFLOAD_TCP_CKSUM, TX_OFFLOAD_TCP_TSO, TX_OFFLOAD_UDP_CKSUM, TX_OFFLOAD_UDP_TSO } from '../port/offloads.ts';
import type { CsumSettings } from './forwarding-plan.ts';

const asked = [
  [TX_OFFLOAD_TCP_CKSUM, CSUM_ASK_TCP],
  [TX_OFFLOAD_UDP_CKSUM, CSUM_ASK_UDP],
  [TX_OFFLOAD_TCP_TSO, CSUM_ASK_TCP_SEGMENTS],
  [TX_OFFLOAD_UDP_TSO, CSUM_ASK_UDP_SEGMENTS],
] as const;

/** Writes the settings of a stream to arena offset `area`; a running lcore heeds them from its next burst on. */
export function writeCsumSettings(u32: Uint32Array, area: number, settings: CsumSettings): void {
  let switches = 0;
  for (const [offload, bit] of asked) if ((settings.txOffloads & offload) !== 0) switches |= bit;
  if (settings.parseTunnels) switches |= CSUM_TUNNELS;
  if (settings.rewriteAddresses) switches |= CSUM_ADDRESSES;
  u32[(area + CSUM_SWITCHES) >>> 2] = switches;
  u32[(area + CSUM_SEGMENT_SIZE) >>> 2] = settings.segmentSize;
  u32[(area + CSUM_GRO_CYCLES) >>> 2] = settings.groCycles;
  u32[(area + CSUM_GSO_SIZE) >>> 2] = settings.gsoSize;
}
