/**
 * net_tap: an interface of the kernel that the port itself makes, and whose other end it is.
 *
 * A descriptor of /dev/net/tun a queue, and a read or a write a packet. The interface is there as long as the port, up while the
 * port is started, and goes with it unless `persist` is given. Properties (address, MTU, promiscuous mode) are the interface's own.
 * @module
 */
import { readFileSync } from 'node:fs';
import { MBUF_HEADROOM, MBUF_WORK_CHECKSUM, MBUF_WORK_ECN, MBUF_WORK_TCP4, MBUF_WORK_TCP6, MBUF_WORK_UDP } from '../memory/mbuf-layout.ts';
import type { MacAddress } from '../net/mac-address.ts';
import { NET_HEADER_BYTES } from '../net/virtio-net-header.ts';
import { Q_HEADER, Q_INTERRUPT_FD, Q_NOTIFY_FD, Q_OFFLOADS, Q_POOL } from '../ring/queue-layout.ts';
import { TAP_CUT, TAP_DIRECT, TAP_SCRATCH, TAP_SCRATCH_BYTES, TAP_SPARE } from '../ring/tap-queue.kernel.ts';
import { MAIN_LCORE_SLOT, QueueState } from '../ring/virtqueue.ts';
import { VirtioError } from '../system/error.ts';
import { IFF_RUNNING, IFF_UP, NetworkInterface } from '../system/network-interface.ts';
import { checkTapName, Tap, TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6, TUN_F_TSO_ECN, TUN_F_USO4, TUN_F_USO6 } from '../system/tap.ts';
import { BasePort } from './base-port.ts';
import type { PortContext } from './context.ts';
import { readDevargs, type Devargs, type DevargsReader } from './devargs.ts';
import type { PortDriver } from './drivers.ts';
import {
  RX_OFFLOAD_SCATTER,
  RX_OFFLOAD_TCP_CKSUM,
  RX_OFFLOAD_TCP_LRO,
  RX_OFFLOAD_UDP_CKSUM,
  TX_OFFLOAD_MULTI_SEGS,
  TX_OFFLOAD_TCP_CKSUM,
  TX_OFFLOAD_TCP_TSO,
  TX_OFFLOAD_UDP_CKSUM,
  TX_OFFLOAD_UDP_TSO,
} from './offloads.ts';
import type { Link, PortConfiguration, PortInfo, PortStatistics, RxQueueConfiguration, TxQueueConfiguration } from './port.ts';
import { SOFTWARE_PORT_INFO } from './software-port-info.ts';

const KEYS = ['iface', 'mac', 'remote', 'persist'];
/** RTE_PMD_TAP_MAX_QUEUES of DPDK. */
const QUEUE_LIMIT = 16;
/** What a tap of the kernel takes. */
const MTU_LIMIT = 65521;
const ETHERNET_BYTES = 14;
const VLAN_BYTES = 4;
const LONGEST = 65535;
/** Header and packet, and something behind it by which a longer one is known. */
const SCRATCH_BYTES = LONGEST + NET_HEADER_BYTES + 53;
const LOOK_MILLISECONDS = 100;
const IFF_PROMISC = 0x100;
const IFF_ALLMULTI = 0x200;

const RX_CHECKSUM = RX_OFFLOAD_UDP_CKSUM | RX_OFFLOAD_TCP_CKSUM;
const TX_CHECKSUM = TX_OFFLOAD_UDP_CKSUM | TX_OFFLOAD_TCP_CKSUM;
const WORK_TCP = MBUF_WORK_TCP4 | MBUF_WORK_TCP6 | MBUF_WORK_ECN;

interface TapPortOptions {
  readonly id: number;
  readonly name: string;
  readonly devargs: string;
  readonly tap: Tap;
  /** The kernel knows UDP segmentation. */
  readonly udpSegments: boolean;
}

/** A queue with room for one packet. */
class TapQueue extends QueueState {
  readonly #release: () => void;

  constructor(context: PortContext, name: string, port: number) {
    super(context.arena, name, port);
    const { own, published } = context.arena;
    // the own part is small, and one packet of room harms nobody among the packets
    const zone = own.freeBytes > 8 * SCRATCH_BYTES ? own : published;
    try {
      const offset = zone.allocate(SCRATCH_BYTES, 64, `the packet room of ${name}`);
      this.#release = () => {
        zone.release(offset);
      };
      this.set(TAP_SCRATCH, offset);
      this.set(TAP_SCRATCH_BYTES, SCRATCH_BYTES);
      this.set(Q_HEADER, NET_HEADER_BYTES);
    } catch (error) {
      super.close();
      throw error;
    }
  }

  override close(): void {
    if (this.get(TAP_SCRATCH) === 0) return;
    this.set(TAP_SCRATCH, 0);
    this.#release();
    super.close();
  }
}

