/**
 * How a virtio port's received packets are spread over its queues by a hash: what is set, which stays from one start to the next and from
 * one device to the next, and what of it the device that is there is told (virtio 1.2, 5.1.6.5.7).
 * @module
 */
import type { RssSettings } from '../backend/control-commands.ts';
import type { VirtioError } from '../system/error.ts';
import type { PortConfiguration, RssState } from './port.ts';
import { defaultRssTable, hashTypesOf, RSS_DEFAULT_KEY, RSS_IP, RSS_KEY_BYTES, RSS_TABLE_ENTRIES, rssTypesOf } from './rss.ts';

/** Key, kinds of packets, and table. */
export interface RssSetup extends RssState {
  readonly table: readonly number[];
}

export class VirtioRss {
  readonly #fail: (text: string) => VirtioError;
  #setup: RssSetup = { key: RSS_DEFAULT_KEY, types: RSS_IP, table: [] };

  /** @param fail the port's own error EINVAL */
  constructor(fail: (text: string) => VirtioError) {
    this.#fail = fail;
  }

  /** @param queuesBefore receive queues of the configuration before; the table stays as it was when they are as many */
  configure({ rxQueues, rssTypes = RSS_IP }: PortConfiguration, queuesBefore: number | undefined): void {
    const table = queuesBefore === rxQueues ? this.#setup.table : defaultRssTable(RSS_TABLE_ENTRIES, rxQueues);
    this.#setup = { ...this.#setup, types: rssTypes, table };
  }

  get table(): readonly number[] {
    return this.#setup.table;
  }

  /** @param capable RSS_* bits that the device hashes */
  state(capable: bigint): RssState {
    return { key: this.#setup.key, types: rssTypesOf(hashTypesOf(this.#setup.types & capable)) };
  }

  /** What is set with another key or other kinds; keep() makes it so. @throws VirtioError EINVAL */
  withState(change: Partial<RssState>, capable: bigint): RssSetup {
    const { types = this.#setup.types & capable, key = this.#setup.key } = change;
    if ((types & ~capable) !== 0n) throw this.#fail(`RSS types 0x${types.toString(16)} are not within 0x${capable.toString(16)}`);
    if (key.length !== RSS_KEY_BYTES) throw this.#fail(`an RSS key has ${String(RSS_KEY_BYTES)} bytes, not ${String(key.length)}`);
    return { ...this.#setup, types, key: Uint8Array.from(key) };
  }

  /** What is set with other entries of the table, those that are not undefined; keep() makes it so. @throws VirtioError EINVAL */
  withTable(entries: readonly (number | undefined)[], queues: number): RssSetup {
    if (entries.length !== RSS_TABLE_ENTRIES) throw this.#fail(`the RSS table has ${String(RSS_TABLE_ENTRIES)} entries`);
    const table = this.#setup.table.map((queue, index) => entries[index] ?? queue);
    if (table.some((queue) => !Number.isInteger(queue) || queue < 0 || queue >= queues)) {
      throw this.#fail(`the RSS table names a queue outside 0..${String(queues - 1)}`);
    }
    return { ...this.#setup, table };
  }

  keep(setup: RssSetup): void {
    this.#setup = setup;
  }

  /** What a device is told that hashes `capable`. */
  settings(capable: bigint, transmitQueues: number, { types, key, table }: RssSetup = this.#setup): RssSettings {
    return { hashTypes: hashTypesOf(types & capable), key, table, unclassifiedQueue: 0, transmitQueues };
  }
}
