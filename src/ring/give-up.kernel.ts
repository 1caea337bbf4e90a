/**
 * What a kernel does with an impossible value from the other side: the queue stops, and says why.
 * @module
 */
import { st32 } from '../memory/access.ts';
import { Q_ERROR, Q_STATE, QUEUE_STOPPED } from './queue-layout.ts';

/** @param error QUEUE_ERROR_* */
export function giveUp(queue: u32, error: u32): void {
  st32(queue + Q_ERROR, error);
  st32(queue + Q_STATE, QUEUE_STOPPED);
}
