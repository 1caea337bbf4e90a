/**
 * The virtio-net driver as a port, over any backend (backend.ts).
 *
 * The port's life and the device's are two things: a port that is started waits for its device, goes on when the device
 * comes back, and its link says which it is.
 * @module
 */
import type { BackendEvents, DeviceLink, DeviceOffer, VirtioBackend } from '../backend/backend.ts';
import {
  GUEST_TCP_FEATURES,
  GUEST_UDP_FEATURES,
  guestWork,
  HOST_TCP_FEATURES,
  hostWork,
  OFFLOAD_FEATURES,
} from '../backend/offload-features.ts';
import {
  VIRTIO_F_IN_ORDER,
  VIRTIO_F_VERSION_1,
  VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F_GUEST_TSO4,
  VIRTIO_NET_F_GUEST_TSO6,
  VIRTIO_NET_F_HOST_TSO4,
  VIRTIO_NET_F_HOST_TSO6,
  VIRTIO_NET_F_HOST_USO,
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_NET_F_MTU,
} from '../backend/virtio-features.ts';
import type { MacAddress } from '../net/mac-address.ts';
import { NET_HEADER_BYTES, NET_HEADER_LEGACY_BYTES } from '../net/virtio-net-header.ts';
import { makeNotifier } from '../ring/notification.ts';
import { Q_INTERRUPT_FD, Q_NOTIFY, QUEUE_IN_ORDER, QUEUE_MERGEABLE, QUEUE_RUNNING } from '../ring/queue-layout.ts';
import { DriverQueue, MAIN_LCORE_SLOT, NO_DESCRIPTOR } from '../ring/virtqueue.ts';
import { VirtioError } from '../system/error.ts';
import { BasePort, type BasePortOptions } from './base-port.ts';
import type { PortContext } from './context.ts';
import {
  RX_OFFLOAD_SCATTER,
  RX_OFFLOAD_TCP_CKSUM,
  RX_OFFLOAD_TCP_LRO,
  RX_OFFLOAD_UDP_CKSUM,
  RX_OFFLOAD_VLAN_STRIP,
  TX_OFFLOAD_MULTI_SEGS,
  TX_OFFLOAD_TCP_CKSUM,
  TX_OFFLOAD_TCP_TSO,
  TX_OFFLOAD_UDP_CKSUM,
  TX_OFFLOAD_UDP_TSO,
  TX_OFFLOAD_VLAN_INSERT,
} from './offloads.ts';
import type { ExtendedStatistic, Link, PortInfo, RxQueueConfiguration, TxQueueConfiguration } from './port.ts';
import { basicExtended, queueDetails } from './statistics.ts';

/** Longest packet (VIRTIO_MAX_RX_PKTLEN of DPDK), and what of it is not MTU: Ethernet header, VLAN tag, virtio-net header. */
const MAX_PACKET = 9728;
const MAX_MTU = MAX_PACKET - 14 - 4 - 12;
/** Descriptors of a ring of which the device does not say how many it has. */
const DEFAULT_QUEUE_SIZE = 256;

export interface VirtioPortOptions extends BasePortOptions {
  readonly driverName: string;
  /** Undefined: as many as the device has. */
  readonly queuePairs: number | undefined;
  /** Descriptors of each ring; undefined: the device's own sizes. */
  readonly queueSize: number | undefined;
  readonly mergeable: boolean;
  readonly inOrder: boolean;
  /** Accept promiscuous and all-multicast settings (cq=1); a vhost-user back-end filters nothing. */
  readonly controlQueue: boolean;
  /** Mbit/s to report; 0: unknown. */
  readonly speed: number;
  readonly makeBackend: (events: BackendEvents) => VirtioBackend;
}

const RX_CHECKSUMS = RX_OFFLOAD_UDP_CKSUM | RX_OFFLOAD_TCP_CKSUM;
const TX_CHECKSUMS = TX_OFFLOAD_UDP_CKSUM | TX_OFFLOAD_TCP_CKSUM;
const GUEST_TSO = VIRTIO_NET_F_GUEST_TSO4 | VIRTIO_NET_F_GUEST_TSO6;
const HOST_TSO = VIRTIO_NET_F_HOST_TSO4 | VIRTIO_NET_F_HOST_TSO6;

function has(features: bigint, wanted: bigint): boolean {
  return (features & wanted) === wanted;
}

