/**
 * The arena as an application sees it: bursts of handles, mbufs taken and given back, and the packets behind the handles.
 * @module
 */
import type { Arena } from '../memory/arena.ts';
import { MbufAccess } from '../memory/mbuf-access.ts';
import type { Mempool } from '../memory/mempool.ts';
import type { KernelContext, Kernels } from '../ring/kernels.ts';
import { MAIN_LCORE_SLOT } from '../ring/virtqueue.ts';

/** A burst is at most this long, as in testpmd. */
const BURST_LIMIT = 512;

/** Room for packet handles in shared memory: what rxBurst() fills and txBurst() sends. */
export class Burst implements Disposable {
  /** Arena offset of the first handle, for kernels; 0 once closed. */
  offset: number;
  /** The handles themselves; an entry means something only after a call that filled it. */
  readonly handles: Uint32Array;
  readonly #arena: Arena;

  /** @internal */
  constructor(arena: Arena, size: number) {
    if (!Number.isInteger(size) || size < 1 || size > BURST_LIMIT)
      throw new RangeError(`burst size ${String(size)}: use 1..${String(BURST_LIMIT)}`);
    this.#arena = arena;
    this.offset = arena.allocateOwn(4 * size, `a burst of ${String(size)} handles`);
    this.handles = arena.views.u32.subarray(this.offset >>> 2, (this.offset >>> 2) + size);
  }

  /** Handles that fit. */
  get size(): number {
    return this.handles.length;
  }

  /** Gives the room back, not the packets: those are freed or sent by then. */
  close(): void {
    if (this.offset === 0) return;
    this.#arena.own.release(this.offset);
    this.offset = 0;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/**
 * Offset of entry `from` of a burst, after the check that `count` entries follow it.
 * @throws RangeError
 * @internal
 */
export function burstOffset(burst: Burst, count: number, from: number): number {
  if (burst.offset === 0) throw new RangeError('the burst is closed');
  if (!(count >= 0 && from >= 0 && from + count <= burst.handles.length)) {
    throw new RangeError(`count ${String(count)} from ${String(from)}: the burst has ${String(burst.handles.length)} handles`);
  }
  return burst.offset + (from << 2);
}

export class PacketArena extends MbufAccess {
  /** The memory underneath. */
  readonly memory: Arena;
  /** Where packets come from. */
  readonly pool: Mempool;
  readonly #kernels: Kernels;
  readonly #takeBackSent: () => void;
  #open = true;

  /**
   * @param takeBackSent has the packets that ports have sent, and not looked at since, given back to the pool
   * @internal
   */
  constructor(memory: Arena, pool: Mempool, { views, kernels }: KernelContext, takeBackSent: () => void) {
    super(views);
    this.memory = memory;
    this.pool = pool;
    this.#kernels = kernels;
    this.#takeBackSent = takeBackSent;
  }

  /** Bytes of packet that one mbuf holds. */
  get dataRoom(): number {
    return this.pool.dataRoom - 128;
  }

  /**
   * Makes room for `size` handles (1..512). Allocates once; reuse it for every burst.
   * @throws RangeError; VirtioError ENOMEM
   */
  burst(size = 32): Burst {
    return new Burst(this.memory, size);
  }

  /**
   * Puts the handles of `count` fresh mbufs into the burst: all of them, or none when the pool has fewer, and the transmit rings
   * hold none that were sent. Give each its bytes with write() or setLength() before sending it.
   * @returns `count` or 0
   */
  allocate(burst: Burst, count: number, from = 0): number {
    if (!this.#open) return 0;
    const to = burstOffset(burst, count, from);
    const made = this.#take(to, count);
    if (made === count) return made;
    this.#takeBackSent();
    return this.#take(to, count);
  }

  /** Gives `count` packets of the burst back to their pool, all their segments. */
  free(burst: Burst, count: number, from = 0): void {
    if (this.#open) this.#kernels.packetsFree(burstOffset(burst, count, from), count, MAIN_LCORE_SLOT);
  }

  /** Gives one packet back, all its segments. */
  freePacket(packet: number): void {
    if (this.#open) this.#kernels.packetFree(packet, MAIN_LCORE_SLOT);
  }

  /** `count` mbufs or 0. More than this thread keeps for itself are taken in parts: the kernel looks for such a number among the others' only. */
  #take(to: number, count: number): number {
    const { offset, cacheSize } = this.pool;
    const most = cacheSize === 0 ? count : cacheSize;
    for (let done = 0; done < count; done += most) {
      const taken = this.#kernels.mbufAllocate(offset, MAIN_LCORE_SLOT, to + (done << 2), Math.min(most, count - done));
      if (taken !== 0) continue;
      this.#kernels.packetsFree(to, done, MAIN_LCORE_SLOT);
      return 0;
    }
    return count;
  }

  /**
   * Ends with the environment; packets that are freed later went with it.
   * @internal
   */
  close(): void {
    this.#open = false;
    this.memory.close();
  }
}
