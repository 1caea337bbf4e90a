/**
 * Four descriptors, one cache line, a step on the driver side of a packed virtqueue: what for is told in driver-fours.kernel.ts. What is
 * left over is taken packet by packet in packed-driver-receive.kernel.ts and packed-driver-transmit.kernel.ts.
 * @module
 */
import { clearWords, gatherWords, ld16, ld32, spreadWords, st32 } from '../memory/access.ts';
import { MBUF_BUFFER, MBUF_DATA, MBUF_HEADROOM, MBUF_LENGTH } from '../memory/mbuf-layout.ts';
import { POOL_ROOM } from '../memory/mempool-layout.ts';
import { countPackets } from './counters.kernel.ts';
import { areThere, completePacket, mergedFour, steadyFour, UNSTEADY } from './driver-fours.kernel.ts';
import { takeFour, unfitFour } from './driver-steps.kernel.ts';
import { PACKED_BYTES, PACKED_F_BOTH, PACKED_LENGTH, PACKED_WORD, POSITION_INDEX, POSITION_WRAP } from './packed-layout.ts';
import { availableFlags, loadWord, publishBurst, putDescriptor, usedFlags } from './packed-ring.kernel.ts';
import { SHORTEST_PACKET } from './packet-header.kernel.ts';
import {
  ONE_DESCRIPTOR,
  QUEUE_IN_ORDER,
  QUEUE_MERGEABLE,
  QUEUE_VECTORIZED,
  Q_ADDRESS_HIGH,
  Q_DESCRIPTORS,
  Q_FEATURES,
  Q_FREE,
  Q_FREE_HEAD,
  Q_FREE_RING,
  Q_FREE_TAIL,
  Q_HANDLED,
  Q_HEADER,
  Q_LENGTH_LIMIT,
  Q_OWN_INDEX,
  Q_POOL,
  Q_PORT,
  Q_SCRATCH,
  Q_SHADOW,
  Q_SIZE,
  Q_USED,
  SHADOW_BYTES,
} from './queue-layout.ts';
import { DESCRIPTOR_F_WRITE } from './split-layout.ts';

/** Id, AVAIL and USED of a word. */
const USED_MASK: u32 = 0x8080ffff;

/** 0 when the four descriptors from `descriptor` on are used, and their ids count up from `id`. */
function unlikeUsed(descriptor: u32, id: u32, flags: u32): u32 {
  const word: u32 = flags | id;
  return (
    ((loadWord(descriptor) ^ word) |
      (loadWord(descriptor + PACKED_BYTES) ^ (word + 1)) |
      (loadWord(descriptor + 2 * PACKED_BYTES) ^ (word + 2)) |
      (loadWord(descriptor + 3 * PACKED_BYTES) ^ (word + 3))) &
    USED_MASK
  );
}

/**
 * Takes used buffers, each a packet of its own.
 * @returns packets received; their handles are at `to`
 */
export function packedReceiveFours(queue: u32, to: u32, packets: u32): u32 {
  const size: u32 = ld32(queue + Q_SIZE);
  const table: u32 = ld32(queue + Q_DESCRIPTORS);
  const shadow: u32 = ld32(queue + Q_SHADOW);
  const header: u32 = ld32(queue + Q_HEADER);
  const port: u32 = ld32(queue + Q_PORT);
  const ring: u32 = ld32(queue + Q_FREE_RING);
  const features: u32 = ld32(queue + Q_FEATURES);
  const inOrder: u32 = features & QUEUE_IN_ORDER;
  const room: u32 = ld32(ld32(queue + Q_POOL) + POOL_ROOM) - MBUF_HEADROOM + header;
  const least: u32 = header + SHORTEST_PACKET;
  const position: u32 = ld32(queue + Q_HANDLED);
  let wrap: u32 = position & POSITION_WRAP;
  let index: u32 = position & POSITION_INDEX;
  let tail: u32 = ld32(queue + Q_FREE_TAIL);
  let free: u32 = ld32(queue + Q_FREE);
  let flags: u32 = usedFlags(position) << 16;
  let received: u32 = 0;
  while (received + 4 <= packets && free + 4 <= size && index + 4 <= size && tail + 4 <= size) {
    const descriptor: u32 = table + index * PACKED_BYTES;
    const id: u32 = steadyFour(ring, tail, inOrder);
    if (id === UNSTEADY || unlikeUsed(descriptor, id, flags) !== 0) break;
    const length0: u32 = ld32(descriptor + PACKED_LENGTH);
    const length1: u32 = ld32(descriptor + PACKED_BYTES + PACKED_LENGTH);
    const length2: u32 = ld32(descriptor + 2 * PACKED_BYTES + PACKED_LENGTH);
    const length3: u32 = ld32(descriptor + 3 * PACKED_BYTES + PACKED_LENGTH);
    // the sign bit of any of these: too short, too long
    const short: u32 = (length0 - least) | (length1 - least) | (length2 - least) | (length3 - least);
    const long: u32 = (room - length0) | (room - length1) | (room - length2) | (room - length3);
    if ((short | long) >>> 31 !== 0) break;
    const place: u32 = to + (received << 2);
    const entry: u32 = shadow + id * SHADOW_BYTES;
    gatherWords(place, entry);
    if (inOrder === 0 && areThere(place) === 0) break;
    if ((features & QUEUE_MERGEABLE) !== 0 && mergedFour(place, header) !== 0) break;
    clearWords(entry);
    completePacket(ld32(place), length0 - header, port);
    completePacket(ld32(place + 4), length1 - header, port);
    completePacket(ld32(place + 8), length2 - header, port);
    completePacket(ld32(place + 12), length3 - header, port);
    received += 4;
    free += 4;
    tail = tail + 4 === size ? 0 : tail + 4;
    index += 4;
    if (index === size) {
      index = 0;
      wrap ^= POSITION_WRAP;
      flags ^= PACKED_F_BOTH << 16;
    }
  }
  if (received !== 0) {
    st32(queue + Q_HANDLED, index | wrap);
    st32(queue + Q_FREE, free);
    st32(queue + Q_FREE_TAIL, tail);
    countPackets(queue, to, received, (features & QUEUE_VECTORIZED) ^ QUEUE_VECTORIZED);
  }
  return received;
}

