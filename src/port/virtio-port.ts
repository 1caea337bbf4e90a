/**
 * The virtio-net driver as a port, over any backend (backend.ts).
 *
 * The port's life and the device's are two things: a port that is started waits for its device, goes on when the device
 * comes back, and its link says which it is.
 * @module
 */
import type { BackendEvents, DeviceLink, DeviceOffer, VirtioBackend } from '../backend/backend.ts';
import { ANNOUNCE_ACK, type RssSettings } from '../backend/control-commands.ts';
import { withPrerequisites } from '../backend/feature-dependencies.ts';
import { GUEST_TCP_FEATURES, GUEST_UDP_FEATURES, guestWork, hostWork, OFFLOAD_FEATURES } from '../backend/offload-features.ts';
import { drivenFeatures, lengthLimit, ringBits } from '../backend/ring-features.ts';
import {
  CONTROL_QUEUE_FEATURES,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_VERSION_1,
  VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
  VIRTIO_NET_F_CTRL_MAC_ADDR,
  VIRTIO_NET_F_CTRL_RX,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F_HASH_REPORT,
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_NET_F_NOTF_COAL,
  VIRTIO_NET_F_RSS,
  VIRTIO_NET_F_VQ_NOTF_COAL,
} from '../backend/virtio-features.ts';
import { MBUF_HASH_VALID } from '../memory/mbuf-layout.ts';
import type { MacAddress } from '../net/mac-address.ts';
import { NET_HEADER_BYTES, NET_HEADER_HASH_BYTES, NET_HEADER_LEGACY_BYTES } from '../net/virtio-net-header.ts';
import { QUEUE_RUNNING, QUEUE_STOPPED, QUEUE_VECTORIZED, Q_INTERRUPT_FD, Q_POOL, Q_STATE } from '../ring/queue-layout.ts';
import { usedBuffers } from '../ring/ring-fill.ts';
import { DriverQueue, NO_DESCRIPTOR } from '../ring/virtqueue.ts';
import { VirtioError } from '../system/error.ts';
import { reverseArp, sendWhileStopped } from './announcement.ts';
import { BasePort, type BasePortOptions } from './base-port.ts';
import type { PortContext } from './context.ts';
import { descriptorStatus } from './descriptor-status.ts';
import { RX_OFFLOAD_VLAN_FILTER } from './offloads.ts';
import type {
  DescriptorStatus,
  ExtendedStatistic,
  InterruptCoalescing,
  Link,
  PortConfiguration,
  PortInfo,
  QueueInfo,
  RssState,
  RxQueueConfiguration,
  TxQueueConfiguration,
} from './port.ts';
import { postBuffers } from './post-buffers.ts';
import { RSS_IP, RSS_KEY_BYTES, rssTypeNames } from './rss.ts';
import { SingleQueues, type NumberedQueue } from './single-queues.ts';
import { basicExtended, oversize, queueDetails } from './statistics.ts';
import { rssCapabilities, rxCapabilities, txCapabilities, wantedFeatures } from './virtio-capabilities.ts';
import { VirtioControl } from './virtio-control.ts';
import { choosePaths, type VirtioPaths } from './virtio-path.ts';
import { VirtioRss, type RssSetup } from './virtio-rss.ts';

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
  /** Take packed rings where the device has them; it must where the size of the rings is no power of two. */
  readonly packed: boolean;
  /** Take vectorized paths where the rules let them be taken (virtio-path.ts); default false. */
  readonly vectorized?: boolean;
  /** Accept promiscuous and all-multicast settings (cq=1); a vhost-user back-end filters nothing. */
  readonly controlQueue: boolean;
  /** Mbit/s to report; 0: unknown. */
  readonly speed: number;
  readonly makeBackend: (events: BackendEvents) => VirtioBackend;
}

const GUEST_OFFLOADS = VIRTIO_NET_F_GUEST_CSUM | GUEST_TCP_FEATURES | GUEST_UDP_FEATURES;
/** Addresses of a port (VIRTIO_MAX_MAC_ADDRS of DPDK). */
const MAC_LIMIT = 64;
const VLAN_LIMIT = 4096;

