/**
 * The driver side of a packed virtqueue: posting buffers and receiving into them (virtio 1.2, 2.8.21 and 5.1.6.3). Every buffer is one
 * descriptor; how buffer ids go round is told in packed-driver-transmit.kernel.ts.
 * @module
 */
import { ld16, ld32, ldu16, st16, st32, touch } from '../memory/access.ts';
import { MBUF_BUFFER, MBUF_DATA, MBUF_HEADROOM, MBUF_LENGTH, MBUF_PORT, MBUF_ROOM, MBUF_SEGMENT_LENGTH } from '../memory/mbuf-layout.ts';
import { packetFree } from '../memory/mempool.kernel.ts';
import { readNetHeader } from '../net/net-header.kernel.ts';
import { NET_HEADER_BUFFERS } from '../net/virtio-net-header.ts';
import { count, countBurst, countGroupAddress, countSizes } from './counters.kernel.ts';
import { acceptBuffer, appendBuffer, isPostingDue, lookForFreed, refillThreshold, takeBuffers } from './driver-buffers.kernel.ts';
import { claimLines } from './driver-fours.kernel.ts';
import { giveUp } from './give-up.kernel.ts';
import { PACKED_BYTES, PACKED_LENGTH, PACKED_WORD, POSITION_INDEX } from './packed-layout.ts';
import { advance, availableFlags, descriptorAt, isUsed, loadWord, publishBurst, putDescriptor } from './packed-ring.kernel.ts';
import { packedPostFours, packedReceiveFours } from './packed-driver-fours.kernel.ts';
import { SHORTEST_PACKET } from './packet-header.kernel.ts';
import { physicalHigh, physicalLow } from './physical-address.kernel.ts';
import {
  QUEUE_ERROR_BUFFERS,
  QUEUE_ERROR_ID,
  QUEUE_ERROR_LENGTH,
  QUEUE_IN_ORDER,
  QUEUE_MERGEABLE,
  QUEUE_RUNNING,
  QUEUE_VECTORIZED,
  Q_ADDRESS_HIGH,
  Q_BATCH,
  Q_BATCH_LENGTH,
  Q_DESCRIPTORS,
  Q_ERRORS,
  Q_FEATURES,
  Q_FREE,
  Q_FREE_HEAD,
  Q_FREE_RING,
  Q_FREE_TAIL,
  Q_HANDLED,
  Q_HEADER,
  Q_LCORE,
  Q_OFFLOADS,
  Q_OWN_INDEX,
  Q_PHYSICAL,
  Q_PORT,
  Q_SCRATCH,
  Q_SHADOW,
  Q_SIZE,
  Q_STATE,
  Q_TOUCH,
  Q_USED,
  SHADOW_BYTES,
  SHADOW_MBUF,
} from './queue-layout.ts';
import { DESCRIPTOR_F_WRITE } from './split-layout.ts';

/**
 * Posts up to 32 buffers out of the cache of `lcore`. Also fills the ring before the queue runs.
 * @returns buffers posted; 0 when the ring is full or the pool is empty
 */
export function packedDriverRefill(queue: u32, lcore: u32): u32 {
  const wanted: u32 = takeBuffers(queue, lcore);
  if (wanted === 0) return 0;
  claimLines(queue, ld32(queue + Q_OWN_INDEX) & POSITION_INDEX, wanted);
  const size: u32 = ld32(queue + Q_SIZE);
  const scratch: u32 = ld32(queue + Q_SCRATCH);
  const header: u32 = ld32(queue + Q_HEADER);
  const physical: u32 = ld32(queue + Q_PHYSICAL);
  let high: u32 = ld32(queue + Q_ADDRESS_HIGH);
  const table: u32 = ld32(queue + Q_DESCRIPTORS);
  const ring: u32 = ld32(queue + Q_FREE_RING);
  const shadow: u32 = ld32(queue + Q_SHADOW);
  let head: u32 = ld32(queue + Q_FREE_HEAD);
  let position: u32 = ld32(queue + Q_OWN_INDEX);
  const first: u32 = table + (position & POSITION_INDEX) * PACKED_BYTES;
  const firstWord: u32 = ld16(ring + (head << 1)) | ((availableFlags(position) | DESCRIPTOR_F_WRITE) << 16);
  let posted: u32 = 0;
  if (physical === 0) {
    posted = packedPostFours(queue, wanted);
    head = head + posted === size ? 0 : head + posted;
    position = advance(position, posted, size);
  }
  for (let at: u32 = posted; at < wanted; at++) {
    const mbuf: u32 = ld32(scratch + (at << 2));
    const id: u32 = ld16(ring + (head << 1));
    const descriptor: u32 = table + (position & POSITION_INDEX) * PACKED_BYTES;
    let address: u32 = ld32(mbuf + MBUF_BUFFER) + MBUF_HEADROOM - header;
    if (physical !== 0) {
      high = physicalHigh(physical, address);
      address = physicalLow(physical, address);
    }
    putDescriptor(descriptor, address, high, ld32(mbuf + MBUF_ROOM) - MBUF_HEADROOM + header);
    if (at !== 0) st32(descriptor + PACKED_WORD, id | ((availableFlags(position) | DESCRIPTOR_F_WRITE) << 16));
    st32(shadow + id * SHADOW_BYTES + SHADOW_MBUF, mbuf);
    head = head + 1 === size ? 0 : head + 1;
    position = advance(position, 1, size);
  }
  st32(queue + Q_FREE_HEAD, head);
  st32(queue + Q_FREE, ld32(queue + Q_FREE) - wanted);
  publishBurst(queue, first, firstWord, position, ld32(queue + Q_USED));
  return wanted;
}

