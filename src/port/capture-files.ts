/**
 * Capture files as ports open and make them (net/pcap.ts is their format).
 * @module
 */
import { closeSync, constants, fstatSync, openSync, readSync, writeSync } from 'node:fs';
import { LINK_TYPE_ETHERNET } from '../net/pcap-format.ts';
import { captureStart, type CaptureFormat } from '../net/pcap.ts';
import { VirtioError } from '../system/error.ts';
import { errnoText } from '../system/ffi.ts';

/** Bytes of a file that are looked at before it is accepted. */
const FIRST_BYTES = 64 * 1024;

/** By the file's name. */
export function formatOf(path: string): CaptureFormat {
  return path.endsWith('.pcapng') ? 'pcapng' : 'pcap';
}

/** What a call of node:fs failed with, as `name: path: reason`. */
export function fileError(name: string, path: string, cause: unknown): VirtioError {
  const { code = 'EIO', syscall, errno } = cause as { readonly code?: string; readonly syscall?: string; readonly errno?: number };
  return new VirtioError(`${name}: ${path}: ${errnoText(code)}`, {
    code,
    syscall,
    errno: errno === undefined ? undefined : Math.abs(errno),
    cause,
  });
}

/**
 * Opens a capture file and looks at its beginning; the descriptor still stands there.
 * @throws VirtioError for what is no file of Ethernet packets
 */
export function openCaptureFile(
  name: string,
  path: string,
): {
  readonly descriptor: number;
  readonly format: CaptureFormat;
  readonly start: { readonly bytes: number; readonly swapped: boolean };
} {
  let descriptor: number;
  try {
    // a pipe without a writer must not hold the main thread
    descriptor = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (cause) {
    throw fileError(name, path, cause);
  }
  try {
    if (!fstatSync(descriptor).isFile()) {
      throw new VirtioError(`${name}: ${path}: not a regular file; only those can be read`, { code: 'EINVAL' });
    }
    const first = new Uint8Array(FIRST_BYTES);
    const start = captureStart(`${name}: ${path}`, first.subarray(0, readSync(descriptor, first, 0, FIRST_BYTES, 0)));
    if (start.linkType !== undefined && start.linkType !== LINK_TYPE_ETHERNET) {
      throw new VirtioError(`${name}: ${path}: its packets are of link type ${String(start.linkType)}; a port takes Ethernet (1)`, {
        code: 'EINVAL',
      });
    }
    return { descriptor, format: start.format, start };
  } catch (error) {
    closeSync(descriptor);
    throw error instanceof VirtioError ? error : fileError(name, path, error);
  }
}

/** Makes a file and writes its header; returns its descriptor. @throws VirtioError with the path */
export function createCaptureFile(name: string, path: string, header: Uint8Array): number {
  let descriptor = -1;
  try {
    // O_APPEND: after a failed write the file is cut, and what follows belongs at its end; a pipe that nobody reads must hold no thread
    const { O_WRONLY, O_CREAT, O_TRUNC, O_APPEND, O_NONBLOCK } = constants;
    descriptor = openSync(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_NONBLOCK, 0o644);
    writeSync(descriptor, header);
    return descriptor;
  } catch (cause) {
    if (descriptor >= 0) closeSync(descriptor);
    throw fileError(name, path, cause);
  }
}
