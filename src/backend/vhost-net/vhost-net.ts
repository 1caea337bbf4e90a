/**
 * The kernel's vhost-net as the device: a kernel thread for each queue pair moves packets between our rings and a tap.
 *
 *     port --- rings in the arena --- vhost-net (a descriptor and a thread a pair) --- a queue of the tap --- the kernel
 *
 * The tap lives as long as the port: addresses that a user gave it survive a stop and a start, during which it has no
 * carrier. It is removed with the port, and by the kernel when the process dies.
 * @module
 */
import { constants, openSync } from 'node:fs';
import type { Arena } from '../../memory/arena.ts';
import type { MacAddress } from '../../net/mac-address.ts';
import { NET_HEADER_BYTES, NET_HEADER_LEGACY_BYTES } from '../../net/virtio-net-header.ts';
import { Q_NOTIFY_FD } from '../../ring/queue-layout.ts';
import type { DriverQueue } from '../../ring/virtqueue.ts';
import { VirtioError } from '../../system/error.ts';
import { closeFd, createEventFd, signalEventFd } from '../../system/event-fd.ts';
import { systemError } from '../../system/ffi.ts';
import { ioctl } from '../../system/ioctl.ts';
import { lookRegularly } from '../../system/regular-looks.ts';
import { Tap } from '../../system/tap.ts';
import { OFFLOAD_FEATURES } from '../offload-features.ts';
import type { BackendEvents, DeviceOffer, DeviceStart, VirtioBackend } from '../backend.ts';
import { tapFeatures, tapOffloads } from './tap-offloads.ts';
import { encodeVringFile, NO_FILE, VHOST, VHOST_NET_F_VIRTIO_NET_HDR, type VhostRequest } from '../vhost-ioctl/requests.ts';
import { encodeMemoryTable, encodeU64, encodeVringAddress, encodeVringState } from '../vhost-user/messages.ts';
import { VIRTIO_F_VERSION_1, VIRTIO_NET_F_MRG_RXBUF } from '../virtio-features.ts';

export interface VhostNetOptions {
  readonly arena: Arena;
  /** The character device: /dev/vhost-net. */
  readonly path: string;
  /** Name of the tap, a new or an existing one; undefined: tap0, tap1 ... */
  readonly interfaceName: string | undefined;
  readonly queuePairs: number;
  /** Address of both ends; undefined: the tap's own. */
  readonly mac: MacAddress | undefined;
  readonly events: BackendEvents;
  readonly log: (text: string) => void;
}

interface RingDescriptors {
  readonly kick: number;
  readonly call: number;
}

function openDevice(path: string): number {
  try {
    return openSync(path, constants.O_RDWR);
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? 'EIO';
    const texts: Readonly<Record<string, string>> = {
      ENOENT: "no such file: the kernel's vhost-net is not there; as root: modprobe vhost_net, and in a container give it the device",
      ENODEV: 'no such device: as root: modprobe vhost_net',
      EACCES: 'permission denied: run as root, or let your user read and write it',
      EPERM: 'not permitted: in a container, allow the device (character device 10:238)',
    };
    throw new VirtioError(`${path}: ${texts[code] ?? code}`, { code, syscall: 'open', cause });
  }
}

/** The requests block for no longer than the kernel needs to leave a ring: everything here is done at once. */
function settle<Result>(work: () => Result): Promise<Result> {
  return new Promise((resolve) => {
    resolve(work());
  });
}

export class VhostNet implements VirtioBackend {
  readonly #options: VhostNetOptions;
  #tap: Tap | undefined;
  /** A descriptor of /dev/vhost-net for each queue pair. */
  #devices: number[] = [];
  #mac: MacAddress | undefined;
  #mtu = 0;
  /** Made once and kept to the end: an lcore may still write a kick while the device goes. */
  readonly #descriptors: RingDescriptors[] = [];
  /** Numbers of the rings that the kernel holds. */
  #started: readonly number[] = [];
  #endWatch: (() => void) | undefined;
  #complaint = '';
  #open = true;

