/**
 * The device side of a split virtqueue: takes packets from the driver's transmit queue. The rules by which it survives any
 * driver are told in split-device-ring.kernel.ts.
 * @module
 */
import { copyPacket, ld16, ld32, st16, st32, touch } from '../memory/access.ts';
import { MBUF_DATA, MBUF_HEADROOM, MBUF_LENGTH, MBUF_PORT, MBUF_SEGMENT_LENGTH } from '../memory/mbuf-layout.ts';
import { POOL_ROOM } from '../memory/mempool-layout.ts';
import { mbufAllocate, packetsFree } from '../memory/mempool.kernel.ts';
import { readNetHeader } from '../net/net-header.kernel.ts';
import { count, countPackets } from './counters.kernel.ts';
import { FOUND_BYTES, FOUND_LENGTH, FOUND_PACKET, consecutive } from './device-fours.kernel.ts';
import { findRun } from './device-runs.kernel.ts';
import { giveUp } from './give-up.kernel.ts';
import { SHORTEST_PACKET } from './packet-header.kernel.ts';
import { translate } from './peer-memory.kernel.ts';
import { FAILED, NO_MEMORY, SCRATCH_PIECES, TAKEN, emptyPacket, gatherPieces } from './pieces.kernel.ts';
import {
  QUEUE_DISABLED,
  QUEUE_ERROR_ID,
  QUEUE_RUNNING,
  Q_AVAILABLE,
  Q_DESCRIPTORS,
  Q_DROPPED,
  Q_ERRORS,
  Q_HANDLED,
  Q_HEADER,
  Q_LCORE,
  Q_NO_MBUF,
  Q_OFFLOADS,
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
} from './queue-layout.ts';
import { availableAhead, collectChain, publishUsed, writeUsed } from './split-device-ring.kernel.ts';
import {
  AVAILABLE_RING,
  DESCRIPTOR_ADDRESS_HIGH,
  DESCRIPTOR_ADDRESS_LOW,
  DESCRIPTOR_BYTES,
  DESCRIPTOR_FLAGS,
  DESCRIPTOR_LENGTH,
} from './split-layout.ts';

/**
 * The first pass over sound descriptors that lie one behind the other, four of them at a time.
 * @returns packets found; the next four are looked at one by one
 */
function findFours(queue: u32, handled: u32, packets: u32, room: u32): u32 {
  const size: u32 = ld32(queue + Q_SIZE);
  const mask: u32 = size - 1;
  const entries: u32 = ld32(queue + Q_AVAILABLE) + AVAILABLE_RING;
  const table: u32 = ld32(queue + Q_DESCRIPTORS);
  let found: u32 = 0;
  // a second time where the ring begins again
  for (let part: u32 = 0; part < 2; part++) {
    const at: u32 = (handled + found) & mask;
    const most: u32 = packets - found < size - at ? packets - found : size - at;
    const head: u32 = ld16(entries + (at << 1));
    const plain: u32 = consecutive(size, head, entries + (at << 1), most);
    const sound: u32 = findRun(queue, table + head * DESCRIPTOR_BYTES, plain, found, room, 0, 7, 0);
    found += sound;
    if (sound === 0 || at + sound !== size) break;
  }
  return found;
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
  let sum: u32 = 0;
  for (let index: u32 = findFours(queue, handled, packets, room); index < packets; index++) {
    const descriptor: u32 = table + (ld16(entries + (((handled + index) & mask) << 1)) & mask) * DESCRIPTOR_BYTES;
    const length: u32 = ld32(descriptor + DESCRIPTOR_LENGTH);
    let packet: u32 = 0;
    if ((ld32(descriptor + DESCRIPTOR_FLAGS) & 7) === 0 && length > header && length - header <= room) {
      const low: u32 = ld32(descriptor + DESCRIPTOR_ADDRESS_LOW);
      const start: u32 = translate(regions, low, ld32(descriptor + DESCRIPTOR_ADDRESS_HIGH), length);
      if (start !== 0) {
        packet = start + header;
        sum += touch(packet & ~3);
      }
    }
    st32(scratch + index * FOUND_BYTES + FOUND_PACKET, packet);
    st32(scratch + index * FOUND_BYTES + FOUND_LENGTH, length - header);
  }
  st32(queue + Q_TOUCH, sum);
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
  const offloads: u32 = ld32(queue + Q_OFFLOADS);
  let own: u32 = ld32(queue + Q_OWN_INDEX);
  let received: u32 = 0;
  let done: u32 = 0;
  let dropped: u32 = 0;
  for (; done < burst; done++) {
    const packet: u32 = ld32(to + (received << 2));
    const head: u32 = ld16(entries + ((handled & mask) << 1));
    if (head > mask) {
      giveUp(queue, QUEUE_ERROR_ID);
      break;
    }
    const data: u32 = ld32(packet + MBUF_DATA);
    const source: u32 = ld32(scratch + done * FOUND_BYTES + FOUND_PACKET);
    let size: u32 = ld32(scratch + done * FOUND_BYTES + FOUND_LENGTH);
    if (source !== 0) {
      copyPacket(data, source, size);
      st32(packet + MBUF_LENGTH, size);
      st32(packet + MBUF_SEGMENT_LENGTH, size);
      if (offloads !== 0 && readNetHeader(source - header, packet, offloads) === 0) size = 0;
    } else {
      const found: u32 = collectChain(queue, head, 0, scratch + SCRATCH_PIECES, 0);
      if (found === FAILED) break;
      const outcome: u32 = gatherPieces(queue, packet, scratch + SCRATCH_PIECES, found, header);
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
    if (size < SHORTEST_PACKET) {
      // no packet, or shorter than an Ethernet header; extra segments go back, the first is used again
      dropped++;
      emptyPacket(packet, lcore);
      continue;
    }
    st16(packet + MBUF_PORT, port);
    received++;
  }
  if (received < burst) packetsFree(to + (received << 2), burst - received, lcore);
  st32(queue + Q_HANDLED, handled);
  if (dropped !== 0) count(queue + Q_ERRORS, dropped);
  if (received !== 0) countPackets(queue, to, received, 1);
  if (done !== 0) publishUsed(queue, own);
  return received;
}
