/**
 * Tables of flows for the exact match: flows are put in and taken out here, on the control side, while lcores look up in
 * flow-table.kernel.ts.
 * @module
 */
import type { Arena } from '../memory/arena.ts';
import { VirtioError } from '../system/error.ts';
import {
  FLOW_BYTES,
  FLOW_EMPTY,
  FLOW_KEY,
  FLOW_NEXT_HOP,
  FLOW_REMOVED,
  FLOW_STATE,
  FLOW_USED,
  FLOWS_ENTRIES,
  FLOWS_MASK,
  FLOWS_REACH,
  FLOWS_SCRATCH,
  KEY_BYTES,
  KEY_DESTINATION,
  KEY_PORTS,
  KEY_PROTOCOL,
  KEY_SOURCE,
  KEY_VERSION,
} from './flow-table-layout.ts';
import { formatIpAddress } from './ip-address.ts';
import { NEXT_HOP_LIMIT } from './lpm-table.ts';

/** A 5-tuple. The ports of protocols other than TCP and UDP, and of fragments, are 0. */
export interface Flow {
  /** 4 or 16 bytes, in network order; both of a length. */
  readonly destination: Uint8Array;
  readonly source: Uint8Array;
  readonly destinationPort: number;
  readonly sourcePort: number;
  /** 6: TCP, 17: UDP. */
  readonly protocol: number;
}

/** The kernel that says where a key belongs. */
export interface FlowHash {
  readonly flowHash: (key: number) => number;
}

/** Most flows that a table is made for. */
const FLOW_LIMIT = 1 << 20;

export class FlowTable {
  /** Arena offset, for flowLookup(). */
  readonly offset: number;
  readonly #arena: Arena;
  readonly #hash: FlowHash;
  readonly #entries: number;
  readonly #limit: number;
  #size = 0;
  #open = true;

  /**
   * @param flows how many there can be, 1..1048576
   * @throws RangeError; VirtioError ENOMEM
   */
  constructor(arena: Arena, hash: FlowHash, flows: number) {
    if (!Number.isInteger(flows) || flows < 1 || flows > FLOW_LIMIT)
      throw new RangeError(`flows ${String(flows)}: use 1..${String(FLOW_LIMIT)}`);
    this.#arena = arena;
    this.#hash = hash;
    this.#limit = flows;
    // half full at most: searches stay short
    this.#entries = 2 ** Math.ceil(Math.log2(2 * flows));
    this.offset = arena.allocateOwn(FLOWS_ENTRIES + this.#entries * FLOW_BYTES, 'a table of flows');
    arena.views.u32[(this.offset + FLOWS_MASK) >>> 2] = this.#entries - 1;
  }

  get size(): number {
    return this.#size;
  }

  /**
   * Adds a flow, or gives one that is there another next hop.
   * @param nextHop 0..65535
   * @throws RangeError for what cannot be; VirtioError ENOSPC when the table is full
   */
  add(flow: Flow, nextHop: number): void {
    if (!Number.isInteger(nextHop) || nextHop < 0 || nextHop > NEXT_HOP_LIMIT)
      throw new RangeError(`next hop ${String(nextHop)}: use 0..65535`);
    this.#writeKey(flow);
    const { found, free, steps } = this.#find();
    if (found !== undefined) {
      this.#store(found + FLOW_NEXT_HOP, nextHop);
      return;
    }
    if (free === undefined || this.#size === this.#limit) {
      throw new VirtioError(`the table's ${String(this.#limit)} flows are in use; make it for more`, { code: 'ENOSPC' });
    }
    const { u8 } = this.#arena.views;
    u8.copyWithin(free + FLOW_KEY, this.offset + FLOWS_SCRATCH, this.offset + FLOWS_SCRATCH + KEY_BYTES);
    this.#store(free + FLOW_NEXT_HOP, nextHop);
    if (steps > this.#load(this.offset + FLOWS_REACH)) this.#store(this.offset + FLOWS_REACH, steps);
    // last: from here on it is found
    this.#store(free + FLOW_STATE, FLOW_USED);
    this.#size++;
  }

  /** Takes a flow out; returns whether it was there. */
  delete(flow: Flow): boolean {
    this.#writeKey(flow);
    const { found } = this.#find();
    if (found === undefined) return false;
    this.#store(found + FLOW_STATE, FLOW_REMOVED);
    this.#size--;
    return true;
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#arena.own.release(this.offset);
  }

  #writeKey({ destination, source, destinationPort, sourcePort, protocol }: Flow): void {
    const text = (): string => `flow ${formatIpAddress(source)} to ${formatIpAddress(destination)}`;
    if ((destination.length !== 4 && destination.length !== 16) || source.length !== destination.length) {
      throw new RangeError('a flow has two addresses of 4 bytes or two of 16');
    }
    for (const port of [destinationPort, sourcePort]) {
      if (!Number.isInteger(port) || port < 0 || port > 0xffff) throw new RangeError(`${text()}: port ${String(port)}: use 0..65535`);
    }
    if (!Number.isInteger(protocol) || protocol < 0 || protocol > 0xff)
      throw new RangeError(`${text()}: protocol ${String(protocol)}: use 0..255`);
    const { u8 } = this.#arena.views;
    const key = this.offset + FLOWS_SCRATCH;
    u8.fill(0, key, key + KEY_BYTES);
    u8.set(destination, key + KEY_DESTINATION);
    u8.set(source, key + KEY_SOURCE);
    u8.set([destinationPort >>> 8, destinationPort & 0xff, sourcePort >>> 8, sourcePort & 0xff], key + KEY_PORTS);
    u8[key + KEY_PROTOCOL] = protocol;
    u8[key + KEY_VERSION] = destination.length === 4 ? 4 : 6;
  }

  /** The entry of the key, or the first that is free and after how many steps of a search it comes. */
  #find(): { readonly found: number | undefined; readonly free: number | undefined; readonly steps: number } {
    const key = this.offset + FLOWS_SCRATCH;
    const first = this.#hash.flowHash(key) & (this.#entries - 1);
    let free: number | undefined;
    let steps = 0;
    for (let step = 0; step < this.#entries; step++) {
      const entry = this.offset + FLOWS_ENTRIES + ((first + step) & (this.#entries - 1)) * FLOW_BYTES;
      const state = this.#load(entry + FLOW_STATE);
      if (state !== FLOW_USED && free === undefined) {
        free = entry;
        steps = step + 1;
      }
      if (state === FLOW_EMPTY) break;
      if (state === FLOW_USED && this.#sameKey(entry + FLOW_KEY, key)) return { found: entry, free, steps };
    }
    return { found: undefined, free, steps };
  }

  #sameKey(a: number, b: number): boolean {
    for (let at = 0; at < KEY_BYTES; at += 4) if (this.#load(a + at) !== this.#load(b + at)) return false;
    return true;
  }

  #load(offset: number): number {
    return this.#arena.views.u32[offset >>> 2] ?? 0;
  }

  #store(offset: number, value: number): void {
    Atomics.store(this.#arena.views.i32, offset >>> 2, value);
  }
}
