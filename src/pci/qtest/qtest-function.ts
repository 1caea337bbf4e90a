/**
 * A PCI function inside a QEMU, driven from outside over its qtest socket.
 * @module
 */
import type { TransportInterrupts } from '../../backend/virtio-transport.ts';
import { VirtioError } from '../../system/error.ts';
import { clearEventFd, closeFd, createEventFd } from '../../system/event-fd.ts';
import { watchReadable } from '../../system/readiness.ts';
import { PCI_STATUS } from '../capabilities.ts';
import type { PciFunction, Registers, RelayTarget } from '../pci-function.ts';
import { placedRegisters, type BusFunction, type PlacedBar } from './bus.ts';
import { doorbellInterrupts, lineInterrupt, wordInterrupts } from './interrupts.ts';
import type { QtestMachine } from './machine.ts';
import { MsixTable } from './msix.ts';

const PCI_STATUS_INTERRUPT = 0x8;

/** `msix`: a vector a queue; `intx`: one line for all. */
export type InterruptMode = 'msix' | 'intx';

export class QtestFunction implements PciFunction {
  readonly name: string;
  /** Where it is plugged in. */
  readonly bus: number;
  readonly slot: number;
  readonly config: Registers;
  readonly addressHigh: number;
  readonly translated = true;
  readonly #machine: QtestMachine;
  readonly #bars: ReadonlyMap<number, PlacedBar>;
  readonly #listeners: ((reason: string) => void)[] = [];
  /** Descriptors of relays, kept to the end: an lcore may still write one while the device goes. */
  readonly #descriptors: number[] = [];
  readonly #freeDescriptors: number[] = [];
  readonly #relays = new Set<{ close(): void }>();
  #interrupts: TransportInterrupts | undefined;
  #goneFor: string | undefined;
  #open = true;

  private constructor(machine: QtestMachine, { name, bus, slot, config }: BusFunction, bars: ReadonlyMap<number, PlacedBar>) {
    this.name = `${machine.name} ${name}`;
    this.bus = bus;
    this.slot = slot;
    this.config = config;
    this.addressHigh = machine.addressHigh;
    this.#machine = machine;
    this.#bars = bars;
  }

  /**
   * Places the function's BARs and finds its interrupts. It stays open until closed, unplugged or not.
   * @throws VirtioError when it is not as PCI has it, or has no MSI-X and is to use it
   */
  static async open(machine: QtestMachine, found: BusFunction, mode: InterruptMode): Promise<QtestFunction> {
    const bars = await machine.bus.placeBars(found);
    const opened = new QtestFunction(machine, found, bars);
    await opened.#findInterrupts(mode);
    machine.add(opened);
    return opened;
  }

  get interrupts(): TransportInterrupts | undefined {
    return this.#interrupts;
  }

  bar(index: number): Promise<Registers> {
    const placed = this.#bars.get(index);
    if (placed !== undefined) return Promise.resolve(placedRegisters(this.#machine.link, placed));
    return Promise.reject(new VirtioError(`${this.name}: it has no BAR ${String(index)}`, { code: 'ENODEV' }));
  }

  async relay(write: () => Promise<void>, target?: RelayTarget): Promise<{ readonly fd: number; close(): void }> {
    const { doorbell } = this.#machine;
    const relay = doorbell !== undefined && target !== undefined ? await doorbell.relay(target) : this.#ownRelay(write);
    this.#relays.add(relay);
    return {
      fd: relay.fd,
      close: () => {
        if (this.#relays.delete(relay)) relay.close();
      },
    };
  }

  /** The memory behind its bus is the arena itself. */
  physicalAddresses(): undefined {
    return undefined;
  }

  /** There is nothing for it in a virtio function; its own reset is a register of virtio's. */
  reset(): Promise<boolean> {
    return Promise.resolve(false);
  }

  async shareMemory(): Promise<void> {
    await this.#machine.bus.letMaster(this.config, true);
  }

  async withdrawMemory(): Promise<void> {
    await this.#machine.bus.letMaster(this.config, false);
  }

  onGone(listener: (reason: string) => void): void {
    const reason = this.#goneFor;
    if (reason === undefined) this.#listeners.push(listener);
    else
      queueMicrotask(() => {
        listener(reason);
      });
  }

  /** The machine says that it is there no more, or that its owner is to close it. */
  lost(reason: string): void {
    if (this.#goneFor !== undefined) return;
    this.#goneFor = reason;
    for (const listener of this.#listeners.splice(0)) listener(reason);
  }

  async close(): Promise<void> {
    if (!this.#open) return;
    this.#open = false;
    this.#listeners.length = 0;
    try {
      await this.#interrupts?.disable();
      await this.#machine.bus.silence(this.config);
    } catch {
      // QEMU is gone, and the function with it
    } finally {
      for (const relay of this.#relays) relay.close();
      this.#relays.clear();
      for (const fd of this.#descriptors) closeFd(fd);
      await this.#machine.remove(this);
    }
  }

  async #findInterrupts(mode: InterruptMode): Promise<void> {
    const { doorbell, arena, addressHigh } = this.#machine;
    if (mode === 'intx') {
      this.#interrupts = lineInterrupt(
        this.name,
        (onChange) => this.#machine.watchLine(onChange),
        async () => ((await this.config.read(PCI_STATUS, 2)) & PCI_STATUS_INTERRUPT) !== 0,
      );
      return;
    }
    const table = await MsixTable.find(this.name, this.config, (index) => this.bar(index));
    if (table === undefined)
      throw new VirtioError(`${this.name}: irq=msix: the device has no MSI-X; give irq=intx`, { code: 'EOPNOTSUPP' });
    this.#interrupts =
      doorbell === undefined ? wordInterrupts(this.name, table, arena, addressHigh) : doorbellInterrupts(this.name, table, doorbell);
  }

  /** The main thread does the write. Signals that come while one is under way are one more. */
  #ownRelay(write: () => Promise<void>): { readonly fd: number; close(): void } {
    const fd = this.#freeDescriptors.pop() ?? this.#newDescriptor();
    let busy = false;
    let again = false;
    const relay = async (): Promise<void> => {
      if (busy) {
        again = true;
        return;
      }
      busy = true;
      try {
        do {
          again = false;
          await write();
        } while (again as boolean);
      } catch {
        // the device is gone, which is heard elsewhere
      } finally {
        busy = false;
      }
    };
    const end = watchReadable(fd, () => {
      clearEventFd(fd);
      void relay();
    });
    return {
      fd,
      close: () => {
        end();
        this.#freeDescriptors.push(fd);
      },
    };
  }

  #newDescriptor(): number {
    const fd = createEventFd();
    this.#descriptors.push(fd);
    return fd;
  }
}
