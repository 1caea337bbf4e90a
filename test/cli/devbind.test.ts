/**
 * The program on a sysfs without a kernel behind it; with one: test/vm/vfio.test.ts. The shape of the output is that of dpdk-devbind.py
 * of DPDK 22.11, side by side with which it was seen in the test machine.
 * @module
 */
import { release } from 'node:os';
import { describe, expect, test } from 'vitest';
import { runDevbind } from '../../src/cli/devbind.ts';
import { PciTree } from '../support/pci-tree.ts';

const DRIVERS = ['virtio-pci', 'vfio-pci', 'uio_pci_generic'];

function machine(): PciTree {
  return new PciTree(
    [
      { address: '0000:00:03.0', device: 0x1042, classCode: 0x10000, driver: 'virtio-pci', group: 3 },
      { address: '0000:00:10.0', driver: 'vfio-pci', group: 5 },
      { address: '0000:00:11.0', driver: 'virtio-pci', group: 6, interfaces: ['eth1'] },
      { address: '0000:00:12.0', vendor: 0x8086, device: 0x10d3, group: 6 },
      { address: '0000:00:1f.0', vendor: 0x8086, device: 0x2918, classCode: 0x60100 },
    ],
    DRIVERS,
  )
    .file('proc/net/route', 'Iface\tDestination\tGateway\neth1\t0001A8C0\t00000000\n')
    .file(
      'usr/share/misc/pci.ids',
      '# a list\n1af4  Red Hat, Inc.\n\t1041  Virtio 1.0 network device\n\t\t1af4 1100  one\n8086  Intel\n\t1041  other\n',
    )
    .file('sys/module/vfio/refcnt', '0\n');
}

function run(tree: PciTree, ...argv: readonly string[]): { status: number; output: string; errors: string } {
  let output = '';
  let errors = '';
  const status = runDevbind(argv, { output: (text) => (output += text), errors: (text) => (errors += text), root: tree.root });
  return { status, output, errors };
}

describe('--status', () => {
  test('of the network devices: ours, the kernel’s, nobody’s', () => {
    using tree = machine();
    expect(run(tree, '--status-dev', 'net')).toEqual({
      status: 0,
      errors: '',
      output: `
Network devices using DPDK-compatible driver
============================================
0000:00:10.0 'Virtio 1.0 network device 1041' drv=vfio-pci unused=uio_pci_generic

Network devices using kernel driver
===================================
0000:00:11.0 'Virtio 1.0 network device 1041' if=eth1 drv=virtio-pci unused=vfio-pci,uio_pci_generic *Active*

Other Network devices
=====================
0000:00:12.0 'Device 10d3' unused=vfio-pci,uio_pci_generic
`,
    });
  });

  test('of all groups, with the modules that are made for a device', () => {
    using tree = machine().file(`lib/modules/${release()}/modules.alias`, 'alias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci\n');
    const { output } = run(tree, '-s');
    expect(output).toContain('if=eth1 drv=virtio-pci unused=virtio_pci,vfio-pci,uio_pci_generic *Active*\n');
    expect(output).toContain(
      "\nMisc (rawdev) devices using kernel driver\n=========================================\n0000:00:03.0 'Device 1042' drv=virtio-pci unused=virtio_pci,vfio-pci,uio_pci_generic \n",
    );
    expect(output).toContain("\nNo 'Crypto' devices detected\n============================\n");
  });
});

