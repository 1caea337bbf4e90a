/**
 * The rings of a packet socket, TPACKET_V2 (linux/if_packet.h), and what a queue's state says about them.
 *
 *     block 0                        block 1
 *     | frame 0 | frame 1 | (rest) | frame 2 | frame 3 | (rest) | ...
 *
 *     frame:  | status, lengths, offsets ... 32 | received: address, gap, header, packet at FRAME_MAC; sent: header, packet |
 *
 * The header is virtio-net's of 10 bytes, where the kernel takes it (PACKET_HEADER).
 *
 * A frame belongs to the kernel or to us, by its status alone; both sides go round in order.
 * @module
 */
import { Q_AVAILABLE, Q_BATCH, Q_DESCRIPTORS, Q_HANDLED, Q_HEADER, Q_HEADERS, Q_OWN_INDEX, Q_SIZE, Q_USED } from './queue-layout.ts';

/** u32: TP_STATUS_*. */
export const FRAME_STATUS: u32 = 0;
/** u32: bytes of the packet, and bytes of it that lie in the frame. */
export const FRAME_LENGTH: u32 = 4;
export const FRAME_CAPTURED: u32 = 8;
/** u16: received: where the packet begins. */
export const FRAME_MAC: u32 = 12;
/** u16: received: the VLAN tag that the kernel took out of the packet, and its type. */
export const FRAME_VLAN: u32 = 24;
export const FRAME_VLAN_TYPE: u32 = 26;
/** Where the header of a packet to send begins: TPACKET2_HDRLEN - sizeof(struct sockaddr_ll). */
export const FRAME_DATA: u32 = 32;
/** Where a received Ethernet frame without a header begins at the latest, and so what of a frame holds no packet. */
export const FRAME_RECEIVE_OVERHEAD: u32 = 66;

/** Received: ours. */
export const TP_STATUS_USER: u32 = 1;
/** Received: the checksum is that of the pseudo header only; whoever sends the packet finishes it. */
export const TP_STATUS_CSUMNOTREADY: u32 = 8;
export const TP_STATUS_VLAN_VALID: u32 = 16;
export const TP_STATUS_VLAN_TPID_VALID: u32 = 64;
/** To send: the kernel's, waiting or under way. */
export const TP_STATUS_SEND_REQUEST: u32 = 1;
export const TP_STATUS_SENDING: u32 = 2;

/** Fields of a queue's state, under the names that they have here. u32: offset of the ring. */
export const PACKET_RING: u32 = Q_DESCRIPTORS;
/** u32: frames in the ring, bytes of one, frames in a block, bytes of a block. */
export const PACKET_FRAMES: u32 = Q_SIZE;
export const PACKET_FRAME_BYTES: u32 = Q_HEADER;
export const PACKET_BLOCK_FRAMES: u32 = Q_USED;
export const PACKET_BLOCK_BYTES: u32 = Q_AVAILABLE;
/** u32: the frame that is next. */
export const PACKET_NEXT: u32 = Q_OWN_INDEX;
/** u32: transmit: longest packet without a VLAN tag that the interface takes, Ethernet header included. */
export const PACKET_LONGEST: u32 = Q_HEADERS;
/** u32: receive: packets that were longer than a frame. */
export const PACKET_CUT: u32 = Q_BATCH;
/** u32: bytes of the virtio-net header before each packet: 0 or 10. */
export const PACKET_HEADER: u32 = Q_HANDLED;
/** Packets up to this length are copied by the kernel into memory of its own; of longer ones it takes the ring's pages, and copies later. */
export const PACKET_COPIED: u32 = 4096;
