/**
 * The part of net_tap's bursts that calls the system: a read or a write a packet, straight from and into the arena, on whichever
 * thread owns the queue. What fails is counted; nothing is thrown.
 * @module
 */
import { readSync, writeSync } from 'node:fs';
import { performance } from 'node:perf_hooks';
import type { ArenaViews } from '../memory/arena.ts';
import type { Kernels } from '../ring/kernels.ts';
import { Q_HEADER, Q_NOTIFY_FD, Q_STATE, QUEUE_RUNNING } from '../ring/queue-layout.ts';
import { TAP_AT, TAP_BYTES, TAP_WAIT, TAP_WRITE } from '../ring/tap-queue.kernel.ts';

/**
 * Milliseconds that an empty queue is left alone after it was found empty, doubled each time up to the longest. Node tells of an
 * empty queue by an exception, of 3 us: too dear to be had at every poll.
 */
const SHORTEST_WAIT = 0.002;
const LONGEST_WAIT = 0.032;

/** The kernel has no room now: the packet is to be offered again. */
function isBusy(error: unknown): boolean {
  const { code } = error as { readonly code?: unknown };
  return code === 'EAGAIN' || code === 'ENOBUFS';
}

/** The burst of a receive queue. */
export function receiveFromTap({ u8, u32 }: ArenaViews, queue: number, kernels: Kernels): (mbufs: number, count: number) => number {
  const state = (queue + Q_STATE) >>> 2;
  const at = (queue + TAP_AT) >>> 2;
  const bytes = (queue + TAP_BYTES) >>> 2;
  const descriptor = (queue + Q_NOTIFY_FD) >>> 2;
  let wait = SHORTEST_WAIT;
  /** 0 while packets are coming. */
  let notBefore = 0;
  return (mbufs, count) => {
    if (u32[state] !== QUEUE_RUNNING) return 0;
    if (notBefore !== 0 && performance.now() < notBefore) return 0;
    const fd = u32[descriptor] ?? 0;
    const traces = Error.stackTraceLimit;
    // half of what the exception costs is its stack
    Error.stackTraceLimit = 0;
    let done = 0;
    try {
      while (done < count && kernels.tapPlace(queue) !== 0) {
        const read = readSync(fd, u8, u32[at] ?? 0, u32[bytes] ?? 0, null);
        done += kernels.tapReceive(queue, mbufs + 4 * done, read);
      }
      notBefore = 0;
      wait = SHORTEST_WAIT;
    } catch {
      // nothing there; or the interface is gone, which the control plane sees by itself
      wait = done === 0 ? Math.min(2 * wait, LONGEST_WAIT) : SHORTEST_WAIT;
      notBefore = performance.now() + wait;
    }
    Error.stackTraceLimit = traces;
    return done;
  };
}

/** The burst of a transmit queue: what the interface does not take is dropped and counted; what it has no room for now is left. */
export function transmitToTap({ u8, u32 }: ArenaViews, queue: number, kernels: Kernels): (mbufs: number, count: number) => number {
  const state = (queue + Q_STATE) >>> 2;
  const at = (queue + TAP_AT) >>> 2;
  const length = (queue + TAP_BYTES) >>> 2;
  const descriptor = (queue + Q_NOTIFY_FD) >>> 2;
  const header = (queue + Q_HEADER) >>> 2;
  return (mbufs, count) => {
    if (u32[state] !== QUEUE_RUNNING) return 0;
    const fd = u32[descriptor] ?? 0;
    let done = 0;
    let sent = 0;
    let bytes = 0;
    for (; done < count; done++) {
      const outcome = kernels.tapPrepare(queue, mbufs + 4 * done);
      if (outcome === TAP_WAIT) break;
      if (outcome !== TAP_WRITE) continue;
      try {
        bytes += writeSync(fd, u8, u32[at] ?? 0, u32[length] ?? 0, null) - (u32[header] ?? 0);
        sent++;
      } catch (error) {
        if (isBusy(error)) break;
      }
    }
    if (done !== 0) kernels.tapSent(queue, mbufs, done, sent, bytes);
    return done;
  };
}
