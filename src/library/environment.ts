/**
 * What the ports of an application share: an arena, a pool of mbufs, kernels, and the lcores launched on them.
 *
 * Most applications never make one: the first openPort() does, and the last close() ends it. Packets move between ports
 * without a copy only inside one environment.
 * @module
 */
import { debuglog } from 'node:util';
import { Arena } from '../memory/arena.ts';
import { createMempool, mempoolBytes } from '../memory/mempool.ts';
import { LCORE_SLOTS } from '../memory/mempool-layout.ts';
import type { PortContext } from '../port/context.ts';
import { javascriptKernels } from '../ring/javascript-kernels.ts';
import { loadKernels, provideJavascript, type KernelTarget } from '../ring/kernels.ts';
import { VirtioError } from '../system/error.ts';
import { PacketArena } from './packet-arena.ts';

const MIB = 1024 * 1024;
/** Rings, and states of queues, streams and bursts, beside the pool. */
const RESERVE_PUBLISHED = 8 * MIB;
const RESERVE_OWN = 4 * MIB;

export interface EnvironmentOptions {
  /** Packet buffers. A receive queue takes as many as its ring has descriptors. Default 16384. */
  readonly mbufs?: number;
  /** Bytes of a buffer, 192..65535, its headroom of 128 included; longer packets are chained. Default 2176. */
  readonly mbufSize?: number;
  /** Free buffers that each thread keeps for itself, 0..512. Default 250. */
  readonly cacheSize?: number;
  /** Bytes of memory that peers see: buffers and rings. Default: what the buffers need, and 8 MiB. */
  readonly bytes?: number;
  /** Bytes of a page (4096, 2097152, 1073741824), or `auto`: huge pages where enough are free. Default `auto`. */
  readonly pageSize?: number | 'auto';
  /** Directory of a mounted hugetlbfs to take the pages from. */
  readonly hugeDirectory?: string;
  /**
   * The file that a QEMU has its memory in, to have buffers and rings there: for net_virtio_qtest with `qtest`. Default: a file of the
   * environment's own.
   */
  readonly memoryFile?: string | undefined;
  /** Address space, in bytes, for the memory of vhost-user front-ends; taken, not used. Default 2 GiB. */
  readonly peerBytes?: number;
  /** `javascript` runs the readable twin of the WebAssembly kernels, one environment at a time. Default `wasm`. */
  readonly target?: KernelTarget;
  /** Takes lines about peers: who came, who went, what they did wrong. Default: `NODE_DEBUG=dpdk-ts` shows them. */
  readonly log?: (text: string) => void;
  /** Takes warnings about memory. Default: process.emitWarning. */
  readonly warn?: (message: string) => void;
  /** Ports opened without an environment use this one, until it closes. */
  readonly asDefault?: boolean;
}

/** Something that lives in an environment and is closed with it. */
interface Member {
  close(): Promise<void>;
  /** Ports: has what was sent given back to the pool. */
  takeBackSent?(): void;
}

/** Lcores as the environment knows them. */
interface LcoreGroup extends Member {
  gracePeriod(): Promise<void>;
}

let shared: Environment | undefined;
let javascriptTaken: Environment | undefined;

export class Environment implements AsyncDisposable {
  readonly arena: PacketArena;
  readonly target: KernelTarget;
  /** For drivers: what createPort() of 'dpdk-ts/port' takes. */
  readonly context: PortContext;
  /** Closes by itself with its last port. */
  readonly #closesWithPorts: boolean;
  readonly #ports = new Map<number, Member & { readonly name: string }>();
  readonly #groups = new Set<LcoreGroup>();
  readonly #slots = new Set<number>();
  #opening = 0;
  #closing: Promise<void> | undefined;

