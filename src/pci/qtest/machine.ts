/**
 * One QEMU whose devices are driven from outside: its qtest link, its bus, where our memory is in it, and who of us uses it.
 * @module
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Arena } from '../../memory/arena.ts';
import { VirtioError } from '../../system/error.ts';
import { PciBus, placedRegisters, type BusFunction } from './bus.ts';
import type { Doorbell } from './doorbell.ts';
import { eject, mayMean, removalRequests, type ChipSet, type RemovalRequest } from './hot-plug.ts';
import { MsixTable } from './msix.ts';
import { QtestLink } from './protocol.ts';
import { startQemu, type Qemu, type QemuOptions } from './qemu.ts';
import { QtestFunction, type InterruptMode } from './qtest-function.ts';

const VIRTIO_VENDOR = 0x1af4;
/** Modern, and transitional (virtio 1.2, 4.1.2). */
const VIRTIO_NET_DEVICES = [0x1041, 0x1000];
const IVSHMEM_DEVICE = 0x1110;
const IVSHMEM_MEMORY_BAR = 2;
const HOST_BRIDGE = '0000:00:00.0';
const CHIP_SETS: ReadonlyMap<number, ChipSet> = new Map([
  [0x1237, 'pc'],
  [0x29c0, 'q35'],
]);
/** PIIX3's routes of the four lines, and the inputs of the I/O APIC that they are routed to. */
const PIIX3 = { vendor: 0x8086, device: 0x7000, routes: 0x60, inputs: 0x0b0b_0a0a };
const LINES: Readonly<Record<ChipSet, (line: number) => boolean>> = {
  pc: (line) => line === 10 || line === 11,
  q35: (line) => line >= 16 && line <= 23,
};
const HOT_PLUG_MILLISECONDS = 200;
/** Time for the owner of a device that is to go. */
const LEAVE_MILLISECONDS = 5000;
const PROBE_BYTES = 64;
/** From the end of the link to that of a QEMU that has crashed and leaves a core file. */
const CRASH_MILLISECONDS = 2000;

/** Where the arena's published part is in the guest: in its RAM, or behind ivshmem's BAR 2. */
export type MemoryKind = 'memory' | 'ivshmem';

/** Machines by the path of their sockets: QEMU serves one connection at a time. */
const shared = new Map<string, { readonly kind: MemoryKind; readonly machine: Promise<QtestMachine> }>();

export class QtestMachine {
  readonly name: string;
  readonly arena: Arena;
  readonly link: QtestLink;
  readonly bus: PciBus;
  /** High word of the arena's place in the guest. */
  readonly addressHigh: number;
  readonly #chipSet: ChipSet;
  readonly #qemu: Qemu | undefined;
  #forget: (() => void) | undefined;
  readonly #functions = new Set<QtestFunction>();
  /** Those that are to go and whose owners have been told, with the time when they are ejected in any case. */
  readonly #leaving = new Map<QtestFunction, { readonly request: RemovalRequest; readonly end: number }>();
  #users = 0;
  #hotPlug: NodeJS.Timeout | undefined;
  #looking = false;
  #open = true;

  private constructor(options: {
    readonly name: string;
    readonly arena: Arena;
    readonly link: QtestLink;
    readonly bus: PciBus;
    readonly chipSet: ChipSet;
    readonly addressHigh: number;
    readonly qemu?: Qemu | undefined;
    readonly forget?: (() => void) | undefined;
  }) {
    this.name = options.name;
    this.arena = options.arena;
    this.link = options.link;
    this.bus = options.bus;
    this.addressHigh = options.addressHigh;
    this.#chipSet = options.chipSet;
    this.#qemu = options.qemu;
    this.#forget = options.forget;
    this.link.onGone((reason) => {
      this.#lost(reason);
    });
  }

