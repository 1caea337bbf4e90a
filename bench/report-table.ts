/**
 * The tables, as aligned text for the terminal and as Markdown for docs/performance.md: the same cells.
 * @module
 */
import { aboutLines, refusedCells, startUpRows, windowsLine, withoutWindows, type Report } from './report.ts';
import { bestRows, type Row } from './rows.ts';
import { relativeSpread, type Summary } from './statistics.ts';

interface Table {
  readonly head: readonly string[];
  /** Which columns hold figures: those are aligned to the right. */
  readonly figures: readonly boolean[];
  readonly body: readonly (readonly string[])[];
}

export function textReport(report: Report): string {
  const tables = tablesOf(report).map(alignedText);
  return [...about(report), '', ...tables].join('\n');
}

export function markdownReport(report: Report): string {
  const tables = tablesOf(report).map(markdown);
  const lines = about(report).map((line) => `- ${line}`);
  return [...lines, '', tables.join('\n')].join('\n');
}

function tablesOf(report: Report): Table[] {
  return [rateTable(report.rows), bestTable(report.rows), startUpTable(report)].filter((table) => table.body.length > 0);
}

function about(report: Report): string[] {
  return [...aboutLines(report), windowsLine(report.windows), ...withoutWindows(report.windows), ...refusedCells(report.windows)];
}

function rateTable(rows: readonly Row[]): Table {
  return {
    head: ['case', 'direction', 'cores', 'virtio-vhost', 'unit', 'median', 'spread', 'DPDK-DPDK', 'spread', 'ratio', 'windows'],
    figures: [false, false, false, false, false, true, true, true, true, true, true],
    body: rows.map((row) => [
      row.case,
      row.direction,
      row.state,
      pairingTitle(row.pairing),
      row.unit,
      figure(row.rate.median),
      spread(row.rate),
      row.baseline === undefined ? '-' : figure(row.baseline.median),
      row.baseline === undefined ? '-' : spread(row.baseline),
      row.ratio === undefined ? '-' : row.ratio.toFixed(2),
      row.baseline === undefined ? String(row.rate.count) : `${row.rate.count} + ${row.baseline.count}`,
    ]),
  };
}

function bestTable(rows: readonly Row[]): Table {
  return {
    head: ['queue/size/test', 'direction', 'cores', 'unit', 'our best', 'median', "DPDK's best", 'median', 'ratio'],
    figures: [false, false, false, false, false, true, false, true, true],
    body: bestRows(rows).map(({ cell, direction, state, unit, ours, dpdk, ratio }) => [
      ...[cell, direction, state, unit],
      ...[ours.path, figure(ours.rate.median), dpdk.path, figure(dpdk.rate.median), ratio.toFixed(2)],
    ]),
  };
}

function startUpTable(report: Report): Table {
  const milliseconds = (summary: Summary): string => `${Math.round(summary.median)}`;
  const megabytes = (summary: Summary): string => (summary.median / 2 ** 20).toFixed(1);
  return {
    head: ['program', 'end', 'exec to prompt ms', 'exec to first packet ms', 'RssAnon MiB', 'RssFile MiB', 'huge pages MiB'],
    figures: [false, false, true, true, true, true, true],
    body: startUpRows(report.startUps).map((row) => [
      row.program === 'dpdk' ? 'DPDK' : row.program,
      row.end,
      milliseconds(row.promptMs),
      row.firstPacketMs === undefined ? '-' : milliseconds(row.firstPacketMs),
      megabytes(row.rssAnon),
      megabytes(row.rssFile),
      megabytes(row.hugePages),
    ]),
  };
}

export function pairingTitle(pairing: string): string {
  return pairing.replaceAll('dpdk', 'DPDK');
}

/** Three significant digits, or all before the point. */
export function figure(value: number): string {
  return value.toFixed(value >= 100 ? 0 : value >= 10 ? 1 : 2);
}

function spread(summary: Summary): string {
  return `${figure(summary.min)}-${figure(summary.max)} (${Math.round(relativeSpread(summary) * 100)} %)`;
}

function alignedText(table: Table): string {
  const rows = [table.head, ...table.body];
  const widths = table.head.map((_, column) => Math.max(...rows.map((row) => (row[column] ?? '').length)));
  const line = (row: readonly string[]): string =>
    row
      .map((cell, column) => (table.figures[column] === true ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0)))
      .join('  ')
      .trimEnd();
  return `${rows.map(line).join('\n')}\n`;
}

function markdown(table: Table): string {
  const line = (row: readonly string[]): string => `| ${row.join(' | ')} |`;
  const rule = table.figures.map((isFigure) => (isFigure ? '---:' : '---'));
  return `${[table.head, rule, ...table.body].map(line).join('\n')}\n`;
}
