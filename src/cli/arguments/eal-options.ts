/**
 * The options before `--`: what they are called, what they set, and which of DPDK's have no effect or are refused.
 * @module
 */
import { readPciSelection, readVirtualDevice } from './device.ts';
import type { PciSelection, VirtualDevice } from './device.ts';
import { ealFailure } from './failure.ts';
import { parseCorelist, parseCoremask, parseLcoreMap } from './lcores.ts';
import type { Lcore } from './lcores.ts';
import { parseLogLevel } from './log-level.ts';
import type { LogLevel } from './log-level.ts';
import { decimal, formatRanges, unsigned } from './number.ts';
import type { ArgumentKind, IgnoredOption, Mutable, OptionSpec, RefusedOption } from './option-table.ts';

export type HugeUnlink = 'existing' | 'always' | 'never';

export interface EalOptions {
  /** In ascending order of id; at least one. */
  readonly lcores: readonly Lcore[];
  /** Id of the lcore that does not forward. */
  readonly mainLcore: number;
  /** `-n`: memory channels. Has no effect. */
  readonly channels: number | undefined;
  /** MB for the process's own memory: `-m`, or the sum of `--socket-mem`; undefined leaves it to the memory part. */
  readonly memoryMb: number | undefined;
  /** `--socket-mem` as given, in MB a NUMA node. */
  readonly socketMem: readonly number[] | undefined;
  readonly allow: readonly PciSelection[];
  readonly block: readonly PciSelection[];
  /** In the order given; a name given twice counts once, as last given. */
  readonly vdevs: readonly VirtualDevice[];
  readonly noPci: boolean;
  readonly inMemory: boolean;
  /** `rte` unless given. */
  readonly filePrefix: string;
  readonly hugeDir: string | undefined;
  readonly hugeUnlink: HugeUnlink;
  readonly noHuge: boolean;
  readonly singleFileSegments: boolean;
  readonly logLevels: readonly LogLevel[];
  readonly procType: 'primary' | 'auto';
  /** `-v`: print the version, and go on. */
  readonly version: boolean;
  /** Bits; 64 chooses the JavaScript kernels, 0 is no limit. Undefined when not given. */
  readonly maxSimdBitwidth: number | undefined;
  readonly iovaMode: 'pa' | 'va' | undefined;
  /** `--contig-mem`, of 2015: one contiguous file, which every memory here is. */
  readonly contigMem: boolean;
  /** MB of address space kept for memory that vhost-user peers share. */
  readonly peerMemMb: number;
}

/** What the options of one command line write into. */
export interface EalDraft {
  readonly options: Mutable<EalOptions>;
  /** CPUs that lcores may be put on, ascending. */
  readonly cpus: readonly number[];
  /** Names of the drivers that `--vdev` can name; undefined takes any. */
  readonly drivers: readonly string[] | undefined;
  readonly notices: string[];
  /** Options without effect that were given: some of them exclude each other all the same. */
  readonly ignored: Set<string>;
  /** The option that named the lcores, if one did. */
  lcoreOption: string | undefined;
  /** `-h`. */
  help: boolean;
  /** `--log-level=help`. */
  logHelp: boolean;
  hugeUnlinkGiven: boolean;
}

export type EalOption = OptionSpec<EalDraft>;

/** MB that the 4 GiB arena leaves to peers at most. */
const maxPeerMemMb = 4032;
const maxMb = 0x7fff_ffff;

