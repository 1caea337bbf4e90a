/**
 * What /proc tells about a process: is it alive, what does it hold open, who are its children.
 * @module
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

/** False for a process that is gone or waits to be reaped. */
export function isAlive(pid: number): boolean {
  const state = statFields(pid)?.[0];
  return state !== undefined && state !== 'Z' && state !== 'X';
}

/** Descriptor number -> what it leads to (`socket:[123]`, `/memfd:name (deleted)`, `anon_inode:[eventfd]`). */
export function openDescriptors(pid: number): ReadonlyMap<number, string> {
  const descriptors = new Map<number, string>();
  for (const name of readdirSync(`/proc/${pid}/fd`)) {
    try {
      descriptors.set(Number(name), readlinkSync(`/proc/${pid}/fd/${name}`));
    } catch {
      // closed meanwhile
    }
  }
  return descriptors;
}

/** Lines of /proc/PID/maps that have a file behind them, without those of shared libraries and of the program itself. */
export function fileMappings(pid: number): readonly string[] {
  const lines = readFileSync(`/proc/${pid}/maps`, 'utf8').split('\n');
  return lines.filter((line) => /\/memfd:|\/dev\/|huge|\(deleted\)/.test(line));
}

/** Live processes of a process group, each with its command name. */
export function processGroup(group: number): readonly string[] {
  const members: string[] = [];
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const pid = Number(name);
    const fields = statFields(pid);
    if (fields === undefined || fields[0] === 'Z' || Number(fields[2]) !== group) continue;
    members.push(`${name} ${commandName(pid)}`);
  }
  return members;
}

/** CPU time that a process's threads have had, in milliseconds; the kernel counts it in hundredths of a second. */
export function cpuMilliseconds(pid: number): number {
  const fields = statFields(pid) ?? [];
  return (Number(fields[11] ?? 0) + Number(fields[12] ?? 0)) * 10;
}

/** The fields of /proc/PID/stat that follow the command's name: state, parent, group ... */
function statFields(pid: number): readonly string[] | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return text.slice(text.lastIndexOf(')') + 2).split(' ');
  } catch {
    return undefined;
  }
}

function commandName(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
  } catch {
    return '?';
  }
}
