/**
 * What the programs share of their beginning and end, as DPDK's environment abstraction layer does it: what is said, the ports of the
 * command line, and all that was opened given back.
 * @module
 */
import { parsePciAddress } from '../pci/address.ts';
import type { PortContext } from '../port/context.ts';
import type { Devargs } from '../port/devargs.ts';
import { createPorts, type FailedPort } from '../port/drivers.ts';
import type { Port } from '../port/port.ts';
import type { EalOptions } from './arguments/eal.ts';
import { warnOfFailedDevices } from './pci-devices.ts';

export function say(text: string): void {
  process.stdout.write(text);
}

export function warn(line: string): void {
  process.stderr.write(`${line}\n`);
}

/** What rte_exit() prints; returns the exit status. */
export function fatal(error: unknown): 1 {
  warn(`EAL: Error - exiting with code: 1\n  Cause: ${error instanceof Error ? error.message : String(error)}`);
  return 1;
}

/** Closes what was opened, last first. (AsyncDisposableStack is not in Node 20 and 22.) */
export class Closers implements AsyncDisposable {
  readonly #closers: (() => void | Promise<void>)[] = [];

  defer(close: () => void | Promise<void>): void {
    this.#closers.push(close);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const close of this.#closers.reverse()) {
      try {
        await close();
      } catch (error) {
        warn(error instanceof Error ? error.message : String(error));
      }
    }
  }
}

/** The ports of the command line, those that can be had; of the others it is said why not. Closed by `cleanup`. */
export async function probePorts(
  context: PortContext,
  eal: EalOptions,
  pciDevices: readonly Devargs[],
  cleanup: Closers,
): Promise<readonly Port[]> {
  const { ports, failed } = await createPorts(
    context,
    // those of the PCI bus come first
    [...pciDevices, ...eal.vdevs].map(({ name, text }) => (text === '' ? name : `${name},${text}`)),
  );
  cleanup.defer(() => closePorts(ports));
  const isPci = ({ text }: FailedPort): boolean => parsePciAddress(text.split(',', 1)[0] ?? '') !== undefined;
  warnOfFailedDevices(failed.filter(isPci), eal.allow.length > 0, warn);
  const failedVdevs = failed.filter((port) => !isPci(port));
  for (const { text, error } of failedVdevs) {
    warn(error.message);
    warn(`vdev_probe(): failed to initialize ${text.split(',', 1)[0] ?? text} device`);
  }
  if (failedVdevs.length > 0) warn('EAL: Bus (vdev) probe failed.');
  return ports;
}

export async function closePorts(ports: readonly Port[]): Promise<void> {
  for (const port of ports) await port.close();
}