class TapPort extends BasePort<TapQueue> {
  readonly info: PortInfo;
  protected readonly queueKind = 'tap';
  protected override readonly filtersNothing = false;
  readonly #tap: Tap;
  readonly #udpSegments: boolean;
  readonly #interface: NetworkInterface;
  /** Queues beyond the first. */
  #more: Tap | undefined;
  #look: NodeJS.Timeout | undefined;
  #running = false;
  #up = false;
  #gone = false;
  #interfaceMtu: number;
  #promiscuous = false;
  #allMulticast = false;
  #pieces: number[] = [];
  #cutSaid = false;
  #missedBefore: number;

  constructor(context: PortContext, options: TapPortOptions) {
    super(context, { ...options, mac: options.tap.mac });
    this.#tap = options.tap;
    this.#udpSegments = options.udpSegments;
    this.#interface = new NetworkInterface(options.tap.name);
    this.#interfaceMtu = this.#interface.mtu() ?? 1500;
    this.#missedBefore = missedBy(options.tap.name);
    this.info = {
      ...SOFTWARE_PORT_INFO,
      driverName: 'net_tap',
      maxRxQueues: QUEUE_LIMIT,
      maxTxQueues: QUEUE_LIMIT,
      maxRxPacketLength: LONGEST,
      maxLroPacketSize: LONGEST,
      maxMtu: MTU_LIMIT,
      rxOffloadCapabilities: RX_CHECKSUM | RX_OFFLOAD_TCP_LRO | RX_OFFLOAD_SCATTER,
      txOffloadCapabilities: TX_CHECKSUM | TX_OFFLOAD_TCP_TSO | (options.udpSegments ? TX_OFFLOAD_UDP_TSO : 0) | TX_OFFLOAD_MULTI_SEGS,
    };
  }

