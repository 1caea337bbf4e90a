/**
 * Offload features of a device behind vhost-net: they are the tap's (linux/if_tun.h), not vhost's.
 * @module
 */
import { TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6, TUN_F_TSO_ECN, TUN_F_USO4, TUN_F_USO6, type Tap } from '../../system/tap.ts';
import { GUEST_TCP_FEATURES, GUEST_UDP_FEATURES, HOST_TCP_FEATURES } from '../offload-features.ts';
import {
  VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F_GUEST_ECN,
  VIRTIO_NET_F_GUEST_TSO4,
  VIRTIO_NET_F_GUEST_TSO6,
  VIRTIO_NET_F_GUEST_USO4,
  VIRTIO_NET_F_GUEST_USO6,
  VIRTIO_NET_F_HOST_USO,
} from '../virtio-features.ts';

const BITS: readonly (readonly [feature: bigint, bit: number])[] = [
  [VIRTIO_NET_F_GUEST_CSUM, TUN_F_CSUM],
  [VIRTIO_NET_F_GUEST_TSO4, TUN_F_TSO4],
  [VIRTIO_NET_F_GUEST_TSO6, TUN_F_TSO6],
  [VIRTIO_NET_F_GUEST_ECN, TUN_F_TSO_ECN],
  [VIRTIO_NET_F_GUEST_USO4, TUN_F_USO4],
  [VIRTIO_NET_F_GUEST_USO6, TUN_F_USO6],
];

/** The argument of TUNSETOFFLOAD for the features that a driver took. Without checksums the kernel takes nothing else. */
export function tapOffloads(features: bigint): number {
  if ((features & VIRTIO_NET_F_GUEST_CSUM) === 0n) return 0;
  return BITS.reduce((bits, [feature, bit]) => ((features & feature) !== 0n ? bits | bit : bits), 0);
}

/** What a tap with a virtio-net header offers; datagrams only from Linux 6.2 on, which is found out by asking for them. */
export function tapFeatures(tap: Tap): bigint {
  const features = VIRTIO_NET_F_CSUM | VIRTIO_NET_F_GUEST_CSUM | HOST_TCP_FEATURES | GUEST_TCP_FEATURES;
  return tap.knowsUdpSegments() ? features | VIRTIO_NET_F_HOST_USO | GUEST_UDP_FEATURES : features;
}
