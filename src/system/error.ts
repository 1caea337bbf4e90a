/**
 * The one error class of the library.
 *
 * `TypeError` and `RangeError` are thrown for misuse of an API; everything that the system or a peer can cause is a
 * `VirtioError`, whose message names the argument, file or peer and says what to do.
 * @module
 */

export interface VirtioErrorDetails {
  /** Stable identifier: an errno name (`ENOENT`, `EOPNOTSUPP`) or one of the library's own (`EPROTO` for a peer that breaks the protocol). */
  readonly code: string;
  /** The system call that failed, if one did. */
  readonly syscall?: string | undefined;
  /** The positive errno of that call. */
  readonly errno?: number | undefined;
  readonly cause?: unknown;
}

export class VirtioError extends Error {
  readonly code: string;
  readonly syscall: string | undefined;
  readonly errno: number | undefined;

  constructor(message: string, details: VirtioErrorDetails) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = 'VirtioError';
    this.code = details.code;
    this.syscall = details.syscall;
    this.errno = details.errno;
  }
}
