/**
 * The course of a program: its command line answered, or announced and run; and the environment that it runs in, which is its main
 * lcore's thread, memory, kernels, and what ports are opened with.
 * @module
 */
import { Arena } from '../memory/arena.ts';
import type { WorkerLcores } from '../lcore/lcores.ts';
import type { PortContext } from '../port/context.ts';
import type { Devargs } from '../port/devargs.ts';
import { driverNames, memoryDemand } from '../port/drivers.ts';
import { loadKernels, prepareKernels, type KernelTarget } from '../ring/kernels.ts';
import { availableCpus, numaNodes, onlineCpus, pinThread } from '../system/cpu.ts';
import { VirtioError } from '../system/error.ts';
import type { Answered } from './arguments/answered.ts';
import type { EalContext, EalOptions } from './arguments/eal.ts';
import type { Lcore } from './arguments/lcores.ts';
import { isLogged } from './arguments/log-level.ts';
import { Closers, fatal, say, warn } from './eal.ts';
import { selectPciDevices } from './pci-devices.ts';
import { planMemory, type MemoryPlan, type MemoryWish } from './testpmd-memory.ts';
import { versionText } from './version.ts';

/** A command line that can be run. */
export interface Runnable {
  readonly kind: 'run';
  readonly eal: EalOptions;
  /** Lines for stderr. */
  readonly notices: readonly string[];
}

/**
 * Reads a command line and does what it says; resolves with the exit status.
 * @param run what it opens is closed by `cleanup`, whether it throws or not
 */
export async function runProgram<Run extends Runnable>(
  programName: string,
  parse: (context: EalContext) => Run | Answered,
  run: (parsed: Run, cleanup: Closers) => Promise<number>,
): Promise<number> {
  const presentCpus = Array.from({ length: onlineCpus() }, (_, cpu) => cpu);
  const parsed = parse({ programName, availableCpus: availableCpus(), presentCpus, drivers: driverNames });
  if (parsed.kind === 'help') {
    say(parsed.text);
    return parsed.exitStatus;
  }
  warn(`EAL: Detected CPU lcores: ${String(onlineCpus())}`);
  warn(`EAL: Detected NUMA nodes: ${String(numaNodes())}`);
  if (parsed.kind === 'failure') {
    say(parsed.usage);
    for (const line of parsed.lines) warn(line);
    return parsed.exitStatus;
  }
  if (parsed.eal.version) warn(`EAL: RTE Version: '${versionText()}'`);
  for (const line of parsed.notices) warn(line);
  await using cleanup = new Closers();
  try {
    return await run(parsed, cleanup);
  } catch (error) {
    return fatal(error);
  }
}

export interface EnvironmentWish extends Pick<MemoryWish, 'mbufs' | 'mbufSize' | 'cacheSize'> {
  readonly eal: EalOptions;
  /** Whether an lcore forwards. */
  readonly forwards: (lcore: Lcore) => boolean;
  /** Bytes of own memory that the program takes for itself. */
  readonly ownBytes?: number;
  readonly signal: AbortSignal;
}

export interface ProgramEnvironment {
  readonly memory: MemoryPlan;
  readonly arena: Arena;
  readonly context: PortContext;
  readonly pciDevices: readonly Devargs[];
  /** What lcores are launched with. */
  readonly launching: {
    readonly arena: Arena;
    readonly target: KernelTarget;
    readonly main: Lcore;
    readonly forwarding: readonly Lcore[];
  };
  /** The lcores are there: grace periods wait for them from now on. */
  readonly setLcores: (lcores: WorkerLcores) => void;
}

/** Pins the main lcore and takes the memory; `cleanup` gives it back. @throws VirtioError ENOMEM */
export async function openEnvironment(wish: EnvironmentWish, cleanup: Closers): Promise<ProgramEnvironment> {
  const { eal, signal } = wish;
  const main = eal.lcores.find(({ id }) => id === eal.mainLcore);
  if (main === undefined) throw new VirtioError(`main lcore ${String(eal.mainLcore)} is not among the lcores`, { code: 'EINVAL' });
  const forwarding = eal.lcores.filter(wish.forwards);
  pinThread(main.cpus);
  const pciDevices = selectPciDevices(eal, warn);
  const memory = planMemory({
    ports: pciDevices.length + eal.vdevs.length,
    forwardingLcores: forwarding.length,
    mbufs: wish.mbufs,
    mbufSize: wish.mbufSize,
    cacheSize: wish.cacheSize,
    memoryMb: eal.memoryMb,
  });
  const arena = openArena(eal, { bytes: memory.bytes, ownBytes: memory.ownBytes + (wish.ownBytes ?? 0) }, cleanup);
  const target = eal.maxSimdBitwidth === 64 ? 'javascript' : 'wasm';
  await prepareKernels(target);
  let lcores: WorkerLcores | undefined;
  return {
    memory,
    arena,
    context: {
      arena,
      main: loadKernels(target, arena),
      gracePeriod: () => lcores?.gracePeriod() ?? Promise.resolve(),
      log: warn,
      logInfo: (type, text) => {
        if (isLogged(eal.logLevels, type, 'info')) warn(text);
      },
      signal,
      iovaMode: eal.iovaMode,
    },
    pciDevices,
    launching: { arena, target, main, forwarding },
    setLcores: (launched) => {
      lcores = launched;
    },
  };
}

function openArena(eal: EalOptions, { bytes, ownBytes }: Pick<MemoryPlan, 'bytes' | 'ownBytes'>, cleanup: Closers): Arena {
  const demand = memoryDemand(eal.vdevs);
  const arena = new Arena({
    bytes,
    ownBytes,
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
