/**
 * Lists of numbers: `64,32,16` and `0,2-3`.
 * @module
 */

export type ItemList =
  | { readonly items: readonly number[]; readonly problem: undefined }
  /** `problem` is what DPDK prints. */
  | { readonly items: undefined; readonly problem: string };

/** Decimal numbers between commas, at most `most`; the empty text is one 0, as in DPDK, and out of every range. */
export function parseItemList(text: string, most: number): ItemList {
  if (text === '') return { items: [0], problem: undefined };
  const items: number[] = [];
  let digits = '';
  for (const character of text) {
    if (/\d/.test(character)) digits += character;
    else if (character !== ',') return failed(`character ${character} is not a decimal digit`);
    else if (digits === '') return failed('No valid value before comma');
    else {
      items.push(clamp(digits));
      digits = '';
    }
  }
  if (digits === '') return failed('No valid value after comma');
  items.push(clamp(digits));
  if (items.length > most) return failed(`Number of items = ${items.length} > ${most} (maximum items)`);
  return { items, problem: undefined };
}

/** Numbers and ranges below `limit`, in the order given and each once; undefined for anything else. */
export function parsePortList(text: string, limit: number): number[] | undefined {
  const ports = new Set<number>();
  for (const part of text.split(',')) {
    const range = /^\s*(\d{1,4})\s*(?:-\s*(\d{1,4})\s*)?$/.exec(part);
    if (range === null) return undefined;
    const first = Number(range[1]);
    const last = Number(range[2] ?? first);
    if (first > last || last >= limit) return undefined;
    for (let port = first; port <= last; port++) ports.add(port);
  }
  return [...ports];
}

function failed(problem: string): ItemList {
  return { items: undefined, problem };
}

/** Numbers above 32 bits are out of every range that a list has. */
function clamp(digits: string): number {
  return Math.min(Number(digits), 0xffff_ffff);
}
