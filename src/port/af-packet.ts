/**
 * net_af_packet: a network interface of the kernel, through packet sockets whose rings lie in the arena.
 *
 * The sockets live while the port is started and the interface is up: one that goes down, or is deleted and made anew, takes
 * them down and brings them up again, and the link says so. What is set for a socket (promiscuous mode) ends with it.
 * @module
 */
import { writeSync } from 'node:fs';
import type { MacAddress } from '../net/mac-address.ts';
import {
  FRAME_RECEIVE_OVERHEAD,
  FRAME_STATUS,
  PACKET_BLOCK_BYTES,
  PACKET_BLOCK_FRAMES,
  PACKET_CUT,
  PACKET_FRAME_BYTES,
  PACKET_FRAMES,
  PACKET_LONGEST,
  PACKET_NEXT,
  PACKET_RING,
  TP_STATUS_SEND_REQUEST,
  TP_STATUS_USER,
} from '../ring/packet-ring-layout.ts';
import { Q_FREE, Q_NOTIFY, Q_NOTIFY_FD, Q_POOL } from '../ring/queue-layout.ts';
import { NO_DESCRIPTOR, QueueState } from '../ring/virtqueue.ts';
import { VirtioError } from '../system/error.ts';
import { pageSize } from '../system/memory-map.ts';
import {
  ARPHRD_ETHER,
  ARPHRD_LOOPBACK,
  checkInterfaceName,
  IFF_RUNNING,
  IFF_UP,
  interfaceNames,
  NetworkInterface,
} from '../system/network-interface.ts';
import { type FanoutGroup, PACKET_MR_ALLMULTI, PACKET_MR_PROMISC, type PacketRingShape, PacketSocket } from '../system/packet-socket.ts';
import { BasePort } from './base-port.ts';
import type { PortContext } from './context.ts';
import { nearestName, readDevargs, type Devargs, type DevargsReader } from './devargs.ts';
import type { PortDriver } from './drivers.ts';
import { RX_OFFLOAD_SCATTER, TX_OFFLOAD_MULTI_SEGS } from './offloads.ts';
import type {
  ExtendedStatistic,
  Link,
  PortConfiguration,
  PortInfo,
  PortStatistics,
  RxQueueConfiguration,
  TxQueueConfiguration,
} from './port.ts';
import { SOFTWARE_PORT_INFO } from './software-port-info.ts';
import { basicExtended, queueBasics } from './statistics.ts';

const KEYS = ['iface', 'qpairs', 'blocksz', 'framesz', 'framecnt', 'qdisc_bypass'];
/** RTE_PMD_AF_PACKET_MAX_RINGS of DPDK. */
const QUEUE_PAIR_LIMIT = 16;
/** Frame sizes are multiples of this (TPACKET_ALIGNMENT). */
const FRAME_ALIGNMENT = 16;
const FRAME_LEAST = 128;
const ETHERNET_BYTES = 14;
const VLAN_BYTES = 4;
/** How often the interface is looked at. */
const LOOK_MILLISECONDS = 100;
const KICK = new Uint8Array(1);

interface AfPacketOptions {
  readonly id: number;
  readonly name: string;
  readonly devargs: string;
  readonly networkInterface: NetworkInterface;
  readonly mac: MacAddress;
  readonly queuePairs: number;
  readonly shape: PacketRingShape;
  readonly qdiscBypass: boolean;
}

/** A socket and its two rings in the arena. */
interface Pair {
  readonly socket: PacketSocket;
  readonly offset: number;
}

class AfPacketPort extends BasePort {
  readonly info: PortInfo;
  protected readonly queueKind = 'packet-ring';
  protected override readonly filtersNothing = false;
  readonly #options: AfPacketOptions;
  readonly #interface: NetworkInterface;
  /** Starting, stopping and looking, one after the other. */
  #work: Promise<void> = Promise.resolve();
  #pairs: readonly Pair[] = [];
  /** Number of the interface that the sockets are bound to. */
  #bound: number | undefined;
  #up = false;
  #interfaceMtu: number;
  #promiscuous = false;
  #allMulticast = false;
  #look: NodeJS.Timeout | undefined;
  #said = '';
  #cutSaid = false;
  /** Packets that the kernel found no free frame for, and packets that were in the ring when the interface went. */
  #missed = 0;
  #lost = 0;

