/**
 * An open port, for applications: the ethdev underneath, with bursts over shared memory for speed and packets as objects
 * for convenience.
 * @module
 */
import type { MacAddress } from '../net/mac-address.ts';
import { startCapture, type Capture, type CaptureOptions } from '../port/capture.ts';
import type { ExtendedStatistic, Link, Port, PortEvent, PortInfo, PortState, PortStatistics } from '../port/port.ts';
import { VirtioError } from '../system/error.ts';
import type { Environment } from './environment.ts';
import { waitForInterrupt } from './interrupt-wait.ts';
import { Packet } from './packet.ts';
import { burstOffset, type Burst, type PacketArena } from './packet-arena.ts';
import { EAGER_TURNS, onAbort, pause, throwIfAborted, type Signal } from './wait.ts';

/** Packets that the convenient loops move at a time. */
const BURST = 32;
/** An Ethernet header, and the most that the length field of an mbuf chain is used for here. */
const SHORTEST = 14;
const LONGEST = 65_535;
/** Milliseconds between two looks at a link that is waited for, beside the events that tell of it. */
const LINK_INTERVAL = 50;

export interface PacketsOptions {
  /** Receive queue. Default 0. */
  readonly queue?: number;
  /** Ends the loop, at the next packet or within `pollInterval`. */
  readonly signal?: Signal;
  /**
   * Milliseconds between two looks when nothing came for a while and the port cannot tell of packets (net_ring, a device with too few
   * interrupts); one that can wakes the loop. 0 never sleeps and takes a whole CPU. Default 1.
   */
  readonly pollInterval?: number;
}

export interface SendOptions {
  /** Transmit queue. Default 0. */
  readonly queue?: number;
  /** Gives up what the ring has not taken yet; the promise is rejected with its reason. */
  readonly signal?: Signal;
}

export interface WaitForLinkOptions {
  readonly signal?: Signal;
  /** Milliseconds after which the promise is rejected with VirtioError ETIMEDOUT. Default: none. */
  readonly timeout?: number;
}

/** Lcores that forward this port's packets. */
interface Owner {
  stop(): Promise<void>;
}

export class PacketPort implements AsyncDisposable {
  /** The port underneath: everything that DPDK's ethdev has. */
  readonly ethdev: Port;
  readonly environment: Environment;
  /** Memory of the packets: bursts, accessors, mbufs. */
  readonly arena: PacketArena;
  readonly #sending = new Map<number, Promise<void>>();
  /** Ends the waits for interrupts. */
  readonly #waits = new Set<() => void>();
  #owner: Owner | undefined;

  /** @internal */
  constructor(environment: Environment, ethdev: Port) {
    this.environment = environment;
    this.arena = environment.arena;
    this.ethdev = ethdev;
  }

  /** Number within the environment: what received packets carry. */
  get id(): number {
    return this.ethdev.id;
  }

  /** `virtio_user0`. */
  get name(): string {
    return this.ethdev.name;
  }

  get state(): PortState {
    return this.ethdev.state;
  }

  /** Six bytes in transmission order. */
  get mac(): MacAddress {
    return this.ethdev.mac;
  }

  /** Limits and capabilities of the device. */
  get info(): PortInfo {
    return this.ethdev.info;
  }

  /** Receive queues, which is also the number of transmit queues. */
  get queues(): number {
    return this.ethdev.configuration?.rxQueues ?? 0;
  }

  /**
   * Brings the device up. The link follows when the other side is there: waitForLink().
   * @throws VirtioError when the device refuses
   */
  start(): Promise<void> {
    return this.ethdev.start();
  }

