/**
 * Unix stream sockets that carry file descriptors (SCM_RIGHTS); Node's own cannot.
 *
 * Everything is non-blocking: a peer that sends half a message and falls silent holds up nobody. Wait with readiness.ts.
 * @module
 */
import { closeSync, fstatSync, lstatSync, readlinkSync, unlinkSync } from 'node:fs';
import { VirtioError } from './error.ts';
import { bindNative, errnoName, errnoText, systemError } from './ffi.ts';
import { addressOf } from './memory-map.ts';

const AF_UNIX = 1;
const SOCK_STREAM_NONBLOCK_CLOEXEC = 1 | 0x800 | 0x80000;
const SOCK_NONBLOCK_CLOEXEC = 0x800 | 0x80000;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x40000000;
const MSG_CTRUNC = 0x8;
const F_GETFL = 3;
const F_SETFL = 4;
const O_NONBLOCK = 0x800;

/** sun_path is 108 bytes with its NUL (unix(7)). */
const MAX_PATH_BYTES = 107;
/** Room for this many descriptors with one message; more makes the kernel set MSG_CTRUNC. */
export const MAX_DESCRIPTORS = 32;

const native = {
  socket: bindNative('socket', 'i32', ['i32', 'i32', 'i32']),
  bind: bindNative('bind', 'i32', ['i32', 'buffer', 'i32']),
  listen: bindNative('listen', 'i32', ['i32', 'i32']),
  accept4: bindNative('accept4', 'i32', ['i32', 'i64', 'i64', 'i32']),
  connect: bindNative('connect', 'i32', ['i32', 'buffer', 'i32']),
  sendmsg: bindNative('sendmsg', 'i64', ['i32', 'buffer', 'i32']),
  recvmsg: bindNative('recvmsg', 'i64', ['i32', 'buffer', 'i32']),
  fcntl: bindNative('fcntl', 'i32', ['i32', 'i32', 'i64']),
  socketpair: bindNative('socketpair', 'i32', ['i32', 'i32', 'i32', 'buffer']),
};

// struct msghdr, 56 bytes: name 0, namelen 8, iov 16, iovlen 24, control 32, controllen 40, flags 48
const MSGHDR_BYTES = 56;
// struct cmsghdr, 16 bytes: len 0 (u64, header included), level 8, type 12; data follows
const CMSG_HEADER_BYTES = 16;
const CONTROL_BYTES = CMSG_HEADER_BYTES + 4 * MAX_DESCRIPTORS;

function socketAddress(path: string): Uint8Array {
  const bytes = Buffer.from(path, 'utf8');
  if (bytes.length === 0) throw new VirtioError('socket path is empty', { code: 'EINVAL' });
  if (bytes.length > MAX_PATH_BYTES) {
    throw new VirtioError(
      `socket path ${path}: ${String(bytes.length)} bytes, and a Unix socket's path has at most ${String(MAX_PATH_BYTES)}`,
      {
        code: 'ENAMETOOLONG',
      },
    );
  }
  const address = Buffer.alloc(2 + 108);
  address.writeUInt16LE(AF_UNIX, 0);
  bytes.copy(address, 2);
  return address.subarray(0, 2 + bytes.length + 1);
}

function createSocket(path: string): number {
  const { value, errno } = native.socket(AF_UNIX, SOCK_STREAM_NONBLOCK_CLOEXEC, 0);
  if (value < 0) throw systemError(`socket for ${path}`, 'socket', errno);
  return value;
}

export interface Listener {
  readonly fd: number;
  readonly path: string;
  /** Closes the socket and removes its file, if the file is still this socket's. */
  close(): void;
}

/**
 * Listens at `path`. A socket file that nobody listens on any more is removed first.
 * @throws VirtioError EADDRINUSE when somebody listens there, EEXIST when the path is not a socket
 */
