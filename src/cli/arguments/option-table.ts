/**
 * What an option table is made of. The parser (getopt.ts) and the usage text (usage.ts) read the same tables.
 * @module
 */

/** As getopt_long's has_arg: an `optional` value can only follow an `=`. */
export type ArgumentKind = 'none' | 'required' | 'optional';

interface OptionName {
  /** Without the dashes. */
  readonly long?: string | undefined;
  /** One letter. */
  readonly short?: string | undefined;
  readonly argument: ArgumentKind;
}

/** An option that does something: `apply` writes it into the draft, or throws ArgumentFailure. */
export interface SupportedOption<Draft> extends OptionName {
  readonly kind: 'supported';
  /** How the value is written in the usage text: `N`, `COREMASK`. */
  readonly shape?: string | undefined;
  readonly summary: string;
  /** Not one of DPDK's: an abbreviation means it only when it can mean none of DPDK's. */
  readonly own?: boolean | undefined;
  apply(draft: Draft, value: string): void;
}

/** One of DPDK's options without effect here, and harmless to leave out. */
export interface IgnoredOption extends OptionName {
  readonly kind: 'ignored';
  readonly why: string;
}

/** One of DPDK's options that would change what the program does, and cannot. */
export interface RefusedOption extends OptionName {
  readonly kind: 'refused';
  /** Empty where there is no more to say than that it is not there yet. */
  readonly why: string;
}

/** A spelling that DPDK no longer has. Never abbreviated. */
export interface OlderOption<Draft> extends OptionName {
  readonly kind: 'older';
  /** What to write today, and what becomes of the option. */
  readonly today: string;
  apply(draft: Draft, value: string): void;
}

export type OptionSpec<Draft> = SupportedOption<Draft> | IgnoredOption | RefusedOption | OlderOption<Draft>;

/** `--burst`, or `-n` where there is no long name. */
export function optionName(option: OptionName): string {
  return option.long === undefined ? `-${option.short ?? ''}` : `--${option.long}`;
}

export type Mutable<T> = { -readonly [Key in keyof T]: T[Key] };
