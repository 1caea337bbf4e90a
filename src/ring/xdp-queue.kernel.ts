/**
 * The queues of net_af_xdp: chunks of an AF_XDP socket's area (xdp-layout.ts) to mbufs and back. The kernel moves packets by
 * itself on some cards; elsewhere, and when it has run dry, Q_NOTIFY asks the caller for a system call.
 *
 * Packets are copied between chunks and mbufs (docs/ports.md says why). So a received chunk goes straight back to the kernel,
 * which never waits for an application that keeps its packets.
 * @module
 */
import { atomicLoad32, atomicStore32, copyPacket, ld32, ldu16, st16, st32 } from '../memory/access.ts';
import { MBUF_DATA, MBUF_HEADROOM, MBUF_LENGTH, MBUF_PORT, MBUF_ROOM, MBUF_SEGMENT_LENGTH } from '../memory/mbuf-layout.ts';
import { mbufAllocate, packetsFree } from '../memory/mempool.kernel.ts';
import { TYPE_VLAN } from '../net/headers.kernel.ts';
import { fillPacket, gatherPacket } from './copy-packet.kernel.ts';
import { count, countBurst } from './counters.kernel.ts';
import { giveUp } from './give-up.kernel.ts';
import {
  Q_ERRORS,
  Q_FREE,
  Q_LCORE,
  Q_NO_MBUF,
  Q_NOTIFY,
  Q_POOL,
  Q_PORT,
  Q_STATE,
  QUEUE_ERROR_ADDRESS,
  QUEUE_ERROR_INDEX,
  QUEUE_RUNNING,
} from './queue-layout.ts';
import { isUnfinished } from './unfinished.kernel.ts';
import {
  XDP_ADDRESS_INDEX,
  XDP_ADDRESSES,
  XDP_ADDRESSES_CONSUMER,
  XDP_ADDRESSES_PRODUCER,
  XDP_AREA,
  XDP_AREA_BYTES,
  XDP_CHUNK_BYTES,
  XDP_CONSUMER,
  XDP_DESCRIPTOR_HIGH,
  XDP_DESCRIPTOR_LENGTH,
  XDP_DESCRIPTOR_OPTIONS,
  XDP_FLAGS,
  XDP_INDEX,
  XDP_LONGEST,
  XDP_PRODUCER,
  XDP_RING,
  XDP_RING_NEED_WAKEUP,
  XDP_SEEN,
  XDP_SIZE,
  XDP_STACK,
  XDP_TOO_LONG,
} from './xdp-layout.ts';

const ETHERNET_BYTES: u32 = 14;
const ADDRESSES_BYTES: u32 = 12;
const VLAN_BYTES: u32 = 4;

