/**
 * Stopping and starting one queue of a virtio port while the others go on (VIRTIO_F_RING_RESET: virtio 1.2, 2.6.1).
 * @module
 */
import type { VirtioBackend } from '../backend/backend.ts';
import { Q_STATE, QUEUE_RUNNING, QUEUE_STOPPED } from '../ring/queue-layout.ts';
import type { DriverQueue } from '../ring/virtqueue.ts';
import { VirtioError } from '../system/error.ts';
import type { PortContext } from './context.ts';
import { postBuffers } from './post-buffers.ts';

/** A queue, and the number of its ring: even ones receive. */
export interface NumberedQueue {
  readonly queue: DriverQueue;
  readonly ring: number;
}

export class SingleQueues {
  readonly #context: PortContext;
  readonly #backend: VirtioBackend;
  readonly #stopped = new Set<DriverQueue>();

  constructor(context: PortContext, backend: VirtioBackend) {
    this.#context = context;
    this.#backend = backend;
  }

  /** Whether the backend has a way to it at all; the device may still refuse. */
  get supported(): boolean {
    return this.#backend.stopRing !== undefined;
  }

  /** The device was started, and all its queues with it. */
  begin(): void {
    this.#stopped.clear();
  }

  /** What lies in the ring is lost. @throws VirtioError EOPNOTSUPP when the device cannot; the queue goes on then */
  async stop({ queue, ring }: NumberedQueue): Promise<void> {
    if (this.#stopped.has(queue)) return;
    const before = queue.get(Q_STATE);
    queue.setState(QUEUE_STOPPED);
    await this.#context.gracePeriod();
    try {
      await this.#backend.stopRing?.(ring, queue);
    } catch (error) {
      // a ring that the device was asked for and did not give back stays as it is
      if (error instanceof VirtioError && error.code === 'EOPNOTSUPP') queue.setState(before);
      throw error;
    }
    this.#stopped.add(queue);
    queue.reset(this.#context.main.kernels);
  }

  /** A queue that was not stopped by itself goes on as it is. */
  async start({ queue, ring }: NumberedQueue): Promise<void> {
    if (!this.#stopped.has(queue)) return;
    await this.#backend.startRing?.(ring, queue);
    this.#stopped.delete(queue);
    if ((ring & 1) === 0) postBuffers(this.#context, queue);
    queue.setState(QUEUE_RUNNING);
  }
}
