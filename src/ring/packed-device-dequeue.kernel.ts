/**
 * The device side of a packed virtqueue: takes packets from the driver's transmit queue. The rules by which it survives any
 * driver are told in packed-device-ring.kernel.ts.
 * @module
 */
import { copyPacket, ld32, st16, st32, touch } from '../memory/access.ts';
import { MBUF_DATA, MBUF_FLAGS, MBUF_HEADROOM, MBUF_LENGTH, MBUF_PORT, MBUF_SEGMENT_LENGTH } from '../memory/mbuf-layout.ts';
import { POOL_ROOM } from '../memory/mempool-layout.ts';
import { mbufAllocate, packetFree, packetsFree } from '../memory/mempool.kernel.ts';
import { readNetHeader } from '../net/net-header.kernel.ts';
import { RUN } from './copy-run.kernel.ts';
import { count, countPackets } from './counters.kernel.ts';
import { FOUND_BYTES, FOUND_LENGTH, FOUND_PACKET, SCRATCH_WORDS } from './device-fours.kernel.ts';
import { findRun } from './device-runs.kernel.ts';
import { ABSENT, KIND_MASK, availableFours, collectList, finishBurst, kindAt, putUsedWord, usedWord } from './packed-device-ring.kernel.ts';
import { PACKED_ADDRESS_HIGH, PACKED_ADDRESS_LOW, PACKED_BYTES, PACKED_F_BOTH, PACKED_LENGTH, POSITION_INDEX } from './packed-layout.ts';
import { advance, availableFlags, descriptorAt, loadWord } from './packed-ring.kernel.ts';
import { SHORTEST_PACKET } from './packet-header.kernel.ts';
import { translate } from './peer-memory.kernel.ts';
import { DROPPED, FAILED, NO_MEMORY, SCRATCH_PIECES, TAKEN, gatherPieces } from './pieces.kernel.ts';
import {
  QUEUE_DISABLED,
  QUEUE_IN_ORDER,
  QUEUE_RUNNING,
  Q_DESCRIPTORS,
  Q_DROPPED,
  Q_ERRORS,
  Q_FEATURES,
  Q_HANDLED,
  Q_HEADER,
  Q_LCORE,
  Q_LIST,
  Q_NO_MBUF,
  Q_OFFLOADS,
  Q_POOL,
  Q_PORT,
  Q_REGIONS,
  Q_SCRATCH,
  Q_SIZE,
  Q_STATE,
  Q_TOUCH,
} from './queue-layout.ts';

/** Added to a number of packets: the next one needs a closer look: a list, too long, too short, or an address that is not the peer's. */
const CLOSER_LOOK: u32 = 0x80000000;

/**
 * The first pass over sound descriptors, four of them, one cache line, at a time.
 * @returns packets found; the next four are looked at one by one
 */
function findFours(queue: u32, position: u32, most: u32, room: u32): u32 {
  const size: u32 = ld32(queue + Q_SIZE);
  const words: u32 = ld32(queue + Q_SCRATCH) + SCRATCH_WORDS;
  let at: u32 = position;
  let found: u32 = 0;
  // a second time where the ring begins again
  for (let part: u32 = 0; part < 2; part++) {
    const kind: u32 = kindAt(at, 0);
    const available: u32 = availableFours(queue, at, most - found, kind);
    const sound: u32 = findRun(queue, descriptorAt(queue, at), available, found, room, kind, KIND_MASK, words + (found << 2));
    found += sound;
    at = advance(at, sound, size);
    if (sound === 0 || (at & POSITION_INDEX) !== 0) break;
  }
  return found;
}

/**
 * First pass over up to `most` descriptors: reads each of them once, checks it, and reads a word of the packet, so that the cache lines
 * arrive together and not one after the other (WebAssembly has no prefetch).
 * @param room bytes that a packet may have to fit into one mbuf
 * @returns packets found, and CLOSER_LOOK
 */
