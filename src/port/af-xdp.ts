/**
 * net_af_xdp: a network interface of the kernel, through AF_XDP sockets whose rings and packets lie in the arena. Packets of
 * the queues that the port has are taken before the kernel's stack sees them; those of other queues go on to it.
 *
 * Program, map and sockets are held by descriptors, so the interface is as before when the process is gone, however it ended.
 * @module
 */
import { writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Arena } from '../memory/arena.ts';
import { Q_FREE, Q_INTERRUPT_FD, Q_NOTIFY, Q_NOTIFY_FD, Q_POOL } from '../ring/queue-layout.ts';
import { NO_DESCRIPTOR, QueueState } from '../ring/virtqueue.ts';
import {
  XDP_ADDRESS_INDEX,
  XDP_ADDRESSES,
  XDP_ADDRESSES_CONSUMER,
  XDP_ADDRESSES_PRODUCER,
  XDP_AREA,
  XDP_AREA_BYTES,
  XDP_CALLS,
  XDP_CHUNK_BYTES,
  XDP_CONSUMER,
  XDP_FLAGS,
  XDP_INDEX,
  XDP_LONGEST,
  XDP_PRODUCER,
  XDP_RING,
  XDP_SEEN,
  XDP_SIZE,
  XDP_STACK,
} from '../ring/xdp-layout.ts';
import { SocketMap, XDP_FLAGS_DRV_MODE, XDP_FLAGS_SKB_MODE } from '../system/bpf.ts';
import { VirtioError } from '../system/error.ts';
import { closeFd } from '../system/event-fd.ts';
import { errnoName, systemError } from '../system/ffi.ts';
import { pageSize } from '../system/memory-map.ts';
import { PacketSocket } from '../system/packet-socket.ts';
import {
  mapXdpArea,
  NO_XDP_STATISTICS,
  XDP_HEADROOM,
  xdpRingsBytes,
  XdpSocket,
  type XdpRing,
  type XdpRings,
  type XdpRingSizes,
  type XdpStatistics,
} from '../system/xdp-socket.ts';
import type { PortContext } from './context.ts';
import { readDevargs, type Devargs } from './devargs.ts';
import type { PortDriver } from './drivers.ts';
import { ETHERNET_BYTES, InterfacePort, openInterface, VLAN_BYTES, type InterfacePortOptions } from './interface-port.ts';
import { RX_OFFLOAD_SCATTER, TX_OFFLOAD_MULTI_SEGS } from './offloads.ts';
import type { ExtendedStatistic, PortInfo, PortStatistics, RxQueueConfiguration, TxQueueConfiguration } from './port.ts';
import { SOFTWARE_PORT_INFO } from './software-port-info.ts';

const KEYS = ['iface', 'start_queue', 'queue_count', 'shared_umem', 'force_copy', 'busy_budget', 'xdp_prog'];
const QUEUE_LIMIT = 64;
/** Numbers of queues are at most this large (the kernel's limit for a device). */
const QUEUE_NUMBER_LIMIT = 4095;
/** XSK_RING_CONS__DEFAULT_NUM_DESCS of libxdp. */
const DEFAULT_DESCRIPTORS = 2048;
const DESCRIPTORS = { min: 32, max: 16_384, align: 1 } as const;
/** Chunks are halves of a page, or pages: whatever the MTU needs. */
const CHUNK_BYTES = [2048, 4096] as const;
const LONGEST = 4096 - XDP_HEADROOM;
const LONGEST_MTU = LONGEST - ETHERNET_BYTES - VLAN_BYTES;
/** A queue that was just let go of is the kernel's for some moments more. */
const BIND_ATTEMPTS = 100;
const BIND_MILLISECONDS = 10;
const WORD = 4;
const KICK = new Uint8Array(1);

interface AfXdpOptions extends InterfacePortOptions {
  readonly startQueue: number;
  readonly queueCount: number;
  readonly sharedArea: boolean;
  readonly forceCopy: boolean;
  readonly busyBudget: number;
}

/** A state and, for a transmit queue, the stack of free chunks. */
class XdpQueue extends QueueState {
  readonly #arena: Arena;
  readonly #stack: number | undefined;