  constructor(options: VhostNetOptions) {
    this.#options = options;
    this.#mac = options.mac;
  }

  get peer(): string {
    const name = this.#tap?.name ?? this.#options.interfaceName;
    return name === undefined ? this.#options.path : `${this.#options.path} (${name})`;
  }

  open(): Promise<DeviceOffer | undefined> {
    return settle(() => {
      const offer = this.#openDevice();
      this.#watchTap();
      return offer;
    });
  }

  start(start: DeviceStart): Promise<void> {
    return settle(() => {
      this.#start(start);
    });
  }

  stop(): Promise<void> {
    return settle(() => {
      this.#takeBack();
    });
  }

  setMtu(mtu: number): Promise<void> {
    return settle(() => {
      if (this.#tap !== undefined) this.#applyMtu(this.#tap, mtu);
    });
  }

  setMac(mac: MacAddress): Promise<void> {
    return settle(() => {
      this.#tap?.setMac(mac);
      this.#mac = mac;
    });
  }

  receiveInterrupt(pair: number): number | undefined {
    return this.#descriptors[2 * pair]?.call;
  }

  close(): Promise<void> {
    return settle(() => {
      this.#close();
    });
  }

  #start({ features, mtu, rings }: DeviceStart): void {
    const tap = this.#tap;
    if (tap === undefined) throw new VirtioError(`${this.peer}: the tap is gone`, { code: 'ENODEV' });
    while (this.#descriptors.length < rings.length) this.#descriptors.push({ kick: createEventFd(), call: createEventFd() });
    try {
      const header = (features & (VIRTIO_F_VERSION_1 | VIRTIO_NET_F_MRG_RXBUF)) !== 0n ? NET_HEADER_BYTES : NET_HEADER_LEGACY_BYTES;
      tap.setHeaderBytes(header);
      tap.setOffloads(tapOffloads(features));
      tap.liftSendLimit();
      try {
        this.#applyMtu(tap, mtu);
      } catch (error) {
        // moved to another namespace, whose owner decides about it
        this.#complain(error);
      }
      for (const [pair, device] of this.#devices.entries()) {
        const pairRings = rings.slice(2 * pair, 2 * pair + 2);
        const inUse = pairRings.some((ring) => ring !== undefined);
        tap.attachQueue(pair, inUse);
        if (!inUse) continue;
        // offloads are between the driver and the tap; the kernel's vhost-net hands headers through
        this.#ask(device, 'SET_FEATURES', encodeU64(features & ~OFFLOAD_FEATURES));
        this.#shareMemory(device);
        for (const [ring, queue] of pairRings.entries()) {
          if (queue !== undefined) this.#handOver(pair, ring, queue);
        }
      }
      tap.setCarrier(true);
    } catch (error) {
      this.#takeBack();
      throw error;
    }
    // buffers and packets that lie in the rings already
    for (const ring of this.#started) signalEventFd(this.#ring(ring).kick);
  }

  #close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#endWatch?.();
    this.#closeDevice();
    for (const { kick, call } of this.#descriptors.splice(0)) {
      closeFd(kick);
      closeFd(call);
    }
  }

  #openDevice(): DeviceOffer {
    const { path, interfaceName, queuePairs } = this.#options;
    try {
      while (this.#devices.length < queuePairs) {
        const device = openDevice(path);
        this.#devices.push(device);
        this.#ask(device, 'SET_OWNER');
      }
      const tap = new Tap({ name: interfaceName, queues: queuePairs, virtioHeader: true });
      this.#tap = tap;
      tap.setCarrier(false);
      if (this.#mac === undefined) this.#mac = tap.mac;
      else tap.setMac(this.#mac);
      this.#mtu = tap.mtu;
      const offered = Buffer.alloc(8);
      this.#ask(this.#devices[0] ?? NO_FILE, 'GET_FEATURES', offered);
      const features = (offered.readBigUInt64LE() & ~VHOST_NET_F_VIRTIO_NET_HDR) | tapFeatures(tap);
      return { features, queuePairs, mac: this.#mac };
    } catch (error) {
      this.#closeDevice();
      throw error;
    }
  }

  #closeDevice(): void {
    this.#takeBack();
    for (const device of this.#devices.splice(0)) closeFd(device);
    this.#tap?.close();
    this.#tap = undefined;
  }

  /** Takes the rings from the kernel; when this returns it is not inside one. */
  #takeBack(): void {
    this.#tap?.setCarrier(false);
    for (const ring of this.#started) {
      const device = this.#devices[ring >> 1] ?? NO_FILE;
      const { value, errno } = ioctl(device, VHOST.NET_SET_BACKEND, encodeVringFile(ring & 1, NO_FILE));
      if (value < 0) this.#complain(systemError(`${this.peer}: ring ${String(ring)} back`, 'VHOST_NET_SET_BACKEND', errno));
    }
    this.#started = [];
  }

  #ring(index: number): RingDescriptors {
    const descriptors = this.#descriptors[index];
    if (descriptors === undefined) throw new RangeError(`ring ${String(index)} has no descriptors`);
    return descriptors;
  }

  #ask(device: number, request: VhostRequest, argument?: Uint8Array): void {
    const { value, errno } = ioctl(device, VHOST[request], argument ?? 0);
    if (value < 0) throw systemError(this.peer, `VHOST_${request}`, errno);
  }

