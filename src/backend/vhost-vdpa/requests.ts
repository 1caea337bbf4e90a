/**
 * Requests of /dev/vhost-vdpa-N by their names in linux/vhost.h, the structs that only they have, and the messages that are
 * written to the device (linux/vhost_types.h). The structs that all vhost devices share are in vhost-user/messages.ts and
 * vhost-ioctl/requests.ts.
 * @module
 */
import { requestPlain, requestRead, requestWrite } from '../../system/ioctl.ts';
import { VHOST } from '../vhost-ioctl/requests.ts';

const TYPE = 0xaf;
const CONFIG_HEADER_BYTES = 8;

export const VDPA = {
  VHOST_GET_FEATURES: VHOST.GET_FEATURES,
  VHOST_SET_FEATURES: VHOST.SET_FEATURES,
  VHOST_SET_OWNER: VHOST.SET_OWNER,
  VHOST_SET_VRING_NUM: VHOST.SET_VRING_NUM,
  VHOST_SET_VRING_ADDR: VHOST.SET_VRING_ADDR,
  VHOST_SET_VRING_BASE: VHOST.SET_VRING_BASE,
  VHOST_SET_VRING_KICK: VHOST.SET_VRING_KICK,
  VHOST_SET_VRING_CALL: VHOST.SET_VRING_CALL,
  VHOST_SET_BACKEND_FEATURES: requestWrite(TYPE, 0x25, 8),
  VHOST_GET_BACKEND_FEATURES: requestRead(TYPE, 0x26, 8),
  VHOST_VDPA_GET_DEVICE_ID: requestRead(TYPE, 0x70, 4),
  VHOST_VDPA_GET_STATUS: requestRead(TYPE, 0x71, 1),
  VHOST_VDPA_SET_STATUS: requestWrite(TYPE, 0x72, 1),
  VHOST_VDPA_GET_CONFIG: requestRead(TYPE, 0x73, CONFIG_HEADER_BYTES),
  VHOST_VDPA_SET_CONFIG: requestWrite(TYPE, 0x74, CONFIG_HEADER_BYTES),
  VHOST_VDPA_SET_VRING_ENABLE: requestWrite(TYPE, 0x75, 8),
  VHOST_VDPA_GET_VRING_NUM: requestRead(TYPE, 0x76, 2),
  VHOST_VDPA_SET_CONFIG_CALL: requestWrite(TYPE, 0x77, 4),
  VHOST_VDPA_GET_IOVA_RANGE: requestRead(TYPE, 0x78, 16),
  VHOST_VDPA_GET_CONFIG_SIZE: requestRead(TYPE, 0x79, 4),
  VHOST_VDPA_SUSPEND: requestPlain(TYPE, 0x7d),
  VHOST_VDPA_GET_VQS_COUNT: requestRead(TYPE, 0x80, 4),
} as const;

export type VdpaRequest = keyof typeof VDPA;

const backendBit = (number: number): bigint => 1n << BigInt(number);

/** Bits of GET_BACKEND_FEATURES and SET_BACKEND_FEATURES. */
export const VHOST_BACKEND_F_IOTLB_MSG_V2 = backendBit(1);
export const VHOST_BACKEND_F_IOTLB_BATCH = backendBit(2);
export const VHOST_BACKEND_F_SUSPEND = backendBit(4);

/** struct vhost_vdpa_config: u32 offset, u32 length, then the bytes, which the kernel fills or reads. */
export function encodeConfig(offset: number, content: Uint8Array): Buffer {
  const bytes = Buffer.alloc(CONFIG_HEADER_BYTES + content.length);
  bytes.writeUInt32LE(offset, 0);
  bytes.writeUInt32LE(content.length, 4);
  bytes.set(content, CONFIG_HEADER_BYTES);
  return bytes;
}

export function decodeConfig(bytes: Buffer): Buffer {
  return bytes.subarray(CONFIG_HEADER_BYTES);
}

/** struct vhost_vdpa_iova_range: u64 first, u64 last; both may be mapped. */
export interface IovaRange {
  readonly first: bigint;
  readonly last: bigint;
}

export function decodeIovaRange(bytes: Buffer): IovaRange {
  return { first: bytes.readBigUInt64LE(0), last: bytes.readBigUInt64LE(8) };
}

/** Type of a struct vhost_iotlb_msg. */
export const IOTLB = { UPDATE: 2, INVALIDATE: 3, BATCH_BEGIN: 5, BATCH_END: 6 } as const;

export type IotlbType = keyof typeof IOTLB;

const IOTLB_MESSAGE_V1 = 1;
const IOTLB_MESSAGE_V2 = 2;
const IOTLB_MESSAGE_BYTES = 72;
const ACCESS_READ_WRITE = 3;

/** What of the driver's memory the device sees at which of its addresses. */
export interface IotlbMapping {
  readonly iova: number;
  readonly bytes: number;
  readonly userAddress: number;
}

/**
 * struct vhost_msg_v2: u32 type 2, u32 address space, then struct vhost_iotlb_msg: u64 iova, size, address, u8 access, u8
 * type; 72 bytes with padding. struct vhost_msg, the older one, has type 1 and padding where the address space is.
 */
export function encodeIotlbMessage(type: IotlbType, mapping: IotlbMapping | undefined, version2: boolean): Buffer {
  const bytes = Buffer.alloc(IOTLB_MESSAGE_BYTES);
  bytes.writeUInt32LE(version2 ? IOTLB_MESSAGE_V2 : IOTLB_MESSAGE_V1, 0);
  if (mapping !== undefined) {
    bytes.writeBigUInt64LE(BigInt(mapping.iova), 8);
    bytes.writeBigUInt64LE(BigInt(mapping.bytes), 16);
    if (type === 'UPDATE') {
      bytes.writeBigUInt64LE(BigInt(mapping.userAddress), 24);
      bytes.writeUInt8(ACCESS_READ_WRITE, 32);
    }
  }
  bytes.writeUInt8(IOTLB[type], 33);
  return bytes;
}
