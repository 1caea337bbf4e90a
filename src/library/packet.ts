/**
 * One received packet, for the convenient loop: looked at for one turn, then freed.
 * @module
 */
import { MBUF_CHECKSUM_BAD, MBUF_CHECKSUM_GOOD, MBUF_HASH_VALID, MBUF_VLAN_STRIPPED, MBUF_WORK_CHECKSUM } from '../memory/mbuf-layout.ts';
import { parseEthernet, type EthernetHeader } from '../net/ethernet.ts';
import type { PacketArena } from './packet-arena.ts';

export class Packet {
  /** Receive queue it came from. */
  readonly queue: number;
  readonly #arena: PacketArena;
  #handle: number;
  #bytes: Uint8Array | undefined;

  /** @internal */
  constructor(arena: PacketArena, handle: number, queue: number) {
    this.#arena = arena;
    this.#handle = handle;
    this.queue = queue;
  }

  /** The mbuf, for the accessors of `port.arena`. @throws RangeError after the turn */
  get handle(): number {
    if (this.#handle === 0)
      throw new RangeError('the packet was freed at the end of its turn; copy what is needed later: packet.bytes.slice()');
    return this.#handle;
  }

  /** Bytes of the packet, without the frame check sequence. */
  get length(): number {
    return this.#arena.length(this.handle);
  }

  /**
   * The bytes: a view of shared memory (a copy when they lie in several segments), valid for this turn of the loop only.
   * `packet.bytes.slice()` is there for good.
   */
  get bytes(): Uint8Array {
    const { handle } = this;
    this.#bytes ??= this.#arena.bytes(handle);
    return this.#bytes;
  }

  /** Source, destination and type, read when asked for; undefined in a packet shorter than 14 bytes. */
  get ethernet(): EthernetHeader | undefined {
    return parseEthernet(this.bytes);
  }

  /**
   * What is known about the transport checksum: verified by the other side, found wrong, not complete yet (the port was opened with
   * `rxOffloads` and whoever sends the packet on finishes it), or nothing.
   */
  get checksum(): 'good' | 'bad' | 'partial' | 'unknown' {
    const flags = this.#arena.flags(this.handle);
    if ((flags & MBUF_WORK_CHECKSUM) !== 0) return 'partial';
    if ((flags & MBUF_CHECKSUM_GOOD) !== 0) return 'good';
    return (flags & MBUF_CHECKSUM_BAD) !== 0 ? 'bad' : 'unknown';
  }

  /** Tag control information of the VLAN tag that was taken out (`rxOffloads: ['vlan_strip']`), if there was one. */
  get vlan(): number | undefined {
    return (this.#arena.flags(this.handle) & MBUF_VLAN_STRIPPED) === 0 ? undefined : this.#arena.vlan(this.handle);
  }

  /** Hash of the packet's flow, where the device told it (`rxOffloads: ['rss_hash']`). */
  get hash(): number | undefined {
    return (this.#arena.flags(this.handle) & MBUF_HASH_VALID) === 0 ? undefined : this.#arena.hash(this.handle);
  }

  /** @internal */
  release(): void {
    if (this.#handle === 0) return;
    this.#arena.freePacket(this.#handle);
    this.#handle = 0;
    this.#bytes = undefined;
  }
}
