/**
 * What all ports have in common: configuration, listeners, state, and queues opened on the main thread.
 * A driver says what it is and makes its queues.
 * @module
 */
import type { MacAddress } from '../net/mac-address.ts';
import { ALL_DESCRIPTORS, Q_LCORE, Q_STATE, Q_STRIP_VLAN, QUEUE_ERROR_TEXTS, QUEUE_RUNNING, QUEUE_STOPPED } from '../ring/queue-layout.ts';
import { MAIN_LCORE_SLOT, type QueueState } from '../ring/virtqueue.ts';
import { VirtioError } from '../system/error.ts';
import { lookRegularly } from '../system/regular-looks.ts';
import type { PortContext } from './context.ts';
import type {
  DescriptorStatus,
  ExtendedStatistic,
  InterruptCoalescing,
  Link,
  Port,
  PortConfiguration,
  PortEvent,
  PortInfo,
  PortState,
  PortStatistics,
  QueueInfo,
  RssState,
  RxQueueConfiguration,
  TxQueueConfiguration,
} from './port.ts';
import { lroPacketSizes } from './frame-size.ts';
import { RX_OFFLOAD_TCP_LRO, RX_OFFLOAD_VLAN, RX_OFFLOAD_VLAN_FILTER, RX_OFFLOAD_VLAN_STRIP } from './offloads.ts';
import { openQueue, type QueueFunctions, type QueueInterrupt } from './queue-functions.ts';
import type { QueueHandle, QueueKind } from './queue.ts';
import { ALL_COUNTERS, BASIC_COUNTERS, basicExtended, queueBasics, sumStatistics } from './statistics.ts';

interface OwnedQueue<Queue extends QueueState> {
  readonly queue: Queue;
  readonly info: QueueInfo;
  functions: QueueFunctions | undefined;
}

export interface BasePortOptions {
  readonly id: number;
  readonly name: string;
  readonly devargs: string;
  readonly bus?: string;
  /** Undefined: what defaultMac() says. */
  readonly mac?: MacAddress;
}

/** Somebody who wants to know of a port's queues: a capture. */
export interface QueueObserver {
  /** A queue was set up, its state at the arena offset `state`; its former state, if it had one, is gone. */
  queueSetUp(direction: 'receive' | 'transmit', queue: number, state: number): void;
  /** The port is stopped, and its queues are about to go. */
  portClosing(): Promise<void>;
}

export abstract class BasePort<Queue extends QueueState = QueueState> implements Port {
  /** Set again only before the port is configured: a device that failed leaves no gap in the list. */
  id: number;
  readonly name: string;
  readonly devargs: string;
  readonly bus: string;
  abstract readonly info: PortInfo;
  protected readonly context: PortContext;
  protected abstract readonly queueKind: QueueKind;
  protected readonly filtersNothing: boolean = true;
  #state: PortState = 'stopped';
  #mac: MacAddress | undefined;
  #mtu = 1500;
  #configuration: PortConfiguration | undefined;
  #rx: (OwnedQueue<Queue> | undefined)[] = [];
  #tx: (OwnedQueue<Queue> | undefined)[] = [];
  #stopLooking: (() => void) | undefined;
  readonly #listeners = new Set<(event: PortEvent) => void>();
  readonly #observers = new Set<QueueObserver>();

  constructor(context: PortContext, options: BasePortOptions) {
    this.context = context;
    this.id = options.id;
    this.name = options.name;
    this.devargs = options.devargs;
    this.bus = options.bus ?? 'vdev';
    this.#mac = options.mac;
  }

  get state(): PortState {
    return this.#state;
  }

  get mac(): MacAddress {
    return this.#mac ?? this.defaultMac();
  }

  protected defaultMac(): MacAddress {
    return new Uint8Array(6);
  }

  get macAddresses(): readonly MacAddress[] {
    return [this.mac];
  }

  get multicastAddresses(): readonly MacAddress[] {
    return [];
  }

  get mtu(): number {
    return this.#mtu;
  }

  /** A device that filters nothing says that it receives everything. */
  get promiscuous(): boolean {
    return this.filtersNothing;
  }

