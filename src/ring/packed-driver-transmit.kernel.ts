/**
 * The driver side of a packed virtqueue: transmitting (virtio 1.2, 2.8.21).
 *
 * Buffer ids are taken from a ring of free ones and go back to its end: with a device that works in order, slot and id stay equal as
 * long as packets have one segment, and the next id of that ring is the next one to come back. What the device may write is never
 * read back: the shadow of an id has its packet and its number of descriptors.
 * @module
 */
import { ld16, ld32, st16, st32 } from '../memory/access.ts';
import {
  MBUF_BUFFER,
  MBUF_DATA,
  MBUF_FLAGS,
  MBUF_LENGTH,
  MBUF_NEXT,
  MBUF_SEGMENTS,
  MBUF_SEGMENT_LENGTH,
  MBUF_WORK,
  ONE_SEGMENT_ONE_OWNER,
} from '../memory/mbuf-layout.ts';
import { packetFree, packetsFree } from '../memory/mempool.kernel.ts';
import { count, countBurst, countGroupAddress, countSizes } from './counters.kernel.ts';
import { claimLines, takeFours } from './driver-fours.kernel.ts';
import { giveUp } from './give-up.kernel.ts';
import { isOversize } from './length-limit.kernel.ts';
import { packedReclaimFours, packedSendFours } from './packed-driver-fours.kernel.ts';
import { hasHeadroom, putSentHeader, writeSentHeader } from './packet-header.kernel.ts';
import { PACKED_BYTES, PACKED_WORD, POSITION_INDEX } from './packed-layout.ts';
import { advance, availableFlags, isUsed, loadWord, publishBurst, putDescriptor } from './packed-ring.kernel.ts';
import { physicalHigh, physicalLow } from './physical-address.kernel.ts';
import {
  QUEUE_ERROR_ID,
  QUEUE_INDIRECT,
  QUEUE_IN_ORDER,
  QUEUE_RUNNING,
  QUEUE_VECTORIZED,
  Q_ADDRESS_HIGH,
  Q_DESCRIPTORS,
  Q_ERRORS,
  Q_FEATURES,
  Q_FREE,
  Q_FREE_HEAD,
  Q_FREE_RING,
  Q_FREE_TAIL,
  Q_HANDLED,
  Q_HEADER,
  Q_HEADERS,
  Q_LCORE,
  Q_LENGTH_LIMIT,
  Q_OFFLOADS,
  Q_OWN_INDEX,
  Q_PHYSICAL,
  Q_SCRATCH,
  Q_SHADOW,
  Q_SIZE,
  Q_STATE,
  Q_UNFINISHED,
  Q_USED,
  SHADOW_BYTES,
  SHADOW_COUNT,
  SHADOW_MBUF,
  TRANSMIT_AREA_BYTES,
  TRANSMIT_HEADER,
  TRANSMIT_TABLE,
  TRANSMIT_TABLE_ENTRIES,
} from './queue-layout.ts';
import { DESCRIPTOR_F_INDIRECT, DESCRIPTOR_F_NEXT } from './split-layout.ts';

/**
 * Takes back the packets that the device has sent, and frees them. With IN_ORDER one used descriptor may stand for all up to its id.
 * @returns descriptors that are free now
 */
export function packedDriverReclaim(queue: u32): u32 {
  const size: u32 = ld32(queue + Q_SIZE);
  const table: u32 = ld32(queue + Q_DESCRIPTORS);
  const ring: u32 = ld32(queue + Q_FREE_RING);
  const shadow: u32 = ld32(queue + Q_SHADOW);
  const scratch: u32 = ld32(queue + Q_SCRATCH);
  const inOrder: u32 = ld32(queue + Q_FEATURES) & QUEUE_IN_ORDER;
  let done: u32 = inOrder === 0 ? packedReclaimFours(queue) : 0;
  let free: u32 = ld32(queue + Q_FREE);
  let tail: u32 = ld32(queue + Q_FREE_TAIL);
  let position: u32 = ld32(queue + Q_HANDLED);
  while (free < size) {
    const word: u32 = loadWord(table + (position & POSITION_INDEX) * PACKED_BYTES);
    if (isUsed(word, position) === 0) break;
    const id: u32 = word & 0xffff;
    if (id >= size || ld32(shadow + id * SHADOW_BYTES + SHADOW_MBUF) === 0) {
      giveUp(queue, QUEUE_ERROR_ID);
      break;
    }
    let next: u32 = id;
    if (inOrder !== 0 && id >= tail) {
      const named: u32 = id - tail + 1;
      const fours: u32 = takeFours(shadow + tail * SHADOW_BYTES, scratch + (done << 2), named);
      position = advance(position, fours, size);
      free += fours;
      done += fours;
      tail = tail + fours === size ? 0 : tail + fours;
      if (fours === named) continue;
    }
    do {
      const slot: u32 = ring + (tail << 1);
      // the oldest buffer first; this ends, as the one named is outstanding
      if (inOrder !== 0) next = ld16(slot);
      else if (ld16(slot) !== id) st16(slot, id);
      const entry: u32 = shadow + next * SHADOW_BYTES;
      const descriptors: u32 = ld16(entry + SHADOW_COUNT);
      st32(scratch + (done << 2), ld32(entry + SHADOW_MBUF));
      st32(entry + SHADOW_MBUF, 0);
      position = advance(position, descriptors, size);
      free += descriptors;
      tail = tail + 1 === size ? 0 : tail + 1;
      done++;
    } while (next !== id);
  }
  if (done === 0) return free;
  st32(queue + Q_FREE, free);
  st32(queue + Q_FREE_TAIL, tail);
  st32(queue + Q_HANDLED, position);
  packetsFree(scratch, done, ld32(queue + Q_LCORE));
  return free;
}

