/**
 * Offload features (virtio 1.2, 5.1.3), as sets and as the work that they allow packets to carry (MBUF_WORK_*).
 *
 * HOST_* and CSUM: what the driver may leave to the device. GUEST_*: what the device may leave to the driver.
 * @module
 */
import { MBUF_WORK_CHECKSUM, MBUF_WORK_ECN, MBUF_WORK_TCP4, MBUF_WORK_TCP6, MBUF_WORK_UDP } from '../memory/mbuf-layout.ts';
import {
  VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F_GUEST_ECN,
  VIRTIO_NET_F_GUEST_TSO4,
  VIRTIO_NET_F_GUEST_TSO6,
  VIRTIO_NET_F_GUEST_USO4,
  VIRTIO_NET_F_GUEST_USO6,
  VIRTIO_NET_F_HOST_ECN,
  VIRTIO_NET_F_HOST_TSO4,
  VIRTIO_NET_F_HOST_TSO6,
  VIRTIO_NET_F_HOST_USO,
} from './virtio-features.ts';

export const HOST_TCP_FEATURES = VIRTIO_NET_F_HOST_TSO4 | VIRTIO_NET_F_HOST_TSO6 | VIRTIO_NET_F_HOST_ECN;
export const GUEST_TCP_FEATURES = VIRTIO_NET_F_GUEST_TSO4 | VIRTIO_NET_F_GUEST_TSO6 | VIRTIO_NET_F_GUEST_ECN;
export const GUEST_UDP_FEATURES = VIRTIO_NET_F_GUEST_USO4 | VIRTIO_NET_F_GUEST_USO6;
/** Every feature that is about work on packets. */
export const OFFLOAD_FEATURES =
  VIRTIO_NET_F_CSUM | VIRTIO_NET_F_GUEST_CSUM | HOST_TCP_FEATURES | GUEST_TCP_FEATURES | VIRTIO_NET_F_HOST_USO | GUEST_UDP_FEATURES;

function workOf(features: bigint, table: readonly (readonly [needed: bigint, work: number])[]): number {
  return table.reduce((work, [needed, bit]) => ((features & needed) === needed ? work | bit : work), 0);
}

/** What the device does for the driver's packets. @returns MBUF_WORK_* bits; 0 without checksums, which all else needs */
export function hostWork(features: bigint): number {
  if ((features & VIRTIO_NET_F_CSUM) === 0n) return 0;
  return workOf(features, [
    [VIRTIO_NET_F_CSUM, MBUF_WORK_CHECKSUM],
    [VIRTIO_NET_F_HOST_TSO4, MBUF_WORK_TCP4],
    [VIRTIO_NET_F_HOST_TSO6, MBUF_WORK_TCP6],
    [VIRTIO_NET_F_HOST_ECN, MBUF_WORK_ECN],
    [VIRTIO_NET_F_HOST_USO, MBUF_WORK_UDP],
  ]);
}

/** What the driver does for the device's packets. @returns MBUF_WORK_* bits; 0 without checksums, which all else needs */
export function guestWork(features: bigint): number {
  if ((features & VIRTIO_NET_F_GUEST_CSUM) === 0n) return 0;
  return workOf(features, [
    [VIRTIO_NET_F_GUEST_CSUM, MBUF_WORK_CHECKSUM],
    [VIRTIO_NET_F_GUEST_TSO4, MBUF_WORK_TCP4],
    [VIRTIO_NET_F_GUEST_TSO6, MBUF_WORK_TCP6],
    [VIRTIO_NET_F_GUEST_ECN, MBUF_WORK_ECN],
    // a packet does not say which of the two it is
    [GUEST_UDP_FEATURES, MBUF_WORK_UDP],
  ]);
}
