/**
 * The paths of the virtio driver: which way its packets take, by what was agreed on with the device and configured.
 *
 * DPDK has a function for each path and chooses one when the port starts. Here there is one loop for each ring format and direction,
 * which looks at the features of its queue once a burst; a path is what that loop then does. The names, and the rules by which
 * they are chosen, are DPDK's (26.11; drivers/net/virtio), told in docs/paths.md.
 * @module
 */
import { VIRTIO_F_IN_ORDER, VIRTIO_F_RING_PACKED, VIRTIO_F_VERSION_1, VIRTIO_NET_F_MRG_RXBUF } from '../backend/virtio-features.ts';
import type { KernelTarget } from '../ring/kernels.ts';
import { RX_OFFLOAD_RSS_HASH, RX_OFFLOAD_TCP_CKSUM, RX_OFFLOAD_TCP_LRO, RX_OFFLOAD_UDP_CKSUM, RX_OFFLOAD_VLAN_STRIP } from './offloads.ts';

export type RingFormat = 'split' | 'packed';
export type ReceivePath = 'regular' | 'mergeable' | 'in-order' | 'in-order mergeable' | 'vectorized';
export type TransmitPath = 'regular' | 'in-order' | 'vectorized';

export interface PathConditions {
  /** Features that the driver accepted. */
  readonly features: bigint;
  /** The device argument `vectorized=1`. */
  readonly vectorized: boolean;
  /** RX_OFFLOAD_* bits (offloads.ts) that the port is configured with. */
  readonly rxOffloads: number;
  /** JavaScript has no SIMD: `--force-max-simd-bitwidth=64`. */
  readonly target: KernelTarget;
}

export interface ChosenPath<Name extends string> {
  readonly format: RingFormat;
  readonly name: Name;
  /** DPDK's function for it. */
  readonly dpdk: string;
  /** What `Burst mode:` of `show rxq info` and `show txq info` says: DPDK's words for the path, and the kernels that it runs on. */
  readonly burstMode: string;
  /** What DPDK logs when the port starts, without the port's number: `packed ring standard Tx path`. */
  readonly announcement: string;
}

export interface VirtioPaths {
  readonly receive: ChosenPath<ReceivePath>;
  readonly transmit: ChosenPath<TransmitPath>;
  /** Why a vectorized path that was asked for was not taken; empty where it was, or was not asked for. */
  readonly disabled: readonly string[];
}

interface Words {
  readonly dpdk: string;
  readonly mode: string;
  readonly announced: string;
}

const RECEIVE: Readonly<Record<RingFormat, Readonly<Record<ReceivePath, Words>>>> = {
  split: {
    regular: { dpdk: 'virtio_recv_pkts', mode: 'Scalar', announced: 'standard' },
    mergeable: { dpdk: 'virtio_recv_mergeable_pkts', mode: 'Scalar mergeable', announced: 'mergeable buffer' },
    'in-order': { dpdk: 'virtio_recv_pkts_inorder', mode: 'Scalar in order', announced: 'inorder' },
    'in-order mergeable': { dpdk: 'virtio_recv_pkts_inorder', mode: 'Scalar in order mergeable', announced: 'inorder' },
    vectorized: { dpdk: 'virtio_recv_pkts_vec', mode: 'Vector SIMD128', announced: 'vectorized' },
  },
  // DPDK's packed loops look at VIRTIO_F_IN_ORDER themselves: no function, and no words, of its own
  packed: {
    regular: { dpdk: 'virtio_recv_pkts_packed', mode: 'Scalar standard packed ring', announced: 'packed ring standard' },
    mergeable: {
      dpdk: 'virtio_recv_mergeable_pkts_packed',
      mode: 'Scalar mergeable packed ring',
      announced: 'packed ring mergeable buffer',
    },
    'in-order': { dpdk: 'virtio_recv_pkts_packed', mode: 'Scalar in order packed ring', announced: 'packed ring standard' },
    'in-order mergeable': {
      dpdk: 'virtio_recv_mergeable_pkts_packed',
      mode: 'Scalar in order mergeable packed ring',
      announced: 'packed ring mergeable buffer',
    },
    vectorized: { dpdk: 'virtio_recv_pkts_packed_vec', mode: 'Vector SIMD128 packed ring', announced: 'packed ring vectorized' },
  },
};

const TRANSMIT: Readonly<Record<RingFormat, Readonly<Record<TransmitPath, Words>>>> = {
  split: {
    regular: { dpdk: 'virtio_xmit_pkts', mode: 'Scalar', announced: 'standard' },
    'in-order': { dpdk: 'virtio_xmit_pkts_inorder', mode: 'Scalar in order', announced: 'inorder' },
    // virtio_xmit_pkts_simple left DPDK in 18.08: no rule leads here
    vectorized: { dpdk: 'virtio_xmit_pkts_simple', mode: 'Vector SIMD128', announced: 'vectorized' },
  },
  packed: {
    regular: { dpdk: 'virtio_xmit_pkts_packed', mode: 'Scalar packed ring', announced: 'packed ring standard' },
    'in-order': { dpdk: 'virtio_xmit_pkts_packed', mode: 'Scalar in order packed ring', announced: 'packed ring standard' },
    vectorized: { dpdk: 'virtio_xmit_pkts_packed_vec', mode: 'Vector SIMD128 packed ring', announced: 'packed ring vectorized' },
  },
};

