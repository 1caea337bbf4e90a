/**
 * Requests of vfio and the structs that they carry, by their names in linux/vfio.h.
 *
 *     /dev/vfio/vfio   container: an IOMMU's address space, into which memory is mapped
 *     /dev/vfio/N      group: what the IOMMU cannot tell apart; put into a container
 *     (from a group)   device: regions (BARs, configuration space) by their offsets in its file, interrupts by eventfds
 * @module
 */
import { requestPlain } from './ioctl.ts';

const TYPE = 0x3b;
const BASE = 100;
const request = (number: number): number => requestPlain(TYPE, BASE + number);

export const VFIO = {
  VFIO_GET_API_VERSION: request(0),
  VFIO_CHECK_EXTENSION: request(1),
  VFIO_SET_IOMMU: request(2),
  VFIO_GROUP_GET_STATUS: request(3),
  VFIO_GROUP_SET_CONTAINER: request(4),
  VFIO_GROUP_UNSET_CONTAINER: request(5),
  VFIO_GROUP_GET_DEVICE_FD: request(6),
  VFIO_DEVICE_GET_INFO: request(7),
  VFIO_DEVICE_GET_REGION_INFO: request(8),
  VFIO_DEVICE_GET_IRQ_INFO: request(9),
  VFIO_DEVICE_SET_IRQS: request(10),
  VFIO_DEVICE_RESET: request(11),
  VFIO_IOMMU_GET_INFO: request(12),
  VFIO_IOMMU_MAP_DMA: request(13),
  VFIO_IOMMU_UNMAP_DMA: request(14),
} as const;

export type VfioRequest = keyof typeof VFIO;

export const VFIO_API_VERSION = 0;
export const VFIO_TYPE1v2_IOMMU = 3;
export const VFIO_NOIOMMU_IOMMU = 8;

export const VFIO_GROUP_FLAGS_VIABLE = 1;

export const VFIO_DEVICE_FLAGS_RESET = 1;
export const VFIO_DEVICE_FLAGS_PCI = 2;

/** Regions of a PCI device; BAR n is region n. */
export const VFIO_PCI_CONFIG_REGION_INDEX = 7;
export const VFIO_REGION_INFO_FLAG_MMAP = 4;
const VFIO_REGION_INFO_FLAG_CAPS = 8;
export const VFIO_REGION_INFO_CAP_SPARSE_MMAP = 1;
export const VFIO_REGION_INFO_CAP_MSIX_MAPPABLE = 3;

export const VFIO_PCI_INTX_IRQ_INDEX = 0;
export const VFIO_PCI_MSIX_IRQ_INDEX = 2;
export const VFIO_PCI_REQ_IRQ_INDEX = 4;

const VFIO_IRQ_SET_DATA_NONE = 0x01;
const VFIO_IRQ_SET_DATA_EVENTFD = 0x04;
const VFIO_IRQ_SET_ACTION_UNMASK = 0x10;
const VFIO_IRQ_SET_ACTION_TRIGGER = 0x20;
const IRQ_SET_BYTES = 20;

const VFIO_IOMMU_INFO_CAPS = 2;
const VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE = 1;
const VFIO_DMA_MAP_FLAG_READ = 1;
const VFIO_DMA_MAP_FLAG_WRITE = 2;

/** A struct of `bytes` whose first word is its size (argsz). */
function struct(bytes: number): Buffer {
  const content = Buffer.alloc(bytes);
  content.writeUInt32LE(bytes, 0);
  return content;
}

/** struct vfio_group_status: u32 argsz, flags. */
export const groupStatus = (): Buffer => struct(8);
export const decodeGroupStatus = (bytes: Buffer): number => bytes.readUInt32LE(4);

/** struct vfio_device_info: u32 argsz, flags, num_regions, num_irqs. */
export const deviceInfo = (): Buffer => struct(16);

export interface VfioDeviceInfo {
  readonly flags: number;
  readonly regions: number;
  readonly interrupts: number;
}

export function decodeDeviceInfo(bytes: Buffer): VfioDeviceInfo {
  return { flags: bytes.readUInt32LE(4), regions: bytes.readUInt32LE(8), interrupts: bytes.readUInt32LE(12) };
}

/** What the kernel would fill if there were room: it writes that into argsz, and is asked again with as much. */
export function neededBytes(bytes: Buffer): number {
  return bytes.readUInt32LE(0);
}

const REGION_BYTES = 32;

/** struct vfio_region_info: u32 argsz, flags, index, cap_offset, u64 size, offset; then capabilities where there is room. */
export function regionInfo(index: number, bytes = REGION_BYTES): Buffer {
  const content = struct(Math.max(bytes, REGION_BYTES));
  content.writeUInt32LE(index, 8);
  return content;
}