export function listenUnix(path: string, backlog = 8): Listener {
  const address = socketAddress(path);
  const existing = lstatSync(path, { throwIfNoEntry: false });
  if (existing !== undefined) {
    if (!existing.isSocket()) {
      throw new VirtioError(`${path} exists and is not a socket; remove it or choose another path`, { code: 'EEXIST', syscall: 'bind' });
    }
    const probe = createSocket(path);
    const { value, errno } = native.connect(probe, address, address.length);
    closeSync(probe);
    const code = value < 0 ? errnoName(errno) : '';
    if (value === 0 || code === 'EAGAIN') {
      throw new VirtioError(`${path}: another process or port listens there; end it or choose another path`, {
        code: 'EADDRINUSE',
        syscall: 'bind',
      });
    }
    if (code === 'ECONNREFUSED') unlinkSync(path);
  }
  const fd = createSocket(path);
  try {
    const bound = native.bind(fd, address, address.length);
    if (bound.value < 0) {
      const hint = errnoName(bound.errno) === 'ENOENT' ? ' (does its directory exist?)' : '';
      throw systemError(`socket ${path}${hint}`, 'bind', bound.errno);
    }
    const listening = native.listen(fd, backlog);
    if (listening.value < 0) throw systemError(`socket ${path}`, 'listen', listening.errno);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  const inode = lstatSync(path).ino;
  let open = true;
  const listener: Listener = {
    fd,
    path,
    close() {
      if (!open) return;
      open = false;
      process.removeListener('exit', removeFile);
      closeSync(fd);
      if (lstatSync(path, { throwIfNoEntry: false })?.ino === inode) unlinkSync(path);
    },
  };
  // an uncaught error ends the process without a close()
  const removeFile = (): void => {
    listener.close();
  };
  process.on('exit', removeFile);
  return listener;
}

/** Takes the next waiting connection, or returns undefined when there is none. */
export function acceptUnix(listener: Listener): number | undefined {
  const { value, errno } = native.accept4(listener.fd, 0, 0, SOCK_NONBLOCK_CLOEXEC);
  if (value >= 0) return value;
  const code = errnoName(errno);
  if (code === 'EAGAIN' || code === 'ECONNABORTED' || code === 'EINTR') return undefined;
  throw systemError(`connection to ${listener.path}`, 'accept4', errno);
}

/**
 * Connects to the socket at `path`.
 * @throws VirtioError ENOENT or ECONNREFUSED when nobody listens, EAGAIN when the listener's queue is full
 */
export function connectUnix(path: string): number {
  const address = socketAddress(path);
  const fd = createSocket(path);
  const { value, errno } = native.connect(fd, address, address.length);
  if (value === 0) return fd;
  closeSync(fd);
  const code = errnoName(errno);
  throw new VirtioError(`connect to ${path}: ${errnoText(code)}`, { code, syscall: 'connect', errno });
}

/** Two sockets that are connected with each other: one to keep, one for a process that is started. */
export function unixSocketPair(what: string): readonly [number, number] {
  const pair = new Int32Array(2);
  const { value, errno } = native.socketpair(AF_UNIX, SOCK_STREAM_NONBLOCK_CLOEXEC, 0, new Uint8Array(pair.buffer));
  if (value < 0) throw systemError(what, 'socketpair', errno);
  return [pair[0] ?? -1, pair[1] ?? -1];
}

/** What one recvmsg brought. `bytes` 0 means that the peer closed its end. */
export interface Received {
  readonly bytes: number;
  readonly descriptors: readonly number[];
  /** More descriptors came than there was room for; the kernel dropped the rest. */
  readonly truncated: boolean;
}

const iov = Buffer.alloc(16);
const control = Buffer.alloc(CONTROL_BYTES);
const header = Buffer.alloc(MSGHDR_BYTES);
const iovAddress = addressOf(iov);
const controlAddress = addressOf(control);

function fillHeader(data: Uint8Array, controlLength: number): void {
  iov.writeBigUInt64LE(BigInt(addressOf(data)), 0);
  iov.writeBigUInt64LE(BigInt(data.length), 8);
  header.fill(0);
  header.writeBigUInt64LE(BigInt(iovAddress), 16);
  header.writeBigUInt64LE(1n, 24);
  if (controlLength > 0) {
    header.writeBigUInt64LE(BigInt(controlAddress), 32);
    header.writeBigUInt64LE(BigInt(controlLength), 40);
  }
}

/**
 * Sends bytes, with descriptors attached to the first of them. Returns how many bytes went out (0: the socket is full).
 * @throws VirtioError EPIPE or ECONNRESET when the peer is gone
 */
export function sendUnix(fd: number, peer: string, data: Uint8Array, descriptors: readonly number[] = []): number {
  let controlLength = 0;
  if (descriptors.length > 0) {
    control.fill(0);
    control.writeBigUInt64LE(BigInt(CMSG_HEADER_BYTES + 4 * descriptors.length), 0);
    control.writeInt32LE(SOL_SOCKET, 8);
    control.writeInt32LE(SCM_RIGHTS, 12);
    for (const [index, descriptor] of descriptors.entries()) control.writeInt32LE(descriptor, CMSG_HEADER_BYTES + 4 * index);
    controlLength = CMSG_HEADER_BYTES + 8 * Math.ceil((4 * descriptors.length) / 8);
  }
  fillHeader(data, controlLength);
  const { value, errno } = native.sendmsg(fd, header, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (value >= 0) return value;
  if (errnoName(errno) === 'EAGAIN') return 0;
  throw systemError(`message to ${peer}`, 'sendmsg', errno);
}

/**
 * Receives into `data`. Returns undefined when nothing is there.
 * @throws VirtioError ECONNRESET when the peer is gone
 */
export function receiveUnix(fd: number, peer: string, data: Uint8Array): Received | undefined {
  control.fill(0);
  fillHeader(data, CONTROL_BYTES);
  const { value, errno } = native.recvmsg(fd, header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (value < 0) {
    if (errnoName(errno) === 'EAGAIN') return undefined;
    throw systemError(`message from ${peer}`, 'recvmsg', errno);
  }
  const descriptors: number[] = [];
  const controlLength = Number(header.readBigUInt64LE(40));
  for (let at = 0; at + CMSG_HEADER_BYTES <= controlLength;) {
    const length = Number(control.readBigUInt64LE(at));
    if (length < CMSG_HEADER_BYTES) break;
    if (control.readInt32LE(at + 8) === SOL_SOCKET && control.readInt32LE(at + 12) === SCM_RIGHTS) {
      for (let item = at + CMSG_HEADER_BYTES; item + 4 <= Math.min(at + length, controlLength); item += 4) {
        descriptors.push(control.readInt32LE(item));
      }
    }
    at += 8 * Math.ceil(length / 8);
  }
  return { bytes: value, descriptors, truncated: (header.readInt32LE(48) & MSG_CTRUNC) !== 0 };
}

/** True for a descriptor that is an eventfd; a write to anything else could block or kill. */
export function isEventFd(fd: number): boolean {
  try {
    return readlinkSync(`/proc/self/fd/${String(fd)}`) === 'anon_inode:[eventfd]';
  } catch {
    return false;
  }
}

/** Makes reads and writes of a descriptor return at once. */
export function setNonBlocking(fd: number): void {
  const flags = native.fcntl(fd, F_GETFL, 0).value;
  if (flags >= 0) native.fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

/** Bytes of the file behind a descriptor. */
export function fileSize(fd: number): number {
  return fstatSync(fd).size;
}
