/**
 * Commands about the session itself: help, files of commands, waiting, leaving.
 * @module
 */
import { setTimeout as delay } from 'node:timers/promises';

import { helpBrief, helpText } from '../display/help.ts';
import type { Session } from '../session.ts';
import type { Command } from './grammar.ts';
import { choice, command, commandShape, number, sections, text, uint32, word } from './grammar.ts';

/** Longest wait, in seconds: what a timer can hold. */
const maxSleep = 2_147_483;

/** RTE_LOG_MAX: `debug`. */
const maxLogLevel = 8;

/** These commands need the others: for the help, and to run files of them. */
export interface ControlContext {
  readonly commands: () => readonly Command[];
  readonly runFile: (session: Session, file: string) => Promise<void>;
}

export function controlCommands({ commands, runFile }: ControlContext): readonly Command[] {
  const help = (only?: string): string =>
    sections
      .filter((section) => only === undefined || section === only)
      .map((section) =>
        helpText(
          section,
          commands()
            .filter((entry) => entry.section === section && entry.help !== '')
            .map((entry) => ({ shape: commandShape(entry), help: entry.help })),
        ),
      )
      .join('');
  return [
    command('control', [word('quit')], 'Stops everything and leaves.', () => 'quit'),
    command('control', [word('help')], 'Sections of this help.', ({ output }) => output.print(helpBrief())),
    command(
      'control',
      [word('help'), choice('section', [...sections, 'all'])],
      'Commands of a section, or all.',
      ({ output }, { section }) => output.print(help(section === 'all' ? undefined : section)),
    ),
    // As with --log-level: there are no log types to tell apart, and nothing that a level would silence.
    command('config', [word('set'), word('log'), text('type', '(global|type)'), number('level', uint32)], '', ({ output }, values) => {
      if (values.type !== 'global' && values.level > maxLogLevel) output.warn('Unable to set log level');
    }),
    command('control', [word('load'), text('file')], 'Runs the commands in a file.', (session, { file }) => runFile(session, file)),
    command('control', [word('sleep'), text('seconds')], 'Waits: useful in files.', async (session, { seconds }) => {
      const length = /^\d+(\.\d+)?$/.test(seconds) ? Number(seconds) : Number.NaN;
      if (length <= maxSleep) await delay(length * 1000, undefined, { signal: session.signal }).catch(() => undefined);
      else session.output.print('Bad arguments\n');
    }),
  ];
}