/** Posts buffers while a good number of descriptors is free. */
function refillMost(queue: u32, size: u32): void {
  const threshold: u32 = refillThreshold(size);
  while (ld32(queue + Q_FREE) >= threshold) {
    if (packedDriverRefill(queue, ld32(queue + Q_LCORE)) === 0) break;
  }
}

/** The id `by` places behind the oldest outstanding one. */
function outstandingId(queue: u32, by: u32, size: u32): u32 {
  const at: u32 = ld32(queue + Q_FREE_TAIL) + by;
  return ld16(ld32(queue + Q_FREE_RING) + ((at < size ? at : at - size) << 1));
}

/**
 * Buffers that the device has used by now, up to `wanted`. With IN_ORDER one used descriptor may stand for all up to its id, and the
 * ring of ids has all of them in their order.
 */
function usedAhead(queue: u32, wanted: u32, size: u32): u32 {
  const table: u32 = ld32(queue + Q_DESCRIPTORS);
  const outstanding: u32 = size - ld32(queue + Q_FREE);
  const inOrder: u32 = ld32(queue + Q_FEATURES) & QUEUE_IN_ORDER;
  let ahead: u32 = ld32(queue + Q_BATCH);
  let position: u32 = advance(ld32(queue + Q_HANDLED), ahead, size);
  while (ahead < wanted && ahead < outstanding) {
    const word: u32 = loadWord(table + (position & POSITION_INDEX) * PACKED_BYTES);
    if (isUsed(word, position) === 0) break;
    let step: u32 = 1;
    if (inOrder !== 0) {
      const id: u32 = word & 0xffff;
      const oldest: u32 = outstandingId(queue, ahead, size);
      // what is wrong with it is found when it is taken
      if (id < size) step += id >= oldest ? id - oldest : id + size - oldest;
    }
    ahead += step;
    position = advance(position, step, size);
  }
  return ahead;
}

/** The mbuf of the next used buffer, which is there, not taken yet; 0 after an error. */
function nextUsed(queue: u32, size: u32): u32 {
  const position: u32 = ld32(queue + Q_HANDLED);
  let id: u32 = 0;
  if ((ld32(queue + Q_FEATURES) & QUEUE_IN_ORDER) !== 0) id = outstandingId(queue, 0, size);
  else id = loadWord(descriptorAt(queue, position)) & 0xffff;
  const mbuf: u32 = id >= size ? 0 : ld32(ld32(queue + Q_SHADOW) + id * SHADOW_BYTES + SHADOW_MBUF);
  if (mbuf === 0) giveUp(queue, QUEUE_ERROR_ID);
  return mbuf;
}

/**
 * Takes the next used buffer, which is there: checks it, frees its id and sets the mbuf's length (the header still included).
 * @returns the mbuf, or 0 after an error that stopped the queue
 */