describe('--bind and --unbind', () => {
  test('give a device to a driver by its address without a domain', () => {
    using tree = machine();
    expect(run(tree, '-b', 'vfio-pci', '00:12.0')).toMatchObject({ status: 0, output: '' });
    expect(tree.read('sys/bus/pci/drivers/vfio-pci/bind')).toBe('0000:00:12.0');
    // asked for the driver only while it was bound
    expect(tree.read('sys/bus/pci/devices/0000:00:12.0/driver_override')).toBe('\n');
  });

  test('take it from its driver first; a driver of the kernel’s own needs not be asked for', () => {
    using tree = machine();
    expect(run(tree, '--bind=virtio-pci', '0000:00:10.0').status).toBe(0);
    expect(tree.read('sys/bus/pci/drivers/vfio-pci/unbind')).toBe('0000:00:10.0');
    expect(tree.read('sys/bus/pci/drivers/virtio-pci/bind')).toBe('0000:00:10.0');
    expect(tree.read('sys/bus/pci/devices/0000:00:10.0/driver_override')).toBe('(null)\n');
    expect(run(tree, '-u', '00:1*.0')).toMatchObject({
      status: 0,
      errors: expect.stringContaining('0000:00:12.0 is not currently managed by any driver') as string,
    });
  });

  test('leave alone what the kernel routes over, without --force; an interface names its device', () => {
    using tree = machine();
    expect(run(tree, '-b', 'vfio-pci', 'eth1').errors).toBe(
      'Warning: routing table indicates that interface 0000:00:11.0 is active. Not modifying\n',
    );
    expect(run(tree, '-u', 'eth1').errors).toMatch(/Skipping unbind/);
    expect(tree.read('sys/bus/pci/drivers/virtio-pci/unbind')).toBe('');
    expect(run(tree, '--force', '-u', 'eth1')).toEqual({ status: 0, output: '', errors: '' });
    expect(tree.read('sys/bus/pci/drivers/virtio-pci/unbind')).toBe('0000:00:11.0');
  });

  test('a driver that does not take the device leaves it to the former one', () => {
    using tree = machine();
    tree.file('sys/bus/pci/drivers/other/README', '');
    const { status, errors } = run(tree, '-b', 'other', '00:10.0');
    expect(status).toBe(1);
    expect(errors).toMatch(/^Error: bind failed for 0000:00:10.0 - Cannot write .*drivers\/other\/bind: ENOENT\n$/);
    expect(tree.read('sys/bus/pci/drivers/vfio-pci/bind')).toBe('0000:00:10.0');
  });

  test.each([
    [['-b', 'vfio-pci', '00:10.0'], 0, 'Notice: 0000:00:10.0 already bound to driver vfio-pci, skipping\n'],
    [['-b', 'vfio-pci', '00:1a.0'], 1, 'Unknown device: 00:1a.0. Please specify device in "bus:slot.func" format\n'],
    [['-b', 'vfio-pci', '00:1f.0'], 1, 'Unknown device: 00:1f.0. Please specify device in "bus:slot.func" format\n'],
    [
      ['-b', '00:10.0', '00:11.0'],
      1,
      "Error: Driver '00:10.0' does not look like a valid driver. Did you forget to specify the driver to bind devices to?\n",
    ],
    [['-b', 'igb_uio', '00:11.0'], 1, "Error: Driver 'igb_uio' is not loaded. As root: modprobe igb_uio\n"],
    [['-b', 'vfio-pci'], 1, 'Error: No devices specified.\n'],
    [[], 1, 'Error: No action specified for devices. Please give a --bind, --unbind or --status option\n'],
    [['-b', 'x', '-u', '00:10.0'], 2, 'Error: --bind and --unbind exclude each other\n'],
    [
      ['--status-dev', 'nets'],
      2,
      'Error: --status-dev nets: choose from baseband, compress, crypto, dma, event, mempool, misc, net, regex\n',
    ],
    [['--noiommu-mode'], 1, 'Error: --noiommu-mode: this kernel was built without it (VFIO_NOIOMMU); use --bind=uio_pci_generic\n'],
  ])('%j', (argv, status, errors) => {
    using tree = machine();
    expect(run(tree, ...argv)).toMatchObject({ status, errors });
  });

  test('--noiommu-mode switches it on where the kernel has it', () => {
    using tree = machine().file('sys/module/vfio/parameters/enable_unsafe_noiommu_mode', 'N\n');
    expect(run(tree, '--noiommu-mode').status).toBe(0);
    expect(tree.read('sys/module/vfio/parameters/enable_unsafe_noiommu_mode')).toBe('Y');
  });

  test('an unknown option is answered with the usage', () => {
    using tree = machine();
    expect(run(tree, '--stats')).toMatchObject({
      status: 2,
      errors: expect.stringContaining('--stats') as string,
      output: expect.stringMatching(/^usage: /) as string,
    });
    expect(run(tree, '-h').output).toMatch(/^usage: dpdk-ts-devbind/);
  });
});
