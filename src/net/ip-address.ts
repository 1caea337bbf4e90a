/**
 * IPv4 and IPv6 addresses and prefixes as text and as bytes in network order.
 * @module
 */
import { isIPv4, isIPv6 } from 'node:net';

export interface Prefix {
  /** 4 or 16 bytes; those behind the length are 0. */
  readonly address: Uint8Array;
  /** Bits, 0..32 or 0..128. */
  readonly length: number;
}

/** Four bytes for `10.0.0.1`, sixteen for `2001:db8::1` (RFC 4291, 2.2); undefined when it is neither. */
export function parseIpAddress(text: string): Uint8Array | undefined {
  if (isIPv4(text)) return Uint8Array.from(text.split('.').map(Number));
  // a zone names an interface, and means nothing here
  if (!isIPv6(text) || text.includes('%')) return undefined;
  const words = (part: string): number[] =>
    part
      .split(':')
      .filter((word) => word !== '')
      .flatMap((word) => {
        const bytes = isIPv4(word) ? parseIpAddress(word) : undefined;
        if (bytes === undefined) return [Number.parseInt(word, 16)];
        const [a = 0, b = 0, c = 0, d = 0] = bytes;
        return [a * 256 + b, c * 256 + d];
      });
  const [head = '', tail] = text.split('::');
  const first = words(head);
  const last = tail === undefined ? [] : words(tail);
  const all = [...first, ...Array.from({ length: 8 - first.length - last.length }, () => 0), ...last];
  return Uint8Array.from(all.flatMap((word) => [word >>> 8, word & 0xff]));
}

/** `10.0.0.0/8`, `2001:db8::/32`, or an address alone; undefined when it is none. Bits behind the length are cleared. */
export function parsePrefix(text: string): Prefix | undefined {
  const [addressText = '', lengthText, more] = text.split('/');
  const address = parseIpAddress(addressText);
  if (address === undefined || more !== undefined) return undefined;
  const bits = 8 * address.length;
  const length = lengthText === undefined ? bits : /^\d{1,3}$/.test(lengthText) ? Number(lengthText) : Number.NaN;
  if (!(length <= bits)) return undefined;
  return { address: maskAddress(address, length), length };
}

/** The address with the bits behind the first `length` cleared. */
export function maskAddress(address: Uint8Array, length: number): Uint8Array {
  return address.map((byte, index) => {
    const bits = Math.min(8, Math.max(0, length - 8 * index));
    return byte & (0xff00 >>> bits) & 0xff;
  });
}

/** `10.0.0.1`, or the shortest form of RFC 5952. */
export function formatIpAddress(address: Uint8Array): string {
  if (address.length === 4) return address.join('.');
  const words = Array.from({ length: 8 }, (_, index) => (address[2 * index] ?? 0) * 256 + (address[2 * index + 1] ?? 0));
  let best = { at: 0, run: 1 };
  for (let at = 0; at < 8; at++) {
    let run = 0;
    while (at + run < 8 && words[at + run] === 0) run++;
    if (run > best.run) best = { at, run };
  }
  const text = (part: readonly number[]): string => part.map((word) => word.toString(16)).join(':');
  return best.run === 1 ? text(words) : `${text(words.slice(0, best.at))}::${text(words.slice(best.at + best.run))}`;
}

export function formatPrefix({ address, length }: Prefix): string {
  return `${formatIpAddress(address)}/${String(length)}`;
}
