/**
 * The vhost-user back-end: the device side of one port, told by a front-end (virtio_user, QEMU) where its rings are.
 *
 * Listens, or connects again and again; serves one front-end at a time, and handles its messages one after the other: what each does is
 * said here (#handle), when a ring runs in device-rings.ts, and what its addresses are in address-space.ts. A front-end that breaks the
 * rules loses its connection, with a reason, and nothing else happens.
 * @module
 */
import type { Arena } from '../../memory/arena.ts';
import type { DeviceQueue } from '../../ring/virtqueue.ts';
import { VirtioError } from '../../system/error.ts';
import { closeFd } from '../../system/event-fd.ts';
import { lookRegularly } from '../../system/regular-looks.ts';
import { isEventFd, setNonBlocking } from '../../system/unix-socket.ts';
import { takeAccepted } from '../feature-dependencies.ts';
import { PEER_REGION_LIMIT } from '../peer-memory.ts';
import { VIRTIO_F_ACCESS_PLATFORM, VIRTIO_NET_F_CTRL_VQ } from '../virtio-features.ts';
import { AddressSpace } from './address-space.ts';
import type { VhostUserConnection } from './connection.ts';
import { DEVICE_FEATURES, DEVICE_PROTOCOL_FEATURES, DEVICE_SEGMENTATION_FEATURES } from './device-features.ts';
import { DeviceRings, type DeviceRingsOptions } from './device-rings.ts';
import { VhostUserEndpoint } from './endpoint.ts';
import type { IotlbStatistics } from './iotlb.ts';
import {
  decodeIotlbMessage,
  decodeMemoryTable,
  decodeSingleRegion,
  decodeVringAddress,
  encodeU64,
  encodeVringState,
  FLAG_REPLY,
  NO_FD,
  PROTOCOL_F,
  REGIONS_PER_TABLE,
  REQUEST,
  requestName,
  type Message,
} from './messages.ts';

export interface VhostUserDeviceOptions extends Pick<DeviceRingsOptions, 'name' | 'queue' | 'gracePeriod' | 'onLink' | 'onQueueState'> {
  readonly arena: Arena;
  readonly path: string;
  /** Connect to a front-end that listens, instead of listening. */
  readonly client: boolean;
  /** Queue pairs. */
  readonly queuePairs: number;
  /** Offer DEVICE_SEGMENTATION_FEATURES. */
  readonly segmentation: boolean;
  /** Offer VIRTIO_F_ACCESS_PLATFORM: addresses may be those of an IOMMU, for which the front-end is asked. Default false. */
  readonly iommu?: boolean;
  readonly log: (text: string) => void;
}

export class VhostUserDevice {
  readonly #options: VhostUserDeviceOptions;
  readonly #endpoint: VhostUserEndpoint;
  readonly #addresses: AddressSpace;
  readonly #rings: DeviceRings;
  /** Messages are handled one after the other, though handling one may wait for lcores. */
  #work: Promise<void> = Promise.resolve();
  #protocolFeatures = 0;
  #status = 0;
  #open = true;
  /** Faults of the arena when last looked at, and how often that is. */
  #faults = 0;
  readonly #stopLooking: () => void;

