/**
 * Four descriptors a step on the driver side of a split virtqueue: what for is told in driver-fours.kernel.ts. What is left over is taken
 * packet by packet in split-driver-receive.kernel.ts and split-driver-transmit.kernel.ts.
 *
 * Of the indices only what was done is returned: making it visible, and counting it, is left to the callers.
 * @module
 */
import { clearWords, gatherWords, ld16, ld32, ldu32, spreadWords, stu32 } from '../memory/access.ts';
import { MBUF_BUFFER, MBUF_DATA, MBUF_HEADROOM, MBUF_LENGTH } from '../memory/mbuf-layout.ts';
import { POOL_ROOM } from '../memory/mempool-layout.ts';
import { areThere, claimLines, completePacket, mergedFour, steadyFour, UNSTEADY } from './driver-fours.kernel.ts';
import { takeFour, unfitFour } from './driver-steps.kernel.ts';
import { SHORTEST_PACKET } from './packet-header.kernel.ts';
import {
  ONE_DESCRIPTOR,
  QUEUE_IN_ORDER,
  QUEUE_MERGEABLE,
  Q_ADDRESS_HIGH,
  Q_AVAILABLE,
  Q_DESCRIPTORS,
  Q_FEATURES,
  Q_FREE,
  Q_FREE_HEAD,
  Q_FREE_RING,
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
import { writeDescriptor } from './split-driver-ring.kernel.ts';
import {
  AVAILABLE_RING,
  DESCRIPTOR_ADDRESS_HIGH,
  DESCRIPTOR_ADDRESS_LOW,
  DESCRIPTOR_BYTES,
  DESCRIPTOR_FLAGS,
  DESCRIPTOR_F_WRITE,
  DESCRIPTOR_LENGTH,
  USED_ELEMENT_BYTES,
  USED_RING,
} from './split-layout.ts';

/** 0 when the four used elements from `element` on name the descriptors from `slot` on. */
function unlikeUsed(element: u32, slot: u32): u32 {
  return (
    (ld32(element) ^ slot) |
    (ld32(element + USED_ELEMENT_BYTES) ^ (slot + 1)) |
    (ld32(element + 2 * USED_ELEMENT_BYTES) ^ (slot + 2)) |
    (ld32(element + 3 * USED_ELEMENT_BYTES) ^ (slot + 3))
  );
}

/**
 * Takes used buffers, each a packet of its own, of the `most` that the device has used.
 * @returns packets received; their handles are at `to`
 */
export function splitReceiveFours(queue: u32, to: u32, most: u32): u32 {
  const size: u32 = ld32(queue + Q_SIZE);
  const mask: u32 = size - 1;
  const shadow: u32 = ld32(queue + Q_SHADOW);
  const elements: u32 = ld32(queue + Q_USED) + USED_RING;
  const header: u32 = ld32(queue + Q_HEADER);
  const port: u32 = ld32(queue + Q_PORT);
  const ring: u32 = ld32(queue + Q_FREE_RING);
  const features: u32 = ld32(queue + Q_FEATURES);
  const mergeable: u32 = features & QUEUE_MERGEABLE;
  const inOrder: u32 = features & QUEUE_IN_ORDER;
  const room: u32 = ld32(ld32(queue + Q_POOL) + POOL_ROOM) - MBUF_HEADROOM + header;
  const least: u32 = header + SHORTEST_PACKET;
  let tail: u32 = (ld32(queue + Q_FREE_HEAD) + ld32(queue + Q_FREE)) & mask;
  let at: u32 = ld32(queue + Q_HANDLED) & mask;
  let received: u32 = 0;
  while (received + 4 <= most && tail + 4 <= size && at + 4 <= size) {
    const element: u32 = elements + at * USED_ELEMENT_BYTES;
    const slot: u32 = steadyFour(ring, tail, inOrder);
    if (slot === UNSTEADY || unlikeUsed(element, slot) !== 0) break;
    const length0: u32 = ld32(element + 4);
    const length1: u32 = ld32(element + USED_ELEMENT_BYTES + 4);
    const length2: u32 = ld32(element + 2 * USED_ELEMENT_BYTES + 4);
    const length3: u32 = ld32(element + 3 * USED_ELEMENT_BYTES + 4);
    // the sign bit of any of these: too short, too long
    const short: u32 = (length0 - least) | (length1 - least) | (length2 - least) | (length3 - least);
    const long: u32 = (room - length0) | (room - length1) | (room - length2) | (room - length3);
    if ((short | long) >>> 31 !== 0) break;
    const place: u32 = to + (received << 2);
    const entry: u32 = shadow + slot * SHADOW_BYTES;
    gatherWords(place, entry);
    if (inOrder === 0 && areThere(place) === 0) break;
    if (mergeable !== 0 && mergedFour(place, header) !== 0) break;
    clearWords(entry);
    completePacket(ld32(place), length0 - header, port);
    completePacket(ld32(place + 4), length1 - header, port);
    completePacket(ld32(place + 8), length2 - header, port);
    completePacket(ld32(place + 12), length3 - header, port);
    received += 4;
    tail = (tail + 4) & mask;
    at = (at + 4) & mask;
  }
  return received;
}

/**
 * Takes back packets of one descriptor each of a device that has not promised to work in order, of the `most` that it has used.
 * @returns packets taken; their handles are in the scratch room
 */
export function splitReclaimFours(queue: u32, most: u32): u32 {
  const size: u32 = ld32(queue + Q_SIZE);
  const mask: u32 = size - 1;
  const ring: u32 = ld32(queue + Q_FREE_RING);
  const shadow: u32 = ld32(queue + Q_SHADOW);
  const scratch: u32 = ld32(queue + Q_SCRATCH);
  const elements: u32 = ld32(queue + Q_USED) + USED_RING;
  let tail: u32 = (ld32(queue + Q_FREE_HEAD) + ld32(queue + Q_FREE)) & mask;
  let at: u32 = ld32(queue + Q_HANDLED) & mask;
  let taken: u32 = 0;
  while (taken + 4 <= most && tail + 4 <= size && at + 4 <= size) {
    const element: u32 = elements + at * USED_ELEMENT_BYTES;
    const slot: u32 = steadyFour(ring, tail, 0);
    if (slot === UNSTEADY || unlikeUsed(element, slot) !== 0) break;
    if (takeFour(scratch + (taken << 2), shadow + slot * SHADOW_BYTES) === 0) break;
    taken += 4;
    tail = (tail + 4) & mask;
    at = (at + 4) & mask;
  }
  return taken;
}

/** How a descriptor differs from what is to be there. */
function difference(descriptor: u32, address: u32, high: u32, length: u32, flags: u32): u32 {
  return (
    (ld32(descriptor + DESCRIPTOR_ADDRESS_LOW) ^ address) |
    (ld32(descriptor + DESCRIPTOR_ADDRESS_HIGH) ^ high) |
    (ld32(descriptor + DESCRIPTOR_LENGTH) ^ length) |
    (ld32(descriptor + DESCRIPTOR_FLAGS) ^ flags)
  );
}

/**
 * claimLines() for the `count` descriptors from the `place`th of the free ring on, where they lie one behind the other and the first is to
 * have another address: those that stay as they are stay with both sides. That they lie so is told by the last; were one in between
 * outstanding, it would be given the high word that it has.
 */
function claimChanging(queue: u32, place: u32, count: u32, address: u32): void {
  const ring: u32 = ld32(queue + Q_FREE_RING);
  const slot: u32 = ld16(ring + (place << 1));
  const left: u32 = ld32(queue + Q_SIZE) - place;
  const most: u32 = count < left ? count : left;
  const first: u32 = ld32(queue + Q_DESCRIPTORS) + slot * DESCRIPTOR_BYTES;
  if (ld32(first + DESCRIPTOR_ADDRESS_LOW) === address || ld16(ring + ((place + most - 1) << 1)) !== slot + most - 1) return;
  claimLines(queue, slot, most);
}

/** Writes the entries of the available ring for four descriptors from `slot` on, where they are not there already. */
function offerFour(entry: u32, slot: u32): void {
  const low: u32 = (slot | ((slot + 1) << 16)) >>> 0;
  const high: u32 = ((slot + 2) | ((slot + 3) << 16)) >>> 0;
  if (ldu32(entry) !== low) stu32(entry, low);
  if (ldu32(entry + 4) !== high) stu32(entry + 4, high);
}

/**
 * Writes descriptors of up to `buffers` fresh buffers, whose handles are in the scratch room, and their entries of the available ring.
 * @returns buffers that have descriptors now
 */
export function splitPostFours(queue: u32, buffers: u32): u32 {
  const size: u32 = ld32(queue + Q_SIZE);
  const mask: u32 = size - 1;
  const scratch: u32 = ld32(queue + Q_SCRATCH);
  const table: u32 = ld32(queue + Q_DESCRIPTORS);
  const entries: u32 = ld32(queue + Q_AVAILABLE) + AVAILABLE_RING;
  const shadow: u32 = ld32(queue + Q_SHADOW);
  const high: u32 = ld32(queue + Q_ADDRESS_HIGH);
  const before: u32 = MBUF_HEADROOM - ld32(queue + Q_HEADER);
  const length: u32 = ld32(ld32(queue + Q_POOL) + POOL_ROOM) - before;
  const ring: u32 = ld32(queue + Q_FREE_RING);
  const inOrder: u32 = ld32(queue + Q_FEATURES) & QUEUE_IN_ORDER;
  let place: u32 = ld32(queue + Q_FREE_HEAD) & mask;
  let at: u32 = ld32(queue + Q_OWN_INDEX) & mask;
  let posted: u32 = 0;
  claimChanging(queue, place, buffers, ld32(ld32(scratch) + MBUF_BUFFER) + before);
  while (posted + 4 <= buffers && place + 4 <= size && at + 4 <= size) {
    const slot: u32 = steadyFour(ring, place, inOrder);
    if (slot === UNSTEADY) break;
    const from: u32 = scratch + (posted << 2);
    const descriptor: u32 = table + slot * DESCRIPTOR_BYTES;
    spreadWords(shadow + slot * SHADOW_BYTES, from, ONE_DESCRIPTOR);
    for (let one: u32 = 0; one < 4; one++) {
      const address: u32 = ld32(ld32(from + (one << 2)) + MBUF_BUFFER) + before;
      const to: u32 = descriptor + one * DESCRIPTOR_BYTES;
      if (difference(to, address, high, length, DESCRIPTOR_F_WRITE) !== 0) writeDescriptor(to, address, high, length, DESCRIPTOR_F_WRITE);
    }
    offerFour(entries + (at << 1), slot);
    posted += 4;
    place = (place + 4) & mask;
    at = (at + 4) & mask;
  }
  return posted;
}

/**
 * Sends packets that need no more than their buffers.
 * @param most packets there are, up to the number of free descriptors
 * @returns packets taken
 */
export function splitSendFours(queue: u32, from: u32, most: u32): u32 {
  const size: u32 = ld32(queue + Q_SIZE);
  const mask: u32 = size - 1;
  const table: u32 = ld32(queue + Q_DESCRIPTORS);
  const entries: u32 = ld32(queue + Q_AVAILABLE) + AVAILABLE_RING;
  const shadow: u32 = ld32(queue + Q_SHADOW);
  const header: u32 = ld32(queue + Q_HEADER);
  const limit: u32 = ld32(queue + Q_LENGTH_LIMIT);
  const high: u32 = ld32(queue + Q_ADDRESS_HIGH);
  const ring: u32 = ld32(queue + Q_FREE_RING);
  const inOrder: u32 = ld32(queue + Q_FEATURES) & QUEUE_IN_ORDER;
  let place: u32 = ld32(queue + Q_FREE_HEAD) & mask;
  let at: u32 = ld32(queue + Q_OWN_INDEX) & mask;
  let sent: u32 = 0;
  if (most !== 0) claimChanging(queue, place, most, ld32(ld32(from) + MBUF_DATA) - header);
  while (sent + 4 <= most && place + 4 <= size && at + 4 <= size) {
    const slot: u32 = steadyFour(ring, place, inOrder);
    if (slot === UNSTEADY) break;
    const handles: u32 = from + (sent << 2);
    if (unfitFour(handles, header, limit) !== 0) break;
    const descriptor: u32 = table + slot * DESCRIPTOR_BYTES;
    spreadWords(shadow + slot * SHADOW_BYTES, handles, ONE_DESCRIPTOR);
    for (let one: u32 = 0; one < 4; one++) {
      const packet: u32 = ld32(handles + (one << 2));
      const address: u32 = ld32(packet + MBUF_DATA) - header;
      const length: u32 = ld32(packet + MBUF_LENGTH) + header;
      const to: u32 = descriptor + one * DESCRIPTOR_BYTES;
      if (difference(to, address, high, length, 0) !== 0) writeDescriptor(to, address, high, length, 0);
    }
    offerFour(entries + (at << 1), slot);
    sent += 4;
    place = (place + 4) & mask;
    at = (at + 4) & mask;
  }
  return sent;
}
