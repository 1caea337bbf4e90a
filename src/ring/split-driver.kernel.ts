/**
 * The driver side of a split virtqueue: transmit and receive (virtio 1.2, 2.7.13 and 2.7.14).
 *
 * Descriptors are taken from a ring of free ones and go back to its end, so that with a device that works in order, slot
 * and descriptor number stay equal for ever; and every store into the ring is made only if it changes something: a line
 * that both sides merely read costs nothing (figures in docs/performance.md).
 *
 * The ring and the headers are memory that the device may write at any time: what is read from there is checked once,
 * and what must not change is kept in the shadow.
 * @module
 */
import { atomicLoad16, atomicStore16, ld16, ld32, ldu16, st16, st32, stu16, stu32 } from '../memory/access.ts';
import {
  MBUF_BUFFER,
  MBUF_DATA,
  MBUF_HEADROOM,
  MBUF_LENGTH,
  MBUF_NEXT,
  MBUF_PORT,
  MBUF_REFERENCES,
  MBUF_ROOM,
  MBUF_SEGMENT_LENGTH,
  MBUF_SEGMENTS,
} from '../memory/mbuf-layout.ts';
import { mbufAllocate, packetFree, packetsFree } from '../memory/mempool.kernel.ts';
import { NET_HEADER_BUFFERS, NET_HEADER_BYTES } from '../net/virtio-net-header.ts';
import { count, countBurst, countGroupAddress, countSizes } from './counters.kernel.ts';
import {
  Q_ADDRESS_HIGH,
  Q_AVAILABLE,
  Q_BATCH,
  Q_BATCH_SKIPPED,
  Q_DESCRIPTORS,
  Q_ERROR,
  Q_ERRORS,
  Q_FEATURES,
  Q_FREE,
  Q_FREE_HEAD,
  Q_FREE_RING,
  Q_HANDLED,
  Q_HEADER,
  Q_HEADERS,
  Q_LCORE,
  Q_NO_MBUF,
  Q_NOTIFY,
  Q_OWN_INDEX,
  Q_POOL,
  Q_PORT,
  Q_SCRATCH,
  Q_SEEN,
  Q_SHADOW,
  Q_SIZE,
  Q_STATE,
  Q_USED,
  QUEUE_ERROR_BUFFERS,
  QUEUE_ERROR_ID,
  QUEUE_ERROR_INDEX,
  QUEUE_ERROR_LENGTH,
  QUEUE_IN_ORDER,
  QUEUE_MERGEABLE,
  QUEUE_RUNNING,
  QUEUE_STOPPED,
  SHADOW_BYTES,
  SHADOW_COUNT,
  SHADOW_MBUF,
  SHADOW_NEXT,
} from './queue-layout.ts';
import {
  AVAILABLE_INDEX,
  AVAILABLE_RING,
  DESCRIPTOR_ADDRESS_HIGH,
  DESCRIPTOR_ADDRESS_LOW,
  DESCRIPTOR_BYTES,
  DESCRIPTOR_F_NEXT,
  DESCRIPTOR_F_WRITE,
  DESCRIPTOR_FLAGS,
  DESCRIPTOR_LENGTH,
  USED_ELEMENT_BYTES,
  USED_F_NO_NOTIFY,
  USED_FLAGS,
  USED_INDEX,
  USED_RING,
} from './split-layout.ts';

/** SEGMENTS and REFERENCES, in one word, of a packet that is one segment with one owner. */
const ONE_SEGMENT_ONE_OWNER: u32 = 0x10001;
/** The last word of a header: csum_offset 0, num_buffers 1. */
const ONE_BUFFER: u32 = 0x10000;
/** Bytes of an Ethernet header: nothing shorter is a packet. */
const SHORTEST_PACKET: u32 = 14;
/** Room for one header in Q_HEADERS. */
const HEADER_SLOT: u32 = 32;

function giveUp(queue: u32, error: u32): void {
  st32(queue + Q_ERROR, error);
  st32(queue + Q_STATE, QUEUE_STOPPED);
}

/** Index of the next used element that the device may have written, and how far it is ahead; 0xffffffff after an error. */
function usedAhead(queue: u32): u32 {
  const seen: u32 = atomicLoad16(ld32(queue + Q_USED) + USED_INDEX);
  st32(queue + Q_SEEN, seen);
  return (seen - ld32(queue + Q_HANDLED)) & 0xffff;
}

