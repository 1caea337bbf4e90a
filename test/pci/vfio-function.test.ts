/**
 * What vfio may say, on a model of it; the real one: test/vm/vfio.test.ts.
 * @module
 */
import { afterAll, describe, expect, test } from 'vitest';
import { Arena } from '../../src/memory/arena.ts';
import type { PciDevice } from '../../src/pci/sysfs.ts';
import { VfioFunction } from '../../src/pci/vfio-function.ts';
import { VFIO } from '../../src/system/vfio.ts';
import { VfioModel, type VfioModelOptions } from '../support/vfio-model.ts';

const arena = new Arena({ bytes: 8 << 20, ownBytes: 8 << 20, peerBytes: 64 << 20, pageSize: 4096, warn: () => undefined });
afterAll(() => {
  arena.close();
});

const DEVICE: PciDevice = {
  address: '0000:00:10.0',
  path: '/sys/bus/pci/devices/0000:00:10.0',
  vendorId: 0x1af4,
  deviceId: 0x1041,
  subsystemVendorId: 0x1af4,
  subsystemDeviceId: 0x1100,
  classCode: 0x20000,
  driver: 'vfio-pci',
  iommuGroup: 5,
  numaNode: -1,
  resources: [],
  interfaces: [],
};

function bench(options: VfioModelOptions = {}): { model: VfioModel; open: () => VfioFunction } {
  const model = new VfioModel(options);
  return { model, open: () => new VfioFunction({ arena, device: DEVICE, system: model.system }) };
}

const hex = (value: number, bytes: number): string => {
  const buffer = Buffer.alloc(bytes);
  buffer.writeBigUInt64LE(BigInt(value));
  return buffer.toString('hex');
};

