/**
 * Names of PCI devices from pci.ids, as lspci has them.
 * @module
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { PciDevice } from '../../pci/sysfs.ts';

const LISTS = ['usr/share/misc/pci.ids', 'usr/share/hwdata/pci.ids'];
/** What lspci calls a device that it knows nothing about. */
const UNKNOWN = 'Device';

/** Looks the devices up; lspci's word for those that no list has. */
export function readDeviceNames(devices: readonly PciDevice[], root = '/'): ReadonlyMap<PciDevice, string> {
  const text = readList(root);
  return new Map(devices.map((device) => [device, nameIn(text, device) ?? UNKNOWN]));
}

function readList(root: string): string {
  for (const name of LISTS) {
    try {
      return readFileSync(join(root, name), 'utf8');
    } catch {
      // the next one
    }
  }
  return '';
}

/** `VVVV  Vendor` at the start of a line, then `\tDDDD  Device` until the next vendor. */
function nameIn(text: string, { vendorId, deviceId }: PciDevice): string | undefined {
  const digits = (id: number): string => id.toString(16).padStart(4, '0');
  const vendor = new RegExp(`^${digits(vendorId)}  .*\\n((?:[\\t#].*\\n|\\n)*)`, 'm').exec(text)?.[1];
  return vendor === undefined ? undefined : new RegExp(`^\\t${digits(deviceId)}  (.*)$`, 'm').exec(vendor)?.[1];
}
