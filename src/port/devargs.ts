/**
 * Device arguments: what follows the driver in `--vdev=virtio_user0,path=/tmp/sock,queues=2`, and typed readers for it.
 *
 * DPDK reads most values with strtoull and takes what it cannot read for 0. Here every key and value is checked, and what is
 * wrong is answered with the device, the key, the value and what would be accepted.
 * @module
 */
import { parseMac } from '../net/mac-address.ts';
import type { MacAddress } from '../net/mac-address.ts';
import { parsePciAddress } from '../pci/address.ts';
import { VirtioError } from '../system/error.ts';

export interface DeviceArgument {
  readonly key: string;
  /** Text after the `=`; undefined when the key stands alone. */
  readonly value: string | undefined;
}

export interface Devargs {
  /** Device name: `virtio_user0`, `net_vhost1`; a PCI address with its domain: `0000:00:10.0`. */
  readonly name: string;
  /** Everything after the first comma, as typed. */
  readonly text: string;
  /** In the order typed. */
  readonly args: readonly DeviceArgument[];
}

export interface UnsignedRange {
  readonly min: number;
  readonly max: number;
  readonly default: number;
}

/** Typed access to the arguments of one device. Every reader throws VirtioError EINVAL for a value that it does not accept. */
export interface DevargsReader {
  readonly name: string;
  /** True when the key was given, whatever its value. */
  has(key: string): boolean;
  /** A decimal or `0x` integer in `min..max`. */
  unsigned(key: string, range: UnsignedRange): number;
  /** `0` or `1`; a key that stands alone is 1. */
  flag(key: string, fallback: boolean): boolean;
  /** A text that is not empty; undefined when the key was not given. */
  string(key: string): string | undefined;
  /** All texts of a key that may be given several times, in the order typed; none of them empty. */
  strings(key: string): readonly string[];
  /** A text that is not empty. @throws VirtioError EINVAL when the key was not given */
  required(key: string): string;
  /** One of the listed words. */
  choice<Word extends string>(key: string, words: readonly Word[], fallback: Word): Word;
  /** A unicast Ethernet address; undefined when the key was not given. */
  mac(key: string): MacAddress | undefined;
}

/** Keys that may be given several times: once a queue, as in DPDK. */
const REPEATABLE = ['rx_pcap', 'tx_pcap', 'rx_iface', 'rx_iface_in', 'tx_iface'];

/**
 * Splits `name[,key[=value]...]`. A comma inside brackets (`key=[a,b]`) belongs to the value, as in DPDK.
 * @throws VirtioError EINVAL for an empty name or key, a bracket that is not closed, or a key that is given twice
 */
export function parseDevargs(text: string): Devargs {
  const comma = text.indexOf(',');
  const name = comma < 0 ? text : text.slice(0, comma);
  if (name === '') throw invalid(`device "${text}": the name before the first comma is empty`);
  if (!/^[A-Za-z0-9_.:-]+$/.test(name)) throw invalid(`device "${name}": a name has letters, digits and _ . : - only`);
  const rest = comma < 0 ? '' : text.slice(comma + 1);
  return { name: parsePciAddress(name) ?? name, text: rest, args: rest === '' ? [] : splitArguments(name, rest) };
}

/**
 * Readers over `devargs`; `keys` are all keys that the driver knows.
 * @throws VirtioError EINVAL for any other key, with the known ones and the nearest of them
 */
