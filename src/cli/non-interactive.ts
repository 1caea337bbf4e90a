/**
 * Without a prompt: forwards at once, until told to stop.
 *
 * Enter, the end of input, SIGINT and SIGTERM end it. With --stats-period only a terminal's Enter and the signals do, as testpmd does
 * not read its input then: what runs in the background with no input at all has to go on.
 * @module
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Readable } from 'node:stream';

import { runCommandFile } from './commands/table.ts';
import type { Session } from './session.ts';

export type StandardInput = Readable & { readonly isTTY?: boolean };

/** Interrupts the session at the first byte, or at the end; returns how to stop listening. */
function interruptOnInput(session: Session, input: StandardInput): () => void {
  const done = (): void => session.interrupt();
  for (const event of ['data', 'end', 'close', 'error']) input.once(event, done);
  if (input.readableEnded || input.destroyed) done();
  return () => {
    for (const event of ['data', 'end', 'close', 'error']) input.off(event, done);
    input.pause();
  };
}

async function waitForEnd({ signal }: Session): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((resolve) => {
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

/** Runs the session after begin(), and ends it. */
export async function runNonInteractive(session: Session, input: StandardInput): Promise<void> {
  const { options, output, signal } = session;
  let stopListening = (): void => undefined;
  // Waiting keeps the process alive by itself: an input that says nothing does not.
  const alive = setInterval(() => undefined, 0x7fff_ffff);
  try {
    if (options.commandFile !== undefined) {
      const file = options.commandFile;
      await session.exclusive(() => runCommandFile(session, file));
    }
    output.say('No commandline core given, start packet forwarding');
    await session.exclusive(() => session.forwarding.start(options.txFirst ? 1 : 0));
    if (options.statsPeriod === 0) {
      output.say('Press enter to exit');
      stopListening = interruptOnInput(session, input);
      await waitForEnd(session);
    } else {
      if (input.isTTY === true) stopListening = interruptOnInput(session, input);
      while (!signal.aborted) {
        await session.exclusive(() => session.display.statisticsScreen());
        await delay(options.statsPeriod * 1000, undefined, { signal }).catch(() => undefined);
      }
    }
  } finally {
    clearInterval(alive);
    stopListening();
    await session.end();
  }
}