/**
 * Takes back packets of one descriptor each of a device that has not promised to work in order.
 * @returns packets taken; their handles are in the scratch room
 */
export function packedReclaimFours(queue: u32): u32 {
  const size: u32 = ld32(queue + Q_SIZE);
  const table: u32 = ld32(queue + Q_DESCRIPTORS);
  const ring: u32 = ld32(queue + Q_FREE_RING);
  const shadow: u32 = ld32(queue + Q_SHADOW);
  const scratch: u32 = ld32(queue + Q_SCRATCH);
  const position: u32 = ld32(queue + Q_HANDLED);
  let wrap: u32 = position & POSITION_WRAP;
  let index: u32 = position & POSITION_INDEX;
  let tail: u32 = ld32(queue + Q_FREE_TAIL);
  let free: u32 = ld32(queue + Q_FREE);
  let flags: u32 = usedFlags(position) << 16;
  let taken: u32 = 0;
  while (free + 4 <= size && index + 4 <= size && tail + 4 <= size) {
    const descriptor: u32 = table + index * PACKED_BYTES;
    const id: u32 = steadyFour(ring, tail, 0);
    if (id === UNSTEADY || unlikeUsed(descriptor, id, flags) !== 0) break;
    if (takeFour(scratch + (taken << 2), shadow + id * SHADOW_BYTES) === 0) break;
    taken += 4;
    free += 4;
    tail = tail + 4 === size ? 0 : tail + 4;
    index += 4;
    if (index === size) {
      index = 0;
      wrap ^= POSITION_WRAP;
      flags ^= PACKED_F_BOTH << 16;
    }
  }
  st32(queue + Q_HANDLED, index | wrap);
  st32(queue + Q_FREE, free);
  st32(queue + Q_FREE_TAIL, tail);
  return taken;
}

/** The words of four descriptors, but not that of a burst's first one, which is stored last. */
function writeWords(descriptor: u32, word: u32, first: u32): void {
  if (descriptor !== first) st32(descriptor + PACKED_WORD, word);
  st32(descriptor + PACKED_BYTES + PACKED_WORD, word + 1);
  st32(descriptor + 2 * PACKED_BYTES + PACKED_WORD, word + 2);
  st32(descriptor + 3 * PACKED_BYTES + PACKED_WORD, word + 3);
}

/**
 * Writes descriptors of up to `buffers` fresh buffers, whose handles are in the scratch room; the first one's word is left to the caller.
 * @returns buffers that have descriptors now
 */