  constructor(context: PortContext, options: AfPacketOptions) {
    super(context, options);
    this.#options = options;
    this.#interface = options.networkInterface;
    this.#interfaceMtu = this.#interface.mtu() ?? 1500;
    const longest = options.shape.frameBytes - FRAME_RECEIVE_OVERHEAD;
    this.info = {
      ...SOFTWARE_PORT_INFO,
      driverName: 'net_af_packet',
      maxRxQueues: options.queuePairs,
      maxTxQueues: options.queuePairs,
      maxRxPacketLength: longest,
      maxMtu: Math.min(65535, longest - ETHERNET_BYTES - VLAN_BYTES),
      rxOffloadCapabilities: RX_OFFLOAD_SCATTER,
      txOffloadCapabilities: TX_OFFLOAD_MULTI_SEGS,
    };
  }

  link(): Link {
    return { up: this.#up && this.state === 'started', speed: 10_000, fullDuplex: true, autonegotiation: false };
  }

  /** Takes the interface itself up or down. */
  override async setLink(up: boolean): Promise<void> {
    this.#interface.setFlags(up ? IFF_UP : 0, up ? 0 : IFF_UP);
    if (this.state === 'started') await this.#enqueue(() => this.#lookAtInterface());
  }

  override get promiscuous(): boolean {
    return this.#promiscuous;
  }

  override get allMulticast(): boolean {
    return this.#allMulticast;
  }

  override setPromiscuous(on: boolean): Promise<void> {
    return this.#enqueue(() => {
      if (on !== this.#promiscuous) this.#setMembership(PACKET_MR_PROMISC, on);
      this.#promiscuous = on;
    });
  }

