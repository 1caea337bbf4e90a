/**
 * The part of net_pcap's bursts that calls the system: a large read or write every few thousand packets, on whichever thread
 * owns the queue. What fails is written down in the file's state and counted; nothing is thrown.
 * @module
 */
import { fstatSync, ftruncateSync, readSync, writeSync } from 'node:fs';
import { constants } from 'node:os';
import type { ArenaViews } from '../memory/arena.ts';
import { CAPTURE_READ_FAILED } from '../net/pcap-format.ts';
import type { BurstKernel } from '../ring/kernels.ts';
import {
  FILE_AT,
  FILE_BLOCKS,
  FILE_BUFFER,
  FILE_BYTES,
  FILE_DESCRIPTOR,
  FILE_END,
  FILE_ENDED,
  FILE_ERRNO,
  FILE_PACKETS,
  FILE_POSITION,
  FILE_ROOM,
  FILE_TIME,
  FILE_WANTS,
} from '../ring/pcap-queue.kernel.ts';
import { Q_BYTES, Q_DESCRIPTORS, Q_DROPPED, Q_ERROR, Q_ERRORS, Q_PACKETS, Q_STATE, QUEUE_STOPPED } from '../ring/queue-layout.ts';
import { writePacketTime } from './packet-time.ts';

const TWO_TO_32 = 0x1_0000_0000;

function errnoOf(error: unknown): number {
  const { errno } = error as { readonly errno?: unknown };
  return typeof errno === 'number' ? Math.abs(errno) : constants.errno.EIO;
}

/** Adds to a counter of two u32, or takes from it. */
function add(u32: Uint32Array, counter: number, amount: number): void {
  const index = counter >>> 2;
  const value = (u32[index + 1] ?? 0) * TWO_TO_32 + (u32[index] ?? 0) + amount;
  u32[index] = value >>> 0;
  u32[index + 1] = Math.floor(value / TWO_TO_32);
}

/** Moves what is left to the front of the buffer and reads the next piece of the file behind it. */
export function readPiece({ u8, u32 }: ArenaViews, queue: number): void {
  const file = u32[(queue + Q_DESCRIPTORS) >>> 2] ?? 0;
  const get = (field: number): number => u32[(file + field) >>> 2] ?? 0;
  const set = (field: number, value: number): void => {
    u32[(file + field) >>> 2] = value;
  };
  const buffer = get(FILE_BUFFER);
  const at = get(FILE_AT);
  const left = get(FILE_END) - at;
  u8.copyWithin(buffer, buffer + at, buffer + at + left);
  add(u32, file + FILE_POSITION, at);
  set(FILE_AT, 0);
  set(FILE_WANTS, 0);
  let end = left;
  try {
    const read = readSync(get(FILE_DESCRIPTOR), u8, buffer + left, get(FILE_ROOM) - left, null);
    if (read === 0) set(FILE_ENDED, 1);
    end += read;
  } catch (error) {
    set(FILE_ERRNO, errnoOf(error));
    add(u32, queue + Q_ERRORS, 1);
    u32[(queue + Q_ERROR) >>> 2] = CAPTURE_READ_FAILED;
    u32[(queue + Q_STATE) >>> 2] = QUEUE_STOPPED;
  }
  set(FILE_END, end);
}

/**
 * Writes the buffer and empties it. When the system takes only a part, the packets that are in the file as a whole stay
 * there, the rest of them counts as dropped, and the file is cut behind the last whole one: what follows later can be read.
 */
export function writePiece({ u8, u32 }: ArenaViews, queue: number): void {
  const file = u32[(queue + Q_DESCRIPTORS) >>> 2] ?? 0;
  const get = (field: number): number => u32[(file + field) >>> 2] ?? 0;
  const descriptor = get(FILE_DESCRIPTOR);
  const buffer = get(FILE_BUFFER);
  const end = get(FILE_END);
  let written = 0;
  try {
    while (written < end) written += writeSync(descriptor, u8, buffer + written, end - written, null);
    add(u32, file + FILE_POSITION, end);
  } catch (error) {
    u32[(file + FILE_ERRNO) >>> 2] = errnoOf(error);
    const kept = wholeRecords({ u8, u32 }, file, written);
    const lost = get(FILE_PACKETS) - kept.packets;
    add(u32, queue + Q_PACKETS, -lost);
    add(u32, queue + Q_BYTES, kept.bytes - get(FILE_BYTES));
    add(u32, queue + Q_DROPPED, lost);
    add(u32, file + FILE_POSITION, kept.end);
    cutTail(descriptor, written - kept.end);
  }
  for (const field of [FILE_END, FILE_PACKETS, FILE_BYTES, FILE_WANTS]) u32[(file + field) >>> 2] = 0;
}

/** The records that lie as a whole in the first `written` bytes of the buffer. */
function wholeRecords(
  { u8, u32 }: Pick<ArenaViews, 'u8' | 'u32'>,
  file: number,
  written: number,
): { readonly packets: number; readonly bytes: number; readonly end: number } {
  const buffer = u32[(file + FILE_BUFFER) >>> 2] ?? 0;
  const blocks = u32[(file + FILE_BLOCKS) >>> 2] !== 0;
  const view = new DataView(u8.buffer, u8.byteOffset + buffer, u32[(file + FILE_END) >>> 2] ?? 0);
  let packets = 0;
  let bytes = 0;
  let end = 0;
  while (end < written) {
    const length = view.getUint32(end + (blocks ? 20 : 8), true);
    const next = end + (blocks ? view.getUint32(end + 4, true) : 16 + length);
    if (next > written) break;
    packets++;
    bytes += length;
    end = next;
  }
  return { packets, bytes, end };
}

/** Takes back the part of a record at the end of the file. */
function cutTail(descriptor: number, bytes: number): void {
  if (bytes === 0) return;
  try {
    ftruncateSync(descriptor, Math.max(0, fstatSync(descriptor).size - bytes));
  } catch {
    // a device or a pipe: what was taken is gone
  }
}

/** The burst of a receive queue: the kernel, and more of the file whenever the kernel has used the buffer up. */
export function receiveFromFile(views: ArenaViews, queue: number, kernel: BurstKernel): (mbufs: number, count: number) => number {
  const { u32 } = views;
  const file = u32[(queue + Q_DESCRIPTORS) >>> 2] ?? 0;
  if (file === 0) return (mbufs, count) => kernel(queue, mbufs, count);
  const wants = (file + FILE_WANTS) >>> 2;
  return (mbufs, count) => {
    let done = kernel(queue, mbufs, count);
    while (done < count && u32[wants] !== 0) {
      readPiece(views, queue);
      done += kernel(queue, mbufs + (done << 2), count - done);
    }
    return done;
  };
}

/** The burst of a transmit queue: the kernel, and the buffer written whenever it is full. */
export function transmitToFile(views: ArenaViews, queue: number, kernel: BurstKernel): (mbufs: number, count: number) => number {
  const { u32 } = views;
  const file = u32[(queue + Q_DESCRIPTORS) >>> 2] ?? 0;
  if (file === 0) return (mbufs, count) => kernel(queue, mbufs, count);
  const wants = (file + FILE_WANTS) >>> 2;
  const time = (file + FILE_TIME) >>> 2;
  const blocks = (file + FILE_BLOCKS) >>> 2;
  return (mbufs, count) => {
    writePacketTime(u32, time, u32[blocks] !== 0);
    let done = kernel(queue, mbufs, count);
    while (done < count && u32[wants] !== 0) {
      writePiece(views, queue);
      done += kernel(queue, mbufs + (done << 2), count - done);
    }
    return done;
  };
}
