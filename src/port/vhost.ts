/**
 * net_vhost: the device side of virtio-net, for a front-end on a vhost-user socket.
 * @module
 */
import { VhostUserDevice } from '../backend/vhost-user/device.ts';
import type { MacAddress } from '../net/mac-address.ts';
import { QUEUE_RUNNING, Q_STATE } from '../ring/queue-layout.ts';
import { availableBuffers } from '../ring/ring-fill.ts';
import { DeviceQueue } from '../ring/virtqueue.ts';
import { VirtioError } from '../system/error.ts';
import { BasePort } from './base-port.ts';
import type { PortContext } from './context.ts';
import { readDevargs, type Devargs } from './devargs.ts';
import type { PortDriver } from './drivers.ts';
import {
  RX_OFFLOAD_TCP_CKSUM,
  RX_OFFLOAD_UDP_CKSUM,
  RX_OFFLOAD_VLAN_STRIP,
  TX_OFFLOAD_MULTI_SEGS,
  TX_OFFLOAD_TCP_CKSUM,
  TX_OFFLOAD_TCP_TSO,
  TX_OFFLOAD_UDP_CKSUM,
  TX_OFFLOAD_VLAN_INSERT,
} from './offloads.ts';
import type { ExtendedStatistic, Link, PortInfo, RxQueueConfiguration, TxQueueConfiguration } from './port.ts';
import { SOFTWARE_PORT_INFO } from './software-port-info.ts';
import { basicExtended, notifications, oversize, queueBasics, queueDetails } from './statistics.ts';

/** Keys of DPDK's net_vhost that ask for what is not there yet, and why. */
const UNSUPPORTED = {
  'postcopy-support': 'post-copy live migration',
  'linear-buffer': 'a promise never to chain mbufs',
  'ext-buffer': 'external buffers',
  'legacy-ol-flags': "the old offload flags' meaning",
} as const;
const KEYS = ['iface', 'queues', 'client', 'tso', 'iommu-support', ...Object.keys(UNSUPPORTED)];
const QUEUE_PAIR_LIMIT = 128;

interface VhostPortOptions {
  readonly id: number;
  readonly name: string;
  readonly devargs: string;
  readonly path: string;
  readonly client: boolean;
  readonly queuePairs: number;
  readonly segmentation: boolean;
  readonly iommu: boolean;
}

const RX_OFFLOADS = RX_OFFLOAD_VLAN_STRIP | RX_OFFLOAD_UDP_CKSUM | RX_OFFLOAD_TCP_CKSUM;
const TX_OFFLOADS = TX_OFFLOAD_VLAN_INSERT | TX_OFFLOAD_UDP_CKSUM | TX_OFFLOAD_TCP_CKSUM | TX_OFFLOAD_TCP_TSO | TX_OFFLOAD_MULTI_SEGS;

class VhostPort extends BasePort<DeviceQueue> {
  readonly info: PortInfo;
  protected readonly queueKind = 'virtqueue-device';
  readonly #device: VhostUserDevice;
  readonly #path: string;
  /** What the IOTLB's counters stood at when they were last reset. */
  #iotlbBaseline: ReadonlyMap<string, number> = new Map();

