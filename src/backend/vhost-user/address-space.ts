/**
 * What a front-end's addresses are in the arena: those of its memory table or, once VIRTIO_F_ACCESS_PLATFORM was negotiated, those of an
 * IOMMU, which lead there through the IOTLB.
 * @module
 */
import type { DeviceQueue } from '../../ring/virtqueue.ts';
import { PeerMemory } from '../peer-memory.ts';
import { Iotlb, type IotlbOptions } from './iotlb.ts';
import type { RingPart } from './ring-parts.ts';

export interface AddressSpaceOptions extends Omit<IotlbOptions, 'memory'> {
  /** Have an IOTLB: VIRTIO_F_ACCESS_PLATFORM is offered. */
  readonly iommu: boolean;
}

export class AddressSpace {
  readonly memory: PeerMemory;
  /** Undefined: VIRTIO_F_ACCESS_PLATFORM is not offered. */
  readonly iotlb: Iotlb | undefined;
  #translated = false;

  /** @throws VirtioError ENOMEM */
  constructor(options: AddressSpaceOptions) {
    this.memory = new PeerMemory(options.arena, options.peer);
    if (options.iommu) this.iotlb = new Iotlb({ ...options, memory: this.memory });
  }

  /** The IOTLB, when the addresses of rings and buffers are those of an IOMMU. */
  get translations(): Iotlb | undefined {
    return this.#translated ? this.iotlb : undefined;
  }

  /** Whether VIRTIO_F_ACCESS_PLATFORM was negotiated. */
  setTranslated(translated: boolean): void {
    this.#translated = translated;
    this.iotlb?.setInUse(this.translations !== undefined);
  }

  /** Changes the memory table. Resolves when no kernel uses a translation into what was there before. */
  async changeMemory(change: (memory: PeerMemory) => void): Promise<void> {
    change(this.memory);
    await this.translations?.clear();
  }

  /** The table by which kernels translate the addresses of a ring's buffers. */
  tableOf(ring: number): number {
    return this.translations?.tableOf(ring) ?? this.memory.table;
  }

  /**
   * Arena offset of a part of a ring; undefined: the front-end has been asked for its translation.
   * @throws Error when there is no such memory, or it is not aligned
   */
  locate(ring: number, { name, address, bytes, align, permission }: RingPart): number | undefined {
    const what = `the ${name} of ring ${String(ring)}`;
    const iotlb = this.translations;
    const offset = iotlb === undefined ? this.memory.translateUser(address, bytes) : iotlb.locate(what, address, bytes, permission);
    if (offset === undefined) {
      if (iotlb !== undefined) return undefined;
      throw new Error(`${what} at 0x${address.toString(16)} lies outside the shared memory`);
    }
    if (offset % align !== 0) throw new Error(`${what} at 0x${address.toString(16)} is not aligned to ${String(align)} bytes`);
    return offset;
  }

  /** A queue has been pointed at a ring. */
  serve(queue: DeviceQueue): void {
    this.translations?.serve(queue);
  }

  /** Forgets the front-end and unmaps its memory. */
  async forgetPeer(): Promise<void> {
    await this.iotlb?.forgetPeer();
    this.memory.clear();
  }

  close(): void {
    this.iotlb?.close();
    this.memory.close();
  }
}
