/**
 * Hot unplug as the guest's firmware sees it: ACPI's registers for it, in QEMU (docs/specs/acpi_pci_hotplug.rst). `device_del` only asks;
 * the device goes when it is ejected here.
 * @module
 */
import type { QtestLink } from './protocol.ts';

export type ChipSet = 'pc' | 'q35';

const REGISTERS = { pc: 0xae00, q35: 0x0cc0 } as const satisfies Readonly<Record<ChipSet, number>>;
/** Bit N: a device in slot N is to go. */
const DOWN = 4;
const EJECT = 8;
const SELECT_BUS = 0x10;
/** Of ports that nobody has: a machine without ACPI hot plug. */
const NOBODY = 0xffff_ffff;

/** A device that is to go. */
export interface RemovalRequest {
  /** Of the buses that devices can be plugged into, as ACPI counts them. */
  readonly bus: number;
  readonly slot: number;
}

/** Devices whose removal was asked for and that have not been ejected yet. @param buses how many there are, at most */
export async function removalRequests(link: QtestLink, chipSet: ChipSet, buses: number): Promise<readonly RemovalRequest[]> {
  const base = REGISTERS[chipSet];
  const requests: RemovalRequest[] = [];
  for (let bus = 0; bus < buses; bus++) {
    const [, down] = await Promise.all([link.out(base + SELECT_BUS, 4, bus), link.in(base + DOWN, 4)]);
    if (down === NOBODY) continue;
    for (let slot = 0; slot < 32; slot++) if (((down >>> slot) & 1) !== 0) requests.push({ bus, slot });
  }
  return requests;
}

/** Whether a request may mean a function: which bus of ACPI's is which of PCI's is known for the root bus of pc only. */
export function mayMean(chipSet: ChipSet, request: RemovalRequest, place: { readonly bus: number; readonly slot: number }): boolean {
  const onRootBus = chipSet === 'pc' && request.bus === 0;
  return request.slot === place.slot && onRootBus === (place.bus === 0);
}

/** Lets the device go. QEMU 7.2 does not survive that while the device works: reset it first. */
export async function eject(link: QtestLink, chipSet: ChipSet, { bus, slot }: RemovalRequest): Promise<void> {
  const base = REGISTERS[chipSet];
  await Promise.all([link.out(base + SELECT_BUS, 4, bus), link.out(base + EJECT, 4, 2 ** slot)]);
}
