/**
 * `help` and `help SECTION`.
 * @module
 */
import type { Section } from '../commands/grammar.ts';

const titles: Readonly<Record<Section, { readonly title: string; readonly summary: string }>> = {
  control: { title: 'Control forwarding:', summary: 'Start, stop, leave, run files of commands.' },
  display: { title: 'Display:', summary: 'Look at ports, counters and configuration.' },
  config: { title: 'Configuration:', summary: 'Choose what is forwarded, and how.' },
  ports: { title: 'Port Operations:', summary: 'Start, stop, attach and configure ports.' },
};

/** The list of sections. */
export function helpBrief(): string {
  const line = (section: string, summary: string): string => `    help ${section.padEnd(27)}: ${summary}`;
  return [
    '',
    'Help is available for the following sections:',
    '',
    ...Object.entries(titles).map(([section, { summary }]) => line(section, summary)),
    line('all', 'All of the sections above.'),
    '',
    '',
  ].join('\n');
}

/** One section: every command's shape, and under it what it does. */
export function helpText(section: Section, commands: readonly { readonly shape: string; readonly help: string }[]): string {
  const { title } = titles[section];
  const entries = commands.map(({ shape, help }) => `${shape}\n    ${help}\n`);
  return `\n${title}\n${'-'.repeat(title.length)}\n\n${entries.join('\n')}\n`;
}
