/**
 * The rings of an AF_XDP socket (linux/if_xdp.h, Documentation/networking/af_xdp.rst) and what a queue's state says about them.
 *
 *     receive:   fill ring ->  kernel  -> receive ring          transmit:  transmit ring -> kernel -> completion ring
 *                ^ addresses of free chunks   | descriptors                ^ descriptors               | addresses
 *                +----------------------------+                            +-- stack of free chunks <--+
 *
 *     ring:  | producer, consumer, flags at offsets that the kernel tells | entries, a power of two: 16 or 8 bytes each |
 *
 * A chunk is a piece of the area that both sides share (UMEM); its address is counted from the area's first byte. Indices run
 * freely through 32 bits. There are as many chunks as entries in each direction, so that no ring can run over.
 * @module
 */
import {
  Q_ADDRESS_HIGH,
  Q_AVAILABLE,
  Q_BATCH,
  Q_BATCH_SKIPPED,
  Q_DESCRIPTORS,
  Q_FREE_HEAD,
  Q_FREE_RING,
  Q_HANDLED,
  Q_HEADER,
  Q_HEADERS,
  Q_OWN_INDEX,
  Q_REGIONS,
  Q_SCRATCH,
  Q_SEEN,
  Q_SHADOW,
  Q_SIZE,
  Q_TOUCH,
  Q_USED,
} from './queue-layout.ts';

/** Entries of the receive and the transmit ring, 16 bytes: u64 address, u32 length, u32 options. */
export const XDP_DESCRIPTOR_HIGH: u32 = 4;
export const XDP_DESCRIPTOR_LENGTH: u32 = 8;
export const XDP_DESCRIPTOR_OPTIONS: u32 = 12;
/** Bit of a ring's flags: the kernel sleeps until it is called. */
export const XDP_RING_NEED_WAKEUP: u32 = 1;

/** Fields of a queue's state, under the names that they have here. u32: entries of the rings. */
export const XDP_SIZE: u32 = Q_SIZE;
/** u32: offsets of the entries of the receive or transmit ring, of its producer index and of its consumer index. */
export const XDP_RING: u32 = Q_DESCRIPTORS;
export const XDP_PRODUCER: u32 = Q_AVAILABLE;
export const XDP_CONSUMER: u32 = Q_USED;
/** u32: the same of the ring of addresses: the fill ring, or the completion ring. */
export const XDP_ADDRESSES: u32 = Q_SHADOW;
export const XDP_ADDRESSES_PRODUCER: u32 = Q_FREE_HEAD;
export const XDP_ADDRESSES_CONSUMER: u32 = Q_FREE_RING;
/** u32: offset of the flags of the ring that we fill. */
export const XDP_FLAGS: u32 = Q_HEADER;
/** u32: offset of the area's first byte, and its bytes. */
export const XDP_AREA: u32 = Q_REGIONS;
export const XDP_AREA_BYTES: u32 = Q_ADDRESS_HIGH;
/** u32: bytes of a chunk, a power of two. */
export const XDP_CHUNK_BYTES: u32 = Q_HEADERS;
/** u32: index that is ours in the receive ring (consumer) or in the transmit ring (producer). */
export const XDP_INDEX: u32 = Q_OWN_INDEX;
/** u32: index that is ours in the fill ring (producer) or in the completion ring (consumer). */
export const XDP_ADDRESS_INDEX: u32 = Q_HANDLED;
/** u32: receive: producer index when last read. */
export const XDP_SEEN: u32 = Q_SEEN;
/** u32: transmit: offset of the stack of free chunks' addresses, XDP_SIZE words; Q_FREE says how many there are. */
export const XDP_STACK: u32 = Q_SCRATCH;
/** u32: transmit: longest packet without a VLAN tag that the interface takes, Ethernet header included. */
export const XDP_LONGEST: u32 = Q_BATCH;
/** u32: receive: 1 when the kernel receives only within a call, and is called by every burst that finds nothing. */
export const XDP_CALLS: u32 = Q_TOUCH;
/** u32: transmit: packets that were longer than a chunk or than the interface takes. */
export const XDP_TOO_LONG: u32 = Q_BATCH_SKIPPED;
