/**
 * Lines that arrive when they like, taken one at a time.
 * @module
 */
export class LineQueue {
  readonly #lines: string[] = [];
  #ended = false;
  #waiting: ((line: string | undefined) => void) | undefined;

  push(line: string): void {
    if (this.#ended) return;
    if (this.#waiting === undefined) this.#lines.push(line);
    else this.#hand(line);
  }

  /** No more lines; those already here are still handed out, unless `discard`. */
  end(discard = false): void {
    this.#ended = true;
    if (discard) this.#lines.length = 0;
    if (this.#lines.length === 0) this.#hand(undefined);
  }

  #hand(line: string | undefined): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.(line);
  }

  /** The next line; undefined at the end. */
  next(): Promise<string | undefined> {
    const line = this.#lines.shift();
    if (line !== undefined || this.#ended) return Promise.resolve(line);
    return new Promise((resolve) => {
      this.#waiting = resolve;
    });
  }
}
