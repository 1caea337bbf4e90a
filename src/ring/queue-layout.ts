/**
 * A virtqueue's state in the own part of the arena, where no peer can reach it: either target, or another lcore, can take
 * a queue over between two bursts. Driver and device side, split and packed share one struct.
 * @module
 */

/** u32: QUEUE_STOPPED, QUEUE_RUNNING; a kernel does nothing unless it is running. Written by the control plane and by a kernel that gives up. */
export const Q_STATE: u32 = 0;
/** u32: why a kernel gave the queue up (QUEUE_ERROR_*); 0 while all is well. */
export const Q_ERROR: u32 = 4;
/** u32: descriptors in the ring. */
export const Q_SIZE: u32 = 8;
/** u32: QUEUE_* bits negotiated. */
export const Q_FEATURES: u32 = 12;
/** u32: bytes of the virtio-net header: 10, 12 or 20. */
export const Q_HEADER: u32 = 16;
/** u32: arena offsets of the three parts of the ring. */
export const Q_DESCRIPTORS: u32 = 20;
export const Q_AVAILABLE: u32 = 24;
export const Q_USED: u32 = 28;
/** u32: high word of every address that the driver writes. */
export const Q_ADDRESS_HIGH: u32 = 32;
/** u32: pool that received packets come from. */
export const Q_POOL: u32 = 36;
/** u32: cache slot of the lcore that owns the queue. */
export const Q_LCORE: u32 = 40;
/**
 * u32: u16 index that this side writes next: avail.idx for the driver, used.idx for the device. Packed: the position (packed-layout.ts)
 * of the next descriptor that this side writes.
 */
export const Q_OWN_INDEX: u32 = 44;
/** u32: u16 index up to which this side has handled what the other wrote. Packed: the position of the next descriptor of the other's to look at. */
export const Q_HANDLED: u32 = 48;
/** u32: split: u16 index of the other side when last read; it is read again only when this one promises too little. */
export const Q_SEEN: u32 = 52;
/** u32: device, packed: the list looked at last: its buffer id, and in the upper half how many descriptors it has. */
export const Q_LIST: u32 = 52;
/** u32: driver: position in the ring of free descriptors (packed: of free buffer ids) where the next one is taken. */
export const Q_FREE_HEAD: u32 = 56;
/** u32: device, packed: id and flags of a burst's first used descriptor, which are stored last. */
export const Q_FIRST_WORD: u32 = 56;
/** u32: driver: how many descriptors are free. */
export const Q_FREE: u32 = 60;
/** u32: driver: offset of the shadow descriptors (SHADOW_*), Q_SIZE of them. What the device may write is never read back. */
export const Q_SHADOW: u32 = 64;
/** u32: driver: offset of the ring of free descriptors, Q_SIZE u16. */
export const Q_FREE_RING: u32 = 68;
/** u32: driver, transmit: published memory for what a packet needs besides its buffers, TRANSMIT_AREA_BYTES a descriptor. */
export const Q_HEADERS: u32 = 72;
/** u32: offset of scratch room: Q_SIZE + 1024 words for the driver, DEVICE_SCRATCH_BYTES for the device. */
export const Q_SCRATCH: u32 = 76;
/** u32: device: offset of the table of the peer's memory regions. */
export const Q_REGIONS: u32 = 80;
/** u32: set by a kernel when the other side wants to be notified; the caller clears it and writes the eventfd. */
export const Q_NOTIFY: u32 = 84;
/** u32: descriptor of the eventfd to write (kick for the driver, call for the device); 0xffffffff when there is none. */
export const Q_NOTIFY_FD: u32 = 88;
/** u32: port number to put into received packets. */
export const Q_PORT: u32 = 92;
/** u32: driver, in-order receive: entries of a batch whose used element was left out by the device. */
export const Q_BATCH: u32 = 96;
/** u32: driver, in-order receive, split: elements that the device left out of that batch. */
export const Q_BATCH_SKIPPED: u32 = 100;
/** u32: driver, in-order receive, packed: bytes in the batch's last buffer. */
export const Q_BATCH_LENGTH: u32 = 100;
/** u32: sink of the words read ahead, so that no compiler leaves the reads out. */
export const Q_TOUCH: u32 = 104;
/**
 * u32: MBUF_WORK_* bits that were negotiated. Transmit: work that the other side does itself. Receive: work that it may leave
 * undone; 0: headers are not looked at.
 */
