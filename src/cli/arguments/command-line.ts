/**
 * The whole command line of testpmd: EAL arguments, `--`, testpmd's own.
 * @module
 */
import { answeringFailures, type Answered } from './answered.ts';
import { parseEal } from './eal.ts';
import type { EalContext, EalOptions } from './eal.ts';
import { ArgumentFailure, testpmdFailure } from './failure.ts';
import { parseTestpmd } from './testpmd.ts';
import type { ParsedTestpmd, TestpmdContext, TestpmdOptions } from './testpmd.ts';
import { testpmdUsage } from './usage.ts';

export type CommandLineContext = EalContext;

export type ParsedCommandLine =
  | {
      readonly kind: 'run';
      readonly eal: EalOptions;
      readonly testpmd: TestpmdOptions;
      /** Lines for stderr, in order: what has no effect, what is spelt otherwise today, what DPDK warns of. */
      readonly notices: readonly string[];
    }
  | Answered;

/** Reads `argv` (without the program's name). Never throws for what a user typed. */
export function parseCommandLine(argv: readonly string[], context: CommandLineContext): ParsedCommandLine {
  const { programName } = context;
  return answeringFailures<ParsedCommandLine>(programName, testpmdUsage, () => {
    const parsed = parseEal(argv, context);
    if (parsed.kind === 'help') return { kind: 'help', text: parsed.text, exitStatus: 0 };
    const eal = parsed.options;
    const own = parseOwn(parsed.rest, { programName, lcores: eal.lcores.map((lcore) => lcore.id), mainLcore: eal.mainLcore });
    if (own.kind === 'help') return { kind: 'help', text: own.text, exitStatus: 0 };
    return { kind: 'run', eal, testpmd: own.options, notices: [...parsed.notices, ...own.notices] };
  });
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
