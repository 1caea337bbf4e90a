/**
 * Reading and writing packets by their handles, on any thread: an arena's accessors to what mbuf-layout.ts describes.
 *
 * Only bytes() allocates; everything else is a few loads or stores. A handle is trusted: it comes
 * from a burst that was received or allocated and not yet sent or freed.
 * @module
 */
import type { ArenaViews } from './arena.ts';
import {
  MBUF_BUFFER,
  MBUF_DATA,
  MBUF_HEADROOM,
  MBUF_LENGTH,
  MBUF_NEXT,
  MBUF_PORT,
  MBUF_ROOM,
  MBUF_SEGMENT_LENGTH,
  MBUF_SEGMENTS,
} from './mbuf-layout.ts';

export class MbufAccess {
  /** Every byte of the arena: index it with what data() returns. */
  readonly u8: Uint8Array;
  /** The same as 32-bit words; a byte offset divided by 4 is the index. */
  readonly u32: Uint32Array;
  readonly #u16: Uint16Array;

  /** @param views of an arena on this thread: `stream.context.views` in an engine */
  constructor(views: ArenaViews) {
    this.u8 = views.u8;
    this.u32 = views.u32;
    this.#u16 = new Uint16Array(views.u8.buffer);
  }

  /** Bytes of the whole packet. */
  length(packet: number): number {
    return this.u32[(packet + MBUF_LENGTH) >>> 2] ?? 0;
  }

  /** Offset in the arena of the first byte of a packet, or of a later segment. */
  data(mbuf: number): number {
    return this.u32[(mbuf + MBUF_DATA) >>> 2] ?? 0;
  }

  /** Bytes in this segment; the same as length() in a packet of one. */
  segmentLength(mbuf: number): number {
    return this.u32[(mbuf + MBUF_SEGMENT_LENGTH) >>> 2] ?? 0;
  }

  /** Handle of the next segment; 0 after the last. */
  next(mbuf: number): number {
    return this.u32[(mbuf + MBUF_NEXT) >>> 2] ?? 0;
  }

  /** Segments of the packet. */
  segments(packet: number): number {
    return this.#u16[(packet + MBUF_SEGMENTS) >>> 1] ?? 0;
  }

  /** Number of the port that received the packet. */
  port(packet: number): number {
    return this.#u16[(packet + MBUF_PORT) >>> 1] ?? 0;
  }

  /** Bytes that one mbuf takes behind its headroom: 2048 unless the pool was made otherwise. */
  room(mbuf: number): number {
    return (this.u32[(mbuf + MBUF_ROOM) >>> 2] ?? 0) - MBUF_HEADROOM;
  }

  /**
   * The packet's bytes: a view of the arena, or a copy when they lie in several segments. Allocates; a view is valid until
   * the packet is sent or freed.
   */
  bytes(packet: number): Uint8Array {
    const start = this.data(packet);
    if (this.next(packet) === 0) return this.u8.subarray(start, start + this.segmentLength(packet));
    const gathered = new Uint8Array(this.length(packet));
    let done = 0;
    // a chain cannot be longer than its packet: a loop in it ends here
    for (let mbuf = packet; mbuf !== 0 && done < gathered.length; mbuf = this.next(mbuf)) {
      const from = this.data(mbuf);
      const part = this.u8.subarray(from, from + Math.min(this.segmentLength(mbuf), gathered.length - done));
      gathered.set(part, done);
      done += part.length;
    }
    return gathered;
  }

  /**
   * Makes a freshly allocated mbuf a packet of one segment with these bytes.
   * @throws RangeError when they do not fit one mbuf
   */
  write(mbuf: number, bytes: Uint8Array): void {
    this.setLength(mbuf, bytes.length);
    this.u8.set(bytes, this.data(mbuf));
  }

  /**
   * Makes an mbuf a packet of one segment with `length` bytes, whatever they are.
   * @throws RangeError when it has no room for them
   */
  setLength(mbuf: number, length: number): void {
    const end = (this.u32[(mbuf + MBUF_BUFFER) >>> 2] ?? 0) + (this.u32[(mbuf + MBUF_ROOM) >>> 2] ?? 0);
    if (!(length >= 0 && this.data(mbuf) + length <= end)) {
      throw new RangeError(`length ${String(length)}: this mbuf has room for 0..${String(end - this.data(mbuf))} bytes`);
    }
    this.u32[(mbuf + MBUF_LENGTH) >>> 2] = length;
    this.u32[(mbuf + MBUF_SEGMENT_LENGTH) >>> 2] = length;
  }

  /** Hangs `segment` (a chain itself, or one mbuf with its length set) behind `last` of `packet`; returns the new last one. */
  append(packet: number, last: number, segment: number): number {
    this.u32[(last + MBUF_NEXT) >>> 2] = segment;
    const segments = (packet + MBUF_SEGMENTS) >>> 1;
    let end = segment;
    for (;;) {
      this.u32[(packet + MBUF_LENGTH) >>> 2] = this.length(packet) + this.segmentLength(end);
      this.#u16[segments] = (this.#u16[segments] ?? 0) + 1;
      const next = this.next(end);
      if (next === 0) return end;
      end = next;
    }
  }
}
