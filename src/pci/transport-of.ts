/**
 * From a virtio PCI function to its transport, by what it has: the structures of virtio 1.x, or the registers of before.
 * @module
 */
import type { VirtioTransport } from '../backend/virtio-transport.ts';
import type { PciFunction } from './pci-function.ts';
import { VirtioLegacy } from './virtio-legacy.ts';
import { VirtioModern } from './virtio-modern.ts';

/** Takes the function over. @throws VirtioError when it is neither; it is closed then */
export async function transportOf(pci: PciFunction): Promise<VirtioTransport> {
  try {
    return (await VirtioModern.open(pci)) ?? (await VirtioLegacy.open(pci));
  } catch (error) {
    await pci.close();
    throw error;
  }
}
