/**
 * The mbuf: 64 bytes of metadata in the own part of the arena, and a data room in the published part.
 *
 * A packet is one mbuf or a chain of them; its handle is the offset of the first one's metadata. A free mbuf always has
 * NEXT 0, SEGMENTS 1 and REFERENCES 1, so that allocating one writes little.
 *
 *      data room:  | headroom 128 | packet ...                | tailroom |
 *                  ^ BUFFER       ^ DATA   SEGMENT_LENGTH bytes           ^ BUFFER + ROOM
 * @module
 */

/** u32: offset of the data room. */
export const MBUF_BUFFER: u32 = 0;
/** u32: offset of the first byte of this segment. */
export const MBUF_DATA: u32 = 4;
/** u32: bytes of the whole packet; valid in the first segment. */
export const MBUF_LENGTH: u32 = 8;
/** u32: bytes in this segment. */
export const MBUF_SEGMENT_LENGTH: u32 = 12;
/** u32: the next segment's handle; 0 at the end. */
export const MBUF_NEXT: u32 = 16;
/** u16: number of segments; valid in the first. */
export const MBUF_SEGMENTS: u32 = 20;
/** u16: owners of this mbuf; only the last one's free gives it back. */
export const MBUF_REFERENCES: u32 = 22;
/** MBUF_SEGMENTS and MBUF_REFERENCES, in one word, of a free mbuf, and of a packet that is one segment with one owner. */
export const ONE_SEGMENT_ONE_OWNER: u32 = 0x10001;
/** u32: the pool it goes back to. */
export const MBUF_POOL: u32 = 24;
/** u32: offload flags (MBUF_FLAG_*). */
export const MBUF_FLAGS: u32 = 28;
/** u16: port that received it. */
export const MBUF_PORT: u32 = 32;
/** u16: VLAN tag control information, with a flag that says whether it counts. */
export const MBUF_VLAN: u32 = 34;
/** u32: flow hash, with a flag that says whether it counts. */
export const MBUF_HASH: u32 = 36;
/** u32: bytes of the data room. */
export const MBUF_ROOM: u32 = 40;
/** u16: first byte of the packet that a partial checksum covers, and where from there it is stored; both counted from DATA. */
export const MBUF_CHECKSUM_START: u32 = 44;
export const MBUF_CHECKSUM_OFFSET: u32 = 46;
/** u16: payload bytes of each segment to be cut from a large packet. */
export const MBUF_SEGMENT_SIZE: u32 = 48;
/** u16: bytes of headers before that payload. */
export const MBUF_HEADER_LENGTH: u32 = 50;
/** Two u32 for the application. */
export const MBUF_USER: u32 = 56;
export const MBUF_BYTES: u32 = 64;

/*
 * MBUF_FLAGS: work that is still to be done on the packet, by the port that sends it or in software before it does. It travels
 * with the packet, wherever that came from: what a port received unfinished (LRO, a partial checksum) is sent on as it is by a
 * port that can, and finished for one that cannot.
 */
/** The checksum field holds the sum of the pseudo header only: CHECKSUM_START and CHECKSUM_OFFSET say where (VIRTIO_NET_HDR_F_NEEDS_CSUM). */
export const MBUF_WORK_CHECKSUM: u32 = 1;
/**
 * To be cut into packets of SEGMENT_SIZE bytes of payload behind HEADER_LENGTH bytes of headers; one of the three, and
 * always with MBUF_WORK_CHECKSUM. UDP is cut into datagrams (VIRTIO_NET_HDR_GSO_UDP_L4), not into IP fragments.
 */
export const MBUF_WORK_TCP4: u32 = 2;
export const MBUF_WORK_TCP6: u32 = 4;
export const MBUF_WORK_UDP: u32 = 8;
/** With TCP: CWR stays in the first segment only (VIRTIO_NET_HDR_GSO_ECN). */
export const MBUF_WORK_ECN: u32 = 16;
/** The tag in MBUF_VLAN is to be inserted behind the addresses. */
export const MBUF_WORK_VLAN: u32 = 32;
export const MBUF_WORK_SEGMENTS: u32 = 14;
export const MBUF_WORK: u32 = 63;

/* MBUF_FLAGS: what is known about a received packet. */
/** The transport checksum was verified, or found wrong; neither: not looked at. */
export const MBUF_CHECKSUM_GOOD: u32 = 256;
export const MBUF_CHECKSUM_BAD: u32 = 512;
export const MBUF_IP_CHECKSUM_GOOD: u32 = 1024;
export const MBUF_IP_CHECKSUM_BAD: u32 = 2048;
/** The tag in MBUF_VLAN was taken out of the packet. */
export const MBUF_VLAN_STRIPPED: u32 = 4096;
/** MBUF_HASH counts. */
export const MBUF_HASH_VALID: u32 = 8192;

/** Bytes kept free before the packet, for headers (RTE_PKTMBUF_HEADROOM). */
export const MBUF_HEADROOM: u32 = 128;