  /** Takes the device down, with what its rings hold; start() brings it back. */
  stop(): Promise<void> {
    for (const cancel of this.#waits) cancel();
    return this.ethdev.stop();
  }

  /** Stops lcores that forward on the port, then the port, and gives everything back, once. */
  async close(): Promise<void> {
    await this.#owner?.stop();
    for (const cancel of this.#waits) cancel();
    try {
      await this.ethdev.close();
    } finally {
      await this.environment.removePort(this.id);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  link(): Link {
    return this.ethdev.link();
  }

  /**
   * Resolves when the link is up (or down, with `up` false), at once when it is already.
   * @throws VirtioError ETIMEDOUT, ENODEV when the port is closed meanwhile, or the signal's reason
   */
  async waitForLink(up = true, options: WaitForLinkOptions = {}): Promise<void> {
    const end = options.timeout === undefined ? Infinity : performance.now() + options.timeout;
    let wake = (): void => undefined;
    const stop = this.onEvent(() => wake());
    try {
      while (this.link().up !== up) {
        throwIfAborted(options.signal);
        if (this.state === 'closed') throw new VirtioError(`${this.name}: closed while its link was waited for`, { code: 'ENODEV' });
        const left = end - performance.now();
        if (left <= 0) {
          const text = `${this.name}: the link is not ${up ? 'up' : 'down'} after ${String(options.timeout)} ms`;
          throw new VirtioError(text, { code: 'ETIMEDOUT' });
        }
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, Math.min(LINK_INTERVAL, left));
          wake = () => {
            clearTimeout(timer);
            resolve();
          };
        });
      }
    } finally {
      stop();
    }
  }

  /** Packets, bytes and errors since the start or the last reset. */
  statistics(): PortStatistics {
    return this.ethdev.statistics();
  }

  resetStatistics(): void {
    this.ethdev.resetStatistics();
  }

  /** DPDK's xstats, by their names. */
  extendedStatistics(): readonly ExtendedStatistic[] {
    return this.ethdev.extendedStatistics();
  }

  /**
   * Begins to write the packets that the port receives and sends to a file, by whoever moves them: bursts, loops, lcores. It ends by
   * its own limits, by `stop()`, or with the port.
   *
   * ```ts
   * await using capture = port.capture({ file: 'x.pcapng', direction: 'rx', count: 1000 });
   * await capture.finished;
   * ```
   * @throws VirtioError EINVAL for options that cannot be, ENOMEM, ENODEV for a closed port, or what keeps the file from being written
   */
  capture(options: CaptureOptions): Capture {
    return startCapture(this.environment.context, this.ethdev, options);
  }

  /** Calls `listener` on every event until the returned function is called. `intr_lsc`: the link went up or down. */
  onEvent(listener: (event: PortEvent) => void): () => void {
    return this.ethdev.onEvent(listener);
  }

  /**
   * Receives up to `count` packets into the burst, from entry `from` on; returns how many, 0 when nothing is there.
   * They are the caller's: send them or free them. Allocates nothing and does not wait.
   * @throws RangeError when the burst is too small or there is no such queue; VirtioError EBUSY while lcores run on the port
   */
  rxBurst(queue: number, burst: Burst, count: number, from = 0): number {
    if (this.#owner !== undefined) this.#busy();
    return this.ethdev.rxBurst(queue, burstOffset(burst, count, from), count);
  }

  /**
   * Sends `count` packets of the burst, from entry `from` on; returns how many the ring took. The others stay the caller's.
   * Allocates nothing and does not wait.
   * @throws RangeError when the burst is too small or there is no such queue; VirtioError EBUSY while lcores run on the port
   */
  txBurst(queue: number, burst: Burst, count: number, from = 0): number {
    if (this.#owner !== undefined) this.#busy();
    return this.ethdev.txBurst(queue, burstOffset(burst, count, from), count);
  }

  /**
   * The packets of a queue, as they come; each is freed when the loop asks for the next one. Ends when the signal is aborted,
   * the loop is left or the port is closed; waits while the port is stopped or its link is down.
   *
   * ```ts
   * for await (const packet of port.packets({ signal })) console.log(packet.length, packet.ethernet);
   * ```
   * @throws VirtioError EBUSY while lcores run on the port
   */
  async *packets(options: PacketsOptions = {}): AsyncGenerator<Packet, void, void> {
    const { queue = 0, signal, pollInterval = 1 } = options;
    if (!(pollInterval >= 0)) throw new RangeError(`pollInterval ${String(pollInterval)}: milliseconds, 0 or more`);
    // under its own name: the compiler takes a property for unchanging
    const ended = (): boolean => signal?.aborted === true || this.state === 'closed';
    using burst = this.arena.burst(BURST);
    for (let idle = 0; !ended();) {
      const count = this.state === 'started' ? this.rxBurst(queue, burst, BURST) : 0;
      if (count === 0) {
        if (idle++ < EAGER_TURNS || pollInterval === 0 || !(await this.#waitForPackets(queue, signal))) await pause(idle, pollInterval);
        continue;
      }
      idle = 0;
      let next = 0;
      try {
        while (next < count && !ended()) {
          const packet = new Packet(this.arena, burst.handles[next++] ?? 0, queue);
          try {
            yield packet;
          } finally {
            packet.release();
          }
        }
      } finally {
        this.arena.free(burst, count - next, next);
      }
      await pause(0, 0);
    }
  }

  /**
   * Sends one packet or several, in order: copies them into mbufs, chained where one is too short, and waits while the ring
   * is full or the link down. Resolves when the ring has taken the last one.
   * @throws RangeError for a packet outside 14..65535 bytes, or longer than the device takes; VirtioError ENETDOWN when the
   * port is not started, EBUSY while lcores run on it; the signal's reason
   */
  async send(packets: Uint8Array | readonly Uint8Array[], options: SendOptions = {}): Promise<void> {
    const { queue = 0, signal } = options;
    const list = packets instanceof Uint8Array ? [packets] : packets;
    for (const packet of list) this.#checkPacket(packet);
    // one after another: what was sent first is first in the ring
    const task = (this.#sending.get(queue) ?? Promise.resolve()).then(() => this.#sendAll(list, queue, signal));
    const settled = task.catch(() => undefined);
    this.#sending.set(queue, settled);
    try {
      await task;
    } finally {
      if (this.#sending.get(queue) === settled) this.#sending.delete(queue);
    }
  }

  /**
   * Hands the port to lcores.
   * @throws VirtioError EBUSY when others have it
   * @internal
   */
  handOver(owner: Owner): void {
    if (this.#owner !== undefined) this.#busy();
    for (const cancel of this.#waits) cancel();
    this.#owner = owner;
  }

  /** @internal */
  takeBack(owner: Owner): void {
    if (this.#owner === owner) this.#owner = undefined;
  }

  /** @internal */
  takeBackSent(): void {
    if (this.state !== 'started' || this.#owner !== undefined) return;
    for (let queue = 0; queue < this.queues; queue++) this.ethdev.txDoneCleanup(queue);
  }

  /** Returns false at once when the queue cannot tell of packets now. */
  async #waitForPackets(queue: number, signal: Signal | undefined): Promise<boolean> {
    if (this.state !== 'started' || this.#owner !== undefined) return false;
    const interrupt = this.ethdev.rxInterrupt(queue);
    const wait = interrupt === undefined ? undefined : waitForInterrupt(interrupt);
    if (wait === undefined) return false;
    const { cancel, done } = wait;
    this.#waits.add(cancel);
    // a peer that comes, goes or changes its rings makes another wait
    const stopEvents = this.onEvent(cancel);
    const stopAbort = onAbort(signal, cancel);
    try {
      await done;
    } finally {
      stopAbort();
      stopEvents();
      this.#waits.delete(cancel);
    }
    return true;
  }

  #busy(): never {
    throw new VirtioError(`${this.name}: lcores forward its packets; stop them first`, { code: 'EBUSY' });
  }

  #checkPacket(packet: Uint8Array): void {
    const longest = Math.min(LONGEST, this.info.maxRxPacketLength);
    if (packet.length < SHORTEST || packet.length > longest) {
      throw new RangeError(`${this.name}: a packet of ${String(packet.length)} bytes; it takes ${String(SHORTEST)}..${String(longest)}`);
    }
  }

  async #sendAll(list: readonly Uint8Array[], queue: number, signal: Signal | undefined): Promise<void> {
    using burst = this.arena.burst(BURST);
    using segments = this.arena.burst(Math.ceil(LONGEST / this.arena.dataRoom));
    for (let next = 0; next < list.length;) {
      throwIfAborted(signal);
      let made = 0;
      for (let turn = 0; made < BURST && next < list.length;) {
        const packet = list[next];
        if (packet === undefined) break;
        const handle = this.#make(packet, segments);
        if (handle !== 0) {
          burst.handles[made++] = handle;
          next++;
          continue;
        }
        // no mbufs: send what there is, or wait for others to give some back
        if (made > 0) break;
        throwIfAborted(signal);
        this.#requireStarted();
        // parts of a packet that was cut may wait for room; and lcores may have the port by now
        this.txBurst(queue, burst, 0);
        await pause(turn++, 1);
      }
      await this.#sendBurst(burst, made, queue, signal);
    }
  }

  async #sendBurst(burst: Burst, count: number, queue: number, signal: Signal | undefined): Promise<void> {
    let sent = 0;
    try {
      for (let turn = 0; ;) {
        this.#requireStarted();
        const taken = this.txBurst(queue, burst, count - sent, sent);
        sent += taken;
        if (sent === count) return;
        throwIfAborted(signal);
        turn = taken === 0 ? turn + 1 : 0;
        await pause(turn, 1);
      }
    } finally {
      if (sent < count) this.arena.free(burst, count - sent, sent);
    }
  }

  /** A packet of as many mbufs as its bytes need, or 0 when there are not so many. */
  #make(bytes: Uint8Array, segments: Burst): number {
    const { arena } = this;
    const count = Math.ceil(bytes.length / arena.dataRoom);
    if (arena.allocate(segments, count) === 0) return 0;
    const first = segments.handles[0] ?? 0;
    arena.write(first, bytes.subarray(0, arena.dataRoom));
    let last = first;
    for (let index = 1; index < count; index++) {
      const segment = segments.handles[index] ?? 0;
      arena.write(segment, bytes.subarray(index * arena.dataRoom, (index + 1) * arena.dataRoom));
      last = arena.append(first, last, segment);
    }
    return first;
  }

  #requireStarted(): void {
    if (this.state !== 'started') throw new VirtioError(`${this.name}: cannot send, the port is ${this.state}`, { code: 'ENETDOWN' });
  }
}
