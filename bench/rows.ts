/**
 * From windows to the lines of the table: one for each case, direction, state of the cores and pairing, beside DPDK's own in the same state.
 * @module
 */
import { BASELINE, CASES, DIRECTIONS, inUnit, PAIRINGS, type BenchCase } from './cases.ts';
import type { CoreState } from './core-distance.ts';
import { ratioOfMedians, summarize, type Summary } from './statistics.ts';
import type { LeftOutReason, WindowResult } from './window.ts';

export interface Row {
  readonly case: string;
  readonly direction: string;
  readonly state: CoreState;
  readonly pairing: string;
  readonly unit: BenchCase['unit'];
  /** In the row's unit, like the baseline. */
  readonly rate: Summary;
  /** DPDK at both ends, in the same state; absent where no such window counted. */
  readonly baseline?: Summary;
  /** How many times faster than the baseline, by the medians; for times as for rates, more is better. */
  readonly ratio?: number;
}

const STATES: readonly CoreState[] = ['near', 'far'];

/** Rows in the order of the tables in cases.ts. DPDK with DPDK has a row of its own only where nothing stands beside it. */
export function tableRows(windows: readonly WindowResult[], cases: readonly BenchCase[] = CASES): Row[] {
  const rows: Row[] = [];
  for (const benchCase of cases) {
    for (const direction of DIRECTIONS) {
      for (const state of STATES) {
        const rates = (pairing: string): number[] =>
          windows
            .filter((window) => window.case === benchCase.name && window.direction === direction.name && window.pairing === pairing)
            .flatMap((window) => countedRate(window, state));
        const baseline = rates(BASELINE);
        const others = PAIRINGS.filter(({ name }) => name !== BASELINE && rates(name).length > 0);
        for (const { name } of others.length === 0 ? PAIRINGS.filter((pairing) => pairing.name === BASELINE) : others) {
          const rate = summarize(rates(name).map((packetsPerSecond) => inUnit(benchCase, packetsPerSecond)));
          if (rate === undefined) {
            continue;
          }
          const beside = name === BASELINE ? undefined : summarize(baseline.map((packetsPerSecond) => inUnit(benchCase, packetsPerSecond)));
          const ratio = name === BASELINE ? undefined : ratioOfMedians(summarize(rates(name)), summarize(baseline));
          rows.push({
            case: benchCase.name,
            direction: direction.title,
            state,
            pairing: name,
            unit: benchCase.unit,
            rate,
            ...(beside === undefined ? {} : { baseline: beside }),
            ...(ratio === undefined ? {} : { ratio }),
          });
        }
      }
    }
  }
  return rows;
}

function countedRate(window: WindowResult, state: CoreState): number[] {
  const { measured, leftOut } = window;
  return measured === undefined || leftOut !== undefined || measured.stateBefore !== state ? [] : [measured.packetsPerSecond];
}

/** How many windows count in one state. */
export function countedWindows(windows: readonly WindowResult[], state: CoreState): number {
  return windows.flatMap((window) => countedRate(window, state)).length;
}

/** How many windows were left out for which reason, in the order of their first. */
export function leftOutCounts(windows: readonly WindowResult[]): ReadonlyMap<LeftOutReason, number> {
  const counts = new Map<LeftOutReason, number>();
  for (const { leftOut } of windows) {
    if (leftOut !== undefined) {
      counts.set(leftOut.reason, (counts.get(leftOut.reason) ?? 0) + 1);
    }
  }
  return counts;
}
