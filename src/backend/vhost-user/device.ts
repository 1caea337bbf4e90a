/**
 * The vhost-user back-end: the device side of one port, told by a front-end (virtio_user, QEMU) where its rings are.
 *
 * Listens, or connects again and again; serves one front-end at a time. A queue runs when the front-end has started and
 * enabled its ring and the port is started; before anything under a running queue changes, the queue is stopped for the
 * kernels and a grace period passes, so that no lcore is still inside it. A front-end that breaks the rules loses its
 * connection, with a reason, and nothing else happens.
 * @module
 */
import type { Arena } from '../../memory/arena.ts';
import { NET_HEADER_BYTES, NET_HEADER_LEGACY_BYTES } from '../../net/virtio-net-header.ts';
import { POSITION_START } from '../../ring/packed-layout.ts';
import { Q_INTERRUPT_FD, Q_LENGTH_LIMIT, Q_NOTIFY_FD, QUEUE_DISABLED, QUEUE_RUNNING, QUEUE_STOPPED } from '../../ring/queue-layout.ts';
import { checkRingSize, checkSplitSize, NO_DESCRIPTOR, type DeviceQueue } from '../../ring/virtqueue.ts';
import { VirtioError } from '../../system/error.ts';
import { closeFd, signalEventFd } from '../../system/event-fd.ts';
import { isEventFd, setNonBlocking } from '../../system/unix-socket.ts';
import { takeAccepted } from '../feature-dependencies.ts';
import { GUEST_TCP_FEATURES, GUEST_UDP_FEATURES, guestWork, HOST_TCP_FEATURES, hostWork } from '../offload-features.ts';
import { PEER_REGION_LIMIT, PeerMemory } from '../peer-memory.ts';
import { lengthLimit, RING_FEATURES, ringBits } from '../ring-features.ts';
import {
  VHOST_USER_F_PROTOCOL_FEATURES,
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_ANY_LAYOUT,
  VIRTIO_F_IN_ORDER,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_VERSION_1,
  VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F_HOST_USO,
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_NET_F_MTU,
} from '../virtio-features.ts';
import type { VhostUserConnection } from './connection.ts';
import { VhostUserEndpoint } from './endpoint.ts';
import { Iotlb, rangeEnd, type IotlbStatistics } from './iotlb.ts';
import {
  decodeIotlbMessage,
  decodeMemoryTable,
  decodeSingleRegion,
  decodeVringAddress,
  encodeU64,
  encodeVringState,
  FLAG_REPLY,
  IOTLB,
  NO_FD,
  PROTOCOL_F,
  REGIONS_PER_TABLE,
  REQUEST,
  requestName,
  type Message,
  type VringAddress,
} from './messages.ts';
import { partsTouch, ringParts, type RingPart } from './ring-parts.ts';

/** Segmentation that the front-end may leave to this back-end; offered on demand (tso=1 of net_vhost). */
export const DEVICE_SEGMENTATION_FEATURES = HOST_TCP_FEATURES | VIRTIO_NET_F_HOST_USO;

/** What this back-end always offers. */
export const DEVICE_FEATURES =
  VIRTIO_NET_F_CSUM |
  VIRTIO_NET_F_GUEST_CSUM |
  GUEST_TCP_FEATURES |
  GUEST_UDP_FEATURES |
  VIRTIO_NET_F_MTU |
  VIRTIO_NET_F_MRG_RXBUF |
  VIRTIO_NET_F_CTRL_VQ |
  VIRTIO_NET_F_MQ |
  VIRTIO_F_ANY_LAYOUT |
  RING_FEATURES |
  VHOST_USER_F_PROTOCOL_FEATURES |
  VIRTIO_F_VERSION_1 |
  VIRTIO_F_IN_ORDER |
  VIRTIO_F_RING_PACKED;

export const DEVICE_PROTOCOL_FEATURES =
  PROTOCOL_F.MQ | PROTOCOL_F.REPLY_ACK | PROTOCOL_F.NET_MTU | PROTOCOL_F.CONFIGURE_MEM_SLOTS | PROTOCOL_F.STATUS;

/** How often faults are looked for. */
const FAULT_MILLISECONDS = 100;

