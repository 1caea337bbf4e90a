/**
 * One open /dev/vhost-vdpa-N: the requests with their arguments and answers, and an error that names the device and the
 * request where one fails. What is asked when is vhost-vdpa.ts's.
 * @module
 */
import { lockedMemoryError } from '../../system/device-files.ts';
import { VirtioError } from '../../system/error.ts';
import { errnoName, errnoText, systemError, type NativeResult } from '../../system/ffi.ts';
import { encodeVringFile } from '../vhost-ioctl/requests.ts';
import { encodeU64, encodeVringAddress, encodeVringState, type VringAddress } from '../vhost-user/messages.ts';
import {
  decodeConfig,
  decodeIovaRange,
  encodeConfig,
  encodeIotlbMessage,
  VDPA,
  VHOST_BACKEND_F_IOTLB_BATCH,
  VHOST_BACKEND_F_IOTLB_MSG_V2,
  VHOST_BACKEND_F_SUSPEND,
  type IotlbMapping,
  type IotlbType,
  type IovaRange,
  type VdpaRequest,
} from './requests.ts';
import type { VdpaSystem } from './system.ts';

/** virtio 1.2, 5: a network card. */
const DEVICE_ID_NET = 1;
const KNOWN_BACKEND_FEATURES = VHOST_BACKEND_F_IOTLB_MSG_V2 | VHOST_BACKEND_F_IOTLB_BATCH | VHOST_BACKEND_F_SUSPEND;
/** What a kernel older than the request answers: ENOTTY, or ENOBUFS because it takes the argument for a ring's number. */
const NOT_KNOWN = ['ENOTTY', 'ENOBUFS'];

const OPEN_HINTS: Readonly<Record<string, string>> = {
  ENOENT: 'no such device: as root: modprobe vhost_vdpa, and make one (vdpa mgmtdev show; vdpa dev add name NAME mgmtdev DEVICE)',
  ENODEV: 'no such device: the vdpa device behind it was removed (vdpa dev show)',
  ENXIO: 'no such device: the vdpa device behind it was removed (vdpa dev show)',
  EACCES: 'permission denied: run as root, or let your user read and write it',
  EPERM: 'not permitted: in a container, allow the device',
  EBUSY: 'busy: another process has it open',
};

export class VdpaDevice {
  readonly path: string;
  readonly #system: VdpaSystem;
  readonly #fd: number;
  #backendFeatures = 0n;
  #mapping: IotlbMapping | undefined;
  #open = true;

