import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import fc from 'fast-check';
import { MBUF_DATA } from '../../src/memory/mbuf-layout.ts';
import type { Mempool } from '../../src/memory/mempool.ts';
import { RingBench, TARGETS } from '../support/ring-pair.ts';

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(/[\s:]/g, ''), 'hex');

const A = '02:00:00:00:00:0a';
const B = '02:00:00:00:00:0b';

/** One's complement sum of 16-bit words (RFC 1071). */
function sum16(bytes: Uint8Array): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum;
}

interface Ipv4 {
  readonly protocol?: number;
  readonly fragment?: number;
  readonly options?: string;
}

/** An IPv4 packet from 10.0.0.1 to 10.0.0.2 (RFC 791), its header's checksum filled in; or the other way round. */
function ipv4(payload: string, { protocol = 17, fragment = 0, options = '' }: Ipv4 = {}, swapped = false): string {
  const words = `${(0x45 + options.length / 8).toString(16)}0000001234${fragment.toString(16).padStart(4, '0')}40${protocol.toString(16).padStart(2, '0')}0000`;
  const header = hex(words + (swapped ? '0a0000020a000001' : '0a0000010a000002') + options);
  header.writeUInt16BE(header.length + hex(payload).length, 2);
  header.writeUInt16BE(~sum16(header) & 0xffff, 10);
  return header.toString('hex') + payload;
}

const V6_A = '20010db8000000000000000000000001';
const V6_B = '20010db80000000000000000000000fe';
const ipv6 = (next: string, payload: string, swapped = false): string =>
  `600000000010${next}40${swapped ? V6_B + V6_A : V6_A + V6_B}${payload}`;

const UDP = '111122220010beef0102030405060708';
const UDP_SWAPPED = '222211110010beef0102030405060708';
const TCP = '0050c00000000001000000025010ffffabcd0000';
const TCP_SWAPPED = 'c000005000000001000000025010ffffabcd0000';

/** What follows the addresses, before and after. */
const CASES: readonly (readonly [name: string, before: string, after: string])[] = [
  ['UDP over IPv4', `0800 ${ipv4(UDP)}`, `0800 ${ipv4(UDP_SWAPPED, {}, true)}`],
  ['TCP over IPv4', `0800 ${ipv4(TCP, { protocol: 6 })}`, `0800 ${ipv4(TCP_SWAPPED, { protocol: 6 }, true)}`],
  [
    'UDP behind IPv4 options',
    `0800 ${ipv4(UDP, { options: '0101010194040000' })}`,
    `0800 ${ipv4(UDP_SWAPPED, { options: '0101010194040000' }, true)}`,
  ],
  ['a later fragment, which has no ports', `0800 ${ipv4(UDP, { fragment: 0x2001 })}`, `0800 ${ipv4(UDP, { fragment: 0x2001 }, true)}`],
  ['the last fragment', `0800 ${ipv4(UDP, { fragment: 0x1fff })}`, `0800 ${ipv4(UDP, { fragment: 0x1fff }, true)}`],
  ['ports in a first fragment', `0800 ${ipv4(UDP, { fragment: 0x2000 })}`, `0800 ${ipv4(UDP_SWAPPED, { fragment: 0x2000 }, true)}`],
  [
    'ports where fragmenting is forbidden',
    `0800 ${ipv4(UDP, { fragment: 0x4000 })}`,
    `0800 ${ipv4(UDP_SWAPPED, { fragment: 0x4000 }, true)}`,
  ],
  ['ICMP: no ports', `0800 ${ipv4(UDP, { protocol: 1 })}`, `0800 ${ipv4(UDP, { protocol: 1 }, true)}`],
  ['UDP over IPv6', `86dd ${ipv6('11', UDP)}`, `86dd ${ipv6('11', UDP_SWAPPED, true)}`],
  ['TCP over IPv6', `86dd ${ipv6('06', TCP)}`, `86dd ${ipv6('06', TCP_SWAPPED, true)}`],
  ['ICMPv6: no ports', `86dd ${ipv6('3a', UDP)}`, `86dd ${ipv6('3a', UDP, true)}`],
  ['what is behind a VLAN tag', `8100 0064 0800 ${ipv4(UDP)}`, `8100 0064 0800 ${ipv4(UDP_SWAPPED, {}, true)}`],
  [
    'what is behind two VLAN tags',
    `8100 0001 8100 0002 86dd ${ipv6('11', UDP)}`,
    `8100 0001 8100 0002 86dd ${ipv6('11', UDP_SWAPPED, true)}`,
  ],
  ['nothing behind any other type', `0806 ${UDP}`, `0806 ${UDP}`],
  ['nothing in an IPv4 header cut short', `0800 ${ipv4('').slice(0, 38)}`, `0800 ${ipv4('').slice(0, 38)}`],
  ['nothing in an IPv6 header cut short', `86dd ${ipv6('11', '').slice(0, 78)}`, `86dd ${ipv6('11', '').slice(0, 78)}`],
  ['no ports that are cut short', `0800 ${ipv4('111122')}`, `0800 ${ipv4('111122', {}, true)}`],
  ['nothing behind a VLAN tag cut short', '8100 0064 08', '8100 0064 08'],
];

