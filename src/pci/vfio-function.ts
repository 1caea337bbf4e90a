/**
 * A PCI function through vfio: its registers mapped or by pread and pwrite, its interrupts as eventfds, its view of memory through the
 * IOMMU: the published part of the arena at the arena's own offsets, and nothing else of the process.
 * @module
 */
import { readSync } from 'node:fs';
import type { TransportInterrupts } from '../backend/virtio-transport.ts';
import type { Arena } from '../memory/arena.ts';
import { PHYSICAL_PAGE, physicalAddressesIn, type PhysicalAddresses } from '../ring/physical-addresses.ts';
import { realDeviceFiles, type DeviceFiles } from '../system/device-files.ts';
import { VirtioError } from '../system/error.ts';
import { closeFd, createEventFd } from '../system/event-fd.ts';
import { systemError } from '../system/ffi.ts';
import {
  decodeDeviceInfo,
  decodeIrqCount,
  decodeRegionInfo,
  deviceInfo,
  disableIrqs,
  irqInfo,
  regionInfo,
  triggerByEventFds,
  unmaskIrq,
  VFIO,
  VFIO_DEVICE_FLAGS_PCI,
  VFIO_DEVICE_FLAGS_RESET,
  VFIO_PCI_CONFIG_REGION_INDEX,
  VFIO_PCI_INTX_IRQ_INDEX,
  VFIO_PCI_MSIX_IRQ_INDEX,
  VFIO_PCI_REQ_IRQ_INDEX,
  VFIO_REGION_INFO_CAP_MSIX_MAPPABLE,
  VFIO_REGION_INFO_CAP_SPARSE_MMAP,
  VFIO_REGION_INFO_FLAG_MMAP,
  type DmaMapping,
  type VfioDeviceInfo,
  type VfioRegion,
} from '../system/vfio.ts';
import { changeCommand, PCI_COMMAND_DECODE, PCI_COMMAND_MASTER } from './capabilities.ts';
import { fileRegisters } from './file-registers.ts';
import { mapBar, type MappedBar } from './mapped-registers.ts';
import type { IovaMode, PciFunction, Registers } from './pci-function.ts';
import { groupMembers, type HostFunctionOptions, type PciDevice } from './sysfs.ts';
import { VfioGroup, type VfioFile } from './vfio-group.ts';

const BARS = 6;
const MIN_PAGE = 4096;

export class VfioFunction implements PciFunction {
  readonly name: string;
  readonly config: Registers;
  readonly interrupts: TransportInterrupts | undefined;
  readonly addressHigh = 0;
  readonly translated: boolean;
  readonly #arena: Arena;
  readonly #iovaMode: IovaMode | undefined;
  readonly #system: DeviceFiles;
  readonly #group: VfioGroup;
  readonly #file: VfioFile;
  readonly #info: VfioDeviceInfo;
  readonly #bars = new Map<number, { readonly registers: Registers; readonly mapped: MappedBar | undefined }>();
  /** Index of the interrupts that are enabled. */
  #enabled: number | undefined;
  #shared = false;
  #gone: { readonly fd: number; readonly end: () => void } | undefined;
  #open = true;

