/**
 * What `npm start` runs, ended early by Ctrl-C: rates, closing statistics, nothing lost, nothing left.
 * @module
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { within } from '../support/deadline.ts';

const DEMO = fileURLToPath(new URL('../../dist/cli/demo.js', import.meta.url));

test('rates by the second, then testpmd’s statistics with nothing lost, and exit status 0 after Ctrl-C', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'dpdk-ts-demo-'));
  const child = spawn(process.execPath, [DEMO], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, TMPDIR: directory, FORCE_COLOR: '1' },
  });
  try {
    let output = '';
    let lines = 0;
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text;
      if (!/^ +\d+ s {2}/m.test(text) || ++lines !== 2) return;
      child.kill('SIGINT');
    });
    child.stderr.resume();
    const status = await within(15_000, () => `the end\n${output}`, new Promise((resolve) => child.once('close', resolve)));
    expect(status, output).toBe(0);
    expect(output).toMatch(/^ {2}1 s {2}received by virtio_user0 +\d+\.\d\d Mpps, by net_vhost0 +\d+\.\d\d Mpps$/m);
    expect(output).toMatch(/Accumulated forward statistics/);
    const dropped = Array.from(output.matchAll(/-dropped: (\d+)/g), ([, count]) => count);
    expect(dropped.length).toBe(6);
    expect(new Set(dropped)).toEqual(new Set(['0']));
    // a pipe gets no colour
    expect(output).not.toMatch(/\x1b/);
    expect(readdirSync(directory)).toEqual([]);
  } finally {
    child.kill('SIGKILL');
    rmSync(directory, { recursive: true, force: true });
  }
});
