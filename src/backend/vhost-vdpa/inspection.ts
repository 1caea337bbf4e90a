/**
 * What a vDPA network card says of itself: features, limits, and its configuration space (virtio 1.2, 5.1.4). Whatever it says
 * is checked here; what cannot work is refused.
 * @module
 */
import { formatMac, isUnicast, type MacAddress } from '../../net/mac-address.ts';
import { VirtioError } from '../../system/error.ts';
import { VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MAC, VIRTIO_NET_F_MQ, VIRTIO_NET_F_MTU, VIRTIO_NET_F_STATUS } from '../virtio-features.ts';
import { CONTROL_DESCRIPTORS } from './control-queue.ts';
import type { VdpaDevice } from './device.ts';

/** struct virtio_net_config: where its fields are. */
const CONFIG_MAC = 0;
const CONFIG_STATUS = 6;
const CONFIG_QUEUE_PAIRS = 8;
const CONFIG_MTU = 10;
const LINK_UP = 1;
/** A device that tells less tells nothing (virtio 1.2, 5.1.4.1). */
const SMALLEST_MTU = 68;
const QUEUE_PAIRS_LIMIT = 0x8000;
/** Several queue pairs need both. */
export const CONTROL_FEATURES = VIRTIO_NET_F_MQ | VIRTIO_NET_F_CTRL_VQ;

export interface Inspection {
  readonly features: bigint;
  readonly queuePairs: number;
  /** Descriptors of the largest ring. */
  readonly largestRing: number;
  /** Largest MTU; undefined: the device has no limit of its own. */
  readonly mtu: number | undefined;
}

export interface PortNeeds {
  /** Descriptors of each ring. */
  readonly queueSize: number;
  /** The memory that the device must reach. */
  readonly memory: { readonly guestAddress: number; readonly bytes: number };
}

/** @throws VirtioError when the device cannot serve such a port */
export function inspect(device: VdpaDevice, { queueSize, memory }: PortNeeds): Inspection {
  const { path } = device;
  const features = device.features();
  const largestRing = device.largestRing();
  if (queueSize > largestRing) {
    throw new VirtioError(
      `queue_size=${String(queueSize)}: the rings of ${path} have ${String(largestRing)} descriptors at most; ask for that or less`,
      { code: 'EINVAL' },
    );
  }
  checkIovaRange(device, memory);
  const configBytes = device.configSize() ?? Infinity;
  const word = (feature: bigint, offset: number): number | undefined =>
    (features & feature) === feature && offset + 2 <= configBytes ? device.readConfig(offset, 2).readUInt16LE() : undefined;
  const pairs = word(CONTROL_FEATURES, CONFIG_QUEUE_PAIRS) ?? 1;
  const rings = device.ringCount() ?? Infinity;
  if (pairs < 1 || pairs > QUEUE_PAIRS_LIMIT || rings < 2) {
    throw new VirtioError(`${path}: the device says that it has ${String(pairs)} queue pairs and ${String(rings)} rings`, {
      code: 'EPROTO',
    });
  }
  const mtu = word(VIRTIO_NET_F_MTU, CONFIG_MTU) ?? 0;
  return {
    features,
    largestRing,
    // more than one need the control queue as well
    queuePairs: rings >= 2 * pairs + 1 && largestRing >= CONTROL_DESCRIPTORS ? pairs : 1,
    mtu: mtu >= SMALLEST_MTU ? mtu : undefined,
  };
}

function checkIovaRange(device: VdpaDevice, { guestAddress, bytes }: PortNeeds['memory']): void {
  const range = device.iovaRange();
  const last = guestAddress + bytes - 1;
  if (range === undefined || (range.first <= BigInt(guestAddress) && BigInt(last) <= range.last)) return;
  const hex = (value: number | bigint): string => `0x${value.toString(16)}`;
  throw new VirtioError(
    `${device.path}: the device reaches addresses ${hex(range.first)} to ${hex(range.last)}, and the packet memory has ${hex(guestAddress)} to ${hex(last)}; ` +
      `ask for less memory with -m, or use another device`,
    { code: 'ERANGE' },
  );
}

/** @throws VirtioError for an MTU that the device does not take */
export function checkMtu(device: VdpaDevice, { mtu: limit }: Inspection, mtu: number): void {
  if (limit === undefined || mtu <= limit) return;
  const text = `the device takes ${String(limit)} at most; set the port's MTU to that or less`;
  throw new VirtioError(`${device.path}: MTU ${String(mtu)}: ${text}`, { code: 'EINVAL' });
}

/**
 * Gives the device the address that the port wants, and returns the one that it has then; undefined where it has none.
 * @param log hears of a device that keeps its own
 */
export function agreeOnMac(
  device: VdpaDevice,
  { features }: Inspection,
  wanted: MacAddress | undefined,
  log: (problem: unknown) => void,
): MacAddress | undefined {
  if ((features & VIRTIO_NET_F_MAC) === 0n) return undefined;
  try {
    if (wanted !== undefined) device.writeConfig(CONFIG_MAC, wanted);
  } catch (error) {
    log(error);
  }
  const kept = device.readConfig(CONFIG_MAC, 6);
  // none was given to the device
  if (!isUnicast(kept)) return undefined;
  if (wanted !== undefined && !kept.equals(wanted)) {
    log(`${device.path}: the device keeps its address ${formatMac(kept)} instead of ${formatMac(wanted)}`);
  }
  return kept;
}

/** Changes the address of a device that has one. @throws VirtioError when it keeps its own */
export function changeMac(device: VdpaDevice, { features }: Inspection, mac: MacAddress): void {
  if ((features & VIRTIO_NET_F_MAC) === 0n) return;
  device.writeConfig(CONFIG_MAC, mac);
  const kept = device.readConfig(CONFIG_MAC, 6);
  if (kept.equals(mac)) return;
  throw new VirtioError(`${device.path}: the device keeps its address ${formatMac(kept)} (vdpa dev add ... mac gives it another)`, {
    code: 'EOPNOTSUPP',
  });
}

/** The device's own link; up where it does not tell. */
export function linkIsUp(device: VdpaDevice, { features }: Inspection): boolean {
  return (features & VIRTIO_NET_F_STATUS) === 0n || (device.readConfig(CONFIG_STATUS, 2).readUInt16LE() & LINK_UP) !== 0;
}
