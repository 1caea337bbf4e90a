/**
 * What a network card says of itself: features, rings, and its configuration space (virtio 1.2, 5.1.4). Whatever it says is checked
 * here; what cannot work is refused.
 * @module
 */
import { formatMac, isUnicast, type MacAddress } from '../net/mac-address.ts';
import { SPLIT_SIZE_LIMIT } from '../ring/split-layout.ts';
import { VirtioError } from '../system/error.ts';
import type { RssLimits } from './backend.ts';
import { CONTROL_DESCRIPTORS } from './control-queue.ts';
import { LEGACY_FEATURES, negotiate } from './device-status.ts';
import { withPrerequisites } from './feature-dependencies.ts';
import { LARGEST_SPEED, NET_CONFIG, QUEUE_PAIRS_LIMIT, readNetConfig, SMALLEST_MTU, type NetConfigNumber } from './net-config.ts';
import {
  CONTROL_QUEUE_FEATURES,
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_VERSION_1,
  VIRTIO_NET_F_CTRL_MAC_ADDR,
  VIRTIO_NET_F_CTRL_RX,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_HASH_REPORT,
  VIRTIO_NET_F_MAC,
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_F_MTU,
  VIRTIO_NET_F_RSS,
  VIRTIO_NET_F_SPEED_DUPLEX,
} from './virtio-features.ts';
import type { VirtioTransport } from './virtio-transport.ts';

/** Either brings several queue pairs. */
export const MULTIQUEUE_FEATURES = VIRTIO_NET_F_MQ | VIRTIO_NET_F_RSS;
/** Queue pairs that a port uses at most (VIRTIO_MAX_RX_QUEUES of DPDK). */
const PORT_QUEUE_PAIRS = 128;
/** The least that a device must take (5.1.4). */
const RSS_KEY_BYTES = 40;
const RSS_TABLE_ENTRIES = 128;
const HALF_DUPLEX = 0;

export interface Inspection {
  /** What can be used of the device's features. */
  readonly features: bigint;
  readonly queuePairs: number;
  /** The device's own `max_virtqueue_pairs`, behind which its control queue lies. */
  readonly devicePairs: number;
  /** Descriptors of each ring of those pairs. */
  readonly ringSizes: readonly number[];
  /** Largest MTU; undefined: the device has no limit of its own. */
  readonly mtu: number | undefined;
  readonly rss: RssLimits | undefined;
}

/** Number of the control queue with these features (5.1.2). */
export function controlRing(features: bigint, devicePairs: number): number {
  return (features & MULTIQUEUE_FEATURES) === 0n ? 2 : 2 * devicePairs;
}

/**
 * Asks the device what it is; leaves it reset.
 * @param queueSize descriptors that each ring is to have; undefined: what the device likes
 * @throws VirtioError when the device cannot serve such a port
 */
export async function inspect(transport: VirtioTransport, queueSize: number | undefined): Promise<Inspection> {
  const { name } = transport;
  const offered = withMacCommands(withPrerequisites((await transport.readFeatures()) & (transport.legacy ? LEGACY_FEATURES : ~0n)));
  const configBytes = (await transport.configSize()) ?? Infinity;
  const field = async (needed: boolean, of: NetConfigNumber): Promise<number | undefined> => {
    const [offset, bytes] = NET_CONFIG[of];
    return needed && offset + bytes <= configBytes ? readNetConfig(transport, of) : undefined;
  };
  const multiqueue = (offered & VIRTIO_NET_F_CTRL_VQ) !== 0n && (offered & MULTIQUEUE_FEATURES) !== 0n;
  const claimed = (await field(multiqueue, 'max_virtqueue_pairs')) ?? 1;
  if (claimed < 1 || claimed > QUEUE_PAIRS_LIMIT) {
    throw new VirtioError(`${name}: the device says that it has ${String(claimed)} queue pairs`, { code: 'EPROTO' });
  }
  // some rings are there only once their features are agreed on
  const trial = CONTROL_QUEUE_FEATURES | VIRTIO_F_VERSION_1 | VIRTIO_F_ACCESS_PLATFORM;
  await negotiate(transport, offered & trial);
  const rings = (await transport.ringCount()) ?? Infinity;
  const control =
    (offered & VIRTIO_NET_F_CTRL_VQ) !== 0n &&
    rings > controlRing(offered, claimed) &&
    (await transport.ringLimit(controlRing(offered, claimed))) >= CONTROL_DESCRIPTORS;
  const queuePairs = control ? Math.min(claimed, PORT_QUEUE_PAIRS) : 1;
  const ringSizes: number[] = [];
  for (let ring = 0; ring < 2 * queuePairs; ring++) {
    const limit = ring < rings ? await transport.ringLimit(ring) : 0;
    ringSizes.push(ringSize(transport, ring, limit, queueSize));
  }
  await transport.reset();
  const features = control ? offered : offered & ~CONTROL_QUEUE_FEATURES;
  const mtu = (await field((features & VIRTIO_NET_F_MTU) !== 0n, 'mtu')) ?? 0;
  const hashing = (features & (VIRTIO_NET_F_RSS | VIRTIO_NET_F_HASH_REPORT)) !== 0n;
  const types = await field(hashing, 'supported_hash_types');
  return {
    features: types === undefined ? features & ~(VIRTIO_NET_F_RSS | VIRTIO_NET_F_HASH_REPORT) : features,
    queuePairs,
    devicePairs: claimed,
    ringSizes,
    mtu: mtu >= SMALLEST_MTU ? mtu : undefined,
    rss:
      types === undefined
        ? undefined
        : {
            keyBytes: (await field(true, 'rss_max_key_size')) ?? RSS_KEY_BYTES,
            tableEntries: (await field((features & VIRTIO_NET_F_RSS) !== 0n, 'rss_max_indirection_table_length')) ?? RSS_TABLE_ENTRIES,
            hashTypes: types,
          },
  };
}

