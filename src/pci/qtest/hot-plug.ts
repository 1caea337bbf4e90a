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

/**
 * Ejects every device whose removal was asked for.
 * @param buses how many buses there are that devices can be plugged into, at most
 * @returns whether there was one
 */
export async function ejectRequested(link: QtestLink, chipSet: ChipSet, buses: number): Promise<boolean> {
  const base = REGISTERS[chipSet];
  let ejected = false;
  for (let bus = 0; bus < buses; bus++) {
    const [, down] = await Promise.all([link.out(base + SELECT_BUS, 4, bus), link.in(base + DOWN, 4)]);
    if (down === 0 || down === NOBODY) continue;
    await Promise.all([link.out(base + SELECT_BUS, 4, bus), link.out(base + EJECT, 4, down)]);
    ejected = true;
  }
  return ejected;
}
