/**
 * What devices need of the memory that packets are in, which is made before any of them is looked for.
 * @module
 */
import { statSync } from 'node:fs';
import { VirtioError } from '../system/error.ts';

export interface MemoryDemand {
  /** The file that the published part must lie in. */
  readonly publishedPath?: string | undefined;
  /** Bytes of a page, where it cannot be any. */
  readonly pageSize?: 4096 | undefined;
}

function isSameFile(one: string, other: string): boolean {
  const [a, b] = [one, other].map((path) => statSync(path, { throwIfNoEntry: false }));
  return one === other || (a !== undefined && a.dev === b?.dev && a.ino === b.ino);
}

/**
 * What satisfies all of them.
 * @throws VirtioError EINVAL when two need different files
 */
export function joinDemands(demands: readonly MemoryDemand[]): MemoryDemand {
  const [publishedPath, ...others] = demands.map((demand) => demand.publishedPath).filter((path) => path !== undefined);
  const other = others.find((path) => !isSameFile(path, publishedPath ?? ''));
  if (other !== undefined) {
    throw new VirtioError(
      `packets cannot be in ${String(publishedPath)} and in ${other}: give all QEMUs one memory file, or each a process of ours, or qemu=auto`,
      { code: 'EINVAL' },
    );
  }
  return { publishedPath, pageSize: demands.find((demand) => demand.pageSize !== undefined)?.pageSize };
}
