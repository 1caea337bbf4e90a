import { describe, expect, it } from 'vitest';
import { formatMac, isUnicast, parseMac, randomMac } from '../../src/net/mac-address.ts';

const WRONG = [
  '',
  '02:00:00:00:00',
  '02:00:00:00:00:01:02',
  '02:00:00:00:00:g1',
  '020000000001',
  '02-00-00-00-00-01',
  ' 2:0:0:0:0:1',
  '002:0:0:0:0:1',
  ':::::',
];

describe('Ethernet addresses', () => {
  it('are read in either case, with one or two digits a byte', () => {
    expect([...(parseMac('FF:ff:Ab:cD:0:1') ?? [])]).toEqual([255, 255, 0xab, 0xcd, 0, 1]);
  });

  it.each(WRONG)('refuses "%s"', (text) => {
    expect(parseMac(text)).toBeUndefined();
  });

  it('are printed as testpmd prints them: upper case, two digits', () => {
    expect(formatMac(Uint8Array.of(2, 0, 0xab, 0xc, 0xff, 1))).toBe('02:00:AB:0C:FF:01');
  });

  it('are made local, unicast, and no two alike', () => {
    const macs = Array.from({ length: 50 }, randomMac);
    for (const mac of macs) expect([mac.length, (mac[0] ?? 0) & 3, isUnicast(mac)]).toEqual([6, 2, true]);
    expect(new Set(macs.map(formatMac)).size).toBe(50);
  });

  it('of no station: all zero, multicast, or of another length', () => {
    const kinds = [[0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0], [255, 255, 255, 255, 255, 255], [2], [0, 0, 0, 0, 0, 1]];
    expect(kinds.map((bytes) => isUnicast(Uint8Array.from(bytes)))).toEqual([false, false, false, false, true]);
  });
});
