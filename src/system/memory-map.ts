/**
 * Files in memory and their mappings: memfd, mmap, munmap, mprotect, and the address of a buffer.
 * @module
 */
import { bindNative, systemError } from './ffi.ts';

export const PROT_NONE = 0;
export const PROT_READ_WRITE = 3;
export const MAP_SHARED = 0x01;
export const MAP_PRIVATE = 0x02;
export const MAP_FIXED = 0x10;
export const MAP_ANONYMOUS = 0x20;
export const MAP_NORESERVE = 0x4000;
export const MAP_POPULATE = 0x8000;

const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;
const MFD_HUGETLB = 4;
const MFD_HUGE_SHIFT = 26;
const F_ADD_SEALS = 1033;
const F_GET_SEALS = 1034;
export const F_SEAL_SHRINK = 2;
export const F_SEAL_GROW = 4;
const LOCK_EXCLUSIVE_NONBLOCKING = 2 | 4;
const LOCK_UNLOCK = 8;
const SC_PAGESIZE = 30;

const native = {
  memfdCreate: bindNative('memfd_create', 'i32', ['buffer', 'i32']),
  ftruncate: bindNative('ftruncate', 'i32', ['i32', 'i64']),
  mmap: bindNative('mmap', 'i64', ['i64', 'i64', 'i32', 'i32', 'i32', 'i64']),
  memset: bindNative('memset', 'i64', ['buffer', 'i32', 'i64']),
  fcntl: bindNative('fcntl', 'i32', ['i32', 'i32', 'i64']),
  flock: bindNative('flock', 'i32', ['i32', 'i32']),
  sysconf: bindNative('sysconf', 'i64', ['i32']),
};

/** Bytes of a NUL-terminated string for a `buffer` parameter. */
export function cString(text: string): Uint8Array {
  return Buffer.from(`${text}\0`, 'utf8');
}

/** Address of the first byte of a view, of a shared buffer or a plain one. Nothing is written: the length is zero. */
export function addressOf(view: Uint8Array): number {
  return native.memset(view, 0, 0).value;
}

/**
 * Creates an anonymous file.
 * @param pageSize 4096, or a huge page size (2 MiB, 1 GiB)
 */
export function createMemoryFile(name: string, pageSize: number): number {
  const huge = pageSize > 4096 ? MFD_HUGETLB | (Math.log2(pageSize) << MFD_HUGE_SHIFT) : 0;
  const { value, errno } = native.memfdCreate(cString(name), MFD_CLOEXEC | MFD_ALLOW_SEALING | huge);
  if (value < 0) throw systemError(`memory file '${name}' with pages of ${String(pageSize / 1024)} KiB`, 'memfd_create', errno);
  return value;
}

export function resizeFile(fd: number, bytes: number, what: string): void {
  const { value, errno } = native.ftruncate(fd, bytes);
  if (value < 0) throw systemError(what, 'ftruncate', errno);
}

/** Seals of a memory file (F_SEAL_*), or -1 when the file cannot have any. */
export function fileSeals(fd: number): number {
  return native.fcntl(fd, F_GET_SEALS, 0).value;
}

/** Adds seals; returns whether the kernel took them. */
export function addFileSeals(fd: number, seals: number): boolean {
  return native.fcntl(fd, F_ADD_SEALS, seals).value === 0;
}

/** Locks a file until it is unlocked, or closed and mapped nowhere any more; returns whether nobody else had locked it. */
export function lockFile(fd: number): boolean {
  return native.flock(fd, LOCK_EXCLUSIVE_NONBLOCKING).value === 0;
}

export function unlockFile(fd: number): void {
  native.flock(fd, LOCK_UNLOCK);
}

/** @returns the address; @throws VirtioError naming `what` */
export function mapMemory(
  what: string,
  address: number,
  bytes: number,
  protection: number,
  flags: number,
  fd: number,
  offset: number,
): number {
  const { value, errno } = native.mmap(address, bytes, protection, flags, fd, offset);
  if (value === -1) throw systemError(what, 'mmap', errno);
  return value;
}

/** Bytes of an ordinary page. */
export function pageSize(): number {
  return native.sysconf(SC_PAGESIZE).value;
}
