/**
 * A virtio device from before virtio 1.0 on PCI, or the legacy half of a transitional one (virtio 1.2, 4.1.4.10): twenty bytes of
 * registers at the start of BAR 0, and the device's configuration behind them.
 *
 *     0 device_features  4 guest_features  8 queue_address (a page number)  12 queue_size  14 queue_select  16 queue_notify
 *     18 device_status  19 isr_status  [20 config_msix_vector  22 queue_msix_vector  while MSI-X is on]  20 or 24 configuration
 *
 * Nothing translates for such a device: it is told physical addresses.
 * @module
 */
import type { RingPlace, TransportInterrupts, VirtioTransport } from '../backend/virtio-transport.ts';
import type { Notification } from '../ring/notification.ts';
import { VirtioError } from '../system/error.ts';
import { readConfiguration, writeConfiguration } from './device-configuration.ts';
import type { PciFunction, Registers } from './pci-function.ts';
import { CONFIG_TRIES, VirtioPciTransport } from './virtio-pci-transport.ts';

const DEVICE_FEATURES = 0;
const GUEST_FEATURES = 4;
const QUEUE_ADDRESS = 8;
const QUEUE_SIZE = 12;
const QUEUE_SELECT = 14;
const QUEUE_NOTIFY = 16;
const DEVICE_STATUS = 18;
const ISR_STATUS = 19;
const CONFIG_MSIX_VECTOR = 20;
const QUEUE_MSIX_VECTOR = 22;
const CONFIG_WITHOUT_MSIX = 20;
const CONFIG_WITH_MSIX = 24;

const REGISTERS_BAR = 0;
const PAGE_SHIFT = 12;
const PAGE = 2 ** PAGE_SHIFT;
/** queue_address has 32 bits. */
const ADDRESS_LIMIT = 2n ** 44n;

export class VirtioLegacy extends VirtioPciTransport implements VirtioTransport {
  readonly legacy = true;
  readonly interrupts: TransportInterrupts | undefined;
  readonly #registers: Registers;
  #vectors = false;

  private constructor(pci: PciFunction, registers: Registers) {
    super(pci);
    this.#registers = registers;
    this.interrupts = pci.interrupts === undefined ? undefined : this.#watched(pci.interrupts);
  }

  /**
   * The function stays the caller's when this throws.
   * @throws VirtioError when BAR 0 is missing or too small
   */
  static async open(pci: PciFunction): Promise<VirtioLegacy> {
    const registers = await pci.bar(REGISTERS_BAR);
    if (registers.bytes < CONFIG_WITH_MSIX) {
      throw new VirtioError(
        `${pci.name}: BAR 0 has ${String(registers.bytes)} bytes, fewer than the registers of a legacy virtio device; the device cannot be used`,
        { code: 'EPROTO' },
      );
    }
    return new VirtioLegacy(pci, registers);
  }

  async readFeatures(): Promise<bigint> {
    return BigInt(await this.#registers.read(DEVICE_FEATURES, 4));
  }

  async writeFeatures(features: bigint): Promise<void> {
    await this.#registers.write(GUEST_FEATURES, 4, Number(features & 0xffff_ffffn));
  }

  readStatus(): Promise<number> {
    return this.#registers.read(DEVICE_STATUS, 1);
  }

  writeStatus(status: number): Promise<void> {
    return this.#registers.write(DEVICE_STATUS, 1, status);
  }

  async reset(): Promise<void> {
    await this.writeStatus(0);
    await this.until('the device does not reset', async () => (await this.readStatus()) === 0);
    this.closeRelays();
  }

  /** There is no generation: what reads the same twice is believed (2.5.4). */
  async readConfig(offset: number, bytes: number): Promise<Buffer> {
    let last = await readConfiguration(this.#registers, this.#configuration(), offset, bytes);
    for (let tries = 0; tries < CONFIG_TRIES; tries++) {
      const content = await readConfiguration(this.#registers, this.#configuration(), offset, bytes);
      if (content.equals(last)) return content;
      last = content;
    }
    throw this.restless();
  }

  async writeConfig(offset: number, bytes: Uint8Array): Promise<void> {
    await writeConfiguration(this.#registers, this.#configuration(), offset, bytes);
  }

  configSize(): Promise<number> {
    return Promise.resolve(this.#registers.bytes - this.#configuration());
  }

  ringCount(): Promise<undefined> {
    return Promise.resolve(undefined);
  }

  async ringLimit(index: number): Promise<number> {
    await this.#registers.write(QUEUE_SELECT, 2, index);
    return this.#registers.read(QUEUE_SIZE, 2);
  }

  async setRing(index: number, ring: RingPlace, interrupt: number | undefined): Promise<Notification> {
    const size = await this.ringLimit(index);
    if (ring.size !== size) {
      throw new VirtioError(
        `${this.name}: ring ${String(index)}: ${size === 0 ? 'the device has no such ring (its size is 0)' : `${String(ring.size)} descriptors, and a legacy device takes ${String(size)} only`}`,
        { code: size === 0 ? 'ENOENT' : 'EINVAL' },
      );
    }
    const { low, high } = this.addressOf(ring.descriptors);
    const address = (BigInt(high) << 32n) + BigInt(low);
    const inOnePiece = ring.available === ring.descriptors + 16 * size && (ring.used - ring.descriptors) % PAGE === 0;
    if (!inOnePiece || low % PAGE !== 0) {
      throw new RangeError(`ring ${String(index)}: a legacy device takes a ring in one piece on a page of ${String(PAGE)} bytes`);
    }
    if (address >= ADDRESS_LIMIT) {
      throw new VirtioError(
        `${this.name}: ring ${String(index)} lies at 0x${address.toString(16)}, and a legacy device reaches 16 TiB of memory only`,
        { code: 'ERANGE' },
      );
    }
    await this.#registers.write(QUEUE_ADDRESS, 4, Number(address >> BigInt(PAGE_SHIFT)));
    if (this.#vectors) await this.writeVector(this.#registers, QUEUE_MSIX_VECTOR, `ring ${String(index)}`, interrupt);
    return this.notificationAt(index, this.#registers, { offset: QUEUE_NOTIFY, bytes: 2, value: index });
  }

  async setConfigInterrupt(interrupt: number | undefined): Promise<void> {
    if (this.#vectors) await this.writeVector(this.#registers, CONFIG_MSIX_VECTOR, 'the configuration', interrupt);
  }

  readInterruptStatus(): Promise<number> {
    return this.takeInterruptStatus(this.#registers, ISR_STATUS);
  }

  /** The registers of the vectors are there only while MSI-X is on, and move the configuration. */
  #watched(interrupts: TransportInterrupts): TransportInterrupts {
    return {
      kind: interrupts.kind,
      count: interrupts.count,
      enable: async (descriptors) => {
        await interrupts.enable(descriptors);
        this.#vectors = interrupts.kind === 'msix';
      },
      disable: async () => {
        this.#vectors = false;
        await interrupts.disable();
      },
      rearm: async () => {
        await interrupts.rearm?.();
      },
    };
  }

  #configuration(): number {
    return this.#vectors ? CONFIG_WITH_MSIX : CONFIG_WITHOUT_MSIX;
  }
}