export function readDevargs(devargs: Devargs, keys: readonly string[]): DevargsReader {
  const { name } = devargs;
  const values = new Map<string, string | undefined>();
  for (const { key, value } of devargs.args) {
    if (!keys.includes(key)) {
      const nearest = nearestName(key, keys);
      const hint = nearest === undefined ? '' : `did you mean ${nearest}? `;
      const known = keys.length === 0 ? 'the device takes no arguments' : `known keys: ${keys.join(', ')}`;
      throw invalid(`${name}: unknown key ${key}; ${hint}${known}`);
    }
    values.set(key, value);
  }
  const wrong = (key: string, value: string, expected: string): VirtioError => invalid(`${name}: ${key}=${value}: expected ${expected}`);
  const text = (key: string): string | undefined => {
    if (!values.has(key)) return undefined;
    const value = values.get(key) ?? '';
    if (value === '') throw wrong(key, '', 'a text that is not empty');
    return value;
  };
  return {
    name,
    has: (key) => values.has(key),
    unsigned(key, range) {
      if (!values.has(key)) return range.default;
      const value = values.get(key) ?? '';
      const number = parseUnsigned(value);
      if (number === undefined || number < range.min || number > range.max) throw wrong(key, value, numberRange(range));
      return number;
    },
    flag(key, fallback) {
      if (!values.has(key)) return fallback;
      const value = values.get(key) ?? '1';
      if (value !== '0' && value !== '1') throw wrong(key, value, '0 or 1');
      return value === '1';
    },
    string: text,
    strings(key) {
      const texts = devargs.args.filter((argument) => argument.key === key).map(({ value }) => value ?? '');
      if (texts.includes('')) throw wrong(key, '', 'a text that is not empty');
      return texts;
    },
    required(key) {
      const value = text(key);
      if (value === undefined) throw invalid(`${name}: ${key} is mandatory: ${name},${key}=...`);
      return value;
    },
    choice(key, words, fallback) {
      if (!values.has(key)) return fallback;
      const value = values.get(key) ?? '';
      const word = words.find((candidate) => candidate === value);
      if (word === undefined) throw wrong(key, value, words.join(', '));
      return word;
    },
    mac(key) {
      if (!values.has(key)) return undefined;
      const value = values.get(key) ?? '';
      const mac = parseMac(value);
      if (mac === undefined) throw wrong(key, value, 'six bytes XX:XX:XX:XX:XX:XX');
      if (((mac[0] ?? 0) & 1) !== 0 || mac.every((byte) => byte === 0)) throw wrong(key, value, 'a unicast address that is not all zero');
      return mac;
    },
  };
}

/** The name nearest to what was typed, or undefined when none is near: at most a third of it may differ. */
export function nearestName(typed: string, names: readonly string[]): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.max(1, Math.floor(typed.length / 3)) + 1;
  for (const name of names) {
    // The length is bounded so that no argument, however long, takes noticeable time.
    if (Math.abs(name.length - typed.length) >= bestDistance) continue;
    const distance = editDistance(typed, name);
    if (distance < bestDistance) [best, bestDistance] = [name, distance];
  }
  return best;
}

function splitArguments(name: string, text: string): DeviceArgument[] {
  const args: DeviceArgument[] = [];
  const seen = new Set<string>();
  let depth = 0;
  let start = 0;
  for (let at = 0; at <= text.length; at++) {
    const character = text[at];
    if (character === '[') depth++;
    if (character === ']') depth--;
    if (depth < 0) throw invalid(`${name}: a ] without its [ in "${text}"`);
    if (character !== undefined && (character !== ',' || depth > 0)) continue;
    const argument = splitArgument(name, text.slice(start, at));
    if (seen.has(argument.key) && !REPEATABLE.includes(argument.key)) throw invalid(`${name}: ${argument.key} is given twice`);
    seen.add(argument.key);
    args.push(argument);
    start = at + 1;
  }
  if (depth > 0) throw invalid(`${name}: a [ without its ] in "${text}"`);
  return args;
}

function splitArgument(name: string, text: string): DeviceArgument {
  const equals = text.indexOf('=');
  const key = equals < 0 ? text : text.slice(0, equals);
  if (key === '') throw invalid(`${name}: expected key=value, found "${text}"`);
  return { key, value: equals < 0 ? undefined : text.slice(equals + 1) };
}

function parseUnsigned(text: string): number | undefined {
  if (!/^(\d+|0[xX][0-9a-fA-F]+)$/.test(text)) return undefined;
  const number = Number(text);
  return Number.isSafeInteger(number) ? number : undefined;
}

function numberRange(range: UnsignedRange): string {
  return range.min === range.max ? `${range.min}` : `a number from ${range.min} to ${range.max}`;
}

/** Levenshtein's distance. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitute = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(substitute, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}

function invalid(message: string): VirtioError {
  return new VirtioError(message, { code: 'EINVAL' });
}
