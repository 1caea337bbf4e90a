/** Everything that the csum engine does, on both targets, with random packets and random marks: the same comes out, and no mbuf is lost. */
import { expect, it } from 'vitest';
import fc from 'fast-check';
import { CSUM_GSO_SIZE, CSUM_NEXT, CSUM_POOL, CSUM_SEGMENT_SIZE, CSUM_SWITCHES } from '../../src/net/recompute-checksums.kernel.ts';
import { buildFrame, type FrameFields } from '../support/frames.ts';
import { PacketBench, type Marks } from '../support/packets.ts';
import { frame, TARGETS } from '../support/ring-pair.ts';

interface Made {
  readonly fields: FrameFields;
  readonly port: number;
  readonly changes: readonly (readonly [number, number])[];
  readonly segments: readonly number[];
  readonly marks: Marks;
}

const fields: fc.Arbitrary<FrameFields> = fc.record({
  version: fc.constantFrom(4 as const, 4 as const, 6 as const),
  protocol: fc.constantFrom('tcp' as const, 'tcp' as const, 'udp' as const),
  vlans: fc.constantFrom([], [], [5]),
  sequence: fc.nat(5).map((index) => 500 * index),
  flags: fc.constantFrom(0x10, 0x10, 0x18, 0x11, 0xd0),
  payload: fc.constantFrom(0, 500, 500, 500, 2500).map((length) => frame(length, length)),
});

const made: fc.Arbitrary<Made> = fc.record({
  fields,
  port: fc.constantFrom(80, 80, 80, 4789, 2152),
  changes: fc.array(fc.tuple(fc.nat(90), fc.nat(255)), { maxLength: 2 }),
  segments: fc.array(fc.integer({ min: 0, max: 100 }), { maxLength: 3 }),
  marks: fc.record({
    flags: fc.constantFrom(0, 0, 0, 1, 3, 5, 9, 15, 0x301, 32),
    start: fc.oneof(fc.constantFrom(34, 54), fc.nat(0xffff)),
    offset: fc.oneof(fc.constantFrom(6, 16), fc.nat(0xffff)),
    size: fc.oneof(fc.constantFrom(0, 500, 1448), fc.nat(0xffff)),
    headers: fc.nat(0xffff),
  }),
});

function bytesOf({ fields: given, port, changes }: Made): Buffer {
  const { bytes, transport } = buildFrame(given);
  bytes.writeUInt16BE(port, transport + 2);
  for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
  return bytes;
}

/** What the engine's kernels make of the packets: bytes and marks of each. */
function run(bench: PacketBench, packets: readonly Made[], switches: number, segmentSize: number, gsoSize: number): unknown[] {
  const { ring } = bench;
  bench.set({ [CSUM_SWITCHES]: switches, [CSUM_SEGMENT_SIZE]: segmentSize, [CSUM_GSO_SIZE]: gsoSize, [CSUM_POOL]: bench.pool.offset });
  const handles = packets.map((one) => {
    const bytes = bytesOf(one);
    const segments = one.segments.reduce<number[]>(
      (list, length) => (list.reduce((a, b) => a + b, length) < bytes.length ? [...list, length] : list),
      [],
    );
    return bench.packet(bytes, one.marks, { segments });
  });
  ring.kernels.recomputeChecksums(bench.settings, bench.addresses, ring.list(handles), handles.length);
  const gathered = bench.gather(handles);
  ring.u32.set(gathered, bench.list >>> 2);
  const left: number[] = [];
  while (bench.get(CSUM_NEXT) < gathered.length) {
    const count = ring.kernels.cutLargePackets(bench.settings, bench.list, gathered.length, ring.handles, 64, 0);
    left.push(...ring.listed(count));
  }
  for (const packet of left) {
    ring.kernels.insertVlan(packet);
    ring.kernels.finishPacketChecksum(packet);
  }
  const result = left.map((packet) => [ring.bytesOf(packet).toString('hex'), bench.marks(packet)]);
  bench.free(left);
  expect(bench.pool.free()).toBe(bench.pool.count);
  return result;
}

it('comes out the same on both targets', () => {
  const [wasm, javascript] = TARGETS.map((target) => new PacketBench(target, 1000)) as [PacketBench, PacketBench];
  try {
    const sizes = fc.constantFrom(0, 100, 500, 1460);
    fc.assert(
      fc.property(
        fc.array(made, { maxLength: 24 }),
        fc.nat(63),
        sizes,
        fc.constantFrom(64, 300, 1514),
        (packets, switches, segmentSize, gsoSize) => {
          const one = run(wasm, packets, switches, segmentSize, gsoSize);
          expect(run(javascript, packets, switches, segmentSize, gsoSize)).toEqual(one);
        },
      ),
      { numRuns: 300 },
    );
  } finally {
    javascript[Symbol.dispose]();
    wasm[Symbol.dispose]();
  }
});
