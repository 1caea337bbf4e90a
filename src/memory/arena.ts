/**
 * The arena: one shared WebAssembly.Memory that holds everything a kernel touches, addressed by u32 byte offsets.
 *
 *     0          64 KiB                                                                       end
 *     | never used | own: states, mbufs' metadata | published: rings, packet buffers | window: memory of peers |
 *                    a memory file of our own       a memory file that peers map       files of peers, or no access
 *
 * What decides where a kernel writes next lies in the own part, which no peer can reach. The published part is a single
 * file and so a single vhost memory region; offset and address inside it differ by a constant (`publishedAddress`).
 *
 * Why a WebAssembly.Memory: it is the only object whose bytes WebAssembly, JavaScript on every thread and, by
 * mmap(MAP_FIXED), huge pages and other processes' memory can share at the same offsets.
 * @module
 */
import { fstatSync, openSync, statSync, unlinkSync } from 'node:fs';
import { guardFromBusErrors } from '../system/bus-error.ts';
import { closeFd } from '../system/event-fd.ts';
import { VirtioError } from '../system/error.ts';
import { errnoText } from '../system/ffi.ts';
import { filePageSize, hugeMountAt, hugePagePools } from '../system/hugepages.ts';
import {
  addFileSeals,
  addressOf,
  createMemoryFile,
  F_SEAL_GROW,
  F_SEAL_SHRINK,
  lockFile,
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_NORESERVE,
  MAP_POPULATE,
  MAP_PRIVATE,
  MAP_SHARED,
  mapMemory,
  PROT_NONE,
  PROT_READ_WRITE,
  resizeFile,
  unlockFile,
} from '../system/memory-map.ts';
import { Zone } from './zone.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;
const WASM_PAGE = 64 * KIB;
/** Offsets below this one are never used: 0 means "none" everywhere. */
const FIRST_OFFSET = WASM_PAGE;
const HUGE_PAGE = 2 * MIB;
/** V8's limit for one memory. */
const MEMORY_LIMIT = 4 * GIB - WASM_PAGE;

export interface ArenaOptions {
  /** Bytes for rings and packet buffers; rounded up to whole pages. Default 64 MiB. */
  readonly bytes?: number;
  /** Bytes for states and metadata of mbufs; rounded up to 2 MiB. Default 8 MiB. */
  readonly ownBytes?: number;
  /** Bytes of address space for the memory of vhost-user peers. Default 2 GiB; less, with a warning, where the system refuses. */
  readonly peerBytes?: number;
  /**
   * Page size in bytes (4096, 2097152, 1073741824), or `auto`: the smallest huge pages that suffice, else 4 KiB pages
   * with one warning. Default `auto`.
   */
  readonly pageSize?: number | 'auto';
  /** Directory of a mounted hugetlbfs; page size and quota follow the mount. */
  readonly hugeDirectory?: string | undefined;
  /**
   * A file to have the published part in, for somebody who has mapped the whole of it (QEMU's guest memory): its offset in the file is its
   * offset in the arena. Default: a file of the arena's own.
   */
  readonly publishedPath?: string | undefined;
  /** Prefix of the names under which the memory shows in /proc and on hugetlbfs. Default `rte`. */
  readonly filePrefix?: string;
  /** Takes warnings; default: process.emitWarning. */
  readonly warn?: (message: string) => void;
}

/** What another thread needs to see the arena; travels by postMessage. */
export interface ArenaShare {
  readonly memory: object;
  readonly base: number;
}

/** The published part, as a device is told of it. */
export interface PublishedRegion {
  /** Arena offset of its first byte. */
  readonly guestAddress: number;
  readonly bytes: number;
  /** Address of its first byte in this process. */
  readonly userAddress: number;
  /** Where it begins in its file. */
  readonly fileOffset: number;
}

/** Typed views of the whole arena, for this thread. */
export interface ArenaViews {
  readonly u8: Uint8Array;
  readonly u16: Uint16Array;
  readonly u32: Uint32Array;
  readonly i32: Int32Array;
  readonly data: DataView;
}

function viewsOf(memory: WebAssembly.Memory): ArenaViews {
  const buffer = memory.buffer;
  return hideFromPrinters({
    u8: new Uint8Array(buffer),
    u16: new Uint16Array(buffer),
    u32: new Uint32Array(buffer),
    i32: new Int32Array(buffer),
    data: new DataView(buffer),
  });
}

/**
 * Makes the properties of an object that holds views of an arena non-enumerable: whoever prints an object goes through every element of
 * what it finds in it, and an arena has parts that must not be read.
 */
