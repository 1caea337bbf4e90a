/**
 * A vDPA device of the kernel as a virtio transport.
 * @module
 */
import type { Arena } from '../../memory/arena.ts';
import type { Notification } from '../../ring/notification.ts';
import type { DeviceAddress } from '../../ring/physical-addresses.ts';
import { VirtioError } from '../../system/error.ts';
import { closeFd, createEventFd } from '../../system/event-fd.ts';
import { lookRegularly } from '../../system/regular-looks.ts';
import { VIRTIO_STATUS_DRIVER_OK } from '../virtio-features.ts';
import type { RingPlace, TransportInterrupts, VirtioTransport } from '../virtio-transport.ts';
import { NO_FILE } from '../vhost-ioctl/requests.ts';
import { VdpaDevice } from './device.ts';
import type { VdpaSystem } from './system.ts';

/** Each ring and the configuration may have a descriptor of its own, as many as there are. */
const ANY_NUMBER = 0xffff;

/** Every request is done when it returns. */
function settle<Result>(work: () => Result): Promise<Result> {
  return new Promise((resolve) => {
    resolve(work());
  });
}

export class VdpaTransport implements VirtioTransport {
  readonly name: string;
  readonly legacy = false;
  readonly addressHigh = 0;
  readonly physicalAddresses = 0;
  readonly interrupts: TransportInterrupts;
  readonly #arena: Arena;
  readonly #device: VdpaDevice;
  readonly #endWatch: () => void;
  readonly #kicks = new Map<number, number>();
  readonly #listeners: ((reason: string) => void)[] = [];
  #interrupts: readonly number[] = [];
  #running = false;

  /** @throws VirtioError when it cannot be opened, is no network card of vhost-vdpa, or does not reach the arena */
  constructor(path: string, arena: Arena, system: VdpaSystem) {
    this.name = path;
    this.#arena = arena;
    this.#device = new VdpaDevice(path, system);
    try {
      checkReach(this.#device, arena);
    } catch (error) {
      this.#device.close();
      throw error;
    }
    this.interrupts = {
      kind: 'msix',
      count: ANY_NUMBER,
      enable: (descriptors) => {
        this.#interrupts = descriptors;
        return Promise.resolve();
      },
      disable: () => {
        this.#interrupts = [];
        return Promise.resolve();
      },
    };
    // it goes with the device (vdpa dev del, which waits until it is closed): nothing else tells
    this.#endWatch = lookRegularly(() => {
      if (system.exists(path)) return;
      this.#endWatch();
      for (const listener of this.#listeners.splice(0)) listener('the device was removed; it is taken again when it is back');
    });
  }

  addressOf(offset: number): DeviceAddress {
    return { low: offset, high: this.addressHigh };
  }

  readFeatures(): Promise<bigint> {
    return settle(() => this.#device.features());
  }

  writeFeatures(features: bigint): Promise<void> {
    return settle(() => {
      this.#device.setFeatures(features);
    });
  }

  readStatus(): Promise<number> {
    return settle(() => this.#device.status());
  }

  writeStatus(status: number): Promise<void> {
    return settle(() => {
      this.#device.setStatus(status);
      this.#running = (status & VIRTIO_STATUS_DRIVER_OK) !== 0;
    });
  }

  reset(): Promise<void> {
    return settle(() => {
      const running = this.#running;
      this.#running = false;
      if (running) this.#device.suspend();
      this.#device.setStatus(0);
      if (this.#device.status() !== 0) {
        throw new VirtioError(`${this.name}: the device does not reset (VHOST_VDPA_GET_STATUS)`, { code: 'ETIMEDOUT' });
      }
    });
  }

  readConfig(offset: number, bytes: number): Promise<Buffer> {
    return settle(() => this.#device.readConfig(offset, bytes));
  }

  writeConfig(offset: number, bytes: Uint8Array): Promise<void> {
    return settle(() => {
      this.#device.writeConfig(offset, bytes);
    });
  }

  configSize(): Promise<number | undefined> {
    return settle(() => this.#device.configSize());
  }

  ringCount(): Promise<number | undefined> {
    return settle(() => this.#device.ringCount());
  }

  ringLimit(): Promise<number> {
    return settle(() => this.#device.largestRing());
  }

  setRing(index: number, ring: RingPlace, interrupt: number | undefined): Promise<Notification> {
    return settle(() => {
      const kick = this.#kick(index);
      const call = (interrupt === undefined ? undefined : this.#interrupts[interrupt]) ?? NO_FILE;
      const address = {
        index,
        flags: 0,
        descriptors: BigInt(ring.descriptors),
        used: BigInt(ring.used),
        available: BigInt(ring.available),
      };
      this.#device.setRing(ring, address, { kick, call });
      this.#device.enableRing(index);
      return { kind: 'descriptor', fd: kick };
    });
  }

  setConfigInterrupt(interrupt: number | undefined): Promise<void> {
    return settle(() => {
      this.#device.setConfigCall((interrupt === undefined ? undefined : this.#interrupts[interrupt]) ?? NO_FILE);
    });
  }

  readInterruptStatus(): Promise<number> {
    return Promise.reject(new VirtioError(`${this.name}: it has no line`, { code: 'EOPNOTSUPP' }));
  }

  shareMemory(): Promise<void> {
    return settle(() => {
      const { guestAddress, bytes, userAddress } = this.#arena.publishedRegion;
      this.#device.map({ iova: guestAddress, bytes, userAddress });
    });
  }

  withdrawMemory(): Promise<void> {
    return settle(() => {
      this.#device.unmap();
    });
  }

  onGone(listener: (reason: string) => void): void {
    this.#listeners.push(listener);
  }

  close(): Promise<void> {
    return settle(() => {
      this.#endWatch();
      this.#device.close();
      for (const fd of this.#kicks.values()) closeFd(fd);
      this.#kicks.clear();
    });
  }

  #kick(index: number): number {
    const known = this.#kicks.get(index);
    if (known !== undefined) return known;
    const made = createEventFd();
    this.#kicks.set(index, made);
    return made;
  }
}

/** The device must be able to address the published part of the arena. */
function checkReach(device: VdpaDevice, arena: Arena): void {
  const { guestAddress, bytes } = arena.publishedRegion;
  const range = device.iovaRange();
  const last = guestAddress + bytes - 1;
  if (range === undefined || (range.first <= BigInt(guestAddress) && BigInt(last) <= range.last)) return;
  const hex = (value: number | bigint): string => `0x${value.toString(16)}`;
  throw new VirtioError(
    `${device.path}: the device reaches addresses ${hex(range.first)} to ${hex(range.last)}, and the packet memory has ${hex(guestAddress)} to ${hex(last)}; ` +
      `ask for less memory with -m, or use another device`,
    { code: 'ERANGE' },
  );
}