  #shareMemory(device: number): void {
    const { guestAddress, bytes, userAddress } = this.#options.arena.publishedRegion;
    const region = { guestAddress: BigInt(guestAddress), size: BigInt(bytes), userAddress: BigInt(userAddress), fileOffset: 0n };
    this.#ask(device, 'SET_MEM_TABLE', encodeMemoryTable([region]));
  }

  /** @param ring within the pair: 0 receives, 1 transmits */
  #handOver(pair: number, ring: number, queue: DriverQueue): void {
    const device = this.#devices[pair] ?? NO_FILE;
    const index = 2 * pair + ring;
    const { kick, call } = this.#ring(index);
    const user = (offset: number): bigint => BigInt(this.#options.arena.base + offset);
    const address = { flags: 0, descriptors: user(queue.descriptors), used: user(queue.used), available: user(queue.available) };
    this.#ask(device, 'SET_VRING_NUM', encodeVringState(ring, queue.size));
    this.#ask(device, 'SET_VRING_BASE', encodeVringState(ring, 0));
    this.#ask(device, 'SET_VRING_ADDR', encodeVringAddress({ index: ring, ...address }));
    this.#ask(device, 'SET_VRING_CALL', encodeVringFile(ring, call));
    this.#ask(device, 'SET_VRING_KICK', encodeVringFile(ring, kick));
    this.#ask(device, 'NET_SET_BACKEND', encodeVringFile(ring, this.#tap?.queues[pair] ?? NO_FILE));
    this.#started = [...this.#started, index];
    queue.set(Q_NOTIFY_FD, kick);
  }

  #applyMtu(tap: Tap, mtu: number): void {
    if (mtu === this.#mtu) return;
    tap.setMtu(mtu);
    this.#mtu = mtu;
  }

  /** Says what went wrong and does not end the port; once, however often it is tried. */
  #complain(error: unknown): void {
    const text = error instanceof Error ? error.message : String(error);
    if (text === this.#complaint) return;
    this.#complaint = text;
    this.#options.log(text);
  }

  /** Somebody may remove the interface while it is in use (ip link del): nothing else tells. */
  #watchTap(): void {
    this.#endWatch = lookRegularly(() => {
      if (this.#tap?.exists === true) return;
      if (this.#tap !== undefined) {
        this.#options.log(`${this.peer}: the tap was removed; a new one is made`);
        this.#closeDevice();
        this.#options.events.onLost();
      }
      try {
        this.#options.events.onOffer(this.#openDevice());
        this.#complaint = '';
      } catch (error) {
        this.#complain(error);
      }
    });
  }
}
