/**
 * From a queue handle to its burst functions: the one table of data paths, used by the main thread and by lcores alike.
 * @module
 */
import type { ArenaViews } from '../memory/arena.ts';
import type { BurstKernel, KernelContext, Kernels } from '../ring/kernels.ts';
import { makeNotifier } from '../ring/notification.ts';
import { PACKET_FRAME_BYTES, PACKET_FRAMES } from '../ring/packet-ring-layout.ts';
import {
  Q_CAPTURE,
  Q_FREE,
  Q_INTERRUPT_FD,
  Q_LCORE,
  Q_NOTIFY,
  Q_STATE,
  Q_STRIP_VLAN,
  Q_UNFINISHED,
  Q_WAITING,
  QUEUE_STOPPED,
  WAITING_COUNT,
  WAITING_FIRST,
  WAITING_HANDLES,
} from '../ring/queue-layout.ts';
import { NO_DESCRIPTOR } from '../ring/virtqueue.ts';
import { clearEventFd } from '../system/event-fd.ts';
import { captureReceived, captureSent } from './capture-queue.ts';
import { receiveFromFile, transmitToFile } from './pcap-queue.ts';
import type { QueueHandle, QueueKind } from './queue.ts';
import { receiveFromSocket, transmitToSocket } from './xdp-queue.ts';
import { receiveFromTap, transmitToTap } from './tap-queue.ts';

/** A burst that does more than its kernel: system calls now and then. */
type BurstMaker = (views: ArenaViews, queue: number, kernel: BurstKernel, kernels: Kernels) => (mbufs: number, count: number) => number;

interface DataPath {
  readonly receive: (kernels: Kernels) => BurstKernel;
  readonly transmit: (kernels: Kernels) => BurstKernel;
  /** Descriptors free for transmitting, after taking back what was sent; undefined: any number. */
  readonly room?: (kernels: Kernels) => (queue: number) => number;
  /** The kernel may ask for a notification of the other side. */
  readonly notifies: boolean;
  /** Bytes that a notification has to be long, at least; default 8, what an eventfd takes. */
  readonly noticeBytes?: (u32: Uint32Array, queue: number) => number;
  /** What is called instead of the kernel alone. */
  readonly bursts?: { readonly receive: BurstMaker; readonly transmit: BurstMaker };
  /** How a receive queue tells that packets have come; undefined: it has to be polled. */
  readonly interrupt?: DataPathInterrupt;
}

type DataPathInterrupt =
  /** The socket or tap itself, readable for as long as there are packets. */
  | { readonly kind: 'readable' }
  /** An eventfd, and kernels that ask the other side to signal it. */
  | {
      readonly kind: 'signalled';
      readonly arm: (kernels: Kernels) => (queue: number) => number;
      readonly disarm: (kernels: Kernels) => (queue: number) => void;
    };

const dataPaths: Readonly<Record<QueueKind, DataPath>> = {
  'virtqueue-driver': {
    receive: (kernels) => kernels.virtqueueReceive,
    transmit: (kernels) => kernels.virtqueueTransmit,
    room: (kernels) => kernels.driverReclaim,
    notifies: true,
    interrupt: { kind: 'signalled', arm: (kernels) => kernels.driverArm, disarm: (kernels) => kernels.driverDisarm },
  },
  'virtqueue-device': {
    receive: (kernels) => kernels.virtqueueReceive,
    transmit: (kernels) => kernels.virtqueueTransmit,
    notifies: true,
    interrupt: { kind: 'signalled', arm: (kernels) => kernels.deviceArm, disarm: (kernels) => kernels.deviceDisarm },
  },
  null: { receive: (kernels) => kernels.nullReceive, transmit: (kernels) => kernels.nullTransmit, notifies: false },
  ring: { receive: (kernels) => kernels.ringReceive, transmit: (kernels) => kernels.ringTransmit, notifies: false },
  // the notification is the write to the socket that makes the kernel send
  'packet-ring': {
    receive: (kernels) => kernels.packetReceive,
    transmit: (kernels) => kernels.packetTransmit,
    room: (kernels) => kernels.packetRoom,
    notifies: true,
    // The kernel sends what is in the ring and returns the bytes of that, whatever it was given. Told of more bytes written than there
    // were, libuv goes on behind the end of its list of buffers and spoils memory (uv__fs_buf_offset). What it is given is never read.
    noticeBytes: (u32, queue) => (u32[(queue + PACKET_FRAMES) >>> 2] ?? 0) * (u32[(queue + PACKET_FRAME_BYTES) >>> 2] ?? 0),
    interrupt: { kind: 'readable' },
  },
  pcap: {
    receive: (kernels) => kernels.pcapReceive,
    transmit: (kernels) => kernels.pcapTransmit,
    notifies: false,
    bursts: { receive: receiveFromFile, transmit: transmitToFile },
  },
  xdp: {
    receive: (kernels) => kernels.xdpReceive,
    transmit: (kernels) => kernels.xdpTransmit,
    room: (kernels) => kernels.xdpRoom,
    notifies: false,
    bursts: { receive: receiveFromSocket, transmit: transmitToSocket },
    interrupt: { kind: 'readable' },
  },
  tap: {
    receive: (kernels) => kernels.tapReceive,
    transmit: (kernels) => kernels.tapPrepare,
    notifies: false,
    bursts: {
      receive: (views, queue, _kernel, kernels) => receiveFromTap(views, queue, kernels),
      transmit: (views, queue, _kernel, kernels) => transmitToTap(views, queue, kernels),
    },
    interrupt: { kind: 'readable' },
  },
};

