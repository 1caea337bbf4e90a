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
import { transportOf } from './transport-of.ts';
import { VfioFunction } from './vfio-function.ts';

function openFunction(arena: Arena, address: string, iovaMode: IovaMode | undefined): PciFunction {
  const { device, by } = accessTo(address, readPciDevice(address));
  return by === 'vfio' ? new VfioFunction({ arena, device, iovaMode }) : new SysfsFunction({ arena, device, iovaMode });
}

/**
 * @param address `0000:00:10.0`
 * @throws VirtioError with what to do, when the device is not there, not virtio's, or not this process's to have
 */
export async function openPciTransport(arena: Arena, address: string, iovaMode?: IovaMode): Promise<VirtioTransport> {
  return transportOf(openFunction(arena, address, iovaMode));
}
