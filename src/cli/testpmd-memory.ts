/**
 * How much memory a testpmd takes: the number of mbufs, and the arena that holds them.
 * @module
 */
import { mempoolBytes } from '../memory/mempool.ts';
import { VirtioError } from '../system/error.ts';

const MIB = 1024 * 1024;
/** Descriptors of a queue that the default number of mbufs allows for, either way, and a burst (testpmd's own formula). */
const DESCRIPTORS = 2048;
const BURST = 512;
/** Ports that the default number of mbufs is meant for, at least: some may be attached later. */
const PORTS = 4;
/** Rings, queue states and streams of the ports. */
const RESERVE_PUBLISHED = 8 * MIB;
const RESERVE_OWN = 4 * MIB;
/** Rings of ports attached later, where -m allows it. */
const RESERVE_ATTACHED = 32 * MIB;

export interface MemoryWish {
  readonly ports: number;
  readonly forwardingLcores: number;
  /** --total-num-mbufs. */
  readonly mbufs: number | undefined;
  readonly mbufSize: number;
  readonly cacheSize: number;
  /** -m or --socket-mem, in MB. */
  readonly memoryMb: number | undefined;
}

export interface MemoryPlan {
  readonly mbufs: number;
  /** Bytes of the arena's published and own part. */
  readonly bytes: number;
  readonly ownBytes: number;
}

/** @throws VirtioError ENOMEM when -m is too little for --total-num-mbufs */
export function planMemory(wish: MemoryWish): MemoryPlan {
  const { mbufSize: dataRoom, cacheSize } = wish;
  const needed = (count: number): { own: number; published: number } => {
    const { own, published } = mempoolBytes({ count, dataRoom, cacheSize });
    return { own: own + RESERVE_OWN, published: published + RESERVE_PUBLISHED };
  };
  const usual = (2 * DESCRIPTORS + BURST + cacheSize * Math.max(1, wish.forwardingLcores)) * Math.max(PORTS, wish.ports);
  const limit = wish.memoryMb === undefined ? undefined : wish.memoryMb * MIB;
  let mbufs = wish.mbufs ?? usual;
  if (limit !== undefined && needed(mbufs).published > limit) {
    if (wish.mbufs !== undefined || limit < needed(2048).published) {
      throw new VirtioError(
        `-m ${String(wish.memoryMb)}: ${String(wish.mbufs ?? 2048)} mbufs of ${String(dataRoom)} bytes and the rings need ` +
          `${String(Math.ceil(needed(wish.mbufs ?? 2048).published / MIB))} MB; give more, or fewer mbufs with --total-num-mbufs`,
        { code: 'ENOMEM' },
      );
    }
    const each = needed(2).published - needed(1).published;
    mbufs = Math.floor((limit - needed(0).published) / each);
  }
  const { own, published } = needed(mbufs);
  // of a generous -m no more is taken than can be used: huge pages are scarce
  return { mbufs, bytes: limit === undefined ? published : Math.min(limit, published + RESERVE_ATTACHED), ownBytes: own };
}