  constructor(arena: Arena, name: string, port: number, size: number, transmits: boolean) {
    super(arena, name, port);
    this.#arena = arena;
    this.set(XDP_SIZE, size);
    try {
      this.#stack = transmits ? arena.allocateOwn(WORD * size, `the free chunks of ${name}`) : undefined;
    } catch (error) {
      super.close();
      throw error;
    }
    this.set(XDP_STACK, this.#stack ?? 0);
  }

  override close(): void {
    if (this.#stack !== undefined && this.get(XDP_STACK) !== 0) this.#arena.own.release(this.#stack);
    this.set(XDP_STACK, 0);
    super.close();
  }
}

/** A socket, its place in the window, and its share of an area. */
interface OpenSocket {
  readonly socket: XdpSocket;
  /** Offset and bytes in the window: rings, and an area that belongs to this socket alone or to it and all that follow. */
  readonly offset: number;
  readonly bytes: number;
}

class AfXdpPort extends InterfacePort<XdpQueue> {
  readonly info: PortInfo;
  protected readonly queueKind = 'xdp';
  readonly #options: AfXdpOptions;
  #sockets: readonly OpenSocket[] = [];
  #map: SocketMap | undefined;
  #link = -1;
  /** Holds promiscuous mode: like the rest, it ends with the process. */
  #memberships: PacketSocket | undefined;
  #chunkBytes: number = CHUNK_BYTES[0];
  #modeSaid = '';
  #longSaid = false;
  /** By queue: what closed sockets counted, and what reads as zero since the last reset. */
  readonly #counted: XdpStatistics[] = [];
  readonly #baselines: XdpStatistics[] = [];
  #lost = 0;

  constructor(context: PortContext, options: AfXdpOptions) {
    super(context, options);
    this.#options = options;
    this.info = {
      ...SOFTWARE_PORT_INFO,
      driverName: 'net_af_xdp',
      maxRxQueues: options.queueCount,
      maxTxQueues: options.queueCount,
      maxRxPacketLength: LONGEST,
      maxMtu: LONGEST_MTU,
      rxDescriptors: DESCRIPTORS,
      txDescriptors: DESCRIPTORS,
      rxOffloadCapabilities: RX_OFFLOAD_SCATTER,
      txOffloadCapabilities: TX_OFFLOAD_MULTI_SEGS,
    };
  }

  override statistics(): PortStatistics {
    const statistics = super.statistics();
    const { missed, rxErrors, txErrors } = this.#kernelCounts().reduce(
      (sum, counts) => ({
        missed: sum.missed + counts.receiveDropped + counts.receiveRingFull,
        rxErrors: sum.rxErrors + counts.receiveInvalid,
        txErrors: sum.txErrors + counts.transmitInvalid,
      }),
      { missed: 0, rxErrors: 0, txErrors: this.#lost },
    );
    return {
      ...statistics,
      rxMissed: missed,
      rxErrors: statistics.rxErrors + rxErrors,
      txErrors: statistics.txErrors + txErrors,
    };
  }

  override resetStatistics(): void {
    for (const [index, counts] of this.#sums().entries()) this.#baselines[index] = counts;
    this.#lost = 0;
    super.resetStatistics();
  }

  override resetExtendedStatistics(): void {
    this.resetStatistics();
    super.resetExtendedStatistics();
  }

  override extendedStatistics(): readonly ExtendedStatistic[] {
    const kernel = this.#kernelCounts().flatMap((counts, index) => {
      const name = (direction: string, text: string): string => `${direction}_q${String(index)}_xdp_${text}`;
      return [
        { name: name('rx', 'dropped'), value: counts.receiveDropped },
        { name: name('rx', 'ring_full'), value: counts.receiveRingFull },
        { name: name('rx', 'fill_ring_empty'), value: counts.fillRingEmpty },
        { name: name('rx', 'invalid_descriptors'), value: counts.receiveInvalid },
        { name: name('tx', 'ring_empty'), value: counts.transmitRingEmpty },
        { name: name('tx', 'invalid_descriptors'), value: counts.transmitInvalid },
      ];
    });
    return [...super.extendedStatistics(), ...kernel];
  }

  protected makeRxQueue(index: number, configuration: RxQueueConfiguration): { queue: XdpQueue; descriptors: number } {
    const descriptors = this.#descriptors('receive', configuration.descriptors);
    const queue = new XdpQueue(this.context.arena, `rx queue ${String(index)} of ${this.name}`, this.id, descriptors, false);
    queue.set(Q_POOL, configuration.pool.offset);
    return { queue, descriptors };
  }

  protected makeTxQueue(index: number, configuration: TxQueueConfiguration): { queue: XdpQueue; descriptors: number } {
    const descriptors = this.#descriptors('transmit', configuration.descriptors);
    const queue = new XdpQueue(this.context.arena, `tx queue ${String(index)} of ${this.name}`, this.id, descriptors, true);
    return { queue, descriptors };
  }

  protected override async openSockets(index: number): Promise<void> {
    const { startQueue, busyBudget } = this.#options;
    const receiving = this.rxQueues.length;
    const count = Math.max(receiving, this.txQueues.length);
    try {
      this.#memberships = new PacketSocket(this.name);
      this.#map = new SocketMap(this.name, startQueue + this.#options.queueCount);
      const native = this.#attach(this.#map, index);
      let area: { readonly offset: number; readonly bytes: number } | undefined;
      for (let place = 0; place < count; place++) {
        area = await this.#openSocket(index, place, native, area);
        const { socket } = this.#last();
        if (busyBudget !== 0 && !socket.preferBusyPoll(busyBudget)) {
          this.say(`busy_budget=${String(busyBudget)}: the kernel does not let this socket poll; packets are received in interrupts`);
        } else if (busyBudget !== 0) this.rxQueue(place)?.set(XDP_CALLS, 1);
        if (place < receiving) this.#map.set(startQueue + place, socket.fd);
      }
      this.#sayMode(native);
    } catch (error) {
      this.closeSockets();
      throw error;
    }
  }

  protected override closeSockets(): void {
    for (const [place, { socket }] of this.#sockets.entries()) {
      this.#counted[place] = this.#sum(place, socket);
      const queue = this.txQueue(place);
      if (queue !== undefined && queue.get(XDP_RING) !== 0) this.#lost += this.#unsent(queue);
    }
    for (const queue of [...this.rxQueues, ...this.txQueues]) {
      queue.set(XDP_RING, 0);
      queue.set(Q_FREE, 0);
      queue.set(Q_NOTIFY, 0);
      queue.set(Q_NOTIFY_FD, NO_DESCRIPTOR);
      queue.set(Q_INTERRUPT_FD, NO_DESCRIPTOR);
    }
    const { arena } = this.context;
    // those that share an area before the one that owns it
    for (const { socket, offset, bytes } of this.#sockets.toReversed()) {
      // the mapping holds the socket: it goes first
      arena.protectWindow(offset, bytes);
      socket.close();
      arena.window.release(offset);
    }
    this.#sockets = [];
    if (this.#link >= 0) closeFd(this.#link);
    this.#link = -1;
    this.#map?.close();
    this.#map = undefined;
    this.#memberships?.close();
    this.#memberships = undefined;
  }

  protected override setMembership(interfaceIndex: number, type: number, on: boolean): void {
    this.#memberships?.setMembership(interfaceIndex, type, on);
  }

  protected override mtuRead(mtu: number): boolean {
    for (const queue of this.txQueues) queue.set(XDP_LONGEST, mtu + ETHERNET_BYTES);
    if (mtu > LONGEST_MTU) this.#tooLong(mtu);
    const needed = mtu + ETHERNET_BYTES + VLAN_BYTES + XDP_HEADROOM;
    const chunkBytes = CHUNK_BYTES.find((bytes) => bytes >= needed) ?? CHUNK_BYTES[1];
    const changes = chunkBytes > this.#chunkBytes;
    if (changes || this.#sockets.length === 0) this.#chunkBytes = chunkBytes;
    return changes;
  }

  /** What the kernel left, for lack of memory or because a call ended early: without a further burst nobody would tell it to go on. */
  protected override lookAtSockets(): void {
    for (const [place, { socket }] of this.#sockets.entries()) {
      const queue = this.txQueue(place);
      if (queue === undefined || this.#unsent(queue) === 0) continue;
      try {
        writeSync(socket.fd, KICK);
      } catch {
        // still short of memory, or the interface has just gone: the next look sees it
      }
    }
  }

  #tooLong(mtu: number): void {
    const { name } = this.networkInterface;
    const text = `interface ${name} has an MTU of ${String(mtu)}, and a packet of more than ${String(LONGEST)} bytes fits no chunk: ip link set ${name} mtu ${String(LONGEST_MTU)} (or less)`;
    if (this.#sockets.length === 0) throw this.error('EINVAL', text);
    if (!this.#longSaid) this.context.log(`${this.name}: ${text}; longer packets are dropped`);
    this.#longSaid = true;
  }

  #descriptors(direction: string, wanted: number): number {
    const descriptors = wanted === 0 ? DEFAULT_DESCRIPTORS : wanted;
    if ((descriptors & (descriptors - 1)) === 0) return descriptors;
    throw this.error('EINVAL', `${String(wanted)} ${direction} descriptors: the rings of a socket have a power of two`);
  }

  /** Attaches the program in the driver where that can, else in the stack; returns whether it is in the driver. */
  #attach(map: SocketMap, index: number): boolean {
    const { name } = this.networkInterface;
    let errno = 0;
    for (const mode of [XDP_FLAGS_DRV_MODE, XDP_FLAGS_SKB_MODE]) {
      const result = map.attach(index, mode);
      if ('fd' in result) {
        this.#link = result.fd;
        return mode === XDP_FLAGS_DRV_MODE;
      }
      ({ errno } = result);
      const code = errnoName(errno);
      if (code === 'EBUSY' || code === 'EEXIST') {
        throw new VirtioError(
          `${this.name}: iface=${name}: another XDP program is attached (ip link show ${name}); end the program that did it, or ip link set dev ${name} xdp off`,
          { code: 'EBUSY', syscall: 'bpf', errno },
        );
      }
      if (code === 'EPERM') break;
    }
    const hint = errnoName(errno) === 'EPERM' ? ' (run as root, or with CAP_NET_ADMIN)' : '';
    throw systemError(`${this.name}: iface=${name}: attaching the XDP program${hint}`, 'bpf', errno);
  }

  #last(): OpenSocket {
    const last = this.#sockets.at(-1);
    if (last === undefined) throw new RangeError(`${this.name}: no socket`);
    return last;
  }

  /** @returns the area for the next socket to share, if any */
  async #openSocket(
    index: number,
    place: number,
    native: boolean,
    shared: { readonly offset: number; readonly bytes: number } | undefined,
  ): Promise<{ readonly offset: number; readonly bytes: number } | undefined> {
    const { arena } = this.context;
    const { sharedArea, startQueue, forceCopy } = this.#options;
    const number = startQueue + place;
    const page = pageSize();
    const chunkBytes = this.#chunkBytes;
    const sizes = this.#sizes(place);
    const ringsBytes = xdpRingsBytes(sizes);
    const places = sharedArea ? Array.from({ length: Math.max(this.rxQueues.length, this.txQueues.length) }, (_, at) => at) : [place];
    const chunks = (some: readonly number[]): number =>
      some.map((at) => this.#sizes(at)).reduce((sum, { receive, transmit }) => sum + receive + transmit, 0);
    const areaBytes = shared === undefined ? Math.ceil((chunks(places) * chunkBytes) / page) * page : 0;
    const bytes = ringsBytes + areaBytes;
    const socket = new XdpSocket(this.name);
    let offset: number | undefined;
    try {
      offset = arena.window.allocate(bytes, page, `the rings and packets of ${this.name}`);
      const rings = socket.makeRings(arena.base + offset, sizes);
      const area = shared ?? { offset: offset + ringsBytes, bytes: areaBytes };
      if (shared === undefined) {
        mapXdpArea(this.name, arena.base + area.offset, areaBytes);
        socket.registerArea(arena.base + area.offset, areaBytes, chunkBytes);
      }
      socket.raiseLimits(sizes.transmit);
      const firstChunk = sharedArea ? chunks(places.slice(0, place)) : 0;
      this.#attachRings(place, rings, area, firstChunk * chunkBytes, socket.fd);
      const sharedWith = shared === undefined ? undefined : this.#sockets[0]?.socket.fd;
      for (let attempt = 1; !socket.bind(index, number, { copies: forceCopy || !native, sharedWith }); attempt++) {
        if (attempt === BIND_ATTEMPTS) {
          throw this.error(
            'EBUSY',
            `iface=${this.networkInterface.name}: queue ${String(number)} has an XDP socket of another program or port already`,
          );
        }
        await sleep(BIND_MILLISECONDS);
      }
      this.#sockets = [...this.#sockets, { socket, offset, bytes }];
      return sharedArea ? area : undefined;
    } catch (error) {
      if (offset !== undefined) arena.protectWindow(offset, bytes);
      socket.close();
      if (offset !== undefined) arena.window.release(offset);
      throw error;
    }
  }

  #sizes(place: number): XdpRingSizes {
    return {
      receive: this.rxQueue(place)?.get(XDP_SIZE) ?? DESCRIPTORS.min,
      transmit: this.txQueue(place)?.get(XDP_SIZE) ?? DESCRIPTORS.min,
    };
  }

  /** Tells both queues where their rings are; all receive chunks are the kernel's, all transmit chunks ours. */
  #attachRings(place: number, rings: XdpRings, area: { readonly offset: number; readonly bytes: number }, first: number, fd: number): void {
    const { arena } = this.context;
    const { i32, u32 } = arena.views;
    const { receive, transmit } = this.#sizes(place);
    const chunkBytes = this.#chunkBytes;
    const offset = (address: number): number => address - arena.base;
    const attach = (queue: XdpQueue, packets: XdpRing, addresses: XdpRing, filled: XdpRing): void => {
      queue.set(XDP_RING, offset(packets.entries));
      queue.set(XDP_PRODUCER, offset(packets.producer));
      queue.set(XDP_CONSUMER, offset(packets.consumer));
      queue.set(XDP_ADDRESSES, offset(addresses.entries));
      queue.set(XDP_ADDRESSES_PRODUCER, offset(addresses.producer));
      queue.set(XDP_ADDRESSES_CONSUMER, offset(addresses.consumer));
      queue.set(XDP_FLAGS, offset(filled.flags));
      queue.set(XDP_AREA, area.offset);
      queue.set(XDP_AREA_BYTES, area.bytes);
      queue.set(XDP_CHUNK_BYTES, chunkBytes);
      queue.set(XDP_INDEX, 0);
      queue.set(XDP_ADDRESS_INDEX, 0);
      queue.set(XDP_SEEN, 0);
      queue.set(XDP_CALLS, 0);
      queue.set(Q_FREE, 0);
      queue.set(Q_NOTIFY, 0);
      queue.set(Q_NOTIFY_FD, fd);
    };
    const rx = this.rxQueue(place);
    if (rx !== undefined) {
      attach(rx, rings.receive, rings.fill, rings.fill);
      rx.set(Q_INTERRUPT_FD, fd);
      for (let chunk = 0; chunk < receive; chunk++) {
        const entry = (offset(rings.fill.entries) + 8 * chunk) >>> 2;
        u32[entry] = first + chunk * chunkBytes;
        u32[entry + 1] = 0;
      }
      Atomics.store(i32, offset(rings.fill.producer) >>> 2, receive);
      rx.set(XDP_ADDRESS_INDEX, receive);
    }
    const tx = this.txQueue(place);
    if (tx !== undefined) {
      attach(tx, rings.transmit, rings.completion, rings.transmit);
      const stack = tx.get(XDP_STACK) >>> 2;
      for (let chunk = 0; chunk < transmit; chunk++) u32[stack + chunk] = first + (receive + chunk) * chunkBytes;
      tx.set(Q_FREE, transmit);
    }
  }

