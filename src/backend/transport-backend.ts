/**
 * A virtio device as the other side of a port, however it is reached (virtio-transport.ts): its start and stop, its control queue,
 * its link, and what happens when it goes.
 *
 *     rings and packets in the arena --- the device
 *                                   \--- VirtioTransport: features, status, configuration, rings, memory, interrupts
 *
 * What is asked of the device is asked in order, one thing at a time.
 * @module
 */
import { readSync } from 'node:fs';
import type { Arena } from '../memory/arena.ts';
import type { MacAddress } from '../net/mac-address.ts';
import { makeNotifier, setNotification, type Notification } from '../ring/notification.ts';
import type { DriverQueue } from '../ring/virtqueue.ts';
import { VirtioError } from '../system/error.ts';
import { closeFd, createEventFd } from '../system/event-fd.ts';
import { watchReadable } from '../system/readiness.ts';
import { lookRegularly } from '../system/regular-looks.ts';
import type { BackendEvents, DeviceLink, DeviceOffer, DeviceStart, VirtioBackend } from './backend.ts';
import { encodeRss, encodeU16, MAC_ADDR_SET, MQ_RSS_CONFIG, MQ_VQ_PAIRS_SET, type ControlCommand } from './control-commands.ts';
import { CONTROL_SIZE, ControlQueue } from './control-queue.ts';
import { begin, LEGACY_FEATURES, negotiate } from './device-status.ts';
import { withPrerequisites } from './feature-dependencies.ts';
import { agreeOnMac, changeMac, checkMtu, controlRing, inspect, readSpeed, type Inspection } from './inspection.ts';
import { readNetConfig, VIRTIO_NET_S_ANNOUNCE, VIRTIO_NET_S_LINK_UP } from './net-config.ts';
import { ringBits } from './ring-features.ts';
import {
  CONTROL_QUEUE_FEATURES,
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_ANY_LAYOUT,
  VIRTIO_F_NOTIF_CONFIG_DATA,
  VIRTIO_F_NOTIFICATION_DATA,
  VIRTIO_F_ORDER_PLATFORM,
  VIRTIO_F_RING_RESET,
  VIRTIO_NET_F_CTRL_MAC_ADDR,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_GUEST_ANNOUNCE,
  VIRTIO_NET_F_MAC,
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_F_RSS,
  VIRTIO_NET_F_SPEED_DUPLEX,
  VIRTIO_NET_F_STATUS,
  VIRTIO_STATUS_NEEDS_RESET,
} from './virtio-features.ts';
import type { VirtioTransport } from './virtio-transport.ts';

/** Taken whenever they are offered, whatever the port wants. */
const OWN_FEATURES =
  VIRTIO_F_ANY_LAYOUT |
  VIRTIO_F_ACCESS_PLATFORM |
  // all that the other side is told by a store is stored sequentially consistent
  VIRTIO_F_ORDER_PLATFORM |
  VIRTIO_F_NOTIFICATION_DATA |
  VIRTIO_F_NOTIF_CONFIG_DATA |
  VIRTIO_NET_F_MAC |
  VIRTIO_NET_F_STATUS |
  VIRTIO_NET_F_SPEED_DUPLEX;
/** What is taken whatever the port wants, on this transport. */
function ownFeatures(transport: VirtioTransport): bigint {
  return transport.resetRing === undefined ? OWN_FEATURES : OWN_FEATURES | VIRTIO_F_RING_RESET;
}

/** Of readInterruptStatus(). */
const INTERRUPT_CONFIGURATION = 2;
/** Interrupts by their numbers: the configuration's, then one for each receive queue. */
const CONFIG_INTERRUPT = 0;
const FIRST_RECEIVE_INTERRUPT = 1;

