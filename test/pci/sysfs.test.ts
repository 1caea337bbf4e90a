import { describe, expect, test } from 'vitest';
import { parsePciAddress } from '../../src/pci/address.ts';
import { accessTo } from '../../src/pci/binding.ts';
import { groupMembers, readPciDevice, readPciDevices } from '../../src/pci/sysfs.ts';
import { PciTree } from '../support/pci-tree.ts';

describe('addresses', () => {
  test.each([
    ['0000:00:10.0', '0000:00:10.0'],
    ['00:03.0', '0000:00:03.0'],
    ['0:3.7', '0000:00:03.7'],
    ['00000000:AF:1f.0', '0000:af:1f.0'],
    ['10000:e1:00.0', '10000:e1:00.0'],
  ])('%s', (text, full) => {
    expect(parsePciAddress(text)).toBe(full);
  });

  test.each(['', '00:20.0', '00:10.8', '00:10', '0000:00:10.0 ', 'virtio_user0', 'g0:10.0', '000000000:00:10.0'])('%j is none', (text) => {
    expect(parsePciAddress(text)).toBeUndefined();
  });
});

// lines of QEMU's virtio-net-pci: BAR 1 (MSI-X), BAR 4; and of a transitional one: BAR 0 of I/O ports
const NONE = '0x0000000000000000 0x0000000000000000 0x0000000000000000\n';
const MODERN = `${NONE}0x00000000febc3000 0x00000000febc3fff 0x0000000000040200\n${NONE}${NONE}0x00000000febf8000 0x00000000febfbfff 0x000000000014220c\n`;
const LEGACY = `0x000000000000c040 0x000000000000c05f 0x0000000000040101\n`;

describe('functions in sysfs', () => {
  test('what they are, who holds them, and where', () => {
    using tree = new PciTree([
      { address: '0000:00:11.0', driver: 'virtio-pci', group: 6, interfaces: ['eth1'], resource: MODERN },
      { address: '0000:00:10.1', device: 0x1000, group: 6, resource: LEGACY },
      { address: '10000:00:01.0', vendor: 0x8086, device: 0x10d3 },
    ]);
    expect(readPciDevices(tree.root).map(({ address }) => address)).toEqual(['0000:00:10.1', '0000:00:11.0', '10000:00:01.0']);
    expect(readPciDevice('0000:00:11.0', tree.root)).toMatchObject({
      vendorId: 0x1af4,
      deviceId: 0x1041,
      classCode: 0x020000,
      driver: 'virtio-pci',
      iommuGroup: 6,
      numaNode: -1,
      interfaces: ['eth1'],
      resources: [
        undefined,
        { start: 0xfebc3000n, bytes: 0x1000, io: false },
        undefined,
        undefined,
        { start: 0xfebf8000n, bytes: 0x4000, io: false },
      ],
    });
    expect(readPciDevice('0000:00:10.1', tree.root)?.resources[0]).toEqual({ start: 0xc040n, bytes: 32, io: true });
    expect(readPciDevice('0000:00:12.0', tree.root)).toBeUndefined();
    expect(groupMembers(6, tree.root)).toEqual(['0000:00:10.1', '0000:00:11.0']);
  });

  test('there are none where the kernel has no PCI', () => {
    using tree = new PciTree([]);
    expect(readPciDevices(tree.root)).toEqual([]);
  });
});

describe('whether this process can have a device', () => {
  test('with vfio-pci or uio_pci_generic it can', () => {
    using tree = new PciTree([
      { address: '0000:00:10.0', driver: 'vfio-pci', group: 1 },
      { address: '0000:00:11.0', driver: 'uio_pci_generic' },
    ]);
    expect(accessTo('0000:00:10.0', readPciDevice('0000:00:10.0', tree.root)).by).toBe('vfio');
    expect(accessTo('0000:00:11.0', readPciDevice('0000:00:11.0', tree.root)).by).toBe('sysfs');
  });

  test.each([
    ['0000:00:01.0', 'ENODEV', '0000:00:01.0: there is no such PCI device (dpdk-ts-devbind --status shows those that there are)'],
    ['0000:00:1f.0', 'ENODEV', '0000:00:1f.0: it is no virtio network card (1af4:1041 or 1af4:1000) but 8086:10d3'],
    [
      '0000:00:10.0',
      'EBUSY',
      "0000:00:10.0: the kernel's driver virtio-pci has it, as eth0; as root: modprobe vfio-pci; dpdk-ts-devbind --bind=vfio-pci 0000:00:10.0",
    ],
    [
      '0000:00:11.0',
      'ENODEV',
      '0000:00:11.0: it is bound to no driver; as root: modprobe vfio-pci; dpdk-ts-devbind --bind=vfio-pci 0000:00:11.0',
    ],
    [
      '0000:00:12.0',
      'ENODEV',
      '0000:00:12.0: it is bound to no driver; as root: modprobe uio_pci_generic; dpdk-ts-devbind --bind=uio_pci_generic 0000:00:12.0 (it is in no IOMMU group; vfio-pci needs one: intel_iommu=on, or amd_iommu=on)',
    ],
  ])('%s: %s', (address, code, message) => {
    using tree = new PciTree([
      { address: '0000:00:10.0', driver: 'virtio-pci', group: 1, interfaces: ['eth0'] },
      { address: '0000:00:11.0', group: 2 },
      { address: '0000:00:12.0' },
      { address: '0000:00:1f.0', vendor: 0x8086, device: 0x10d3, driver: 'e1000e' },
    ]);
    const attempt = (): unknown => accessTo(address, readPciDevice(address, tree.root));
    expect(attempt).toThrow(message);
    expect(attempt).toThrow(expect.objectContaining({ name: 'VirtioError', code }) as Error);
  });
});