  /** Packets in the transmit ring that the kernel has not taken. */
  #unsent(queue: XdpQueue): number {
    const { i32 } = this.context.arena.views;
    return (Atomics.load(i32, queue.get(XDP_PRODUCER) >>> 2) - Atomics.load(i32, queue.get(XDP_CONSUMER) >>> 2)) >>> 0;
  }

  /** One line about what is slower than it could be; not again after a restart. */
  #sayMode(native: boolean): void {
    const { forceCopy } = this.#options;
    const { name } = this.networkInterface;
    const zeroCopy = this.#sockets.every(({ socket }) => socket.zeroCopy());
    const text = !native
      ? `the driver of ${name} runs no XDP programs itself, or not at this MTU: packets take the way through the stack and are copied`
      : zeroCopy || forceCopy
        ? ''
        : `the driver of ${name} cannot share chunks: the kernel copies packets`;
    if (text !== '' && text !== this.#modeSaid) this.context.log(`${this.name}: ${text}`);
    this.#modeSaid = text;
  }

  /** What the sockets of a queue have counted in all. */
  #sum(place: number, socket: XdpSocket | undefined): XdpStatistics {
    const before = this.#counted[place] ?? NO_XDP_STATISTICS;
    if (socket === undefined) return before;
    let now: XdpStatistics;
    try {
      now = socket.statistics();
    } catch {
      return before;
    }
    return add(before, now, 1);
  }

  #sums(): XdpStatistics[] {
    const count = Math.max(this.rxQueues.length, this.txQueues.length, this.#counted.length);
    return Array.from({ length: count }, (_, place) => this.#sum(place, this.#sockets[place]?.socket));
  }

  #kernelCounts(): XdpStatistics[] {
    return this.#sums().map((sum, place) => add(sum, this.#baselines[place] ?? NO_XDP_STATISTICS, -1));
  }
}

