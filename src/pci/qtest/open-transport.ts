/**
 * From what the user says of a QEMU to the transport of a virtio-net device inside it.
 * @module
 */
import type { VirtioTransport } from '../../backend/virtio-transport.ts';
import type { Arena } from '../../memory/arena.ts';
import { transportOf } from '../transport-of.ts';
import { QtestMachine, type MemoryKind } from './machine.ts';
import type { QemuOptions } from './qemu.ts';
import type { InterruptMode } from './qtest-function.ts';

/** Which QEMU: one that somebody runs, or one of our own. */
export type QtestTarget =
  | { readonly kind: 'socket'; readonly path: string; readonly memory: MemoryKind }
  | { readonly kind: 'start'; readonly options: QemuOptions };

/**
 * @param address `0000:00:04.0`; undefined: the only virtio-net device that there is
 * @throws VirtioError with what to do, when there is no QEMU, no such device in it, or its memory is not ours
 */
export async function openQtestTransport(
  arena: Arena,
  target: QtestTarget,
  address: string | undefined,
  mode: InterruptMode,
): Promise<VirtioTransport> {
  const machine =
    target.kind === 'start' ? await QtestMachine.start(target.options) : await QtestMachine.connect(target.path, target.memory, arena);
  const pci = await machine.openNetwork(address, mode).catch(async (error: unknown) => {
    await machine.release();
    throw error;
  });
  return transportOf(pci);
}
