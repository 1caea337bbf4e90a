/**
 * `dpdk-ts/memory`: the arena, pools of mbufs, and what an mbuf looks like.
 * @module
 */
export { Arena, viewsOfShare, type ArenaOptions, type ArenaShare, type ArenaViews } from './arena.ts';
export { MbufAccess } from './mbuf-access.ts';
export * from './mbuf-layout.ts';
export { createMempool, mempoolBytes, type Mempool, type MempoolOptions } from './mempool.ts';
export { Zone } from './zone.ts';
