/**
 * The configuration space of a network card (virtio 1.2, 5.1.4, struct virtio_net_config): where its fields are, and what they mean.
 * @module
 */
import type { VirtioTransport } from './virtio-transport.ts';

/** Offset and bytes of a field. */
export const NET_CONFIG = {
  mac: [0, 6],
  status: [6, 2],
  max_virtqueue_pairs: [8, 2],
  mtu: [10, 2],
  speed: [12, 4],
  duplex: [16, 1],
  rss_max_key_size: [17, 1],
  rss_max_indirection_table_length: [18, 2],
  supported_hash_types: [20, 4],
} as const;

/** Bits of `status`. */
export const VIRTIO_NET_S_LINK_UP = 1;
export const VIRTIO_NET_S_ANNOUNCE = 2;

/** Largest `max_virtqueue_pairs`. */
export const QUEUE_PAIRS_LIMIT = 0x8000;
/** A device whose `mtu` is less tells nothing by it. */
export const SMALLEST_MTU = 68;
/** A `speed` above is not known; in Mbit/s. */
export const LARGEST_SPEED = 0x7fff_ffff;

export type NetConfigNumber = Exclude<keyof typeof NET_CONFIG, 'mac'>;

/** A field that is a number. @throws VirtioError when it cannot be read */
export async function readNetConfig(transport: VirtioTransport, field: NetConfigNumber): Promise<number> {
  const [offset, bytes] = NET_CONFIG[field];
  return Buffer.from(await transport.readConfig(offset, bytes)).readUIntLE(0, bytes);
}