export interface VfioRegion {
  readonly flags: number;
  readonly bytes: number;
  /** Position of its first byte in the device's file. */
  readonly offset: number;
  /** VFIO_REGION_INFO_CAP_*. */
  readonly capabilities: readonly number[];
}

export function decodeRegionInfo(bytes: Buffer): VfioRegion {
  const flags = bytes.readUInt32LE(4);
  const first = (flags & VFIO_REGION_INFO_FLAG_CAPS) === 0 ? 0 : bytes.readUInt32LE(12);
  return {
    flags,
    bytes: Number(bytes.readBigUInt64LE(16)),
    offset: Number(bytes.readBigUInt64LE(24)),
    capabilities: capabilityOffsets(bytes, first).map((at) => bytes.readUInt16LE(at)),
  };
}

/** Where the capabilities of a struct are; each begins with u16 id, u16 version, u32 next. */
function capabilityOffsets(bytes: Buffer, first: number): readonly number[] {
  const found: number[] = [];
  for (let at = first; at !== 0 && at + 8 <= bytes.length && !found.includes(at); at = bytes.readUInt32LE(at + 4)) found.push(at);
  return found;
}

/** struct vfio_irq_info: u32 argsz, flags, index, count. */
export function irqInfo(index: number): Buffer {
  const content = struct(16);
  content.writeUInt32LE(index, 8);
  return content;
}

export const decodeIrqCount = (bytes: Buffer): number => bytes.readUInt32LE(12);

function irqSet(flags: number, index: number, count: number, descriptors: readonly number[] = []): Buffer {
  const content = struct(IRQ_SET_BYTES + 4 * descriptors.length);
  content.writeUInt32LE(flags, 4);
  content.writeUInt32LE(index, 8);
  content.writeUInt32LE(count, 16);
  for (const [at, fd] of descriptors.entries()) content.writeInt32LE(fd, IRQ_SET_BYTES + 4 * at);
  return content;
}

/** struct vfio_irq_set: u32 argsz, flags, index, start, count, then the eventfds: interrupt n of the index signals the nth. */
export const triggerByEventFds = (index: number, descriptors: readonly number[]): Buffer =>
  irqSet(VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER, index, descriptors.length, descriptors);
/** The same struct: no interrupt of the index any more. */
export const disableIrqs = (index: number): Buffer => irqSet(VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER, index, 0);
/** The same struct: a line that was masked when it came may come again. */
export const unmaskIrq = (index: number): Buffer => irqSet(VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK, index, 1);

export interface IovaRange {
  readonly first: bigint;
  readonly last: bigint;
}

const IOMMU_INFO_BYTES = 24;

/** struct vfio_iommu_type1_info: u32 argsz, flags, u64 iova_pgsizes, u32 cap_offset, pad; then capabilities where there is room. */
export const iommuInfo = (bytes = IOMMU_INFO_BYTES): Buffer => struct(Math.max(bytes, IOMMU_INFO_BYTES));

/** Addresses that can be mapped; undefined where the kernel does not tell (before 5.4). */
export function decodeIovaRanges(bytes: Buffer): readonly IovaRange[] | undefined {
  const first = (bytes.readUInt32LE(4) & VFIO_IOMMU_INFO_CAPS) === 0 ? 0 : bytes.readUInt32LE(16);
  const at = capabilityOffsets(bytes, first).find((offset) => bytes.readUInt16LE(offset) === VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE);
  if (at === undefined) return undefined;
  const ranges: IovaRange[] = [];
  const count = bytes.readUInt32LE(at + 8);
  for (let entry = at + 16; ranges.length < count && entry + 16 <= bytes.length; entry += 16) {
    ranges.push({ first: bytes.readBigUInt64LE(entry), last: bytes.readBigUInt64LE(entry + 8) });
  }
  return ranges;
}

/** Memory of this process, and where the device finds it. */
export interface DmaMapping {
  readonly iova: number;
  readonly bytes: number;
  readonly userAddress: number;
}

/** struct vfio_iommu_type1_dma_map: u32 argsz, flags, u64 vaddr, iova, size. */
export function dmaMap({ iova, bytes, userAddress }: DmaMapping): Buffer {
  const content = struct(32);
  content.writeUInt32LE(VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE, 4);
  content.writeBigUInt64LE(BigInt(userAddress), 8);
  content.writeBigUInt64LE(BigInt(iova), 16);
  content.writeBigUInt64LE(BigInt(bytes), 24);
  return content;
}

/** struct vfio_iommu_type1_dma_unmap: u32 argsz, flags, u64 iova, size. */
export function dmaUnmap({ iova, bytes }: DmaMapping): Buffer {
  const content = struct(24);
  content.writeBigUInt64LE(BigInt(iova), 8);
  content.writeBigUInt64LE(BigInt(bytes), 16);
  return content;
}
