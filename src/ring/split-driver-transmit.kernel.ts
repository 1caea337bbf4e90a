/**
 * The driver side of a split virtqueue: transmitting (virtio 1.2, 2.7.13). How descriptors go round is told in
 * split-driver-ring.kernel.ts.
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
import { count, countBurst, countGroupAddress, countPackets, countSizes } from './counters.kernel.ts';
import { takeFours } from './driver-fours.kernel.ts';
import { giveUp } from './give-up.kernel.ts';
import { isOversize } from './length-limit.kernel.ts';
import { hasHeadroom, putSentHeader, writeSentHeader } from './packet-header.kernel.ts';
import { physicalHigh, physicalLow } from './physical-address.kernel.ts';
import {
  QUEUE_ERROR_ID,
  QUEUE_ERROR_INDEX,
  QUEUE_INDIRECT,
  QUEUE_IN_ORDER,
  QUEUE_RUNNING,
  Q_ADDRESS_HIGH,
  Q_AVAILABLE,
  Q_DESCRIPTORS,
  Q_ERRORS,
  Q_FEATURES,
  Q_FREE,
  Q_FREE_HEAD,
  Q_FREE_RING,
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
  SHADOW_NEXT,
  TRANSMIT_AREA_BYTES,
  TRANSMIT_HEADER,
  TRANSMIT_TABLE,
  TRANSMIT_TABLE_ENTRIES,
} from './queue-layout.ts';
import { splitReclaimFours, splitSendFours } from './split-driver-fours.kernel.ts';
import { publish, releaseChain, usedAhead, writeDescriptor } from './split-driver-ring.kernel.ts';
import {
  AVAILABLE_RING,
  DESCRIPTOR_BYTES,
  DESCRIPTOR_F_INDIRECT,
  DESCRIPTOR_F_NEXT,
  USED_ELEMENT_BYTES,
  USED_RING,
} from './split-layout.ts';

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
    const oldest: u32 = tail & mask;
    done = takeFours(shadow + oldest * SHADOW_BYTES, scratch, ahead < size - oldest ? ahead : size - oldest);
    tail += done;
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
    done = splitReclaimFours(queue, ahead);
    st32(queue + Q_FREE, ld32(queue + Q_FREE) + done);
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
 * Writes the descriptors of any packet: of several segments, without headroom, with work.
 * @param indirect entries that it takes in the table of its own, which one descriptor of the ring refers to (virtio 1.2, 2.7.5.3);
 * 0: all of its descriptors are in the ring
 * @returns descriptors of the ring
 */
function writeChain(queue: u32, packet: u32, header: u32, mask: u32, indirect: u32): u32 {
  const ring: u32 = ld32(queue + Q_FREE_RING);
  const shadow: u32 = ld32(queue + Q_SHADOW);
  const physical: u32 = ld32(queue + Q_PHYSICAL);
  let high: u32 = ld32(queue + Q_ADDRESS_HIGH);
  const first: u32 = ld32(queue + Q_FREE_HEAD);
  const head: u32 = ld16(ring + ((first & mask) << 1));
  const area: u32 = ld32(queue + Q_HEADERS) + head * TRANSMIT_AREA_BYTES;
  const table: u32 = indirect !== 0 ? area + TRANSMIT_TABLE : ld32(queue + Q_DESCRIPTORS);
  let mbuf: u32 = packet;
  let address: u32 = area + TRANSMIT_HEADER;
  let length: u32 = header;
  if (hasHeadroom(packet, header) !== 0) {
    address = ld32(packet + MBUF_DATA) - header;
    length = ld32(packet + MBUF_SEGMENT_LENGTH) + header;
    mbuf = ld32(packet + MBUF_NEXT);
  }
  putSentHeader(address, header, packet);
  let written: u32 = 0;
  for (;;) {
    let descriptor: u32 = written;
    let next: u32 = written + 1;
    if (indirect === 0) {
      descriptor = ld16(ring + (((first + written) & mask) << 1));
      next = ld16(ring + (((first + written + 1) & mask) << 1));
      st16(shadow + descriptor * SHADOW_BYTES + SHADOW_NEXT, next);
    }
    if (physical !== 0) {
      high = physicalHigh(physical, address);
      address = physicalLow(physical, address);
    }
    written++;
    const last: u32 = mbuf === 0 || written === indirect ? 1 : 0;
    writeDescriptor(
      table + descriptor * DESCRIPTOR_BYTES,
      address,
      high,
      length,
      last !== 0 ? 0 : (DESCRIPTOR_F_NEXT | (next << 16)) >>> 0,
    );
    if (last !== 0) break;
    address = ld32(mbuf + MBUF_DATA);
    length = ld32(mbuf + MBUF_SEGMENT_LENGTH);
    mbuf = ld32(mbuf + MBUF_NEXT);
  }
  if (indirect !== 0) {
    address = table;
    if (physical !== 0) {
      high = physicalHigh(physical, address);
      address = physicalLow(physical, address);
    }
    writeDescriptor(
      ld32(queue + Q_DESCRIPTORS) + head * DESCRIPTOR_BYTES,
      address,
      high,
      written * DESCRIPTOR_BYTES,
      DESCRIPTOR_F_INDIRECT,
    );
    written = 1;
  }
  const entry: u32 = shadow + head * SHADOW_BYTES;
  st32(entry + SHADOW_MBUF, packet);
  st16(entry + SHADOW_COUNT, written);
  return written;
}

