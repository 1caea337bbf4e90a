/**
 * The three ways to name lcores: a mask (`-c`), a list (`-l`), and a map of lcores to CPUs (`--lcores`).
 *
 * An lcore is a thread of ours with an id; a CPU is the machine's. With -c and -l they have the same number.
 * @module
 */
import { ealFailure } from './failure.ts';
import { formatRanges, maskBits } from './number.ts';

export interface Lcore {
  readonly id: number;
  /** CPUs that its thread may run on, ascending; at least one. */
  readonly cpus: readonly number[];
}

/** Lcore ids are below this, as in DPDK's builds (RTE_MAX_LCORE). */
export const MAX_LCORES = 128;
/** CPU numbers that a set can hold (CPU_SETSIZE). */
const maxCpus = 1024;

/** `-c`: a hexadecimal mask, `0x` or not. */
export function parseCoremask(text: string, cpus: readonly number[]): Lcore[] {
  const given = `-c ${text}`;
  const trimmed = text.trim();
  const bits = maskBits(trimmed);
  if (bits === undefined) {
    // "", "0x" and blanks have no digit that could be wrong.
    const first = /^(0[xX])?$/.test(trimmed) ? `No lcores in coremask: [${text}]` : `invalid characters in coremask: [${text}]`;
    throw ealFailure([first, 'invalid coremask syntax'], `${given}: expected a hexadecimal mask of lcores, as in -c 3 for lcores 0 and 1`);
  }
  if (bits.length === 0) {
    throw ealFailure(
      [`No lcores in coremask: [${text}]`, 'invalid coremask syntax'],
      `${given}: no bit is set, and one lcore at least is needed`,
    );
  }
  return sameNumber(bits, cpus, given, 'coremask');
}

/** `-l`: numbers and ranges, `0,2-3`. */
export function parseCorelist(text: string, cpus: readonly number[]): Lcore[] {
  const given = `-l ${text}`;
  const ids = new Set<number>();
  for (const part of text.split(',')) {
    const range = /^\s*(\d{1,9})\s*(?:-\s*(\d{1,9})\s*)?$/.exec(part);
    const first = Number(range?.[1] ?? Number.NaN);
    const last = Number(range?.[2] ?? first);
    if (!(first <= last))
      throw ealFailure(['invalid core list syntax'], `${given}: expected lcores and ranges from low to high, as in -l 0,2-3`);
    // One past the limit is enough to say that the limit is passed.
    for (let id = first; id <= Math.min(last, Math.max(first, MAX_LCORES)); id++) ids.add(id);
  }
  return sameNumber([...ids].sort(ascending), cpus, given, 'core list');
}

/** `--lcores`: lcores or groups of them, each with the CPUs that it may run on: `0@0,1@0`, `(0-1)@(0,1)`, `1-3@2`, `0-3`. */
export function parseLcoreMap(text: string, cpus: readonly number[]): Lcore[] {
  const given = `--lcores ${text}`;
  const wrong = (reason: string, before: readonly string[] = []) =>
    ealFailure([...before, 'invalid parameter for --lcores'], `${given}: ${reason}`);
  const syntax = "expected lcores and the CPUs they run on, as in --lcores '0@0,(1-2)@(0,1)'";
  const lcores = new Map<number, readonly number[]>();
  for (const part of splitOutsideGroups(text)) {
    const [left = '', right, ...more] = part.split('@');
    if (more.length > 0) throw wrong(syntax);
    const ids = parseGroup(left);
    if (ids === undefined) throw wrong(syntax);
    const high = ids.find((id) => id >= MAX_LCORES);
    if (high !== undefined) throw wrong(`lcore ids are below ${MAX_LCORES}`);
    // Without an @, a bare range gives each lcore the CPU of its number; a group shares the CPUs of all its numbers.
    const grouped = left.trim().startsWith('(');
    const set = right === undefined ? (grouped ? ids : undefined) : parseGroup(right);
    if (right !== undefined && set === undefined) throw wrong(syntax);
    for (const id of ids) {
      const own = set ?? [id];
      const missing = own.find((cpu) => !cpus.includes(cpu));
      if (missing !== undefined) throw wrong(`CPU ${missing} is not one of ${formatRanges(cpus)}`, [`core ${missing} unavailable`]);
      lcores.set(id, own);
    }
  }
  return [...lcores].map(([id, own]) => ({ id, cpus: own })).sort((a, b) => a.id - b.id);
}

/** Lcores when none are named: one for every CPU that the process may run on, with its number where that is a valid id. */
export function defaultLcores(cpus: readonly number[]): Lcore[] {
  const sorted = [...new Set(cpus)].sort(ascending);
  const valid = sorted.filter((cpu) => cpu < MAX_LCORES);
  if (valid.length > 0) return valid.map((cpu) => ({ id: cpu, cpus: [cpu] }));
  return sorted.slice(0, MAX_LCORES).map((cpu, id) => ({ id, cpus: [cpu] }));
}

function sameNumber(ids: readonly number[], cpus: readonly number[], given: string, what: 'coremask' | 'core list'): Lcore[] {
  const high = ids.filter((id) => id >= MAX_LCORES);
  if (high.length > 0) {
    const map = ids.slice(0, MAX_LCORES).map((cpu, id) => `${id}@${cpu}`);
    throw ealFailure(
      [
        ...high.slice(0, 1).map((id) => `lcore ${id} >= RTE_MAX_LCORE (${MAX_LCORES})`),
        `To use high physical core ids, please use --lcores to map them to lcore ids below RTE_MAX_LCORE, e.g. --lcores ${map.join(',')}`,
        `invalid ${what} syntax`,
      ],
      `${given}: lcore ids are below ${MAX_LCORES}`,
    );
  }
  const missing = ids.filter((id) => !cpus.includes(id));
  if (missing.length > 0) {
    const available = formatRanges(cpus);
    throw ealFailure(
      [...missing.map((id) => `lcore ${id} unavailable`), `invalid ${what}, please check specified cores are part of ${available}`],
      `${given}: the CPUs here are ${available}; several lcores can share one: --lcores '0@${cpus[0] ?? 0},1@${cpus[0] ?? 0}'`,
    );
  }
  return ids.map((id) => ({ id, cpus: [id] }));
}

/** Splits at the commas that are outside parentheses. */
function splitOutsideGroups(text: string): string[] {
  const parts: string[] = [];
  let depth = 0;
  let start = 0;
  for (let at = 0; at < text.length; at++) {
    if (text[at] === '(') depth++;
    else if (text[at] === ')') depth--;
    else if (text[at] === ',' && depth === 0) {
      parts.push(text.slice(start, at));
      start = at + 1;
    }
  }
  parts.push(text.slice(start));
  return parts;
}

/** `3`, `1-3`, `3-1` or `(0,2-3)`: ascending numbers without repetition. */
function parseGroup(text: string): number[] | undefined {
  const trimmed = text.trim();
  const group = /^\(([^()]*)\)$/.exec(trimmed)?.[1];
  const numbers = new Set<number>();
  for (const part of group === undefined ? [trimmed] : group.split(',')) {
    const range = /^\s*(\d{1,4})\s*(?:-\s*(\d{1,4})\s*)?$/.exec(part);
    if (range === null) return undefined;
    const one = Number(range[1]);
    const other = Number(range[2] ?? one);
    if (Math.max(one, other) >= maxCpus) return undefined;
    for (let number = Math.min(one, other); number <= Math.max(one, other); number++) numbers.add(number);
  }
  return [...numbers].sort(ascending);
}

function ascending(a: number, b: number): number {
  return a - b;
}
