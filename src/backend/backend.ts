/**
 * What the driver side of a port talks to: a vhost-user back-end here, the kernel's vhost-net and others behind the same
 * interface. The port owns the rings; the backend tells the device where they are.
 * @module
 */
import type { MacAddress } from '../net/mac-address.ts';
import type { DriverQueue } from '../ring/virtqueue.ts';
import type { ControlCommand, RssSettings } from './control-commands.ts';

export interface DeviceOffer {
  /** Feature bits that the device offers. */
  readonly features: bigint;
  /** Queue pairs that it can serve. */
  readonly queuePairs: number;
  /** Address that the device has, where it says so. */
  readonly mac?: MacAddress;
  /** Descriptors of each ring, where that is not the port's to choose; in the order of DeviceStart.rings. */
  readonly ringSizes?: readonly number[];
  /** Largest MTU, where the device has a limit of its own. */
  readonly mtu?: number | undefined;
  /** What the device can hash, with VIRTIO_NET_F_RSS or VIRTIO_NET_F_HASH_REPORT. */
  readonly rss?: RssLimits | undefined;
  /** High word of every address that the device is told. */
  readonly addressHigh?: number;
  /** Arena offset of the table of physical addresses, where the device is told those. */
  readonly physicalAddresses?: number;
  /** A device from before virtio 1.0: its rings lie in one piece. */
  readonly legacy?: boolean;
  /**
   * VIRTIO_F_EVENT_IDX may be taken on packed rings. QEMU's virtio-net does not keep its event up to date there (docs/architecture.md),
   * and behind a PCI function there is no telling who it is.
   */
  readonly packedEvents?: boolean;
}

export interface RssLimits {
  /** Bytes of the longest key. */
  readonly keyBytes: number;
  /** Entries of the longest table. */
  readonly tableEntries: number;
  /** VIRTIO_NET_HASH_TYPE_* bits (rss.ts). */
  readonly hashTypes: number;
}

export interface DeviceStart {
  /** Feature bits that the driver takes. */
  readonly features: bigint;
  /** Bytes of payload of the longest packet that the driver sends. */
  readonly mtu: number;
  /** Rings in order: receive queue 0, transmit queue 0, receive queue 1 ...; undefined where the port has no such queue. */
  readonly rings: readonly (DriverQueue | undefined)[];
  /** How packets are spread, with VIRTIO_NET_F_RSS among the features. */
  readonly rss?: RssSettings | undefined;
}

/** What a device says of its own link. */
export interface DeviceLink {
  readonly up: boolean;
  /** Mbit/s, 0 when not known; undefined: the device does not tell. */
  readonly speed?: number | undefined;
  readonly fullDuplex?: boolean | undefined;
}

export interface BackendEvents {
  /** A device has been found and says what it offers: at first, and again after every loss. */
  readonly onOffer: (offer: DeviceOffer) => void;
  /** The device is gone; its rings mean nothing any more. */
  readonly onLost: () => void;
  /** A device that is there says that its own link went down, or came up, or has another speed; up until it is said. */
  readonly onLink?: (link: DeviceLink) => void;
  /** After onLost: the device will not come back. */
  readonly onRemoved?: () => void;
  /** The device asks that the port make itself known in the network, and then say so (virtio 1.2, 5.1.6.5.4). */
  readonly onAnnounce?: () => void;
}

/** The part of an AbortSignal that is looked at: a consumer without types of Node or the DOM has none. Any AbortSignal is one. */
export interface Interruption {
  readonly aborted: boolean;
  addEventListener(type: 'abort', listener: () => void, options?: { readonly once?: boolean }): void;
  removeEventListener(type: 'abort', listener: () => void): void;
}

export interface VirtioBackend {
  /** How messages name the other end. */
  readonly peer: string;
  /**
   * Looks for the device. Resolves with its offer, or with undefined when it will come later by itself (a server that
   * waits for its client).
   * @throws VirtioError when there is no device and none is waited for
   */
  open(): Promise<DeviceOffer | undefined>;
  /** Negotiates, shares memory, hands the rings over and enables them. The rings must be fresh. */
  start(start: DeviceStart): Promise<void>;
  /** Tells a device that has an MTU of its own; at every start it is told by itself. */
  setMtu?(mtu: number): Promise<void>;
  /** Tells a device that has an address of its own. */
  setMac?(mac: MacAddress): Promise<void>;
  /**
   * Sends a command to the control queue of a device that has one; only while it is started with VIRTIO_NET_F_CTRL_VQ.
   * @throws VirtioError EPROTO when the device refuses it, ETIMEDOUT when it does not answer
   */
  control?(command: ControlCommand, data: Uint8Array): Promise<void>;
  /** Descriptor that is signalled when receive queue `pair` of a started device has packets; undefined: there is polling only. */
  receiveInterrupt?(pair: number): number | undefined;
  /**
   * Takes one ring from the device, which goes on with the others; its number is that of DeviceStart.rings. Afterwards the device
   * touches neither it nor what it was told by it. Absent: no device behind this backend can.
   * @throws VirtioError EOPNOTSUPP where VIRTIO_F_RING_RESET was not agreed on
   */
  stopRing?(ring: number, queue: DriverQueue): Promise<void>;
  /** Hands it over again, fresh. @throws VirtioError when the device does not take it */
  startRing?(ring: number, queue: DriverQueue): Promise<void>;
  /** Takes the rings back. */
  stop(): Promise<void>;
  close(): Promise<void>;
}
