/**
 * What huge pages the machine has, and where hugetlbfs is mounted.
 * @module
 */
import { readdirSync, readFileSync, statfsSync } from 'node:fs';
import { VirtioError } from './error.ts';

export interface HugePagePool {
  /** Bytes of one page. */
  readonly pageSize: number;
  readonly total: number;
  readonly free: number;
}

export interface HugeMount {
  readonly directory: string;
  /** Bytes of one page of this mount. */
  readonly pageSize: number;
}

const SYSFS = '/sys/kernel/mm/hugepages';
const HUGETLBFS_MAGIC = 0x958458f6;

/** The pools of the machine, smallest page first; empty where the kernel has none. */
export function hugePagePools(): readonly HugePagePool[] {
  let names: string[];
  try {
    names = readdirSync(SYSFS);
  } catch {
    return [];
  }
  const pools: HugePagePool[] = [];
  for (const name of names) {
    const kilobytes = /^hugepages-(\d+)kB$/.exec(name)?.[1];
    if (kilobytes === undefined) continue;
    const read = (file: string): number => Number(readFileSync(`${SYSFS}/${name}/${file}`, 'utf8'));
    // reserved pages are promised to somebody and still counted as free
    const free = read('free_hugepages') - read('resv_hugepages');
    pools.push({ pageSize: Number(kilobytes) * 1024, total: read('nr_hugepages'), free: Math.max(0, free) });
  }
  return pools.sort((a, b) => a.pageSize - b.pageSize);
}

/** Bytes of the huge pages that a file is made of, by its path; undefined for a file on ordinary pages, or none. */
export function filePageSize(path: string): number | undefined {
  try {
    const filesystem = statfsSync(path);
    return filesystem.type >>> 0 === HUGETLBFS_MAGIC ? filesystem.bsize : undefined;
  } catch {
    return undefined;
  }
}

/**
 * The hugetlbfs mounted at `directory` (`--huge-dir`); the page size follows the mount.
 * @throws VirtioError when the directory is missing or is no hugetlbfs
 */
export function hugeMountAt(directory: string): HugeMount {
  let type: number;
  let pageSize: number;
  try {
    const filesystem = statfsSync(directory);
    type = filesystem.type >>> 0;
    pageSize = filesystem.bsize;
  } catch (cause) {
    throw new VirtioError(`--huge-dir ${directory}: not a readable directory; mount hugetlbfs there or leave the option out`, {
      code: 'ENOENT',
      cause,
    });
  }
  if (type !== HUGETLBFS_MAGIC) {
    throw new VirtioError(
      `--huge-dir ${directory}: no hugetlbfs is mounted there; run 'mount -t hugetlbfs none ${directory}' or leave the option out`,
      { code: 'EINVAL' },
    );
  }
  return { directory, pageSize };
}
