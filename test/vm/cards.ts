/**
 * Network cards of QEMU for the test machine, and the virtual IOMMU in front of them.
 * @module
 */
import type { MachineOptions } from './machine.ts';

/** For a card that is to be ours through vfio: it takes part in the IOMMU. */
export const BEHIND_IOMMU = ',iommu_platform=on';
const IOMMU = ['-device', 'intel-iommu,intremap=on,caching-mode=on'];

/**
 * A network card in a slot of the root complex, with an address that ends like the slot.
 * @param more further properties, each after a comma
 */
export function card(slot: string, netdev: string, more = ''): string[] {
  const mac = `02:00:00:00:00:${slot.slice(2, 4)}`;
  return ['-device', `virtio-net-pci,id=nic${slot.slice(2)},netdev=${netdev},addr=${slot},disable-legacy=on,mac=${mac}${more}`];
}

/** The two ends of a wire. */
export function wire(number: number, one: string, other: string): string[] {
  return [one, other].flatMap((id) => ['-netdev', `hubport,id=${id},hubid=${number}`]);
}

/** A machine with an IOMMU, vfio, and a kernel that drives the cards that are left to it. */
export function vfioMachine(qemuArguments: readonly string[], more: Partial<MachineOptions> = {}): Partial<MachineOptions> {
  return {
    qemuArguments: [...IOMMU, ...qemuArguments],
    kernelArguments: 'intel_iommu=on iommu=nopt',
    modules: ['vfio_pci', 'vfio_iommu_type1', 'virtio_net'],
    ...more,
  };
}
