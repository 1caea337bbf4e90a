/**
 * Capture files, pcap and pcapng: read whole, and written packet by packet.
 *
 * This is the readable side, for tools and tests. Ports read and write the same files by a kernel
 * (ring/pcap-queue.kernel.ts), many packets a call.
 * @module
 */
import { VirtioError } from '../system/error.ts';
import {
  BLOCK_ENHANCED_PACKET,
  BLOCK_INTERFACE,
  BLOCK_OBSOLETE_PACKET,
  BLOCK_SECTION,
  BLOCK_SIMPLE_PACKET,
  BYTE_ORDER_MAGIC,
  CAPTURE_BAD_BLOCK,
  CAPTURE_BAD_INTERFACE,
  CAPTURE_BAD_SECTION,
  CAPTURE_BLOCK_LIMIT,
  CAPTURE_CUT,
  CAPTURE_INTERFACE_LIMIT,
  CAPTURE_PACKET_LIMIT,
  CAPTURE_TOO_LONG,
  CAPTURE_TOO_MANY_INTERFACES,
  ENHANCED_PACKET_BYTES,
  INTERFACE_BYTES,
  LINK_TYPE_ETHERNET,
  PCAP_HEADER_BYTES,
  PCAP_MAGIC_MICROSECONDS,
  PCAP_MAGIC_NANOSECONDS,
  PCAP_RECORD_BYTES,
  SECTION_BYTES,
  SIMPLE_PACKET_BYTES,
} from './pcap-format.ts';

export type CaptureFormat = 'pcap' | 'pcapng';

export interface CapturedPacket {
  /** What was captured: a view of the file's bytes. */
  readonly bytes: Uint8Array;
  /** Bytes that the packet had on the wire; more than were captured when it was cut. */
  readonly length: number;
  /** Time since 1970. */
  readonly seconds: number;
  readonly nanoseconds: number;
  /** LINKTYPE_*: 1 is Ethernet. */
  readonly linkType: number;
}

export interface Capture {
  readonly format: CaptureFormat;
  readonly packets: readonly CapturedPacket[];
  /** Why the rest of the file could not be read, with the offset; undefined when all of it was. */
  readonly problem: string | undefined;
}

/** What the first bytes of a file say. */
export interface CaptureStart {
  readonly format: CaptureFormat;
  /** The file's byte order is not little-endian. */
  readonly swapped: boolean;
  /** pcap: timestamps in nanoseconds. */
  readonly nanoseconds: boolean;
  /** pcap: LINKTYPE_* of all packets; pcapng says it an interface. */
  readonly linkType: number | undefined;
  /** Where records begin. */
  readonly bytes: number;
}

/** Text for CAPTURE_*, without the file's name and the offset. */
export function captureProblem(code: number): string {
  switch (code) {
    case CAPTURE_CUT:
      return 'the file is cut in the middle of a packet; what was before it is used';
    case CAPTURE_TOO_LONG:
      return `a packet of more than ${String(CAPTURE_PACKET_LIMIT)} bytes; the rest is not read`;
    case CAPTURE_BAD_BLOCK:
      return 'a block whose length cannot be; the rest is not read';
    case CAPTURE_BAD_SECTION:
      return 'a section without a byte order, or of another version than 1; the rest is not read';
    case CAPTURE_BAD_INTERFACE:
      return 'a packet of an interface that is not described; the rest is not read';
    case CAPTURE_TOO_MANY_INTERFACES:
      return `more than ${String(CAPTURE_INTERFACE_LIMIT)} interfaces; the rest is not read`;
    default:
      return `problem ${String(code)}`;
  }
}

/**
 * Recognises a file by its first bytes (24 are enough).
 * @param name of the file, for the message
 * @throws VirtioError EINVAL when it is neither pcap nor pcapng
 */
