/**
 * A model of a PCI function, for faults that no device here has. Its bytes and what it answers where nothing is spoilt are those of
 * QEMU 7.2's virtio-net-pci (disable-legacy=on, iommu_platform=on), read through vfio in the test machine.
 * @module
 */
import { createEventFd, closeFd } from '../../src/system/event-fd.ts';
import { VirtioError } from '../../src/system/error.ts';
import type { TransportInterrupts } from '../../src/backend/virtio-transport.ts';
import type { PciFunction, Registers, Width } from '../../src/pci/pci-function.ts';

/** The first 0xa8 bytes of the configuration space; zeros follow up to 0x100. */
const CONFIG =
  'f41a4110030110000100000200000000000000000040bcfe00000000000000000c80bffe0000000000000000f41a00110000b4fe98000000000000000a010000' +
  '09001001040000000000000000100000' +
  '09401003040000000010000000100000' +
  '09501004040000000020000000100000' +
  '0960140204000000003000000010000004000000' +
  '097014050000000000000000000000000000000011840300010000000108000000000000';
const FEATURES = 0x103_30bf_8024n;
const RING_SIZES: readonly number[] = [256, 256, 64];
const DEVICE_CONFIGURATION = '0200000000100100ffffffffffffffffffffffffffffffff';
const BAR_BYTES = 0x4000;
const DEVICE_OFFSET = 0x2000;
const NOTIFY_OFFSET = 0x3000;
const NOTIFY_MULTIPLIER = 4;
const VECTORS = 4;

export interface ModelRing {
  size: number;
  vector: number;
  enabled: number;
  resetting: number;
  readonly addresses: number[];
}

export interface Access {
  readonly offset: number;
  readonly width: Width;
  readonly value: number;
}

export class PciFunctionModel implements PciFunction {
  readonly name = '0000:00:10.0';
  readonly addressHigh: number = 0;
  readonly translated = true;
  readonly configBytes = Buffer.alloc(256);
  /** May be changed by a test before the device is opened. */
  features = FEATURES;
  readonly ringSizes = [...RING_SIZES];
  readonly deviceConfiguration = Buffer.from(DEVICE_CONFIGURATION, 'hex');
  generation = 0;
  driverFeatures = 0n;
  status = 0;
  isr = 0;
  readonly rings: ModelRing[] = RING_SIZES.map(() => ({
    size: 0,
    vector: 0xffff,
    enabled: 0,
    resetting: 0,
    addresses: [0, 0, 0, 0, 0, 0],
  }));
  configVector = 0xffff;
  readonly notified: Access[] = [];
  /** Reads of the device configuration, each with its width. */
  readonly configReads: Access[] = [];
  /** Runs before every read of a device configuration field. */
  beforeConfigRead: () => void = () => undefined;
  /** What a write of the status makes of it. */
  takeStatus: (status: number) => number = (status) => status;
  /** Vectors that the device has room for. */
  vectors = VECTORS;
  direct: 'mapped' | 'file' | 'none' = 'mapped';
  resetsRings = true;
  /** Resets the function; returns whether it can. */
  onReset: () => boolean = () => false;
  openRelays = 0;
  closed = 0;
  rearmed = 0;
  interruptKind: 'msix' | 'line' = 'msix';
  #featureSelect = 0;
  #driverFeatureSelect = 0;
  #queue = 0;

  constructor() {
    Buffer.from(CONFIG, 'hex').copy(this.configBytes);
  }

  get config(): Registers {
    return {
      bytes: 256,
      read: (offset, width) => Promise.resolve(this.configBytes.readUIntLE(offset, width)),
      write: (offset, width, value) => {
        this.configBytes.writeUIntLE(value, offset, width);
        return Promise.resolve();
      },
      direct: undefined,
    };
  }

  get interrupts(): TransportInterrupts {
    return {
      kind: this.interruptKind,
      count: this.interruptKind === 'line' ? 1 : VECTORS,
      enable: () => Promise.resolve(),
      disable: () => Promise.resolve(),
      rearm: () => {
        this.rearmed++;
        return Promise.resolve();
      },
    };
  }