  constructor(context: PortContext, options: VhostPortOptions) {
    super(context, options);
    this.#path = options.path;
    this.info = {
      ...SOFTWARE_PORT_INFO,
      driverName: 'net_vhost',
      maxRxQueues: options.queuePairs,
      maxTxQueues: options.queuePairs,
      rxOffloadCapabilities: RX_OFFLOADS,
      txOffloadCapabilities: TX_OFFLOADS,
    };
    this.#device = new VhostUserDevice({
      arena: context.arena,
      name: options.name,
      path: options.path,
      client: options.client,
      queuePairs: options.queuePairs,
      segmentation: options.segmentation,
      iommu: options.iommu,
      // ring 2n is the driver's receive queue n: what this port transmits
      queue: (ring) => ((ring & 1) === 0 ? this.txQueue(ring >> 1) : this.rxQueue(ring >> 1)),
      gracePeriod: context.gracePeriod,
      onLink: () => {
        this.emit({ type: 'intr_lsc' });
      },
      onQueueState: (ring, enabled) => {
        this.emit({ type: 'queue_state', queue: ring >> 1, rx: (ring & 1) === 1, enabled });
      },
      log: context.log,
    });
  }

  /** "VHOST" and the port's number, as DPDK's. */
  protected override defaultMac(): MacAddress {
    return Uint8Array.of(0x56, 0x48, 0x4f, 0x53, 0x54, this.id);
  }

  link(): Link {
    return { up: this.#device.linkUp, speed: 10_000, fullDuplex: true, autonegotiation: false };
  }

  /** Counters of the IOTLB: those of each queue by DPDK's name (times that it waited for a translation), and those of the port. */
  #iotlbCounters(): readonly ExtendedStatistic[] {
    const statistics = this.#device.iotlbStatistics;
    if (statistics === undefined) return [];
    const { questions, refusals, updates, invalidations } = statistics;
    const queues = (direction: 'rx' | 'tx', count: number): ExtendedStatistic[] =>
      Array.from({ length: count }, (_, index) => ({
        name: `${direction}_q${String(index)}_iotlb_misses`,
        value: this.#device.iotlbMisses(direction === 'tx' ? 2 * index : 2 * index + 1),
      }));
    return [
      ...queues('rx', this.rxQueues.length),
      ...queues('tx', this.txQueues.length),
      ...Object.entries({ questions, refusals, updates, invalidations }).map(([name, value]) => ({ name: `iotlb_${name}`, value })),
    ];
  }

  #iotlbStatistics(): readonly ExtendedStatistic[] {
    const statistics = this.#device.iotlbStatistics;
    if (statistics === undefined) return [];
    return [
      ...this.#iotlbCounters().map(({ name, value }) => ({ name, value: value - (this.#iotlbBaseline.get(name) ?? 0) })),
      { name: 'iotlb_read_entries', value: statistics.readEntries },
      { name: 'iotlb_write_entries', value: statistics.writeEntries },
    ];
  }

  override resetExtendedStatistics(): void {
    super.resetExtendedStatistics();
    this.#iotlbBaseline = new Map(this.#iotlbCounters().map(({ name, value }) => [name, value]));
  }

  override extendedStatistics(): readonly ExtendedStatistic[] {
    const details = (direction: 'rx' | 'tx', index: number, queue: DeviceQueue): ExtendedStatistic[] => [
      ...queueDetails(direction, index, queue, false),
      { name: `${direction}_q${String(index)}_guest_notifications`, value: notifications(queue) },
    ];
    return [
      ...basicExtended(this.statistics()),
      ...queueBasics(this.rxQueues, this.txQueues),
      ...this.rxQueues.flatMap((queue, index) => details('rx', index, queue)),
      ...this.txQueues.flatMap((queue, index) => [...details('tx', index, queue), oversize(index, queue)]),
      ...this.#iotlbStatistics(),
    ];
  }

  override rxQueueCount(index: number): number {
    const queue = this.rxQueue(index);
    if (queue === undefined) throw this.error('EINVAL', `there is no rx queue ${String(index)}`);
    return queue.get(Q_STATE) === QUEUE_RUNNING ? availableBuffers(this.context.arena.views, queue) : 0;
  }

  protected override queueGivenUp(direction: 'rx' | 'tx', index: number, text: string): void {
    super.queueGivenUp(direction, index, `the front-end behind (${this.#path}) broke the ring: ${text}; restart it`);
    this.#device.signalError(direction === 'tx' ? 2 * index : 2 * index + 1);
  }

  protected makeRxQueue(index: number, configuration: RxQueueConfiguration): { queue: DeviceQueue; descriptors: number } {
    const queue = new DeviceQueue(this.context.arena, {
      name: `rx queue ${String(index)} of ${this.name}`,
      port: this.id,
      pool: configuration.pool.offset,
    });
    return { queue, descriptors: configuration.descriptors };
  }

  protected makeTxQueue(index: number, configuration: TxQueueConfiguration): { queue: DeviceQueue; descriptors: number } {
    const queue = new DeviceQueue(this.context.arena, { name: `tx queue ${String(index)} of ${this.name}`, port: this.id });
    return { queue, descriptors: configuration.descriptors };
  }

  protected async startDevice(): Promise<void> {
    await this.#device.queuesReplaced();
    await this.#device.setPortStarted(true);
  }

  protected async stopDevice(): Promise<void> {
    await this.#device.setPortStarted(false);
  }

  protected async closeDevice(): Promise<void> {
    await this.#device.close();
  }
}

function create(context: PortContext, id: number, devargs: Devargs): Promise<VhostPort> {
  const args = readDevargs(devargs, KEYS);
  const { name } = devargs;
  for (const [key, what] of Object.entries(UNSUPPORTED)) {
    if (args.flag(key, false))
      throw new VirtioError(`${name}: ${key}=1: ${what} is not supported yet; leave it out`, { code: 'EOPNOTSUPP' });
  }
  const options = {
    id,
    name,
    devargs: devargs.text,
    path: args.required('iface'),
    client: args.flag('client', false),
    queuePairs: args.unsigned('queues', { min: 1, max: QUEUE_PAIR_LIMIT, default: 1 }),
    segmentation: args.flag('tso', false),
    iommu: args.flag('iommu-support', false),
  };
  return Promise.resolve(new VhostPort(context, options));
}

export const vhost: PortDriver = { name: 'net_vhost', aliases: ['eth_vhost'], serves: true, agreesOnQueues: true, create };
