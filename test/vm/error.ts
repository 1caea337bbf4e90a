/**
 * The error for everything that keeps the test machine from running a command to its end.
 * @module
 */

export class MachineError extends Error {
  /** A time limit ended the machine. */
  readonly late: boolean;
  /** Before the command began. */
  readonly stillborn: boolean;
  /** QEMU itself crashed. */
  readonly crashed: boolean;

  constructor(
    message: string,
    options: ErrorOptions & { readonly late?: boolean; readonly stillborn?: boolean; readonly crashed?: boolean } = {},
  ) {
    super(message, options);
    this.name = 'MachineError';
    this.late = options.late ?? false;
    this.stillborn = options.stillborn ?? false;
    this.crashed = options.crashed ?? false;
  }
}
