/**
 * How much of a core each thread of a process had: a window counts only when both forwarding threads had a whole one.
 *
 * The forwarding thread is the one that ran most in the window: it polls without a pause, and every other thread sleeps. So it needs no
 * name (DPDK's is `rte-worker-1`), and a program that names its threads otherwise is measured alike.
 * @module
 */
import { readdirSync, readFileSync } from 'node:fs';

export interface TaskTime {
  readonly name: string;
  readonly nanoseconds: number;
}

export interface BusiestTask extends TaskTime {
  readonly thread: number;
}

/** Linux counts in hundredths of a second where it has no schedstat (USER_HZ, the same on every architecture that Node.js runs on). */
const NANOSECONDS_A_TICK = 1e7;

/** Time on a CPU of every thread of the process so far. */
export function taskTimes(pid: number): ReadonlyMap<number, TaskTime> {
  const times = new Map<number, TaskTime>();
  for (const entry of readdirSync(`/proc/${pid}/task`)) {
    const directory = `/proc/${pid}/task/${entry}`;
    try {
      times.set(Number(entry), { name: readFileSync(`${directory}/comm`, 'utf8').trim(), nanoseconds: runTime(directory) });
    } catch {
      // The thread ended between the two reads: it forwards nothing.
    }
  }
  return times;
}

/** The thread that ran most between two readings; undefined where none ran. */
export function busiestTask(before: ReadonlyMap<number, TaskTime>, after: ReadonlyMap<number, TaskTime>): BusiestTask | undefined {
  let busiest: BusiestTask | undefined;
  for (const [thread, { name, nanoseconds }] of after) {
    const ran = nanoseconds - (before.get(thread)?.nanoseconds ?? 0);
    if (ran > (busiest?.nanoseconds ?? 0)) {
      busiest = { thread, name, nanoseconds: ran };
    }
  }
  return busiest;
}

function runTime(directory: string): number {
  try {
    return parseSchedstat(readFileSync(`${directory}/schedstat`, 'utf8'));
  } catch {
    return parseStat(readFileSync(`${directory}/stat`, 'utf8'));
  }
}

/** "run-time wait-time slices", nanoseconds. */
export function parseSchedstat(text: string): number {
  const time = Number(text.split(' ')[0]);
  if (text.trim() === '' || !Number.isFinite(time)) {
    throw new TypeError(`not a schedstat: '${text.trim()}'`);
  }
  return time;
}

/** User and system time from `stat`, whose second field, the name in parentheses, may hold anything. */
export function parseStat(text: string): number {
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) * NANOSECONDS_A_TICK;
}
