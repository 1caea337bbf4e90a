/**
 * How a virtio device is reached: registers of a PCI function (through vfio, sysfs or QEMU's qtest), or the kernel's vhost-vdpa.
 *
 *     net driver (transport-backend.ts) --- VirtioTransport --- virtio-pci modern, legacy --- PciFunction --- vfio, sysfs, qtest
 *                                                         \--- vhost-vdpa
 *
 * Everything here is asynchronous: the other end may be a process that, to answer, waits for another port of this one.
 * @module
 */
import type { Notification } from '../ring/notification.ts';
import type { DeviceAddress } from '../ring/physical-addresses.ts';

/** A ring in the arena. */
export interface RingPlace {
  /** Descriptors. */
  readonly size: number;
  /** Where the device begins, as vhost says it; a device that was reset knows it by itself. */
  readonly base: number;
  /** Arena offsets of the three parts (virtio 1.2, 2.7 and 2.8). */
  readonly descriptors: number;
  readonly available: number;
  readonly used: number;
}

/** What the device can tell by itself; absent where there is polling only. */
export interface TransportInterrupts {
  /** `msix`: vectors, which the device is told by their numbers. `line`: one for everything; readInterruptStatus() says what for. */
  readonly kind: 'msix' | 'line';
  /** How many there are: MSI-X vectors, or 1 for a line. */
  readonly count: number;
  /**
   * Has interrupt N signal eventfd N of the list.
   * @throws VirtioError when the system does not grant them
   */
  enable(descriptors: readonly number[]): Promise<void>;
  disable(): Promise<void>;
  /** Lets a line signal again, which it does once; readInterruptStatus() does it. */
  rearm?(): Promise<void>;
}

export interface VirtioTransport {
  /** How messages name the device: `0000:00:10.0`, `/dev/vhost-vdpa-0`. */
  readonly name: string;
  /**
   * A device from before virtio 1.0 (4.1.4.10): no FEATURES_OK, features of 32 bits, rings in one piece on pages of 4 KiB, and a
   * configuration space in the byte order of the machine.
   */
  readonly legacy: boolean;
  /** High word of every address that the device is told. */
  readonly addressHigh: number;
  /** Arena offset of the table of physical addresses (ring/physical-addresses.ts), where the device is told those; 0: it is not. */
  readonly physicalAddresses: number;
  /** What the device is told of an arena offset in the published part. */
  addressOf(offset: number): DeviceAddress;
  readonly interrupts: TransportInterrupts | undefined;

  readFeatures(): Promise<bigint>;
  writeFeatures(features: bigint): Promise<void>;
  readStatus(): Promise<number>;
  writeStatus(status: number): Promise<void>;
  /** Writes a status of 0 and waits until the device reads 0 (4.1.4.3.2). @throws VirtioError ETIMEDOUT */
  reset(): Promise<void>;
  /** Bytes of the device's configuration space, all of one generation (4.1.4.3.1). @throws VirtioError when it does not settle */
  readConfig(offset: number, bytes: number): Promise<Uint8Array>;
  writeConfig(offset: number, bytes: Uint8Array): Promise<void>;
  /** Bytes of the configuration space; undefined where that is not told. */
  configSize(): Promise<number | undefined>;
  /** How many rings there are with the features that were written; undefined where that is not told. */
  ringCount(): Promise<number | undefined>;
  /** Descriptors of ring `index` at most, or exactly for a legacy device; 0: there is no such ring. */
  ringLimit(index: number): Promise<number>;
  /**
   * Hands a ring over and enables it.
   * @param interrupt number of the interrupt that tells of used buffers; undefined: none
   * @returns how the device is notified of new buffers
   * @throws VirtioError when the device does not take it
   */
  setRing(index: number, ring: RingPlace, interrupt: number | undefined): Promise<Notification>;
  /**
   * Takes ring `index` from the device while the others go on, where VIRTIO_F_RING_RESET was agreed on (2.6.1); setRing() hands it over
   * again. Absent: the transport has no way to.
   * @throws VirtioError ETIMEDOUT when the device keeps it
   */
  resetRing?(index: number): Promise<void>;
  /** Which interrupt tells of a changed configuration; undefined: none. @throws VirtioError when the device does not take it */
  setConfigInterrupt(interrupt: number | undefined): Promise<void>;
  /** For a line: whether it was this device, and why (4.1.4.5); reading takes it back, and lets the line signal again. 1: a ring, 2: the configuration. */
  readInterruptStatus(): Promise<number>;
  /** Lets the device reach the published part of the arena. */
  shareMemory(): Promise<void>;
  /** Takes that back. The device must have been reset. */
  withdrawMemory(): Promise<void>;
  /** Calls `listener` once when the device is gone (unplugged, its process ended), with the reason. */
  onGone(listener: (reason: string) => void): void;
  close(): Promise<void>;
}
