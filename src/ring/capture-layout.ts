/**
 * Captures of running ports, in the arena: a ring of bytes for each, and an entry for each queue that it listens to.
 *
 *     queue state, Q_CAPTURE -> entry -> entry of another capture -> 0
 *                                 |
 *                                 v
 *     ring:  | chunk | chunk | (to the end: an empty chunk) |     chunk: | bytes, state, packets | record | record ... |
 *            ^ TAIL          ^ HEAD
 *
 * Lcores reserve chunks at HEAD, one a burst, by compare and exchange; fill them with records as they will be in the file; and commit
 * them by their state. The main thread takes them from TAIL on, in order, and leaves zeroes. A ring that is full costs the packets
 * that do not fit, and nothing else.
 * @module
 */

/** u32: offset of the ring's bytes, and how many there are: a power of two. */
export const RING_BUFFER: u32 = 0;
export const RING_ROOM: u32 = 4;
/** u32: bytes reserved and bytes taken since the beginning, modulo 2^32; on lines of their own. */
export const RING_HEAD: u32 = 64;
export const RING_TAIL: u32 = 128;
export const RING_STATE_BYTES: u32 = 192;

/** u32: the next entry of the queue; 0 at the end. */
export const ENTRY_NEXT: u32 = 0;
/** u32: offset of the ring's state. */
export const ENTRY_RING: u32 = 4;
/** u32: 0 for pcap, 1 for pcapng. */
export const ENTRY_BLOCKS: u32 = 8;
/** u32: pcapng's epb_flags: 1 received, 2 sent. */
export const ENTRY_DIRECTION: u32 = 12;
/** u32: number of the queue. */
export const ENTRY_QUEUE: u32 = 16;
/** u32: bytes of a packet that are kept. */
export const ENTRY_SNAP_LENGTH: u32 = 20;
/** Two u32: the time of the burst, in the words in which the records have it. */
export const ENTRY_TIME: u32 = 24;
/** u32: offset of the chunk that is not committed yet, the packets in it, and the bytes of their records. */
export const ENTRY_CHUNK: u32 = 32;
export const ENTRY_PACKETS: u32 = 36;
export const ENTRY_USED: u32 = 40;
/** Two u32: packets that found the ring full. */
export const ENTRY_DROPPED: u32 = 48;
export const ENTRY_BYTES: u32 = 64;

/** u32: bytes to the next chunk. */
export const CHUNK_BYTES: u32 = 0;
/** u32: 0 until it is committed, then 1 and the bytes of its records. */
export const CHUNK_STATE: u32 = 4;
/** u32: packets in it. */
export const CHUNK_PACKETS: u32 = 8;
/** Bytes before the records; chunks are a multiple of it. */
export const CHUNK_HEADER: u32 = 16;

/** pcapng: epb_flags and epb_queue, each of 4 bytes, and the end of the options. */
export const CAPTURE_OPTION_BYTES: u32 = 20;
