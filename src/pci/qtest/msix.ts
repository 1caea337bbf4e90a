/**
 * The MSI-X table of a function (PCI Local Bus 3.0, 6.8.2). A message is a write of one word, to wherever the entry says: it need not be
 * an interrupt controller.
 * @module
 */
import { VirtioError } from '../../system/error.ts';
import { PCI_CAP_ID_MSIX, readCapabilities } from '../capabilities.ts';
import type { Registers } from '../pci-function.ts';

const MESSAGE_CONTROL = 2;
const TABLE = 4;
const CONTROL_ENABLE = 0x8000;
const CONTROL_MASK_ALL = 0x4000;
const CONTROL_SIZE = 0x7ff;
const ENTRY_BYTES = 16;
const ENTRY_CONTROL = 12;
const ENTRY_MASKED = 1;

export class MsixTable {
  /** Vectors. */
  readonly count: number;
  readonly #config: Registers;
  readonly #capability: number;
  readonly #table: Registers;
  readonly #offset: number;

  private constructor(config: Registers, capability: number, count: number, table: Registers, offset: number) {
    this.#config = config;
    this.#capability = capability;
    this.count = count;
    this.#table = table;
    this.#offset = offset;
  }

  /**
   * @param bar opens a BAR
   * @returns undefined for a function without MSI-X
   * @throws VirtioError EPROTO for a table outside its BAR
   */
  static async find(name: string, config: Registers, bar: (index: number) => Promise<Registers>): Promise<MsixTable | undefined> {
    const capability = (await readCapabilities(name, config)).find(({ id }) => id === PCI_CAP_ID_MSIX);
    if (capability === undefined) return undefined;
    const count = ((await config.read(capability.offset + MESSAGE_CONTROL, 2)) & CONTROL_SIZE) + 1;
    const place = await config.read(capability.offset + TABLE, 4);
    const table = await bar(place & 7);
    const offset = place & ~7;
    if (offset + count * ENTRY_BYTES > table.bytes) {
      throw new VirtioError(`${name}: its MSI-X table does not lie inside of BAR ${String(place & 7)}; the device cannot be used`, {
        code: 'EPROTO',
      });
    }
    return new MsixTable(config, capability.offset, count, table, offset);
  }

  /** From now on vector `index` is a write of `data` at an address. */
  async set(index: number, message: { readonly low: number; readonly high: number; readonly data: number }): Promise<void> {
    const entry = this.#offset + index * ENTRY_BYTES;
    await this.#table.write(entry + ENTRY_CONTROL, 4, ENTRY_MASKED);
    await this.#table.write(entry, 4, message.low);
    await this.#table.write(entry + 4, 4, message.high);
    await this.#table.write(entry + 8, 4, message.data);
    await this.#table.write(entry + ENTRY_CONTROL, 4, 0);
  }

  /** What happens meanwhile is remembered, and told by the next set(). */
  async mask(index: number): Promise<void> {
    await this.#table.write(this.#offset + index * ENTRY_BYTES + ENTRY_CONTROL, 4, ENTRY_MASKED);
  }

  async enable(on: boolean): Promise<void> {
    const control = (await this.#config.read(this.#capability + MESSAGE_CONTROL, 2)) & ~(CONTROL_ENABLE | CONTROL_MASK_ALL);
    await this.#config.write(this.#capability + MESSAGE_CONTROL, 2, on ? control | CONTROL_ENABLE : control);
  }
}
