/**
 * The memory of one peer: its files mapped into the arena's window, and the table by which kernels translate addresses.
 *
 * Regions that touch in guest addresses are laid side by side and become one entry of the table, so that a buffer may
 * cross from one into the other. Change the table only while no kernel uses it.
 * @module
 */
import { fstatSync } from 'node:fs';
import type { Arena } from '../memory/arena.ts';
import {
  REGION_BYTES,
  REGION_FIRST,
  REGION_GUEST_HIGH,
  REGION_GUEST_LOW,
  REGION_LIMIT,
  REGION_OFFSET,
  REGION_SIZE,
  REGIONS_BYTES,
} from '../ring/queue-layout.ts';
import { VirtioError } from '../system/error.ts';
import { closeFd } from '../system/event-fd.ts';
import type { MemoryRegion } from './vhost-user/messages.ts';

const HUGE_PAGE = 2 * 1024 * 1024;
const ADDRESS_LIMIT = 1n << 64n;

/** Regions a peer may have at once when it adds them one by one. */
export const PEER_REGION_LIMIT = REGION_LIMIT;

interface HeldRegion extends MemoryRegion {
  readonly fd: number;
  /** How often it was added. */
  times: number;
  readonly pageSize: number;
}

interface PlacedRegion {
  readonly region: HeldRegion;
  /** Arena offset of the region's first byte. */
  readonly offset: number;
}

interface Group {
  readonly start: number;
  readonly bytes: number;
}

function hex(value: bigint): string {
  return `0x${value.toString(16)}`;
}

function describe(region: MemoryRegion): string {
  return `region of ${hex(region.size)} bytes at guest address ${hex(region.guestAddress)}`;
}

function isSame(a: MemoryRegion, b: MemoryRegion): boolean {
  return a.guestAddress === b.guestAddress && a.size === b.size && a.userAddress === b.userAddress;
}

function overlaps(a: MemoryRegion, b: MemoryRegion): boolean {
  return a.guestAddress < b.guestAddress + b.size && b.guestAddress < a.guestAddress + a.size;
}

function isSameFile(fd: number, other: number): boolean {
  try {
    const [one, two] = [fstatSync(fd), fstatSync(other)];
    return one.dev === two.dev && one.ino === two.ino;
  } catch {
    return false;
  }
}

export class PeerMemory {
  /** Arena offset of the kernels' table. */
  readonly table: number;
  readonly #arena: Arena;
  readonly #peer: string;
  #held: readonly HeldRegion[] = [];
  #placed: readonly PlacedRegion[] = [];
  #groups: readonly Group[] = [];
  #open = true;

  /** @param peer how messages name the peer */
  constructor(arena: Arena, peer: string) {
    this.#arena = arena;
    this.#peer = peer;
    this.table = arena.allocateOwn(REGIONS_BYTES, `the memory table of ${peer}`);
  }

  get regions(): readonly MemoryRegion[] {
    return this.#held;
  }

  /**
   * Replaces all regions. Takes over the descriptors, whatever happens.
   * @throws VirtioError EPROTO for a region that cannot be, ENOMEM when the window is too small
   */
  replace(regions: readonly MemoryRegion[], descriptors: readonly number[]): void {
    this.clear();
    if (regions.length !== descriptors.length) {
      for (const fd of descriptors) closeFd(fd);
      throw this.#error(`${String(regions.length)} memory regions came with ${String(descriptors.length)} file descriptors`);
    }
    for (const [index, region] of regions.entries()) this.#hold(region, descriptors[index] ?? -1, descriptors.slice(index + 1));
    this.#place();
  }

  /**
   * Adds one region; takes over its descriptor. QEMU 7.2 adds each once for every queue pair: it is there until it was removed as often.
   */
  add(region: MemoryRegion, fd: number): void {
    const known = this.#held.find((held) => isSame(held, region) && held.fileOffset === region.fileOffset && isSameFile(held.fd, fd));
    if (known !== undefined) {
      closeFd(fd);
      known.times++;
      return;
    }
    if (this.#held.length >= PEER_REGION_LIMIT) {
      closeFd(fd);
      throw this.#error(`more than ${String(PEER_REGION_LIMIT)} memory regions`);
    }
    this.#hold(region, fd, []);
    this.#place();
  }

  /** Takes one region away. */
  remove(region: MemoryRegion): void {
    const found = this.#held.find((held) => isSame(held, region));
    if (found === undefined) throw this.#error(`${describe(region)} is to be removed and is not there`);
    if (--found.times > 0) return;
    this.#held = this.#held.filter((held) => held !== found);
    closeFd(found.fd);
    this.#place();
  }

  /** Arena offset of `bytes` bytes at an address of the peer's process (vhost-user ring addresses), or undefined. */
  translateUser(address: bigint, bytes: number): number | undefined {
    for (const { region, offset } of this.#placed) {
      const distance = address - region.userAddress;
      if (distance >= 0n && distance < region.size && BigInt(bytes) <= region.size - distance) return offset + Number(distance);
    }
    return undefined;
  }

  /** The first region whose file has become too short for it since it was mapped, in words. */
  get missing(): string | undefined {
    for (const region of this.#held) {
      const { size } = fstatSync(region.fd);
      if (region.fileOffset + region.size > BigInt(size)) return `${describe(region)} lost its file (now ${String(size)} bytes)`;
    }
    return undefined;
  }