/** Gives the descriptors of the chain that starts at `head` back to the end of the free ring. */
function releaseChain(queue: u32, head: u32, mask: u32): u32 {
  const shadow: u32 = ld32(queue + Q_SHADOW);
  const chain: u32 = ld16(shadow + head * SHADOW_BYTES + SHADOW_COUNT);
  const ring: u32 = ld32(queue + Q_FREE_RING);
  let tail: u32 = ld32(queue + Q_FREE_HEAD) + ld32(queue + Q_FREE);
  let descriptor: u32 = head;
  for (let index: u32 = 0; index < chain; index++) {
    const slot: u32 = ring + ((tail & mask) << 1);
    if (ld16(slot) !== descriptor) st16(slot, descriptor);
    tail++;
    descriptor = ld16(shadow + descriptor * SHADOW_BYTES + SHADOW_NEXT);
  }
  st32(queue + Q_FREE, ld32(queue + Q_FREE) + chain);
  return chain;
}

/**
 * Takes back the packets that the device has sent, and frees them.
 * @returns descriptors that are free now
 */
export function splitDriverReclaim(queue: u32): u32 {
  const size: u32 = ld32(queue + Q_SIZE);
  const mask: u32 = size - 1;
  const ahead: u32 = usedAhead(queue);
  if (ahead === 0) return ld32(queue + Q_FREE);
  if (ahead > size) {
    giveUp(queue, QUEUE_ERROR_INDEX);
    return 0;
  }
  const shadow: u32 = ld32(queue + Q_SHADOW);
  const scratch: u32 = ld32(queue + Q_SCRATCH);
  let handled: u32 = ld32(queue + Q_HANDLED);
  let done: u32 = 0;
  if ((ld32(queue + Q_FEATURES) & QUEUE_IN_ORDER) !== 0) {
    // the device may have written the last element of a batch only: the oldest chain is the next one used, and the ring
    // of free descriptors stays as it is
    const ring: u32 = ld32(queue + Q_FREE_RING);
    const first: u32 = ld32(queue + Q_FREE_HEAD);
    let tail: u32 = first + ld32(queue + Q_FREE);
    for (; done < ahead; done++) {
      const entry: u32 = shadow + ld16(ring + ((tail & mask) << 1)) * SHADOW_BYTES;
      const packet: u32 = ld32(entry + SHADOW_MBUF);
      if (packet === 0) {
        giveUp(queue, QUEUE_ERROR_ID);
        break;
      }
      st32(scratch + (done << 2), packet);
      st32(entry + SHADOW_MBUF, 0);
      tail += ld16(entry + SHADOW_COUNT);
    }
    st32(queue + Q_FREE, tail - first);
  } else {
    const elements: u32 = ld32(queue + Q_USED) + USED_RING;
    for (; done < ahead; done++) {
      const head: u32 = ld32(elements + ((handled + done) & mask) * USED_ELEMENT_BYTES);
      const entry: u32 = shadow + head * SHADOW_BYTES;
      if (head >= size || ld32(entry + SHADOW_MBUF) === 0) {
        giveUp(queue, QUEUE_ERROR_ID);
        break;
      }
      st32(scratch + (done << 2), ld32(entry + SHADOW_MBUF));
      st32(entry + SHADOW_MBUF, 0);
      releaseChain(queue, head, mask);
    }
  }
  handled = (handled + done) & 0xffff;
  st32(queue + Q_HANDLED, handled);
  packetsFree(scratch, done, ld32(queue + Q_LCORE));
  return ld32(queue + Q_FREE);
}

/**
 * Puts the header of a packet without offloads at `header`: all zero (virtio 1.2, 5.1.6.2), but for a num_buffers of 1.
 *
 * That 1 is what the device wrote when the packet was received. No device reads the field, and zeroing it, as the
 * specification asks of the driver, makes the device fetch the line and write 1 again, packet for packet: it costs the
 * io loop 20 % with near cores and 40 % with far ones. DPDK's driver leaves it, too.
 */