describe.each(TARGETS)('ethernet kernels on %s', (target) => {
  let bench: RingBench;
  let pool: Mempool;
  beforeEach(() => {
    bench = new RingBench(target);
    pool = bench.pool({ count: 64 });
  });
  afterEach(() => bench[Symbol.dispose]());
  /** Runs a kernel over packets at every alignment; returns their bytes. */
  const through = (kernel: (mbufs: number, count: number) => void, packets: readonly Buffer[]): Buffer[] => {
    const mbufs = packets.map((bytes, index) => bench.packet(pool, bytes, { headroom: 128 + (index % 4) }) ?? 0);
    const ends = mbufs.map((mbuf, index) => bench.ld32(mbuf + MBUF_DATA) + (packets[index]?.length ?? 0));
    for (const end of ends) bench.u8.fill(0x99, end, end + 64);
    kernel(bench.list(mbufs), mbufs.length);
    const bytes = mbufs.map((mbuf) => bench.bytesOf(mbuf));
    for (const end of ends) expect(bench.read(end, 64).equals(Buffer.alloc(64, 0x99)), 'bytes behind the packet').toBe(true);
    bench.kernels.packetsFree(bench.list(mbufs), mbufs.length, 0);
    return bytes;
  };
  const four = (text: string): Buffer[] => Array.from({ length: 4 }, () => hex(text));

  it('gives every packet the addresses, and touches nothing else', () => {
    const addresses = bench.own(16);
    bench.write(addresses, hex(`${B} ${A}`));
    const set = (mbufs: number, count: number): void => bench.kernels.setEthernetAddresses(mbufs, count, addresses);
    expect(through(set, four(`${'00'.repeat(12)} ffff 01020304`))).toEqual(four(`${B} ${A} ffff 01020304`));
  });

  it('swaps the addresses of every packet', () => {
    expect(through(bench.kernels.swapEthernetAddresses, four(`${A} ${B} 0800 45`))).toEqual(four(`${B} ${A} 0800 45`));
  });

  it.each(CASES)('swaps %s', (_, before, after) => {
    expect(through(bench.kernels.swapFiveTuples, four(`${A} ${B} ${before}`))).toEqual(four(`${B} ${A} ${after}`));
  });

  it.each([0, 1, 4])('does not take bytes of the IPv4 header for ports when it says that it has %i words', (words) => {
    const bad = hex(`${A} ${B} 0800 ${ipv4(UDP)}`);
    bad[14] = 0x40 | words;
    const [after] = through(bench.kernels.swapFiveTuples, [bad]);
    expect(after?.subarray(14, 26)).toEqual(bad.subarray(14, 26));
    expect(after?.subarray(34)).toEqual(bad.subarray(34));
  });

  it('keeps every checksum right, and swapping twice changes nothing', () => {
    const bytes = fc.uint8Array({ minLength: 14, maxLength: 100 });
    const options = fc.record({ fragment: fc.constantFrom(0, 0x2000, 0x4000, 0x0abc), protocol: fc.constantFrom(6, 17, 1) });
    const packet = fc.oneof(
      bytes.map((random) => Buffer.from(random)),
      fc.tuple(options, bytes).map(([given, random]) => hex(`${A} ${B} 0800 ${ipv4(Buffer.from(random).toString('hex'), given)}`)),
    );
    fc.assert(
      fc.property(fc.array(packet, { minLength: 1, maxLength: 16 }), (packets) => {
        const once = through(bench.kernels.swapFiveTuples, packets);
        expect(once.map(sum16)).toEqual(packets.map(sum16));
        expect(through(bench.kernels.swapFiveTuples, once)).toEqual(packets);
      }),
      { numRuns: 200 },
    );
  });
});