describe('a function through vfio', () => {
  test('requests have the numbers of linux/vfio.h (as the C preprocessor computes them)', () => {
    expect(Object.values(VFIO)).toEqual(Array.from({ length: 15 }, (_, number) => 0x3b64 + number));
  });

  test('its registers, its interrupts, its view of memory; everything is given back, in reverse', async () => {
    const { model, open } = bench();
    const windowBefore = arena.window.freeBytes;
    const pci = open();
    expect(pci).toMatchObject({ name: '0000:00:10.0', translated: true, interrupts: { kind: 'msix', count: 4 } });
    expect([...model.openFiles.values()]).toEqual(['/dev/vfio/vfio', '/dev/vfio/5', 'device']);
    expect(await pci.config.read(0, 4)).toBe(0x1041_1af4);
    const bar = await pci.bar(4);
    expect(await pci.bar(4)).toBe(bar);
    expect(bar.direct).toMatchObject({ kind: 'mapped' });
    await bar.write(0x3004, 2, 0xabcd);
    await bar.write(0x20, 4, 0xfedc_ba98);
    expect([await bar.read(0x3004, 2), await bar.read(0x3005, 1), await bar.read(0x20, 4)]).toEqual([0xabcd, 0xab, 0xfedc_ba98]);
    await expect(bar.read(0x4000, 1)).rejects.toThrow(RangeError);
    await expect(bar.read(0x3, 2)).rejects.toThrow(RangeError);
    await expect(pci.bar(2)).rejects.toMatchObject({ code: 'ENXIO', message: '0000:00:10.0: there is no BAR 2' });
    await expect(pci.bar(9)).rejects.toMatchObject({ code: 'ENXIO' });

    await pci.shareMemory();
    await pci.shareMemory();
    const { guestAddress, bytes, userAddress } = arena.publishedRegion;
    // argsz 32, read and write, vaddr, iova, size
    expect(model.structs).toEqual([`IOMMU_MAP_DMA 2000000003000000${hex(userAddress, 8)}${hex(guestAddress, 8)}${hex(bytes, 8)}`]);
    expect(((await pci.config.read(4, 2)) & 4) !== 0).toBe(true);

    await pci.interrupts?.enable([7, 8]);
    await pci.interrupts?.disable();
    await expect(pci.interrupts?.enable([1, 2, 3, 4, 5])).rejects.toThrow(RangeError);
    // argsz, eventfds and trigger, MSI-X, first, two, the descriptors; then none and trigger, MSI-X, no number
    expect(model.structs.slice(1)).toEqual([
      'DEVICE_SET_IRQS 1c0000002400000002000000000000000200000007000000' + '08000000',
      'DEVICE_SET_IRQS 1400000021000000020000000000000000000000',
    ]);
    await pci.interrupts?.enable([7]);

    await pci.withdrawMemory();
    expect(model.mappings.size).toBe(0);
    expect((await pci.config.read(4, 2)) & 4).toBe(0);
    await pci.shareMemory();
    await pci.close();
    await pci.close();
    expect(model.structs.at(-2)).toMatch(/^DEVICE_SET_IRQS 14000000210000000200/);
    expect(model.structs.at(-1)).toMatch(/^IOMMU_UNMAP_DMA 1800000000000000/);
    expect(model.openFiles.size).toBe(0);
    expect(arena.window.freeBytes).toBe(windowBefore);
  });

  test('a line, where there are no vectors: it signals again only when it is let', async () => {
    const { model, open } = bench({ irqCounts: [1, 0, 0, 0, 0] });
    const pci = open();
    expect(pci.interrupts).toMatchObject({ kind: 'line', count: 1 });
    await pci.interrupts?.rearm?.();
    await pci.interrupts?.enable([7]);
    await pci.interrupts?.rearm?.();
    expect(model.structs).toEqual([
      'DEVICE_SET_IRQS 18000000240000000000000000000000' + '0100000007000000',
      'DEVICE_SET_IRQS 1400000011000000000000000000000001000000',
    ]);
    await pci.close();
    expect(open().interrupts).toBeDefined();
    expect(bench({ irqCounts: [] }).open().interrupts).toBeUndefined();
  });

  test.each([
    ['is one of I/O ports', { bytes: 32, mmap: false }, 'file'],
    ['has a hole for the table of interrupts', { bytes: 0x4000, mmap: true, capabilities: [2, 1] }, 'file'],
    ['has that table, and may be mapped all the same', { bytes: 0x4000, mmap: true, capabilities: [1, 3] }, 'mapped'],
    ['is smaller than a page', { bytes: 0x100, mmap: true }, 'file'],
  ])('a BAR that %s', async (_, bar, kind) => {
    const { model, open } = bench({ bars: { 0: bar } });
    const pci = open();
    const registers = await pci.bar(0);
    expect(registers).toMatchObject({ bytes: bar.bytes, direct: { kind } });
    await registers.write(0x12, 1, 0x55);
    await registers.write(0x14, 2, 0xfffe);
    expect([await registers.read(0x12, 1), await registers.read(0x14, 2), await registers.read(0x10, 4)]).toEqual([
      0x55, 0xfffe, 0x55_0000,
    ]);
    await pci.close();
    expect(model.openFiles.size).toBe(0);
  });

  test('a reset, where vfio has one', async () => {
    for (const [options, done] of [
      [{}, true],
      [{ deviceFlags: 2 }, false],
      [{ errors: { DEVICE_RESET: 'EINVAL' } }, false],
    ] as const) {
      const pci = bench(options).open();
      expect(await pci.reset()).toBe(done);
      await pci.close();
    }
  });

  test('says once that the device is asked for back', async () => {
    const { model, open } = bench();
    const pci = open();
    const said: string[] = [];
    pci.onGone((reason) => said.push(reason));
    const [watch] = model.watches;
    watch?.();
    expect(said).toEqual(['the device is being removed']);
    expect(model.watches.size).toBe(0);
    await pci.close();
  });

  test('a group of which two functions are used is opened once, and closed with the last', async () => {
    const { model, open } = bench();
    const [one, other] = [open(), open()];
    expect([...model.openFiles.values()]).toEqual(['/dev/vfio/vfio', '/dev/vfio/5', 'device', 'device']);
    await one.shareMemory();
    await other.shareMemory();
    expect(model.structs.length).toBe(1);
    await one.close();
    expect(model.mappings.size).toBe(1);
    using another = new Arena({ bytes: 4 << 20, ownBytes: 2 << 20, peerBytes: 16 << 20, pageSize: 4096, warn: () => undefined });
    const third = new VfioFunction({ arena: another, device: DEVICE, system: model.system });
    await expect(third.shareMemory()).rejects.toMatchObject({
      code: 'EBUSY',
      message: expect.stringMatching(/another environment/) as string,
    });
    await third.close();
    await other.close();
    expect(model.mappings.size).toBe(0);
    expect(model.openFiles.size).toBe(0);
  });
});

describe('without an IOMMU (enable_unsafe_noiommu_mode)', () => {
  test('nothing is mapped, and nothing translates', async () => {
    const { model, open } = bench({ group: '/dev/vfio/noiommu-5', extensions: [8] });
    const pci = open();
    expect(pci.translated).toBe(false);
    await pci.shareMemory();
    expect(model.mappings.size).toBe(0);
    expect((await pci.config.read(4, 2)) & 4).toBe(4);
    await pci.close();
    expect(model.openFiles.size).toBe(0);
  });
});

