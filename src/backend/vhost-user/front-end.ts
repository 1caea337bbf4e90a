/**
 * The vhost-user front-end: the driver's half of the conversation, as client or as server.
 *
 * Everything is asynchronous: the peer may be a port of the same process, whose answers need this very thread. When the
 * connection is lost the client tries again every second and the server waits; a new offer starts the port anew.
 * @module
 */
import type { Arena } from '../../memory/arena.ts';
import { Q_NOTIFY_FD } from '../../ring/queue-layout.ts';
import type { DriverQueue } from '../../ring/virtqueue.ts';
import { VirtioError } from '../../system/error.ts';
import { closeFd, createEventFd, signalEventFd } from '../../system/event-fd.ts';
import type { BackendEvents, DeviceOffer, DeviceStart, Interruption, VirtioBackend } from '../backend.ts';
import {
  VHOST_USER_F_PROTOCOL_FEATURES,
  VIRTIO_NET_F_MQ,
  VIRTIO_STATUS_ACKNOWLEDGE,
  VIRTIO_STATUS_DRIVER,
  VIRTIO_STATUS_DRIVER_OK,
  VIRTIO_STATUS_FEATURES_OK,
} from '../virtio-features.ts';
import type { VhostUserConnection } from './connection.ts';
import { VhostUserEndpoint } from './endpoint.ts';
import {
  encodeMemoryTable,
  encodeU64,
  encodeVringAddress,
  encodeVringState,
  FLAG_NEED_REPLY,
  PROTOCOL_F,
  REQUEST,
  requestName,
  type Message,
} from './messages.ts';

/** Protocol features that this end uses where the back-end has them. */
const FRONT_END_PROTOCOL_FEATURES = PROTOCOL_F.MQ | PROTOCOL_F.REPLY_ACK | PROTOCOL_F.STATUS | PROTOCOL_F.CONFIGURE_MEM_SLOTS;
const REPLY_MILLISECONDS = 10_000;
/** A peer that hangs up in the first handshake is tried again for this long: it may be a listener that is just dying. */
const FIRST_HANDSHAKE_ATTEMPTS = 3;
const FIRST_HANDSHAKE_PAUSE_MILLISECONDS = 250;

export interface VhostUserFrontEndOptions {
  readonly arena: Arena;
  readonly path: string;
  /** Listen and wait for the back-end, instead of connecting to it. */
  readonly server: boolean;
  readonly events: BackendEvents;
  readonly log: (text: string) => void;
  /** Ends the wait for the first answers. */
  readonly signal?: Interruption | undefined;
}

interface PendingReply {
  readonly request: number;
  readonly resolve: (payload: Buffer) => void;
  readonly reject: (error: Error) => void;
  readonly timer: NodeJS.Timeout;
}

interface RingDescriptors {
  readonly kick: number;
  readonly call: number;
}

export class VhostUserFrontEnd implements VirtioBackend {
  readonly peer: string;
  readonly #options: VhostUserFrontEndOptions;
  readonly #endpoint: VhostUserEndpoint;
  #pending: PendingReply[] = [];
  #offered = 0n;
  #protocolFeatures = 0;
  #descriptors: RingDescriptors[] = [];
  /** Numbers of the rings that the back-end holds. */
  #started: readonly number[] = [];
  #open = true;
  /** open() itself tries again: a loss meanwhile must not lead to a second connection. */
  #opening = false;

