/**
 * The highest rate without loss, after RFC 2544, 26.1: trials at a rate each, halving the range in between, every packet that was sent
 * counted and every one that came back.
 *
 * The tester is our flowgen with `set txrate`: it sends on a port and receives on the same. The other end returns what it gets (io). A
 * packet is lost when it does not come back, or when it was due and the ring had no room for it: a ring holds packets back where a wire
 * would drop them.
 *
 * With a limit other than 0 it is the highest rate with no more than that part lost. A machine that takes a CPU away for ten milliseconds
 * fails any trial it happens in, so a rate passes then when most of its trials do (RFC 9971, 4.7: an exceed ratio of one half).
 * @module
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { expectOutput, type EndPort } from './ends.ts';
import { parseForwardStats, parseRate } from './port-stats.ts';

export interface Trial {
  /** Packets a second that were asked for; 0: as many as there was room for. */
  readonly rate: number;
  readonly sent: number;
  readonly lost: number;
  /** Packets that the tester itself was too late for: it had no CPU, or could not make more. */
  readonly late: number;
}

export interface ZeroLoss {
  /** Packets a second; 0 where no trial was without loss. */
  readonly rate: number;
  readonly trials: readonly Trial[];
}

/** The range is halved until it is so small a part of the first: six trials. */
const PRECISION = 0.02;
/** Above what went round without a rate. */
const HEADROOM = 1.1;
/** A trial in which the tester was late for more than this part of the packets says nothing, and is done again. */
const LATE_PART = 0.001;
/** The same where most of several trials decide, which may be short: the first and the last command cost the tester 0.2 ms each. */
const LATE_PART_OF_MANY = 0.02;
const ATTEMPTS = 3;
/** As good as silence: the first packet is a second away. */
const SILENT_RATE = 1;
/** For packets on their way to come back. */
const DRAIN_MS = 50;

/** Runs the search on a tester that forwards already. `seconds`: of a trial; `lossLimit`: part of the packets that may be lost. */
export async function searchZeroLoss(tester: EndPort, seconds: number, lossLimit: number, signal: AbortSignal): Promise<ZeroLoss> {
  const trials: Trial[] = [];
  const run = async (rate: number): Promise<Trial> => {
    const trial = await runTrial(tester, rate, seconds, signal);
    trials.push(trial);
    return trial;
  };
  const flood = await run(0);
  // the first time that it keeps to a rate, it is not compiled yet
  await runTrial(tester, Math.ceil(flood.sent / seconds / 2), seconds, signal);
  const passes = lossLimit === 0 ? passesOnce(run) : passesMostly(run, lossLimit);
  const rate = await search((flood.sent / seconds) * HEADROOM, passes);
  return { rate, trials };
}

type Run = (rate: number) => Promise<Trial>;

/** Nothing lost in a trial for which the tester was there. */
export function passesOnce(run: Run): (rate: number) => Promise<boolean> {
  return async (rate) => {
    for (let attempt = 1; ; attempt += 1) {
      const { sent, lost, late } = await run(rate);
      if (lost > 0) return false;
      if (late <= (sent + late) * LATE_PART) return true;
      if (attempt === ATTEMPTS) return false;
    }
  };
}

/** No more than that part lost, in most of the trials; one that the tester was late for by more than LATE_PART_OF_MANY is a failure. */
export function passesMostly(run: Run, lossLimit: number): (rate: number) => Promise<boolean> {
  return async (rate) => {
    let balance = 0;
    for (let attempt = 1; attempt <= ATTEMPTS && Math.abs(balance) * 2 <= ATTEMPTS; attempt += 1) {
      const { sent, lost, late } = await run(rate);
      balance += lost <= sent * lossLimit && late <= (sent + late) * LATE_PART_OF_MANY ? 1 : -1;
    }
    return balance > 0;
  };
}

/** The highest rate up to `most` at which `passes` holds, to within PRECISION of `most`; 0 where there is none. */
export async function search(most: number, passes: (rate: number) => Promise<boolean>): Promise<number> {
  let [good, bad] = [0, most];
  while (bad - good > Math.max(1, most * PRECISION)) {
    const rate = Math.floor((good + bad) / 2);
    if (await passes(rate)) good = rate;
    else bad = rate;
  }
  return good;
}

async function runTrial(tester: EndPort, rate: number, seconds: number, signal: AbortSignal): Promise<Trial> {
  const { testpmd, port } = tester;
  const set = (packetsPerSecond: number): Promise<void> => expectOutput(testpmd, `set txrate ${packetsPerSecond}`, /Packets /);
  await set(SILENT_RATE);
  await sleep(DRAIN_MS, undefined, { signal });
  await testpmd.command('clear fwd stats all');
  await set(rate);
  await sleep(seconds * 1000, undefined, { signal });
  await set(SILENT_RATE);
  await sleep(DRAIN_MS, undefined, { signal });
  const stats = parseForwardStats(await testpmd.command('show fwd stats all'), port);
  const given = parseRate(await testpmd.command('show fwd rate'), port);
  if (stats === undefined || given === undefined) {
    throw new Error("the tester did not answer 'show fwd stats all' and 'show fwd rate' as expected");
  }
  return {
    rate,
    sent: stats.txPackets,
    lost: stats.txPackets - stats.rxPackets + stats.txDropped + given.unsent,
    late: given.late,
  };
}
