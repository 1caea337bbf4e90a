/**
 * struct virtio_net_hdr (virtio 1.2, 5.1.6): u8 flags, u8 gso_type, le16 hdr_len, gso_size, csum_start, csum_offset,
 * num_buffers. 10 bytes without num_buffers (legacy, no mergeable buffers), else 12.
 * @module
 */
export const NET_HEADER_FLAGS: u32 = 0;
export const NET_HEADER_GSO_TYPE: u32 = 1;
export const NET_HEADER_LENGTH: u32 = 2;
export const NET_HEADER_GSO_SIZE: u32 = 4;
export const NET_HEADER_CHECKSUM_START: u32 = 6;
export const NET_HEADER_CHECKSUM_OFFSET: u32 = 8;
export const NET_HEADER_BUFFERS: u32 = 10;

/** Bytes with VIRTIO_NET_F_MRG_RXBUF or VIRTIO_F_VERSION_1, and without either. */
export const NET_HEADER_BYTES: u32 = 12;
export const NET_HEADER_LEGACY_BYTES: u32 = 10;
