/**
 * Lines of shell in the test machine that drive testpmds by the functions of testpmd.sh, and what they printed.
 * @module
 */
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';
import { parseForwardStats } from '../../bench/port-stats.ts';
import { runInMachine, type MachineOptions } from './machine.ts';

const FUNCTIONS = fileURLToPath(new URL('testpmd.sh', import.meta.url));

const MACHINE_LIMIT = 300_000;
/** Milliseconds for a test of several starts of testpmd: minutes on a busy host with emulation, and where the machine has to be booted again. */
export const SCRIPT_LIMIT = MACHINE_LIMIT + 140_000;

export interface Printed {
  readonly text: string;
  /** Every `name: value` line. */
  readonly values: ReadonlyMap<string, string>;
  /** What follows `mark TEXT`; empty when there is no such mark. */
  readonly section: (mark: string) => string;
}

/** Runs the lines; a status other than 0 fails the test with all that they printed. */
export async function runScript(lines: string, options: Omit<MachineOptions, 'command'> = {}): Promise<Printed> {
  const { status, stdout, stderr } = await runInMachine({ limit: MACHINE_LIMIT, ...options, command: `. ${FUNCTIONS}\n${lines}` });
  expect(status, `${stdout}\n${stderr}`).toBe(0);
  const pairs = [...stdout.matchAll(/^([a-z][a-z0-9 ]*): (.*)$/gm)].map(([, key = '', value = '']) => [key, value] as const);
  const sections = new Map(
    `\n${stdout}`
      .split('\n== ')
      .slice(1)
      .map((part) => [part.slice(0, part.indexOf('\n')), part.slice(part.indexOf('\n') + 1)]),
  );
  return { text: stdout, values: new Map(pairs), section: (mark) => sections.get(mark) ?? '' };
}

/** What a testpmd says about a port when it stops forwarding. */
export function forwarded(text: string, port: number): { readonly received: number; readonly sent: number; readonly dropped: number } {
  const stats = parseForwardStats(text, port);
  if (stats === undefined) throw new Error(`no statistics of port ${String(port)} in:\n${text}`);
  return { received: stats.rxPackets, sent: stats.txPackets, dropped: stats.rxDropped + stats.txDropped };
}
