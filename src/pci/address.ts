/**
 * Addresses of PCI functions: `0000:00:10.0`, domain, bus, device and function in hexadecimal digits; the domain may be left out.
 * @module
 */

/** The full address, in lower case, or undefined for text that is none. */
export function parsePciAddress(text: string): string | undefined {
  const match = /^(?:([0-9a-fA-F]{1,8}):)?([0-9a-fA-F]{1,2}):([0-9a-fA-F]{1,2})\.([0-7])$/.exec(text);
  const device = Number.parseInt(match?.[3] ?? 'ff', 16);
  if (match === null || device > 31) return undefined;
  const [, domain = '0', bus = '', , number = ''] = match;
  const pad = (digits: string, width: number): string => digits.replace(/^0+/, '').toLowerCase().padStart(width, '0');
  return `${pad(domain, 4)}:${pad(bus, 2)}:${pad(device.toString(16), 2)}.${number}`;
}