  constructor(options: VhostUserFrontEndOptions) {
    this.#options = options;
    this.#endpoint = new VhostUserEndpoint({
      path: options.path,
      server: options.server,
      other: 'back-end',
      backlog: 1,
      log: options.log,
      onConnected: (connection) => {
        this.#begin(connection);
      },
      onMessage: (connection, message) => {
        this.#receive(connection, message);
      },
      onLost: (_, error) => {
        this.#lost(error);
      },
    });
    this.peer = this.#endpoint.peer;
  }

  async open(): Promise<DeviceOffer | undefined> {
    if (this.#options.server) {
      this.#endpoint.listen();
      return undefined;
    }
    const giveUp = (): void => {
      void this.close();
    };
    this.#options.signal?.addEventListener('abort', giveUp, { once: true });
    this.#opening = true;
    try {
      return await this.#firstHandshake();
    } finally {
      this.#opening = false;
      this.#options.signal?.removeEventListener('abort', giveUp);
    }
  }

  async #firstHandshake(): Promise<DeviceOffer> {
    for (let attempt = 1; ; attempt++) {
      if (this.#options.signal?.aborted === true) throw new VirtioError(`${this.peer}: interrupted`, { code: 'ECANCELED' });
      const connection = this.#endpoint.connect();
      try {
        return await this.#handshake(connection);
      } catch (error) {
        this.#endpoint.drop(connection);
        const gone = error instanceof VirtioError && ['EPIPE', 'ECONNRESET', 'ENOTCONN'].includes(error.code);
        if (!gone || attempt === FIRST_HANDSHAKE_ATTEMPTS) throw error;
        await new Promise((resolve) => setTimeout(resolve, FIRST_HANDSHAKE_PAUSE_MILLISECONDS));
      }
    }
  }

  async start(start: DeviceStart): Promise<void> {
    const connection = this.#connected();
    const { rings } = start;
    const withProtocol = (this.#offered & VHOST_USER_F_PROTOCOL_FEATURES) !== 0n;
    while (this.#descriptors.length < rings.length) this.#descriptors.push({ kick: createEventFd(), call: createEventFd() });
    const used = [...rings.keys()].filter((index) => rings[index] !== undefined);
    for (const index of used) connection.send(REQUEST.SET_VRING_CALL, 0, encodeU64(BigInt(index)), [this.#ring(index).call]);
    connection.send(REQUEST.SET_FEATURES, 0, encodeU64(start.features | (withProtocol ? VHOST_USER_F_PROTOCOL_FEATURES : 0n)));
    const accepted = VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER | VIRTIO_STATUS_FEATURES_OK;
    await this.#setStatus(connection, accepted);
    if ((this.#protocolFeatures & PROTOCOL_F.STATUS) !== 0) {
      const status = Number((await this.#ask(connection, REQUEST.GET_STATUS)).readBigUInt64LE());
      if ((status & VIRTIO_STATUS_FEATURES_OK) === 0) {
        throw new VirtioError(`${this.peer}: the back-end refused the features 0x${start.features.toString(16)}`, { code: 'EPROTO' });
      }
    }
    await this.#shareMemory(connection);
    for (const [index, ring] of rings.entries()) if (ring !== undefined) this.#handOver(connection, index, ring);
    this.#started = used;
    if (withProtocol) for (const index of used) connection.send(REQUEST.SET_VRING_ENABLE, 0, encodeVringState(index, 1));
    await this.#setStatus(connection, accepted | VIRTIO_STATUS_DRIVER_OK);
    // a back-end of the older text starts a ring when it is kicked
    for (const index of used) signalEventFd(this.#ring(index).kick);
  }

  async stop(): Promise<void> {
    const { connection } = this.#endpoint;
    const started = this.#started;
    this.#started = [];
    if (connection?.isOpen() !== true) return;
    try {
      if ((this.#offered & VHOST_USER_F_PROTOCOL_FEATURES) !== 0n) {
        for (const index of started) connection.send(REQUEST.SET_VRING_ENABLE, 0, encodeVringState(index, 0));
      }
      for (const index of started) await this.#ask(connection, REQUEST.GET_VRING_BASE, encodeVringState(index, 0));
    } catch (error) {
      // a back-end that is gone holds no rings
      this.#options.log(error instanceof Error ? error.message : String(error));
    }
  }

  receiveInterrupt(pair: number): number | undefined {
    return this.#descriptors[2 * pair]?.call;
  }

  close(): Promise<void> {
    if (this.#open) {
      this.#open = false;
      this.#endpoint.close();
      this.#rejectAll(new VirtioError(`${this.peer}: closed`, { code: 'ECANCELED' }));
      for (const { kick, call } of this.#descriptors.splice(0)) {
        closeFd(kick);
        closeFd(call);
      }
    }
    return Promise.resolve();
  }

  #ring(index: number): RingDescriptors {
    const descriptors = this.#descriptors[index];
    if (descriptors === undefined) throw new RangeError(`ring ${String(index)} has no descriptors`);
    return descriptors;
  }

  #connected(): VhostUserConnection {
    const { connection } = this.#endpoint;
    if (connection?.isOpen() !== true) throw new VirtioError(`${this.peer}: no back-end is connected`, { code: 'ENOTCONN' });
    return connection;
  }

  async #setStatus(connection: VhostUserConnection, status: number): Promise<void> {
    if ((this.#protocolFeatures & PROTOCOL_F.STATUS) !== 0) await this.#tell(connection, REQUEST.SET_STATUS, encodeU64(BigInt(status)));
  }

  async #shareMemory(connection: VhostUserConnection): Promise<void> {
    const { guestAddress, bytes, userAddress, fileOffset } = this.#options.arena.publishedRegion;
    const region = {
      guestAddress: BigInt(guestAddress),
      size: BigInt(bytes),
      userAddress: BigInt(userAddress),
      fileOffset: BigInt(fileOffset),
    };
    await this.#tell(connection, REQUEST.SET_MEM_TABLE, encodeMemoryTable([region]), [this.#options.arena.publishedFile]);
  }

  #handOver(connection: VhostUserConnection, index: number, ring: DriverQueue): void {
    const user = (offset: number): bigint => BigInt(this.#options.arena.base + offset);
    connection.send(REQUEST.SET_VRING_NUM, 0, encodeVringState(index, ring.size));
    connection.send(REQUEST.SET_VRING_BASE, 0, encodeVringState(index, ring.base));
    const address = { index, flags: 0, descriptors: user(ring.descriptors), used: user(ring.used), available: user(ring.available) };
    connection.send(REQUEST.SET_VRING_ADDR, 0, encodeVringAddress(address));
    connection.send(REQUEST.SET_VRING_KICK, 0, encodeU64(BigInt(index)), [this.#ring(index).kick]);
    ring.set(Q_NOTIFY_FD, this.#ring(index).kick);
  }

  /** The part of the conversation that needs no rings. */
  async #handshake(connection: VhostUserConnection): Promise<DeviceOffer> {
    this.#protocolFeatures = 0;
    connection.send(REQUEST.SET_OWNER, 0, new Uint8Array(0));
    this.#offered = (await this.#ask(connection, REQUEST.GET_FEATURES)).readBigUInt64LE();
    let queuePairs = 1;
    if ((this.#offered & VHOST_USER_F_PROTOCOL_FEATURES) !== 0n) {
      const offered = (await this.#ask(connection, REQUEST.GET_PROTOCOL_FEATURES)).readBigUInt64LE();
      this.#protocolFeatures = Number(offered & BigInt(FRONT_END_PROTOCOL_FEATURES));
      connection.send(REQUEST.SET_PROTOCOL_FEATURES, 0, encodeU64(BigInt(this.#protocolFeatures)));
      if ((this.#protocolFeatures & PROTOCOL_F.MQ) !== 0 && (this.#offered & VIRTIO_NET_F_MQ) !== 0n) {
        queuePairs = Number((await this.#ask(connection, REQUEST.GET_QUEUE_NUM)).readBigUInt64LE());
        if (queuePairs < 1 || queuePairs > 0x8000) {
          throw new VirtioError(`${this.peer}: the back-end says that it has ${String(queuePairs)} queue pairs`, { code: 'EPROTO' });
        }
      }
    }
    return { features: this.#offered, queuePairs, packedEvents: true };
  }

  /** A back-end has come by itself, or has come back. */
  #begin(connection: VhostUserConnection): void {
    this.#handshake(connection).then(
      (offer) => {
        if (connection.isOpen()) this.#options.events.onOffer(offer);
      },
      (error: unknown) => {
        if (connection.isOpen()) this.#endpoint.fail(connection, error instanceof VirtioError ? error : undefined);
      },
    );
  }

  #lost(error: VirtioError | undefined): void {
    this.#started = [];
    // what a peer did wrong is the answer to whatever was asked; only a lost connection is worth another try
    const gone = new VirtioError(`${this.peer}: the back-end closed the connection`, { code: 'ECONNRESET', cause: error });
    this.#rejectAll(error?.code === 'EPROTO' ? error : gone);
    if (this.#opening) return;
    this.#options.log(error === undefined ? `${this.peer} back-end disconnected` : error.message);
    this.#options.events.onLost();
    this.#endpoint.next();
  }

  #receive(connection: VhostUserConnection, message: Message): void {
    for (const fd of message.descriptors) closeFd(fd);
    const pending = this.#pending[0];
    if (!message.reply || pending?.request !== message.request || message.payload.length < 8) {
      const waited = pending === undefined ? 'nothing was asked' : `the answer to ${requestName(pending.request)} was expected`;
      const got = `${message.reply ? 'an answer' : 'a request'} ${requestName(message.request)} of ${String(message.payload.length)} bytes`;
      this.#endpoint.fail(connection, new VirtioError(`${this.peer}: ${got} came while ${waited}; connection closed`, { code: 'EPROTO' }));
      return;
    }
    this.#pending.shift();
    clearTimeout(pending.timer);
    pending.resolve(message.payload);
  }

  #rejectAll(error: Error): void {
    for (const pending of this.#pending.splice(0)) {
      clearTimeout(pending.timer);
      pending.reject(error);
    }
  }

  /** Sends a request that has an answer. */
  #ask(
    connection: VhostUserConnection,
    request: number,
    payload: Uint8Array = new Uint8Array(0),
    flags = 0,
    descriptors: readonly number[] = [],
  ): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      try {
        connection.send(request, flags, payload, descriptors);
      } catch (error) {
        reject(error instanceof Error ? error : new Error(String(error)));
        return;
      }
      const timer = setTimeout(() => {
        const error = new VirtioError(
          `${this.peer}: no answer to ${requestName(request)} within ${String(REPLY_MILLISECONDS / 1000)} s; is the peer a vhost-user back-end?`,
          {
            code: 'ETIMEDOUT',
          },
        );
        reject(error);
        if (connection.isOpen()) this.#endpoint.fail(connection, error);
      }, REPLY_MILLISECONDS);
      this.#pending.push({ request, resolve, reject, timer });
    });
  }

  /** Sends a request without an answer of its own, and waits for the acknowledgement where that was negotiated. */
  async #tell(connection: VhostUserConnection, request: number, payload: Uint8Array, descriptors: readonly number[] = []): Promise<void> {
    if ((this.#protocolFeatures & PROTOCOL_F.REPLY_ACK) === 0) {
      connection.send(request, 0, payload, descriptors);
      return;
    }
    const answer = await this.#ask(connection, request, payload, FLAG_NEED_REPLY, descriptors);
    if (answer.readBigUInt64LE() !== 0n)
      throw new VirtioError(`${this.peer}: the back-end refused ${requestName(request)}`, { code: 'EPROTO' });
  }
}
