/**
 * What a driver has made available and its device has not reached yet, read by the control plane ahead of the kernels: addresses that
 * will be wanted soon. The driver may change them at any time; nothing but a guess rests on them.
 * @module
 */
import type { ArenaViews } from '../memory/arena.ts';
import { PACKED_F_BOTH, PACKED_WORD } from './packed-layout.ts';
import { advance, availableFlags } from './packed-ring.kernel.ts';
import { Q_AVAILABLE, Q_DESCRIPTORS, Q_FEATURES, Q_HANDLED, Q_SIZE, QUEUE_PACKED } from './queue-layout.ts';
import {
  AVAILABLE_INDEX,
  AVAILABLE_RING,
  DESCRIPTOR_ADDRESS_HIGH,
  DESCRIPTOR_ADDRESS_LOW,
  DESCRIPTOR_BYTES,
  DESCRIPTOR_F_INDIRECT,
  DESCRIPTOR_F_NEXT,
  DESCRIPTOR_FLAGS,
  DESCRIPTOR_LENGTH,
} from './split-layout.ts';
import type { DeviceQueue } from './virtqueue.ts';

/** Buffers, or descriptors of a packed ring, that are looked at beyond what the device has handled. */
const AHEAD = 128;
/** Descriptors of one chain that are followed. */
const CHAIN = 16;

/** @returns whether to go on. `isTable`: these bytes are a table of indirect descriptors */
export type BufferVisitor = (address: bigint, bytes: number, isTable: boolean) => boolean;

/**
 * Shows `visit` the buffers of a running queue from the place `from` on, as far as it has not handled them.
 * @param from what an earlier call returned; undefined: where the device stands
 * @returns where to go on
 */
export function visitUpcoming(views: ArenaViews, queue: DeviceQueue, from: number | undefined, visit: BufferVisitor): number {
  const { u16, u32, i32 } = views;
  const packed = (queue.get(Q_FEATURES) & QUEUE_PACKED) !== 0;
  const size = queue.get(Q_SIZE);
  const table = queue.get(Q_DESCRIPTORS);
  const handled = queue.get(Q_HANDLED);

  const show = (descriptor: number): boolean => {
    const address =
      (BigInt(u32[(descriptor + DESCRIPTOR_ADDRESS_HIGH) >>> 2] ?? 0) << 32n) |
      BigInt(u32[(descriptor + DESCRIPTOR_ADDRESS_LOW) >>> 2] ?? 0);
    const flags = u16[(descriptor + (packed ? PACKED_WORD + 2 : DESCRIPTOR_FLAGS)) >>> 1] ?? 0;
    return visit(address, u32[(descriptor + DESCRIPTOR_LENGTH) >>> 2] ?? 0, (flags & DESCRIPTOR_F_INDIRECT) !== 0);
  };

  if (packed) {
    let position = handled;
    let reached = from === undefined;
    for (let count = 0; count < Math.min(AHEAD, size); count++) {
      reached ||= position === from;
      const descriptor = table + (position & 0x7fff) * DESCRIPTOR_BYTES;
      const word = Atomics.load(i32, (descriptor + PACKED_WORD) >>> 2);
      if (((word >>> 16) & PACKED_F_BOTH) !== availableFlags(position)) break;
      if (reached && !show(descriptor)) break;
      position = advance(position, 1, size);
    }
    return position;
  }

  const available = queue.get(Q_AVAILABLE);
  const seen = Atomics.load(u16, (available + AVAILABLE_INDEX) >>> 1);
  const ahead = (seen - handled) & 0xffff;
  // the kernels will say so
  if (ahead > size) return handled;
  const end = Math.min(ahead, AHEAD);
  const behind = from === undefined ? 0 : (from - handled) & 0xffff;
  for (let at = behind <= ahead ? behind : 0; at < end; at++) {
    let index = u16[(available + AVAILABLE_RING + 2 * ((handled + at) & (size - 1))) >>> 1] ?? 0;
    for (let links = 0; links < CHAIN && index < size; links++) {
      const descriptor = table + index * DESCRIPTOR_BYTES;
      if (!show(descriptor)) return (handled + at) & 0xffff;
      const flagsAndNext = u32[(descriptor + DESCRIPTOR_FLAGS) >>> 2] ?? 0;
      if ((flagsAndNext & DESCRIPTOR_F_NEXT) === 0) break;
      index = flagsAndNext >>> 16;
    }
  }
  return (handled + Math.max(end, behind <= ahead ? behind : 0)) & 0xffff;
}