  link(): Link {
    return { up: this.#up && this.state === 'started', speed: 10_000, fullDuplex: true, autonegotiation: false };
  }

  /** Takes the interface itself up or down. */
  override async setLink(up: boolean): Promise<void> {
    this.#setFlags(IFF_UP, up);
    if (this.state === 'started') await this.#lookAtInterface();
  }

  override get promiscuous(): boolean {
    return this.#promiscuous;
  }

  override get allMulticast(): boolean {
    return this.#allMulticast;
  }

  override setPromiscuous(on: boolean): Promise<void> {
    this.#setFlags(IFF_PROMISC, on);
    this.#promiscuous = on;
    return Promise.resolve();
  }

  override setAllMulticast(on: boolean): Promise<void> {
    this.#setFlags(IFF_ALLMULTI, on);
    this.#allMulticast = on;
    return Promise.resolve();
  }

  /** The interface's own. */
  override get mtu(): number {
    return this.#interfaceMtu;
  }

  override async setMtu(mtu: number): Promise<void> {
    await super.setMtu(mtu);
    this.#tap.setMtu(mtu);
    this.#readMtu();
  }

  override async setMac(mac: MacAddress): Promise<void> {
    const before = this.mac;
    await super.setMac(mac);
    try {
      this.#tap.setMac(mac);
    } catch (error) {
      await super.setMac(before);
      throw error;
    }
  }

  override async configure(configuration: PortConfiguration): Promise<void> {
    await super.configure(configuration);
    this.#attachQueues(Math.max(1, configuration.rxQueues));
    this.#tap.setOffloads(this.#tapOffloads(configuration.rxOffloads));
    const { mtu } = configuration;
    if (mtu !== undefined && mtu !== this.#interfaceMtu) await this.setMtu(mtu);
  }

  override statistics(): PortStatistics {
    return { ...super.statistics(), rxMissed: Math.max(0, missedBy(this.#tap.name) - this.#missedBefore) };
  }

  override resetStatistics(): void {
    this.#missedBefore = missedBy(this.#tap.name);
    super.resetStatistics();
  }

  protected makeRxQueue(index: number, configuration: RxQueueConfiguration): { queue: TapQueue; descriptors: number } {
    const queue = new TapQueue(this.context, `rx queue ${String(index)} of ${this.name}`, this.id);
    const offloads = this.configuration?.rxOffloads ?? 0;
    this.#pieces[index] = configuration.pool.dataRoom - MBUF_HEADROOM;
    queue.set(Q_POOL, configuration.pool.offset);
    queue.set(
      Q_OFFLOADS,
      ((offloads & RX_CHECKSUM) !== 0 ? MBUF_WORK_CHECKSUM : 0) |
        ((offloads & RX_OFFLOAD_TCP_LRO) !== 0 ? MBUF_WORK_CHECKSUM | WORK_TCP | (this.#udpSegments ? MBUF_WORK_UDP : 0) : 0),
    );
    return { queue, descriptors: configuration.descriptors };
  }

  protected makeTxQueue(index: number, configuration: TxQueueConfiguration): { queue: TapQueue; descriptors: number } {
    const queue = new TapQueue(this.context, `tx queue ${String(index)} of ${this.name}`, this.id);
    const offloads = this.configuration?.txOffloads ?? 0;
    const segments = ((offloads & TX_OFFLOAD_TCP_TSO) !== 0 ? WORK_TCP : 0) | ((offloads & TX_OFFLOAD_UDP_TSO) !== 0 ? MBUF_WORK_UDP : 0);
    queue.set(Q_OFFLOADS, segments | ((offloads & TX_CHECKSUM) !== 0 || segments !== 0 ? MBUF_WORK_CHECKSUM : 0));
    return { queue, descriptors: configuration.descriptors };
  }

  protected override emptyQueue(queue: TapQueue): void {
    const spare = queue.get(TAP_SPARE);
    if (spare !== 0) this.context.main.kernels.packetFree(spare, MAIN_LCORE_SLOT);
    queue.set(TAP_SPARE, 0);
  }

  protected async startDevice(): Promise<void> {
    if (!this.#tap.exists) throw this.error('ENODEV', `the interface ${this.#tap.name} was removed; close the port and open it again`);
    const descriptors = [...this.#tap.queues, ...(this.#more?.queues ?? [])];
    for (const queues of [this.rxQueues, this.txQueues])
      for (const [index, queue] of queues.entries()) queue.set(Q_NOTIFY_FD, descriptors[index % descriptors.length] ?? 0);
    for (const queue of this.rxQueues) queue.set(Q_INTERRUPT_FD, queue.get(Q_NOTIFY_FD));
    this.#setFlags(IFF_UP, true);
    this.#cutSaid = false;
    await this.#lookAtInterface();
    this.#look = setInterval(() => {
      void this.#lookAtInterface();
    }, LOOK_MILLISECONDS).unref();
  }

  protected async stopDevice(): Promise<void> {
    clearInterval(this.#look);
    await this.#run(false);
    this.#up = false;
    if (!this.#gone) this.#setFlags(IFF_UP, false);
  }

  protected closeDevice(): Promise<void> {
    this.#interface.close();
    this.#more?.close();
    this.#tap.close();
    return Promise.resolve();
  }

  /** Makes the tap one of so many queues: each has its share of the packets, and so somebody has to read it. */
  #attachQueues(count: number): void {
    if (count - 1 === (this.#more?.queues.length ?? 0)) return;
    this.#more?.close();
    this.#more = undefined;
    if (count === 1) return;
    this.#more = new Tap({ name: this.#tap.name, queues: count - 1, virtioHeader: true, multiQueue: true });
  }

  #tapOffloads(rxOffloads: number): number {
    const large = (rxOffloads & RX_OFFLOAD_TCP_LRO) !== 0;
    const udp = large && this.#udpSegments ? TUN_F_USO4 | TUN_F_USO6 : 0;
    return large ? TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN | udp : (rxOffloads & RX_CHECKSUM) !== 0 ? TUN_F_CSUM : 0;
  }

  /** Sets or clears an IFF_*; where another namespace has the interface, or another user, what can be done is what it is. */
  #setFlags(flag: number, on: boolean): void {
    try {
      const before = this.#interface.flags();
      if (before === undefined || ((before & flag) !== 0) === on) return;
      this.#interface.setFlags(on ? flag : 0, on ? 0 : flag);
    } catch (error) {
      this.context.log(`${this.name}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  #readMtu(): void {
    this.#interfaceMtu = this.#interface.mtu() ?? this.#interfaceMtu;
    const large = ((this.configuration?.rxOffloads ?? 0) & RX_OFFLOAD_TCP_LRO) !== 0;
    const longest = this.#interfaceMtu + ETHERNET_BYTES + VLAN_BYTES;
    for (const [index, queue] of this.rxQueues.entries()) queue.set(TAP_DIRECT, !large && longest < (this.#pieces[index] ?? 0) ? 1 : 0);
  }

  async #run(run: boolean): Promise<void> {
    if (run === this.#running) return;
    this.#running = run;
    await this.runQueues(run);
  }

  /** What has become of the interface since the last look. */
  async #lookAtInterface(): Promise<void> {
    if (this.state !== 'started') return;
    const before = this.#up;
    const flags = this.#interface.flags();
    const exists = this.#tap.exists;
    // under another name, or in another namespace, it goes on to work
    this.#up = exists && (flags === undefined || (flags & (IFF_UP | IFF_RUNNING)) === (IFF_UP | IFF_RUNNING));
    if (!exists && !this.#gone) {
      this.#gone = true;
      this.context.log(`${this.name}: the interface ${this.#tap.name} was removed; close the port and open it again`);
    }
    this.#readMtu();
    this.#explainCuts();
    if (this.#up !== before) {
      this.emit({ type: 'intr_lsc' });
      await this.#run(this.#up);
    }
  }

  #explainCuts(): void {
    if (this.#cutSaid || !this.rxQueues.some((queue) => queue.get(TAP_CUT) !== 0)) return;
    this.#cutSaid = true;
    this.context.log(`${this.name}: packets longer than the MTU of ${this.#tap.name} allows were dropped`);
  }
}

/** Packets that the kernel had for us and no room in the tap's queue; 0 where nothing is known of the interface. */
function missedBy(name: string): number {
  try {
    const line = readFileSync('/proc/self/net/dev', 'utf8')
      .split('\n')
      .find((text) => text.trimStart().startsWith(`${name}:`));
    // received: 8 columns; sent: bytes, packets, errors, drop
    return Number(
      line
        ?.slice(line.indexOf(':') + 1)
        .trim()
        .split(/\s+/)[11] ?? 0,
    );
  } catch {
    return 0;
  }
}

/** The address asked for: `mac=fixed` is "dtap" in ASCII behind 02, and the number of the device as a digit; undefined: the kernel's choice. */
function macOf(args: DevargsReader): MacAddress | undefined {
  if (!args.has('mac')) return undefined;
  if (args.string('mac') !== 'fixed') return args.mac('mac');
  const digit = Number(/\d+$/.exec(args.name)?.[0] ?? 0) & 0xff;
  return Uint8Array.of(0x02, 0x64, 0x74, 0x61, 0x70, (0x30 + digit) & 0xff);
}

function create(context: PortContext, id: number, devargs: Devargs): Promise<TapPort> {
  const args = readDevargs(devargs, KEYS);
  const { name } = devargs;
  if (args.has('remote')) {
    throw new VirtioError(
      `${name}: remote=${args.string('remote') ?? ''}: mirroring another interface takes traffic rules of the kernel that are not supported; ` +
        `for the interface itself use --vdev=net_af_packet0,iface=${args.string('remote') ?? 'NAME'}`,
      { code: 'EOPNOTSUPP' },
    );
  }
  const mac = macOf(args);
  const iface = args.string('iface');
  if (iface !== undefined) checkTapName(`${name}: iface`, iface);
  const persist = args.flag('persist', false);
  let tap: Tap;
  try {
    tap = new Tap({ name: iface, prefix: 'dtap', queues: 1, virtioHeader: true, multiQueue: true });
  } catch (error) {
    if (!(error instanceof VirtioError)) throw error;
    throw new VirtioError(`${name}: ${error.message}`, { code: error.code, syscall: error.syscall, errno: error.errno, cause: error });
  }
  try {
    tap.setHeaderBytes(NET_HEADER_BYTES);
    if (mac !== undefined) tap.setMac(mac);
    const udpSegments = tap.knowsUdpSegments();
    if (persist) tap.setPersistent(true);
    return Promise.resolve(new TapPort(context, { id, name, devargs: devargs.text, tap, udpSegments }));
  } catch (error) {
    tap.close();
    throw error;
  }
}

export const tapDriver: PortDriver = { name: 'net_tap', aliases: ['eth_tap'], serves: false, agreesOnQueues: false, create };
