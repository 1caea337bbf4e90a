/**
 * A model of the kernel's side of /dev/vhost-vdpa-N with a network card behind it, for machines without a vDPA device: what
 * Linux's vhost-vdpa refuses, this refuses with the same errno, and what Linux lets through but no device could work with
 * is noted as a violation. Numbers and layouts are written out here once more, from linux/vhost.h and linux/vhost_types.h.
 */
import { fstatSync, writeSync } from 'node:fs';
import type { VdpaSystem } from '../../src/backend/vhost-vdpa/system.ts';
import type { Arena } from '../../src/memory/arena.ts';
import type { NativeResult } from '../../src/system/ffi.ts';

const NAMES: ReadonlyMap<number, string> = new Map([
  [0x8008af00, 'VHOST_GET_FEATURES'],
  [0x4008af00, 'VHOST_SET_FEATURES'],
  [0xaf01, 'VHOST_SET_OWNER'],
  [0x4008af10, 'VHOST_SET_VRING_NUM'],
  [0x4028af11, 'VHOST_SET_VRING_ADDR'],
  [0x4008af12, 'VHOST_SET_VRING_BASE'],
  [0x4008af20, 'VHOST_SET_VRING_KICK'],
  [0x4008af21, 'VHOST_SET_VRING_CALL'],
  [0x4008af25, 'VHOST_SET_BACKEND_FEATURES'],
  [0x8008af26, 'VHOST_GET_BACKEND_FEATURES'],
  [0x8004af70, 'VHOST_VDPA_GET_DEVICE_ID'],
  [0x8001af71, 'VHOST_VDPA_GET_STATUS'],
  [0x4001af72, 'VHOST_VDPA_SET_STATUS'],
  [0x8008af73, 'VHOST_VDPA_GET_CONFIG'],
  [0x4008af74, 'VHOST_VDPA_SET_CONFIG'],
  [0x4008af75, 'VHOST_VDPA_SET_VRING_ENABLE'],
  [0x8002af76, 'VHOST_VDPA_GET_VRING_NUM'],
  [0x4004af77, 'VHOST_VDPA_SET_CONFIG_CALL'],
  [0x8010af78, 'VHOST_VDPA_GET_IOVA_RANGE'],
  [0x8004af79, 'VHOST_VDPA_GET_CONFIG_SIZE'],
  [0xaf7d, 'VHOST_VDPA_SUSPEND'],
  [0x8004af80, 'VHOST_VDPA_GET_VQS_COUNT'],
]);
const IOTLB_NAMES: ReadonlyMap<number, string> = new Map([
  [2, 'VHOST_IOTLB_UPDATE'],
  [3, 'VHOST_IOTLB_INVALIDATE'],
  [5, 'VHOST_IOTLB_BATCH_BEGIN'],
  [6, 'VHOST_IOTLB_BATCH_END'],
]);

export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  EIO: 5,
  EBADF: 9,
  ENOMEM: 12,
  EBUSY: 16,
  EEXIST: 17,
  EINVAL: 22,
  ENOTTY: 25,
  EOPNOTSUPP: 95,
  ENOBUFS: 105,
};

const ACKNOWLEDGE = 1;
const DRIVER = 2;
const DRIVER_OK = 4;
const FEATURES_OK = 8;
const NEEDS_RESET = 64;
const ANNOUNCE = 2;
const CONTROL_QUEUE = 1n << 17n;
/** VIRTIO_NET_F_MQ and VIRTIO_NET_F_RSS. */
const MULTIQUEUE = (1n << 22n) | (1n << 60n);
const ACCESS_PLATFORM = 1n << 33n;
const BACKEND_V2 = 1n << 1n;
const BACKEND_BATCH = 1n << 2n;
const BACKEND_SUSPEND = 1n << 4n;
const FIRST_FD = 1_000_000;

