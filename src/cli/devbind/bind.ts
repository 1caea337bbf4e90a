/**
 * Taking devices from one driver of the kernel and giving them to another, by writes to sysfs.
 * @module
 */
import { closeSync, constants, existsSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { groupMembers, readPciDevice, type PciDevice } from '../../pci/sysfs.ts';
import { VirtioError } from '../../system/error.ts';
import { PROCESS_DRIVERS } from './drivers.ts';
import { isActive, routedInterfaces } from './status.ts';

export interface BindOptions {
  /** Devices in use by the kernel's network are taken from it as well. */
  readonly force: boolean;
  readonly root: string;
  /** Takes what is neither done nor wrong. */
  readonly notice: (line: string) => void;
}

/** driver_override with nothing in it: any driver may have the device. */
const NO_OVERRIDE = '\n';

function write(doing: string, path: string, text: string): void {
  try {
    // sysfs has files that cannot be read, and nothing is to be made where there is none
    const fd = openSync(path, constants.O_WRONLY | constants.O_TRUNC);
    try {
      writeSync(fd, text);
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    const { code = 'EIO' } = error as NodeJS.ErrnoException;
    const hint = code === 'EACCES' || code === 'EPERM' ? '; run as root' : '';
    throw new VirtioError(`${doing} - Cannot write ${path}: ${code}${hint}`, { code, cause: error });
  }
}

/** @returns false where it was left alone: the kernel's network uses it */
function mayChange(device: PciDevice, what: string, { force, root, notice }: BindOptions): boolean {
  if (force || !isActive(device, routedInterfaces(root))) return true;
  notice(`Warning: routing table indicates that interface ${device.address} is active. ${what}`);
  return false;
}

/** Takes a device from its driver. @throws VirtioError when the kernel refuses */
export function unbind(device: PciDevice, options: BindOptions): void {
  const { address, driver, interfaces } = device;
  if (driver === undefined) {
    options.notice(`Notice: ${[address, ...interfaces].join(' ')} is not currently managed by any driver`);
    return;
  }
  if (!mayChange(device, 'Skipping unbind', options)) return;
  release(device, options);
}

function release({ address, driver = '' }: PciDevice, { root }: BindOptions): void {
  write(`Error: unbind failed for ${address}`, join(root, 'sys/bus/pci/drivers', driver, 'unbind'), address);
}

/** Gives a device to a driver; where that does not take it, its former driver has it again. @throws VirtioError */
export function bind(device: PciDevice, driver: string, options: BindOptions): void {
  const { address } = device;
  if (!mayChange(device, 'Not modifying', options)) return;
  if (device.driver === driver) {
    options.notice(`Notice: ${address} already bound to driver ${driver}, skipping`);
    return;
  }
  if (device.driver !== undefined) release(device, options);
  try {
    give(device, driver, options);
  } catch (error) {
    if (device.driver !== undefined) give(device, device.driver, options);
    throw error;
  }
}

function give(device: PciDevice, driver: string, { root }: BindOptions): void {
  const { address, path } = device;
  const doing = `Error: bind failed for ${address}`;
  const override = join(path, 'driver_override');
  // a driver that is for every device is not for any in particular: the device must ask for it
  const generic = PROCESS_DRIVERS.some((name) => name === driver) && existsSync(override);
  if (generic) write(doing, override, driver);
  try {
    write(doing, join(root, 'sys/bus/pci/drivers', driver, 'bind'), address);
  } catch (error) {
    // the driver may have taken it as soon as it was asked for
    if (readPciDevice(address, root)?.driver !== driver) throw explained(error, device, driver, root);
  } finally {
    if (generic) write(doing, override, NO_OVERRIDE);
  }
}

function explained(error: unknown, { iommuGroup }: PciDevice, driver: string, root: string): unknown {
  if (!(error instanceof VirtioError) || driver !== 'vfio-pci' || error.code !== 'EINVAL' || iommuGroup !== undefined) return error;
  const mode = existsSync(join(root, NO_IOMMU_MODE)) ? ', or --noiommu-mode' : '';
  return new VirtioError(
    `${error.message}: it is in no IOMMU group (intel_iommu=on, or amd_iommu=on, among the kernel's arguments${mode}; or --bind=uio_pci_generic)`,
    { code: error.code, cause: error },
  );
}

const NO_IOMMU_MODE = 'sys/module/vfio/parameters/enable_unsafe_noiommu_mode';

/** Lets vfio hand out devices that no IOMMU keeps in bounds. @throws VirtioError where the kernel has no such mode */
export function enableNoIommuMode(root: string): void {
  const path = join(root, NO_IOMMU_MODE);
  if (!existsSync(path)) {
    throw new VirtioError(
      `Error: --noiommu-mode: ${existsSync(join(root, 'sys/module/vfio')) ? 'this kernel was built without it (VFIO_NOIOMMU); use --bind=uio_pci_generic' : 'vfio is not loaded; as root: modprobe vfio-pci'}`,
      { code: 'EOPNOTSUPP' },
    );
  }
  write('Error: --noiommu-mode', path, 'Y');
}

/** For a device that is now vfio's: what else of its group keeps it from being used. */
export function groupNotice({ address, iommuGroup }: PciDevice, root: string): string | undefined {
  if (iommuGroup === undefined) return undefined;
  const held = groupMembers(iommuGroup, root)
    .filter((member) => member !== address)
    .map((member) => readPciDevice(member, root))
    .filter((member): member is PciDevice => member?.driver !== undefined && member.driver !== 'vfio-pci' && member.driver !== 'pcieport');
  if (held.length === 0) return undefined;
  return `Warning: ${address} can be used only when ${held.map((member) => `${member.address} (${member.driver ?? ''})`).join(', ')} of the same IOMMU group ${held.length === 1 ? 'is' : 'are'} unbound, or bound to vfio-pci, as well`;
}
