/**
 * AF_XDP sockets (Documentation/networking/af_xdp.rst, linux/if_xdp.h): an area of chunks and four rings, shared with the kernel.
 *
 * What is in the rings is told in ring/xdp-layout.ts. Reading from the socket asks the kernel to receive, writing to it asks
 * it to send; neither moves any bytes of its own.
 * @module
 */
import { VirtioError } from './error.ts';
import { errnoName, systemError } from './ffi.ts';
import { MAP_ANONYMOUS, MAP_FIXED, MAP_POPULATE, MAP_SHARED, mapMemory, pageSize, PROT_READ_WRITE } from './memory-map.ts';
import { RawSocket, words } from './raw-socket.ts';

const AF_XDP = 44;
const SOL_SOCKET = 1;
const SO_SNDBUFFORCE = 32;
const SO_BUSY_POLL = 46;
const SO_PREFER_BUSY_POLL = 69;
const SO_BUSY_POLL_BUDGET = 70;
const SOL_XDP = 283;
const XDP_MMAP_OFFSETS = 1;
const XDP_RX_RING = 2;
const XDP_TX_RING = 3;
const XDP_UMEM_REG = 4;
const XDP_UMEM_FILL_RING = 5;
const XDP_UMEM_COMPLETION_RING = 6;
const XDP_STATISTICS = 7;
const XDP_OPTIONS = 8;
const XDP_MAX_TX_SKB_BUDGET = 9;
const XDP_OPTIONS_ZEROCOPY = 1;
const XDP_SHARED_UMEM = 1;
const XDP_COPY = 2;
const XDP_USE_NEED_WAKEUP = 8;

/** Where in the socket's file the rings lie. */
const RING_PAGES = [0, 0x8000_0000, 0x1_0000_0000, 0x1_8000_0000] as const;
const DESCRIPTOR_BYTES = 16;
const ADDRESS_BYTES = 8;
/** Microseconds that one busy poll may take (DPDK's value too). */
const BUSY_POLL_MICROSECONDS = 20;
/** Bytes of packets that the kernel may hold for a socket: as many as there are chunks, so that the rings are the limit. */
const SEND_BUFFER_BYTES = 1 << 24;

/** Bytes before a received packet that the kernel keeps free in a chunk, for programs that put headers in front. */
export const XDP_HEADROOM = 256;

/** Places in the arena's memory, as addresses. */
export interface XdpRing {
  readonly producer: number;
  readonly consumer: number;
  readonly flags: number;
  readonly entries: number;
}

export interface XdpRings {
  readonly receive: XdpRing;
  readonly transmit: XdpRing;
  readonly fill: XdpRing;
  readonly completion: XdpRing;
}

/** Entries of the rings: powers of two. */
export interface XdpRingSizes {
  /** Receive ring and fill ring. */
  readonly receive: number;
  /** Transmit ring and completion ring. */
  readonly transmit: number;
}

/** What XDP_STATISTICS counts, since the socket was made. */
export interface XdpStatistics {
  /** Packets that found no chunk, or were longer than one. */
  readonly receiveDropped: number;
  readonly receiveInvalid: number;
  readonly transmitInvalid: number;
  readonly receiveRingFull: number;
  /** How often the kernel looked for a chunk, or for something to send, and found the ring empty. */
  readonly fillRingEmpty: number;
  readonly transmitRingEmpty: number;
}

export const NO_XDP_STATISTICS: XdpStatistics = {
  receiveDropped: 0,
  receiveInvalid: 0,
  transmitInvalid: 0,
  receiveRingFull: 0,
  fillRingEmpty: 0,
  transmitRingEmpty: 0,
};

/** Bytes that the four rings take in the arena, at most: whole pages, each ring with a page for its indices. */
export function xdpRingsBytes(sizes: XdpRingSizes): number {
  const page = pageSize();
  const bytes = (entries: number, entry: number): number => page + Math.ceil((entries * entry) / page) * page;
  return (
    bytes(sizes.receive, DESCRIPTOR_BYTES) +
    bytes(sizes.transmit, DESCRIPTOR_BYTES) +
    bytes(sizes.receive, ADDRESS_BYTES) +
    bytes(sizes.transmit, ADDRESS_BYTES)
  );
}

/** Maps `bytes` of zeroed memory for chunks at `address`, page by page: the kernel wants none of it larger. */
export function mapXdpArea(what: string, address: number, bytes: number): void {
  // shared: a process started from this one must not take the pages along that the kernel writes to
  mapMemory(`${what}: memory for packets`, address, bytes, PROT_READ_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED | MAP_POPULATE, -1, 0);
}

const HINTS = { EAFNOSUPPORT: 'this kernel has no XDP sockets (CONFIG_XDP_SOCKETS, Linux 5.9 or later); net_af_packet needs none' };

export class XdpSocket extends RawSocket {
  /**
   * Receives nothing before it is bound and in the map of a program.
   * @param what the owner, for messages
   * @throws VirtioError EPERM without CAP_NET_RAW, EAFNOSUPPORT where the kernel has no AF_XDP
   */
  constructor(what: string) {
    super(what, { family: AF_XDP, level: SOL_XDP, name: 'XDP socket', hints: HINTS });
  }

