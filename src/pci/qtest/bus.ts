/**
 * The PCI bus of a machine whose CPU we are: finding functions, numbering the buses behind bridges, sizing and placing BARs. What a
 * machine's firmware does, without one (PCI Local Bus 3.0, 3.2.2.3 and 6.2.5; PCI-to-PCI Bridge 1.2, 3.2).
 * @module
 */
import { VirtioError } from '../../system/error.ts';
import {
  changeCommand,
  PCI_COMMAND,
  PCI_COMMAND_DECODE,
  PCI_COMMAND_INTX_DISABLE,
  PCI_COMMAND_IO,
  PCI_COMMAND_MASTER,
  PCI_COMMAND_MEMORY,
  PCI_DEVICE_ID,
  PCI_VENDOR_ID,
} from '../capabilities.ts';
import type { Registers, Width } from '../pci-function.ts';
import { checkAccess } from '../register-window.ts';
import type { QtestLink } from './protocol.ts';

/** Configuration mechanism #1. */
const CONFIG_ADDRESS = 0xcf8;
const CONFIG_DATA = 0xcfc;
const CONFIG_BYTES = 256;

const PCI_CLASS = 0x0b;
const PCI_HEADER_TYPE = 0x0e;
const HEADER_TYPE_BRIDGE = 1;
const HEADER_MULTI_FUNCTION = 0x80;
const CLASS_BRIDGE = 0x06;
const PCI_BAR_0 = 0x10;
const BARS = 6;
const BRIDGE_BUS_NUMBERS = 0x18;
const BRIDGE_MEMORY_WINDOW = 0x20;
const ABSENT = 0xffff;

const BAR_IO = 0x1;
const BAR_TYPE_64 = 0x4;

/** Between the guest's RAM and its interrupt controllers, on pc and q35 alike. */
const MEMORY_START = 0xe000_0000;
const MEMORY_END = 0xfe00_0000;
/** Above what the chip sets have: power management at 0x600 and 0xb000, hot plug at 0xae00. */
const IO_START = 0xc000;
const IO_END = 0xd000;
/** What each bridge passes on; windows of bridges are whole MiB. */
const BRIDGE_WINDOW = 0x20_0000;
const PAGE = 0x1000;

export interface BusFunction {
  /** `0000:00:04.0` */
  readonly name: string;
  readonly bus: number;
  readonly slot: number;
  readonly vendor: number;
  readonly device: number;
  readonly config: Registers;
}

/** A BAR that has its place. */
export interface PlacedBar {
  readonly kind: 'memory' | 'io';
  readonly address: number;
  readonly bytes: number;
}

function configSpace(link: QtestLink, bus: number, device: number, func: number): Registers {
  const select = 0x8000_0000 + bus * 0x1_0000 + device * 0x800 + func * 0x100;
  // both lines leave at once, so that nobody else's can come between them
  return {
    bytes: CONFIG_BYTES,
    direct: undefined,
    read: async (offset, width) => {
      checkAccess(CONFIG_BYTES, offset, width);
      const [, value] = await Promise.all([
        link.out(CONFIG_ADDRESS, 4, select + (offset & ~3)),
        link.in(CONFIG_DATA + (offset & 3), width),
      ]);
      return value;
    },
    write: async (offset, width, value) => {
      checkAccess(CONFIG_BYTES, offset, width);
      await Promise.all([link.out(CONFIG_ADDRESS, 4, select + (offset & ~3)), link.out(CONFIG_DATA + (offset & 3), width, value)]);
    },
  };
}

/** Registers at an address of the guest. */
export function placedRegisters(link: QtestLink, { kind, address, bytes }: PlacedBar): Registers {
  const check = (offset: number, width: Width): number => {
    checkAccess(bytes, offset, width);
    return address + offset;
  };
  return kind === 'memory'
    ? {
        bytes,
        direct: undefined,
        address,
        read: async (offset, width) => link.read(check(offset, width), width),
        write: async (offset, width, value) => link.write(check(offset, width), width, value),
      }
    : {
        bytes,
        direct: undefined,
        read: async (offset, width) => link.in(check(offset, width), width),
        write: async (offset, width, value) => link.out(check(offset, width), width, value),
      };
}

