/**
 * What a process holds in memory, as the kernel accounts for it.
 * @module
 */
import { readFileSync } from 'node:fs';

/** Bytes. Huge pages are in none of the RSS figures. */
export interface ProcessMemory {
  readonly rssAnon: number;
  readonly rssFile: number;
  readonly rssShmem: number;
  readonly hugePages: number;
}

export function processMemory(pid: number): ProcessMemory {
  return parseStatus(readFileSync(`/proc/${pid}/status`, 'utf8'));
}

export function parseStatus(status: string): ProcessMemory {
  const bytes = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? 0) * 1024;
  return { rssAnon: bytes('RssAnon'), rssFile: bytes('RssFile'), rssShmem: bytes('RssShmem'), hugePages: bytes('HugetlbPages') };
}
