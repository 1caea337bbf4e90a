/**
 * What both directions share on the device side of a packed virtqueue (virtio 1.2, 2.8), which is mapped into the arena's window. The
 * format is drawn in packed-layout.ts.
 *
 * The peer may write all of that memory at any time. Every descriptor is read once; every address is translated with its
 * whole length before use; a burst looks at no more descriptors than the ring has. An impossible value stops the queue with a
 * reason (Q_ERROR); a packet that makes no sense in an otherwise sound ring is counted and dropped.
 *
 * A burst uses all the lists that it took, in their order. So a used descriptor overwrites the first one of its list, and between two
 * bursts Q_HANDLED and Q_OWN_INDEX are the same position:
 *
 *     before   | list, 3 descriptors | list | list, 2 descriptors |  ...
 *              ^ start                                            ^ position
 *     after    | used  .      .      | used | used   .            |  ...     its first word stored last
 *     in order | used  .      .         .      .     .            |  ...     with the id of the last list (2.8.8)
 *
 * The driver looks at used descriptors one after the other: none of the others shows before the first.
 * @module
 */
import { ld32, st32 } from '../memory/access.ts';
import { giveUp } from './give-up.kernel.ts';
import { PACKED_ADDRESS_HIGH, PACKED_ADDRESS_LOW, PACKED_BYTES, PACKED_LENGTH, PACKED_WORD, POSITION_INDEX } from './packed-layout.ts';
import { advance, availableFlags, descriptorAt, isAvailable, loadWord, publishBurst, usedFlags } from './packed-ring.kernel.ts';
import { FAILED, PIECES, addPiece, openTable } from './pieces.kernel.ts';
import { QUEUE_ERROR_CHAIN, Q_AVAILABLE, Q_FIRST_WORD, Q_HANDLED, Q_LIST, Q_OWN_INDEX, Q_SIZE, Q_TOUCH } from './queue-layout.ts';
import { DESCRIPTOR_F_INDIRECT, DESCRIPTOR_F_NEXT, DESCRIPTOR_F_WRITE } from './split-layout.ts';

/** Instead of a number of pieces: the driver has made no list available there. */
export const ABSENT: u32 = 0xfffffffe;

/** Writes id and flags of a used descriptor; those of the burst's first one, at `first`, wait for finishBurst(). */
export function putUsedWord(queue: u32, first: u32, descriptor: u32, word: u32): void {
  if (descriptor === first) st32(queue + Q_FIRST_WORD, word);
  else st32(descriptor + PACKED_WORD, word);
}

/**
 * Id and flags of a used descriptor at `position`.
 * @param written DESCRIPTOR_F_WRITE when the device wrote into the buffer, else 0
 */
export function usedWord(position: u32, id: u32, written: u32): u32 {
  return (id | ((usedFlags(position) | written) << 16)) >>> 0;
}

/** Flags of a word that say whether it is a descriptor, alone, that the driver made available, and for which direction. */
export const KIND_MASK: u32 = 0x80870000;

/**
 * Those flags of descriptors at `position`.
 * @param direction DESCRIPTOR_F_WRITE: for the device to write; 0: to read
 */
export function kindAt(position: u32, direction: u32): u32 {
  return (availableFlags(position) | direction) << 16;
}

/**
 * How many descriptors from `position` on, `most` at most and up to the end of the ring, the driver has made available, each alone and of
 * that kind; a multiple of four.
 */
export function availableFours(queue: u32, position: u32, most: u32, kind: u32): u32 {
  const left: u32 = ld32(queue + Q_SIZE) - (position & POSITION_INDEX);
  const limit: u32 = most < left ? most : left;
  let descriptor: u32 = descriptorAt(queue, position);
  let found: u32 = 0;
  while (found + 4 <= limit) {
    const first: u32 = (loadWord(descriptor) ^ kind) | (loadWord(descriptor + PACKED_BYTES) ^ kind);
    const second: u32 = (loadWord(descriptor + 2 * PACKED_BYTES) ^ kind) | (loadWord(descriptor + 3 * PACKED_BYTES) ^ kind);
    if (((first | second) & KIND_MASK) !== 0) break;
    found += 4;
    descriptor += 4 * PACKED_BYTES;
  }
  return found;
}

