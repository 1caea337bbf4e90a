/**
 * From windows to the lines of the table: one for each case, direction, state of the cores and pairing, beside DPDK's own in the same state.
 * @module
 */
import { ALL_DIRECTIONS, baselineOf, CASES, inUnit, PAIRINGS, type BenchCase, type Direction } from './cases.ts';
import type { CoreState } from './core-distance.ts';
import { ratioOfMedians, summarize, type Summary } from './statistics.ts';
import type { LeftOutReason, Measured, WindowResult } from './window.ts';

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

/** What a window shows: a rate, or a time for each percentile. */
interface Figure {
  readonly title: string;
  /** In the case's unit. */
  readonly of: (benchCase: BenchCase, measured: Measured) => number | undefined;
}

const RATE: readonly Figure[] = [{ title: '', of: (benchCase, { packetsPerSecond }) => inUnit(benchCase, packetsPerSecond) }];
const PERCENTILES: readonly Figure[] = ['p50', 'p90', 'p99', 'p99.9', 'p99.99', 'p99.999', 'max'].map((name) => ({
  title: `, ${name}`,
  of: (_benchCase, { latency }) => latency?.microseconds[name],
}));

function figuresOf({ rate }: Direction): readonly Figure[] {
  return rate === undefined ? RATE : PERCENTILES;
}

/** Rows in the order of the tables in cases.ts. DPDK with DPDK has a row of its own only where nothing stands beside it. */
export function tableRows(windows: readonly WindowResult[], cases: readonly BenchCase[] = CASES): Row[] {
  return cases.flatMap((benchCase) =>
    ALL_DIRECTIONS.flatMap((direction) => {
      const ofCell = windows.filter((window) => window.case === benchCase.name && window.direction === direction.name);
      return STATES.flatMap((state) => figuresOf(direction).flatMap((figure) => rowsOf(benchCase, direction, state, figure, ofCell)));
    }),
  );
}

function rowsOf(benchCase: BenchCase, direction: Direction, state: CoreState, figure: Figure, windows: readonly WindowResult[]): Row[] {
  const against = baselineOf(direction);
  const summaryOf = (pairing: string): Summary | undefined =>
    summarize(
      windows
        .filter((window) => window.pairing === pairing)
        .flatMap((window) => counted(window, state))
        .flatMap((measured) => figure.of(benchCase, measured) ?? []),
    );
  const baseline = summaryOf(against);
  const row = (pairing: string, rate: Summary): Row => {
    const about = { case: benchCase.name, direction: direction.title + figure.title, state, pairing, against, unit: benchCase.unit, rate };
    return pairing === against || baseline === undefined ? about : { ...about, baseline, ...ratioIn(benchCase.unit, rate, baseline) };
  };
  const others = PAIRINGS.filter(({ name }) => name !== against).flatMap(({ name }) => {
    const rate = summaryOf(name);
    return rate === undefined ? [] : [row(name, rate)];
  });
  return others.length > 0 || baseline === undefined ? others : [row(against, baseline)];
}

/** How many times better the first is: a higher rate, a shorter time. */
function ratioIn(unit: BenchCase['unit'], ours: Summary, theirs: Summary): { readonly ratio?: number } {
  const ratio = unit === 'us' ? ratioOfMedians(theirs, ours) : ratioOfMedians(ours, theirs);
  return ratio === undefined ? {} : { ratio };
}

function counted({ measured, leftOut }: WindowResult, state: CoreState): Measured[] {
  return measured === undefined || leftOut !== undefined || measured.stateBefore !== state ? [] : [measured];
}

/** How many windows count in one state. */
export function countedWindows(windows: readonly WindowResult[], state: CoreState): number {
  return windows.flatMap((window) => counted(window, state)).length;
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
    return [{ ...cell, ours, dpdk, ratio: ratioIn(cell.unit, ours.rate, dpdk.rate).ratio ?? Number.NaN }];
  });
}
