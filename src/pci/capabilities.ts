/**
 * The capability list of a PCI function, and virtio's structures in it (virtio 1.2, 4.1.4). All of it is the device's word: every
 * step of the walk is bounded, and what points elsewhere is an error that names the function.
 * @module
 */
import { VirtioError } from '../system/error.ts';
import type { PciFunction, Registers } from './pci-function.ts';
import { registerWindow } from './register-window.ts';

// PCI Local Bus 3.0, 6.1 and 6.7
export const PCI_VENDOR_ID = 0x00;
export const PCI_DEVICE_ID = 0x02;
export const PCI_COMMAND = 0x04;
export const PCI_STATUS = 0x06;
export const PCI_CAPABILITY_LIST = 0x34;
export const PCI_COMMAND_IO = 0x1;
export const PCI_COMMAND_MEMORY = 0x2;
export const PCI_COMMAND_MASTER = 0x4;
export const PCI_COMMAND_INTX_DISABLE = 0x400;
/** The function answers at its BARs. */
export const PCI_COMMAND_DECODE = PCI_COMMAND_IO | PCI_COMMAND_MEMORY;
const PCI_STATUS_CAPABILITY_LIST = 0x10;
/** Behind the header, and the end of what the list may use. */
const FIRST_CAPABILITY = 0x40;
const CONFIG_BYTES = 0x100;

export const PCI_CAP_ID_VENDOR = 0x09;
export const PCI_CAP_ID_MSIX = 0x11;

export const VIRTIO_PCI_CAP_COMMON_CFG = 1;
export const VIRTIO_PCI_CAP_NOTIFY_CFG = 2;
export const VIRTIO_PCI_CAP_ISR_CFG = 3;
export const VIRTIO_PCI_CAP_DEVICE_CFG = 4;

// struct virtio_pci_cap: u8 cap_vndr, cap_next, cap_len, cfg_type, bar, id, padding[2], le32 offset, length
const CAP_LENGTH = 2;
const CAP_TYPE = 3;
const CAP_BAR = 4;
const CAP_OFFSET = 8;
const CAP_BYTES = 12;
/** struct virtio_pci_notify_cap: le32 notify_off_multiplier behind it. */
const CAP_NOTIFY_MULTIPLIER = 16;
const CAP_SIZE = 16;
const NOTIFY_CAP_SIZE = 20;
/** Larger values of `bar` are reserved, and such a structure is ignored (4.1.4.1). */
const LAST_BAR = 5;

const STRUCTURES: ReadonlyMap<number, { readonly name: string; readonly least: number }> = new Map([
  [VIRTIO_PCI_CAP_COMMON_CFG, { name: 'common configuration', least: 56 }],
  [VIRTIO_PCI_CAP_NOTIFY_CFG, { name: 'notification', least: 2 }],
  [VIRTIO_PCI_CAP_ISR_CFG, { name: 'interrupt status', least: 1 }],
  [VIRTIO_PCI_CAP_DEVICE_CFG, { name: 'device configuration', least: 1 }],
]);

export interface PciCapability {
  readonly id: number;
  /** Where it begins in the configuration space. */
  readonly offset: number;
}

function broken(name: string, text: string): VirtioError {
  return new VirtioError(`${name}: ${text}; the device cannot be used`, { code: 'EPROTO' });
}

/**
 * Every capability in the list's order.
 * @param name of the function, for messages
 * @throws VirtioError EPROTO for a list that loops or leaves the configuration space
 */
export async function readCapabilities(name: string, config: Registers): Promise<readonly PciCapability[]> {
  if (((await config.read(PCI_STATUS, 2)) & PCI_STATUS_CAPABILITY_LIST) === 0) return [];
  const found: PciCapability[] = [];
  // the two lowest bits of every pointer are reserved
  let offset = (await config.read(PCI_CAPABILITY_LIST, 1)) & 0xfc;
  while (offset !== 0) {
    if (offset < FIRST_CAPABILITY) throw broken(name, `its capability list points at 0x${offset.toString(16)}, into the header`);
    if (found.some((capability) => capability.offset === offset)) {
      throw broken(name, `its capability list comes back to 0x${offset.toString(16)} and has no end`);
    }
    const id = await config.read(offset, 1);
    if (id === 0xff) throw broken(name, `there is no capability at 0x${offset.toString(16)} of its list`);
    found.push({ id, offset });
    offset = (await config.read(offset + 1, 1)) & 0xfc;
  }
  return found;
}

