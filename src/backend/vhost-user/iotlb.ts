/**
 * The IOTLB of a vhost-user back-end (VIRTIO_F_ACCESS_PLATFORM): what the front-end's IOMMU translates, as far as it has been asked.
 *
 * Rings and buffers are named by I/O virtual addresses. The front-end sends translations (UPDATE) and takes them back (INVALIDATE); a
 * kernel that finds none leaves the packet in its ring, notes what it wanted (Q_MISS) and has the main thread woken, which asks for it on
 * the back-end channel (MISS). Nobody waits for the answer: the queue goes on when it has come. Buffers that will be wanted soon are
 * asked for ahead, as a packet that finds its receive buffer without a translation is one that the caller may drop.
 *
 * Kernels search tables that are never changed while one may be inside: a change is written to the other pair of tables, the queues are
 * pointed at it, and the first pair is free after a grace period.
 * @module
 */
import { fstatSync } from 'node:fs';
import type { Arena } from '../../memory/arena.ts';
import {
  Q_MISS,
  Q_MISS_FD,
  Q_MISS_HIGH,
  Q_MISS_LENGTH,
  Q_MISS_LOW,
  Q_REGIONS,
  Q_STATE,
  Q_WAKE_FD,
  QUEUE_RUNNING,
} from '../../ring/queue-layout.ts';
import { visitUpcoming } from '../../ring/upcoming-buffers.ts';
import { NO_DESCRIPTOR, type DeviceQueue } from '../../ring/virtqueue.ts';
import { VirtioError } from '../../system/error.ts';
import { clearEventFd, closeFd, createEventFd, signalEventFd } from '../../system/event-fd.ts';
import { watchReadable } from '../../system/readiness.ts';
import { setNonBlocking } from '../../system/unix-socket.ts';
import type { PeerMemory } from '../peer-memory.ts';
import { TranslationTable, TRANSLATIONS_BYTES } from '../translation-table.ts';
import { VhostUserConnection } from './connection.ts';
import { BACKEND_REQUEST, encodeIotlbMessage, IOTLB, IOTLB_READ, IOTLB_WRITE, type IotlbMessage } from './messages.ts';

const ADDRESS_LIMIT = 1n << 64n;
/** What an IOMMU translates at least at a time. */
const PAGE = 4096n;
/** Questions that may be open at a time, and those of them for one buffer or part of a ring. */
const OPEN_LIMIT = 64;
const ASK_LIMIT = 16;
/** A question without an answer is asked again: the driver may have mapped the address only now, of which nobody is told. */
const RETRY_MILLISECONDS = 1000;
/** How often rings are looked at for buffers to ask for ahead. */
const AHEAD_MILLISECONDS = 2;

type Permission = typeof IOTLB_READ | typeof IOTLB_WRITE;

export interface IotlbOptions {
  readonly arena: Arena;
  /** How messages name the peer. */
  readonly peer: string;
  readonly memory: PeerMemory;
  /** All queues that there are, with their ring numbers. */
  readonly queues: () => Iterable<readonly [ring: number, queue: DeviceQueue]>;
  readonly gracePeriod: () => Promise<void>;
  /** Something that was missing may be had by asking again. */
  readonly onRetry: () => void;
  readonly log: (text: string) => void;
}

/** What has been done since the port was made, and what is known now. */
export interface IotlbStatistics {
  /** Questions to the front-end, repeated ones too. */
  readonly questions: number;
  /** Questions answered by less than was wanted (ACCESS_FAIL). */
  readonly refusals: number;
  readonly updates: number;
  readonly invalidations: number;
  /** Ranges that may be read, and that may be written; adjacent pages are one. */
  readonly readEntries: number;
  readonly writeEntries: number;
}

/** Arena offsets of two tables. */
interface Pair {
  readonly read: number;
  readonly write: number;
}

interface Question {
  readonly address: bigint;
  readonly permission: Permission;
  readonly asked: number;
}

function hex(value: bigint): string {
  return `0x${value.toString(16)}`;
}