  get allMulticast(): boolean {
    return this.filtersNothing;
  }

  get configuration(): PortConfiguration | undefined {
    return this.#configuration;
  }

  /** Makes a queue; `size` is the number of descriptors asked for, 0 for the driver's default. */
  protected abstract makeRxQueue(
    index: number,
    configuration: RxQueueConfiguration,
  ): { readonly queue: Queue; readonly descriptors: number };
  protected abstract makeTxQueue(
    index: number,
    configuration: TxQueueConfiguration,
  ): { readonly queue: Queue; readonly descriptors: number };
  /** The queues are there; bring the device up. */
  protected abstract startDevice(): Promise<void>;
  /** Take the device down; afterwards nobody but the main thread touches the queues. */
  protected abstract stopDevice(): Promise<void>;
  /** Releases what the driver holds, but for the queues. */
  protected abstract closeDevice(): Promise<void>;

  /** A kernel gave a queue up; `text` says why. */
  protected queueGivenUp(direction: 'rx' | 'tx', index: number, text: string): void {
    this.context.log(`${this.name}: ${direction} queue ${String(index)} stopped: ${text}`);
  }

  /** Called before queues are released: give back the packets that they hold. */
  protected emptyQueue(_queue: Queue): void {
    // most queues hold none
  }

  protected get rxQueues(): readonly Queue[] {
    return this.#rx.flatMap((owned) => (owned === undefined ? [] : [owned.queue]));
  }

  protected get txQueues(): readonly Queue[] {
    return this.#tx.flatMap((owned) => (owned === undefined ? [] : [owned.queue]));
  }

  protected rxQueue(index: number): Queue | undefined {
    return this.#rx[index]?.queue;
  }

  protected txQueue(index: number): Queue | undefined {
    return this.#tx[index]?.queue;
  }