function add(a: XdpStatistics, b: XdpStatistics, factor: 1 | -1): XdpStatistics {
  return {
    receiveDropped: a.receiveDropped + factor * b.receiveDropped,
    receiveInvalid: a.receiveInvalid + factor * b.receiveInvalid,
    transmitInvalid: a.transmitInvalid + factor * b.transmitInvalid,
    receiveRingFull: a.receiveRingFull + factor * b.receiveRingFull,
    fillRingEmpty: a.fillRingEmpty + factor * b.fillRingEmpty,
    transmitRingEmpty: a.transmitRingEmpty + factor * b.transmitRingEmpty,
  };
}

function create(context: PortContext, id: number, devargs: Devargs): Promise<AfXdpPort> {
  const args = readDevargs(devargs, KEYS);
  const { name } = devargs;
  if (args.has('xdp_prog')) {
    throw new VirtioError(
      `${name}: xdp_prog: programs from object files are not loaded here; leave it out: the port brings its own, which takes all packets of its queues`,
      { code: 'EOPNOTSUPP' },
    );
  }
  const startQueue = args.unsigned('start_queue', { min: 0, max: QUEUE_NUMBER_LIMIT, default: 0 });
  const queueCount = args.unsigned('queue_count', { min: 1, max: QUEUE_LIMIT, default: 1 });
  const sharedArea = args.flag('shared_umem', false);
  const forceCopy = args.flag('force_copy', false);
  const busyBudget = args.unsigned('busy_budget', { min: 0, max: 0xffff, default: 0 });
  const { networkInterface, mac } = openInterface(args);
  try {
    const queues = networkInterface.queues();
    if (queues !== undefined) {
      const most = Math.max(queues.receive, queues.transmit);
      if (startQueue + queueCount > most) {
        const { name: iface } = networkInterface;
        const wanted =
          queueCount === 1 ? `queue ${String(startQueue)}` : `queues ${String(startQueue)} to ${String(startQueue + queueCount - 1)}`;
        throw new VirtioError(
          `${name}: iface=${iface}: ${wanted} wanted (start_queue, queue_count), and it has ${String(most)}, counted from 0 (ethtool -l ${iface})`,
          { code: 'EINVAL' },
        );
      }
    }
    // permission, and what the kernel can: now, and not when the port is started
    new XdpSocket(name).close();
    new SocketMap(name, 1).close();
    return Promise.resolve(
      new AfXdpPort(context, {
        id,
        name,
        devargs: devargs.text,
        networkInterface,
        mac,
        startQueue,
        queueCount,
        sharedArea,
        forceCopy,
        busyBudget,
      }),
    );
  } catch (error) {
    networkInterface.close();
    throw error;
  }
}

export const afXdp: PortDriver = { name: 'net_af_xdp', aliases: ['eth_af_xdp'], serves: false, agreesOnQueues: false, create };
