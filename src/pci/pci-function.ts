/**
 * A PCI function as drivers of virtio devices need it, however it is reached: through vfio, through files of sysfs, or through QEMU's qtest.
 * @module
 */
import type { TransportInterrupts } from '../backend/virtio-transport.ts';
import type { PhysicalAddresses } from '../ring/physical-addresses.ts';

export type Width = 1 | 2 | 4;

/** Configuration space, or what lies behind a BAR: little-endian registers, each read and written at its own width. */
export interface Registers {
  readonly bytes: number;
  /** @throws RangeError outside of it; VirtioError when the device is gone */
  read(offset: number, width: Width): Promise<number>;
  write(offset: number, width: Width, value: number): Promise<void>;
  /** Where lcores reach it without this object: the arena offset of its first byte, or a position in a file; undefined: nowhere. */
  readonly direct:
    | { readonly kind: 'mapped'; readonly arenaOffset: number }
    | { readonly kind: 'file'; readonly fd: number; readonly position: number }
    | undefined;
  /** Where its first byte is on the bus, where that is known. */
  readonly address?: number | undefined;
}

/** A register by its place on the bus, and what notifies its device. */
export interface RelayTarget {
  readonly address: number;
  readonly value: number;
}

/**
 * What devices are told by order of the user (--iova-mode): physical addresses even behind an IOMMU, or arena offsets even where the
 * device does not say that anything translates for it. Undefined: what each device needs.
 */
export type IovaMode = 'pa' | 'va';

export interface PciFunction {
  /** `0000:00:10.0` */
  readonly name: string;
  readonly config: Registers;
  readonly interrupts: TransportInterrupts | undefined;
  /** High word of every address that the device is told. */
  readonly addressHigh: number;
  /** Whether an IOMMU, or an emulator, translates arena offsets for a device that takes part in it (VIRTIO_F_ACCESS_PLATFORM). */
  readonly translated: boolean;
  /**
   * What a device is told for which nothing translates; undefined where the memory behind the bus is the arena itself.
   * @param takesPart whether the device takes part in what an IOMMU translates (VIRTIO_F_ACCESS_PLATFORM)
   * @throws VirtioError where physical addresses cannot be had, or an IOMMU would take them for others
   */
  physicalAddresses(takesPart: boolean): PhysicalAddresses | undefined;
  /** What lies behind a BAR; opened once. @throws VirtioError when there is no such BAR, or it is not reachable */
  bar(index: number): Promise<Registers>;
  /**
   * An eventfd that an lcore writes where `direct` is undefined: `write` is then done by the owner of the function, or the same by
   * somebody whom it can give `target` to.
   * @throws VirtioError EOPNOTSUPP where registers are reached directly
   */
  relay(write: () => Promise<void>, target?: RelayTarget): Promise<{ readonly fd: number; close(): void }>;
  /** Resets the function, where that can be done; returns whether it was. */
  reset(): Promise<boolean>;
  /** Lets the function reach the published part of the arena (an IOMMU's mapping, where there is one), and master the bus. */
  shareMemory(): Promise<void>;
  withdrawMemory(): Promise<void>;
  onGone(listener: (reason: string) => void): void;
  close(): Promise<void>;
}
