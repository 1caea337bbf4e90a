/**
 * Memory of the test processes: huge pages where the machine has enough free ones, ordinary pages otherwise.
 * @module
 */
import { readFileSync } from 'node:fs';

const POOL = '/sys/kernel/mm/hugepages/hugepages-2048kB';

/** Free and unreserved pages of 2 MB. */
export function freeHugePages(): number {
  try {
    const read = (file: string): number => Number(readFileSync(`${POOL}/${file}`, 'utf8'));
    return read('free_hugepages') - read('resv_hugepages');
  } catch {
    return 0;
  }
}

/**
 * How a process of a pair gets its memory.
 * - `grows`: one file on huge pages, no `-m`: DPDK's grows while it runs, and so does the memory table that it sends.
 * - `huge`: one file on huge pages, all of it from the start (`-m`).
 * - `mounted`: a hugetlbfs mounted in a mount namespace of the process's own (`--huge-dir`).
 * - `ordinary`: `--no-huge`.
 */
export type MemoryKind = 'grows' | 'huge' | 'mounted' | 'ordinary';

/** Pages that both processes of a pair together may take. */
const PAGES_OF_A_PAIR = 160;

/** Why huge pages cannot be had, or undefined when they can. */
export function whyNoHugePages(): string | undefined {
  const free = freeHugePages();
  if (free >= PAGES_OF_A_PAIR) return undefined;
  return `${free} free huge pages of 2 MB, ${PAGES_OF_A_PAIR} needed: echo 256 > /proc/sys/vm/nr_hugepages`;
}

/** `grows`, DPDK's habit, where two processes find the pages for it. */
export function usualMemory(): MemoryKind {
  return whyNoHugePages() === undefined ? 'grows' : 'ordinary';
}

const HUGE_DIRECTORY = '/mnt';

export interface MemoryArguments {
  readonly eal: readonly string[];
  /** Command that the program is the argument of. */
  readonly wrapper: readonly string[];
}

export function memoryArguments(kind: MemoryKind): MemoryArguments {
  switch (kind) {
    case 'grows':
      return { eal: ['--in-memory', '--single-file-segments'], wrapper: [] };
    case 'huge':
      return { eal: ['--in-memory', '--single-file-segments', '-m', '128'], wrapper: [] };
    case 'mounted': {
      const mount = `mount -t hugetlbfs -o pagesize=2M none ${HUGE_DIRECTORY} && exec "$@"`;
      return { eal: ['--single-file-segments', '--huge-dir', HUGE_DIRECTORY], wrapper: ['unshare', '--mount', 'sh', '-c', mount, 'sh'] };
    }
    case 'ordinary':
      return { eal: ['--no-huge', '-m', '192'], wrapper: [] };
  }
}