/** Besides the port's own. */
interface Addresses {
  readonly addresses: readonly MacAddress[];
  readonly multicast: readonly MacAddress[];
}

function isSame(one: MacAddress, other: MacAddress): boolean {
  return Buffer.compare(one, other) === 0;
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
  /** What a device that filters for itself is asked for; one that does not is not asked. */
  readonly #control: VirtioControl;
  /** Besides the port's own. */
  #addresses: readonly MacAddress[] = [];
  #multicast: readonly MacAddress[] = [];
  #filtersVlans = false;
  readonly #rss: VirtioRss;
  readonly #singleQueues: SingleQueues;

  private constructor(context: PortContext, options: VirtioPortOptions) {
    super(context, options);
    this.#options = options;
    this.#backend = options.makeBackend({
      onOffer: (offer) => {
        void this.#enqueue(() => this.#arrived(offer));
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
      onAnnounce: () => {
        void this.#enqueue(() => this.#announce());
      },
    });
    this.#rss = new VirtioRss((text) => this.error('EINVAL', text));
    this.#singleQueues = new SingleQueues(context, this.#backend);
    this.#control = new VirtioControl((command, data) => this.#backend.control?.(command, data) ?? Promise.resolve());
  }

  get info(): PortInfo {
    // a device that is still to come may have everything
    const offered = this.#offered;
    const rss = rssCapabilities(this.#offer);
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
      maxMacAddresses: MAC_LIMIT,
      maxHashMacAddresses: 0,
      rxDescriptors: { min: 32, max: 32768, align: 1 },
      txDescriptors: { min: 32, max: 32768, align: 1 },
      redirectionTableSize: rss.tableEntries,
      hashKeySize: rss.types === 0n ? 0 : RSS_KEY_BYTES,
      rssFlowTypes: rssTypeNames(rss.types),
      rxOffloadCapabilities: rxCapabilities(offered),
      txOffloadCapabilities: txCapabilities(offered),
      maxSegmentsPerPacket: 65535,
      maxSegmentsPerMtu: 65535,
    };
  }

  /** Makes a port and looks for its device. @throws VirtioError when there is none and none is waited for; the port is closed then */
  static async open(context: PortContext, options: VirtioPortOptions): Promise<VirtioPort> {
    const port = new VirtioPort(context, options);
    try {
      const offer = await port.#backend.open();
      if (offer !== undefined) await port.#take(offer);
    } catch (error) {
      await port.close();
      throw error;
    }
    return port;
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

  override get macAddresses(): readonly MacAddress[] {
    return [this.mac, ...this.#addresses];
  }

  override get multicastAddresses(): readonly MacAddress[] {
    return this.#multicast;
  }

  override async addMac(mac: MacAddress): Promise<void> {
    if (mac.length !== 6 || mac.every((byte) => byte === 0)) throw this.error('EINVAL', 'an address is six bytes, not all zero');
    if (this.#has(mac)) return;
    if (!this.#commands(VIRTIO_NET_F_CTRL_MAC_ADDR)) throw this.error('EPERM', `${this.#backend.peer} does not filter by addresses`);
    await this.#setFilter(() => {
      if (this.#has(mac)) return undefined;
      if (this.macAddresses.length >= MAC_LIMIT) throw this.error('ENOSPC', `it has ${String(MAC_LIMIT)} addresses, and room for no more`);
      return { addresses: [...this.#addresses, Uint8Array.from(mac)] };
    });
  }

  override async removeMac(mac: MacAddress): Promise<void> {
    if (isSame(mac, this.mac)) throw this.error('EADDRINUSE', "the port's own address stays");
    await this.#setFilter(() => (this.#has(mac) ? { addresses: this.#addresses.filter((known) => !isSame(known, mac)) } : undefined));
  }

  override async setMulticastAddresses(addresses: readonly MacAddress[]): Promise<void> {
    if (!this.#commands(VIRTIO_NET_F_CTRL_MAC_ADDR)) return this.notSupported('a filter of group addresses');
    const multicast = addresses.map((mac) => Uint8Array.from(mac));
    await this.#setFilter(() => ({ multicast }));
  }

  override async setVlanFilter(vlan: number, on: boolean): Promise<void> {
    if (((this.configuration?.rxOffloads ?? 0) & RX_OFFLOAD_VLAN_FILTER) === 0) return super.setVlanFilter(vlan, on);
    if (!Number.isInteger(vlan) || vlan < 0 || vlan >= VLAN_LIMIT) {
      throw this.error('EINVAL', `VLAN ${String(vlan)} is outside 0..${String(VLAN_LIMIT - 1)}`);
    }
    await this.#enqueue(() => this.#control.setVlan(vlan, on));
  }

  protected override async switchVlanOffloads(rxOffloads: number): Promise<void> {
    const filters = (rxOffloads & RX_OFFLOAD_VLAN_FILTER) !== 0;
    if (filters !== this.#filtersVlans) {
      // a device that filters at all drops every tag that it was not told, so it is not asked to unless it is to
      this.#filtersVlans = filters;
      await this.#enqueue(() => this.#restart());
    }
    await super.switchVlanOffloads(rxOffloads);
  }

  override rss(): RssState {
    return this.#spreads ? this.#rss.state(rssCapabilities(this.#offer).types) : super.rss();
  }

  override async updateRss(change: Partial<RssState>): Promise<void> {
    if (!this.#spreads) return super.updateRss(change);
    await this.#setRss(() => this.#rss.withState(change, rssCapabilities(this.#offer).types));
  }

  override rssTable(): readonly number[] {
    return this.#spreads ? this.#rss.table : super.rssTable();
  }

  override async updateRssTable(entries: readonly (number | undefined)[]): Promise<void> {
    if (!this.#spreads) return super.updateRssTable(entries);
    await this.#setRss(() => this.#rss.withTable(entries, this.rxQueues.length));
  }

  override async setInterruptCoalescing(direction: 'rx' | 'tx', coalescing: InterruptCoalescing, queue?: number): Promise<void> {
    if (!this.#commands(queue === undefined ? VIRTIO_NET_F_NOTF_COAL : VIRTIO_NET_F_VQ_NOTF_COAL)) {
      return super.setInterruptCoalescing(direction, coalescing, queue);
    }
    const whose = queue === undefined ? direction : 2 * queue + (direction === 'rx' ? 0 : 1);
    await this.#enqueue(() => this.#control.setCoalescing(whose, coalescing));
  }

  /**
   * Has the device, while it runs, leave work to the driver or not, within what it was started with; until the next start.
   * @param features VIRTIO_NET_F_GUEST_* bits that are to be in force
   * @throws VirtioError EINVAL beyond those agreed on, EOPNOTSUPP where the device cannot switch them
   */
  async setGuestOffloads(features: bigint): Promise<void> {
    const agreed = this.#control.features;
    if ((agreed & VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) === 0n) return this.notSupported('switching receive offloads of a running device');
    if ((features & ~(agreed & GUEST_OFFLOADS)) !== 0n) {
      throw this.error(
        'EINVAL',
        `offloads 0x${features.toString(16)} are not within those agreed on, 0x${(agreed & GUEST_OFFLOADS).toString(16)}`,
      );
    }
    await this.#enqueue(() => this.#control.setGuestOffloads(features));
  }

  override async configure(configuration: PortConfiguration): Promise<void> {
    const queues = this.configuration?.rxQueues;
    await super.configure(configuration);
    this.#filtersVlans = (configuration.rxOffloads & RX_OFFLOAD_VLAN_FILTER) !== 0;
    this.#rss.configure(configuration, queues);
  }

  override get promiscuous(): boolean {
    return this.#control.promiscuous;
  }

  override get allMulticast(): boolean {
    return this.#control.allMulticast;
  }

  override setPromiscuous(on: boolean): Promise<void> {
    if (on === this.promiscuous) return Promise.resolve();
    if (!this.#filters) return this.notSupported('promiscuous mode without a control queue (cq=1)');
    return this.#enqueue(() => this.#control.setPromiscuous(on));
  }

  override setAllMulticast(on: boolean): Promise<void> {
    if (on === this.allMulticast) return Promise.resolve();
    if (!this.#filters) return this.notSupported('all-multicast mode without a control queue (cq=1)');
    return this.#enqueue(() => this.#control.setAllMulticast(on));
  }

  override async stopQueue(direction: 'rx' | 'tx', index: number): Promise<void> {
    await this.#enqueue(() => {
      const numbered = this.#runningQueue(direction, index);
      return this.#singleQueues.supported ? this.#singleQueues.stop(numbered) : this.notSupported('stopping one queue');
    });
  }

  override async startQueue(direction: 'rx' | 'tx', index: number): Promise<void> {
    await this.#enqueue(() => {
      const numbered = this.#runningQueue(direction, index);
      return this.#singleQueues.supported ? this.#singleQueues.start(numbered) : this.notSupported('starting one queue');
    });
  }

  override rxQueueCount(index: number): number {
    const queue = this.#queueAt('rx', index);
    return queue.get(Q_STATE) === QUEUE_RUNNING ? usedBuffers(this.context.arena.views, queue) : 0;
  }

  override descriptorStatus(direction: 'rx' | 'tx', index: number, offset: number): DescriptorStatus {
    const queue = this.#queueAt(direction, index);
    if (!Number.isInteger(offset) || offset < 0 || offset >= queue.size) {
      throw this.error('EINVAL', `descriptor ${String(offset)}: the ring has ${String(queue.size)}`);
    }
    return descriptorStatus(this.context.arena.views, direction, queue, offset);
  }

  #queueAt(direction: 'rx' | 'tx', index: number): DriverQueue {
    const queue = direction === 'rx' ? this.rxQueue(index) : this.txQueue(index);
    if (queue === undefined) throw this.error('EINVAL', `there is no ${direction} queue ${String(index)}`);
    return queue;
  }

  /** A queue that the device has, or gave back by itself alone. */
  #runningQueue(direction: 'rx' | 'tx', index: number): NumberedQueue {
    const queue = this.#queueAt(direction, index);
    if (!this.#up) throw this.error('ENODEV', `${direction} queue ${String(index)}: the port is not started, or its device is gone`);
    return { queue, ring: 2 * index + (direction === 'rx' ? 0 : 1) };
  }

  link(): Link {
    const { up, speed = 0, fullDuplex = true } = this.#carrier;
    return { up: this.#up && up, speed: this.#options.speed === 0 ? speed : this.#options.speed, fullDuplex, autonegotiation: true };
  }

  override rxQueueInfo(queue: number): QueueInfo | undefined {
    const info = super.rxQueueInfo(queue);
    return info === undefined ? undefined : { ...info, burstMode: this.paths?.receive.burstMode };
  }

  override txQueueInfo(queue: number): QueueInfo | undefined {
    const info = super.txQueueInfo(queue);
    return info === undefined ? undefined : { ...info, burstMode: this.paths?.transmit.burstMode };
  }

  /** The paths of the queues with the device that is there, as the port is configured; undefined while there is none. */
  get paths(): VirtioPaths | undefined {
    return this.#offer === undefined ? undefined : this.#choosePaths(this.#acceptedFeatures(this.#offer));
  }

  #choosePaths(features: bigint): VirtioPaths {
    return choosePaths({
      features,
      vectorized: this.#options.vectorized ?? false,
      rxOffloads: this.configuration?.rxOffloads ?? 0,
      target: this.context.main.target,
    });
  }

  override extendedStatistics(): readonly ExtendedStatistic[] {
    return [
      ...basicExtended(this.statistics()),
      ...this.rxQueues.flatMap((queue, index) => queueDetails('rx', index, queue, true)),
      ...this.txQueues.flatMap((queue, index) => [...queueDetails('tx', index, queue, false), oversize(index, queue)]),
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
      await this.#bringDown();
    });
  }

  protected async closeDevice(): Promise<void> {
    await this.#backend.close();
    await this.#work;
  }

  /** What the device has to offer; one that is still to come may have everything that a back-end has. */
  get #offered(): bigint {
    if (this.#offer === undefined) return OFFLOAD_FEATURES;
    return withPrerequisites(this.#obeys ? this.#offer.features : this.#offer.features & ~CONTROL_QUEUE_FEATURES, this.#provided);
  }

  /** Whether the port uses a control queue, and there is a device's own behind it. */
  get #obeys(): boolean {
    return this.#options.controlQueue && this.#backend.control !== undefined;
  }

  /** Promiscuous and all-multicast mode: a back-end without a control queue of its own filters nothing, and takes any setting (cq=1). */
  get #filters(): boolean {
    return this.#options.controlQueue && (this.#backend.control === undefined || this.#commands(VIRTIO_NET_F_CTRL_RX));
  }

  /** Whether the device that is there takes commands of this kind. */
  #commands(feature: bigint): boolean {
    return this.#offer !== undefined && (this.#offered & feature) !== 0n;
  }

  /** Whether packets are spread over the receive queues by a hash, in this configuration. */
  get #spreads(): boolean {
    const { rxQueues = 0, rssTypes = RSS_IP } = this.configuration ?? {};
    const { types, tableEntries } = rssCapabilities(this.#offer);
    return this.#commands(VIRTIO_NET_F_RSS) && tableEntries > 0 && rxQueues > 1 && (rssTypes & types) !== 0n;
  }

  /** @param change what is set then, made in turn: changes that come together must not undo each other */
  async #setRss(change: () => RssSetup): Promise<void> {
    await this.#enqueue(async () => {
      const setup = change();
      await this.#control.setRss(this.#rssSettings(setup));
      this.#rss.keep(setup);
    });
  }

  #rssSettings(setup?: RssSetup): RssSettings {
    return this.#rss.settings(rssCapabilities(this.#offer).types, Math.max(1, this.#rings().length >> 1), setup);
  }

  #has(mac: MacAddress): boolean {
    return this.macAddresses.some((known) => isSame(known, mac));
  }

  /**
   * The port's own address is none of the table's: the device knows it.
   * @param change made in turn, as that of #setRss(); undefined: nothing is to be done
   */
  async #setFilter(change: () => Partial<Addresses> | undefined): Promise<void> {
    const isGroup = (mac: MacAddress): boolean => ((mac[0] ?? 0) & 1) !== 0;
    await this.#enqueue(async () => {
      const changed = change();
      if (changed === undefined) return;
      const { addresses = this.#addresses, multicast = this.#multicast } = changed;
      await this.#control.setFilter({
        unicast: addresses.filter((mac) => !isGroup(mac)),
        multicast: [...addresses.filter(isGroup), ...multicast],
      });
      this.#addresses = addresses;
      this.#multicast = multicast;
    });
  }

  /** The device moved to another place of the network, and wants that known there. */
  async #announce(): Promise<void> {
    const [queue, pool] = [this.txQueue(0), this.rxQueue(0)?.get(Q_POOL)];
    try {
      if (this.#up && queue?.get(Q_STATE) === QUEUE_RUNNING && pool !== undefined) {
        queue.setState(QUEUE_STOPPED);
        await this.context.gracePeriod();
        sendWhileStopped(this.context, queue, pool, reverseArp(this.mac));
        // unless the device broke the ring over it
        if (queue.error === 0) queue.setState(QUEUE_RUNNING);
      }
      await this.#backend.control?.(ANNOUNCE_ACK, new Uint8Array(0));
    } catch (error) {
      this.context.log(error instanceof Error ? error.message : String(error));
    }
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
    const { rxOffloads, txOffloads } = this.configuration ?? { rxOffloads: 0, txOffloads: 0 };
    return wantedFeatures({
      ...this.#options,
      rxOffloads,
      txOffloads,
      severalPairs: this.info.maxRxQueues > 1,
      commands: this.#obeys,
      filtersVlans: this.#filtersVlans,
      spreads: this.#spreads,
    });
  }

  #acceptedFeatures(offer: DeviceOffer): bigint {
    return withPrerequisites(drivenFeatures(offer.features & this.#wantedFeatures(), offer.packedEvents), this.#provided);
  }

  /** Where the device has no control queue that is reached through the backend, the backend's own stands in for it. */
  get #provided(): bigint {
    return this.#backend.control === undefined ? VIRTIO_NET_F_CTRL_VQ : 0n;
  }

  /** The device has come, or has come back. */
  async #arrived(offer: DeviceOffer): Promise<void> {
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
    this.#control.end();
    if (!this.#up) return;
    this.#up = false;
    await this.runQueues(false);
    // whoever comes back starts with empty rings: nothing depends on what the old one left in them
    this.#emptyQueues();
    this.emit({ type: 'intr_lsc' });
  }

  async #bringDown(): Promise<void> {
    await this.runQueues(false);
    if (this.#up) await this.#backend.stop();
    this.#up = false;
    this.#control.end();
    this.#emptyQueues();
  }

  /** Agrees on features anew, with what lies in the rings lost. */
  async #restart(): Promise<void> {
    if (!this.#up || this.#offer === undefined) return;
    await this.#bringDown();
    await this.#bringUp(this.#offer);
  }

  async #bringUp(offer: DeviceOffer): Promise<void> {
    const features = this.#acceptedFeatures(offer);
    const mergeable = (features & VIRTIO_NET_F_MRG_RXBUF) !== 0n;
    const modern = (features & VIRTIO_F_VERSION_1) !== 0n;
    const packed = (features & VIRTIO_F_RING_PACKED) !== 0n;
    const rings = this.#rings();
    const odd = packed ? undefined : rings.find((ring) => ring !== undefined && (ring.size & (ring.size - 1)) !== 0);
    if (odd !== undefined) {
      throw this.error(
        'EINVAL',
        `queue_size=${String(odd.size)}: ${this.#backend.peer} has no packed rings, and a split one needs a power of two`,
      );
    }
    const tellsHash = (features & VIRTIO_NET_F_HASH_REPORT) !== 0n;
    const header = tellsHash ? NET_HEADER_HASH_BYTES : mergeable || modern ? NET_HEADER_BYTES : NET_HEADER_LEGACY_BYTES;
    const work = [guestWork(features) | (tellsHash ? MBUF_HASH_VALID : 0), hostWork(features)] as const;
    const { receive, transmit } = this.#choosePaths(features);
    const bits = [receive, transmit].map(({ name }) => ringBits(features) | (name === 'vectorized' ? QUEUE_VECTORIZED : 0));
    for (const [index, ring] of rings.entries()) {
      ring?.reset(this.context.main.kernels);
      ring?.negotiate(bits[index % 2] ?? 0, header, work[index % 2 === 0 ? 0 : 1], lengthLimit(features, offer.mtu));
    }
    try {
      await this.#backend.start({ features, mtu: this.mtu, rings, rss: this.#rssSettings() });
    } catch (cause) {
      throw new VirtioError(`${this.name}: the device did not start: ${cause instanceof Error ? cause.message : String(cause)}`, {
        code: cause instanceof VirtioError ? cause.code : 'EIO',
        cause,
      });
    }
    this.#up = true;
    this.#singleQueues.begin();
    this.#logPaths();
    if (this.#backend.control !== undefined) await this.#control.begin(features, this.#rssSettings(), this.context.log);
    for (const [pair, queue] of this.rxQueues.entries()) {
      queue.set(Q_INTERRUPT_FD, this.#backend.receiveInterrupt?.(pair) ?? NO_DESCRIPTOR);
      postBuffers(this.context, queue);
    }
    for (const queue of [...this.rxQueues, ...this.txQueues]) queue.setState(QUEUE_RUNNING);
  }

  /** What was asked for and is not possible is told in any case; the rest in DPDK's words, to those who want to know. */
  #logPaths(): void {
    const { paths } = this;
    if (paths === undefined) return;
    for (const line of paths.disabled) this.context.log(`${this.name}: ${line}`);
    for (const { announcement } of [paths.transmit, paths.receive]) {
      this.context.logInfo?.('pmd.net.virtio.init', `virtio: using ${announcement} on port ${String(this.id)}`);
    }
  }
}
