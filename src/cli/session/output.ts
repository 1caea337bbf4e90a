/**
 * Where a session writes: answers, and errors, which may go elsewhere (testpmd: standard error).
 * @module
 */
export type Write = (text: string) => void;

export class Output {
  readonly print: Write;
  readonly #errors: Write;

  constructor(print: Write, errors: Write = print) {
    this.print = print;
    this.#errors = errors;
  }

  /** A line of an answer. */
  say(line: string): void {
    this.print(`${line}\n`);
  }

  /** A line about something that did not go as asked. */
  warn(line: string): void {
    this.#errors(`${line}\n`);
  }
}