const KERNELS: Readonly<Record<KernelTarget, string>> = { wasm: 'WebAssembly', javascript: 'JavaScript' };

/** Offloads for which a vectorized receive path of split rings makes no room. */
const SPLIT_VECTOR_REFUSES = RX_OFFLOAD_UDP_CKSUM | RX_OFFLOAD_TCP_CKSUM | RX_OFFLOAD_TCP_LRO | RX_OFFLOAD_VLAN_STRIP;

function has({ features }: PathConditions, bit: bigint): boolean {
  return (features & bit) !== 0n;
}

/** Why a split ring is not received from by the vectorized path. */
function splitReceiveRefusals(conditions: PathConditions): readonly string[] {
  const refusals: readonly (readonly [boolean, string])[] = [
    [has(conditions, VIRTIO_F_IN_ORDER), 'in_order enabled'],
    [has(conditions, VIRTIO_NET_F_MRG_RXBUF), 'mrg_rxbuf enabled'],
    [(conditions.rxOffloads & SPLIT_VECTOR_REFUSES) !== 0, 'offloading enabled'],
    [conditions.target !== 'wasm', 'max SIMD bitwidth too low'],
  ];
  return refusals.flatMap(([refuses, why]) => (refuses ? [`disabled split ring vectorized rx: ${why}`] : []));
}

/** What both directions of a packed ring need for their vectorized paths. */
function packedRefusals(conditions: PathConditions): readonly string[] {
  const refusals: readonly (readonly [boolean, string])[] = [
    [!has(conditions, VIRTIO_F_IN_ORDER), 'in_order disabled'],
    [!has(conditions, VIRTIO_F_VERSION_1), 'no VIRTIO_F_VERSION_1'],
    [conditions.target !== 'wasm', 'max SIMD bitwidth too low'],
  ];
  return refusals.flatMap(([refuses, why]) => (refuses ? [`disabled packed ring vectorized path: ${why}`] : []));
}

function packedReceiveRefusals(conditions: PathConditions): readonly string[] {
  const refusals: readonly (readonly [boolean, string])[] = [
    [has(conditions, VIRTIO_NET_F_MRG_RXBUF), 'mrg_rxbuf enabled'],
    [(conditions.rxOffloads & RX_OFFLOAD_TCP_LRO) !== 0, 'TCP_LRO enabled'],
    [(conditions.rxOffloads & RX_OFFLOAD_RSS_HASH) !== 0, 'RSS_HASH enabled'],
  ];
  return refusals.flatMap(([refuses, why]) => (refuses ? [`disabled packed ring vectorized rx: ${why}`] : []));
}

function vectorRefusals(
  conditions: PathConditions,
  format: RingFormat,
): { readonly receive: readonly string[]; readonly transmit: readonly string[] } {
  // a split ring has no vectorized transmit path, and nobody who asks for `vectorized` means one
  if (format === 'split') return { receive: splitReceiveRefusals(conditions), transmit: [] };
  const both = packedRefusals(conditions);
  return {
    receive: [...both, ...packedReceiveRefusals(conditions)],
    transmit: both,
  };
}

/** The paths of a port's queues: all of a direction take the same. */
export function choosePaths(conditions: PathConditions): VirtioPaths {
  const format: RingFormat = has(conditions, VIRTIO_F_RING_PACKED) ? 'packed' : 'split';
  const refusals = vectorRefusals(conditions, format);
  const inOrder = has(conditions, VIRTIO_F_IN_ORDER);
  const mergeable = has(conditions, VIRTIO_NET_F_MRG_RXBUF);
  const scalar = inOrder ? (mergeable ? 'in-order mergeable' : 'in-order') : mergeable ? 'mergeable' : 'regular';
  const receive: ReceivePath = conditions.vectorized && refusals.receive.length === 0 ? 'vectorized' : scalar;
  const vectorTransmit = conditions.vectorized && format === 'packed' && refusals.transmit.length === 0;
  const transmit: TransmitPath = vectorTransmit ? 'vectorized' : inOrder ? 'in-order' : 'regular';
  const kernels = KERNELS[conditions.target];
  const chosen = <Name extends string>(name: Name, words: Words, direction: string): ChosenPath<Name> => ({
    format,
    name,
    dpdk: words.dpdk,
    burstMode: `${words.mode}, ${kernels}`,
    announcement: `${words.announced} ${direction} path`,
  });
  return {
    receive: chosen(receive, RECEIVE[format][receive], 'Rx'),
    transmit: chosen(transmit, TRANSMIT[format][transmit], 'Tx'),
    disabled: conditions.vectorized ? [...new Set([...refusals.receive, ...refusals.transmit])] : [],
  };
}
