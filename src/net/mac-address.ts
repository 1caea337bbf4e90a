/**
 * Ethernet addresses: six bytes in transmission order, printed as testpmd prints them (upper case).
 * @module
 */
import { randomFillSync } from 'node:crypto';

/** Six bytes in transmission order. */
export type MacAddress = Uint8Array;

/** Parses `AA:BB:CC:DD:EE:FF` (either case; one or two digits a byte). Returns undefined for anything else. */
export function parseMac(text: string): MacAddress | undefined {
  const parts = text.split(':');
  if (parts.length !== 6) return undefined;
  const mac = new Uint8Array(6);
  for (const [index, part] of parts.entries()) {
    if (!/^[0-9a-fA-F]{1,2}$/.test(part)) return undefined;
    mac[index] = Number.parseInt(part, 16);
  }
  return mac;
}

/** `AA:BB:CC:DD:EE:FF`. */
export function formatMac(mac: MacAddress): string {
  return Array.from(mac, (byte) => byte.toString(16).padStart(2, '0').toUpperCase()).join(':');
}

/** A random locally administered unicast address. */
export function randomMac(): MacAddress {
  const mac = randomFillSync(new Uint8Array(6));
  mac[0] = ((mac[0] ?? 0) & 0xfc) | 0x02;
  return mac;
}

/** True for an address that a station may have: unicast and not all zero. */
export function isUnicast(mac: MacAddress): boolean {
  return mac.length === 6 && ((mac[0] ?? 0) & 1) === 0 && mac.some((byte) => byte !== 0);
}
