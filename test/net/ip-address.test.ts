/**
 * IP addresses and prefixes as text.
 */
import { SocketAddress } from 'node:net';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { formatIpAddress, formatPrefix, maskAddress, parseIpAddress, parsePrefix } from '../../src/net/ip-address.ts';

const bytes = (...list: readonly number[]): Uint8Array => Uint8Array.from(list);

test.each([
  ['10.0.0.1', bytes(10, 0, 0, 1)],
  ['::', new Uint8Array(16)],
  ['::1', bytes(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1)],
  ['2001:db8::ff00:42:8329', bytes(0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0xff, 0, 0, 0x42, 0x83, 0x29)],
  ['1:2:3:4:5:6:7::', bytes(0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0, 7, 0, 0)],
  // RFC 4291, 2.2
  ['::ffff:129.144.52.38', bytes(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 129, 144, 52, 38)],
] as const)('%s', (text, expected) => {
  expect(parseIpAddress(text)).toEqual(expected);
});

test.each(['', '10.0.0', '10.0.0.256', '1.2.3.4.5', 'fe80::1%eth0', '1:2:3:4:5:6:7:8:9', '::1::', 'x', '10.0.0.1/8'])(
  '%s is no address',
  (text) => {
    expect(parseIpAddress(text)).toBeUndefined();
  },
);

test('prefixes', () => {
  expect(parsePrefix('10.1.2.3/9')).toEqual({ address: bytes(10, 0, 0, 0), length: 9 });
  expect(parsePrefix('10.129.2.3/9')).toEqual({ address: bytes(10, 128, 0, 0), length: 9 });
  expect(parsePrefix('10.1.2.3')).toEqual({ address: bytes(10, 1, 2, 3), length: 32 });
  expect(parsePrefix('::1/0')).toEqual({ address: new Uint8Array(16), length: 0 });
  for (const text of ['10.0.0.0/33', '::/129', '10.0.0.0/', '10.0.0.0/8/8', '10.0.0.0/-1', '/8']) expect(parsePrefix(text)).toBeUndefined();
  expect(formatPrefix({ address: bytes(198, 18, 0, 0), length: 24 })).toBe('198.18.0.0/24');
  expect(maskAddress(bytes(255, 255, 255, 255), 0)).toEqual(bytes(0, 0, 0, 0));
});

test('property: what is written is read again, and written as Node writes it', () => {
  const word = fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 0xffff }));
  fc.assert(
    fc.property(fc.array(word, { minLength: 8, maxLength: 8 }), (words) => {
      const address = Uint8Array.from(words.flatMap((value) => [value >>> 8, value & 0xff]));
      const text = formatIpAddress(address);
      expect(parseIpAddress(text)).toEqual(address);
      // those that contain an IPv4 address are written in dots there
      const theirs = new SocketAddress({ address: text, family: 'ipv6' }).address;
      if (!theirs.includes('.')) expect(text).toBe(theirs);
    }),
  );
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 4, maxLength: 4 }), (address) => {
      expect(parseIpAddress(formatIpAddress(address))).toEqual(address);
    }),
  );
});