/**
 * Sends up to `packets` packets whose handles are at `from`; the first ones are taken, the caller keeps the others.
 * A packet of more segments than the ring has descriptors, or beyond the MTU, is counted as an error and dropped.
 * @returns packets taken
 */
export function splitDriverTransmit(queue: u32, from: u32, packets: u32): u32 {
  if (ld32(queue + Q_STATE) !== QUEUE_RUNNING || packets === 0) return 0;
  const size: u32 = ld32(queue + Q_SIZE);
  const mask: u32 = size - 1;
  let free: u32 = ld32(queue + Q_FREE);
  if (free < packets) free = splitDriverReclaim(queue);
  const header: u32 = ld32(queue + Q_HEADER);
  const physical: u32 = ld32(queue + Q_PHYSICAL);
  let high: u32 = ld32(queue + Q_ADDRESS_HIGH);
  const table: u32 = ld32(queue + Q_DESCRIPTORS);
  const entries: u32 = ld32(queue + Q_AVAILABLE) + AVAILABLE_RING;
  const ring: u32 = ld32(queue + Q_FREE_RING);
  const shadow: u32 = ld32(queue + Q_SHADOW);
  const lcore: u32 = ld32(queue + Q_LCORE);
  const limit: u32 = ld32(queue + Q_LENGTH_LIMIT);
  const unable: u32 = MBUF_WORK & ~ld32(queue + Q_OFFLOADS);
  const tableEntries: u32 = (ld32(queue + Q_FEATURES) & QUEUE_INDIRECT) !== 0 ? TRANSMIT_TABLE_ENTRIES : 0;
  let head: u32 = ld32(queue + Q_FREE_HEAD);
  let index: u32 = ld32(queue + Q_OWN_INDEX);
  let bytes: u32 = 0;
  const most: u32 = packets < free ? packets : free;
  let sent: u32 = physical === 0 ? splitSendFours(queue, from, most) : 0;
  const fours: u32 = sent;
  head += fours;
  free -= fours;
  index = (index + fours) & 0xffff;
  let refused: u32 = 0;
  let runLength: u32 = 0;
  let run: u32 = 0;
  for (; sent < packets; sent++) {
    const packet: u32 = ld32(from + (sent << 2));
    const length: u32 = ld32(packet + MBUF_LENGTH);
    let descriptor: u32 = ld16(ring + ((head & mask) << 1));
    const data: u32 = ld32(packet + MBUF_DATA);
    const work: u32 = ld32(packet + MBUF_FLAGS) & MBUF_WORK;
    if ((work & unable) !== 0) {
      st32(queue + Q_UNFINISHED, 1);
      break;
    }
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
      writeDescriptor(table + descriptor * DESCRIPTOR_BYTES, address, high, length + header, 0);
      const entry: u32 = shadow + descriptor * SHADOW_BYTES;
      st32(entry + SHADOW_MBUF, packet);
      st16(entry + SHADOW_COUNT, 1);
      head++;
      free--;
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
        // reclaiming moves the tail of the free ring only; what was written in this burst is not counted as free yet
        st32(queue + Q_FREE_HEAD, head);
        st32(queue + Q_FREE, free);
        free = splitDriverReclaim(queue);
        if (needed > free) break;
        // with no descriptor left, the next one is what has just come back
        descriptor = ld16(ring + ((head & mask) << 1));
      }
      st32(queue + Q_FREE_HEAD, head);
      const used: u32 = writeChain(queue, packet, header, mask, indirect);
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
  if (fours !== 0) countPackets(queue, from, fours, 1);
  if (run !== 0) {
    countSizes(queue, runLength, run);
    countBurst(queue, sent - fours - refused, bytes);
  }
  if (fours + run !== 0) publish(queue, index);
  return sent;
}