  /** Listens at once. @throws VirtioError when the path cannot be listened at */
  constructor(options: VhostUserDeviceOptions) {
    this.#options = options;
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
    this.#addresses = new AddressSpace({
      arena: options.arena,
      peer: this.#endpoint.peer,
      iommu: options.iommu ?? false,
      queues: () => this.#queues(),
      gracePeriod: options.gracePeriod,
      onRetry: () => void this.#enqueue(() => this.#tryWaiting()),
      log: options.log,
    });
    this.#rings = new DeviceRings({ ...options, count: 2 * options.queuePairs, addresses: this.#addresses });
    this.#faults = options.arena.peerFaults;
    this.#stopLooking = lookRegularly(() => {
      this.#lookForFaults();
    });
    if (options.client) this.#endpoint.keepConnecting();
  }

  get #offered(): bigint {
    return (
      DEVICE_FEATURES |
      (this.#options.segmentation ? DEVICE_SEGMENTATION_FEATURES : 0n) |
      (this.#addresses.iotlb === undefined ? 0n : VIRTIO_F_ACCESS_PLATFORM)
    );
  }

  get #offeredProtocol(): number {
    return DEVICE_PROTOCOL_FEATURES | (this.#addresses.iotlb === undefined ? 0 : PROTOCOL_F.BACKEND_REQ);
  }

  /** What the IOTLB has done, with iommu-support; otherwise undefined. */
  get iotlbStatistics(): IotlbStatistics | undefined {
    return this.#addresses.iotlb?.statistics;
  }

  /** Times that a ring has waited for a translation. */
  iotlbMisses(ring: number): number {
    return this.#addresses.iotlb?.missesOf(ring) ?? 0;
  }

  get linkUp(): boolean {
    return this.#rings.linkUp;
  }

  /** Features negotiated with the front-end; 0 while there is none. */
  get features(): bigint {
    return this.#rings.features;
  }

  /** Queues run only while the port is started. */
  async setPortStarted(started: boolean): Promise<void> {
    await this.#enqueue(() => this.#rings.setPortStarted(started));
  }

  /** Tells the front-end that a ring was given up, where it asked to be told (SET_VRING_ERR). */
  signalError(ring: number): void {
    this.#rings.signalError(ring);
  }

  /** The queues behind the rings have been made anew. */
  async queuesReplaced(): Promise<void> {
    await this.#enqueue(() => {
      this.#rings.queuesReplaced();
      return Promise.resolve();
    });
  }

  async close(): Promise<void> {
    if (!this.#open) return;
    this.#open = false;
    this.#stopLooking();
    this.#endpoint.close();
    await this.#enqueue(async () => {
      await this.#forgetPeer();
      this.#addresses.close();
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
    const { missing } = this.#addresses.memory;
    const { connection } = this.#endpoint;
    if (missing === undefined || connection === undefined) return;
    this.#endpoint.fail(
      connection,
      new VirtioError(`${this.#endpoint.peer} ${missing} while it was in use; connection closed`, { code: 'EFAULT' }),
    );
  }

  /** Stops everything that the front-end set up and gives its memory back. */
  async #forgetPeer(): Promise<void> {
    await this.#rings.forgetPeer();
    this.#protocolFeatures = 0;
    this.#status = 0;
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
        await this.#rings.reset();
        return false;
      case REQUEST.SET_STATUS:
        this.#status = Number(readU64(payload) & 0xffn);
        if (this.#status === 0) await this.#rings.reset();
        return false;
      case REQUEST.GET_STATUS:
        return reply(encodeU64(BigInt(this.#status)));
      case REQUEST.NET_SET_MTU: {
        const mtu = readU64(payload);
        if (mtu < 68n || mtu > 65_535n) throw new Error(`MTU ${String(mtu)} is outside 68..65535`);
        await this.#rings.setMtu(Number(mtu));
        return false;
      }
      case REQUEST.SET_MEM_TABLE: {
        const regions = decodeMemoryTable(payload);
        if (regions === undefined) {
          throw new Error(
            `a table of more than ${String(REGIONS_PER_TABLE)} regions or of another size than it says; give the front-end --single-file-segments or fewer, larger pages`,
          );
        }
        await this.#rings.changeMemory((memory) => {
          memory.replace(regions, descriptors.splice(0));
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
        await this.#rings.changeMemory((memory) => {
          memory.add(region, fd);
        });
        return false;
      }
      case REQUEST.REM_MEM_REG: {
        const region = decodeSingleRegion(payload);
        // it may carry the region's descriptor once more (vhost-user, VHOST_USER_REM_MEM_REG): of no use here
        for (const fd of descriptors.splice(0, 1)) closeFd(fd);
        if (region === undefined) throw new Error('it needs a region');
        await this.#rings.changeMemory((memory) => {
          memory.remove(region);
        });
        return false;
      }
      case REQUEST.SET_VRING_NUM: {
        const { ring, value } = vringState(payload);
        await this.#rings.setSize(ring, value);
        return false;
      }
      case REQUEST.SET_VRING_BASE: {
        const { ring, value } = vringState(payload);
        this.#rings.setBase(ring, value);
        return false;
      }
      case REQUEST.SET_VRING_ADDR:
        if (payload.length < 40) throw new Error(`${String(payload.length)} bytes of 40`);
        await this.#rings.setAddress(decodeVringAddress(payload));
        return false;
      case REQUEST.GET_VRING_BASE: {
        const { ring } = vringState(payload);
        return reply(encodeVringState(ring, await this.#rings.end(ring)));
      }
      case REQUEST.SET_VRING_KICK: {
        const { ring, fd } = this.#vringDescriptor(payload, descriptors);
        await this.#rings.setKick(ring, fd);
        return false;
      }
      case REQUEST.SET_VRING_CALL: {
        const { ring, fd } = this.#vringDescriptor(payload, descriptors);
        await this.#rings.setCall(ring, fd);
        return false;
      }
      case REQUEST.SET_VRING_ERR: {
        const { ring, fd } = this.#vringDescriptor(payload, descriptors);
        this.#rings.setError(ring, fd);
        return false;
      }
      case REQUEST.SET_VRING_ENABLE: {
        const { ring, value } = vringState(payload);
        await this.#rings.setEnabled(ring, value !== 0, message.needReply);
        return false;
      }
      case REQUEST.SET_BACKEND_REQ_FD: {
        if (this.#addresses.iotlb === undefined || (this.#protocolFeatures & PROTOCOL_F.BACKEND_REQ) === 0)
          throw new Error('a back-end channel was not negotiated');
        const [fd] = descriptors.splice(0, 1);
        if (fd === undefined) throw new Error('the file descriptor is missing');
        this.#addresses.iotlb.setChannel(fd);
        return false;
      }
      case REQUEST.IOTLB_MSG: {
        const iotlb = this.#addresses.translations;
        if (iotlb === undefined) throw new Error('VIRTIO_F_ACCESS_PLATFORM was not negotiated');
        const translation = decodeIotlbMessage(payload);
        if (translation === undefined) throw new Error(`${String(payload.length)} bytes of 32`);
        await this.#rings.translate(iotlb, translation);
        return false;
      }
      default:
        throw new Error('not supported by this back-end, and not offered');
    }
  }

  async #setFeatures(features: bigint): Promise<void> {
    if ((features & ~this.#offered) !== 0n) {
      throw new Error(`features 0x${features.toString(16)} go beyond the offered 0x${this.#offered.toString(16)}`);
    }
    // the control queue is the front-end's
    await this.#rings.setFeatures(takeAccepted(features, VIRTIO_NET_F_CTRL_VQ));
  }

  *#queues(): Generator<readonly [ring: number, queue: DeviceQueue]> {
    for (let ring = 0; ring < 2 * this.#options.queuePairs; ring++) {
      const queue = this.#options.queue(ring);
      if (queue !== undefined) yield [ring, queue];
    }
  }

  /** Starts rings that waited for translations, or asks for those once more. */
  #tryWaiting(): Promise<void> {
    const { connection } = this.#endpoint;
    if (this.#addresses.translations === undefined || connection === undefined) return Promise.resolve();
    try {
      this.#rings.updateWaiting();
    } catch (cause) {
      const text = cause instanceof Error ? cause.message : String(cause);
      this.#endpoint.fail(connection, new VirtioError(`${this.#endpoint.peer} ${text}; connection closed`, { code: 'EPROTO', cause }));
    }
    return Promise.resolve();
  }

  /** The eventfd of KICK, CALL and ERR, or -1 when none came with the message. */
  #vringDescriptor(payload: Buffer, descriptors: number[]): { readonly ring: number; readonly fd: number } {
    const value = readU64(payload);
    const ring = Number(value & 0xffn);
    this.#rings.checkNumber(ring);
    if ((value & BigInt(NO_FD)) !== 0n) return { ring, fd: -1 };
    const [fd] = descriptors.splice(0, 1);
    if (fd === undefined) throw new Error('the file descriptor is missing');
    if (!isEventFd(fd)) {
      closeFd(fd);
      throw new Error('the file descriptor is not an eventfd');
    }
    // a full counter must not hold up an lcore
    setNonBlocking(fd);
    return { ring, fd };
  }
}

function vringState(payload: Buffer): { readonly ring: number; readonly value: number } {
  if (payload.length < 8) throw new Error(`${String(payload.length)} bytes of 8`);
  return { ring: payload.readUInt32LE(0), value: payload.readUInt32LE(4) };
}

function readU64(payload: Buffer): bigint {
  if (payload.length < 8) throw new Error(`${String(payload.length)} bytes of 8`);
  return payload.readBigUInt64LE(0);
}
