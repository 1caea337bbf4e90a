/**
 * Which driver of the kernel must hold a device so that this process can have it, and what to do where another one does.
 * @module
 */
import { VirtioError } from '../system/error.ts';
import { isVirtioNet, type PciDevice } from './sysfs.ts';

export const VFIO_DRIVER = 'vfio-pci';
/** Drivers of the kernel that leave a device to a process, and how that reaches it. */
const ACCESS: ReadonlyMap<string, 'vfio' | 'sysfs'> = new Map([
  [VFIO_DRIVER, 'vfio'],
  ['uio_pci_generic', 'sysfs'],
]);

const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, '0');

/** `1af4:1041` */
export function deviceIds({ vendorId, deviceId }: PciDevice): string {
  return `${hex(vendorId, 4)}:${hex(deviceId, 4)}`;
}

/** Whether a process can have the device as it is bound now. */
export function isLeftToProcesses({ driver }: PciDevice): boolean {
  return driver !== undefined && ACCESS.has(driver);
}

/** A virtio network card, and how it is reached. */
export interface DeviceAccess {
  readonly device: PciDevice;
  readonly by: 'vfio' | 'sysfs';
}

/**
 * @param device undefined: there is none at `address`
 * @throws VirtioError ENODEV, EBUSY that says which command makes it usable
 */
export function accessTo(address: string, device: PciDevice | undefined): DeviceAccess {
  if (device === undefined) {
    throw new VirtioError(`${address}: there is no such PCI device (dpdk-ts-devbind --status shows those that there are)`, {
      code: 'ENODEV',
    });
  }
  if (!isVirtioNet(device)) {
    throw new VirtioError(`${address}: it is no virtio network card (1af4:1041 or 1af4:1000) but ${deviceIds(device)}`, { code: 'ENODEV' });
  }
  const { driver, interfaces } = device;
  const access = driver === undefined ? undefined : ACCESS.get(driver);
  if (access !== undefined) return { device, by: access };
  const bind =
    device.iommuGroup === undefined
      ? `as root: modprobe uio_pci_generic; dpdk-ts-devbind --bind=uio_pci_generic ${address} (it is in no IOMMU group; vfio-pci needs one: intel_iommu=on, or amd_iommu=on)`
      : `as root: modprobe vfio-pci; dpdk-ts-devbind --bind=${VFIO_DRIVER} ${address}`;
  if (driver === undefined) throw new VirtioError(`${address}: it is bound to no driver; ${bind}`, { code: 'ENODEV' });
  const used = interfaces.length === 0 ? '' : `, as ${interfaces.join(', ')}`;
  throw new VirtioError(`${address}: the kernel's driver ${driver} has it${used}; ${bind}`, { code: 'EBUSY' });
}
