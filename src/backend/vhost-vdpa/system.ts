/**
 * The system calls of the vhost-vdpa backend, as a plain object: a test passes one that behaves like the kernel's side.
 * @module
 */
import { closeSync, constants, existsSync, openSync, readFileSync, writeSync } from 'node:fs';
import type { NativeResult } from '../../system/ffi.ts';
import { ioctl } from '../../system/ioctl.ts';
import { watchReadable } from '../../system/readiness.ts';

/** None of these throws, `watch` excepted: a failure is a value of -1 and a positive errno. */
export interface VdpaSystem {
  /** Opens a character device to read and write; the value is the descriptor. */
  readonly open: (path: string) => NativeResult;
  readonly close: (fd: number) => void;
  readonly exists: (path: string) => boolean;
  readonly ioctl: (fd: number, code: number, argument: number | Uint8Array) => NativeResult;
  readonly write: (fd: number, bytes: Uint8Array) => NativeResult;
  /** Calls `onReady` whenever `fd` can be read, until the returned function is called. */
  readonly watch: (fd: number, onReady: () => void) => () => void;
  /** Bytes that this process may lock (RLIMIT_MEMLOCK); undefined: no limit, or not known. */
  readonly lockedBytesLimit: () => number | undefined;
}

const EIO = 5;

function attempt(call: () => number): NativeResult {
  try {
    return { value: call(), errno: 0 };
  } catch (error) {
    return { value: -1, errno: Math.abs((error as NodeJS.ErrnoException).errno ?? EIO) };
  }
}

export const realVdpaSystem: VdpaSystem = {
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
  watch: watchReadable,
  lockedBytesLimit: () => {
    const soft = /^Max locked memory\s+(\d+)\s/m.exec(readFileSync('/proc/self/limits', 'latin1'))?.[1];
    return soft === undefined ? undefined : Number(soft);
  },
};
