/**
 * vhost-user messages: numbers, payloads, and their bytes.
 *
 *     u32 request | u32 flags: version 1 in bits 0-1, reply bit 2, need_reply bit 3 | u32 size | payload
 *
 * All in native byte order, which is little-endian wherever this runs. File descriptors travel beside the first byte.
 * @module
 */

/** Requests of the front-end. */
export const REQUEST = {
  GET_FEATURES: 1,
  SET_FEATURES: 2,
  SET_OWNER: 3,
  RESET_OWNER: 4,
  SET_MEM_TABLE: 5,
  SET_LOG_BASE: 6,
  SET_LOG_FD: 7,
  SET_VRING_NUM: 8,
  SET_VRING_ADDR: 9,
  SET_VRING_BASE: 10,
  GET_VRING_BASE: 11,
  SET_VRING_KICK: 12,
  SET_VRING_CALL: 13,
  SET_VRING_ERR: 14,
  GET_PROTOCOL_FEATURES: 15,
  SET_PROTOCOL_FEATURES: 16,
  GET_QUEUE_NUM: 17,
  SET_VRING_ENABLE: 18,
  SEND_RARP: 19,
  NET_SET_MTU: 20,
  SET_BACKEND_REQ_FD: 21,
  IOTLB_MSG: 22,
  SET_VRING_ENDIAN: 23,
  GET_CONFIG: 24,
  SET_CONFIG: 25,
  RESET_DEVICE: 34,
  GET_MAX_MEM_SLOTS: 36,
  ADD_MEM_REG: 37,
  REM_MEM_REG: 38,
  SET_STATUS: 39,
  GET_STATUS: 40,
} as const;

/** Requests of the back-end, on the channel of SET_BACKEND_REQ_FD. */
export const BACKEND_REQUEST = { IOTLB_MSG: 1 } as const;

const REQUEST_NAMES = new Map<number, string>(Object.entries(REQUEST).map(([name, number]) => [number, name]));

/** `SET_MEM_TABLE` for 5; `request 99` for one without a name here. */
export function requestName(request: number): string {
  return REQUEST_NAMES.get(request) ?? `request ${String(request)}`;
}

/** Protocol feature bits. */
export const PROTOCOL_F = {
  MQ: 1 << 0,
  LOG_SHMFD: 1 << 1,
  RARP: 1 << 2,
  REPLY_ACK: 1 << 3,
  NET_MTU: 1 << 4,
  BACKEND_REQ: 1 << 5,
  CONFIG: 1 << 9,
  RESET_DEVICE: 1 << 13,
  CONFIGURE_MEM_SLOTS: 1 << 15,
  STATUS: 1 << 16,
} as const;

export const HEADER_BYTES = 12;
const VERSION = 1;
const VERSION_MASK = 3;
export const FLAG_REPLY = 4;
export const FLAG_NEED_REPLY = 8;
/** The largest payload of any message handled here is a memory table of eight regions (264 bytes). */
export const PAYLOAD_LIMIT = 1024;
/** Regions of one SET_MEM_TABLE (VHOST_MEMORY_BASELINE_NREGIONS). */
export const REGIONS_PER_TABLE = 8;
/** Bit 8 of the u64 of SET_VRING_KICK, CALL and ERR: no descriptor comes with it. */
export const NO_FD = 0x100;

export interface MessageHeader {
  readonly request: number;
  readonly reply: boolean;
  readonly needReply: boolean;
  readonly version: number;
  readonly size: number;
}

export interface Message {
  readonly request: number;
  readonly reply: boolean;
  readonly needReply: boolean;
  readonly payload: Buffer;
  /** Descriptors that came with it; whoever handles the message owns them. */
  readonly descriptors: readonly number[];
}

export function readHeader(bytes: Buffer): MessageHeader {
  const flags = bytes.readUInt32LE(4);
  return {
    request: bytes.readUInt32LE(0),
    reply: (flags & FLAG_REPLY) !== 0,
    needReply: (flags & FLAG_NEED_REPLY) !== 0,
    version: flags & VERSION_MASK,
    size: bytes.readUInt32LE(8),
  };
}

export function headerIsSupported(header: MessageHeader): boolean {
  return header.version === VERSION;
}

/** A whole message. @param flags FLAG_REPLY or FLAG_NEED_REPLY or 0 */
export function encodeMessage(request: number, flags: number, payload: Uint8Array): Buffer {
  const bytes = Buffer.alloc(HEADER_BYTES + payload.length);
  bytes.writeUInt32LE(request, 0);
  bytes.writeUInt32LE(VERSION | flags, 4);
  bytes.writeUInt32LE(payload.length, 8);
  bytes.set(payload, HEADER_BYTES);
  return bytes;
}

export function encodeU64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(value);
  return bytes;
}

/** struct vhost_vring_state: u32 index, u32 num. */
export function encodeVringState(index: number, value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt32LE(index, 0);
  bytes.writeUInt32LE(value, 4);
  return bytes;
}

