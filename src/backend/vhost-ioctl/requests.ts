/**
 * Requests that the vhost devices of the kernel share, and vhost-net's own (linux/vhost.h). The structs are those that
 * vhost-user took over for its messages, so their bytes are made in vhost-user/messages.ts: struct vhost_memory by
 * encodeMemoryTable, vhost_vring_state by encodeVringState and vhost_vring_addr by encodeVringAddress.
 * @module
 */
import { requestPlain, requestRead, requestWrite } from '../../system/ioctl.ts';

const TYPE = 0xaf;

export const VHOST = {
  GET_FEATURES: requestRead(TYPE, 0x00, 8),
  SET_FEATURES: requestWrite(TYPE, 0x00, 8),
  SET_OWNER: requestPlain(TYPE, 0x01),
  SET_MEM_TABLE: requestWrite(TYPE, 0x03, 8),
  SET_VRING_NUM: requestWrite(TYPE, 0x10, 8),
  SET_VRING_ADDR: requestWrite(TYPE, 0x11, 40),
  SET_VRING_BASE: requestWrite(TYPE, 0x12, 8),
  SET_VRING_KICK: requestWrite(TYPE, 0x20, 8),
  SET_VRING_CALL: requestWrite(TYPE, 0x21, 8),
  NET_SET_BACKEND: requestWrite(TYPE, 0x30, 8),
} as const;

export type VhostRequest = keyof typeof VHOST;

/** Of GET_FEATURES: vhost itself makes and strips the virtio-net header. Never together with a tap that has it. */
export const VHOST_NET_F_VIRTIO_NET_HDR = 1n << 27n;

/** No descriptor, in a struct vhost_vring_file. */
export const NO_FILE = -1;

/** struct vhost_vring_file: u32 ring, i32 descriptor. */
export function encodeVringFile(ring: number, fd: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt32LE(ring, 0);
  bytes.writeInt32LE(fd, 4);
  return bytes;
}
