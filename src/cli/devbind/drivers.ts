/**
 * Drivers of the kernel: which are there, and which of its modules are made for a device.
 * @module
 */
import { existsSync, readFileSync } from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import type { PciDevice } from '../../pci/sysfs.ts';

/** Those that leave a device to a process, in the order in which they are listed. */
export const PROCESS_DRIVERS = ['igb_uio', 'vfio-pci', 'uio_pci_generic'] as const;

/** Whether a driver of PCI devices is loaded, or built in. */
export function isLoaded(driver: string, root = '/'): boolean {
  return existsSync(join(root, 'sys/bus/pci/drivers', driver));
}

/** Modules for a device, by the patterns that the kernel's modules came with; none where they are not installed. */
export function modulesFor(device: PciDevice, root = '/'): readonly string[] {
  let alias: string;
  let list: string;
  try {
    alias = readFileSync(join(device.path, 'modalias'), 'latin1').trim();
    list = readFileSync(join(root, 'lib/modules', release(), 'modules.alias'), 'latin1');
  } catch {
    return [];
  }
  const found = new Set<string>();
  for (const [, pattern = '', module = ''] of list.matchAll(/^alias (pci:\S+) (\S+)$/gm)) if (matches(pattern, alias)) found.add(module);
  return [...found];
}

/** A pattern of the shell with `*` and `[...]`. */
export function matches(pattern: string, text: string): boolean {
  const expression = pattern
    .replace(/[.+^${}()|\\]/g, '\\$&')
    .replaceAll('*', '.*')
    .replaceAll('?', '.');
  return new RegExp(`^${expression}$`).test(text);
}
