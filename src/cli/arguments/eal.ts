/**
 * Reads the arguments before `--`: those of DPDK's environment abstraction layer.
 * @module
 */
import { EAL_OPTIONS } from './eal-options.ts';
import type { EalDraft, EalOptions } from './eal-options.ts';
import { ealFailure, ealGetoptFailure } from './failure.ts';
import { getopt } from './getopt.ts';
import { defaultLcores } from './lcores.ts';
import { logLevelHelp } from './log-level.ts';
import { optionName } from './option-table.ts';
import { ealUsage } from './usage.ts';

export type { PciSelection, VirtualDevice } from './device.ts';
export type { EalOptions, HugeUnlink } from './eal-options.ts';
export type { Lcore } from './lcores.ts';
export type { LogLevel } from './log-level.ts';

export interface EalContext {
  readonly programName: string;
  /** CPUs that this process may run on; the lcores when none are named. */
  readonly availableCpus: readonly number[];
  /** CPUs that lcores can be put on, where that is more than `availableCpus` (under taskset). */
  readonly presentCpus?: readonly number[] | undefined;
  /** Names of the drivers that `--vdev` can name; any name is taken when absent. */
  readonly drivers?: readonly string[] | undefined;
}

export type ParsedEal =
  | {
      readonly kind: 'options';
      readonly options: EalOptions;
      /** Lines for stderr. */
      readonly notices: readonly string[];
      /** What is left for the application: operands, then everything after `--`. */
      readonly rest: readonly string[];
    }
  | { readonly kind: 'help'; readonly text: string };

/**
 * `argv` is the command line without the program's name.
 * @throws ArgumentFailure when it cannot be run
 */
export function parseEal(argv: readonly string[], context: EalContext): ParsedEal {
  const draft = emptyDraft(context);
  const operands: string[] = [];
  let rest: readonly string[] = [];
  for (const item of getopt(argv, EAL_OPTIONS)) {
    if (item.kind === 'operand') operands.push(item.text);
    else if (item.kind === 'rest') rest = item.words;
    else if (item.kind === 'error') throw ealGetoptFailure(`${context.programName}: ${item.message}`, item.hint);
    else applyOption(draft, item.option, item.value);
    if (draft.help) return { kind: 'help', text: ealUsage(context.programName) };
    if (draft.logHelp) return { kind: 'help', text: logLevelHelp() };
  }
  settleLcores(draft, context);
  checkCombinations(draft);
  const { options } = draft;
  if (options.socketMem !== undefined) options.memoryMb = options.socketMem.reduce((sum, size) => sum + size, 0);
  return { kind: 'options', options, notices: draft.notices, rest: [...operands, ...rest] };
}

function applyOption(draft: EalDraft, option: (typeof EAL_OPTIONS)[number], value: string): void {
  const name = optionName(option);
  switch (option.kind) {
    case 'ignored':
      draft.notices.push(`${name} has no effect: ${option.why}`);
      if (option.long !== undefined) draft.ignored.add(option.long);
      break;
    case 'refused':
      throw ealFailure([`${name} is not supported`], `${name}: ${option.why}`);
    case 'older':
      draft.notices.push(`${name}: today's spelling is ${option.today}`);
      option.apply(draft, value);
      break;
    case 'supported':
      option.apply(draft, value);
      break;
  }
}

function settleLcores(draft: EalDraft, context: EalContext): void {
  const { options } = draft;
  if (draft.lcoreOption === undefined) options.lcores = defaultLcores(context.availableCpus);
  const [first] = options.lcores;
  if (first === undefined) {
    throw ealFailure(['No detected lcore is enabled, please check the core list'], 'this process may run on no CPU');
  }
  if (options.mainLcore === unset) options.mainLcore = first.id;
  else if (!options.lcores.some((lcore) => lcore.id === options.mainLcore)) {
    const ids = options.lcores.map((lcore) => lcore.id).join(',');
    throw ealFailure(['Main lcore is not enabled for DPDK'], `--main-lcore ${options.mainLcore}: the lcores are ${ids}`);
  }
}

/** The pairs that DPDK refuses. */
function checkCombinations(draft: EalDraft): void {
  const { options } = draft;
  const together = (line: string, reason: string) => ealFailure([line], reason);
  const given = (name: string) => draft.ignored.has(name);
  if (options.allow.length > 0 && options.block.length > 0) {
    throw together(
      "Options allow (-a) and block (-b) can't be used at the same time",
      'with -a, every other PCI device is left alone already',
    );
  }
  if (options.memoryMb !== undefined && options.socketMem !== undefined) {
    throw together('Options -m and --socket-mem cannot be specified at the same time', 'both say how much memory to take');
  }
  if (options.socketMem !== undefined && options.noHuge) {
    throw together('Option --socket-mem cannot be specified together with --no-huge', 'with --no-huge, write -m MB');
  }
  if (draft.hugeUnlinkGiven && options.noHuge) {
    throw together('Option --huge-unlink cannot be specified together with --no-huge', 'with --no-huge there are no files of huge pages');
  }
  if (options.singleFileSegments && options.hugeUnlink === 'always' && !options.inMemory) {
    throw together('Option --single-file-segments is not compatible with --huge-unlink', 'leave one of them out');
  }
  if (options.inMemory && options.hugeUnlink === 'never') {
    throw together('Option --in-memory is not compatible with --huge-unlink=never', 'memory without a name has no file to keep');
  }
  if (given('legacy-mem') && options.inMemory) {
    throw together('Option --legacy-mem is not compatible with --in-memory', 'leave --legacy-mem out');
  }
  if (given('legacy-mem') && given('match-allocations')) {
    throw together('Option --legacy-mem is not compatible with --match-allocations', 'leave both out');
  }
  if (options.noHuge && given('match-allocations')) {
    throw together('Option --no-huge is not compatible with --match-allocations', 'leave --match-allocations out');
  }
  if (given('huge-worker-stack') && options.noHuge) {
    throw together('Option --huge-worker-stack cannot be specified together with --no-huge', 'leave --huge-worker-stack out');
  }
}

const unset = -1;

function emptyDraft(context: EalContext): EalDraft {
  return {
    options: {
      lcores: [],
      mainLcore: unset,
      channels: undefined,
      memoryMb: undefined,
      socketMem: undefined,
      allow: [],
      block: [],
      vdevs: [],
      noPci: false,
      inMemory: false,
      filePrefix: 'rte',
      hugeDir: undefined,
      hugeUnlink: 'existing',
      noHuge: false,
      singleFileSegments: false,
      logLevels: [],
      procType: 'primary',
      version: false,
      maxSimdBitwidth: undefined,
      iovaMode: undefined,
      contigMem: false,
      peerMemMb: 2048,
    },
    cpus: [...new Set(context.presentCpus ?? context.availableCpus)].sort((a, b) => a - b),
    drivers: context.drivers,
    notices: [],
    ignored: new Set(),
    lcoreOption: undefined,
    help: false,
    logHelp: false,
    hugeUnlinkGiven: false,
  };
}