  /** @internal */
  constructor(options: EnvironmentOptions, closesWithPorts: boolean) {
    const { mbufs = 16_384, mbufSize = 2176, cacheSize = 250, target = 'wasm' } = options;
    if (options.asDefault === true && shared !== undefined) {
      throw new VirtioError('asDefault: there is a default environment already; close it, and the ports that use it, first', {
        code: 'EBUSY',
      });
    }
    if (target === 'javascript' && javascriptTaken !== undefined) {
      throw new VirtioError('target javascript: another environment has it, and its kernels work on one at a time', { code: 'EBUSY' });
    }
    const needed = mempoolBytes({ count: mbufs, dataRoom: mbufSize, cacheSize });
    const memory = new Arena({
      bytes: options.bytes ?? needed.published + RESERVE_PUBLISHED,
      ownBytes: needed.own + RESERVE_OWN,
      pageSize: options.pageSize ?? 'auto',
      hugeDirectory: options.hugeDirectory,
      publishedPath: options.memoryFile,
      filePrefix: 'node',
      ...(options.peerBytes === undefined ? {} : { peerBytes: options.peerBytes }),
      ...(options.warn === undefined ? {} : { warn: options.warn }),
    });
    try {
      const pool = createMempool(memory, { name: 'mbuf_pool', count: mbufs, dataRoom: mbufSize, cacheSize });
      // both at once: createEnvironment() waits for nothing
      provideJavascript(javascriptKernels);
      const main = loadKernels(target, memory);
      this.arena = new PacketArena(memory, pool, main, () => {
        for (const port of this.#ports.values()) port.takeBackSent?.();
      });
      const debug = debuglog('dpdk-ts');
      this.context = {
        arena: memory,
        main,
        gracePeriod: () => this.#gracePeriod(),
        log: options.log ?? debug,
        logInfo: (_type, text) => {
          debug(text);
        },
      };
    } catch (error) {
      memory.close();
      throw error;
    }
    this.target = target;
    this.#closesWithPorts = closesWithPorts;
  }

  get closed(): boolean {
    return this.#closing !== undefined;
  }

  /** Closes lcores and ports that are still open, then the memory. Later calls wait for the first. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /**
   * A number for a port that is being opened, and a name where it has none; end with addPort() or abandonPort().
   * @throws VirtioError EEXIST for a name in use
   * @internal
   */
  beginPort(name: string): { readonly id: number; readonly name: string } {
    if (this.closed) throw new VirtioError(`${name}: the environment is closed`, { code: 'EBADF' });
    const names = new Set([...this.#ports.values()].map((port) => port.name));
    if (names.has(name)) throw new VirtioError(`${name}: a port of this name is open already`, { code: 'EEXIST' });
    let chosen = name;
    for (let number = 0; !/\d$/.test(name) && (chosen === name || names.has(chosen)); number++) chosen = `${name}${String(number)}`;
    let id = 0;
    while (this.#ports.has(id)) id++;
    // holds the number and the name while the device is looked for
    this.#ports.set(id, { name: chosen, close: () => Promise.resolve() });
    this.#opening++;
    return { id, name: chosen };
  }

  /** @internal */
  addPort(id: number, port: Member & { readonly name: string }): void {
    this.#opening--;
    this.#ports.set(id, port);
  }

  /** @internal */
  async abandonPort(id: number): Promise<void> {
    this.#opening--;
    await this.removePort(id);
  }

  /** @internal */
  async removePort(id: number): Promise<void> {
    this.#ports.delete(id);
    if (this.#closesWithPorts && this.#ports.size === 0 && this.#opening === 0 && !this.closed) await this.close();
  }

  /** @internal */
  addGroup(group: LcoreGroup): void {
    this.#groups.add(group);
  }

  /** @internal */
  removeGroup(group: LcoreGroup, slots: readonly number[]): void {
    this.#groups.delete(group);
    for (const slot of slots) this.#slots.delete(slot);
  }

  /**
   * Cache slots of lcores that are about to run.
   * @throws VirtioError EAGAIN when there are none left
   * @internal
   */
  takeSlots(count: number): readonly number[] {
    const free = Array.from({ length: LCORE_SLOTS - 1 }, (_, index) => index + 1).filter((slot) => !this.#slots.has(slot));
    if (free.length < count) {
      throw new VirtioError(
        `${String(count)} lcores: an environment runs ${String(LCORE_SLOTS - 1)} at a time, ${String(free.length)} more now`,
        {
          code: 'EAGAIN',
        },
      );
    }
    const slots = free.slice(0, count);
    for (const slot of slots) this.#slots.add(slot);
    return slots;
  }

  async #gracePeriod(): Promise<void> {
    await Promise.all([...this.#groups].map((group) => group.gracePeriod()));
  }

  async #close(): Promise<void> {
    const errors: unknown[] = [];
    const attempt = async (member: Member): Promise<void> => {
      try {
        await member.close();
      } catch (error) {
        errors.push(error);
      }
    };
    for (const group of [...this.#groups].reverse()) await attempt(group);
    for (const port of [...this.#ports.values()].reverse()) await attempt(port);
    this.arena.close();
    if (shared === this) shared = undefined;
    if (javascriptTaken === this) javascriptTaken = undefined;
    if (errors.length > 0) throw errors[0];
  }
}

/**
 * Makes an environment that closes by itself with its last port, or only when told to.
 * @internal
 */
export function openEnvironment(options: EnvironmentOptions, closesWithPorts: boolean): Environment {
  if (options.asDefault === true && shared !== undefined) {
    throw new VirtioError('asDefault: there is a default environment already; close it, and the ports that use it, first', {
      code: 'EBUSY',
    });
  }
  if (options.target === 'javascript' && javascriptTaken !== undefined) {
    throw new VirtioError('target javascript: another environment has it, and its kernels work on one at a time', { code: 'EBUSY' });
  }
  const environment = new Environment(options, closesWithPorts);
  if (options.asDefault === true) shared = environment;
  if (options.target === 'javascript') javascriptTaken = environment;
  return environment;
}

/**
 * Makes an environment: pass it to openPort(), or make it the one that ports take by default.
 *
 * ```ts
 * await using environment = createEnvironment({ mbufs: 4096, pageSize: 4096 });
 * const port = await openPort('net_vhost', { iface: '/tmp/vhost.sock', environment });
 * ```
 * @throws RangeError for impossible sizes; VirtioError ENOMEM when memory or address space is missing
 */
export function createEnvironment(options: EnvironmentOptions = {}): Environment {
  return openEnvironment(options, false);
}

/**
 * The environment of ports that name none.
 * @internal
 */
export function defaultEnvironment(): Environment {
  if (shared === undefined || shared.closed) shared = openEnvironment({}, true);
  return shared;
}
