/**
 * A vDPA device as the device: hardware (or a simulation, or a process behind VDUSE) that works on our rings by itself and
 * is set up through the kernel's vhost-vdpa.
 *
 *     port --- rings in the arena --- the device, by DMA
 *        \--- /dev/vhost-vdpa-N: features, status, configuration, rings, and which memory the device may reach
 *
 * The device sees the published part of the arena at the arena's own offsets, and nothing else of the process.
 * @module
 */
import { readSync } from 'node:fs';
import type { Arena } from '../../memory/arena.ts';
import type { MacAddress } from '../../net/mac-address.ts';
import { Q_NOTIFY_FD } from '../../ring/queue-layout.ts';
import { VirtioError } from '../../system/error.ts';
import { closeFd, createEventFd, signalEventFd } from '../../system/event-fd.ts';
import type { BackendEvents, DeviceOffer, DeviceStart, VirtioBackend } from '../backend.ts';
import {
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_NET_F_MAC,
  VIRTIO_NET_F_STATUS,
  VIRTIO_STATUS_ACKNOWLEDGE,
  VIRTIO_STATUS_DRIVER,
  VIRTIO_STATUS_DRIVER_OK,
  VIRTIO_STATUS_FEATURES_OK,
  VIRTIO_STATUS_NEEDS_RESET,
} from '../virtio-features.ts';
import { ControlQueue, SET_QUEUE_PAIRS } from './control-queue.ts';
import { VdpaDevice } from './device.ts';
import { agreeOnMac, changeMac, checkMtu, CONTROL_FEATURES, inspect, linkIsUp, type Inspection } from './inspection.ts';
import { realVdpaSystem, type VdpaSystem } from './system.ts';

/** How often the device file is looked for. */
const WATCH_MILLISECONDS = 1000;
/** Taken whenever they are offered, whatever the port wants: addresses that are the driver's own, and what the configuration tells. */
const OWN_FEATURES = VIRTIO_F_ACCESS_PLATFORM | VIRTIO_NET_F_MAC | VIRTIO_NET_F_STATUS;

export interface VhostVdpaOptions {
  readonly arena: Arena;
  /** The character device: /dev/vhost-vdpa-0. */
  readonly path: string;
  /** Descriptors of each ring. */
  readonly queueSize: number;
  /** Address to give the device; undefined: the device's own. */
  readonly mac: MacAddress | undefined;
  readonly events: BackendEvents;
  readonly log: (text: string) => void;
  /** Default: the real system calls. */
  readonly system?: VdpaSystem;
}

interface RingDescriptors {
  readonly kick: number;
  readonly call: number;
}

/** A ring in the arena: a DriverQueue, or the control queue. */
interface RingPlace {
  readonly size: number;
  readonly descriptors: number;
  readonly available: number;
  readonly used: number;
}

/** Every request is done when it returns. */
function settle<Result>(work: () => Result): Promise<Result> {
  return new Promise((resolve) => {
    resolve(work());
  });
}

export class VhostVdpa implements VirtioBackend {
  readonly peer: string;
  readonly #options: VhostVdpaOptions;
  readonly #system: VdpaSystem;
  #device: VdpaDevice | undefined;
  #inspection: Inspection | undefined;
  #mac: MacAddress | undefined;
  /** Made once and kept to the end: an lcore may still write a kick while the device goes. */
  readonly #descriptors = new Map<number, RingDescriptors>();
  #control: ControlQueue | undefined;
  #configCall: number | undefined;
  #endConfigWatch: (() => void) | undefined;
  #running = false;
  #linkUp = true;
  #watch: NodeJS.Timeout | undefined;
  #complaint = '';
  #open = true;

  constructor(options: VhostVdpaOptions) {
    this.#options = options;
    this.#system = options.system ?? realVdpaSystem;
    this.#mac = options.mac;
    this.peer = options.path;
  }

