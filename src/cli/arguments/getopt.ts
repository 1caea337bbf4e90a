/**
 * getopt_long over an option table: clusters (`-l0-1`, `-ia`), `--name value`, `--name=value`, abbreviations, options after
 * operands, and `--`.
 *
 * Why not commander: it has no abbreviations and no `-l0-1` for options that are mandatory in this form everywhere DPDK is
 * documented, its errors are not getopt's, and it ends the process itself. One difference from glibc is meant: where several
 * options of the same kind share the prefix, glibc silently takes the first of its table (`--nb=2` is --nb-cores); here that is
 * ambiguous.
 * @module
 */
import { nearestName } from '../../port/devargs.ts';
import type { OptionSpec } from './option-table.ts';

export type GetoptItem<Draft> =
  | {
      readonly kind: 'option';
      readonly option: OptionSpec<Draft>;
      /** Empty where the option has none. */
      readonly value: string;
      /** The word that was typed, for messages. */
      readonly given: string;
    }
  /** An operand: a word that belongs to no option. */
  | { readonly kind: 'operand'; readonly text: string }
  | {
      readonly kind: 'error';
      /** In getopt's words, without the program's name. */
      readonly message: string;
      readonly given: string;
      readonly hint: string | undefined;
    }
  /** Everything after the first `--`; the last item. */
  | { readonly kind: 'rest'; readonly words: readonly string[] };

/** Reads `argv` (without the program's name) from left to right. */
export function* getopt<Draft>(
  argv: readonly string[],
  table: readonly OptionSpec<Draft>[],
): Generator<GetoptItem<Draft>, void, undefined> {
  for (let at = 0; at < argv.length; at++) {
    const word = argv[at] ?? '';
    if (word === '--') {
      yield { kind: 'rest', words: argv.slice(at + 1) };
      return;
    }
    const following = argv[at + 1];
    if (word.startsWith('--')) {
      const { item, tookNext } = longOption(word, following, table);
      yield item;
      if (tookNext) at++;
    } else if (word.startsWith('-') && word.length > 1) {
      const { items, tookNext } = shortOptions(word, following, table);
      yield* items;
      if (tookNext) at++;
    } else {
      yield { kind: 'operand', text: word };
    }
  }
  yield { kind: 'rest', words: [] };
}

function longOption<Draft>(
  word: string,
  following: string | undefined,
  table: readonly OptionSpec<Draft>[],
): { item: GetoptItem<Draft>; tookNext: boolean } {
  const equals = word.indexOf('=');
  const name = word.slice(2, equals < 0 ? undefined : equals);
  const value = equals < 0 ? undefined : word.slice(equals + 1);
  const failed = (message: string, hint?: string) => ({ item: { kind: 'error', message, given: word, hint } as const, tookNext: false });

  const matches = longMatches(name, table);
  const [option] = matches;
  if (option === undefined) return failed(`unrecognized option '${word}'`, unknownHint(name, table));
  if (matches.length > 1) {
    const names = matches.map((match) => `'--${match.long ?? ''}'`).join(' ');
    return failed(`option '${word}' is ambiguous; possibilities: ${names}`);
  }
  const full = `--${option.long ?? ''}`;
  if (value !== undefined) {
    if (option.argument === 'none') return failed(`option '${full}' doesn't allow an argument`);
    return { item: { kind: 'option', option, value, given: word }, tookNext: false };
  }
  if (option.argument !== 'required') return { item: { kind: 'option', option, value: '', given: word }, tookNext: false };
  if (following === undefined) return failed(`option '${full}' requires an argument`);
  return { item: { kind: 'option', option, value: following, given: `${word} ${following}` }, tookNext: true };
}

/** The exact name; else every option of DPDK's that begins so; else every option of ours. */
function longMatches<Draft>(name: string, table: readonly OptionSpec<Draft>[]): readonly OptionSpec<Draft>[] {
  const exact = table.find((option) => option.long === name);
  if (exact !== undefined) return [exact];
  if (name === '') return [];
  const begun = table.filter((option) => option.kind !== 'older' && option.long?.startsWith(name) === true);
  const ours = begun.filter((option) => option.kind === 'supported' && option.own === true);
  return begun.length > ours.length ? begun.filter((option) => !ours.includes(option)) : ours;
}

function shortOptions<Draft>(
  word: string,
  following: string | undefined,
  table: readonly OptionSpec<Draft>[],
): { items: GetoptItem<Draft>[]; tookNext: boolean } {
  const items: GetoptItem<Draft>[] = [];
  for (let at = 1; at < word.length; at++) {
    const letter = word.charAt(at);
    const option = table.find((candidate) => candidate.short === letter);
    if (option === undefined) {
      items.push({ kind: 'error', message: `invalid option -- '${letter}'`, given: word, hint: undefined });
    } else if (option.argument !== 'required') {
      items.push({ kind: 'option', option, value: '', given: `-${letter}` });
    } else if (at + 1 < word.length) {
      items.push({ kind: 'option', option, value: word.slice(at + 1), given: word });
      break;
    } else if (following === undefined) {
      items.push({ kind: 'error', message: `option requires an argument -- '${letter}'`, given: word, hint: undefined });
    } else {
      items.push({ kind: 'option', option, value: following, given: `${word} ${following}` });
      return { items, tookNext: true };
    }
  }
  return { items, tookNext: false };
}

function unknownHint<Draft>(name: string, table: readonly OptionSpec<Draft>[]): string | undefined {
  const names = table.flatMap((option) => (option.long !== undefined && option.kind === 'supported' ? [option.long] : []));
  const nearest = nearestName(name, names);
  return nearest === undefined ? undefined : `did you mean --${nearest}?`;
}
