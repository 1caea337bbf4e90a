/**
 * Tables of prefixes for the longest match: routes are put in and taken out here, on the control side, while lcores look up in
 * lpm.kernel.ts. Every change is made of stores of single words, in an order in which a lookup finds the route of before or of after.
 * @module
 */
import type { Arena } from '../memory/arena.ts';
import { VirtioError } from '../system/error.ts';
import { formatPrefix, maskAddress, type Prefix } from './ip-address.ts';
import { LPM_CAPACITY, LPM_NODE, LPM_NODE_BYTES, LPM_NODE_ENTRIES, LPM_NODES, LPM_NODES_USED, LPM_ROOT, LPM_ROUTE } from './lpm-layout.ts';

/** Next hops are numbers of 16 bits. */
export const NEXT_HOP_LIMIT = 0xffff;
const LENGTH_SHIFT = 16;

export interface LpmTableOptions {
  /** Bytes of an address: 4 or 16. */
  readonly addressBytes: 4 | 16;
  /**
   * Nodes of 1 KiB for prefixes longer than 16 bits, at most: one for each value of the leading 16, 24, 32 ... bits under which longer
   * prefixes lie. Default 256.
   */
  readonly nodes?: number;
}

export interface LpmRule extends Prefix {
  readonly nextHop: number;
}

/** A place in the trie: entries that one step of a lookup chooses from. */
interface Step {
  /** Arena offset of the first entry. */
  readonly entries: number;
  /** Bits of the address before this step, and behind it. */
  readonly from: number;
  readonly to: number;
}

export class LpmTable {
  /** Arena offset, for lpmLookup(). */
  readonly offset: number;
  readonly addressBytes: 4 | 16;
  readonly #arena: Arena;
  readonly #rules = new Map<string, LpmRule>();
  #open = true;

  /** @throws VirtioError ENOMEM */
  constructor(arena: Arena, options: LpmTableOptions) {
    const { addressBytes, nodes = 256 } = options;
    if (!Number.isInteger(nodes) || nodes < 0 || nodes > 65_536) throw new RangeError(`nodes ${String(nodes)}: use 0..65536`);
    this.addressBytes = addressBytes;
    this.#arena = arena;
    this.offset = arena.allocateOwn(LPM_NODES + nodes * LPM_NODE_BYTES, `a table of IPv${addressBytes === 4 ? '4' : '6'} routes`);
    arena.views.u32[(this.offset + LPM_CAPACITY) >>> 2] = nodes;
  }

  /** The routes, in the order in which they were added. */
  get rules(): readonly LpmRule[] {
    return [...this.#rules.values()];
  }

  /**
   * Adds a route, or gives a prefix that is there another next hop.
   * @param nextHop 0..65535
   * @throws RangeError for a prefix of the other family or a next hop that cannot be; VirtioError ENOSPC when there are no nodes left
   */
  add(prefix: Prefix, nextHop: number): void {
    const { length } = this.#check(prefix);
    if (!Number.isInteger(nextHop) || nextHop < 0 || nextHop > NEXT_HOP_LIMIT)
      throw new RangeError(`next hop ${String(nextHop)}: use 0..65535`);
    const address = maskAddress(prefix.address, length);
    const rule = { address, length, nextHop };
    const step = this.#descend(rule, true);
    if (step === undefined) {
      throw new VirtioError(
        `${formatPrefix(rule)}: the table's ${String(this.#word(this.offset + LPM_CAPACITY))} nodes are in use; make it with more`,
        {
          code: 'ENOSPC',
        },
      );
    }
    this.#replace(step, rule, leaf(rule), (there) => there <= length);
    this.#rules.set(formatPrefix(rule), rule);
  }

  /** Takes a route out; returns whether it was there. Its nodes stay, for routes in the same place. */
  delete(prefix: Prefix): boolean {
    const { length } = this.#check(prefix);
    const rule = { address: maskAddress(prefix.address, length), length };
    if (!this.#rules.delete(formatPrefix(rule))) return false;
    const step = this.#descend(rule, false);
    if (step !== undefined) this.#replace(step, rule, this.#covering(rule), (there) => there === length);
    return true;
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#arena.own.release(this.offset);
  }

  #check(prefix: Prefix): Prefix {
    const bits = 8 * this.addressBytes;
    if (prefix.address.length !== this.addressBytes || !Number.isInteger(prefix.length) || prefix.length < 0 || prefix.length > bits) {
      throw new RangeError(`${formatPrefix(prefix)}: this table has prefixes of 0..${String(bits)} bits`);
    }
    return prefix;
  }

  /** What an entry holds once the route for `rule` has gone: the longest of the shorter ones. */
  #covering({ address, length }: Prefix): number {
    for (let shorter = length - 1; shorter >= 0; shorter--) {
      const rule = this.#rules.get(formatPrefix({ address: maskAddress(address, shorter), length: shorter }));
      if (rule !== undefined) return leaf(rule);
    }
    return 0;
  }

