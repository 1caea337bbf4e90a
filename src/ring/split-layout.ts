/**
 * The split virtqueue in memory (virtio 1.2, 2.7).
 *
 *     descriptor table  N x { le64 addr, le32 len, le16 flags, le16 next }   aligned to 16
 *     available ring    le16 flags, le16 idx, N x le16 ring, le16 used_event aligned to 2
 *     used ring         le16 flags, le16 idx, N x { le32 id, le32 len }, le16 avail_event   aligned to 4
 * @module
 */
export const DESCRIPTOR_ADDRESS_LOW: u32 = 0;
export const DESCRIPTOR_ADDRESS_HIGH: u32 = 4;
export const DESCRIPTOR_LENGTH: u32 = 8;
export const DESCRIPTOR_FLAGS: u32 = 12;
export const DESCRIPTOR_NEXT: u32 = 14;
export const DESCRIPTOR_BYTES: u32 = 16;

/** VIRTQ_DESC_F_NEXT, VIRTQ_DESC_F_WRITE, VIRTQ_DESC_F_INDIRECT. */
export const DESCRIPTOR_F_NEXT: u32 = 1;
export const DESCRIPTOR_F_WRITE: u32 = 2;
export const DESCRIPTOR_F_INDIRECT: u32 = 4;

export const AVAILABLE_FLAGS: u32 = 0;
export const AVAILABLE_INDEX: u32 = 2;
export const AVAILABLE_RING: u32 = 4;
/** VIRTQ_AVAIL_F_NO_INTERRUPT: the driver does not want calls. */
export const AVAILABLE_F_NO_INTERRUPT: u32 = 1;

export const USED_FLAGS: u32 = 0;
export const USED_INDEX: u32 = 2;
export const USED_RING: u32 = 4;
export const USED_ELEMENT_BYTES: u32 = 8;
/** VIRTQ_USED_F_NO_NOTIFY: the device does not want kicks. */
export const USED_F_NO_NOTIFY: u32 = 1;

/** VIRTIO_F_EVENT_IDX: how far ahead of the handled index an event lies that is not to be reached (split-events.kernel.ts). */
export const EVENT_FAR: u32 = 0xbfff;

/** Largest ring (virtio 1.2, 2.7). */
export const SPLIT_SIZE_LIMIT: u32 = 32768;