  /** Unmaps everything and closes the files. */
  clear(): void {
    this.#unplace();
    for (const { fd } of this.#held) closeFd(fd);
    this.#held = [];
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.clear();
    this.#arena.own.release(this.table);
  }

  #error(text: string, code = 'EPROTO'): VirtioError {
    return new VirtioError(`${this.#peer}: ${text}`, { code });
  }

  #hold(region: MemoryRegion, fd: number, others: readonly number[]): void {
    const refuse = (text: string): never => {
      closeFd(fd);
      for (const other of others) closeFd(other);
      throw this.#error(`${describe(region)} ${text}`);
    };
    if (region.size === 0n) refuse('is empty');
    if (region.guestAddress + region.size > ADDRESS_LIMIT || region.userAddress + region.size > ADDRESS_LIMIT) refuse('ends beyond 2^64');
    if (region.fileOffset + region.size > 1n << 62n) refuse(`has an impossible file offset ${hex(region.fileOffset)}`);
    if (this.#held.some((held) => overlaps(held, region))) refuse('overlaps another one');
    let status;
    try {
      status = fstatSync(fd);
    } catch {
      return refuse('came without a usable file descriptor');
    }
    if (!status.isFile()) refuse('came with a descriptor that is no file; does the peer share its memory (share=on, memfd or huge pages)?');
    if (region.fileOffset + region.size > BigInt(status.size)) {
      refuse(
        `is larger than its file (offset ${hex(region.fileOffset)}, file of ${String(status.size)} bytes): touching it would kill the process`,
      );
    }
    this.#held = [...this.#held, { ...region, fd, times: 1, pageSize: Math.max(4096, status.blksize) }];
  }

  #unplace(): void {
    const { u32 } = this.#arena.views;
    u32.fill(0, this.table >>> 2, (this.table + REGIONS_BYTES) >>> 2);
    for (const group of this.#groups) {
      this.#arena.protectWindow(group.start, group.bytes);
      this.#arena.window.release(group.start);
    }
    this.#groups = [];
    this.#placed = [];
  }

  /** Lays all regions into the window, neighbours side by side, and writes the kernels' table. */
  #place(): void {
    this.#unplace();
    const sorted = [...this.#held].sort((a, b) => (a.guestAddress < b.guestAddress ? -1 : 1));
    let run: HeldRegion[] = [];
    for (const region of sorted) {
      const last = run.at(-1);
      if (last !== undefined && !this.#touch(last, region)) {
        this.#placeRun(run);
        run = [];
      }
      run.push(region);
    }
    if (run.length > 0) this.#placeRun(run);
  }

  #touch(a: HeldRegion, b: HeldRegion): boolean {
    const page = BigInt(Math.max(a.pageSize, b.pageSize));
    return a.guestAddress + a.size === b.guestAddress && a.size % page === 0n && a.fileOffset % page === 0n && b.fileOffset % page === 0n;
  }

  #placeRun(run: readonly HeldRegion[]): void {
    const [first] = run;
    if (first === undefined) return;
    const lead = Number(first.fileOffset % BigInt(first.pageSize));
    const total = run.reduce((sum, region) => sum + region.size, 0n) + BigInt(lead);
    const align = Math.max(HUGE_PAGE, ...run.map((region) => region.pageSize));
    let start: number;
    // whole pages of the largest kind: the last mapping fills its page, though its region may end before
    const page = BigInt(Math.max(...run.map((region) => region.pageSize)));
    const bytes = Number((total + page - 1n) / page) * Number(page);
    try {
      start = this.#arena.window.allocate(bytes, align, `${String(Math.ceil(bytes / 1048576))} MiB of ${this.#peer}`);
    } catch (cause) {
      throw new VirtioError(
        `${this.#peer}: shares ${String(Math.ceil(bytes / 1048576))} MiB, and the address window for peers has ${String(Math.floor(this.#arena.window.freeBytes / 1048576))} MiB left; raise --peer-mem`,
        { code: 'ENOMEM', cause },
      );
    }
    this.#groups = [...this.#groups, { start, bytes }];
    let at = start;
    for (const region of run) {
      const slack = Number(region.fileOffset % BigInt(region.pageSize));
      const length = Math.ceil((Number(region.size) + slack) / region.pageSize) * region.pageSize;
      this.#arena.mapPeerFile(`${this.#peer}: ${describe(region)}`, at, length, region.fd, Number(region.fileOffset) - slack);
      this.#placed = [...this.#placed, { region, offset: at + slack }];
      at += Number(region.size) + slack;
    }
    const { u32 } = this.#arena.views;
    const count = u32[this.table >>> 2] ?? 0;
    const entry = (this.table + REGION_FIRST + count * REGION_BYTES) >>> 2;
    u32[entry + (REGION_GUEST_LOW >>> 2)] = Number(first.guestAddress & 0xffff_ffffn);
    u32[entry + (REGION_GUEST_HIGH >>> 2)] = Number(first.guestAddress >> 32n);
    u32[entry + (REGION_SIZE >>> 2)] = Number(total) - lead;
    u32[entry + (REGION_OFFSET >>> 2)] = start + lead;
    u32[this.table >>> 2] = count + 1;
  }
}
