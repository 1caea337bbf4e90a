/**
 * A receive queue's first buffers, posted by the main thread before the queue runs: the device finds them at once, not only when an lcore
 * first looks.
 * @module
 */
import { makeNotifier } from '../ring/notification.ts';
import { Q_NOTIFY } from '../ring/queue-layout.ts';
import { MAIN_LCORE_SLOT, type DriverQueue } from '../ring/virtqueue.ts';
import type { PortContext } from './context.ts';

/** Posts as many buffers as the queue takes, and tells the device where it wants to be told. */
export function postBuffers({ arena, main }: PortContext, queue: DriverQueue): void {
  const { driverRefill } = main.kernels;
  for (let posted = 0; posted < queue.size;) {
    const more = driverRefill(queue.offset, MAIN_LCORE_SLOT);
    if (more === 0) break;
    posted += more;
  }
  if (queue.get(Q_NOTIFY) !== 0) makeNotifier(arena.views, queue.offset)();
}