  /** @throws VirtioError when it cannot be opened, is no vhost-vdpa device, or no network card */
  constructor(path: string, system: VdpaSystem) {
    this.path = path;
    this.#system = system;
    const { value, errno } = system.open(path);
    if (value < 0) {
      const code = errnoName(errno);
      throw new VirtioError(`${path}: ${OPEN_HINTS[code] ?? `${errnoText(code)} (open)`}`, { code, syscall: 'open', errno });
    }
    this.#fd = value;
    try {
      const id = this.#read('VHOST_VDPA_GET_DEVICE_ID', 4).readUInt32LE();
      if (id !== DEVICE_ID_NET) {
        throw new VirtioError(`${path}: it is a virtio device of type ${String(id)}, and no network card (type ${String(DEVICE_ID_NET)})`, {
          code: 'ENODEV',
        });
      }
      this.#ask('VHOST_SET_OWNER');
      this.#backendFeatures = (this.#readOptional('VHOST_GET_BACKEND_FEATURES', 8)?.readBigUInt64LE() ?? 0n) & KNOWN_BACKEND_FEATURES;
      if (this.#backendFeatures !== 0n) this.#ask('VHOST_SET_BACKEND_FEATURES', encodeU64(this.#backendFeatures));
    } catch (error) {
      this.close();
      throw error;
    }
  }

  features(): bigint {
    return this.#read('VHOST_GET_FEATURES', 8).readBigUInt64LE();
  }

  /** Descriptors of the largest ring. */
  largestRing(): number {
    return this.#read('VHOST_VDPA_GET_VRING_NUM', 2).readUInt16LE();
  }

  /** Rings, a control queue's included; undefined where the kernel does not tell. */
  ringCount(): number | undefined {
    return this.#readOptional('VHOST_VDPA_GET_VQS_COUNT', 4)?.readUInt32LE();
  }

  /** Bytes of the configuration space; undefined where the kernel does not tell. */
  configSize(): number | undefined {
    return this.#readOptional('VHOST_VDPA_GET_CONFIG_SIZE', 4)?.readUInt32LE();
  }

  /** Addresses that can be mapped; undefined where the kernel does not tell. */
  iovaRange(): IovaRange | undefined {
    const bytes = this.#readOptional('VHOST_VDPA_GET_IOVA_RANGE', 16);
    return bytes === undefined ? undefined : decodeIovaRange(bytes);
  }

  /** Bytes of the configuration space (virtio 1.2, 5.1.4). */
  readConfig(offset: number, length: number): Buffer {
    const bytes = encodeConfig(offset, Buffer.alloc(length));
    this.#ask('VHOST_VDPA_GET_CONFIG', bytes);
    return decodeConfig(bytes);
  }

  writeConfig(offset: number, content: Uint8Array): void {
    this.#ask('VHOST_VDPA_SET_CONFIG', encodeConfig(offset, content));
  }

  /** Descriptor that the kernel signals when the configuration changes. */
  setConfigCall(fd: number): void {
    const bytes = Buffer.alloc(4);
    bytes.writeInt32LE(fd);
    this.#ask('VHOST_VDPA_SET_CONFIG_CALL', bytes);
  }

  setFeatures(features: bigint): void {
    this.#ask('VHOST_SET_FEATURES', encodeU64(features));
  }

  status(): number {
    return this.#read('VHOST_VDPA_GET_STATUS', 1).readUInt8();
  }

  setStatus(status: number): void {
    this.#ask('VHOST_VDPA_SET_STATUS', Uint8Array.of(status));
  }

  /** Keeps the device from looking at its rings, where it can do that; a reset follows. */
  suspend(): void {
    if ((this.#backendFeatures & VHOST_BACKEND_F_SUSPEND) !== 0n) this.#ask('VHOST_VDPA_SUSPEND');
  }

  /** @param address in the device's address space, unlike vhost-net's and vhost-user's */
  setRing(
    { size, base }: { readonly size: number; readonly base: number },
    address: VringAddress,
    descriptors: { readonly kick: number; readonly call: number },
  ): void {
    const { index } = address;
    this.#ask('VHOST_SET_VRING_NUM', encodeVringState(index, size));
    this.#ask('VHOST_SET_VRING_BASE', encodeVringState(index, base));
    this.#ask('VHOST_SET_VRING_ADDR', encodeVringAddress(address));
    this.#ask('VHOST_SET_VRING_CALL', encodeVringFile(index, descriptors.call));
    this.#ask('VHOST_SET_VRING_KICK', encodeVringFile(index, descriptors.kick));
  }

  enableRing(index: number): void {
    this.#ask('VHOST_VDPA_SET_VRING_ENABLE', encodeVringState(index, 1));
  }

  /** Lets the device reach a part of this process's memory; its pages are locked until `unmap`, or until the end. */
  map(mapping: IotlbMapping): void {
    this.#tell('BATCH_BEGIN');
    const { value, errno } = this.#send('UPDATE', mapping);
    if (value < 0)
      throw errnoName(errno) === 'ENOMEM'
        ? lockedMemoryError(this.#system, this.path, mapping.bytes, 'VHOST_IOTLB_UPDATE', errno)
        : this.#iotlbError('UPDATE', errno);
    this.#mapping = mapping;
    this.#tell('BATCH_END');
  }

  unmap(): void {
    const mapping = this.#mapping;
    this.#mapping = undefined;
    if (mapping === undefined) return;
    this.#tell('BATCH_BEGIN');
    this.#tell('INVALIDATE', mapping);
    this.#tell('BATCH_END');
  }

  /** The kernel resets the device and unlocks the memory. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#system.close(this.#fd);
  }

  #ask(request: VdpaRequest, argument: number | Uint8Array = 0): void {
    const { value, errno } = this.#system.ioctl(this.#fd, VDPA[request], argument);
    if (value < 0) throw systemError(this.path, request, errno);
  }

  #read(request: VdpaRequest, bytes: number): Buffer {
    const answer = Buffer.alloc(bytes);
    this.#ask(request, answer);
    return answer;
  }

  #readOptional(request: VdpaRequest, bytes: number): Buffer | undefined {
    try {
      return this.#read(request, bytes);
    } catch (error) {
      if (error instanceof VirtioError && NOT_KNOWN.includes(error.code)) return undefined;
      throw error;
    }
  }

  #send(type: IotlbType, mapping?: IotlbMapping): NativeResult {
    const version2 = (this.#backendFeatures & VHOST_BACKEND_F_IOTLB_MSG_V2) !== 0n;
    return this.#system.write(this.#fd, encodeIotlbMessage(type, mapping, version2));
  }

  /** Batches are left out where the kernel does not know them. */
  #tell(type: Exclude<IotlbType, 'UPDATE'>, mapping?: IotlbMapping): void {
    if (type !== 'INVALIDATE' && (this.#backendFeatures & VHOST_BACKEND_F_IOTLB_BATCH) === 0n) return;
    const { value, errno } = this.#send(type, mapping);
    if (value < 0) throw this.#iotlbError(type, errno);
  }

  #iotlbError(type: IotlbType, errno: number): VirtioError {
    return systemError(this.path, `VHOST_IOTLB_${type}`, errno);
  }
}
