/**
 * An lcore that has nothing to do asleep in a system call: until a receive queue tells of packets, or the control plane wants something.
 *
 *     device --- eventfd of the queue ---\
 *     main thread --- the lcore's own ---+--- poll() on the lcore
 *
 * It sleeps outside of every burst, so a grace period only has to wake it. What it must not miss is told by the order of things: it
 * asks every queue for a notification, and each of them is looked at once more afterwards.
 * @module
 */
import type { QueueInterrupt } from '../port/queue-functions.ts';
import { clearEventFd } from '../system/event-fd.ts';
import { DescriptorPoll } from '../system/poll.ts';

/**
 * The longest sleep. Nothing depends on it but what no descriptor tells of: a receive ring that had no buffers because the pool was
 * empty is filled by the next poll.
 */
const LONGEST_MILLISECONDS = 100;

/** How a sleep ended. `awake`: there was none, for packets were there already or a queue has to be polled. */
export type Sleep = 'packets' | 'woken' | 'timeout' | 'awake';

export class Sleeper {
  readonly #wake: number;
  readonly #queues: readonly QueueInterrupt[];
  readonly #poll: DescriptorPoll;
  /** Descriptors that failed, by queue: not waited for again before they have changed. */
  readonly #failed: (number | undefined)[];

  /** The queue whose packets ended the last sleep. */
  readable = 0;

  /** @param wake eventfd of the lcore */
  constructor(wake: number, queues: readonly QueueInterrupt[]) {
    this.#wake = wake;
    this.#queues = queues;
    this.#poll = new DescriptorPoll(queues.length + 1);
    this.#poll.set(queues.length, wake);
    this.#failed = queues.map(() => undefined);
  }

  sleep(): Sleep {
    const queues = this.#queues;
    const own = queues.length;
    let armed = 0;
    let idle = true;
    for (; armed < own && idle; armed++) {
      const queue = queues[armed];
      if (queue?.available() !== true) break;
      const fd = queue.descriptor();
      if (fd !== this.#failed[armed]) this.#failed[armed] = undefined;
      this.#poll.set(armed, this.#failed[armed] === undefined ? fd : undefined);
      idle = queue.armInterrupt();
    }
    if (armed < own || !idle) {
      for (let index = 0; index < armed; index++) queues[index]?.disarmInterrupt(false);
      return 'awake';
    }
    this.#poll.wait(LONGEST_MILLISECONDS);
    let packets = false;
    for (const [index, queue] of queues.entries()) {
      const readable = this.#poll.readable(index);
      if (readable && !packets) this.readable = index;
      packets ||= readable;
      if (!readable && this.#poll.failed(index)) this.#failed[index] = queue.descriptor();
      queue.disarmInterrupt(readable);
    }
    const woken = this.#poll.readable(own);
    if (woken) clearEventFd(this.#wake);
    return packets ? 'packets' : woken ? 'woken' : 'timeout';
  }
}
