/**
 * From a virtio device's features to what its port can do, and from a port's configuration to the features that it needs.
 * @module
 */
import type { DeviceOffer } from '../backend/backend.ts';
import { GUEST_TCP_FEATURES, GUEST_UDP_FEATURES, HOST_TCP_FEATURES } from '../backend/offload-features.ts';
import { RING_FEATURES } from '../backend/ring-features.ts';
import {
  VIRTIO_F_IN_ORDER,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_VERSION_1,
  VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
  VIRTIO_NET_F_CTRL_MAC_ADDR,
  VIRTIO_NET_F_CTRL_RX,
  VIRTIO_NET_F_CTRL_RX_EXTRA,
  VIRTIO_NET_F_CTRL_VLAN,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_GUEST_ANNOUNCE,
  VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F_GUEST_TSO4,
  VIRTIO_NET_F_GUEST_TSO6,
  VIRTIO_NET_F_HASH_REPORT,
  VIRTIO_NET_F_HOST_TSO4,
  VIRTIO_NET_F_HOST_TSO6,
  VIRTIO_NET_F_HOST_USO,
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_NET_F_MTU,
  VIRTIO_NET_F_NOTF_COAL,
  VIRTIO_NET_F_RSS,
  VIRTIO_NET_F_VQ_NOTF_COAL,
} from '../backend/virtio-features.ts';
import {
  RX_OFFLOAD_RSS_HASH,
  RX_OFFLOAD_SCATTER,
  RX_OFFLOAD_TCP_CKSUM,
  RX_OFFLOAD_TCP_LRO,
  RX_OFFLOAD_UDP_CKSUM,
  RX_OFFLOAD_VLAN_FILTER,
  RX_OFFLOAD_VLAN_STRIP,
  TX_OFFLOAD_MULTI_SEGS,
  TX_OFFLOAD_TCP_CKSUM,
  TX_OFFLOAD_TCP_TSO,
  TX_OFFLOAD_UDP_CKSUM,
  TX_OFFLOAD_UDP_TSO,
  TX_OFFLOAD_VLAN_INSERT,
} from './offloads.ts';
import { RSS_KEY_BYTES, RSS_TABLE_ENTRIES, rssTypesOf } from './rss.ts';

const RX_CHECKSUMS = RX_OFFLOAD_UDP_CKSUM | RX_OFFLOAD_TCP_CKSUM;
const TX_CHECKSUMS = TX_OFFLOAD_UDP_CKSUM | TX_OFFLOAD_TCP_CKSUM;
const GUEST_TSO = VIRTIO_NET_F_GUEST_TSO4 | VIRTIO_NET_F_GUEST_TSO6;
const HOST_TSO = VIRTIO_NET_F_HOST_TSO4 | VIRTIO_NET_F_HOST_TSO6;
/** What is asked of a device that has a control queue, whatever the configuration. */
const CONTROL_FEATURES =
  VIRTIO_NET_F_CTRL_VQ |
  VIRTIO_NET_F_CTRL_RX |
  VIRTIO_NET_F_CTRL_RX_EXTRA |
  VIRTIO_NET_F_CTRL_MAC_ADDR |
  VIRTIO_NET_F_CTRL_GUEST_OFFLOADS |
  VIRTIO_NET_F_GUEST_ANNOUNCE |
  VIRTIO_NET_F_NOTF_COAL |
  VIRTIO_NET_F_VQ_NOTF_COAL;

function has(features: bigint, wanted: bigint): boolean {
  return (features & wanted) === wanted;
}

/** What a port over a device with these features can do; VLAN tags are stripped in software. */
export function rxCapabilities(features: bigint): number {
  return (
    RX_OFFLOAD_VLAN_STRIP |
    RX_OFFLOAD_SCATTER |
    (has(features, VIRTIO_NET_F_GUEST_CSUM) ? RX_CHECKSUMS : 0) |
    (has(features, GUEST_TSO) ? RX_OFFLOAD_TCP_LRO : 0) |
    (has(features, VIRTIO_NET_F_CTRL_VLAN) ? RX_OFFLOAD_VLAN_FILTER : 0) |
    (has(features, VIRTIO_NET_F_HASH_REPORT) ? RX_OFFLOAD_RSS_HASH : 0)
  );
}