  /**
   * The machine behind a qtest socket; ports of this process share it. Release it once for every call.
   * @param path of the file that the arena's published part is
   * @throws VirtioError when there is no QEMU, or its memory is not ours
   */
  static async connect(path: string, kind: MemoryKind, arena: Arena): Promise<QtestMachine> {
    const known = shared.get(path);
    if (known !== undefined && known.kind !== kind) {
      throw new VirtioError(`qtest=${path}: another port has that QEMU with ${known.kind}=; give the same`, { code: 'EINVAL' });
    }
    const machine = known?.machine ?? QtestMachine.#connect(path, kind, arena);
    if (known === undefined) shared.set(path, { kind, machine });
    try {
      const connected = await machine;
      connected.#users++;
      return connected;
    } catch (error) {
      if (shared.get(path)?.machine === machine) shared.delete(path);
      throw error;
    }
  }

  static async #connect(path: string, kind: MemoryKind, arena: Arena): Promise<QtestMachine> {
    const link = await QtestLink.connect(path);
    try {
      const { bus, functions, chipSet } = await explore(path, link);
      const addressHigh = kind === 'memory' ? 0 : await placeSharedMemory(path, bus, functions, arena);
      await checkMemory(path, kind, link, arena, addressHigh);
      return new QtestMachine({ name: path, arena, link, addressHigh, bus, chipSet, forget: () => shared.delete(path) });
    } catch (error) {
      link.close();
      throw error;
    }
  }

  /** Starts a QEMU of our own. Release it once. @throws VirtioError with QEMU's own words when it does not start */
  static async start(options: QemuOptions): Promise<QtestMachine> {
    const { arena, name } = options;
    const { guestAddress } = arena.publishedRegion;
    if (guestAddress % arena.pageSize !== 0) {
      throw new VirtioError(
        `${name}: qemu=auto needs packet memory on pages of 4 KiB: name the device on the command line, give --no-huge, or pageSize: 4096 in the library`,
        { code: 'EINVAL' },
      );
    }
    const qemu = startQemu(options);
    try {
      const { bus, functions, chipSet } = await explore(name, qemu.link);
      await checkMemory(name, 'memory', qemu.link, arena, 1);
      const machine = new QtestMachine({ name, arena, link: qemu.link, addressHigh: 1, bus, chipSet, qemu });
      await machine.#attachDoorbell(functions);
      machine.#users++;
      return machine;
    } catch (error) {
      const running = error instanceof VirtioError && error.code !== 'ENODEV';
      await qemu.close();
      if (running) throw error;
      const { how, said } = await qemu.ended;
      const absent = /failed to execute|ENOENT/.test(said) ? ' (Debian: apt-get install qemu-system-x86)' : '';
      throw new VirtioError(`${name}: QEMU does not start: ${said === '' ? `it ${how}` : said}${absent}`, { code: 'ENODEV', cause: error });
    }
  }

  get doorbell(): Doorbell | undefined {
    return this.#qemu?.doorbell;
  }

  /** The process, where it is ours. */
  get pid(): number | undefined {
    return this.#qemu?.pid;
  }

  /**
   * Opens a virtio-net device.
   * @param address `0000:00:04.0`; undefined: the only one that there is
   * @throws VirtioError ENODEV when there is none, or several and none was named; EBUSY when another port has it
   */
  async openNetwork(address: string | undefined, mode: InterruptMode): Promise<QtestFunction> {
    const functions = await this.bus.scan();
    const networks = functions.filter(({ vendor, device }) => vendor === VIRTIO_VENDOR && VIRTIO_NET_DEVICES.includes(device));
    const found = networks.map(({ name }) => name).join(', ');
    const chosen = address === undefined ? networks : networks.filter(({ name }) => name === address);
    const [network] = chosen;
    if (network === undefined || chosen.length > 1) {
      const text =
        networks.length === 0
          ? 'that QEMU has no virtio-net device: -device virtio-net-pci,netdev=...'
          : `${address === undefined ? 'name one of its virtio-net devices with addr=' : `addr=${address} is no virtio-net device`}; there are: ${found}`;
      throw new VirtioError(`${this.name}: ${text}`, { code: 'ENODEV' });
    }
    if ([...this.#functions].some((opened) => opened.name === `${this.name} ${network.name}`)) {
      throw new VirtioError(`${this.name}: another port has ${network.name}; there are: ${found}`, { code: 'EBUSY' });
    }
    return QtestFunction.open(this, network, mode);
  }

  /** A function has been opened. */
  add(opened: QtestFunction): void {
    this.#functions.add(opened);
    this.#hotPlug ??= setInterval(() => {
      void this.#lookForRemovals();
    }, HOT_PLUG_MILLISECONDS).unref();
  }

  /** One has been closed. */
  async remove(closed: QtestFunction): Promise<void> {
    if (!this.#functions.delete(closed)) return;
    const leaving = this.#leaving.get(closed);
    this.#leaving.delete(closed);
    try {
      if (leaving !== undefined) await eject(this.link, this.#chipSet, leaving.request);
    } catch {
      // QEMU has ended
    }
    await this.release();
  }

  async release(): Promise<void> {
    this.#users--;
    if (this.#users > 0 || !this.#open) return;
    this.#open = false;
    clearInterval(this.#hotPlug);
    this.#leaveShared();
    this.link.close();
    await this.#qemu?.close();
  }

  /** Calls `onChange` whenever one of the bus's lines is raised, or all of them are low, until the returned function is called. */
  async watchLine(onChange: (high: boolean) => void): Promise<() => void> {
    const high = new Set<number>();
    return this.link.watchLines((line, raised) => {
      if (!LINES[this.#chipSet](line)) return;
      if (raised) high.add(line);
      else high.delete(line);
      onChange(high.size > 0);
    });
  }

  async #attachDoorbell(functions: readonly BusFunction[]): Promise<void> {
    const { doorbell } = this;
    if (doorbell === undefined) return;
    const found = functions.find(({ vendor, device }) => vendor === VIRTIO_VENDOR && device === IVSHMEM_DEVICE);
    if (found === undefined) throw new VirtioError(`${this.name}: QEMU has no doorbell on its bus`, { code: 'EPROTO' });
    const bars = await this.bus.placeBars(found);
    const open = (index: number): Promise<ReturnType<typeof placedRegisters>> => {
      const bar = bars.get(index);
      if (bar === undefined) throw new VirtioError(`${this.name}: its doorbell has no BAR ${String(index)}`, { code: 'EPROTO' });
      return Promise.resolve(placedRegisters(this.link, bar));
    };
    const table = await MsixTable.find(this.name, found.config, open);
    if (table === undefined) throw new VirtioError(`${this.name}: its doorbell has no MSI-X`, { code: 'EPROTO' });
    await this.bus.letMaster(found.config, true);
    await doorbell.attach({ registers: await open(0), table });
  }

  /** Sees to what `device_del` asked for, and tells of every function that does not answer any more. */
  async #lookForRemovals(): Promise<void> {
    // one look may last longer than the time to the next
    if (this.#looking || !this.#open) return;
    this.#looking = true;
    try {
      for (const request of await removalRequests(this.link, this.#chipSet, this.bus.count)) await this.#remove(request);
      for (const opened of [...this.#functions]) {
        if (!(await this.bus.isPresent(opened.config))) opened.lost(`${opened.name}: the device was unplugged`);
      }
    } catch {
      // the link has ended, which is told by itself
    } finally {
      this.#looking = false;
    }
  }

  /** Has the owner of a device reset and close it, which ejects it; one that nobody has open, or that several may be, goes at once. */
  async #remove(request: RemovalRequest): Promise<void> {
    const [meant, ...others] = [...this.#functions].filter((opened) => mayMean(this.#chipSet, request, opened));
    if (meant === undefined || others.length > 0) {
      await eject(this.link, this.#chipSet, request);
      return;
    }
    const leaving = this.#leaving.get(meant);
    if (leaving === undefined) {
      this.#leaving.set(meant, { request, end: Date.now() + LEAVE_MILLISECONDS });
      meant.lost(`${meant.name}: the device was unplugged`);
    } else if (Date.now() >= leaving.end) await eject(this.link, this.#chipSet, request);
  }

  /** Once: the path may be another machine's later. */
  #leaveShared(): void {
    this.#forget?.();
    this.#forget = undefined;
  }

  #lost(reason: string): void {
    clearInterval(this.#hotPlug);
    this.#leaveShared();
    const tell = (text: string): void => {
      for (const opened of [...this.#functions]) opened.lost(text);
    };
    if (this.#qemu === undefined) tell(reason);
    else void howItEnded(this.#qemu, reason).then(tell);
  }
}

/** The link's reason; and how our own QEMU ended, if it did: a crash has to be told from a link that ended for what was said on it. */
async function howItEnded({ link, ended }: Qemu, reason: string): Promise<string> {
  const end = await Promise.race([ended, sleep(CRASH_MILLISECONDS, undefined, { ref: false })]);
  if (end === undefined) return reason;
  return `${link.peer}: QEMU ${end.how}${end.lastLine === '' ? '' : `: ${end.lastLine}`}`;
}

/** Looks at the bus of a machine that nobody has set up. */
async function explore(
  name: string,
  link: QtestLink,
): Promise<{ readonly bus: PciBus; readonly functions: readonly BusFunction[]; readonly chipSet: ChipSet }> {
  const bus = new PciBus(link);
  const functions = await bus.scan();
  const host = functions.find((found) => found.name === HOST_BRIDGE);
  const chipSet = host === undefined ? undefined : CHIP_SETS.get(host.device);
  if (chipSet === undefined) {
    throw new VirtioError(`${name}: that machine has neither pc's nor q35's host bridge; start QEMU with -M q35 or -M pc`, {
      code: 'ENODEV',
    });
  }
  const piix3 = functions.find(({ vendor, device }) => vendor === PIIX3.vendor && device === PIIX3.device);
  await piix3?.config.write(PIIX3.routes, 4, PIIX3.inputs);
  return { bus, functions, chipSet };
}

/** Places the memory of ivshmem at 4 GiB, so that offsets in the file are the low words of addresses; returns the high word. */
async function placeSharedMemory(name: string, bus: PciBus, functions: readonly BusFunction[], arena: Arena): Promise<number> {
  const found = functions.filter(({ vendor, device }) => vendor === VIRTIO_VENDOR && device === IVSHMEM_DEVICE);
  const [device] = found;
  if (device === undefined || found.length > 1) {
    throw new VirtioError(
      `${name}: ivshmem= needs one ivshmem device in QEMU, which has ${String(found.length)}: -device ivshmem-plain,memdev=...`,
      {
        code: 'ENODEV',
      },
    );
  }
  const bars = await bus.placeBars(device, { index: IVSHMEM_MEMORY_BAR, address: 2 ** 32 });
  const { guestAddress, bytes } = arena.publishedRegion;
  if ((bars.get(IVSHMEM_MEMORY_BAR)?.bytes ?? 0) < guestAddress + bytes) {
    throw new VirtioError(`${name}: the memory of its ivshmem device is smaller than the file that ivshmem= names`, { code: 'EINVAL' });
  }
  return 1;
}

/** What we write must be what the device reads: a wrong file would be silence, and a hole in the guest's memory is not RAM. */
async function checkMemory(name: string, kind: MemoryKind, link: QtestLink, arena: Arena, addressHigh: number): Promise<void> {
  const probe = arena.allocatePublished(PROBE_BYTES, 'a look at the memory of QEMU');
  try {
    const { guestAddress, bytes } = arena.publishedRegion;
    const pattern = Math.floor(Math.random() * 0xffff_fffe) + 1;
    arena.views.u32[probe >>> 2] = pattern;
    const last = guestAddress + bytes - 4;
    const expected = [pattern, arena.views.u32[last >>> 2] ?? 0];
    const [first, end] = await Promise.all([probe, last].map((offset) => link.read(addressHigh * 2 ** 32 + offset, 4)));
    if (first === expected[0] && end === expected[1]) return;
  } finally {
    arena.published.release(probe);
  }
  throw new VirtioError(
    kind === 'memory'
      ? `${name}: memory= is not the RAM of that QEMU: -object memory-backend-file,id=m0,mem-path=FILE,share=on,size=... -machine memory-backend=m0`
      : `${name}: ivshmem= is not the memory of its ivshmem device: -object memory-backend-file,id=m1,mem-path=FILE,share=on,size=...`,
    { code: 'EINVAL' },
  );
}
