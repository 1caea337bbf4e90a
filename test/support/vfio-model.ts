/**
 * A model of the kernel's vfio with one PCI function in a group, for what no machine here has: no IOMMU, faults of every request, BARs
 * that cannot be mapped. Its device is a file in memory with the regions where vfio has them; numbers and layouts are written out here
 * once more, from linux/vfio.h. The function's bytes are those of PciFunctionModel.
 * @module
 */
import { writeSync } from 'node:fs';
import { realDeviceFiles, type DeviceFiles } from '../../src/system/device-files.ts';
import type { NativeResult } from '../../src/system/ffi.ts';
import { createMemoryFile, resizeFile } from '../../src/system/memory-map.ts';
import { PciFunctionModel } from './pci-function-model.ts';

const NAMES: ReadonlyMap<number, string> = new Map(
  [
    ...['GET_API_VERSION', 'CHECK_EXTENSION', 'SET_IOMMU', 'GROUP_GET_STATUS', 'GROUP_SET_CONTAINER', 'GROUP_UNSET_CONTAINER'],
    ...['GROUP_GET_DEVICE_FD', 'DEVICE_GET_INFO', 'DEVICE_GET_REGION_INFO', 'DEVICE_GET_IRQ_INFO', 'DEVICE_SET_IRQS', 'DEVICE_RESET'],
    ...['IOMMU_GET_INFO', 'IOMMU_MAP_DMA', 'IOMMU_UNMAP_DMA'],
  ].map((name, number) => [0x3b64 + number, name]),
);

const ERRNO = { EPERM: 1, ENOENT: 2, ENODEV: 19, EBUSY: 16, EINVAL: 22, EIO: 5, ENOMEM: 12 } as const;
type ErrnoName = keyof typeof ERRNO;

const CONFIG_REGION = 7;
const REGION_SHIFT = 2 ** 40;
const FLAG_READ_WRITE = 3;
const FLAG_MMAP = 4;
const FLAG_CAPS = 8;
const FIRST_FD = 2_000_000;

export interface VfioModelOptions {
  readonly group?: string;
  readonly apiVersion?: number;
  readonly viable?: boolean;
  readonly extensions?: readonly number[];
  /** Of paths that cannot be opened. */
  readonly openErrors?: Readonly<Record<string, ErrnoName>>;
  /** Of requests that fail. */
  readonly errors?: Readonly<Record<string, ErrnoName>>;
  /** The request that fails with EIO: the nth of all. */
  readonly failingRequest?: number;
  /** First and last address of each; undefined: an older kernel. */
  readonly ranges?: readonly (readonly [bigint, bigint])[] | undefined;
  /** By BAR. */
  readonly bars?: Readonly<Record<number, { readonly bytes: number; readonly mmap: boolean; readonly capabilities?: readonly number[] }>>;
  readonly irqCounts?: readonly number[];
  readonly deviceFlags?: number;
}

export class VfioModel {
  readonly options: VfioModelOptions;
  readonly requests: string[] = [];
  /** Structs of MAP_DMA, UNMAP_DMA and SET_IRQS, in hexadecimal digits. */
  readonly structs: string[] = [];
  readonly openFiles = new Map<number, string>();
  readonly mappings = new Set<string>();
  readonly watches = new Set<() => void>();
  readonly system: DeviceFiles;
  #next = FIRST_FD;

  constructor(options: VfioModelOptions = {}) {
    this.options = options;
    this.system = {
      ...realDeviceFiles,
      open: (path) => this.#open(path),
      close: (fd) => {
        const name = this.openFiles.get(fd);
        this.openFiles.delete(fd);
        if (name === 'device') realDeviceFiles.close(fd);
        // the kernel takes mappings back with the last file of the container
        if (name === '/dev/vfio/vfio') this.mappings.clear();
      },
      exists: (path) => path === (options.group ?? '/dev/vfio/5'),
      ioctl: (fd, code, argument) => this.#ioctl(fd, code, argument),
      watch: (_fd, onReady) => {
        this.watches.add(onReady);
        return () => {
          this.watches.delete(onReady);
        };
      },
      lockedBytesLimit: () => 8 * 1024 * 1024,
    };
  }

