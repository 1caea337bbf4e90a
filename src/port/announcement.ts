/**
 * Making a port known in its network after its device has moved there: a packet of the control plane's own, on a transmit queue that an
 * lcore may own.
 * @module
 */
import { MBUF_BUFFER, MBUF_DATA, MBUF_FLAGS, MBUF_HEADROOM, MBUF_LENGTH, MBUF_SEGMENT_LENGTH } from '../memory/mbuf-layout.ts';
import type { MacAddress } from '../net/mac-address.ts';
import { makeNotifier } from '../ring/notification.ts';
import { Q_BYTES_TOTAL, Q_LCORE, Q_NOTIFY, Q_STATE, QUEUE_RUNNING } from '../ring/queue-layout.ts';
import { MAIN_LCORE_SLOT, type QueueState } from '../ring/virtqueue.ts';
import type { PortContext } from './context.ts';

/** A "request reverse" (RFC 903) about the port itself, by which switches learn where its address is now. */
export function reverseArp(mac: MacAddress): Uint8Array {
  const frame = Buffer.alloc(60);
  frame.fill(0xff, 0, 6);
  frame.set(mac, 6);
  frame.writeUInt16BE(0x8035, 12);
  // Ethernet, IPv4, addresses of 6 and 4 bytes, request reverse
  frame.set([0, 1, 8, 0, 6, 4, 0, 3], 14);
  frame.set(mac, 22);
  frame.set(mac, 32);
  return frame;
}

/**
 * Sends one packet on a virtqueue that is stopped and that nobody works on: on a copy of its state, so that no lcore finds it running
 * meanwhile.
 * @param pool arena offset of the pool that the packet's buffer comes from
 * @returns whether it was taken
 */
export function sendWhileStopped({ arena, main }: PortContext, queue: QueueState, pool: number, frame: Uint8Array): boolean {
  const { u8, u32 } = arena.views;
  const { kernels } = main;
  const copy = arena.allocateOwn(Q_BYTES_TOTAL + 4, 'a packet of the control plane');
  try {
    const handle = copy + Q_BYTES_TOTAL;
    if (kernels.mbufAllocate(pool, MAIN_LCORE_SLOT, handle, 1) === 0) return false;
    const mbuf = u32[handle >>> 2] ?? 0;
    const data = (u32[(mbuf + MBUF_BUFFER) >>> 2] ?? 0) + MBUF_HEADROOM;
    u8.set(frame, data);
    u32[(mbuf + MBUF_DATA) >>> 2] = data;
    u32[(mbuf + MBUF_LENGTH) >>> 2] = frame.length;
    u32[(mbuf + MBUF_SEGMENT_LENGTH) >>> 2] = frame.length;
    u32[(mbuf + MBUF_FLAGS) >>> 2] = 0;
    const [state, lcore] = [queue.get(Q_STATE), queue.get(Q_LCORE)];
    u8.copyWithin(copy, queue.offset, queue.offset + Q_BYTES_TOTAL);
    u32[(copy + Q_STATE) >>> 2] = QUEUE_RUNNING;
    u32[(copy + Q_LCORE) >>> 2] = MAIN_LCORE_SLOT;
    const sent = kernels.virtqueueTransmit(copy, handle, 1) === 1;
    if (u32[(copy + Q_NOTIFY) >>> 2] !== 0) makeNotifier(arena.views, copy)();
    u8.copyWithin(queue.offset, copy, copy + Q_BYTES_TOTAL);
    queue.set(Q_STATE, state);
    queue.set(Q_LCORE, lcore);
    if (!sent) kernels.packetFree(mbuf, MAIN_LCORE_SLOT);
    return sent;
  } finally {
    arena.own.release(copy);
  }
}