  /** Registers memory as the area of chunks. @throws VirtioError ENOBUFS where the limit on locked memory is too low */
  registerArea(address: number, bytes: number, chunkBytes: number): void {
    // u64 address, u64 bytes, u32 chunk, headroom, flags, metadata
    const request = Buffer.alloc(32);
    request.writeBigUInt64LE(BigInt(address), 0);
    request.writeBigUInt64LE(BigInt(bytes), 8);
    request.writeUInt32LE(chunkBytes, 16);
    const { value, errno } = this.trySet(XDP_UMEM_REG, request);
    if (value >= 0) return;
    const code = errnoName(errno);
    if (code === 'ENOBUFS' || code === 'ENOMEM') {
      throw new VirtioError(
        `${this.what}: ${String(bytes / 1024)} KiB of packet memory cannot be locked: raise the limit (ulimit -l unlimited), run with CAP_IPC_LOCK, or ask for fewer descriptors (--rxd, --txd)`,
        { code, syscall: 'setsockopt', errno },
      );
    }
    throw systemError(`${this.what}: XDP_UMEM_REG`, 'setsockopt', errno);
  }

  /** Makes the four rings and maps them at `address`, where there are xdpRingsBytes() of address space. */
  makeRings(address: number, sizes: XdpRingSizes): XdpRings {
    const { receive, transmit } = sizes;
    this.set(XDP_UMEM_FILL_RING, words(receive), `a fill ring of ${String(receive)} entries`);
    this.set(XDP_UMEM_COMPLETION_RING, words(transmit), `a completion ring of ${String(transmit)} entries`);
    this.set(XDP_RX_RING, words(receive), `a receive ring of ${String(receive)} entries`);
    this.set(XDP_TX_RING, words(transmit), `a transmit ring of ${String(transmit)} entries`);
    // for receive, transmit, fill and completion ring, four u64: producer, consumer, entries, flags
    const offsets = this.get(XDP_MMAP_OFFSETS, 128, 'XDP_MMAP_OFFSETS');
    const page = pageSize();
    let at = address;
    const map = (ring: number, entries: number, entryBytes: number): XdpRing => {
      const offset = (field: number): number => Number(offsets.readBigUInt64LE(32 * ring + 8 * field));
      const bytes = Math.ceil((offset(2) + entries * entryBytes) / page) * page;
      mapMemory(
        `${this.what}: XDP ring`,
        at,
        bytes,
        PROT_READ_WRITE,
        MAP_SHARED | MAP_FIXED | MAP_POPULATE,
        this.fd,
        RING_PAGES[ring] ?? 0,
      );
      const places = { producer: at + offset(0), consumer: at + offset(1), entries: at + offset(2), flags: at + offset(3) };
      at += bytes;
      return places;
    };
    return {
      receive: map(0, receive, DESCRIPTOR_BYTES),
      transmit: map(1, transmit, DESCRIPTOR_BYTES),
      fill: map(2, receive, ADDRESS_BYTES),
      completion: map(3, transmit, ADDRESS_BYTES),
    };
  }

  /**
   * Ties the socket to a queue of an interface, without copies in the kernel where the driver can and `copies` is false.
   * @param sharedWith descriptor of a bound socket whose area this one uses too
   * @returns whether it is bound; false: another socket has the queue, or one that was closed has not let go of it yet
   */
  bind(interfaceIndex: number, queue: number, options: { readonly copies: boolean; readonly sharedWith?: number | undefined }): boolean {
    const { copies, sharedWith } = options;
    // struct sockaddr_xdp, 16 bytes; a socket that shares an area takes over what the first one has agreed on
    const flags = sharedWith === undefined ? XDP_USE_NEED_WAKEUP | (copies ? XDP_COPY : 0) : XDP_SHARED_UMEM;
    const address = Buffer.alloc(16);
    address.writeUInt16LE(AF_XDP, 0);
    address.writeUInt16LE(flags, 2);
    address.writeUInt32LE(interfaceIndex, 4);
    address.writeUInt32LE(queue, 8);
    address.writeUInt32LE(sharedWith ?? 0, 12);
    const { value, errno } = this.bindTo(address);
    if (value >= 0) return true;
    const code = errnoName(errno);
    if (code === 'EBUSY') return false;
    if (code === 'EINVAL') {
      throw new VirtioError(`${this.what}: queue ${String(queue)}: the interface has no such queue, or none that takes XDP sockets`, {
        code,
        syscall: 'bind',
        errno,
      });
    }
    throw systemError(`${this.what}: XDP socket of queue ${String(queue)}`, 'bind', errno);
  }

  /** Of a bound socket: whether driver and process share chunks without a copy in between. */
  zeroCopy(): boolean {
    return (this.get(XDP_OPTIONS, 4, 'XDP_OPTIONS').readUInt32LE(0) & XDP_OPTIONS_ZEROCOPY) !== 0;
  }

  /** Lets a call of the kernel send a whole ring of packets; without, it ends after 32. Limits that older kernels have stay. */
  raiseLimits(transmitEntries: number): void {
    this.trySet(XDP_MAX_TX_SKB_BUDGET, words(transmitEntries));
    this.trySet(SO_SNDBUFFORCE, words(SEND_BUFFER_BYTES), SOL_SOCKET);
  }

  /**
   * The queue's packets are received within calls of this process, `budget` at a time, instead of in interrupts.
   * @returns whether the kernel can (Linux 5.11)
   */
  preferBusyPoll(budget: number): boolean {
    const set = (option: number, value: number): boolean => this.trySet(option, words(value), SOL_SOCKET).value >= 0;
    return set(SO_PREFER_BUSY_POLL, 1) && set(SO_BUSY_POLL, BUSY_POLL_MICROSECONDS) && set(SO_BUSY_POLL_BUDGET, budget);
  }

  statistics(): XdpStatistics {
    const bytes = this.get(XDP_STATISTICS, 48, 'XDP_STATISTICS');
    const field = (index: number): number => Number(bytes.readBigUInt64LE(8 * index));
    return {
      receiveDropped: field(0),
      receiveInvalid: field(1),
      transmitInvalid: field(2),
      receiveRingFull: field(3),
      fillRingEmpty: field(4),
      transmitRingEmpty: field(5),
    };
  }
}
