/**
 * IOMMU groups as vfio hands them out: one container a group, and what of this process's memory its devices may reach.
 *
 * A group can be opened once, and may hold several devices: ports of one process share it.
 * @module
 */
import { lockedMemoryError, type DeviceFiles } from '../system/device-files.ts';
import { VirtioError } from '../system/error.ts';
import { errnoName, errnoText, systemError } from '../system/ffi.ts';
import { cString } from '../system/memory-map.ts';
import {
  decodeGroupStatus,
  decodeIovaRanges,
  dmaMap,
  dmaUnmap,
  groupStatus,
  iommuInfo,
  neededBytes,
  VFIO,
  VFIO_API_VERSION,
  VFIO_GROUP_FLAGS_VIABLE,
  VFIO_NOIOMMU_IOMMU,
  VFIO_TYPE1v2_IOMMU,
  type DmaMapping,
  type VfioRequest,
} from '../system/vfio.ts';

const CONTAINER = '/dev/vfio/vfio';

/** Requests on one descriptor of vfio, with an error that names the file and the request. */
export class VfioFile {
  readonly what: string;
  readonly fd: number;
  readonly system: DeviceFiles;
  #open = true;

  constructor(system: DeviceFiles, what: string, fd: number) {
    this.system = system;
    this.what = what;
    this.fd = fd;
  }

  /** @throws VirtioError with the hint of its errno, where there is one */
  static open(system: DeviceFiles, path: string, hints: Readonly<Record<string, string>>): VfioFile {
    const { value, errno } = system.open(path);
    if (value >= 0) return new VfioFile(system, path, value);
    const code = errnoName(errno);
    throw new VirtioError(`${path}: ${hints[code] ?? `${errnoText(code)} (open)`}`, { code, syscall: 'open', errno });
  }

  /** The request's own value. @throws VirtioError */
  ask(request: VfioRequest, argument: number | Uint8Array = 0): number {
    const { value, errno } = this.system.ioctl(this.fd, VFIO[request], argument);
    if (value < 0) throw systemError(this.what, request, errno);
    return value;
  }

  /** Fills a struct that tells how much room it needs, with as much room. */
  askAll(request: VfioRequest, make: (bytes?: number) => Buffer): Buffer {
    const first = make();
    this.ask(request, first);
    const needed = neededBytes(first);
    if (needed <= first.length) return first;
    const whole = make(needed);
    this.ask(request, whole);
    return whole;
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.system.close(this.fd);
  }
}

const CONTAINER_HINTS: Readonly<Record<string, string>> = {
  ENOENT: 'the kernel has no vfio here: as root: modprobe vfio-pci',
  ENODEV: 'the kernel has no vfio here: as root: modprobe vfio-pci',
  EACCES: 'permission denied: run as root, or let your user read and write it',
  EPERM: 'not permitted: in a container, allow the device',
};
const GROUP_HINTS: Readonly<Record<string, string>> = {
  ENOENT:
    'no such group: none of its devices is bound to vfio-pci (dpdk-ts-devbind --bind=vfio-pci ADDRESS), or the container has not been given this device file',
  EACCES: 'permission denied: run as root, or let your user read and write it (chown)',
  EPERM: 'not permitted: in a container, allow the device; for a group without IOMMU, run as root',
  EBUSY: 'busy: another process, a virtual machine or another DPDK application, uses a device of this group; end it first',
};

const groups = new WeakMap<DeviceFiles, Map<string, VfioGroup>>();

/** A group in its container. */
export class VfioGroup {
  readonly path: string;
  /** No IOMMU translates for its devices, nor keeps them in bounds. */
  readonly noIommu: boolean;
  readonly #system: DeviceFiles;
  readonly #container: VfioFile;
  readonly #group: VfioFile;
  #users = 0;
  #mappings: readonly DmaMapping[] = [];
  #mappers = 0;

  private constructor(system: DeviceFiles, path: string, members: () => readonly string[]) {
    this.#system = system;
    this.path = path;
    this.#container = VfioFile.open(system, CONTAINER, CONTAINER_HINTS);
    let group: VfioFile | undefined;
    try {
      const version = this.#container.ask('VFIO_GET_API_VERSION');
      if (version !== VFIO_API_VERSION) {
        throw new VirtioError(`${CONTAINER}: vfio has version ${String(version)} here, and ${String(VFIO_API_VERSION)} is what is known`, {
          code: 'EPROTO',
        });
      }
      group = VfioFile.open(system, path, GROUP_HINTS);
      this.noIommu = path.includes('noiommu-');
      this.#join(group, members);
      this.#group = group;
    } catch (error) {
      group?.close();
      this.#container.close();
      throw error;
    }
  }

  /**
   * Opens a group, or takes part in it when this process has it open. Give it back by release().
   * @param path /dev/vfio/N, or /dev/vfio/noiommu-N
   * @param members addresses of its functions, for messages
   * @throws VirtioError
   */
  static acquire(system: DeviceFiles, path: string, members: () => readonly string[]): VfioGroup {
    let open = groups.get(system);
    if (open === undefined) groups.set(system, (open = new Map<string, VfioGroup>()));
    let group = open.get(path);
    if (group === undefined) open.set(path, (group = new VfioGroup(system, path, members)));
    group.#users++;
    return group;
  }

