/**
 * Work on packets through both ends of a ring: what one end leaves undone is what the other end is told, in the header's own
 * bytes; a header that makes no sense costs its packet and nothing else.
 */
import { describe, expect, it } from 'vitest';
import fc from 'fast-check';
import {
  MBUF_CHECKSUM_GOOD,
  MBUF_CHECKSUM_OFFSET,
  MBUF_CHECKSUM_START,
  MBUF_FLAGS,
  MBUF_HEADER_LENGTH,
  MBUF_SEGMENT_SIZE,
  MBUF_WORK,
  MBUF_WORK_CHECKSUM,
  MBUF_WORK_ECN,
  MBUF_WORK_SEGMENTS,
  MBUF_WORK_TCP4,
  MBUF_WORK_TCP6,
  MBUF_WORK_UDP,
} from '../../src/memory/mbuf-layout.ts';
import type { Mempool } from '../../src/memory/mempool.ts';
import { Q_ERRORS, Q_STATE, Q_UNFINISHED, QUEUE_IN_ORDER, QUEUE_MERGEABLE, QUEUE_RUNNING } from '../../src/ring/queue-layout.ts';
import { counter, frame, RingBench, TARGETS } from '../support/ring-pair.ts';

interface Work {
  readonly flags: number;
  readonly start: number;
  readonly offset: number;
  readonly size: number;
  readonly headers: number;
}

const FIELDS = [
  ['start', MBUF_CHECKSUM_START],
  ['offset', MBUF_CHECKSUM_OFFSET],
  ['size', MBUF_SEGMENT_SIZE],
  ['headers', MBUF_HEADER_LENGTH],
] as const;

function mark(bench: RingBench, packet: number, work: Work): void {
  bench.st32(packet + MBUF_FLAGS, work.flags);
  for (const [name, field] of FIELDS) bench.st16(packet + field, work[name]);
}

/** What a packet says of its work, without the fields that do not count. */
function workOf(bench: RingBench, packet: number): Partial<Work> {
  const flags = bench.ld32(packet + MBUF_FLAGS);
  const [start, offset, size, headers] = FIELDS.map(([, field]) => bench.ld16(packet + field));
  return {
    flags,
    ...((flags & MBUF_WORK_CHECKSUM) === 0 ? {} : { start, offset }),
    ...((flags & MBUF_WORK_SEGMENTS) === 0 ? {} : { size, headers }),
  };
}

const ALL = MBUF_WORK_CHECKSUM | MBUF_WORK_TCP4 | MBUF_WORK_TCP6 | MBUF_WORK_UDP | MBUF_WORK_ECN;
const TCP4: Work = { flags: MBUF_WORK_CHECKSUM | MBUF_WORK_TCP4, start: 34, offset: 16, size: 1448, headers: 66 };

/** struct virtio_net_hdr, by virtio 1.2, 5.1.6: flags, gso_type, hdr_len, gso_size, csum_start, csum_offset, num_buffers */
const VECTORS: readonly (readonly [what: string, work: Work, header: string])[] = [
  ['a partial checksum', { flags: MBUF_WORK_CHECKSUM, start: 34, offset: 6, size: 0, headers: 0 }, '01 00 0000 0000 2200 0600'],
  ['TCP over IPv4', TCP4, '01 01 4200 a805 2200 1000'],
  [
    'TCP over IPv6',
    { flags: MBUF_WORK_CHECKSUM | MBUF_WORK_TCP6, start: 54, offset: 16, size: 1428, headers: 86 },
    '01 04 5600 9405 3600 1000',
  ],
  ['UDP', { flags: MBUF_WORK_CHECKSUM | MBUF_WORK_UDP, start: 34, offset: 6, size: 1472, headers: 42 }, '01 05 2a00 c005 2200 0600'],
  ['TCP with ECN', { ...TCP4, flags: TCP4.flags | MBUF_WORK_ECN }, '01 81 4200 a805 2200 1000'],
];