  open(): Promise<DeviceOffer | undefined> {
    return settle(() => {
      const offer = this.#openDevice();
      this.#watch = setInterval(() => {
        this.#lookForDevice();
      }, WATCH_MILLISECONDS).unref();
      return offer;
    });
  }

  async start(start: DeviceStart): Promise<void> {
    const { device, inspection } = this.#present();
    const pairs = start.rings.length >> 1;
    const features = (start.features & (pairs > 1 ? ~0n : ~CONTROL_FEATURES)) | (inspection.features & OWN_FEATURES);
    try {
      checkMtu(device, inspection, start.mtu);
      this.#negotiate(device, features);
      this.#shareMemory(device);
      for (const [index, queue] of start.rings.entries()) {
        if (queue === undefined) continue;
        this.#handOver(device, index, queue);
        queue.set(Q_NOTIFY_FD, this.#ring(index).kick);
      }
      // its number counts the pairs that the device has, not those in use
      const controlRing = (features & CONTROL_FEATURES) === CONTROL_FEATURES ? 2 * inspection.queuePairs : undefined;
      if (controlRing !== undefined) this.#handOver(device, controlRing, this.#freshControlQueue(inspection));
      this.#watchConfig(device);
      this.#setStatus(device, VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER | VIRTIO_STATUS_FEATURES_OK | VIRTIO_STATUS_DRIVER_OK);
      this.#running = true;
      if (controlRing !== undefined) await this.#useQueuePairs(device, pairs, controlRing);
      this.#readLink(device, inspection);
    } catch (error) {
      this.#takeBack();
      throw error;
    }
    // buffers and packets that lie in the rings already
    for (const [index, queue] of start.rings.entries()) if (queue !== undefined) signalEventFd(this.#ring(index).kick);
  }

  stop(): Promise<void> {
    return settle(() => {
      this.#takeBack();
    });
  }

  setMtu(mtu: number): Promise<void> {
    return settle(() => {
      // one that is gone is asked at its next start
      if (this.#device !== undefined && this.#inspection !== undefined) checkMtu(this.#device, this.#inspection, mtu);
    });
  }

  setMac(mac: MacAddress): Promise<void> {
    return settle(() => {
      const { device, inspection } = this.#present();
      changeMac(device, inspection, mac);
      this.#mac = mac;
    });
  }

  close(): Promise<void> {
    return settle(() => {
      if (!this.#open) return;
      this.#open = false;
      clearInterval(this.#watch);
      this.#closeDevice();
      this.#control?.close();
      for (const { kick, call } of this.#descriptors.values()) {
        closeFd(kick);
        closeFd(call);
      }
      this.#descriptors.clear();
      if (this.#configCall !== undefined) closeFd(this.#configCall);
      this.#configCall = undefined;
    });
  }

  #present(): { readonly device: VdpaDevice; readonly inspection: Inspection } {
    const device = this.#device;
    const inspection = this.#inspection;
    if (device === undefined || inspection === undefined) throw this.#gone();
    return { device, inspection };
  }

  #gone(): VirtioError {
    return new VirtioError(`${this.peer}: the device is gone; it is looked for every second`, { code: 'ENODEV' });
  }

  #openDevice(): DeviceOffer {
    const device = new VdpaDevice(this.peer, this.#system);
    try {
      const { arena, queueSize } = this.#options;
      const inspection = inspect(device, { queueSize, memory: arena.publishedRegion });
      const mac = agreeOnMac(device, inspection, this.#mac, (problem) => {
        this.#complain(problem);
      });
      this.#device = device;
      this.#inspection = inspection;
      const { features, queuePairs } = inspection;
      const multiqueue = (features & CONTROL_FEATURES) === CONTROL_FEATURES;
      return { features: multiqueue ? features : features & ~CONTROL_FEATURES, queuePairs, ...(mac === undefined ? {} : { mac }) };
    } catch (error) {
      device.close();
      throw error;
    }
  }

  /** virtio 1.2, 3.1.1: up to the point where the driver sets its rings up. */
  #negotiate(device: VdpaDevice, features: bigint): void {
    device.setStatus(0);
    if (device.status() !== 0) {
      throw new VirtioError(`${this.peer}: the device does not reset (VHOST_VDPA_GET_STATUS)`, { code: 'EPROTO' });
    }
    device.setStatus(VIRTIO_STATUS_ACKNOWLEDGE);
    device.setStatus(VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER);
    device.setFeatures(features);
    this.#setStatus(device, VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER | VIRTIO_STATUS_FEATURES_OK);
  }

  /** Sets a status and looks whether the device takes part in it. */
  #setStatus(device: VdpaDevice, status: number): void {
    device.setStatus(status);
    const found = device.status();
    if ((found & (status | VIRTIO_STATUS_NEEDS_RESET)) === status) return;
    const what = (status & VIRTIO_STATUS_DRIVER_OK) === 0 ? 'the device refused the features' : 'the device did not start';
    throw new VirtioError(`${this.peer}: ${what} (VHOST_VDPA_SET_STATUS 0x${status.toString(16)}, then 0x${found.toString(16)})`, {
      code: 'EPROTO',
    });
  }

  #shareMemory(device: VdpaDevice): void {
    const { guestAddress, bytes, userAddress } = this.#options.arena.publishedRegion;
    device.map({ iova: guestAddress, bytes, userAddress });
  }

  #handOver(device: VdpaDevice, index: number, ring: RingPlace): void {
    const address = {
      index,
      flags: 0,
      descriptors: BigInt(ring.descriptors),
      used: BigInt(ring.used),
      available: BigInt(ring.available),
    };
    device.setRing(ring.size, address, this.#ring(index));
    device.enableRing(index);
  }

  #ring(index: number): RingDescriptors {
    const known = this.#descriptors.get(index);
    if (known !== undefined) return known;
    const kick = createEventFd();
    try {
      const made = { kick, call: createEventFd() };
      this.#descriptors.set(index, made);
      return made;
    } catch (error) {
      closeFd(kick);
      throw error;
    }
  }

  #freshControlQueue({ largestRing }: Inspection): ControlQueue {
    this.#control ??= new ControlQueue(this.#options.arena, this.peer, largestRing);
    this.#control.reset();
    return this.#control;
  }

  async #useQueuePairs(device: VdpaDevice, pairs: number, controlRing: number): Promise<void> {
    const data = Buffer.alloc(2);
    data.writeUInt16LE(pairs);
    try {
      await this.#control?.command(SET_QUEUE_PAIRS, data, () => {
        signalEventFd(this.#ring(controlRing).kick);
      });
    } catch (cause) {
      throw new VirtioError(`${this.peer}: ${cause instanceof Error ? cause.message : String(cause)}`, {
        code: cause instanceof VirtioError ? cause.code : 'EPROTO',
        cause,
      });
    }
    // it may have gone meanwhile, and another one come
    if (this.#device !== device) throw this.#gone();
  }

  #watchConfig(device: VdpaDevice): void {
    this.#configCall ??= createEventFd();
    const fd = this.#configCall;
    device.setConfigCall(fd);
    this.#endConfigWatch ??= this.#system.watch(fd, () => {
      this.#configChanged(fd);
    });
  }

  #configChanged(fd: number): void {
    try {
      readSync(fd, new Uint8Array(8));
    } catch {
      // EAGAIN: taken already
    }
    if (!this.#running) return;
    try {
      const { device, inspection } = this.#present();
      if ((device.status() & VIRTIO_STATUS_NEEDS_RESET) !== 0) {
        this.#lose('the device needs a reset (DEVICE_NEEDS_RESET); it is opened anew');
        return;
      }
      this.#readLink(device, inspection);
    } catch (error) {
      this.#complain(error);
    }
  }

  #readLink(device: VdpaDevice, inspection: Inspection): void {
    const up = linkIsUp(device, inspection);
    if (up === this.#linkUp) return;
    this.#linkUp = up;
    this.#options.events.onLink?.(up);
  }

  /** Takes the rings and the memory from the device; when this returns it touches neither. */
  #takeBack(): void {
    this.#endConfigWatch?.();
    this.#endConfigWatch = undefined;
    const device = this.#device;
    if (device === undefined) return;
    try {
      if (this.#running) device.suspend();
    } catch (error) {
      this.#complain(error);
    }
    this.#running = false;
    try {
      device.setStatus(0);
      device.unmap();
    } catch (error) {
      // closing resets it: the kernel does not let a device go on without an owner
      this.#complain(error);
      this.#device = undefined;
      device.close();
    }
  }

  #closeDevice(): void {
    this.#takeBack();
    this.#device?.close();
    this.#device = undefined;
    this.#inspection = undefined;
  }

  #lose(reason: string): void {
    this.#options.log(`${this.peer}: ${reason}`);
    this.#closeDevice();
    this.#options.events.onLost();
  }

  /** The file goes with the device (vdpa dev del, which waits until it is closed): nothing else tells. */
  #lookForDevice(): void {
    if (this.#device !== undefined) {
      if (this.#system.exists(this.peer)) return;
      this.#lose('the device was removed; it is taken again when it is back');
    }
    try {
      this.#options.events.onOffer(this.#openDevice());
      this.#complaint = '';
    } catch (error) {
      this.#complain(error);
    }
  }

  /** Says what went wrong and does not end the port; once, however often it is tried. */
  #complain(error: unknown): void {
    const text = error instanceof Error ? error.message : String(error);
    if (text === this.#complaint) return;
    this.#complaint = text;
    this.#options.log(text);
  }
}