function takeUsed(queue: u32, size: u32): u32 {
  const position: u32 = ld32(queue + Q_HANDLED);
  const tail: u32 = ld32(queue + Q_FREE_TAIL);
  const slot: u32 = ld32(queue + Q_FREE_RING) + (tail << 1);
  const shadow: u32 = ld32(queue + Q_SHADOW);
  const batch: u32 = ld32(queue + Q_BATCH);
  const inOrder: u32 = ld32(queue + Q_FEATURES) & QUEUE_IN_ORDER;
  let id: u32 = ld16(slot);
  let length: u32 = ld32(queue + Q_BATCH_LENGTH);
  let whole: u32 = 0;
  if (batch !== 0) {
    // inside a batch whose last buffer alone was told, at the place of the first (virtio 1.2, 2.8.9)
    whole = batch > 1 ? 1 : 0;
    st32(queue + Q_BATCH, batch - 1);
  } else {
    const descriptor: u32 = descriptorAt(queue, position);
    const used: u32 = loadWord(descriptor) & 0xffff;
    length = ld32(descriptor + PACKED_LENGTH);
    if (used >= size || ld32(shadow + used * SHADOW_BYTES + SHADOW_MBUF) === 0) {
      giveUp(queue, QUEUE_ERROR_ID);
      return 0;
    }
    if (inOrder === 0) {
      if (used !== id) st16(slot, used);
      id = used;
    } else if (used !== id) {
      st32(queue + Q_BATCH, used > id ? used - id : used + size - id);
      st32(queue + Q_BATCH_LENGTH, length);
      whole = 1;
    }
  }
  const mbuf: u32 = acceptBuffer(queue, shadow + id * SHADOW_BYTES, length, whole);
  if (mbuf === 0) return 0;
  st32(queue + Q_FREE_TAIL, tail + 1 === size ? 0 : tail + 1);
  st32(queue + Q_FREE, ld32(queue + Q_FREE) + 1);
  st32(queue + Q_HANDLED, advance(position, 1, size));
  return mbuf;
}

/**
 * Takes a packet of any number of buffers.
 * @returns its mbuf, MBUF_LENGTH 0 when it makes no sense and is to be freed; 0 when it is not there as a whole, or the queue was given up
 */
function takePacket(queue: u32, size: u32): u32 {
  const header: u32 = ld32(queue + Q_HEADER);
  const lcore: u32 = ld32(queue + Q_LCORE);
  if (usedAhead(queue, 1, size) === 0) return 0;
  let buffers: u32 = 1;
  if ((ld32(queue + Q_FEATURES) & QUEUE_MERGEABLE) !== 0) {
    // the header is read once, before anything is taken: the packet may not be there as a whole yet
    const next: u32 = nextUsed(queue, size);
    if (next === 0) return 0;
    buffers = ldu16(ld32(next + MBUF_BUFFER) + MBUF_HEADROOM - header + NET_HEADER_BUFFERS);
    if (buffers === 0) buffers = 1;
    if (buffers > size) {
      giveUp(queue, QUEUE_ERROR_BUFFERS);
      return 0;
    }
    if (buffers > 1 && usedAhead(queue, buffers, size) < buffers) return 0;
  }
  const packet: u32 = takeUsed(queue, size);
  if (packet === 0) return 0;
  let length: u32 = ld32(packet + MBUF_SEGMENT_LENGTH);
  if (length < header) {
    packetFree(packet, lcore);
    giveUp(queue, QUEUE_ERROR_LENGTH);
    return 0;
  }
  length -= header;
  st32(packet + MBUF_SEGMENT_LENGTH, length);
  let last: u32 = packet;
  for (let more: u32 = 1; more < buffers; more++) {
    const mbuf: u32 = takeUsed(queue, size);
    if (mbuf === 0) {
      packetFree(packet, lcore);
      return 0;
    }
    length += ld32(mbuf + MBUF_SEGMENT_LENGTH);
    appendBuffer(packet, last, mbuf, more, header);
    last = mbuf;
  }
  st32(packet + MBUF_LENGTH, length);
  const offloads: u32 = ld32(queue + Q_OFFLOADS);
  if (length < SHORTEST_PACKET || (offloads !== 0 && readNetHeader(ld32(packet + MBUF_DATA) - header, packet, offloads) === 0)) {
    st32(packet + MBUF_LENGTH, 0);
  }
  return packet;
}

/**
 * Reads a word of each of the next packets, so that their lines arrive together and not one after the other (WebAssembly
 * has no prefetch).
 */
function readAhead(queue: u32, packets: u32, size: u32): void {
  const table: u32 = ld32(queue + Q_DESCRIPTORS);
  const shadow: u32 = ld32(queue + Q_SHADOW);
  const outstanding: u32 = size - ld32(queue + Q_FREE);
  const most: u32 = packets < outstanding ? packets : outstanding;
  let position: u32 = ld32(queue + Q_HANDLED);
  let sum: u32 = 0;
  for (let index: u32 = 0; index < most; index++) {
    const word: u32 = loadWord(table + (position & POSITION_INDEX) * PACKED_BYTES);
    if (isUsed(word, position) === 0) break;
    const id: u32 = word & 0xffff;
    const packet: u32 = id < size ? ld32(shadow + id * SHADOW_BYTES + SHADOW_MBUF) : 0;
    if (packet !== 0) sum += touch(ld32(packet + MBUF_DATA));
    position = advance(position, 1, size);
  }
  st32(queue + Q_TOUCH, sum);
}

/**
 * Receives up to `packets` packets; their handles are written to `to`. Posts fresh buffers first.
 * @returns packets received
 */
