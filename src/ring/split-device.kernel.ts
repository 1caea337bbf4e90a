/**
 * The device side of a split virtqueue: takes packets from the driver's transmit queue and puts packets into its receive
 * queue (virtio 1.2, 2.7). The peer's rings and buffers are mapped into the arena's window.
 *
 * The peer may write all of that memory at any time. Every descriptor is read once; every address is translated with its
 * whole length before use; a chain has at most as many links as the ring has descriptors. An impossible value stops the
 * queue with a reason (Q_ERROR); a packet that makes no sense in an otherwise sound ring is counted and dropped.
 * @module
 */
import { atomicLoad16, atomicStore16, copyBytes, copyPacket, ld16, ld32, st16, st32, stu16, stu32, touch } from '../memory/access.ts';
import {
  MBUF_BUFFER,
  MBUF_DATA,
  MBUF_HEADROOM,
  MBUF_LENGTH,
  MBUF_NEXT,
  MBUF_PORT,
  MBUF_ROOM,
  MBUF_SEGMENT_LENGTH,
  MBUF_SEGMENTS,
} from '../memory/mbuf-layout.ts';
import { mbufAllocate, packetFree, packetsFree } from '../memory/mempool.kernel.ts';
import { POOL_ROOM } from '../memory/mempool-layout.ts';
import { NET_HEADER_BUFFERS, NET_HEADER_BYTES } from '../net/virtio-net-header.ts';
import { count, countBurst, countGroupAddress, countSizes } from './counters.kernel.ts';
import { translate } from './peer-memory.kernel.ts';
import {
  Q_AVAILABLE,
  Q_DESCRIPTORS,
  Q_DROPPED,
  Q_ERROR,
  Q_ERRORS,
  Q_FEATURES,
  Q_HANDLED,
  Q_HEADER,
  Q_LCORE,
  Q_NO_MBUF,
  Q_NOTIFY,
  Q_OWN_INDEX,
  Q_POOL,
  Q_PORT,
  Q_REGIONS,
  Q_SCRATCH,
  Q_SEEN,
  Q_SIZE,
  Q_STATE,
  Q_TOUCH,
  Q_USED,
  QUEUE_DISABLED,
  QUEUE_ERROR_ADDRESS,
  QUEUE_ERROR_CHAIN,
  QUEUE_ERROR_ID,
  QUEUE_ERROR_INDEX,
  QUEUE_MERGEABLE,
  QUEUE_RUNNING,
  QUEUE_STOPPED,
  REGION_FIRST,
  REGION_GUEST_HIGH,
  REGION_GUEST_LOW,
  REGION_OFFSET,
  REGION_SIZE,
} from './queue-layout.ts';
import {
  AVAILABLE_F_NO_INTERRUPT,
  AVAILABLE_FLAGS,
  AVAILABLE_INDEX,
  AVAILABLE_RING,
  DESCRIPTOR_ADDRESS_HIGH,
  DESCRIPTOR_ADDRESS_LOW,
  DESCRIPTOR_BYTES,
  DESCRIPTOR_F_INDIRECT,
  DESCRIPTOR_F_NEXT,
  DESCRIPTOR_F_WRITE,
  DESCRIPTOR_FLAGS,
  DESCRIPTOR_LENGTH,
  USED_ELEMENT_BYTES,
  USED_INDEX,
  USED_RING,
} from './split-layout.ts';

/** Longest packet taken from a driver: 64 KiB of payload and headers before it. */
const PACKET_LIMIT: u32 = 65_535 + 64;

/** Where in the scratch room a single handle is put, behind what readAhead() leaves for a burst of 512. */
const ONE_HANDLE: u32 = 4096;

/** Outcomes of one packet. */
const TAKEN: u32 = 0;
const DROPPED: u32 = 1;
const NO_MEMORY: u32 = 2;
const BROKEN: u32 = 3;

function giveUp(queue: u32, error: u32): void {
  st32(queue + Q_ERROR, error);
  st32(queue + Q_STATE, QUEUE_STOPPED);
}

/** Entries of the available ring that are not handled yet; 0xffffffff after an error. */
function availableAhead(queue: u32): u32 {
  const seen: u32 = atomicLoad16(ld32(queue + Q_AVAILABLE) + AVAILABLE_INDEX);
  st32(queue + Q_SEEN, seen);
  const ahead: u32 = (seen - ld32(queue + Q_HANDLED)) & 0xffff;
  if (ahead > ld32(queue + Q_SIZE)) {
    giveUp(queue, QUEUE_ERROR_INDEX);
    return 0xffffffff;
  }
  return ahead;
}

