/**
 * The prompt: reads commands from a terminal or a pipe and runs them one after the other.
 *
 * On a terminal node:readline edits the line, remembers it and completes words; from a pipe every line is echoed after the prompt,
 * so that a recorded output reads like a terminal's. End of input (Ctrl-D) leaves, and so does Ctrl-C, unless a line is being
 * typed: then only that line is dropped.
 * @module
 */
import { createInterface } from 'node:readline';
import type { Interface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';

import { complete, runCommand, runCommandFile } from './commands/table.ts';
import { LineQueue } from './session/line-queue.ts';
import type { Session } from './session.ts';

const prompt = 'testpmd> ';

export interface ShellStreams {
  readonly input: Readable & { readonly isTTY?: boolean };
  /** Where a terminal's line is edited; prompts of a pipe go through the session's output, in order with the answers. */
  readonly output: Writable & { readonly isTTY?: boolean };
}

function editor(session: Session, { input, output }: ShellStreams): Interface {
  return createInterface({
    input,
    output,
    prompt,
    terminal: true,
    historySize: 1000,
    removeHistoryDuplicates: true,
    completer: (line: string) => complete(session, line),
  });
}

/** Runs commands until `quit`, the end of input or an interruption. The session is still open afterwards. */
async function readCommands(session: Session, streams: ShellStreams): Promise<void> {
  const terminal = streams.input.isTTY === true && streams.output.isTTY === true;
  const lines = new LineQueue();
  const readline = terminal ? editor(session, streams) : createInterface({ input: streams.input, terminal: false, crlfDelay: Infinity });
  const interrupted = (): void => lines.end(true);
  session.signal.addEventListener('abort', interrupted, { once: true });
  if (session.signal.aborted) interrupted();
  let busy = false;
  readline.on('line', (line) => lines.push(line));
  readline.on('close', () => lines.end());
  readline.on('SIGINT', () => {
    if (busy || readline.line === '') {
      session.interrupt();
    } else {
      streams.output.write('\n');
      // Ctrl-U: readline has no other way to drop what was typed.
      readline.write(null, { ctrl: true, name: 'e' });
      readline.write(null, { ctrl: true, name: 'u' });
    }
  });
  try {
    for (;;) {
      if (terminal) readline.prompt();
      else session.output.print(prompt);
      const line = await lines.next();
      if (line === undefined) break;
      if (!terminal) session.output.say(line);
      busy = true;
      const answer = await session.exclusive(() => runCommand(session, line));
      busy = false;
      if (answer === 'quit' || session.signal.aborted) break;
    }
  } finally {
    session.signal.removeEventListener('abort', interrupted);
    readline.close();
  }
}

/** The interactive session after begin(): command file, automatic start, prompt, and the end of everything. */
export async function runShell(session: Session, streams: ShellStreams): Promise<void> {
  const { options, output } = session;
  try {
    if (options.commandFile !== undefined) {
      const file = options.commandFile;
      await session.exclusive(() => runCommandFile(session, file));
    }
    if (options.autoStart && !session.signal.aborted) {
      output.say('Start automatic packet forwarding');
      await session.exclusive(() => session.forwarding.start(0));
    }
    if (!session.signal.aborted) await readCommands(session, streams);
  } finally {
    await session.end();
  }
}
