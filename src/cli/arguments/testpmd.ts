/**
 * Reads the arguments after `--`: those of testpmd itself.
 * @module
 */
import { testpmdFailure, testpmdGetoptFailure } from './failure.ts';
import { getopt } from './getopt.ts';
import { optionName } from './option-table.ts';
import { TESTPMD_OPTIONS } from './testpmd-options.ts';
import type { TestpmdDraft, TestpmdOption } from './testpmd-options.ts';
import { DEFAULT_TESTPMD_OPTIONS } from './testpmd-settings.ts';
import type { TestpmdOptions } from './testpmd-settings.ts';
import { testpmdUsage } from './usage.ts';

export type { EthPeer, EventName, PortTopology, TestpmdOptions } from './testpmd-settings.ts';

export interface TestpmdContext {
  readonly programName: string;
  /** Ids of all lcores, ascending. */
  readonly lcores: readonly number[];
  readonly mainLcore: number;
}

export type ParsedTestpmd =
  | {
      readonly kind: 'options';
      readonly options: TestpmdOptions;
      /** Lines for stderr. */
      readonly notices: readonly string[];
    }
  | { readonly kind: 'help'; readonly text: string };

/** Bytes of headroom in every mbuf. */
const headroom = 128;
/** Ethernet, IPv4 and UDP headers: the shortest packet that txonly can make. */
const shortestPacket = 42;

/**
 * `argv` is what follows the EAL's arguments.
 * @throws ArgumentFailure when it cannot be run
 */
export function parseTestpmd(argv: readonly string[], context: TestpmdContext): ParsedTestpmd {
  const { lcores, mainLcore, programName } = context;
  const draft: TestpmdDraft = { options: { ...DEFAULT_TESTPMD_OPTIONS }, notices: [], lcores, mainLcore, txpkts: undefined, help: false };
  const operands: string[] = [];
  for (const item of getopt(argv, TESTPMD_OPTIONS)) {
    if (item.kind === 'operand') operands.push(item.text);
    else if (item.kind === 'rest') operands.push(...item.words);
    else if (item.kind === 'error') {
      const lines = [`${programName}: ${item.message}`, `Invalid option: ${item.given}`];
      throw testpmdGetoptFailure(lines, 'Command line is incomplete or incorrect', item.hint);
    } else applyOption(draft, item.option, item.value);
    if (draft.help) return { kind: 'help', text: testpmdUsage(programName) };
  }
  const [operand] = operands;
  if (operand !== undefined) {
    const reason = `"${operand}" belongs to no option; options begin with - or --`;
    throw testpmdGetoptFailure([`Invalid parameter: ${operand}`], 'Command line is incorrect', reason);
  }
  settleSegments(draft);
  checkCombinations(draft);
  return { kind: 'options', options: draft.options, notices: draft.notices };
}

function applyOption(draft: TestpmdDraft, option: TestpmdOption, value: string): void {
  const name = optionName(option);
  switch (option.kind) {
    case 'refused':
    case 'ignored':
      throw testpmdFailure('Command line is incomplete or incorrect', 'leave the option out, or see --help for those that can be used', [
        `${name}: not supported yet${option.why === '' ? '' : ` (${option.why})`}`,
      ]);
    case 'older':
      draft.notices.push(`${name}: today's spelling is ${option.today}`);
      option.apply(draft, value);
      break;
    case 'supported':
      option.apply(draft, value);
      break;
  }
}

/** As in DPDK, lengths that cannot be are said to be so, and have no effect. */
function settleSegments({ options, notices, txpkts }: TestpmdDraft): void {
  if (txpkts === undefined) return;
  const room = options.mbufSize - headroom;
  const total = txpkts.reduce((sum, length) => sum + length, 0);
  const given = `--txpkts=${txpkts.join(',')} has no effect: the segments stay ${options.txpkts.join(',')}`;
  const long = txpkts.findIndex((length) => length > room);
  if (long >= 0) {
    notices.push(`length[${long}]=${txpkts[long] ?? 0} > mbuf_data_size=${options.mbufSize} - give up`);
    notices.push(`${given}; an mbuf takes ${room} bytes after its headroom`);
  } else if (total < shortestPacket) {
    notices.push(`total packet length=${total} < ${shortestPacket} - give up`, given);
  } else if (total > 65535) {
    notices.push(`total packet length=${total} > 65535 - give up`, given);
  } else options.txpkts = txpkts;
}

function checkCombinations({ options, notices }: TestpmdDraft): void {
  if (options.rxq === 0 && options.txq === 0) {
    throw testpmdFailure('Either rx or tx queues should be non-zero', '--rxq=0 --txq=0: one of them can be 0, for txonly or rxonly');
  }
  if (options.interactive && options.txFirst) {
    throw testpmdFailure('--tx-first cannot be used on interactive mode.', 'with --interactive, type "start tx_first" at the prompt');
  }
  if (options.interactive && options.statsPeriod > 0) {
    notices.push('--stats-period has no effect with --interactive: "show port stats all" at the prompt shows the same');
  }
  if (options.txFirst && options.lscInterrupt) {
    notices.push('Warning: lsc_interrupt needs to be off when using tx_first. Disabling.');
    options.lscInterrupt = false;
  }
}
