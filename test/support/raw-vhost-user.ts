/**
 * A vhost-user connection that sends whatever it is told to: half messages, lies, descriptors where none belong.
 * @module
 */
import { closeSync } from 'node:fs';
import { acceptUnix, connectUnix, listenUnix, receiveUnix, sendUnix, type Listener } from '../../src/system/unix-socket.ts';
import { until } from './deadline.ts';
import { HEADER_BYTES } from './vhost-user-messages.ts';

export interface ReceivedMessage {
  readonly request: number;
  readonly flags: number;
  readonly payload: Buffer;
  readonly descriptors: readonly number[];
}

const LIMIT = 3000;
const INTERVAL = 2;

export class RawConnection implements Disposable {
  readonly #fd: number;
  readonly #peer: string;
  #buffer = Buffer.alloc(0);
  #descriptors: number[] = [];
  #open = true;
  /** The peer closed its end, or reset the connection. */
  ended = false;

  constructor(fd: number, peer: string) {
    this.#fd = fd;
    this.#peer = peer;
  }

  /** Connects; tries again while nobody listens or the listener's queue is full. */
  static async connect(path: string): Promise<RawConnection> {
    const fd = await until(LIMIT, `connection to ${path}`, () => {
      try {
        return connectUnix(path);
      } catch {
        return undefined;
      }
    });
    return new RawConnection(fd, path);
  }

  /** Sends bytes, the descriptors with the first of them. A peer that has hung up is no error here: `ended` tells. */
  async send(bytes: Uint8Array, descriptors: readonly number[] = []): Promise<void> {
    if (this.ended) return;
    let sent = 0;
    await until(LIMIT, `room in the socket of ${this.#peer}`, () => {
      try {
        sent += sendUnix(this.#fd, this.#peer, bytes.subarray(sent), sent === 0 ? descriptors : []);
      } catch {
        this.ended = true;
      }
      return this.ended || sent >= bytes.length;
    });
  }

  /** The next whole message, or undefined when the peer hung up first. */
  async receive(limit = LIMIT): Promise<ReceivedMessage | undefined> {
    await until(limit, `a message from ${this.#peer}`, () => this.#whole() || this.#read(), INTERVAL);
    if (!this.#whole()) return undefined;
    const end = HEADER_BYTES + this.#buffer.readUInt32LE(8);
    const message = {
      request: this.#buffer.readUInt32LE(0),
      flags: this.#buffer.readUInt32LE(4),
      payload: this.#buffer.subarray(HEADER_BYTES, end),
      descriptors: this.#descriptors,
    };
    this.#buffer = this.#buffer.subarray(end);
    this.#descriptors = [];
    return message;
  }

  /** Waits until the peer hangs up; whatever it says before is dropped. */
  async hangUp(limit = LIMIT): Promise<void> {
    await until(limit, `${this.#peer} to hang up`, () => {
      this.#read();
      return this.ended;
    });
  }

  [Symbol.dispose](): void {
    if (!this.#open) return;
    this.#open = false;
    // whoever still waits for a message must not read from the number's next owner
    this.ended = true;
    for (const descriptor of this.#descriptors) closeSync(descriptor);
    closeSync(this.#fd);
  }

  #whole(): boolean {
    return this.#buffer.length >= HEADER_BYTES && this.#buffer.length >= HEADER_BYTES + this.#buffer.readUInt32LE(8);
  }

  /** Takes what is there; true when a message is whole or none will come. Descriptors arrive with the first byte of theirs. */
  #read(): boolean {
    if (this.ended) return true;
    const bytes = Buffer.alloc(this.#buffer.length < HEADER_BYTES ? HEADER_BYTES - this.#buffer.length : this.#missing());
    try {
      const received = receiveUnix(this.#fd, this.#peer, bytes);
      if (received === undefined) return false;
      this.#descriptors.push(...received.descriptors);
      if (received.bytes === 0) this.ended = true;
      this.#buffer = Buffer.concat([this.#buffer, bytes.subarray(0, received.bytes)]);
    } catch {
      this.ended = true;
    }
    return this.ended || this.#whole();
  }

  #missing(): number {
    return Math.max(1, HEADER_BYTES + this.#buffer.readUInt32LE(8) - this.#buffer.length);
  }
}

/** The listening end, for a device that breaks the rules. */
export class RawListener implements Disposable {
  readonly #listener: Listener;

  constructor(path: string) {
    this.#listener = listenUnix(path);
  }

  async accept(limit = 10_000): Promise<RawConnection> {
    const { path } = this.#listener;
    const fd = await until(limit, `a connection to ${path}`, () => acceptUnix(this.#listener), INTERVAL);
    return new RawConnection(fd, path);
  }

  [Symbol.dispose](): void {
    this.#listener.close();
  }
}