/** Sets and clears bits of the command register. */
export async function changeCommand(config: Registers, set: number, clear: number): Promise<void> {
  const command = await config.read(PCI_COMMAND, 2);
  const wanted = (command & ~clear) | set;
  if (wanted !== command) await config.write(PCI_COMMAND, 2, wanted);
}

/** Where a structure of virtio's is: its capability, read and not yet believed. */
interface StructurePlace {
  readonly bar: number;
  readonly offset: number;
  readonly bytes: number;
  readonly multiplier: number;
}

async function readPlace(name: string, config: Registers, at: number, type: number): Promise<StructurePlace> {
  const least = type === VIRTIO_PCI_CAP_NOTIFY_CFG ? NOTIFY_CAP_SIZE : CAP_SIZE;
  const length = await config.read(at + CAP_LENGTH, 1);
  if (length < least || at + least > CONFIG_BYTES) {
    throw broken(name, `its capability at 0x${at.toString(16)} has ${String(length)} bytes, and needs ${String(least)}`);
  }
  return {
    bar: await config.read(at + CAP_BAR, 1),
    offset: await config.read(at + CAP_OFFSET, 4),
    bytes: await config.read(at + CAP_BYTES, 4),
    multiplier: type === VIRTIO_PCI_CAP_NOTIFY_CFG ? await config.read(at + CAP_NOTIFY_MULTIPLIER, 4) : 0,
  };
}

/** Virtio's structures, each a part of a BAR that was checked to lie inside of it. */
export interface VirtioStructures {
  readonly common: Registers;
  readonly notify: Registers;
  /** Bytes between the registers of two queues whose queue_notify_off differs by one (4.1.4.4); 0: they share one. */
  readonly notifyMultiplier: number;
  readonly isr: Registers;
  /** Absent for a device without a configuration of its own. */
  readonly device: Registers | undefined;
}

/**
 * Finds the structures of a modern virtio device.
 * @returns undefined for a device that has none of them: a legacy one
 * @throws VirtioError EPROTO when one is missing, too short, or outside its BAR
 */
export async function findVirtioStructures(pci: PciFunction): Promise<VirtioStructures | undefined> {
  const { name, config } = pci;
  const places = new Map<number, StructurePlace>();
  for (const { id, offset } of await readCapabilities(name, config)) {
    if (id !== PCI_CAP_ID_VENDOR || offset + CAP_TYPE >= CONFIG_BYTES) continue;
    const type = await config.read(offset + CAP_TYPE, 1);
    // the first of a type is the one that the device prefers (4.1.4.1)
    if (!STRUCTURES.has(type) || places.has(type)) continue;
    const place = await readPlace(name, config, offset, type);
    if (place.bar <= LAST_BAR) places.set(type, place);
  }
  if (places.size === 0) return undefined;
  const open = async (type: number): Promise<Registers | undefined> => {
    const place = places.get(type);
    const structure = STRUCTURES.get(type);
    if (place === undefined || structure === undefined) return undefined;
    const what = `${name}: the structure "${structure.name}"`;
    if (place.bytes < structure.least) throw broken(name, `the structure "${structure.name}" has ${String(place.bytes)} bytes only`);
    return registerWindow(what, await pci.bar(place.bar), place.offset, place.bytes);
  };
  const needed = async (type: number): Promise<Registers> => {
    const registers = await open(type);
    if (registers === undefined) throw broken(name, `it has no structure "${STRUCTURES.get(type)?.name ?? ''}"`);
    return registers;
  };
  return {
    common: await needed(VIRTIO_PCI_CAP_COMMON_CFG),
    notify: await needed(VIRTIO_PCI_CAP_NOTIFY_CFG),
    notifyMultiplier: places.get(VIRTIO_PCI_CAP_NOTIFY_CFG)?.multiplier ?? 0,
    isr: await needed(VIRTIO_PCI_CAP_ISR_CFG),
    device: await open(VIRTIO_PCI_CAP_DEVICE_CFG),
  };
}
