/**
 * Median, spread and ratio: what is said of a set of windows. Means are not used, for one disturbed window would move them.
 * @module
 */

export interface Summary {
  readonly count: number;
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/** The middle value, or the mean of the two middle ones. Throws RangeError for no values. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const upper = sorted[Math.floor(sorted.length / 2)];
  const lower = sorted[Math.floor((sorted.length - 1) / 2)];
  if (upper === undefined || lower === undefined) {
    throw new RangeError('median of no values');
  }
  return (lower + upper) / 2;
}

/** The value below which the `part` (0 to 1) of the values lies, the nearest that was measured. Throws RangeError for no values. */
export function quantile(values: readonly number[], part: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  const found = sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))];
  if (found === undefined) {
    throw new RangeError('quantile of no values');
  }
  return found;
}

/** Median, smallest and largest of the values; undefined for none. */
export function summarize(values: readonly number[]): Summary | undefined {
  if (values.length === 0) {
    return undefined;
  }
  return { count: values.length, median: median(values), min: Math.min(...values), max: Math.max(...values) };
}

/** How far the values lie apart, as a share of the median: 0.03 is three per cent. */
export function relativeSpread(summary: Summary): number {
  return summary.median === 0 ? 0 : (summary.max - summary.min) / summary.median;
}

/** Ratio of medians, ours over theirs; undefined where either side has no window or theirs moved nothing. */
export function ratioOfMedians(ours: Summary | undefined, theirs: Summary | undefined): number | undefined {
  return ours === undefined || theirs === undefined || theirs.median === 0 ? undefined : ours.median / theirs.median;
}