/** Ends a burst that has come to `position`: makes its used descriptors visible and finds out whether the driver wants a call. */
export function finishBurst(queue: u32, position: u32): void {
  const start: u32 = ld32(queue + Q_OWN_INDEX);
  if (position === start) return;
  st32(queue + Q_HANDLED, position);
  publishBurst(queue, descriptorAt(queue, start), ld32(queue + Q_FIRST_WORD), position, ld32(queue + Q_AVAILABLE));
}

/**
 * Adds the entries of a table of indirect descriptors, which lie in order and know no flag but WRITE (2.8.7). One to be read may have
 * that, too: DPDK's driver leaves it in the header's entry.
 */
function collectTable(queue: u32, table: u32, bytes: u32, direction: u32, pieces: u32, before: u32): u32 {
  let found: u32 = before;
  for (let entry: u32 = table; entry < table + bytes; entry += PACKED_BYTES) {
    const flags: u32 = ld32(entry + PACKED_WORD) >>> 16;
    if ((flags & (DESCRIPTOR_F_INDIRECT | direction)) !== direction) {
      giveUp(queue, QUEUE_ERROR_CHAIN);
      return FAILED;
    }
    const low: u32 = ld32(entry + PACKED_ADDRESS_LOW);
    found = addPiece(queue, pieces, found, PIECES, low, ld32(entry + PACKED_ADDRESS_HIGH), ld32(entry + PACKED_LENGTH));
    if (found === FAILED) return FAILED;
  }
  return found;
}

/**
 * Walks the list at `position`, or its table of indirect descriptors, and leaves its pieces at `pieces` behind the `before` that are
 * there; their bytes in Q_TOUCH, its buffer id and its number of descriptors in Q_LIST.
 * @param limit descriptors that it may have at most
 * @param direction DESCRIPTOR_F_WRITE: every element must be for the device to write; 0: to read
 * @returns pieces now, ABSENT or FAILED
 */
export function collectList(queue: u32, position: u32, limit: u32, direction: u32, pieces: u32, before: u32): u32 {
  const size: u32 = ld32(queue + Q_SIZE);
  let at: u32 = position;
  let found: u32 = before;
  st32(queue + Q_TOUCH, 0);
  for (let links: u32 = 1; links <= limit; links++) {
    const descriptor: u32 = descriptorAt(queue, at);
    const word: u32 = loadWord(descriptor);
    if (isAvailable(word, at) === 0) {
      if (links === 1) return ABSENT;
      // the first descriptor is made available after the others, and they have the same flags (2.8.6)
      break;
    }
    const flags: u32 = word >>> 16;
    const low: u32 = ld32(descriptor + PACKED_ADDRESS_LOW);
    const high: u32 = ld32(descriptor + PACKED_ADDRESS_HIGH);
    const bytes: u32 = ld32(descriptor + PACKED_LENGTH);
    if ((flags & DESCRIPTOR_F_INDIRECT) !== 0) {
      // WRITE is to be ignored here; a list is of one kind or the other (2.8.5)
      const table: u32 = openTable(queue, low, high, bytes, (flags & DESCRIPTOR_F_NEXT) | (links - 1));
      if (table === 0) return FAILED;
      found = collectTable(queue, table, bytes, direction, pieces, found);
    } else {
      if ((flags & DESCRIPTOR_F_WRITE) !== direction) break;
      found = addPiece(queue, pieces, found, PIECES, low, high, bytes);
    }
    if (found === FAILED) return FAILED;
    if ((flags & DESCRIPTOR_F_NEXT) === 0) {
      st32(queue + Q_LIST, ((word & 0xffff) | (links << 16)) >>> 0);
      return found;
    }
    at = advance(at, 1, size);
  }
  giveUp(queue, QUEUE_ERROR_CHAIN);
  return FAILED;
}