  #open(path: string): NativeResult {
    const error = this.options.openErrors?.[path];
    if (error !== undefined) return { value: -1, errno: ERRNO[error] };
    const fd = this.#next++;
    this.openFiles.set(fd, path);
    return { value: fd, errno: 0 };
  }

  #ioctl(fd: number, code: number, argument: number | Uint8Array): NativeResult {
    const name = NAMES.get(code) ?? `0x${code.toString(16)}`;
    this.requests.push(name);
    if (!this.openFiles.has(fd)) return { value: -1, errno: 9 };
    if (this.requests.length === this.options.failingRequest) return { value: -1, errno: ERRNO.EIO };
    const error = this.options.errors?.[name];
    if (error !== undefined) return { value: -1, errno: ERRNO[error] };
    return { value: this.#answer(name, argument), errno: 0 };
  }

  #answer(name: string, argument: number | Uint8Array): number {
    if (typeof argument === 'number') {
      if (name === 'GET_API_VERSION') return this.options.apiVersion ?? 0;
      if (name === 'CHECK_EXTENSION') return (this.options.extensions ?? [1, 3]).includes(argument) ? 1 : 0;
      return 0;
    }
    const bytes = Buffer.from(argument.buffer, argument.byteOffset, argument.length);
    switch (name) {
      case 'GROUP_GET_STATUS':
        bytes.writeUInt32LE(this.options.viable === false ? 0 : 1, 4);
        return 0;
      case 'GROUP_SET_CONTAINER':
        return 0;
      case 'GROUP_GET_DEVICE_FD':
        return this.#device();
      case 'DEVICE_GET_INFO':
        bytes.writeUInt32LE(this.options.deviceFlags ?? 3, 4);
        bytes.writeUInt32LE(9, 8);
        bytes.writeUInt32LE(5, 12);
        return 0;
      case 'DEVICE_GET_REGION_INFO':
        this.#region(bytes);
        return 0;
      case 'DEVICE_GET_IRQ_INFO':
        bytes.writeUInt32LE((this.options.irqCounts ?? [1, 0, 4, 0, 1])[bytes.readUInt32LE(8)] ?? 0, 12);
        return 0;
      case 'IOMMU_GET_INFO':
        this.#iommu(bytes);
        return 0;
      case 'IOMMU_MAP_DMA':
        this.mappings.add(bytes.toString('hex', 16, 32));
        break;
      case 'IOMMU_UNMAP_DMA':
        this.mappings.delete(bytes.toString('hex', 8, 24));
        break;
      default:
    }
    this.structs.push(`${name} ${bytes.toString('hex')}`);
    return 0;
  }

  #device(): number {
    const fd = createMemoryFile('vfio-model', 4096);
    resizeFile(fd, 9 * REGION_SHIFT, 'the model');
    writeSync(fd, new PciFunctionModel().configBytes, 0, 256, CONFIG_REGION * REGION_SHIFT);
    this.openFiles.set(fd, 'device');
    return fd;
  }

  #region(bytes: Buffer): void {
    const index = bytes.readUInt32LE(8);
    const bar = (this.options.bars ?? { 4: { bytes: 0x4000, mmap: true } })[index];
    const capabilities = bar?.capabilities ?? [];
    const size = index === CONFIG_REGION ? 256 : (bar?.bytes ?? 0);
    bytes.writeUInt32LE(FLAG_READ_WRITE | (bar?.mmap === true ? FLAG_MMAP : 0) | (capabilities.length > 0 ? FLAG_CAPS : 0), 4);
    bytes.writeBigUInt64LE(BigInt(size), 16);
    bytes.writeBigUInt64LE(BigInt(index) * BigInt(REGION_SHIFT), 24);
    const needed = 32 + 8 * capabilities.length;
    if (bytes.length < needed) {
      bytes.writeUInt32LE(needed, 0);
      return;
    }
    bytes.writeUInt32LE(capabilities.length > 0 ? 32 : 0, 12);
    for (const [at, id] of capabilities.entries()) {
      bytes.writeUInt16LE(id, 32 + 8 * at);
      bytes.writeUInt32LE(at + 1 < capabilities.length ? 40 + 8 * at : 0, 36 + 8 * at);
    }
  }

  #iommu(bytes: Buffer): void {
    // as an Intel IOMMU says: all but the messages of interrupts
    const ranges =
      'ranges' in this.options
        ? this.options.ranges
        : ([
            [0n, 0xfedf_ffffn],
            [0xfef0_0000n, 0x7f_ffff_ffffn],
          ] as const);
    bytes.writeUInt32LE(1 | (ranges === undefined ? 0 : 2), 4);
    const needed = 24 + (ranges === undefined ? 0 : 16 + 16 * ranges.length);
    if (bytes.length < needed) {
      bytes.writeUInt32LE(needed, 0);
      return;
    }
    if (ranges === undefined) return;
    bytes.writeUInt32LE(24, 16);
    bytes.writeUInt16LE(1, 24);
    bytes.writeUInt32LE(ranges.length, 32);
    for (const [at, [first, last]] of ranges.entries()) {
      bytes.writeBigUInt64LE(first, 40 + 16 * at);
      bytes.writeBigUInt64LE(last, 48 + 16 * at);
    }
  }
}
