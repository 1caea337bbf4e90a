import { describe, expect, test } from 'vitest';
import { findVirtioStructures, readCapabilities } from '../../src/pci/capabilities.ts';
import { PciFunctionModel } from '../support/pci-function-model.ts';

function spoilt(changes: Readonly<Record<number, number>>): PciFunctionModel {
  const model = new PciFunctionModel();
  for (const [at, value] of Object.entries(changes)) model.configBytes[Number(at)] = value;
  return model;
}

const listOf = (model: PciFunctionModel) => readCapabilities(model.name, model.config);

describe('the capability list (PCI 3.0, 6.7)', () => {
  test("of QEMU's virtio-net-pci: MSI-X, then virtio's in the order of the links", async () => {
    expect(await listOf(new PciFunctionModel())).toEqual([
      { id: 0x11, offset: 0x98 },
      { id: 0x09, offset: 0x84 },
      { id: 0x09, offset: 0x70 },
      { id: 0x09, offset: 0x60 },
      { id: 0x09, offset: 0x50 },
      { id: 0x09, offset: 0x40 },
    ]);
  });

  test('is empty when the status register says that there is none', async () => {
    expect(await listOf(spoilt({ 6: 0 }))).toEqual([]);
  });

  test('the two lowest bits of a pointer are reserved', async () => {
    expect((await listOf(spoilt({ 0x34: 0x9b }))).length).toBe(6);
  });

  test.each([
    ['loops', { 0x41: 0x70 }, /comes back to 0x70 and has no end/],
    ['points at itself', { 0x41: 0x40 }, /comes back to 0x40 and has no end/],
    ['points into the header', { 0x41: 0x10 }, /points at 0x10, into the header/],
    ['runs into what no device answers for', { 0x41: 0xc0, 0xc0: 0xff }, /no capability at 0xc0/],
  ])('one that %s is refused', async (_, changes, message) => {
    await expect(listOf(spoilt(changes))).rejects.toThrow(message);
    await expect(listOf(spoilt(changes))).rejects.toMatchObject({ code: 'EPROTO', name: 'VirtioError' });
  });
});

describe("virtio's structures (virtio 1.2, 4.1.4)", () => {
  test('are parts of the BARs that the capabilities name', async () => {
    const found = await findVirtioStructures(new PciFunctionModel());
    expect(found?.common).toMatchObject({ bytes: 0x1000, direct: { kind: 'mapped', arenaOffset: 0x100_0000 } });
    expect(found?.isr).toMatchObject({ direct: { arenaOffset: 0x100_1000 } });
    expect(found?.device).toMatchObject({ bytes: 0x1000, direct: { arenaOffset: 0x100_2000 } });
    expect(found?.notify).toMatchObject({ direct: { arenaOffset: 0x100_3000 } });
    expect(found?.notifyMultiplier).toBe(4);
  });

  test('a device without any is a legacy one', async () => {
    expect(await findVirtioStructures(spoilt({ 0x99: 0 }))).toBeUndefined();
  });

  test('the first of a type counts; a reserved BAR and an unknown type are ignored (4.1.4.1)', async () => {
    // the capability at 0x84, for access by the configuration space, becomes another common configuration in a reserved BAR; then of a type to come
    for (const changes of [
      { 0x87: 1, 0x88: 6, 0x90: 0x40 },
      { 0x87: 99, 0x88: 1 },
    ]) {
      const found = await findVirtioStructures(spoilt(changes));
      expect(found?.common).toMatchObject({ bytes: 0x1000, direct: { arenaOffset: 0x100_0000 } });
    }
    const first = await findVirtioStructures(spoilt({ 0x87: 1, 0x88: 4, 0x8d: 0x10, 0x90: 0x40 }));
    expect(first?.common).toMatchObject({ bytes: 0x40, direct: { arenaOffset: 0x100_1000 } });
  });

  test.each([
    ['offset beyond the BAR', { 0x49: 0x40 }, /"common configuration" is said to be at 0x4000 .* BAR has 0x4000/],
    ['length beyond the BAR', { 0x6d: 0xf0 }, /"device configuration" is said to be at 0x2000 with 0xf000 bytes/],
    [
      'offset and length whose sum wraps',
      { 0x58: 0, 0x59: 0xf0, 0x5a: 0xff, 0x5b: 0xff },
      /"interrupt status" is said to be at 0xfffff000/,
    ],
    ['too few bytes', { 0x4c: 0x20, 0x4d: 0 }, /"common configuration" has 32 bytes only/],
    ['a BAR that is not there', { 0x44: 2 }, /there is no BAR 2/],
    ['a short capability', { 0x72: 16 }, /capability at 0x70 has 16 bytes, and needs 20/],
    ['no notification', { 0x73: 5 }, /has no structure "notification"/],
  ])('%s', async (_, changes, message) => {
    await expect(findVirtioStructures(spoilt(changes))).rejects.toThrow(message);
  });
});