export function captureStart(name: string, bytes: Uint8Array): CaptureStart {
  const view = viewOf(bytes);
  const refuse = (text: string): VirtioError => new VirtioError(`${name}: ${text}`, { code: 'EINVAL' });
  if (bytes.length === 0) throw refuse('the file is empty; a capture file has a header at least');
  const first = bytes.length < 4 ? 0 : view.getUint32(0, true);
  if (first === BLOCK_SECTION) {
    if (bytes.length < 12) throw refuse(`the file ends after ${String(bytes.length)} bytes, within its pcapng section header`);
    const swapped = view.getUint32(8, true) !== BYTE_ORDER_MAGIC;
    if (swapped && view.getUint32(8, false) !== BYTE_ORDER_MAGIC) throw refuse('a pcapng section header without a byte order');
    return { format: 'pcapng', swapped, nanoseconds: false, linkType: undefined, bytes: 0 };
  }
  for (const littleEndian of [true, false]) {
    const magic = bytes.length < 4 ? 0 : view.getUint32(0, littleEndian);
    if (magic !== PCAP_MAGIC_MICROSECONDS && magic !== PCAP_MAGIC_NANOSECONDS) continue;
    if (bytes.length < PCAP_HEADER_BYTES) throw refuse(`the file ends after ${String(bytes.length)} bytes, within its pcap header`);
    const major = view.getUint16(4, littleEndian);
    if (major !== 2) throw refuse(`pcap version ${String(major)}.${String(view.getUint16(6, littleEndian))}; only 2.x is known`);
    // the upper bits say whether frames end with their check sequence
    const linkType = view.getUint32(20, littleEndian) & 0xffff;
    return { format: 'pcap', swapped: !littleEndian, nanoseconds: magic === PCAP_MAGIC_NANOSECONDS, linkType, bytes: PCAP_HEADER_BYTES };
  }
  const seen = [...bytes.subarray(0, 4)].map((byte) => byte.toString(16).padStart(2, '0')).join(' ');
  throw refuse(`neither pcap nor pcapng: it begins with ${seen}`);
}

/**
 * Reads a capture file, both kinds, both byte orders. What is wrong in the middle ends the reading and is said in `problem`.
 * @param name of the file, for messages
 * @throws VirtioError EINVAL when it is neither pcap nor pcapng
 */
export function readCapture(name: string, bytes: Uint8Array): Capture {
  const start = captureStart(name, bytes);
  const packets: CapturedPacket[] = [];
  const end = start.format === 'pcap' ? readRecords(start, bytes, packets) : readBlocks(bytes, packets);
  const problem = end.code === 0 ? undefined : `${name}: at byte ${String(end.offset)}: ${captureProblem(end.code)}`;
  return { format: start.format, packets, problem };
}

interface End {
  /** CAPTURE_*, or 0. */
  readonly code: number;
  readonly offset: number;
}

function readRecords(start: CaptureStart, bytes: Uint8Array, packets: CapturedPacket[]): End {
  const view = viewOf(bytes);
  const little = !start.swapped;
  let offset = start.bytes;
  while (offset < bytes.length) {
    if (bytes.length - offset < PCAP_RECORD_BYTES) return { code: CAPTURE_CUT, offset };
    const captured = view.getUint32(offset + 8, little);
    if (captured > CAPTURE_PACKET_LIMIT) return { code: CAPTURE_TOO_LONG, offset };
    const data = offset + PCAP_RECORD_BYTES;
    if (bytes.length - data < captured) return { code: CAPTURE_CUT, offset };
    const fraction = view.getUint32(offset + 4, little);
    packets.push({
      bytes: bytes.subarray(data, data + captured),
      length: view.getUint32(offset + 12, little),
      seconds: view.getUint32(offset, little),
      nanoseconds: start.nanoseconds ? fraction : fraction * 1000,
      linkType: start.linkType ?? 0,
    });
    offset = data + captured;
  }
  return { code: 0, offset };
}

interface CaptureInterface {
  readonly linkType: number;
  readonly snapLength: number;
  /** Timestamp units a second. */
  readonly unit: bigint;
  /** Seconds to add. */
  readonly since: bigint;
}

