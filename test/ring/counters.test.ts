import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bindAccess } from '../../src/memory/access.ts';
import { count, countBurst, countGroupAddress, countSizes } from '../../src/ring/counters.kernel.ts';
import { Q_BROADCAST, Q_BYTES, Q_MULTICAST, Q_NO_MBUF, Q_PACKETS, Q_SIZES } from '../../src/ring/queue-layout.ts';
import { QueueState } from '../../src/ring/virtqueue.ts';
import { counter, frame, RingBench, TARGETS } from '../support/ring-pair.ts';

/** As DPDK's xstats name them: undersize, 64, 65-127, 128-255, 256-511, 512-1023, 1024-1518, 1519 and above. */
const CLASSES: readonly (readonly [length: number, index: number])[] = [
  [14, 0],
  [63, 0],
  [64, 1],
  [65, 2],
  [127, 2],
  [128, 3],
  [255, 3],
  [256, 4],
  [511, 4],
  [512, 5],
  [1023, 5],
  [1024, 6],
  [1518, 6],
  [1519, 7],
  [9000, 7],
];

describe('counters', () => {
  let bench: RingBench;
  beforeAll(() => {
    bench = new RingBench('javascript');
    bindAccess(bench.arena.views);
  });
  afterAll(() => bench[Symbol.dispose]());

  it.each([
    [0xffff_fffe, 1, 0xffff_ffff],
    [0xffff_ffff, 1, 0x1_0000_0000],
    [0xffff_0000, 0xffff_0000, 0x1_fffe_0000],
    [0, 0, 0],
    [0, 0xffff_ffff, 0xffff_ffff],
  ])('carries into the upper half: %i + %i = %i', (low, amount, sum) => {
    const queue = new QueueState(bench.arena, 'a queue', 0);
    queue.set(Q_NO_MBUF, low);
    count(queue.offset + Q_NO_MBUF, amount);
    expect(counter(queue, Q_NO_MBUF)).toBe(sum);
    queue.close();
  });

  it('counts on beyond 2^32 while halves are reset by difference only', () => {
    const queue = new QueueState(bench.arena, 'a queue', 0);
    queue.set(Q_BYTES, 0xffff_ff00);
    queue.set(Q_BYTES + 4, 7);
    queue.resetCounters([Q_BYTES]);
    countBurst(queue.offset, 3, 0x200);
    expect(counter(queue, Q_BYTES)).toBe(0x200);
    expect(counter(queue, Q_PACKETS)).toBe(3);
    expect(queue.get(Q_BYTES + 4)).toBe(8);
    queue.close();
  });

  it.each(CLASSES)('puts a packet of %i bytes into size class %i', (length, index) => {
    const queue = new QueueState(bench.arena, 'a queue', 0);
    countSizes(queue.offset, length, 5);
    expect(Array.from({ length: 8 }, (_, at) => counter(queue, Q_SIZES + 8 * at))).toEqual(
      Array.from({ length: 8 }, (_, at) => (at === index ? 5 : 0)),
    );
    queue.close();
  });

  it.each([
    ['02:00:00:00:00:01', 0, 0],
    ['01:00:5e:00:00:01', 1, 0],
    ['ff:ff:ff:ff:ff:ff', 0, 1],
    ['ff:ff:ff:ff:ff:fe', 1, 0],
    ['ff:ff:ff:fe:ff:ff', 1, 0],
  ])('knows %s for multicast %i, broadcast %i', (mac, multicast, broadcast) => {
    const queue = new QueueState(bench.arena, 'a queue', 0);
    const data = bench.own(64);
    bench.write(data + 1, Buffer.from(mac.replaceAll(':', ''), 'hex'));
    countGroupAddress(queue.offset, data + 1);
    expect([counter(queue, Q_MULTICAST), counter(queue, Q_BROADCAST)]).toEqual([multicast, broadcast]);
    queue.close();
  });
});

describe.each(TARGETS)('counters of whole bursts on %s', (target) => {
  it('are the same at both ends for every size and kind of address', () => {
    using bench = new RingBench(target);
    const pool = bench.pool({ dataRoom: 9216 + 128, count: 64 });
    const { driver, device } = bench.pair({ devicePool: pool });
    const packets = CLASSES.map(([length], index) => {
      const bytes = frame(length, index);
      if (index % 3 === 1) bytes.fill(0xff, 0, 6);
      if (index % 3 === 2) bytes[0] = 1;
      return bench.packet(pool, bytes) ?? 0;
    });
    driver.set(Q_BYTES, 0xffff_ffff);
    expect(bench.send(bench.kernels.splitDriverTransmit, driver.offset, packets)).toBe(packets.length);
    expect(bench.take(bench.kernels.splitDeviceDequeue, device.offset, 32)).toHaveLength(packets.length);
    const bytes = CLASSES.reduce((sum, [length]) => sum + length, 0);
    expect([counter(driver, Q_BYTES), counter(device, Q_BYTES)]).toEqual([0xffff_ffff + bytes, bytes]);
    for (const queue of [driver, device]) {
      expect(counter(queue, Q_PACKETS)).toBe(15);
      expect([counter(queue, Q_MULTICAST), counter(queue, Q_BROADCAST)]).toEqual([5, 5]);
      expect(Array.from({ length: 8 }, (_, at) => counter(queue, Q_SIZES + 8 * at))).toEqual([2, 1, 2, 2, 2, 2, 2, 2]);
    }
  });
});
