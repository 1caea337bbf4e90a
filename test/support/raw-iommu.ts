/**
 * A front-end behind an IOMMU, written by hand: its rings and buffers are named by I/O virtual addresses, and it answers the device's
 * questions on the back-end channel, or does not.
 * @module
 */
import { expect } from 'vitest';
import { unixSocketPair } from '../../src/system/unix-socket.ts';
import { closeFd } from '../../src/system/event-fd.ts';
import { sleep } from './deadline.ts';
import { DEFAULT_FEATURES, guestAddress, MEMORY_BYTES, RawDriver, ringAddressesAt, USER_BASE } from './raw-driver.ts';
import { RawConnection } from './raw-vhost-user.ts';
import {
  Feature,
  iotlbMessage,
  IotlbType,
  NEED_REPLY,
  ProtocolFeature,
  Request,
  ringAddresses,
  ringState,
  u64,
  VERSION,
  type RingAddresses,
} from './vhost-user-messages.ts';

export const PAGE = 4096n;
/** Where the rings of a queue are for the device; guest and user addresses of the memory are others. */
export const ringIova = (queue: number): bigint => 0xffff_0000n + 0x10_0000n * BigInt(queue);
/** Where RawDriver puts the rings of a queue in its memory. */
export const ringOffset = (queue: number): number => 0x10000 * (queue + 1);

export interface Question {
  readonly type: number;
  readonly address: bigint;
  readonly permission: number;
}

export class RawIommu implements Disposable {
  readonly driver: RawDriver;
  /** Our end of the back-end channel; the device has the other. */
  channel: RawConnection;
  readonly #pages = new Map<bigint, { readonly offset: number; readonly permission: number }>();
  #answering = false;
  #calls: Promise<unknown> = Promise.resolve();
  /** Questions answered so far, and the numbers of the pages that they were about. */
  answered = 0;
  readonly answeredPages = new Set<bigint>();

  static async connect(path: string): Promise<RawIommu> {
    return new RawIommu(await RawDriver.connect(path));
  }

  private constructor(driver: RawDriver) {
    this.driver = driver;
    this.channel = this.#makeChannel();
  }

  /** The device's end, until it has been sent. */
  #channelFd = -1;

  #makeChannel(): RawConnection {
    const [own, other] = unixSocketPair('a back-end channel');
    this.#channelFd = other;
    return new RawConnection(own, 'the back-end channel');
  }

  /** Sends the device the channel, a new one when it has had the first. */
  async sendChannel(): Promise<bigint | undefined> {
    if (this.#channelFd < 0) {
      this.channel[Symbol.dispose]();
      this.channel = this.#makeChannel();
    }
    const fd = this.#channelFd;
    this.#channelFd = -1;
    try {
      return await this.call(Request.SET_BACKEND_REQ_FD, new Uint8Array(), [fd]);
    } finally {
      closeFd(fd);
    }
  }

  /** Sends a request and returns its acknowledgement; one at a time. */
  call(request: number, payload: Uint8Array, descriptors: readonly number[] = []): Promise<bigint | undefined> {
    const result = this.#calls.then(() => this.driver.ask(request, payload, descriptors, VERSION | NEED_REPLY));
    this.#calls = result.catch(() => undefined);
    return result;
  }

  /** All of a handshake, with the rings at I/O virtual addresses. */
  async handshake(
    options: {
      readonly features?: bigint;
      readonly channel?: boolean;
      readonly rings?: (queue: number) => RingAddresses;
      readonly base?: number;
    } = {},
  ): Promise<void> {
    const { rings = (queue: number) => ringAddressesAt(ringIova(queue)) } = options;
    for (const [name, step] of this.driver.handshakeSteps(options.features ?? DEFAULT_FEATURES | Feature.ACCESS_PLATFORM)) {
      const place = /SET_VRING_ADDR (\d)/.exec(name);
      if (name === 'SET_PROTOCOL_FEATURES') {
        await this.driver.send(
          Request.SET_PROTOCOL_FEATURES,
          u64(ProtocolFeature.MQ | ProtocolFeature.REPLY_ACK | ProtocolFeature.BACKEND_REQ),
        );
        if (options.channel !== false) expect(await this.sendChannel()).toBe(0n);
      } else if (options.base !== undefined && name.startsWith('SET_VRING_BASE'))
        await this.driver.send(Request.SET_VRING_BASE, ringState(Number(name.slice(-1)), options.base));
      else if (place === null) await step();
      else await this.driver.send(Request.SET_VRING_ADDR, ringAddresses(Number(place[1]), rings(Number(place[1]))));
    }
    await this.settled();
  }

  /** Waits until the device has handled everything so far. */
  async settled(): Promise<void> {
    expect(await this.call(Request.SET_OWNER, new Uint8Array())).toBe(0n);
  }

  /** Sends a translation of addresses to a part of the memory. */
  update(address: bigint, offset: number, bytes = PAGE, permission = 3): Promise<bigint | undefined> {
    return this.call(
      Request.IOTLB_MSG,
      iotlbMessage({ type: IotlbType.UPDATE, address, size: bytes, user: USER_BASE + BigInt(offset), permission }),
    );
  }

  invalidate(address: bigint, bytes: bigint): Promise<bigint | undefined> {
    return this.call(Request.IOTLB_MSG, iotlbMessage({ type: IotlbType.INVALIDATE, address, size: bytes }));
  }

  /** Translates the rings of both queues, and, with `buffers`, all of the memory at its guest addresses. */
  async updateRings(): Promise<void> {
    for (const queue of [0, 1] as const) expect(await this.update(ringIova(queue), ringOffset(queue), 0x4000n)).toBe(0n);
  }

  /** The next `count` questions. */
  async questions(count: number): Promise<Question[]> {
    const found: Question[] = [];
    while (found.length < count) {
      const message = await this.channel.receive();
      if (message === undefined) throw new Error('the device closed the back-end channel');
      expect([message.request, message.flags, message.payload.length]).toEqual([1, VERSION, 32]);
      found.push({
        address: message.payload.readBigUInt64LE(0),
        permission: message.payload.readUInt8(24),
        type: message.payload.readUInt8(25),
      });
    }
    return found;
  }

  /** Says what a page is translated to when the device asks for it. */
  map(address: bigint, offset: number, permission = 3): void {
    this.#pages.set(address / PAGE, { offset, permission });
  }

  /** Rings and the whole memory, each page for itself. */
  mapAll(): void {
    for (const queue of [0, 1]) {
      for (let at = 0; at < 0x4000; at += 4096) this.map(ringIova(queue) + BigInt(at), ringOffset(queue) + at);
    }
    for (let at = 0; at < MEMORY_BYTES; at += 4096) this.map(guestAddress(at), at);
  }

  /** Answers questions by what map() said, a page at a time, as QEMU does, until the channel ends. */
  answer(): void {
    if (this.#answering) return;
    this.#answering = true;
    void this.#answerAll();
  }

  async #answerAll(): Promise<void> {
    while (!this.channel.ended) {
      const [question] = await this.questions(1).catch(() => []);
      if (question === undefined) {
        await sleep(1);
        continue;
      }
      const page = this.#pages.get(question.address / PAGE);
      if (page === undefined) continue;
      await this.update((question.address / PAGE) * PAGE, page.offset, PAGE, page.permission).catch(() => undefined);
      this.answered++;
      this.answeredPages.add(question.address / PAGE);
    }
  }

  [Symbol.dispose](): void {
    if (this.#channelFd >= 0) closeFd(this.#channelFd);
    this.#channelFd = -1;
    this.channel[Symbol.dispose]();
    this.driver[Symbol.dispose]();
  }
}
