/**
 * What negotiated features mean to the kernels of a ring, on either side.
 * @module
 */
import { NO_LENGTH_LIMIT, QUEUE_EVENT_IDX, QUEUE_IN_ORDER, QUEUE_INDIRECT, QUEUE_MERGEABLE, QUEUE_PACKED } from '../ring/queue-layout.ts';
import {
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_IN_ORDER,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_RING_PACKED,
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_NET_F_MTU,
} from './virtio-features.ts';

/** Features of rings that both sides here have, whatever a port's configuration. */
export const RING_FEATURES = VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX;

/**
 * What a driver accepts of the features that both sides have. On packed rings events are left to devices that keep theirs up to date
 * (DeviceOffer.packedEvents); with flags alone nothing is lost.
 */
export function drivenFeatures(features: bigint, packedEvents = false): bigint {
  return (features & VIRTIO_F_RING_PACKED) === 0n || packedEvents ? features : features & ~VIRTIO_F_EVENT_IDX;
}

const BITS: readonly (readonly [feature: bigint, bit: number])[] = [
  [VIRTIO_NET_F_MRG_RXBUF, QUEUE_MERGEABLE],
  [VIRTIO_F_IN_ORDER, QUEUE_IN_ORDER],
  [VIRTIO_F_RING_PACKED, QUEUE_PACKED],
  [VIRTIO_F_INDIRECT_DESC, QUEUE_INDIRECT],
  [VIRTIO_F_EVENT_IDX, QUEUE_EVENT_IDX],
];

/** QUEUE_* bits of negotiated features. */
export function ringBits(features: bigint): number {
  return BITS.reduce((bits, [feature, bit]) => ((features & feature) === 0n ? bits : bits | bit), 0);
}

/** Bytes of an Ethernet header: what a packet may be longer than the MTU, VLAN tags aside. */
const ETHERNET_HEADER = 14;

/** Q_LENGTH_LIMIT: bytes of the longest packet in either direction. @param mtu undefined: the device did not tell one */
export function lengthLimit(features: bigint, mtu: number | undefined): number {
  return mtu === undefined || (features & VIRTIO_NET_F_MTU) === 0n ? NO_LENGTH_LIMIT : mtu + ETHERNET_HEADER;
}
