/**
 * What every port of a process shares: the arena, kernels for the main thread, and the lcores' grace period.
 * @module
 */
import type { Arena } from '../memory/arena.ts';
import type { Interruption } from '../backend/backend.ts';
import type { IovaMode } from '../pci/pci-function.ts';
import type { KernelContext } from '../ring/kernels.ts';

export interface PortContext {
  readonly arena: Arena;
  /** Kernels of the main thread. */
  readonly main: KernelContext;
  /** Resolves when no lcore is still inside a burst that began before the call. At once while no lcore runs. */
  readonly gracePeriod: () => Promise<void>;
  /** Ends waits for peers that do not answer. */
  readonly signal?: Interruption;
  /** Which addresses PCI devices are told; undefined: what each of them needs. */
  readonly iovaMode?: IovaMode | undefined;
  /** Takes lines for the user: what peers do wrong, connections that come and go. */
  readonly log: (text: string) => void;
  /** Takes lines of level info, of DPDK's log type `type` (`pmd.net.virtio.init`); undefined: nobody wants them. */
  readonly logInfo?: ((type: string, text: string) => void) | undefined;
}