export const EAL_OPTIONS: readonly EalOption[] = [
  {
    ...supported('required', 'COREMASK', 'lcores, as a hexadecimal mask; see -l'),
    short: 'c',
    apply(draft, value) {
      setLcores(draft, '-c', () => parseCoremask(value, draft.cpus));
      draft.notices.push(`-c ${value}: today's spelling is -l ${formatRanges(draft.options.lcores.map((lcore) => lcore.id))}`);
    },
  },
  {
    ...supported('required', 'CORELIST', 'lcores, as numbers and ranges: 0,2-3; each runs on the CPU of its number'),
    short: 'l',
    apply: (draft, value) => setLcores(draft, '-l', () => parseCorelist(value, draft.cpus)),
  },
  {
    ...supported('required', 'COREMAP', "lcores and the CPUs that they run on: '0@0,1@0', '(0-1)@(0,1)', '1-3@2'"),
    long: 'lcores',
    apply: (draft, value) => setLcores(draft, '--lcores', () => parseLcoreMap(value, draft.cpus)),
  },
  {
    ...supported('required', 'ID', 'the lcore that keeps the command line and does not forward (default: the lowest)'),
    long: 'main-lcore',
    apply(draft, value) {
      const id = decimal(value);
      if (id === undefined || id < 0)
        throw ealFailure(['invalid parameter for --main-lcore'], `--main-lcore ${value}: expected the number of an lcore`);
      draft.options.mainLcore = id;
    },
  },
  {
    ...supported('required', 'CHANNELS', 'memory channels; read for compatibility, without effect'),
    short: 'n',
    apply(draft, value) {
      const channels = decimal(value);
      if (channels === undefined || channels < 1 || channels > 32)
        throw ealFailure(['invalid channel number'], `-n ${value}: expected 1 to 32`);
      draft.options.channels = channels;
    },
  },
  {
    ...supported('required', 'MB', 'memory to take at start, in MB'),
    short: 'm',
    apply(draft, value) {
      const mb = decimal(value);
      if (mb === undefined || mb < 1 || mb > maxMb)
        throw ealFailure(['invalid parameter for -m'], `-m ${value}: expected a number of MB, 1 or more`);
      draft.options.memoryMb = mb;
    },
  },
  {
    ...supported('required', 'MB[,MB...]', 'memory to take at start, one number a NUMA node; their sum is taken'),
    long: 'socket-mem',
    apply(draft, value) {
      const sizes = value.split(',').map((part) => decimal(part) ?? Number.NaN);
      const sum = sizes.reduce((total, size) => total + size, 0);
      if (!sizes.every((size) => size >= 0) || sum < 1 || sum > maxMb) {
        throw ealFailure(
          ['invalid parameters for --socket-mem'],
          `--socket-mem ${value}: expected numbers of MB, 1 or more together, as in --socket-mem 512`,
        );
      }
      draft.options.socketMem = sizes;
      draft.notices.push(`--socket-mem ${value}: today's spelling is -m ${sum}`);
    },
  },
  {
    ...supported('required', 'MB', `address space kept for memory that vhost-user peers share (0 to ${maxPeerMemMb}; default 2048)`),
    long: 'peer-mem',
    own: true,
    apply(draft, value) {
      const mb = decimal(value);
      if (mb === undefined || mb < 0 || mb > maxPeerMemMb) {
        throw ealFailure(['invalid parameter for --peer-mem'], `--peer-mem ${value}: expected a number of MB from 0 to ${maxPeerMemMb}`);
      }
      draft.options.peerMemMb = mb;
    },
  },
  {
    ...supported('required', 'DEVICE', 'use this PCI device, [DOMAIN:]BUS:DEVICE.FUNCTION, and no other; can be repeated'),
    long: 'allow',
    short: 'a',
    apply: (draft, value) => void (draft.options.allow = [...draft.options.allow, readPciSelection('-a', value)]),
  },
  {
    ...supported('required', 'DEVICE', 'leave this PCI device alone; can be repeated, but not together with -a'),
    long: 'block',
    short: 'b',
    apply: (draft, value) => void (draft.options.block = [...draft.options.block, readPciSelection('-b', value)]),
  },
  {
    ...supported('required', 'NAME[,KEY=VALUE...]', 'add a virtual device: DRIVER and a number, then its arguments; can be repeated'),
    long: 'vdev',
    apply(draft, value) {
      const device = readVirtualDevice(value, draft.drivers);
      const others = draft.options.vdevs.filter((other) => other.name !== device.name);
      if (others.length < draft.options.vdevs.length)
        draft.notices.push(`--vdev ${device.name} is given more than once: the last one counts`);
      draft.options.vdevs = [...others, device];
    },
  },
  { ...supported('none', undefined, 'do not look for PCI devices'), long: 'no-pci', apply: (draft) => void (draft.options.noPci = true) },
  {
    ...supported('none', undefined, 'leave no files behind: memory without a name'),
    long: 'in-memory',
    apply: (draft) => void (draft.options.inMemory = true),
  },
  {
    ...supported('required', 'PREFIX', 'name of the files in the huge page directory (default: rte)'),
    long: 'file-prefix',
    apply(draft, value) {
      if (value === '' || value.length > 255)
        throw ealFailure(['Invalid length of --file-prefix option'], `--file-prefix '${value}': expected 1 to 255 characters`);
      const bad = /[%/\0]/.exec(value)?.[0];
      if (bad !== undefined)
        throw ealFailure([`Invalid char, '${bad}', in --file-prefix option`], `--file-prefix ${value}: it becomes part of a file name`);
      draft.options.filePrefix = value;
    },
  },
  {
    ...supported('required', 'DIRECTORY', 'where hugetlbfs is mounted; page size and quota are those of the mount'),
    long: 'huge-dir',
    apply(draft, value) {
      if (value === '' || value.length > 4095)
        throw ealFailure(['Invalid length of --huge-dir option'], `--huge-dir '${value}': expected the path of a directory`);
      draft.options.hugeDir = value;
    },
  },
  {
    ...supported(
      'optional',
      '[=existing|always|never]',
      'when the files in the huge page directory are removed (default: existing; alone: always)',
    ),
    long: 'huge-unlink',
    apply(draft, value) {
      const when = value === '' ? 'always' : value;
      if (when !== 'existing' && when !== 'always' && when !== 'never') {
        throw ealFailure(['invalid --huge-unlink option'], `--huge-unlink=${value}: expected existing, always or never`);
      }
      draft.options.hugeUnlink = when;
      draft.hugeUnlinkGiven = true;
    },
  },
  { ...supported('none', undefined, 'use 4 KB pages'), long: 'no-huge', apply: (draft) => void (draft.options.noHuge = true) },
  {
    ...supported('none', undefined, 'all memory in one file; always so here'),
    long: 'single-file-segments',
    apply: (draft) => void (draft.options.singleFileSegments = true),
  },
  {
    ...supported('required', '[PATTERN:]LEVEL', 'how much is logged, of everything or of the types that match; help lists the levels'),
    long: 'log-level',
    apply(draft, value) {
      if (value === 'help') return void (draft.logHelp = true);
      const { level, warnings } = parseLogLevel(value);
      draft.notices.push(...warnings);
      if (level !== undefined) draft.options.logLevels = [...draft.options.logLevels, level];
    },
  },
  {
    ...supported('required', 'primary|auto', 'type of this process; there are no secondary ones here'),
    long: 'proc-type',
    apply(draft, value) {
      // DPDK compares without regard to case, and so does this.
      const type = value.toLowerCase();
      if (type === 'secondary')
        throw ealFailure(
          ['--proc-type=secondary is not supported'],
          '--proc-type=secondary: memory is not shared with a primary process; expected primary or auto',
        );
      if (type !== 'primary' && type !== 'auto')
        throw ealFailure(['Invalid process type specified'], `--proc-type=${value}: expected primary or auto`);
      draft.options.procType = type;
    },
  },
  {
    ...supported('required', 'pa|va', 'addresses that devices are given: physical or virtual ones'),
    long: 'iova-mode',
    apply(draft, value) {
      if (value !== 'pa' && value !== 'va')
        throw ealFailure(['invalid parameters for --iova-mode'], `--iova-mode=${value}: expected pa or va`);
      draft.options.iovaMode = value;
    },
  },
  {
    ...supported('required', 'BITS', 'widest vectors to use: 64 chooses the JavaScript kernels instead of WebAssembly, 0 sets no limit'),
    long: 'force-max-simd-bitwidth',
    apply(draft, value) {
      const reason = `--force-max-simd-bitwidth=${value}: expected 0, 64, 128, 256, ... 32768`;
      const bits = unsigned(value);
      if (bits === undefined) throw ealFailure(['invalid parameter for --force-max-simd-bitwidth'], reason);
      const powerOfTwo = bits >= 64 && bits <= 32768 && (bits & (bits - 1)) === 0;
      if (bits !== 0 && !powerOfTwo)
        throw ealFailure(['Invalid bitwidth value!', 'invalid parameter for --force-max-simd-bitwidth'], reason);
      draft.options.maxSimdBitwidth = bits;
    },
  },
  {
    ...supported('none', undefined, 'print the version before starting'),
    short: 'v',
    apply: (draft) => void (draft.options.version = true),
  },
  { ...supported('none', undefined, 'print this text'), long: 'help', short: 'h', apply: (draft) => void (draft.help = true) },
  {
    kind: 'older',
    argument: 'none',
    long: 'contig-mem',
    today: '--single-file-segments',
    apply(draft) {
      draft.options.contigMem = true;
      draft.options.singleFileSegments = true;
    },
  },
  ignored('required', undefined, 'r', 'memory ranks are not looked at'),
  ignored('required', 'base-virtaddr', undefined, 'the address of the memory is chosen by the system'),
  ignored('none', 'create-uio-dev', undefined, 'no uio device is created'),
  ignored('optional', 'huge-worker-stack', undefined, 'stacks are those of Node.js'),
  ignored('none', 'legacy-mem', undefined, 'memory is always taken once, at start'),
  ignored('none', 'match-allocations', undefined, 'huge pages are given back all at once, at the end'),
  ignored('required', 'mbuf-pool-ops-name', undefined, 'there is one kind of mempool'),
  ignored('none', 'no-hpet', undefined, 'the HPET is not used'),
  ignored('none', 'no-shconf', undefined, 'there is no shared configuration'),
  ignored('none', 'no-telemetry', undefined, 'there is no telemetry socket'),
  ignored('none', 'telemetry', undefined, 'there is no telemetry socket'),
  ignored('required', 'socket-limit', undefined, 'memory never grows beyond what was taken at start'),
  ignored('required', 'syslog', undefined, 'messages go to stderr'),
  ignored('required', 'trace-bufsz', undefined, 'there are no traces'),
  ignored('required', 'trace-dir', undefined, 'there are no traces'),
  ignored('required', 'trace-mode', undefined, 'there are no traces'),
  ignored('none', 'vmware-tsc-map', undefined, 'time is read from the system'),
  refused('required', undefined, 'd', 'drivers compiled as shared libraries cannot be loaded'),
  refused('required', undefined, 's', 'there are no service cores'),
  refused('required', undefined, 'S', 'there are no service cores'),
  refused('required', 'trace', undefined, 'there are no traces'),
  refused('required', 'vfio-intr', undefined, 'PCI devices are not supported yet'),
  refused('required', 'vfio-vf-token', undefined, 'PCI devices are not supported yet'),
];

function setLcores(draft: EalDraft, option: string, parse: () => Lcore[]): void {
  if (draft.lcoreOption !== undefined) {
    const reason = `${draft.lcoreOption} and ${option} both name the lcores: give one of -c, -l and --lcores, once`;
    throw ealFailure([`Option ${option} is ignored, because (${draft.lcoreOption}) is set!`], reason);
  }
  draft.options.lcores = parse();
  draft.lcoreOption = option;
}

function supported(argument: ArgumentKind, shape: string | undefined, summary: string) {
  return { kind: 'supported', argument, shape, summary } as const;
}

function ignored(argument: ArgumentKind, long: string | undefined, short: string | undefined, why: string): IgnoredOption {
  return { kind: 'ignored', argument, long, short, why };
}

function refused(argument: ArgumentKind, long: string | undefined, short: string | undefined, why: string): RefusedOption {
  return { kind: 'refused', argument, long, short, why };
}