function writeHeader(header: u32, bytes: u32): void {
  if ((header & 3) === 0) {
    if (ld32(header) !== 0) st32(header, 0);
    if (ld32(header + 4) !== 0) st32(header + 4, 0);
    if (bytes === NET_HEADER_BYTES) {
      const last: u32 = ld32(header + 8);
      if (last !== 0 && last !== ONE_BUFFER) st32(header + 8, 0);
    } else if (ld16(header + 8) !== 0) st16(header + 8, 0);
    return;
  }
  stu32(header, 0);
  stu32(header + 4, 0);
  stu16(header + 8, 0);
  if (bytes === NET_HEADER_BYTES) stu16(header + NET_HEADER_BUFFERS, 0);
}

function writeDescriptor(descriptor: u32, address: u32, high: u32, length: u32, flagsAndNext: u32): void {
  if (ld32(descriptor + DESCRIPTOR_ADDRESS_LOW) !== address) st32(descriptor + DESCRIPTOR_ADDRESS_LOW, address);
  if (ld32(descriptor + DESCRIPTOR_ADDRESS_HIGH) !== high) st32(descriptor + DESCRIPTOR_ADDRESS_HIGH, high);
  if (ld32(descriptor + DESCRIPTOR_LENGTH) !== length) st32(descriptor + DESCRIPTOR_LENGTH, length);
  if (ld32(descriptor + DESCRIPTOR_FLAGS) !== flagsAndNext) st32(descriptor + DESCRIPTOR_FLAGS, flagsAndNext);
}

/** Writes the descriptors of a packet of several segments, or of one without headroom; returns how many. */
function writeChain(queue: u32, packet: u32, header: u32, mask: u32): u32 {
  const ring: u32 = ld32(queue + Q_FREE_RING);
  const shadow: u32 = ld32(queue + Q_SHADOW);
  const table: u32 = ld32(queue + Q_DESCRIPTORS);
  const high: u32 = ld32(queue + Q_ADDRESS_HIGH);
  const first: u32 = ld32(queue + Q_FREE_HEAD);
  let at: u32 = first;
  let mbuf: u32 = packet;
  let address: u32 = 0;
  let length: u32 = 0;
  if (hasHeadroom(packet, header) !== 0) {
    address = ld32(packet + MBUF_DATA) - header;
    length = ld32(packet + MBUF_SEGMENT_LENGTH) + header;
    mbuf = ld32(packet + MBUF_NEXT);
    writeHeader(address, header);
  } else {
    address = ld32(queue + Q_HEADERS) + ld16(ring + ((first & mask) << 1)) * HEADER_SLOT;
    length = header;
    writeHeader(address, header);
  }
  for (;;) {
    const descriptor: u32 = ld16(ring + ((at & mask) << 1));
    const next: u32 = ld16(ring + (((at + 1) & mask) << 1));
    const last: u32 = mbuf === 0 ? 1 : 0;
    writeDescriptor(
      table + descriptor * DESCRIPTOR_BYTES,
      address,
      high,
      length,
      last !== 0 ? 0 : (DESCRIPTOR_F_NEXT | (next << 16)) >>> 0,
    );
    st16(shadow + descriptor * SHADOW_BYTES + SHADOW_NEXT, next);
    at++;
    if (last !== 0) break;
    address = ld32(mbuf + MBUF_DATA);
    length = ld32(mbuf + MBUF_SEGMENT_LENGTH);
    mbuf = ld32(mbuf + MBUF_NEXT);
  }
  const head: u32 = shadow + ld16(ring + ((first & mask) << 1)) * SHADOW_BYTES;
  st32(head + SHADOW_MBUF, packet);
  st16(head + SHADOW_COUNT, at - first);
  return at - first;
}

/** 1 when the header can be put before the packet: there is room, and nobody else reads this mbuf. */
function hasHeadroom(packet: u32, header: u32): u32 {
  if (ld16(packet + MBUF_REFERENCES) !== 1) return 0;
  return ld32(packet + MBUF_DATA) - ld32(packet + MBUF_BUFFER) >= header ? 1 : 0;
}

/** Makes the entries of the available ring up to `index` visible and finds out whether the device wants a kick. */
function publish(queue: u32, index: u32): void {
  st32(queue + Q_OWN_INDEX, index);
  atomicStore16(ld32(queue + Q_AVAILABLE) + AVAILABLE_INDEX, index);
  // the store above is sequentially consistent: the device's flags are read after it (virtio 1.2, 2.7.13.4.1)
  if ((atomicLoad16(ld32(queue + Q_USED) + USED_FLAGS) & USED_F_NO_NOTIFY) === 0) st32(queue + Q_NOTIFY, 1);
}

