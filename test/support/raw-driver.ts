/**
 * The driver's half of vhost-user and of a split virtqueue, honest unless a test makes it lie: no library code but the socket and the memory file.
 *
 * Its memory is a plain memory file that is read and written by pread and pwrite. Guest and user addresses differ, as QEMU's do.
 * Queue 0 is what the device sends into (receive), queue 1 what it takes from (transmit).
 * @module
 */
import { closeSync, readSync, writeSync } from 'node:fs';
import { createEventFd } from '../../src/system/event-fd.ts';
import { createMemoryFile, resizeFile } from '../../src/system/memory-map.ts';
import { until } from './deadline.ts';
import { RawConnection } from './raw-vhost-user.ts';
import {
  Feature,
  memoryTable,
  message,
  ProtocolFeature,
  NEED_REPLY,
  Request,
  ringAddresses,
  ringState,
  u64,
  VERSION,
  type MemoryRegion,
  type RingAddresses,
} from './vhost-user-messages.ts';

export const MEMORY_BYTES = 0x400000;
export const GUEST_BASE = 0x1180200000n;
export const USER_BASE = 0x7f1180200000n;
export const RING_SIZE = 256;
export const NET_HEADER_BYTES = 12;

/** Offsets in the memory file: the rings of a queue, and its buffers of 2 KiB. */
const ringOffset = (queue: number): number => 0x10000 * (queue + 1);
const AVAILABLE = 0x1000;
const USED = 0x2000;
export const bufferOffset = (queue: number, index: number): number => 0x100000 * (queue + 1) + 0x800 * index;

export const DESC_F_NEXT = 1;
export const DESC_F_WRITE = 2;
export const DESC_F_INDIRECT = 4;

export interface Descriptor {
  readonly address: bigint;
  readonly length: number;
  readonly flags?: number;
  readonly next?: number;
}

/** Guest address of a byte of the memory file. */
export function guestAddress(offset: number): bigint {
  return GUEST_BASE + BigInt(offset);
}

export const WHOLE_MEMORY: MemoryRegion = { guest: GUEST_BASE, size: BigInt(MEMORY_BYTES), user: USER_BASE, offset: 0n };

/** The three parts of a ring whose first lies at a user address. */
export function ringAddressesAt(base: bigint): RingAddresses {
  return { descriptors: base, available: base + BigInt(AVAILABLE), used: base + BigInt(USED) };
}

export interface HandshakeOptions {
  readonly features?: bigint;
  /** Performs only so many of the steps. */
  readonly steps?: number;
}

export const DEFAULT_FEATURES = Feature.VERSION_1 | Feature.PROTOCOL_FEATURES | Feature.MRG_RXBUF;

export class RawDriver implements Disposable {
  readonly connection: RawConnection;
  readonly memory: number;
  /** Features that the device offered. */
  offered = 0n;
  readonly #descriptors: number[] = [];
  readonly #available = [0, 0];
  #open = true;

  static async connect(path: string): Promise<RawDriver> {
    return new RawDriver(await RawConnection.connect(path));
  }

  private constructor(connection: RawConnection) {
    this.connection = connection;
    this.memory = createMemoryFile('raw driver', 4096);
    resizeFile(this.memory, MEMORY_BYTES, 'memory of the raw driver');
    this.#descriptors.push(this.memory);
  }

  /** An eventfd that is closed with the driver. */
  eventFd(): number {
    const fd = createEventFd();
    this.#descriptors.push(fd);
    return fd;
  }

  /** A memory file of its own size, closed with the driver. */
  memoryFile(bytes: number): number {
    const fd = createMemoryFile('raw driver, extra', 4096);
    resizeFile(fd, bytes, 'extra memory of the raw driver');
    this.#descriptors.push(fd);
    return fd;
  }

  async send(request: number, payload?: Uint8Array, descriptors: readonly number[] = [], flags = VERSION): Promise<void> {
    await this.connection.send(message(request, payload, flags), descriptors);
  }

  /** Sends a request and returns the u64 of its reply; undefined when the peer hangs up. */
  async ask(request: number, payload?: Uint8Array, descriptors: readonly number[] = [], flags = VERSION): Promise<bigint | undefined> {
    await this.send(request, payload, descriptors, flags);
    const reply = await this.connection.receive();
    return reply === undefined ? undefined : reply.payload.readBigUInt64LE(0);
  }