export interface TransportBackendOptions {
  readonly arena: Arena;
  /** How messages name the device. */
  readonly peer: string;
  /** Opens the device, and opens it anew after it has failed or may be back. It must do what VirtioTransport says of a reset. */
  readonly openTransport: () => Promise<VirtioTransport>;
  /** Whether a device that is gone may come back under its name. Where it may not, the port hears that it was removed. */
  readonly returns: boolean;
  /** Descriptors of each ring; undefined: the device's own sizes. */
  readonly queueSize: number | undefined;
  /** Address to give the device; undefined: the device's own. */
  readonly mac: MacAddress | undefined;
  readonly events: BackendEvents;
  readonly log: (text: string) => void;
  /** Resolves when no lcore is still inside a burst that began before the call. Default: at once. */
  readonly gracePeriod?: (() => Promise<void>) | undefined;
  /** Calls `onReady` whenever `fd` can be read, until the returned function is called. Default: system/readiness.ts. */
  readonly watch?: ((fd: number, onReady: () => void) => () => void) | undefined;
}

/** A device, from its opening to its end. */
interface Session {
  readonly transport: VirtioTransport;
  readonly inspection: Inspection;
  /** Rings that the device has been told how to be notified of. */
  readonly queues: DriverQueue[];
  /** Agreed on; 0n while it is not started. */
  features: bigint;
  running: boolean;
  /** Ends the watch of its configuration. */
  endWatch: (() => void) | undefined;
  /** Receive queues that have an interrupt. */
  receiveInterrupts: number;
}

/** Number of the interrupt of a ring; undefined: none. */
function ringInterrupt({ receiveInterrupts }: Session, ring: number): number | undefined {
  return ring % 2 === 0 && ring / 2 < receiveInterrupts ? FIRST_RECEIVE_INTERRUPT + ring / 2 : undefined;
}

export class TransportBackend implements VirtioBackend {
  readonly peer: string;
  readonly #options: TransportBackendOptions;
  #session: Session | undefined;
  #mac: MacAddress | undefined;
  #work: Promise<unknown> = Promise.resolve();
  /** Eventfds by the number of their interrupt. Made once and kept to the end. */
  readonly #interrupts: number[] = [];
  #control: ControlQueue | undefined;
  #link: DeviceLink = { up: true };
  #endWatch: (() => void) | undefined;
  #removed = false;
  #complaint = '';
  #open = true;

  constructor(options: TransportBackendOptions) {
    this.#options = options;
    this.#mac = options.mac;
    this.peer = options.peer;
  }

