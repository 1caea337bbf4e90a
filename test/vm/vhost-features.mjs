/**
 * Runs inside the test machine: asks /dev/vhost-net and /dev/net/tun for what they can, through our FFI, and prints it as JSON.
 * @module
 */
import { closeSync, openSync } from 'node:fs';
import { bindNative } from '../../dist/system/ffi.js';

/** _IOR(VHOST_VIRTIO, 0x00, __u64) and _IOR('T', 207, unsigned int) */
const VHOST_GET_FEATURES = 0x8008af00;
const TUNGETFEATURES = 0x800454cf;

const ioctl = bindNative('ioctl', 'i32', ['i32', 'i64', 'buffer']);

function ask(path, request, size) {
  const fd = openSync(path, 'r+');
  const answer = Buffer.alloc(8);
  const { value, errno } = ioctl(fd, request, answer.subarray(0, size));
  closeSync(fd);
  if (value !== 0) throw new Error(`${path}: errno ${errno}`);
  return `0x${answer.readBigUInt64LE().toString(16)}`;
}

console.log(JSON.stringify({ vhost: ask('/dev/vhost-net', VHOST_GET_FEATURES, 8), tun: ask('/dev/net/tun', TUNGETFEATURES, 4) }));
