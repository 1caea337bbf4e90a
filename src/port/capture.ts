/**
 * Captures: what a running port receives and sends, written to a file while it goes on.
 *
 *     lcore: burst -> records in a ring of the arena (ring/capture-layout.ts)
 *     main thread, every few milliseconds: ring -> a buffer -> file, written by Node's thread pool
 *
 * Nobody ever waits: a ring that is full, because the disk is slow or the main thread busy, costs packets of the capture, which are
 * counted, and none of the port's.
 * @module
 */
import { closeSync, fstatSync, ftruncateSync, write } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { CAPTURE_PACKET_LIMIT } from '../net/pcap-format.ts';
import { captureHeader, type CaptureFormat } from '../net/pcap.ts';
import {
  CHUNK_BYTES,
  CHUNK_HEADER,
  CHUNK_PACKETS,
  CHUNK_STATE,
  ENTRY_BLOCKS,
  ENTRY_BYTES,
  ENTRY_DIRECTION,
  ENTRY_DROPPED,
  ENTRY_NEXT,
  ENTRY_QUEUE,
  ENTRY_RING,
  ENTRY_SNAP_LENGTH,
  RING_BUFFER,
  RING_HEAD,
  RING_ROOM,
  RING_STATE_BYTES,
  RING_TAIL,
} from '../ring/capture-layout.ts';
import { Q_CAPTURE } from '../ring/queue-layout.ts';
import { readCounter } from '../ring/virtqueue.ts';
import { VirtioError } from '../system/error.ts';
import { errnoText } from '../system/ffi.ts';
import { MAP_ANONYMOUS, MAP_FIXED, MAP_NORESERVE, MAP_PRIVATE, mapMemory, pageSize, PROT_READ_WRITE } from '../system/memory-map.ts';
import { BasePort } from './base-port.ts';
import { createCaptureFile } from './capture-files.ts';
import type { PortContext } from './context.ts';
import type { Port } from './port.ts';

export const captureDirections = ['rx', 'tx', 'both'] as const;
export type CaptureDirection = (typeof captureDirections)[number];

export interface CaptureOptions {
  /** Path of the file, which is made anew: pcapng where its name ends so, which tells received packets from sent ones; else pcap. */
  readonly file: string;
  /** Packets that are received, sent, or both. Default both. */
  readonly direction?: CaptureDirection | undefined;
  /** A queue. Default: all of them. */
  readonly queue?: number | undefined;
  /** Bytes of a packet that are kept, 1..262144. Default 262144: all. */
  readonly snaplen?: number | undefined;
  /** The capture ends after so many packets. Default: never. */
  readonly count?: number | undefined;
  /** The capture ends before the file has more bytes than this. Default: never. */
  readonly size?: number | undefined;
  /** MiB of memory for packets that are not written yet, 1..1024: a power of two. Default 8. */
  readonly buffer?: number | undefined;
}

export interface CaptureStatistics {
  /** Packets in the file, and bytes of it. */
  readonly packets: number;
  readonly bytes: number;
  /** Packets left out because neither the file nor the memory before it took them in time. */
  readonly dropped: number;
  /** Packets that could not be written: a full disk. */
  readonly failed: number;
  /** Packets that are not written yet. */
  readonly waiting: number;
}

const MIB = 1024 * 1024;
const DRAIN_MILLISECONDS = 4;
/** How long the last packets may take to be written to something that takes none now. */
const END_MILLISECONDS = 2000;
const RECEIVED = 1;
const SENT = 2;

/** An entry of a queue, wherever that queue's state is now. */
interface Entry {
  readonly offset: number;
  state: number;
}

/** Records that are being written. */
interface Batch {
  readonly bytes: Uint8Array;
  length: number;
  packets: number;
}

function refuse(text: string): VirtioError {
  return new VirtioError(text, { code: 'EINVAL' });
}