  open(): Promise<DeviceOffer | undefined> {
    return this.#exclusive(async () => {
      const offer = await this.#openDevice();
      this.#endWatch = lookRegularly(() => {
        this.#lookForDevice();
      });
      return offer;
    });
  }

  start(start: DeviceStart): Promise<void> {
    return this.#exclusive(async () => {
      const session = this.#present();
      try {
        await this.#start(session, start);
      } catch (error) {
        await this.#takeBack(session);
        throw error;
      }
      // buffers and packets that lie in the rings already
      for (const queue of session.queues) makeNotifier(this.#options.arena.views, queue.offset)();
    });
  }

  stop(): Promise<void> {
    return this.#exclusive(async () => {
      if (this.#session !== undefined) await this.#takeBack(this.#session);
    });
  }

  setMtu(mtu: number): Promise<void> {
    return this.#exclusive(() => {
      // one that is gone is asked at its next start
      if (this.#session !== undefined) checkMtu(this.peer, this.#session.inspection, mtu);
      return Promise.resolve();
    });
  }

  setMac(mac: MacAddress): Promise<void> {
    return this.#exclusive(async () => {
      const session = this.#present();
      const { transport, inspection, features, running } = session;
      // one that takes it on its control queue hears of it there, at the next start if not now
      if ((features & VIRTIO_NET_F_CTRL_MAC_ADDR) !== 0n) await this.#command(session, MAC_ADDR_SET, mac);
      else if (running || (inspection.features & VIRTIO_NET_F_CTRL_MAC_ADDR) === 0n) await changeMac(transport, inspection, mac);
      this.#mac = mac;
    });
  }

  stopRing(ring: number, queue: DriverQueue): Promise<void> {
    return this.#exclusive(async () => {
      const { transport, features, queues } = this.#present();
      if ((features & VIRTIO_F_RING_RESET) === 0n || transport.resetRing === undefined) {
        throw new VirtioError(`${this.peer}: the device does not give single rings back (VIRTIO_F_RING_RESET)`, { code: 'EOPNOTSUPP' });
      }
      const place = queues.indexOf(queue);
      if (place >= 0) queues.splice(place, 1);
      setNotification(queue, undefined);
      await transport.resetRing(ring);
    });
  }

  startRing(ring: number, queue: DriverQueue): Promise<void> {
    return this.#exclusive(async () => {
      const session = this.#present();
      const notification = await session.transport.setRing(ring, queue, ringInterrupt(session, ring));
      // it may have gone meanwhile
      if (this.#session !== session || !session.running) throw this.#gone();
      setNotification(queue, notification);
      session.queues.push(queue);
    });
  }

  control(command: ControlCommand, data: Uint8Array): Promise<void> {
    return this.#exclusive(async () => {
      const session = this.#present();
      if ((session.features & VIRTIO_NET_F_CTRL_VQ) === 0n) {
        throw new VirtioError(`${this.peer}: ${command.name}: there is no control queue`, { code: 'EOPNOTSUPP' });
      }
      await this.#command(session, command, data);
    });
  }

  receiveInterrupt(pair: number): number | undefined {
    const session = this.#session;
    return session?.running === true && pair < session.receiveInterrupts ? this.#interrupts[FIRST_RECEIVE_INTERRUPT + pair] : undefined;
  }

  close(): Promise<void> {
    const first = this.#open;
    this.#open = false;
    this.#endWatch?.();
    return this.#exclusive(async () => {
      if (!first) return;
      const session = this.#session;
      if (session !== undefined) await this.#takeBack(session);
      if (this.#session !== undefined) await this.#closeTransport(this.#session.transport);
      this.#session = undefined;
      this.#control?.close();
      for (const fd of this.#interrupts.splice(0)) closeFd(fd);
    });
  }

  #exclusive<Result>(task: () => Promise<Result>): Promise<Result> {
    const result = this.#work.then(task);
    this.#work = result.catch(() => undefined);
    return result;
  }

  #present(): Session {
    if (this.#session === undefined) throw this.#gone();
    return this.#session;
  }

  #gone(): VirtioError {
    const text = this.#removed ? 'the device was removed' : 'the device is gone; it is looked for every second';
    return new VirtioError(`${this.peer}: ${text}`, { code: 'ENODEV' });
  }

  async #openDevice(): Promise<DeviceOffer> {
    const transport = await this.#options.openTransport();
    try {
      const inspection = await inspect(transport, this.#options.queueSize);
      const { features, queuePairs, ringSizes, mtu, rss } = inspection;
      // refused where nothing can be told to the device: before there is a session
      const { physicalAddresses } = transport;
      const onItsQueue = (features & VIRTIO_NET_F_CTRL_MAC_ADDR) !== 0n ? this.#mac : undefined;
      const told = await agreeOnMac(transport, inspection, onItsQueue === undefined ? this.#mac : undefined, (problem) => {
        this.#complain(problem);
      });
      const mac = onItsQueue ?? told;
      const session: Session = {
        transport,
        inspection,
        queues: [],
        features: 0n,
        running: false,
        endWatch: undefined,
        receiveInterrupts: 0,
      };
      this.#session = session;
      transport.onGone((reason) => {
        this.#lose(session, reason, true);
      });
      return {
        features,
        queuePairs,
        ringSizes,
        mtu,
        rss,
        addressHigh: transport.addressHigh,
        physicalAddresses,
        legacy: transport.legacy,
        ...(mac === undefined ? {} : { mac }),
      };
    } catch (error) {
      await transport.close();
      throw error;
    }
  }

  async #start(session: Session, { features: wanted, mtu, rings, rss }: DeviceStart): Promise<void> {
    const { transport, inspection } = session;
    const pairs = rings.length >> 1;
    const useful = (wanted & VIRTIO_NET_F_CTRL_VQ) === 0n ? ~CONTROL_QUEUE_FEATURES : pairs > 1 ? ~0n : ~VIRTIO_NET_F_MQ;
    const features = withPrerequisites(
      ((wanted & inspection.features & useful) | (inspection.features & ownFeatures(transport))) &
        (transport.legacy ? LEGACY_FEATURES : ~0n),
    );
    checkMtu(this.peer, inspection, mtu);
    await negotiate(transport, features);
    session.features = features;
    await transport.shareMemory();
    const receiveQueues = rings.filter((queue, ring) => ring % 2 === 0 && queue !== undefined).length;
    const told = await this.#enableInterrupts(session, receiveQueues);
    const notifications: [DriverQueue, Notification][] = [];
    for (const [ring, queue] of rings.entries()) {
      if (queue === undefined) continue;
      notifications.push([queue, await transport.setRing(ring, queue, ringInterrupt(session, ring))]);
    }
    if ((features & VIRTIO_NET_F_CTRL_VQ) !== 0n) await this.#handOverControlQueue(session);
    await this.#watchConfig(session, told);
    await begin(transport);
    session.running = true;
    if ((features & VIRTIO_NET_F_RSS) !== 0n && rss !== undefined) await this.#command(session, MQ_RSS_CONFIG, encodeRss(rss));
    else if ((features & VIRTIO_NET_F_MQ) !== 0n) await this.#command(session, MQ_VQ_PAIRS_SET, encodeU16(pairs));
    const mac = this.#mac;
    if (mac !== undefined && (inspection.features & VIRTIO_NET_F_CTRL_MAC_ADDR) !== 0n) {
      if ((features & VIRTIO_NET_F_CTRL_MAC_ADDR) !== 0n) await this.#command(session, MAC_ADDR_SET, mac);
      else await agreeOnMac(transport, inspection, mac, (problem) => this.#complain(problem));
    }
    await this.#readConfiguration(session);
    // it may have gone meanwhile
    if (this.#session !== session) throw this.#gone();
    for (const [queue, notification] of notifications) {
      setNotification(queue, notification);
      session.queues.push(queue);
    }
  }

  /** @returns whether the device tells when its configuration changes */
  async #enableInterrupts(session: Session, receiveQueues: number): Promise<boolean> {
    const { interrupts } = session.transport;
    if (interrupts === undefined || interrupts.count < 1) return false;
    const all = interrupts.kind === 'msix' && interrupts.count >= FIRST_RECEIVE_INTERRUPT + receiveQueues;
    const wanted = all ? FIRST_RECEIVE_INTERRUPT + receiveQueues : 1;
    while (this.#interrupts.length < wanted) this.#interrupts.push(createEventFd());
    try {
      await interrupts.enable(this.#interrupts.slice(0, wanted));
    } catch (error) {
      this.#complain(error);
      return false;
    }
    session.receiveInterrupts = all ? receiveQueues : 0;
    return true;
  }

  async #handOverControlQueue({ transport, features, inspection }: Session): Promise<void> {
    const ring = controlRing(features, inspection.devicePairs);
    const limit = await transport.ringLimit(ring);
    const size = transport.legacy ? limit : Math.min(CONTROL_SIZE, 2 ** Math.floor(Math.log2(limit)));
    // the device is reset: it has the former one no more
    this.#control?.close();
    this.#control = undefined;
    const { arena } = this.#options;
    this.#control = new ControlQueue(arena, this.peer, size, (offset) => transport.addressOf(offset), ringBits(features));
    this.#control.setNotification(await transport.setRing(ring, this.#control, undefined));
  }

  /** Sends a command while the device is held. */
  async #command(session: Session, command: ControlCommand, data: Uint8Array): Promise<void> {
    try {
      await this.#control?.command(command, data, () => this.#session !== session);
    } catch (cause) {
      if (this.#session !== session) throw this.#gone();
      throw new VirtioError(`${this.peer}: ${cause instanceof Error ? cause.message : String(cause)}`, {
        code: cause instanceof VirtioError ? cause.code : 'EPROTO',
        cause,
      });
    }
    // it may have gone meanwhile, and another one come
    if (this.#session !== session) throw this.#gone();
  }

  async #watchConfig(session: Session, told: boolean): Promise<void> {
    const fd = this.#interrupts[CONFIG_INTERRUPT];
    if (!told || fd === undefined) {
      session.endWatch = lookRegularly(() => {
        this.#configChanged(session, undefined);
      });
      return;
    }
    await session.transport.setConfigInterrupt(CONFIG_INTERRUPT);
    session.endWatch = (this.#options.watch ?? watchReadable)(fd, () => {
      this.#configChanged(session, fd);
    });
  }

  #configChanged(session: Session, fd: number | undefined): void {
    try {
      if (fd !== undefined) readSync(fd, new Uint8Array(8));
    } catch {
      // EAGAIN: taken already
    }
    void this.#exclusive(async () => {
      if (!session.running || this.#session !== session) return;
      const { transport } = session;
      try {
        // a line tells of the rings as well
        if (transport.interrupts?.kind === 'line' && fd !== undefined) {
          if (((await transport.readInterruptStatus()) & INTERRUPT_CONFIGURATION) === 0) return;
        }
        if (((await transport.readStatus()) & VIRTIO_STATUS_NEEDS_RESET) !== 0) {
          this.#lose(session, 'the device needs a reset (DEVICE_NEEDS_RESET); it is opened anew', false);
          return;
        }
        await this.#readConfiguration(session);
      } catch (error) {
        this.#complain(error);
      }
    });
  }

  /** Link, speed, and whether the device asks to be announced; each where it tells. */
  async #readConfiguration({ transport, inspection, features }: Session): Promise<void> {
    const { events } = this.#options;
    const status = (inspection.features & VIRTIO_NET_F_STATUS) === 0n ? VIRTIO_NET_S_LINK_UP : await readNetConfig(transport, 'status');
    const link: DeviceLink = { up: (status & VIRTIO_NET_S_LINK_UP) !== 0, ...(await readSpeed(transport, inspection)) };
    const before = this.#link;
    this.#link = link;
    if (link.up !== before.up || link.speed !== before.speed || link.fullDuplex !== before.fullDuplex) events.onLink?.(link);
    if ((features & VIRTIO_NET_F_GUEST_ANNOUNCE) !== 0n && (status & VIRTIO_NET_S_ANNOUNCE) !== 0) events.onAnnounce?.();
  }

  /** Takes the rings and the memory from the device; when this returns it touches neither. */
  async #takeBack(session: Session): Promise<void> {
    session.endWatch?.();
    session.endWatch = undefined;
    session.running = false;
    session.features = 0n;
    session.receiveInterrupts = 0;
    for (const queue of session.queues.splice(0)) setNotification(queue, undefined);
    const { transport } = session;
    try {
      await transport.reset();
      await transport.interrupts?.disable();
      await transport.withdrawMemory();
    } catch (error) {
      // one that is lost is closed soon
      if (this.#session !== session) return;
      // closing resets it: nobody lets a device go on without an owner
      this.#complain(error);
      this.#session = undefined;
      await this.#closeTransport(transport);
    }
  }

  async #closeTransport(transport: VirtioTransport): Promise<void> {
    try {
      await transport.close();
    } catch (error) {
      this.#complain(error);
    }
  }

  /** @param gone it is not there any more; otherwise it has failed */
  #lose(session: Session, reason: string, gone: boolean): void {
    if (this.#session !== session) return;
    this.#session = undefined;
    this.#removed = gone && !this.#options.returns;
    this.#options.log(`${this.peer}: ${reason}`);
    void this.#exclusive(async () => {
      // what the lcores notify it by goes with the transport
      for (const queue of session.queues) setNotification(queue, undefined);
      await this.#options.gracePeriod?.();
      await this.#takeBack(session);
      await this.#closeTransport(session.transport);
      if (!this.#open) return;
      this.#options.events.onLost();
      if (this.#removed) this.#options.events.onRemoved?.();
    });
  }

  #lookForDevice(): void {
    if (this.#session !== undefined || this.#removed) return;
    void this.#exclusive(async () => {
      if (this.#session !== undefined || !this.#open) return;
      try {
        this.#options.events.onOffer(await this.#openDevice());
        this.#complaint = '';
      } catch (error) {
        this.#complain(error);
      }
    });
  }

  /** Says what went wrong and does not end the port; once, however often it is tried. */
  #complain(error: unknown): void {
    const text = error instanceof Error ? error.message : String(error);
    if (text === this.#complaint) return;
    this.#complaint = text;
    this.#options.log(text);
  }
}
