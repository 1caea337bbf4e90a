/**
 * A PCI function through files of sysfs: bound to uio_pci_generic, or to no driver at all. Nothing translates for its device, which is
 * told physical addresses; its interrupt, a line, comes by way of the uio device.
 * @module
 */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { TransportInterrupts } from '../backend/virtio-transport.ts';
import type { Arena } from '../memory/arena.ts';
import { physicalAddressesIn, type PhysicalAddresses } from '../ring/physical-addresses.ts';
import { realDeviceFiles, type DeviceFiles } from '../system/device-files.ts';
import { VirtioError } from '../system/error.ts';
import { signalEventFd } from '../system/event-fd.ts';
import { systemError } from '../system/ffi.ts';
import { changeCommand, PCI_COMMAND_DECODE, PCI_COMMAND_INTX_DISABLE, PCI_COMMAND_MASTER } from './capabilities.ts';
import { fileRegisters } from './file-registers.ts';
import { mapBar } from './mapped-registers.ts';
import type { PciFunction, Registers } from './pci-function.ts';
import { isBehindIommu, type HostFunctionOptions, type PciDevice } from './sysfs.ts';

const UIO_DRIVER = 'uio_pci_generic';
const CONFIG_BYTES = 256;
const PAGE = 4096;

export class SysfsFunction implements PciFunction {
  readonly name: string;
  readonly config: Registers;
  readonly interrupts: TransportInterrupts | undefined;
  readonly addressHigh = 0;
  readonly translated = false;
  readonly #arena: Arena;
  readonly #device: PciDevice;
  readonly #system: DeviceFiles;
  readonly #files: number[] = [];
  readonly #bars = new Map<number, Registers>();
  readonly #unmaps: (() => void)[] = [];
  #shared = false;
  #endWatch: (() => void) | undefined;
  #open = true;

  /**
   * @throws VirtioError when its files cannot be opened: only root may; EINVAL for arena offsets, which nothing translates here
   */
  constructor(options: HostFunctionOptions) {
    const { arena, device } = options;
    this.name = device.address;
    if (options.iovaMode === 'va') {
      throw new VirtioError(
        `${this.name}: --iova-mode=va: nothing translates addresses for a device on ${device.driver ?? 'no driver'}; leave the option out, or bind it to vfio-pci where there is an IOMMU`,
        { code: 'EINVAL' },
      );
    }
    this.#arena = arena;
    this.#device = device;
    this.#system = options.system ?? realDeviceFiles;
    try {
      this.config = this.#fileRegisters('config', 'the configuration space', CONFIG_BYTES);
      this.interrupts = this.#findInterrupt();
    } catch (error) {
      this.#release();
      throw error;
    }
  }

  bar(index: number): Promise<Registers> {
    return new Promise((resolve) => {
      const known = this.#bars.get(index) ?? this.#openBar(index);
      this.#bars.set(index, known);
      resolve(known);
    });
  }

  relay(): Promise<never> {
    return Promise.reject(new VirtioError(`${this.name}: its registers are reached directly`, { code: 'EOPNOTSUPP' }));
  }

  physicalAddresses(takesPart: boolean): PhysicalAddresses {
    if (takesPart && isBehindIommu(this.#device.path)) {
      throw new VirtioError(
        `${this.name}: an IOMMU translates for it (VIRTIO_F_ACCESS_PLATFORM), and ${this.#device.driver ?? 'no driver'} cannot set that up; as root: modprobe vfio-pci; dpdk-ts-devbind --bind=vfio-pci ${this.name}`,
        { code: 'EOPNOTSUPP' },
      );
    }
    return physicalAddressesIn(this.#arena);
  }

  /** The kernel would have to do it (the file `reset`), which virtio devices of QEMU do not have. */
  reset(): Promise<boolean> {
    return Promise.resolve(false);
  }

  async shareMemory(): Promise<void> {
    await changeCommand(this.config, PCI_COMMAND_DECODE | PCI_COMMAND_MASTER, 0);
    this.#shared = true;
  }

  async withdrawMemory(): Promise<void> {
    if (!this.#shared) return;
    await changeCommand(this.config, 0, PCI_COMMAND_MASTER);
    this.#shared = false;
  }

  /** Nothing tells; registers that read as ones do. */
  onGone(): void {
    // its transport finds out
  }

  async close(): Promise<void> {
    if (!this.#open) return;
    this.#open = false;
    try {
      await this.interrupts?.disable();
      await this.withdrawMemory();
    } finally {
      this.#release();
    }
  }

  #release(): void {
    this.#endWatch?.();
    for (const unmap of this.#unmaps.splice(0)) unmap();
    for (const fd of this.#files.splice(0)) this.#system.close(fd);
  }

  #openFile(path: string): number {
    const { value, errno } = this.#system.open(path);
    if (value < 0) throw systemError(`${path}: run as root`, 'open', errno);
    this.#files.push(value);
    return value;
  }

  #fileRegisters(name: string, part: string, bytes: number): Registers {
    const fd = this.#openFile(join(this.#device.path, name));
    return fileRegisters(this.#system, { what: `${this.name}: ${part}`, fd, position: 0, bytes });
  }

  #openBar(index: number): Registers {
    const resource = this.#device.resources[index];
    if (resource === undefined) throw new VirtioError(`${this.name}: there is no BAR ${String(index)}`, { code: 'ENXIO' });
    const name = `resource${String(index)}`;
    const part = `BAR ${String(index)}`;
    // ports of the processor are reached by pread and pwrite only
    if (resource.io || resource.bytes % PAGE !== 0) return this.#fileRegisters(name, part, resource.bytes);
    const fd = this.#openFile(join(this.#device.path, name));
    const mapped = mapBar(this.#arena, `${this.name}: ${part}`, fd, 0, resource.bytes);
    this.#unmaps.push(() => {
      mapped.unmap();
    });
    return mapped.registers;
  }

  #findInterrupt(): TransportInterrupts | undefined {
    if (this.#device.driver !== UIO_DRIVER) return undefined;
    const [uio] = readdirSync(join(this.#device.path, 'uio'));
    if (uio === undefined) return undefined;
    const fd = this.#openFile(`/dev/${uio}`);
    return {
      kind: 'line',
      count: 1,
      enable: async ([descriptor]) => {
        if (descriptor === undefined) return;
        this.#endWatch?.();
        this.#endWatch = this.#system.watch(fd, () => {
          // the count of interrupts so far; the kernel has switched the line off in the command register
          this.#system.readAt(fd, new Uint8Array(4), 0);
          signalEventFd(descriptor);
        });
        await this.#setLine(true);
      },
      disable: async () => {
        this.#endWatch?.();
        this.#endWatch = undefined;
        await this.#setLine(false);
      },
      rearm: () => this.#setLine(true),
    };
  }

  #setLine(on: boolean): Promise<void> {
    return changeCommand(this.config, on ? 0 : PCI_COMMAND_INTX_DISABLE, on ? PCI_COMMAND_INTX_DISABLE : 0);
  }
}