/** What a port over a device with these features can do; VLAN tags in software. */
function rxCapabilities(features: bigint): number {
  return (
    RX_OFFLOAD_VLAN_STRIP |
    RX_OFFLOAD_SCATTER |
    (has(features, VIRTIO_NET_F_GUEST_CSUM) ? RX_CHECKSUMS : 0) |
    (has(features, GUEST_TSO) ? RX_OFFLOAD_TCP_LRO : 0)
  );
}

function txCapabilities(features: bigint): number {
  return (
    TX_OFFLOAD_VLAN_INSERT |
    TX_OFFLOAD_MULTI_SEGS |
    (has(features, VIRTIO_NET_F_CSUM) ? TX_CHECKSUMS : 0) |
    (has(features, HOST_TSO) ? TX_OFFLOAD_TCP_TSO : 0) |
    (has(features, VIRTIO_NET_F_HOST_USO) ? TX_OFFLOAD_UDP_TSO : 0)
  );
}

/** The features that configured offloads ask for; segmentation always brings the checksums that it needs (virtio 1.2, 5.1.3.1). */
function offloadFeatures(rx: number, tx: number, mergeable: boolean): bigint {
  // without mergeable buffers there is no room for a large packet
  const large = mergeable && (rx & RX_OFFLOAD_TCP_LRO) !== 0;
  const guest =
    (large || (rx & RX_CHECKSUMS) !== 0 ? VIRTIO_NET_F_GUEST_CSUM : 0n) | (large ? GUEST_TCP_FEATURES | GUEST_UDP_FEATURES : 0n);
  const host = ((tx & TX_OFFLOAD_TCP_TSO) !== 0 ? HOST_TCP_FEATURES : 0n) | ((tx & TX_OFFLOAD_UDP_TSO) !== 0 ? VIRTIO_NET_F_HOST_USO : 0n);
  return guest | host | (host !== 0n || (tx & TX_CHECKSUMS) !== 0 ? VIRTIO_NET_F_CSUM : 0n);
}

export class VirtioPort extends BasePort<DriverQueue> {
  protected readonly queueKind = 'virtqueue-driver';
  readonly #options: VirtioPortOptions;
  readonly #backend: VirtioBackend;
  #offer: DeviceOffer | undefined;
  /** Device work in order: an offer may come while the last one is still being taken. */
  #work: Promise<void> = Promise.resolve();
  #up = false;
  /** What a device that knows it says of its own link. */
  #carrier: DeviceLink = { up: true };
  #promiscuous = false;
  #allMulticast = false;

