/**
 * Every command there is, and what is answered to a line of text.
 * @module
 */
import { readFile } from 'node:fs/promises';

import { errnoText, reason } from '../session/errno-text.ts';
import type { Session } from '../session.ts';
import { captureCommands } from './captures.ts';
import { controlCommands } from './control.ts';
import { csumCommands } from './csum.ts';
import { forwardingCommands } from './forwarding.ts';
import type { Command } from './grammar.ts';
import { completeLine, parseLine, splitWords } from './grammar.ts';
import { offloadCommands } from './offloads.ts';
import { portCommands } from './ports.ts';
import { rssCommands } from './rss.ts';

/** First words of testpmd commands that are not here. */
const missing: ReadonlySet<string> = new Set([
  'add',
  'bpf-load',
  'bpf-unload',
  'create',
  'ddp',
  'del',
  'device',
  'disable',
  'dump_devargs',
  'dump_lcores',
  'dump_log_types',
  'dump_memzone',
  'dump_mempool',
  'dump_physmem',
  'dump_ring',
  'dump_socket_mem',
  'dump_struct_sizes',
  'enable',
  'flow',
  'ptype',
  'read',
  'remove',
  'resume',
  'rx_vxlan_port',
  'suspend',
]);

/** Files that load files that load files: more than this is a circle. */
const maxNesting = 16;

const nesting = new WeakMap<Session, number>();

const commands: readonly Command[] = [
  ...controlCommands({ commands: () => commands, runFile: runCommandFile }),
  ...forwardingCommands,
  ...captureCommands,
  ...portCommands,
  ...offloadCommands,
  ...rssCommands,
  ...csumCommands,
];

async function run(session: Session, line: string, complain: (answer: string) => void): Promise<'quit' | undefined> {
  const parsed = parseLine(commands, line);
  switch (parsed.kind) {
    case 'empty':
      return undefined;
    case 'unknown': {
      complain('Command not found');
      const [first = ''] = splitWords(line);
      if (missing.has(first)) session.output.warn(`${first}: a command of DPDK's testpmd that is not supported yet`);
      return undefined;
    }
    case 'bad':
      complain('Bad arguments');
      return undefined;
    case 'command':
      try {
        return await parsed.run(session);
      } catch (error) {
        session.output.warn(`${splitWords(line).join(' ')}: ${errnoText(error)}`);
        session.output.warn(reason(error));
        return undefined;
      }
  }
}

/** Runs one line; never throws. `quit` when it asks to leave. */
export function runCommand(session: Session, line: string): Promise<'quit' | undefined> {
  return run(session, line, (answer) => session.output.say(answer));
}

/** Runs the commands in a file; `quit` ends the file only, as in testpmd. */
export async function runCommandFile(session: Session, file: string): Promise<void> {
  const { output } = session;
  const depth = nesting.get(session) ?? 0;
  if (depth >= maxNesting) {
    output.warn(`${file}: files of commands are nested more than ${maxNesting} deep`);
    return;
  }
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    output.warn(`Failed to create file based cmdline context: ${file}`);
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') output.warn(reason(error));
    return;
  }
  nesting.set(session, depth + 1);
  try {
    for (const [index, line] of text.split('\n').entries()) {
      if (session.signal.aborted) break;
      if ((await run(session, line, (answer) => output.warn(`${file}:${index + 1}: ${answer}: ${line.trim()}`))) === 'quit') break;
    }
  } finally {
    nesting.set(session, depth);
  }
  output.say(`Read CLI commands from ${file}`);
}

/** For readline: words that fit where the line ends, and the beginning of the word that is there. */
export function complete(session: Session, line: string): [string[], string] {
  const [words, partial] = completeLine(commands, session, line);
  return [[...words], partial];
}

/** Every word that some command has in some place. */
export function commandWords(): readonly string[] {
  const shapes = commands.flatMap(({ tokens }) => tokens.map(({ shape }) => shape));
  return [...new Set(shapes.flatMap((shape) => shape.replace(/[()]/g, '').split('|')))];
}
