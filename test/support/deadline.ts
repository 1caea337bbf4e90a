/**
 * Waiting with a limit: no test waits for anything without one.
 * @module
 */
import { setTimeout as sleep } from 'node:timers/promises';

export { sleep };

/** Rejects with `what` when `promise` has not settled after `milliseconds`. */
export async function within<T>(milliseconds: number, what: string | (() => string), promise: Promise<T>): Promise<T> {
  const timer = new AbortController();
  const late = sleep(milliseconds, undefined, { signal: timer.signal }).then(() => {
    throw new Error(`not within ${milliseconds} ms: ${typeof what === 'string' ? what : what()}`);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    timer.abort();
    late.catch(() => undefined);
  }
}

/** Polls until `condition` answers something other than undefined and false; returns that answer. */
export async function until<T>(
  milliseconds: number,
  what: string | (() => string),
  condition: () => T | Promise<T>,
  interval = 20,
): Promise<Exclude<T, undefined | false>> {
  const end = performance.now() + milliseconds;
  for (;;) {
    const answer = await condition();
    if (answer !== undefined && answer !== false) return answer as Exclude<T, undefined | false>;
    if (performance.now() > end) throw new Error(`not within ${milliseconds} ms: ${typeof what === 'string' ? what : what()}`);
    await sleep(interval);
  }
}