export interface VdpaModelOptions {
  readonly path?: string;
  readonly deviceId?: number;
  /** Bits that the device offers. Default: version 1, access platform, MAC, status, MTU, mergeable buffers. */
  readonly features?: bigint;
  readonly backendFeatures?: bigint;
  readonly mac?: readonly number[];
  readonly mtu?: number;
  readonly queuePairs?: number;
  readonly rings?: number;
  readonly largestRing?: number;
  readonly iovaRange?: readonly [bigint, bigint];
  /** Requests that this kernel is too old for. */
  readonly unknown?: readonly string[];
  /** Bytes that may be locked; undefined: any number. */
  readonly lockedBytesLimit?: number;
  /** The address in the configuration cannot be written. */
  readonly fixedMac?: boolean;
  readonly refuseFeatures?: boolean;
  readonly refuseStart?: boolean;
  readonly neverResets?: boolean;
  /** Answer of the control queue; undefined: none ever. Default 0. */
  readonly controlAnswer?: number | undefined;
  /** Mbit/s. Default: not known. */
  readonly speed?: number;
  readonly halfDuplex?: boolean;
  readonly rss?: { readonly keyBytes?: number; readonly tableEntries?: number; readonly hashTypes?: number };
}

/** A command that the control queue has brought. */
export interface ModelCommand {
  readonly kind: number;
  readonly command: number;
  readonly data: Buffer;
}

export interface ModelRing {
  size?: number;
  base?: number;
  descriptors?: bigint;
  available?: bigint;
  used?: bigint;
  kick?: number;
  call?: number;
  enabled?: boolean;
}

interface Mapping {
  readonly iova: bigint;
  readonly bytes: bigint;
}

const DEFAULT_FEATURES = (1n << 32n) | ACCESS_PLATFORM | (1n << 5n) | (1n << 16n) | (1n << 3n) | (1n << 15n);

export class VdpaModel {
  /** Everything that was asked of it, by name, in order; `open` among it. */
  readonly journal: string[] = [];
  /** What no device could work with. */
  readonly violations: string[] = [];
  /** Pairs that the control queue was told to use. */
  readonly queuePairsSet: number[] = [];
  /** Everything that the control queue brought. */
  readonly commands: ModelCommand[] = [];
  /** Answers to commands, by their class, instead of controlAnswer. */
  readonly answers = new Map<number, number>();
  /** The call of the journal at this index fails with this errno and has no effect. */
  failure: { readonly at: number; readonly errno: number } | undefined;
  present = true;
  readonly config = Buffer.alloc(24);
  status = 0;
  /** Every status that was written. */
  readonly statuses: number[] = [];
  features = 0n;
  rings: ModelRing[] = [];
  mappings: Mapping[] = [];
  openHandles = 0;
  readonly #arena: Arena;
  readonly #options: VdpaModelOptions;
  readonly #watches = new Map<() => void, number>();
  #fd = FIRST_FD;
  #owned = false;
  #backendFeatures = 0n;
  #batch = false;
  #configCall = -1;
  #controlTimer: NodeJS.Timeout | undefined;
  #controlSeen = 0;

  constructor(arena: Arena, options: VdpaModelOptions = {}) {
    this.#arena = arena;
    this.#options = options;
    this.config.set(options.mac ?? [2, 0, 0, 0, 0, 1]);
    this.config.writeUInt16LE(1, 6);
    this.config.writeUInt16LE(options.queuePairs ?? 1, 8);
    this.config.writeUInt16LE(options.mtu ?? 1500, 10);
    this.config.writeUInt32LE(options.speed ?? 0xffff_ffff, 12);
    this.config.writeUInt8(options.halfDuplex === true ? 0 : 0xff, 16);
    this.config.writeUInt8(options.rss?.keyBytes ?? 40, 17);
    this.config.writeUInt16LE(options.rss?.tableEntries ?? 128, 18);
    this.config.writeUInt32LE(options.rss?.hashTypes ?? 0x1ff, 20);
    this.#reset();
  }

  get path(): string {
    return this.#options.path ?? '/dev/vhost-vdpa-7';
  }

  get offered(): bigint {
    return this.#options.features ?? DEFAULT_FEATURES;
  }

  get openWatches(): number {
    return this.#watches.size;
  }

