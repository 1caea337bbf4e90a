/**
 * struct virtio_net_hdr (virtio 1.2, 5.1.6): u8 flags, u8 gso_type, le16 hdr_len, gso_size, csum_start, csum_offset,
 * num_buffers, le32 hash_value, le16 hash_report, u16 padding. 10 bytes without num_buffers (legacy, no mergeable buffers), 20 with a
 * hash, else 12.
 * @module
 */
export const NET_HEADER_FLAGS: u32 = 0;
export const NET_HEADER_GSO_TYPE: u32 = 1;
export const NET_HEADER_LENGTH: u32 = 2;
export const NET_HEADER_GSO_SIZE: u32 = 4;
export const NET_HEADER_CHECKSUM_START: u32 = 6;
export const NET_HEADER_CHECKSUM_OFFSET: u32 = 8;
export const NET_HEADER_BUFFERS: u32 = 10;
export const NET_HEADER_HASH: u32 = 12;
/** Type of the hash (VIRTIO_NET_HASH_REPORT_*); 0: none. */
export const NET_HEADER_HASH_REPORT: u32 = 16;

/** Bytes with VIRTIO_NET_F_MRG_RXBUF or VIRTIO_F_VERSION_1, and without either. */
export const NET_HEADER_BYTES: u32 = 12;
export const NET_HEADER_LEGACY_BYTES: u32 = 10;
/** Bytes with VIRTIO_NET_F_HASH_REPORT. */
export const NET_HEADER_HASH_BYTES: u32 = 20;
