/** The vectorized path of a packed ring's driver: what comes in fours, what does not, and what is wrong in the middle of four. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { MBUF_PORT } from '../../src/memory/mbuf-layout.ts';
import type { Mempool } from '../../src/memory/mempool.ts';
import { PACKED_BYTES, PACKED_LENGTH, PACKED_WORD } from '../../src/ring/packed-layout.ts';
import {
  Q_BYTES,
  Q_ERRORS,
  Q_FREE,
  Q_MULTICAST,
  Q_PACKETS,
  Q_SIZES,
  QUEUE_ERROR_ID,
  QUEUE_ERROR_LENGTH,
  QUEUE_IN_ORDER,
  QUEUE_PACKED,
  QUEUE_VECTORIZED,
} from '../../src/ring/queue-layout.ts';
import { counter, frame, RingBench, TARGETS, type Pair } from '../support/ring-pair.ts';

const FEATURES = QUEUE_PACKED | QUEUE_IN_ORDER | QUEUE_VECTORIZED;

describe.each(TARGETS)('fours of a packed ring on %s', (target) => {
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

  const pair = (size: number): Pair => {
    const made = bench.pair({ size, features: FEATURES, pool, devicePool: pool });
    return made;
  };
  const packet = (bytes: Buffer, segments: readonly number[] = []): number => bench.packet(pool, bytes, { segments }) ?? 0;
  const fill = ({ driver }: Pair): void => {
    while (bench.kernels.driverRefill(driver.offset, 0) !== 0) continue;
  };
  const put = ({ device }: Pair, frames: readonly Buffer[]): void => {
    expect(
      bench.send(
        bench.kernels.deviceEnqueue,
        device.offset,
        frames.map((bytes) => packet(bytes)),
      ),
    ).toBe(frames.length);
  };
  const frames = (count: number, length = 60): Buffer[] => Array.from({ length: count }, (_, index) => frame(length + index, index));

  // neither number of packets nor size of ring is a multiple of four: groups, single packets and the end of the ring meet everywhere
  it.each([
    [4, 16],
    [7, 16],
    [5, 18],
    [3, 17],
    [32, 64],
    [13, 50],
  ])('%i packets at a time go round a ring of %i, both ways', (burst, size) => {
    const [transmit, receive] = [pair(size), pair(size)];
    fill(receive);
    for (let round = 0; round < 40; round++) {
      const sent = frames(burst);
      const handles = sent.map((bytes) => packet(bytes));
      expect(bench.send(bench.kernels.driverTransmit, transmit.driver.offset, handles)).toBe(burst);
      expect(bench.take(bench.kernels.deviceDequeue, transmit.device.offset, burst)).toEqual(sent);
      put(receive, sent);
      expect(bench.take(bench.kernels.driverReceive, receive.driver.offset, burst)).toEqual(sent);
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
      expect(bench.send(bench.kernels.driverTransmit, driver.offset, handles)).toBe(17);
      expect(bench.take(bench.kernels.deviceDequeue, device.offset, 32)).toEqual(sent);
    }
    expect(bench.kernels.driverReclaim(driver.offset)).toBe(32);
    expect(counter(driver, Q_PACKETS)).toBe(170);
  });

  it('do not look into packets: nothing is counted as multicast, in fours or not', () => {
    const [transmit, receive] = [pair(16), pair(16)];
    fill(receive);
    const group = frames(6).map((bytes) => Buffer.from(bytes).fill(0xff, 0, 6));
    bench.send(
      bench.kernels.driverTransmit,
      transmit.driver.offset,
      group.map((bytes) => packet(bytes)),
    );
    put(receive, group);
    expect(bench.take(bench.kernels.driverReceive, receive.driver.offset, 6)).toHaveLength(6);
    for (const { driver } of [transmit, receive]) expect(counter(driver, Q_MULTICAST)).toBe(0);
  });

  it('give received packets their port', () => {
    const receive = pair(16);
    fill(receive);
    put(receive, frames(4));
    expect(bench.kernels.driverReceive(receive.driver.offset, bench.handles, 4)).toBe(4);
    expect(bench.listed(4).map((handle) => bench.ld16(handle + MBUF_PORT))).toEqual([3, 3, 3, 3]);
    bench.kernels.packetsFree(bench.handles, 4, 0);
  });

  it.each([
    ['a length beyond the buffer', PACKED_LENGTH, 100_000, QUEUE_ERROR_LENGTH],
    ['a length shorter than the header', PACKED_LENGTH, 5, QUEUE_ERROR_LENGTH],
    ['a length of -1', PACKED_LENGTH, 0xffff_ffff, QUEUE_ERROR_LENGTH],
    ['an id outside the ring', PACKED_WORD, 0x8082_0040, QUEUE_ERROR_ID],
  ])('%s in the third of four stops the queue behind the two before', (_, field, value, error) => {
    const receive = pair(16);
    fill(receive);
    const sent = frames(4);
    put(receive, sent);
    bench.st32(receive.driver.descriptors + 2 * PACKED_BYTES + field, value);
    expect(bench.take(bench.kernels.driverReceive, receive.driver.offset, 32)).toEqual(sent.slice(0, 2));
    expect(receive.driver.error).toBe(error);
  });

  it('a packet shorter than an Ethernet header in the third of four is counted as an error', () => {
    const receive = pair(16);
    fill(receive);
    const sent = frames(4);
    put(receive, sent);
    bench.st32(receive.driver.descriptors + 2 * PACKED_BYTES + PACKED_LENGTH, 12 + 13);
    expect(bench.take(bench.kernels.driverReceive, receive.driver.offset, 32)).toEqual([sent[0], sent[1], sent[3]]);
    expect(counter(receive.driver, Q_ERRORS)).toBe(1);
  });

  it('take buffers whose used descriptors the device left out (2.8.9) one by one', () => {
    const receive = pair(16);
    fill(receive);
    const free = receive.driver.get(Q_FREE);
    const { descriptors } = receive.driver;
    // one descriptor, at the place of the first, stands for six
    bench.st32(descriptors + PACKED_LENGTH, 12 + 60);
    bench.st32(descriptors + PACKED_WORD, 0x8082_0005);
    expect(bench.kernels.driverReceive(receive.driver.offset, bench.handles, 32)).toBe(6);
    bench.kernels.packetsFree(bench.handles, 6, 0);
    expect(receive.driver.error).toBe(0);
    expect(receive.driver.get(Q_FREE)).toBe(free + 6);
  });
});
