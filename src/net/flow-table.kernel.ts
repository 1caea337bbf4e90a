/**
 * Exact match in a table of flow-table-layout.ts.
 * @module
 */
import { atomicLoad32, copyBytes, ld32, st32, st8 } from '../memory/access.ts';
import {
  FLOW_BYTES,
  FLOW_EMPTY,
  FLOW_KEY,
  FLOW_NEXT_HOP,
  FLOW_STATE,
  FLOW_USED,
  FLOWS_ENTRIES,
  FLOWS_MASK,
  FLOWS_REACH,
  KEY_BYTES,
  KEY_PORTS,
  KEY_PROTOCOL,
  KEY_SOURCE,
  KEY_VERSION,
} from './flow-table-layout.ts';
import { ipProtocol, ipStart, ipVersion, isFragment, PROTOCOL_TCP, PROTOCOL_UDP, transportStart } from './headers.kernel.ts';
import { NO_ROUTE } from './lpm-layout.ts';

/** Where in the table the search for a key begins, before the mask. `key` must be a multiple of 4. */
export function flowHash(key: u32): u32 {
  let hash: u32 = 0x9e37;
  for (let at: u32 = 0; at < KEY_BYTES; at += 4) {
    // in halves, so that every product fits 32 bits: JavaScript has no product of whole words without Math.imul
    const word: u32 = ld32(key + at);
    hash = ((hash & 0xffff) * 0x9e3b + ((hash >>> 16) ^ (word & 0xffff))) >>> 0;
    hash = (((hash ^ (hash >>> 15)) & 0xffff) * 0x85eb + ((hash >>> 16) ^ (word >>> 16))) >>> 0;
    hash = (hash ^ (hash >>> 13)) >>> 0;
  }
  return hash;
}

function sameKey(a: u32, b: u32): u32 {
  for (let at: u32 = 0; at < KEY_BYTES; at += 4) if (ld32(a + at) !== ld32(b + at)) return 0;
  return 1;
}

/** The next hop of the flow whose key is at `key` (a multiple of 4), or NO_ROUTE. */
export function flowLookup(table: u32, key: u32): u32 {
  const mask: u32 = ld32(table + FLOWS_MASK);
  const reach: u32 = ld32(table + FLOWS_REACH);
  let place: u32 = flowHash(key) & mask;
  for (let step: u32 = 0; step < reach; step++) {
    const entry: u32 = table + FLOWS_ENTRIES + place * FLOW_BYTES;
    const state: u32 = atomicLoad32(entry + FLOW_STATE);
    if (state === FLOW_EMPTY) return NO_ROUTE;
    if (state === FLOW_USED && sameKey(entry + FLOW_KEY, key) !== 0) return ld32(entry + FLOW_NEXT_HOP);
    place = (place + 1) & mask;
  }
  return NO_ROUTE;
}

/** Writes the key of the packet whose headers parseHeaders() found last. */
export function flowKey(frame: u32, length: u32, key: u32): void {
  for (let at: u32 = 0; at < KEY_BYTES; at += 4) st32(key + at, 0);
  const ip: u32 = frame + ipStart;
  if (ipVersion === 4) {
    copyBytes(key, ip + 16, 4);
    copyBytes(key + KEY_SOURCE, ip + 12, 4);
  } else {
    copyBytes(key, ip + 24, 16);
    copyBytes(key + KEY_SOURCE, ip + 8, 16);
  }
  st8(key + KEY_PROTOCOL, ipProtocol);
  st8(key + KEY_VERSION, ipVersion);
  if (isFragment !== 0 || transportStart + 4 > length || (ipProtocol !== PROTOCOL_TCP && ipProtocol !== PROTOCOL_UDP)) return;
  copyBytes(key + KEY_PORTS, frame + transportStart + 2, 2);
  copyBytes(key + KEY_PORTS + 2, frame + transportStart, 2);
}
