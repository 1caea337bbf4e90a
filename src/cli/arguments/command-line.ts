/**
 * The whole command line of testpmd: EAL arguments, `--`, testpmd's own.
 * @module
 */
import { parseEal } from './eal.ts';
import type { EalContext, EalOptions } from './eal.ts';
import { ArgumentFailure, testpmdFailure } from './failure.ts';
import { parseTestpmd } from './testpmd.ts';
import type { ParsedTestpmd, TestpmdContext, TestpmdOptions } from './testpmd.ts';
import { ealUsage, testpmdUsage } from './usage.ts';

export type CommandLineContext = EalContext;

export type ParsedCommandLine =
  | {
      readonly kind: 'run';
      readonly eal: EalOptions;
      readonly testpmd: TestpmdOptions;
      /** Lines for stderr, in order: what has no effect, what is spelt otherwise today, what DPDK warns of. */
      readonly notices: readonly string[];
    }
  | {
      readonly kind: 'help';
      /** For stdout; ends with a newline. */
      readonly text: string;
      readonly exitStatus: 0;
    }
  | {
      readonly kind: 'failure';
      /** Usage text for stdout, ending with a newline; empty where DPDK prints none. */
      readonly usage: string;
      /** For stderr: DPDK's lines, then the reason. */
      readonly lines: readonly string[];
      readonly exitStatus: 1;
    };

/** Reads `argv` (without the program's name). Never throws for what a user typed. */
export function parseCommandLine(argv: readonly string[], context: CommandLineContext): ParsedCommandLine {
  const { programName } = context;
  try {
    const parsed = parseEal(argv, context);
    if (parsed.kind === 'help') return { kind: 'help', text: parsed.text, exitStatus: 0 };
    const eal = parsed.options;
    const own = parseOwn(parsed.rest, { programName, lcores: eal.lcores.map((lcore) => lcore.id), mainLcore: eal.mainLcore });
    if (own.kind === 'help') return { kind: 'help', text: own.text, exitStatus: 0 };
    return { kind: 'run', eal, testpmd: own.options, notices: [...parsed.notices, ...own.notices] };
  } catch (error) {
    if (!(error instanceof ArgumentFailure)) throw error;
    const usage = error.usage === undefined ? '' : error.usage === 'eal' ? ealUsage(programName) : testpmdUsage(programName);
    return { kind: 'failure', usage, lines: error.report(programName), exitStatus: 1 };
  }
}

/** With the main lcore alone nothing can forward, which DPDK says before it looks at the other arguments; --help is answered all the same. */
function parseOwn(argv: readonly string[], context: TestpmdContext): ParsedTestpmd {
  if (context.lcores.length > 1) return parseTestpmd(argv, context);
  try {
    const parsed = parseTestpmd(argv, context);
    if (parsed.kind === 'help') return parsed;
  } catch (error) {
    if (!(error instanceof ArgumentFailure)) throw error;
  }
  const reason = `lcore ${context.mainLcore} keeps the command line, and one more is needed to forward: --lcores '0@0,1@0' puts two on CPU 0`;
  throw testpmdFailure('No cores defined for forwarding\nCheck the core mask argument', reason);
}
