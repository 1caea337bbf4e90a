/**
 * The rates as a bar chart: a panel for each case, a group for each direction and state of the cores, a bar for each pairing, with a whisker
 * from the slowest to the fastest window. Transparent, and readable on light and dark pages.
 * @module
 */
import { CASES, type BenchCase } from './cases.ts';
import { figure, pairingTitle } from './report-table.ts';
import type { Row } from './rows.ts';
import type { Summary } from './statistics.ts';

interface Bar {
  readonly pairing: string;
  readonly rate: Summary;
}

const WIDTH = 760;
const LEFT = 250;
const RIGHT = 110;
const BAR = 16;
const BAR_STEP = 20;
const GROUP_GAP = 14;
const TITLE = 34;

const STYLE = `
  text { font: 12px system-ui, sans-serif; fill: #24292f; }
  .title { font-size: 14px; font-weight: 600; }
  .ours-ours { fill: #2563eb; } .ours-dpdk { fill: #60a5fa; } .dpdk-ours { fill: #93c5fd; } .dpdk-dpdk { fill: #9ca3af; }
  .whisker { stroke: #24292f; stroke-width: 1; } .axis { stroke: #d0d7de; }
  @media (prefers-color-scheme: dark) { text { fill: #e6edf3; } .whisker { stroke: #e6edf3; } .axis { stroke: #3d444d; } }
`;

/** The chart of these rows; a picture without bars where there are none. */
export function svgReport(rows: readonly Row[], cases: readonly BenchCase[] = CASES): string {
  const shapes: string[] = [];
  let y = 8;
  for (const { name, title } of cases) {
    const ofCase = rows.filter((row) => row.case === name);
    const unit = ofCase[0]?.unit;
    if (unit === undefined) {
      continue;
    }
    const groups = groupBy(ofCase, (row) => `${row.direction}, ${row.state}`);
    const top = Math.max(...ofCase.flatMap((row) => [row.rate.max, row.baseline?.max ?? 0]));
    const scale = (value: number): number => (top === 0 ? 0 : (value / top) * (WIDTH - LEFT - RIGHT));
    shapes.push(text(8, y + 16, `${title} (${unit === 'us' ? 'us, less is better' : unit})`, 'title'));
    y += TITLE;
    const panelTop = y;
    for (const [group, inGroup] of groups) {
      shapes.push(text(8, y + BAR - 4, group));
      for (const { pairing, rate } of barsOf(inGroup)) {
        const [middle, end] = [y + BAR / 2, LEFT + scale(rate.median)];
        shapes.push(
          text(LEFT - 8, y + BAR - 4, pairingTitle(pairing), undefined, 'end'),
          `<rect class="${pairing}" x="${LEFT}" y="${y}" width="${round(end - LEFT)}" height="${BAR}" rx="2"/>`,
          `<line class="whisker" x1="${round(LEFT + scale(rate.min))}" x2="${round(LEFT + scale(rate.max))}" y1="${middle}" y2="${middle}"/>`,
          text(round(LEFT + scale(rate.max)) + 6, y + BAR - 4, figure(rate.median)),
        );
        y += BAR_STEP;
      }
      y += GROUP_GAP;
    }
    shapes.push(`<line class="axis" x1="${LEFT}" x2="${LEFT}" y1="${panelTop - 4}" y2="${y - GROUP_GAP}"/>`);
  }
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${y + 8}" width="${WIDTH}" height="${y + 8}" role="img">\n` +
    `<title>Packet rates: virtio_user end first, vhost end second</title>\n<style>${STYLE}</style>\n${shapes.join('\n')}\n</svg>\n`
  );
}

function barsOf(rows: readonly Row[]): Bar[] {
  const bars: Bar[] = rows.map(({ pairing, rate }) => ({ pairing, rate }));
  const beside = rows.find((row) => row.baseline !== undefined);
  return beside?.baseline === undefined ? bars : [...bars, { pairing: beside.against, rate: beside.baseline }];
}

// Map.groupBy is not in Node.js 20.
function groupBy<T>(values: readonly T[], key: (value: T) => string): ReadonlyMap<string, readonly T[]> {
  const groups = new Map<string, T[]>();
  for (const value of values) {
    const group = groups.get(key(value)) ?? [];
    groups.set(key(value), [...group, value]);
  }
  return groups;
}

function text(x: number, y: number, content: string, style?: string, anchor?: string): string {
  const attributes = (style === undefined ? '' : ` class="${style}"`) + (anchor === undefined ? '' : ` text-anchor="${anchor}"`);
  return `<text x="${x}" y="${y}"${attributes}>${content.replaceAll('&', '&amp;').replaceAll('<', '&lt;')}</text>`;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
