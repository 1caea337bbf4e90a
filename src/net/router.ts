/**
 * A router of IPv4 and IPv6 packets, from the control side: which prefixes and flows leave by which ports, and with which Ethernet
 * addresses. The packets are moved by router.kernel.ts.
 *
 * ```ts
 * using router = new Router(arena, kernels);
 * router.addPort(0, { output: 0, source: port.mac, destination: Uint8Array.of(2, 0, 0, 0, 0, 0) });
 * router.addRoute('198.51.100.0/24', 0);
 * ```
 * @module
 */
import type { Arena } from '../memory/arena.ts';
import { FlowTable, type Flow, type FlowHash } from './flow-table.ts';
import { parsePrefix, type Prefix } from './ip-address.ts';
import { LpmTable } from './lpm-table.ts';
import type { MacAddress } from './mac-address.ts';
import {
  ROUTER_BYTES,
  ROUTER_FLOWS,
  ROUTER_IPV4,
  ROUTER_IPV6,
  ROUTER_PORT_ADDRESSES,
  ROUTER_PORT_BYTES,
  ROUTER_PORT_LIMIT,
  ROUTER_PORT_OUTPUT,
  ROUTER_PORTS,
} from './router-layout.ts';

export interface RouterOptions {
  /** How many flows can be added; 0: none, and packets are routed by prefix alone. Default 0. */
  readonly flows?: number;
  /** Nodes of each table of prefixes (LpmTableOptions). Default 256. */
  readonly nodes?: number;
  /** Route by prefix. Default true; without it, only flows are. */
  readonly prefixes?: boolean;
}

export interface RouterPort {
  /** Place of the port among the outputs of the streams, from 0. */
  readonly output: number;
  /** What is put into the packets that leave by it. */
  readonly source: MacAddress;
  readonly destination: MacAddress;
}

export class Router implements Disposable {
  /** Arena offset, for routePackets(). */
  readonly offset: number;
  readonly #arena: Arena;
  readonly #ipv4: LpmTable | undefined;
  readonly #ipv6: LpmTable | undefined;
  readonly #flows: FlowTable | undefined;
  #open = true;

  /** @throws VirtioError ENOMEM */
  constructor(arena: Arena, kernels: FlowHash, options: RouterOptions = {}) {
    const { flows = 0, nodes = 256, prefixes = true } = options;
    this.#arena = arena;
    this.offset = arena.allocateOwn(ROUTER_BYTES, 'a router');
    try {
      if (prefixes) {
        this.#ipv4 = new LpmTable(arena, { addressBytes: 4, nodes });
        this.#ipv6 = new LpmTable(arena, { addressBytes: 16, nodes });
      }
      if (flows !== 0) this.#flows = new FlowTable(arena, kernels, flows);
    } catch (error) {
      this.close();
      throw error;
    }
    const set = (field: number, value: number | undefined): void => {
      arena.views.u32[(this.offset + field) >>> 2] = value ?? 0;
    };
    set(ROUTER_IPV4, this.#ipv4?.offset);
    set(ROUTER_IPV6, this.#ipv6?.offset);
    set(ROUTER_FLOWS, this.#flows?.offset);
  }

  /** Lets a port take part; routes to ports that do not are as if there were none. @throws RangeError */
  addPort(port: number, { output, source, destination }: RouterPort): void {
    if (!Number.isInteger(port) || port < 0 || port >= ROUTER_PORT_LIMIT) {
      throw new RangeError(`port ${String(port)}: a router knows ports 0..${String(ROUTER_PORT_LIMIT - 1)}`);
    }
    if (!Number.isInteger(output) || output < 0 || output >= ROUTER_PORT_LIMIT) throw new RangeError(`output ${String(output)}: use 0..63`);
    const entry = this.offset + ROUTER_PORTS + port * ROUTER_PORT_BYTES;
    this.#arena.views.u8.set(destination, entry + ROUTER_PORT_ADDRESSES);
    this.#arena.views.u8.set(source, entry + ROUTER_PORT_ADDRESSES + 6);
    Atomics.store(this.#arena.views.i32, (entry + ROUTER_PORT_OUTPUT) >>> 2, output + 1);
  }

  /**
   * @param destination `198.51.100.0/24`, `2001:db8::/32`
   * @throws RangeError for what is no prefix; VirtioError ENOSPC
   */
  addRoute(destination: string | Prefix, port: number): void {
    const { table, prefix } = this.#tableFor(destination);
    table.add(prefix, port);
  }

  /** Returns whether the route was there. */
  deleteRoute(destination: string | Prefix): boolean {
    const { table, prefix } = this.#tableFor(destination);
    return table.delete(prefix);
  }

  /** @throws RangeError for a router without flows; VirtioError ENOSPC */
  addFlow(flow: Flow, port: number): void {
    this.#flowTable().add(flow, port);
  }

  /** Returns whether the flow was there. */
  deleteFlow(flow: Flow): boolean {
    return this.#flowTable().delete(flow);
  }

  /** No lcore may be using it. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#flows?.close();
    this.#ipv6?.close();
    this.#ipv4?.close();
    this.#arena.own.release(this.offset);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #flowTable(): FlowTable {
    if (this.#flows === undefined) throw new RangeError('this router was made without flows');
    return this.#flows;
  }

  #tableFor(destination: string | Prefix): { readonly table: LpmTable; readonly prefix: Prefix } {
    const prefix = typeof destination === 'string' ? parseRoute(destination) : destination;
    const table = prefix.address.length === 4 ? this.#ipv4 : this.#ipv6;
    if (table === undefined) throw new RangeError('this router was made without prefixes');
    return { table, prefix };
  }
}

function parseRoute(text: string): Prefix {
  const prefix = parsePrefix(text);
  if (prefix === undefined) throw new RangeError(`route ${text}: expected a prefix, as in 198.51.100.0/24 or 2001:db8::/32`);
  return prefix;
}
