/**
 * net_af_packet: a network interface of the kernel, through packet sockets whose rings lie in the arena.
 * @module
 */
import { writeSync } from 'node:fs';
import { MBUF_WORK_CHECKSUM, MBUF_WORK_ECN, MBUF_WORK_TCP4, MBUF_WORK_TCP6, MBUF_WORK_UDP } from '../memory/mbuf-layout.ts';
import {
  FRAME_RECEIVE_OVERHEAD,
  FRAME_STATUS,
  PACKET_BLOCK_BYTES,
  PACKET_BLOCK_FRAMES,
  PACKET_CUT,
  PACKET_FRAME_BYTES,
  PACKET_FRAMES,
  PACKET_HEADER,
  PACKET_LONGEST,
  PACKET_NEXT,
  PACKET_RING,
  TP_STATUS_SEND_REQUEST,
  TP_STATUS_USER,
} from '../ring/packet-ring-layout.ts';
import { Q_FREE, Q_INTERRUPT_FD, Q_NOTIFY, Q_NOTIFY_FD, Q_OFFLOADS, Q_POOL } from '../ring/queue-layout.ts';
import { NO_DESCRIPTOR, QueueState } from '../ring/virtqueue.ts';
import { VirtioError } from '../system/error.ts';
import { pageSize } from '../system/memory-map.ts';
import { type FanoutGroup, type PacketRingShape, PacketSocket } from '../system/packet-socket.ts';
import type { PortContext } from './context.ts';
import { readDevargs, type Devargs, type DevargsReader } from './devargs.ts';
import type { PortDriver } from './drivers.ts';
import { ETHERNET_BYTES, InterfacePort, openInterface, VLAN_BYTES, type InterfacePortOptions } from './interface-port.ts';
import {
  RX_OFFLOAD_SCATTER,
  RX_OFFLOAD_TCP_CKSUM,
  RX_OFFLOAD_TCP_LRO,
  RX_OFFLOAD_UDP_CKSUM,
  TX_OFFLOAD_MULTI_SEGS,
  TX_OFFLOAD_TCP_CKSUM,
  TX_OFFLOAD_TCP_TSO,
  TX_OFFLOAD_UDP_CKSUM,
} from './offloads.ts';
import type { PortInfo, PortStatistics, RxQueueConfiguration, TxQueueConfiguration } from './port.ts';
import { SOFTWARE_PORT_INFO } from './software-port-info.ts';

const KEYS = ['iface', 'qpairs', 'blocksz', 'framesz', 'framecnt', 'qdisc_bypass'];
/** RTE_PMD_AF_PACKET_MAX_RINGS of DPDK. */
const QUEUE_PAIR_LIMIT = 16;
/** Frame sizes are multiples of this (TPACKET_ALIGNMENT). */
const FRAME_ALIGNMENT = 16;
const FRAME_LEAST = 128;
const KICK = new Uint8Array(1);
/** The largest packet that a stack hands over to be cut: 65,535 bytes of IP, and Ethernet's header with a tag. */
const SEGMENTED_PACKET_BYTES = 65_535 + ETHERNET_BYTES + VLAN_BYTES;
const RX_CHECKSUM = RX_OFFLOAD_UDP_CKSUM | RX_OFFLOAD_TCP_CKSUM;
const TX_CHECKSUM = TX_OFFLOAD_UDP_CKSUM | TX_OFFLOAD_TCP_CKSUM;
const WORK_TCP = MBUF_WORK_TCP4 | MBUF_WORK_TCP6 | MBUF_WORK_ECN;
const WORK_SEGMENTS = WORK_TCP | MBUF_WORK_UDP;

interface AfPacketOptions extends InterfacePortOptions {
  readonly queuePairs: number;
  readonly shape: PacketRingShape;
  readonly qdiscBypass: boolean;
  /** Before each packet in a frame: a virtio-net header, where the kernel takes one. */
  readonly headerBytes: number;
}

/** A socket and its two rings in the arena. */
interface Pair {
  readonly socket: PacketSocket;
  readonly offset: number;
}

class AfPacketPort extends InterfacePort {
  readonly info: PortInfo;
  protected readonly queueKind = 'packet-ring';
  readonly #options: AfPacketOptions;
  #pairs: readonly Pair[] = [];
  #cutSaid = false;
  /** Packets that the kernel found no free frame for, and packets that were in the ring when the interface went. */
  #missed = 0;
  #lost = 0;