function writeUsed(used: u32, index: u32, mask: u32, id: u32, length: u32): void {
  const element: u32 = used + USED_RING + (index & mask) * USED_ELEMENT_BYTES;
  if (ld32(element) !== id) st32(element, id);
  if (ld32(element + 4) !== length) st32(element + 4, length);
}

/** Makes the used elements up to `index` visible and finds out whether the driver wants a call. */
function publishUsed(queue: u32, index: u32): void {
  st32(queue + Q_OWN_INDEX, index);
  atomicStore16(ld32(queue + Q_USED) + USED_INDEX, index);
  if ((atomicLoad16(ld32(queue + Q_AVAILABLE) + AVAILABLE_FLAGS) & AVAILABLE_F_NO_INTERRUPT) === 0) st32(queue + Q_NOTIFY, 1);
}

/**
 * First pass over a burst: reads every descriptor once, checks it, and reads a word of the packet, so that the cache lines
 * arrive together and not one after the other (WebAssembly has no prefetch). Leaves (packet's offset, length) in the
 * scratch room; offset 0 says that the packet needs a closer look: a chain, too long, too short, or an address that is
 * not the peer's.
 */
function readAhead(queue: u32, handled: u32, packets: u32, mask: u32, header: u32, room: u32): void {
  const entries: u32 = ld32(queue + Q_AVAILABLE) + AVAILABLE_RING;
  const table: u32 = ld32(queue + Q_DESCRIPTORS);
  const regions: u32 = ld32(queue + Q_REGIONS);
  const scratch: u32 = ld32(queue + Q_SCRATCH);
  // most peers have one region: its bounds are at hand, the others are looked up
  const regionLow: u32 = ld32(regions + REGION_FIRST + REGION_GUEST_LOW);
  const regionHigh: u32 = ld32(regions + REGION_FIRST + REGION_GUEST_HIGH);
  const regionSize: u32 = ld32(regions + REGION_FIRST + REGION_SIZE);
  const regionStart: u32 = ld32(regions + REGION_FIRST + REGION_OFFSET);
  let sum: u32 = 0;
  for (let index: u32 = 0; index < packets; index++) {
    const descriptor: u32 = table + (ld16(entries + (((handled + index) & mask) << 1)) & mask) * DESCRIPTOR_BYTES;
    const length: u32 = ld32(descriptor + DESCRIPTOR_LENGTH);
    let packet: u32 = 0;
    if ((ld32(descriptor + DESCRIPTOR_FLAGS) & 7) === 0 && length > header && length - header <= room) {
      const low: u32 = ld32(descriptor + DESCRIPTOR_ADDRESS_LOW);
      const high: u32 = ld32(descriptor + DESCRIPTOR_ADDRESS_HIGH);
      let start: u32 = 0;
      if (low >= regionLow && high === regionHigh && low - regionLow < regionSize && length <= regionSize - (low - regionLow)) {
        start = regionStart + (low - regionLow);
      } else start = translate(regions, low, high, length);
      if (start !== 0) {
        packet = start + header;
        sum += touch(packet & ~3);
      }
    }
    st32(scratch + (index << 3), packet);
    st32(scratch + (index << 3) + 4, length - header);
  }
  st32(queue + Q_TOUCH, sum);
}

/** Copies `length` bytes to the end of a packet of `to`, adding segments; returns the last segment, or 0 without memory. */
function append(queue: u32, packet: u32, segment: u32, from: u32, length: u32): u32 {
  let last: u32 = segment;
  let source: u32 = from;
  let left: u32 = length;
  while (left !== 0) {
    const filled: u32 = ld32(last + MBUF_SEGMENT_LENGTH);
    const data: u32 = ld32(last + MBUF_DATA);
    const room: u32 = ld32(last + MBUF_BUFFER) + ld32(last + MBUF_ROOM) - data - filled;
    if (room === 0) {
      const scratch: u32 = ld32(queue + Q_SCRATCH) + ONE_HANDLE;
      if (mbufAllocate(ld32(queue + Q_POOL), ld32(queue + Q_LCORE), scratch, 1) === 0) return 0;
      const more: u32 = ld32(scratch);
      st32(more + MBUF_SEGMENT_LENGTH, 0);
      st32(last + MBUF_NEXT, more);
      st16(packet + MBUF_SEGMENTS, ld16(packet + MBUF_SEGMENTS) + 1);
      last = more;
      continue;
    }
    const part: u32 = left < room ? left : room;
    copyBytes(data + filled, source, part);
    st32(last + MBUF_SEGMENT_LENGTH, filled + part);
    source += part;
    left -= part;
  }
  return last;
}

