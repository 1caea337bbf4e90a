/**
 * Devices on the command line: `--vdev` names virtual ones, `-a` and `-b` those of the PCI bus.
 * @module
 */
import { parsePciAddress } from '../../pci/address.ts';
import { nearestName, parseDevargs } from '../../port/devargs.ts';
import type { Devargs } from '../../port/devargs.ts';
import { VirtioError } from '../../system/error.ts';
import { deviceFailure } from './failure.ts';

/** A virtual device: `--vdev=NAME[,key=value,...]`. */
export interface VirtualDevice extends Devargs {
  /** The name without its trailing number, or the driver whose name it begins with: `net_vhost`, `virtio_user`. */
  readonly driver: string;
}

/** A PCI device of `-a` or `-b`; `name` is the full address, `0000:00:04.0`. */
export type PciSelection = Devargs;

/** The driver of a device: the longest of `drivers` that its name begins with, as in DPDK; else the name without its number. */
export function driverOf(name: string, drivers: readonly string[] | undefined): string | undefined {
  if (drivers === undefined) return name.replace(/\d+$/, '');
  return drivers.filter((driver) => name.startsWith(driver)).sort((a, b) => b.length - a.length)[0];
}

/**
 * Reads what `--vdev` and `port attach` name.
 * @throws VirtioError EINVAL for text that cannot be read, ENODEV when no driver has that name
 */
export function parseVirtualDevice(text: string, drivers?: readonly string[]): VirtualDevice {
  const devargs = parseDevargs(text);
  const driver = driverOf(devargs.name, drivers);
  if (driver === undefined || driver === '') {
    const known = drivers ?? [];
    const nearest = nearestName(devargs.name.replace(/\d+$/, ''), known);
    const hint = nearest === undefined ? '' : `did you mean ${nearest}? `;
    throw new VirtioError(`no driver for "${devargs.name}"; ${hint}known drivers: ${known.join(', ')}`, { code: 'ENODEV' });
  }
  return { ...devargs, driver };
}

/** `--vdev`. @throws ArgumentFailure */
export function readVirtualDevice(text: string, drivers: readonly string[] | undefined): VirtualDevice {
  try {
    return parseVirtualDevice(text, drivers);
  } catch (error) {
    if (error instanceof VirtioError) throw deviceFailure(text, `--vdev ${text}: ${error.message}`);
    throw error;
  }
}

/** `-a` and `-b`. @throws ArgumentFailure */
export function readPciSelection(option: string, text: string): PciSelection {
  const [address = ''] = text.split(',');
  const name = parsePciAddress(address);
  if (name === undefined) {
    throw deviceFailure(
      text,
      `${option} ${text}: expected the address of a PCI device, [DOMAIN:]BUS:DEVICE.FUNCTION, as in 0000:00:04.0; virtual devices are named with --vdev`,
    );
  }
  try {
    return parseDevargs(name + text.slice(address.length));
  } catch (error) {
    if (error instanceof VirtioError) throw deviceFailure(text, `${option} ${text}: ${error.message}`);
    throw error;
  }
}