function readBlocks(bytes: Uint8Array, packets: CapturedPacket[]): End {
  const view = viewOf(bytes);
  let little = true;
  let interfaces: CaptureInterface[] = [];
  let offset = 0;
  while (offset < bytes.length) {
    const left = bytes.length - offset;
    if (left < 12) return { code: CAPTURE_CUT, offset };
    const isSection = view.getUint32(offset, true) === BLOCK_SECTION;
    if (isSection) {
      if (left < SECTION_BYTES) return { code: CAPTURE_CUT, offset };
      little = view.getUint32(offset + 8, true) === BYTE_ORDER_MAGIC;
      if (view.getUint32(offset + 8, little) !== BYTE_ORDER_MAGIC || view.getUint16(offset + 12, little) !== 1)
        return { code: CAPTURE_BAD_SECTION, offset };
      interfaces = [];
    }
    const type = view.getUint32(offset, little);
    const total = view.getUint32(offset + 4, little);
    const least = isSection ? SECTION_BYTES : leastBytes(type);
    if (total < least || total % 4 !== 0) return { code: CAPTURE_BAD_BLOCK, offset };
    if (least > 12 && !isSection) {
      if (total > CAPTURE_BLOCK_LIMIT) return { code: CAPTURE_TOO_LONG, offset };
      if (total > left) return { code: CAPTURE_CUT, offset };
      if (view.getUint32(offset + total - 4, little) !== total) return { code: CAPTURE_BAD_BLOCK, offset };
      if (type === BLOCK_INTERFACE) {
        if (interfaces.length === CAPTURE_INTERFACE_LIMIT) return { code: CAPTURE_TOO_MANY_INTERFACES, offset };
        interfaces.push(readInterface(view, offset, total, little));
      } else {
        const read = readPacketBlock(bytes, view, { offset, type, total, little }, interfaces);
        if (typeof read === 'number') return { code: read, offset };
        packets.push(read);
      }
    }
    if (total > left) return { code: CAPTURE_CUT, offset };
    offset += total;
  }
  return { code: 0, offset };
}

function leastBytes(type: number): number {
  switch (type) {
    case BLOCK_INTERFACE:
      return INTERFACE_BYTES;
    case BLOCK_SIMPLE_PACKET:
      return SIMPLE_PACKET_BYTES;
    case BLOCK_ENHANCED_PACKET:
    case BLOCK_OBSOLETE_PACKET:
      return ENHANCED_PACKET_BYTES;
    default:
      return 12;
  }
}

const OPTION_END = 0;
const OPTION_INTERFACE_NAME = 2;
const OPTION_RESOLUTION = 9;
const OPTION_TIME_OFFSET = 14;

function readInterface(view: DataView, offset: number, total: number, little: boolean): CaptureInterface {
  let unit = 1_000_000n;
  let since = 0n;
  const end = offset + total - 4;
  for (let at = offset + 16; at + 4 <= end;) {
    const code = view.getUint16(at, little);
    const length = view.getUint16(at + 2, little);
    if (code === OPTION_END || at + 4 + length > end) break;
    if (code === OPTION_RESOLUTION && length >= 1) {
      const exponent = view.getUint8(at + 4);
      unit = exponent < 128 ? 10n ** BigInt(exponent) : 2n ** BigInt(exponent & 127);
    }
    if (code === OPTION_TIME_OFFSET && length >= 8) since = view.getBigInt64(at + 4, little);
    at += 4 + ((length + 3) & ~3);
  }
  return { linkType: view.getUint16(offset + 8, little), snapLength: view.getUint32(offset + 12, little), unit, since };
}

interface Block {
  readonly offset: number;
  readonly type: number;
  readonly total: number;
  readonly little: boolean;
}

/** The packet, or CAPTURE_*. */
function readPacketBlock(
  bytes: Uint8Array,
  view: DataView,
  { offset, type, total, little }: Block,
  interfaces: readonly CaptureInterface[],
): CapturedPacket | number {
  const simple = type === BLOCK_SIMPLE_PACKET;
  const id = simple ? 0 : type === BLOCK_OBSOLETE_PACKET ? view.getUint16(offset + 8, little) : view.getUint32(offset + 8, little);
  const from = interfaces[id];
  if (from === undefined) return CAPTURE_BAD_INTERFACE;
  const data = offset + (simple ? 12 : 28);
  const room = total - (simple ? SIMPLE_PACKET_BYTES : ENHANCED_PACKET_BYTES);
  const length = view.getUint32(offset + (simple ? 8 : 24), little);
  let captured = simple ? Math.min(length, room) : view.getUint32(offset + 20, little);
  if (simple && from.snapLength !== 0) captured = Math.min(captured, from.snapLength);
  if (captured > CAPTURE_PACKET_LIMIT) return CAPTURE_TOO_LONG;
  if (captured > room) return CAPTURE_BAD_BLOCK;
  let seconds = 0n;
  let nanoseconds = 0n;
  if (!simple) {
    const ticks = (BigInt(view.getUint32(offset + 12, little)) << 32n) | BigInt(view.getUint32(offset + 16, little));
    seconds = ticks / from.unit + from.since;
    nanoseconds = ((ticks % from.unit) * 1_000_000_000n) / from.unit;
  }
  return {
    bytes: bytes.subarray(data, data + captured),
    length,
    seconds: Number(seconds),
    nanoseconds: Number(nanoseconds),
    linkType: from.linkType,
  };
}

