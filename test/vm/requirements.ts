/**
 * What the host must have for the test machine, and why there is none where it lacks.
 * @module
 */
import { findExecutable } from '../support/program.ts';
import packages from './packages.json' with { type: 'json' };

/** Why the machine cannot be started here for want of programs, and how to change that; undefined when nothing is missing. */
export function whyNoPrograms(): string | undefined {
  if (process.platform !== 'linux' || process.arch !== 'x64') return `${process.platform} on ${process.arch}: Linux on x64 is needed`;
  const missing = Object.entries(packages).filter(([command]) => findExecutable(command) === undefined);
  if (missing.length === 0) return undefined;
  const commands = missing.map(([command]) => command).join(', ');
  const names = [...new Set(missing.map(([, name]) => name))].join(' ');
  return `${commands} not found: apt-get install --no-install-recommends ${names} (as root on Debian, 'npm test' does it)`;
}