export const Q_OFFLOADS: u32 = 108;
/** u32: set by a transmit kernel that stopped before a packet whose work is not in Q_OFFLOADS: the caller has it finished first. */
export const Q_UNFINISHED: u32 = 112;
/** u32: transmit: offset of the packets that wait after having been finished (WAITING_*). */
export const Q_WAITING: u32 = 116;
/** u32: receive: 1 when VLAN tags are taken out of packets. */
export const Q_STRIP_VLAN: u32 = 120;
/** u32: offset of the first capture's entry (capture-layout.ts); 0: nobody listens. */
export const Q_CAPTURE: u32 = 124;

/** Counters: two u32 each, low word first. */
export const Q_PACKETS: u32 = 128;
export const Q_BYTES: u32 = 136;
export const Q_ERRORS: u32 = 144;
export const Q_MULTICAST: u32 = 152;
export const Q_BROADCAST: u32 = 160;
/** Size classes: below 64, 64, 65-127, 128-255, 256-511, 512-1023, 1024-1518, above. */
export const Q_SIZES: u32 = 168;
export const Q_NO_MBUF: u32 = 232;
export const Q_NOTIFICATIONS: u32 = 240;
/** Device: packets that found no room in the driver's buffers and were dropped. */
export const Q_DROPPED: u32 = 248;
export const Q_COUNTERS_END: u32 = 256;

/** u32: bytes of the register by which the other side is notified, 2 or 4; 0: Q_NOTIFY_FD is an eventfd. Set by notification.ts. */
export const Q_NOTIFY_BYTES: u32 = 256;
/** u32: what is written to that register. */
export const Q_NOTIFY_VALUE: u32 = 260;
/** u32: arena offset at which the register is mapped; 0: it is at Q_NOTIFY_POSITION of the file Q_NOTIFY_FD. */
export const Q_NOTIFY_REGISTER: u32 = 264;
/** Two u32, low word first. */
export const Q_NOTIFY_POSITION: u32 = 268;
export const Q_NOTIFY_POSITION_HIGH: u32 = 272;
/** u32: eventfd by which the other side tells that there is something; 0xffffffff when there is none (src/port/queue-functions.ts). */
export const Q_INTERRUPT_FD: u32 = 276;
/** u32: eventfd that wakes the lcore which may be asleep on the queue; 0xffffffff when there is none. */
export const Q_WAKE_FD: u32 = 280;
/** u32: driver, packed: position in the ring of free buffer ids where the next one is given back. */
export const Q_FREE_TAIL: u32 = 284;
/** u32: split, VIRTIO_F_EVENT_IDX: 1 while this side waits for a notification, and its event has to stay where it is. */
export const Q_ARMED: u32 = 288;
/**
 * u32: device behind an IOMMU: 0, or the REGIONS_* permission that was wanted for Q_MISS_LENGTH bytes at Q_MISS_LOW and Q_MISS_HIGH, which
 * are not in the table yet. Written by kernels while it is 0, cleared by the control plane, which fills the table.
 */
export const Q_MISS: u32 = 292;
export const Q_MISS_LOW: u32 = 296;
export const Q_MISS_HIGH: u32 = 300;
export const Q_MISS_LENGTH: u32 = 304;
/** u32: eventfd that tells the control plane of a Q_MISS. */
export const Q_MISS_FD: u32 = 308;
/** u32: transmit: bytes of the longest packet, from its Ethernet header on (length-limit.kernel.ts); NO_LENGTH_LIMIT: any. */
export const Q_LENGTH_LIMIT: u32 = 312;
/** u32: driver: offset of the table of physical addresses (physical-address.kernel.ts), where the device is told those; 0: it is not. */
export const Q_PHYSICAL: u32 = 316;
/** Counter, as those above: transmit: packets beyond Q_LENGTH_LIMIT, which were dropped; among Q_ERRORS or Q_DROPPED, too. */
export const Q_OVERSIZE: u32 = 320;
/** u32: driver, receive: the mbuf handed out last; 0 once it is known whether the caller has freed it. */
export const Q_LAST_MBUF: u32 = 328;
/** u32: driver, receive: 1 while the caller frees each burst before it asks for the next (driver-buffers.kernel.ts). */
export const Q_FREED: u32 = 332;
export const Q_BYTES_TOTAL: u32 = 384;

/** More than any packet has, and its sign bit is 0, so that differences tell. */
export const NO_LENGTH_LIMIT: u32 = 0x7fffffff;

export const QUEUE_STOPPED: u32 = 0;
export const QUEUE_RUNNING: u32 = 1;
/** A ring that the peer started but disabled: the device consumes and discards what the driver sends. */
export const QUEUE_DISABLED: u32 = 2;

