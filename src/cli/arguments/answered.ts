/**
 * Command lines that are answered at once: with a text that was asked for, or with what is wrong.
 * @module
 */
import { ArgumentFailure } from './failure.ts';
import { ealUsage } from './usage.ts';

export type Answered =
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

/**
 * What `read` makes of a command line; what the user mistyped becomes an answer.
 * @param usage the program's own usage text
 */
export function answeringFailures<Parsed>(
  programName: string,
  usage: (programName: string) => string,
  read: () => Parsed,
): Parsed | Answered {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof ArgumentFailure)) throw error;
    const text = error.usage === undefined ? '' : (error.usage === 'eal' ? ealUsage : usage)(programName);
    return { kind: 'failure', usage: text, lines: error.report(programName), exitStatus: 1 };
  }
}
