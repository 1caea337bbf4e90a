/**
 * Name and version of the package.
 * @module
 */
import { readFileSync } from 'node:fs';

/** `dpdk-ts 0.1.0`. */
export function versionText(): string {
  const { name, version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    readonly name: string;
    readonly version: string;
  };
  return `${name} ${version}`;
}
