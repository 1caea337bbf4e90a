/**
 * Four packets a step on the driver side, whatever the ring's format: packets of one buffer without work.
 *
 * Descriptors (packed: buffer ids) come out of the ring of free ones in its order, and go back to its end: what is next to come back from a
 * device that works in order is what its tail still has. With VIRTIO_F_IN_ORDER that ring counts up for ever, and what is at a place of it
 * is the place. Without, it does so as long as the device keeps the order all the same, as most do, and from group to group again after it
 * has not; so it is looked at (steadyFour). What does not come in fours, or is not as it should be, is left to the loops that go packet by
 * packet. One test for four, and what is known of the whole burst looked up once, is what this is for; docs/performance.md says what it
 * gained. Single steps are in driver-steps.kernel.ts.
 * @module
 */
import { ld16, ld32, ldu16, ldu32, st16, st32 } from '../memory/access.ts';
import { MBUF_BUFFER, MBUF_HEADROOM, MBUF_LENGTH, MBUF_PORT, MBUF_SEGMENT_LENGTH } from '../memory/mbuf-layout.ts';
import { NET_HEADER_BUFFERS } from '../net/virtio-net-header.ts';
import { takeFour } from './driver-steps.kernel.ts';
import { Q_ADDRESS_HIGH, Q_DESCRIPTORS, Q_SIZE, SHADOW_BYTES } from './queue-layout.ts';
import { DESCRIPTOR_ADDRESS_HIGH, DESCRIPTOR_BYTES } from './split-layout.ts';

/** No descriptor. */
export const UNSTEADY: u32 = 0xffffffff;

/**
 * The first of the four descriptors or ids from the `place`th of the ring of free ones on, which count up, as they always do `inOrder`;
 * UNSTEADY when they do not.
 */
export function steadyFour(ring: u32, place: u32, inOrder: u32): u32 {
  if (inOrder !== 0) return place;
  const at: u32 = ring + (place << 1);
  const first: u32 = ld16(at);
  const low: u32 = (first | ((first + 1) << 16)) >>> 0;
  const high: u32 = ((first + 2) | ((first + 3) << 16)) >>> 0;
  return ldu32(at) === low && ldu32(at + 4) === high ? first : UNSTEADY;
}

/**
 * 0 when one of four handles is 0. A device that uses buffers out of order leaves ids in the ring of free ones that it has used already:
 * one that is hostile may name them again.
 */
export function areThere(handles: u32): u32 {
  return ld32(handles) === 0 || ld32(handles + 4) === 0 || ld32(handles + 8) === 0 || ld32(handles + 12) === 0 ? 0 : 1;
}

function buffers(mbuf: u32, header: u32): u32 {
  return ldu16(ld32(mbuf + MBUF_BUFFER) + MBUF_HEADROOM - header + NET_HEADER_BUFFERS);
}

/** 0 when each of the four received buffers whose handles are at `from` is a packet of its own (num_buffers, virtio 1.2, 5.1.6.4). */
export function mergedFour(from: u32, header: u32): u32 {
  return (
    (buffers(ld32(from), header) | buffers(ld32(from + 4), header) | buffers(ld32(from + 8), header) | buffers(ld32(from + 12), header)) &
    0xfffe
  );
}

/** Gives a received packet its fields; the others are as they were when it was freed. */
export function completePacket(packet: u32, length: u32, port: u32): void {
  st32(packet + MBUF_LENGTH, length);
  st32(packet + MBUF_SEGMENT_LENGTH, length);
  st16(packet + MBUF_PORT, port);
}

/**
 * Takes packets out of their shadows, up to `most`, four at a time as long as they have one descriptor each.
 * @param shadow of the oldest
 * @param to where their handles go
 * @returns packets taken
 */
export function takeFours(shadow: u32, to: u32, most: u32): u32 {
  let taken: u32 = 0;
  while (taken + 4 <= most && takeFour(to + (taken << 2), shadow + taken * SHADOW_BYTES) !== 0) taken += 4;
  return taken;
}

/**
 * Writes a word of each line of `count` free descriptors from the `at`th on, up to the end of the ring, so that all lines are on their way
 * before the store queue is full of the rest. Measured on Zen 4, io loop, 64 B, with far cores: packed 13.7-14.5 to 20-24 Mpps (near 5 % to
 * 15 % more), split 10.5 to 12.5.
 */
export function claimLines(queue: u32, at: u32, count: u32): void {
  const left: u32 = ld32(queue + Q_SIZE) - at;
  const most: u32 = count < left ? count : left;
  const high: u32 = ld32(queue + Q_ADDRESS_HIGH);
  const first: u32 = ld32(queue + Q_DESCRIPTORS) + at * DESCRIPTOR_BYTES + DESCRIPTOR_ADDRESS_HIGH;
  for (let index: u32 = 0; index < most; index += 4) st32(first + index * DESCRIPTOR_BYTES, high);
}