/** struct vhost_vring_addr: u32 index, u32 flags, u64 descriptor, used, available, log. Addresses are the front-end's own. */
export interface VringAddress {
  readonly index: number;
  readonly flags: number;
  readonly descriptors: bigint;
  readonly used: bigint;
  readonly available: bigint;
}

export function encodeVringAddress(address: VringAddress): Buffer {
  const bytes = Buffer.alloc(40);
  bytes.writeUInt32LE(address.index, 0);
  bytes.writeUInt32LE(address.flags, 4);
  bytes.writeBigUInt64LE(address.descriptors, 8);
  bytes.writeBigUInt64LE(address.used, 16);
  bytes.writeBigUInt64LE(address.available, 24);
  return bytes;
}

export function decodeVringAddress(payload: Buffer): VringAddress {
  return {
    index: payload.readUInt32LE(0),
    flags: payload.readUInt32LE(4),
    descriptors: payload.readBigUInt64LE(8),
    used: payload.readBigUInt64LE(16),
    available: payload.readBigUInt64LE(24),
  };
}

/** A memory region: u64 guest address, size, user address, offset in the file. */
export interface MemoryRegion {
  readonly guestAddress: bigint;
  readonly size: bigint;
  readonly userAddress: bigint;
  readonly fileOffset: bigint;
}

const REGION_BYTES = 32;

function writeRegion(bytes: Buffer, at: number, region: MemoryRegion): void {
  bytes.writeBigUInt64LE(region.guestAddress, at);
  bytes.writeBigUInt64LE(region.size, at + 8);
  bytes.writeBigUInt64LE(region.userAddress, at + 16);
  bytes.writeBigUInt64LE(region.fileOffset, at + 24);
}

function readRegion(bytes: Buffer, at: number): MemoryRegion {
  return {
    guestAddress: bytes.readBigUInt64LE(at),
    size: bytes.readBigUInt64LE(at + 8),
    userAddress: bytes.readBigUInt64LE(at + 16),
    fileOffset: bytes.readBigUInt64LE(at + 24),
  };
}

/** u32 count, u32 padding, then the regions. */
export function encodeMemoryTable(regions: readonly MemoryRegion[]): Buffer {
  const bytes = Buffer.alloc(8 + REGION_BYTES * regions.length);
  bytes.writeUInt32LE(regions.length, 0);
  for (const [index, region] of regions.entries()) writeRegion(bytes, 8 + REGION_BYTES * index, region);
  return bytes;
}

/** Returns undefined when the count does not fit the payload. */
export function decodeMemoryTable(payload: Buffer): readonly MemoryRegion[] | undefined {
  if (payload.length < 8) return undefined;
  const count = payload.readUInt32LE(0);
  if (count > REGIONS_PER_TABLE || payload.length < 8 + REGION_BYTES * count) return undefined;
  return Array.from({ length: count }, (_, index) => readRegion(payload, 8 + REGION_BYTES * index));
}

/** ADD_MEM_REG and REM_MEM_REG: u64 padding, then one region. */
export function encodeSingleRegion(region: MemoryRegion): Buffer {
  const bytes = Buffer.alloc(8 + REGION_BYTES);
  writeRegion(bytes, 8, region);
  return bytes;
}

export function decodeSingleRegion(payload: Buffer): MemoryRegion | undefined {
  return payload.length < 8 + REGION_BYTES ? undefined : readRegion(payload, 8);
}

/** Types of IOTLB messages. */
export const IOTLB = { MISS: 1, UPDATE: 2, INVALIDATE: 3, ACCESS_FAIL: 4 } as const;
/** Bits of their permission. */
export const IOTLB_READ = 1;
export const IOTLB_WRITE = 2;

/** struct vhost_iotlb_msg: u64 I/O virtual address, size, user address, u8 permission, u8 type, padding to 32 bytes. */
export interface IotlbMessage {
  readonly type: number;
  readonly address: bigint;
  readonly size: bigint;
  readonly userAddress: bigint;
  readonly permission: number;
}

const IOTLB_BYTES = 32;

export function encodeIotlbMessage(message: IotlbMessage): Buffer {
  const bytes = Buffer.alloc(IOTLB_BYTES);
  bytes.writeBigUInt64LE(message.address, 0);
  bytes.writeBigUInt64LE(message.size, 8);
  bytes.writeBigUInt64LE(message.userAddress, 16);
  bytes.writeUInt8(message.permission, 24);
  bytes.writeUInt8(message.type, 25);
  return bytes;
}

/** The padding may be missing. Returns undefined for a shorter payload. */
export function decodeIotlbMessage(payload: Buffer): IotlbMessage | undefined {
  if (payload.length < 26) return undefined;
  return {
    address: payload.readBigUInt64LE(0),
    size: payload.readBigUInt64LE(8),
    userAddress: payload.readBigUInt64LE(16),
    permission: payload.readUInt8(24),
    type: payload.readUInt8(25),
  };
}
