/**
 * The command language: a command is a row of tokens (fixed words, choices, numbers, texts), and a line matches it when every word
 * matches its token. As in DPDK's cmdline library words are never abbreviated, `#` begins a comment, and a line whose first word
 * begins no command is answered differently from one that goes wrong later.
 * @module
 */
import type { MacAddress } from '../../net/mac-address.ts';
import { parseMac } from '../../net/mac-address.ts';
import type { Session } from '../session.ts';

/** Sections of the help, in the order it shows them. */
export const sections = ['control', 'display', 'config', 'ports'] as const;
export type Section = (typeof sections)[number];

export interface Token<Name extends string = string, Value = unknown> {
  /** Under which the value is passed on; empty for a fixed word. */
  readonly name: Name;
  /** How the help writes the token. */
  readonly shape: string;
  /** The word's value; undefined when it does not fit. */
  readonly parse: (word: string) => Value | undefined;
  /** Words that fit, for completion; none for texts and plain numbers. */
  readonly words: (session: Session) => readonly string[];
}

const nothing = (): readonly string[] => [];

/** A word that has to stand as it is. */
export function word<Word extends string>(text: Word): Token<'', Word> {
  return { name: '', shape: text, parse: (given) => (given === text ? text : undefined), words: () => [text] };
}

/** One of several words. */
export function choice<Name extends string, const Words extends readonly string[]>(name: Name, words: Words): Token<Name, Words[number]> {
  return {
    name,
    shape: words.length === 1 ? (words[0] ?? '') : `(${words.join('|')})`,
    parse: (given) => words.find((known) => known === given),
    words: () => words,
  };
}

/** Decimal, 0x hexadecimal, 0b binary, or octal after a leading 0. Negative numbers fit nowhere. */
function parseNumber(text: string): bigint | undefined {
  if (text.length > 127) return undefined;
  if (/^(0x[0-9a-fA-F]+|0b[01]+|0|[1-9][0-9]*)$/.test(text)) return BigInt(text);
  return /^0[0-7]+$/.test(text) ? BigInt(`0o${text.slice(1)}`) : undefined;
}

/** A whole number from 0 to `max`. */
export function number<Name extends string>(name: Name, max: number): Token<Name, number> {
  return {
    name,
    shape: `(${name.toLowerCase()})`,
    parse: (given) => {
      const value = parseNumber(given);
      return value === undefined || value > BigInt(max) ? undefined : Number(value);
    },
    words: nothing,
  };
}

/** A mask of 64 bits. */
export function mask<Name extends string>(name: Name): Token<Name, bigint> {
  return {
    name,
    shape: `(${name.toLowerCase()})`,
    parse: (given) => {
      const value = parseNumber(given);
      return value === undefined || value >> 64n > 0n ? undefined : value;
    },
    words: nothing,
  };
}

export const uint16 = 0xffff;
export const uint32 = 0xffff_ffff;

const portIds = (session: Session): readonly string[] => session.ports.ids().map(String);

/** A port's id, whether there is such a port or not. */
export const port: Token<'port', number> = { ...number('port', uint16), shape: '(port_id)', words: portIds };

/** A port's id or `all`. */
export const portOrAll: Token<'port', number | 'all'> = {
  name: 'port',
  shape: '(port_id|all)',
  parse: (given) => (given === 'all' ? given : port.parse(given)),
  words: (session) => [...portIds(session), 'all'],
};

/** Any word. */
export function text<Name extends string>(
  name: Name,
  shape = `(${name.toLowerCase()})`,
  words: (session: Session) => readonly string[] = nothing,
): Token<Name, string> {
  return { name, shape, parse: (given) => given, words };
}

export const macAddress: Token<'mac', MacAddress> = { name: 'mac', shape: '(XX:XX:XX:XX:XX:XX)', parse: parseMac, words: nothing };

export const onOff = choice('state', ['on', 'off']);

/** Values of a row of tokens, by name. */
export type Values<Tokens extends readonly Token[]> = {
  readonly [T in Tokens[number] as Exclude<T['name'], ''>]: T extends Token<string, infer Value> ? Value : never;
};

/** `quit` ends the prompt or file that the command came from. */
type Outcome = 'quit' | undefined;

export interface Command {
  readonly section: Section;
  readonly tokens: readonly Token[];
  /** One sentence for the help; empty for a spelling that the help leaves out. */
  readonly help: string;
  /** What it returns, or resolves with, matters only when it is `quit`. */
  readonly run: (session: Session, values: Readonly<Record<string, unknown>>) => unknown;
}

export function command<const Tokens extends readonly Token[]>(
  section: Section,
  tokens: Tokens,
  help: string,
  run: (session: Session, values: Values<Tokens>) => unknown,
): Command {
  // match() fills in exactly the names that the tokens have.
  return { section, tokens, help, run: (session, values) => run(session, values as Values<Tokens>) };
}

/** `show port (info|stats) (port_id|all)`. */
export function commandShape({ tokens }: Command): string {
  return tokens.map(({ shape }) => shape).join(' ');
}

/** The words of a line without its comment. */
export function splitWords(line: string): readonly string[] {
  const comment = line.indexOf('#');
  return (comment === -1 ? line : line.slice(0, comment)).split(/[ \t\r\n]+/).filter((part) => part !== '');
}

function match({ tokens }: Command, words: readonly string[]): Record<string, unknown> | undefined {
  if (tokens.length !== words.length) return undefined;
  const values: Record<string, unknown> = {};
  for (const [index, token] of tokens.entries()) {
    const value = token.parse(words[index] ?? '');
    if (value === undefined) return undefined;
    if (token.name !== '') values[token.name] = value;
  }
  return values;
}

export type Parsed =
  { readonly kind: 'empty' | 'unknown' | 'bad' } | { readonly kind: 'command'; readonly run: (session: Session) => Promise<Outcome> };

/** Finds the command that a line is. `unknown`: its first word begins none; `bad`: something after it does not fit. */
export function parseLine(commands: readonly Command[], line: string): Parsed {
  const words = splitWords(line);
  const [first] = words;
  if (first === undefined) return { kind: 'empty' };
  let kind: 'unknown' | 'bad' = 'unknown';
  for (const candidate of commands) {
    if (candidate.tokens[0]?.parse(first) === undefined) continue;
    kind = 'bad';
    const values = match(candidate, words);
    if (values === undefined) continue;
    return {
      kind: 'command',
      run: async (session) => ((await candidate.run(session, values)) === 'quit' ? 'quit' : undefined),
    };
  }
  return { kind };
}

/** Words that can stand where `line` ends, each with the space that follows it, and the beginning that is there already. */
export function completeLine(commands: readonly Command[], session: Session, line: string): readonly [words: string[], partial: string] {
  const parts = line.split(/[ \t]+/);
  const partial = parts.pop() ?? '';
  const before = parts.filter((part) => part !== '');
  const found = new Set<string>();
  for (const { tokens } of commands) {
    if (!before.every((given, index) => tokens[index]?.parse(given) !== undefined)) continue;
    for (const known of tokens[before.length]?.words(session) ?? []) {
      if (known.startsWith(partial)) found.add(`${known} `);
    }
  }
  return [[...found].sort(), partial];
}
