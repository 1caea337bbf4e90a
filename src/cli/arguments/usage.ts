/**
 * The usage texts, made from the tables that the parser reads.
 * @module
 */
import { EAL_OPTIONS } from './eal-options.ts';
import { optionName } from './option-table.ts';
import type { OptionSpec } from './option-table.ts';
import { TESTPMD_OPTIONS } from './testpmd-options.ts';

/** What `-h` before `--` prints. */
export function ealUsage(programName: string): string {
  const application = programName.replace(/^dpdk-ts-/, '');
  return usage(`Usage: ${programName} [EAL options] -- [${application} options]`, 'EAL options:', EAL_OPTIONS, [
    `Options of ${application} itself: ${programName} -- --help`,
  ]);
}

/** What `--help` after `--` prints. */
export function testpmdUsage(programName: string): string {
  return usage(`Usage: ${programName} [EAL options] -- [testpmd options]`, 'testpmd options:', TESTPMD_OPTIONS, [
    'Without --interactive, forwarding starts at once; Enter, end of input, SIGINT and SIGTERM end it.',
    `EAL options: ${programName} --help`,
  ]);
}

const width = 100;
const column = 26;

/** A usage text: its first line, a title, the options by their kinds, and the last lines. */
export function usage<Draft>(first: string, title: string, table: readonly OptionSpec<Draft>[], last: readonly string[]): string {
  const lines = [first, '', title];
  for (const option of table) if (option.kind === 'supported') lines.push(...entry(heading(option), option.summary));
  lines.push('');
  lines.push(...listed('Older spellings, still taken:', 'older', table));
  lines.push(...listed("DPDK's, without effect here:", 'ignored', table));
  lines.push(...listed("DPDK's, not supported and refused:", 'refused', table));
  return [...lines, ...last, ''].join('\n');
}

/** `-a, --allow=DEVICE`. */
function heading<Draft>(option: OptionSpec<Draft> & { readonly kind: 'supported' }): string {
  const { long, short, shape } = option;
  const name = [short === undefined ? undefined : `-${short}`, long === undefined ? undefined : `--${long}`]
    .filter((part) => part !== undefined)
    .join(', ');
  if (shape === undefined) return name;
  if (option.argument === 'optional') return name + shape;
  return long === undefined ? `${name} ${shape}` : `${name}=${shape}`;
}

/** The name, and the summary in a column of its own. */
function entry(name: string, summary: string): string[] {
  const indent = ' '.repeat(column);
  const start = `  ${name}`.padEnd(column - 1);
  const lines = start.length < column ? [] : [start];
  let line = start.length < column ? start : indent.slice(1);
  for (const word of summary.split(' ')) {
    if (line.length + 1 + word.length > width && line.trim() !== '') {
      lines.push(line);
      line = indent.slice(1);
    }
    line += ` ${word}`;
  }
  return [...lines, line];
}

/** One line, however long: a list to search in, not to read. */
function listed<Draft>(title: string, kind: OptionSpec<Draft>['kind'], table: readonly OptionSpec<Draft>[]): string[] {
  const names = table.filter((option) => option.kind === kind).map(optionName);
  return names.length === 0 ? [] : [`${title} ${names.join(' ')}`];
}
