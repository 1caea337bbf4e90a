/**
 * The door to libc: the only module that imports the FFI package.
 *
 * ffi-rs must be loaded on the main thread before any Worker requires it, or the process dies when that Worker exits; and
 * its table of libraries is process-wide, so nothing here is ever closed. A call costs 2-11 us: control path only.
 * @module
 */
import { DataType, load, open } from 'ffi-rs';
import { constants } from 'node:os';
import { VirtioError } from './error.ts';

const LIBRARY = 'dpdk-ts-libc';
open({ library: LIBRARY, path: 'libc.so.6' });

export type NativeType = 'i32' | 'i64' | 'buffer' | 'void';
/** `i32` and `i64` take numbers, `buffer` takes the memory of a view itself, without a copy. */
export type NativeValue = number | Uint8Array;

const DATA_TYPES = { i32: DataType.I32, i64: DataType.I64, buffer: DataType.U8Array, void: DataType.Void } as const;
const ERRNO_NAMES = new Map<number, string>(Object.entries(constants.errno).map(([name, value]) => [value, name]));
ERRNO_NAMES.set(95, 'EOPNOTSUPP');
ERRNO_NAMES.set(11, 'EAGAIN');

/** Linux's short texts for the errors that users meet, as strerror prints them. */
const ERRNO_TEXTS: Readonly<Record<string, string>> = {
  EPERM: 'Operation not permitted',
  ENOENT: 'No such file or directory',
  EIO: 'Input/output error',
  ENXIO: 'No such device or address',
  EBADF: 'Bad file descriptor',
  EAGAIN: 'Resource temporarily unavailable',
  ENOMEM: 'Cannot allocate memory',
  EACCES: 'Permission denied',
  EFAULT: 'Bad address',
  EBUSY: 'Device or resource busy',
  EEXIST: 'File exists',
  ENODEV: 'No such device',
  ENOTDIR: 'Not a directory',
  EISDIR: 'Is a directory',
  EINVAL: 'Invalid argument',
  ENFILE: 'Too many open files in system',
  EMFILE: 'Too many open files',
  ENOTTY: 'Inappropriate ioctl for device',
  EFBIG: 'File too large',
  ENOSPC: 'No space left on device',
  EPIPE: 'Broken pipe',
  ERANGE: 'Numerical result out of range',
  ENAMETOOLONG: 'File name too long',
  ENOSYS: 'Function not implemented',
  ENOTSOCK: 'Socket operation on non-socket',
  EOPNOTSUPP: 'Operation not supported',
  EPROTOTYPE: 'Protocol wrong type for socket',
  EADDRINUSE: 'Address already in use',
  ECONNRESET: 'Connection reset by peer',
  ENOBUFS: 'No buffer space available',
  ENOTCONN: 'Transport endpoint is not connected',
  ETIMEDOUT: 'Connection timed out',
  ECONNREFUSED: 'Connection refused',
  EPROTO: 'Protocol error',
};

/** `ENOENT` for 2; `E123` for a number without a name. */
export function errnoName(errno: number): string {
  return ERRNO_NAMES.get(errno) ?? `E${String(errno)}`;
}

/** `No such file or directory` for `ENOENT`. */
export function errnoText(name: string): string {
  return ERRNO_TEXTS[name] ?? name;
}

/** The result of a system call: `value` is -1 on failure, and only then `errno` is set. */
export interface NativeResult {
  readonly value: number;
  readonly errno: number;
}

/** Binds one function of libc. The returned function does not throw on failure. */
export function bindNative(
  name: string,
  returns: NativeType,
  parameters: readonly NativeType[],
): (...values: readonly NativeValue[]) => NativeResult {
  const retType = DATA_TYPES[returns];
  const paramsType = parameters.map((type) => DATA_TYPES[type]);
  return (...values) => {
    const result = load({ library: LIBRARY, funcName: name, retType, paramsType, paramsValue: [...values], errno: true }) as {
      readonly value: number;
      readonly errnoCode: number;
    };
    const { value } = result;
    // errnoCode is stale after a success
    return { value, errno: value === -1 ? result.errnoCode : 0 };
  };
}

/** The error for a failed system call: `what` names the argument, file or peer. */
export function systemError(what: string, syscall: string, errno: number): VirtioError {
  const code = errnoName(errno);
  return new VirtioError(`${what}: ${errnoText(code)} (${syscall})`, { code, syscall, errno });
}
