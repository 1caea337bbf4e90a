/** The bucket behind `set txrate`, on a clock of the test's own; and a stream that is paced by the real one. */
import { describe, expect, it } from 'vitest';
import { launch, openPort, createEnvironment } from '../../src/index.ts';
import { Clock } from '../../src/lcore/clock.ts';
import { Pacer } from '../../src/lcore/pacer.ts';
import { availableCpus } from '../../src/system/cpu.ts';
import { sleep, until } from '../support/deadline.ts';

const MILLION = 1e6;

/** A pacer whose clock stands where it is set. */
class TestPacer extends Pacer {
  readonly #time: Float64Array;

  constructor(time = new Float64Array(1)) {
    super(time);
    this.#time = time;
  }

  dueAt(now: number, rate: number, most: number): number {
    this.#time[0] = now;
    return this.due(rate, most);
  }
}

/** Sends all that is due at every look; returns how many that were. */
function run(pacer: TestPacer, rate: number, looks: readonly number[], most = 32): number {
  let sent = 0;
  for (const now of looks) {
    const due = pacer.dueAt(now, rate, most);
    pacer.spend(due);
    sent += due;
  }
  return sent;
}

const every = (step: number, until: number, from = 0): number[] =>
  Array.from({ length: Math.floor((until - from) / step) + 1 }, (_, index) => from + index * step);

describe('a rate', () => {
  it.each([1, 7, 1000, 999_983, 14_880_952])('of %i packets a second is kept to a packet', (rate) => {
    const seconds = rate === 1 ? 5 : 0.25;
    const sent = run(new TestPacer(), rate, every(500, seconds * 1e9));
    expect(Math.abs(sent - rate * seconds)).toBeLessThanOrEqual(1);
  });

  it('lets nothing out before it is due', () => {
    const pacer = new TestPacer();
    expect(pacer.dueAt(0, MILLION, 32)).toBe(0);
    expect(pacer.dueAt(999, MILLION, 32)).toBe(0);
    expect(pacer.dueAt(2000, MILLION, 32)).toBe(2);
    expect(pacer.dueAt(2000, MILLION, 1)).toBe(1);
  });

  it('does not owe what was sent before it was set again, between a look and the sending', () => {
    const pacer = new TestPacer();
    run(pacer, 1, every(1000, 10_000));
    // the rate is taken off, a burst is looked for, and the rate is back before that is sent
    pacer.rest();
    pacer.spend(32);
    expect(pacer.dueAt(20_000, 1, 32)).toBe(0);
    expect(pacer.dueAt(1e9 + 30_000, 1, 32)).toBe(1);
  });

  it('forgets all but 0.1 ms of a pause, and counts the rest as late', () => {
    const pacer = new TestPacer();
    run(pacer, MILLION, every(1000, 10_000));
    // ten milliseconds without a look: 10,000 packets, of which 100 and one are made up for
    const sent = run(
      pacer,
      MILLION,
      Array.from({ length: 10 }, () => 10_010_000),
    );
    expect(sent).toBe(101);
    expect(pacer.takeLate()).toBe(9899);
    expect([pacer.takeLate(), pacer.takeUnsent()]).toEqual([0, 0]);
  });

  it('counts as unsent what found no room', () => {
    const pacer = new TestPacer();
    for (const now of every(1000, 1_000_000)) {
      if (pacer.dueAt(now, MILLION, 32) > 0) pacer.spend(0);
    }
    expect(pacer.takeUnsent()).toBe(899);
    expect(pacer.takeLate()).toBe(0);
  });

  it('counts as late what is more than full bursts', () => {
    const pacer = new TestPacer();
    // 32 of the 100 that are due at each look
    expect(run(pacer, 100 * MILLION, every(1000, 1_000_000))).toBe(32_000);
    expect(pacer.takeUnsent()).toBe(0);
    expect(pacer.takeLate()).toBeGreaterThan(50_000);
  });

  it('begins anew when it changes', () => {
    const pacer = new TestPacer();
    pacer.dueAt(0, MILLION, 32);
    expect(pacer.dueAt(50_000, MILLION, 32)).toBe(32);
    expect(pacer.dueAt(50_000, 1000, 32)).toBe(0);
    expect(pacer.dueAt(1_050_000, 1000, 32)).toBe(1);
  });
});

it('the clock counts nanoseconds', async () => {
  const clock = new Clock();
  clock.look();
  const [before = 0] = clock.time;
  await sleep(20);
  clock.look();
  const elapsed = (clock.time[0] ?? 0) - before;
  expect(elapsed).toBeGreaterThan(15e6);
  expect(elapsed).toBeLessThan(5e9);
});

describe('launch()', () => {
  it('paces txonly and flowgen, and changes the rate at once', async () => {
    await using environment = createEnvironment({ mbufs: 4096, pageSize: 4096 });
    await using port = await openPort('net_null', { environment });
    await port.start();
    const [cpu = 0] = availableCpus().slice(-1);
    for (const engine of ['txonly', 'flowgen']) {
      await using cores = await launch(engine, { lcores: [cpu], ports: [port], topology: 'loop', txRate: 1000 });
      const begun = performance.now();
      await sleep(300);
      const counters = cores.counters()[0];
      // a thousand a second at the most: since the launch, which took less than a second more than this
      const sent = counters?.txPackets ?? 0;
      expect(sent).toBeLessThanOrEqual(performance.now() - begun + 1000);
      // the lcore may have had no CPU for a while, and does not make up for it
      await until(5000, 'what is due', () => {
        const { txPackets = 0, late = 0 } = cores.counters()[0] ?? {};
        return txPackets + late > 200;
      });
      expect(cores.counters()[0]?.unsent).toBe(0);
      cores.setTxRate(0);
      const before = cores.counters()[0]?.txPackets ?? 0;
      // more than the rate would have allowed
      await until(5000, 'packets without a pause', () => (cores.counters()[0]?.txPackets ?? 0) - before > 20_000);
      expect(() => cores.setTxRate(-1)).toThrow(RangeError);
    }
    await expect(launch('txonly', { lcores: [cpu], ports: [port], txRate: 0.5 })).rejects.toThrow(/txRate 0.5: use 0..4294967295/);
  });
});
