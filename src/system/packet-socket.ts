/**
 * Packet sockets with memory-mapped rings, TPACKET_V2 (packet(7), Documentation/networking/packet_mmap.rst).
 *
 * What is in the rings is told in ring/packet-ring.kernel.ts. Transmitting is a write of any bytes to the socket: the kernel
 * then sends the frames that are marked and ignores what was written.
 * @module
 */
import { systemError } from './ffi.ts';
import { MAP_FIXED, MAP_SHARED, mapMemory, PROT_READ_WRITE } from './memory-map.ts';
import { RawSocket, words } from './raw-socket.ts';

const AF_PACKET = 17;
const SOL_PACKET = 263;
const PACKET_ADD_MEMBERSHIP = 1;
const PACKET_DROP_MEMBERSHIP = 2;
const PACKET_RX_RING = 5;
const PACKET_STATISTICS = 6;
const PACKET_VERSION = 10;
const PACKET_TX_RING = 13;
const PACKET_LOSS = 14;
const PACKET_VNET_HDR = 15;
const PACKET_FANOUT = 18;
const PACKET_QDISC_BYPASS = 20;
const PACKET_IGNORE_OUTGOING = 23;
const TPACKET_V2 = 1;
const PACKET_FANOUT_HASH = 0;
const PACKET_FANOUT_FLAG_UNIQUEID = 0x2000;
const PACKET_FANOUT_FLAG_IGNORE_OUTGOING = 0x4000;
const ETH_P_ALL = 3;
/** Of a virtio-net header without num_buffers. */
const HEADER_BYTES = 10;

/** Memberships of an interface. */
export const PACKET_MR_PROMISC = 1;
export const PACKET_MR_ALLMULTI = 2;

/** Shape of a ring; the receive ring and the transmit ring of a socket have the same. */
export interface PacketRingShape {
  /** Bytes of a block: whole pages. */
  readonly blockBytes: number;
  /** Bytes of a frame, its header included; frames do not cross blocks. */
  readonly frameBytes: number;
  readonly blocks: number;
  readonly frames: number;
}

/** Sockets that share an interface's packets. */
export interface FanoutGroup {
  readonly id: number;
  readonly flags: number;
}

export class PacketSocket extends RawSocket {
  /**
   * Receives nothing before it is bound.
   * @param what the owner, for messages
   * @throws VirtioError EPERM without CAP_NET_RAW
   */
  constructor(what: string) {
    super(what, { family: AF_PACKET, level: SOL_PACKET, name: 'packet socket' });
  }

  /**
   * Asks for a receive ring and a transmit ring, frames that the kernel cannot send left out, and nothing of what the host sends.
   * @returns bytes of the virtio-net header before each packet, 0 where the kernel takes none
   */
  makeRings(shape: PacketRingShape, qdiscBypass: boolean): number {
    this.set(PACKET_VERSION, words(TPACKET_V2), 'TPACKET_V2');
    this.set(PACKET_LOSS, words(1), 'PACKET_LOSS');
    this.set(PACKET_IGNORE_OUTGOING, words(1), 'PACKET_IGNORE_OUTGOING');
    if (qdiscBypass) this.set(PACKET_QDISC_BYPASS, words(1), 'qdisc_bypass=1');
    // before the rings: there is no way back with them
    const { value } = this.trySet(PACKET_VNET_HDR, words(1));
    const request = words(shape.blockBytes, shape.blocks, shape.frameBytes, shape.frames);
    const what = `a ring of ${String(shape.frames)} frames of ${String(shape.frameBytes)} bytes in blocks of ${String(shape.blockBytes)}`;
    this.set(PACKET_RX_RING, request, what);
    this.set(PACKET_TX_RING, request, what);
    return value < 0 ? 0 : HEADER_BYTES;
  }

  /** Maps both rings at `address`, the receive ring first. The pages there must be of 4 KiB. */
  mapRings(address: number, shape: PacketRingShape): void {
    const bytes = 2 * shape.blockBytes * shape.blocks;
    mapMemory(`${this.what}: packet rings`, address, bytes, PROT_READ_WRITE, MAP_SHARED | MAP_FIXED, this.fd, 0);
  }

  /** Ties the socket to an interface. @param receives whether its packets arrive from now on */
  bind(interfaceIndex: number, receives: boolean): void {
    // struct sockaddr_ll, 20 bytes: u16 family, u16 protocol in network order, i32 index, ...
    const address = Buffer.alloc(20);
    address.writeUInt16LE(AF_PACKET, 0);
    address.writeUInt16BE(receives ? ETH_P_ALL : 0, 2);
    address.writeInt32LE(interfaceIndex, 4);
    const { value, errno } = this.bindTo(address);
    if (value < 0) throw systemError(`${this.what}: packet socket`, 'bind', errno);
  }

  /**
   * Shares the packets of the interface among several bound sockets, by a hash of each packet's flow. The interface must be up.
   * @param group what the first socket's call returned; undefined makes a new group
   */
  joinFanout(group: FanoutGroup | undefined): FanoutGroup {
    const join = (id: number, flags: number): void => {
      this.set(PACKET_FANOUT, words(id | ((PACKET_FANOUT_HASH | flags) << 16)), 'PACKET_FANOUT');
    };
    if (group !== undefined) {
      join(group.id, group.flags);
      return group;
    }
    let flags = PACKET_FANOUT_FLAG_IGNORE_OUTGOING;
    try {
      join(0, flags | PACKET_FANOUT_FLAG_UNIQUEID);
    } catch {
      // before Linux 5.10 there is no such flag
      flags = 0;
      join(0, PACKET_FANOUT_FLAG_UNIQUEID);
    }
    return { id: this.get(PACKET_FANOUT, 4, 'PACKET_FANOUT').readUInt16LE(0), flags };
  }

  /** Adds or drops PACKET_MR_*; the kernel drops them when the socket is closed. */
  setMembership(interfaceIndex: number, type: number, on: boolean): void {
    // struct packet_mreq, 16 bytes: i32 index, u16 type, u16 address length, address
    const request = Buffer.alloc(16);
    request.writeInt32LE(interfaceIndex, 0);
    request.writeUInt16LE(type, 4);
    this.set(on ? PACKET_ADD_MEMBERSHIP : PACKET_DROP_MEMBERSHIP, request, 'promiscuous mode');
  }

  /** Packets that found no free frame since the last call. */
  takeDrops(): number {
    return this.get(PACKET_STATISTICS, 8, 'PACKET_STATISTICS').readUInt32LE(4);
  }
}
