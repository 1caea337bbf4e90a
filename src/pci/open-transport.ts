/**
 * From the address of a virtio network card to its transport: by what holds it, and by what it is.
 * @module
 */
import type { VirtioTransport } from '../backend/virtio-transport.ts';
import type { Arena } from '../memory/arena.ts';
import { accessTo } from './binding.ts';
import type { IovaMode, PciFunction } from './pci-function.ts';
import { readPciDevice } from './sysfs.ts';
import { SysfsFunction } from './sysfs-function.ts';
import { VfioFunction } from './vfio-function.ts';
import { VirtioLegacy } from './virtio-legacy.ts';
import { VirtioModern } from './virtio-modern.ts';

function openFunction(arena: Arena, address: string, iovaMode: IovaMode | undefined): PciFunction {
  const { device, by } = accessTo(address, readPciDevice(address));
  return by === 'vfio' ? new VfioFunction({ arena, device, iovaMode }) : new SysfsFunction({ arena, device, iovaMode });
}

/**
 * @param address `0000:00:10.0`
 * @throws VirtioError with what to do, when the device is not there, not virtio's, or not this process's to have
 */
export async function openPciTransport(arena: Arena, address: string, iovaMode?: IovaMode): Promise<VirtioTransport> {
  const pci = openFunction(arena, address, iovaMode);
  try {
    return (await VirtioModern.open(pci)) ?? (await VirtioLegacy.open(pci));
  } catch (error) {
    await pci.close();
    throw error;
  }
}