  physicalAddresses(): undefined {
    return undefined;
  }

  bar(index: number): Promise<Registers> {
    if (index !== 4) return Promise.reject(new VirtioError(`${this.name}: there is no BAR ${index}`, { code: 'ENXIO' }));
    return Promise.resolve({
      bytes: BAR_BYTES,
      read: (offset, width) => Promise.resolve(this.#read(offset, width)),
      write: (offset, width, value) => {
        this.#write(offset, width, value);
        return Promise.resolve();
      },
      direct:
        this.direct === 'mapped'
          ? { kind: 'mapped', arenaOffset: 0x100_0000 }
          : this.direct === 'file'
            ? { kind: 'file', fd: 77, position: 4 * 2 ** 40 }
            : undefined,
    });
  }

  relay(): Promise<{ fd: number; close: () => void }> {
    const fd = createEventFd();
    this.openRelays++;
    return Promise.resolve({
      fd,
      close: () => {
        this.openRelays--;
        closeFd(fd);
      },
    });
  }

  reset(): Promise<boolean> {
    return Promise.resolve(this.onReset());
  }

  shareMemory(): Promise<void> {
    return Promise.resolve();
  }

  withdrawMemory(): Promise<void> {
    return Promise.resolve();
  }

  onGone(): void {
    // never goes
  }

  close(): Promise<void> {
    this.closed++;
    return Promise.resolve();
  }

  get #ring(): ModelRing | undefined {
    return this.rings[this.#queue];
  }

  #read(offset: number, width: Width): number {
    if (offset >= NOTIFY_OFFSET) return 0;
    if (offset >= DEVICE_OFFSET) {
      this.beforeConfigRead();
      const value = this.deviceConfiguration.readUIntLE(offset - DEVICE_OFFSET, width);
      this.configReads.push({ offset: offset - DEVICE_OFFSET, width, value });
      return value;
    }
    if (offset >= 0x1000) {
      const { isr } = this;
      this.isr = 0;
      return isr;
    }
    switch (offset) {
      case 4:
        return Number((this.features >> BigInt(32 * this.#featureSelect)) & 0xffff_ffffn);
      case 16:
        return this.configVector;
      case 18:
        return this.ringSizes.length;
      case 20:
        return this.status;
      case 21:
        return this.generation & 0xff;
      case 24:
        return this.ringSizes[this.#queue] ?? 0;
      case 26:
        return this.#ring?.vector ?? 0xffff;
      case 28:
        return this.#ring?.enabled ?? 0;
      case 30:
        return this.#queue;
      case 56:
        return 0x100 + this.#queue;
      case 58:
        return this.#ring?.resetting ?? 0;
      default:
        return 0;
    }
  }

  #write(offset: number, width: Width, value: number): void {
    const ring = this.#ring;
    const vector = value < this.vectors ? value : 0xffff;
    if (offset >= NOTIFY_OFFSET) this.notified.push({ offset: (offset - NOTIFY_OFFSET) / NOTIFY_MULTIPLIER, width, value });
    else if (offset === 0) this.#featureSelect = value;
    else if (offset === 8) this.#driverFeatureSelect = value;
    else if (offset === 12) {
      const shift = BigInt(32 * this.#driverFeatureSelect);
      this.driverFeatures = (this.driverFeatures & ~(0xffff_ffffn << shift)) | (BigInt(value) << shift);
    } else if (offset === 16) this.configVector = vector;
    else if (offset === 20) this.status = this.takeStatus(value);
    else if (offset === 22) this.#queue = value;
    else if (ring === undefined) throw new RangeError(`register ${offset} of a ring that there is not`);
    else if (offset === 24) ring.size = value;
    else if (offset === 26) ring.vector = vector;
    else if (offset === 28) ring.enabled = value;
    else if (offset >= 32 && offset < 56) ring.addresses[(offset - 32) / 4] = value;
    else if (offset === 58) {
      ring.resetting = this.resetsRings ? 0 : value;
      if (this.resetsRings) ring.enabled = 0;
    }
  }
}
