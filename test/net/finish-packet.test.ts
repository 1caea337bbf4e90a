import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import fc from 'fast-check';
import {
  MBUF_CHECKSUM_OFFSET,
  MBUF_CHECKSUM_START,
  MBUF_FLAGS,
  MBUF_HASH_VALID,
  MBUF_HEADER_LENGTH,
  MBUF_VLAN,
  MBUF_WORK_CHECKSUM,
  MBUF_WORK_TCP4,
  MBUF_WORK_VLAN,
} from '../../src/memory/mbuf-layout.ts';
import type { Mempool } from '../../src/memory/mempool.ts';
import { buildFrame, sum16, type Frame } from '../support/frames.ts';
import { RingBench, TARGETS, type PacketShape } from '../support/ring-pair.ts';

describe.each(TARGETS)('finishing packets on %s', (target) => {
  let bench: RingBench;
  let pool: Mempool;
  beforeEach(() => {
    bench = new RingBench(target);
    pool = bench.pool({ count: 64 });
    bench.canaries();
  });
  afterEach(() => {
    expect(bench.deadCanaries()).toEqual([]);
    bench[Symbol.dispose]();
  });

  const packetOf = (bytes: Uint8Array, shape: PacketShape = {}): number => {
    const packet = bench.packet(pool, bytes, shape);
    if (packet === undefined) throw new Error('the pool is empty');
    return packet;
  };
  const flagsOf = (packet: number): number => bench.ld32(packet + MBUF_FLAGS);

  /** Marks a packet, finishes its checksum, and frees it. */
  const finish = (bytes: Uint8Array, start: number, offset: number, shape: PacketShape = {}): [number, Buffer] => {
    const packet = packetOf(bytes, shape);
    bench.st32(packet + MBUF_FLAGS, MBUF_WORK_CHECKSUM | MBUF_HASH_VALID);
    bench.st16(packet + MBUF_CHECKSUM_START, start);
    bench.st16(packet + MBUF_CHECKSUM_OFFSET, offset);
    const done = bench.kernels.finishPacketChecksum(packet);
    expect(flagsOf(packet)).toBe(done === 1 ? MBUF_HASH_VALID : MBUF_WORK_CHECKSUM | MBUF_HASH_VALID);
    const after = bench.bytesOf(packet);
    bench.kernels.packetFree(packet, 0);
    return [done, after];
  };

  const payload = fc.uint8Array({ maxLength: 400 });
  const kinds = fc.record({
    version: fc.constantFrom(4 as const, 6 as const),
    protocol: fc.constantFrom('tcp' as const, 'udp' as const),
    payload,
  });
  const cuts = fc.array(fc.integer({ min: 0, max: 60 }), { maxLength: 12 });
  /** No more segments than bytes, wherever they end. */
  const segmentsFor = (bytes: Uint8Array, wanted: readonly number[]): number[] => {
    let left = bytes.length;
    return wanted.filter((length) => (left -= length) >= 0 || ((left += length), false));
  };

  it('finishes what a sender left, across segments that end anywhere', () => {
    fc.assert(
      fc.property(kinds, cuts, fc.integer({ min: 0, max: 3 }), (kind, wanted, shift) => {
        const partial = buildFrame({ ...kind, checksum: 'partial' });
        const shape = { segments: segmentsFor(partial.bytes, wanted), headroom: 125 + shift };
        expect(finish(partial.bytes, partial.transport, partial.field, shape)).toEqual([1, buildFrame(kind).bytes]);
      }),
      { numRuns: 150 },
    );
  });

  it('writes a field that lies across segments', () => {
    const kind = { version: 4, protocol: 'tcp', payload: Buffer.from('odd') } as const;
    const partial = buildFrame({ ...kind, checksum: 'partial' });
    for (let end = partial.transport; end < partial.bytes.length; end++)
      expect(finish(partial.bytes, partial.transport, partial.field, { segments: [end] })).toEqual([1, buildFrame(kind).bytes]);
  });

  it('sums a segment of 60 KB at any alignment', () => {
    const large = bench.pool({ count: 2, dataRoom: 65_472 });
    const kind = { version: 6, protocol: 'udp', payload: Buffer.alloc(60_001, 0xff) } as const;
    const partial = buildFrame({ ...kind, checksum: 'partial' });
    for (const headroom of [128, 127]) {
      const packet = bench.packet(large, partial.bytes, { headroom }) ?? 0;
      bench.st32(packet + MBUF_FLAGS, MBUF_WORK_CHECKSUM);
      bench.st16(packet + MBUF_CHECKSUM_START, partial.transport);
      bench.st16(packet + MBUF_CHECKSUM_OFFSET, 6);
      expect(bench.kernels.finishPacketChecksum(packet)).toBe(1);
      expect(bench.bytesOf(packet).equals(buildFrame(kind).bytes)).toBe(true);
      bench.kernels.packetFree(packet, 0);
    }
  });

  it('sends 0xffff for a UDP checksum of 0 (RFC 768), and 0 for a TCP checksum of 0', () => {
    const zero = (protocol: 'tcp' | 'udp'): Frame => {
      const payload = Buffer.alloc(2);
      // the word that makes the sum 0xffff
      payload.writeUInt16BE(buildFrame({ version: 4, protocol, payload }).bytes.readUInt16BE(protocol === 'tcp' ? 50 : 40));
      return buildFrame({ version: 4, protocol, payload, checksum: 'partial' });
    };
    const udp = zero('udp');
    expect(finish(udp.bytes, udp.transport, 6)[1].readUInt16BE(udp.transport + 6)).toBe(0xffff);
    const tcp = zero('tcp');
    expect(finish(tcp.bytes, tcp.transport, 16)[1].readUInt16BE(tcp.transport + 16)).toBe(0);
  });

  it('refuses a field outside the packet, wherever a peer says that it is', () => {
    const u16 = fc.oneof(fc.integer({ min: 0, max: 120 }), fc.integer({ min: 0, max: 0xffff }));
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 100 }), u16, u16, cuts, (bytes, start, offset, wanted) => {
        const [done, after] = finish(bytes, start, offset, { segments: segmentsFor(bytes, wanted) });
        const field = start + offset;
        expect(done).toBe(field + 2 <= bytes.length ? 1 : 0);
        if (done === 0) expect(after).toEqual(Buffer.from(bytes));
        else {
          const sum = ~sum16(bytes.subarray(start)) & 0xffff;
          expect(after.readUInt16BE(field)).toBe(sum === 0 && offset === 6 ? 0xffff : sum);
          after.set(bytes.subarray(field, field + 2), field);
          expect(after).toEqual(Buffer.from(bytes));
        }
      }),
      { numRuns: 300 },
    );
  });

  it('leaves a packet without the flag alone', () => {
    const packet = packetOf(Buffer.alloc(60));
    expect(bench.kernels.finishPacketChecksum(packet)).toBe(1);
    expect(bench.kernels.insertVlan(packet)).toBe(1);
    expect(bench.bytesOf(packet)).toEqual(Buffer.alloc(60));
    bench.kernels.packetFree(packet, 0);
  });

  it.each([
    [128, [], 1],
    [4, [12], 1],
    [3, [], 0],
    [128, [11], 0],
  ])('inserts a tag with %i bytes of headroom and segments %j: %i', (headroom, segments, done) => {
    const plain = buildFrame({ version: 4, protocol: 'tcp', payload: Buffer.from('hello'), checksum: 'partial' });
    const packet = packetOf(plain.bytes, { headroom, segments });
    const work = MBUF_WORK_CHECKSUM | MBUF_WORK_TCP4;
    bench.st32(packet + MBUF_FLAGS, work | MBUF_WORK_VLAN);
    bench.st16(packet + MBUF_VLAN, 0x6123);
    bench.st16(packet + MBUF_CHECKSUM_START, 34);
    bench.st16(packet + MBUF_HEADER_LENGTH, 54);
    expect(bench.kernels.insertVlan(packet)).toBe(done);
    const tagged = buildFrame({ vlans: [0x6123], version: 4, protocol: 'tcp', payload: Buffer.from('hello'), checksum: 'partial' });
    expect(bench.bytesOf(packet)).toEqual(done === 1 ? tagged.bytes : plain.bytes);
    expect(bench.ld16(packet + MBUF_CHECKSUM_START)).toBe(done === 1 ? 38 : 34);
    expect(bench.ld16(packet + MBUF_HEADER_LENGTH)).toBe(done === 1 ? 58 : 54);
    expect(flagsOf(packet)).toBe(done === 1 ? work : work | MBUF_WORK_VLAN);
    bench.kernels.packetFree(packet, 0);
  });

  describe('frames of which nobody says where the field is', () => {
    /** Finishes a frame that lies at an odd place of the arena. */
    const finishFrame = (bytes: Uint8Array): [number, Buffer] => {
      const at = bench.own(2048) + 1;
      bench.write(at, bytes);
      return [bench.kernels.finishChecksum(at, bytes.length), bench.read(at, bytes.length)];
    };

    it('finds and finishes it behind VLAN tags, IP options and extension headers', () => {
      const shape = fc.record({ vlans: fc.array(fc.nat(0xffff), { maxLength: 2 }), words: fc.nat(10), extensions: fc.nat(3) });
      fc.assert(
        fc.property(kinds, shape, (kind, { vlans, words, extensions }) => {
          const fields = { ...kind, vlans, extensions, ipOptions: Buffer.alloc(4 * words, 1) };
          const padding = Buffer.alloc(7, 0x55);
          const partial = Buffer.concat([buildFrame({ ...fields, checksum: 'partial' }).bytes, padding]);
          expect(finishFrame(partial)).toEqual([1, Buffer.concat([buildFrame(fields).bytes, padding])]);
          const wrong = buildFrame({ ...fields, checksum: 0xabcd }).bytes;
          expect(finishFrame(wrong)).toEqual([0, wrong]);
        }),
        { numRuns: 60 },
      );
    });

    it('takes random bytes, and frames cut anywhere, without touching what is around them', () => {
      const whole = buildFrame({ version: 6, protocol: 'tcp', extensions: 1, vlans: [1], payload: Buffer.alloc(8), checksum: 'partial' });
      fc.assert(
        fc.property(fc.uint8Array({ maxLength: 90 }), fc.nat(whole.bytes.length - 1), (random, end) => {
          expect(finishFrame(random)[0]).toBeLessThan(2);
          expect(finishFrame(whole.bytes.subarray(0, end))).toEqual([0, whole.bytes.subarray(0, end)]);
        }),
        { numRuns: 200 },
      );
    });
  });
});
