/**
 * Rings whose memory another thread spoils while both ends work on them: what a hostile peer, or a broken one, can do at any moment.
 *
 * Queues may be given up, with a reason; then the ring is made anew. Nothing outside of what is shared may change, no mbuf may be lost
 * or be in two places, and no packet may be longer than its memory. DPDK_TS_FLIP_SECONDS=60 does it for longer.
 * @module
 */
import { Worker } from 'node:worker_threads';
import { describe, expect, test } from 'vitest';
import { MBUF_BUFFER, MBUF_DATA, MBUF_NEXT, MBUF_ROOM, MBUF_SEGMENT_LENGTH } from '../../src/memory/mbuf-layout.ts';
import {
  Q_SIZE,
  Q_STATE,
  QUEUE_ERROR_TEXTS,
  QUEUE_IN_ORDER,
  QUEUE_INDIRECT,
  QUEUE_MERGEABLE,
  QUEUE_PACKED,
  QUEUE_RUNNING,
  QUEUE_VECTORIZED,
} from '../../src/ring/queue-layout.ts';
import { packedRingBytes, splitRingBytes, type DeviceQueue, type DriverQueue } from '../../src/ring/virtqueue.ts';
import { frame, RingBench, TARGETS } from '../support/ring-pair.ts';

const SECONDS = Number(process.env['DPDK_TS_FLIP_SECONDS'] ?? '0.5');
const MBUFS = 512;
const HEADER = 12;

/** Stores random words, and small numbers, at random places of the ranges until it is told to stop. */
const FLIPPER = `
  const { workerData } = require('node:worker_threads');
  const { words, ranges, stop } = workerData;
  let seed = workerData.seed;
  const random = (below) => {
    seed ^= seed << 13;
    seed ^= seed >>> 17;
    seed ^= seed << 5;
    return (seed >>> 0) % below;
  };
  while (Atomics.load(stop, 0) === 0) {
    const [from, bytes] = ranges[random(ranges.length)];
    const at = (from >>> 2) + random(Math.max(1, bytes >>> 2));
    const kind = random(4);
    if (kind === 0) words[at] = random(0xffffffff);
    else if (kind === 1) words[at] ^= 1 << random(32);
    else if (kind === 2) words[at] = random(600);
    else words[at] = words[(from >>> 2) + random(Math.max(1, bytes >>> 2))];
    // the others are to get somewhere in between
    for (let wait = random(2000); wait > 0; wait--);
  }
`;

class Flipper implements AsyncDisposable {
  readonly #worker: Worker;
  readonly #stop = new Int32Array(new SharedArrayBuffer(4));

  constructor(words: Uint32Array, ranges: readonly (readonly [number, number])[], seed: number) {
    this.#worker = new Worker(FLIPPER, { eval: true, execArgv: [], workerData: { words, ranges, seed, stop: this.#stop } });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    Atomics.store(this.#stop, 0, 1);
    await new Promise((resolve) => this.#worker.once('exit', resolve));
  }
}

const FORMATS = [
  ['split', 0, 64],
  ['split, in order', QUEUE_IN_ORDER, 64],
  ['split, mergeable and indirect', QUEUE_MERGEABLE | QUEUE_INDIRECT, 64],
  ['packed', QUEUE_PACKED, 50],
  ['packed, in order', QUEUE_PACKED | QUEUE_IN_ORDER, 64],
  ['packed, vectorized', QUEUE_PACKED | QUEUE_IN_ORDER | QUEUE_VECTORIZED, 64],
  ['packed, mergeable and indirect', QUEUE_PACKED | QUEUE_MERGEABLE | QUEUE_INDIRECT, 77],
] as const;

describe.each(TARGETS)('memory that changes under the kernels on %s', (target) => {
  describe.each(FORMATS)('%s', (_, features, size) => {
    test.each(['transmit', 'receive'] as const)('what the driver has to %s', async (direction) => {
      using bench = new RingBench(target);
      const { kernels } = bench;
      bench.canaries();
      const pool = bench.pool({ count: MBUFS });
      const regions = bench.regions();
      const options = { size, features, header: HEADER, pool: direction === 'receive' ? pool : undefined, devicePool: pool };
      const driver = bench.driver(options);
      const device = bench.device(driver, options, regions);
      const bytes = ((features & QUEUE_PACKED) !== 0 ? packedRingBytes : splitRingBytes)(size);
      const seen = new Set<string>();
      let packets = 0;

      /** Every segment lies within its own mbuf. */
      const take = (burst: (queue: number, mbufs: number, count: number) => number, queue: number): void => {
        const count = burst(queue, bench.handles, 32);
        for (const packet of bench.listed(count)) {
          let segments = 0;
          for (let mbuf = packet; mbuf !== 0; mbuf = bench.ld32(mbuf + MBUF_NEXT)) {
            const buffer = bench.ld32(mbuf + MBUF_BUFFER);
            const data = bench.ld32(mbuf + MBUF_DATA);
            if (data < buffer || data + bench.ld32(mbuf + MBUF_SEGMENT_LENGTH) > buffer + bench.ld32(mbuf + MBUF_ROOM)) {
              throw new Error('a segment outside of its mbuf');
            }
            if (++segments > MBUFS) throw new Error('a packet without end');
          }
        }
        packets += count;
        kernels.packetsFree(bench.handles, count, 0);
      };
      const give = (burst: (queue: number, mbufs: number, count: number) => number, queue: number): void => {
        const list: number[] = [];
        for (const length of [60, 60, 1500, 3000]) {
          const packet = bench.packet(pool, frame(length), { segments: length === 3000 ? [1400] : [] });
          if (packet !== undefined) list.push(packet);
        }
        bench.send(burst, queue, list);
      };
      const renew = (queue: DriverQueue | DeviceQueue): void => {
        if (queue.get(Q_STATE) === QUEUE_RUNNING) return;
        seen.add(QUEUE_ERROR_TEXTS[queue.error] ?? `error ${queue.error}`);
        expect(queue.error).not.toBe(0);
        expect(queue.get(Q_SIZE)).toBe(size);
        driver.reset(kernels);
        driver.negotiate(features, HEADER);
        const { descriptors, available, used } = driver;
        device.attach({ size, descriptors, available, used, features, headerBytes: HEADER, regions });
        driver.setState(QUEUE_RUNNING);
        device.setState(QUEUE_RUNNING);
      };

      const ranges = [
        [driver.descriptors, bytes.descriptors],
        [driver.available, bytes.available],
        [driver.used, bytes.used],
      ] as const;
      {
        await using _flipper = new Flipper(bench.u32, ranges, size * 7919 + features);
        const end = performance.now() + 1000 * SECONDS;
        // the worker takes a while to start
        while (performance.now() < end || seen.size === 0) {
          for (let round = 0; round < 50; round++) {
            if (direction === 'transmit') {
              give(kernels.virtqueueTransmit, driver.offset);
              take(kernels.virtqueueReceive, device.offset);
            } else {
              take(kernels.virtqueueReceive, driver.offset);
              give(kernels.virtqueueTransmit, device.offset);
            }
            renew(driver);
            renew(device);
          }
          expect(performance.now(), 'a queue that is given up').toBeLessThan(end + 10_000);
        }
      }
      driver.reset(kernels);
      // what is shared is the device's to write, wherever a spoilt descriptor points
      expect(bench.deadCanaries().filter((offset) => offset < bench.arena.publishedRegion.guestAddress)).toEqual([]);
      const free = bench.freeHandles(pool);
      expect([free.length, new Set(free).size]).toEqual([MBUFS, MBUFS]);
      expect(packets).toBeGreaterThan(0);
    });
  });
});