/** Receives up to `packets` packets; their handles are written to `to`. */
export function xdpReceive(queue: u32, to: u32, packets: u32): u32 {
  if (ld32(queue + Q_STATE) !== QUEUE_RUNNING) return 0;
  const start: u32 = ld32(queue + XDP_INDEX);
  let seen: u32 = ld32(queue + XDP_SEEN);
  if ((seen - start) >>> 0 < packets) {
    seen = atomicLoad32(ld32(queue + XDP_PRODUCER));
    st32(queue + XDP_SEEN, seen);
  }
  const waiting: u32 = (seen - start) >>> 0;
  const size: u32 = ld32(queue + XDP_SIZE);
  if (waiting > size) {
    giveUp(queue, QUEUE_ERROR_INDEX);
    return 0;
  }
  if (waiting === 0) {
    // the kernel found no chunk in the fill ring, and left it until it is called
    if ((ld32(ld32(queue + XDP_FLAGS)) & XDP_RING_NEED_WAKEUP) !== 0) st32(queue + Q_NOTIFY, 1);
    return 0;
  }
  const pool: u32 = ld32(queue + Q_POOL);
  const lcore: u32 = ld32(queue + Q_LCORE);
  let wanted: u32 = waiting < packets ? waiting : packets;
  while (wanted !== 0 && mbufAllocate(pool, lcore, to, wanted) === 0) wanted >>>= 1;
  if (wanted === 0) {
    // they stay; the kernel counts what finds the ring full
    count(queue + Q_NO_MBUF, 1);
    return 0;
  }
  const mask: u32 = size - 1;
  const ring: u32 = ld32(queue + XDP_RING);
  const addresses: u32 = ld32(queue + XDP_ADDRESSES);
  const area: u32 = ld32(queue + XDP_AREA);
  const areaBytes: u32 = ld32(queue + XDP_AREA_BYTES);
  const chunkMask: u32 = ~(ld32(queue + XDP_CHUNK_BYTES) - 1);
  const port: u32 = ld32(queue + Q_PORT);
  let fill: u32 = ld32(queue + XDP_ADDRESS_INDEX);
  let received: u32 = 0;
  let bytes: u32 = 0;
  while (received < wanted) {
    const entry: u32 = ring + (((start + received) & mask) << 4);
    const address: u32 = ld32(entry);
    const length: u32 = ld32(entry + XDP_DESCRIPTOR_LENGTH);
    if (ld32(entry + XDP_DESCRIPTOR_HIGH) !== 0 || address >= areaBytes || length > areaBytes - address) {
      giveUp(queue, QUEUE_ERROR_ADDRESS);
      break;
    }
    const packet: u32 = ld32(to + (received << 2));
    if (length <= ld32(packet + MBUF_ROOM) - MBUF_HEADROOM) {
      copyPacket(ld32(packet + MBUF_DATA), area + address, length);
      st32(packet + MBUF_SEGMENT_LENGTH, length);
    } else {
      const slot: u32 = to + (received << 2);
      const filled: u32 = fillPacket(packet, area + address, length, ld32(queue + Q_POOL), lcore, slot);
      st32(slot, packet);
      if (filled === 0) {
        count(queue + Q_NO_MBUF, 1);
        break;
      }
    }
    st32(packet + MBUF_LENGTH, length);
    st16(packet + MBUF_PORT, port);
    const free: u32 = addresses + ((fill & mask) << 3);
    st32(free, (address & chunkMask) >>> 0);
    st32(free + 4, 0);
    fill++;
    received++;
    bytes += length;
  }
  if (received < wanted) packetsFree(to + (received << 2), wanted - received, lcore);
  if (received !== 0) {
    const index: u32 = (start + received) >>> 0;
    st32(queue + XDP_INDEX, index);
    atomicStore32(ld32(queue + XDP_CONSUMER), index);
    st32(queue + XDP_ADDRESS_INDEX, fill >>> 0);
    atomicStore32(ld32(queue + XDP_ADDRESSES_PRODUCER), fill >>> 0);
    countBurst(queue, received, bytes);
    if ((ld32(ld32(queue + XDP_FLAGS)) & XDP_RING_NEED_WAKEUP) !== 0) st32(queue + Q_NOTIFY, 1);
  }
  return received;
}

/** Takes back the chunks whose packets are sent; returns how many are free. */
function reclaim(queue: u32): u32 {
  let free: u32 = ld32(queue + Q_FREE);
  let index: u32 = ld32(queue + XDP_ADDRESS_INDEX);
  const sent: u32 = (atomicLoad32(ld32(queue + XDP_ADDRESSES_PRODUCER)) - index) >>> 0;
  if (sent === 0) return free;
  const size: u32 = ld32(queue + XDP_SIZE);
  if (sent > size - free) {
    giveUp(queue, QUEUE_ERROR_INDEX);
    return free;
  }
  const mask: u32 = size - 1;
  const addresses: u32 = ld32(queue + XDP_ADDRESSES);
  const areaBytes: u32 = ld32(queue + XDP_AREA_BYTES);
  const chunkMask: u32 = ~(ld32(queue + XDP_CHUNK_BYTES) - 1);
  const stack: u32 = ld32(queue + XDP_STACK);
  for (let done: u32 = 0; done < sent; done++) {
    const address: u32 = ld32(addresses + ((index & mask) << 3));
    if (address >= areaBytes) {
      giveUp(queue, QUEUE_ERROR_ADDRESS);
      break;
    }
    st32(stack + (free << 2), (address & chunkMask) >>> 0);
    free++;
    index++;
  }
  st32(queue + XDP_ADDRESS_INDEX, index >>> 0);
  atomicStore32(ld32(queue + XDP_ADDRESSES_CONSUMER), index >>> 0);
  st32(queue + Q_FREE, free);
  return free;
}

