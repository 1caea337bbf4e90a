/**
 * Numbers as they are written on the command line. Where DPDK's atoi reads `5x` for 5 and `x` for 0, these answer undefined.
 * @module
 */

/** An integer in decimal, with or without a sign. */
export function decimal(text: string): number | undefined {
  if (!/^[+-]?\d+$/.test(text)) return undefined;
  const number = Number(text);
  return Number.isSafeInteger(number) ? number + 0 : undefined;
}

/** What C's atoi makes of the text, for messages that quote it: the leading digits, or 0. */
export function atoi(text: string): number {
  const digits = /^\s*[+-]?\d+/.exec(text)?.[0];
  return digits === undefined ? 0 : Number(digits) | 0;
}

/** A number in decimal or, after `0x`, in hexadecimal. */
export function unsigned(text: string): number | undefined {
  if (!/^(\d+|0[xX][0-9a-fA-F]+)$/.test(text)) return undefined;
  const number = Number(text);
  return Number.isSafeInteger(number) ? number : undefined;
}

/** A hexadecimal number, `0x` or not, below 2^53. */
export function hexadecimal(text: string): number | undefined {
  if (!/^(0[xX])?[0-9a-fA-F]+$/.test(text)) return undefined;
  const number = Number.parseInt(text.replace(/^0[xX]/, ''), 16);
  return Number.isSafeInteger(number) ? number : undefined;
}

/** Positions of the bits that a hexadecimal mask of any length sets, lowest first; `0x` or not; undefined for anything else. */
export function maskBits(text: string): number[] | undefined {
  if (!/^(0[xX])?[0-9a-fA-F]+$/.test(text)) return undefined;
  const digits = text.replace(/^0[xX]/, '');
  const bits: number[] = [];
  for (let nibble = 0; nibble < digits.length; nibble++) {
    const value = Number.parseInt(digits.charAt(digits.length - 1 - nibble), 16);
    for (let bit = 0; bit < 4; bit++) if (((value >> bit) & 1) !== 0) bits.push(nibble * 4 + bit);
  }
  return bits;
}

/** `0-1,3`: ascending numbers with runs joined. */
export function formatRanges(numbers: readonly number[]): string {
  const parts: string[] = [];
  for (let at = 0; at < numbers.length;) {
    const first = numbers[at] ?? 0;
    let last = first;
    for (at++; numbers[at] === last + 1; at++) last++;
    parts.push(first === last ? `${first}` : `${first}-${last}`);
  }
  return parts.join(',');
}
