/**
 * The rings of a vhost-user back-end: what the front-end has said of each, and the queues of the port that work on them.
 *
 * A queue runs when the front-end has started and enabled its ring (vhost-user, "Ring states") and the port is started. Before anything
 * under a running queue changes, the queue is stopped for the kernels and a grace period passes, so that no lcore is still inside it.
 *
 * An address that an IOMMU has not translated yet is no error: the ring waits. One whose parts are taken back is displaced, and stands
 * still until they are found again.
 * @module
 */
import { NET_HEADER_BYTES, NET_HEADER_LEGACY_BYTES } from '../../net/virtio-net-header.ts';
import { POSITION_START } from '../../ring/packed-layout.ts';
import { Q_INTERRUPT_FD, Q_LENGTH_LIMIT, Q_NOTIFY_FD, QUEUE_DISABLED, QUEUE_RUNNING, QUEUE_STOPPED } from '../../ring/queue-layout.ts';
import { checkRingSize, checkSplitSize, NO_DESCRIPTOR, type DeviceQueue } from '../../ring/virtqueue.ts';
import { closeFd, signalEventFd } from '../../system/event-fd.ts';
import { guestWork, hostWork } from '../offload-features.ts';
import type { PeerMemory } from '../peer-memory.ts';
import { lengthLimit, ringBits } from '../ring-features.ts';
import {
  VHOST_USER_F_PROTOCOL_FEATURES,
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_VERSION_1,
  VIRTIO_NET_F_MRG_RXBUF,
} from '../virtio-features.ts';
import type { AddressSpace } from './address-space.ts';
import { rangeEnd, type Iotlb } from './iotlb.ts';
import { IOTLB, type IotlbMessage, type VringAddress } from './messages.ts';
import { partsTouch, ringParts, type RingPart } from './ring-parts.ts';

export interface DeviceRingsOptions {
  /** Rings there may be: two a queue pair. */
  readonly count: number;
  /** Port name, for messages. */
  readonly name: string;
  readonly addresses: AddressSpace;
  /** The queue behind a ring number: even ones are the driver's receive queues. Undefined while the port has none. */
  readonly queue: (ring: number) => DeviceQueue | undefined;
  /** Resolves when no lcore is still inside a kernel call that began before. */
  readonly gracePeriod: () => Promise<void>;
  readonly onLink: (up: boolean) => void;
  readonly onQueueState: (ring: number, enabled: boolean) => void;
}

interface Vring {
  readonly ring: number;
  size: number;
  /** Where the device of a packed ring begins: a position (ring/packed-layout.ts). */
  base: number;
  address: VringAddress | undefined;
  started: boolean;
  enabled: boolean;
  /** The ring's parts have been found in the peer's memory since it was started. */
  attached: boolean;
  /** Attached, and its parts have to be found again: an IOMMU has taken them back. */
  displaced: boolean;
  running: boolean;
  kick: number;
  call: number;
  error: number;
}

function newVring(ring: number): Vring {
  return {
    ring,
    size: 0,
    base: POSITION_START,
    address: undefined,
    started: false,
    enabled: false,
    attached: false,
    displaced: false,
    running: false,
    kick: -1,
    call: -1,
    error: -1,
  };
}

/** Eventfds as the queue's state names them. */
function orNone(fd: number): number {
  return fd >= 0 ? fd : NO_DESCRIPTOR;
}

export class DeviceRings {
  readonly #options: DeviceRingsOptions;
  readonly #addresses: AddressSpace;
  readonly #vrings: readonly Vring[];
  #features = 0n;
  /** What the front-end has told its driver; undefined: it did not say. */
  #mtu: number | undefined;
  #portStarted = false;
  #linkUp = false;

  constructor(options: DeviceRingsOptions) {
    this.#options = options;
    this.#addresses = options.addresses;
    this.#vrings = Array.from({ length: options.count }, (_, ring) => newVring(ring));
  }

  get linkUp(): boolean {
    return this.#linkUp;
  }

  /** Features negotiated with the front-end; 0 while there is none. */
  get features(): bigint {
    return this.#features;
  }

