import { describe, expect, test } from 'vitest';
import type { TransportInterrupts } from '../../src/backend/virtio-transport.ts';
import type { PciFunction, Registers, Width } from '../../src/pci/pci-function.ts';
import { VirtioLegacy } from '../../src/pci/virtio-legacy.ts';
import { VirtioError } from '../../src/system/error.ts';

const HIGH = 0x12;

/**
 * Twenty bytes of registers and a configuration behind them (virtio 1.2, 4.1.4.10), as QEMU 7.2's virtio-net-pci with
 * disable-modern=on has them; for faults that no device here has. Every access must have its register's own width.
 */
class LegacyModel implements PciFunction {
  readonly name = '0000:00:10.0';
  readonly addressHigh = 0;
  readonly translated = false;
  features = 0x79bf_ffe7;
  guestFeatures = 0;
  readonly ringSizes = [256, 256, 64];
  readonly ringPages = [0, 0, 0];
  readonly ringVectors = [0xffff, 0xffff, 0xffff];
  configVector = 0xffff;
  vectors = 4;
  status = 0;
  takeStatus: (status: number) => number = (status) => status;
  readonly configuration = Buffer.from('020000000010' + '0100' + '0100', 'hex');
  beforeConfigRead: () => void = () => undefined;
  msix = false;
  barBytes = 32;
  direct: 'file' | 'none' = 'file';
  readonly notified: number[] = [];
  openRelays = 0;
  rearmed = 0;
  closed = 0;
  #queue = 0;

  get config(): Registers {
    throw new Error('a legacy device is not looked for in the configuration space');
  }

  get interrupts(): TransportInterrupts {
    return {
      kind: 'msix',
      count: 4,
      enable: () => {
        this.msix = true;
        return Promise.resolve();
      },
      disable: () => {
        this.msix = false;
        return Promise.resolve();
      },
      rearm: () => {
        this.rearmed++;
        return Promise.resolve();
      },
    };
  }

  physicalAddresses() {
    return { table: 4096, addressOf: (offset: number) => ({ low: offset + 0x2000, high: HIGH }) };
  }