/**
 * Sends up to `packets` packets whose handles are at `from`; the first ones are taken, the caller keeps the others.
 * A packet of more segments than the ring has descriptors is counted as an error and dropped.
 * @returns packets taken
 */
export function splitDriverTransmit(queue: u32, from: u32, packets: u32): u32 {
  if (ld32(queue + Q_STATE) !== QUEUE_RUNNING || packets === 0) return 0;
  const size: u32 = ld32(queue + Q_SIZE);
  const mask: u32 = size - 1;
  let free: u32 = ld32(queue + Q_FREE);
  if (free < packets) free = splitDriverReclaim(queue);
  const header: u32 = ld32(queue + Q_HEADER);
  const high: u32 = ld32(queue + Q_ADDRESS_HIGH);
  const table: u32 = ld32(queue + Q_DESCRIPTORS);
  const entries: u32 = ld32(queue + Q_AVAILABLE) + AVAILABLE_RING;
  const ring: u32 = ld32(queue + Q_FREE_RING);
  const shadow: u32 = ld32(queue + Q_SHADOW);
  const lcore: u32 = ld32(queue + Q_LCORE);
  let head: u32 = ld32(queue + Q_FREE_HEAD);
  let index: u32 = ld32(queue + Q_OWN_INDEX);
  let bytes: u32 = 0;
  let sent: u32 = 0;
  let refused: u32 = 0;
  let runLength: u32 = 0;
  let run: u32 = 0;
  for (; sent < packets; sent++) {
    const packet: u32 = ld32(from + (sent << 2));
    const length: u32 = ld32(packet + MBUF_LENGTH);
    const descriptor: u32 = ld16(ring + ((head & mask) << 1));
    const data: u32 = ld32(packet + MBUF_DATA);
    if (ld32(packet + MBUF_SEGMENTS) === ONE_SEGMENT_ONE_OWNER && data - ld32(packet + MBUF_BUFFER) >= header) {
      if (free === 0) break;
      const address: u32 = data - header;
      writeHeader(address, header);
      writeDescriptor(table + descriptor * DESCRIPTOR_BYTES, address, high, length + header, 0);
      const entry: u32 = shadow + descriptor * SHADOW_BYTES;
      st32(entry + SHADOW_MBUF, packet);
      st16(entry + SHADOW_COUNT, 1);
      head++;
      free--;
    } else {
      const wanted: u32 = ld16(packet + MBUF_SEGMENTS) + (hasHeadroom(packet, header) !== 0 ? 0 : 1);
      if (wanted > size) {
        packetFree(packet, lcore);
        refused++;
        continue;
      }
      if (wanted > free) {
        // reclaiming moves the tail of the free ring only; what was written in this burst is not counted as free yet
        st32(queue + Q_FREE_HEAD, head);
        st32(queue + Q_FREE, free);
        free = splitDriverReclaim(queue);
        if (wanted > free) break;
      }
      st32(queue + Q_FREE_HEAD, head);
      const used: u32 = writeChain(queue, packet, header, mask);
      head += used;
      free -= used;
    }
    const available: u32 = entries + ((index & mask) << 1);
    if (ld16(available) !== descriptor) st16(available, descriptor);
    index = (index + 1) & 0xffff;
    bytes += length;
    if (length !== runLength) {
      if (run !== 0) countSizes(queue, runLength, run);
      runLength = length;
      run = 0;
    }
    run++;
    countGroupAddress(queue, data);
  }
  st32(queue + Q_FREE_HEAD, head);
  st32(queue + Q_FREE, free);
  if (refused !== 0) count(queue + Q_ERRORS, refused);
  if (run !== 0) {
    countSizes(queue, runLength, run);
    countBurst(queue, sent - refused, bytes);
    publish(queue, index);
  }
  return sent;
}

/**
 * Posts up to 32 buffers out of the cache of `lcore`. Also fills the ring before the queue runs.
 * @returns buffers posted; 0 when the ring is full or the pool is empty
 */
