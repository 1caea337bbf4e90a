/**
 * Telling the other side of a queue that there is something for it: an eventfd, a register that is mapped into the arena, or a register
 * that is reached by write(). Which of them is in the queue's state, so that every thread that holds the queue can do it.
 * @module
 */
import { writeSync } from 'node:fs';
import type { ArenaViews } from '../memory/arena.ts';
import { signalEventFd } from '../system/event-fd.ts';
import {
  NOTIFY_MISS,
  Q_MISS,
  Q_MISS_FD,
  Q_NOTIFICATIONS,
  Q_NOTIFY,
  Q_NOTIFY_BYTES,
  Q_NOTIFY_FD,
  Q_NOTIFY_POSITION,
  Q_NOTIFY_POSITION_HIGH,
  Q_NOTIFY_REGISTER,
  Q_NOTIFY_VALUE,
  Q_OWN_INDEX,
} from './queue-layout.ts';
import { NO_DESCRIPTOR, type QueueState } from './virtqueue.ts';

/**
 * A register of 2 bytes takes `value`; one of 4 bytes the queue's next available index beside it, in the high half
 * (VIRTIO_F_NOTIFICATION_DATA: virtio 1.2, 4.1.5.2).
 */
export type Notification =
  /** An eventfd, or a socket that is told by a write. */
  | { readonly kind: 'descriptor'; readonly fd: number }
  /** A register at an arena offset (a BAR mapped there). */
  | { readonly kind: 'register'; readonly offset: number; readonly bytes: 2 | 4; readonly value: number }
  /** A register at a position of a file (vfio's device file, a BAR of I/O ports). */
  | { readonly kind: 'file'; readonly fd: number; readonly position: number; readonly bytes: 2 | 4; readonly value: number };

const ONE = new Uint8Array([1, 0, 0, 0, 0, 0, 0, 0]);

/** Says how the other side of a queue is notified from now on; undefined: not at all. */
export function setNotification(queue: QueueState, notification: Notification | undefined): void {
  const file = notification?.kind === 'file' ? notification : undefined;
  queue.set(Q_NOTIFY_BYTES, notification === undefined || notification.kind === 'descriptor' ? 0 : notification.bytes);
  queue.set(Q_NOTIFY_VALUE, notification === undefined || notification.kind === 'descriptor' ? 0 : notification.value);
  queue.set(Q_NOTIFY_REGISTER, notification?.kind === 'register' ? notification.offset : 0);
  queue.set(Q_NOTIFY_POSITION, (file?.position ?? 0) >>> 0);
  queue.set(Q_NOTIFY_POSITION_HIGH, Math.floor((file?.position ?? 0) / 2 ** 32));
  queue.set(Q_NOTIFY_FD, notification === undefined || notification.kind === 'register' ? NO_DESCRIPTOR : notification.fd);
}

/**
 * Makes the function that clears a queue's Q_NOTIFY and notifies its other side.
 * @param state arena offset of the queue's state
 * @param noticeBytes bytes that what is written to a descriptor must have, at least; default 8, what an eventfd takes
 */
export function makeNotifier(views: ArenaViews, state: number, noticeBytes?: (u32: Uint32Array, queue: number) => number): () => void {
  const { u16, u32 } = views;
  const notifyIndex = (state + Q_NOTIFY) >>> 2;
  const descriptorIndex = (state + Q_NOTIFY_FD) >>> 2;
  const countIndex = (state + Q_NOTIFICATIONS) >>> 2;
  const bytesIndex = (state + Q_NOTIFY_BYTES) >>> 2;
  const registerIndex = (state + Q_NOTIFY_REGISTER) >>> 2;
  const valueIndex = (state + Q_NOTIFY_VALUE) >>> 2;
  const ownIndex = (state + Q_OWN_INDEX) >>> 2;
  const positionIndex = (state + Q_NOTIFY_POSITION) >>> 2;
  const positionHighIndex = (state + Q_NOTIFY_POSITION_HIGH) >>> 2;
  const missIndex = (state + Q_MISS) >>> 2;
  const missDescriptorIndex = (state + Q_MISS_FD) >>> 2;
  let notice = ONE;
  const registers = new Uint8Array(4);

  /**
   * Device memory takes stores of the register's width only. Not by Atomics: their store is an exchange on x86-64, which reads the
   * register first and costs an emulated device ten times as much; what is in the ring was stored in order before.
   */
  const store = (bytes: number): void => {
    const next = bytes === 4 ? (u32[ownIndex] ?? 0) : 0;
    const value = ((u32[valueIndex] ?? 0) | (next << 16)) >>> 0;
    const register = u32[registerIndex] ?? 0;
    if (register !== 0) {
      if (bytes === 2) u16[register >>> 1] = value;
      else u32[register >>> 2] = value;
      return;
    }
    for (let at = 0; at < bytes; at++) registers[at] = value >>> (8 * at);
    const position = (u32[positionHighIndex] ?? 0) * 0x1_0000_0000 + (u32[positionIndex] ?? 0);
    writeSync(u32[descriptorIndex] ?? 0, registers, 0, bytes, position);
  };

  return () => {
    const notify = u32[notifyIndex];
    u32[notifyIndex] = 0;
    if (u32[missIndex] !== 0) {
      signalEventFd(u32[missDescriptorIndex] ?? NO_DESCRIPTOR);
      if (notify === NOTIFY_MISS) return;
    }
    const bytes = u32[bytesIndex] ?? 0;
    const fd = u32[descriptorIndex] ?? NO_DESCRIPTOR;
    if (bytes === 0 && fd === NO_DESCRIPTOR) return;
    u32[countIndex] = (u32[countIndex] ?? 0) + 1;
    try {
      if (bytes !== 0) {
        store(bytes);
        return;
      }
      if (noticeBytes !== undefined && notice.length < noticeBytes(u32, state)) notice = new Uint8Array(noticeBytes(u32, state));
      writeSync(fd, notice);
    } catch {
      // EAGAIN: the other side has been told and has not looked yet; EIO and others: the device is gone, which the control plane hears
    }
  };
}