export function packedDriverReceive(queue: u32, to: u32, packets: u32): u32 {
  if (ld32(queue + Q_STATE) !== QUEUE_RUNNING) return 0;
  const size: u32 = ld32(queue + Q_SIZE);
  lookForFreed(queue);
  refillMost(queue, size);
  const features: u32 = ld32(queue + Q_FEATURES);
  const offloads: u32 = ld32(queue + Q_OFFLOADS);
  if ((features & QUEUE_VECTORIZED) === 0) readAhead(queue, packets, size);
  const plain: u32 = ld32(queue + Q_BATCH) | offloads;
  let received: u32 = plain === 0 ? packedReceiveFours(queue, to, packets) : 0;
  const fours: u32 = received;
  const table: u32 = ld32(queue + Q_DESCRIPTORS);
  const shadow: u32 = ld32(queue + Q_SHADOW);
  const ring: u32 = ld32(queue + Q_FREE_RING);
  const header: u32 = ld32(queue + Q_HEADER);
  const port: u32 = ld32(queue + Q_PORT);
  const lcore: u32 = ld32(queue + Q_LCORE);
  let position: u32 = ld32(queue + Q_HANDLED);
  let free: u32 = ld32(queue + Q_FREE);
  let tail: u32 = ld32(queue + Q_FREE_TAIL);
  let bytes: u32 = 0;
  let errors: u32 = 0;
  let runLength: u32 = 0;
  let run: u32 = 0;
  while (received < packets && free < size) {
    let packet: u32 = 0;
    let length: u32 = 0;
    // the usual case first: a packet in one buffer, and the oldest one where the device works in order
    if (ld32(queue + Q_BATCH) === 0) {
      const descriptor: u32 = table + (position & POSITION_INDEX) * PACKED_BYTES;
      const word: u32 = loadWord(descriptor);
      if (isUsed(word, position) === 0) break;
      const id: u32 = word & 0xffff;
      const slot: u32 = ring + (tail << 1);
      const oldest: u32 = ld16(slot);
      if (id === oldest || ((features & QUEUE_IN_ORDER) === 0 && id < size)) {
        const entry: u32 = shadow + id * SHADOW_BYTES;
        const mbuf: u32 = ld32(entry + SHADOW_MBUF);
        if (mbuf !== 0) {
          const data: u32 = ld32(mbuf + MBUF_BUFFER) + MBUF_HEADROOM;
          length = ld32(descriptor + PACKED_LENGTH) - header;
          const alone: u32 = (features & QUEUE_MERGEABLE) !== 0 ? ldu16(data - header + NET_HEADER_BUFFERS) : 1;
          // a length shorter than the header has wrapped round and is too long as well
          if (alone <= 1 && length >= SHORTEST_PACKET && length <= ld32(mbuf + MBUF_ROOM) - MBUF_HEADROOM) {
            packet = mbuf;
            st32(entry + SHADOW_MBUF, 0);
            if (id !== oldest) st16(slot, id);
            tail = tail + 1 === size ? 0 : tail + 1;
            free++;
            position = advance(position, 1, size);
            st32(packet + MBUF_SEGMENT_LENGTH, length);
            st32(packet + MBUF_LENGTH, length);
            if (offloads !== 0 && readNetHeader(data - header, packet, offloads) === 0) length = 0;
          }
        }
      }
    }
    if (packet === 0) {
      st32(queue + Q_HANDLED, position);
      st32(queue + Q_FREE, free);
      st32(queue + Q_FREE_TAIL, tail);
      packet = takePacket(queue, size);
      position = ld32(queue + Q_HANDLED);
      free = ld32(queue + Q_FREE);
      tail = ld32(queue + Q_FREE_TAIL);
      if (packet === 0) break;
      length = ld32(packet + MBUF_LENGTH);
    }
    if (length === 0) {
      // shorter than an Ethernet header, or its own header makes no sense
      packetFree(packet, lcore);
      errors++;
      continue;
    }
    st16(packet + MBUF_PORT, port);
    st32(to + (received << 2), packet);
    received++;
    bytes += length;
    if (length !== runLength) {
      if (run !== 0) countSizes(queue, runLength, run);
      runLength = length;
      run = 0;
    }
    run++;
    if ((features & QUEUE_VECTORIZED) === 0) countGroupAddress(queue, ld32(packet + MBUF_DATA));
  }
  st32(queue + Q_HANDLED, position);
  st32(queue + Q_FREE, free);
  st32(queue + Q_FREE_TAIL, tail);
  if (errors !== 0) count(queue + Q_ERRORS, errors);
  if (run !== 0) {
    countSizes(queue, runLength, run);
    countBurst(queue, received - fours, bytes);
  }
  if (isPostingDue(queue, to, received) !== 0) refillMost(queue, size);
  return received;
}