/** Takes a packet out of a chain of descriptors; its first mbuf is `packet`. Returns an outcome. */
function takeChain(queue: u32, packet: u32, head: u32, mask: u32, header: u32): u32 {
  const table: u32 = ld32(queue + Q_DESCRIPTORS);
  const regions: u32 = ld32(queue + Q_REGIONS);
  let skip: u32 = header;
  let length: u32 = 0;
  let last: u32 = packet;
  let index: u32 = head;
  let outcome: u32 = TAKEN;
  st32(packet + MBUF_SEGMENT_LENGTH, 0);
  for (let links: u32 = 0; ; links++) {
    if (index > mask || links > mask) {
      giveUp(queue, index > mask ? QUEUE_ERROR_ID : QUEUE_ERROR_CHAIN);
      return BROKEN;
    }
    const descriptor: u32 = table + index * DESCRIPTOR_BYTES;
    const low: u32 = ld32(descriptor + DESCRIPTOR_ADDRESS_LOW);
    const high: u32 = ld32(descriptor + DESCRIPTOR_ADDRESS_HIGH);
    const bytes: u32 = ld32(descriptor + DESCRIPTOR_LENGTH);
    const flagsAndNext: u32 = ld32(descriptor + DESCRIPTOR_FLAGS);
    if ((flagsAndNext & (DESCRIPTOR_F_WRITE | DESCRIPTOR_F_INDIRECT)) !== 0) {
      giveUp(queue, QUEUE_ERROR_CHAIN);
      return BROKEN;
    }
    if (outcome === TAKEN && bytes !== 0) {
      const source: u32 = translate(regions, low, high, bytes);
      if (source === 0) {
        giveUp(queue, QUEUE_ERROR_ADDRESS);
        return BROKEN;
      }
      if (bytes > PACKET_LIMIT || length + bytes > PACKET_LIMIT) {
        outcome = DROPPED;
      } else {
        const skipped: u32 = skip < bytes ? skip : bytes;
        skip -= skipped;
        length += bytes - skipped;
        if (bytes !== skipped) {
          last = append(queue, packet, last, source + skipped, bytes - skipped);
          if (last === 0) outcome = NO_MEMORY;
        }
      }
    }
    if ((flagsAndNext & DESCRIPTOR_F_NEXT) === 0) break;
    index = flagsAndNext >>> 16;
  }
  if (outcome !== TAKEN) return outcome;
  // a chain that is no longer than the header holds no packet
  if (length === 0) return DROPPED;
  st32(packet + MBUF_LENGTH, length);
  return TAKEN;
}

/** Consumes what the driver sends on a ring that is started but disabled (vhost-user, "Ring states"). */
function discard(queue: u32): void {
  const ahead: u32 = availableAhead(queue);
  if (ahead === 0xffffffff || ahead === 0) return;
  const mask: u32 = ld32(queue + Q_SIZE) - 1;
  const entries: u32 = ld32(queue + Q_AVAILABLE) + AVAILABLE_RING;
  let handled: u32 = ld32(queue + Q_HANDLED);
  let own: u32 = ld32(queue + Q_OWN_INDEX);
  for (let index: u32 = 0; index < ahead; index++) {
    writeUsed(ld32(queue + Q_USED), own, mask, ld16(entries + ((handled & mask) << 1)) & mask, 0);
    handled = (handled + 1) & 0xffff;
    own = (own + 1) & 0xffff;
  }
  st32(queue + Q_HANDLED, handled);
  count(queue + Q_DROPPED, ahead);
  publishUsed(queue, own);
}

/**
 * Takes up to `packets` packets that the driver sent; they are copied into mbufs whose handles are written to `to`.
 * @returns packets received
 */
