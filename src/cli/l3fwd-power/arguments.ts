/**
 * Reads the command line of l3fwd-power: EAL arguments, `--`, its own.
 * @module
 */
import { answeringFailures, type Answered } from '../arguments/answered.ts';
import { parseEal, type EalContext, type EalOptions } from '../arguments/eal.ts';
import { ArgumentFailure } from '../arguments/failure.ts';
import { getopt } from '../arguments/getopt.ts';
import { optionName } from '../arguments/option-table.ts';
import { usage } from '../arguments/usage.ts';
import { L3FWD_OPTIONS, l3fwdFailure, type L3fwdDraft } from './options.ts';
import { DEFAULT_L3FWD_OPTIONS, type L3fwdOptions, type QueueAssignment } from './settings.ts';

export type ParsedL3fwd =
  | {
      readonly kind: 'run';
      readonly eal: EalOptions;
      readonly options: L3fwdOptions;
      /** Which lcore has which receive queue: of ports that take part, each queue once. */
      readonly assignments: readonly QueueAssignment[];
      /** Lines for stderr. */
      readonly notices: readonly string[];
      /** Lines for stdout. */
      readonly said: readonly string[];
      /** --interrupt-only was given. */
      readonly interruptOnly: boolean;
    }
  | Answered;

/** What `--help` after `--` prints. */
export function l3fwdUsage(programName: string): string {
  return usage(`Usage: ${programName} [EAL options] -- -p PORTMASK [l3fwd-power options]`, 'l3fwd-power options:', L3FWD_OPTIONS, [
    'It forwards until SIGINT or SIGTERM.',
    `EAL options: ${programName} --help`,
  ]);
}

/** Reads `argv` (without the program's name). Never throws for what a user typed. */
export function parseL3fwd(argv: readonly string[], context: EalContext): ParsedL3fwd {
  const { programName } = context;
  return answeringFailures<ParsedL3fwd>(programName, l3fwdUsage, () => {
    const parsed = parseEal(argv, context);
    if (parsed.kind === 'help') return { kind: 'help', text: parsed.text, exitStatus: 0 };
    const draft: L3fwdDraft = { options: { ...DEFAULT_L3FWD_OPTIONS }, said: [], interruptOnly: false, help: false };
    readOwn(draft, parsed.rest, programName);
    if (draft.help) return { kind: 'help', text: l3fwdUsage(programName), exitStatus: 0 };
    const { options, said, interruptOnly } = draft;
    const assignments = assign(options, parsed.options);
    return { kind: 'run', eal: parsed.options, options, assignments, notices: parsed.notices, said, interruptOnly };
  });
}

function readOwn(draft: L3fwdDraft, argv: readonly string[], programName: string): void {
  for (const item of getopt(argv, L3FWD_OPTIONS)) {
    if (item.kind === 'error') throw l3fwdFailure(`${programName}: ${item.message}`, item.hint ?? 'the options are listed by --help', true);
    const operand = item.kind === 'operand' ? item.text : item.kind === 'rest' ? item.words[0] : undefined;
    if (operand !== undefined) throw l3fwdFailure(undefined, `"${operand}" belongs to no option; options begin with - or --`);
    if (item.kind !== 'option') continue;
    const { option, value } = item;
    if (option.kind === 'refused' || option.kind === 'ignored')
      throw l3fwdFailure(`${optionName(option)} is not supported`, `${optionName(option)}: ${option.why}`);
    option.apply(draft, value);
    if (draft.help) return;
  }
  if (draft.options.ports.length === 0) throw l3fwdFailure(undefined, '-p PORTMASK is needed: -p 1 for port 0', true);
}

/** The receive queues and their lcores, checked as DPDK checks them. */
function assign({ ports, config }: L3fwdOptions, eal: EalOptions): readonly QueueAssignment[] {
  const lcores = eal.lcores.map(({ id }) => id);
  const others = lcores.filter((id) => id !== eal.mainLcore);
  // the main lcore forwards as well when it is the only one
  const spread = others.length === 0 ? lcores : others;
  const assignments = config ?? ports.map((port, index) => ({ port, queue: 0, lcore: spread[index % spread.length] ?? 0 }));
  const wrong = (line: string, check: string, reason: string): ArgumentFailure =>
    new ArgumentFailure([line, 'EAL: Error - exiting with code: 1', `  Cause: ${check} failed`], reason, undefined);
  for (const { port, queue, lcore } of assignments) {
    const given = `--config (${String(port)},${String(queue)},${String(lcore)})`;
    if (!lcores.includes(lcore)) {
      throw wrong(
        `error: lcore ${String(lcore)} is not enabled in lcore mask`,
        'check_lcore_params',
        `${given}: the lcores are ${lcores.join(',')}`,
      );
    }
    if (!ports.includes(port)) {
      throw wrong(
        `port ${String(port)} is not enabled in port mask`,
        'check_port_config',
        `${given}: -p names the ports ${ports.join(',')}`,
      );
    }
  }
  for (const port of ports) {
    const queues = assignments.filter((assignment) => assignment.port === port).map(({ queue }) => queue);
    if (queues.some((queue, index) => queue !== index)) {
      const line = `queue ids of the port ${String(port)} must be in sequence and must start with 0`;
      throw new ArgumentFailure(
        ['EAL: Error - exiting with code: 1', `  Cause: ${line}`],
        `--config: port ${String(port)} has the queues ${queues.join(',')}`,
        undefined,
      );
    }
  }
  if (assignments.length === 0) throw l3fwdFailure('invalid config', '--config: it names no queue', true);
  return assignments;
}
