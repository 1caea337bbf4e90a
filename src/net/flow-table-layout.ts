/**
 * A table of flows in the arena, for the exact match: open addressing over a power of two of entries, the key an IPv4 or IPv6 5-tuple.
 *
 *     entry (48 bytes): u32 state, u32 next hop, key
 *     key (40 bytes):   destination address (16), source address (16), u16 destination port, u16 source port, u8 protocol, u8 IP
 *                       version, u16 0; all in network order, an IPv4 address in the first four bytes of its place
 * @module
 */

/** u32: entries less one. */
export const FLOWS_MASK: u32 = 0;
/** u32: entries at which a search gives up: as far as an entry has ever been put from its place. */
export const FLOWS_REACH: u32 = 4;
/** Room for a key, of the control side. */
export const FLOWS_SCRATCH: u32 = 16;
export const FLOWS_ENTRIES: u32 = 64;

export const FLOW_STATE: u32 = 0;
export const FLOW_NEXT_HOP: u32 = 4;
export const FLOW_KEY: u32 = 8;
export const FLOW_BYTES: u32 = 48;

export const KEY_DESTINATION: u32 = 0;
export const KEY_SOURCE: u32 = 16;
export const KEY_PORTS: u32 = 32;
export const KEY_PROTOCOL: u32 = 36;
export const KEY_VERSION: u32 = 37;
export const KEY_BYTES: u32 = 40;

/** FLOW_STATE: never used, in use, or taken out (a search goes on behind it). */
export const FLOW_EMPTY: u32 = 0;
export const FLOW_USED: u32 = 1;
export const FLOW_REMOVED: u32 = 2;
