/**
 * A modern virtio device on PCI (virtio 1.2, 4.1): its registers as the transport that the net driver works with.
 *
 *     configuration space --- capability list --- common configuration: features, status, rings
 *                                            \--- notification: one register a ring, at queue_notify_off x multiplier
 *                                            \--- interrupt status, for a line
 *                                            \--- device configuration: address, link, queue pairs, MTU
 * @module
 */
import type { RingPlace, TransportInterrupts, VirtioTransport } from '../backend/virtio-transport.ts';
import { VIRTIO_F_ACCESS_PLATFORM, VIRTIO_F_NOTIF_CONFIG_DATA, VIRTIO_F_NOTIFICATION_DATA } from '../backend/virtio-features.ts';
import type { Notification } from '../ring/notification.ts';
import type { PhysicalAddresses } from '../ring/physical-addresses.ts';
import { VirtioError } from '../system/error.ts';
import { findVirtioStructures, type VirtioStructures } from './capabilities.ts';
import { readConfiguration, writeConfiguration } from './device-configuration.ts';
import type { PciFunction, Width } from './pci-function.ts';
import { CONFIG_TRIES, VirtioPciTransport } from './virtio-pci-transport.ts';

/** struct virtio_pci_common_cfg (4.1.4.3). */
const COMMON = {
  device_feature_select: [0, 4],
  device_feature: [4, 4],
  driver_feature_select: [8, 4],
  driver_feature: [12, 4],
  config_msix_vector: [16, 2],
  num_queues: [18, 2],
  device_status: [20, 1],
  config_generation: [21, 1],
  queue_select: [22, 2],
  queue_size: [24, 2],
  queue_msix_vector: [26, 2],
  queue_enable: [28, 2],
  queue_notify_off: [30, 2],
  queue_desc: [32, 4],
  queue_desc_high: [36, 4],
  queue_driver: [40, 4],
  queue_driver_high: [44, 4],
  queue_device: [48, 4],
  queue_device_high: [52, 4],
  queue_notif_config_data: [56, 2],
  queue_reset: [58, 2],
} as const satisfies Readonly<Record<string, readonly [number, Width]>>;

type CommonField = keyof typeof COMMON;

/** What registers read as when the device is gone. */
const GONE_STATUS = 0xff;
const FEATURE_WORDS = 2;

export interface VirtioModernOptions {
  /** Time for a reset; default 5000. */
  readonly resetMilliseconds?: number | undefined;
}

export class VirtioModern extends VirtioPciTransport implements VirtioTransport {
  readonly legacy = false;
  readonly interrupts: TransportInterrupts | undefined;
  readonly #structures: VirtioStructures;
  readonly #resetMilliseconds: number | undefined;
  #features = 0n;
  /** Of the features that it offers: without it, it is told physical addresses (6.1). */
  #accessPlatform = false;

  private constructor(pci: PciFunction, structures: VirtioStructures, options: VirtioModernOptions) {
    super(pci);
    this.#structures = structures;
    this.#resetMilliseconds = options.resetMilliseconds;
    this.interrupts = pci.interrupts;
  }

  /**
   * Looks for the device's structures. The function stays the caller's when this throws.
   * @returns undefined for a function that has none of them: a legacy device
   * @throws VirtioError EPROTO for capabilities that cannot be used
   */
  static async open(pci: PciFunction, options: VirtioModernOptions = {}): Promise<VirtioModern | undefined> {
    const structures = await findVirtioStructures(pci);
    return structures === undefined ? undefined : new VirtioModern(pci, structures, options);
  }

