/**
 * Keeps a generator to a rate: a bucket of packets that are due, filled by the clock and emptied by what is sent.
 *
 * The bucket is small (REMEMBERED_SECONDS), so that a pause is not made up for by a flood: what was missed is sent later only as far as
 * it was due in the last 0.1 ms, and one packet. The rest is given up and counted: as `unsent` where the transmit queue had no room for
 * packets that were due, as `late` where the lcore was not there to send them (it had no CPU), or could not have made more.
 * @module
 */

/** How long packets stay due. */
const REMEMBERED_SECONDS = 1e-4;

const MOST_AT_ONCE = 0x3fff_ffff;

const CREDIT = 0;
const LOOKED = 1;
const CEILING = 2;
const UNSENT = 3;
const LATE = 4;
const FIELDS = 5;

export class Pacer {
  readonly #time: Readonly<Float64Array>;
  /** Doubles that change in place: those in variables may be put on the heap anew whenever they change. */
  readonly #state = new Float64Array(FIELDS);
  #rate = 0;
  /** What the last look allowed, less what was sent of it. */
  #left = 0;

  /** @param time one double, in nanoseconds (clock.ts) */
  constructor(time: Readonly<Float64Array>) {
    this.#time = time;
  }

  /** Whole packets that are due now at `rate` packets a second, `most` at the most. Another rate begins anew. */
  due(rate: number, most: number): number {
    const state = this.#state;
    const now = this.#time[0] ?? 0;
    if (rate !== this.#rate) {
      this.#rate = rate;
      this.#left = 0;
      state[CREDIT] = 0;
      state[LOOKED] = now;
      state[CEILING] = 1 + rate * REMEMBERED_SECONDS;
    }
    const ceiling = state[CEILING] ?? 0;
    let gained = ((now - (state[LOOKED] ?? 0)) * rate) / 1e9;
    state[LOOKED] = now;
    if (gained > ceiling) {
      state[LATE] = (state[LATE] ?? 0) + gained - ceiling;
      gained = ceiling;
    }
    let credit = (state[CREDIT] ?? 0) + gained;
    if (credit > ceiling) {
      const reason = this.#left > 0 ? UNSENT : LATE;
      state[reason] = (state[reason] ?? 0) + credit - ceiling;
      credit = ceiling;
    }
    state[CREDIT] = credit;
    const whole = Math.floor(credit) | 0;
    this.#left = whole < most ? whole : most;
    return this.#left;
  }

  /** There is no rate: what is sent from now on was not due by one, and the next rate begins anew. */
  rest(): void {
    this.#rate = 0;
  }

  /** Takes packets that were sent from those that are due; the last look decides, whatever the rate has become since. */
  spend(count: number): void {
    if (this.#rate === 0) return;
    this.#state[CREDIT] = (this.#state[CREDIT] ?? 0) - count;
    this.#left -= count;
  }

  /** Whole packets that were due, found no room and were given up since the last call. */
  takeUnsent(): number {
    return this.#take(UNSENT);
  }

  /** Whole packets that were due while nobody looked and were given up since the last call. */
  takeLate(): number {
    return this.#take(LATE);
  }

  #take(field: number): number {
    const state = this.#state;
    const all = state[field] ?? 0;
    if (all < 1) return 0;
    // a small integer, which is never put on the heap
    const whole = (all < MOST_AT_ONCE ? Math.floor(all) : MOST_AT_ONCE) | 0;
    state[field] = all - whole;
    return whole;
  }
}