  /** The steps of an honest handshake; a test may stop after any of them. */
  handshakeSteps(features = DEFAULT_FEATURES): readonly (readonly [name: string, step: () => Promise<unknown>])[] {
    const rings = [0, 1].flatMap((queue): [string, () => Promise<unknown>][] => [
      [`SET_VRING_NUM ${queue}`, () => this.send(Request.SET_VRING_NUM, ringState(queue, RING_SIZE))],
      [`SET_VRING_BASE ${queue}`, () => this.send(Request.SET_VRING_BASE, ringState(queue, 0))],
      [
        `SET_VRING_ADDR ${queue}`,
        () => this.send(Request.SET_VRING_ADDR, ringAddresses(queue, ringAddressesAt(USER_BASE + BigInt(ringOffset(queue))))),
      ],
      [`SET_VRING_KICK ${queue}`, () => this.send(Request.SET_VRING_KICK, u64(queue), [this.eventFd()])],
    ]);
    return [
      ['SET_OWNER', () => this.send(Request.SET_OWNER)],
      ['GET_FEATURES', async () => (this.offered = (await this.ask(Request.GET_FEATURES)) ?? 0n)],
      ['GET_PROTOCOL_FEATURES', () => this.ask(Request.GET_PROTOCOL_FEATURES)],
      ['SET_PROTOCOL_FEATURES', () => this.send(Request.SET_PROTOCOL_FEATURES, u64(ProtocolFeature.MQ | ProtocolFeature.REPLY_ACK))],
      ['SET_VRING_CALL 0', () => this.send(Request.SET_VRING_CALL, u64(0), [this.eventFd()])],
      ['SET_VRING_CALL 1', () => this.send(Request.SET_VRING_CALL, u64(1), [this.eventFd()])],
      ['SET_FEATURES', () => this.send(Request.SET_FEATURES, u64(features))],
      ['SET_MEM_TABLE', () => this.ask(Request.SET_MEM_TABLE, memoryTable([WHOLE_MEMORY]), [this.memory], VERSION | NEED_REPLY)],
      ...rings,
      ['SET_VRING_ENABLE 0', () => this.send(Request.SET_VRING_ENABLE, ringState(0, 1))],
      ['SET_VRING_ENABLE 1', () => this.send(Request.SET_VRING_ENABLE, ringState(1, 1))],
    ];
  }

  async handshake({ features, steps = Infinity }: HandshakeOptions = {}): Promise<void> {
    const all = this.handshakeSteps(features);
    for (const [, step] of all.slice(0, steps)) await step();
    // a packet that meets a ring not yet enabled is discarded, rightly: wait until the device has read everything
    if (steps >= all.length) await this.ask(Request.GET_FEATURES);
  }

  write(offset: number, bytes: Uint8Array): void {
    writeSync(this.memory, bytes, 0, bytes.length, offset);
  }

  read(offset: number, length: number): Buffer {
    const bytes = Buffer.alloc(length);
    readSync(this.memory, bytes, 0, length, offset);
    return bytes;
  }

  writeDescriptor(queue: number, index: number, descriptor: Descriptor): void {
    this.write(ringOffset(queue) + 16 * index, descriptorBytes(descriptor));
  }

  /** Puts head descriptors into the available ring and publishes them, `ahead` further than the truth when that is to be a lie. */
  offer(queue: number, heads: readonly number[], ahead = 0): void {
    const ring = ringOffset(queue) + AVAILABLE;
    const index = this.#available[queue] ?? 0;
    for (const [count, head] of heads.entries()) this.write(ring + 4 + 2 * ((index + count) % RING_SIZE), u16(head));
    this.#available[queue] = index + heads.length;
    this.write(ring + 2, u16((index + heads.length + ahead) & 0xffff));
  }

  /** Fills the receive queue with buffers of `length` bytes. */
  offerReceiveBuffers(count: number, length = 0x800): void {
    const first = this.#available[0] ?? 0;
    const heads = Array.from({ length: count }, (_, number) => (first + number) % RING_SIZE);
    for (const head of heads) {
      this.writeDescriptor(0, head, { address: guestAddress(bufferOffset(0, head)), length, flags: DESC_F_WRITE });
    }
    this.offer(0, heads);
  }

  /** Sends one packet in one descriptor: header, then `bytes`. */
  sendPacket(bytes: Uint8Array): void {
    const head = (this.#available[1] ?? 0) % RING_SIZE;
    const offset = bufferOffset(1, head);
    this.write(offset, new Uint8Array(NET_HEADER_BYTES));
    this.write(offset + NET_HEADER_BYTES, bytes);
    this.writeDescriptor(1, head, { address: guestAddress(offset), length: NET_HEADER_BYTES + bytes.length });
    this.offer(1, [head]);
  }

  usedIndex(queue: number): number {
    return this.read(ringOffset(queue) + USED + 2, 2).readUInt16LE(0);
  }

  /** Element of the used ring: which head, and how many bytes were written into it. */
  usedElement(queue: number, index: number): { readonly id: number; readonly length: number } {
    const bytes = this.read(ringOffset(queue) + USED + 4 + 8 * (index % RING_SIZE), 8);
    return { id: bytes.readUInt32LE(0), length: bytes.readUInt32LE(4) };
  }

  async waitForUsed(queue: number, index: number, limit = 10_000): Promise<void> {
    await until(
      limit,
      () => `used index ${index} of queue ${queue}, at ${this.usedIndex(queue)}`,
      () => this.usedIndex(queue) === index,
      5,
    );
  }

  [Symbol.dispose](): void {
    if (!this.#open) return;
    this.#open = false;
    this.connection[Symbol.dispose]();
    for (const fd of this.#descriptors) closeSync(fd);
  }
}

export function descriptorBytes({ address, length, flags = 0, next = 0 }: Descriptor): Buffer {
  const bytes = Buffer.alloc(16);
  bytes.writeBigUInt64LE(address, 0);
  bytes.writeUInt32LE(length, 8);
  bytes.writeUInt16LE(flags, 12);
  bytes.writeUInt16LE(next, 14);
  return bytes;
}

function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16LE(value);
  return bytes;
}
