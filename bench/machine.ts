/**
 * The machine that the figures are from, and what a run needs of it: two CPUs and huge pages.
 * @module
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus, release, totalmem } from 'node:os';
import type { Memory } from './programs.ts';

export interface Machine {
  readonly cpu: string;
  readonly cpus: number;
  readonly memoryGiB: number;
  readonly kernel: string;
  readonly architecture: string;
  readonly hypervisor: boolean;
}

/** Enough for both ends of any case, at 2 MB each. */
const HUGE_PAGES = 512;
const NR_HUGEPAGES = '/proc/sys/vm/nr_hugepages';
const NO_HUGE_MEGABYTES = 512;

export function describeMachine(): Machine {
  return {
    cpu: cpus()[0]?.model ?? 'unknown',
    cpus: availableParallelism(),
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
    architecture: process.arch,
    hypervisor: /^flags\s*:.*\bhypervisor\b/m.test(readOr('/proc/cpuinfo', '')),
  };
}

/** CPUs that this process may run on, by number. */
export function allowedCpus(): number[] {
  return parseCpuList(/^Cpus_allowed_list:\s*(\S+)/m.exec(readOr('/proc/self/status', ''))?.[1] ?? '0');
}

/** "0-2,5" is 0, 1, 2, 5. */
export function parseCpuList(list: string): number[] {
  return list.split(',').flatMap((part) => {
    const [first, last] = part.split('-').map(Number);
    return first === undefined ? [] : Array.from({ length: (last ?? first) - first + 1 }, (_, index) => first + index);
  });
}

/**
 * Huge pages where the machine has them free or lets them be raised (they belong to the whole machine: never lowered, not even to what they
 * were); ordinary ones otherwise, for both programs alike.
 */
export function prepareMemory(): Memory {
  try {
    if (Number(readOr(NR_HUGEPAGES, '0')) < HUGE_PAGES) {
      writeFileSync(NR_HUGEPAGES, String(HUGE_PAGES));
    }
  } catch {
    // Not root, or no huge pages in this kernel: what there is has to do.
  }
  const meminfo = readOr('/proc/meminfo', '');
  const free = Number(/^HugePages_Free:\s+(\d+)/m.exec(meminfo)?.[1] ?? 0);
  const kilobytes = Number(/^Hugepagesize:\s+(\d+)/m.exec(meminfo)?.[1] ?? 0);
  return free * kilobytes >= (HUGE_PAGES / 2) * 2048 ? { kind: 'huge' } : { kind: 'no-huge', megabytes: NO_HUGE_MEGABYTES };
}

function readOr(path: string, otherwise: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return otherwise;
  }
}
