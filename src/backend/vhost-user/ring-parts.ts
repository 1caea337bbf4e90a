/**
 * The three parts of a ring as the front-end names them (VHOST_USER_SET_VRING_ADDR), and what the device does with each.
 * @module
 */
import { Q_AVAILABLE, Q_DESCRIPTORS, Q_USED } from '../../ring/queue-layout.ts';
import { packedRingBytes, splitRingBytes } from '../../ring/virtqueue.ts';
import { IOTLB_READ, IOTLB_WRITE, type VringAddress } from './messages.ts';

export interface RingPart {
  /** For messages. */
  readonly name: string;
  readonly address: bigint;
  readonly bytes: number;
  /** virtio 1.2, 2.7 and 2.8. */
  readonly align: number;
  /** What an IOMMU must allow. */
  readonly permission: typeof IOTLB_READ | typeof IOTLB_WRITE;
  /** Where the queue's state keeps the part's place. */
  readonly field: number;
}

/** The parts of a ring of `size` descriptors: of a packed one the descriptors, and the event suppression of driver and device. */
export function ringParts({ descriptors, available, used }: VringAddress, size: number, packed: boolean): readonly RingPart[] {
  const bytes = (packed ? packedRingBytes : splitRingBytes)(size);
  return [
    {
      name: 'descriptor table',
      address: descriptors,
      bytes: bytes.descriptors,
      align: 16,
      // both sides write packed ones
      permission: packed ? IOTLB_WRITE : IOTLB_READ,
      field: Q_DESCRIPTORS,
    },
    {
      name: packed ? 'driver event suppression' : 'available ring',
      address: available,
      bytes: bytes.available,
      align: packed ? 4 : 2,
      permission: IOTLB_READ,
      field: Q_AVAILABLE,
    },
    {
      name: packed ? 'device event suppression' : 'used ring',
      address: used,
      bytes: bytes.used,
      align: 4,
      permission: IOTLB_WRITE,
      field: Q_USED,
    },
  ];
}

/** Whether any of the parts has a byte from `start` up to `end`. */
export function partsTouch(parts: readonly RingPart[], start: bigint, end: bigint): boolean {
  return parts.some(({ address, bytes }) => address < end && start < address + BigInt(bytes));
}
