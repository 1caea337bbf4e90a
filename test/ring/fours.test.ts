/** Rings that are worked four packets a step: what does not come in fours, and what is wrong in the middle of four. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { MBUF_DATA, MBUF_PORT } from '../../src/memory/mbuf-layout.ts';
import type { Mempool } from '../../src/memory/mempool.ts';
import { NET_HEADER_BYTES } from '../../src/net/virtio-net-header.ts';
import { PACKED_BYTES, PACKED_LENGTH, PACKED_WORD } from '../../src/ring/packed-layout.ts';
import { DESCRIPTOR_BYTES, USED_ELEMENT_BYTES, USED_RING } from '../../src/ring/split-layout.ts';
import {
  Q_BYTES,
  Q_ERRORS,
  Q_FREE,
  Q_MULTICAST,
  Q_PACKETS,
  Q_SIZES,
  QUEUE_ERROR_ADDRESS,
  QUEUE_ERROR_ID,
  QUEUE_ERROR_LENGTH,
  QUEUE_IN_ORDER,
  QUEUE_MERGEABLE,
  QUEUE_PACKED,
  QUEUE_VECTORIZED,
} from '../../src/ring/queue-layout.ts';
import { counter, frame, RingBench, TARGETS, type Pair } from '../support/ring-pair.ts';

const PATHS = [
  ['split, in any order', 0],
  ['split, in any order, vectorized', QUEUE_VECTORIZED],
  ['packed, in any order, mergeable', QUEUE_PACKED | QUEUE_MERGEABLE],
  ['split', QUEUE_IN_ORDER],
  ['split, mergeable', QUEUE_IN_ORDER | QUEUE_MERGEABLE],
  ['packed', QUEUE_PACKED | QUEUE_IN_ORDER],
  ['packed, mergeable', QUEUE_PACKED | QUEUE_IN_ORDER | QUEUE_MERGEABLE],
  ['packed, vectorized', QUEUE_PACKED | QUEUE_IN_ORDER | QUEUE_VECTORIZED],
] as const;
/** Packets at a time, size of the ring; split ones are powers of two. */
const CELLS: readonly (readonly [number, number])[] = [
  [4, 16],
  [7, 16],
  [32, 64],
];
const ODD_CELLS: readonly (readonly [number, number])[] = [
  [5, 18],
  [3, 17],
  [13, 50],
];
const CASES = TARGETS.flatMap((target) => PATHS.map(([name, features]) => [target, name, features] as const));