  readonly system: VdpaSystem = {
    open: (path) => this.#step('open', () => this.#opened(path)),
    close: (fd) => {
      if (fd !== this.#fd || this.openHandles === 0) this.violations.push(`close of ${String(fd)}, which is not open`);
      this.openHandles = 0;
      this.#owned = false;
      this.#backendFeatures = 0n;
      this.mappings = [];
      this.#configCall = -1;
      this.#reset();
    },
    exists: (path) => path === this.path && this.present,
    ioctl: (fd, code, argument) => {
      const name = NAMES.get(code) ?? `request 0x${code.toString(16)}`;
      return this.#step(name, () => {
        if (fd !== this.#fd || this.openHandles === 0) return ERRNO.EBADF;
        if (this.#options.unknown?.includes(name) === true) return ERRNO.ENOTTY;
        const bytes = typeof argument === 'number' ? Buffer.alloc(0) : Buffer.from(argument.buffer, argument.byteOffset, argument.length);
        const needed = (code >>> 16) & 0x3fff;
        if (bytes.length < needed) this.violations.push(`${name}: argument of ${String(bytes.length)} bytes instead of ${String(needed)}`);
        return this.#request(name, bytes);
      });
    },
    write: (fd, bytes) => {
      const message = Buffer.from(bytes);
      const name = IOTLB_NAMES.get(message[33] ?? 0) ?? 'unknown message';
      return this.#step(name, () => (fd === this.#fd && this.openHandles === 1 ? this.#message(name, message) : ERRNO.EBADF), bytes.length);
    },
    watch: (fd, onReady) => {
      fstatSync(fd);
      this.#watches.set(onReady, fd);
      return () => {
        fstatSync(fd);
        this.#watches.delete(onReady);
      };
    },
    lockedBytesLimit: () => this.#options.lockedBytesLimit,
  };

  /** The device changes its configuration and tells. */
  change(change: { readonly linkUp?: boolean; readonly needsReset?: boolean; readonly announce?: boolean; readonly speed?: number }): void {
    if (change.linkUp !== undefined) this.config.writeUInt16LE(change.linkUp ? 1 : 0, 6);
    if (change.announce === true) this.config.writeUInt16LE(this.config.readUInt16LE(6) | ANNOUNCE, 6);
    if (change.speed !== undefined) this.config.writeUInt32LE(change.speed, 12);
    if (change.needsReset === true) this.status |= NEEDS_RESET;
    if (this.#configCall < 0) return;
    const one = Buffer.alloc(8);
    one.writeBigUInt64LE(1n);
    writeSync(this.#configCall, one);
    for (const [onReady, fd] of [...this.#watches]) if (fd === this.#configCall) onReady();
  }

  #step(name: string, act: () => number, value = 0): NativeResult {
    const index = this.journal.push(name) - 1;
    const errno = this.failure?.at === index ? this.failure.errno : act();
    if (errno !== 0) return { value: -1, errno };
    return { value: name === 'open' ? this.#fd : value, errno: 0 };
  }

  #opened(path: string): number {
    if (path !== this.path || !this.present) return ERRNO.ENOENT;
    if (this.openHandles > 0) return ERRNO.EBUSY;
    this.openHandles = 1;
    this.#fd++;
    this.#reset();
    return 0;
  }

  /** As Linux does it: the memory stays mapped. */
  #reset(): void {
    clearInterval(this.#controlTimer);
    this.#controlTimer = undefined;
    this.status = 0;
    this.features = 0n;
    this.#batch = false;
    this.rings = Array.from({ length: this.#options.rings ?? 2 }, () => ({}));
  }

  #request(name: string, bytes: Buffer): number {
    if (name.startsWith('VHOST_SET_VRING') && !this.#owned) return ERRNO.EPERM;
    switch (name) {
      case 'VHOST_SET_OWNER':
        if (this.#owned) return ERRNO.EBUSY;
        this.#owned = true;
        return 0;
      case 'VHOST_VDPA_GET_DEVICE_ID':
        bytes.writeUInt32LE(this.#options.deviceId ?? 1);
        return 0;
      case 'VHOST_GET_BACKEND_FEATURES':
        bytes.writeBigUInt64LE(this.#offeredBackend);
        return 0;
      case 'VHOST_SET_BACKEND_FEATURES':
        this.#backendFeatures = bytes.readBigUInt64LE();
        return (this.#backendFeatures & ~this.#offeredBackend) === 0n ? 0 : ERRNO.EOPNOTSUPP;
      case 'VHOST_GET_FEATURES':
        bytes.writeBigUInt64LE(this.offered);
        return 0;
      case 'VHOST_SET_FEATURES':
        return this.#setFeatures(bytes.readBigUInt64LE());
      case 'VHOST_VDPA_GET_STATUS':
        bytes.writeUInt8(this.status);
        return 0;
      case 'VHOST_VDPA_SET_STATUS':
        return this.#setStatus(bytes.readUInt8());
      case 'VHOST_VDPA_GET_CONFIG':
      case 'VHOST_VDPA_SET_CONFIG':
        return this.#configure(name, bytes);
      case 'VHOST_VDPA_GET_CONFIG_SIZE':
        bytes.writeUInt32LE(this.config.length);
        return 0;
      case 'VHOST_VDPA_GET_VRING_NUM':
        bytes.writeUInt16LE(this.#options.largestRing ?? 256);
        return 0;
      case 'VHOST_VDPA_GET_VQS_COUNT':
        bytes.writeUInt32LE(this.rings.length);
        return 0;
      case 'VHOST_VDPA_GET_IOVA_RANGE': {
        const [first, last] = this.#options.iovaRange ?? [0n, (1n << 64n) - 1n];
        bytes.writeBigUInt64LE(first, 0);
        bytes.writeBigUInt64LE(last, 8);
        return 0;
      }
      case 'VHOST_VDPA_SET_CONFIG_CALL':
        this.#configCall = bytes.readInt32LE();
        if (this.#configCall !== -1) fstatSync(this.#configCall);
        return 0;
      case 'VHOST_VDPA_SUSPEND':
        if ((this.#backendFeatures & BACKEND_SUSPEND) === 0n) return ERRNO.EOPNOTSUPP;
        return (this.status & DRIVER_OK) === 0 ? ERRNO.EINVAL : 0;
      default:
        return name.includes('VRING') ? this.#setRing(name, bytes) : ERRNO.ENOTTY;
    }
  }

  get #offeredBackend(): bigint {
    return this.#options.backendFeatures ?? BACKEND_V2 | BACKEND_BATCH | BACKEND_SUSPEND;
  }

  #setFeatures(features: bigint): number {
    if ((this.status & FEATURES_OK) !== 0) return ERRNO.EBUSY;
    if (this.status !== (ACKNOWLEDGE | DRIVER)) this.violations.push(`features set with status 0x${this.status.toString(16)}`);
    if ((features & ~this.offered) !== 0n) return ERRNO.EINVAL;
    // as vdpa_sim: the addresses are the driver's own
    if ((features & this.offered & ACCESS_PLATFORM) !== (this.offered & ACCESS_PLATFORM)) return ERRNO.EINVAL;
    this.features = features;
    return 0;
  }

  #setStatus(status: number): number {
    this.statuses.push(status);
    if (status === 0) {
      if (this.#options.neverResets !== true) this.#reset();
      return 0;
    }
    if ((this.status & ~status) !== 0) return ERRNO.EINVAL;
    const added = status & ~this.status;
    const before = this.status;
    if ((added & DRIVER) !== 0 && before !== ACKNOWLEDGE) this.violations.push('DRIVER before ACKNOWLEDGE');
    if ((added & FEATURES_OK) !== 0 && before !== (ACKNOWLEDGE | DRIVER)) this.violations.push('FEATURES_OK before DRIVER');
    if ((added & DRIVER_OK) !== 0 && before !== (ACKNOWLEDGE | DRIVER | FEATURES_OK)) this.violations.push('DRIVER_OK before FEATURES_OK');
    this.status = status;
    if (this.#options.refuseFeatures === true) this.status &= ~FEATURES_OK;
    if ((added & DRIVER_OK) !== 0) {
      if (this.#options.refuseStart === true) this.status |= NEEDS_RESET;
      else this.#begin();
    }
    return 0;
  }

  /** What a device needs before it may run. */
  #begin(): void {
    if (this.#batch) this.violations.push('DRIVER_OK inside a batch of mappings');
    if (!this.rings.some(({ enabled }) => enabled === true)) this.violations.push('DRIVER_OK without a ring');
    for (const [index, ring] of this.rings.entries()) if (ring.enabled === true) this.#checkRing(index, ring);
    if ((this.features & CONTROL_QUEUE) === 0n) {
      if ((this.features & MULTIQUEUE) !== 0n) this.violations.push('multiqueue without a control queue');
      return;
    }
    const control = this.rings[(this.features & MULTIQUEUE) === 0n ? 2 : 2 * this.config.readUInt16LE(8)];
    if (control?.enabled !== true) {
      this.violations.push('a control queue that is not there');
      return;
    }
    this.#controlSeen = 0;
    this.#controlTimer = setInterval(() => {
      this.#serveControl(control);
    }, 1).unref();
  }

  #checkRing(index: number, ring: ModelRing): void {
    const { size = 0, descriptors = -1n, available = -1n, used = -1n } = ring;
    const parts = [
      [descriptors, 16 * size, 16n],
      [available, 6 + 2 * size, 2n],
      [used, 6 + 8 * size, 4n],
    ] as const;
    for (const [address, bytes, align] of parts) {
      if (address % align !== 0n) this.violations.push(`ring ${String(index)}: address ${String(address)} is not aligned`);
      const end = address + BigInt(bytes);
      if (!this.mappings.some(({ iova, bytes: mapped }) => iova <= address && end <= iova + mapped)) {
        this.violations.push(`ring ${String(index)}: the device cannot reach address ${String(address)}`);
      }
    }
  }

  #configure(name: string, bytes: Buffer): number {
    const offset = bytes.readUInt32LE(0);
    const length = bytes.readUInt32LE(4);
    if (length === 0 || offset + length > this.config.length) return ERRNO.EINVAL;
    if (bytes.length !== 8 + length) this.violations.push(`${name}: ${String(length)} bytes do not fit ${String(bytes.length - 8)}`);
    if (name === 'VHOST_VDPA_GET_CONFIG') bytes.set(this.config.subarray(offset, offset + length), 8);
    else if (this.#options.fixedMac !== true) this.config.set(bytes.subarray(8), offset);
    return 0;
  }

  #setRing(name: string, bytes: Buffer): number {
    const index = bytes.readUInt32LE(0);
    const ring = this.rings[index];
    if (ring === undefined) return ERRNO.ENOBUFS;
    if ((this.status & FEATURES_OK) === 0) this.violations.push(`${name} before the features are agreed on`);
    if ((this.status & DRIVER_OK) !== 0) this.violations.push(`${name} while the device runs`);
    const value = bytes.readUInt32LE(4);
    switch (name) {
      case 'VHOST_SET_VRING_NUM':
        if (value === 0 || (value & (value - 1)) !== 0 || value > (this.#options.largestRing ?? 256)) return ERRNO.EINVAL;
        ring.size = value;
        return 0;
      case 'VHOST_SET_VRING_BASE':
        if (value > 0xffff) return ERRNO.EINVAL;
        ring.base = value;
        return 0;
      case 'VHOST_SET_VRING_ADDR':
        if (value !== 0) return ERRNO.EOPNOTSUPP;
        ring.descriptors = bytes.readBigUInt64LE(8);
        ring.used = bytes.readBigUInt64LE(16);
        ring.available = bytes.readBigUInt64LE(24);
        return 0;
      case 'VHOST_SET_VRING_KICK':
      case 'VHOST_SET_VRING_CALL':
        if (name !== 'VHOST_SET_VRING_CALL' || bytes.readInt32LE(4) !== -1) fstatSync(bytes.readInt32LE(4));
        ring[name === 'VHOST_SET_VRING_KICK' ? 'kick' : 'call'] = value;
        return 0;
      default: {
        const missing = (['size', 'base', 'descriptors', 'kick', 'call'] as const).filter((key) => ring[key] === undefined);
        if (missing.length > 0) this.violations.push(`ring ${String(index)} enabled without ${missing.join(', ')}`);
        ring.enabled = value === 1;
        return 0;
      }
    }
  }

  #message(name: string, message: Buffer): number {
    if (!this.#owned) return ERRNO.EPERM;
    const version2 = (this.#backendFeatures & BACKEND_V2) !== 0n;
    if (message.length !== 72 || message.readUInt32LE(0) !== (version2 ? 2 : 1) || message.readUInt32LE(4) !== 0) {
      this.violations.push(`${name}: a message of ${String(message.length)} bytes and version ${String(message.readUInt32LE(0))}`);
    }
    const iova = message.readBigUInt64LE(8);
    const bytes = message.readBigUInt64LE(16);
    switch (name) {
      case 'VHOST_IOTLB_BATCH_BEGIN':
      case 'VHOST_IOTLB_BATCH_END':
        if ((this.#backendFeatures & BACKEND_BATCH) === 0n) return ERRNO.EINVAL;
        if (this.#batch === (name === 'VHOST_IOTLB_BATCH_BEGIN')) this.violations.push(`${name} twice`);
        this.#batch = !this.#batch;
        return 0;
      case 'VHOST_IOTLB_UPDATE':
        return this.#map(iova, bytes, message.readBigUInt64LE(24), message[32] ?? 0);
      case 'VHOST_IOTLB_INVALIDATE':
        if (bytes === 0n) return ERRNO.EINVAL;
        if ((this.status & DRIVER_OK) !== 0) this.violations.push('memory taken away while the device runs');
        this.mappings = this.mappings.filter((mapping) => mapping.iova + mapping.bytes <= iova || iova + bytes <= mapping.iova);
        return 0;
      default:
        return ERRNO.EINVAL;
    }
  }

  #map(iova: bigint, bytes: bigint, userAddress: bigint, access: number): number {
    const [first, last] = this.#options.iovaRange ?? [0n, (1n << 64n) - 1n];
    if (bytes === 0n || iova < first || iova + bytes - 1n > last) return ERRNO.EINVAL;
    if (this.mappings.some((mapping) => iova < mapping.iova + mapping.bytes && mapping.iova < iova + bytes)) return ERRNO.EEXIST;
    if (bytes > BigInt(this.#options.lockedBytesLimit ?? Number.MAX_SAFE_INTEGER)) return ERRNO.ENOMEM;
    if (access !== 3) this.violations.push(`memory mapped with access ${String(access)}`);
    if (userAddress - iova !== BigInt(this.#arena.base)) this.violations.push('mapped memory lies elsewhere');
    if ((iova | bytes | userAddress) % 4096n !== 0n) this.violations.push('memory mapped that is not whole pages');
    this.mappings.push({ iova, bytes });
    return 0;
  }

  /** A command is three descriptors: class and command, data, answer (virtio 1.2, 5.1.6.5). */
  #serveControl(ring: ModelRing): void {
    const { data, u8 } = this.#arena.views;
    const available = Number(ring.available);
    const used = Number(ring.used);
    const answer = 'controlAnswer' in this.#options ? this.#options.controlAnswer : 0;
    if (data.getUint16(available + 2, true) === this.#controlSeen || answer === undefined) return;
    const size = ring.size ?? 1;
    const head = data.getUint16(available + 4 + 2 * (this.#controlSeen % size), true);
    const parts: { at: number; bytes: number; flags: number }[] = [];
    for (let index = head; ;) {
      const at = Number(ring.descriptors) + 16 * index;
      const flags = data.getUint16(at + 12, true);
      parts.push({ at: Number(data.getBigUint64(at, true)), bytes: data.getUint32(at + 8, true), flags });
      if ((flags & 1) === 0) break;
      index = data.getUint16(at + 14, true);
    }
    const shape = parts.map(({ bytes, flags }) => `${String(bytes)}:${String(flags)}`).join(' ');
    const [command, ...rest] = parts;
    const status = rest.pop();
    if (command === undefined || status === undefined || !/^2:1 (\d+:1 )?1:2$/.test(shape)) {
      this.violations.push(`a command of descriptors ${shape}`);
      return;
    }
    const kind = u8[command.at] ?? 0;
    const content = Buffer.concat(rest.map(({ at, bytes }) => Buffer.from(u8.subarray(at, at + bytes))));
    const came = { kind, command: u8[command.at + 1] ?? 0, data: content };
    this.commands.push(came);
    if (kind === 4 && came.command === 0) this.queuePairsSet.push(content.readUInt16LE());
    if (kind === 3) this.config.writeUInt16LE(this.config.readUInt16LE(6) & ~ANNOUNCE, 6);
    u8[status.at] = this.answers.get(kind) ?? answer;
    data.setUint32(used + 4 + 8 * (this.#controlSeen % size), head, true);
    data.setUint32(used + 8 + 8 * (this.#controlSeen % size), 1, true);
    this.#controlSeen = (this.#controlSeen + 1) & 0xffff;
    data.setUint16(used + 2, this.#controlSeen, true);
  }
}
