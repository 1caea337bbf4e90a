/**
 * The error for everything that keeps the test machine from running a command to its end.
 * @module
 */

export class MachineError extends Error {
  /** True when the time limit ended the machine. */
  readonly late: boolean;

  constructor(message: string, options: ErrorOptions & { readonly late?: boolean } = {}) {
    super(message, options);
    this.name = 'MachineError';
    this.late = options.late ?? false;
  }
}
