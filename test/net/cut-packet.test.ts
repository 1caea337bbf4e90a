import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import fc from 'fast-check';
import {
  MBUF_CHECKSUM_OFFSET,
  MBUF_CHECKSUM_START,
  MBUF_FLAGS,
  MBUF_HASH,
  MBUF_HASH_VALID,
  MBUF_HEADER_LENGTH,
  MBUF_PORT,
  MBUF_SEGMENT_SIZE,
  MBUF_USER,
  MBUF_VLAN,
  MBUF_WORK_CHECKSUM,
  MBUF_WORK_ECN,
  MBUF_WORK_TCP4,
  MBUF_WORK_TCP6,
  MBUF_WORK_UDP,
  MBUF_WORK_VLAN,
} from '../../src/memory/mbuf-layout.ts';
import type { Mempool } from '../../src/memory/mempool.ts';
import { CUT_MALFORMED } from '../../src/net/cut-packet.kernel.ts';
import { buildFrame, type FrameFields } from '../support/frames.ts';
import { frame, RingBench, TARGETS } from '../support/ring-pair.ts';

const FIN_PSH_ACK_CWR = 0x99;

const workOf = ({ version, protocol }: FrameFields): number =>
  protocol === 'udp' ? MBUF_WORK_UDP : version === 4 ? MBUF_WORK_TCP4 : MBUF_WORK_TCP6;

/** The packets that a large one of these fields is cut into, made one by one. */
function cutFields(fields: FrameFields, size: number, checksum: 'full' | 'partial'): Buffer[] {
  const { payload, sequence = 1, identification = 0x1234, flags = 0x10 } = fields;
  const count = Math.max(1, Math.ceil(payload.length / size));
  return Array.from({ length: count }, (_, index) => {
    const first = index === 0 ? 0xff : 0x7f;
    const last = index === count - 1 ? 0xff : 0xf6;
    return buildFrame({
      ...fields,
      checksum,
      payload: payload.subarray(index * size, (index + 1) * size),
      sequence: (sequence + index * size) % 2 ** 32,
      identification: (identification + index) & 0xffff,
      flags: flags & first & last,
    }).bytes;
  });
}

