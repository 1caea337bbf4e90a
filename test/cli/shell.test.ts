import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Readable, Writable } from 'node:stream';

import { describe, expect, it } from 'vitest';

import { complete } from '../../src/cli/commands/table.ts';
import { runShell } from '../../src/cli/shell.ts';
import { fakeSession } from './fake-session.ts';

const ending = `
Primary: Sending 'stop_req' request to secondary...

Stopping port 0...
Stopping ports...
Done

Stopping port 1...
Stopping ports...
Done

Shutting down port 0...
Closing ports...
Port 0 is closed
Done

Shutting down port 1...
Closing ports...
Port 1 is closed
Done

Bye...
`;

const nowhere = (): Writable => new Writable({ write: (_chunk, _encoding, done) => done() });

/** Both ends of a terminal, as readline sees one. */
function terminal(): { readonly input: PassThrough & { isTTY: boolean }; readonly output: Writable & { isTTY: boolean } } {
  const input = Object.assign(new PassThrough(), { isTTY: true, setRawMode: () => input });
  return { input, output: Object.assign(nowhere(), { isTTY: true, columns: 80 }) };
}

describe('a pipe', () => {
  it('echoes lines after the prompt and leaves at quit', async () => {
    const { session, take } = await fakeSession();
    await runShell(session, {
      input: Readable.from(['set burst 16\nfoo\n', '  show   config cores # comment\nquit\nstart\n']),
      output: nowhere(),
    });
    expect(take()).toBe(`testpmd> set burst 16
Number of packets per burst set to 16
testpmd> foo
Command not found
testpmd>   show   config cores # comment
List of forwarding lcores:  1
testpmd> quit
${ending}`);
  });

  it('leaves at the end of input', async () => {
    const { session, take } = await fakeSession();
    await runShell(session, { input: Readable.from(['stop']), output: nowhere() });
    expect(take()).toBe(`testpmd> stop\nPacket forwarding not started\ntestpmd> ${ending}`);
  });

  it('runs one command after the other, however long they take', async () => {
    const { session, take } = await fakeSession();
    await runShell(session, { input: Readable.from(['sleep 0.05\nset burst 4\nsleep 0.02\nset burst 5\nsleep x\n']), output: nowhere() });
    expect(take()).toBe(`testpmd> sleep 0.05
testpmd> set burst 4
Number of packets per burst set to 4
testpmd> sleep 0.02
testpmd> set burst 5
Number of packets per burst set to 5
testpmd> sleep x
Bad arguments
testpmd> ${ending}`);
  });

  it('leaves when interrupted, also while a command waits', async () => {
    const { session, take } = await fakeSession();
    const input = new PassThrough();
    const ended = runShell(session, { input, output: nowhere() });
    input.write('start\nsleep 1000\nset burst 4\n');
    setTimeout(() => session.interrupt(), 50);
    await ended;
    const text = take();
    expect(text).toContain('testpmd> sleep 1000\nTelling cores to stop...\nWaiting for lcores to finish...\n');
    expect(text).toContain(`Done.\n${ending}`);
  });

  it('runs the command file, starts by itself, and then shows the prompt', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'shell-'));
    try {
      const commandFile = join(directory, 'cmds.txt');
      await writeFile(commandFile, 'set burst 8\n');
      const { session, take, lcores } = await fakeSession({ options: { commandFile, autoStart: true } });
      await runShell(session, { input: Readable.from([]), output: nowhere() });
      expect(take()).toMatch(
        new RegExp(
          `^Number of packets per burst set to 8\nRead CLI commands from ${commandFile}\nStart automatic packet forwarding\nio packet`,
        ),
      );
      expect(lcores.plan?.burst).toBe(8);
    } finally {
      await rm(directory, { recursive: true });
    }
  });
});

describe('a terminal', () => {
  it('completes, drops a line at Ctrl-C, and leaves at Ctrl-D', async () => {
    const { session, take } = await fakeSession();
    const { input, output } = terminal();
    const ended = runShell(session, { input, output });
    const type = async (text: string): Promise<void> => {
      input.write(text);
      await new Promise((resolve) => setTimeout(resolve, 20));
    };
    // A tab in the middle of a paste completes nothing: readline takes several characters at once for one.
    for (const keys of ['set bur', '\t', '7\r']) await type(keys);
    await type('set burst 9\u0003set burst 10\r');
    await type('\u0004');
    await ended;
    expect(take()).toBe(`Number of packets per burst set to 7\nNumber of packets per burst set to 10\n${ending}`);
  });

  it('leaves at Ctrl-C on an empty line', async () => {
    const { session, take } = await fakeSession();
    const { input, output } = terminal();
    const ended = runShell(session, { input, output });
    input.write('\u0003');
    await ended;
    expect(take()).toBe(ending);
  });
});

describe('completion', () => {
  it.each([
    ['sho', ['show '], 'sho'],
    ['show port s', ['stats ', 'summary '], 's'],
    ['show  port info ', ['0 ', '1 ', 'all '], ''],
    ['set fwd ma', ['mac ', 'macswap '], 'ma'],
    ['start ', ['tx_first '], ''],
    ['foo ', [], ''],
    ['show device info net_null1', ['net_null1 '], 'net_null1'],
    ['port config 0 rx_offload vlan_s', ['vlan_strip '], 'vlan_s'],
  ])('%s', async (line, words, partial) => {
    const { session } = await fakeSession();
    expect(complete(session, line)).toEqual([words, partial]);
  });
});
