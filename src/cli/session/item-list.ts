/**
 * Lists of numbers with commas between: port lists, core lists, segment lengths.
 * @module
 */

/** The numbers, or the sentence that says what is wrong. An empty last item is 0, as testpmd reads it. */
export type ItemList = { readonly items: readonly number[] } | { readonly error: string };

export interface ItemListRules {
  /** What an item is, in an error: `port`, `core`, `segment lengths`. */
  readonly item: string;
  readonly max: number;
  readonly unique: boolean;
}

export function parseItemList(text: string, { item, max, unique }: ItemListRules): ItemList {
  const stray = /[^0-9,]/.exec(text);
  const words = (stray === null ? text : text.slice(0, stray.index)).split(',');
  if (words.slice(0, -1).includes('')) return { error: 'No valid value before comma' };
  if (stray !== null) return { error: `character ${stray[0]} is not a decimal digit` };
  if (words.length > max) return { error: `Number of ${item} = ${words.length} > ${max} (maximum items)` };
  const items = words.map((word) => Number(word) >>> 0);
  if (!unique) return { items };
  for (const [index, value] of items.entries()) {
    const again = items.indexOf(value, index + 1);
    if (again !== -1) return { error: `duplicated ${item} ${value} at index ${index} and ${again}` };
  }
  return { items };
}