  protected emit(event: PortEvent): void {
    for (const listener of this.#listeners) listener(event);
  }

  /** `virtio_user0: <text>`, as an error. */
  protected error(code: string, text: string): VirtioError {
    return new VirtioError(`${this.name}: ${text}`, { code });
  }

  /** Switches VLAN offloads while the port is open; `rxOffloads` are all that are to be in force then, within the capabilities. */
  protected switchVlanOffloads(rxOffloads: number): Promise<void> {
    this.#stripVlans(rxOffloads);
    return Promise.resolve();
  }

  protected notSupported(what: string): Promise<never> {
    return Promise.reject(this.error('EOPNOTSUPP', `${what} is not supported by ${this.info.driverName}`));
  }

  protected requireStopped(what: string): void {
    if (this.#state === 'closed') throw this.error('ENODEV', 'the port is closed');
    if (this.#state === 'started') throw this.error('EBUSY', `${what}: stop the port first`);
  }

  configure(configuration: PortConfiguration): Promise<void> {
    this.requireStopped('configure');
    const { info } = this;
    const check = (what: string, value: number, most: number): void => {
      if (!Number.isInteger(value) || value < 0 || value > most)
        throw this.error('EINVAL', `${what} ${String(value)} is outside 0..${String(most)}`);
    };
    check('number of receive queues', configuration.rxQueues, info.maxRxQueues);
    check('number of transmit queues', configuration.txQueues, info.maxTxQueues);
    this.#requireCapable('receive', configuration.rxOffloads, info.rxOffloadCapabilities);
    this.#requireCapable('transmit', configuration.txOffloads, info.txOffloadCapabilities);
    const lroSize = configuration.maxLroPacketSize ?? 0;
    if ((configuration.rxOffloads & RX_OFFLOAD_TCP_LRO) !== 0 && lroSize !== 0) {
      const { min, max } = lroPacketSizes(info, configuration.mtu ?? Math.min(info.maxMtu, this.#mtu));
      if (!Number.isInteger(lroSize) || lroSize < min || lroSize > max)
        throw this.error('EINVAL', `largest packet of receive offload ${String(lroSize)} is outside ${String(min)}..${String(max)}`);
    }
    this.#releaseQueues();
    this.#rx = Array.from({ length: configuration.rxQueues }, () => undefined);
    this.#tx = Array.from({ length: configuration.txQueues }, () => undefined);
    this.#configuration = configuration;
    if (configuration.mtu !== undefined) this.#mtu = configuration.mtu;
    return Promise.resolve();
  }

  setupRxQueue(queue: number, configuration: RxQueueConfiguration): Promise<void> {
    this.requireStopped('queue setup');
    this.#checkQueue(this.#rx, queue, 'receive');
    this.#checkDescriptors(configuration.descriptors, this.info.rxDescriptors, 'receive');
    this.#release(this.#rx[queue]);
    this.#rx[queue] = undefined;
    const made = this.makeRxQueue(queue, configuration);
    this.#rx[queue] = {
      queue: made.queue,
      info: { descriptors: made.descriptors, poolName: configuration.pool.name },
      functions: undefined,
    };
    for (const observer of this.#observers) observer.queueSetUp('receive', queue, made.queue.offset);
    return Promise.resolve();
  }

  setupTxQueue(queue: number, configuration: TxQueueConfiguration): Promise<void> {
    this.requireStopped('queue setup');
    this.#checkQueue(this.#tx, queue, 'transmit');
    this.#checkDescriptors(configuration.descriptors, this.info.txDescriptors, 'transmit');
    this.#release(this.#tx[queue]);
    this.#tx[queue] = undefined;
    const made = this.makeTxQueue(queue, configuration);
    made.queue.makeWaitingRoom();
    this.#tx[queue] = {
      queue: made.queue,
      info: { descriptors: made.descriptors, poolName: undefined },
      functions: undefined,
    };
    for (const observer of this.#observers) observer.queueSetUp('transmit', queue, made.queue.offset);
    return Promise.resolve();
  }

  rxQueueInfo(queue: number): QueueInfo | undefined {
    return this.#rx[queue]?.info;
  }

  txQueueInfo(queue: number): QueueInfo | undefined {
    return this.#tx[queue]?.info;
  }

  async start(): Promise<void> {
    if (this.#state === 'started') return;
    this.requireStopped('start');
    if (this.#configuration === undefined) throw this.error('EINVAL', 'configure the port and set up its queues before starting it');
    if (this.#rx.includes(undefined) || this.#tx.includes(undefined)) throw this.error('EINVAL', 'a queue is not set up');
    this.#state = 'started';
    this.#stripVlans(this.#configuration.rxOffloads);
    try {
      await this.startDevice();
    } catch (error) {
      this.#state = 'stopped';
      throw error;
    }
    this.#stopLooking = lookRegularly(() => {
      this.#lookForErrors();
    });
  }

  async stop(): Promise<void> {
    if (this.#state !== 'started') return;
    this.#state = 'stopped';
    this.#stopLooking?.();
    await this.stopDevice();
    this.#lookForErrors();
  }

  async close(): Promise<void> {
    if (this.#state === 'closed') return;
    await this.stop();
    for (const observer of [...this.#observers]) await observer.portClosing();
    this.#state = 'closed';
    try {
      await this.closeDevice();
    } finally {
      this.#releaseQueues();
      this.#listeners.clear();
    }
  }

  reset(): Promise<void> {
    return this.notSupported('reset');
  }

  stopQueue(_direction: 'rx' | 'tx', _queue: number): Promise<void> {
    return this.notSupported('stopping one queue');
  }

  startQueue(_direction: 'rx' | 'tx', _queue: number): Promise<void> {
    return this.notSupported('starting one queue');
  }

  rxQueueCount(_queue: number): number {
    throw this.error('EOPNOTSUPP', `${this.info.driverName} does not tell how full its queues are`);
  }

  descriptorStatus(_direction: 'rx' | 'tx', _queue: number, _offset: number): DescriptorStatus {
    throw this.error('EOPNOTSUPP', `${this.info.driverName} does not tell of descriptors`);
  }

  abstract link(): Link;

  setLink(_up: boolean): Promise<void> {
    return this.notSupported('setting the link');
  }

  setPromiscuous(_on: boolean): Promise<void> {
    return Promise.resolve();
  }

  setAllMulticast(_on: boolean): Promise<void> {
    return Promise.resolve();
  }

  setMtu(mtu: number): Promise<void> {
    const { minMtu, maxMtu } = this.info;
    if (!Number.isInteger(mtu) || mtu < minMtu || mtu > maxMtu) {
      return Promise.reject(this.error('EINVAL', `MTU ${String(mtu)} is outside ${String(minMtu)}..${String(maxMtu)}`));
    }
    this.#mtu = mtu;
    return Promise.resolve();
  }

  setMac(mac: MacAddress): Promise<void> {
    if (mac.length !== 6 || ((mac[0] ?? 0) & 1) !== 0 || mac.every((byte) => byte === 0)) {
      return Promise.reject(this.error('EINVAL', 'a port needs a unicast address that is not all zero'));
    }
    this.#mac = Uint8Array.from(mac);
    return Promise.resolve();
  }

  addMac(_mac: MacAddress): Promise<void> {
    return this.notSupported('a second address');
  }

  removeMac(_mac: MacAddress): Promise<void> {
    return this.notSupported('a second address');
  }

  setMulticastAddresses(_addresses: readonly MacAddress[]): Promise<void> {
    return this.notSupported('a filter of group addresses');
  }

  setVlanFilter(_vlan: number, _on: boolean): Promise<void> {
    if (((this.#configuration?.rxOffloads ?? 0) & RX_OFFLOAD_VLAN_FILTER) === 0) {
      return Promise.reject(this.error('ENOSYS', 'the VLAN filter is off (RX_OFFLOAD_VLAN_FILTER)'));
    }
    return this.notSupported('a VLAN filter');
  }

  rss(): RssState {
    throw this.error('EOPNOTSUPP', 'packets are not spread by a hash');
  }

  updateRss(_change: Partial<RssState>): Promise<void> {
    return this.notSupported('spreading packets by a hash');
  }

  rssTable(): readonly number[] {
    throw this.error('EOPNOTSUPP', 'packets are not spread by a table');
  }

  updateRssTable(_entries: readonly (number | undefined)[]): Promise<void> {
    return this.notSupported('spreading packets by a table');
  }

  setInterruptCoalescing(_direction: 'rx' | 'tx', _coalescing: InterruptCoalescing, _queue?: number): Promise<void> {
    return this.notSupported('interrupt coalescing');
  }

  statistics(): PortStatistics {
    return sumStatistics(this.rxQueues, this.txQueues);
  }

  resetStatistics(): void {
    for (const queue of [...this.rxQueues, ...this.txQueues]) queue.resetCounters(BASIC_COUNTERS);
  }

  extendedStatistics(): readonly ExtendedStatistic[] {
    return [...basicExtended(this.statistics()), ...queueBasics(this.rxQueues, this.txQueues)];
  }

  resetExtendedStatistics(): void {
    for (const queue of [...this.rxQueues, ...this.txQueues]) queue.resetCounters(ALL_COUNTERS);
  }

  onEvent(listener: (event: PortEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
    };
  }

  /** Tells `observer` of every queue that is set up from now on, until the returned function is called. */
  observeQueues(observer: QueueObserver): () => void {
    this.#observers.add(observer);
    return () => {
      this.#observers.delete(observer);
    };
  }

  rxQueueHandle(queue: number): QueueHandle {
    return this.#handle(this.#rx[queue], queue, 'receive');
  }

  txQueueHandle(queue: number): QueueHandle {
    return this.#handle(this.#tx[queue], queue, 'transmit');
  }

  rxInterrupt(queue: number): QueueInterrupt | undefined {
    return this.#openRx(queue).interrupt;
  }

  rxBurst(queue: number, mbufs: number, count: number): number {
    return this.#openRx(queue).burst(mbufs, count);
  }

  txBurst(queue: number, mbufs: number, count: number): number {
    return this.#openTx(queue).burst(mbufs, count);
  }

  txDoneCleanup(queue: number): void {
    const state = this.#tx[queue]?.queue;
    if (state?.get(Q_LCORE) === MAIN_LCORE_SLOT && state.get(Q_STATE) === QUEUE_RUNNING) this.#openTx(queue).room(ALL_DESCRIPTORS);
  }

  #openTx(queue: number): QueueFunctions {
    const owned = this.#tx[queue];
    if (owned === undefined) throw new RangeError(`${this.name}: no transmit queue ${String(queue)}`);
    owned.functions ??= openQueue(this.context.main, this.txQueueHandle(queue), 'transmit', MAIN_LCORE_SLOT);
    return owned.functions;
  }

  #openRx(queue: number): QueueFunctions {
    const owned = this.#rx[queue];
    if (owned === undefined) throw new RangeError(`${this.name}: no receive queue ${String(queue)}`);
    owned.functions ??= openQueue(this.context.main, this.rxQueueHandle(queue), 'receive', MAIN_LCORE_SLOT);
    return owned.functions;
  }

  async setVlanOffloads(rxOffloads: number): Promise<void> {
    if (this.#state === 'closed') throw this.error('ENODEV', 'the port is closed');
    const configuration = this.#configuration;
    const before = configuration?.rxOffloads ?? 0;
    const after = (before & ~RX_OFFLOAD_VLAN) | (rxOffloads & RX_OFFLOAD_VLAN);
    if (after === before) return;
    this.#requireCapable('receive', after, this.info.rxOffloadCapabilities);
    await this.switchVlanOffloads(after);
    if (configuration !== undefined) this.#configuration = { ...configuration, rxOffloads: after };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Tags are taken out in software, after the burst kernel, whatever the driver. */
  #stripVlans(rxOffloads: number): void {
    const strip = (rxOffloads & RX_OFFLOAD_VLAN_STRIP) !== 0 ? 1 : 0;
    for (const queue of this.rxQueues) queue.set(Q_STRIP_VLAN, strip);
  }

  #requireCapable(what: string, wanted: number, capable: number): void {
    if ((wanted & ~capable) === 0) return;
    throw this.error('EINVAL', `${what} offloads 0x${wanted.toString(16)} are not within its capabilities 0x${capable.toString(16)}`);
  }

  /** Lets the kernels work on all queues, or stops them and waits until no lcore is inside one. */
  protected async runQueues(run: boolean): Promise<void> {
    for (const queue of [...this.rxQueues, ...this.txQueues]) queue.setState(run ? QUEUE_RUNNING : QUEUE_STOPPED);
    if (!run) await this.context.gracePeriod();
  }

  /** Reports queues that a kernel has given up since the last look. */
  #lookForErrors(): void {
    for (const [direction, list] of [
      ['rx', this.#rx],
      ['tx', this.#tx],
    ] as const) {
      for (const [index, owned] of list.entries()) {
        if (owned === undefined) continue;
        const error = owned.queue.takeError();
        if (error !== 0) this.queueGivenUp(direction, index, QUEUE_ERROR_TEXTS[error] ?? `error ${String(error)}`);
      }
    }
  }

  #handle(owned: OwnedQueue<Queue> | undefined, queue: number, direction: string): QueueHandle {
    if (owned === undefined) throw new RangeError(`${this.name}: ${direction} queue ${String(queue)} is not set up`);
    return { kind: this.queueKind, port: this.id, queue, state: owned.queue.offset };
  }

  #checkQueue(list: readonly unknown[], queue: number, direction: string): void {
    if (!Number.isInteger(queue) || queue < 0 || queue >= list.length) {
      throw this.error('EINVAL', `${direction} queue ${String(queue)}: the port is configured with ${String(list.length)}`);
    }
  }

  #checkDescriptors(wanted: number, limits: { readonly min: number; readonly max: number }, direction: string): void {
    if (wanted === 0) return;
    if (!Number.isInteger(wanted) || wanted < limits.min || wanted > limits.max) {
      throw this.error('EINVAL', `${String(wanted)} ${direction} descriptors are outside ${String(limits.min)}..${String(limits.max)}`);
    }
  }

  #release(owned: OwnedQueue<Queue> | undefined): void {
    if (owned === undefined) return;
    this.emptyQueue(owned.queue);
    owned.queue.dropWaiting(this.context.main.kernels);
    owned.queue.close();
  }

  #releaseQueues(): void {
    for (const owned of [...this.#rx, ...this.#tx]) this.#release(owned);
    this.#rx = [];
    this.#tx = [];
  }
}
