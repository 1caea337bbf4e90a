/**
 * How far the two sides of a ring are apart, for those who ask from outside the burst path (rte_eth_rx_queue_count() and
 * rte_eth_rx_descriptor_status() of DPDK).
 *
 * Only on the thread that stops queues, while the queue runs: the other side's memory is there then. An lcore works on meanwhile, so that
 * an answer may be old when it is given.
 * @module
 */
import type { ArenaViews } from '../memory/arena.ts';
import { PACKED_BYTES, PACKED_F_BOTH, PACKED_WORD, POSITION_INDEX } from './packed-layout.ts';
import { advance, availableFlags, usedFlags } from './packed-ring.kernel.ts';
import {
  Q_AVAILABLE,
  Q_DESCRIPTORS,
  Q_FEATURES,
  Q_FREE_RING,
  Q_FREE_TAIL,
  Q_HANDLED,
  Q_SHADOW,
  Q_SIZE,
  Q_USED,
  QUEUE_IN_ORDER,
  QUEUE_PACKED,
  SHADOW_BYTES,
  SHADOW_COUNT,
} from './queue-layout.ts';
import { AVAILABLE_INDEX, DESCRIPTOR_F_NEXT, USED_INDEX } from './split-layout.ts';
import type { DeviceQueue, DriverQueue, QueueState } from './virtqueue.ts';

/** Entries of a split ring between what this side has handled and the other side's index at `index`; no more than the ring has. */
function splitAhead({ u16 }: ArenaViews, queue: QueueState, index: number): number {
  return Math.min(((u16[index >>> 1] ?? 0) - queue.get(Q_HANDLED)) & 0xffff, queue.get(Q_SIZE));
}

/** Id and flags of the descriptor at a position. */
function packedWord({ u32 }: ArenaViews, queue: QueueState, position: number): number {
  return u32[(queue.get(Q_DESCRIPTORS) + (position & POSITION_INDEX) * PACKED_BYTES + PACKED_WORD) >>> 2] ?? 0;
}

/** Driver: buffers that the device has used, and that wait to be handled. */
export function usedBuffers(views: ArenaViews, queue: DriverQueue): number {
  const features = queue.get(Q_FEATURES);
  if ((features & QUEUE_PACKED) === 0) return splitAhead(views, queue, queue.get(Q_USED) + USED_INDEX);
  const { u16 } = views;
  const size = queue.get(Q_SIZE);
  let position = queue.get(Q_HANDLED);
  let tail = queue.get(Q_FREE_TAIL);
  let buffers = 0;
  while (buffers < size) {
    const word = packedWord(views, queue, position);
    if (((word >>> 16) & PACKED_F_BOTH) !== usedFlags(position)) break;
    const id = word & 0xffff;
    let next = id;
    // in order, one descriptor may stand for all up to its id (virtio 1.2, 2.8.8)
    do {
      if ((features & QUEUE_IN_ORDER) !== 0) next = u16[(queue.get(Q_FREE_RING) >>> 1) + tail] ?? id;
      const descriptors = u16[(queue.get(Q_SHADOW) + next * SHADOW_BYTES + SHADOW_COUNT) >>> 1] ?? 1;
      position = advance(position, Math.max(1, descriptors), size);
      tail = tail + 1 === size ? 0 : tail + 1;
      buffers++;
    } while (next !== id && buffers < size);
  }
  return buffers;
}

/** Device: buffers that the driver has made available, and that wait to be handled. */
export function availableBuffers(views: ArenaViews, queue: DeviceQueue): number {
  if ((queue.get(Q_FEATURES) & QUEUE_PACKED) === 0) return splitAhead(views, queue, queue.get(Q_AVAILABLE) + AVAILABLE_INDEX);
  const size = queue.get(Q_SIZE);
  let position = queue.get(Q_HANDLED);
  let buffers = 0;
  for (let looked = 0; looked < size; looked++) {
    const flags = packedWord(views, queue, position) >>> 16;
    if ((flags & PACKED_F_BOTH) !== availableFlags(position)) break;
    if ((flags & DESCRIPTOR_F_NEXT) === 0) buffers++;
    position = advance(position, 1, size);
  }
  return buffers;
}