describe.each(CASES)('four packets a step on %s, %s', (target, _, features) => {
  const packed = (features & QUEUE_PACKED) !== 0;
  let bench: RingBench;
  let pool: Mempool;
  beforeEach(() => {
    bench = new RingBench(target);
    pool = bench.pool();
    bench.canaries();
  });
  afterEach(() => {
    expect(bench.deadCanaries()).toEqual([]);
    bench[Symbol.dispose]();
  });

  const pair = (size: number): Pair => bench.pair({ size, features, pool, devicePool: pool });
  const packet = (bytes: Buffer, segments: readonly number[] = []): number => bench.packet(pool, bytes, { segments }) ?? 0;
  const fill = ({ driver }: Pair): void => {
    while (bench.kernels.driverRefill(driver.offset, 0) !== 0) continue;
  };
  const put = ({ device }: Pair, frames: readonly Buffer[]): void => {
    expect(
      bench.send(
        bench.kernels.virtqueueTransmit,
        device.offset,
        frames.map((bytes) => packet(bytes, bytes.length > 2000 ? [1500] : [])),
      ),
    ).toBe(frames.length);
  };
  const frames = (count: number, length = 60): Buffer[] => Array.from({ length: count }, (_, index) => frame(length + index, index));

  // neither number of packets nor size of ring is a multiple of four: groups, single packets and the end of the ring meet everywhere
  it.each(packed ? [...CELLS, ...ODD_CELLS] : CELLS)('%i packets at a time go round a ring of %i, both ways', (burst, size) => {
    const [transmit, receive] = [pair(size), pair(size)];
    fill(receive);
    for (let round = 0; round < 40; round++) {
      const sent = frames(burst);
      const handles = sent.map((bytes) => packet(bytes));
      expect(bench.send(bench.kernels.virtqueueTransmit, transmit.driver.offset, handles)).toBe(burst);
      expect(bench.take(bench.kernels.virtqueueReceive, transmit.device.offset, burst)).toEqual(sent);
      put(receive, sent);
      expect(bench.take(bench.kernels.virtqueueReceive, receive.driver.offset, burst)).toEqual(sent);
    }
    const bytes = 40 * frames(burst).reduce((sum, { length }) => sum + length, 0);
    for (const { driver } of [transmit, receive]) {
      expect([counter(driver, Q_PACKETS), counter(driver, Q_BYTES)]).toEqual([40 * burst, bytes]);
      // 60 to 63, 64, 65 to 127
      const classes = [0, 8, 16].map((bin) => counter(driver, Q_SIZES + bin));
      expect(classes).toEqual([Math.min(burst, 4) * 40, burst > 4 ? 40 : 0, Math.max(0, burst - 5) * 40]);
    }
  });

  it('send what does not fit into fours in between, and take it back', () => {
    const { driver, device } = pair(32);
    const long = frame(900);
    for (let round = 0; round < 10; round++) {
      const sent = [...frames(5), long, ...frames(6), long, ...frames(4)];
      const handles = sent.map((bytes) => packet(bytes, bytes === long ? [100, 300] : []));
      expect(bench.send(bench.kernels.virtqueueTransmit, driver.offset, handles)).toBe(17);
      expect(bench.take(bench.kernels.virtqueueReceive, device.offset, 32)).toEqual(sent);
    }
    expect(bench.kernels.driverReclaim(driver.offset)).toBe(32);
    expect(counter(driver, Q_PACKETS)).toBe(170);
  });

  it.each([0, 4, 8])('what was left at byte %i of a header is not sent, nor does it matter what is before the header', (at) => {
    const { driver, device } = pair(16);
    const sent = frames(4);
    const handles = sent.map((bytes) => packet(bytes));
    const headers = handles.map((handle) => bench.ld32(handle + MBUF_DATA) - NET_HEADER_BYTES);
    for (const header of headers) bench.st32(header - 4, 0x5a5a_5a5a);
    bench.st32((headers[2] ?? 0) + at, 0x5a5a_5a5a);
    expect(bench.send(bench.kernels.virtqueueTransmit, driver.offset, handles)).toBe(4);
    for (const header of headers) expect(bench.read(header, NET_HEADER_BYTES)).toEqual(Buffer.alloc(NET_HEADER_BYTES));
    expect(bench.take(bench.kernels.virtqueueReceive, device.offset, 4)).toEqual(sent);
  });

  describe('buffers are posted', () => {
    const addresses = ({ driver }: Pair): string[] =>
      Array.from({ length: 128 }, (_, slot) => bench.read(driver.descriptors + slot * DESCRIPTOR_BYTES, 8).toString('hex'));

    it('into the slots that they came out of, before the next burst, when the caller frees what it gets', () => {
      const receive = pair(128);
      fill(receive);
      // what the device has in its hands is not the driver's
      const others = bench.pool();
      const receiveAndFree = (): void => {
        const handles = frames(32).map((bytes) => bench.packet(others, bytes) ?? 0);
        expect(bench.send(bench.kernels.virtqueueTransmit, receive.device.offset, handles)).toBe(32);
        expect(bench.take(bench.kernels.virtqueueReceive, receive.driver.offset, 32)).toHaveLength(32);
      };
      // by then it is known that it does
      receiveAndFree();
      receiveAndFree();
      bench.kernels.virtqueueReceive(receive.driver.offset, bench.handles, 32);
      const before = addresses(receive);
      for (let round = 0; round < 9; round++) {
        receiveAndFree();
        expect(receive.driver.get(Q_FREE)).toBe(32);
        // now and then there is nothing
        if (round % 3 === 0) expect(bench.kernels.virtqueueReceive(receive.driver.offset, bench.handles, 32)).toBe(0);
      }
      bench.kernels.virtqueueReceive(receive.driver.offset, bench.handles, 32);
      expect(addresses(receive)).toEqual(before);
      expect(receive.driver.get(Q_FREE)).toBe(0);
    });

    it('right after the burst when it keeps that', () => {
      const receive = pair(128);
      fill(receive);
      for (let round = 0; round < 6; round++) {
        put(receive, frames(32));
        expect(bench.kernels.virtqueueReceive(receive.driver.offset, bench.handles + round * 128, 32)).toBe(32);
        expect(receive.driver.get(Q_FREE)).toBe(0);
      }
      bench.kernels.packetsFree(bench.handles, 6 * 32, 0);
    });
  });

  it('multicast packets are counted, in fours or not, unless the path does not look into packets', () => {
    const [transmit, receive] = [pair(16), pair(16)];
    fill(receive);
    const group = frames(6).map((bytes, index) => Buffer.from(bytes).fill(index % 2, 0, 1));
    bench.send(
      bench.kernels.virtqueueTransmit,
      transmit.driver.offset,
      group.map((bytes) => packet(bytes)),
    );
    put(receive, group);
    expect(bench.take(bench.kernels.virtqueueReceive, receive.driver.offset, 6)).toHaveLength(6);
    const vectorized = (features & QUEUE_VECTORIZED) !== 0;
    // a split ring has no vectorized path for sending
    expect(counter(transmit.driver, Q_MULTICAST)).toBe(vectorized && packed ? 0 : 3);
    expect(counter(receive.driver, Q_MULTICAST)).toBe(vectorized ? 0 : 3);
  });

  it('give received packets their port', () => {
    const receive = pair(16);
    fill(receive);
    put(receive, frames(4));
    expect(bench.kernels.virtqueueReceive(receive.driver.offset, bench.handles, 4)).toBe(4);
    expect(bench.listed(4).map((handle) => bench.ld16(handle + MBUF_PORT))).toEqual([3, 3, 3, 3]);
    bench.kernels.packetsFree(bench.handles, 4, 0);
  });

  /** Where the device writes what it has used, of the `index`th buffer. */
  const lengthAt = ({ driver }: Pair, index: number): number =>
    packed ? driver.descriptors + index * PACKED_BYTES + PACKED_LENGTH : driver.used + USED_RING + index * USED_ELEMENT_BYTES + 4;
  const putId = ({ driver }: Pair, index: number, id: number): void => {
    if (packed) bench.st32(driver.descriptors + index * PACKED_BYTES + PACKED_WORD, (0x8082_0000 | id) >>> 0);
    else bench.st32(driver.used + USED_RING + index * USED_ELEMENT_BYTES, id);
  };

  it.each([
    ['a length beyond the buffer', 100_000],
    ['a length shorter than the header', 5],
    ['a length of -1', 0xffff_ffff],
  ])('%s in the third of four stops the queue behind the two before', (_name, length) => {
    const receive = pair(16);
    fill(receive);
    const sent = frames(4);
    put(receive, sent);
    bench.st32(lengthAt(receive, 2), length);
    expect(bench.take(bench.kernels.virtqueueReceive, receive.driver.offset, 32)).toEqual(sent.slice(0, 2));
    expect(receive.driver.error).toBe(QUEUE_ERROR_LENGTH);
  });

  it('an id outside the ring in the third of four stops the queue behind the two before', () => {
    const receive = pair(16);
    fill(receive);
    const sent = frames(4);
    put(receive, sent);
    putId(receive, 2, 64);
    expect(bench.take(bench.kernels.virtqueueReceive, receive.driver.offset, 32)).toEqual(sent.slice(0, 2));
    expect(receive.driver.error).toBe(QUEUE_ERROR_ID);
  });

  it('a packet shorter than an Ethernet header in the third of four is counted as an error', () => {
    const receive = pair(16);
    fill(receive);
    const sent = frames(4);
    put(receive, sent);
    bench.st32(lengthAt(receive, 2), 12 + 13);
    expect(bench.take(bench.kernels.virtqueueReceive, receive.driver.offset, 32)).toEqual([sent[0], sent[1], sent[3]]);
    expect(counter(receive.driver, Q_ERRORS)).toBe(1);
  });

  it('a packet in two buffers among those in one is put together, or dropped where buffers are not merged', () => {
    const receive = pair(32);
    fill(receive);
    const sent = [...frames(5), frame(3000), ...frames(6)];
    put(receive, sent);
    const expected = (features & QUEUE_MERGEABLE) !== 0 ? sent : sent.filter(({ length }) => length !== 3000);
    expect(bench.take(bench.kernels.virtqueueReceive, receive.driver.offset, 32)).toEqual(expected);
  });

  if ((features & QUEUE_IN_ORDER) !== 0)
    it('take buffers whose used descriptors or elements the device left out one by one', () => {
      const receive = pair(16);
      fill(receive);
      const free = receive.driver.get(Q_FREE);
      // one, at the place of the first, stands for six (virtio 1.2, 2.7.9 and 2.8.9)
      bench.st32(lengthAt(receive, 0), 12 + 60);
      putId(receive, 0, 5);
      if (!packed) bench.st16(receive.driver.used + 2, 6);
      expect(bench.kernels.virtqueueReceive(receive.driver.offset, bench.handles, 32)).toBe(6);
      bench.kernels.packetsFree(bench.handles, 6, 0);
      expect(receive.driver.error).toBe(0);
      expect(receive.driver.get(Q_FREE)).toBe(free + 6);
    });

  it.each([
    ['an address outside of the memory that is shared', 0, 0x20, QUEUE_ERROR_ADDRESS],
    ['a high word that is another', 4, 7, QUEUE_ERROR_ADDRESS],
  ])('the device: %s in the third of four stops the queue behind the two before, both ways', (_name, field, value, error) => {
    const transmit = pair(16);
    const sent = frames(4);
    expect(
      bench.send(
        bench.kernels.virtqueueTransmit,
        transmit.driver.offset,
        sent.map((bytes) => packet(bytes)),
      ),
    ).toBe(4);
    bench.st32(transmit.driver.descriptors + 2 * 16 + field, value);
    expect(bench.take(bench.kernels.virtqueueReceive, transmit.device.offset, 32)).toEqual(sent.slice(0, 2));
    expect(transmit.device.error).toBe(error);
    const receive = pair(16);
    fill(receive);
    bench.st32(receive.driver.descriptors + 2 * 16 + field, value);
    expect(
      bench.send(
        bench.kernels.virtqueueTransmit,
        receive.device.offset,
        sent.map((bytes) => packet(bytes)),
      ),
    ).toBe(2);
    expect(receive.device.error).toBe(error);
  });
});
