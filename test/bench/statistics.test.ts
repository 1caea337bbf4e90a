import { describe, expect, it } from 'vitest';
import { median, quantile, ratioOfMedians, relativeSpread, summarize } from '../../bench/statistics.ts';

describe('quantile', () => {
  it('is a value that was measured, in the order of size', () => {
    const values = [100, 9, 20, 1];
    expect([0, 0.25, 0.5, 0.99, 1].map((part) => quantile(values, part))).toEqual([1, 9, 20, 100, 100]);
  });

  it('refuses no values', () => {
    expect(() => quantile([], 0.5)).toThrow(RangeError);
  });
});

describe('median', () => {
  it('is the middle of an odd number of values, whatever their order', () => {
    expect(median([30, 1, 2])).toBe(2);
  });

  it('is the mean of the two middle ones of an even number', () => {
    expect(median([4, 1, 3, 2])).toBe(2.5);
  });

  it('sorts by size, not by spelling', () => {
    expect(median([100, 9, 20])).toBe(20);
  });

  it('refuses no values', () => {
    expect(() => median([])).toThrow(RangeError);
  });
});

describe('summaries', () => {
  it('hold count, median and both ends', () => {
    expect(summarize([3, 1, 2])).toEqual({ count: 3, median: 2, min: 1, max: 3 });
    expect(summarize([])).toBeUndefined();
  });

  it('spread is relative to the median', () => {
    expect(relativeSpread({ count: 3, median: 20, min: 19, max: 21 })).toBeCloseTo(0.1);
    expect(relativeSpread({ count: 1, median: 0, min: 0, max: 0 })).toBe(0);
  });

  it('ratio is of the medians, and only where both sides have one', () => {
    const ours = summarize([40, 44, 100]);
    const theirs = summarize([20, 22, 1]);
    expect(ratioOfMedians(ours, theirs)).toBeCloseTo(2.2);
    expect(ratioOfMedians(ours, undefined)).toBeUndefined();
    expect(ratioOfMedians(ours, summarize([0]))).toBeUndefined();
  });
});
