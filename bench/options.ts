/**
 * The benchmark's command line.
 * @module
 */
import { Command, InvalidArgumentError, Option } from 'commander';
import { ALL_DIRECTIONS, CASES, PAIRINGS, type BenchCase, type Direction, type Pairing } from './cases.ts';
import { DEFAULT_NEAR_BELOW_NS, type CoreState } from './core-distance.ts';
import { matrixCases, PACKET_SIZES, PATHS, QUEUE_SIZES, TESTS, type Path, type Test } from './matrix.ts';

export interface BenchOptions {
  readonly case: readonly BenchCase[];
  readonly pairing: readonly Pairing[];
  readonly direction: readonly Direction[];
  readonly rounds: number;
  readonly seconds: number;
  readonly warmUp: number;
  readonly state: CoreState | 'any';
  readonly patience: number;
  readonly nearBelow: number;
  readonly cpus?: readonly [number, number];
  readonly ours: string;
  readonly dpdk: string;
  readonly startUp: boolean;
  readonly json?: string;
  readonly svg?: string;
  readonly markdown?: string;
}

/** The options of the matrix as they are given, before they have become cases. */
interface MatrixOptions {
  readonly matrix?: boolean;
  readonly path: readonly Path[];
  readonly queue: readonly Named[];
  readonly size: readonly Named[];
  readonly test: readonly Test[];
}

const MATRIX_FILTERS: readonly (keyof MatrixOptions)[] = ['path', 'queue', 'size', 'test'];
/** What stands beside one another in the matrix unless more is asked for. */
const MATRIX_PAIRINGS = ['ours-ours', 'dpdk-dpdk'];

/** Reads the arguments (without node and script). Prints help or what is wrong and leaves, unless `exitOverride` is set on the command. */
export function parseOptions(args: readonly string[], command: Command = benchCommand()): BenchOptions {
  command.parse(args, { from: 'user' });
  const { matrix, path, queue, size, test, ...options } = command.opts<BenchOptions & MatrixOptions>();
  const isGiven = (name: string): boolean => command.getOptionValueSource(name) === 'cli';
  if (matrix !== true) {
    const stray = MATRIX_FILTERS.find(isGiven);
    if (stray !== undefined) command.error(`error: --${stray} is a filter of the matrix: use it with --matrix`);
    return options;
  }
  if (isGiven('case')) command.error('error: --case and --matrix: the matrix has cases of its own');
  const numbers = (names: readonly Named[]): number[] => names.map(({ name }) => Number(name));
  return {
    ...options,
    case: matrixCases({ paths: path, queues: numbers(queue), sizes: numbers(size), tests: test }),
    pairing: isGiven('pairing') ? options.pairing : PAIRINGS.filter(({ name }) => MATRIX_PAIRINGS.includes(name)),
    startUp: false,
  };
}

export function benchCommand(): Command {
  return new Command('npm run bench --')
    .description(
      "Packet rates of dpdk-ts and of DPDK's testpmd, in turn, in the four pairings: virtio_user at one end of a vhost-user socket, net_vhost at the other.",
    )
    .addOption(listOption('--case <names>', 'what to measure', CASES))
    .addOption(listOption('--pairing <names>', 'which programs, virtio end first', PAIRINGS))
    .addOption(listOption('--direction <names>', 'which way', ALL_DIRECTIONS))
    .option(
      '--matrix',
      'every path, size of ring and of packets, and test, in place of the cases; the four filters that follow are its own',
    )
    .addOption(listOption('--path <names>', 'paths', PATHS))
    .addOption(listOption('--queue <sizes>', 'descriptors of a ring', named(QUEUE_SIZES)))
    .addOption(listOption('--size <bytes>', 'bytes of a packet', named(PACKET_SIZES)))
    .addOption(listOption('--test <names>', 'tests', TESTS))
    .option('--rounds <n>', 'counted windows of each pairing', wholeNumber, 3)
    .option('--seconds <s>', 'length of a window', positive, 5)
    .option('--warm-up <s>', 'forwarding before a window', positive, 2)
    .addOption(
      new Option('--state <state>', 'distance of the cores to wait for; windows in the other state are left out')
        .choices(['any', 'near', 'far'])
        .default('any'),
    )
    .option('--patience <s>', 'how long to wait for that state before a window', positive, 60)
    .option('--near-below <ns>', 'core-to-core round trip that divides near from far', positive, DEFAULT_NEAR_BELOW_NS)
    .option('--cpus <a,b>', 'the two CPUs, vhost end first (default: the first two allowed)', twoCpus)
    .option('--ours <program>', 'our testpmd', 'dist/cli/testpmd-main.js')
    .option('--dpdk <program>', "DPDK's testpmd", 'dpdk-testpmd')
    .option('--no-start-up', 'leave out start-up and memory')
    .option('--json <file>', 'write machine, versions, method and every window as JSON')
    .option('--svg <file>', 'write a bar chart')
    .option('--markdown <file>', 'write the tables as Markdown')
    .addHelpText(
      'after',
      `\nCases:\n${CASES.map(({ name, title }) => `  ${name.padEnd(12)} ${title}`).join('\n')}\n\nTests:\n${TESTS.map(({ name, title }) => `  ${name.padEnd(12)} ${title}`).join('\n')}\n\nMethod: docs/performance.md`,
    )
    .allowExcessArguments(false);
}

interface Named {
  readonly name: string;
}

function named(values: readonly number[]): Named[] {
  return values.map((value) => ({ name: String(value) }));
}

function listOption(flags: string, description: string, known: readonly Named[]): Option {
  const names = known.map(({ name }) => name).join(', ');
  return new Option(flags, `${description}, comma-separated: ${names}`)
    .default(known, 'all')
    .argParser((value: string): readonly Named[] => {
      const wanted = value.split(',').map((name) => name.trim());
      const unknown = wanted.filter((name) => !known.some((entry) => entry.name === name));
      if (unknown.length > 0) {
        throw new InvalidArgumentError(`Unknown: '${unknown.join("', '")}'. Known: ${names}.`);
      }
      return known.filter(({ name }) => wanted.includes(name));
    });
}

function positive(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value) || value <= 0) {
    throw new InvalidArgumentError('Not a number above 0.');
  }
  return value;
}

/** For an option that takes 1 or more. @throws InvalidArgumentError, which commander tells with the option's name */
export function wholeNumber(text: string): number {
  const value = positive(text);
  if (!Number.isInteger(value)) {
    throw new InvalidArgumentError('Not a whole number.');
  }
  return value;
}

export function twoCpus(text: string): readonly [number, number] {
  const [a, b, ...rest] = text.split(',').map(Number);
  if (a === undefined || b === undefined || rest.length > 0 || a === b || ![a, b].every((cpu) => Number.isInteger(cpu) && cpu >= 0)) {
    throw new InvalidArgumentError('Two different CPU numbers, as in 0,1.');
  }
  return [a, b];
}