export function splitDeviceDequeue(queue: u32, to: u32, packets: u32): u32 {
  const state: u32 = ld32(queue + Q_STATE);
  if (state !== QUEUE_RUNNING) {
    if (state === QUEUE_DISABLED) discard(queue);
    return 0;
  }
  const mask: u32 = ld32(queue + Q_SIZE) - 1;
  let handled: u32 = ld32(queue + Q_HANDLED);
  let ahead: u32 = (ld32(queue + Q_SEEN) - handled) & 0xffff;
  if (ahead < packets) {
    ahead = availableAhead(queue);
    if (ahead === 0xffffffff) return 0;
  }
  if (ahead === 0) return 0;
  const burst: u32 = ahead < packets ? ahead : packets;
  const lcore: u32 = ld32(queue + Q_LCORE);
  if (mbufAllocate(ld32(queue + Q_POOL), lcore, to, burst) === 0) {
    count(queue + Q_NO_MBUF, 1);
    return 0;
  }
  const header: u32 = ld32(queue + Q_HEADER);
  const room: u32 = ld32(ld32(queue + Q_POOL) + POOL_ROOM) - MBUF_HEADROOM;
  readAhead(queue, handled, burst, mask, header, room);
  const scratch: u32 = ld32(queue + Q_SCRATCH);
  const entries: u32 = ld32(queue + Q_AVAILABLE) + AVAILABLE_RING;
  const used: u32 = ld32(queue + Q_USED);
  const port: u32 = ld32(queue + Q_PORT);
  let own: u32 = ld32(queue + Q_OWN_INDEX);
  let bytes: u32 = 0;
  let received: u32 = 0;
  let done: u32 = 0;
  let dropped: u32 = 0;
  let runLength: u32 = 0;
  let run: u32 = 0;
  for (; done < burst; done++) {
    const packet: u32 = ld32(to + (received << 2));
    const head: u32 = ld16(entries + ((handled & mask) << 1));
    if (head > mask) {
      giveUp(queue, QUEUE_ERROR_ID);
      break;
    }
    const data: u32 = ld32(packet + MBUF_DATA);
    const source: u32 = ld32(scratch + (done << 3));
    let size: u32 = ld32(scratch + (done << 3) + 4);
    if (source !== 0) {
      copyPacket(data, source, size);
      st32(packet + MBUF_LENGTH, size);
      st32(packet + MBUF_SEGMENT_LENGTH, size);
    } else {
      const outcome: u32 = takeChain(queue, packet, head, mask, header);
      if (outcome === BROKEN) break;
      if (outcome === NO_MEMORY) {
        // the packet stays in the ring; what was gathered goes back below
        count(queue + Q_NO_MBUF, 1);
        break;
      }
      size = outcome === TAKEN ? ld32(packet + MBUF_LENGTH) : 0;
    }
    writeUsed(used, own, mask, head, 0);
    own = (own + 1) & 0xffff;
    handled = (handled + 1) & 0xffff;
    if (size < 14) {
      // no packet, or shorter than an Ethernet header; extra segments go back, the first is used again
      dropped++;
      const next: u32 = ld32(packet + MBUF_NEXT);
      if (next !== 0) {
        st32(packet + MBUF_NEXT, 0);
        st16(packet + MBUF_SEGMENTS, 1);
        packetFree(next, lcore);
      }
      continue;
    }
    st16(packet + MBUF_PORT, port);
    received++;
    bytes += size;
    if (size !== runLength) {
      if (run !== 0) countSizes(queue, runLength, run);
      runLength = size;
      run = 0;
    }
    run++;
    countGroupAddress(queue, data);
  }
  if (received < burst) packetsFree(to + (received << 2), burst - received, lcore);
  st32(queue + Q_HANDLED, handled);
  if (dropped !== 0) count(queue + Q_ERRORS, dropped);
  if (run !== 0) {
    countSizes(queue, runLength, run);
    countBurst(queue, received, bytes);
  }
  if (done !== 0) publishUsed(queue, own);
  return received;
}

/** Writes a header without offloads; `buffers` is num_buffers (virtio 1.2, 5.1.6.4.1). */
function writeHeader(header: u32, bytes: u32, buffers: u32): void {
  if ((header & 3) === 0) {
    if (ld32(header) !== 0) st32(header, 0);
    if (ld32(header + 4) !== 0) st32(header + 4, 0);
    if (bytes !== NET_HEADER_BYTES) {
      if (ld16(header + 8) !== 0) st16(header + 8, 0);
    } else if (ld32(header + 8) !== (buffers << 16) >>> 0) st32(header + 8, (buffers << 16) >>> 0);
    return;
  }
  stu32(header, 0);
  stu32(header + 4, 0);
  stu16(header + 8, 0);
  if (bytes === NET_HEADER_BYTES) stu16(header + NET_HEADER_BUFFERS, buffers);
}

/**
 * Collects the writable pieces of the chain at `head` as (offset, length) pairs at `pieces`, until they hold `wanted`
 * bytes. Returns the number of pieces, or 0xffffffff after an error. Their sum is left in Q_TOUCH.
 */
