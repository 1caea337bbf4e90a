/**
 * The bytes of vhost-user messages, written independently of the library's own encoder so that the two check each other.
 *
 * Layout: u32 request, u32 flags (version 1 in bits 0-1, reply in bit 2, need_reply in bit 3), u32 payload size, payload. Little-endian.
 * The sequence of an honest front-end is that of DPDK 22.11's virtio_user against its net_vhost, seen on the socket.
 * @module
 */

export const Request = {
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
  GET_CONFIG: 24,
  SET_CONFIG: 25,
  CREATE_CRYPTO_SESSION: 26,
  POSTCOPY_ADVISE: 28,
  GET_INFLIGHT_FD: 31,
  SET_INFLIGHT_FD: 32,
  GET_MAX_MEM_SLOTS: 36,
  ADD_MEM_REG: 37,
  REM_MEM_REG: 38,
  SET_STATUS: 39,
  GET_STATUS: 40,
} as const;

export const VERSION = 1;
export const REPLY = 4;
export const NEED_REPLY = 8;
/** In the u64 of SET_VRING_KICK, CALL and ERR: no descriptor comes with the message. */
export const NO_DESCRIPTOR = 0x100;

export const HEADER_BYTES = 12;

export const Feature = {
  MRG_RXBUF: 1n << 15n,
  CTRL_VQ: 1n << 17n,
  MQ: 1n << 22n,
  RING_INDIRECT_DESC: 1n << 28n,
  PROTOCOL_FEATURES: 1n << 30n,
  VERSION_1: 1n << 32n,
  ACCESS_PLATFORM: 1n << 33n,
  RING_PACKED: 1n << 34n,
  IN_ORDER: 1n << 35n,
} as const;

export const ProtocolFeature = { MQ: 1n << 0n, REPLY_ACK: 1n << 3n, BACKEND_REQ: 1n << 5n, STATUS: 1n << 16n } as const;

export interface MemoryRegion {
  readonly guest: bigint;
  readonly size: bigint;
  readonly user: bigint;
  readonly offset: bigint;
}

export interface RingAddresses {
  readonly descriptors: bigint;
  readonly available: bigint;
  readonly used: bigint;
}

/** A whole message. `size` is what its header says, when that is to be a lie. */
export function message(request: number, payload: Uint8Array = new Uint8Array(), flags = VERSION, size = payload.length): Buffer {
  const bytes = Buffer.alloc(HEADER_BYTES + payload.length);
  bytes.writeUInt32LE(request, 0);
  bytes.writeUInt32LE(flags, 4);
  bytes.writeUInt32LE(size, 8);
  bytes.set(payload, HEADER_BYTES);
  return bytes;
}

export function u64(value: bigint | number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

/** struct vhost_vring_state: index and number. */
export function ringState(index: number, number: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt32LE(index, 0);
  bytes.writeUInt32LE(number, 4);
  return bytes;
}

/** struct vhost_vring_addr. */
export function ringAddresses(index: number, { descriptors, available, used }: RingAddresses): Buffer {
  return Buffer.concat([ringState(index, 0), u64(descriptors), u64(used), u64(available), u64(0)]);
}

/** The table of SET_MEM_TABLE. `count` is what it says it holds, when that is to be a lie. */
export function memoryTable(regions: readonly MemoryRegion[], count = regions.length): Buffer {
  return Buffer.concat([ringState(count, 0), ...regions.map(memoryRegion)]);
}

export function memoryRegion({ guest, size, user, offset }: MemoryRegion): Buffer {
  return Buffer.concat([u64(guest), u64(size), u64(user), u64(offset)]);
}

export const IotlbType = { MISS: 1, UPDATE: 2, INVALIDATE: 3, ACCESS_FAIL: 4 } as const;

export interface IotlbFields {
  readonly type: number;
  readonly address: bigint;
  readonly size?: bigint;
  readonly user?: bigint;
  readonly permission?: number;
}

/** struct vhost_iotlb_msg. */
export function iotlbMessage({ type, address, size = 0n, user = 0n, permission = 0 }: IotlbFields): Buffer {
  return Buffer.concat([u64(address), u64(size), u64(user), Uint8Array.of(permission, type, 0, 0, 0, 0, 0, 0)]);
}
