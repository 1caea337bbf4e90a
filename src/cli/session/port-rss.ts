/**
 * How ports spread what they receive over their queues, at the prompt: kinds of packets, key and table of RSS.
 * @module
 */
import type { Port } from '../../port/port.ts';
import { RSS_IP, RSS_TYPE_NAMES } from '../../port/rss.ts';
import { VirtioError } from '../../system/error.ts';
import { allRssTypes, rssFunctionsText, rssGroups } from '../display/rss.ts';
import { diagnostic, errnoText, reason } from './errno-text.ts';
import type { Output } from './output.ts';
import type { PortTable } from './port-table.ts';
import type { Settings } from './settings.ts';

/** Entries of the largest table there is (RTE_ETH_RSS_RETA_SIZE_512), and how many of them one mask selects. */
const tableLimit = 512;
const maskEntries = 64;
/** Bits that say which of several headers is hashed; and two of their values. */
const levelMask = 3n << 50n;
const levels: ReadonlyMap<string, bigint> = new Map([
  ['level-default', 0n],
  ['level-outer', 1n << 50n],
  ['level-inner', 2n << 50n],
]);
/** -EINVAL and -EOPNOTSUPP, as ethdev returns them. */
const invalid = -22;
const notSupported = -95;

const notEnabled = "Multi-queue RSS mode isn't enabled.";

const hex = (types: bigint): string => (types === 0n ? '0' : `0x${types.toString(16)}`);

/** What strtoul() makes of a text with base 0, or undefined. */
function leadingNumber(text: string): bigint | undefined {
  const digits = /^\s*(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)/.exec(text)?.[1];
  if (digits === undefined) return undefined;
  return BigInt(/^0[0-7]+$/.test(digits) ? `0o${digits.slice(1)}` : digits);
}

/** Bits of RSS_* that the device of `port` hashes. */
function capable(port: Port): bigint {
  return RSS_TYPE_NAMES.reduce((types, [name, bit]) => (port.info.rssFlowTypes.includes(name) ? types | bit : types), 0n);
}

/** Whether packets are spread by RSS at all, in the port's configuration. */
function isSpread(port: Port): boolean {
  const { rxQueues = 0, rssTypes = RSS_IP } = port.configuration ?? {};
  return rxQueues > 1 && (rssTypes & capable(port)) !== 0n;
}

export class PortRss {
  readonly #ports: PortTable;
  readonly #settings: Settings;
  readonly #output: Output;

  constructor(context: { readonly ports: PortTable; readonly settings: Settings; readonly output: Output }) {
    this.#ports = context.ports;
    this.#settings = context.settings;
    this.#output = context.output;
  }

