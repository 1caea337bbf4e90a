/**
 * The state of a queue of net_pcap: its file, and its buffer.
 * @module
 */
import { CAPTURE_OTHER_LINK_TYPE, CAPTURE_WRITE_FAILED } from '../net/pcap-format.ts';
import {
  FILE_AT,
  FILE_BLOCKS,
  FILE_BUFFER,
  FILE_DESCRIPTOR,
  FILE_END,
  FILE_ENDED,
  FILE_ERRNO,
  FILE_INTERFACES,
  FILE_OTHERS,
  FILE_POSITION,
  FILE_REPEATS,
  FILE_ROOM,
  FILE_SKIP,
  FILE_STATE_BYTES,
  FILE_SWAPPED,
  FILE_WANTS,
} from '../ring/pcap-queue.kernel.ts';
import { Q_DESCRIPTORS } from '../ring/queue-layout.ts';
import { QueueState } from '../ring/virtqueue.ts';
import type { PortContext } from './context.ts';

/** A queue with its file's state and buffer; neither for a queue without a file. */
export class PcapQueue extends QueueState {
  readonly #context: PortContext;
  #file = 0;
  #buffer: { readonly offset: number; readonly own: boolean } | undefined;
  #reported = 0;

  constructor(context: PortContext, name: string, port: number, hasFile: boolean) {
    super(context.arena, name, port);
    this.#context = context;
    if (!hasFile) return;
    try {
      this.#file = context.arena.allocateOwn(FILE_STATE_BYTES, `the file of ${name}`);
    } catch (error) {
      this.close();
      throw error;
    }
    this.set(Q_DESCRIPTORS, this.#file);
  }

  fileGet(field: number): number {
    return this.views.u32[(this.#file + field) >>> 2] ?? 0;
  }

  fileSet(field: number, value: number): void {
    this.views.u32[(this.#file + field) >>> 2] = value;
  }

  /** Offset in the file of the next record to be read. */
  get fileOffset(): number {
    return this.fileGet(FILE_POSITION + 4) * 0x1_0000_0000 + this.fileGet(FILE_POSITION) + this.fileGet(FILE_AT);
  }

  /** Takes room for `bytes` of the file, in the own part or, where that is full, among the packets. */
  takeBuffer(bytes: number, what: string): void {
    this.releaseBuffer();
    const { own, published } = this.#context.arena;
    const inOwn = own.freeBytes > 2 * bytes;
    const offset = (inOwn ? own : published).allocate(bytes, 64, what);
    this.#buffer = { offset, own: inOwn };
    this.fileSet(FILE_BUFFER, offset);
    this.fileSet(FILE_ROOM, bytes);
  }

  releaseBuffer(): void {
    if (this.#buffer === undefined) return;
    const { own, published } = this.#context.arena;
    (this.#buffer.own ? own : published).release(this.#buffer.offset);
    this.#buffer = undefined;
  }

  /** A file begins: everything but the buffer as at first. */
  beginFile(descriptor: number, blocks: boolean): void {
    this.clearError();
    this.#reported = 0;
    const cleared = [FILE_AT, FILE_END, FILE_SWAPPED, FILE_WANTS, FILE_ENDED, FILE_REPEATS, FILE_SKIP, FILE_INTERFACES];
    for (const field of [...cleared, FILE_POSITION, FILE_POSITION + 4, FILE_ERRNO, FILE_OTHERS]) this.fileSet(field, 0);
    this.fileSet(FILE_BLOCKS, blocks ? 1 : 0);
    this.fileSet(FILE_DESCRIPTOR, descriptor);
  }

  /** What a kernel gave up for; failed writes and packets left out too, once a file. */
  override takeError(): number {
    const error = super.takeError();
    if (error !== 0 || this.error !== 0 || this.#file === 0 || this.#reported !== 0) return error;
    if (this.fileGet(FILE_OTHERS) !== 0) this.#reported = CAPTURE_OTHER_LINK_TYPE;
    else if (this.fileGet(FILE_ERRNO) !== 0) this.#reported = CAPTURE_WRITE_FAILED;
    return this.#reported;
  }

  override close(): void {
    this.releaseBuffer();
    if (this.#file !== 0) this.#context.arena.own.release(this.#file);
    this.#file = 0;
    super.close();
  }
}
