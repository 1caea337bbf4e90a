import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { MBUF_DATA } from '../../src/memory/mbuf-layout.ts';
import type { Mempool } from '../../src/memory/mempool.ts';
import {
  TEMPLATE_BYTES,
  TEMPLATE_FLOWS,
  TEMPLATE_HEADER_BYTES,
  TEMPLATE_HEADERS,
  TEMPLATE_LEAST_SEGMENTS,
  TEMPLATE_LENGTH,
  TEMPLATE_NEXT_FLOW,
  TEMPLATE_POOL,
  TEMPLATE_RANDOM,
  TEMPLATE_SEGMENT_LENGTHS,
  TEMPLATE_SEGMENTS,
} from '../../src/net/generate.kernel.ts';
import { RingBench, TARGETS } from '../support/ring-pair.ts';

function sum16(bytes: Uint8Array): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum;
}

/** Ethernet, IPv4 (RFC 791) and UDP, from 198.18.0.1; 42 bytes. */
function headers(destination = '0afd0000'): Buffer {
  const bytes = Buffer.from(`0200000000020200000000010800450000320000000040110000c6120001${destination}00090009001e0000`, 'hex');
  bytes.writeUInt16BE(~sum16(bytes.subarray(14, 34)) & 0xffff, 24);
  return bytes;
}

const total = (lengths: readonly number[]): number => lengths.reduce((sum, length) => sum + length, 0);

describe.each(TARGETS)('generating packets on %s', (target) => {
  let bench: RingBench;
  let pool: Mempool;
  beforeEach(() => {
    bench = new RingBench(target);
    pool = bench.pool({ count: 256, cacheSize: 32 });
  });
  afterEach(() => bench[Symbol.dispose]());
  const template = (segments: readonly number[], bytes = headers()): number => {
    const offset = bench.own(TEMPLATE_BYTES);
    bench.st32(offset + TEMPLATE_POOL, pool.offset);
    bench.st32(offset + TEMPLATE_LENGTH, total(segments));
    bench.st32(offset + TEMPLATE_SEGMENTS, segments.length);
    for (const [index, length] of segments.entries()) bench.st32(offset + TEMPLATE_SEGMENT_LENGTHS + 4 * index, length);
    bench.st32(offset + TEMPLATE_HEADER_BYTES, bytes.length);
    bench.write(offset + TEMPLATE_HEADERS, bytes);
    return offset;
  };
  const make = (offset: number, count: number): number[] => bench.listed(bench.kernels.generatePackets(offset, 0, bench.handles, count));
  const free = (packets: readonly number[]): void => bench.kernels.packetsFree(bench.list(packets), packets.length, 0);

  it.each([[[64]], [[1518]], [[64, 64, 64]], [[60, 1, 1000]], [Array.from({ length: 40 }, () => 50)]])(
    'makes packets of the segments %j',
    (segments) => {
      const packets = make(template(segments), 4);
      expect(packets).toHaveLength(4);
      for (const packet of packets) {
        expect(bench.bytesOf(packet)).toHaveLength(total(segments));
        expect(bench.bytesOf(packet).subarray(0, 42)).toEqual(headers());
      }
      expect(pool.free()).toBe(256 - 4 * segments.length);
      free(packets);
      expect(pool.free()).toBe(256);
    },
  );

  it('makes packets of any number of the segments, with their lengths and the checksum right', () => {
    const segments = [60, 1, 1000, 63];
    const offset = template(segments);
    bench.st32(offset + TEMPLATE_LEAST_SEGMENTS, 2);
    bench.st32(offset + TEMPLATE_RANDOM, 0x9e37_79b9);
    const lengths = new Set<number>();
    for (let turn = 0; turn < 4; turn++) {
      const packets = make(offset, 16);
      for (const packet of packets) {
        const bytes = bench.bytesOf(packet);
        lengths.add(bytes.length);
        expect([bytes.readUInt16BE(16), bytes.readUInt16BE(38)]).toEqual([bytes.length - 14, bytes.length - 34]);
        expect(sum16(bytes.subarray(14, 34))).toBe(0xffff);
      }
      free(packets);
      expect(pool.free()).toBe(256);
    }
    expect([...lengths].sort((one, other) => one - other)).toEqual([61, 1061, 1124]);
  });

  it('cuts the headers where the first segment ends', () => {
    const packet = bench.packet(pool, Buffer.alloc(100, 0x33)) ?? 0;
    const data = bench.ld32(packet + MBUF_DATA);
    free([packet]);
    expect(make(template([20, 44]), 1)).toEqual([packet]);
    expect(bench.read(data, 22)).toEqual(Buffer.concat([headers().subarray(0, 20), Buffer.alloc(2, 0x33)]));
    free([packet]);
  });

  it('writes headers of a length that is no multiple of 4, and not a byte more', () => {
    const packet = bench.packet(pool, Buffer.alloc(100, 0x33)) ?? 0;
    free([packet]);
    expect(make(template([100], headers().subarray(0, 41)), 1)).toEqual([packet]);
    expect(bench.bytesOf(packet)).toEqual(Buffer.concat([headers().subarray(0, 41), Buffer.alloc(59, 0x33)]));
    free([packet]);
  });

  it('makes all packets or none, and loses no mbuf when further segments cannot be had', () => {
    const held = [...make(template([64]), 32), ...make(template([64]), 200)];
    expect(held).toHaveLength(232);
    expect(make(template([64]), 32)).toEqual([]);
    expect(make(template([64, 64, 64]), 10)).toEqual([]);
    expect(pool.free()).toBe(24);
    expect(new Set(bench.freeHandles(pool)).size).toBe(24);
    free(held);
    const packets = make(template([64, 64, 64]), 10);
    expect(packets.map((packet) => bench.bytesOf(packet).length)).toEqual(Array.from({ length: 10 }, () => 192));
    free(packets);
  });

  it.each([
    [1, '0afd0000'],
    [7, '0afd0000'],
    [1000, '0afd0000'],
    [70_000, '0afd0000'],
    [300, '0afdfff0'],
  ])('counts through %i destinations from %s with the checksum right, and begins again', (flows, first) => {
    const offset = template([64], headers(first));
    bench.st32(offset + TEMPLATE_FLOWS, flows);
    const base = Number.parseInt(first, 16);
    for (const start of flows > 1000 ? [0, 65_520, 65_536, 69_990] : [0, flows - 1]) {
      bench.st32(offset + TEMPLATE_NEXT_FLOW, start);
      const packets = make(offset, 32);
      bench.kernels.spreadFlows(offset, bench.list(packets), 32);
      for (const [index, packet] of packets.entries()) {
        const bytes = bench.bytesOf(packet);
        expect(bytes.readUInt32BE(30)).toBe(base + ((start + index) % flows));
        expect(sum16(bytes.subarray(14, 34))).toBe(0xffff);
      }
      expect(bench.ld32(offset + TEMPLATE_NEXT_FLOW)).toBe((start + 32) % flows);
      free(packets);
    }
  });
});
