/**
 * The control virtqueue of a network card (virtio 1.2, 5.1.6.5): one command at a time, on three descriptors that stay the
 * same: two bytes that name the command, its data, and the byte in which the device answers.
 *
 *     page 0: descriptors, available ring | next page: used ring | next page: command, data, answer
 *
 * A legacy device expects its ring so (2.7.2), any other takes it.
 * @module
 */
import type { Arena } from '../memory/arena.ts';
import { makeNotifier, setNotification, type Notification } from '../ring/notification.ts';
import { Q_OWN_INDEX } from '../ring/queue-layout.ts';
import {
  AVAILABLE_F_NO_INTERRUPT,
  AVAILABLE_RING,
  DESCRIPTOR_ADDRESS_HIGH,
  DESCRIPTOR_ADDRESS_LOW,
  DESCRIPTOR_BYTES,
  DESCRIPTOR_F_NEXT,
  DESCRIPTOR_F_WRITE,
  DESCRIPTOR_FLAGS,
  DESCRIPTOR_LENGTH,
  DESCRIPTOR_NEXT,
} from '../ring/split-layout.ts';
import { QueueState, splitRingBytes } from '../ring/virtqueue.ts';
import { VirtioError } from '../system/error.ts';
import type { ControlCommand } from './control-commands.ts';
import type { RingPlace } from './virtio-transport.ts';

/** Descriptors of the ring, where the device leaves that to the driver. */
export const CONTROL_SIZE = 64;
/** Fewer are no control queue. */
export const CONTROL_DESCRIPTORS = 4;
const PAGE = 4096;
const COMMAND_BYTES = 2;
/** Bytes of a command's data that there is room for. */
const DATA_LIMIT = PAGE - COMMAND_BYTES - 1;
const ANSWER_MILLISECONDS = 2000;
/** VIRTIO_NET_OK, and what the byte holds until the device has written it. */
const OK = 0;
const UNANSWERED = 0xff;

const roundUp = (value: number): number => Math.ceil(value / PAGE) * PAGE;

/** What the device is told instead of an arena offset. */
export type AddressOf = (offset: number) => { readonly low: number; readonly high: number };

export class ControlQueue implements RingPlace {
  /** Descriptors. */
  readonly size: number;
  /** Arena offsets of the three parts. */
  readonly descriptors: number;
  readonly available: number;
  readonly used: number;
  readonly #arena: Arena;
  readonly #state: QueueState;
  readonly #allocation: number;
  /** Command, data and answer. */
  readonly #buffer: number;
  readonly #addressOf: AddressOf;
  readonly #kick: () => void;
  #index = 0;
  #open = true;

  /** @param size descriptors: a power of two, CONTROL_DESCRIPTORS at least */
  constructor(arena: Arena, name: string, size: number, addressOf: AddressOf) {
    const what = `the control queue of ${name}`;
    this.size = size;
    this.#arena = arena;
    this.#addressOf = addressOf;
    const bytes = splitRingBytes(size);
    const usedAt = roundUp(bytes.descriptors + bytes.available);
    const bufferAt = usedAt + roundUp(bytes.used);
    const allBytes = bufferAt + PAGE;
    // in one piece for a device that is told physical addresses, too
    this.#allocation = arena.allocatePublished(allBytes, what, 2 ** Math.ceil(Math.log2(allBytes)));
    try {
      this.#state = new QueueState(arena, what, 0);
    } catch (error) {
      arena.published.release(this.#allocation);
      throw error;
    }
    this.#kick = makeNotifier(arena.views, this.#state.offset);
    this.descriptors = this.#allocation;
    this.available = this.#allocation + bytes.descriptors;
    this.used = this.#allocation + usedAt;
    this.#buffer = this.#allocation + bufferAt;
  }

  /** Says how the device is told to look. */
  setNotification(notification: Notification | undefined): void {
    setNotification(this.#state, notification);
  }

  /**
   * Sends a command and waits for its answer; one at a time.
   * @param gone whether the device is there no more: nobody waits for it then
   * @throws VirtioError EPROTO when the device refuses it, ETIMEDOUT or EBUSY when it does not answer, ENODEV when it goes meanwhile
   */
  async command(command: ControlCommand, data: Uint8Array, gone: () => boolean): Promise<void> {
    if (data.length > DATA_LIMIT) throw new RangeError(`data of ${String(data.length)} bytes: ${String(DATA_LIMIT)} at most`);
    const { u8, u16, i32 } = this.#arena.views;
    const answered = (): boolean => Atomics.load(i32, this.used / 4) >>> 16 === this.#index;
    // its buffer is still the device's
    if (!answered()) throw new VirtioError(`${command.name}: the command before is still unanswered`, { code: 'EBUSY' });
    const answer = this.#buffer + COMMAND_BYTES + data.length;
    u8.set([command.kind, command.command, ...data, UNANSWERED], this.#buffer);
    const parts = [[this.#buffer, COMMAND_BYTES], ...(data.length === 0 ? [] : [[this.#buffer + COMMAND_BYTES, data.length]])] as const;
    for (const [index, [at = 0, bytes = 0]] of parts.entries()) this.#describe(index, at, bytes, DESCRIPTOR_F_NEXT);
    this.#describe(parts.length, answer, 1, DESCRIPTOR_F_WRITE);
    u16[(this.available + AVAILABLE_RING) / 2 + (this.#index & (this.size - 1))] = 0;
    this.#index = (this.#index + 1) & 0xffff;
    this.#state.set(Q_OWN_INDEX, this.#index);
    // flags and index are one word
    Atomics.store(i32, this.available / 4, (this.#index << 16) | AVAILABLE_F_NO_INTERRUPT);
    this.#kick();
    const end = performance.now() + ANSWER_MILLISECONDS;
    while (!answered()) {
      if (gone()) throw new VirtioError(`${command.name}: the device went`, { code: 'ENODEV' });
      if (performance.now() > end) throw new VirtioError(`no answer to ${command.name} on the control queue`, { code: 'ETIMEDOUT' });
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    const result = u8[answer];
    if (result !== OK) throw new VirtioError(`${command.name}: the device answered ${String(result)}`, { code: 'EPROTO' });
  }

  #describe(index: number, offset: number, length: number, flags: number): void {
    const at = this.descriptors + index * DESCRIPTOR_BYTES;
    const { u16, u32 } = this.#arena.views;
    const { low, high } = this.#addressOf(offset);
    u32[(at + DESCRIPTOR_ADDRESS_LOW) / 4] = low;
    u32[(at + DESCRIPTOR_ADDRESS_HIGH) / 4] = high;
    u32[(at + DESCRIPTOR_LENGTH) / 4] = length;
    u16[(at + DESCRIPTOR_FLAGS) / 2] = flags;
    u16[(at + DESCRIPTOR_NEXT) / 2] = index + 1;
  }

  /** The device must not have it any more. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#state.close();
    this.#arena.published.release(this.#allocation);
  }
}
