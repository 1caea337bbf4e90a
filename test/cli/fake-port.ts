/**
 * Ports and lcores in memory: what a session can be tried on without rings.
 */
import type { CsumSettings, ForwardingPlan, Lcores, Stream, StreamCounters } from '../../src/lcore/forwarding-plan.ts';
import type { Latency } from '../../src/net/latency.ts';
import type { MacAddress } from '../../src/net/mac-address.ts';
import { formatMac, parseMac } from '../../src/net/mac-address.ts';
import type {
  DescriptorStatus,
  ExtendedStatistic,
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
} from '../../src/port/port.ts';
import type { QueueHandle } from '../../src/port/queue.ts';
import { VirtioError } from '../../src/system/error.ts';

const rssFlowTypes =
  'ipv4 ipv4-frag ipv4-tcp ipv4-udp ipv4-sctp ipv4-other ipv6 ipv6-frag ipv6-tcp ipv6-udp ipv6-sctp ipv6-other l2-payload ipv6-ex ipv6-tcp-ex ipv6-udp-ex port vxlan geneve nvgre mpls'.split(
    ' ',
  );

/** net_null as DPDK 22.11 describes it. */
export const nullInfo: PortInfo = {
  driverName: 'net_null',
  maxRxQueues: 1024,
  maxTxQueues: 1024,
  minRxBufferSize: 0,
  maxRxPacketLength: 4294967295,
  maxLroPacketSize: 0,
  minMtu: 46,
  maxMtu: 65535,
  maxMacAddresses: 1,
  maxHashMacAddresses: 0,
  rxDescriptors: { min: 0, max: 65535, align: 1 },
  txDescriptors: { min: 0, max: 65535, align: 1 },
  redirectionTableSize: 128,
  hashKeySize: 0,
  rssFlowTypes,
  rxOffloadCapabilities: 0,
  txOffloadCapabilities: 0,
  maxSegmentsPerPacket: 65535,
  maxSegmentsPerMtu: 65535,
};

/** virtio_user with one queue pair. */
export const virtioUserInfo: PortInfo = {
  ...nullInfo,
  driverName: 'net_virtio_user',
  maxRxQueues: 1,
  maxTxQueues: 1,
  minRxBufferSize: 64,
  maxRxPacketLength: 9728,
  minMtu: 68,
  maxMtu: 9698,
  maxMacAddresses: 64,
  rxDescriptors: { min: 32, max: 32768, align: 1 },
  txDescriptors: { min: 32, max: 32768, align: 1 },
  redirectionTableSize: 0,
  rssFlowTypes: [],
  rxOffloadCapabilities: 0x201d,
  txOffloadCapabilities: 0x800d,
};

export const zero: PortStatistics = {
  rxPackets: 0,
  rxBytes: 0,
  rxMissed: 0,
  rxErrors: 0,
  rxNoMbuf: 0,
  txPackets: 0,
  txBytes: 0,
  txErrors: 0,
};

function unsupported(what: string): Promise<never> {
  return Promise.reject(new VirtioError(`net_null: ${what} is fixed`, { code: 'EOPNOTSUPP' }));
}

export class FakePort implements Port {
  readonly id: number;
  readonly name: string;
  readonly devargs: string;
  readonly bus = 'vdev';
  readonly info: PortInfo;
  state: PortState = 'stopped';
  mac: MacAddress;
  mtu = 1500;
  promiscuous = true;
  allMulticast = true;
  configuration: PortConfiguration | undefined;
  counters: PortStatistics = zero;
  extended: readonly ExtendedStatistic[] = [{ name: 'rx_good_packets', value: 0 }];
  fixedLink: Partial<Link> = {};
  queueInfo: QueueInfo | undefined;
  addresses: readonly MacAddress[] = [];
  multicastAddresses: readonly MacAddress[] = [];
  readonly vlans = new Set<number>();
  /** Undefined: packets are not spread by a hash. */
  hash: RssState | undefined;
  table: readonly number[] = [];
  /** Calls whose names are here fail. */
  readonly failing = new Map<string, Error>();
  readonly calls: string[] = [];
  readonly #listeners = new Set<(event: PortEvent) => void>();

