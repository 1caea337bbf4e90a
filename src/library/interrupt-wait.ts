/**
 * The main thread's wait for packets of a queue that can tell of them: the event loop goes on meanwhile.
 * @module
 */
import { setImmediate } from 'node:timers/promises';
import type { QueueInterrupt } from '../port/queue-functions.ts';
import { closeFd, duplicateFd } from '../system/event-fd.ts';
import { watchReadable } from '../system/readiness.ts';

/** The longest wait, for what no descriptor tells of: a receive ring that had no buffers is filled by the next poll. */
const LONGEST_MILLISECONDS = 100;

export interface InterruptWait {
  readonly done: Promise<void>;
  /** Ends it now, once: from here on the queue is polled, by whoever owns it. */
  readonly cancel: () => void;
}

/** Asks for an interrupt and waits for it, a turn of the event loop when packets are there already; undefined: the queue cannot tell of any now. */
export function waitForInterrupt(interrupt: QueueInterrupt): InterruptWait | undefined {
  const descriptor = interrupt.descriptor();
  if (descriptor === undefined) return undefined;
  if (!interrupt.armInterrupt()) {
    interrupt.disarmInterrupt(false);
    return { done: setImmediate(), cancel: () => undefined };
  }
  // one of our own: the peer's may be closed at any time
  const fd = duplicateFd(descriptor);
  let finish = (_signalled: boolean): void => undefined;
  const done = new Promise<void>((resolve) => {
    let open = true;
    const timer = setTimeout(() => finish(false), LONGEST_MILLISECONDS);
    const unwatch = watchReadable(fd, () => finish(true));
    finish = (signalled) => {
      if (!open) return;
      open = false;
      clearTimeout(timer);
      unwatch();
      closeFd(fd);
      interrupt.disarmInterrupt(signalled);
      resolve();
    };
  });
  return { done, cancel: () => finish(false) };
}