export function hideFromPrinters<Holder extends object>(holder: Holder, names: readonly string[] = Object.keys(holder)): Holder {
  for (const name of names) Object.defineProperty(holder, name, { enumerable: false });
  return holder;
}

function roundUp(value: number, step: number): number {
  return Math.ceil(value / step) * step;
}

interface PageChoice {
  readonly pageSize: number;
  readonly directory: string | undefined;
}

function choosePages(bytes: number, options: ArenaOptions, warn: (message: string) => void): PageChoice {
  if (options.hugeDirectory !== undefined) {
    const mount = hugeMountAt(options.hugeDirectory);
    return { pageSize: mount.pageSize, directory: mount.directory };
  }
  if (options.publishedPath !== undefined) {
    const pageSize = filePageSize(options.publishedPath);
    if (pageSize !== undefined && pageSize > 4 * KIB) {
      // a huge page's place in the file would have to be one in the arena as well, whose base V8 chooses
      throw new VirtioError(`${options.publishedPath} is on hugetlbfs; the file must have pages of 4 KiB (in /dev/shm, for one)`, {
        code: 'EINVAL',
      });
    }
    return { pageSize: 4 * KIB, directory: undefined };
  }
  const wanted = options.pageSize ?? 'auto';
  if (wanted !== 'auto') {
    if (![4 * KIB, 2 * MIB, GIB].includes(wanted)) {
      throw new RangeError(`pageSize ${String(wanted)}: use 4096, 2097152, 1073741824 or 'auto'`);
    }
    return { pageSize: wanted, directory: undefined };
  }
  const pools = hugePagePools();
  const enough = pools.find(
    (pool) => pool.pageSize >= HUGE_PAGE && pool.free * pool.pageSize >= roundUp(bytes, pool.pageSize) && pool.pageSize <= GIB,
  );
  if (enough !== undefined) return { pageSize: enough.pageSize, directory: undefined };
  const found = pools
    .map((pool) => `${String(pool.free)} of ${String(pool.total)} pages of ${String(pool.pageSize / KIB)} KiB free`)
    .join(', ');
  warn(
    `not enough huge pages for ${String(Math.ceil(bytes / MIB))} MiB (${found === '' ? 'the kernel has none' : found}): using 4 KiB pages, which are slower. ` +
      `As root: echo ${String(Math.ceil(bytes / HUGE_PAGE) + 16)} > /proc/sys/vm/nr_hugepages, or ask for 4 KiB pages at once: --no-huge, or pageSize: 4096 in the library`,
  );
  return { pageSize: 4 * KIB, directory: undefined };
}

function createMemory(bytes: number): WebAssembly.Memory {
  const pages = Math.ceil(bytes / WASM_PAGE);
  return new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
}

/** Opens the file behind the published part; on hugetlbfs its name is removed at once, so that nothing can stay behind. */
function openPublishedFile(prefix: string, choice: PageChoice): number {
  if (choice.directory === undefined) return createMemoryFile(`${prefix}-dpdk-ts`, choice.pageSize);
  const path = `${choice.directory}/${prefix}map_${String(process.pid)}`;
  try {
    const fd = openSync(path, 'wx+', 0o600);
    unlinkSync(path);
    return fd;
  } catch (cause) {
    throw new VirtioError(
      `--huge-dir ${choice.directory}: cannot create a file there (${cause instanceof Error ? cause.message : String(cause)})`,
      {
        code: 'EACCES',
        cause,
      },
    );
  }
}

/**
 * Opens the file of somebody else, that holds `end` bytes at least.
 * @throws VirtioError when it is not there, no file, too small, or another process has its packets there
 */
function openForeignFile(path: string, end: number): number {
  let fd: number;
  try {
    fd = openSync(path, 'r+');
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? 'EIO';
    throw new VirtioError(`${path}: ${errnoText(code)}; it is the file that QEMU has its memory in`, { code, cause });
  }
  const status = fstatSync(fd);
  const problem = !status.isFile()
    ? `${path} is no file`
    : status.size < end
      ? `${path} has ${String(Math.floor(status.size / MIB))} MiB, and rings and packets need it to have ${String(Math.ceil(end / MIB))}: ` +
        `start QEMU with more, or ask for less with --total-num-mbufs`
      : // two would write over each other's rings
        lockFile(fd)
        ? undefined
        : `another process has its packets in ${path}; end it, or give each QEMU a file of its own`;
  if (problem === undefined) return fd;
  closeFd(fd);
  throw new VirtioError(problem, { code: status.isFile() && status.size >= end ? 'EBUSY' : 'EINVAL' });
}

