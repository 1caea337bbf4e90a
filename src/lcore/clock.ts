/**
 * A clock for poll loops: nanoseconds, about 50 ns a look, nothing left on the heap.
 *
 * `performance.now()` leaves a number of 16 bytes on the heap each time (Node.js 20), and a poll loop that asks it has a collection of
 * 0.1 ms every few milliseconds; so do `Date.now()` and the BigInt of `process.hrtime.bigint()`. `process.hrtime()` makes an array, but
 * not where the compiler sees both the call and what becomes of the array: it does in a function as small as look(), compiled by itself,
 * and may not where that has become part of a whole poll loop. So it is called in a way that the compiler does not see through.
 * @module
 */
const { hrtime } = process;

const NO_ARGUMENTS: readonly never[] = Object.freeze([]);

/** The time of the last look, in place: a variable would be put on the heap anew whenever it changes. */
export class Clock {
  readonly time = new Float64Array(1);
  readonly #look = (): void => {
    // taken apart at once: with now[0] and now[1] the array is made after all
    const [seconds, fraction] = hrtime();
    this.time[0] = seconds * 1e9 + fraction;
  };

  /** Puts the time into `time`: nanoseconds since some moment, exact for 104 days and to a few nanoseconds after that. */
  look(): void {
    Reflect.apply(this.#look, undefined, NO_ARGUMENTS);
  }
}