  /** The step in which a prefix ends; with `make`, nodes on the way to it are made. Undefined: not there, or no node is left. */
  #descend({ address, length }: Prefix, make: boolean): Step | undefined {
    let step: Step = { entries: this.offset + LPM_ROOT, from: 0, to: 16 };
    while (length > step.to) {
      const index = step.from === 0 ? (address[0] ?? 0) * 256 + (address[1] ?? 0) : (address[step.from >>> 3] ?? 0);
      const place = step.entries + 4 * index;
      let entry = this.#word(place);
      if ((entry & LPM_NODE) === 0) {
        if (!make) return undefined;
        const made = this.#makeNode(entry);
        if (made === undefined) return undefined;
        entry = made;
        this.#store(place, entry);
      }
      step = { entries: this.#node(entry), from: step.to, to: step.to + 8 };
    }
    return step;
  }

  /** A node that says what `entry` said. It is not linked yet. */
  #makeNode(entry: number): number | undefined {
    const used = this.#word(this.offset + LPM_NODES_USED);
    if (used === this.#word(this.offset + LPM_CAPACITY)) return undefined;
    this.#store(this.offset + LPM_NODES_USED, used + 1);
    const node = (LPM_NODE | used) >>> 0;
    for (let index = 0; index < LPM_NODE_ENTRIES; index++) this.#store(this.#node(node) + 4 * index, entry);
    return node;
  }

  /** Gives the entries that lie under a prefix another content, those whose own prefix has a length that `which` takes. */
  #replace({ entries, from, to }: Step, { address, length }: Prefix, content: number, which: (length: number) => boolean): void {
    const first = from === 0 ? (address[0] ?? 0) * 256 + (address[1] ?? 0) : (address[from >>> 3] ?? 0);
    const count = 2 ** (to - length);
    // the address is masked: the first of the entries is where it points
    for (let index = first; index < first + count; index++) this.#replaceEntry(entries + 4 * index, content, which);
  }

  #replaceEntry(place: number, content: number, which: (length: number) => boolean): void {
    const entry = this.#word(place);
    if ((entry & LPM_NODE) !== 0) {
      const node = this.#node(entry);
      for (let index = 0; index < LPM_NODE_ENTRIES; index++) this.#replaceEntry(node + 4 * index, content, which);
      return;
    }
    // without a route an entry is one of length 0 that everything replaces, and that nobody takes out
    if ((entry & LPM_ROUTE) === 0 ? (content & LPM_ROUTE) !== 0 : which((entry >>> LENGTH_SHIFT) & 0xff)) this.#store(place, content);
  }

  #node(entry: number): number {
    return this.offset + LPM_NODES + (entry & 0xffffff) * LPM_NODE_BYTES;
  }

  #word(offset: number): number {
    return this.#arena.views.u32[offset >>> 2] ?? 0;
  }

  #store(offset: number, value: number): void {
    Atomics.store(this.#arena.views.i32, offset >>> 2, value | 0);
  }
}

function leaf({ length, nextHop }: LpmRule): number {
  return (LPM_ROUTE | (length << LENGTH_SHIFT) | nextHop) >>> 0;
}