type Burst = (mbufs: number, count: number) => number;

/**
 * The bursts of a kernel that may ask for a notification. For receiving and for transmitting, though the text is the same: a place of call
 * that has only ever met one kernel is what V8 writes in line (virtqueue.kernel.ts has what that gains).
 */
function receivesAndNotifies(u32: Uint32Array, state: number, kernel: BurstKernel, notify: () => void): Burst {
  const notifyIndex = (state + Q_NOTIFY) >>> 2;
  return (mbufs, count) => {
    const moved = kernel(state, mbufs, count);
    if (u32[notifyIndex] !== 0) notify();
    return moved;
  };
}

function transmitsAndNotifies(u32: Uint32Array, state: number, kernel: BurstKernel, notify: () => void): Burst {
  const notifyIndex = (state + Q_NOTIFY) >>> 2;
  return (mbufs, count) => {
    const moved = kernel(state, mbufs, count);
    if (u32[notifyIndex] !== 0) notify();
    return moved;
  };
}

/** Wraps the burst of a transmit queue: a packet that it cannot send as it is gets finished in software, and its parts are sent. */
function finishing(context: KernelContext, state: number, burst: Burst): Burst {
  const { kernels, views } = context;
  const { u32 } = views;
  const captureIndex = (state + Q_CAPTURE) >>> 2;
  const waiting = u32[(state + Q_WAITING) >>> 2] ?? 0;
  const unfinishedIndex = (state + Q_UNFINISHED) >>> 2;
  const firstIndex = (waiting + WAITING_FIRST) >>> 2;
  const countIndex = (waiting + WAITING_COUNT) >>> 2;
  const handles = waiting + WAITING_HANDLES;

  /** Sends what waits; returns whether nothing is left. */
  const flush = (): boolean => {
    const first = u32[firstIndex] ?? 0;
    const count = u32[countIndex] ?? 0;
    const sent = burst(handles + 4 * first, count);
    u32[firstIndex] = first + sent;
    u32[countIndex] = count - sent;
    return sent === count;
  };

  const send: Burst = (mbufs, count) => {
    if (u32[countIndex] !== 0 && !flush()) return 0;
    let moved = burst(mbufs, count);
    while (u32[unfinishedIndex] !== 0) {
      u32[unfinishedIndex] = 0;
      if (kernels.finishTransmit(state, u32[(mbufs + 4 * moved) >>> 2] ?? 0) === 0) break;
      moved += 1;
      if (u32[countIndex] !== 0 && !flush()) break;
      moved += burst(mbufs + 4 * moved, count - moved);
    }
    return moved;
  };
  return (mbufs, count) => {
    const capture = u32[captureIndex] ?? 0;
    return capture === 0 ? send(mbufs, count) : captureSent(context, capture, send, mbufs, count);
  };
}

/** Wraps the burst of a receive queue: takes VLAN tags out where the port was told to. */
function stripping(context: KernelContext, state: number, burst: Burst): Burst {
  const { kernels, views } = context;
  const { u32 } = views;
  const captureIndex = (state + Q_CAPTURE) >>> 2;
  const stripIndex = (state + Q_STRIP_VLAN) >>> 2;
  return (mbufs, count) => {
    const moved = burst(mbufs, count);
    const capture = u32[captureIndex] ?? 0;
    if (capture !== 0 && moved !== 0) captureReceived(context, capture, mbufs, moved);
    if (u32[stripIndex] !== 0 && moved !== 0) kernels.stripVlans(mbufs, moved);
    return moved;
  };
}