/**
 * Writes the descriptors of any packet: of several segments, without headroom, with work; all but the word of the first in the ring,
 * which the caller writes.
 * @param indirect entries that it takes in the table of its own, which one descriptor of the ring refers to (virtio 1.2, 2.8.7);
 * 0: all of its descriptors are in the ring
 * @returns descriptors of the ring
 */
function writeList(queue: u32, packet: u32, header: u32, id: u32, position: u32, size: u32, indirect: u32): u32 {
  const ring: u32 = ld32(queue + Q_DESCRIPTORS);
  const area: u32 = ld32(queue + Q_HEADERS) + id * TRANSMIT_AREA_BYTES;
  const physical: u32 = ld32(queue + Q_PHYSICAL);
  let high: u32 = ld32(queue + Q_ADDRESS_HIGH);
  let at: u32 = position;
  let descriptors: u32 = 0;
  let mbuf: u32 = packet;
  let address: u32 = area + TRANSMIT_HEADER;
  let length: u32 = header;
  if (hasHeadroom(packet, header) !== 0) {
    address = ld32(packet + MBUF_DATA) - header;
    length = ld32(packet + MBUF_SEGMENT_LENGTH) + header;
    mbuf = ld32(packet + MBUF_NEXT);
  }
  putSentHeader(address, header, packet);
  for (;;) {
    if (physical !== 0) {
      high = physicalHigh(physical, address);
      address = physicalLow(physical, address);
    }
    if (indirect !== 0) {
      // in a table ids are reserved, and so are flags but for WRITE
      const entry: u32 = area + TRANSMIT_TABLE + descriptors * PACKED_BYTES;
      putDescriptor(entry, address, high, length);
      st32(entry + PACKED_WORD, 0);
    } else {
      const descriptor: u32 = ring + (at & POSITION_INDEX) * PACKED_BYTES;
      putDescriptor(descriptor, address, high, length);
      const flags: u32 = availableFlags(at) | (mbuf !== 0 ? DESCRIPTOR_F_NEXT : 0);
      if (descriptors !== 0) st32(descriptor + PACKED_WORD, id | (flags << 16));
      at = advance(at, 1, size);
    }
    descriptors++;
    if (mbuf === 0 || descriptors === indirect) break;
    address = ld32(mbuf + MBUF_DATA);
    length = ld32(mbuf + MBUF_SEGMENT_LENGTH);
    mbuf = ld32(mbuf + MBUF_NEXT);
  }
  if (indirect === 0) return descriptors;
  address = area + TRANSMIT_TABLE;
  if (physical !== 0) {
    high = physicalHigh(physical, address);
    address = physicalLow(physical, address);
  }
  putDescriptor(ring + (position & POSITION_INDEX) * PACKED_BYTES, address, high, descriptors * PACKED_BYTES);
  return 1;
}

/**
 * Sends up to `packets` packets whose handles are at `from`; the first ones are taken, the caller keeps the others.
 * A packet of more segments than the ring has descriptors, or beyond the MTU, is counted as an error and dropped.
 * @returns packets taken
 */
