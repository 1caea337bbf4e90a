/**
 * The part of a queue's bursts that captures take: called only while there is one.
 * @module
 */
import { ENTRY_BLOCKS, ENTRY_NEXT, ENTRY_TIME } from '../ring/capture-layout.ts';
import type { KernelContext } from '../ring/kernels.ts';
import { writePacketTime } from './packet-time.ts';

type Burst = (mbufs: number, count: number) => number;

function begin({ kernels, views: { u32 } }: KernelContext, first: number, mbufs: number, count: number): void {
  for (let entry = first; entry !== 0; entry = u32[(entry + ENTRY_NEXT) >>> 2] ?? 0) {
    writePacketTime(u32, (entry + ENTRY_TIME) >>> 2, u32[(entry + ENTRY_BLOCKS) >>> 2] !== 0);
    kernels.captureBegin(entry, mbufs, count);
  }
}

function commit({ kernels, views: { u32 } }: KernelContext, first: number, count: number): void {
  for (let entry = first; entry !== 0; entry = u32[(entry + ENTRY_NEXT) >>> 2] ?? 0) kernels.captureCommit(entry, count);
}

/** @param first Q_CAPTURE of the queue */
export function captureReceived(context: KernelContext, first: number, mbufs: number, count: number): void {
  begin(context, first, mbufs, count);
  commit(context, first, count);
}

/** Sends by `burst`, and captures what it takes. */
export function captureSent(context: KernelContext, first: number, burst: Burst, mbufs: number, count: number): number {
  begin(context, first, mbufs, count);
  const moved = burst(mbufs, count);
  commit(context, first, moved);
  return moved;
}
