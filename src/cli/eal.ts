/**
 * What the programs share of their beginning and end, as DPDK's environment abstraction layer does it: the machine announced, memory,
 * the ports of the command line, and all of it given back.
 * @module
 */
import { Arena } from '../memory/arena.ts';
import { parsePciAddress } from '../pci/address.ts';
import type { PortContext } from '../port/context.ts';
import type { Devargs } from '../port/devargs.ts';
import { createPorts, memoryDemand, type FailedPort } from '../port/drivers.ts';
import type { Port } from '../port/port.ts';
import { availableCpus, numaNodes, onlineCpus } from '../system/cpu.ts';
import type { EalOptions } from './arguments/eal.ts';
import { isLogged } from './arguments/log-level.ts';
import { warnOfFailedDevices } from './pci-devices.ts';
import type { MemoryPlan } from './testpmd-memory.ts';
import { versionText } from './version.ts';

export function say(text: string): void {
  process.stdout.write(text);
}

export function warn(line: string): void {
  process.stderr.write(`${line}\n`);
}

/** What drivers log at level info, where --log-level asks for it. */
export function logInfo({ logLevels }: EalOptions): (type: string, text: string) => void {
  return (type, text) => {
    if (isLogged(logLevels, type, 'info')) warn(text);
  };
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

/** CPUs for lcores: those that this process may run on, and all that there are. */
export function machineCpus(): { readonly availableCpus: readonly number[]; readonly presentCpus: readonly number[] } {
  return { availableCpus: availableCpus(), presentCpus: Array.from({ length: onlineCpus() }, (_, cpu) => cpu) };
}

export function announceMachine(): void {
  warn(`EAL: Detected CPU lcores: ${String(onlineCpus())}`);
  warn(`EAL: Detected NUMA nodes: ${String(numaNodes())}`);
}

/** What is said of arguments that can be run. */
export function announceArguments(eal: EalOptions, notices: readonly string[]): void {
  if (eal.version) warn(`EAL: RTE Version: '${versionText()}'`);
  for (const line of notices) warn(line);
}

/** The memory of a program; closed by `cleanup`. @throws VirtioError ENOMEM */
export function openArena(eal: EalOptions, memory: Pick<MemoryPlan, 'bytes' | 'ownBytes'>, cleanup: Closers): Arena {
  const demand = memoryDemand(eal.vdevs);
  const arena = new Arena({
    bytes: memory.bytes,
    ownBytes: memory.ownBytes,
    peerBytes: eal.peerMemMb * 1024 * 1024,
    pageSize: eal.noHuge ? 4096 : (demand.pageSize ?? 'auto'),
    hugeDirectory: demand.pageSize === undefined ? eal.hugeDir : undefined,
    publishedPath: demand.publishedPath,
    filePrefix: eal.filePrefix,
    warn: (message) => {
      warn(`EAL: ${message}`);
    },
  });
  cleanup.defer(() => {
    arena.close();
  });
  return arena;
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