  /** The device behind an id, or undefined after ethdev's lines for one that is not there. */
  #device(id: number): Port | undefined {
    const managed = this.#ports.get(id);
    if (managed === undefined) {
      this.#output.warn(`Invalid port_id=${id}`);
      this.#output.warn(`Error during getting device (port ${id}) info: No such device`);
    }
    return managed?.port;
  }

  /** The types that a word of `port config all rss` stands for; undefined after a line that says why there are none. */
  #types(value: string): bigint | undefined {
    const level = levels.get(value);
    if (level !== undefined) return (this.#settings.rssTypes & ~levelMask) | level;
    if (value === 'none') return 0n;
    if (/^[0-9]/.test(value)) {
      const bit = Number.parseInt(value, 10);
      if (bit > 0 && bit < 64) return 1n << BigInt(bit);
      this.#output.warn('flowtype_id should be greater than 0 and less than 64.');
      return undefined;
    }
    const types =
      value === 'all'
        ? allRssTypes
        : (rssGroups.find(([name]) => name === value)?.[1] ?? RSS_TYPE_NAMES.find(([name]) => name === value)?.[1]);
    if (types === undefined) this.#output.warn('Unknown parameter');
    return types;
  }

  /** `port config all rss VALUE`: in force at once where packets are spread, and for what is configured later. */
  async configureAll(value: string): Promise<void> {
    const wanted = value === 'default' ? undefined : this.#types(value);
    if (wanted === undefined && value !== 'default') return;
    let all = true;
    for (const { port } of this.#ports.list()) {
      const able = capable(port);
      const requested = wanted ?? able;
      const types = requested & able;
      if (types !== requested) {
        this.#output.say(
          `Port ${port.id} modified RSS hash function based on hardware support,requested:${hex(requested)} configured:${hex(types)}`,
        );
      }
      try {
        if (!isSpread(port)) {
          this.#output.warn(notEnabled);
          throw new VirtioError(notEnabled, { code: 'EOPNOTSUPP' });
        }
        await port.updateRss({ types });
      } catch (error) {
        all = false;
        this.#output.warn(
          `Configuration of RSS hash at ethernet port ${port.id} failed with error (${-diagnostic(error)}): ${errnoText(error)}.`,
        );
      }
    }
    if (!all || wanted === undefined) return;
    this.#settings.rssTypes = wanted;
    this.#output.say(`rss_hf ${hex(wanted)}`);
  }

  /** `port config ID rss-hash-key TYPE KEY`. */
  async setKey(id: number, type: string, text: string): Promise<void> {
    const port = this.#device(id);
    if (port === undefined) return;
    const digits = 2 * port.info.hashKeySize;
    const at = text.search(/[^0-9a-fA-F]/);
    if (digits === 0) {
      this.#output.warn('dev_info did not provide a valid hash key size');
    } else if (text.length !== digits) {
      this.#output.warn(`key length: ${text.length} invalid - key must be a string of ${digits} hexa-decimal numbers`);
    } else if (at >= 0) {
      this.#output.warn(`invalid key: character ${text[at] ?? ''} at position ${at} is not a valid hexa digit`);
    } else {
      await this.#updateKey(port, RSS_TYPE_NAMES.find(([name]) => name === type)?.[1] ?? 0n, Buffer.from(text, 'hex'));
    }
  }

  async #updateKey(port: Port, types: bigint, key: Uint8Array): Promise<void> {
    const able = capable(port);
    try {
      port.rss();
      if ((types & ~able) !== 0n) {
        this.#output.warn(`Ethdev port_id=${port.id} invalid rss_hf: 0x${types.toString(16)}, valid value: 0x${able.toString(16)}`);
        this.#output.warn(`operation failed - diag=${invalid}`);
        return;
      }
      await port.updateRss({ types, key });
    } catch (error) {
      const code = diagnostic(error);
      this.#output.warn(code === notSupported ? 'operation not supported by device' : `operation failed - diag=${code}`);
      if (code !== notSupported) this.#output.warn(reason(error));
    }
  }

  /** `show port ID rss-hash [key]`. */
  showHash(id: number, withKey: boolean): void {
    const port = this.#ports.get(id)?.port;
    if (port === undefined) {
      this.#output.warn(`Invalid port ${id}`);
      return;
    }
    if (port.info.hashKeySize === 0) {
      this.#output.warn('dev_info did not provide a valid hash key size');
      return;
    }
    try {
      const { types, key } = port.rss();
      if (types === 0n) this.#output.say('RSS disabled');
      else this.#output.print(rssFunctionsText(types, withKey ? key : undefined));
    } catch {
      this.#output.warn('operation not supported by device');
    }
  }

  /** `port config ID rss reta (hash,queue)[,(hash,queue)...]`. */
  async setTable(id: number, text: string): Promise<void> {
    const port = this.#device(id);
    if (port === undefined) return;
    const size = port.info.redirectionTableSize;
    if (size === 0) {
      this.#output.warn('Redirection table size is 0 which is invalid for RSS');
      return;
    }
    this.#output.say(`The reta size of port ${id} is ${size}`);
    const entries = this.#parseTable(text, size);
    if (entries === undefined) this.#output.warn('Invalid RSS Redirection Table config entered');
    else await this.#updateTable(port, entries);
  }

  async #updateTable(port: Port, entries: readonly (number | undefined)[]): Promise<void> {
    const fail = (code: number, line?: string): void => {
      if (line !== undefined) this.#output.warn(line);
      this.#output.warn(`Bad redirection table parameter, return code = ${code}`);
    };
    const queues = port.configuration?.rxQueues ?? 0;
    const wrong = entries.findIndex((queue) => queue !== undefined && queue >= queues);
    if (entries.every((queue) => queue === undefined)) {
      fail(invalid);
    } else if (wrong >= 0) {
      const place = `reta_conf[${Math.floor(wrong / maskEntries)}]->reta[${wrong % maskEntries}]`;
      fail(invalid, `${place}: ${entries[wrong] ?? 0} exceeds the maximum rxq index: ${queues}`);
    } else if (!isSpread(port)) {
      fail(notSupported, notEnabled);
    } else {
      try {
        await port.updateRssTable(entries);
      } catch (error) {
        fail(diagnostic(error), reason(error));
      }
    }
  }

  /** Pairs in parentheses; what stands between them is passed over, as testpmd does. */
  #parseTable(text: string, size: number): readonly (number | undefined)[] | undefined {
    const entries: (number | undefined)[] = Array.from({ length: size }, () => undefined);
    for (let rest = text; rest.includes('(');) {
      const open = rest.indexOf('(');
      const close = rest.indexOf(')', open);
      if (close < 0) return undefined;
      const [entry, queue, ...more] = rest
        .slice(open + 1, close)
        .split(',')
        .map(leadingNumber);
      if (entry === undefined || queue === undefined || more.length > 0 || entry > 0xffffn || queue > 0xffffn) return undefined;
      if (entry >= BigInt(size)) {
        this.#output.warn(`Invalid RETA hash index=${entry}`);
        return undefined;
      }
      entries[Number(entry)] = Number(queue);
      rest = rest.slice(close);
    }
    return entries;
  }

  /** `show port ID rss reta SIZE (mask0,mask1...)`: the entries that the masks of 64 bits select. */
  showTable(id: number, size: number, text: string): void {
    const port = this.#device(id);
    if (port === undefined) return;
    const most = Math.min(port.info.redirectionTableSize, tableLimit);
    if (size === 0 || size > most) {
      this.#output.warn(`Invalid redirection table size: ${size} (1-${most})`);
      return;
    }
    const masks = this.#parseMasks(text, Math.ceil(size / maskEntries));
    if (masks === undefined) {
      this.#output.warn(`Invalid string: ${text} for reta masks`);
      return;
    }
    try {
      if (masks.every((mask) => mask === 0n)) throw new RangeError('no entry is selected');
      const table = port.rssTable();
      if (table.length !== size) throw new RangeError(`the table has ${table.length} entries`);
      for (const [index, queue] of table.entries()) {
        if (((masks[Math.floor(index / maskEntries)] ?? 0n) >> BigInt(index % maskEntries)) % 2n === 0n) continue;
        this.#output.say(`RSS RETA configuration: hash index=${index}, queue=${queue}`);
      }
    } catch (error) {
      this.#output.warn(`Failed to get RSS RETA info, return code = ${diagnostic(error)}`);
    }
  }

  #parseMasks(text: string, count: number): readonly bigint[] | undefined {
    const inside = /^\s*[^(]*\(([^)]*)\)/.exec(text)?.[1];
    if (inside === undefined) return undefined;
    const fields = inside.split(',');
    if (fields.length < count) {
      this.#output.warn(`The bits of masks do not match the number of reta entries: ${count}`);
      return undefined;
    }
    return fields.slice(0, count).map((field) => BigInt.asUintN(64, leadingNumber(field) ?? 0n));
  }
}
