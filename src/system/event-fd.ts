/**
 * Event descriptors: the kicks and calls of a virtqueue, and wake-ups of a thread that waits.
 * @module
 */
import { closeSync, readSync, writeSync } from 'node:fs';
import { bindNative, systemError } from './ffi.ts';

const EFD_NONBLOCK = 0x800;
const EFD_CLOEXEC = 0x80000;
const eventfd = bindNative('eventfd', 'i32', ['i32', 'i32']);

const ONE = new Uint8Array([1, 0, 0, 0, 0, 0, 0, 0]);

/** @param nonBlocking false for a descriptor that a thread waits on by reading it */
export function createEventFd(nonBlocking = true): number {
  const { value, errno } = eventfd(0, EFD_CLOEXEC | (nonBlocking ? EFD_NONBLOCK : 0));
  if (value < 0) throw systemError('event descriptor', 'eventfd', errno);
  return value;
}

/** Adds one. A peer that closed its end, or a counter at its limit, is no error of ours. */
export function signalEventFd(fd: number): void {
  try {
    writeSync(fd, ONE);
  } catch {
    // EAGAIN: already signalled; EBADF or EPIPE: the peer sent something that is no event descriptor
  }
}

const COUNT = new Uint8Array(8);

/** Takes back what was signalled; returns whether anything was. */
export function clearEventFd(fd: number): boolean {
  try {
    readSync(fd, COUNT);
    return true;
  } catch {
    // EAGAIN: somebody else did, or nothing was signalled
    return false;
  }
}

const dup = bindNative('dup', 'i32', ['i32']);

/** Another descriptor of the same file, to be closed by the caller: the number of the first may be closed, and used anew, meanwhile. */
export function duplicateFd(fd: number): number {
  const { value, errno } = dup(fd);
  if (value < 0) throw systemError(`descriptor ${String(fd)}`, 'dup', errno);
  return value;
}

export function closeFd(fd: number): void {
  try {
    closeSync(fd);
  } catch {
    // closing is all that is left to do with it
  }
}
