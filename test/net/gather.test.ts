import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import fc from 'fast-check';
import { MBUF_WORK_CHECKSUM, MBUF_WORK_TCP4, MBUF_WORK_VLAN } from '../../src/memory/mbuf-layout.ts';
import { CSUM_ASK_TCP, CSUM_ASK_TCP_SEGMENTS, CSUM_SWITCHES } from '../../src/net/recompute-checksums.kernel.ts';
import { buildFrame, hex, type FrameFields } from '../support/frames.ts';
import { PacketBench } from '../support/packets.ts';
import { frame, TARGETS } from '../support/ring-pair.ts';

const ACK = 0x10;
const PSH_ACK = 0x18;

const stream = frame(65_000, 11);

/** A segment of a connection: `bytes` of the stream from `at` on. Sequence numbers wrap around. */
function segment(at: number, bytes: number, more: Partial<FrameFields> = {}): Buffer {
  const { sequence = 0xffff_ff00, ...fields } = more;
  const payload = stream.subarray(at, at + bytes);
  return buildFrame({ version: 4, protocol: 'tcp', flags: ACK, ...fields, payload, sequence: (sequence + at) % 2 ** 32 }).bytes;
}

describe.each(TARGETS)('gathering on %s', (target) => {
  let bench: PacketBench;
  beforeEach(() => {
    bench = new PacketBench(target);
    bench.set({ [CSUM_SWITCHES]: 0 });
  });
  afterEach(() => bench[Symbol.dispose]());

  const gathered = (packets: readonly (Buffer | number)[]): string[] => {
    const left = bench.gather(packets.map((packet) => (typeof packet === 'number' ? packet : bench.packet(packet))));
    const bytes = bench.bytes(left).map((one) => one.toString('hex'));
    bench.free(left);
    return bytes;
  };
  const texts = (packets: readonly Buffer[]): string[] => packets.map((bytes) => bytes.toString('hex'));

  it('puts segments that follow each other into one packet with the right lengths and checksums', () => {
    expect(gathered([segment(0, 1000), segment(1000, 1000), segment(2000, 300)])).toEqual(texts([segment(0, 2300)]));
  });

  it('keeps PSH, which ends the packet', () => {
    const parts = [segment(0, 500), segment(500, 500, { flags: PSH_ACK }), segment(1000, 500), segment(1500, 500)];
    expect(gathered(parts)).toEqual(texts([segment(0, 1000, { flags: PSH_ACK }), segment(1000, 1000)]));
  });

  it.each([
    ['a gap', [segment(0, 500), segment(501, 500)]],
    ['a segment that comes twice', [segment(0, 500), segment(0, 500)]],
    ['a longer one', [segment(0, 500), segment(500, 501)]],
    ['FIN', [segment(0, 500), segment(500, 500, { flags: 0x11 })]],
    ['no payload', [segment(0, 500), segment(500, 0)]],
    [
      'other options',
      [
        segment(0, 500, { tcpOptions: hex('0101080a0000000100000001') }),
        segment(500, 500, { tcpOptions: hex('0101080a0000000100000002') }),
      ],
    ],
    ['options of another length', [segment(0, 500), segment(500, 500, { tcpOptions: Buffer.alloc(4, 1) })]],
    ['IPv4 options', [segment(0, 500, { ipOptions: Buffer.alloc(4, 1) }), segment(500, 500, { ipOptions: Buffer.alloc(4, 1) })]],
    ['another VLAN', [segment(0, 500, { vlans: [1] }), segment(500, 500, { vlans: [2] })]],
    ['IPv6', [segment(0, 500, { version: 6 }), segment(500, 500, { version: 6 })]],
    ['UDP', [segment(0, 500, { protocol: 'udp' }), segment(500, 500, { protocol: 'udp' })]],
  ])('does not gather over %s', (_, parts) => {
    expect(gathered(parts)).toEqual(texts(parts));
  });

  it.each([
    ['acknowledgement', 42],
    ['time to live', 22],
    ['type of service', 15],
    ['flag of fragments', 20],
    ['Ethernet source', 6],
    ['source address', 26],
    ['destination port', 36],
  ])('does not gather what has another %s', (_, place) => {
    const second = segment(500, 500);
    second[place] = (second[place] ?? 0) ^ 0x20;
    expect(gathered([segment(0, 500), second])).toEqual(texts([segment(0, 500), second]));
  });

  it('heeds the identification only where fragments are allowed', () => {
    const allowed = (at: number, identification: number): Buffer => {
      const bytes = segment(at, 500, { identification });
      bytes.writeUInt16BE(0, 20);
      // the checksum of the header without the flag
      bytes.writeUInt16BE((bytes.readUInt16BE(24) + 0x4000) % 0xffff, 24);
      return bytes;
    };
    expect(gathered([segment(0, 500, { identification: 9 }), segment(500, 500, { identification: 3 })])).toHaveLength(1);
    expect(gathered([allowed(0, 0xffff), allowed(500, 0)])).toHaveLength(1);
    expect(gathered([allowed(0, 9), allowed(500, 9)])).toHaveLength(2);
  });

  it('lets nothing of a connection be overtaken', () => {
    const fin = segment(500, 0, { flags: 0x11 });
    const parts = [segment(0, 500), fin, segment(500, 500), segment(1000, 500)];
    expect(gathered(parts)).toEqual(texts([segment(0, 500), fin, segment(500, 1000)]));
  });

  it('asks the port for the checksum, and for segments, where it may', () => {
    for (const [switches, flags] of [
      [CSUM_ASK_TCP, MBUF_WORK_CHECKSUM],
      [CSUM_ASK_TCP_SEGMENTS, MBUF_WORK_CHECKSUM | MBUF_WORK_TCP4],
    ] as const) {
      bench.set({ [CSUM_SWITCHES]: switches });
      const [large = 0, ...others] = bench.gather([bench.packet(segment(0, 700)), bench.packet(segment(700, 600))]);
      expect(others).toEqual([]);
      expect(bench.bytes([large])).toEqual([segment(0, 1300, { checksum: 'partial' })]);
      expect(bench.marks(large)).toMatchObject({
        flags,
        start: 34,
        offset: 16,
        ...(flags === MBUF_WORK_CHECKSUM ? {} : { size: 700, headers: 54 }),
      });
      bench.free([large]);
    }
  });

  it('finishes partial checksums, and leaves large packets and other tags alone', () => {
    const partial = (at: number, bytes: number, flags: number): number =>
      bench.packet(segment(at, bytes, { checksum: 'partial' }), { flags, start: 34, offset: 16, size: 300 });
    expect(gathered([partial(0, 500, MBUF_WORK_CHECKSUM), partial(500, 500, MBUF_WORK_CHECKSUM)])).toEqual(texts([segment(0, 1000)]));
    const large = MBUF_WORK_CHECKSUM | MBUF_WORK_TCP4;
    expect(gathered([partial(0, 500, large), partial(500, 500, large)])).toHaveLength(2);
    expect(gathered([partial(0, 500, MBUF_WORK_VLAN), partial(500, 500, 0)])).toHaveLength(2);
  });

  it('gathers packets of several mbufs, and those whose payload begins in the second', () => {
    const parts = [0, 500, 1000].map((at) => bench.packet(segment(at, 500), {}, { segments: at === 500 ? [54] : [54 + 100, 200] }));
    expect(gathered(parts)).toEqual(texts([segment(0, 1500)]));
  });

  it('gathers no more than an IPv4 packet holds, nor more than 64 mbufs', () => {
    const parts = Array.from({ length: 40 }, (_, index) => segment(2000 * index, Math.min(2000, 65_000 - 2000 * index))).slice(0, 33);
    const lengths = gathered(parts).map((text) => text.length / 2);
    expect(lengths).toEqual([54 + 64_000, 54 + 1000]);
    const small = Array.from({ length: 100 }, (_, index) => segment(10 * index, 10));
    expect(gathered(small).map((text) => text.length / 2)).toEqual([54 + 640, 54 + 360]);
  });

  it('gives up the oldest of more connections than it knows', () => {
    const parts = Array.from({ length: 20 }, (_, index) => {
      const first = segment(0, 100);
      first.writeUInt16BE(1000 + index, 34);
      const second = segment(100, 100);
      second.writeUInt16BE(1000 + index, 34);
      return [first, second];
    });
    const one = gathered([
      ...parts.map(([first]) => first ?? Buffer.alloc(0)),
      ...parts.slice(4).map(([, second]) => second ?? Buffer.alloc(0)),
    ]);
    expect(one.filter((text) => text.length / 2 === 254)).toHaveLength(16);
    expect(one).toHaveLength(20);
  });

  it('changes nothing of what a receiver reads, whatever arrives', () => {
    const arrival = fc.record({
      connection: fc.nat(2),
      at: fc.nat(12).map((index) => 100 * index),
      bytes: fc.constantFrom(0, 60, 100, 100, 100),
      flags: fc.constantFrom(ACK, ACK, ACK, PSH_ACK, 0x11),
      version: fc.constantFrom(4 as const, 4 as const, 6 as const),
      first: fc.nat(60),
    });
    /** What each connection's packets say, byte by byte in the order of arrival. */
    const said = (packets: readonly Buffer[]): Record<string, string[]> => {
      const connections: Record<string, string[]> = {};
      for (const bytes of packets) {
        const transport = bytes[14] === 0x45 ? 34 : 54;
        const key = `${bytes[14]} ${bytes.readUInt16BE(transport)}`;
        const sequence = bytes.readUInt32BE(transport + 4);
        const list = (connections[key] ??= []);
        for (const [index, byte] of bytes.subarray(transport + 20).entries()) list.push(`${sequence + index}: ${byte}`);
      }
      return connections;
    };
    fc.assert(
      fc.property(fc.array(arrival, { maxLength: 40 }), (arrivals) => {
        const packets = arrivals.map(({ connection, at, bytes, flags, version, first }) => {
          const made = segment(at, bytes, { flags, version, sequence: 5000 });
          made.writeUInt16BE(100 + connection, version === 4 ? 34 : 54);
          return { made, segments: [Math.min(made.length, 74 + first)] };
        });
        const left = bench.gather(packets.map(({ made, segments }) => bench.packet(made, {}, { segments })));
        expect(said(bench.bytes(left))).toEqual(said(packets.map(({ made }) => made)));
        bench.free(left);
        expect(bench.pool.free()).toBe(256);
      }),
      { numRuns: 150 },
    );
  });
});
