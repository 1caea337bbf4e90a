/**
 * Numbers of the two kinds of capture files, for the reader, the writer and the kernels alike.
 *
 * pcap: draft-ietf-opsawg-pcap. pcapng: draft-ietf-opsawg-pcapng. Either may be in either byte order; what is written here
 * is little-endian.
 * @module
 */

/** First word of a pcap file: by it are known the byte order and the unit of the timestamps. */
export const PCAP_MAGIC_MICROSECONDS: u32 = 0xa1b2c3d4;
export const PCAP_MAGIC_NANOSECONDS: u32 = 0xa1b23c4d;
export const PCAP_HEADER_BYTES: u32 = 24;
/** Seconds, fraction, bytes captured, bytes of the packet. */
export const PCAP_RECORD_BYTES: u32 = 16;

/** pcapng: types of blocks. The section header's reads the same in either byte order. */
export const BLOCK_SECTION: u32 = 0x0a0d0d0a;
export const BLOCK_INTERFACE: u32 = 1;
export const BLOCK_OBSOLETE_PACKET: u32 = 2;
export const BLOCK_SIMPLE_PACKET: u32 = 3;
export const BLOCK_ENHANCED_PACKET: u32 = 6;
export const BYTE_ORDER_MAGIC: u32 = 0x1a2b3c4d;
/** Bytes of the parts that every block of a type has, the length at its end included. */
export const SECTION_BYTES: u32 = 28;
export const INTERFACE_BYTES: u32 = 20;
export const SIMPLE_PACKET_BYTES: u32 = 16;
export const ENHANCED_PACKET_BYTES: u32 = 32;

export const LINK_TYPE_ETHERNET: u32 = 1;
/** Longest packet that is read or written: libpcap's own limit. */
export const CAPTURE_PACKET_LIMIT: u32 = 262144;
/** Longest block that is looked into: a packet of that length, and as much for its options. */
export const CAPTURE_BLOCK_LIMIT: u32 = 393216;
/** Interfaces of a section, at most. */
export const CAPTURE_INTERFACE_LIMIT: u32 = 256;

/** What ends the reading of a file; also Q_ERROR of a queue, and so beyond QUEUE_ERROR_*. Texts: pcap.ts. */
export const CAPTURE_CUT: u32 = 65;
export const CAPTURE_TOO_LONG: u32 = 66;
export const CAPTURE_BAD_BLOCK: u32 = 67;
export const CAPTURE_BAD_SECTION: u32 = 68;
export const CAPTURE_BAD_INTERFACE: u32 = 69;
export const CAPTURE_TOO_MANY_INTERFACES: u32 = 70;
/** The system refused a read or a write. */
export const CAPTURE_READ_FAILED: u32 = 71;
export const CAPTURE_WRITE_FAILED: u32 = 72;
/** Packets of another link type than Ethernet were left out. */
export const CAPTURE_OTHER_LINK_TYPE: u32 = 73;
