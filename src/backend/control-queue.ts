/**
 * The control virtqueue of a network card (virtio 1.2, 5.1.6.5), split or packed: one command at a time, on three descriptors (a split
 * ring's first ones, a packed ring's next ones): two bytes that name the command, its data, and the byte in which the device answers.
 *
 *     page 0: descriptors, available ring | next page: used ring | next page: command, data, answer
 *
 * A legacy device expects its ring so (2.7.2), any other takes it.
 * @module
 */
import type { Arena } from '../memory/arena.ts';
import { makeNotifier, setNotification, type Notification } from '../ring/notification.ts';
import { QUEUE_EVENT_IDX, QUEUE_PACKED, Q_OWN_INDEX } from '../ring/queue-layout.ts';
import { EVENT_DISABLE, PACKED_F_BOTH, PACKED_WORD, POSITION_INDEX, POSITION_START, POSITION_WRAP } from '../ring/packed-layout.ts';
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
  EVENT_FAR,
} from '../ring/split-layout.ts';
import { advance, availableFlags } from '../ring/packed-ring.kernel.ts';
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

/** What a descriptor says of a part of a command; the address is an arena offset. */
interface Described {
  readonly offset: number;
  readonly length: number;
  /** DESCRIPTOR_F_NEXT or DESCRIPTOR_F_WRITE. */
  readonly flags: number;
}

export class ControlQueue implements RingPlace {
  /** Descriptors. */
  readonly size: number;
  readonly base: number;
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
  readonly #packed: boolean;
  readonly #kick: () => void;
  readonly #noCalls: number;
  /** Split: the available index. Packed: the position of the next command. */
  #index: number;
  /** Packed: the position of the last command. */
  #last: number | undefined;
  #open = true;

  /**
   * @param size descriptors: a power of two, CONTROL_DESCRIPTORS at least
   * @param features QUEUE_* bits
   */
  constructor(arena: Arena, name: string, size: number, addressOf: AddressOf, features: number) {
    const what = `the control queue of ${name}`;
    this.size = size;
    this.#packed = (features & QUEUE_PACKED) !== 0;
    this.#index = this.#packed ? POSITION_START : 0;
    this.base = this.#index * 0x1_0001;
    this.#arena = arena;
    this.#addressOf = addressOf;
    this.#noCalls = (features & QUEUE_EVENT_IDX) !== 0 ? 0 : AVAILABLE_F_NO_INTERRUPT;
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
    const { u8 } = this.#arena.views;
    // its buffer is still the device's
    if (!this.#isAnswered()) throw new VirtioError(`${command.name}: the command before is still unanswered`, { code: 'EBUSY' });
    const answer = this.#buffer + COMMAND_BYTES + data.length;
    u8.set([command.kind, command.command, ...data, UNANSWERED], this.#buffer);
    const parts = [[this.#buffer, COMMAND_BYTES], ...(data.length === 0 ? [] : [[this.#buffer + COMMAND_BYTES, data.length]])] as const;
    const list = [
      ...parts.map(([offset = 0, length = 0]) => ({ offset, length, flags: DESCRIPTOR_F_NEXT })),
      { offset: answer, length: 1, flags: DESCRIPTOR_F_WRITE },
    ];
    if (this.#packed) this.#postPacked(list);
    else this.#postSplit(list);
    this.#state.set(Q_OWN_INDEX, this.#index);
    this.#kick();
    const end = performance.now() + ANSWER_MILLISECONDS;
    while (!this.#isAnswered()) {
      if (gone()) throw new VirtioError(`${command.name}: the device went`, { code: 'ENODEV' });
      if (performance.now() > end) throw new VirtioError(`no answer to ${command.name} on the control queue`, { code: 'ETIMEDOUT' });
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    const result = u8[answer];
    if (result !== OK) throw new VirtioError(`${command.name}: the device answered ${String(result)}`, { code: 'EPROTO' });
  }

  #isAnswered(): boolean {
    const { i32 } = this.#arena.views;
    if (!this.#packed) return Atomics.load(i32, this.used / 4) >>> 16 === this.#index;
    if (this.#last === undefined) return true;
    const word = Atomics.load(i32, (this.#descriptor(this.#last & POSITION_INDEX) + PACKED_WORD) / 4) >>> 16;
    return (word & PACKED_F_BOTH) === ((this.#last & POSITION_WRAP) !== 0 ? PACKED_F_BOTH : 0);
  }

  #postSplit(list: readonly Described[]): void {
    const { u16, i32 } = this.#arena.views;
    for (const [index, described] of list.entries()) {
      const at = this.#describe(index, described);
      u16[(at + DESCRIPTOR_FLAGS) / 2] = described.flags;
      u16[(at + DESCRIPTOR_NEXT) / 2] = index + 1;
    }
    u16[(this.available + AVAILABLE_RING) / 2 + (this.#index & (this.size - 1))] = 0;
    this.#index = (this.#index + 1) & 0xffff;
    // the answer is polled for: with VIRTIO_F_EVENT_IDX the event says so, and the flags are 0
    u16[(this.available + AVAILABLE_RING) / 2 + this.size] = this.#index + EVENT_FAR;
    // flags and index are one word
    Atomics.store(i32, this.available / 4, (this.#index << 16) | this.#noCalls);
  }

  /** The words from the last to the first: with that one the command is there. */
  #postPacked(list: readonly Described[]): void {
    const { i32 } = this.#arena.views;
    const words: [number, number][] = [];
    this.#last = this.#index;
    Atomics.store(i32, this.available / 4, EVENT_DISABLE << 16);
    for (const described of list) {
      const at = this.#describe(this.#index & POSITION_INDEX, described);
      // the id is 0: there is one command at a time
      words.push([(at + PACKED_WORD) / 4, (described.flags | availableFlags(this.#index)) << 16]);
      this.#index = advance(this.#index, 1, this.size);
    }
    for (const [at, word] of words.reverse()) Atomics.store(i32, at, word);
  }

  #descriptor(index: number): number {
    return this.descriptors + index * DESCRIPTOR_BYTES;
  }

  #describe(index: number, { offset, length }: Described): number {
    const at = this.#descriptor(index);
    const { u32 } = this.#arena.views;
    const { low, high } = this.#addressOf(offset);
    u32[(at + DESCRIPTOR_ADDRESS_LOW) / 4] = low;
    u32[(at + DESCRIPTOR_ADDRESS_HIGH) / 4] = high;
    u32[(at + DESCRIPTOR_LENGTH) / 4] = length;
    return at;
  }

  /** The device must not have it any more. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#state.close();
    this.#arena.published.release(this.#allocation);
  }
}
