/**
 * The device's half of vhost-user and of a split virtqueue, honest unless a test makes it lie: it connects to a virtio_user that serves.
 *
 * The driver's memory is read and written by pread and pwrite, which ordinary pages allow.
 * @module
 */
import { closeSync, readSync, writeSync } from 'node:fs';
import { until } from './deadline.ts';
import { RawConnection, type ReceivedMessage } from './raw-vhost-user.ts';
import {
  Feature,
  message,
  NEED_REPLY,
  ProtocolFeature,
  REPLY,
  Request,
  ringState,
  u64,
  VERSION,
  type MemoryRegion,
} from './vhost-user-messages.ts';

export const DEVICE_FEATURES =
  Feature.VERSION_1 | Feature.PROTOCOL_FEATURES | Feature.MRG_RXBUF | Feature.RING_INDIRECT_DESC | Feature.MQ | Feature.CTRL_VQ;
const PROTOCOL_FEATURES = ProtocolFeature.MQ | ProtocolFeature.REPLY_ACK | ProtocolFeature.STATUS;

const RECEIVE = 0;
const TRANSMIT = 1;

interface Ring {
  size: number;
  descriptors: bigint;
  available: bigint;
  used: bigint;
  enabled: boolean;
  /** Where this device stands. */
  handled: number;
}

export interface RawDescriptor {
  readonly address: bigint;
  readonly length: number;
  readonly flags: number;
  readonly next: number;
}

/** Sends something else than the honest reply to a request, and returns true; or returns false to have it answered honestly. */
export type Deviation = (device: RawDevice, request: ReceivedMessage) => boolean | Promise<boolean>;

export class RawDevice implements Disposable {
  readonly connection: RawConnection;
  /** Features that the driver took. */
  features = 0n;
  readonly #offered: bigint;
  readonly #deviate: Deviation;
  #regions: (MemoryRegion & { readonly descriptor: number })[] = [];
  readonly #rings = new Map<number, Ring>();
  #status = 0n;
  #closed = false;
  /** How many requests have come. */
  requests = 0;

  static async connect(path: string, offered = DEVICE_FEATURES, deviate: Deviation = () => false): Promise<RawDevice> {
    return new RawDevice(await RawConnection.connect(path), offered, deviate);
  }

  constructor(connection: RawConnection, offered = DEVICE_FEATURES, deviate: Deviation = () => false) {
    this.connection = connection;
    this.#offered = offered;
    this.#deviate = deviate;
    void this.#serve();
  }