/** Commands of the class MAC need VIRTIO_NET_F_CTRL_RX (5.1.6.5.2.2): without it, VIRTIO_NET_F_CTRL_MAC_ADDR is of no use. */
function withMacCommands(features: bigint): bigint {
  return (features & VIRTIO_NET_F_CTRL_RX) === 0n ? features & ~VIRTIO_NET_F_CTRL_MAC_ADDR : features;
}

function ringSize(transport: VirtioTransport, ring: number, limit: number, wanted: number | undefined): number {
  const { name, legacy } = transport;
  if (limit < 2) {
    const text = limit === 0 ? 'the device has no such ring (its size is 0)' : 'its size is 1';
    throw new VirtioError(`${name}: ring ${String(ring)}: ${text}; the device cannot be used`, { code: 'EPROTO' });
  }
  // a split ring has a power of two
  const own = Math.min(2 ** Math.floor(Math.log2(limit)), SPLIT_SIZE_LIMIT);
  if (legacy && own !== limit) {
    throw new VirtioError(`${name}: ring ${String(ring)}: ${String(limit)} descriptors, which is no power of two up to 32768`, {
      code: 'EPROTO',
    });
  }
  if (wanted === undefined || wanted === own) return own;
  if (wanted < own && !legacy) return wanted;
  throw new VirtioError(
    `queue_size=${String(wanted)}: the rings of ${name} have ${String(own)} descriptors at most; ask for that or less`,
    { code: 'EINVAL' },
  );
}

/** @throws VirtioError for an MTU that the device does not take */
export function checkMtu(name: string, { mtu: limit }: Inspection, mtu: number): void {
  if (limit === undefined || mtu <= limit) return;
  const text = `the device takes ${String(limit)} at most; set the port's MTU to that or less`;
  throw new VirtioError(`${name}: MTU ${String(mtu)}: ${text}`, { code: 'EINVAL' });
}

/**
 * Gives the device the address that the port wants, and returns the one that it has then; undefined where it has none.
 * @param log hears of a device that keeps its own
 */
export async function agreeOnMac(
  transport: VirtioTransport,
  { features }: Inspection,
  wanted: MacAddress | undefined,
  log: (problem: unknown) => void,
): Promise<MacAddress | undefined> {
  if ((features & VIRTIO_NET_F_MAC) === 0n) return undefined;
  try {
    if (wanted !== undefined) await transport.writeConfig(NET_CONFIG.mac[0], wanted);
  } catch (error) {
    log(error);
  }
  const kept = Buffer.from(await transport.readConfig(...NET_CONFIG.mac));
  // none was given to the device
  if (!isUnicast(kept)) return undefined;
  if (wanted !== undefined && !kept.equals(wanted)) {
    log(`${transport.name}: the device keeps its address ${formatMac(kept)} instead of ${formatMac(wanted)}`);
  }
  return kept;
}

/** Changes the address of a device that has one, in its configuration. @throws VirtioError when it keeps its own */
export async function changeMac(transport: VirtioTransport, { features }: Inspection, mac: MacAddress): Promise<void> {
  if ((features & VIRTIO_NET_F_MAC) === 0n) return;
  await transport.writeConfig(NET_CONFIG.mac[0], mac);
  const kept = Buffer.from(await transport.readConfig(...NET_CONFIG.mac));
  if (kept.equals(mac)) return;
  throw new VirtioError(`${transport.name}: the device keeps its address ${formatMac(kept)}`, { code: 'EOPNOTSUPP' });
}

/** Speed in Mbit/s (0: not known) and duplex, where the device tells (VIRTIO_NET_F_SPEED_DUPLEX). */
export async function readSpeed(
  transport: VirtioTransport,
  { features }: Inspection,
): Promise<{ readonly speed: number; readonly fullDuplex: boolean } | undefined> {
  if ((features & VIRTIO_NET_F_SPEED_DUPLEX) === 0n) return undefined;
  const speed = await readNetConfig(transport, 'speed');
  const duplex = await readNetConfig(transport, 'duplex');
  return { speed: speed > LARGEST_SPEED ? 0 : speed, fullDuplex: duplex !== HALF_DUPLEX };
}
