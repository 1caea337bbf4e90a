import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import fc from 'fast-check';
import {
  MBUF_CHECKSUM_BAD,
  MBUF_CHECKSUM_GOOD,
  MBUF_HASH_VALID,
  MBUF_IP_CHECKSUM_BAD,
  MBUF_WORK_CHECKSUM,
  MBUF_WORK_TCP4,
  MBUF_WORK_TCP6,
  MBUF_WORK_UDP,
} from '../../src/memory/mbuf-layout.ts';
import {
  CSUM_ADDRESSES,
  CSUM_ASK_TCP,
  CSUM_ASK_TCP_SEGMENTS,
  CSUM_ASK_UDP,
  CSUM_ASK_UDP_SEGMENTS,
  CSUM_BAD_IP,
  CSUM_BAD_TRANSPORT,
  CSUM_SEGMENT_SIZE,
  CSUM_SWITCHES,
  CSUM_TUNNELS,
} from '../../src/net/recompute-checksums.kernel.ts';
import { buildFrame, hex, type FrameFields } from '../support/frames.ts';
import { PacketBench, type Marks } from '../support/packets.ts';
import { frame, TARGETS } from '../support/ring-pair.ts';

const ASK_ALL = CSUM_ASK_TCP | CSUM_ASK_UDP;
const ASK_SEGMENTS = CSUM_ASK_TCP_SEGMENTS | CSUM_ASK_UDP_SEGMENTS;
/** Bytes behind the IP packet, as a short Ethernet frame has; not zeros. */
const PADDING = Buffer.alloc(9, 0x5a);