  /**
   * Opens the function; its driver must be vfio-pci (binding.ts says so with what to do).
   * @throws VirtioError
   */
  constructor(options: HostFunctionOptions) {
    const { device, arena } = options;
    this.name = device.address;
    this.#arena = arena;
    this.#system = options.system ?? realDeviceFiles;
    this.#group = openGroup(this.#system, device);
    this.#iovaMode = options.iovaMode;
    this.translated = !this.#group.noIommu && options.iovaMode !== 'pa';
    let file: VfioFile | undefined;
    try {
      file = this.#group.openDevice(device.address);
      this.#file = file;
      const info = deviceInfo();
      file.ask('VFIO_DEVICE_GET_INFO', info);
      this.#info = decodeDeviceInfo(info);
      if ((this.#info.flags & VFIO_DEVICE_FLAGS_PCI) === 0) {
        throw new VirtioError(`${this.name}: vfio says that it is no PCI device`, { code: 'ENODEV' });
      }
      this.config = this.#registers(this.#region(VFIO_PCI_CONFIG_REGION_INDEX), 'the configuration space');
      this.interrupts = this.#findInterrupts();
    } catch (error) {
      file?.close();
      this.#group.release();
      throw error;
    }
  }

  bar(index: number): Promise<Registers> {
    const known = this.#bars.get(index);
    if (known !== undefined) return Promise.resolve(known.registers);
    return new Promise((resolve) => {
      resolve(this.#openBar(index));
    });
  }

  relay(): Promise<never> {
    return Promise.reject(new VirtioError(`${this.name}: its registers are reached directly`, { code: 'EOPNOTSUPP' }));
  }

  physicalAddresses(): PhysicalAddresses | undefined {
    return this.#iovaMode === 'va' && !this.#group.noIommu ? undefined : physicalAddressesIn(this.#arena);
  }

  /** A function of the root complex has no reset that vfio could ask for. */
  reset(): Promise<boolean> {
    if ((this.#info.flags & VFIO_DEVICE_FLAGS_RESET) === 0) return Promise.resolve(false);
    return Promise.resolve(this.#system.ioctl(this.#file.fd, VFIO.VFIO_DEVICE_RESET, 0).value === 0);
  }

  async shareMemory(): Promise<void> {
    if (this.#shared) return;
    if (!this.#group.noIommu) this.#group.map(this.#mappings());
    this.#shared = true;
    try {
      await changeCommand(this.config, PCI_COMMAND_DECODE | PCI_COMMAND_MASTER, 0);
    } catch (error) {
      await this.withdrawMemory();
      throw error;
    }
  }

  async withdrawMemory(): Promise<void> {
    if (!this.#shared) return;
    this.#shared = false;
    try {
      await changeCommand(this.config, PCI_COMMAND_DECODE, PCI_COMMAND_MASTER);
    } finally {
      if (!this.#group.noIommu) this.#group.unmap();
    }
  }

  /** vfio says when the device is to be given back (hot unplug): the unplugging waits until it is closed. */
  onGone(listener: (reason: string) => void): void {
    if (this.#gone !== undefined || this.#irqCount(VFIO_PCI_REQ_IRQ_INDEX) === 0) return;
    const fd = createEventFd();
    try {
      this.#setIrqs(triggerByEventFds(VFIO_PCI_REQ_IRQ_INDEX, [fd]));
      const end = this.#system.watch(fd, () => {
        this.#endGone();
        listener('the device is being removed');
      });
      this.#gone = { fd, end };
    } catch (error) {
      closeFd(fd);
      throw error;
    }
  }

  async close(): Promise<void> {
    if (!this.#open) return;
    this.#open = false;
    try {
      await this.interrupts?.disable();
    } finally {
      try {
        await this.withdrawMemory();
      } finally {
        this.#release();
      }
    }
  }

  #release(): void {
    this.#endGone();
    // a mapping would keep the device open
    for (const { mapped } of this.#bars.values()) mapped?.unmap();
    this.#bars.clear();
    this.#file.close();
    this.#group.release();
  }

  /** The published part of the arena at its own offsets, or page by page at physical addresses. */
  #mappings(): readonly DmaMapping[] {
    const { guestAddress, bytes, userAddress } = this.#arena.publishedRegion;
    if (this.translated) return [{ iova: guestAddress, bytes, userAddress }];
    const physical = physicalAddressesIn(this.#arena);
    return Array.from({ length: bytes / PHYSICAL_PAGE }, (_, page) => {
      const { low, high } = physical.addressOf(guestAddress + page * PHYSICAL_PAGE);
      return { iova: high * 2 ** 32 + low, bytes: PHYSICAL_PAGE, userAddress: userAddress + page * PHYSICAL_PAGE };
    });
  }

  #region(index: number): VfioRegion {
    return decodeRegionInfo(this.#file.askAll('VFIO_DEVICE_GET_REGION_INFO', (bytes) => regionInfo(index, bytes)));
  }

  #registers(region: VfioRegion, part: string): Registers {
    const { fd } = this.#file;
    return fileRegisters(this.#system, { what: `${this.name}: ${part}`, fd, position: region.offset, bytes: region.bytes });
  }

  #openBar(index: number): Registers {
    const region = index >= 0 && index < BARS ? this.#region(index) : undefined;
    if (region === undefined || region.bytes === 0) {
      throw new VirtioError(`${this.name}: there is no BAR ${String(index)}`, { code: 'ENXIO' });
    }
    const { flags, capabilities, bytes } = region;
    // with holes for the table of interrupts it cannot be mapped in one piece
    const whole = !capabilities.includes(VFIO_REGION_INFO_CAP_SPARSE_MMAP) || capabilities.includes(VFIO_REGION_INFO_CAP_MSIX_MAPPABLE);
    const mapped =
      (flags & VFIO_REGION_INFO_FLAG_MMAP) !== 0 && whole && bytes % MIN_PAGE === 0
        ? mapBar(this.#arena, `${this.name}: BAR ${String(index)}`, this.#file.fd, region.offset, bytes)
        : undefined;
    const registers = mapped?.registers ?? this.#registers(region, `BAR ${String(index)}`);
    this.#bars.set(index, { registers, mapped });
    return registers;
  }

  #irqCount(index: number): number {
    if (index >= this.#info.interrupts) return 0;
    const info = irqInfo(index);
    const { value } = this.#system.ioctl(this.#file.fd, VFIO.VFIO_DEVICE_GET_IRQ_INFO, info);
    return value < 0 ? 0 : decodeIrqCount(info);
  }

  #setIrqs(set: Buffer): void {
    const { value, errno } = this.#system.ioctl(this.#file.fd, VFIO.VFIO_DEVICE_SET_IRQS, set);
    if (value < 0) throw systemError(`${this.name}: interrupts`, 'VFIO_DEVICE_SET_IRQS', errno);
  }

  #findInterrupts(): TransportInterrupts | undefined {
    const vectors = this.#irqCount(VFIO_PCI_MSIX_IRQ_INDEX);
    const index = vectors > 0 ? VFIO_PCI_MSIX_IRQ_INDEX : VFIO_PCI_INTX_IRQ_INDEX;
    const count = vectors > 0 ? vectors : this.#irqCount(index);
    if (count === 0) return undefined;
    const attempt = (set: () => void): Promise<void> =>
      new Promise((resolve) => {
        set();
        resolve();
      });
    return {
      kind: vectors > 0 ? 'msix' : 'line',
      count,
      enable: (descriptors) =>
        attempt(() => {
          if (descriptors.length < 1 || descriptors.length > count) {
            throw new RangeError(`${this.name}: ${String(descriptors.length)} interrupts: the device has ${String(count)}`);
          }
          this.#disableIrqs();
          this.#setIrqs(triggerByEventFds(index, descriptors));
          this.#enabled = index;
        }),
      disable: () =>
        attempt(() => {
          this.#disableIrqs();
        }),
      rearm: () =>
        attempt(() => {
          if (this.#enabled === VFIO_PCI_INTX_IRQ_INDEX) this.#setIrqs(unmaskIrq(VFIO_PCI_INTX_IRQ_INDEX));
        }),
    };
  }

  #disableIrqs(): void {
    const enabled = this.#enabled;
    this.#enabled = undefined;
    if (enabled !== undefined) this.#setIrqs(disableIrqs(enabled));
  }

  #endGone(): void {
    const gone = this.#gone;
    this.#gone = undefined;
    if (gone === undefined) return;
    gone.end();
    try {
      readSync(gone.fd, new Uint8Array(8));
    } catch {
      // EAGAIN: nothing was said
    }
    closeFd(gone.fd);
  }
}

function openGroup(system: DeviceFiles, { address, iommuGroup }: PciDevice): VfioGroup {
  if (iommuGroup === undefined) {
    throw new VirtioError(
      `${address}: it is in no IOMMU group: switch the IOMMU on in the firmware and the kernel (intel_iommu=on, or amd_iommu=on), ` +
        `or use physical addresses: dpdk-ts-devbind --bind=uio_pci_generic ${address}`,
      { code: 'EOPNOTSUPP' },
    );
  }
  const number = String(iommuGroup);
  const noIommu = `/dev/vfio/noiommu-${number}`;
  const path = system.exists(noIommu) ? noIommu : `/dev/vfio/${number}`;
  return VfioGroup.acquire(system, path, () => groupMembers(iommuGroup));
}