  constructor(context: PortContext, options: VirtioPortOptions) {
    super(context, options);
    this.#options = options;
    this.#backend = options.makeBackend({
      onOffer: (offer) => {
        void this.#enqueue(() => this.#offered(offer));
      },
      onLost: () => {
        void this.#enqueue(() => this.#lost());
      },
      onLink: (link) => {
        this.#carrier = link;
        if (this.#up) this.emit({ type: 'intr_lsc' });
      },
      onRemoved: () => {
        void this.#enqueue(() => {
          this.emit({ type: 'intr_rmv' });
          return Promise.resolve();
        });
      },
    });
  }

  get info(): PortInfo {
    // a device that is still to come may have everything
    const offered = this.#offer?.features ?? OFFLOAD_FEATURES;
    const pairs = this.#options.queuePairs ?? this.#offer?.queuePairs ?? 1;
    return {
      driverName: this.#options.driverName,
      maxRxQueues: pairs,
      maxTxQueues: pairs,
      minRxBufferSize: 64,
      maxRxPacketLength: MAX_PACKET,
      maxLroPacketSize: 0,
      minMtu: 68,
      maxMtu: Math.min(this.#offer?.mtu ?? MAX_MTU, MAX_MTU),
      maxMacAddresses: 64,
      maxHashMacAddresses: 0,
      rxDescriptors: { min: 32, max: 32768, align: 1 },
      txDescriptors: { min: 32, max: 32768, align: 1 },
      redirectionTableSize: 0,
      hashKeySize: 0,
      rssFlowTypes: [],
      rxOffloadCapabilities: rxCapabilities(offered),
      txOffloadCapabilities: txCapabilities(offered),
      maxSegmentsPerPacket: 65535,
      maxSegmentsPerMtu: 65535,
    };
  }

  /** Looks for the device. @throws VirtioError when there is none and none is waited for */
  async probe(): Promise<void> {
    const offer = await this.#backend.open();
    if (offer === undefined) return;
    await this.#take(offer);
  }

  override async setMtu(mtu: number): Promise<void> {
    const before = this.mtu;
    await super.setMtu(mtu);
    try {
      await this.#backend.setMtu?.(mtu);
    } catch (error) {
      await super.setMtu(before);
      throw error;
    }
  }

  override async setMac(mac: MacAddress): Promise<void> {
    const before = this.mac;
    await super.setMac(mac);
    try {
      await this.#backend.setMac?.(mac);
    } catch (error) {
      await super.setMac(before);
      throw error;
    }
  }

  override get promiscuous(): boolean {
    return this.#promiscuous;
  }

  override get allMulticast(): boolean {
    return this.#allMulticast;
  }

  override setPromiscuous(on: boolean): Promise<void> {
    if (!this.#options.controlQueue) return this.notSupported('promiscuous mode without a control queue (cq=1)');
    this.#promiscuous = on;
    return Promise.resolve();
  }

  override setAllMulticast(on: boolean): Promise<void> {
    if (!this.#options.controlQueue) return this.notSupported('all-multicast mode without a control queue (cq=1)');
    this.#allMulticast = on;
    return Promise.resolve();
  }

  link(): Link {
    const { up, speed = 0, fullDuplex = true } = this.#carrier;
    return { up: this.#up && up, speed: this.#options.speed === 0 ? speed : this.#options.speed, fullDuplex, autonegotiation: true };
  }

  override extendedStatistics(): readonly ExtendedStatistic[] {
    return [
      ...basicExtended(this.statistics()),
      ...this.rxQueues.flatMap((queue, index) => queueDetails('rx', index, queue, true)),
      ...this.txQueues.flatMap((queue, index) => queueDetails('tx', index, queue, false)),
    ];
  }

  protected override queueGivenUp(direction: 'rx' | 'tx', index: number, text: string): void {
    super.queueGivenUp(direction, index, `the device behind ${this.#backend.peer} broke the ring: ${text}; stop and start the port`);
  }

  protected makeRxQueue(index: number, configuration: RxQueueConfiguration): { queue: DriverQueue; descriptors: number } {
    return this.#makeQueue(`rx queue ${String(index)} of ${this.name}`, 2 * index, configuration.pool.offset, configuration.descriptors);
  }

  protected makeTxQueue(index: number, configuration: TxQueueConfiguration): { queue: DriverQueue; descriptors: number } {
    return this.#makeQueue(`tx queue ${String(index)} of ${this.name}`, 2 * index + 1, undefined, configuration.descriptors);
  }

  protected override emptyQueue(queue: DriverQueue): void {
    queue.reset(this.context.main.kernels);
  }

  protected async startDevice(): Promise<void> {
    await this.#enqueue(async () => {
      if (this.#offer !== undefined) await this.#bringUp(this.#offer);
    });
  }

  protected async stopDevice(): Promise<void> {
    await this.#enqueue(async () => {
      await this.runQueues(false);
      if (this.#up) await this.#backend.stop();
      this.#up = false;
      this.#emptyQueues();
    });
  }

  protected async closeDevice(): Promise<void> {
    await this.#backend.close();
    await this.#work;
  }

  #enqueue(task: () => Promise<void>): Promise<void> {
    const result = this.#work.then(task);
    this.#work = result.catch(() => undefined);
    return result;
  }

  #makeQueue(
    name: string,
    ring: number,
    pool: number | undefined,
    descriptors: number,
  ): { readonly queue: DriverQueue; readonly descriptors: number } {
    const { queueSize } = this.#options;
    // the ring has the device's size, as in DPDK; fewer descriptors asked for do not make it smaller
    const size = queueSize ?? this.#offer?.ringSizes?.[ring] ?? DEFAULT_QUEUE_SIZE;
    if (queueSize === undefined && descriptors !== 0 && descriptors !== size) {
      this.context.log(`${name}: Warning: nb_desc(${String(descriptors)}) is not equal to vq size (${String(size)}), fall to vq size`);
    }
    const { addressHigh = 0, physicalAddresses = 0, legacy: onePiece = false } = this.#offer ?? {};
    const queue = new DriverQueue(this.context.arena, { name, size, port: this.id, pool, addressHigh, physicalAddresses, onePiece });
    return { queue, descriptors: descriptors === 0 || queueSize === undefined ? size : Math.min(descriptors, size) };
  }

  #emptyQueues(): void {
    for (const queue of [...this.rxQueues, ...this.txQueues]) queue.reset(this.context.main.kernels);
  }

  async #take(offer: DeviceOffer): Promise<void> {
    this.#checkOffer(offer);
    this.#offer = offer;
    if (this.mtu > this.info.maxMtu) await super.setMtu(this.info.maxMtu);
    if (offer.mac !== undefined) await super.setMac(offer.mac);
  }

  #checkOffer(offer: DeviceOffer): void {
    const { queuePairs = 1, queueSize } = this.#options;
    if (offer.queuePairs < queuePairs) {
      throw this.error(
        'EINVAL',
        `queues=${String(queuePairs)}, and the device behind ${this.#backend.peer} has ${String(offer.queuePairs)} queue pair${offer.queuePairs === 1 ? '' : 's'}`,
      );
    }
    if (queueSize !== undefined) return;
    // one that came back may be another
    for (const [index, queue] of this.#rings().entries()) {
      const size = offer.ringSizes?.[index];
      if (queue === undefined || size === queue.size) continue;
      throw this.error(
        'EINVAL',
        `ring ${String(index)} has ${String(queue.size)} descriptors, and the device's now has ${String(size ?? 0)}`,
      );
    }
  }

  /** In the order of DeviceStart.rings. */
  #rings(): (DriverQueue | undefined)[] {
    const pairs = Math.max(this.rxQueues.length, this.txQueues.length);
    return Array.from({ length: pairs }, (_, index) => [this.rxQueue(index), this.txQueue(index)]).flat();
  }

  #wantedFeatures(): bigint {
    const { mergeable, inOrder } = this.#options;
    const { rxOffloads, txOffloads } = this.configuration ?? { rxOffloads: 0, txOffloads: 0 };
    return (
      offloadFeatures(rxOffloads, txOffloads, mergeable) |
      VIRTIO_F_VERSION_1 |
      VIRTIO_NET_F_MTU |
      (mergeable ? VIRTIO_NET_F_MRG_RXBUF : 0n) |
      (inOrder ? VIRTIO_F_IN_ORDER : 0n) |
      (this.info.maxRxQueues > 1 ? VIRTIO_NET_F_MQ | VIRTIO_NET_F_CTRL_VQ : 0n)
    );
  }

  /** The device has come, or has come back. */
  async #offered(offer: DeviceOffer): Promise<void> {
    try {
      await this.#take(offer);
      if (this.state !== 'started') return;
      await this.#bringUp(offer);
      this.emit({ type: 'intr_lsc' });
    } catch (error) {
      this.context.log(error instanceof Error ? error.message : String(error));
    }
  }

  async #lost(): Promise<void> {
    this.#offer = undefined;
    if (!this.#up) return;
    this.#up = false;
    await this.runQueues(false);
    // whoever comes back starts with empty rings: nothing depends on what the old one left in them
    this.#emptyQueues();
    this.emit({ type: 'intr_lsc' });
  }

  async #bringUp(offer: DeviceOffer): Promise<void> {
    const features = offer.features & this.#wantedFeatures();
    const mergeable = (features & VIRTIO_NET_F_MRG_RXBUF) !== 0n;
    const modern = (features & VIRTIO_F_VERSION_1) !== 0n;
    const bits = (mergeable ? QUEUE_MERGEABLE : 0) | ((features & VIRTIO_F_IN_ORDER) !== 0n ? QUEUE_IN_ORDER : 0);
    const rings = this.#rings();
    const header = mergeable || modern ? NET_HEADER_BYTES : NET_HEADER_LEGACY_BYTES;
    const work = [guestWork(features), hostWork(features)] as const;
    for (const [index, ring] of rings.entries()) {
      ring?.reset(this.context.main.kernels);
      ring?.negotiate(bits, header, work[index % 2 === 0 ? 0 : 1]);
    }
    try {
      await this.#backend.start({ features, mtu: this.mtu, rings });
    } catch (cause) {
      throw new VirtioError(`${this.name}: the device did not start: ${cause instanceof Error ? cause.message : String(cause)}`, {
        code: cause instanceof VirtioError ? cause.code : 'EIO',
        cause,
      });
    }
    this.#up = true;
    // the device finds buffers at once, not only when an lcore first looks
    for (const [pair, queue] of this.rxQueues.entries()) {
      queue.set(Q_INTERRUPT_FD, this.#backend.receiveInterrupt?.(pair) ?? NO_DESCRIPTOR);
      this.#fill(queue);
      if (queue.get(Q_NOTIFY) !== 0) makeNotifier(this.context.arena.views, queue.offset)();
    }
    for (const queue of [...this.rxQueues, ...this.txQueues]) queue.setState(QUEUE_RUNNING);
  }

  #fill(queue: DriverQueue): void {
    const { splitDriverRefill } = this.context.main.kernels;
    for (let posted = 0; posted < queue.size;) {
      const more = splitDriverRefill(queue.offset, MAIN_LCORE_SLOT);
      if (more === 0) return;
      posted += more;
    }
  }
}
