/**
 * PCI functions as the kernel lists them in sysfs: what they are, which driver holds them, and where the IOMMU sees them.
 * @module
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { Arena } from '../memory/arena.ts';
import type { DeviceFiles } from '../system/device-files.ts';
import { parsePciAddress } from './address.ts';
import type { IovaMode } from './pci-function.ts';

export const VIRTIO_VENDOR_ID = 0x1af4;
/** virtio 1.2, 4.1.2: a transitional network card, or one from before virtio 1.0; and a modern one. */
export const VIRTIO_NET_TRANSITIONAL_ID = 0x1000;
export const VIRTIO_NET_MODERN_ID = 0x1041;

/** A BAR as the kernel placed it. */
export interface PciResource {
  readonly start: bigint;
  readonly bytes: number;
  /** Ports of the processor's I/O space, not memory. */
  readonly io: boolean;
}

export interface PciDevice {
  /** `0000:00:10.0` */
  readonly address: string;
  /** Its folder in sysfs. */
  readonly path: string;
  readonly vendorId: number;
  readonly deviceId: number;
  readonly subsystemVendorId: number;
  readonly subsystemDeviceId: number;
  /** 24 bits: class, subclass, programming interface (0x020000: Ethernet). */
  readonly classCode: number;
  /** The kernel's driver that holds it. */
  readonly driver: string | undefined;
  readonly iommuGroup: number | undefined;
  /** -1: the kernel does not know. */
  readonly numaNode: number;
  /** BARs 0 to 5; undefined where there is none. */
  readonly resources: readonly (PciResource | undefined)[];
  /** Interfaces that the kernel's driver made of it. */
  readonly interfaces: readonly string[];
}

/** A device of this machine to open, by way of vfio or of sysfs. */
export interface HostFunctionOptions {
  readonly arena: Arena;
  readonly device: PciDevice;
  readonly iovaMode?: IovaMode | undefined;
  /** Default: the real system calls. */
  readonly system?: DeviceFiles | undefined;
}

/** linux/ioport.h */
const IORESOURCE_IO = 0x100;
const BARS = 6;

function textOf(path: string): string | undefined {
  try {
    return readFileSync(path, 'latin1').trim();
  } catch {
    return undefined;
  }
}

function linkName(path: string): string | undefined {
  try {
    return basename(readlinkSync(path));
  } catch {
    return undefined;
  }
}

function namesIn(path: string): readonly string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}

/** Names of interfaces: of the function itself, or of the virtio device that the kernel made of it. */
function interfacesOf(path: string): readonly string[] {
  const virtio = namesIn(path).filter((name) => /^virtio\d+$/.test(name));
  return [path, ...virtio.map((name) => join(path, name))].flatMap((folder) => namesIn(join(folder, 'net'))).sort();
}

/** Lines of `start end flags`, BAR by BAR, in hexadecimal. */
function parseResources(text: string): readonly (PciResource | undefined)[] {
  return text
    .split('\n')
    .slice(0, BARS)
    .map((line) => {
      const [start = 0n, end = 0n, flags = 0n] = line.split(' ').map((word) => BigInt(/^0x[0-9a-f]+$/i.test(word) ? word : '0'));
      return end === 0n ? undefined : { start, bytes: Number(end - start + 1n), io: (Number(flags & 0xffffn) & IORESOURCE_IO) !== 0 };
    });
}

/**
 * @param root the file system's; default `/`
 * @returns undefined when there is no such function
 */
export function readPciDevice(address: string, root = '/'): PciDevice | undefined {
  const path = join(root, 'sys/bus/pci/devices', address);
  const vendor = textOf(join(path, 'vendor'));
  if (vendor === undefined) return undefined;
  const number = (name: string): number => Number(textOf(join(path, name)) ?? 0);
  const group = linkName(join(path, 'iommu_group'));
  return {
    address,
    path,
    vendorId: Number(vendor),
    deviceId: number('device'),
    subsystemVendorId: number('subsystem_vendor'),
    subsystemDeviceId: number('subsystem_device'),
    classCode: number('class'),
    driver: linkName(join(path, 'driver')),
    iommuGroup: group === undefined ? undefined : Number(group),
    numaNode: Number(textOf(join(path, 'numa_node')) ?? -1),
    resources: parseResources(textOf(join(path, 'resource')) ?? ''),
    interfaces: interfacesOf(path),
  };
}

/** Every function, in the order of the addresses. */
export function readPciDevices(root = '/'): readonly PciDevice[] {
  const addresses = namesIn(join(root, 'sys/bus/pci/devices')).flatMap((name) => parsePciAddress(name) ?? []);
  return addresses.sort(compareAddresses).flatMap((address) => readPciDevice(address, root) ?? []);
}

/** Domains may have more digits than four. */
function compareAddresses(one: string, other: string): number {
  return one.length - other.length || (one < other ? -1 : one > other ? 1 : 0);
}

/** Other functions of the same IOMMU group. */
export function groupMembers(group: number, root = '/'): readonly string[] {
  return [...namesIn(join(root, 'sys/kernel/iommu_groups', String(group), 'devices'))].sort();
}

/**
 * Whether an IOMMU translates what a function that is with no driver of vfio's reaches for; with `identity` (iommu=pt) it passes everything on.
 * @param path the function's folder in sysfs
 */
export function isBehindIommu(path: string): boolean {
  const type = textOf(join(path, 'iommu_group', 'type'));
  return type !== undefined && type !== 'identity';
}

/** A virtio network card, of any age. */
export function isVirtioNet({ vendorId, deviceId }: PciDevice): boolean {
  return vendorId === VIRTIO_VENDOR_ID && (deviceId === VIRTIO_NET_MODERN_ID || deviceId === VIRTIO_NET_TRANSITIONAL_ID);
}
