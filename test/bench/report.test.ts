import { describe, expect, it } from 'vitest';
import { inUnit, packetsInFlight, type BenchCase } from '../../bench/cases.ts';
import { svgReport } from '../../bench/report-svg.ts';
import { markdownReport, textReport } from '../../bench/report-table.ts';
import type { Report } from '../../bench/report.ts';
import { bestRows, leftOutCounts, tableRows } from '../../bench/rows.ts';
import { judge, type EndResult, type LeftOutReason, type Measured, type WindowResult } from '../../bench/window.ts';

function end(coreShare = 0.999): EndResult {
  const memory = { rssAnon: 0, rssFile: 0, rssShmem: 0, hugePages: 0 };
  return { program: 'ours', thread: 'worker', coreShare, startUpMs: 200, rxPackets: 1, txPackets: 1, txDropped: 0, memory };
}

function measured(change: Partial<Measured> = {}): Measured {
  return {
    seconds: 5,
    packetsPerSecond: 20e6,
    distanceBeforeNs: 120,
    distanceAfterNs: 121,
    stateBefore: 'near',
    stateAfter: 'near',
    ends: { virtio: end(), vhost: end() },
    ...change,
  };
}

function window(pairing: string, mpps: number, state: 'near' | 'far' = 'near', leftOut?: LeftOutReason): WindowResult {
  return {
    case: '64',
    direction: 'io-loop',
    pairing,
    round: 1,
    startedAt: '2026-01-01T00:00:00.000Z',
    measured: measured({ packetsPerSecond: mpps * 1e6, stateBefore: state, stateAfter: state }),
    ...(leftOut === undefined ? {} : { leftOut: { reason: leftOut, detail: '' } }),
  };
}

const WINDOWS = [
  ...[24, 30, 26].map((mpps) => window('ours-ours', mpps)),
  ...[12, 13, 14].map((mpps) => window('dpdk-dpdk', mpps)),
  window('ours-ours', 9, 'far'),
  window('dpdk-dpdk', 99, 'near', 'no whole core'),
  window('ours-dpdk', 99, 'near', 'cores moved'),
];

describe('a window', () => {
  it('counts when both threads had a whole core and the cores stayed', () => {
    expect(judge(measured(), 'any')).toBeUndefined();
    expect(judge(measured(), 'near')).toBeUndefined();
  });

  it('does not when the cores moved, a core was shared, or the other state was asked for', () => {
    expect(judge(measured({ stateAfter: 'far', distanceAfterNs: 400 }), 'any')).toMatchObject({ reason: 'cores moved' });
    expect(judge(measured({ ends: { virtio: end(), vhost: end(0.96) } }), 'any')).toEqual({
      reason: 'no whole core',
      detail: "the vhost end's thread had 0.960 of a core",
    });
    const searched = measured({ zeroLoss: { rate: 1, trials: [] }, ends: { virtio: end(0.9), vhost: end() } });
    expect([judge(searched, 'any', 'virtio'), judge(searched, 'any', 'vhost')?.reason]).toEqual([undefined, 'no whole core']);
    expect(judge(measured(), 'far')).toMatchObject({ reason: 'other state' });
  });
});

describe('rows', () => {
  it('compare medians in the same state only, and leave out what does not count', () => {
    const rows = tableRows(WINDOWS);
    expect(rows.map(({ state, pairing, ratio }) => ({ state, pairing, ratio }))).toEqual([
      { state: 'near', pairing: 'ours-ours', ratio: 2 },
      { state: 'far', pairing: 'ours-ours', ratio: undefined },
    ]);
    expect(rows[0]?.rate).toEqual({ count: 3, median: 26, min: 24, max: 30 });
    expect(rows[0]?.baseline?.count).toBe(3);
  });

  it('show DPDK alone where nothing stands beside it', () => {
    const rows = tableRows(WINDOWS.filter(({ pairing }) => pairing === 'dpdk-dpdk'));
    expect(rows.map(({ pairing, rate }) => [pairing, rate.median])).toEqual([['dpdk-dpdk', 13]]);
  });

  it('stand beside DPDK at the other end where one end is the tester', () => {
    const cases: BenchCase[] = [{ name: 'z', title: '', segments: [64], unit: 'Mpps', directions: ['zero-loss-vhost'] }];
    const windows = (['ours-ours', 'ours-dpdk'] as const).map((pairing, index) => ({
      ...window(pairing, 6 - 2 * index),
      case: 'z',
      direction: 'zero-loss-vhost' as const,
    }));
    expect(tableRows(windows, cases)).toMatchObject([{ pairing: 'ours-ours', against: 'ours-dpdk', ratio: 1.5 }]);
  });

  it('show a time for each percentile of a latency, the shorter one as the better', () => {
    const cases: BenchCase[] = [{ name: 'l', title: '', segments: [64], unit: 'us', directions: ['latency-vhost'] }];
    const windows = (['ours-ours', 'ours-dpdk'] as const).map((pairing, index): WindowResult => {
      const latency = { sent: 9, packets: 9, others: 0, unsent: 0, late: 0, microseconds: { p50: 1 + index, 'p99.99': 4, max: 8 } };
      return { ...window(pairing, 1), case: 'l', direction: 'latency-vhost', measured: measured({ latency }) };
    });
    expect(tableRows(windows, cases).map(({ direction, rate, ratio }) => [direction, rate.median, ratio])).toEqual([
      ['latency, vhost returns, p50', 1, 2],
      ['latency, vhost returns, p99.99', 4, 1],
      ['latency, vhost returns, max', 8, 1],
    ]);
  });

  it('show the best path of each in a cell of the matrix', () => {
    const cell = (path: string, unit: BenchCase['unit']): BenchCase => ({ name: `${path}/256/64/loop`, title: '', segments: [64], unit });
    const rates = { split: [30, 20], packed: [25, 28] } as const;
    const windows = (['split', 'packed'] as const).flatMap((path) => [
      { ...window('ours-ours', rates[path][0]), case: `${path}/256/64/loop` },
      { ...window('dpdk-dpdk', rates[path][1]), case: `${path}/256/64/loop` },
    ]);
    const best = (unit: BenchCase['unit']): unknown => bestRows(tableRows(windows, [cell('split', unit), cell('packed', unit)]));
    expect(best('Mpps')).toMatchObject([
      { cell: '256/64/loop', state: 'near', ours: { path: 'split' }, dpdk: { path: 'packed' }, ratio: 30 / 28 },
    ]);
    // times: less is better, and the ratio is above 1 where ours is less
    expect(best('us')).toMatchObject([{ ours: { path: 'split' }, dpdk: { path: 'packed' } }]);
    expect(bestRows(tableRows(WINDOWS))).toEqual([]);
  });

  it('say what was left out', () => {
    expect([...leftOutCounts(WINDOWS)]).toEqual([
      ['no whole core', 1],
      ['cores moved', 1],
    ]);
  });
});

