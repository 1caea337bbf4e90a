import { describe, expect, test } from 'vitest';
import { readPciSelection } from '../../src/cli/arguments/device.ts';
import { selectPciDevices, warnOfFailedDevices } from '../../src/cli/pci-devices.ts';
import { readPciDevices } from '../../src/pci/sysfs.ts';
import { PciTree } from '../support/pci-tree.ts';

function select(options: { allow?: readonly string[]; block?: readonly string[]; noPci?: boolean }): {
  names: readonly string[];
  said: readonly string[];
} {
  using tree = new PciTree([
    { address: '0000:00:10.0', driver: 'vfio-pci', group: 1 },
    { address: '0000:00:11.0', device: 0x1000, driver: 'uio_pci_generic' },
    { address: '0000:00:12.0', vendor: 0x8086, device: 0x10d3, driver: 'vfio-pci', group: 2 },
    { address: '0000:00:03.0', device: 0x1042, classCode: 0x10000, driver: 'virtio-pci' },
  ]);
  const said: string[] = [];
  const devices = selectPciDevices(
    {
      noPci: options.noPci ?? false,
      allow: (options.allow ?? []).map((text) => readPciSelection('-a', text)),
      block: (options.block ?? []).map((text) => readPciSelection('-b', text)),
    },
    (line) => said.push(line),
    readPciDevices(tree.root),
  );
  return { names: devices.map(({ name, text }) => (text === '' ? name : `${name},${text}`)), said };
}

describe('which PCI devices become ports', () => {
  test('every virtio network card, announced as EAL does', () => {
    expect(select({})).toEqual({
      names: ['0000:00:10.0', '0000:00:11.0'],
      said: [
        'EAL: Probe PCI driver: net_virtio (1af4:1041) device: 0000:00:10.0 (socket -1)',
        'EAL: Probe PCI driver: net_virtio (1af4:1000) device: 0000:00:11.0 (socket -1)',
      ],
    });
  });

  test('without those of -b; none with --no-pci', () => {
    expect(select({ block: ['00:10.0', '00:12.0'] }).names).toEqual(['0000:00:11.0']);
    expect(select({ noPci: true, allow: ['00:10.0'] })).toEqual({ names: [], said: [] });
  });

  test('those of -a in the order of their addresses, whatever they are: the driver says what is wrong with them', () => {
    const { names, said } = select({ allow: ['00:1a.0', '00:11.0,speed=10000', '00:10.0'] });
    expect(names).toEqual(['0000:00:10.0', '0000:00:11.0,speed=10000', '0000:00:1a.0']);
    expect(said.length).toBe(2);
  });

  test('vdpa=1 leaves a device alone; a key that there is not is for the driver to refuse', () => {
    expect(select({ allow: ['00:10.0,vdpa=1', '00:11.0,vdpa=0'] }).names).toEqual(['0000:00:11.0,vdpa=0']);
    expect(select({ allow: ['00:10.0,vdpaa=1'] }).names).toEqual(['0000:00:10.0,vdpaa=1']);
  });
});

test('what is said of devices that their driver does not take', () => {
  const failed = [{ text: '0000:00:10.0,speed=1', error: new Error('0000:00:10.0: reason') }];
  const lines = (allowed: boolean): readonly string[] => {
    const said: string[] = [];
    warnOfFailedDevices(failed, allowed, (line) => said.push(line));
    return said;
  };
  expect(lines(false)).toEqual(['0000:00:10.0: reason', 'EAL: Requested device 0000:00:10.0 cannot be used']);
  expect(lines(true).at(-1)).toBe('EAL: Bus (pci) probe failed.');
});