  override setAllMulticast(on: boolean): Promise<void> {
    return this.#enqueue(() => {
      if (on !== this.#allMulticast) this.#setMembership(PACKET_MR_ALLMULTI, on);
      this.#allMulticast = on;
    });
  }

  /** The interface's own. */
  override get mtu(): number {
    return this.#interfaceMtu;
  }

  override async setMtu(mtu: number): Promise<void> {
    await super.setMtu(mtu);
    this.#interface.setMtu(mtu);
    this.#readMtu();
  }

  override async setMac(mac: MacAddress): Promise<void> {
    const before = this.mac;
    await super.setMac(mac);
    try {
      this.#interface.setAddress(mac);
    } catch (error) {
      await super.setMac(before);
      throw error;
    }
  }

  override async configure(configuration: PortConfiguration): Promise<void> {
    await super.configure(configuration);
    const { mtu } = configuration;
    if (mtu !== undefined && mtu !== this.#interface.mtu()) await this.setMtu(mtu);
  }

  override statistics(): PortStatistics {
    this.#takeDrops();
    const statistics = super.statistics();
    return { ...statistics, rxMissed: this.#missed, txErrors: statistics.txErrors + this.#lost };
  }

  override resetStatistics(): void {
    this.#takeDrops();
    this.#missed = 0;
    this.#lost = 0;
    super.resetStatistics();
  }

  override resetExtendedStatistics(): void {
    this.resetStatistics();
    super.resetExtendedStatistics();
  }

  override extendedStatistics(): readonly ExtendedStatistic[] {
    return [...basicExtended(this.statistics()), ...queueBasics(this.rxQueues, this.txQueues)];
  }

  protected makeRxQueue(index: number, configuration: RxQueueConfiguration): { queue: QueueState; descriptors: number } {
    const queue = this.#makeQueue('rx', index);
    queue.set(Q_POOL, configuration.pool.offset);
    return { queue, descriptors: this.#options.shape.frames };
  }

  protected makeTxQueue(index: number, _configuration: TxQueueConfiguration): { queue: QueueState; descriptors: number } {
    return { queue: this.#makeQueue('tx', index), descriptors: this.#options.shape.frames };
  }

  protected startDevice(): Promise<void> {
    return this.#enqueue(async () => {
      const { name } = this.#interface;
      if (this.#interface.index() === undefined) throw this.error('ENODEV', `iface=${name}: the interface is gone`);
      this.#readMtu();
      if (this.#interfaceIsUp()) this.#bringUp();
      else this.#say(`interface ${name} is down: ip link set ${name} up`);
      await this.#lookAtInterface();
      this.#look = setInterval(() => {
        void this.#enqueue(() => this.#lookAtInterface());
      }, LOOK_MILLISECONDS).unref();
    });
  }

  protected stopDevice(): Promise<void> {
    return this.#enqueue(async () => {
      clearInterval(this.#look);
      await this.#takeDown();
      this.#up = false;
    });
  }

  protected async closeDevice(): Promise<void> {
    await this.#work;
    this.#interface.close();
  }

  #enqueue(task: () => void | Promise<void>): Promise<void> {
    const result = this.#work.then(task);
    this.#work = result.catch(() => undefined);
    return result;
  }

  #makeQueue(direction: string, index: number): QueueState {
    const { shape } = this.#options;
    const queue = new QueueState(this.context.arena, `${direction} queue ${String(index)} of ${this.name}`, this.id);
    queue.set(PACKET_FRAMES, shape.frames);
    queue.set(PACKET_FRAME_BYTES, shape.frameBytes);
    queue.set(PACKET_BLOCK_FRAMES, shape.frames / shape.blocks);
    queue.set(PACKET_BLOCK_BYTES, shape.blockBytes);
    return queue;
  }

  /** One line for the user, but not the same one again. */
  #say(text: string): void {
    if (text === this.#said) return;
    this.#said = text;
    this.context.log(`${this.name}: ${text}`);
  }

  #interfaceIsUp(): boolean {
    return ((this.#interface.flags() ?? 0) & IFF_UP) !== 0;
  }

  #setMembership(type: number, on: boolean): void {
    // of a bound socket, and a single one: the interface counts them
    if (this.#bound !== undefined) this.#pairs[0]?.socket.setMembership(this.#bound, type, on);
  }

  #readMtu(): void {
    const mtu = this.#interface.mtu();
    if (mtu === undefined) return;
    this.#interfaceMtu = mtu;
    for (const queue of this.txQueues) queue.set(PACKET_LONGEST, mtu + ETHERNET_BYTES);
  }

  /** What has become of the interface since the last look. */
  async #lookAtInterface(): Promise<void> {
    if (this.state !== 'started') return;
    const { name } = this.#interface;
    const before = this.#up;
    try {
      const index = this.#interface.index();
      const flags = this.#interface.flags() ?? 0;
      if (this.#bound !== undefined && (this.#bound !== index || (flags & IFF_UP) === 0)) {
        this.#say(
          index === undefined
            ? `interface ${name} is gone; the link is down until there is one of this name`
            : `interface ${name} went down`,
        );
        await this.#takeDown();
      }
      if (this.#bound === undefined && (flags & IFF_UP) !== 0) this.#bringUp();
      this.#up = this.#bound !== undefined && (flags & IFF_RUNNING) !== 0;
      if (this.#up) this.#said = '';
      this.#readMtu();
      this.#sendOn();
      this.#explainCuts();
    } catch (error) {
      // it may vanish between two calls
      this.#up = false;
      this.#say(error instanceof Error ? error.message : String(error));
    }
    if (this.#up !== before) this.emit({ type: 'intr_lsc' });
  }

  /** Opens the sockets and lets the queues run on their rings. */
  #bringUp(): void {
    const { name } = this.#interface;
    const index = this.#interface.index();
    if (index === undefined) throw this.error('ENODEV', `iface=${name}: the interface is gone`);
    const receiving = this.rxQueues.length;
    const count = Math.max(receiving, this.txQueues.length);
    try {
      let group: FanoutGroup | undefined;
      for (let pair = 0; pair < count; pair++) {
        const { socket } = this.#openPair();
        socket.bind(index, pair < receiving);
        if (receiving > 1 && pair < receiving) group = socket.joinFanout(group);
      }
      this.#bound = index;
      if (this.#promiscuous) this.#setMembership(PACKET_MR_PROMISC, true);
      if (this.#allMulticast) this.#setMembership(PACKET_MR_ALLMULTI, true);
    } catch (error) {
      this.#bound = undefined;
      this.#closePairs();
      throw error;
    }
    const { shape } = this.#options;
    for (const [place, { socket, offset }] of this.#pairs.entries()) {
      this.#attach(this.rxQueue(place), offset, NO_DESCRIPTOR);
      this.#attach(this.txQueue(place), offset + shape.blocks * shape.blockBytes, socket.fd);
    }
    // until all sockets shared the packets, each got all of them
    if (receiving > 1) for (const queue of this.rxQueues) this.#discardReceived(queue);
    this.#readMtu();
    void this.runQueues(true);
  }

  #openPair(): Pair {
    const { shape, qdiscBypass } = this.#options;
    const { arena } = this.context;
    const socket = new PacketSocket(this.name);
    let offset: number | undefined;
    try {
      socket.makeRings(shape, qdiscBypass);
      const bytes = 2 * shape.blocks * shape.blockBytes;
      offset = arena.window.allocate(bytes, pageSize(), `the rings of ${this.name}`);
      socket.mapRings(arena.base + offset, shape);
    } catch (error) {
      socket.close();
      if (offset !== undefined) arena.window.release(offset);
      throw error;
    }
    const pair = { socket, offset };
    this.#pairs = [...this.#pairs, pair];
    return pair;
  }

  #attach(queue: QueueState | undefined, ring: number, fd: number): void {
    if (queue === undefined) return;
    queue.set(PACKET_RING, ring);
    queue.set(PACKET_NEXT, 0);
    queue.set(Q_FREE, 0);
    queue.set(Q_NOTIFY, 0);
    queue.set(Q_NOTIFY_FD, fd);
  }

  async #takeDown(): Promise<void> {
    await this.runQueues(false);
    for (const queue of this.txQueues) if (queue.get(PACKET_RING) !== 0) this.#lost += this.#waiting(queue);
    this.#takeDrops();
    for (const queue of [...this.rxQueues, ...this.txQueues]) this.#attach(queue, 0, NO_DESCRIPTOR);
    this.#bound = undefined;
    this.#closePairs();
  }

  #closePairs(): void {
    const { arena } = this.context;
    const { blocks, blockBytes } = this.#options.shape;
    for (const { socket, offset } of this.#pairs) {
      // the mapping holds the socket: it goes first
      arena.protectWindow(offset, 2 * blocks * blockBytes);
      socket.close();
      arena.window.release(offset);
    }
    this.#pairs = [];
  }

  #frame(queue: QueueState, index: number): number {
    const { frames, blocks, blockBytes, frameBytes } = this.#options.shape;
    const inBlock = frames / blocks;
    return queue.get(PACKET_RING) + Math.floor(index / inBlock) * blockBytes + (index % inBlock) * frameBytes;
  }

  #status(queue: QueueState, index: number): number {
    return Atomics.load(this.context.arena.views.i32, (this.#frame(queue, index) + FRAME_STATUS) >>> 2);
  }

  #discardReceived(queue: QueueState): void {
    const { i32 } = this.context.arena.views;
    const { frames } = this.#options.shape;
    let next = 0;
    while (next < frames && (this.#status(queue, next) & TP_STATUS_USER) !== 0) {
      Atomics.store(i32, (this.#frame(queue, next) + FRAME_STATUS) >>> 2, 0);
      next++;
    }
    queue.set(PACKET_NEXT, next % frames);
  }

  /** Packets that the kernel has not begun to send. */
  #waiting(queue: QueueState): number {
    const { frames } = this.#options.shape;
    let waiting = 0;
    for (let index = 0; index < frames; index++) if (this.#status(queue, index) === TP_STATUS_SEND_REQUEST) waiting++;
    return waiting;
  }

  /** The kernel stops early when it is short of memory: without a further burst nobody would tell it to go on. */
  #sendOn(): void {
    const { frames } = this.#options.shape;
    for (const [place, { socket }] of this.#pairs.entries()) {
      const queue = this.txQueue(place);
      if (queue === undefined || this.#status(queue, (queue.get(PACKET_NEXT) + frames - 1) % frames) !== TP_STATUS_SEND_REQUEST) continue;
      try {
        writeSync(socket.fd, KICK);
      } catch {
        // still short of memory, or the interface has just gone: the next look sees it
      }
    }
  }

  #explainCuts(): void {
    if (this.#cutSaid || !this.rxQueues.some((queue) => queue.get(PACKET_CUT) !== 0)) return;
    this.#cutSaid = true;
    const { name } = this.#interface;
    const { frameBytes } = this.#options.shape;
    this.context.log(
      `${this.name}: packets longer than ${String(frameBytes - FRAME_RECEIVE_OVERHEAD)} bytes do not fit framesz=${String(frameBytes)} and are dropped; ` +
        `raise framesz (and blocksz), or let nobody make them: ethtool -K ${name} gro off, and tso off gso off where they are sent`,
    );
  }

  #takeDrops(): void {
    for (const { socket } of this.#pairs) {
      try {
        this.#missed += socket.takeDrops();
      } catch {
        // the interface went: the next look sees it
      }
    }
  }
}

function readShape(args: DevargsReader): PacketRingShape {
  const page = pageSize();
  const limit = 1 << 30;
  const blockBytes = args.unsigned('blocksz', { min: page, max: limit, default: page });
  const frameBytes = args.unsigned('framesz', { min: FRAME_LEAST, max: limit, default: 2048 });
  const frames = args.unsigned('framecnt', { min: 1, max: 1 << 24, default: 512 });
  const wrong = (text: string): VirtioError => new VirtioError(`${args.name}: ${text}`, { code: 'EINVAL' });
  if (blockBytes % page !== 0) throw wrong(`blocksz=${String(blockBytes)}: expected a multiple of the page size, ${String(page)}`);
  if (frameBytes % FRAME_ALIGNMENT !== 0) throw wrong(`framesz=${String(frameBytes)}: expected a multiple of ${String(FRAME_ALIGNMENT)}`);
  if (frameBytes > blockBytes) {
    throw wrong(`framesz=${String(frameBytes)}: a frame lies in one block, and blocksz is ${String(blockBytes)}; raise blocksz`);
  }
  const inBlock = Math.floor(blockBytes / frameBytes);
  if (frames % inBlock !== 0) {
    throw wrong(
      `framecnt=${String(frames)}: expected a multiple of ${String(inBlock)}, the frames of ${String(frameBytes)} bytes in a block of ${String(blockBytes)}`,
    );
  }
  return { blockBytes, frameBytes, blocks: frames / inBlock, frames };
}

function noSuchInterface(device: string, name: string): VirtioError {
  const names = interfaceNames();
  const near = nearestName(name, names);
  return new VirtioError(
    `${device}: iface=${name}: no such interface in this network namespace; ${near === undefined ? '' : `did you mean ${near}? `}there are: ${names.join(', ')}`,
    { code: 'ENODEV' },
  );
}

function create(context: PortContext, id: number, devargs: Devargs): Promise<AfPacketPort> {
  const args = readDevargs(devargs, KEYS);
  const { name } = devargs;
  if (!args.has('iface')) {
    throw new VirtioError(`${name}: iface is mandatory: ${name},iface=NAME; there are: ${interfaceNames().join(', ')}`, { code: 'EINVAL' });
  }
  const iface = args.required('iface');
  checkInterfaceName(`${name}: iface`, iface);
  const queuePairs = args.unsigned('qpairs', { min: 1, max: QUEUE_PAIR_LIMIT, default: 1 });
  const shape = readShape(args);
  const qdiscBypass = args.flag('qdisc_bypass', true);
  const bytes = 2 * queuePairs * shape.blocks * shape.blockBytes;
  if (bytes > context.arena.window.freeBytes) {
    throw new VirtioError(
      `${name}: rings of ${String(Math.ceil(bytes / 1048576))} MiB do not fit the ${String(Math.floor(context.arena.window.freeBytes / 1048576))} MiB left ` +
        `of the address window (--peer-mem, or peerBytes in the library); ask for fewer qpairs or a smaller framecnt`,
      { code: 'ENOMEM' },
    );
  }
  const networkInterface = new NetworkInterface(iface);
  try {
    const hardware = networkInterface.hardware();
    if (hardware === undefined) throw noSuchInterface(name, iface);
    if (hardware.type !== ARPHRD_ETHER && hardware.type !== ARPHRD_LOOPBACK) {
      throw new VirtioError(`${name}: iface=${iface}: not an Ethernet interface (its hardware type is ${String(hardware.type)})`, {
        code: 'EINVAL',
      });
    }
    // permission, and whether the kernel takes the sizes: now, and not when the port is started
    using probe = new PacketSocket(name);
    probe.makeRings(shape, qdiscBypass);
    return Promise.resolve(
      new AfPacketPort(context, {
        id,
        name,
        devargs: devargs.text,
        networkInterface,
        mac: hardware.address,
        queuePairs,
        shape,
        qdiscBypass,
      }),
    );
  } catch (error) {
    networkInterface.close();
    throw error;
  }
}

export const afPacket: PortDriver = { name: 'net_af_packet', aliases: ['eth_af_packet'], serves: false, agreesOnQueues: false, create };