export function splitDriverRefill(queue: u32, lcore: u32): u32 {
  const free: u32 = ld32(queue + Q_FREE);
  if (free === 0) return 0;
  const mask: u32 = ld32(queue + Q_SIZE) - 1;
  const scratch: u32 = ld32(queue + Q_SCRATCH);
  const pool: u32 = ld32(queue + Q_POOL);
  // 32 at a time come out of the lcore's cache; a pool that runs dry is asked for single ones
  let wanted: u32 = free < 32 ? free : 32;
  if (mbufAllocate(pool, lcore, scratch, wanted) === 0) {
    wanted = mbufAllocate(pool, lcore, scratch, 1);
    if (wanted === 0) {
      count(queue + Q_NO_MBUF, 1);
      return 0;
    }
  }
  const header: u32 = ld32(queue + Q_HEADER);
  const high: u32 = ld32(queue + Q_ADDRESS_HIGH);
  const table: u32 = ld32(queue + Q_DESCRIPTORS);
  const entries: u32 = ld32(queue + Q_AVAILABLE) + AVAILABLE_RING;
  const ring: u32 = ld32(queue + Q_FREE_RING);
  const shadow: u32 = ld32(queue + Q_SHADOW);
  let head: u32 = ld32(queue + Q_FREE_HEAD);
  let index: u32 = ld32(queue + Q_OWN_INDEX);
  for (let at: u32 = 0; at < wanted; at++) {
    const mbuf: u32 = ld32(scratch + (at << 2));
    const descriptor: u32 = ld16(ring + ((head & mask) << 1));
    const address: u32 = ld32(mbuf + MBUF_BUFFER) + MBUF_HEADROOM - header;
    const length: u32 = ld32(mbuf + MBUF_ROOM) - MBUF_HEADROOM + header;
    writeDescriptor(table + descriptor * DESCRIPTOR_BYTES, address, high, length, DESCRIPTOR_F_WRITE);
    const entry: u32 = shadow + descriptor * SHADOW_BYTES;
    st32(entry + SHADOW_MBUF, mbuf);
    st16(entry + SHADOW_COUNT, 1);
    head++;
    const available: u32 = entries + ((index & mask) << 1);
    if (ld16(available) !== descriptor) st16(available, descriptor);
    index = (index + 1) & 0xffff;
  }
  st32(queue + Q_FREE_HEAD, head);
  st32(queue + Q_FREE, free - wanted);
  publish(queue, index);
  return wanted;
}

/**
 * Takes the buffer of the next used element: checks it, frees its descriptor and sets the mbuf's lengths (the header
 * still included).
 * @returns the mbuf, or 0 after an error that stopped the queue
 */
function takeUsed(queue: u32, handled: u32, mask: u32): u32 {
  const element: u32 = ld32(queue + Q_USED) + USED_RING + (handled & mask) * USED_ELEMENT_BYTES;
  const ring: u32 = ld32(queue + Q_FREE_RING);
  const shadow: u32 = ld32(queue + Q_SHADOW);
  let head: u32 = ld32(element);
  let length: u32 = ld32(element + 4);
  let whole: u32 = 0;
  if ((ld32(queue + Q_FEATURES) & QUEUE_IN_ORDER) !== 0) {
    const oldest: u32 = ld16(ring + (((ld32(queue + Q_FREE_HEAD) + ld32(queue + Q_FREE)) & mask) << 1));
    const batch: u32 = ld32(queue + Q_BATCH);
    if (batch !== 0) {
      // inside a batch whose last element alone was written, at the place of the first (virtio 1.2, 2.7.9)
      whole = batch > 1 ? 1 : 0;
      if (whole === 0)
        length = ld32(ld32(queue + Q_USED) + USED_RING + ((handled - ld32(queue + Q_BATCH_SKIPPED)) & mask) * USED_ELEMENT_BYTES + 4);
      st32(queue + Q_BATCH, batch - 1);
      head = oldest;
    } else if (head !== oldest) {
      if (head > mask || ld32(shadow + head * SHADOW_BYTES + SHADOW_MBUF) === 0) {
        giveUp(queue, QUEUE_ERROR_ID);
        return 0;
      }
      const skipped: u32 = (head - oldest) & mask;
      st32(queue + Q_BATCH, skipped);
      st32(queue + Q_BATCH_SKIPPED, skipped);
      whole = 1;
      head = oldest;
    }
  }
  if (head > mask) {
    giveUp(queue, QUEUE_ERROR_ID);
    return 0;
  }
  const entry: u32 = shadow + head * SHADOW_BYTES;
  const mbuf: u32 = ld32(entry + SHADOW_MBUF);
  if (mbuf === 0) {
    giveUp(queue, QUEUE_ERROR_ID);
    return 0;
  }
  const room: u32 = ld32(mbuf + MBUF_ROOM) - MBUF_HEADROOM + ld32(queue + Q_HEADER);
  // buffers that were skipped count as written completely
  if (whole !== 0) length = room;
  if (length > room) {
    giveUp(queue, QUEUE_ERROR_LENGTH);
    return 0;
  }
  st32(entry + SHADOW_MBUF, 0);
  releaseChain(queue, head, mask);
  st32(mbuf + MBUF_SEGMENT_LENGTH, length);
  return mbuf;
}