export class Iotlb {
  readonly #options: IotlbOptions;
  readonly #readable = new TranslationTable();
  readonly #writable = new TranslationTable();
  readonly #block: number;
  readonly #missFd: number;
  readonly #stopWatching: () => void;
  #current: Pair;
  #spare: Pair;
  /** Queues are pointed at these tables. */
  #inUse = false;
  #lookAhead: NodeJS.Timeout | undefined;
  /** How far each ring has been looked at. */
  readonly #looked = new Map<number, number>();
  #dirty = false;
  #publishing: Promise<void> | undefined;
  #channel: VhostUserConnection | undefined;
  #complained = false;
  readonly #counts = { questions: 0, refusals: 0, updates: 0, invalidations: 0 };
  /** Times that each ring has waited for a translation, and the rings that do. */
  readonly #misses = new Map<number, number>();
  readonly #waiting = new Set<number>();
  /** By address and permission. */
  readonly #questions = new Map<string, Question>();
  #retry: NodeJS.Timeout | undefined;
  #open = true;

  /** @throws VirtioError ENOMEM */
  constructor(options: IotlbOptions) {
    this.#options = options;
    this.#block = options.arena.allocateOwn(4 * TRANSLATIONS_BYTES, `the IOTLB of ${options.peer}`);
    const pair = (index: number): Pair => ({
      read: this.#block + 2 * index * TRANSLATIONS_BYTES,
      write: this.#block + (2 * index + 1) * TRANSLATIONS_BYTES,
    });
    this.#current = pair(0);
    this.#spare = pair(1);
    this.#write(this.#current);
    this.#missFd = createEventFd();
    try {
      this.#stopWatching = watchReadable(this.#missFd, () => {
        clearEventFd(this.#missFd);
        this.#lookAtQueues();
      });
    } catch (error) {
      closeFd(this.#missFd);
      options.arena.own.release(this.#block);
      throw error;
    }
  }

  /** The table for a ring: the device writes into the buffers of even ones and reads those of odd ones. */
  tableOf(ring: number): number {
    return (ring & 1) === 0 ? this.#current.write : this.#current.read;
  }

  get statistics(): IotlbStatistics {
    return { ...this.#counts, readEntries: this.#readable.size, writeEntries: this.#writable.size };
  }

  /** Times that a ring has waited for a translation of a buffer. */
  missesOf(ring: number): number {
    return this.#misses.get(ring) ?? 0;
  }

  /** Whether queues work with these tables: VIRTIO_F_ACCESS_PLATFORM was negotiated. */
  setInUse(inUse: boolean): void {
    this.#inUse = inUse;
    clearInterval(this.#lookAhead);
    this.#lookAhead = undefined;
    if (!inUse) return;
    this.#lookAhead = setInterval(() => {
      this.#askAhead();
    }, AHEAD_MILLISECONDS).unref();
  }

  /** A queue has been pointed at a ring. */
  serve(queue: DeviceQueue): void {
    queue.set(Q_MISS_FD, this.#missFd);
    queue.set(Q_MISS, 0);
  }

  /**
   * Takes over the socket on which the front-end is asked (VHOST_USER_SET_BACKEND_REQ_FD).
   * @throws VirtioError EPROTO when it is none
   */
  setChannel(fd: number): void {
    if (!isSocket(fd)) {
      closeFd(fd);
      throw new VirtioError(`the file descriptor is not a socket`, { code: 'EPROTO' });
    }
    this.#channel?.close();
    setNonBlocking(fd);
    const peer = `${this.#options.peer} back-end channel`;
    const channel = new VhostUserConnection(fd, peer, {
      onMessage: (message) => {
        for (const descriptor of message.descriptors) closeFd(descriptor);
        channel.close();
        this.#channelLost('the front-end spoke without having been asked');
      },
      onClose: (error) => {
        this.#channelLost(error?.message ?? 'the front-end closed it');
      },
    });
    this.#channel = channel;
    this.#complained = false;
    this.#questions.clear();
    this.#lookAtQueues();
    this.#options.onRetry();
  }

  /**
   * A translation by the front-end. Resolves when no kernel uses one that it replaced.
   * @throws VirtioError EPROTO for a range that cannot be
   */
  async update({ address, size, userAddress, permission }: IotlbMessage): Promise<void> {
    const refuse = (text: string): never => {
      throw new VirtioError(`the translation of ${hex(size)} bytes at ${hex(address)} ${text}`, { code: 'EPROTO' });
    };
    if (size === 0n) refuse('is empty');
    if (address + size > ADDRESS_LIMIT) refuse('ends beyond 2^64');
    if ((permission & (IOTLB_READ | IOTLB_WRITE)) === 0 || permission > (IOTLB_READ | IOTLB_WRITE))
      refuse(`has the impossible permission ${String(permission)}`);
    const offset = size > 0xffff_ffffn ? undefined : this.#options.memory.translateUser(userAddress, Number(size));
    if (offset === undefined) return refuse(`leads to ${hex(userAddress)}, outside the shared memory`);
    this.#counts.updates++;
    let replaced = false;
    for (const [bit, table] of [
      [IOTLB_READ, this.#readable],
      [IOTLB_WRITE, this.#writable],
    ] as const) {
      const known = (permission & bit) === 0 ? table.remove(address, address + size) : table.insert(address, size, offset);
      replaced ||= known;
    }
    this.#answered(address, address + size);
    const published = this.#publish();
    if (replaced) await published;
  }

  /** Forgets a range; size 0: all from its address on. Resolves when no kernel uses it any more. */
  async invalidate(address: bigint, size: bigint): Promise<void> {
    this.#counts.invalidations++;
    const end = rangeEnd(address, size);
    const known = [this.#readable, this.#writable].map((table) => table.remove(address, end));
    if (!known.includes(true)) return;
    this.#looked.clear();
    await this.#publish();
  }

  /** Forgets everything, the front-end's memory having changed. */
  async clear(): Promise<void> {
    this.#readable.clear();
    this.#writable.clear();
    this.#questions.clear();
    this.#looked.clear();
    this.#waiting.clear();
    await this.#publish();
  }

  /** Forgets the front-end. */
  async forgetPeer(): Promise<void> {
    this.#channel?.close();
    this.#channel = undefined;
    this.#complained = false;
    this.setInUse(false);
    clearTimeout(this.#retry);
    this.#retry = undefined;
    for (const [, queue] of this.#options.queues()) queue.set(Q_MISS, 0);
    await this.clear();
  }

  /**
   * Arena offset of a part of a ring; undefined: it has been asked for.
   * @throws VirtioError EPROTO when it is spread over memory that does not lie side by side
   */
  locate(what: string, address: bigint, bytes: number, permission: Permission): number | undefined {
    const table = this.#tableFor(permission);
    const offset = table.find(address, bytes);
    if (offset !== undefined || this.#ask(address, bytes, permission)) return offset;
    throw new VirtioError(
      `${what} at ${hex(address)} is translated to pages that do not lie side by side; give the queue a smaller size, or the guest huge pages`,
      { code: 'EPROTO' },
    );
  }

  /** The same, without asking. */
  find(address: bigint, bytes: number, permission: Permission): number | undefined {
    return this.#tableFor(permission).find(address, bytes);
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    clearTimeout(this.#retry);
    clearInterval(this.#lookAhead);
    this.#channel?.close();
    this.#stopWatching();
    closeFd(this.#missFd);
    this.#options.arena.own.release(this.#block);
  }

  #tableFor(permission: Permission): TranslationTable {
    return permission === IOTLB_READ ? this.#readable : this.#writable;
  }

  #write(pair: Pair): void {
    const { u32 } = this.#options.arena.views;
    this.#readable.write(u32, pair.read, IOTLB_READ, 0);
    this.#writable.write(u32, pair.write, IOTLB_WRITE, pair.read);
  }

  /** Has kernels work with what is known now. Resolves when none works with what was known before. */
  #publish(): Promise<void> {
    this.#dirty = true;
    this.#publishing ??= this.#publishAll();
    return this.#publishing;
  }

  async #publishAll(): Promise<void> {
    try {
      for (let turns = 0; this.#dirty; turns++) {
        // many may come at a time, of which each would be the same work
        if (turns > 0) await new Promise((resolve) => setImmediate(resolve));
        this.#dirty = false;
        this.#write(this.#spare);
        [this.#current, this.#spare] = [this.#spare, this.#current];
        if (this.#inUse) {
          const { i32 } = this.#options.arena.views;
          for (const [ring, queue] of this.#options.queues()) Atomics.store(i32, (queue.offset + Q_REGIONS) >>> 2, this.tableOf(ring));
          this.#lookAtQueues();
        }
        await this.#options.gracePeriod();
      }
    } finally {
      this.#publishing = undefined;
    }
  }

  /** Asks for what queues wait for, and lets those go on whose wait is over. */
  #lookAtQueues(): void {
    if (!this.#inUse) return;
    const { i32 } = this.#options.arena.views;
    for (const [ring, queue] of this.#options.queues()) {
      const miss = (queue.offset + Q_MISS) >>> 2;
      const permission = Atomics.load(i32, miss);
      if (permission !== IOTLB_READ && permission !== IOTLB_WRITE) continue;
      if (!this.#waiting.has(ring)) this.#misses.set(ring, this.missesOf(ring) + 1);
      this.#waiting.add(ring);
      const address = (BigInt(queue.get(Q_MISS_HIGH)) << 32n) | BigInt(queue.get(Q_MISS_LOW));
      if (this.#ask(address, queue.get(Q_MISS_LENGTH), permission)) continue;
      this.#waiting.delete(ring);
      Atomics.store(i32, miss, 0);
      const wake = queue.get(Q_WAKE_FD);
      if (wake !== NO_DESCRIPTOR) signalEventFd(wake);
    }
  }

  #askAhead(): void {
    for (const [ring, queue] of this.#options.queues()) {
      if (this.#questions.size >= OPEN_LIMIT) return;
      if (queue.get(Q_STATE) !== QUEUE_RUNNING) continue;
      const permission = (ring & 1) === 0 ? IOTLB_WRITE : IOTLB_READ;
      const reached = visitUpcoming(this.#options.arena.views, queue, this.#looked.get(ring), (address, bytes, isTable) => {
        this.#ask(address, bytes, isTable ? IOTLB_READ : permission);
        return this.#questions.size < OPEN_LIMIT;
      });
      this.#looked.set(ring, reached);
    }
  }

  /** Asks for what is missing of a range; returns whether anything is. */
  #ask(address: bigint, bytes: number, permission: Permission): boolean {
    const table = this.#tableFor(permission);
    const end = rangeEnd(address, BigInt(bytes));
    let gap = table.gap(address, end);
    if (gap === undefined) return false;
    for (let asked = 0; gap !== undefined && asked < ASK_LIMIT; asked++) {
      this.#askFor(gap, permission);
      const next: bigint = (gap / PAGE + 1n) * PAGE;
      gap = next < end ? table.gap(next, end) : undefined;
    }
    return true;
  }

  #askFor(address: bigint, permission: Permission): void {
    const key = `${String(address)} ${String(permission)}`;
    this.#retry ??= setTimeout(() => {
      this.#askAgain();
    }, RETRY_MILLISECONDS).unref();
    if (this.#questions.has(key) || this.#questions.size >= OPEN_LIMIT) return;
    this.#questions.set(key, { address, permission, asked: Date.now() });
    this.#counts.questions++;
    this.#tell(IOTLB.MISS, address, permission);
  }

  #askAgain(): void {
    this.#retry = undefined;
    const now = Date.now();
    for (const [key, { asked }] of this.#questions) if (now - asked >= RETRY_MILLISECONDS) this.#questions.delete(key);
    this.#lookAtQueues();
    this.#options.onRetry();
  }

  /** The front-end has said what it has to say of a range. */
  #answered(start: bigint, end: bigint): void {
    for (const [key, { address, permission }] of this.#questions) {
      if (address < start || address >= end) continue;
      if (this.#tableFor(permission).gap(address, address + 1n) === undefined) this.#questions.delete(key);
      // it stays open until it may be asked again: the driver wants of the device what its own mapping forbids
      else {
        this.#counts.refusals++;
        this.#tell(IOTLB.ACCESS_FAIL, address, permission);
      }
    }
  }

  #tell(type: number, address: bigint, permission: Permission): void {
    if (this.#channel === undefined) {
      if (this.#complained) return;
      this.#complained = true;
      this.#options.log(
        `${this.#options.peer} the front-end has not translated ${hex(address)} and has no back-end channel to be asked on; the queue waits`,
      );
      return;
    }
    try {
      this.#channel.send(BACKEND_REQUEST.IOTLB_MSG, 0, encodeIotlbMessage({ type, address, size: 0n, userAddress: 0n, permission }));
    } catch {
      // the channel is gone, which onClose told
    }
  }

  #channelLost(why: string): void {
    this.#channel = undefined;
    this.#options.log(`${this.#options.peer} back-end channel closed: ${why}; addresses that are not translated yet cannot be asked for`);
  }
}

/** The end of a range of an INVALIDATE. An IOMMU that forgets all of 2^64 bytes has no number for that but 0. */
export function rangeEnd(address: bigint, size: bigint): bigint {
  return size === 0n || address + size > ADDRESS_LIMIT ? ADDRESS_LIMIT : address + size;
}

function isSocket(fd: number): boolean {
  try {
    return fstatSync(fd).isSocket();
  } catch {
    return false;
  }
}
