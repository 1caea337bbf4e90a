/**
 * Errors of ports in the words and numbers that testpmd answers with.
 * @module
 */
import { constants } from 'node:os';

import { VirtioError } from '../../system/error.ts';

const texts: Readonly<Record<string, string>> = {
  EPERM: 'Operation not permitted',
  ENOENT: 'No such file or directory',
  EIO: 'Input/output error',
  EAGAIN: 'Resource temporarily unavailable',
  ENOMEM: 'Cannot allocate memory',
  EACCES: 'Permission denied',
  EBUSY: 'Device or resource busy',
  EEXIST: 'File exists',
  EADDRINUSE: 'Address already in use',
  ENODEV: 'No such device',
  EINVAL: 'Invalid argument',
  ENOSPC: 'No space left on device',
  ERANGE: 'Numerical result out of range',
  EPROTO: 'Protocol error',
  ENOTSUP: 'Operation not supported',
  EOPNOTSUPP: 'Operation not supported',
  ECONNREFUSED: 'Connection refused',
  ECONNRESET: 'Connection reset by peer',
  ETIMEDOUT: 'Connection timed out',
};

function errorCode(error: unknown): string {
  if (error instanceof VirtioError) return error.code;
  if (error instanceof TypeError || error instanceof RangeError) return 'EINVAL';
  return 'EIO';
}

/** The C library's sentence for the error's code: `Operation not supported`. */
export function errnoText(error: unknown): string {
  const code = errorCode(error);
  return texts[code] ?? code;
}

/** The negative error number, as testpmd's `diag=` shows it. */
export function diagnostic(error: unknown): number {
  const code = errorCode(error);
  const known: Readonly<Record<string, number>> = constants.errno;
  return -(known[code] ?? constants.errno.EIO);
}

/** Our own reason: one line that names the port, file or peer. */
export function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