  /** Queues run only while the port is started. */
  async setPortStarted(started: boolean): Promise<void> {
    this.#portStarted = started;
    if (!started) await this.#stop(this.#vrings);
    this.#updateAll();
  }

  /** The queues behind the rings have been made anew. */
  queuesReplaced(): void {
    for (const vring of this.#vrings) {
      vring.running = false;
      vring.attached = false;
    }
    this.#updateAll();
  }

  /** Tells the front-end that a ring was given up, where it asked to be told (SET_VRING_ERR). */
  signalError(ring: number): void {
    const fd = this.#vrings[ring]?.error ?? -1;
    if (fd >= 0) signalEventFd(fd);
  }

  async setFeatures(features: bigint): Promise<void> {
    await this.#stop(this.#vrings);
    // the same numbers mean other places
    if (((this.#features ^ features) & VIRTIO_F_ACCESS_PLATFORM) !== 0n) for (const vring of this.#vrings) vring.attached = false;
    this.#features = features;
    this.#addresses.setTranslated((features & VIRTIO_F_ACCESS_PLATFORM) !== 0n);
    // without protocol features there is no SET_VRING_ENABLE: rings are enabled from the start
    if ((features & VHOST_USER_F_PROTOCOL_FEATURES) === 0n) for (const vring of this.#vrings) vring.enabled = true;
    this.#updateAll();
  }

  async setMtu(mtu: number): Promise<void> {
    await this.#stop(this.#vrings);
    this.#mtu = mtu;
    for (const { ring } of this.#vrings) this.#options.queue(ring)?.set(Q_LENGTH_LIMIT, lengthLimit(this.#features, mtu));
    this.#updateAll();
  }

  async changeMemory(change: (memory: PeerMemory) => void): Promise<void> {
    await this.#stop(this.#vrings);
    await this.#addresses.changeMemory(change);
    for (const vring of this.#vrings) {
      // the same rings at other offsets; the front-end does not send their addresses again
      if (!vring.attached) continue;
      if (this.#addresses.translations === undefined) vring.attached = this.#pointAt(vring, false);
      else vring.displaced = true;
    }
    this.#updateAll();
  }

  /** All rings as they were before the front-end started any. */
  async reset(): Promise<void> {
    await this.#stop(this.#vrings);
    const enabled = this.#features !== 0n && (this.#features & VHOST_USER_F_PROTOCOL_FEATURES) === 0n;
    for (const vring of this.#vrings) {
      vring.started = false;
      vring.attached = false;
      vring.base = POSITION_START;
      vring.enabled = enabled;
    }
    this.#updateLink();
  }

  /** Stops everything that the front-end set up and gives its memory back. */
  async forgetPeer(): Promise<void> {
    await this.#stop(this.#vrings);
    for (const vring of this.#vrings) {
      for (const fd of [vring.kick, vring.call, vring.error]) if (fd >= 0) closeFd(fd);
      Object.assign(vring, newVring(vring.ring));
      const queue = this.#options.queue(vring.ring);
      queue?.set(Q_NOTIFY_FD, NO_DESCRIPTOR);
      queue?.set(Q_INTERRUPT_FD, NO_DESCRIPTOR);
    }
    await this.#addresses.forgetPeer();
    this.#features = 0n;
    this.#addresses.setTranslated(false);
    this.#mtu = undefined;
    this.#updateLink();
  }

  /** @throws Error when there is no ring of this number */
  checkNumber(ring: number): void {
    this.#at(ring);
  }

  async setSize(ring: number, size: number): Promise<void> {
    const vring = this.#at(ring);
    (this.#packed ? checkRingSize : checkSplitSize)('ring size', size);
    await this.#stop([vring]);
    if (vring.size !== size) vring.attached = false;
    vring.size = size;
    this.#update(vring);
  }

  /** Of a split ring the used index in the ring itself is what counts: see DeviceQueue.attach; DPDK sends the lower half alone. */
  setBase(ring: number, base: number): void {
    this.#at(ring).base = base & 0xffff;
  }

  async setAddress(address: VringAddress): Promise<void> {
    const vring = this.#at(address.index);
    await this.#stop([vring]);
    vring.address = address;
    vring.attached = false;
    this.#update(vring);
  }

  /** Ends a ring's being started; resolves to its base. */
  async end(ring: number): Promise<number> {
    const vring = this.#at(ring);
    await this.#stop([vring]);
    const next = vring.attached ? (this.#options.queue(ring)?.nextAvailable ?? 0) : this.#packed ? vring.base : 0;
    vring.base = next;
    vring.started = false;
    vring.attached = false;
    if (vring.kick >= 0) closeFd(vring.kick);
    vring.kick = -1;
    this.#updateLink();
    // what was fetched is finished: descriptors become used where they become available
    return this.#packed ? next * 0x1_0001 : next;
  }

  /** Starts a ring. @param fd eventfd by which the driver tells of new descriptors, or -1; it is taken over, as the others are */
  async setKick(ring: number, fd: number): Promise<void> {
    const vring = this.#at(ring);
    const old = vring.kick;
    vring.kick = fd;
    this.#options.queue(ring)?.set(Q_INTERRUPT_FD, orNone(fd));
    if (old >= 0) {
      // an lcore may be asleep on it, and about to read it
      await this.#options.gracePeriod();
      closeFd(old);
    }
    vring.started = true;
    this.#update(vring);
    // one that sleeps looks at what came before
    if (vring.running && vring.enabled) void this.#options.gracePeriod();
  }

  /** The eventfd by which the device tells of used descriptors. */
  async setCall(ring: number, fd: number): Promise<void> {
    const vring = this.#at(ring);
    const old = vring.call;
    vring.call = fd;
    this.#options.queue(ring)?.set(Q_NOTIFY_FD, orNone(fd));
    if (old >= 0) {
      await this.#options.gracePeriod();
      closeFd(old);
    }
  }

  setError(ring: number, fd: number): void {
    const vring = this.#at(ring);
    if (vring.error >= 0) closeFd(vring.error);
    vring.error = fd;
  }

  async setEnabled(ring: number, enabled: boolean, answered: boolean): Promise<void> {
    const vring = this.#at(ring);
    const before = vring.enabled;
    if (!enabled && before) await this.#stop([vring]);
    vring.enabled = enabled;
    // at once: a front-end may send as soon as it has written this message
    this.#update(vring);
    this.#options.onQueueState(ring, enabled);
    // the answer, where one is asked for, says that no lcore still discards what comes; one that sleeps looks at the ring
    if (!enabled || before || (ring & 1) === 0) return;
    const passed = this.#options.gracePeriod();
    if (answered) await passed;
  }

  /** A translation comes or goes. Rings whose parts are concerned stop until they are found again. */
  async translate(iotlb: Iotlb, message: IotlbMessage): Promise<void> {
    const { type, address, size } = message;
    const end = rangeEnd(address, size);
    const concerned = this.#vrings.filter((vring) => vring.attached && partsTouch(this.#parts(vring), address, end));
    switch (type) {
      case IOTLB.UPDATE:
        await iotlb.update(message);
        await this.#displace(concerned.filter((vring) => this.#moved(vring, iotlb)));
        break;
      case IOTLB.INVALIDATE:
        await this.#displace(concerned);
        await iotlb.invalidate(address, size);
        break;
      default:
        throw new Error(`type ${String(type)} is neither UPDATE nor INVALIDATE`);
    }
    this.updateWaiting();
  }

  /** Starts rings that wait for translations which have come, and has the front-end asked for the others. */
  updateWaiting(): void {
    for (const vring of this.#vrings) if (!vring.attached || vring.displaced) this.#update(vring);
  }

  get #packed(): boolean {
    return (this.#features & VIRTIO_F_RING_PACKED) !== 0n;
  }

  #at(ring: number): Vring {
    const vring = this.#vrings[ring];
    if (vring === undefined)
      throw new Error(`ring ${String(ring)} of ${String(this.#vrings.length)}; raise queues= of ${this.#options.name}`);
    return vring;
  }

  #parts({ address, size }: Vring): readonly RingPart[] {
    return address === undefined ? [] : ringParts(address, size, this.#packed);
  }

  /** Whether a part of an attached ring is not any more where the queue has it. */
  #moved(vring: Vring, iotlb: Iotlb): boolean {
    const queue = this.#options.queue(vring.ring);
    if (queue === undefined) return false;
    return this.#parts(vring).some(({ address, bytes, permission, field }) => iotlb.find(address, bytes, permission) !== queue.get(field));
  }

  async #displace(vrings: readonly Vring[]): Promise<void> {
    for (const vring of vrings) vring.displaced = true;
    await this.#stop(vrings);
  }

  /** Finds the ring's parts in the peer's memory and points the queue at them. */
  #pointAt(vring: Vring, fresh: boolean): boolean {
    const { ring } = vring;
    const queue = this.#options.queue(ring);
    if (vring.address === undefined || queue === undefined || vring.size === 0) return false;
    const [descriptors, available, used] = this.#parts(vring).map((part) => this.#addresses.locate(ring, part));
    if (descriptors === undefined || available === undefined || used === undefined) return false;
    const mergeable = (this.#features & VIRTIO_NET_F_MRG_RXBUF) !== 0n;
    const modern = (this.#features & VIRTIO_F_VERSION_1) !== 0n;
    const place = {
      size: vring.size,
      descriptors,
      available,
      used,
      features: ringBits(this.#features),
      headerBytes: mergeable || modern ? NET_HEADER_BYTES : NET_HEADER_LEGACY_BYTES,
      offloads: (ring & 1) === 0 ? guestWork(this.#features) : hostWork(this.#features),
      lengthLimit: lengthLimit(this.#features, this.#mtu),
      regions: this.#addresses.tableOf(ring),
    };
    if (fresh) queue.attach(place, vring.base);
    else queue.point(place);
    this.#addresses.serve(queue);
    queue.set(Q_NOTIFY_FD, orNone(vring.call));
    queue.set(Q_INTERRUPT_FD, orNone(vring.kick));
    return true;
  }

  #updateAll(): void {
    for (const vring of this.#vrings) this.#update(vring);
  }

  /** Starts a ring that has become ready. */
  #update(vring: Vring): void {
    const { ring } = vring;
    if (vring.started && this.#addresses.memory.regions.length > 0) {
      if (vring.attached && vring.displaced) vring.displaced = !this.#pointAt(vring, false);
      if (!vring.attached) {
        vring.attached = this.#pointAt(vring, true);
        vring.displaced = false;
      }
    }
    if (vring.attached && !vring.displaced && vring.started && this.#portStarted) {
      const queue = this.#options.queue(ring);
      queue?.setState(vring.enabled ? QUEUE_RUNNING : (ring & 1) === 1 ? QUEUE_DISABLED : QUEUE_STOPPED);
      vring.running = queue !== undefined;
    }
    this.#updateLink();
  }

  /** Stops rings for the kernels and waits until no lcore is inside one. */
  async #stop(vrings: readonly Vring[]): Promise<void> {
    const stopped = vrings.filter(({ running }) => running).map((vring) => ({ vring, queue: this.#options.queue(vring.ring) }));
    for (const { vring, queue } of stopped) {
      queue?.setState(QUEUE_STOPPED);
      vring.running = false;
    }
    if (stopped.length > 0) await this.#options.gracePeriod();
    // a packed ring does not tell where its device is
    for (const { vring, queue } of stopped) if (queue !== undefined) vring.base = queue.nextAvailable;
  }

  /** The link comes up with rings that are enabled, or what is sent at once would be discarded; it stays up when they are disabled. */
  #updateLink(): void {
    const pair = this.#vrings.slice(0, 2);
    const up = pair.length === 2 && pair.every(({ attached, enabled }) => attached && (enabled || this.#linkUp));
    if (up === this.#linkUp) return;
    this.#linkUp = up;
    this.#options.onLink(up);
  }
}