describe('units', () => {
  const big: BenchCase = { name: 'big', title: '', segments: [1000, 518], unit: 'Gbit/s' };
  it('are packets, bits of whole packets, and the time of a round trip', () => {
    expect(inUnit({ ...big, unit: 'Mpps' }, 2e6)).toBe(2);
    expect(inUnit(big, 1e6)).toBeCloseTo(12.144);
    const single: BenchCase = { ...big, unit: 'us', burst: 1, burstsInFlight: 1 };
    expect(packetsInFlight(single)).toBe(1);
    expect(inUnit(single, 2e6)).toBe(0.5);
    expect(packetsInFlight(big)).toBe(256);
  });
});

describe('reports', () => {
  const report: Report = {
    format: 1,
    generatedAt: '2026-01-01T00:00:00.000Z',
    interrupted: false,
    machine: { cpu: 'A CPU', cpus: 2, memoryGiB: 8, kernel: '6.1', architecture: 'x64', hypervisor: true },
    versions: { 'dpdk-ts': '0.1.0', node: '20.19.0', v8: '11', dpdk: '22.11.11' },
    method: {
      seconds: 5,
      warmUpSeconds: 2,
      rounds: 3,
      cpus: [0, 1],
      memory: { kind: 'huge' },
      nearBelowNs: 210,
      wantedState: 'any',
      wholeCore: 0.97,
    },
    rows: tableRows(WINDOWS),
    startUps: [],
    windows: WINDOWS,
  };

  it('align the text and say what was left out', () => {
    const text = textReport(report);
    expect(text).toContain('Windows: 7 counted, 2 left out (1 no whole core, 1 cores moved).');
    expect(text).toContain('No window counted: 64 io-loop ours-dpdk.');
    expect(text).toMatch(
      /^64 {2}.*io loop {2,}near {2,}ours-ours {2,}Mpps {2,}26\.0 {2,}24\.0-30\.0 \(23 %\) {2,}13\.0 .* 2\.00 {2,}3 \+ 3$/m,
    );
  });

  it('name what a program refused, and do not call it a failure to measure', () => {
    const refused: WindowResult = {
      case: 'packed/256/64/loop',
      direction: 'io-loop',
      pairing: 'ours-ours',
      round: 1,
      startedAt: '2026-01-01T00:00:00.000Z',
      leftOut: { reason: 'refused', detail: 'ours: packed_vq=1 is not supported' },
    };
    const text = textReport({ ...report, windows: [...WINDOWS, refused] });
    expect(text).toContain('Refused: packed/256/64/loop io-loop ours-ours: ours: packed_vq=1 is not supported');
    expect(text).toContain('No window counted: 64 io-loop ours-dpdk.');
  });

  it('hold the same cells as Markdown', () => {
    expect(markdownReport(report)).toContain(
      '| 64 | io loop | near | ours-ours | Mpps | 26.0 | 24.0-30.0 (23 %) | 13.0 | 12.0-14.0 (15 %) | 2.00 | 3 + 3 |',
    );
  });

  it('draw a bar for each pairing, with its figure', () => {
    const svg = svgReport(report.rows);
    expect(svg.match(/<rect /g)).toHaveLength(3);
    expect(svg).toContain('class="dpdk-dpdk"');
    expect(svg).toContain('>26.0</text>');
    expect(svg).toContain('prefers-color-scheme: dark');
    expect(svgReport([])).toContain('</svg>');
  });
});