/** VIRTIO_NET_F_MRG_RXBUF was negotiated. */
export const QUEUE_MERGEABLE: u32 = 1;
/** VIRTIO_F_IN_ORDER was negotiated. */
export const QUEUE_IN_ORDER: u32 = 2;
/** VIRTIO_F_RING_PACKED was negotiated. */
export const QUEUE_PACKED: u32 = 4;
/** VIRTIO_F_EVENT_IDX was negotiated. */
export const QUEUE_EVENT_IDX: u32 = 8;
/** VIRTIO_F_INDIRECT_DESC was negotiated. */
export const QUEUE_INDIRECT: u32 = 16;
/** Not negotiated: the queue takes the vectorized path (src/port/virtio-path.ts). */
export const QUEUE_VECTORIZED: u32 = 32;

/** The device's side of a virtqueue; else the driver's. */
export const QUEUE_DEVICE: u32 = 64;

/** The other side's index ran further ahead than the ring is long. */
export const QUEUE_ERROR_INDEX: u32 = 1;
/** A descriptor number outside the ring, or one that is not outstanding. */
export const QUEUE_ERROR_ID: u32 = 2;
/** A used length beyond the buffer, or shorter than the header. */
export const QUEUE_ERROR_LENGTH: u32 = 3;
/** A descriptor chain with a loop, or of the wrong direction. */
export const QUEUE_ERROR_CHAIN: u32 = 4;
/** An address outside the memory that the peer shares. */
export const QUEUE_ERROR_ADDRESS: u32 = 5;
/** A packet said to lie in more buffers than the ring has. */
export const QUEUE_ERROR_BUFFERS: u32 = 6;

/** Texts for messages, by QUEUE_ERROR_*. */
export const QUEUE_ERROR_TEXTS: readonly string[] = [
  'no error',
  'its ring index ran further ahead than the ring is long',
  'it named a descriptor outside the ring or not outstanding',
  'it gave a length beyond the buffer or shorter than the header',
  'it made a descriptor chain with a loop or of the wrong direction',
  'it gave an address outside the memory that it shares',
  'it announced a packet in more buffers than the ring has',
];

/** Shadow of a descriptor: u32 mbuf (in the head of a chain), u16 next, u16 descriptors in the chain (in the head). */
export const SHADOW_MBUF: u32 = 0;
export const SHADOW_NEXT: u32 = 4;
export const SHADOW_COUNT: u32 = 6;
export const SHADOW_BYTES: u32 = 8;
/** SHADOW_NEXT and SHADOW_COUNT in one word, of a packet in one descriptor, and the half of it that is the count. */
export const ONE_DESCRIPTOR: u32 = 0x10000;
export const SHADOW_COUNT_MASK: u32 = 0xffff0000;

/** More than any ring has: asked for so much room, a transmit queue takes back all that was sent. */
export const ALL_DESCRIPTORS: u32 = 0x10000;

/**
 * A descriptor's own published memory: the header of a packet without headroom for one, and a table of indirect descriptors. A multiple
 * of its size never lies across two pages.
 */
export const TRANSMIT_AREA_BYTES: u32 = 128;
export const TRANSMIT_HEADER: u32 = 0;
export const TRANSMIT_TABLE: u32 = 32;
/** Entries of the table: a packet of 9 KB in buffers of 2 KiB, and its header. */
export const TRANSMIT_TABLE_ENTRIES: u32 = 6;

/** Packets that wait: u32 first, u32 how many, then room for WAITING_LIMIT handles. */
export const WAITING_FIRST: u32 = 0;
export const WAITING_COUNT: u32 = 4;
export const WAITING_HANDLES: u32 = 8;
export const WAITING_LIMIT: u32 = 1024;
export const WAITING_BYTES: u32 = 4104;

/** In Q_NOTIFY when nothing but a Q_MISS is to be told, and not to the other side. */
export const NOTIFY_MISS: u32 = 2;

/**
 * Peer memory: u32 count at 0, then from REGION_FIRST on entries of REGION_BYTES.
 *
 * u32 at REGIONS_PERMISSION: 0: the regions that the peer shares, in any order; an address elsewhere is an error. Otherwise translations of an IOMMU, for one
 * permission: the first entry is the longest once more, behind it all are sorted by address; what is missing may come yet.
 */
export const REGIONS_PERMISSION: u32 = 4;
/** u32: the table of what may be read; 0: this one. */
export const REGIONS_READABLE: u32 = 8;
export const REGIONS_TO_READ: u32 = 1;
export const REGIONS_TO_WRITE: u32 = 2;
export const REGION_FIRST: u32 = 16;
export const REGION_GUEST_LOW: u32 = 0;
export const REGION_GUEST_HIGH: u32 = 4;
export const REGION_SIZE: u32 = 8;
export const REGION_OFFSET: u32 = 12;
export const REGION_BYTES: u32 = 16;
export const REGION_LIMIT: u32 = 32;
export const REGIONS_BYTES: u32 = 528;
