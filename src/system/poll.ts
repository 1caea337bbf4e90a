/**
 * poll(2): a thread that sleeps until one of a few descriptors is readable. It blocks the thread: for lcores, never for the main thread.
 *
 * A list that is handed over anew at every call, and not epoll's standing one: the descriptors of queues change while their lcore
 * sleeps, and a number that the control plane closed must not be waited for by accident.
 * @module
 */
import { bindNative } from './ffi.ts';

const POLLIN = 0x1;
const POLLERR = 0x8;
const POLLHUP = 0x10;
const POLLNVAL = 0x20;
/** struct pollfd: int fd, short events, short revents. */
const ENTRY_BYTES = 8;
const EVENTS = 4;
const RESULTS = 6;

const poll = bindNative('poll', 'i32', ['buffer', 'i64', 'i32']);

export class DescriptorPoll {
  readonly #entries: Buffer;
  readonly #count: number;

  /** @param count how many descriptors there are at most */
  constructor(count: number) {
    this.#count = count;
    this.#entries = Buffer.alloc(Math.max(1, count) * ENTRY_BYTES);
    for (let index = 0; index < count; index++) {
      this.set(index, undefined);
      this.#entries.writeInt16LE(POLLIN, index * ENTRY_BYTES + EVENTS);
    }
  }

  /** What is waited for in place `index`; undefined: nothing. */
  set(index: number, fd: number | undefined): void {
    this.#entries.writeInt32LE(fd ?? -1, index * ENTRY_BYTES);
  }

  /** Sleeps until a descriptor is readable or has failed, or the milliseconds are over. */
  wait(milliseconds: number): void {
    const { value } = poll(this.#entries, this.#count, milliseconds);
    // interrupted by a signal: as if the time were over
    if (value < 0) for (let index = 0; index < this.#count; index++) this.#entries.writeInt16LE(0, index * ENTRY_BYTES + RESULTS);
  }

  readable(index: number): boolean {
    return (this.#result(index) & POLLIN) !== 0;
  }

  /** The other end is gone, the interface is down, or there is no such descriptor: it would wake the thread again at once. */
  failed(index: number): boolean {
    return (this.#result(index) & (POLLERR | POLLHUP | POLLNVAL)) !== 0;
  }

  #result(index: number): number {
    return this.#entries.readInt16LE(index * ENTRY_BYTES + RESULTS);
  }
}
