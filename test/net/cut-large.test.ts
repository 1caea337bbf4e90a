import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import fc from 'fast-check';
import { MBUF_WORK_CHECKSUM, MBUF_WORK_TCP4, MBUF_WORK_UDP } from '../../src/memory/mbuf-layout.ts';
import { CSUM_ASK_TCP, CSUM_GSO_SIZE, CSUM_LOST, CSUM_NEXT, CSUM_POOL, CSUM_SWITCHES } from '../../src/net/recompute-checksums.kernel.ts';
import { buildFrame, sum16, type FrameFields } from '../support/frames.ts';
import { PacketBench } from '../support/packets.ts';
import { frame, TARGETS } from '../support/ring-pair.ts';

describe.each(TARGETS)('cutting what is too long on %s', (target) => {
  let bench: PacketBench;
  beforeEach(() => {
    bench = new PacketBench(target);
  });
  afterEach(() => bench[Symbol.dispose]());

  const settings = (size: number, switches = 0): void => {
    bench.set({ [CSUM_SWITCHES]: switches, [CSUM_GSO_SIZE]: size, [CSUM_POOL]: bench.pool.offset });
  };
  /** Everything that comes out, in lists of `room`; how many were in each. */
  const cut = (packets: readonly number[], room = 512): { handles: number[]; lists: number[] } => {
    const { ring, settings: area, list } = bench;
    ring.u32.set(packets, list >>> 2);
    const handles: number[] = [];
    const lists: number[] = [];
    ring.st32(area + CSUM_NEXT, 0);
    while (bench.get(CSUM_NEXT) < packets.length) {
      const made = ring.kernels.cutLargePackets(area, list, packets.length, ring.handles, room, 0);
      handles.push(...ring.listed(made));
      lists.push(made);
    }
    return { handles, lists };
  };
  const tcp = (bytes: number, more: Partial<FrameFields> = {}): Buffer =>
    buildFrame({ version: 4, protocol: 'tcp', payload: frame(bytes), ...more }).bytes;

  it('cuts TCP so that no packet is longer, and touches nothing that is short enough', () => {
    settings(554);
    const short = tcp(500);
    const long = tcp(1200, { version: 6, vlans: [3] });
    const { handles } = cut([bench.packet(short), bench.packet(long), bench.packet(short)]);
    const sizes = bench.bytes(handles).map((bytes) => bytes.length);
    expect(sizes).toEqual([554, 554, 554, 78 + 1200 - 2 * 476, 554]);
    expect(bench.bytes(handles)[0]).toEqual(short);
    bench.free(handles);
  });

  it('leaves checksums to the port where it may, and heeds the segments that a packet was received with', () => {
    settings(1054, CSUM_ASK_TCP);
    const received = { flags: MBUF_WORK_TCP4 | MBUF_WORK_CHECKSUM, start: 34, offset: 16, size: 600, headers: 54 };
    const { handles } = cut([bench.packet(tcp(1100, { checksum: 'partial' }), received)]);
    expect(bench.bytes(handles).map((bytes) => bytes.length)).toEqual([654, 554]);
    expect(handles.map((packet) => bench.marks(packet).flags)).toEqual([MBUF_WORK_CHECKSUM, MBUF_WORK_CHECKSUM]);
    bench.free(handles);
    const larger = cut([bench.packet(tcp(1100, { checksum: 'partial' }), { ...received, size: 1080 })]).handles;
    expect(bench.bytes(larger).map((bytes) => bytes.length)).toEqual([1054, 154]);
    bench.free(larger);
    const datagrams = { ...received, flags: MBUF_WORK_UDP | MBUF_WORK_CHECKSUM, offset: 6, size: 700 };
    const udp = buildFrame({ version: 4, protocol: 'udp', payload: frame(1400), checksum: 'partial' }).bytes;
    const two = cut([bench.packet(udp, datagrams)]).handles;
    expect(bench.bytes(two)).toEqual(
      [0, 1].map(
        (part) =>
          buildFrame({
            version: 4,
            protocol: 'udp',
            identification: 0x1234 + part,
            payload: frame(1400).subarray(700 * part, 700 * part + 700),
          }).bytes,
      ),
    );
    bench.free(two);
  });

  it('cuts UDP over IPv4 into fragments that make the datagram again', () => {
    const payload = fc.integer({ min: 1, max: 5000 }).map((length) => frame(length));
    fc.assert(
      fc.property(payload, fc.integer({ min: 64, max: 3000 }), fc.boolean(), fc.constantFrom([], [5]), (bytes, size, partial, vlans) => {
        settings(size);
        const fields: FrameFields = { version: 4, protocol: 'udp', vlans, payload: bytes };
        const whole = buildFrame(fields);
        const { bytes: given } = buildFrame({ ...fields, checksum: partial ? 'partial' : 'full' });
        const marks = partial ? { flags: MBUF_WORK_CHECKSUM, start: whole.transport, offset: 6 } : {};
        const { handles } = cut([bench.packet(given, marks)]);
        const parts = bench.bytes(handles);
        bench.free(handles);
        const start = whole.ip;
        if (given.length <= size) {
          expect(parts).toEqual([given]);
          return;
        }
        const datagram: Buffer[] = [];
        for (const [index, part] of parts.entries()) {
          expect(part.length).toBeLessThanOrEqual(size);
          expect(sum16(part.subarray(start, start + 20))).toBe(0xffff);
          expect(part.readUInt16BE(start + 2)).toBe(part.length - start);
          expect(part.readUInt16BE(start + 4)).toBe(0x1234);
          const offset = datagram.reduce((sum, { length }) => sum + length, 0);
          expect(part.readUInt16BE(start + 6)).toBe(offset / 8 + (index === parts.length - 1 ? 0 : 0x2000));
          datagram.push(part.subarray(start + 20));
        }
        expect(Buffer.concat(datagram)).toEqual(whole.bytes.subarray(whole.transport));
      }),
      { numRuns: 150 },
    );
  });

  it('leaves alone what it cannot cut', () => {
    settings(100);
    const padded = Buffer.concat([tcp(300), Buffer.alloc(8)]);
    const fragment = tcp(300);
    fragment.writeUInt16BE(0x2000, 20);
    const udp6 = buildFrame({ version: 6, protocol: 'udp', payload: frame(300) }).bytes;
    const headers = tcp(300, { tcpOptions: Buffer.alloc(40, 1), ipOptions: Buffer.alloc(20, 1) });
    const packets = [padded, fragment, udp6, headers, frame(400)];
    const { handles } = cut(packets.map((bytes) => bench.packet(bytes)));
    expect(bench.bytes(handles)).toEqual(packets);
    bench.free(handles);
  });

  it('goes on where a list was full', () => {
    settings(154);
    const packets = [tcp(900), tcp(50), tcp(900), tcp(450), tcp(50)];
    const { handles, lists } = cut(
      packets.map((bytes) => bench.packet(bytes)),
      10,
    );
    expect(lists).toEqual([10, 9, 6]);
    expect(handles).toHaveLength(9 + 1 + 9 + 5 + 1);
    bench.free(handles);
  });

  it('counts what more than a list would hold, and what no mbufs are there for', () => {
    settings(154);
    expect(cut([bench.packet(tcp(1200))], 10).handles).toEqual([]);
    expect(bench.get(CSUM_LOST)).toBe(1);
    const held = Array.from({ length: 244 }, () => bench.packet(Buffer.alloc(1)));
    const { handles } = cut([bench.packet(tcp(900)), bench.packet(tcp(1200))]);
    expect(handles).toHaveLength(9);
    expect(bench.get(CSUM_LOST)).toBe(2);
    bench.free([...handles, ...held]);
    expect(bench.pool.free()).toBe(256);
  });
});
