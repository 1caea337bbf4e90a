/**
 * SIGINT and SIGTERM as an AbortSignal: the first asks for an orderly end, the second does not ask.
 * @module
 */
import { constants } from 'node:os';

export interface Termination extends Disposable {
  readonly signal: AbortSignal;
}

export function onTermination(): Termination {
  const controller = new AbortController();
  const listener = (name: NodeJS.Signals): void => {
    if (controller.signal.aborted) process.exit(128 + constants.signals[name]);
    controller.abort();
  };
  process.on('SIGINT', listener);
  process.on('SIGTERM', listener);
  return {
    signal: controller.signal,
    [Symbol.dispose]: () => {
      process.off('SIGINT', listener);
      process.off('SIGTERM', listener);
    },
  };
}
