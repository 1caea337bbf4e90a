/**
 * How a command line fails: DPDK's lines, then our reason.
 * @module
 */

/** A command line that cannot be run. Thrown inside this folder only; parseCommandLine() turns it into a result. */
export class ArgumentFailure extends Error {
  /** For stderr: what DPDK prints. */
  readonly lines: readonly string[];
  /** What is wrong, and what would be right; undefined where DPDK's lines say it all. */
  readonly reason: string | undefined;
  /** The usage text that DPDK prints first, if it does. */
  readonly usage: 'eal' | 'testpmd' | 'l3fwd-power' | undefined;

  constructor(lines: readonly string[], reason: string | undefined, usage: 'eal' | 'testpmd' | 'l3fwd-power' | undefined) {
    super(reason ?? lines.join('\n'));
    this.name = 'ArgumentFailure';
    this.lines = lines;
    this.reason = reason;
    this.usage = usage;
  }

  /** All lines for stderr. */
  report(programName: string): string[] {
    return this.reason === undefined ? [...this.lines] : [...this.lines, `${programName}: ${this.reason}`];
  }
}

/** What rte_exit() prints. `cause` may have several lines. */
export function exitLines(cause: string): string[] {
  return ['EAL: Error - exiting with code: 1', ...`  Cause: ${cause}`.split('\n')];
}

/** An EAL argument that is wrong: `lines` are DPDK's without their `EAL: `. */
export function ealFailure(lines: readonly string[], reason: string): ArgumentFailure {
  return new ArgumentFailure([...lines.map((line) => `EAL: ${line}`), ...invalidCommandLine], reason, 'eal');
}

/** An EAL option that getopt does not take. */
export function ealGetoptFailure(line: string, reason: string | undefined): ArgumentFailure {
  return new ArgumentFailure([line, ...invalidCommandLine], reason, 'eal');
}

/** A `--vdev`, `-a` or `-b` whose device cannot be read. */
export function deviceFailure(device: string, reason: string): ArgumentFailure {
  const lines = [`EAL: failed to parse device "${device}"`, `EAL: Unable to parse device '${device}'`];
  return new ArgumentFailure([...lines, ...exitLines('Cannot init EAL: No such device')], reason, undefined);
}

/** A testpmd argument that is wrong: `cause` in DPDK's words, `before` the lines that it prints ahead of it. */
export function testpmdFailure(cause: string, reason: string, before: readonly string[] = []): ArgumentFailure {
  return new ArgumentFailure([...before, ...exitLines(cause)], reason, undefined);
}

/** An argument of testpmd that getopt does not take, or an operand. */
export function testpmdGetoptFailure(before: readonly string[], cause: string, reason: string | undefined): ArgumentFailure {
  return new ArgumentFailure([...before, ...exitLines(cause)], reason, 'testpmd');
}

const invalidCommandLine: readonly string[] = [
  "EAL: FATAL: Invalid 'command line' arguments.",
  "EAL: Invalid 'command line' arguments.",
  ...exitLines('Cannot init EAL: Invalid argument'),
];