/** Appends the buffers 2..`buffers` of a packet; returns the packet's length, or 0xffffffff after an error. */
function takeMore(queue: u32, packet: u32, handled: u32, buffers: u32, mask: u32): u32 {
  const header: u32 = ld32(queue + Q_HEADER);
  let length: u32 = ld32(packet + MBUF_LENGTH);
  let last: u32 = packet;
  for (let more: u32 = 1; more < buffers; more++) {
    const mbuf: u32 = takeUsed(queue, (handled + more) & 0xffff, mask);
    if (mbuf === 0) return 0xffffffff;
    // later buffers carry no header: their data start where it would be (virtio 1.2, 5.1.6.4)
    st32(mbuf + MBUF_DATA, ld32(mbuf + MBUF_BUFFER) + MBUF_HEADROOM - header);
    length += ld32(mbuf + MBUF_SEGMENT_LENGTH);
    st32(last + MBUF_NEXT, mbuf);
    st16(packet + MBUF_SEGMENTS, more + 1);
    last = mbuf;
  }
  return length;
}

/**
 * Receives up to `packets` packets; their handles are written to `to`. Posts fresh buffers first.
 * @returns packets received
 */
export function splitDriverReceive(queue: u32, to: u32, packets: u32): u32 {
  if (ld32(queue + Q_STATE) !== QUEUE_RUNNING) return 0;
  const size: u32 = ld32(queue + Q_SIZE);
  const mask: u32 = size - 1;
  // a pool that was empty may have buffers again
  refillMost(queue, size);
  let handled: u32 = ld32(queue + Q_HANDLED);
  let ahead: u32 = (ld32(queue + Q_SEEN) - handled) & 0xffff;
  if (ahead < packets) {
    ahead = usedAhead(queue);
    if (ahead === 0) return 0;
    if (ahead > size - ld32(queue + Q_FREE)) {
      giveUp(queue, QUEUE_ERROR_INDEX);
      return 0;
    }
  }
  const header: u32 = ld32(queue + Q_HEADER);
  const mergeable: u32 = ld32(queue + Q_FEATURES) & QUEUE_MERGEABLE;
  const port: u32 = ld32(queue + Q_PORT);
  const lcore: u32 = ld32(queue + Q_LCORE);
  let bytes: u32 = 0;
  let received: u32 = 0;
  let errors: u32 = 0;
  let runLength: u32 = 0;
  let run: u32 = 0;
  const inOrder: u32 = ld32(queue + Q_FEATURES) & QUEUE_IN_ORDER;
  const ring: u32 = ld32(queue + Q_FREE_RING);
  const shadow: u32 = ld32(queue + Q_SHADOW);
  const elements: u32 = ld32(queue + Q_USED) + USED_RING;
  const head: u32 = ld32(queue + Q_FREE_HEAD);
  let free: u32 = ld32(queue + Q_FREE);
  while (received < packets && ahead !== 0) {
    // the usual case first: the oldest descriptor was used, for a packet in one buffer
    if (inOrder !== 0 && ld32(queue + Q_BATCH) === 0) {
      const oldest: u32 = ld16(ring + (((head + free) & mask) << 1));
      const element: u32 = elements + (handled & mask) * USED_ELEMENT_BYTES;
      const entry: u32 = shadow + oldest * SHADOW_BYTES;
      const packet: u32 = ld32(entry + SHADOW_MBUF);
      if (packet !== 0 && ld32(element) === oldest) {
        const data: u32 = ld32(packet + MBUF_BUFFER) + MBUF_HEADROOM;
        const length: u32 = ld32(element + 4) - header;
        const alone: u32 = mergeable !== 0 ? ldu16(data - header + NET_HEADER_BUFFERS) : 1;
        // a length shorter than the header has wrapped round and is too long as well
        if (alone <= 1 && length >= SHORTEST_PACKET && length <= ld32(packet + MBUF_ROOM) - MBUF_HEADROOM) {
          st32(entry + SHADOW_MBUF, 0);
          free++;
          handled = (handled + 1) & 0xffff;
          ahead--;
          st32(packet + MBUF_SEGMENT_LENGTH, length);
          st32(packet + MBUF_LENGTH, length);
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
          countGroupAddress(queue, data);
          continue;
        }
      }
    }
    st32(queue + Q_FREE, free);
    let buffers: u32 = 1;
    if (mergeable !== 0) {
      // the header is read once, before anything is taken: the packet may not be there as a whole yet
      const oldest: u32 = nextUsed(queue, handled, mask);
      if (oldest === 0) break;
      buffers = ldu16(ld32(oldest + MBUF_BUFFER) + MBUF_HEADROOM - header + NET_HEADER_BUFFERS);
      if (buffers === 0) buffers = 1;
      if (buffers > ahead) {
        if (buffers > size) {
          giveUp(queue, QUEUE_ERROR_BUFFERS);
          break;
        }
        ahead = usedAhead(queue);
        if (ahead > size - ld32(queue + Q_FREE)) {
          giveUp(queue, QUEUE_ERROR_INDEX);
          break;
        }
        if (buffers > ahead) break;
      }
    }
    const packet: u32 = takeUsed(queue, handled, mask);
    if (packet === 0) break;
    let length: u32 = ld32(packet + MBUF_SEGMENT_LENGTH);
    if (length < header) {
      packetFree(packet, lcore);
      giveUp(queue, QUEUE_ERROR_LENGTH);
      break;
    }
    length -= header;
    st32(packet + MBUF_SEGMENT_LENGTH, length);
    st32(packet + MBUF_LENGTH, length);
    if (buffers > 1) {
      length = takeMore(queue, packet, handled, buffers, mask);
      if (length === 0xffffffff) {
        packetFree(packet, lcore);
        break;
      }
      st32(packet + MBUF_LENGTH, length);
    }
    handled = (handled + buffers) & 0xffff;
    ahead -= buffers;
    if (length < SHORTEST_PACKET) {
      // shorter than an Ethernet header
      packetFree(packet, lcore);
      errors++;
      free = ld32(queue + Q_FREE);
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
    countGroupAddress(queue, ld32(packet + MBUF_DATA));
    free = ld32(queue + Q_FREE);
  }
  if (ld32(queue + Q_STATE) === QUEUE_RUNNING) st32(queue + Q_FREE, free);
  st32(queue + Q_HANDLED, handled);
  if (errors !== 0) count(queue + Q_ERRORS, errors);
  if (run !== 0) {
    countSizes(queue, runLength, run);
    countBurst(queue, received, bytes);
  }
  // at once, and not before the next burst: in a loop that fills the ring, the device would be a burst short
  refillMost(queue, size);
  return received;
}

/** Posts buffers while a good number of descriptors is free. */
function refillMost(queue: u32, size: u32): void {
  const threshold: u32 = size >= 64 ? 32 : size >>> 1;
  while (ld32(queue + Q_FREE) >= threshold) {
    if (splitDriverRefill(queue, ld32(queue + Q_LCORE)) === 0) break;
  }
}

/** The mbuf behind the next used element, not taken yet; 0 after an error. */
function nextUsed(queue: u32, handled: u32, mask: u32): u32 {
  const shadow: u32 = ld32(queue + Q_SHADOW);
  let head: u32 = 0;
  if ((ld32(queue + Q_FEATURES) & QUEUE_IN_ORDER) !== 0) {
    head = ld16(ld32(queue + Q_FREE_RING) + (((ld32(queue + Q_FREE_HEAD) + ld32(queue + Q_FREE)) & mask) << 1));
  } else {
    head = ld32(ld32(queue + Q_USED) + USED_RING + (handled & mask) * USED_ELEMENT_BYTES);
  }
  const mbuf: u32 = head > mask ? 0 : ld32(shadow + head * SHADOW_BYTES + SHADOW_MBUF);
  if (mbuf === 0) giveUp(queue, QUEUE_ERROR_ID);
  return mbuf;
}