  async readFeatures(): Promise<bigint> {
    let features = 0n;
    for (let word = 0; word < FEATURE_WORDS; word++) {
      await this.#write('device_feature_select', word);
      features |= BigInt(await this.#read('device_feature')) << BigInt(32 * word);
    }
    this.#accessPlatform = (features & VIRTIO_F_ACCESS_PLATFORM) !== 0n;
    // what is written then is not known beforehand, as the other one that writes needs it
    return this.#structures.notify.direct === undefined ? features & ~VIRTIO_F_NOTIFICATION_DATA : features;
  }

  async writeFeatures(features: bigint): Promise<void> {
    for (let word = 0; word < FEATURE_WORDS; word++) {
      await this.#write('driver_feature_select', word);
      await this.#write('driver_feature', Number((features >> BigInt(32 * word)) & 0xffff_ffffn));
    }
    this.#features = features;
  }

  async readStatus(): Promise<number> {
    const status = await this.#read('device_status');
    if (status === GONE_STATUS) {
      throw new VirtioError(`${this.name}: the device does not answer any more (its status reads 0xff)`, { code: 'ENODEV' });
    }
    return status;
  }

  async writeStatus(status: number): Promise<void> {
    await this.#write('device_status', status);
  }

  async reset(): Promise<void> {
    await this.writeStatus(0);
    const done = async (): Promise<boolean> => (await this.readStatus()) === 0;
    try {
      await this.until('the device does not reset', done, this.#resetMilliseconds);
    } catch (error) {
      // one that is stuck may still obey the bus
      if (!(error instanceof VirtioError) || error.code !== 'ETIMEDOUT' || !(await this.pci.reset()) || !(await done())) throw error;
    }
    this.closeRelays();
    this.#features = 0n;
  }

  async readConfig(offset: number, bytes: number): Promise<Buffer> {
    const registers = this.#deviceConfiguration();
    for (let tries = 0; tries < CONFIG_TRIES; tries++) {
      const generation = await this.#read('config_generation');
      const content = await readConfiguration(registers, 0, offset, bytes);
      if ((await this.#read('config_generation')) === generation) return content;
    }
    throw this.restless();
  }

  async writeConfig(offset: number, bytes: Uint8Array): Promise<void> {
    await writeConfiguration(this.#deviceConfiguration(), 0, offset, bytes);
  }

  configSize(): Promise<number> {
    return Promise.resolve(this.#structures.device?.bytes ?? 0);
  }

  async ringCount(): Promise<number> {
    return this.#read('num_queues');
  }

  async ringLimit(index: number): Promise<number> {
    // beyond num_queues, what is selected is not defined (4.1.4.3.1)
    if (index >= (await this.ringCount())) return 0;
    await this.#write('queue_select', index);
    return this.#read('queue_size');
  }

  async setRing(index: number, ring: RingPlace, interrupt: number | undefined): Promise<Notification> {
    const limit = await this.ringLimit(index);
    if (ring.size < 1 || ring.size > limit) {
      throw new VirtioError(
        `${this.name}: ring ${String(index)}: ${limit === 0 ? 'the device has no such ring (its size is 0)' : `${String(ring.size)} descriptors, and the device takes ${String(limit)} at most`}`,
        { code: limit === 0 ? 'ENOENT' : 'EINVAL' },
      );
    }
    await this.#write('queue_size', ring.size);
    await this.#setVector('queue_msix_vector', `ring ${String(index)}`, interrupt);
    await this.#writeAddress('queue_desc', ring.descriptors);
    await this.#writeAddress('queue_driver', ring.available);
    await this.#writeAddress('queue_device', ring.used);
    const notification = await this.#notification(index);
    await this.#write('queue_enable', 1);
    return notification;
  }

  /**
   * Takes one ring back while the others go on (VIRTIO_F_RING_RESET, 2.6.1).
   * @throws VirtioError ETIMEDOUT when the device keeps it
   */
  async resetRing(index: number): Promise<void> {
    await this.#write('queue_select', index);
    await this.#write('queue_reset', 1);
    await this.until(
      `the device does not give ring ${String(index)} back`,
      async () => (await this.#read('queue_reset')) === 0 && (await this.#read('queue_enable')) === 0,
      this.#resetMilliseconds,
    );
    this.closeRelay(index);
  }

  async setConfigInterrupt(interrupt: number | undefined): Promise<void> {
    await this.#setVector('config_msix_vector', 'the configuration', interrupt);
  }

  readInterruptStatus(): Promise<number> {
    return this.takeInterruptStatus(this.#structures.isr, 0);
  }

  protected override physical(): PhysicalAddresses | undefined {
    return this.#accessPlatform && this.pci.translated ? undefined : super.physical(this.#accessPlatform);
  }

  async #read(field: CommonField): Promise<number> {
    const [offset, width] = COMMON[field];
    return this.#structures.common.read(offset, width);
  }

  async #write(field: CommonField, value: number): Promise<void> {
    const [offset, width] = COMMON[field];
    await this.#structures.common.write(offset, width, value);
  }

  /** As two words: 64-bit accesses are not for every device (4.1.3.1). */
  async #writeAddress(field: 'queue_desc' | 'queue_driver' | 'queue_device', offset: number): Promise<void> {
    const { low, high } = this.addressOf(offset);
    await this.#write(field, low);
    await this.#write(`${field}_high`, high);
  }

  async #setVector(field: 'queue_msix_vector' | 'config_msix_vector', what: string, interrupt: number | undefined): Promise<void> {
    // a line has no vectors; the register is not looked at then
    const vector = this.interrupts?.kind === 'line' ? undefined : interrupt;
    await this.writeVector(this.#structures.common, COMMON[field][0], what, vector);
  }

  /** How ring `index`, which is selected, is notified (4.1.4.4, 4.1.5.2). */
  async #notification(index: number): Promise<Notification> {
    const { notify, notifyMultiplier } = this.#structures;
    const bytes = (this.#features & VIRTIO_F_NOTIFICATION_DATA) === 0n ? 2 : 4;
    const value = (this.#features & VIRTIO_F_NOTIF_CONFIG_DATA) === 0n ? index : await this.#read('queue_notif_config_data');
    const offset = (await this.#read('queue_notify_off')) * notifyMultiplier;
    if (offset + bytes > notify.bytes || offset % bytes !== 0) {
      throw new VirtioError(
        `${this.name}: ring ${String(index)} is notified at 0x${offset.toString(16)} of a structure of 0x${notify.bytes.toString(16)} bytes; the device cannot be used`,
        { code: 'EPROTO' },
      );
    }
    return this.notificationAt(index, notify, { offset, bytes, value });
  }

  #deviceConfiguration(): NonNullable<VirtioStructures['device']> {
    const { device } = this.#structures;
    if (device === undefined) throw new VirtioError(`${this.name}: the device has no configuration of its own`, { code: 'EPROTO' });
    return device;
  }
}