describe.each(TARGETS)('recomputing checksums on %s', (target) => {
  let bench: PacketBench;
  beforeEach(() => {
    bench = new PacketBench(target);
  });
  afterEach(() => bench[Symbol.dispose]());

  /** One packet through the kernel: its bytes and marks. */
  const through = (bytes: Uint8Array, marks: Partial<Marks> = {}, segments: readonly number[] = []): [string, Marks] => {
    const packet = bench.packet(bytes, marks, { segments });
    bench.recompute([packet]);
    const result: [string, Marks] = [bench.ring.bytesOf(packet).toString('hex'), bench.marks(packet)];
    bench.free([packet]);
    return result;
  };
  /** Wrong in every checksum. */
  const wrong = (fields: FrameFields): Buffer => {
    const built = buildFrame({ ...fields, checksum: 0x1234 });
    if (fields.version === 4) built.bytes.writeUInt16BE(0xabcd, built.ip + 10);
    return built.bytes;
  };
  const right = (fields: FrameFields): string => buildFrame(fields).bytes.toString('hex');
  const untouched: Marks = { flags: 0, start: 0, offset: 0, size: 0, headers: 0 };

  const fieldsOf: fc.Arbitrary<FrameFields> = fc.record({
    version: fc.constantFrom(4 as const, 6 as const),
    protocol: fc.constantFrom('tcp' as const, 'udp' as const),
    vlans: fc.array(fc.nat(0xffff), { maxLength: 2 }),
    ipOptions: fc.nat(10).map((words) => Buffer.alloc(4 * words, 1)),
    extensions: fc.nat(3),
    tcpOptions: fc.nat(10).map((words) => Buffer.alloc(4 * words, 1)),
    payload: fc.uint8Array({ maxLength: 600 }),
  });

  it('makes every checksum right, whatever the headers, across segments, and without what is behind the packet', () => {
    bench.set({ [CSUM_SWITCHES]: 0 });
    fc.assert(
      fc.property(fieldsOf, fc.boolean(), fc.nat(200), (fields, padded, first) => {
        const tail = padded ? PADDING : Buffer.alloc(0);
        const bytes = wrong(fields);
        const { payload } = buildFrame(fields);
        const segments = [Math.min(payload + first, bytes.length)];
        const [after, marks] = through(Buffer.concat([bytes, tail]), {}, segments);
        expect(after).toBe(right(fields) + tail.toString('hex'));
        expect(marks).toEqual(untouched);
      }),
      { numRuns: 150 },
    );
  });

  it('asks the port where it may, but for a packet with something behind it', () => {
    bench.set({ [CSUM_SWITCHES]: ASK_ALL });
    fc.assert(
      fc.property(fieldsOf, (fields) => {
        const { transport, field } = buildFrame(fields);
        const [after, marks] = through(wrong(fields));
        expect(after).toBe(right({ ...fields, checksum: 'partial' }));
        expect(marks).toEqual({ ...untouched, flags: MBUF_WORK_CHECKSUM, start: transport, offset: field });
        const [padded, none] = through(Buffer.concat([wrong(fields), PADDING]));
        expect(padded).toBe(right(fields) + PADDING.toString('hex'));
        expect(none).toEqual(untouched);
      }),
      { numRuns: 100 },
    );
  });

  it('asks for TCP and for UDP apart', () => {
    const tcp: FrameFields = { version: 4, protocol: 'tcp', payload: frame(50) };
    const udp: FrameFields = { version: 4, protocol: 'udp', payload: frame(50) };
    bench.set({ [CSUM_SWITCHES]: CSUM_ASK_TCP });
    expect(through(wrong(tcp))[1].flags).toBe(MBUF_WORK_CHECKSUM);
    expect(through(wrong(udp))).toEqual([right(udp), untouched]);
    bench.set({ [CSUM_SWITCHES]: CSUM_ASK_UDP });
    expect(through(wrong(udp))[1].flags).toBe(MBUF_WORK_CHECKSUM);
    expect(through(wrong(tcp))).toEqual([right(tcp), untouched]);
  });

  it('leaves alone a datagram without a checksum, and the transport part of fragments', () => {
    bench.set({ [CSUM_SWITCHES]: ASK_ALL });
    const none = buildFrame({ version: 6, protocol: 'udp', payload: frame(20), checksum: 0 }).bytes;
    expect(through(none)).toEqual([none.toString('hex'), untouched]);
    for (const fragment of [0x2000, 0x0001]) {
      const bytes = wrong({ version: 4, protocol: 'tcp', payload: frame(20) });
      bytes.writeUInt16BE(fragment, 20);
      const [after] = through(bytes);
      expect(after.slice(68)).toBe(bytes.toString('hex').slice(68));
    }
  });

  it('asks for segmentation of what is larger than tso allows', () => {
    for (const [fields, kind] of [
      [{ version: 4, protocol: 'tcp', payload: frame(3001) }, MBUF_WORK_TCP4],
      [{ version: 6, protocol: 'tcp', payload: frame(3001), vlans: [7] }, MBUF_WORK_TCP6],
      [{ version: 6, protocol: 'udp', payload: frame(3001) }, MBUF_WORK_UDP],
    ] as const) {
      bench.set({ [CSUM_SWITCHES]: ASK_SEGMENTS, [CSUM_SEGMENT_SIZE]: 3000 });
      const { transport, field, payload } = buildFrame(fields);
      const expected = { flags: kind | MBUF_WORK_CHECKSUM, start: transport, offset: field, size: 3000, headers: payload };
      expect(through(wrong(fields), {}, [200])).toEqual([right({ ...fields, checksum: 'partial' }), expected]);
      bench.set({ [CSUM_SWITCHES]: ASK_SEGMENTS, [CSUM_SEGMENT_SIZE]: 3001 });
      expect(through(wrong(fields), {}, [200])).toEqual([right(fields), untouched]);
      // what the port was not asked for
      bench.set({ [CSUM_SWITCHES]: 0, [CSUM_SEGMENT_SIZE]: 1000 });
      expect(through(wrong(fields), {}, [200])).toEqual([right(fields), untouched]);
    }
  });

  it('keeps the work that came with a packet, and makes its segments smaller where tso says so', () => {
    const fields: FrameFields = { version: 4, protocol: 'tcp', payload: frame(5000), checksum: 'partial' };
    const { bytes } = buildFrame(fields);
    const received: Marks = {
      flags: MBUF_WORK_TCP4 | MBUF_WORK_CHECKSUM | MBUF_HASH_VALID,
      start: 34,
      offset: 16,
      size: 1448,
      headers: 54,
    };
    for (const [settings, size] of [
      [{ [CSUM_SWITCHES]: 0 }, 1448],
      [{ [CSUM_SWITCHES]: ASK_ALL }, 1448],
      [{ [CSUM_SWITCHES]: ASK_SEGMENTS, [CSUM_SEGMENT_SIZE]: 1460 }, 1448],
      [{ [CSUM_SWITCHES]: ASK_SEGMENTS, [CSUM_SEGMENT_SIZE]: 1000 }, 1000],
    ] as const) {
      bench.set(settings);
      expect(through(bytes, received)).toEqual([bytes.toString('hex'), { ...received, size }]);
    }
    const partial: Marks = { flags: MBUF_WORK_CHECKSUM, start: 34, offset: 16, size: 0, headers: 0 };
    bench.set({ [CSUM_SWITCHES]: 0 });
    expect(through(bytes, partial)).toEqual([bytes.toString('hex'), partial]);
    bench.set({ [CSUM_SWITCHES]: ASK_SEGMENTS, [CSUM_SEGMENT_SIZE]: 1460 });
    expect(through(bytes, partial)[1]).toEqual({ ...partial, flags: MBUF_WORK_CHECKSUM | MBUF_WORK_TCP4, size: 1460, headers: 54 });
  });

  it('counts what was received wrong, and forgets it, for the checksums are right now', () => {
    bench.set({ [CSUM_SWITCHES]: 0 });
    const { bytes } = buildFrame({ version: 4, protocol: 'tcp', payload: frame(10) });
    const flags = [MBUF_CHECKSUM_BAD, MBUF_IP_CHECKSUM_BAD, MBUF_CHECKSUM_BAD | MBUF_IP_CHECKSUM_BAD, MBUF_CHECKSUM_GOOD, 0];
    const packets = flags.map((given) => bench.packet(bytes, { flags: given }));
    bench.recompute(packets);
    expect(packets.map((packet) => bench.marks(packet).flags)).toEqual([0, 0, 0, MBUF_CHECKSUM_GOOD, 0]);
    expect([bench.get(CSUM_BAD_IP), bench.get(CSUM_BAD_TRANSPORT)]).toEqual([2, 2]);
    bench.free(packets);
  });

  it('writes addresses when told to', () => {
    bench.set({ [CSUM_SWITCHES]: CSUM_ADDRESSES });
    bench.ring.write(bench.addresses, hex('02aabbccddee 02112233445566'));
    const { bytes } = buildFrame({ version: 4, protocol: 'tcp', payload: frame(10) });
    const packet = bench.packet(bytes);
    bench.ring.kernels.recomputeChecksums(bench.settings, bench.addresses, bench.ring.list([packet]), 1);
    expect(bench.ring.bytesOf(packet)).toEqual(Buffer.concat([hex('02aabbccddee 021122334455'), bytes.subarray(12)]));
    bench.free([packet]);
  });

  describe('tunnels', () => {
    /** VXLAN in UDP over IPv6, with the outer checksum or without. */
    const vxlan = (inner: Buffer, checksum: 'full' | 0): Buffer => {
      const payload = Buffer.concat([hex('0800000000000100'), inner]);
      const { bytes, transport, field } = buildFrame({ version: 6, protocol: 'udp', payload });
      bytes.writeUInt16BE(4789, transport + 2);
      const outer = buildFrame({ version: 6, protocol: 'udp', payload }).bytes.readUInt16BE(transport + field);
      // RFC 1624: the port was 0x5678
      let sum = (~outer & 0xffff) + (~0x5678 & 0xffff) + 4789;
      sum = (sum & 0xffff) + (sum >>> 16);
      bytes.writeUInt16BE(checksum === 0 ? 0 : ~((sum & 0xffff) + (sum >>> 16)) & 0xffff, transport + field);
      return bytes;
    };
    const inner: FrameFields = { version: 4, protocol: 'tcp', payload: frame(300) };

    it('get the inner checksum right, and the outer one that covers it', () => {
      bench.set({ [CSUM_SWITCHES]: CSUM_TUNNELS | ASK_ALL });
      const bytes = vxlan(wrong(inner), 'full');
      bytes.writeUInt16BE(0x1111, 60);
      expect(through(bytes)).toEqual([vxlan(buildFrame(inner).bytes, 'full').toString('hex'), untouched]);
    });

    it('leave the inner checksum to the port where none covers it', () => {
      bench.set({ [CSUM_SWITCHES]: CSUM_TUNNELS | ASK_ALL | ASK_SEGMENTS, [CSUM_SEGMENT_SIZE]: 100 });
      const start = 14 + 40 + 8 + 8 + 34;
      const expected = vxlan(buildFrame({ ...inner, checksum: 'partial' }).bytes, 0).toString('hex');
      expect(through(vxlan(wrong(inner), 0))).toEqual([expected, { ...untouched, flags: MBUF_WORK_CHECKSUM, start, offset: 16 }]);
    });

    it("keep everything while the inner checksum is the sender's partial one", () => {
      bench.set({ [CSUM_SWITCHES]: CSUM_TUNNELS });
      const bytes = vxlan(buildFrame({ ...inner, checksum: 'partial' }).bytes, 'full');
      const partial: Marks = { ...untouched, flags: MBUF_WORK_CHECKSUM, start: 104, offset: 16 };
      expect(through(bytes, partial)).toEqual([bytes.toString('hex'), partial]);
    });

    it('are packets like others when they are not looked into, or what is inside reaches out of them', () => {
      const bytes = vxlan(wrong(inner), 'full');
      bench.set({ [CSUM_SWITCHES]: 0 });
      expect(through(bytes)[0]).toBe(bytes.toString('hex'));
      bench.set({ [CSUM_SWITCHES]: CSUM_TUNNELS });
      const long = vxlan(wrong(inner), 'full');
      // the inner packet's length
      long.writeUInt16BE(1000, 14 + 40 + 16 + 14 + 2);
      const [after] = through(long);
      expect(after.slice(2 * 62)).toBe(long.toString('hex').slice(2 * 62));
    });
  });

  it('survives random bytes, and headers cut or changed anywhere', () => {
    const switches = fc.nat(63).map((bits) => bits & ~CSUM_ADDRESSES);
    const change = fc.array(fc.tuple(fc.nat(120), fc.nat(255)), { maxLength: 5 });
    const ports = fc.constantFrom(4789, 4790, 6081, 2152, 9);
    fc.assert(
      fc.property(fieldsOf, change, fc.nat(200), switches, ports, fc.nat(100), (fields, changes, end, bits, port, cut) => {
        bench.set({ [CSUM_SWITCHES]: bits, [CSUM_SEGMENT_SIZE]: 100 });
        const built = buildFrame(fields);
        built.bytes.writeUInt16BE(port, built.transport + 2);
        for (const [at, value] of changes) if (at < built.bytes.length) built.bytes[at] = value;
        const bytes = built.bytes.subarray(0, end);
        const [after] = through(bytes, {}, [Math.min(cut, bytes.length)]);
        expect(after).toHaveLength(2 * bytes.length);
      }),
      { numRuns: 400 },
    );
  });
});
