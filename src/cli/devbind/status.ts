/**
 * Which device is held by which driver, group by group, in the shape that dpdk-devbind.py prints.
 * @module
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { readPciDevices, VIRTIO_VENDOR_ID, type PciDevice } from '../../pci/sysfs.ts';
import { readDeviceNames } from './device-names.ts';
import { isLoaded, modulesFor, PROCESS_DRIVERS } from './drivers.ts';

interface Group {
  readonly title: string;
  readonly includes: (device: PciDevice) => boolean;
}

const baseClass = ({ classCode }: PciDevice): number => classCode >>> 16;
const INTEL_VENDOR_ID = 0x8086;
const VIRTIO_BLOCK_IDS: readonly number[] = [0x1001, 0x1042];
/** Groups of devices of which none is known here by its identity. */
const NONE = (): boolean => false;

/** PCI Code and ID Assignment: base classes 02 network, 12 accelerator, 10 encryption, 0b processor. */
export const GROUPS: Readonly<Record<string, Group>> = {
  net: { title: 'Network', includes: (device) => baseClass(device) === 0x02 },
  baseband: { title: 'Baseband', includes: (device) => baseClass(device) === 0x12 },
  crypto: {
    title: 'Crypto',
    includes: (device) => baseClass(device) === 0x10 || (baseClass(device) === 0x0b && device.vendorId === INTEL_VENDOR_ID),
  },
  dma: { title: 'DMA', includes: NONE },
  event: { title: 'Eventdev', includes: NONE },
  mempool: { title: 'Mempool', includes: NONE },
  compress: { title: 'Compress', includes: NONE },
  misc: {
    title: 'Misc (rawdev)',
    includes: ({ vendorId, deviceId }) => vendorId === VIRTIO_VENDOR_ID && VIRTIO_BLOCK_IDS.includes(deviceId),
  },
  regex: { title: 'Regex', includes: NONE },
};

/** Devices of the groups: those that may be bound. */
export function readKnownDevices(root = '/'): readonly PciDevice[] {
  return readPciDevices(root).filter((device) => Object.values(GROUPS).some(({ includes }) => includes(device)));
}

/** Interfaces over which packets are routed; the address range of links without configuration aside. */
export function routedInterfaces(root = '/'): ReadonlySet<string> {
  let text = '';
  try {
    text = readFileSync(join(root, 'proc/net/route'), 'latin1');
  } catch {
    // a kernel without IPv4
  }
  const rows = text.split('\n').slice(1);
  // addresses are in the machine's byte order: 169.254.0.0 is 0000FEA9
  return new Set(
    rows
      .map((row) => row.split('\t'))
      .flatMap(([name = '', destination = '']) => (name === '' || destination === '0000FEA9' ? [] : [name])),
  );
}

export function isActive({ interfaces }: PciDevice, routed: ReadonlySet<string>): boolean {
  return interfaces.some((name) => routed.has(name));
}

/** @param groups names of GROUPS */
export function statusText(groups: readonly string[], root = '/'): string {
  const devices = readKnownDevices(root);
  const names = readDeviceNames(devices, root);
  const loaded = PROCESS_DRIVERS.filter((driver) => isLoaded(driver, root));
  const routed = routedInterfaces(root);
  const unused = (device: PciDevice): string => {
    const modules = modulesFor(device, root);
    return [...modules, ...loaded.filter((driver) => !modules.includes(driver))].filter((name) => name !== device.driver).join(',');
  };
  const line = (device: PciDevice, rest: string): string =>
    `${device.address} '${names.get(device) ?? ''} ${device.deviceId.toString(16).padStart(4, '0')}' ${rest}`;
  const section = (title: string, lines: readonly string[]): string =>
    lines.length === 0 ? '' : `\n${title}\n${'='.repeat(title.length)}\n${lines.join('\n')}\n`;
  const group = ({ title, includes }: Group): string => {
    const members = devices.filter(includes);
    if (members.length === 0) {
      const text = `No '${title}' devices detected`;
      return `\n${text}\n${'='.repeat(text.length)}\n`;
    }
    const ours = members.filter(({ driver }) => driver !== undefined && loaded.some((name) => name === driver));
    const kernels = members.filter((device) => device.driver !== undefined && !ours.includes(device));
    const others = members.filter(({ driver }) => driver === undefined);
    const interfaces = (device: PciDevice): string => (title === 'Network' ? `if=${device.interfaces.join(',')} ` : '');
    return (
      section(
        `${title} devices using DPDK-compatible driver`,
        ours.map((device) => line(device, `drv=${device.driver ?? ''} unused=${unused(device)}`)),
      ) +
      section(
        `${title} devices using kernel driver`,
        kernels.map((device) =>
          line(
            device,
            `${interfaces(device)}drv=${device.driver ?? ''} unused=${unused(device)} ${isActive(device, routed) ? '*Active*' : ''}`,
          ),
        ),
      ) +
      section(
        `Other ${title} devices`,
        others.map((device) => line(device, `unused=${unused(device)}`)),
      )
    );
  };
  return groups
    .flatMap((name) => GROUPS[name] ?? [])
    .map(group)
    .join('');
}
