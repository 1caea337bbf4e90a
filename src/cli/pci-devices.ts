/**
 * Which PCI devices a testpmd takes, by -a, -b and --no-pci; and what is said of those that it does not get, in EAL's words and with the
 * reason.
 * @module
 */
import { deviceIds } from '../pci/binding.ts';
import { isVirtioNet, readPciDevices, type PciDevice } from '../pci/sysfs.ts';
import { isLeftAlone, virtioPci } from '../port/virtio-pci.ts';
import type { Devargs } from '../port/devargs.ts';
import type { EalOptions } from './arguments/eal.ts';

/** What EAL prints before a device is given to its driver. */
function announcement(device: PciDevice): string {
  const { address, numaNode } = device;
  return `EAL: Probe PCI driver: ${virtioPci.name} (${deviceIds(device)}) device: ${address} (socket ${String(numaNode)})`;
}

/**
 * The devices to make ports of, in the order of their addresses; those that -a names and that cannot be any are among them, for the
 * driver to say why.
 * @param devices what the machine has
 * @param warn takes lines for the user
 */
export function selectPciDevices(
  { noPci, allow, block }: Pick<EalOptions, 'noPci' | 'allow' | 'block'>,
  warn: (line: string) => void,
  devices: readonly PciDevice[] = noPci ? [] : readPciDevices(),
): readonly Devargs[] {
  if (noPci) return [];
  const blocked = new Set(block.map(({ name }) => name));
  const named = [...allow].sort((one, other) => (one.name < other.name ? -1 : 1));
  const wanted: readonly Devargs[] =
    allow.length > 0
      ? named
      : devices
          .filter((device) => isVirtioNet(device) && !blocked.has(device.address))
          .map(({ address }) => ({ name: address, text: '', args: [] }));
  return wanted.filter((devargs) => {
    const device = devices.find(({ address }) => address === devargs.name);
    if (device !== undefined && isVirtioNet(device)) warn(announcement(device));
    try {
      return !isLeftAlone(devargs);
    } catch {
      // the driver refuses it, and says which key
      return true;
    }
  });
}

/** What EAL prints of devices whose driver did not take them. */
export function warnOfFailedDevices(
  failed: readonly { readonly text: string; readonly error: Error }[],
  allowed: boolean,
  warn: (line: string) => void,
): void {
  for (const { text, error } of failed) {
    warn(error.message);
    warn(`EAL: Requested device ${text.split(',', 1)[0] ?? text} cannot be used`);
  }
  if (failed.length > 0 && allowed) warn('EAL: Bus (pci) probe failed.');
}
