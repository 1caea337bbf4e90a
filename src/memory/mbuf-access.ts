/**
 * Reading and writing packets by their handles, on any thread: an arena's accessors to what mbuf-layout.ts describes.
 *
 * Only bytes() allocates; everything else is a few loads or stores. A handle is trusted: it comes
 * from a burst that was received or allocated and not yet sent or freed.
 * @module
 */
import { hideFromPrinters, type ArenaViews } from './arena.ts';
import {
  MBUF_BUFFER,
  MBUF_CHECKSUM_OFFSET,
  MBUF_CHECKSUM_START,
  MBUF_DATA,
  MBUF_FLAGS,
  MBUF_HASH,
  MBUF_HEADER_LENGTH,
  MBUF_HEADROOM,
  MBUF_LENGTH,
  MBUF_NEXT,
  MBUF_PORT,
  MBUF_ROOM,
  MBUF_SEGMENT_LENGTH,
  MBUF_SEGMENT_SIZE,
  MBUF_SEGMENTS,
  MBUF_VLAN,
  MBUF_WORK_CHECKSUM,
  MBUF_WORK_SEGMENTS,
  MBUF_WORK_TCP4,
  MBUF_WORK_TCP6,
  MBUF_WORK_UDP,
  MBUF_WORK_VLAN,
} from './mbuf-layout.ts';

const SEGMENTATION = { tcp4: MBUF_WORK_TCP4, tcp6: MBUF_WORK_TCP6, udp: MBUF_WORK_UDP } as const;

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
    hideFromPrinters(this, ['u8', 'u32']);
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

  /** MBUF_* flags of the packet (mbuf-layout.ts): work that is still to be done on it, and what is known about it. */
  flags(packet: number): number {
    return this.u32[(packet + MBUF_FLAGS) >>> 2] ?? 0;
  }

  /** The tag that was taken out of the packet, or is to be put in. */
  vlan(packet: number): number {
    return this.#u16[(packet + MBUF_VLAN) >>> 1] ?? 0;
  }

  /** The flow hash; only where the flags have MBUF_HASH_VALID. */
  hash(packet: number): number {
    return this.u32[(packet + MBUF_HASH) >>> 2] ?? 0;
  }

  /**
   * Leaves the transport checksum to the port, or to software where the port cannot. The field must hold the sum of the pseudo
   * header (not its complement; virtio 1.2, 5.1.6.2).
   * @param start first byte that is summed, from the packet's first; 34 in TCP and UDP over IPv4 without options
   * @param offset of the field from there: 16 in TCP, 6 in UDP
   * @throws RangeError when the field does not lie in the packet
   */
  requestChecksum(packet: number, start: number, offset: number): void {
    if (!(start >= 0 && offset >= 0 && start + offset + 2 <= this.length(packet))) {
      throw new RangeError(`checksum at ${String(start)} + ${String(offset)}: the packet has ${String(this.length(packet))} bytes`);
    }
    this.#u16[(packet + MBUF_CHECKSUM_START) >>> 1] = start;
    this.#u16[(packet + MBUF_CHECKSUM_OFFSET) >>> 1] = offset;
    this.u32[(packet + MBUF_FLAGS) >>> 2] = this.flags(packet) | MBUF_WORK_CHECKSUM;
  }

  /**
   * Leaves it to the port, or to software, to cut the packet; after requestChecksum().
   * @param size bytes of payload of each part, 1..65535
   * @param headers bytes before the payload
   * @throws RangeError
   */
  requestSegmentation(packet: number, kind: 'tcp4' | 'tcp6' | 'udp', size: number, headers: number): void {
    if (!(size >= 1 && size <= 0xffff)) throw new RangeError(`segments of ${String(size)} bytes: use 1..65535`);
    if (!(headers >= 0 && headers <= this.length(packet))) {
      throw new RangeError(`${String(headers)} bytes of headers: the packet has ${String(this.length(packet))} bytes`);
    }
    this.#u16[(packet + MBUF_SEGMENT_SIZE) >>> 1] = size;
    this.#u16[(packet + MBUF_HEADER_LENGTH) >>> 1] = headers;
    this.u32[(packet + MBUF_FLAGS) >>> 2] = (this.flags(packet) & ~MBUF_WORK_SEGMENTS) | SEGMENTATION[kind];
  }

  /**
   * Has a VLAN tag put in when the packet is sent.
   * @param tag tag control information: priority and number, 0..65535
   */
  requestVlan(packet: number, tag: number): void {
    if (!(tag >= 0 && tag <= 0xffff)) throw new RangeError(`VLAN tag ${String(tag)}: use 0..65535`);
    this.#u16[(packet + MBUF_VLAN) >>> 1] = tag;
    this.u32[(packet + MBUF_FLAGS) >>> 2] = this.flags(packet) | MBUF_WORK_VLAN;
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