/** @throws VirtioError EINVAL that names the option */
function checkOptions(what: string, options: CaptureOptions): void {
  const range = (name: string, value: number | undefined, min: number, max: number): void => {
    if (value !== undefined && (!Number.isInteger(value) || value < min || value > max))
      throw refuse(`${what}: ${name} ${String(value)}: expected a whole number from ${String(min)} to ${String(max)}`);
  };
  if (typeof options.file !== 'string' || options.file === '') throw refuse(`${what}: file: expected the path of a file to write`);
  if (options.direction !== undefined && !captureDirections.includes(options.direction))
    throw refuse(`${what}: direction ${options.direction}: expected ${captureDirections.join(', ')}`);
  range('queue', options.queue, 0, 65535);
  range('snaplen', options.snaplen, 1, CAPTURE_PACKET_LIMIT);
  range('count', options.count, 1, Number.MAX_SAFE_INTEGER);
  range('size', options.size, 1, Number.MAX_SAFE_INTEGER);
  range('buffer', options.buffer, 1, 1024);
  if (options.buffer !== undefined && !Number.isInteger(Math.log2(options.buffer)))
    throw refuse(`${what}: buffer ${String(options.buffer)}: expected a power of two (MiB)`);
}

/** A capture of one port, from startCapture() to stop(), to the port's end, or to its own limit. */
export class Capture implements AsyncDisposable {
  readonly file: string;
  readonly direction: CaptureDirection;
  readonly port: Port;
  /** Resolves when the capture has ended and its file is closed. */
  readonly finished: Promise<void>;
  readonly #context: PortContext;
  readonly #options: CaptureOptions;
  readonly #format: CaptureFormat;
  readonly #descriptor: number;
  readonly #room: number;
  /** Offset of the ring's bytes, and of its state. */
  readonly #buffer: number;
  readonly #ring: number;
  readonly #entries = new Map<string, Entry>();
  readonly #timer: NodeJS.Timeout;
  readonly #stopObserving: () => void;
  /** What is filled from the ring, and what is being written meanwhile. */
  #filling: Batch;
  #spare: Batch | undefined;
  #writing: Promise<void> | undefined;
  #ending: Promise<void> | undefined;
  #finish = (): void => undefined;
  #packets = 0;
  #bytes: number;
  #dropped = 0;
  #failed = 0;
  /** Those of #entries when the ring was last emptied: what is left out later may be beyond the capture's limit. */
  #droppedBefore = 0;
  #saidDropped = false;
  #saidFailed = false;
  /** Reached: what comes from now on is not wanted. */
  #full = false;

  /** @internal */
  constructor(context: PortContext, port: BasePort, options: CaptureOptions) {
    const what = `${port.name}: capture`;
    checkOptions(what, options);
    this.file = options.file;
    this.direction = options.direction ?? 'both';
    this.port = port;
    this.#context = context;
    this.#options = options;
    this.#format = options.file.endsWith('.pcapng') ? 'pcapng' : 'pcap';
    this.#room = (options.buffer ?? 8) * MIB;
    const { arena } = context;
    const header = captureHeader(this.#format, { name: port.name, snapLength: options.snaplen });
    this.#bytes = header.length;
    this.#descriptor = createCaptureFile(what, options.file, header);
    let buffer: number | undefined;
    let ring: number | undefined;
    try {
      if (arena.window.freeBytes < this.#room) {
        throw new VirtioError(
          `${what}: ${String(this.#room / MIB)} MiB for packets on their way to ${options.file} do not fit what is left of the address window ` +
            '(--peer-mem, or peerBytes in the library); give more of it, or the capture a smaller buffer',
          { code: 'ENOMEM' },
        );
      }
      buffer = arena.window.allocate(this.#room, pageSize(), `the packets of a capture of ${port.name}`);
      const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE;
      mapMemory(`${what}: memory`, arena.base + buffer, this.#room, PROT_READ_WRITE, flags, -1, 0);
      ring = arena.allocateOwn(RING_STATE_BYTES, `a capture of ${port.name}`);
    } catch (error) {
      closeSync(this.#descriptor);
      if (buffer !== undefined) arena.window.release(buffer);
      throw error;
    }
    this.#buffer = buffer;
    this.#ring = ring;
    const { u32 } = arena.views;
    u32[(ring + RING_BUFFER) >>> 2] = buffer;
    u32[(ring + RING_ROOM) >>> 2] = this.#room;
    this.#filling = { bytes: new Uint8Array(this.#room), length: 0, packets: 0 };
    this.#spare = { bytes: new Uint8Array(this.#room), length: 0, packets: 0 };
    this.finished = new Promise((resolve) => {
      this.#finish = resolve;
    });
    this.#stopObserving = port.observeQueues({
      queueSetUp: (direction, queue, state) => {
        this.#queueSetUp(direction, queue, state);
      },
      portClosing: () => this.stop(),
    });
    this.#timer = setInterval(() => {
      this.#drain(false);
    }, DRAIN_MILLISECONDS).unref();
    const { rxQueues = 0, txQueues = 0 } = port.configuration ?? {};
    for (let queue = 0; queue < rxQueues; queue++)
      if (port.rxQueueInfo(queue) !== undefined) this.#queueSetUp('receive', queue, port.rxQueueHandle(queue).state);
    for (let queue = 0; queue < txQueues; queue++)
      if (port.txQueueInfo(queue) !== undefined) this.#queueSetUp('transmit', queue, port.txQueueHandle(queue).state);
  }

