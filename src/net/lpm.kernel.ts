/**
 * Longest-prefix match in a table of lpm-layout.ts.
 * @module
 */
import { ld32, ld8 } from '../memory/access.ts';
import { LPM_NODE, LPM_NODE_BYTES, LPM_NODES, LPM_ROOT, LPM_ROUTE, NO_ROUTE } from './lpm-layout.ts';

/**
 * The next hop for an address.
 * @param address arena offset of its bytes, in network order
 * @param bytes 4 or 16
 * @returns 0..65535, or NO_ROUTE
 */
export function lpmLookup(table: u32, address: u32, bytes: u32): u32 {
  let entry: u32 = ld32(table + LPM_ROOT + (((ld8(address) << 8) | ld8(address + 1)) << 2));
  let at: u32 = 2;
  while ((entry & LPM_NODE) !== 0) {
    if (at === bytes) return NO_ROUTE;
    entry = ld32(table + LPM_NODES + (entry & 0xffffff) * LPM_NODE_BYTES + (ld8(address + at) << 2));
    at++;
  }
  return (entry & LPM_ROUTE) !== 0 ? entry & 0xffff : NO_ROUTE;
}
