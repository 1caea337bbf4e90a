import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Arena } from '../../src/memory/arena.ts';
import type { PciDevice } from '../../src/pci/sysfs.ts';
import { SysfsFunction } from '../../src/pci/sysfs-function.ts';
import { realDeviceFiles, type DeviceFiles } from '../../src/system/device-files.ts';
import { clearEventFd, closeFd, createEventFd, signalEventFd } from '../../src/system/event-fd.ts';
import { until } from '../support/deadline.ts';
import { testArena } from '../support/ring-pair.ts';

const COMMAND = 4;
const MASTER = 4;
const INTX_DISABLE = 0x400;

describe('a function through files of sysfs', () => {
  let arena: Arena;
  let path: string;
  const descriptors = (): number => readdirSync('/proc/self/fd').length;
  const command = (): number => readFileSync(join(path, 'config')).readUInt16LE(COMMAND);

  beforeEach(() => {
    arena = testArena();
    path = mkdtempSync(join(tmpdir(), 'dpdk-ts-sysfs-'));
    const config = Buffer.alloc(256);
    config.writeUInt16LE(INTX_DISABLE, COMMAND);
    writeFileSync(join(path, 'config'), config);
    writeFileSync(join(path, 'resource0'), Buffer.alloc(32));
    writeFileSync(join(path, 'resource4'), Buffer.alloc(16384));
  });
  afterEach(() => {
    arena.close();
    rmSync(path, { recursive: true });
  });

  function device(driver?: string): PciDevice {
    return {
      address: '0000:00:03.0',
      path,
      vendorId: 0x1af4,
      deviceId: 0x1000,
      subsystemVendorId: 0x1af4,
      subsystemDeviceId: 1,
      classCode: 0x020000,
      driver,
      iommuGroup: undefined,
      numaNode: -1,
      resources: [
        { start: 0xc000n, bytes: 32, io: true },
        undefined,
        undefined,
        undefined,
        { start: 0xfe00_0000n, bytes: 16384, io: false },
        undefined,
      ],
      interfaces: [],
    };
  }

  test('ports are read and written in their file, memory is mapped, each at its width', async () => {
    const pci = new SysfsFunction({ arena, device: device() });
    const ports = await pci.bar(0);
    await ports.write(16, 2, 0xbeef);
    expect(readFileSync(join(path, 'resource0')).readUInt16LE(16)).toBe(0xbeef);
    expect(await ports.read(16, 2)).toBe(0xbeef);
    expect(ports.direct).toMatchObject({ kind: 'file', position: 0 });
    const memory = await pci.bar(4);
    expect(await pci.bar(4)).toBe(memory);
    await memory.write(0x3004, 2, 7);
    expect(readFileSync(join(path, 'resource4')).readUInt32LE(0x3004)).toBe(7);
    if (memory.direct?.kind !== 'mapped') throw new Error('not mapped');
    expect(arena.views.u16[(memory.direct.arenaOffset + 0x3004) >>> 1]).toBe(7);
    await expect(pci.bar(1)).rejects.toMatchObject({ code: 'ENXIO', message: '0000:00:03.0: there is no BAR 1' });
    expect(pci.interrupts).toBeUndefined();
    await pci.close();
  });

  test('masters the bus while it shares memory, and gives everything back', async () => {
    const before = [descriptors(), arena.window.freeBytes];
    const pci = new SysfsFunction({ arena, device: device() });
    await pci.bar(0);
    await pci.bar(4);
    await pci.shareMemory();
    expect(command() & MASTER).toBe(MASTER);
    await pci.withdrawMemory();
    expect(command() & MASTER).toBe(0);
    await pci.shareMemory();
    await pci.close();
    await pci.close();
    expect(command() & MASTER).toBe(0);
    expect([descriptors(), arena.window.freeBytes]).toEqual(before);
  });

  test('has no physical addresses on small pages, and no virtual ones at all', async () => {
    const before = descriptors();
    const pci = new SysfsFunction({ arena, device: device() });
    expect(pci.translated).toBe(false);
    expect(() => pci.physicalAddresses(false)).toThrow(/use huge pages/);
    await pci.close();
    expect(() => new SysfsFunction({ arena, device: device('uio_pci_generic'), iovaMode: 'va' })).toThrow(
      /^0000:00:03\.0: --iova-mode=va: nothing translates addresses for a device on uio_pci_generic; leave the option out/,
    );
    rmSync(join(path, 'config'));
    expect(() => new SysfsFunction({ arena, device: device() })).toThrow(/config: run as root/);
    writeFileSync(join(path, 'config'), Buffer.alloc(256));
    expect(descriptors()).toBe(before);
  });

  test('refuses a device that takes part in what an IOMMU translates, unless that passes everything on', async () => {
    for (const folder of ['iommu_group', 'uio']) mkdirSync(join(path, folder));
    const pci = new SysfsFunction({ arena, device: device('uio_pci_generic') });
    for (const type of ['DMA', 'DMA-FQ', 'blocked']) {
      writeFileSync(join(path, 'iommu_group', 'type'), `${type}\n`);
      expect(() => pci.physicalAddresses(true)).toThrow(
        /^0000:00:03\.0: an IOMMU translates for it .*uio_pci_generic cannot set that up; .*--bind=vfio-pci 0000:00:03\.0$/,
      );
      // a legacy card, or one without the feature, bypasses the IOMMU
      expect(() => pci.physicalAddresses(false)).toThrow(/use huge pages/);
    }
    writeFileSync(join(path, 'iommu_group', 'type'), 'identity\n');
    expect(() => pci.physicalAddresses(true)).toThrow(/use huge pages/);
    await pci.close();
  });

  test('the line of uio_pci_generic signals one eventfd, and is switched on again afterwards', async () => {
    mkdirSync(join(path, 'uio', 'uio7'), { recursive: true });
    // in the kernel's place: readable when the line was raised
    const line = createEventFd();
    const opened: string[] = [];
    const system: DeviceFiles = {
      ...realDeviceFiles,
      open: (file) => {
        opened.push(file);
        return file.startsWith('/dev/uio') ? { value: line, errno: 0 } : realDeviceFiles.open(file);
      },
      readAt: (fd, bytes, position) => {
        if (fd !== line) return realDeviceFiles.readAt(fd, bytes, position);
        clearEventFd(line);
        return { value: bytes.length, errno: 0 };
      },
    };
    const pci = new SysfsFunction({ arena, device: device('uio_pci_generic'), system });
    expect(opened).toContain('/dev/uio7');
    expect(pci.interrupts).toMatchObject({ kind: 'line', count: 1 });
    const told = createEventFd();
    await pci.interrupts?.enable([told]);
    expect(command() & INTX_DISABLE).toBe(0);
    signalEventFd(line);
    await until(2000, 'the interrupt', () => clearEventFd(told), 5);
    // the kernel switches the line off with every interrupt
    await pci.config.write(COMMAND, 2, INTX_DISABLE);
    await pci.interrupts?.rearm?.();
    expect(command() & INTX_DISABLE).toBe(0);
    await pci.interrupts?.disable();
    expect(command() & INTX_DISABLE).toBe(INTX_DISABLE);
    signalEventFd(line);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(clearEventFd(told)).toBe(false);
    await pci.close();
    closeFd(told);
  });
});
