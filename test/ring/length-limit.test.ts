/** Packets and the MTU that was agreed on (virtio 1.2, 5.1.4.1 and 5.1.4.2): what is too long is dropped and counted, on both sides and in both formats. */
import { describe, expect, it } from 'vitest';
import { MBUF_FLAGS, MBUF_SEGMENT_SIZE, MBUF_WORK_CHECKSUM, MBUF_WORK_TCP4 } from '../../src/memory/mbuf-layout.ts';
import type { Mempool } from '../../src/memory/mempool.ts';
import {
  Q_DROPPED,
  Q_ERRORS,
  Q_OVERSIZE,
  Q_PACKETS,
  QUEUE_IN_ORDER,
  QUEUE_INDIRECT,
  QUEUE_MERGEABLE,
  QUEUE_PACKED,
} from '../../src/ring/queue-layout.ts';
import { counter, frame, RingBench, TARGETS } from '../support/ring-pair.ts';

const LIMIT = 1514;
const TSO = MBUF_WORK_CHECKSUM | MBUF_WORK_TCP4;
const CASES = TARGETS.flatMap((target) =>
  [QUEUE_MERGEABLE, QUEUE_MERGEABLE | QUEUE_INDIRECT, QUEUE_MERGEABLE | QUEUE_PACKED, QUEUE_PACKED | QUEUE_IN_ORDER].map((features) => ({
    target,
    features,
  })),
);

/** A frame with VLAN tags, TPIDs as given. */
function tagged(length: number, ...types: readonly number[]): Buffer {
  const bytes = frame(length);
  for (const [index, type] of types.entries()) bytes.writeUInt16BE(type, 12 + 4 * index);
  bytes.writeUInt16BE(0x0800, 12 + 4 * types.length);
  return bytes;
}

interface Sent {
  readonly what: string;
  readonly bytes: Buffer;
  readonly passes: boolean;
  readonly segments?: readonly number[];
  readonly work?: number;
}

const PACKETS: readonly Sent[] = [
  { what: 'as long as can be', bytes: tagged(LIMIT), passes: true },
  { what: 'one byte more', bytes: tagged(LIMIT + 1), passes: false },
  { what: 'short, between others', bytes: tagged(60), passes: true },
  { what: 'a tag', bytes: tagged(LIMIT + 4, 0x8100), passes: true },
  { what: 'a tag and one byte more', bytes: tagged(LIMIT + 5, 0x8100), passes: false },
  { what: 'two tags', bytes: tagged(LIMIT + 8, 0x88a8, 0x8100), passes: true },
  { what: 'several segments', bytes: tagged(LIMIT, 0x8100), passes: true, segments: [100, 700] },
  { what: 'too long in several segments', bytes: tagged(LIMIT + 486), passes: false, segments: [1000] },
  { what: 'to be cut by the other side', bytes: tagged(LIMIT + 300), passes: true, work: TSO },
  { what: 'too long, with a checksum to be made', bytes: tagged(LIMIT + 300), passes: false, work: MBUF_WORK_CHECKSUM },
  { what: 'short, at the end', bytes: tagged(61), passes: true },
];
const PASSING = PACKETS.filter(({ passes }) => passes).map(({ bytes }) => bytes);
const LOST = PACKETS.length - PASSING.length;

function make(bench: RingBench, pool: Mempool): number[] {
  return PACKETS.map(({ bytes, segments, work = 0 }) => {
    const packet = bench.packet(pool, bytes, { segments }) ?? 0;
    bench.st32(packet + MBUF_FLAGS, work);
    if (work === TSO) bench.st16(packet + MBUF_SEGMENT_SIZE, 1000);
    return packet;
  });
}

describe.each(CASES)('packets beyond the MTU, ring features $features on $target', ({ target, features }) => {
  it('are not sent by the driver', () => {
    using bench = new RingBench(target);
    const [pool, devicePool] = [bench.pool(), bench.pool()];
    const { driver, device } = bench.pair({ features, offloads: TSO, lengthLimit: LIMIT, devicePool });
    expect(bench.send(bench.kernels.virtqueueTransmit, driver.offset, make(bench, pool))).toBe(PACKETS.length);
    expect(bench.take(bench.kernels.virtqueueReceive, device.offset, 32)).toEqual(PASSING);
    expect([Q_PACKETS, Q_ERRORS, Q_OVERSIZE].map((field) => counter(driver, field))).toEqual([PASSING.length, LOST, LOST]);
  });

  it('are not passed by the device', () => {
    using bench = new RingBench(target);
    const [pool, devicePool] = [bench.pool(), bench.pool()];
    const { driver, device } = bench.pair({ features, offloads: TSO, lengthLimit: LIMIT, pool });
    while (bench.kernels.driverRefill(driver.offset, 0) !== 0);
    expect(bench.send(bench.kernels.virtqueueTransmit, device.offset, make(bench, devicePool))).toBe(PACKETS.length);
    expect(bench.take(bench.kernels.virtqueueReceive, driver.offset, 32)).toEqual(PASSING);
    expect([Q_PACKETS, Q_DROPPED, Q_OVERSIZE].map((field) => counter(device, field))).toEqual([PASSING.length, LOST, LOST]);
  });

  it('do not exist without one', () => {
    using bench = new RingBench(target);
    const [pool, devicePool] = [bench.pool(), bench.pool()];
    const { driver, device } = bench.pair({ features, offloads: TSO, devicePool });
    expect(bench.send(bench.kernels.virtqueueTransmit, driver.offset, make(bench, pool))).toBe(PACKETS.length);
    expect(bench.take(bench.kernels.virtqueueReceive, device.offset, 32)).toEqual(PACKETS.map(({ bytes }) => bytes));
    expect(counter(driver, Q_OVERSIZE)).toBe(0);
  });
});
