/**
 * What virtio devices on PCI have in common, whatever their registers look like (virtio-modern.ts, virtio-legacy.ts): what they are told
 * of addresses, how their rings are notified, vectors, waiting, and their end.
 * @module
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { TransportInterrupts } from '../backend/virtio-transport.ts';
import type { Notification } from '../ring/notification.ts';
import type { DeviceAddress, PhysicalAddresses } from '../ring/physical-addresses.ts';
import { VirtioError } from '../system/error.ts';
import type { PciFunction, Registers } from './pci-function.ts';

const NO_VECTOR = 0xffff;
const RESET_MILLISECONDS = 5000;
/** Reads of the configuration that another one may spoil. */
export const CONFIG_TRIES = 100;

/** A register by which a ring is notified. */
export interface NotifyRegister {
  /** In its registers. */
  readonly offset: number;
  readonly bytes: 2 | 4;
  readonly value: number;
}

interface Relay {
  readonly fd: number;
  close(): void;
}

export abstract class VirtioPciTransport {
  readonly name: string;
  readonly addressHigh: number;
  abstract readonly interrupts: TransportInterrupts | undefined;
  protected readonly pci: PciFunction;
  readonly #relays = new Map<number, Relay>();

  protected constructor(pci: PciFunction) {
    this.pci = pci;
    this.name = pci.name;
    this.addressHigh = pci.addressHigh;
  }

  get physicalAddresses(): number {
    return this.physical()?.table ?? 0;
  }

  addressOf(offset: number): DeviceAddress {
    return this.physical()?.addressOf(offset) ?? { low: offset, high: this.addressHigh };
  }

  shareMemory(): Promise<void> {
    return this.pci.shareMemory();
  }

  withdrawMemory(): Promise<void> {
    return this.pci.withdrawMemory();
  }

  onGone(listener: (reason: string) => void): void {
    this.pci.onGone(listener);
  }

  async close(): Promise<void> {
    this.closeRelays();
    await this.pci.close();
  }

  /** What the device is told instead of arena offsets. */
  protected physical(takesPart = false): PhysicalAddresses | undefined {
    return this.pci.physicalAddresses(takesPart);
  }

  /** How ring `index` is notified at a register. */
  protected async notificationAt(index: number, registers: Registers, register: NotifyRegister): Promise<Notification> {
    const { offset, bytes, value } = register;
    const { direct } = registers;
    if (direct?.kind === 'mapped') return { kind: 'register', offset: direct.arenaOffset + offset, bytes, value };
    if (direct?.kind === 'file') return { kind: 'file', fd: direct.fd, position: direct.position + offset, bytes, value };
    this.closeRelay(index);
    const target = registers.address === undefined ? undefined : { address: registers.address + offset, value };
    const relay = await this.pci.relay(() => registers.write(offset, bytes, value), target);
    this.#relays.set(index, relay);
    return { kind: 'descriptor', fd: relay.fd };
  }

  protected closeRelay(index: number): void {
    this.#relays.get(index)?.close();
    this.#relays.delete(index);
  }

  protected closeRelays(): void {
    for (const index of [...this.#relays.keys()]) this.closeRelay(index);
  }

  /**
   * Writes the number of an interrupt to a vector register; undefined: none.
   * @throws VirtioError EBUSY when the device lacks the resources for it (4.1.5.1.2)
   */
  protected async writeVector(registers: Registers, offset: number, what: string, interrupt: number | undefined): Promise<void> {
    const wanted = interrupt ?? NO_VECTOR;
    await registers.write(offset, 2, wanted);
    const kept = await registers.read(offset, 2);
    if (wanted === NO_VECTOR || kept === wanted) return;
    throw new VirtioError(`${this.name}: the device does not take interrupt ${String(wanted)} for ${what}`, { code: 'EBUSY' });
  }

  /** Reading takes the interrupt back; a line is switched on again then. */
  protected async takeInterruptStatus(registers: Registers, offset: number): Promise<number> {
    const status = await registers.read(offset, 1);
    await this.interrupts?.rearm?.();
    return status;
  }

  /** @throws VirtioError ETIMEDOUT */
  protected async until(complaint: string, done: () => Promise<boolean>, milliseconds = RESET_MILLISECONDS): Promise<void> {
    const end = Date.now() + milliseconds;
    while (!(await done())) {
      if (Date.now() >= end) {
        throw new VirtioError(`${this.name}: ${complaint} within ${String(milliseconds / 1000)} s`, { code: 'ETIMEDOUT' });
      }
      await sleep(1);
    }
  }

  /** For a configuration that no two reads agree about. */
  protected restless(): VirtioError {
    return new VirtioError(`${this.name}: its configuration changes all the time: no two reads of ${String(CONFIG_TRIES)} agree`, {
      code: 'EPROTO',
    });
  }
}