describe.each(TARGETS)('work on packets on %s', (target) => {
  /** A packet through one ring: into the driver's transmit queue, or into its receive queue. */
  const through = (
    bench: RingBench,
    way: 'transmit' | 'receive',
    options: { readonly features?: number; readonly offloads?: number; readonly size?: number },
    pools: readonly [Mempool, Mempool],
    packets: readonly number[],
    between: (header: number, descriptors: number) => void = () => undefined,
  ): { readonly taken: number; readonly received: number[]; readonly errors: number; readonly unfinished: number } => {
    const { kernels } = bench;
    const transmit = way === 'transmit';
    const { driver, device } = bench.pair({ ...options, pool: transmit ? undefined : pools[0], devicePool: pools[1] });
    if (!transmit) for (let more = 1; more > 0;) more = kernels.splitDriverRefill(driver.offset, 0);
    const [source, sink] = transmit ? [driver, device] : [device, driver];
    const taken = (transmit ? kernels.splitDriverTransmit : kernels.splitDeviceEnqueue)(source.offset, bench.list(packets), packets.length);
    for (const packet of packets.slice(taken)) kernels.packetFree(packet, 0);
    between(bench.ld32(driver.descriptors), driver.descriptors);
    const received = (transmit ? kernels.splitDeviceDequeue : kernels.splitDriverReceive)(sink.offset, bench.handles, 32);
    expect(sink.get(Q_STATE)).toBe(QUEUE_RUNNING);
    return { taken, received: bench.listed(received), errors: counter(sink, Q_ERRORS), unfinished: source.get(Q_UNFINISHED) };
  };

  it.each(VECTORS)('%s is the header of the specification, both ways', (_, work, header) => {
    for (const way of ['transmit', 'receive'] as const) {
      using bench = new RingBench(target);
      const pools = [bench.pool(), bench.pool()] as const;
      const packet = bench.packet(pools[1], frame(300)) ?? 0;
      mark(bench, packet, work);
      let seen = '';
      const { received } = through(bench, way, { features: QUEUE_MERGEABLE, offloads: ALL }, pools, [packet], (at) => {
        seen = bench.read(at, 10).toString('hex');
      });
      expect(seen).toBe(header.replaceAll(' ', ''));
      expect(received).toHaveLength(1);
      expect(workOf(bench, received[0] ?? 0)).toMatchObject({ flags: work.flags, start: work.start, offset: work.offset });
      for (const one of received) bench.kernels.packetFree(one, 0);
    }
  });

  it('work and bytes arrive as they were sent, whatever the segments and the buffers', () => {
    const kinds = fc.constantFrom(0, MBUF_WORK_TCP4, MBUF_WORK_TCP6, MBUF_WORK_UDP, MBUF_WORK_TCP4 | MBUF_WORK_ECN);
    const packet = fc.record({
      length: fc.oneof(fc.integer({ min: 64, max: 2000 }), fc.integer({ min: 2000, max: 20_000 })),
      marked: fc.boolean(),
      kind: kinds,
      start: fc.integer({ min: 0, max: 40 }),
      offset: fc.integer({ min: 0, max: 20 }),
      size: fc.integer({ min: 1, max: 0xffff }),
      headers: fc.integer({ min: 0, max: 64 }),
      headroom: fc.constantFrom(128, 128, 4),
    });
    const setting = fc.record({
      way: fc.constantFrom('transmit' as const, 'receive' as const),
      inOrder: fc.boolean(),
      packets: fc.array(packet, { minLength: 1, maxLength: 6 }),
    });
    const check = ({ way, inOrder, packets }: typeof setting extends fc.Arbitrary<infer T> ? T : never): void => {
      using bench = new RingBench(target);
      const pools = [bench.pool({ count: 300 }), bench.pool({ count: 300 })] as const;
      const sent = packets.map(({ length, marked, kind, headroom, ...fields }, seed) => {
        const segments = Array.from({ length: Math.ceil(length / 2000) - 1 }, () => 2000);
        const made = bench.packet(pools[1], frame(length, seed), { segments, headroom }) ?? 0;
        mark(bench, made, { flags: marked ? MBUF_WORK_CHECKSUM | kind : 0, ...fields });
        return made;
      });
      const expected = sent.map((one) => [workOf(bench, one), bench.bytesOf(one)]);
      const features = QUEUE_MERGEABLE | (inOrder ? QUEUE_IN_ORDER : 0);
      const { received } = through(bench, way, { features, offloads: ALL, size: 128 }, pools, sent);
      expect(received.map((one) => [workOf(bench, one), bench.bytesOf(one)])).toEqual(expected);
      for (const one of received) bench.kernels.packetFree(one, 0);
    };
    fc.assert(fc.property(setting, check), { numRuns: 60 });
  });

  it('a header that makes no sense costs its packet: one that was not agreed on, or that points outside', () => {
    // flags, gso_type, hdr_len, gso_size, csum_start, csum_offset
    const bad: readonly (readonly [number, number, number, number, number, number])[] = [
      [1, 0, 0, 0, 300, 0],
      [1, 0, 0, 0, 299, 0],
      [1, 0, 0, 0, 0xffff, 0xffff],
      [1, 1, 54, 0, 34, 16],
      [1, 3, 54, 1448, 34, 16],
      [1, 2, 54, 1448, 34, 16],
      [1, 0x80, 54, 1448, 34, 16],
      [0, 1, 54, 1448, 34, 16],
      [1, 5, 54, 1448, 34, 6],
    ];
    for (const way of ['transmit', 'receive'] as const) {
      for (const [flags, type, ...words] of bad) {
        using bench = new RingBench(target);
        const pools = [bench.pool(), bench.pool()] as const;
        const packet = bench.packet(pools[1], frame(300)) ?? 0;
        const offloads = ALL & ~MBUF_WORK_UDP;
        const { received, errors } = through(bench, way, { features: QUEUE_IN_ORDER, offloads }, pools, [packet], (at) => {
          bench.write(at, Uint8Array.of(flags, type));
          bench.write(at + 2, Buffer.from(Uint16Array.from(words).buffer));
        });
        expect([way, flags, type, ...words, received.length, errors]).toEqual([way, flags, type, ...words, 0, 1]);
      }
    }
  });

  it('a hint of header length beyond the packet is none, and a verified checksum is known', () => {
    using bench = new RingBench(target);
    const pools = [bench.pool(), bench.pool()] as const;
    const packets = [0, 1].map(() => bench.packet(pools[1], frame(300)) ?? 0);
    mark(bench, packets[0] ?? 0, { ...TCP4, headers: 301 });
    const { received } = through(bench, 'receive', { offloads: ALL, features: QUEUE_MERGEABLE }, pools, packets, (_, descriptors) => {
      // the header of the second packet says DATA_VALID
      bench.write(bench.ld32(descriptors + 16), Uint8Array.of(2));
    });
    expect(received.map((one) => bench.ld32(one + MBUF_FLAGS))).toEqual([TCP4.flags, MBUF_CHECKSUM_GOOD]);
    expect(bench.ld16((received[0] ?? 0) + MBUF_HEADER_LENGTH)).toBe(0);
    for (const one of received) bench.kernels.packetFree(one, 0);
  });

  it('a queue that was not told of an offload stops before the packet, and says so', () => {
    for (const way of ['transmit', 'receive'] as const) {
      using bench = new RingBench(target);
      const pools = [bench.pool(), bench.pool()] as const;
      const packets = [0, 1, 2].map((seed) => bench.packet(pools[1], frame(100, seed)) ?? 0);
      mark(bench, packets[1] ?? 0, TCP4);
      const options = { features: QUEUE_MERGEABLE, offloads: MBUF_WORK_CHECKSUM | MBUF_WORK_TCP6 };
      const { taken, received, unfinished } = through(bench, way, options, pools, packets);
      expect([taken, received.length, unfinished]).toEqual([1, 1, 1]);
      for (const one of received) bench.kernels.packetFree(one, 0);
    }
  });

  it('headers are not looked at where nothing was negotiated', () => {
    using bench = new RingBench(target);
    const pools = [bench.pool(), bench.pool()] as const;
    const packet = bench.packet(pools[1], frame(300)) ?? 0;
    const { received } = through(bench, 'transmit', {}, pools, [packet], (at) => {
      bench.write(at, Uint8Array.of(1, 1, 0xff, 0xff, 0, 0, 0xff, 0xff));
    });
    expect(received.map((one) => bench.ld32(one + MBUF_FLAGS) & MBUF_WORK)).toEqual([0]);
    for (const one of received) bench.kernels.packetFree(one, 0);
  });
});