export function packedPostFours(queue: u32, buffers: u32): u32 {
  const size: u32 = ld32(queue + Q_SIZE);
  const scratch: u32 = ld32(queue + Q_SCRATCH);
  const table: u32 = ld32(queue + Q_DESCRIPTORS);
  const shadow: u32 = ld32(queue + Q_SHADOW);
  const high: u32 = ld32(queue + Q_ADDRESS_HIGH);
  const before: u32 = MBUF_HEADROOM - ld32(queue + Q_HEADER);
  const length: u32 = ld32(ld32(queue + Q_POOL) + POOL_ROOM) - before;
  const ring: u32 = ld32(queue + Q_FREE_RING);
  const inOrder: u32 = ld32(queue + Q_FEATURES) & QUEUE_IN_ORDER;
  const position: u32 = ld32(queue + Q_OWN_INDEX);
  const flags: u32 = (availableFlags(position) | DESCRIPTOR_F_WRITE) << 16;
  const first: u32 = table + (position & POSITION_INDEX) * PACKED_BYTES;
  let index: u32 = position & POSITION_INDEX;
  let head: u32 = ld32(queue + Q_FREE_HEAD);
  let posted: u32 = 0;
  while (posted + 4 <= buffers && index + 4 <= size && head + 4 <= size) {
    const id: u32 = steadyFour(ring, head, inOrder);
    if (id === UNSTEADY) break;
    const from: u32 = scratch + (posted << 2);
    const descriptor: u32 = table + index * PACKED_BYTES;
    spreadWords(shadow + id * SHADOW_BYTES, from, 0);
    putDescriptor(descriptor, ld32(ld32(from) + MBUF_BUFFER) + before, high, length);
    putDescriptor(descriptor + PACKED_BYTES, ld32(ld32(from + 4) + MBUF_BUFFER) + before, high, length);
    putDescriptor(descriptor + 2 * PACKED_BYTES, ld32(ld32(from + 8) + MBUF_BUFFER) + before, high, length);
    putDescriptor(descriptor + 3 * PACKED_BYTES, ld32(ld32(from + 12) + MBUF_BUFFER) + before, high, length);
    writeWords(descriptor, flags | id, first);
    posted += 4;
    index += 4;
    head += 4;
  }
  return posted;
}

/**
 * Sends packets that need no more than their buffers.
 * @returns packets taken
 */
export function packedSendFours(queue: u32, from: u32, packets: u32): u32 {
  const size: u32 = ld32(queue + Q_SIZE);
  const table: u32 = ld32(queue + Q_DESCRIPTORS);
  const shadow: u32 = ld32(queue + Q_SHADOW);
  const header: u32 = ld32(queue + Q_HEADER);
  const limit: u32 = ld32(queue + Q_LENGTH_LIMIT);
  const high: u32 = ld32(queue + Q_ADDRESS_HIGH);
  const position: u32 = ld32(queue + Q_OWN_INDEX);
  const first: u32 = table + (position & POSITION_INDEX) * PACKED_BYTES;
  const ring: u32 = ld32(queue + Q_FREE_RING);
  const inOrder: u32 = ld32(queue + Q_FEATURES) & QUEUE_IN_ORDER;
  const firstWord: u32 = ld16(ring + (ld32(queue + Q_FREE_HEAD) << 1)) | (availableFlags(position) << 16);
  let wrap: u32 = position & POSITION_WRAP;
  let index: u32 = position & POSITION_INDEX;
  let head: u32 = ld32(queue + Q_FREE_HEAD);
  let free: u32 = ld32(queue + Q_FREE);
  let flags: u32 = availableFlags(position) << 16;
  let sent: u32 = 0;
  while (sent + 4 <= packets && free >= 4 && index + 4 <= size && head + 4 <= size) {
    const id: u32 = steadyFour(ring, head, inOrder);
    if (id === UNSTEADY) break;
    const place: u32 = from + (sent << 2);
    if (unfitFour(place, header, limit) !== 0) break;
    const descriptor: u32 = table + index * PACKED_BYTES;
    spreadWords(shadow + id * SHADOW_BYTES, place, ONE_DESCRIPTOR);
    const packet0: u32 = ld32(place);
    const packet1: u32 = ld32(place + 4);
    const packet2: u32 = ld32(place + 8);
    const packet3: u32 = ld32(place + 12);
    putDescriptor(descriptor, ld32(packet0 + MBUF_DATA) - header, high, ld32(packet0 + MBUF_LENGTH) + header);
    putDescriptor(descriptor + PACKED_BYTES, ld32(packet1 + MBUF_DATA) - header, high, ld32(packet1 + MBUF_LENGTH) + header);
    putDescriptor(descriptor + 2 * PACKED_BYTES, ld32(packet2 + MBUF_DATA) - header, high, ld32(packet2 + MBUF_LENGTH) + header);
    putDescriptor(descriptor + 3 * PACKED_BYTES, ld32(packet3 + MBUF_DATA) - header, high, ld32(packet3 + MBUF_LENGTH) + header);
    writeWords(descriptor, flags | id, first);
    sent += 4;
    free -= 4;
    head = head + 4 === size ? 0 : head + 4;
    index += 4;
    if (index === size) {
      index = 0;
      wrap ^= POSITION_WRAP;
      flags ^= PACKED_F_BOTH << 16;
    }
  }
  if (sent !== 0) {
    st32(queue + Q_FREE_HEAD, head);
    st32(queue + Q_FREE, free);
    countPackets(queue, from, sent, (ld32(queue + Q_FEATURES) & QUEUE_VECTORIZED) ^ QUEUE_VECTORIZED);
    publishBurst(queue, first, firstWord, index | wrap, ld32(queue + Q_USED));
  }
  return sent;
}