export class Arena {
  /** Address of offset 0 in this process. */
  readonly base: number;
  /** Page size of the published part in bytes. */
  readonly pageSize: number;
  /** States and metadata that no peer may touch. */
  readonly own: Zone;
  /** Rings and packet buffers, visible to every peer. */
  readonly published: Zone;
  /** Address space for the memory of peers. */
  readonly window: Zone;
  /** Descriptor of the published part's file. */
  readonly publishedFile: number;
  /** Where the published part begins in that file. */
  readonly #fileOffset: number;
  readonly views: ArenaViews;
  readonly #memory: WebAssembly.Memory;
  /** Offset of the counter of faults. */
  readonly #faults: number;
  #guarded = false;
  #unguard: (() => void) | undefined;
  #open = true;

  /**
   * Reserves the address space and maps the pages, at once: a shortage is an error here and not a crash later.
   * @throws VirtioError ENOMEM when address space or pages are missing
   */
  constructor(options: ArenaOptions = {}) {
    const warn = options.warn ?? ((message: string) => process.emitWarning(message));
    const prefix = options.filePrefix ?? 'rte';
    const wantedBytes = options.bytes ?? 64 * MIB;
    const choice = choosePages(wantedBytes + roundUp(options.ownBytes ?? 8 * MIB, HUGE_PAGE), options, warn);
    const align = Math.max(choice.pageSize, HUGE_PAGE);
    const bytes = roundUp(wantedBytes, Math.max(choice.pageSize, WASM_PAGE));
    const ownBytes = roundUp(options.ownBytes ?? 8 * MIB, HUGE_PAGE);
    // the base of the memory is aligned to 64 KiB only, so both parts may have to move up to the next page
    const fixedBytes = FIRST_OFFSET + HUGE_PAGE + ownBytes + align + bytes;
    const wantedPeerBytes = options.peerBytes ?? 2 * GIB;
    if (fixedBytes > MEMORY_LIMIT) {
      throw new VirtioError(
        `${String(Math.ceil(bytes / MIB))} MiB of packet memory do not fit into an arena of 4 GiB; ask for less with -m or --total-num-mbufs`,
        {
          code: 'ENOMEM',
        },
      );
    }
    const peerBytes = Math.min(wantedPeerBytes, MEMORY_LIMIT - fixedBytes);
    this.#memory = Arena.#reserve(fixedBytes, peerBytes, warn);
    this.pageSize = choice.pageSize;
    this.views = viewsOf(this.#memory);
    this.base = addressOf(this.views.u8.subarray(0, 8));

    const ownStart = roundUp(this.base + FIRST_OFFSET, HUGE_PAGE) - this.base;
    const publishedStart = roundUp(this.base + ownStart + ownBytes, align) - this.base;
    const publishedEnd = publishedStart + bytes;
    const windowStart = roundUp(this.base + publishedEnd, HUGE_PAGE) - this.base;
    const windowEnd = Math.floor((this.base + this.views.u8.length) / HUGE_PAGE) * HUGE_PAGE - this.base;
    this.own = new Zone('the memory for states', ownStart, ownStart + ownBytes, this.base);
    this.published = new Zone('the memory for rings and packets (-m)', publishedStart, publishedEnd, this.base);
    this.window = new Zone('the address window for peers (--peer-mem)', windowStart, Math.max(windowStart, windowEnd), this.base);

    this.#fileOffset = options.publishedPath === undefined ? 0 : publishedStart;
    const ownPage = choice.pageSize === HUGE_PAGE && choice.directory === undefined ? HUGE_PAGE : 4 * KIB;
    const ownFile = createMemoryFile(`${prefix}-dpdk-ts-own`, ownPage);
    let publishedFile = -1;
    try {
      resizeFile(ownFile, ownBytes, 'memory for states');
      this.#map('memory for states', ownStart, ownBytes, ownFile, ownPage);
      const what = `${String(bytes / MIB)} MiB of packet memory on pages of ${String(choice.pageSize / KIB)} KiB`;
      if (options.publishedPath === undefined) {
        publishedFile = openPublishedFile(prefix, choice);
        resizeFile(publishedFile, bytes, what);
        // a peer that trusts the size of the file must not be hurt by us, nor we by a peer that cuts it
        if (choice.directory === undefined) addFileSeals(publishedFile, F_SEAL_SHRINK | F_SEAL_GROW);
      } else publishedFile = openForeignFile(options.publishedPath, publishedEnd);
      this.#map(what, publishedStart, bytes, publishedFile, choice.pageSize, this.#fileOffset);
      this.protectWindow(windowStart, this.window.end - windowStart);
    } catch (error) {
      if (publishedFile >= 0) closeFd(publishedFile);
      throw error;
    } finally {
      closeFd(ownFile);
    }
    this.publishedFile = publishedFile;
    this.#faults = this.allocateOwn(4, 'a counter of faults');
  }

  static #reserve(fixedBytes: number, peerBytes: number, warn: (message: string) => void): WebAssembly.Memory {
    let cause: unknown;
    for (let tried = peerBytes; ; tried = Math.floor(tried / 2 / HUGE_PAGE) * HUGE_PAGE) {
      try {
        const memory = createMemory(fixedBytes + tried);
        if (tried < peerBytes) {
          warn(
            `only ${String(tried / MIB)} MiB of address space for the memory of vhost-user peers instead of ${String(peerBytes / MIB)}: the system refused more`,
          );
        }
        return memory;
      } catch (error) {
        cause ??= error;
      }
      if (tried === 0) break;
    }
    throw new VirtioError(
      `the system refused ${String(Math.ceil(fixedBytes / MIB))} MiB of shared memory. Node reserves about 10 GiB of address space for it: ` +
        `raise 'ulimit -v' (unlimited, or at least 12000000) or the container's limit, or ask for less with -m`,
      { code: 'ENOMEM', cause },
    );
  }

