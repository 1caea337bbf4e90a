/**
 * Waiting in a loop that polls: the event loop runs in between, so that control sockets are served.
 * @module
 */
import { setImmediate, setTimeout } from 'node:timers/promises';

/** Turns that a loop polls without a pause before it begins to sleep: a few hundred microseconds. */
export const EAGER_TURNS = 100;

/** The part of an AbortSignal that is looked at. Any AbortSignal is one. */
export interface Signal {
  readonly aborted: boolean;
  readonly reason?: unknown;
}

/** One turn of the event loop after the `turn`th time in a row that there was nothing to do. */
export async function pause(turn: number, milliseconds: number): Promise<void> {
  if (turn < EAGER_TURNS || milliseconds === 0) await setImmediate();
  else await setTimeout(milliseconds);
}

/** @throws the signal's reason when it is aborted */
export function throwIfAborted(signal: Signal | undefined): void {
  if (signal?.aborted === true) throw signal.reason instanceof Error ? signal.reason : new Error('aborted', { cause: signal.reason });
}

/** Calls `listener` when the signal is aborted, where it can tell of that (any AbortSignal can), until the returned function is called. */
export function onAbort(signal: Signal | undefined, listener: () => void): () => void {
  if (!(signal instanceof EventTarget)) return () => undefined;
  signal.addEventListener('abort', listener);
  return () => {
    signal.removeEventListener('abort', listener);
  };
}