describe('what vfio refuses is named, and nothing stays open', () => {
  test.each<[string, VfioModelOptions, string, RegExp]>([
    [
      'no vfio',
      { openErrors: { '/dev/vfio/vfio': 'ENOENT' } },
      'ENOENT',
      /^\/dev\/vfio\/vfio: the kernel has no vfio here: as root: modprobe vfio-pci$/,
    ],
    ['no group', { openErrors: { '/dev/vfio/5': 'ENOENT' } }, 'ENOENT', /^\/dev\/vfio\/5: no such group: .*--bind=vfio-pci/],
    ['a group in use', { openErrors: { '/dev/vfio/5': 'EBUSY' } }, 'EBUSY', /^\/dev\/vfio\/5: busy: another process/],
    ['another version', { apiVersion: 1 }, 'EPROTO', /vfio has version 1 here/],
    [
      'a group that is not viable',
      { viable: false },
      'EPERM',
      /^\/dev\/vfio\/5: the group is not viable: all of its devices must be bound to vfio-pci/,
    ],
    ['no driver for the IOMMU', { extensions: [1] }, 'EOPNOTSUPP', /modprobe vfio_iommu_type1$/],
    ['interrupts that are not remapped', { errors: { SET_IOMMU: 'EPERM' } }, 'EPERM', /allow_unsafe_interrupts=1 \(VFIO_SET_IOMMU\)$/],
    [
      'a device that is not its own',
      { errors: { GROUP_GET_DEVICE_FD: 'ENODEV' } },
      'ENODEV',
      /^0000:00:10\.0: it is not bound to vfio-pci/,
    ],
    ['no PCI device', { deviceFlags: 8 }, 'ENODEV', /it is no PCI device/],
  ])('%s', (_, options, code, message) => {
    const { model, open } = bench(options);
    expect(open).toThrow(message);
    expect(open).toThrow(expect.objectContaining({ name: 'VirtioError', code }) as Error);
    expect(model.openFiles.size).toBe(0);
  });

  test('no group at all', () => {
    const { model } = bench();
    const open = (): unknown => new VfioFunction({ arena, device: { ...DEVICE, iommuGroup: undefined }, system: model.system });
    expect(open).toThrow(/^0000:00:10\.0: it is in no IOMMU group: .*intel_iommu=on/);
  });

  test.each<[string, VfioModelOptions, string, RegExp]>([
    [
      'addresses that the IOMMU keeps for itself',
      {
        ranges: [
          [0n, 0xf_ffffn],
          [0x110_0000n, 0xffff_ffffn],
        ],
      },
      'ERANGE',
      /lets devices reach 0x0-0xfffff, 0x1100000-0xffffffff, and the packet memory has 0x/,
    ],
    [
      'memory that may not be locked',
      { errors: { IOMMU_MAP_DMA: 'ENOMEM' } },
      'ENOMEM',
      /8 MiB of packet memory cannot be locked .* 8\.0 MiB \(RLIMIT_MEMLOCK\)/,
    ],
  ])('%s', async (_, options, code, message) => {
    const { model, open } = bench(options);
    const pci = open();
    await expect(pci.shareMemory()).rejects.toMatchObject({ code, message: expect.stringMatching(message) as string });
    await pci.close();
    expect(model.openFiles.size).toBe(0);
  });

  test('an older kernel that does not tell its ranges is believed', async () => {
    const { open } = bench({ ranges: undefined });
    const pci = open();
    await pci.shareMemory();
    await pci.close();
  });

  test('whichever request fails', async () => {
    const attempt = async (failingRequest: number): Promise<number> => {
      const { model, open } = bench({ failingRequest });
      try {
        const pci = open();
        try {
          await pci.bar(4);
          await pci.shareMemory();
          await pci.interrupts?.enable([7]);
          pci.onGone(() => undefined);
        } finally {
          await pci.close();
        }
      } catch (error) {
        expect(error, `request ${failingRequest}`).toMatchObject({ name: 'VirtioError' });
      }
      expect(model.openFiles.size, `request ${failingRequest}`).toBe(0);
      expect(model.watches.size).toBe(0);
      return model.requests.length;
    };
    const windowBefore = arena.window.freeBytes;
    const requests = await attempt(-1);
    expect(requests).toBeGreaterThan(15);
    for (let failing = 1; failing <= requests; failing++) await attempt(failing);
    expect(arena.window.freeBytes).toBe(windowBefore);
  });
});
