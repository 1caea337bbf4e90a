/**
 * A table of prefixes in the arena, for the longest match: a trie whose first step takes 16 bits of the address and every further
 * one 8. IPv4 takes three steps at most, IPv6 as many as its longest prefix needs. Entries of one word, so that a route is put in or
 * taken out while lcores look things up.
 *
 *     root: 65536 x u32       nodes: LPM_CAPACITY x 256 x u32
 *     entry: 0, or LPM_ROUTE | length << 16 | next hop, or LPM_NODE | number of the node for the next 8 bits
 * @module
 */

/** u32: nodes in use, and how many there can be. */
export const LPM_NODES_USED: u32 = 0;
export const LPM_CAPACITY: u32 = 4;
/** Entries by the first 16 bits. */
export const LPM_ROOT: u32 = 64;
export const LPM_ROOT_ENTRIES: u32 = 65_536;
/** Behind the root. */
export const LPM_NODES: u32 = 262_208;
export const LPM_NODE_ENTRIES: u32 = 256;
export const LPM_NODE_BYTES: u32 = 1024;

export const LPM_NODE: u32 = 0x8000_0000;
export const LPM_ROUTE: u32 = 0x4000_0000;
/** What lookups return when no prefix fits. */
export const NO_ROUTE: u32 = 0xffff_ffff;