  constructor(context: PortContext, options: AfPacketOptions) {
    super(context, options);
    this.#options = options;
    const longest = options.shape.frameBytes - FRAME_RECEIVE_OVERHEAD - options.headerBytes;
    const segments = options.headerBytes !== 0 && longest >= SEGMENTED_PACKET_BYTES;
    this.info = {
      ...SOFTWARE_PORT_INFO,
      driverName: 'net_af_packet',
      maxRxQueues: options.queuePairs,
      maxTxQueues: options.queuePairs,
      maxRxPacketLength: longest,
      maxMtu: Math.min(65535, longest - ETHERNET_BYTES - VLAN_BYTES),
      maxLroPacketSize: segments ? longest : 0,
      rxOffloadCapabilities: RX_OFFLOAD_SCATTER | (options.headerBytes === 0 ? 0 : RX_CHECKSUM) | (segments ? RX_OFFLOAD_TCP_LRO : 0),
      txOffloadCapabilities: TX_OFFLOAD_MULTI_SEGS | (options.headerBytes === 0 ? 0 : TX_CHECKSUM) | (segments ? TX_OFFLOAD_TCP_TSO : 0),
    };
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

  protected makeRxQueue(index: number, configuration: RxQueueConfiguration): { queue: QueueState; descriptors: number } {
    const queue = this.#makeQueue('rx', index);
    queue.set(Q_POOL, configuration.pool.offset);
    const offloads = this.configuration?.rxOffloads ?? 0;
    const segments = (offloads & RX_OFFLOAD_TCP_LRO) !== 0 ? WORK_SEGMENTS : 0;
    queue.set(Q_OFFLOADS, segments | ((offloads & RX_CHECKSUM) !== 0 || segments !== 0 ? MBUF_WORK_CHECKSUM : 0));
    return { queue, descriptors: this.#options.shape.frames };
  }

  protected makeTxQueue(index: number, _configuration: TxQueueConfiguration): { queue: QueueState; descriptors: number } {
    const queue = this.#makeQueue('tx', index);
    const offloads = this.configuration?.txOffloads ?? 0;
    const segments = (offloads & TX_OFFLOAD_TCP_TSO) !== 0 ? WORK_TCP : 0;
    queue.set(Q_OFFLOADS, segments | ((offloads & TX_CHECKSUM) !== 0 || segments !== 0 ? MBUF_WORK_CHECKSUM : 0));
    return { queue, descriptors: this.#options.shape.frames };
  }

  protected override openSockets(index: number): void {
    const receiving = this.rxQueues.length;
    const count = Math.max(receiving, this.txQueues.length);
    try {
      let group: FanoutGroup | undefined;
      for (let pair = 0; pair < count; pair++) {
        const { socket } = this.#openPair();
        socket.bind(index, pair < receiving);
        if (receiving > 1 && pair < receiving) group = socket.joinFanout(group);
      }
    } catch (error) {
      this.#closePairs();
      throw error;
    }
    const { shape } = this.#options;
    for (const [place, { socket, offset }] of this.#pairs.entries()) {
      this.#attach(this.rxQueue(place), offset, NO_DESCRIPTOR);
      this.rxQueue(place)?.set(Q_INTERRUPT_FD, socket.fd);
      this.#attach(this.txQueue(place), offset + shape.blocks * shape.blockBytes, socket.fd);
    }
    // until all sockets shared the packets, each got all of them
    if (receiving > 1) for (const queue of this.rxQueues) this.#discardReceived(queue);
  }

  protected override closeSockets(): void {
    for (const queue of this.txQueues) if (queue.get(PACKET_RING) !== 0) this.#lost += this.#waiting(queue);
    this.#takeDrops();
    for (const queue of [...this.rxQueues, ...this.txQueues]) this.#attach(queue, 0, NO_DESCRIPTOR);
    for (const queue of this.rxQueues) queue.set(Q_INTERRUPT_FD, NO_DESCRIPTOR);
    this.#closePairs();
  }

  protected override setMembership(interfaceIndex: number, type: number, on: boolean): void {
    // of a single socket: the interface counts them
    this.#pairs[0]?.socket.setMembership(interfaceIndex, type, on);
  }

  protected override mtuRead(mtu: number): boolean {
    for (const queue of this.txQueues) queue.set(PACKET_LONGEST, mtu + ETHERNET_BYTES);
    return false;
  }

  protected override lookAtSockets(): void {
    this.#sendOn();
    this.#explainCuts();
  }

  #makeQueue(direction: string, index: number): QueueState {
    const { shape, headerBytes } = this.#options;
    const queue = new QueueState(this.context.arena, `${direction} queue ${String(index)} of ${this.name}`, this.id);
    queue.set(PACKET_FRAMES, shape.frames);
    queue.set(PACKET_FRAME_BYTES, shape.frameBytes);
    queue.set(PACKET_BLOCK_FRAMES, shape.frames / shape.blocks);
    queue.set(PACKET_BLOCK_BYTES, shape.blockBytes);
    queue.set(PACKET_HEADER, headerBytes);
    return queue;
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
    const { name } = this.networkInterface;
    const { frameBytes } = this.#options.shape;
    this.context.log(
      `${this.name}: packets longer than ${String(this.info.maxRxPacketLength)} bytes do not fit framesz=${String(frameBytes)} and are dropped; ` +
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

function create(context: PortContext, id: number, devargs: Devargs): Promise<AfPacketPort> {
  const args = readDevargs(devargs, KEYS);
  const { name } = devargs;
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
  const { networkInterface, mac } = openInterface(args);
  try {
    // permission, and whether the kernel takes the sizes: now, and not when the port is started
    using probe = new PacketSocket(name);
    const headerBytes = probe.makeRings(shape, qdiscBypass);
    return Promise.resolve(
      new AfPacketPort(context, {
        id,
        name,
        devargs: devargs.text,
        networkInterface,
        mac,
        queuePairs,
        shape,
        qdiscBypass,
        headerBytes,
      }),
    );
  } catch (error) {
    networkInterface.close();
    throw error;
  }
}

export const afPacket: PortDriver = { name: 'net_af_packet', aliases: ['eth_af_packet'], serves: false, agreesOnQueues: false, create };