export function txCapabilities(features: bigint): number {
  return (
    TX_OFFLOAD_VLAN_INSERT |
    TX_OFFLOAD_MULTI_SEGS |
    (has(features, VIRTIO_NET_F_CSUM) ? TX_CHECKSUMS : 0) |
    (has(features, HOST_TSO) ? TX_OFFLOAD_TCP_TSO : 0) |
    (has(features, VIRTIO_NET_F_HOST_USO) ? TX_OFFLOAD_UDP_TSO : 0)
  );
}

/** The features that configured offloads ask for; segmentation always brings the checksums that it needs (virtio 1.2, 5.1.3.1). */
function offloadFeatures(rx: number, tx: number, mergeable: boolean): bigint {
  // without mergeable buffers there is no room for a large packet
  const large = mergeable && (rx & RX_OFFLOAD_TCP_LRO) !== 0;
  const guest =
    (large || (rx & RX_CHECKSUMS) !== 0 ? VIRTIO_NET_F_GUEST_CSUM : 0n) | (large ? GUEST_TCP_FEATURES | GUEST_UDP_FEATURES : 0n);
  const host = ((tx & TX_OFFLOAD_TCP_TSO) !== 0 ? HOST_TCP_FEATURES : 0n) | ((tx & TX_OFFLOAD_UDP_TSO) !== 0 ? VIRTIO_NET_F_HOST_USO : 0n);
  return guest | host | (host !== 0n || (tx & TX_CHECKSUMS) !== 0 ? VIRTIO_NET_F_CSUM : 0n);
}

/** What a port is configured to do, as far as a device has a part in it. */
export interface Wishes {
  readonly mergeable: boolean;
  readonly inOrder: boolean;
  readonly packed: boolean;
  /** RX_OFFLOAD_* and TX_OFFLOAD_* bits (offloads.ts). */
  readonly rxOffloads: number;
  readonly txOffloads: number;
  readonly severalPairs: boolean;
  /** There is a device's own control queue, and it is to be used. */
  readonly commands: boolean;
  readonly filtersVlans: boolean;
  /** Packets are spread over receive queues by their hash. */
  readonly spreads: boolean;
}

/** The features that a port would have of a device that has them all. */
export function wantedFeatures(wishes: Wishes): bigint {
  return (
    offloadFeatures(wishes.rxOffloads, wishes.txOffloads, wishes.mergeable) |
    VIRTIO_F_VERSION_1 |
    VIRTIO_NET_F_MTU |
    RING_FEATURES |
    (wishes.mergeable ? VIRTIO_NET_F_MRG_RXBUF : 0n) |
    (wishes.inOrder ? VIRTIO_F_IN_ORDER : 0n) |
    (wishes.packed ? VIRTIO_F_RING_PACKED : 0n) |
    (wishes.severalPairs ? VIRTIO_NET_F_MQ | VIRTIO_NET_F_CTRL_VQ : 0n) |
    (wishes.commands ? CONTROL_FEATURES : 0n) |
    (wishes.filtersVlans ? VIRTIO_NET_F_CTRL_VLAN : 0n) |
    (wishes.spreads ? VIRTIO_NET_F_RSS : 0n) |
    ((wishes.rxOffloads & RX_OFFLOAD_RSS_HASH) !== 0 ? VIRTIO_NET_F_HASH_REPORT : 0n)
  );
}

export interface RssCapabilities {
  /** RSS_* bits that the device hashes. */
  readonly types: bigint;
  /** Entries of the table by which packets are spread; 0: they are not, their hash is only told. */
  readonly tableEntries: number;
}

const NO_RSS: RssCapabilities = { types: 0n, tableEntries: 0 };

/** What the device hashes; nothing where its limits are below those of every other. */
export function rssCapabilities(offer: DeviceOffer | undefined): RssCapabilities {
  if (offer?.rss === undefined || offer.rss.keyBytes < RSS_KEY_BYTES) return NO_RSS;
  const spreads = has(offer.features, VIRTIO_NET_F_RSS) && offer.rss.tableEntries >= RSS_TABLE_ENTRIES;
  return { types: rssTypesOf(offer.rss.hashTypes), tableEntries: spreads ? RSS_TABLE_ENTRIES : 0 };
}
