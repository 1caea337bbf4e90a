/**
 * The part of net_af_xdp's bursts that calls the kernel, on whichever thread owns the queue: a write to the socket makes it
 * send, a read makes it receive. Neither is made unless the kernel asks for it, or was told to receive within calls only.
 * @module
 */
import { readSync, writeSync } from 'node:fs';
import type { ArenaViews } from '../memory/arena.ts';
import type { BurstKernel } from '../ring/kernels.ts';
import { Q_NOTIFICATIONS, Q_NOTIFY, Q_NOTIFY_FD } from '../ring/queue-layout.ts';
import { NO_DESCRIPTOR } from '../ring/virtqueue.ts';
import { XDP_CALLS } from '../ring/xdp-layout.ts';

const BYTE = new Uint8Array(1);

function maker(direction: 'receive' | 'transmit') {
  const call: (fd: number, bytes: Uint8Array) => number = direction === 'receive' ? readSync : writeSync;
  return ({ u32 }: ArenaViews, queue: number, kernel: BurstKernel): ((mbufs: number, count: number) => number) => {
    const notifyIndex = (queue + Q_NOTIFY) >>> 2;
    const descriptorIndex = (queue + Q_NOTIFY_FD) >>> 2;
    const countIndex = (queue + Q_NOTIFICATIONS) >>> 2;
    const callsIndex = (queue + XDP_CALLS) >>> 2;
    return (mbufs, count) => {
      const moved = kernel(queue, mbufs, count);
      if (u32[notifyIndex] === 0 && (moved !== 0 || u32[callsIndex] === 0)) return moved;
      u32[notifyIndex] = 0;
      const fd = u32[descriptorIndex] ?? NO_DESCRIPTOR;
      if (fd === NO_DESCRIPTOR) return moved;
      u32[countIndex] = (u32[countIndex] ?? 0) + 1;
      try {
        call(fd, BYTE);
      } catch {
        // EAGAIN, EBUSY: more is to do, and the next burst asks again; ENETDOWN: the control plane is about to see it
      }
      return moved;
    };
  };
}

export const receiveFromSocket = maker('receive');
export const transmitToSocket = maker('transmit');
