import { PassThrough, Readable } from 'node:stream';

import { describe, expect, it } from 'vitest';

import { runNonInteractive } from '../../src/cli/non-interactive.ts';
import type { SessionOptions } from '../../src/cli/session.ts';
import type { FakeSession } from './fake-session.ts';
import { fakeSession } from './fake-session.ts';

const batch = (options: Partial<SessionOptions> = {}): Promise<FakeSession> => fakeSession({ options: { interactive: false, ...options } });

const pause = (milliseconds: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, milliseconds));

describe('without a prompt', () => {
  it('forwards until Enter', async () => {
    const { session, take, lcores } = await batch();
    const input = new PassThrough();
    const ended = runNonInteractive(session, input);
    await pause(20);
    expect(lcores.running).toBe(true);
    expect(take()).toMatch(
      /^No commandline core given, start packet forwarding\nio packet forwarding - ports=2 [^]*\nPress enter to exit\n$/,
    );
    input.write('\n');
    await ended;
    expect(take()).toMatch(/^Telling cores to stop\.\.\.\nWaiting for lcores to finish\.\.\.\n[^]*\nDone\.\n\nPrimary: [^]*\nBye\.\.\.\n$/);
  });

  it.each([
    ['the end of input', (input: PassThrough) => void input.end()],
    ['an input that breaks', (input: PassThrough) => void input.destroy()],
  ])('ends at %s', async (_name, act) => {
    const { session, take } = await batch({ txFirst: true });
    const input = new PassThrough();
    const ended = runNonInteractive(session, input);
    await pause(10);
    act(input);
    await ended;
    expect(take()).toMatch(/\nBye\.\.\.\n$/);
  });

  it('ends at once on an input that has ended', async () => {
    const { session, take } = await batch();
    const input = Readable.from([]);
    input.resume();
    await pause(10);
    await runNonInteractive(session, input);
    expect(take()).toMatch(/\nBye\.\.\.\n$/);
  });

  it('ends when interrupted; sends a burst first when asked to', async () => {
    const { session, lcores } = await batch({ txFirst: true });
    const ended = runNonInteractive(session, new PassThrough());
    await pause(10);
    session.interrupt();
    await ended;
    expect(lcores.plan?.txFirst).toBe(1);
    expect(lcores.running).toBe(false);
  });

  it('shows statistics until interrupted, whatever the input', async () => {
    const { session, take } = await batch({ statsPeriod: 0.02 });
    const input = Readable.from([]);
    const ended = runNonInteractive(session, input);
    await pause(50);
    session.interrupt();
    await ended;
    const screen = `\u001b[2J\u001b[1;1H
Port statistics ====================================
  ######################## NIC statistics for port 0  ########################
  RX-packets: 0          RX-missed: 0          RX-bytes:  0
  RX-errors: 0
  RX-nombuf:  0         
  TX-packets: 0          TX-errors: 0          TX-bytes:  0

  Throughput (since last show)
  Rx-pps:            0          Rx-bps:            0
  Tx-pps:            0          Tx-bps:            0
  ############################################################################

  ######################## NIC statistics for port 1  ########################
`;
    const text = take();
    expect(text.split(screen).length).toBeGreaterThan(2);
    expect(text).not.toContain('Press enter');
  });
});