/** What a file's header may say of where its packets come from. */
export interface CaptureSource {
  /** Name of the interface; pcapng only. */
  readonly name?: string | undefined;
  /** Bytes of a packet that are kept, at most. Default 262144. */
  readonly snapLength?: number | undefined;
}

/** The beginning of a file of Ethernet packets: little-endian, nanoseconds. */
export function captureHeader(format: CaptureFormat, source: CaptureSource = {}): Uint8Array {
  const snapLength = source.snapLength ?? CAPTURE_PACKET_LIMIT;
  if (format === 'pcap') {
    const header = new Uint8Array(PCAP_HEADER_BYTES);
    const view = viewOf(header);
    view.setUint32(0, PCAP_MAGIC_NANOSECONDS, true);
    view.setUint16(4, 2, true);
    view.setUint16(6, 4, true);
    view.setUint32(16, snapLength, true);
    view.setUint32(20, LINK_TYPE_ETHERNET, true);
    return header;
  }
  const name = Buffer.from(source.name ?? '', 'utf8');
  const nameBytes = name.length === 0 ? 0 : 4 + ((name.length + 3) & ~3);
  const description = INTERFACE_BYTES + 12 + nameBytes;
  const header = new Uint8Array(SECTION_BYTES + description);
  const view = viewOf(header);
  view.setUint32(0, BLOCK_SECTION, true);
  view.setUint32(4, SECTION_BYTES, true);
  view.setUint32(8, BYTE_ORDER_MAGIC, true);
  view.setUint16(12, 1, true);
  // length of the section: not known
  view.setInt32(16, -1, true);
  view.setInt32(20, -1, true);
  view.setUint32(24, SECTION_BYTES, true);
  view.setUint32(28, BLOCK_INTERFACE, true);
  view.setUint32(32, description, true);
  view.setUint16(36, LINK_TYPE_ETHERNET, true);
  view.setUint32(40, snapLength, true);
  let option = 44;
  if (nameBytes !== 0) {
    view.setUint16(option, OPTION_INTERFACE_NAME, true);
    view.setUint16(option + 2, name.length, true);
    header.set(name, option + 4);
    option += nameBytes;
  }
  view.setUint16(option, OPTION_RESOLUTION, true);
  view.setUint16(option + 2, 1, true);
  view.setUint8(option + 4, 9);
  view.setUint32(SECTION_BYTES + description - 4, description, true);
  return header;
}

/**
 * One packet as it follows in a file that captureHeader() began.
 * @throws RangeError when it is longer than 262144 bytes
 */
export function captureRecord(format: CaptureFormat, packet: Uint8Array, seconds: number, nanoseconds: number): Uint8Array {
  if (packet.length > CAPTURE_PACKET_LIMIT)
    throw new RangeError(`packet of ${String(packet.length)} bytes: a capture file takes ${String(CAPTURE_PACKET_LIMIT)}`);
  if (format === 'pcap') {
    const record = new Uint8Array(PCAP_RECORD_BYTES + packet.length);
    const view = viewOf(record);
    view.setUint32(0, seconds, true);
    view.setUint32(4, nanoseconds, true);
    view.setUint32(8, packet.length, true);
    view.setUint32(12, packet.length, true);
    record.set(packet, PCAP_RECORD_BYTES);
    return record;
  }
  const total = ENHANCED_PACKET_BYTES + ((packet.length + 3) & ~3);
  const block = new Uint8Array(total);
  const view = viewOf(block);
  const ticks = BigInt(seconds) * 1_000_000_000n + BigInt(nanoseconds);
  view.setUint32(0, BLOCK_ENHANCED_PACKET, true);
  view.setUint32(4, total, true);
  view.setUint32(12, Number(ticks >> 32n), true);
  view.setUint32(16, Number(ticks & 0xffff_ffffn), true);
  view.setUint32(20, packet.length, true);
  view.setUint32(24, packet.length, true);
  block.set(packet, 28);
  view.setUint32(total - 4, total, true);
  return block;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