/** First-fit from one end to the other; what a function had stays taken until the machine ends. */
class Space {
  readonly #what: string;
  readonly #end: number;
  #next: number;

  constructor(what: string, start: number, end: number) {
    this.#what = what;
    this.#next = start;
    this.#end = end;
  }

  /** @param bytes a power of two, to which the place is aligned */
  take(bytes: number, name: string): number {
    const start = Math.ceil(this.#next / bytes) * bytes;
    if (start + bytes > this.#end) {
      throw new VirtioError(`${name}: no ${this.#what} left for a BAR of ${String(bytes)} bytes; start QEMU anew`, { code: 'ENOSPC' });
    }
    this.#next = start + bytes;
    return start;
  }
}

interface Bus {
  readonly memory: Space;
  /** Absent behind bridges: they pass no I/O ports on here. */
  readonly io: Space | undefined;
}

export class PciBus {
  readonly #link: QtestLink;
  readonly #buses = new Map<number, Bus>();
  /** Places by `name/index`: a function that is opened again, or plugged again, finds its own. */
  readonly #places = new Map<string, PlacedBar>();
  /** Bus numbers by the bridge's name: they stay for good. */
  readonly #bridges = new Map<string, number>();

  constructor(link: QtestLink) {
    this.#link = link;
    this.#buses.set(0, {
      memory: new Space('address space below 4 GiB', MEMORY_START, MEMORY_END),
      io: new Space('I/O ports', IO_START, IO_END),
    });
  }

  /** How many buses there are. */
  get count(): number {
    return this.#buses.size;
  }

  /** Every function on bus 0 and behind its bridges. */
  async scan(): Promise<readonly BusFunction[]> {
    const found: BusFunction[] = [];
    for (let bus = 0; bus <= this.#bridges.size; bus++) found.push(...(await this.#scanBus(bus)));
    return found;
  }

  /** Whether a function answers: not once it was unplugged. */
  async isPresent(config: Registers): Promise<boolean> {
    return (await config.read(PCI_VENDOR_ID, 2)) !== ABSENT;
  }

  /**
   * Takes a function away from whoever had it: no access to its BARs, none of its own to memory.
   */
  silence(config: Registers): Promise<void> {
    return changeCommand(config, 0, PCI_COMMAND_DECODE | PCI_COMMAND_MASTER);
  }

  /** Lets a function reach memory, and send messages, or takes that back. */
  letMaster(config: Registers, on: boolean): Promise<void> {
    return changeCommand(config, on ? PCI_COMMAND_MASTER : 0, on ? 0 : PCI_COMMAND_MASTER);
  }

  /** Sizes the BARs of a function, places and opens them; the one of `elsewhere` at the address given there, which its driver chose. */
  async placeBars(
    { name, bus, config }: BusFunction,
    elsewhere?: { readonly index: number; readonly address: number },
  ): Promise<ReadonlyMap<number, PlacedBar>> {
    const spaces = this.#buses.get(bus);
    if (spaces === undefined) throw new VirtioError(`${name}: bus ${String(bus)} has not been numbered`, { code: 'ENODEV' });
    await this.silence(config);
    const placed = new Map<number, PlacedBar>();
    for (let index = 0; index < BARS; index++) {
      const register = PCI_BAR_0 + 4 * index;
      await config.write(register, 4, 0xffff_ffff);
      const low = await config.read(register, 4);
      if (low === 0) continue;
      const isIo = (low & BAR_IO) !== 0;
      const is64 = !isIo && (low & 0x6) === BAR_TYPE_64;
      let bytes = (~(low & (isIo ? ~0x3 : ~0xf)) >>> 0) + 1;
      if (is64) {
        await config.write(register + 4, 4, 0xffff_ffff);
        const high = await config.read(register + 4, 4);
        bytes = (~high >>> 0) * 2 ** 32 + bytes;
      }
      // an I/O BAR may leave its upper half to be zero
      if (isIo) bytes &= 0xffff;
      const bar = this.#place(name, index, isIo ? 'io' : 'memory', bytes, spaces, elsewhere);
      if (bar !== undefined) placed.set(index, bar);
      await config.write(register, 4, (bar?.address ?? 0) >>> 0);
      if (is64) await config.write(register + 4, 4, Math.floor((bar?.address ?? 0) / 2 ** 32));
      if (is64) index++;
    }
    const io = [...placed.values()].some(({ kind }) => kind === 'io') ? PCI_COMMAND_IO : 0;
    await changeCommand(config, PCI_COMMAND_MEMORY | io, PCI_COMMAND_INTX_DISABLE);
    return placed;
  }

  #place(
    name: string,
    index: number,
    kind: 'memory' | 'io',
    bytes: number,
    spaces: Bus,
    elsewhere: { readonly index: number; readonly address: number } | undefined,
  ): PlacedBar | undefined {
    if (elsewhere?.index === index) return { kind, address: elsewhere.address, bytes };
    const key = `${name}/${String(index)}`;
    const before = this.#places.get(key);
    if (before?.kind === kind && before.bytes === bytes) return before;
    const space = spaces[kind];
    if (space === undefined) return undefined;
    // a page at least: what QEMU maps finer than that is slow
    const place = { kind, address: space.take(kind === 'memory' ? Math.max(bytes, PAGE) : bytes, name), bytes };
    this.#places.set(key, place);
    return place;
  }

  async #scanBus(bus: number): Promise<BusFunction[]> {
    const devices = Array.from({ length: 32 }, (_, device) => device);
    const ids = await Promise.all(devices.map((device) => configSpace(this.#link, bus, device, 0).read(PCI_VENDOR_ID, 2)));
    const found: BusFunction[] = [];
    for (const device of devices.filter((index) => ids[index] !== ABSENT)) {
      const multiple = ((await configSpace(this.#link, bus, device, 0).read(PCI_HEADER_TYPE, 1)) & HEADER_MULTI_FUNCTION) !== 0;
      for (let func = 0; func < (multiple ? 8 : 1); func++) {
        const config = configSpace(this.#link, bus, device, func);
        const vendor = await config.read(PCI_VENDOR_ID, 2);
        if (vendor === ABSENT) continue;
        const name = `0000:${hex(bus)}:${hex(device)}.${String(func)}`;
        found.push({ name, bus, slot: device, vendor, device: await config.read(PCI_DEVICE_ID, 2), config });
        const isBridge = ((await config.read(PCI_HEADER_TYPE, 1)) & 0x7f) === HEADER_TYPE_BRIDGE;
        if (isBridge) await this.#numberBridge(name, config);
        // an earlier driver of this machine may have left it running
        else if ((await config.read(PCI_CLASS, 1)) !== CLASS_BRIDGE && !this.#isPlaced(name)) await this.silence(config);
      }
    }
    return found;
  }

  #isPlaced(name: string): boolean {
    return [...this.#places.keys()].some((key) => key.startsWith(`${name}/`));
  }

  /** Bridges are all on bus 0: root ports. One behind another is not looked behind. */
  async #numberBridge(name: string, config: Registers): Promise<void> {
    if (this.#bridges.has(name) || !name.startsWith('0000:00:')) return;
    const number = this.#bridges.size + 1;
    this.#bridges.set(name, number);
    const start = this.#bus0.take(BRIDGE_WINDOW, name);
    this.#buses.set(number, { memory: new Space('address space behind the bridge', start, start + BRIDGE_WINDOW), io: undefined });
    await config.write(BRIDGE_BUS_NUMBERS, 4, number * 0x1_0000 + number * 0x100);
    const limit = start + BRIDGE_WINDOW - 1;
    await config.write(BRIDGE_MEMORY_WINDOW, 4, ((limit & 0xfff0_0000) | ((start >>> 16) & 0xfff0)) >>> 0);
    await config.write(PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
  }

  get #bus0(): Space {
    const bus = this.#buses.get(0);
    if (bus === undefined) throw new Error('bus 0 is always there');
    return bus.memory;
  }
}

function hex(value: number): string {
  return value.toString(16).padStart(2, '0');
}
