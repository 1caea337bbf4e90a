/**
 * Options of the smaller benchmarks, which take a few of them, each with a value (those of bench/main.ts: options.ts): what is mistyped is told
 * in a line, with those that there are.
 * @module
 */
import { parseArgs } from 'node:util';

/** What an option is while it is not given; undefined: nothing. */
type Defaults = Readonly<Record<string, string | undefined>>;
type Values<Given extends Defaults> = { readonly [Name in keyof Given]: Given[Name] extends string ? string : string | undefined };

/** Says what is wrong, and what there is, and ends the program. */
export function refuse(text: string, usage: string): never {
  process.stderr.write(`bench: ${text}\n${usage}\n`);
  process.exit(2);
}

/** Reads the command line; `-h` and `--help` print the usage and end the program, as what is wrong does. */
export function readOptions<const Given extends Defaults>(
  usage: string,
  defaults: Given,
  allowPositionals = false,
): { readonly values: Values<Given>; readonly positionals: readonly string[] } {
  const options = Object.fromEntries(Object.keys(defaults).map((name) => [name, { type: 'string' }] as const));
  try {
    const { values, positionals } = parseArgs({ options: { ...options, help: { type: 'boolean', short: 'h' } }, allowPositionals });
    if (values.help === true) {
      process.stdout.write(`${usage}\n`);
      process.exit(0);
    }
    return { values: { ...defaults, ...values } as Values<Given>, positionals };
  } catch (error) {
    return refuse(error instanceof Error ? error.message : String(error), usage);
  }
}

/** A whole number, 1 or more, or the end of the program. @param name as it is written: `--rounds` */
export function wholeOption(name: string, text: string, usage: string): number {
  const value = Number(text);
  return Number.isInteger(value) && value >= 1 ? value : refuse(`${name} '${text}': a whole number, 1 or more, is needed`, usage);
}