function collect(queue: u32, head: u32, mask: u32, pieces: u32, limit: u32): u32 {
  const table: u32 = ld32(queue + Q_DESCRIPTORS);
  const regions: u32 = ld32(queue + Q_REGIONS);
  let index: u32 = head;
  let found: u32 = 0;
  let sum: u32 = 0;
  for (let links: u32 = 0; ; links++) {
    if (index > mask || links > mask) {
      giveUp(queue, index > mask ? QUEUE_ERROR_ID : QUEUE_ERROR_CHAIN);
      return 0xffffffff;
    }
    const descriptor: u32 = table + index * DESCRIPTOR_BYTES;
    const low: u32 = ld32(descriptor + DESCRIPTOR_ADDRESS_LOW);
    const high: u32 = ld32(descriptor + DESCRIPTOR_ADDRESS_HIGH);
    const bytes: u32 = ld32(descriptor + DESCRIPTOR_LENGTH);
    const flagsAndNext: u32 = ld32(descriptor + DESCRIPTOR_FLAGS);
    if ((flagsAndNext & (DESCRIPTOR_F_WRITE | DESCRIPTOR_F_INDIRECT)) !== DESCRIPTOR_F_WRITE) {
      giveUp(queue, QUEUE_ERROR_CHAIN);
      return 0xffffffff;
    }
    if (bytes !== 0 && found < limit) {
      const at: u32 = translate(regions, low, high, bytes);
      if (at === 0) {
        giveUp(queue, QUEUE_ERROR_ADDRESS);
        return 0xffffffff;
      }
      st32(pieces + (found << 3), at);
      st32(pieces + (found << 3) + 4, bytes);
      // a sum beyond any packet needs no precision
      sum = sum + bytes > PACKET_LIMIT || bytes > PACKET_LIMIT ? PACKET_LIMIT : sum + bytes;
      found++;
    }
    if ((flagsAndNext & DESCRIPTOR_F_NEXT) === 0) break;
    index = flagsAndNext >>> 16;
  }
  st32(queue + Q_TOUCH, sum);
  return found;
}

/** Pieces that one packet may be spread over. */
const PIECES: u32 = 512;

/**
 * Puts one packet into as many of the driver's buffers as it needs and writes their used elements from `own` on.
 * @returns buffers used; 0 when the driver has too few; 0xffffffff after an error; 0xfffffffe when no number of buffers would do
 */
function putPacket(queue: u32, packet: u32, handled: u32, ahead: u32, own: u32, mask: u32): u32 {
  const header: u32 = ld32(queue + Q_HEADER);
  const entries: u32 = ld32(queue + Q_AVAILABLE) + AVAILABLE_RING;
  const used: u32 = ld32(queue + Q_USED);
  const pieces: u32 = ld32(queue + Q_SCRATCH);
  const most: u32 = (ld32(queue + Q_FEATURES) & QUEUE_MERGEABLE) !== 0 ? mask + 1 : 1;
  const wanted: u32 = ld32(packet + MBUF_LENGTH) + header;
  let buffers: u32 = 0;
  let found: u32 = 0;
  let room: u32 = 0;
  while (room < wanted) {
    if (buffers === most || found >= PIECES) return 0xfffffffe;
    if (buffers === ahead) return 0;
    const head: u32 = ld16(entries + (((handled + buffers) & mask) << 1));
    const more: u32 = collect(queue, head, mask, pieces + (found << 3), PIECES - found);
    if (more === 0xffffffff) return more;
    const bytes: u32 = ld32(queue + Q_TOUCH);
    // the used elements become visible with the index only, so they can be written while it is not yet sure that the packet fits
    writeUsed(used, own + buffers, mask, head, wanted - room < bytes ? wanted - room : bytes);
    found += more;
    room += bytes;
    buffers++;
  }
  if (ld32(pieces + 4) < header) {
    giveUp(queue, QUEUE_ERROR_CHAIN);
    return 0xffffffff;
  }
  writeHeader(ld32(pieces), header, buffers);
  let piece: u32 = 0;
  let to: u32 = ld32(pieces) + header;
  let space: u32 = ld32(pieces + 4) - header;
  let segment: u32 = packet;
  while (segment !== 0) {
    let from: u32 = ld32(segment + MBUF_DATA);
    let left: u32 = ld32(segment + MBUF_SEGMENT_LENGTH);
    while (left !== 0) {
      if (space === 0) {
        piece++;
        if (piece >= found) break;
        to = ld32(pieces + (piece << 3));
        space = ld32(pieces + (piece << 3) + 4);
      }
      const part: u32 = left < space ? left : space;
      copyBytes(to, from, part);
      to += part;
      space -= part;
      from += part;
      left -= part;
    }
    segment = ld32(segment + MBUF_NEXT);
  }
  return buffers;
}

