/**
 * The control virtqueue of a network card (virtio 1.2, 5.1.6.5): one command at a time, on three descriptors that stay the
 * same: two bytes that name the command, its data, and the byte in which the device answers.
 * @module
 */
import type { Arena } from '../../memory/arena.ts';
import {
  AVAILABLE_F_NO_INTERRUPT,
  AVAILABLE_RING,
  DESCRIPTOR_ADDRESS_LOW,
  DESCRIPTOR_BYTES,
  DESCRIPTOR_F_NEXT,
  DESCRIPTOR_F_WRITE,
  DESCRIPTOR_FLAGS,
  DESCRIPTOR_LENGTH,
  DESCRIPTOR_NEXT,
} from '../../ring/split-layout.ts';
import { splitRingBytes } from '../../ring/virtqueue.ts';
import { VirtioError } from '../../system/error.ts';

const SIZE = 64;
/** Fewer are no control queue. */
export const CONTROL_DESCRIPTORS = 4;
/** Bytes of a command's data that there is room for. */
const DATA_LIMIT = 16;
const COMMAND_BYTES = 2;
const ANSWER_MILLISECONDS = 2000;
/** VIRTIO_NET_OK, and what the byte holds until the device has written it. */
const OK = 0;
const UNANSWERED = 0xff;

/** Class and command (5.1.6.5.6): how many queue pairs to use. Data: u16 pairs. */
export const SET_QUEUE_PAIRS = { name: 'VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET', kind: 4, command: 0 } as const;

export class ControlQueue {
  /** Descriptors. */
  readonly size: number;
  /** Arena offsets of the three parts. */
  readonly descriptors: number;
  readonly available: number;
  readonly used: number;
  readonly #arena: Arena;
  readonly #allocation: number;
  readonly #bytes: number;
  /** Command, data and answer. */
  readonly #buffer: number;
  #index = 0;
  #open = true;

  /** @param largest descriptors of the largest ring that the device takes, CONTROL_DESCRIPTORS at least */
  constructor(arena: Arena, name: string, largest: number) {
    this.size = Math.min(SIZE, 2 ** Math.floor(Math.log2(largest)));
    const bytes = splitRingBytes(this.size);
    const availableAt = bytes.descriptors;
    // the driver's words are stored whole
    const usedAt = Math.ceil((availableAt + bytes.available) / 64) * 64;
    const bufferAt = usedAt + Math.ceil(bytes.used / 64) * 64;
    this.#bytes = bufferAt + COMMAND_BYTES + DATA_LIMIT + 1;
    this.#arena = arena;
    this.#allocation = arena.allocatePublished(this.#bytes, `the control queue of ${name}`, 4096);
    this.descriptors = this.#allocation;
    this.available = this.#allocation + availableAt;
    this.used = this.#allocation + usedAt;
    this.#buffer = this.#allocation + bufferAt;
  }

  /** Makes it as new. The device must not have it. */
  reset(): void {
    this.#index = 0;
    this.#arena.views.u8.fill(0, this.#allocation, this.#allocation + this.#bytes);
  }

  /**
   * Sends a command and waits for its answer.
   * @param kick tells the device to look
   * @throws VirtioError when the device refuses it, or does not answer
   */
  async command(command: typeof SET_QUEUE_PAIRS, data: Uint8Array, kick: () => void): Promise<void> {
    if (data.length > DATA_LIMIT) throw new RangeError(`data of ${String(data.length)} bytes: ${String(DATA_LIMIT)} at most`);
    const { u8, u16, i32 } = this.#arena.views;
    const answer = this.#buffer + COMMAND_BYTES + data.length;
    u8.set([command.kind, command.command, ...data, UNANSWERED], this.#buffer);
    this.#describe(0, this.#buffer, COMMAND_BYTES, DESCRIPTOR_F_NEXT);
    this.#describe(1, this.#buffer + COMMAND_BYTES, data.length, DESCRIPTOR_F_NEXT);
    this.#describe(2, answer, 1, DESCRIPTOR_F_WRITE);
    u16[(this.available + AVAILABLE_RING) / 2 + (this.#index & (this.size - 1))] = 0;
    this.#index = (this.#index + 1) & 0xffff;
    // flags and index are one word
    Atomics.store(i32, this.available / 4, (this.#index << 16) | AVAILABLE_F_NO_INTERRUPT);
    kick();
    const end = performance.now() + ANSWER_MILLISECONDS;
    while (Atomics.load(i32, this.used / 4) >>> 16 !== this.#index) {
      if (performance.now() > end) throw new VirtioError(`no answer to ${command.name} on the control queue`, { code: 'ETIMEDOUT' });
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    const answered = u8[answer];
    if (answered !== OK) throw new VirtioError(`${command.name}: the device answered ${String(answered)}`, { code: 'EPROTO' });
  }

  #describe(index: number, address: number, length: number, flags: number): void {
    const at = this.descriptors + index * DESCRIPTOR_BYTES;
    const { u16, u32 } = this.#arena.views;
    u32[(at + DESCRIPTOR_ADDRESS_LOW) / 4] = address;
    u32[(at + DESCRIPTOR_LENGTH) / 4] = length;
    u16[(at + DESCRIPTOR_FLAGS) / 2] = flags;
    u16[(at + DESCRIPTOR_NEXT) / 2] = index + 1;
  }

  /** The device must not have it any more. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#arena.published.release(this.#allocation);
  }
}