function readAhead(queue: u32, position: u32, most: u32, header: u32, room: u32): u32 {
  const ring: u32 = ld32(queue + Q_DESCRIPTORS);
  const end: u32 = ring + ld32(queue + Q_SIZE) * PACKED_BYTES;
  const regions: u32 = ld32(queue + Q_REGIONS);
  const scratch: u32 = ld32(queue + Q_SCRATCH);
  let found: u32 = findFours(queue, position, most, room);
  const next: u32 = advance(position, found, ld32(queue + Q_SIZE));
  let descriptor: u32 = descriptorAt(queue, next);
  let available: u32 = availableFlags(next);
  let sum: u32 = 0;
  let closer: u32 = 0;
  for (; found < most; found++) {
    const word: u32 = loadWord(descriptor);
    if (((word >>> 16) & (PACKED_F_BOTH | 7)) !== available) {
      if (((word >>> 16) & PACKED_F_BOTH) === available) closer = CLOSER_LOOK;
      break;
    }
    const length: u32 = ld32(descriptor + PACKED_LENGTH);
    let start: u32 = 0;
    if (length > header && length - header <= room)
      start = translate(regions, ld32(descriptor + PACKED_ADDRESS_LOW), ld32(descriptor + PACKED_ADDRESS_HIGH), length);
    if (start === 0) {
      closer = CLOSER_LOOK;
      break;
    }
    const entry: u32 = scratch + found * FOUND_BYTES;
    st32(entry + FOUND_PACKET, start + header);
    st32(entry + FOUND_LENGTH, length - header);
    st32(scratch + SCRATCH_WORDS + (found << 2), word);
    sum += touch((start + header) & ~3);
    descriptor += PACKED_BYTES;
    if (descriptor === end) {
      descriptor = ring;
      available ^= PACKED_F_BOTH;
    }
  }
  st32(queue + Q_TOUCH, sum);
  return found + closer;
}

/**
 * Second pass: copies the packets that readAhead() found into the mbufs at `to`. One that makes no sense is left out, and its mbuf
 * serves the next.
 * @returns packets taken
 */
function takeRun(queue: u32, to: u32, run: u32, header: u32): u32 {
  const scratch: u32 = ld32(queue + Q_SCRATCH);
  const port: u32 = ld32(queue + Q_PORT);
  const offloads: u32 = ld32(queue + Q_OFFLOADS);
  let taken: u32 = 0;
  for (let index: u32 = 0; index < run; index++) {
    const packet: u32 = ld32(to + (taken << 2));
    const source: u32 = ld32(scratch + index * FOUND_BYTES + FOUND_PACKET);
    const length: u32 = ld32(scratch + index * FOUND_BYTES + FOUND_LENGTH);
    copyPacket(ld32(packet + MBUF_DATA), source, length);
    st32(packet + MBUF_LENGTH, length);
    st32(packet + MBUF_SEGMENT_LENGTH, length);
    st16(packet + MBUF_PORT, port);
    if (length < SHORTEST_PACKET) continue;
    if (offloads !== 0 && readNetHeader(source - header, packet, offloads) === 0) {
      st32(packet + MBUF_FLAGS, 0);
      continue;
    }
    taken++;
  }
  return taken;
}

/**
 * Writes the used descriptor of a list at `position`. Its length stays as it is: that is reserved where nothing was written (2.8.4). In
 * order there is only the burst's first one, with the id of the list looked at last (2.8.8).
 */
function useList(queue: u32, start: u32, position: u32, id: u32): void {
  const at: u32 = (ld32(queue + Q_FEATURES) & QUEUE_IN_ORDER) !== 0 ? start : position;
  putUsedWord(queue, descriptorAt(queue, start), descriptorAt(queue, at), usedWord(at, id, 0));
}

/** The same for `run` lists of one descriptor each, which readAhead() found. */
function useRun(queue: u32, start: u32, position: u32, run: u32): void {
  const words: u32 = ld32(queue + Q_SCRATCH) + SCRATCH_WORDS;
  const size: u32 = ld32(queue + Q_SIZE);
  let at: u32 = position;
  let index: u32 = (ld32(queue + Q_FEATURES) & QUEUE_IN_ORDER) !== 0 ? run - 1 : 0;
  for (; index < run; index++) {
    useList(queue, start, at, ld32(words + (index << 2)) & 0xffff);
    at = advance(at, 1, size);
  }
}

