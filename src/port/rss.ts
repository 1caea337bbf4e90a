/**
 * Receive side scaling: the kinds of packets that are hashed, with DPDK's values (RTE_ETH_RSS_*) and testpmd's names, and what they
 * are to a virtio device (virtio 1.2, 5.1.6.4.3: VIRTIO_NET_HASH_TYPE_*).
 * @module
 */

const bit = (number: number): bigint => 1n << BigInt(number);

export const RSS_IPV4 = bit(2);
export const RSS_IPV4_FRAGMENT = bit(3);
export const RSS_IPV4_TCP = bit(4);
export const RSS_IPV4_UDP = bit(5);
export const RSS_IPV4_SCTP = bit(6);
export const RSS_IPV4_OTHER = bit(7);
export const RSS_IPV6 = bit(8);
export const RSS_IPV6_FRAGMENT = bit(9);
export const RSS_IPV6_TCP = bit(10);
export const RSS_IPV6_UDP = bit(11);
export const RSS_IPV6_SCTP = bit(12);
export const RSS_IPV6_OTHER = bit(13);
export const RSS_IPV6_EX = bit(15);
export const RSS_IPV6_TCP_EX = bit(16);
export const RSS_IPV6_UDP_EX = bit(17);
/** What testpmd has hashed unless it is told otherwise. */
export const RSS_IP = RSS_IPV4 | RSS_IPV4_FRAGMENT | RSS_IPV4_OTHER | RSS_IPV6 | RSS_IPV6_FRAGMENT | RSS_IPV6_OTHER | RSS_IPV6_EX;
export const RSS_UDP = RSS_IPV4_UDP | RSS_IPV6_UDP | RSS_IPV6_UDP_EX;
export const RSS_TCP = RSS_IPV4_TCP | RSS_IPV6_TCP | RSS_IPV6_TCP_EX;
export const RSS_SCTP = RSS_IPV4_SCTP | RSS_IPV6_SCTP;

/** Names of single kinds, in the order of their bits, without those of which several packets of a kind are told apart. */
export const RSS_TYPE_NAMES: readonly (readonly [name: string, bit: bigint])[] = [
  ['ipv4', RSS_IPV4],
  ['ipv4-frag', RSS_IPV4_FRAGMENT],
  ['ipv4-tcp', RSS_IPV4_TCP],
  ['ipv4-udp', RSS_IPV4_UDP],
  ['ipv4-sctp', RSS_IPV4_SCTP],
  ['ipv4-other', RSS_IPV4_OTHER],
  ['ipv6', RSS_IPV6],
  ['ipv6-frag', RSS_IPV6_FRAGMENT],
  ['ipv6-tcp', RSS_IPV6_TCP],
  ['ipv6-udp', RSS_IPV6_UDP],
  ['ipv6-sctp', RSS_IPV6_SCTP],
  ['ipv6-other', RSS_IPV6_OTHER],
  ['l2-payload', bit(14)],
  ['ipv6-ex', RSS_IPV6_EX],
  ['ipv6-tcp-ex', RSS_IPV6_TCP_EX],
  ['ipv6-udp-ex', RSS_IPV6_UDP_EX],
  ['port', bit(18)],
  ['vxlan', bit(19)],
  ['geneve', bit(20)],
  ['nvgre', bit(21)],
  ['gtpu', bit(23)],
  ['eth', bit(24)],
  ['s-vlan', bit(25)],
  ['c-vlan', bit(26)],
  ['esp', bit(27)],
  ['ah', bit(28)],
  ['l2tpv3', bit(29)],
  ['pfcp', bit(30)],
  ['pppoe', bit(31)],
  ['ecpri', bit(32)],
  ['mpls', bit(33)],
  ['ipv4-chksum', bit(34)],
  ['l4-chksum', bit(35)],
  ['l2tpv2', bit(36)],
  ['l3-pre96', bit(52)],
  ['l3-pre64', bit(53)],
  ['l3-pre56', bit(54)],
  ['l3-pre48', bit(55)],
  ['l3-pre40', bit(56)],
  ['l3-pre32', bit(57)],
  ['l2-dst-only', bit(58)],
  ['l2-src-only', bit(59)],
  ['l4-dst-only', bit(60)],
  ['l4-src-only', bit(61)],
  ['l3-dst-only', bit(62)],
  ['l3-src-only', bit(63)],
];

/** Bytes of the key and entries of the table that every virtio device takes (5.1.4). */
export const RSS_KEY_BYTES = 40;
export const RSS_TABLE_ENTRIES = 128;

/** The key that is used unless another one is given: the one of Microsoft's verification suite, as in DPDK's drivers. */
export const RSS_DEFAULT_KEY: Uint8Array = Buffer.from(
  '6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa',
  'hex',
);

/** Each VIRTIO_NET_HASH_TYPE_* bit and the kinds that it hashes. */
const HASH_TYPES: readonly (readonly [hashType: number, types: bigint])[] = [
  [1 << 0, RSS_IPV4 | RSS_IPV4_FRAGMENT | RSS_IPV4_OTHER],
  [1 << 1, RSS_IPV4_TCP],
  [1 << 2, RSS_IPV4_UDP],
  [1 << 3, RSS_IPV6 | RSS_IPV6_FRAGMENT | RSS_IPV6_OTHER],
  [1 << 4, RSS_IPV6_TCP],
  [1 << 5, RSS_IPV6_UDP],
  [1 << 6, RSS_IPV6_EX],
  [1 << 7, RSS_IPV6_TCP_EX],
  [1 << 8, RSS_IPV6_UDP_EX],
];

/** The kinds of packets that a device with these VIRTIO_NET_HASH_TYPE_* bits hashes. */
export function rssTypesOf(hashTypes: number): bigint {
  return HASH_TYPES.reduce((types, [hashType, of]) => ((hashTypes & hashType) === 0 ? types : types | of), 0n);
}

/** The VIRTIO_NET_HASH_TYPE_* bits by which these kinds are hashed; any of the kinds of a bit brings it. */
export function hashTypesOf(types: bigint): number {
  return HASH_TYPES.reduce((hashTypes, [hashType, of]) => ((types & of) === 0n ? hashTypes : hashTypes | hashType), 0);
}

/** Names of the kinds among `types`. */
export function rssTypeNames(types: bigint): readonly string[] {
  return RSS_TYPE_NAMES.filter(([, of]) => (types & of) !== 0n).map(([name]) => name);
}

/** Which queue each entry of a table of `entries` chooses at first: all in turn. */
export function defaultRssTable(entries: number, queues: number): number[] {
  return Array.from({ length: entries }, (_, index) => index % Math.max(1, queues));
}
