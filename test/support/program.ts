/**
 * The two programs with one command line: DPDK's testpmd and ours.
 * @module
 */
import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { findCommand } from '../../bench/programs.ts';

export type Program = 'dpdk-ts' | 'dpdk';

/** DPDK_TS_TESTPMD names another build's: of an installed package, of an older version. */
const OURS = process.env['DPDK_TS_TESTPMD'] ?? fileURLToPath(new URL('../../dist/cli/testpmd-main.js', import.meta.url));

/** Path of an executable on PATH or in the administrator's directories, or undefined. */
export function findExecutable(name: string): string | undefined {
  return findCommand(name, `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`);
}

/** What to execute, without the program's own arguments. */
export function programCommand(program: Program): readonly string[] {
  if (program === 'dpdk-ts') return [process.execPath, OURS];
  // stdio of a pipe is fully buffered, and dpdk-testpmd writes its prompt past it: answers would come after the next prompt
  return ['stdbuf', '-o0', 'dpdk-testpmd'];
}

/** Why a program cannot run here, or undefined when it can. */
export function whyMissing(program: Program): string | undefined {
  if (program === 'dpdk-ts') return existsSync(OURS) ? undefined : `${OURS} is not built: npm run build`;
  return findExecutable('dpdk-testpmd') === undefined
    ? "no dpdk-testpmd: apt-get install --no-install-recommends dpdk-dev (as root on Debian, 'npm test' does it)"
    : undefined;
}

/**
 * `--lcores` for the side of a pair: the main thread, which sleeps, and the forwarding threads share a CPU, and each side has its own.
 */
export function lcoresArgument(side: 0 | 1, forwarding = 1): readonly string[] {
  const cpu = side % availableParallelism();
  return ['--lcores', Array.from({ length: 1 + forwarding }, (_, lcore) => `${lcore}@${cpu}`).join(',')];
}