/** What a thread that wants to sleep until packets come does with a receive queue (rte_eth_dev_rx_intr_*). */
export interface QueueInterrupt {
  /**
   * What to wait for until it is readable: an eventfd, a socket, a tap. Undefined while the queue does not run, when nothing comes, and
   * also where the device has no interrupt for the queue: `available` tells which. It may be another one after every sleep.
   */
  descriptor(): number | undefined;
  /** False: the queue runs and cannot tell of packets: poll it. */
  available(): boolean;
  /**
   * Asks the device to signal. Then poll or sleep, and disarmInterrupt() before the queue is used again.
   * @returns false when packets are there already
   */
  armInterrupt(): boolean;
  /** Takes that back. @param signalled the descriptor was readable */
  disarmInterrupt(signalled: boolean): void;
}

export interface QueueFunctions {
  readonly burst: (mbufs: number, count: number) => number;
  /** Transmit queues: at least how many packets of one segment would be taken now. */
  readonly room: (wanted: number) => number;
  /** Receive queues that can tell of packets. */
  readonly interrupt: QueueInterrupt | undefined;
}

/** Whether receive queues of this kind can tell of packets at all. */
export function hasInterrupts(kind: QueueKind): boolean {
  return dataPaths[kind].interrupt !== undefined;
}

function makeInterrupt({ kernels, views }: KernelContext, state: number, way: DataPathInterrupt): QueueInterrupt {
  const { u32, i32 } = views;
  const stateIndex = (state + Q_STATE) >>> 2;
  const descriptorIndex = (state + Q_INTERRUPT_FD) >>> 2;
  const stopped = (): boolean => Atomics.load(i32, stateIndex) === QUEUE_STOPPED;
  const descriptor = (): number | undefined => {
    if (stopped()) return undefined;
    const fd = u32[descriptorIndex] ?? NO_DESCRIPTOR;
    return fd === NO_DESCRIPTOR ? undefined : fd;
  };
  const available = (): boolean => stopped() || u32[descriptorIndex] !== NO_DESCRIPTOR;
  if (way.kind === 'readable') {
    // it stays readable until the packets are taken: there is nothing to ask for, and nothing to take back
    return { descriptor, available, armInterrupt: () => true, disarmInterrupt: () => undefined };
  }
  const arm = way.arm(kernels);
  const disarm = way.disarm(kernels);
  return {
    descriptor,
    available,
    armInterrupt: () => arm(state) !== 0,
    disarmInterrupt(signalled) {
      disarm(state);
      const fd = signalled ? descriptor() : undefined;
      if (fd !== undefined) clearEventFd(fd);
    },
  };
}

/**
 * Opens a queue on this thread.
 * @param lcoreSlot cache slot of the calling lcore; the queue works with it from now on
 */
export function openQueue(
  context: KernelContext,
  handle: QueueHandle,
  direction: 'receive' | 'transmit',
  lcoreSlot: number,
): QueueFunctions {
  const { kernels, views } = context;
  const { u32 } = views;
  const path = dataPaths[handle.kind];
  const { state } = handle;
  u32[(state + Q_LCORE) >>> 2] = lcoreSlot;
  const kernel = path[direction](kernels);
  const notifyIndex = (state + Q_NOTIFY) >>> 2;
  const freeIndex = (state + Q_FREE) >>> 2;
  const reclaim = path.room?.(kernels);

  const notify = makeNotifier(views, state, path.noticeBytes);

  const burst: Burst = path.notifies
    ? (direction === 'receive' ? receivesAndNotifies : transmitsAndNotifies)(u32, state, kernel, notify)
    : (path.bursts?.[direction](views, state, kernel, kernels) ?? ((mbufs, count) => kernel(state, mbufs, count)));
  return {
    burst: (direction === 'transmit' ? finishing : stripping)(context, state, burst),
    interrupt: direction === 'transmit' || path.interrupt === undefined ? undefined : makeInterrupt(context, state, path.interrupt),
    room:
      reclaim === undefined
        ? (wanted) => wanted
        : (wanted) => {
            const free = u32[freeIndex] ?? 0;
            if (free >= wanted) return free;
            const found = reclaim(state);
            if (u32[notifyIndex] !== 0) notify();
            return found;
          },
  };
}