  bar(index: number): Promise<Registers> {
    if (index !== 0) return Promise.reject(new VirtioError(`${this.name}: there is no BAR`, { code: 'ENXIO' }));
    return Promise.resolve({
      bytes: this.barBytes,
      read: (offset, width) => Promise.resolve(this.#read(offset, width)),
      write: (offset, width, value) => {
        this.#write(offset, width, value);
        return Promise.resolve();
      },
      direct: this.direct === 'file' ? { kind: 'file', fd: 77, position: 0x1_0000_0000 } : undefined,
    });
  }

  relay(write: () => Promise<void>) {
    this.openRelays++;
    void write();
    return Promise.resolve({
      fd: 55,
      close: () => {
        this.openRelays--;
      },
    });
  }

  reset = () => Promise.resolve(false);
  shareMemory = () => Promise.resolve();
  withdrawMemory = () => Promise.resolve();
  onGone = () => undefined;
  close = () => {
    this.closed++;
    return Promise.resolve();
  };

  #read(offset: number, width: Width): number {
    const start = this.msix ? 24 : 20;
    if (offset >= start) {
      this.beforeConfigRead();
      return this.configuration.readUIntLE(offset - start, width);
    }
    switch (`${String(offset)}:${String(width)}`) {
      case '0:4':
        return this.features;
      case '8:4':
        return this.ringPages[this.#queue] ?? 0;
      case '12:2':
        return this.ringSizes[this.#queue] ?? 0;
      case '18:1':
        return this.status;
      case '19:1':
        return 3;
      case '20:2':
        return this.configVector;
      case '22:2':
        return this.ringVectors[this.#queue] ?? 0xffff;
      default:
        throw new Error(`read of ${String(width)} bytes at ${String(offset)}`);
    }
  }

  #write(offset: number, width: Width, value: number): void {
    const taken = value < this.vectors ? value : 0xffff;
    switch (`${String(offset)}:${String(width)}`) {
      case '4:4':
        this.guestFeatures = value;
        return;
      case '8:4':
        this.ringPages[this.#queue] = value;
        return;
      case '14:2':
        this.#queue = value;
        return;
      case '16:2':
        this.notified.push(value);
        return;
      case '18:1':
        this.status = this.takeStatus(value);
        return;
      case '20:2':
        if (!this.msix) throw new Error('no vectors without MSI-X');
        this.configVector = taken;
        return;
      case '22:2':
        if (!this.msix) throw new Error('no vectors without MSI-X');
        this.ringVectors[this.#queue] = taken;
        return;
      default:
        throw new Error(`write of ${String(width)} bytes at ${String(offset)}`);
    }
  }
}

const DESCRIPTORS = 0x80_0000;
/** virtio 1.2, 2.7.2: 256 descriptors of 16 bytes, 518 bytes of the available ring, the used ring on the next page. */
const RING = { size: 256, base: 0, descriptors: DESCRIPTORS, available: DESCRIPTORS + 4096, used: DESCRIPTORS + 8192 };

describe('a legacy device', () => {
  test('32 bits of features, both ways', async () => {
    const model = new LegacyModel();
    const transport = await VirtioLegacy.open(model);
    expect(transport.legacy).toBe(true);
    expect(await transport.readFeatures()).toBe(0x79bf_ffe7n);
    await transport.writeFeatures(0x1_0000_8020n);
    expect(model.guestFeatures).toBe(0x8020);
  });

  test('is told the page of a ring by its physical address, and notified at one register of the file', async () => {
    const model = new LegacyModel();
    const transport = await VirtioLegacy.open(model);
    expect(transport.physicalAddresses).toBe(4096);
    expect(await transport.setRing(1, RING, undefined)).toEqual({
      kind: 'file',
      fd: 77,
      position: 0x1_0000_0010,
      bytes: 2,
      value: 1,
    });
    expect(model.ringPages[1]).toBe(HIGH * 2 ** 20 + (DESCRIPTORS + 0x2000) / 4096);
  });

  test('takes rings of its own size only, in one piece on a page, in the first 16 TiB', async () => {
    const model = new LegacyModel();
    const transport = await VirtioLegacy.open(model);
    await expect(transport.setRing(0, { ...RING, size: 128 }, undefined)).rejects.toMatchObject({
      code: 'EINVAL',
      message: '0000:00:10.0: ring 0: 128 descriptors, and a legacy device takes 256 only',
    });
    await expect(transport.setRing(9, RING, undefined)).rejects.toMatchObject({ code: 'ENOENT' });
    await expect(transport.setRing(0, { ...RING, used: RING.used + 64 }, undefined)).rejects.toThrow(RangeError);
    await expect(transport.setRing(0, { ...RING, available: RING.available + 64 }, undefined)).rejects.toThrow(RangeError);
    model.physicalAddresses = () => ({ table: 4096, addressOf: (offset: number) => ({ low: offset, high: 0x1000 }) });
    await expect(transport.setRing(0, RING, undefined)).rejects.toMatchObject({ code: 'ERANGE' });
    expect(model.ringPages).toEqual([0, 0, 0]);
  });

  test('has registers for vectors, and its configuration behind them, only while MSI-X is on', async () => {
    const model = new LegacyModel();
    const transport = await VirtioLegacy.open(model);
    expect((await transport.readConfig(0, 10)).toString('hex')).toBe('02000000001001000100');
    await transport.setConfigInterrupt(0);
    expect(model.configVector).toBe(0xffff);
    await transport.interrupts?.enable([3, 4]);
    expect((await transport.readConfig(6, 2)).readUInt16LE()).toBe(1);
    await transport.setConfigInterrupt(0);
    await transport.setRing(0, RING, 1);
    expect([model.configVector, model.ringVectors[0]]).toEqual([0, 1]);
    model.vectors = 1;
    await expect(transport.setRing(0, RING, 1)).rejects.toMatchObject({
      code: 'EBUSY',
      message: '0000:00:10.0: the device does not take interrupt 1 for ring 0',
    });
    await transport.interrupts?.disable();
    expect((await transport.readConfig(6, 2)).readUInt16LE()).toBe(1);
    expect([await transport.readInterruptStatus(), model.rearmed]).toEqual([3, 1]);
  });

  test('a configuration that changes between two reads is read until it is the same twice', async () => {
    const model = new LegacyModel();
    const transport = await VirtioLegacy.open(model);
    let reads = 0;
    model.beforeConfigRead = () => {
      reads++;
      if (reads < 4) model.configuration.writeUInt16LE(reads, 8);
    };
    expect((await transport.readConfig(8, 2)).readUInt16LE()).toBe(3);
    model.beforeConfigRead = () => model.configuration.writeUInt16LE(++reads, 8);
    await expect(transport.readConfig(8, 2)).rejects.toMatchObject({ code: 'EPROTO' });
  });

  test('relays are closed with a reset, and at the end', async () => {
    const model = new LegacyModel();
    model.direct = 'none';
    const transport = await VirtioLegacy.open(model);
    expect(await transport.setRing(1, RING, undefined)).toEqual({ kind: 'descriptor', fd: 55 });
    expect(model.notified).toEqual([1]);
    await transport.setRing(1, RING, undefined);
    expect(model.openRelays).toBe(1);
    await transport.reset();
    expect(model.openRelays).toBe(0);
    await transport.setRing(0, RING, undefined);
    await transport.close();
    expect([model.openRelays, model.closed]).toEqual([0, 1]);
  });

  test('a BAR without room for the registers is refused, and the function left to the caller', async () => {
    const model = new LegacyModel();
    model.barBytes = 20;
    await expect(VirtioLegacy.open(model)).rejects.toMatchObject({ code: 'EPROTO' });
    expect(model.closed).toBe(0);
  });
});