  get active(): boolean {
    return this.#ending === undefined;
  }

  statistics(): CaptureStatistics {
    return {
      packets: this.#packets,
      bytes: this.#bytes,
      dropped: this.#dropped + this.#ringFull(),
      failed: this.#failed,
      waiting: this.#filling.packets + (this.#writing === undefined ? 0 : (this.#spare?.packets ?? 0)),
    };
  }

  /** Ends the capture: writes what was captured until now and closes the file. The port goes on. Later calls wait for the first. */
  stop(): Promise<void> {
    this.#ending ??= this.#end();
    return this.#ending;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  #queueSetUp(direction: 'receive' | 'transmit', queue: number, state: number): void {
    try {
      this.#attach(direction, queue, state);
    } catch (error) {
      // the port is not to suffer for it
      this.#say(error instanceof Error ? error.message : String(error));
    }
  }

  #attach(direction: 'receive' | 'transmit', queue: number, state: number): void {
    if (this.#options.queue !== undefined && this.#options.queue !== queue) return;
    if (this.direction === (direction === 'receive' ? 'tx' : 'rx')) return;
    const { arena } = this.#context;
    const { u32, i32 } = arena.views;
    const key = `${direction} ${String(queue)}`;
    let entry = this.#entries.get(key);
    if (entry === undefined) {
      entry = { offset: arena.allocateOwn(ENTRY_BYTES, `a capture of ${this.port.name}`), state };
      this.#entries.set(key, entry);
      const set = (field: number, value: number): void => {
        u32[((entry?.offset ?? 0) + field) >>> 2] = value;
      };
      set(ENTRY_RING, this.#ring);
      set(ENTRY_BLOCKS, this.#format === 'pcapng' ? 1 : 0);
      set(ENTRY_DIRECTION, direction === 'receive' ? RECEIVED : SENT);
      set(ENTRY_QUEUE, queue);
      set(ENTRY_SNAP_LENGTH, this.#options.snaplen ?? CAPTURE_PACKET_LIMIT);
    }
    entry.state = state;
    u32[(entry.offset + ENTRY_NEXT) >>> 2] = Atomics.load(i32, (state + Q_CAPTURE) >>> 2);
    Atomics.store(i32, (state + Q_CAPTURE) >>> 2, entry.offset);
  }

  /** Takes the entries out of the queues that there still are. */
  #detach(): void {
    const { i32 } = this.#context.arena.views;
    for (const [key, { offset, state }] of this.#entries) {
      const [direction, queue] = key.split(' ');
      if (this.#stateOf(direction, Number(queue)) !== state) continue;
      let link = (state + Q_CAPTURE) >>> 2;
      while (Atomics.load(i32, link) !== 0 && Atomics.load(i32, link) !== offset) link = (Atomics.load(i32, link) + ENTRY_NEXT) >>> 2;
      if (Atomics.load(i32, link) === offset) Atomics.store(i32, link, Atomics.load(i32, (offset + ENTRY_NEXT) >>> 2));
    }
  }

  #stateOf(direction: string | undefined, queue: number): number | undefined {
    const { port } = this;
    if (direction === 'receive') return port.rxQueueInfo(queue) === undefined ? undefined : port.rxQueueHandle(queue).state;
    return port.txQueueInfo(queue) === undefined ? undefined : port.txQueueHandle(queue).state;
  }

  async #end(): Promise<void> {
    const { gracePeriod } = this.#context;
    clearInterval(this.#timer);
    this.#stopObserving();
    this.#detach();
    try {
      await gracePeriod();
      const end = performance.now() + END_MILLISECONDS;
      do {
        this.#drain(true);
        await this.#writing;
      } while ((this.#filling.length !== 0 || this.#ringBytes() !== 0) && performance.now() < end);
      this.#failed += this.#filling.packets;
    } finally {
      this.#release();
      this.#finish();
    }
    const lost = this.#dropped + this.#failed;
    if (this.#full || lost !== 0) {
      this.#say(`ended with ${String(this.#packets)} packets${lost === 0 ? '' : `; ${String(lost)} more could not be written`}`);
    }
  }

  #release(): void {
    const { arena } = this.#context;
    this.#dropped = this.#full ? this.#droppedBefore : this.#ringFull();
    for (const { offset } of this.#entries.values()) arena.own.release(offset);
    this.#entries.clear();
    arena.own.release(this.#ring);
    arena.protectWindow(this.#buffer, this.#room);
    arena.window.release(this.#buffer);
    closeSync(this.#descriptor);
    this.#spare = undefined;
  }

  #say(text: string): void {
    this.#context.log(`${this.port.name}: capture ${this.file}: ${text}`);
  }

  #ringBytes(): number {
    const { i32 } = this.#context.arena.views;
    return (Atomics.load(i32, (this.#ring + RING_HEAD) >>> 2) - Atomics.load(i32, (this.#ring + RING_TAIL) >>> 2)) >>> 0;
  }

  /** Takes what lcores have committed. @param last also past what was reserved and will not be committed any more */
  #drain(last: boolean): void {
    const { u8, u32, i32 } = this.#context.arena.views;
    const tailIndex = (this.#ring + RING_TAIL) >>> 2;
    let tail = Atomics.load(i32, tailIndex) >>> 0;
    for (let waiting = this.#ringBytes(); waiting > 0;) {
      const chunk = this.#buffer + (tail & (this.#room - 1));
      const state = Atomics.load(i32, (chunk + CHUNK_STATE) >>> 2) >>> 0;
      if (state === 0 && !last) break;
      const bytes = u32[(chunk + CHUNK_BYTES) >>> 2] ?? 0;
      if (bytes === 0) break;
      const packets = u32[(chunk + CHUNK_PACKETS) >>> 2] ?? 0;
      const used = state === 0 ? 0 : state - 1;
      if (this.#filling.length + used > this.#room) {
        // the file is behind: the ring holds the rest until it fills up
        if (this.#writing !== undefined) break;
        this.#flush();
      }
      if (used !== 0 && !this.#full) this.#take(u8.subarray(chunk + CHUNK_HEADER, chunk + CHUNK_HEADER + used), packets);
      // a chunk that is not committed yet is known by the zero in its state, wherever in the ring it begins
      u8.fill(0, chunk, chunk + bytes);
      tail = (tail + bytes) >>> 0;
      waiting -= bytes;
      Atomics.store(i32, tailIndex, tail | 0);
    }
    if (this.#writing === undefined && this.#filling.length !== 0) this.#flush();
    this.#warnOfDrops();
    if (this.#full && this.active) {
      this.stop().catch((error: unknown) => {
        this.#say(error instanceof Error ? error.message : String(error));
      });
    }
  }

  /** Copies records to what will be written, up to the capture's limits. */
  #take(records: Uint8Array, packets: number): void {
    const { count = Infinity, size = Infinity } = this.#options;
    const under = this.#writing === undefined ? undefined : this.#spare;
    const already = this.#packets + this.#filling.packets + (under?.packets ?? 0);
    const long = this.#bytes + this.#filling.length + (under?.length ?? 0);
    let wanted = { packets, bytes: records.length };
    if (already + packets >= count || long + records.length > size) {
      wanted = this.#wholeRecords(records, count - already, size - long);
      this.#full = wanted.packets < packets || already + packets >= count;
    }
    this.#filling.bytes.set(records.subarray(0, wanted.bytes), this.#filling.length);
    this.#filling.length += wanted.bytes;
    this.#filling.packets += wanted.packets;
  }

  /** Records that lie as a whole within so many bytes, at most so many. */
  #wholeRecords(records: Uint8Array, most: number, limit: number): { readonly packets: number; readonly bytes: number } {
    const view = new DataView(records.buffer, records.byteOffset, records.length);
    let packets = 0;
    let bytes = 0;
    while (packets < most && bytes < records.length) {
      const next = bytes + (this.#format === 'pcapng' ? view.getUint32(bytes + 4, true) : 16 + view.getUint32(bytes + 8, true));
      if (next > limit || next > records.length) break;
      packets++;
      bytes = next;
    }
    return { packets, bytes };
  }

  /** Writes what was taken from the ring, and lets the other batch be filled meanwhile. */
  #flush(): void {
    const batch = this.#filling;
    const next = this.#spare;
    if (next === undefined) return;
    this.#filling = next;
    this.#spare = batch;
    this.#writing = this.#write(batch).finally(() => {
      batch.length = 0;
      batch.packets = 0;
      this.#writing = undefined;
    });
  }

  async #write(batch: Batch): Promise<void> {
    let written = 0;
    let patience: number | undefined;
    while (written < batch.length) {
      const outcome = await new Promise<number | NodeJS.ErrnoException>((resolve) => {
        write(this.#descriptor, batch.bytes, written, batch.length - written, null, (error, count) => {
          resolve(error ?? count);
        });
      });
      if (typeof outcome === 'number') {
        written += outcome;
        patience = undefined;
        continue;
      }
      if (outcome.code === 'EAGAIN') {
        // a pipe whose reader is behind; at the end it is waited for no longer than this
        if (!this.active) patience ??= performance.now() + END_MILLISECONDS;
        if (patience === undefined || performance.now() < patience) {
          await delay(DRAIN_MILLISECONDS, undefined, { ref: !this.active });
          continue;
        }
      }
      this.#fail(batch, written, outcome.code ?? 'EIO');
      return;
    }
    this.#packets += batch.packets;
    this.#bytes += batch.length;
    this.#saidFailed = false;
  }

  /** The file takes no more: it is cut behind the last whole record, so that what follows later can be read. */
  #fail(batch: Batch, written: number, code: string): void {
    const kept = this.#wholeRecords(batch.bytes.subarray(0, written), Infinity, Infinity);
    this.#packets += kept.packets;
    this.#bytes += kept.bytes;
    this.#failed += batch.packets - kept.packets;
    if (written !== kept.bytes) {
      try {
        ftruncateSync(this.#descriptor, Math.max(0, fstatSync(this.#descriptor).size - (written - kept.bytes)));
      } catch {
        // a device or a pipe: what was taken is gone
      }
    }
    if (this.#saidFailed) return;
    this.#saidFailed = true;
    this.#say(`cannot write: ${errnoText(code)}; packets that do not reach the file are counted, and the port goes on`);
  }

  /** Packets that found the ring full. */
  #ringFull(): number {
    const { i32 } = this.#context.arena.views;
    let dropped = 0;
    for (const { offset } of this.#entries.values()) dropped += readCounter(i32, offset + ENTRY_DROPPED);
    return dropped;
  }

  #warnOfDrops(): void {
    if (this.#full) return;
    this.#droppedBefore = this.#ringFull();
    if (this.#saidDropped || this.#droppedBefore === 0) return;
    this.#saidDropped = true;
    this.#say('packets come faster than they can be written; some are left out, and counted');
  }
}

/**
 * Begins to write what a port receives and sends to a file. The port may be stopped, started and set up anew meanwhile; closing it
 * ends the capture.
 * @throws VirtioError EINVAL for options that cannot be, ENOMEM, EOPNOTSUPP for a port that has no queues of ours, or what keeps the
 * file from being written
 */
export function startCapture(context: PortContext, port: Port, options: CaptureOptions): Capture {
  if (!(port instanceof BasePort)) {
    throw new VirtioError(`${port.name}: capture: not a port whose packets can be listened to`, { code: 'EOPNOTSUPP' });
  }
  if (port.state === 'closed') throw new VirtioError(`${port.name}: capture: the port is closed`, { code: 'ENODEV' });
  const known: BasePort = port as BasePort;
  const { queue } = options;
  const most = Math.max(port.info.maxRxQueues, port.info.maxTxQueues);
  if (queue !== undefined && queue >= most)
    throw refuse(`${port.name}: capture: queue ${String(queue)}: the port has ${String(most)} at most`);
  return new Capture(context, known, options);
}
