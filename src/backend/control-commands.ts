/**
 * Commands of a network card's control virtqueue (virtio 1.2, 5.1.6.5): their numbers, and the bytes of their data.
 * @module
 */
import type { MacAddress } from '../net/mac-address.ts';

export interface ControlCommand {
  /** As in the specification; for messages. */
  readonly name: string;
  /** Class and command. */
  readonly kind: number;
  readonly command: number;
}

const of = (name: string, kind: number, command: number): ControlCommand => ({ name: `VIRTIO_NET_CTRL_${name}`, kind, command });

// 5.1.6.5.1; data: u8, 0 or 1
export const RX_PROMISC = of('RX_PROMISC', 0, 0);
export const RX_ALLMULTI = of('RX_ALLMULTI', 0, 1);
/** With VIRTIO_NET_F_CTRL_RX_EXTRA. */
export const RX_ALLUNI = of('RX_ALLUNI', 0, 2);
export const RX_NOMULTI = of('RX_NOMULTI', 0, 3);
export const RX_NOUNI = of('RX_NOUNI', 0, 4);
export const RX_NOBCAST = of('RX_NOBCAST', 0, 5);
// 5.1.6.5.2
export const MAC_TABLE_SET = of('MAC_TABLE_SET', 1, 0);
export const MAC_ADDR_SET = of('MAC_ADDR_SET', 1, 1);
// 5.1.6.5.3; data: u16 VLAN
export const VLAN_ADD = of('VLAN_ADD', 2, 0);
export const VLAN_DEL = of('VLAN_DEL', 2, 1);
// 5.1.6.5.4; no data
export const ANNOUNCE_ACK = of('ANNOUNCE_ACK', 3, 0);
// 5.1.6.5.5 to 5.1.6.5.7
export const MQ_VQ_PAIRS_SET = of('MQ_VQ_PAIRS_SET', 4, 0);
export const MQ_RSS_CONFIG = of('MQ_RSS_CONFIG', 4, 1);
export const MQ_HASH_CONFIG = of('MQ_HASH_CONFIG', 4, 2);
// 5.1.6.5.8; data: u64 feature bits
export const GUEST_OFFLOADS_SET = of('GUEST_OFFLOADS_SET', 5, 0);
// 5.1.6.5.9
export const NOTF_COAL_TX_SET = of('NOTF_COAL_TX_SET', 6, 0);
export const NOTF_COAL_RX_SET = of('NOTF_COAL_RX_SET', 6, 1);
/** With VIRTIO_NET_F_VQ_NOTF_COAL. */
export const NOTF_COAL_VQ_SET = of('NOTF_COAL_VQ_SET', 6, 2);

export function encodeFlag(on: boolean): Uint8Array {
  return Uint8Array.of(on ? 1 : 0);
}

/** A little-endian u16: a number of queue pairs, a VLAN. */
export function encodeU16(value: number): Uint8Array {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16LE(value);
  return bytes;
}

/** The feature bits of the GUEST_* offloads that are to be in force. */
export function encodeGuestOffloads(features: bigint): Uint8Array {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(features);
  return bytes;
}

/** Two struct virtio_net_ctrl_mac: u32 entries, then six bytes each. */
export function encodeMacTable(unicast: readonly MacAddress[], multicast: readonly MacAddress[]): Uint8Array {
  const table = (addresses: readonly MacAddress[]): Buffer => {
    const count = Buffer.alloc(4);
    count.writeUInt32LE(addresses.length);
    return Buffer.concat([count, ...addresses]);
  };
  return Buffer.concat([table(unicast), table(multicast)]);
}

/** Which packets are hashed how, and which queue they come to. */
export interface RssSettings {
  /** VIRTIO_NET_HASH_TYPE_* bits (rss.ts). */
  readonly hashTypes: number;
  /** Bytes of the Toeplitz key. */
  readonly key: Uint8Array;
  /** Receive queues; a power of two of entries. */
  readonly table: readonly number[];
  /** Where packets go that are not hashed. */
  readonly unclassifiedQueue: number;
  /** Transmit queues in use. */
  readonly transmitQueues: number;
}

/**
 * struct virtio_net_rss_config (5.1.6.5.7.1): u32 hash types, u16 table mask, u16 unclassified queue, u16 table[], u16 transmit queues,
 * u8 key length, key.
 */
export function encodeRss({ hashTypes, key, table, unclassifiedQueue, transmitQueues }: RssSettings): Uint8Array {
  const bytes = Buffer.alloc(8 + 2 * table.length + 3 + key.length);
  bytes.writeUInt32LE(hashTypes, 0);
  bytes.writeUInt16LE(table.length - 1, 4);
  bytes.writeUInt16LE(unclassifiedQueue, 6);
  for (const [index, queue] of table.entries()) bytes.writeUInt16LE(queue, 8 + 2 * index);
  const end = 8 + 2 * table.length;
  bytes.writeUInt16LE(transmitQueues, end);
  bytes.writeUInt8(key.length, end + 2);
  bytes.set(key, end + 3);
  return bytes;
}

/** struct virtio_net_hash_config (5.1.6.5.6.4): u32 hash types, u16 reserved[4], u8 key length, key. */
export function encodeHashConfig(hashTypes: number, key: Uint8Array): Uint8Array {
  const bytes = Buffer.alloc(13 + key.length);
  bytes.writeUInt32LE(hashTypes, 0);
  bytes.writeUInt8(key.length, 12);
  bytes.set(key, 13);
  return bytes;
}

/** When the device tells of buffers: after so many packets, or so many microseconds after the first. */
export interface Coalescing {
  readonly packets: number;
  readonly microseconds: number;
}

/** struct virtio_net_ctrl_coal: u32 packets, u32 microseconds. */
export function encodeCoalescing({ packets, microseconds }: Coalescing): Uint8Array {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt32LE(packets, 0);
  bytes.writeUInt32LE(microseconds, 4);
  return bytes;
}

/** struct virtio_net_ctrl_coal_vq: u16 ring, u16 reserved, struct virtio_net_ctrl_coal. */
export function encodeRingCoalescing(ring: number, coalescing: Coalescing): Uint8Array {
  return Buffer.concat([encodeU16(ring), encodeU16(0), encodeCoalescing(coalescing)]);
}
