/**
 * The packed virtqueue in memory (virtio 1.2, 2.8).
 *
 *     descriptor ring           N x { le64 addr, le32 len, le16 id, le16 flags }   aligned to 16, four to a cache line
 *     driver event suppression  { le16 off_wrap, le16 flags }                      aligned to 4; written by the driver
 *     device event suppression  the same                                           written by the device
 *
 * Both sides write the one ring: the driver makes a descriptor available by its flags, the device overwrites it with a used one.
 * Which of the two it is, in which lap, is told by two bits against a wrap counter, which starts at 1 and turns with every lap:
 *
 *     lap of wrap counter 1    available: AVAIL 1, USED 0    used: AVAIL 1, USED 1
 *     lap of wrap counter 0    available: AVAIL 0, USED 1    used: AVAIL 0, USED 0
 *
 * A *position* is how the state of a queue, a notification (2.9) and an event suppression structure say where somebody is: the
 * descriptor's number in bits 0 to 14, the wrap counter in bit 15.
 *
 * Descriptors of one list lie one behind the other. What one burst writes becomes visible at once: its first descriptor's id and
 * flags, one word, are stored last.
 *
 * A line of four descriptors goes to and fro in each lap, and where the two cores are far apart each way takes a few hundred ns:
 *
 *     driver   writes four available ----.            .---> reads four used, has them to write again
 *     device                             '-> reads ---'--- writes four used
 *
 * So each side has all lines of a burst on their way at once: who reads goes through the burst in a pass of its own, and who writes stores
 * one word into each line first (claimLines), as a core waits for no more lines than its store queue has room for.
 * @module
 */

/** Fields of a descriptor; address and length are where a split one has them. Id and flags are one aligned word: id | flags << 16. */
export const PACKED_ADDRESS_LOW: u32 = 0;
export const PACKED_ADDRESS_HIGH: u32 = 4;
export const PACKED_LENGTH: u32 = 8;
export const PACKED_WORD: u32 = 12;
export const PACKED_BYTES: u32 = 16;

/** Flags besides NEXT, WRITE and INDIRECT, which have the values of split rings. */
export const PACKED_F_AVAILABLE: u32 = 0x80;
export const PACKED_F_USED: u32 = 0x8000;
export const PACKED_F_BOTH: u32 = 0x8080;

export const POSITION_WRAP: u32 = 0x8000;
export const POSITION_INDEX: u32 = 0x7fff;
/** Where both sides start. */
export const POSITION_START: u32 = 0x8000;

/** Values of the flags of an event suppression structure, whose off_wrap is a position: off_wrap | flags << 16. */
export const EVENT_ENABLE: u32 = 0;
export const EVENT_DISABLE: u32 = 1;
/** VIRTIO_F_EVENT_IDX: notify once the descriptor at off_wrap has been written. */
export const EVENT_DESCRIPTOR: u32 = 2;
export const EVENT_BYTES: u32 = 4;

/** Largest ring (virtio 1.2, 2.8.10.1); any number up to it will do. */
export const PACKED_SIZE_LIMIT: u32 = 32768;