  release(): void {
    if (--this.#users > 0) return;
    groups.get(this.#system)?.delete(this.path);
    this.#group.close();
    this.#container.close();
  }

  /** @param address `0000:00:10.0` @throws VirtioError */
  openDevice(address: string): VfioFile {
    const { value, errno } = this.#system.ioctl(this.#group.fd, VFIO.VFIO_GROUP_GET_DEVICE_FD, cString(address));
    if (value >= 0) return new VfioFile(this.#system, address, value);
    const code = errnoName(errno);
    const text = code === 'ENODEV' ? 'it is not bound to vfio-pci (dpdk-ts-devbind --status)' : errnoText(code);
    throw new VirtioError(`${address}: ${text} (VFIO_GROUP_GET_DEVICE_FD of ${this.path})`, {
      code,
      syscall: 'VFIO_GROUP_GET_DEVICE_FD',
      errno,
    });
  }

  /**
   * Lets the group's devices reach memory of this process, until unmap() was called as often.
   * @throws VirtioError ERANGE for addresses that the IOMMU keeps for itself, ENOMEM, EBUSY when they reach another arena
   */
  map(mappings: readonly DmaMapping[]): void {
    if (this.#mappings.length > 0) {
      const isPresent = mappings.every(({ iova, bytes, userAddress }, index) => {
        const present = this.#mappings[index];
        return present?.iova === iova && present.bytes === bytes && present.userAddress === userAddress;
      });
      if (!isPresent || mappings.length !== this.#mappings.length) {
        throw new VirtioError(
          `${this.path}: another environment of this process uses a device of this group, which reaches one memory only; open both ports in one`,
          { code: 'EBUSY' },
        );
      }
      this.#mappers++;
      return;
    }
    this.#checkRanges(mappings);
    const done: DmaMapping[] = [];
    try {
      for (const mapping of mappings) {
        this.#mapOne(mapping);
        done.push(mapping);
      }
    } catch (error) {
      for (const mapping of done) this.#container.ask('VFIO_IOMMU_UNMAP_DMA', dmaUnmap(mapping));
      throw error;
    }
    this.#mappings = done;
    this.#mappers = 1;
  }

  unmap(): void {
    if (this.#mappings.length === 0 || --this.#mappers > 0) return;
    const mappings = this.#mappings;
    this.#mappings = [];
    for (const mapping of mappings) this.#container.ask('VFIO_IOMMU_UNMAP_DMA', dmaUnmap(mapping));
  }

  #mapOne(mapping: DmaMapping): void {
    const { value, errno } = this.#system.ioctl(this.#container.fd, VFIO.VFIO_IOMMU_MAP_DMA, dmaMap(mapping));
    if (value >= 0) return;
    throw errnoName(errno) === 'ENOMEM'
      ? lockedMemoryError(this.#system, this.path, mapping.bytes, 'VFIO_IOMMU_MAP_DMA', errno)
      : systemError(this.path, 'VFIO_IOMMU_MAP_DMA', errno);
  }

  #join(group: VfioFile, members: () => readonly string[]): void {
    const status = groupStatus();
    group.ask('VFIO_GROUP_GET_STATUS', status);
    if ((decodeGroupStatus(status) & VFIO_GROUP_FLAGS_VIABLE) === 0) {
      throw new VirtioError(
        `${this.path}: the group is not viable: all of its devices must be bound to vfio-pci or to no driver, and it has ${members().join(', ')} ` +
          `(dpdk-ts-devbind --status; dpdk-ts-devbind --bind=vfio-pci ADDRESS, or --unbind ADDRESS)`,
        { code: 'EPERM' },
      );
    }
    const fd = Buffer.alloc(4);
    fd.writeInt32LE(this.#container.fd);
    group.ask('VFIO_GROUP_SET_CONTAINER', fd);
    const type = this.noIommu ? VFIO_NOIOMMU_IOMMU : VFIO_TYPE1v2_IOMMU;
    if (this.#container.ask('VFIO_CHECK_EXTENSION', type) === 0) {
      throw new VirtioError(
        this.noIommu
          ? `${CONTAINER}: the kernel has no mode without an IOMMU (enable_unsafe_noiommu_mode of the module vfio)`
          : `${CONTAINER}: the kernel has no driver for this machine's IOMMU: as root: modprobe vfio_iommu_type1`,
        { code: 'EOPNOTSUPP' },
      );
    }
    const { value, errno } = this.#system.ioctl(this.#container.fd, VFIO.VFIO_SET_IOMMU, type);
    if (value >= 0) return;
    const code = errnoName(errno);
    const hint =
      code === 'EPERM'
        ? ': the IOMMU does not remap interrupts, and vfio refuses such a machine; where that is no danger, as root: modprobe vfio_iommu_type1 allow_unsafe_interrupts=1'
        : `: ${errnoText(code)}`;
    throw new VirtioError(`${this.path}${hint} (VFIO_SET_IOMMU)`, { code, syscall: 'VFIO_SET_IOMMU', errno });
  }

  #checkRanges(mappings: readonly DmaMapping[]): void {
    const ranges = decodeIovaRanges(this.#container.askAll('VFIO_IOMMU_GET_INFO', iommuInfo));
    if (ranges === undefined) return;
    const hex = (value: bigint): string => `0x${value.toString(16)}`;
    for (const { iova, bytes } of mappings) {
      const first = BigInt(iova);
      const last = first + BigInt(bytes) - 1n;
      if (ranges.some((range) => range.first <= first && last <= range.last)) continue;
      const text = ranges.map((range) => `${hex(range.first)}-${hex(range.last)}`).join(', ');
      throw new VirtioError(
        `${this.path}: the IOMMU lets devices reach ${text}, and the packet memory has ${hex(first)}-${hex(last)}; ask for less memory with -m`,
        { code: 'ERANGE' },
      );
    }
  }
}