export function packedDriverTransmit(queue: u32, from: u32, packets: u32): u32 {
  if (ld32(queue + Q_STATE) !== QUEUE_RUNNING || packets === 0) return 0;
  const size: u32 = ld32(queue + Q_SIZE);
  let free: u32 = ld32(queue + Q_FREE);
  if (free < packets) free = packedDriverReclaim(queue);
  claimLines(queue, ld32(queue + Q_OWN_INDEX) & POSITION_INDEX, packets < free ? packets : free);
  const header: u32 = ld32(queue + Q_HEADER);
  const physical: u32 = ld32(queue + Q_PHYSICAL);
  const features: u32 = ld32(queue + Q_FEATURES);
  const limit: u32 = ld32(queue + Q_LENGTH_LIMIT);
  let sent: u32 = physical === 0 ? packedSendFours(queue, from, packets) : 0;
  if (sent === packets) return sent;
  const fours: u32 = sent;
  free = ld32(queue + Q_FREE);
  let high: u32 = ld32(queue + Q_ADDRESS_HIGH);
  const table: u32 = ld32(queue + Q_DESCRIPTORS);
  const ring: u32 = ld32(queue + Q_FREE_RING);
  const shadow: u32 = ld32(queue + Q_SHADOW);
  const lcore: u32 = ld32(queue + Q_LCORE);
  const tableEntries: u32 = (features & QUEUE_INDIRECT) !== 0 ? TRANSMIT_TABLE_ENTRIES : 0;
  const unable: u32 = MBUF_WORK & ~ld32(queue + Q_OFFLOADS);
  let head: u32 = ld32(queue + Q_FREE_HEAD);
  let position: u32 = ld32(queue + Q_OWN_INDEX);
  let first: u32 = 0;
  let firstWord: u32 = 0;
  let bytes: u32 = 0;
  let refused: u32 = 0;
  let runLength: u32 = 0;
  let run: u32 = 0;
  for (; sent < packets; sent++) {
    const packet: u32 = ld32(from + (sent << 2));
    const length: u32 = ld32(packet + MBUF_LENGTH);
    const data: u32 = ld32(packet + MBUF_DATA);
    const work: u32 = ld32(packet + MBUF_FLAGS) & MBUF_WORK;
    if ((work & unable) !== 0) {
      st32(queue + Q_UNFINISHED, 1);
      break;
    }
    const descriptor: u32 = table + (position & POSITION_INDEX) * PACKED_BYTES;
    let id: u32 = ld16(ring + (head << 1));
    let flags: u32 = availableFlags(position);
    let descriptors: u32 = 1;
    if (
      work === 0 &&
      length <= limit &&
      ld32(packet + MBUF_SEGMENTS) === ONE_SEGMENT_ONE_OWNER &&
      data - ld32(packet + MBUF_BUFFER) >= header
    ) {
      if (free === 0) break;
      let address: u32 = data - header;
      writeSentHeader(address, header);
      if (physical !== 0) {
        high = physicalHigh(physical, address);
        address = physicalLow(physical, address);
      }
      putDescriptor(descriptor, address, high, length + header);
    } else {
      const wanted: u32 = ld16(packet + MBUF_SEGMENTS) + (hasHeadroom(packet, header) !== 0 ? 0 : 1);
      if (wanted > size || isOversize(queue, packet) !== 0) {
        packetFree(packet, lcore);
        refused++;
        continue;
      }
      const indirect: u32 = wanted > 1 && wanted <= tableEntries ? wanted : 0;
      const needed: u32 = indirect !== 0 ? 1 : wanted;
      if (needed > free) {
        // what was written in this burst is outstanding, though the device does not see it yet
        st32(queue + Q_FREE, free);
        free = packedDriverReclaim(queue);
        if (needed > free) break;
        // with no id left, the next one is what has just come back
        id = ld16(ring + (head << 1));
      }
      descriptors = writeList(queue, packet, header, id, position, size, indirect);
      flags |= indirect !== 0 ? DESCRIPTOR_F_INDIRECT : descriptors > 1 ? DESCRIPTOR_F_NEXT : 0;
    }
    const word: u32 = id | (flags << 16);
    if (first === 0) {
      first = descriptor;
      firstWord = word;
    } else st32(descriptor + PACKED_WORD, word);
    const entry: u32 = shadow + id * SHADOW_BYTES;
    st32(entry + SHADOW_MBUF, packet);
    st16(entry + SHADOW_COUNT, descriptors);
    head = head + 1 === size ? 0 : head + 1;
    free -= descriptors;
    position = advance(position, descriptors, size);
    bytes += length;
    if (length !== runLength) {
      if (run !== 0) countSizes(queue, runLength, run);
      runLength = length;
      run = 0;
    }
    run++;
    if ((features & QUEUE_VECTORIZED) === 0) countGroupAddress(queue, data);
  }
  st32(queue + Q_FREE_HEAD, head);
  st32(queue + Q_FREE, free);
  if (refused !== 0) count(queue + Q_ERRORS, refused);
  if (run !== 0) {
    countSizes(queue, runLength, run);
    countBurst(queue, sent - fours - refused, bytes);
    publishBurst(queue, first, firstWord, position, ld32(queue + Q_USED));
  }
  return sent;
}