describe.each(TARGETS)('cutting large packets on %s', (target) => {
  let bench: RingBench;
  let pool: Mempool;
  beforeEach(() => {
    bench = new RingBench(target, undefined);
    pool = bench.pool({ count: 256, cacheSize: 32 });
    bench.canaries();
  });
  afterEach(() => {
    expect(bench.deadCanaries()).toEqual([]);
    bench[Symbol.dispose]();
  });

  /** A chain whose segments are `segments` bytes long, with the rest in as many more as it takes. */
  const largePacket = (bytes: Uint8Array, segments: readonly number[] = [], from = pool): number => {
    const lengths: number[] = [];
    let left = bytes.length;
    for (const length of segments) {
      if (length > left) break;
      lengths.push(length);
      left -= length;
    }
    for (; left > 2048; left -= 2048) lengths.push(2048);
    const packet = bench.packet(from, bytes, { segments: lengths });
    if (packet === undefined) throw new Error('the pool is empty');
    return packet;
  };
  const mark = (packet: number, work: number, size: number): void => {
    bench.st32(packet + MBUF_FLAGS, work | MBUF_WORK_CHECKSUM);
    bench.st16(packet + MBUF_SEGMENT_SIZE, size);
    bench.st16(packet + MBUF_HEADER_LENGTH, 0xffff);
  };
  const cut = (packet: number, limit = 256, keep = 0, from = pool): number =>
    bench.kernels.cutPacket(packet, from.offset, 0, bench.handles, limit, keep) >>> 0;
  const takeBytes = (count: number): Buffer[] => {
    const packets = bench.listed(count).map((packet) => bench.bytesOf(packet));
    bench.kernels.packetsFree(bench.handles, count, 0);
    return packets;
  };

  const fieldsOf = (payloadBytes: number): fc.Arbitrary<FrameFields> =>
    fc.record({
      version: fc.constantFrom(4 as const, 6 as const),
      protocol: fc.constantFrom('tcp' as const, 'udp' as const),
      vlans: fc.array(fc.nat(0xffff), { maxLength: 2 }),
      ipOptions: fc.nat(10).map((words) => Buffer.alloc(4 * words, 1)),
      extensions: fc.nat(3),
      tcpOptions: fc.nat(10).map((words) => Buffer.alloc(4 * words, 1)),
      identification: fc.nat(0xffff),
      sequence: fc.oneof(fc.nat(0xffff_ffff), fc.constant(0xffff_fff0)),
      flags: fc.nat(0xff),
      payload: fc.nat(payloadBytes).map((length) => frame(length, length)),
    });

  it.each(['full', 'partial'] as const)('makes the packets that a sender would have made, checksums %s', (checksum) => {
    const segments = fc.array(fc.integer({ min: 0, max: 300 }), { maxLength: 8 });
    fc.assert(
      fc.property(fieldsOf(6000), fc.integer({ min: 40, max: 3000 }), segments, (fields, size, wanted) => {
        const large = largePacket(buildFrame({ ...fields, checksum: 'partial' }).bytes, wanted);
        mark(large, workOf(fields), size);
        const count = cut(large, 256, checksum === 'partial' ? 1 : 0);
        bench.kernels.packetFree(large, 0);
        const marks = bench
          .listed(count)
          .map((packet) => [bench.ld16(packet + MBUF_CHECKSUM_START), bench.ld16(packet + MBUF_CHECKSUM_OFFSET)]);
        if (checksum === 'partial') {
          const { transport, field } = buildFrame(fields);
          for (const place of marks) expect(place).toEqual([transport, field]);
        }
        expect(takeBytes(count)).toEqual(cutFields(fields, size, checksum));
        expect(pool.free()).toBe(256);
      }),
      { numRuns: 120 },
    );
  });

  it('leaves the large packet as it was', () => {
    const { bytes } = buildFrame({ version: 4, protocol: 'tcp', payload: frame(3000), checksum: 'partial' });
    const large = largePacket(bytes);
    mark(large, MBUF_WORK_TCP4, 1000);
    const before = bench.read(large, 64);
    expect(takeBytes(cut(large))).toHaveLength(3);
    expect(bench.read(large, 64)).toEqual(before);
    expect(bench.bytesOf(large)).toEqual(bytes);
    bench.kernels.packetFree(large, 0);
  });

  it('hands on what else is known of the packet, and the rest of the work', () => {
    const large = largePacket(
      buildFrame({ version: 4, protocol: 'tcp', payload: frame(1999), checksum: 'partial', flags: FIN_PSH_ACK_CWR }).bytes,
    );
    mark(large, MBUF_WORK_TCP4 | MBUF_WORK_ECN | MBUF_WORK_VLAN | MBUF_HASH_VALID, 1000);
    bench.st16(large + MBUF_PORT, 5);
    bench.st16(large + MBUF_VLAN, 0x123);
    bench.st32(large + MBUF_HASH, 0xcafe_f00d);
    bench.st32(large + MBUF_USER, 7);
    bench.st32(large + MBUF_USER + 4, 8);
    for (const keep of [0, 1]) {
      const count = cut(large, 2, keep);
      expect(count).toBe(2);
      for (const packet of bench.listed(count)) {
        expect(bench.ld32(packet + MBUF_FLAGS)).toBe(MBUF_WORK_VLAN | MBUF_HASH_VALID | (keep === 1 ? MBUF_WORK_CHECKSUM : 0));
        expect(bench.ld16(packet + MBUF_PORT)).toBe(5);
        expect(bench.ld16(packet + MBUF_VLAN)).toBe(0x123);
        expect(bench.ld32(packet + MBUF_HASH)).toBe(0xcafe_f00d);
        expect([bench.ld32(packet + MBUF_USER), bench.ld32(packet + MBUF_USER + 4)]).toEqual([7, 8]);
      }
      expect(takeBytes(count).map((bytes) => bytes[47])).toEqual([0x90, 0x19]);
    }
    bench.kernels.packetFree(large, 0);
  });

  it('cuts 64 KB into as many packets as the limit says, and no more', () => {
    const payload = frame(65_000);
    const fields = { version: 6, protocol: 'udp', payload } as const;
    const large = largePacket(buildFrame({ ...fields, checksum: 'partial' }).bytes);
    mark(large, MBUF_WORK_UDP, 1000);
    expect(cut(large, 64)).toBe(CUT_MALFORMED);
    expect(takeBytes(cut(large, 65)).map((bytes) => bytes.length)).toEqual(Array.from({ length: 65 }, () => 1062));
    bench.kernels.packetFree(large, 0);
  });

  it('gives everything back when mbufs run out, wherever they do', () => {
    for (let count = 0; count <= 8; count++) {
      const small = bench.pool({ count: Math.max(count, 1), cacheSize: 0, name: 'small' });
      const held = count === 0 ? bench.packet(small, Buffer.alloc(1)) : undefined;
      const large = largePacket(buildFrame({ version: 4, protocol: 'tcp', payload: frame(9000), checksum: 'partial' }).bytes);
      mark(large, MBUF_WORK_TCP4, 3000);
      // three packets of two mbufs each
      expect(cut(large, 256, 0, small)).toBe(count < 6 ? 0 : 3);
      if (count >= 6) takeBytes(3);
      expect(small.free()).toBe(count);
      bench.kernels.packetFree(large, 0);
      if (held !== undefined) bench.kernels.packetFree(held, 0);
    }
  });

  it.each([
    ['a segment size of 0', 54, {}, MBUF_WORK_TCP4, 0],
    ['another version than the flags say', 54, {}, MBUF_WORK_TCP6, 1000],
    ['another protocol than the flags say', 54, {}, MBUF_WORK_UDP, 1000],
    ['UDP that is called TCP', 42, { protocol: 'udp' }, MBUF_WORK_TCP4, 1000],
    ['two kinds at once', 54, {}, MBUF_WORK_TCP4 | MBUF_WORK_UDP, 1000],
    ['no TCP header', 53, {}, MBUF_WORK_TCP4, 1000],
    ['TCP options that end behind the packet', 60, { tcpOptions: Buffer.alloc(12) }, MBUF_WORK_TCP4, 1000],
    ['half a UDP header', 41, { protocol: 'udp' }, MBUF_WORK_UDP, 1000],
    ['no IP header', 20, {}, MBUF_WORK_TCP4, 1000],
    ['no Ethernet header', 13, {}, MBUF_WORK_TCP4, 1000],
    ['nothing', 0, {}, MBUF_WORK_TCP4, 1000],
  ] as const)('refuses %s', (_, length, fields, work, size) => {
    const whole = buildFrame({ version: 4, protocol: 'tcp', payload: Buffer.alloc(0), checksum: 'partial', ...fields });
    const large = largePacket(whole.bytes.subarray(0, length));
    mark(large, work, size);
    expect(cut(large)).toBe(CUT_MALFORMED);
    bench.kernels.packetFree(large, 0);
    expect(pool.free()).toBe(256);
  });

  it('refuses fragments and TCP headers shorter than one', () => {
    for (const [at, value] of [
      [20, 0x20],
      [21, 0x01],
      [46, 0x40],
      [14, 0x44],
    ] as const) {
      const { bytes } = buildFrame({ version: 4, protocol: 'tcp', payload: frame(2000), checksum: 'partial' });
      bytes[at] = value;
      const large = largePacket(bytes);
      mark(large, MBUF_WORK_TCP4, 1000);
      expect(cut(large)).toBe(CUT_MALFORMED);
      bench.kernels.packetFree(large, 0);
    }
  });

  it('survives random bytes that say they are large packets', () => {
    const work = fc.constantFrom(MBUF_WORK_TCP4, MBUF_WORK_TCP6, MBUF_WORK_UDP, 0);
    const change = fc.array(fc.tuple(fc.nat(100), fc.nat(255)), { maxLength: 4 });
    fc.assert(
      fc.property(fieldsOf(3000), change, work, fc.integer({ min: 1, max: 2000 }), (fields, changes, kind, size) => {
        const { bytes } = buildFrame({ ...fields, checksum: 'partial' });
        for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
        const large = largePacket(bytes);
        mark(large, kind === 0 ? workOf(fields) : kind, size);
        const count = cut(large, 128);
        if (count !== CUT_MALFORMED) takeBytes(count);
        bench.kernels.packetFree(large, 0);
        expect(pool.free()).toBe(256);
      }),
      { numRuns: 300 },
    );
  });
});