export interface VhostUserDeviceOptions {
  readonly arena: Arena;
  /** Port name, for messages. */
  readonly name: string;
  readonly path: string;
  /** Connect to a front-end that listens, instead of listening. */
  readonly client: boolean;
  /** Queue pairs. */
  readonly queuePairs: number;
  /** Offer DEVICE_SEGMENTATION_FEATURES. */
  readonly segmentation: boolean;
  /** Offer VIRTIO_F_ACCESS_PLATFORM: addresses may be those of an IOMMU, for which the front-end is asked. Default false. */
  readonly iommu?: boolean;
  /** The queue behind a ring number: even ones are the driver's receive queues. Undefined while the port has none. */
  readonly queue: (ring: number) => DeviceQueue | undefined;
  /** Resolves when no lcore is still inside a kernel call that began before. */
  readonly gracePeriod: () => Promise<void>;
  readonly onLink: (up: boolean) => void;
  readonly onQueueState: (ring: number, enabled: boolean) => void;
  readonly log: (text: string) => void;
}

interface Vring {
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

function newVring(): Vring {
  return {
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

export class VhostUserDevice {
  readonly #options: VhostUserDeviceOptions;
  readonly #memory: PeerMemory;
  /** Undefined: not offered. */
  readonly #iotlb: Iotlb | undefined;
  readonly #vrings: readonly Vring[];
  readonly #endpoint: VhostUserEndpoint;
  /** Messages are handled one after the other, though handling one may wait for lcores. */
  #work: Promise<void> = Promise.resolve();
  #features = 0n;
  #protocolFeatures = 0;
  #status = 0;
  /** What the front-end has told its driver; undefined: it did not say. */
  #mtu: number | undefined;
  #portStarted = false;
  #linkUp = false;
  #open = true;
  /** Faults of the arena when last looked at, and how often that is. */
  #faults = 0;
  readonly #faultWatch: NodeJS.Timeout;

  /** Listens at once. @throws VirtioError when the path cannot be listened at */
  constructor(options: VhostUserDeviceOptions) {
    this.#options = options;
    this.#vrings = Array.from({ length: options.queuePairs * 2 }, newVring);
    this.#endpoint = new VhostUserEndpoint({
      path: options.path,
      server: !options.client,
      other: 'front-end',
      log: options.log,
      onConnected: () => {
        options.log(`${this.#endpoint.peer} new front-end connected`);
      },
      onMessage: (connection, message) => {
        void this.#enqueue(() => this.#receive(connection, message));
      },
      onLost: (_, error) => {
        this.#lost(error);
      },
    });
    if (!options.client) this.#endpoint.listen();
    this.#memory = new PeerMemory(options.arena, this.#endpoint.peer);
    if (options.iommu === true) this.#iotlb = this.#makeIotlb();
    this.#faults = options.arena.peerFaults;
    this.#faultWatch = setInterval(() => {
      this.#lookForFaults();
    }, FAULT_MILLISECONDS).unref();
    if (options.client) this.#endpoint.keepConnecting();
  }

  get #packed(): boolean {
    return (this.#features & VIRTIO_F_RING_PACKED) !== 0n;
  }

  get #offered(): bigint {
    return (
      DEVICE_FEATURES |
      (this.#options.segmentation ? DEVICE_SEGMENTATION_FEATURES : 0n) |
      (this.#iotlb === undefined ? 0n : VIRTIO_F_ACCESS_PLATFORM)
    );
  }

  get #offeredProtocol(): number {
    return DEVICE_PROTOCOL_FEATURES | (this.#iotlb === undefined ? 0 : PROTOCOL_F.BACKEND_REQ);
  }

  /** The IOTLB, when the addresses of rings and buffers are those of an IOMMU. */
  get #translations(): Iotlb | undefined {
    return (this.#features & VIRTIO_F_ACCESS_PLATFORM) === 0n ? undefined : this.#iotlb;
  }

  /** What the IOTLB has done, with iommu-support; otherwise undefined. */
  get iotlbStatistics(): IotlbStatistics | undefined {
    return this.#iotlb?.statistics;
  }

  /** Times that a ring has waited for a translation. */
  iotlbMisses(ring: number): number {
    return this.#iotlb?.missesOf(ring) ?? 0;
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
    await this.#enqueue(async () => {
      this.#portStarted = started;
      if (!started) await this.#stopRings(this.#vrings);
      this.#updateAll();
    });
  }

  /** Tells the front-end that a ring was given up, where it asked to be told (SET_VRING_ERR). */
  signalError(ring: number): void {
    const fd = this.#vrings[ring]?.error ?? -1;
    if (fd >= 0) signalEventFd(fd);
  }

  /** The queues behind the rings have been made anew. */
  async queuesReplaced(): Promise<void> {
    await this.#enqueue(() => {
      for (const vring of this.#vrings) {
        vring.running = false;
        vring.attached = false;
      }
      this.#updateAll();
      return Promise.resolve();
    });
  }

  async close(): Promise<void> {
    if (!this.#open) return;
    this.#open = false;
    clearInterval(this.#faultWatch);
    this.#endpoint.close();
    await this.#enqueue(async () => {
      await this.#forgetPeer();
      this.#iotlb?.close();
      this.#memory.close();
    });
  }

  #enqueue(task: () => Promise<void>): Promise<void> {
    const result = this.#work.then(task);
    this.#work = result.catch(() => undefined);
    return result;
  }

  #lost(error: VirtioError | undefined): void {
    this.#options.log(error === undefined ? `${this.#endpoint.peer} front-end disconnected` : error.message);
    void this.#enqueue(async () => {
      await this.#forgetPeer();
      this.#endpoint.next();
    });
  }

  /** Lets a front-end go that took away memory which is in use. */
  #lookForFaults(): void {
    const { peerFaults } = this.#options.arena;
    if (peerFaults === this.#faults) return;
    this.#faults = peerFaults;
    const { missing } = this.#memory;
    const { connection } = this.#endpoint;
    if (missing === undefined || connection === undefined) return;
    this.#endpoint.fail(
      connection,
      new VirtioError(`${this.#endpoint.peer} ${missing} while it was in use; connection closed`, { code: 'EFAULT' }),
    );
  }

  /** Stops everything that the front-end set up and gives its memory back. */
  async #forgetPeer(): Promise<void> {
    await this.#stopRings(this.#vrings);
    for (const vring of this.#vrings) {
      for (const fd of [vring.kick, vring.call, vring.error]) if (fd >= 0) closeFd(fd);
      Object.assign(vring, newVring());
    }
    for (let ring = 0; ring < this.#vrings.length; ring++) {
      const queue = this.#options.queue(ring);
      queue?.set(Q_NOTIFY_FD, NO_DESCRIPTOR);
      queue?.set(Q_INTERRUPT_FD, NO_DESCRIPTOR);
    }
    await this.#iotlb?.forgetPeer();
    this.#memory.clear();
    this.#features = 0n;
    this.#protocolFeatures = 0;
    this.#status = 0;
    this.#mtu = undefined;
    this.#updateLink();
  }

  async #receive(connection: VhostUserConnection, message: Message): Promise<void> {
    const descriptors = [...message.descriptors];
    try {
      if (!connection.isOpen()) return;
      const answered = await this.#handle(connection, message, descriptors);
      if (descriptors.length > 0) throw new Error(`${String(descriptors.length)} file descriptors more than the message has`);
      // handling may have waited, and the front-end may have gone meanwhile
      if (!answered && message.needReply && (this.#protocolFeatures & PROTOCOL_F.REPLY_ACK) !== 0 && connection.isOpen()) {
        connection.send(message.request, FLAG_REPLY, encodeU64(0n));
      }
    } catch (error) {
      if (!connection.isOpen()) return;
      const text = error instanceof Error ? error.message : String(error);
      if (message.needReply) {
        try {
          connection.send(message.request, FLAG_REPLY, encodeU64(1n));
        } catch {
          // the connection ends anyway
        }
      }
      this.#endpoint.fail(
        connection,
        new VirtioError(`${this.#endpoint.peer} ${requestName(message.request)}: ${text}; connection closed`, {
          code: 'EPROTO',
          cause: error,
        }),
      );
    } finally {
      for (const fd of descriptors) closeFd(fd);
    }
  }

  /** Handles one message. Descriptors that are kept are taken out of the list; the others are closed by the caller. */
  async #handle(connection: VhostUserConnection, message: Message, descriptors: number[]): Promise<boolean> {
    const { request, payload } = message;
    const reply = (bytes: Buffer): true => {
      connection.send(request, FLAG_REPLY, bytes);
      return true;
    };
    switch (request) {
      case REQUEST.GET_FEATURES:
        return reply(encodeU64(this.#offered));
      case REQUEST.SET_FEATURES:
        await this.#setFeatures(readU64(payload));
        return false;
      case REQUEST.GET_PROTOCOL_FEATURES:
        return reply(encodeU64(BigInt(this.#offeredProtocol)));
      case REQUEST.SET_PROTOCOL_FEATURES: {
        const features = readU64(payload);
        if ((features & ~BigInt(this.#offeredProtocol)) !== 0n)
          throw new Error(`protocol features 0x${features.toString(16)} were not offered`);
        this.#protocolFeatures = Number(features);
        return false;
      }
      case REQUEST.GET_QUEUE_NUM:
        return reply(encodeU64(BigInt(this.#options.queuePairs)));
      case REQUEST.SET_OWNER:
        return false;
      case REQUEST.RESET_OWNER:
      case REQUEST.RESET_DEVICE:
        await this.#resetRings();
        return false;
      case REQUEST.SET_STATUS:
        this.#status = Number(readU64(payload) & 0xffn);
        if (this.#status === 0) await this.#resetRings();
        return false;
      case REQUEST.GET_STATUS:
        return reply(encodeU64(BigInt(this.#status)));
      case REQUEST.NET_SET_MTU: {
        const mtu = readU64(payload);
        if (mtu < 68n || mtu > 65_535n) throw new Error(`MTU ${String(mtu)} is outside 68..65535`);
        await this.#setMtu(Number(mtu));
        return false;
      }
      case REQUEST.SET_MEM_TABLE: {
        const regions = decodeMemoryTable(payload);
        if (regions === undefined) {
          throw new Error(
            `a table of more than ${String(REGIONS_PER_TABLE)} regions or of another size than it says; give the front-end --single-file-segments or fewer, larger pages`,
          );
        }
        await this.#changeMemory(() => {
          this.#memory.replace(regions, descriptors.splice(0));
        });
        return false;
      }
      case REQUEST.GET_MAX_MEM_SLOTS:
        return reply(encodeU64(BigInt(PEER_REGION_LIMIT)));
      case REQUEST.ADD_MEM_REG: {
        const region = decodeSingleRegion(payload);
        const [fd] = descriptors.splice(0, 1);
        if (region === undefined || fd === undefined) {
          if (fd !== undefined) closeFd(fd);
          throw new Error('it needs a region and one file descriptor');
        }
        await this.#changeMemory(() => {
          this.#memory.add(region, fd);
        });
        return false;
      }
      case REQUEST.REM_MEM_REG: {
        const region = decodeSingleRegion(payload);
        // it may carry the region's descriptor once more (vhost-user, VHOST_USER_REM_MEM_REG): of no use here
        for (const fd of descriptors.splice(0, 1)) closeFd(fd);
        if (region === undefined) throw new Error('it needs a region');
        await this.#changeMemory(() => {
          this.#memory.remove(region);
        });
        return false;
      }
      case REQUEST.SET_VRING_NUM: {
        const { vring, ring, value } = this.#vringState(payload);
        (this.#packed ? checkRingSize : checkSplitSize)('ring size', value);
        await this.#stopRings([vring]);
        if (vring.size !== value) vring.attached = false;
        vring.size = value;
        this.#update(ring);
        return false;
      }
      case REQUEST.SET_VRING_BASE: {
        // of a split ring the used index in the ring itself is what counts: see DeviceQueue.attach; DPDK sends the lower half alone
        const { vring, value } = this.#vringState(payload);
        vring.base = value & 0xffff;
        return false;
      }
      case REQUEST.SET_VRING_ADDR: {
        if (payload.length < 40) throw new Error(`${String(payload.length)} bytes of 40`);
        const address = decodeVringAddress(payload);
        const { vring, ring } = this.#vring(address.index);
        await this.#stopRings([vring]);
        vring.address = address;
        vring.attached = false;
        this.#update(ring);
        return false;
      }
      case REQUEST.GET_VRING_BASE: {
        const { vring, ring } = this.#vringState(payload);
        await this.#stopRings([vring]);
        const next = vring.attached ? (this.#options.queue(ring)?.nextAvailable ?? 0) : this.#packed ? vring.base : 0;
        // what was fetched is finished: descriptors become used where they become available
        const base = this.#packed ? next * 0x1_0001 : next;
        vring.base = next;
        vring.started = false;
        vring.attached = false;
        if (vring.kick >= 0) closeFd(vring.kick);
        vring.kick = -1;
        this.#updateLink();
        return reply(encodeVringState(ring, base));
      }
      case REQUEST.SET_VRING_KICK: {
        const { vring, ring, fd } = this.#vringDescriptor(payload, descriptors);
        const old = vring.kick;
        vring.kick = fd;
        this.#options.queue(ring)?.set(Q_INTERRUPT_FD, fd >= 0 ? fd : NO_DESCRIPTOR);
        if (old >= 0) {
          // an lcore may be asleep on it, and about to read it
          await this.#options.gracePeriod();
          closeFd(old);
        }
        vring.started = true;
        this.#update(ring);
        // one that sleeps looks at what came before
        if (vring.running && vring.enabled) void this.#options.gracePeriod();
        return false;
      }
      case REQUEST.SET_VRING_CALL: {
        const { vring, ring, fd } = this.#vringDescriptor(payload, descriptors);
        const old = vring.call;
        vring.call = fd;
        this.#options.queue(ring)?.set(Q_NOTIFY_FD, fd >= 0 ? fd : NO_DESCRIPTOR);
        if (old >= 0) {
          await this.#options.gracePeriod();
          closeFd(old);
        }
        return false;
      }
      case REQUEST.SET_VRING_ERR: {
        const { vring, fd } = this.#vringDescriptor(payload, descriptors);
        if (vring.error >= 0) closeFd(vring.error);
        vring.error = fd;
        return false;
      }
      case REQUEST.SET_VRING_ENABLE: {
        const { vring, ring, value } = this.#vringState(payload);
        const enabled = value !== 0;
        const before = vring.enabled;
        if (!enabled && before) await this.#stopRings([vring]);
        vring.enabled = enabled;
        // at once: a front-end may send as soon as it has written this message
        this.#update(ring);
        this.#options.onQueueState(ring, enabled);
        // the answer, where one is asked for, says that no lcore still discards what comes; one that sleeps looks at the ring
        if (enabled && !before && (ring & 1) === 1) await this.#options.gracePeriod();
        return false;
      }
      case REQUEST.SET_BACKEND_REQ_FD: {
        if (this.#iotlb === undefined || (this.#protocolFeatures & PROTOCOL_F.BACKEND_REQ) === 0)
          throw new Error('a back-end channel was not negotiated');
        const [fd] = descriptors.splice(0, 1);
        if (fd === undefined) throw new Error('the file descriptor is missing');
        this.#iotlb.setChannel(fd);
        return false;
      }
      case REQUEST.IOTLB_MSG:
        await this.#translate(payload);
        return false;
      default:
        throw new Error('not supported by this back-end, and not offered');
    }
  }

  async #setFeatures(features: bigint): Promise<void> {
    if ((features & ~this.#offered) !== 0n) {
      throw new Error(`features 0x${features.toString(16)} go beyond the offered 0x${this.#offered.toString(16)}`);
    }
    // the control queue is the front-end's
    const effective = takeAccepted(features, VIRTIO_NET_F_CTRL_VQ);
    await this.#stopRings(this.#vrings);
    // the same numbers mean other places
    if (((this.#features ^ effective) & VIRTIO_F_ACCESS_PLATFORM) !== 0n) for (const vring of this.#vrings) vring.attached = false;
    this.#features = effective;
    this.#iotlb?.setInUse(this.#translations !== undefined);
    // without protocol features there is no SET_VRING_ENABLE: rings are enabled from the start
    if ((features & VHOST_USER_F_PROTOCOL_FEATURES) === 0n) for (const vring of this.#vrings) vring.enabled = true;
    this.#updateAll();
  }

  async #setMtu(mtu: number): Promise<void> {
    await this.#stopRings(this.#vrings);
    this.#mtu = mtu;
    for (const [, queue] of this.#queues()) queue.set(Q_LENGTH_LIMIT, lengthLimit(this.#features, mtu));
    this.#updateAll();
  }

  async #resetRings(): Promise<void> {
    await this.#stopRings(this.#vrings);
    const enabled = this.#features !== 0n && (this.#features & VHOST_USER_F_PROTOCOL_FEATURES) === 0n;
    for (const vring of this.#vrings) {
      vring.started = false;
      vring.attached = false;
      vring.base = POSITION_START;
      vring.enabled = enabled;
    }
    this.#updateLink();
  }

  async #changeMemory(change: () => void): Promise<void> {
    await this.#stopRings(this.#vrings);
    change();
    await this.#translations?.clear();
    for (const [ring, vring] of this.#vrings.entries()) {
      // the same rings at other offsets; the front-end does not send their addresses again
      if (!vring.attached) continue;
      if (this.#translations === undefined) vring.attached = this.#pointAt(ring, false);
      else vring.displaced = true;
    }
    this.#updateAll();
  }

  #makeIotlb(): Iotlb {
    const { arena, gracePeriod, log } = this.#options;
    return new Iotlb({
      arena,
      peer: this.#endpoint.peer,
      memory: this.#memory,
      queues: () => this.#queues(),
      gracePeriod,
      onRetry: () => void this.#enqueue(() => this.#tryWaiting()),
      log,
    });
  }

  *#queues(): Generator<readonly [ring: number, queue: DeviceQueue]> {
    for (let ring = 0; ring < this.#vrings.length; ring++) {
      const queue = this.#options.queue(ring);
      if (queue !== undefined) yield [ring, queue];
    }
  }

  /** Starts rings that waited for translations, or asks for those once more. */
  #tryWaiting(): Promise<void> {
    const { connection } = this.#endpoint;
    if (this.#translations === undefined || connection === undefined) return Promise.resolve();
    try {
      this.#updateWaiting();
    } catch (cause) {
      const text = cause instanceof Error ? cause.message : String(cause);
      this.#endpoint.fail(connection, new VirtioError(`${this.#endpoint.peer} ${text}; connection closed`, { code: 'EPROTO', cause }));
    }
    return Promise.resolve();
  }

  /** IOTLB_MSG: a translation comes or goes. Rings whose parts are concerned stop until they are found again. */
  async #translate(payload: Buffer): Promise<void> {
    const iotlb = this.#translations;
    if (iotlb === undefined) throw new Error('VIRTIO_F_ACCESS_PLATFORM was not negotiated');
    const message = decodeIotlbMessage(payload);
    if (message === undefined) throw new Error(`${String(payload.length)} bytes of 32`);
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
    this.#updateWaiting();
  }

  #updateWaiting(): void {
    for (const [ring, vring] of this.#vrings.entries()) if (!vring.attached || vring.displaced) this.#update(ring);
  }

  async #displace(vrings: readonly Vring[]): Promise<void> {
    for (const vring of vrings) vring.displaced = true;
    await this.#stopRings(vrings);
  }

  #parts({ address, size }: Vring): readonly RingPart[] {
    return address === undefined ? [] : ringParts(address, size, this.#packed);
  }

  /** Whether a part of an attached ring is not any more where the queue has it. */
  #moved(vring: Vring, iotlb: Iotlb): boolean {
    const queue = this.#options.queue(this.#vrings.indexOf(vring));
    if (queue === undefined) return false;
    return this.#parts(vring).some(({ address, bytes, permission, field }) => iotlb.find(address, bytes, permission) !== queue.get(field));
  }

  #vring(index: number): { readonly vring: Vring; readonly ring: number } {
    const vring = this.#vrings[index];
    if (vring === undefined)
      throw new Error(`ring ${String(index)} of ${String(this.#vrings.length)}; raise queues= of ${this.#options.name}`);
    return { vring, ring: index };
  }

  #vringState(payload: Buffer): { readonly vring: Vring; readonly ring: number; readonly value: number } {
    if (payload.length < 8) throw new Error(`${String(payload.length)} bytes of 8`);
    return { ...this.#vring(payload.readUInt32LE(0)), value: payload.readUInt32LE(4) };
  }

  /** The eventfd of KICK, CALL and ERR, or -1 when none came with the message. */
  #vringDescriptor(payload: Buffer, descriptors: number[]): { readonly vring: Vring; readonly ring: number; readonly fd: number } {
    const value = readU64(payload);
    const found = this.#vring(Number(value & 0xffn));
    if ((value & BigInt(NO_FD)) !== 0n) return { ...found, fd: -1 };
    const [fd] = descriptors.splice(0, 1);
    if (fd === undefined) throw new Error('the file descriptor is missing');
    if (!isEventFd(fd)) {
      closeFd(fd);
      throw new Error('the file descriptor is not an eventfd');
    }
    // a full counter must not hold up an lcore
    setNonBlocking(fd);
    return { ...found, fd };
  }

  /** Finds the ring's parts in the peer's memory and points the queue at them. */
  #pointAt(ring: number, fresh: boolean): boolean {
    const vring = this.#vrings[ring];
    const queue = this.#options.queue(ring);
    if (vring?.address === undefined || queue === undefined || vring.size === 0) return false;
    const [descriptors, available, used] = this.#parts(vring).map((part) => this.#find(ring, part));
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
      regions: this.#translations?.tableOf(ring) ?? this.#memory.table,
    };
    if (fresh) queue.attach(place, vring.base);
    else queue.point(place);
    this.#translations?.serve(queue);
    queue.set(Q_NOTIFY_FD, vring.call >= 0 ? vring.call : NO_DESCRIPTOR);
    queue.set(Q_INTERRUPT_FD, vring.kick >= 0 ? vring.kick : NO_DESCRIPTOR);
    return true;
  }

  /** Arena offset of a part of a ring; undefined: the front-end has been asked for its translation. */
  #find(ring: number, { name, address, bytes, align, permission }: RingPart): number | undefined {
    const what = `the ${name} of ring ${String(ring)}`;
    const iotlb = this.#translations;
    const offset = iotlb === undefined ? this.#memory.translateUser(address, bytes) : iotlb.locate(what, address, bytes, permission);
    if (offset === undefined) {
      if (iotlb !== undefined) return undefined;
      throw new Error(`${what} at 0x${address.toString(16)} lies outside the shared memory`);
    }
    if (offset % align !== 0) throw new Error(`${what} at 0x${address.toString(16)} is not aligned to ${String(align)} bytes`);
    return offset;
  }

  #updateAll(): void {
    for (let ring = 0; ring < this.#vrings.length; ring++) this.#update(ring);
  }

  /** Starts a ring that has become ready. */
  #update(ring: number): void {
    const vring = this.#vrings[ring];
    if (vring === undefined) return;
    if (vring.started && this.#memory.regions.length > 0) {
      if (vring.attached && vring.displaced) vring.displaced = !this.#pointAt(ring, false);
      if (!vring.attached) {
        vring.attached = this.#pointAt(ring, true);
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
  async #stopRings(vrings: readonly Vring[]): Promise<void> {
    const stopped: [Vring, DeviceQueue | undefined][] = [];
    for (const [ring, vring] of this.#vrings.entries()) {
      if (!vrings.includes(vring) || !vring.running) continue;
      const queue = this.#options.queue(ring);
      queue?.setState(QUEUE_STOPPED);
      vring.running = false;
      stopped.push([vring, queue]);
    }
    if (stopped.length > 0) await this.#options.gracePeriod();
    // a packed ring does not tell where its device is
    for (const [vring, queue] of stopped) if (queue !== undefined) vring.base = queue.nextAvailable;
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

function readU64(payload: Buffer): bigint {
  if (payload.length < 8) throw new Error(`${String(payload.length)} bytes of 8`);
  return payload.readBigUInt64LE(0);
}
