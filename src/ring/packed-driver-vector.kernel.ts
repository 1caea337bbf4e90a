/**
 * The vectorized path of the driver side of packed rings: four descriptors, one cache line, a step.
 *
 * For queues whose device works in order, whose packets have one buffer and no work (src/port/virtio-path.ts). The ring of free buffer
 * ids then always counts up, so that the id at a place of it is the place. What does not come in fours, or is not as it should be, is
 * left to the loops of packed-driver-receive.kernel.ts and packed-driver-transmit.kernel.ts. As on the vectorized paths of DPDK nothing
 * looks into packets, so that their lines stay where they are: multicast and broadcast packets are not counted.
 * @module
 */
import { clearWords, gatherWords, ld32, spreadWords, st16, st32 } from '../memory/access.ts';
import {
  MBUF_BUFFER,
  MBUF_DATA,
  MBUF_FLAGS,
  MBUF_HEADROOM,
  MBUF_LENGTH,
  MBUF_PORT,
  MBUF_SEGMENTS,
  MBUF_SEGMENT_LENGTH,
  MBUF_WORK,
  ONE_SEGMENT_ONE_OWNER,
} from '../memory/mbuf-layout.ts';
import { POOL_ROOM } from '../memory/mempool-layout.ts';
import { countBurst, countSizes } from './counters.kernel.ts';
import {
  PACKED_ADDRESS_HIGH,
  PACKED_ADDRESS_LOW,
  PACKED_BYTES,
  PACKED_F_BOTH,
  PACKED_LENGTH,
  PACKED_WORD,
  POSITION_INDEX,
  POSITION_WRAP,
} from './packed-layout.ts';
import { availableFlags, loadWord, publishBurst, usedFlags } from './packed-ring.kernel.ts';
import { SHORTEST_PACKET } from './packet-header.kernel.ts';
import {
  Q_ADDRESS_HIGH,
  Q_DESCRIPTORS,
  Q_FREE,
  Q_FREE_HEAD,
  Q_FREE_TAIL,
  Q_HANDLED,
  Q_HEADER,
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

const FOUR: u32 = 4;
/** The other word of a shadow: a packet in one descriptor. */
const ONE_DESCRIPTOR: u32 = 0x10000;
/** Id, AVAIL and USED of a word. */
const USED_MASK: u32 = 0x8080ffff;

/** A received packet's fields; one buffer has the rest as it was freed. */
function giveLength(packet: u32, length: u32, port: u32): void {
  st32(packet + MBUF_LENGTH, length);
  st32(packet + MBUF_SEGMENT_LENGTH, length);
  st16(packet + MBUF_PORT, port);
}

/**
 * Takes used buffers four at a time, each a packet of its own.
 * @returns packets received; their handles are at `to`
 */
export function receiveFours(queue: u32, to: u32, packets: u32): u32 {
  const size: u32 = ld32(queue + Q_SIZE);
  const table: u32 = ld32(queue + Q_DESCRIPTORS);
  const shadow: u32 = ld32(queue + Q_SHADOW);
  const header: u32 = ld32(queue + Q_HEADER);
  const port: u32 = ld32(queue + Q_PORT);
  const room: u32 = ld32(ld32(queue + Q_POOL) + POOL_ROOM) - MBUF_HEADROOM + header;
  const least: u32 = header + SHORTEST_PACKET;
  const position: u32 = ld32(queue + Q_HANDLED);
  let wrap: u32 = position & POSITION_WRAP;
  let index: u32 = position & POSITION_INDEX;
  let tail: u32 = ld32(queue + Q_FREE_TAIL);
  let free: u32 = ld32(queue + Q_FREE);
  let flags: u32 = usedFlags(position) << 16;
  let received: u32 = 0;
  let bytes: u32 = 0;
  let runLength: u32 = 0;
  let run: u32 = 0;
  while (received + FOUR <= packets && free + FOUR <= size && index + FOUR <= size && tail + FOUR <= size) {
    const descriptor: u32 = table + index * PACKED_BYTES;
    const word: u32 = flags | tail;
    const wrong: u32 =
      (loadWord(descriptor) ^ word) |
      (loadWord(descriptor + PACKED_BYTES) ^ (word + 1)) |
      (loadWord(descriptor + 2 * PACKED_BYTES) ^ (word + 2)) |
      (loadWord(descriptor + 3 * PACKED_BYTES) ^ (word + 3));
    if ((wrong & USED_MASK) !== 0) break;
    const first: u32 = ld32(descriptor + PACKED_LENGTH);
    const second: u32 = ld32(descriptor + PACKED_BYTES + PACKED_LENGTH);
    const third: u32 = ld32(descriptor + 2 * PACKED_BYTES + PACKED_LENGTH);
    const fourth: u32 = ld32(descriptor + 3 * PACKED_BYTES + PACKED_LENGTH);
    // the sign bit of any of these: too short, too long
    const bad: u32 =
      (first - least) |
      (room - first) |
      (second - least) |
      (room - second) |
      (third - least) |
      (room - third) |
      (fourth - least) |
      (room - fourth);
    if (bad >>> 31 !== 0) break;
    const place: u32 = to + (received << 2);
    const entry: u32 = shadow + tail * SHADOW_BYTES;
    gatherWords(place, entry);
    clearWords(entry);
    giveLength(ld32(place), first - header, port);
    giveLength(ld32(place + 4), second - header, port);
    giveLength(ld32(place + 8), third - header, port);
    giveLength(ld32(place + 12), fourth - header, port);
    bytes += first + second + third + fourth;
    if (((first ^ second) | (first ^ third) | (first ^ fourth) | (first ^ runLength)) === 0) run += FOUR;
    else {
      if (run !== 0) countSizes(queue, runLength - header, run);
      run = 1;
      runLength = fourth;
      if (((first ^ second) | (first ^ third) | (first ^ fourth)) === 0) run = FOUR;
      else {
        countSizes(queue, first - header, 1);
        countSizes(queue, second - header, 1);
        countSizes(queue, third - header, 1);
      }
    }
    received += FOUR;
    free += FOUR;
    tail += FOUR;
    if (tail === size) tail = 0;
    index += FOUR;
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
    countSizes(queue, runLength - header, run);
    countBurst(queue, received, bytes - received * header);
  }
  return received;
}

/**
 * Writes descriptors of the fresh buffers whose handles are in the scratch room, four at a time; all but the first one's word, which
 * shows them to the device.
 * @returns buffers that have descriptors now
 */
export function postFours(queue: u32, buffers: u32): u32 {
  const size: u32 = ld32(queue + Q_SIZE);
  const scratch: u32 = ld32(queue + Q_SCRATCH);
  const table: u32 = ld32(queue + Q_DESCRIPTORS);
  const shadow: u32 = ld32(queue + Q_SHADOW);
  const high: u32 = ld32(queue + Q_ADDRESS_HIGH);
  const before: u32 = MBUF_HEADROOM - ld32(queue + Q_HEADER);
  const length: u32 = ld32(ld32(queue + Q_POOL) + POOL_ROOM) - before;
  const position: u32 = ld32(queue + Q_OWN_INDEX);
  const flags: u32 = (availableFlags(position) | DESCRIPTOR_F_WRITE) << 16;
  let index: u32 = position & POSITION_INDEX;
  let head: u32 = ld32(queue + Q_FREE_HEAD);
  let posted: u32 = 0;
  while (posted + FOUR <= buffers && index + FOUR <= size && head + FOUR <= size) {
    const from: u32 = scratch + (posted << 2);
    const descriptor: u32 = table + index * PACKED_BYTES;
    const word: u32 = flags | head;
    spreadWords(shadow + head * SHADOW_BYTES, from, 0);
    putBuffer(descriptor, ld32(ld32(from) + MBUF_BUFFER) + before, high, length);
    putBuffer(descriptor + PACKED_BYTES, ld32(ld32(from + 4) + MBUF_BUFFER) + before, high, length);
    putBuffer(descriptor + 2 * PACKED_BYTES, ld32(ld32(from + 8) + MBUF_BUFFER) + before, high, length);
    putBuffer(descriptor + 3 * PACKED_BYTES, ld32(ld32(from + 12) + MBUF_BUFFER) + before, high, length);
    if (posted !== 0) st32(descriptor + PACKED_WORD, word);
    st32(descriptor + PACKED_BYTES + PACKED_WORD, word + 1);
    st32(descriptor + 2 * PACKED_BYTES + PACKED_WORD, word + 2);
    st32(descriptor + 3 * PACKED_BYTES + PACKED_WORD, word + 3);
    posted += FOUR;
    index += FOUR;
    head += FOUR;
  }
  return posted;
}

function putBuffer(descriptor: u32, address: u32, high: u32, length: u32): void {
  st32(descriptor + PACKED_ADDRESS_LOW, address);
  st32(descriptor + PACKED_ADDRESS_HIGH, high);
  st32(descriptor + PACKED_LENGTH, length);
}

/** 0 when a packet is one segment with one owner, without work, with room for its header, which is zero as it should be. */
function unfit(packet: u32, header: u32): u32 {
  const data: u32 = ld32(packet + MBUF_DATA);
  const place: u32 = data - header;
  return (
    (ld32(packet + MBUF_SEGMENTS) ^ ONE_SEGMENT_ONE_OWNER) |
    (ld32(packet + MBUF_FLAGS) & MBUF_WORK) |
    ((place - ld32(packet + MBUF_BUFFER)) & 0x80000000) |
    ld32(place) |
    ld32(place + 4) |
    // num_buffers may be what the device wrote there (writeSentHeader)
    (ld32(place + 8) & 0xfffeffff)
  );
}

/**
 * Sends packets four at a time.
 * @returns packets taken
 */
export function sendFours(queue: u32, from: u32, packets: u32): u32 {
  const size: u32 = ld32(queue + Q_SIZE);
  const table: u32 = ld32(queue + Q_DESCRIPTORS);
  const shadow: u32 = ld32(queue + Q_SHADOW);
  const header: u32 = ld32(queue + Q_HEADER);
  const high: u32 = ld32(queue + Q_ADDRESS_HIGH);
  const position: u32 = ld32(queue + Q_OWN_INDEX);
  const start: u32 = table + (position & POSITION_INDEX) * PACKED_BYTES;
  const startWord: u32 = ld32(queue + Q_FREE_HEAD) | (availableFlags(position) << 16);
  let wrap: u32 = position & POSITION_WRAP;
  let index: u32 = position & POSITION_INDEX;
  let head: u32 = ld32(queue + Q_FREE_HEAD);
  let free: u32 = ld32(queue + Q_FREE);
  let flags: u32 = availableFlags(position) << 16;
  let sent: u32 = 0;
  let bytes: u32 = 0;
  let runLength: u32 = 0;
  let run: u32 = 0;
  while (sent + FOUR <= packets && free >= FOUR && index + FOUR <= size && head + FOUR <= size) {
    const place: u32 = from + (sent << 2);
    const a: u32 = ld32(place);
    const b: u32 = ld32(place + 4);
    const c: u32 = ld32(place + 8);
    const d: u32 = ld32(place + 12);
    if ((unfit(a, header) | unfit(b, header) | unfit(c, header) | unfit(d, header)) !== 0) break;
    const first: u32 = ld32(a + MBUF_LENGTH);
    const second: u32 = ld32(b + MBUF_LENGTH);
    const third: u32 = ld32(c + MBUF_LENGTH);
    const fourth: u32 = ld32(d + MBUF_LENGTH);
    const descriptor: u32 = table + index * PACKED_BYTES;
    const word: u32 = flags | head;
    spreadWords(shadow + head * SHADOW_BYTES, place, ONE_DESCRIPTOR);
    putBuffer(descriptor, ld32(a + MBUF_DATA) - header, high, first + header);
    putBuffer(descriptor + PACKED_BYTES, ld32(b + MBUF_DATA) - header, high, second + header);
    putBuffer(descriptor + 2 * PACKED_BYTES, ld32(c + MBUF_DATA) - header, high, third + header);
    putBuffer(descriptor + 3 * PACKED_BYTES, ld32(d + MBUF_DATA) - header, high, fourth + header);
    if (sent !== 0) st32(descriptor + PACKED_WORD, word);
    st32(descriptor + PACKED_BYTES + PACKED_WORD, word + 1);
    st32(descriptor + 2 * PACKED_BYTES + PACKED_WORD, word + 2);
    st32(descriptor + 3 * PACKED_BYTES + PACKED_WORD, word + 3);
    bytes += first + second + third + fourth;
    if (((first ^ second) | (first ^ third) | (first ^ fourth) | (first ^ runLength)) === 0) run += FOUR;
    else {
      if (run !== 0) countSizes(queue, runLength, run);
      run = 1;
      runLength = fourth;
      if (((first ^ second) | (first ^ third) | (first ^ fourth)) === 0) run = FOUR;
      else {
        countSizes(queue, first, 1);
        countSizes(queue, second, 1);
        countSizes(queue, third, 1);
      }
    }
    sent += FOUR;
    free -= FOUR;
    head += FOUR;
    if (head === size) head = 0;
    index += FOUR;
    if (index === size) {
      index = 0;
      wrap ^= POSITION_WRAP;
      flags ^= PACKED_F_BOTH << 16;
    }
  }
  if (sent !== 0) {
    st32(queue + Q_FREE_HEAD, head);
    st32(queue + Q_FREE, free);
    countSizes(queue, runLength, run);
    countBurst(queue, sent, bytes);
    publishBurst(queue, start, startWord, index | wrap, ld32(queue + Q_USED));
  }
  return sent;
}

/**
 * Takes packets back that were sent, up to `most`, which the device has used, four at a time as long as they have one descriptor each.
 * @param shadow of the oldest
 * @param to where their handles go
 */
export function takeFours(shadow: u32, to: u32, most: u32): u32 {
  let taken: u32 = 0;
  while (taken + FOUR <= most) {
    const entry: u32 = shadow + taken * SHADOW_BYTES;
    const several: u32 =
      (ld32(entry + 4) ^ ONE_DESCRIPTOR) |
      (ld32(entry + SHADOW_BYTES + 4) ^ ONE_DESCRIPTOR) |
      (ld32(entry + 2 * SHADOW_BYTES + 4) ^ ONE_DESCRIPTOR) |
      (ld32(entry + 3 * SHADOW_BYTES + 4) ^ ONE_DESCRIPTOR);
    if (several !== 0) break;
    gatherWords(to + (taken << 2), entry);
    clearWords(entry);
    taken += FOUR;
  }
  return taken;
}
