/**
 * What the driver side of a port talks to: a vhost-user back-end here, the kernel's vhost-net and others behind the same
 * interface. The port owns the rings; the backend tells the device where they are.
 * @module
 */
import type { MacAddress } from '../net/mac-address.ts';
import type { DriverQueue } from '../ring/virtqueue.ts';

export interface DeviceOffer {
  /** Feature bits that the device offers. */
  readonly features: bigint;
  /** Queue pairs that it can serve. */
  readonly queuePairs: number;
  /** Address that the device has, where it says so. */
  readonly mac?: MacAddress;
}

export interface DeviceStart {
  /** Feature bits that the driver takes. */
  readonly features: bigint;
  /** Bytes of payload of the longest packet that the driver sends. */
  readonly mtu: number;
  /** Rings in order: receive queue 0, transmit queue 0, receive queue 1 ...; undefined where the port has no such queue. */
  readonly rings: readonly (DriverQueue | undefined)[];
}

export interface BackendEvents {
  /** A device has been found and says what it offers: at first, and again after every loss. */
  readonly onOffer: (offer: DeviceOffer) => void;
  /** The device is gone; its rings mean nothing any more. */
  readonly onLost: () => void;
  /** A device that is there says that its own link went down, or came up; up until it is said. */
  readonly onLink?: (up: boolean) => void;
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
  /** Takes the rings back. */
  stop(): Promise<void>;
  close(): Promise<void>;
}