  #map(what: string, offset: number, bytes: number, fd: number, pageSize: number, fileOffset = 0): void {
    // ordinary pages come one by one as they are used; huge pages must be there before a store needs them
    const populate = pageSize > 4 * KIB ? MAP_POPULATE : 0;
    try {
      mapMemory(what, this.base + offset, bytes, PROT_READ_WRITE, MAP_SHARED | MAP_FIXED | populate, fd, fileOffset);
    } catch (cause) {
      throw new VirtioError(
        `${what}: too few free huge pages; free some, raise /proc/sys/vm/nr_hugepages, ask for less with -m, or give --no-huge (pageSize: 4096 in the library)`,
        {
          code: 'ENOMEM',
          syscall: 'mmap',
          cause,
        },
      );
    }
  }

  /** Takes away all access to a part of the window. */
  protectWindow(offset: number, bytes: number): void {
    if (bytes <= 0) return;
    mapMemory(
      'address window for peers',
      this.base + offset,
      bytes,
      PROT_NONE,
      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE,
      -1,
      0,
    );
  }

  /**
   * Maps a part of a peer's file into the window.
   * @param offset in the window, from `window.allocate`
   */
  mapPeerFile(what: string, offset: number, bytes: number, fd: number, fileOffset: number): void {
    this.#guardWindow();
    mapMemory(what, this.base + offset, bytes, PROT_READ_WRITE, MAP_SHARED | MAP_FIXED, fd, fileOffset);
  }

  /** How often somebody touched memory in the window that its peer had taken away (a file made shorter); the process goes on. */
  get peerFaults(): number {
    return this.views.u32[this.#faults >>> 2] ?? 0;
  }

  /** From the first file on; an arena without peers needs no handler. */
  #guardWindow(): void {
    if (this.#guarded) return;
    this.#guarded = true;
    const { start, end } = this.window;
    this.#unguard = guardFromBusErrors(this.base + start, end - start, this.base + this.#faults);
  }

  /** Allocates zeroed bytes in the own part. */
  allocateOwn(bytes: number, what: string, align = 64): number {
    const offset = this.own.allocate(bytes, align, what);
    this.views.u8.fill(0, offset, offset + bytes);
    return offset;
  }

  /** Allocates zeroed bytes in the published part. */
  allocatePublished(bytes: number, what: string, align = 64): number {
    const offset = this.published.allocate(bytes, align, what);
    this.views.u8.fill(0, offset, offset + bytes);
    return offset;
  }

  /** The one region that a device is told: guest addresses are arena offsets. */
  get publishedRegion(): PublishedRegion {
    const { start, end } = this.published;
    return { guestAddress: start, bytes: end - start, userAddress: this.base + start, fileOffset: this.#fileOffset };
  }

  /** Whether the published part lies in that file. */
  isPublishedIn(path: string): boolean {
    const [named, ours] = [statSync(path, { throwIfNoEntry: false }), fstatSync(this.publishedFile)];
    return named?.dev === ours.dev && named.ino === ours.ino;
  }

  /** For a Worker's `workerData` or a message. */
  share(): ArenaShare {
    return { memory: this.#memory, base: this.base };
  }

  /** Closes the file. The mapping lives as long as anything refers to the memory; stop every device first. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#unguard?.();
    unlockFile(this.publishedFile);
    closeFd(this.publishedFile);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Views of an arena that another thread made. */
export function viewsOfShare(share: ArenaShare): ArenaViews {
  return viewsOf(share.memory as WebAssembly.Memory);
}
