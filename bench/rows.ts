/**
 * From windows to the lines of the table: one for each case, direction, state of the cores and pairing, beside DPDK's own in the same state.
 * @module
 */
import { ALL_DIRECTIONS, baselineOf, CASES, inUnit, PAIRINGS, type BenchCase } from './cases.ts';
import type { CoreState } from './core-distance.ts';
import { ratioOfMedians, summarize, type Summary } from './statistics.ts';
import type { LeftOutReason, WindowResult } from './window.ts';

export interface Row {
  readonly case: string;
  readonly direction: string;
  readonly state: CoreState;
  readonly pairing: string;
  readonly unit: BenchCase['unit'];
  /** What it is compared with (cases.ts, baselineOf), whether it was measured or not. */
  readonly against: string;
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
    for (const direction of ALL_DIRECTIONS) {
      const baselineName = baselineOf(direction);
      for (const state of STATES) {
        const rates = (pairing: string): number[] =>
          windows
            .filter((window) => window.case === benchCase.name && window.direction === direction.name && window.pairing === pairing)
            .flatMap((window) => countedRate(window, state));
        const baseline = rates(baselineName);
        const others = PAIRINGS.filter(({ name }) => name !== baselineName && rates(name).length > 0);
        for (const { name } of others.length === 0 ? PAIRINGS.filter((pairing) => pairing.name === baselineName) : others) {
          const rate = summarize(rates(name).map((packetsPerSecond) => inUnit(benchCase, packetsPerSecond)));
          if (rate === undefined) {
            continue;
          }
          const beside =
            name === baselineName ? undefined : summarize(baseline.map((packetsPerSecond) => inUnit(benchCase, packetsPerSecond)));
          const ratio = name === baselineName ? undefined : ratioOfMedians(summarize(rates(name)), summarize(baseline));
          rows.push({
            case: benchCase.name,
            direction: direction.title,
            state,
            pairing: name,
            against: baselineName,
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

/** The best path of ours beside the best of DPDK's, among cases of the matrix that differ in the path alone. */
export interface BestRow {
  /** `queue/size/test`. */
  readonly cell: string;
  readonly direction: string;
  readonly state: CoreState;
  readonly unit: BenchCase['unit'];
  readonly ours: { readonly path: string; readonly rate: Summary };
  readonly dpdk: { readonly path: string; readonly rate: Summary };
  /** How many times faster than DPDK's best, as in the other rows. */
  readonly ratio: number;
}

/** One row for each cell in which both have a path that was measured. */
export function bestRows(rows: readonly Row[]): BestRow[] {
  const best = new Map<string, Partial<BestRow> & Pick<BestRow, 'cell' | 'direction' | 'state' | 'unit'>>();
  for (const row of rows) {
    const [path = '', ...rest] = row.case.split('/');
    if (rest.length === 0) continue;
    const cell = rest.join('/');
    const key = [cell, row.direction, row.state].join(' ');
    const sofar = best.get(key) ?? { cell, direction: row.direction, state: row.state, unit: row.unit };
    const better = (rate: Summary, than: { readonly rate: Summary } | undefined): boolean =>
      than === undefined || (row.unit === 'us' ? rate.median < than.rate.median : rate.median > than.rate.median);
    const dpdk = row.pairing === row.against ? row.rate : row.baseline;
    best.set(key, {
      ...sofar,
      ...(row.pairing === 'ours-ours' && better(row.rate, sofar.ours) ? { ours: { path, rate: row.rate } } : {}),
      ...(dpdk !== undefined && better(dpdk, sofar.dpdk) ? { dpdk: { path, rate: dpdk } } : {}),
    });
  }
  return [...best.values()].flatMap(({ ours, dpdk, ...cell }): BestRow[] => {
    if (ours === undefined || dpdk === undefined) return [];
    const [more, less] = cell.unit === 'us' ? [dpdk, ours] : [ours, dpdk];
    return [{ ...cell, ours, dpdk, ratio: ratioOfMedians(more.rate, less.rate) ?? Number.NaN }];
  });
}