  /** Waits until the driver has set up and enabled both queues. */
  async ready(limit = 8000): Promise<this> {
    const isReady = (): boolean =>
      [RECEIVE, TRANSMIT].every((queue) => this.#rings.get(queue)?.enabled === true && this.#ring(queue).used !== 0n);
    await until(
      limit,
      () => `both queues; ${this.requests} requests came`,
      () => isReady() && this.#regions.length > 0,
      2,
    );
    return this;
  }

  async reply(request: number, payload: Uint8Array): Promise<void> {
    await this.connection.send(message(request, payload, VERSION | REPLY));
  }

  ringSize(queue: number): number {
    return this.#ring(queue).size;
  }

  availableIndex(queue: number): number {
    return this.#readUser(this.#ring(queue).available + 2n, 2).readUInt16LE(0);
  }

  /** The head of entry `index` of the available ring. */
  availableHead(queue: number, index: number): number {
    const ring = this.#ring(queue);
    return this.#readUser(ring.available + 4n + 2n * BigInt(index % ring.size), 2).readUInt16LE(0);
  }

  descriptor(queue: number, index: number): RawDescriptor {
    const bytes = this.#readUser(this.#ring(queue).descriptors + 16n * BigInt(index), 16);
    return {
      address: bytes.readBigUInt64LE(0),
      length: bytes.readUInt32LE(8),
      flags: bytes.readUInt16LE(12),
      next: bytes.readUInt16LE(14),
    };
  }

  /** True when the driver offers a head that this device has not taken. */
  waiting(queue: number): boolean {
    return this.availableIndex(queue) !== (this.#ring(queue).handled & 0xffff);
  }

  /** The next head that the driver offers and this device has not taken. */
  async take(queue: number): Promise<number> {
    const ring = this.#ring(queue);
    await until(
      3000,
      () => `a buffer in queue ${queue}`,
      () => this.availableIndex(queue) !== (ring.handled & 0xffff),
      2,
    );
    return this.availableHead(queue, ring.handled++);
  }

  usedIndex(queue: number): number {
    return this.#readUser(this.#ring(queue).used + 2n, 2).readUInt16LE(0);
  }

  /** Puts elements into the used ring and publishes them, `ahead` further than the truth when that is to be a lie. */
  give(queue: number, elements: readonly { readonly id: number; readonly length: number }[], ahead = 0): void {
    const ring = this.#ring(queue);
    const index = this.usedIndex(queue);
    for (const [count, { id, length }] of elements.entries()) {
      this.#writeUser(ring.used + 4n + 8n * BigInt((index + count) % ring.size), ringState(id, length));
    }
    const published = Buffer.alloc(2);
    published.writeUInt16LE((index + elements.length + ahead) & 0xffff);
    this.#writeUser(ring.used + 2n, published);
  }

  readGuest(address: bigint, length: number): Buffer {
    return this.#transfer(address, 'guest', Buffer.alloc(length), readSync);
  }

  writeGuest(address: bigint, bytes: Buffer): void {
    this.#transfer(address, 'guest', bytes, writeSync);
  }

  /** Sends a packet to the driver: 12 bytes of header that announce `buffers`, then `bytes`. Returns the head. */
  async sendPacket(bytes: Uint8Array, buffers = 1): Promise<number> {
    const head = await this.take(RECEIVE);
    const header = Buffer.alloc(12);
    header.writeUInt16LE(buffers, 10);
    // the header may have a descriptor of its own
    let { address, length, flags, next } = this.descriptor(RECEIVE, head);
    let rest = Buffer.concat([header, bytes]);
    while (rest.length > 0) {
      const part = rest.subarray(0, length);
      this.writeGuest(address, part);
      rest = rest.subarray(part.length);
      if (rest.length > 0 && (flags & 1) === 0) throw new Error('the packet does not fit');
      if (rest.length > 0) ({ address, length, flags, next } = this.descriptor(RECEIVE, next));
    }
    return head;
  }

  /** The next packet that the driver sends, without its header; its descriptors go back. */
  async receivePacket(): Promise<Buffer> {
    const head = await this.take(TRANSMIT);
    const parts: Buffer[] = [];
    for (let index = head, links = 0; links < this.ringSize(TRANSMIT); links++) {
      const { address, length, flags, next } = this.descriptor(TRANSMIT, index);
      if ((flags & 4) !== 0) {
        const table = this.readGuest(address, length);
        for (let entry = 0; entry < length; entry += 16)
          parts.push(this.readGuest(table.readBigUInt64LE(entry), table.readUInt32LE(entry + 8)));
        break;
      }
      parts.push(this.readGuest(address, length));
      if ((flags & 1) === 0) break;
      index = next;
    }
    this.give(TRANSMIT, [{ id: head, length: 0 }]);
    return Buffer.concat(parts).subarray(12);
  }

  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#closeRegions();
    this.connection[Symbol.dispose]();
  }

  async #serve(): Promise<void> {
    for (;;) {
      const request = await this.connection.receive(60_000).catch(() => undefined);
      if (request === undefined || this.#closed) return;
      this.requests++;
      if (!(await this.#deviate(this, request))) await this.#answer(request);
    }
  }

  async #answer({ request, flags, payload, descriptors }: ReceivedMessage): Promise<void> {
    if (request === Request.SET_MEM_TABLE) this.#setMemory(payload, descriptors);
    else for (const descriptor of descriptors) closeSync(descriptor);
    const index = payload.length >= 4 ? payload.readUInt32LE(0) : 0;
    const number = payload.length >= 8 ? payload.readUInt32LE(4) : 0;
    switch (request) {
      case Request.GET_FEATURES:
        return this.reply(request, u64(this.#offered));
      case Request.GET_PROTOCOL_FEATURES:
        return this.reply(request, u64(PROTOCOL_FEATURES));
      case Request.GET_QUEUE_NUM:
        return this.reply(request, u64(1));
      case Request.GET_STATUS:
        return this.reply(request, u64(this.#status));
      case Request.GET_VRING_BASE:
        this.#ring(index).enabled = false;
        return this.reply(request, ringState(index, this.#ring(index).handled & 0xffff));
      case Request.SET_FEATURES:
        this.features = payload.readBigUInt64LE(0);
        break;
      case Request.SET_STATUS:
        this.#status = payload.readBigUInt64LE(0);
        break;
      case Request.SET_VRING_NUM:
        this.#ring(index).size = number;
        break;
      case Request.SET_VRING_BASE:
        this.#ring(index).handled = number;
        break;
      case Request.SET_VRING_ENABLE:
        this.#ring(index).enabled = number === 1;
        break;
      case Request.SET_VRING_ADDR:
        Object.assign(this.#ring(index), {
          descriptors: payload.readBigUInt64LE(8),
          used: payload.readBigUInt64LE(16),
          available: payload.readBigUInt64LE(24),
        });
        // a driver that comes back says base 0 and means its used index
        this.#ring(index).handled = this.usedIndex(index);
        break;
    }
    if ((flags & NEED_REPLY) !== 0) await this.reply(request, u64(0));
  }

  #ring(queue: number): Ring {
    const ring = this.#rings.get(queue) ?? { size: 0, descriptors: 0n, available: 0n, used: 0n, enabled: false, handled: 0 };
    this.#rings.set(queue, ring);
    return ring;
  }

  #setMemory(payload: Buffer, descriptors: readonly number[]): void {
    this.#closeRegions();
    this.#regions = descriptors.map((descriptor, number) => {
      const at = 8 + 32 * number;
      return {
        guest: payload.readBigUInt64LE(at),
        size: payload.readBigUInt64LE(at + 8),
        user: payload.readBigUInt64LE(at + 16),
        offset: payload.readBigUInt64LE(at + 24),
        descriptor,
      };
    });
  }

  #closeRegions(): void {
    for (const { descriptor } of this.#regions) closeSync(descriptor);
    this.#regions = [];
  }

  #readUser(address: bigint, length: number): Buffer {
    return this.#transfer(address, 'user', Buffer.alloc(length), readSync);
  }

  #writeUser(address: bigint, bytes: Buffer): void {
    this.#transfer(address, 'user', bytes, writeSync);
  }

  #transfer(
    address: bigint,
    space: 'guest' | 'user',
    bytes: Buffer,
    transfer: (fd: number, bytes: Buffer, offset: number, length: number, position: number) => number,
  ): Buffer {
    const region = this.#regions.find(({ [space]: base, size }) => address >= base && address + BigInt(bytes.length) <= base + size);
    if (region === undefined) throw new Error(`the driver gave ${space} address 0x${address.toString(16)}, outside its memory`);
    transfer(region.descriptor, bytes, 0, bytes.length, Number(address - region[space] + region.offset));
    return bytes;
  }
}
