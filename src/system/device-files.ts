/**
 * System calls on character devices of the kernel (vhost-vdpa, vfio), as a plain object: a test passes one that behaves like the
 * kernel's side where this machine has no such device, or none with that fault.
 * @module
 */
import { closeSync, constants, existsSync, openSync, readFileSync, readSync, writeSync } from 'node:fs';
import { VirtioError } from './error.ts';
import type { NativeResult } from './ffi.ts';
import { ioctl } from './ioctl.ts';
import { watchReadable } from './readiness.ts';

/** None of these throws, `watch` excepted: a failure is a value of -1 and a positive errno. */
export interface DeviceFiles {
  /** Opens a character device to read and write; the value is the descriptor. */
  readonly open: (path: string) => NativeResult;
  readonly close: (fd: number) => void;
  readonly exists: (path: string) => boolean;
  readonly ioctl: (fd: number, code: number, argument: number | Uint8Array) => NativeResult;
  readonly write: (fd: number, bytes: Uint8Array) => NativeResult;
  /** pread and pwrite; the value is the number of bytes. */
  readonly readAt: (fd: number, bytes: Uint8Array, position: number) => NativeResult;
  readonly writeAt: (fd: number, bytes: Uint8Array, position: number) => NativeResult;
  /** Calls `onReady` whenever `fd` can be read, until the returned function is called. */
  readonly watch: (fd: number, onReady: () => void) => () => void;
  /** Bytes that this process may lock (RLIMIT_MEMLOCK); undefined: no limit, or not known. */
  readonly lockedBytesLimit: () => number | undefined;
}

const EIO = 5;
const MIB = 1024 * 1024;

function attempt(call: () => number): NativeResult {
  try {
    return { value: call(), errno: 0 };
  } catch (error) {
    return { value: -1, errno: Math.abs((error as NodeJS.ErrnoException).errno ?? EIO) };
  }
}

export const realDeviceFiles: DeviceFiles = {
  open: (path) => attempt(() => openSync(path, constants.O_RDWR)),
  close: (fd) => {
    attempt(() => {
      closeSync(fd);
      return 0;
    });
  },
  exists: existsSync,
  ioctl,
  write: (fd, bytes) => attempt(() => writeSync(fd, bytes)),
  readAt: (fd, bytes, position) => attempt(() => readSync(fd, bytes, 0, bytes.length, position)),
  writeAt: (fd, bytes, position) => attempt(() => writeSync(fd, bytes, 0, bytes.length, position)),
  watch: watchReadable,
  lockedBytesLimit: () => {
    const soft = /^Max locked memory\s+(\d+)\s/m.exec(readFileSync('/proc/self/limits', 'latin1'))?.[1];
    return soft === undefined ? undefined : Number(soft);
  },
};

/** For ENOMEM where a request locks memory for a device. */
export function lockedMemoryError(
  system: Pick<DeviceFiles, 'lockedBytesLimit'>,
  what: string,
  bytes: number,
  syscall: string,
  errno: number,
): VirtioError {
  const limit = system.lockedBytesLimit();
  const text = limit === undefined ? 'the kernel has no room' : `this process may lock ${(limit / MIB).toFixed(1)} MiB (RLIMIT_MEMLOCK)`;
  return new VirtioError(
    `${what}: ${String(Math.ceil(bytes / MIB))} MiB of packet memory cannot be locked for the device (${syscall}): ${text}; ` +
      `raise the limit (ulimit -l unlimited; LimitMEMLOCK=infinity in a unit of systemd), or ask for less memory with -m`,
    { code: 'ENOMEM', syscall, errno },
  );
}
