/**
 * Features that need others (virtio 1.2, 5.1.3.1), for both sides: a driver does not accept one whose prerequisite it did not accept
 * (2.2.1), a device does not offer one whose prerequisite it does not offer, and does not take such a choice (2.2.2).
 *
 * Real peers break some of these rules; the table says which, and who. Against them a feature without its prerequisite is taken for
 * one that is not there, and nobody is sent away for it.
 * @module
 */
import {
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
  VIRTIO_NET_F_GUEST_ECN,
  VIRTIO_NET_F_GUEST_TSO4,
  VIRTIO_NET_F_GUEST_TSO6,
  VIRTIO_NET_F_GUEST_UFO,
  VIRTIO_NET_F_GUEST_USO4,
  VIRTIO_NET_F_GUEST_USO6,
  VIRTIO_NET_F_HASH_REPORT,
  VIRTIO_NET_F_HOST_ECN,
  VIRTIO_NET_F_HOST_TSO4,
  VIRTIO_NET_F_HOST_TSO6,
  VIRTIO_NET_F_HOST_UFO,
  VIRTIO_NET_F_HOST_USO,
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_F_NOTF_COAL,
  VIRTIO_NET_F_RSC_EXT,
  VIRTIO_NET_F_RSS,
  VIRTIO_NET_F_VQ_NOTF_COAL,
} from './virtio-features.ts';

export interface FeatureDependency {
  readonly feature: bigint;
  /** As the specification spells it, without VIRTIO_ and NET_F_. */
  readonly name: string;
  /** Bits of which one at least has to be there as well. */
  readonly needs: bigint;
  readonly needsName: string;
  /** Drivers that accept the feature without; undefined: none is known, and one that does is refused. */
  readonly brokenBy?: string;
}

/** DPDK's driver asks for segmentation without checksums; each bit has a property of its own on QEMU's command line (`csum=off`). */
const OFFLOADS = 'DPDK (--enable-lro), and guests whose QEMU has csum=off or host_tso4=off';
/** The control queue is QEMU's, or the front-end's: what it tells the back-end leaves CTRL_VQ out. */
const CONTROL = 'QEMU as the front-end of vhost-user';

const GUEST_TSO = VIRTIO_NET_F_GUEST_TSO4 | VIRTIO_NET_F_GUEST_TSO6;
const HOST_TSO = VIRTIO_NET_F_HOST_TSO4 | VIRTIO_NET_F_HOST_TSO6;

function needing(
  needs: bigint,
  needsName: string,
  brokenBy: string | undefined,
  features: Readonly<Record<string, bigint>>,
): FeatureDependency[] {
  return Object.entries(features).map(([name, feature]) => ({
    feature,
    name,
    needs,
    needsName,
    ...(brokenBy === undefined ? {} : { brokenBy }),
  }));
}

export const FEATURE_DEPENDENCIES: readonly FeatureDependency[] = [
  ...needing(VIRTIO_NET_F_GUEST_CSUM, 'GUEST_CSUM', OFFLOADS, {
    GUEST_TSO4: VIRTIO_NET_F_GUEST_TSO4,
    GUEST_TSO6: VIRTIO_NET_F_GUEST_TSO6,
    GUEST_UFO: VIRTIO_NET_F_GUEST_UFO,
    GUEST_USO4: VIRTIO_NET_F_GUEST_USO4,
    GUEST_USO6: VIRTIO_NET_F_GUEST_USO6,
  }),
  ...needing(GUEST_TSO, 'GUEST_TSO4 or GUEST_TSO6', OFFLOADS, { GUEST_ECN: VIRTIO_NET_F_GUEST_ECN }),
  ...needing(VIRTIO_NET_F_CSUM, 'CSUM', OFFLOADS, {
    HOST_TSO4: VIRTIO_NET_F_HOST_TSO4,
    HOST_TSO6: VIRTIO_NET_F_HOST_TSO6,
    HOST_UFO: VIRTIO_NET_F_HOST_UFO,
    HOST_USO: VIRTIO_NET_F_HOST_USO,
  }),
  ...needing(HOST_TSO, 'HOST_TSO4 or HOST_TSO6', OFFLOADS, { HOST_ECN: VIRTIO_NET_F_HOST_ECN, RSC_EXT: VIRTIO_NET_F_RSC_EXT }),
  ...needing(VIRTIO_NET_F_CTRL_VQ, 'CTRL_VQ', CONTROL, {
    CTRL_RX: VIRTIO_NET_F_CTRL_RX,
    CTRL_VLAN: VIRTIO_NET_F_CTRL_VLAN,
    GUEST_ANNOUNCE: VIRTIO_NET_F_GUEST_ANNOUNCE,
    MQ: VIRTIO_NET_F_MQ,
    CTRL_MAC_ADDR: VIRTIO_NET_F_CTRL_MAC_ADDR,
    VQ_NOTF_COAL: VIRTIO_NET_F_VQ_NOTF_COAL,
    NOTF_COAL: VIRTIO_NET_F_NOTF_COAL,
    RSS: VIRTIO_NET_F_RSS,
    // not in the list of 5.1.3.1; their commands have no other way to the device (5.1.6.5)
    CTRL_GUEST_OFFLOADS: VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
    CTRL_RX_EXTRA: VIRTIO_NET_F_CTRL_RX_EXTRA,
    HASH_REPORT: VIRTIO_NET_F_HASH_REPORT,
  }),
  // a legacy device or driver has split rings only (2.7), and no bits beyond 31 (2.2.3)
  ...needing(VIRTIO_F_VERSION_1, 'VERSION_1', undefined, { RING_PACKED: VIRTIO_F_RING_PACKED }),
];

/**
 * The rules that a set of features breaks.
 * @param provided features that the side in between has in the other's stead: a vhost-user front-end has the control queue
 */
export function brokenDependencies(features: bigint, provided = 0n): readonly FeatureDependency[] {
  const there = features | provided;
  return FEATURE_DEPENDENCIES.filter(({ feature, needs }) => (features & feature) !== 0n && (there & needs) === 0n);
}

/** `features` without those that lack a prerequisite, nor what needs those in turn. @param provided as for brokenDependencies() */
export function withPrerequisites(features: bigint, provided = 0n): bigint {
  let left = features;
  for (;;) {
    const broken = brokenDependencies(left, provided);
    if (broken.length === 0) return left;
    left &= ~broken.reduce((bits, { feature }) => bits | feature, 0n);
  }
}

/**
 * What a device goes by of the features that a driver accepted.
 * @throws Error for a choice against a rule that no known driver breaks
 */
export function takeAccepted(features: bigint, provided = 0n): bigint {
  for (const { name, needsName, brokenBy } of brokenDependencies(features, provided)) {
    if (brokenBy === undefined) throw new Error(`features 0x${features.toString(16)}: ${name} was accepted without ${needsName}`);
  }
  return withPrerequisites(features, provided);
}