/**
 * Puts up to `packets` packets into the driver's receive queue and frees them; the first ones are taken, the caller
 * keeps the others. A packet that no number of buffers could hold is counted and dropped.
 * @returns packets taken
 */
export function splitDeviceEnqueue(queue: u32, from: u32, packets: u32): u32 {
  if (ld32(queue + Q_STATE) !== QUEUE_RUNNING || packets === 0) return 0;
  const mask: u32 = ld32(queue + Q_SIZE) - 1;
  let handled: u32 = ld32(queue + Q_HANDLED);
  let ahead: u32 = (ld32(queue + Q_SEEN) - handled) & 0xffff;
  if (ahead < packets) {
    ahead = availableAhead(queue);
    if (ahead === 0xffffffff || ahead === 0) return 0;
  }
  const header: u32 = ld32(queue + Q_HEADER);
  const table: u32 = ld32(queue + Q_DESCRIPTORS);
  const entries: u32 = ld32(queue + Q_AVAILABLE) + AVAILABLE_RING;
  const used: u32 = ld32(queue + Q_USED);
  const regions: u32 = ld32(queue + Q_REGIONS);
  let own: u32 = ld32(queue + Q_OWN_INDEX);
  const before: u32 = own;
  let bytes: u32 = 0;
  let sent: u32 = 0;
  let dropped: u32 = 0;
  let runLength: u32 = 0;
  let run: u32 = 0;
  for (; sent < packets; sent++) {
    const packet: u32 = ld32(from + (sent << 2));
    const length: u32 = ld32(packet + MBUF_LENGTH);
    if (ahead === 0) break;
    const head: u32 = ld16(entries + ((handled & mask) << 1));
    if (head > mask) {
      giveUp(queue, QUEUE_ERROR_ID);
      break;
    }
    const descriptor: u32 = table + head * DESCRIPTOR_BYTES;
    const low: u32 = ld32(descriptor + DESCRIPTOR_ADDRESS_LOW);
    const high: u32 = ld32(descriptor + DESCRIPTOR_ADDRESS_HIGH);
    const space: u32 = ld32(descriptor + DESCRIPTOR_LENGTH);
    if ((ld32(descriptor + DESCRIPTOR_FLAGS) & 7) === DESCRIPTOR_F_WRITE && space >= length + header && ld32(packet + MBUF_NEXT) === 0) {
      const target: u32 = translate(regions, low, high, length + header);
      if (target === 0) {
        giveUp(queue, QUEUE_ERROR_ADDRESS);
        break;
      }
      writeHeader(target, header, 1);
      copyPacket(target + header, ld32(packet + MBUF_DATA), length);
      writeUsed(used, own, mask, head, length + header);
      own = (own + 1) & 0xffff;
      handled = (handled + 1) & 0xffff;
      ahead--;
    } else {
      let buffers: u32 = putPacket(queue, packet, handled, ahead, own, mask);
      if (buffers === 0) {
        st32(queue + Q_HANDLED, handled);
        ahead = availableAhead(queue);
        if (ahead === 0xffffffff) break;
        buffers = putPacket(queue, packet, handled, ahead, own, mask);
        if (buffers === 0) break;
      }
      if (buffers === 0xffffffff) break;
      if (buffers === 0xfffffffe) {
        dropped++;
        continue;
      }
      own = (own + buffers) & 0xffff;
      handled = (handled + buffers) & 0xffff;
      ahead -= buffers;
    }
    bytes += length;
    if (length !== runLength) {
      if (run !== 0) countSizes(queue, runLength, run);
      runLength = length;
      run = 0;
    }
    run++;
    countGroupAddress(queue, ld32(packet + MBUF_DATA));
  }
  st32(queue + Q_HANDLED, handled);
  if (dropped !== 0) count(queue + Q_DROPPED, dropped);
  if (run !== 0) {
    countSizes(queue, runLength, run);
    countBurst(queue, sent - dropped, bytes);
  }
  if (own !== before) publishUsed(queue, own);
  packetsFree(from, sent, ld32(queue + Q_LCORE));
  return sent;
}