/** Whether a chunk and the interface take a packet of this length: 1 or 0. */
function fits(queue: u32, packet: u32, length: u32): u32 {
  if (length < ETHERNET_BYTES || length > ld32(queue + XDP_CHUNK_BYTES)) return 0;
  const longest: u32 = ld32(queue + XDP_LONGEST);
  if (length <= longest) return 1;
  if (length > longest + VLAN_BYTES) return 0;
  return ldu16(ld32(packet + MBUF_DATA) + ADDRESSES_BYTES) === TYPE_VLAN ? 1 : 0;
}

/** Asks for a system call where the kernel waits for one and has something to send. */
function wakeSender(queue: u32, index: u32): void {
  if ((ld32(ld32(queue + XDP_FLAGS)) & XDP_RING_NEED_WAKEUP) === 0) return;
  if (atomicLoad32(ld32(queue + XDP_CONSUMER)) !== index) st32(queue + Q_NOTIFY, 1);
}

/** Puts up to `packets` packets into chunks and frees them; what is too long for the interface is dropped and counted. */
export function xdpTransmit(queue: u32, from: u32, packets: u32): u32 {
  if (ld32(queue + Q_STATE) !== QUEUE_RUNNING) return 0;
  let free: u32 = ld32(queue + Q_FREE);
  // the chunks used last are the ones still in the cache: taken back at every burst
  if (free < ld32(queue + XDP_SIZE)) free = reclaim(queue);
  const mask: u32 = ld32(queue + XDP_SIZE) - 1;
  const ring: u32 = ld32(queue + XDP_RING);
  const area: u32 = ld32(queue + XDP_AREA);
  const stack: u32 = ld32(queue + XDP_STACK);
  let index: u32 = ld32(queue + XDP_INDEX);
  let taken: u32 = 0;
  let sent: u32 = 0;
  let bytes: u32 = 0;
  while (taken < packets) {
    const packet: u32 = ld32(from + (taken << 2));
    if (isUnfinished(queue, packet) !== 0) break;
    const length: u32 = ld32(packet + MBUF_LENGTH);
    if (fits(queue, packet, length) === 0) {
      taken++;
      continue;
    }
    if (free === 0) break;
    free--;
    const address: u32 = ld32(stack + (free << 2));
    gatherPacket(area + address, packet, length);
    const entry: u32 = ring + ((index & mask) << 4);
    st32(entry, address);
    st32(entry + XDP_DESCRIPTOR_HIGH, 0);
    st32(entry + XDP_DESCRIPTOR_LENGTH, length);
    st32(entry + XDP_DESCRIPTOR_OPTIONS, 0);
    index++;
    taken++;
    sent++;
    bytes += length;
  }
  index >>>= 0;
  if (sent !== 0) {
    st32(queue + Q_FREE, free);
    st32(queue + XDP_INDEX, index);
    atomicStore32(ld32(queue + XDP_PRODUCER), index);
    countBurst(queue, sent, bytes);
  }
  packetsFree(from, taken, ld32(queue + Q_LCORE));
  if (taken !== sent) {
    count(queue + Q_ERRORS, taken - sent);
    st32(queue + XDP_TOO_LONG, ld32(queue + XDP_TOO_LONG) + taken - sent);
  }
  wakeSender(queue, index);
  return taken;
}

/** Chunks free for sending; none: the kernel is asked to go on. */
export function xdpRoom(queue: u32): u32 {
  if (ld32(queue + Q_STATE) !== QUEUE_RUNNING) return 0;
  const free: u32 = reclaim(queue);
  if (free === 0) wakeSender(queue, ld32(queue + XDP_INDEX));
  return free;
}