  constructor(id: number, options: { name?: string; devargs?: string; info?: PortInfo; mac?: string } = {}) {
    this.id = id;
    this.name = options.name ?? `net_null${id}`;
    this.devargs = options.devargs ?? '';
    this.info = options.info ?? nullInfo;
    this.mac = parseMac(options.mac ?? `02:00:00:00:01:0${id}`) ?? new Uint8Array(6);
  }

  #call(name: string): Promise<void> {
    this.calls.push(name);
    const error = this.failing.get(name);
    return error === undefined ? Promise.resolve() : Promise.reject(error);
  }

  async configure(configuration: PortConfiguration): Promise<void> {
    this.configuration = undefined;
    await this.#call('configure');
    this.configuration = configuration;
    this.mtu = configuration.mtu ?? 1500;
  }
  setupRxQueue(queue: number, { descriptors }: RxQueueConfiguration): Promise<void> {
    return this.#call(`rxq ${queue} ${descriptors}`);
  }
  setupTxQueue(queue: number, { descriptors }: TxQueueConfiguration): Promise<void> {
    return this.#call(`txq ${queue} ${descriptors}`);
  }
  rxQueueInfo(): QueueInfo | undefined {
    return this.queueInfo;
  }
  txQueueInfo(): QueueInfo | undefined {
    return this.queueInfo;
  }
  async start(): Promise<void> {
    await this.#call('start');
    this.state = 'started';
  }
  async stop(): Promise<void> {
    await this.#call('stop');
    this.state = 'stopped';
  }
  async close(): Promise<void> {
    if (this.state === 'closed') return;
    this.state = 'closed';
    await this.#call('close');
  }
  reset(): Promise<void> {
    return this.failing.has('reset') ? this.#call('reset') : unsupported('what can be reset');
  }
  stopQueue(direction: 'rx' | 'tx', queue: number): Promise<void> {
    return this.#call(`stop ${direction} ${queue}`);
  }
  startQueue(direction: 'rx' | 'tx', queue: number): Promise<void> {
    return this.#call(`start ${direction} ${queue}`);
  }
  rxQueueCount(queue: number): number {
    if (queue > 0) throw new VirtioError('net_null: no such queue', { code: 'EINVAL' });
    return 17;
  }
  descriptorStatus(direction: 'rx' | 'tx', queue: number, offset: number): DescriptorStatus {
    if (queue > 0) throw new VirtioError('net_null: no such queue', { code: 'EINVAL' });
    return offset > 3 ? 'unavailable' : offset > 1 ? 'done' : direction === 'rx' ? 'available' : 'full';
  }
  link(): Link {
    return { up: this.state === 'started', speed: 10000, fullDuplex: true, autonegotiation: false, ...this.fixedLink };
  }
  setLink(): Promise<void> {
    return unsupported('the link');
  }
  setPromiscuous(): Promise<void> {
    return this.#call('promiscuous');
  }
  setAllMulticast(): Promise<void> {
    return this.#call('allmulticast');
  }
  async setMtu(mtu: number): Promise<void> {
    await this.#call('mtu');
    this.mtu = mtu;
  }
  async setMac(mac: MacAddress): Promise<void> {
    await this.#call('mac');
    this.mac = mac;
  }
  get macAddresses(): readonly MacAddress[] {
    return [this.mac, ...this.addresses];
  }
  async addMac(mac: MacAddress): Promise<void> {
    await this.#call('add mac');
    this.addresses = [...this.addresses, mac];
  }
  async removeMac(mac: MacAddress): Promise<void> {
    await this.#call('remove mac');
    this.addresses = this.addresses.filter((known) => formatMac(known) !== formatMac(mac));
  }
  async setMulticastAddresses(addresses: readonly MacAddress[]): Promise<void> {
    await this.#call('multicast');
    this.multicastAddresses = addresses;
  }
  async setVlanFilter(vlan: number, on: boolean): Promise<void> {
    await this.#call('vlan filter');
    if (on) this.vlans.add(vlan);
    else this.vlans.delete(vlan);
  }
  rss(): RssState {
    if (this.hash === undefined) throw new VirtioError(`${this.name}: packets are not spread by a hash`, { code: 'EOPNOTSUPP' });
    return this.hash;
  }
  async updateRss(change: Partial<RssState>): Promise<void> {
    await this.#call('rss');
    this.hash = { ...this.rss(), ...change };
  }
  rssTable(): readonly number[] {
    this.rss();
    return this.table;
  }
  async updateRssTable(entries: readonly (number | undefined)[]): Promise<void> {
    await this.#call('rss table');
    this.table = this.table.map((queue, index) => entries[index] ?? queue);
  }
  setInterruptCoalescing(): Promise<void> {
    return unsupported('interrupt coalescing');
  }
  async setVlanOffloads(rxOffloads: number): Promise<void> {
    await this.#call('vlan offloads');
    if (this.configuration !== undefined) this.configuration = { ...this.configuration, rxOffloads };
  }
  statistics(): PortStatistics {
    return this.counters;
  }
  resetStatistics(): void {
    this.counters = zero;
  }
  extendedStatistics(): readonly ExtendedStatistic[] {
    return this.extended;
  }
  resetExtendedStatistics(): void {
    this.counters = zero;
  }
  onEvent(listener: (event: PortEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
  emit(event: PortEvent): void {
    for (const listener of this.#listeners) listener(event);
  }
  rxQueueHandle(queue: number): QueueHandle {
    return { kind: 'null', port: this.id, queue, state: 0 };
  }
  txQueueHandle(queue: number): QueueHandle {
    return { kind: 'null', port: this.id, queue, state: 0 };
  }
  rxInterrupt(): undefined {
    return undefined;
  }

  rxBurst(): number {
    return 0;
  }
  txBurst(): number {
    return 0;
  }
  txDoneCleanup(): void {
    // nothing was sent
  }
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

const noCounters: StreamCounters = { rxPackets: 0, txPackets: 0, dropped: 0, noMbuf: 0, badIp: 0, badTransport: 0, unsent: 0, late: 0 };

export class FakeLcores implements Lcores {
  readonly forwarding: readonly number[];
  running = false;
  plan: ForwardingPlan | undefined;
  current: readonly StreamCounters[] = [];
  failing: Error | undefined;

  constructor(forwarding: readonly number[] = [1]) {
    this.forwarding = forwarding;
  }

  start(plan: ForwardingPlan): Promise<void> {
    if (this.failing !== undefined) return Promise.reject(this.failing);
    this.plan = plan;
    this.running = true;
    this.current = plan.streams.map(() => ({ ...noCounters }));
    return Promise.resolve();
  }
  stop(): Promise<void> {
    this.running = false;
    return Promise.resolve();
  }
  counters(): readonly StreamCounters[] {
    return this.current;
  }
  verbose = 0;

  rate = 0;

  setTxRate(rate: number): void {
    this.rate = rate;
  }

  setVerbose(level: number): void {
    this.verbose = level;
  }

  recorded: readonly (Latency | undefined)[] = [];

  latency(): readonly (Latency | undefined)[] {
    return this.recorded;
  }

  sleeps(): [] {
    return [];
  }

  clearCounters(): void {
    this.current = this.current.map(() => ({ ...noCounters }));
  }

  csum: ((stream: Stream) => CsumSettings) | undefined;

  setCsum(settings: (stream: Stream) => CsumSettings): void {
    this.csum = settings;
  }
  close(): Promise<void> {
    this.running = false;
    return Promise.resolve();
  }
}