/** Consumes what the driver sends on a ring that is started but disabled (vhost-user, "Ring states"). */
function discard(queue: u32): void {
  const size: u32 = ld32(queue + Q_SIZE);
  const start: u32 = ld32(queue + Q_HANDLED);
  const pieces: u32 = ld32(queue + Q_SCRATCH) + SCRATCH_PIECES;
  let position: u32 = start;
  let left: u32 = size;
  let lists: u32 = 0;
  while (left !== 0) {
    const found: u32 = collectList(queue, position, left, 0, pieces, 0);
    if (found === ABSENT || found === FAILED) break;
    const list: u32 = ld32(queue + Q_LIST);
    useList(queue, start, position, list & 0xffff);
    position = advance(position, list >>> 16, size);
    left -= list >>> 16;
    lists++;
  }
  if (lists !== 0) count(queue + Q_DROPPED, lists);
  finishBurst(queue, position);
}

/**
 * Takes the packet in the list at `position` into a new mbuf, whose handle is written to `to`, and further ones.
 * @param limit descriptors that the list may have at most
 * @returns an outcome of gatherPieces(); ABSENT, or FAILED after an error
 */
function takeList(queue: u32, to: u32, position: u32, limit: u32, header: u32): u32 {
  const pieces: u32 = ld32(queue + Q_SCRATCH) + SCRATCH_PIECES;
  const found: u32 = collectList(queue, position, limit, 0, pieces, 0);
  if (found === ABSENT || found === FAILED) return found;
  const lcore: u32 = ld32(queue + Q_LCORE);
  if (mbufAllocate(ld32(queue + Q_POOL), lcore, to, 1) === 0) return NO_MEMORY;
  const packet: u32 = ld32(to);
  let outcome: u32 = gatherPieces(queue, packet, pieces, found, header);
  if (outcome === TAKEN && ld32(packet + MBUF_LENGTH) < SHORTEST_PACKET) outcome = DROPPED;
  if (outcome === TAKEN) st16(packet + MBUF_PORT, ld32(queue + Q_PORT));
  else packetFree(packet, lcore);
  return outcome;
}

/**
 * Takes up to `packets` packets that the driver sent; they are copied into mbufs whose handles are written to `to`.
 * @returns packets received
 */
export function packedDeviceDequeue(queue: u32, to: u32, packets: u32): u32 {
  const state: u32 = ld32(queue + Q_STATE);
  if (state !== QUEUE_RUNNING) {
    if (state === QUEUE_DISABLED) discard(queue);
    return 0;
  }
  const size: u32 = ld32(queue + Q_SIZE);
  const header: u32 = ld32(queue + Q_HEADER);
  const pool: u32 = ld32(queue + Q_POOL);
  const lcore: u32 = ld32(queue + Q_LCORE);
  const room: u32 = ld32(pool + POOL_ROOM) - MBUF_HEADROOM;
  const start: u32 = ld32(queue + Q_HANDLED);
  let position: u32 = start;
  let left: u32 = size;
  let received: u32 = 0;
  let done: u32 = 0;
  while (done < packets && left !== 0) {
    let most: u32 = packets - done < left ? packets - done : left;
    if (most > RUN) most = RUN;
    const ahead: u32 = readAhead(queue, position, most, header, room);
    const run: u32 = ahead & 0xffff;
    if (run !== 0) {
      const place: u32 = to + (received << 2);
      if (mbufAllocate(pool, lcore, place, run) === 0) {
        count(queue + Q_NO_MBUF, 1);
        break;
      }
      const taken: u32 = takeRun(queue, place, run, header);
      if (taken !== run) packetsFree(place + (taken << 2), run - taken, lcore);
      useRun(queue, start, position, run);
      position = advance(position, run, size);
      left -= run;
      received += taken;
      done += run;
    }
    if (ahead === most) continue;
    if (ahead === run) break;
    const outcome: u32 = takeList(queue, to + (received << 2), position, left, header);
    if (outcome === NO_MEMORY) count(queue + Q_NO_MBUF, 1);
    if (outcome !== TAKEN && outcome !== DROPPED) break;
    const list: u32 = ld32(queue + Q_LIST);
    useList(queue, start, position, list & 0xffff);
    position = advance(position, list >>> 16, size);
    left -= list >>> 16;
    if (outcome === TAKEN) received++;
    done++;
  }
  if (done !== received) count(queue + Q_ERRORS, done - received);
  if (received !== 0) countPackets(queue, to, received, 1);
  finishBurst(queue, position);
  return received;
}
