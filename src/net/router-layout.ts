/**
 * What a forwarding router of IP packets knows, in the arena: its tables, the ports that it sends by, and the lists that it sorts the
 * packets of a burst into.
 * @module
 */

/** u32: offsets of the tables of prefixes (lpm-layout.ts) and of flows (flow-table-layout.ts); 0: none. Flows are looked up first. */
export const ROUTER_IPV4: u32 = 0;
export const ROUTER_IPV6: u32 = 4;
export const ROUTER_FLOWS: u32 = 8;
/** Ports by number, ROUTER_PORT_LIMIT of them. */
export const ROUTER_PORTS: u32 = 64;
export const ROUTER_PORT_LIMIT: u32 = 64;
/** u32: number of the list that packets for this port go to, and 1; 0: the port sends nothing. */
export const ROUTER_PORT_OUTPUT: u32 = 0;
/** The destination and the source address of what the port sends. */
export const ROUTER_PORT_ADDRESSES: u32 = 4;
export const ROUTER_PORT_BYTES: u32 = 16;
export const ROUTER_BYTES: u32 = 1088;

/** The lists: the key of the flow that is looked up, how many handles each list has, and the handles. */
export const LISTS_KEY: u32 = 0;
export const LISTS_COUNTS: u32 = 64;
export const LISTS_HANDLES: u32 = 320;
/** Handles that a list has room for: a burst. */
export const LIST_ROOM: u32 = 512;
export const LIST_BYTES: u32 = 2048;
export const ROUTER_LISTS_BYTES: u32 = 131_392;
