import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import fc from 'fast-check';
import { MBUF_BUFFER, MBUF_BYTES, MBUF_DATA, MBUF_FLAGS, MBUF_NEXT, MBUF_REFERENCES, MBUF_SEGMENTS } from '../../src/memory/mbuf-layout.ts';
import { createMempool, mempoolBytes } from '../../src/memory/mempool.ts';
import { LCORE_SLOTS, POOL_FIRST } from '../../src/memory/mempool-layout.ts';
import { RingBench, TARGETS } from '../support/ring-pair.ts';

describe.each(TARGETS)('mempool on %s', (target) => {
  let bench: RingBench;
  beforeEach(() => {
    bench = new RingBench(target);
  });
  afterEach(() => {
    bench[Symbol.dispose]();
  });
  const allocate = (pool: { offset: number }, count: number, lcore = 0): number[] =>
    bench.listed(bench.kernels.mbufAllocate(pool.offset, lcore, bench.handles, count));
  const release = (mbufs: readonly number[], lcore = 0): void => {
    bench.kernels.packetsFree(bench.list(mbufs), mbufs.length, lcore);
  };

  it('hands out each mbuf once, with its data behind the headroom and no flags', () => {
    const pool = bench.pool({ count: 100, cacheSize: 0 });
    const mbufs = allocate(pool, 100);
    expect(new Set(mbufs).size).toBe(100);
    for (const mbuf of mbufs) {
      expect(bench.ld32(mbuf + MBUF_DATA)).toBe(bench.ld32(mbuf + MBUF_BUFFER) + 128);
      expect([bench.ld32(mbuf + MBUF_FLAGS), bench.ld32(mbuf + MBUF_NEXT)]).toEqual([0, 0]);
      expect([bench.ld16(mbuf + MBUF_SEGMENTS), bench.ld16(mbuf + MBUF_REFERENCES)]).toEqual([1, 1]);
    }
    expect(pool.free()).toBe(0);
    release(mbufs);
    expect(pool.free()).toBe(100);
  });

  it.each([
    { cacheSize: 0, count: 32 },
    { cacheSize: 32, count: 32 },
    { cacheSize: 8, count: 32 },
  ])('gives all that were asked for or none (cache of $cacheSize)', ({ cacheSize, count }) => {
    const pool = bench.pool({ count: 40, cacheSize });
    const first = allocate(pool, count);
    expect(first).toHaveLength(count);
    expect(allocate(pool, count)).toHaveLength(0);
    expect(pool.free()).toBe(8);
    release(first);
    expect(pool.free()).toBe(40);
  });

  it('writes no handle where it cannot give as many as were asked for', () => {
    const pool = bench.pool({ count: 40, cacheSize: 8 });
    bench.u32.fill(0xeeee_eeee, bench.handles >>> 2, (bench.handles >>> 2) + 64);
    expect([41, 0xffff_ffff].flatMap((count) => allocate(pool, count))).toEqual([]);
    expect(bench.listed(64).every((word) => word === 0xeeee_eeee)).toBe(true);
    expect(pool.free()).toBe(40);
  });

  it('keeps a burst as large as the cache within the cache of its lcore', () => {
    // 249 left in the cache, then 250 wanted: a whole cache more is fetched on top of what is there
    const pool = bench.pool({ count: 1024, cacheSize: 250 });
    const one = allocate(pool, 1, 3);
    const whole = allocate(pool, 250, 3);
    expect(whole).toHaveLength(250);
    release([...one, ...whole], 3);
    expect(pool.free()).toBe(1024);
    expect(new Set(bench.freeHandles(pool)).size).toBe(1024);
  });

  it.each([1, 31, 32, 33, 250, 511, 512])('loses nothing when bursts are as large as a cache of %i', (cacheSize) => {
    const pool = bench.pool({ count: 1800, dataRoom: 192, cacheSize });
    for (const [lcore, counts] of [[0, [1, cacheSize, cacheSize - 1]] as const, [LCORE_SLOTS - 1, [cacheSize, 1, cacheSize]] as const]) {
      const held = counts.flatMap((count) => (count > 0 ? allocate(pool, count, lcore) : []));
      expect(new Set(held).size).toBe(held.length);
      release(held, lcore);
      expect(new Set(bench.freeHandles(pool)).size).toBe(1800);
      expect(pool.free()).toBe(1800);
    }
  });

  it('hands out again what was freed last, in the order in which it was freed', () => {
    const pool = bench.pool({ count: 256, cacheSize: 64 });
    const mbufs = allocate(pool, 32);
    const order = [...mbufs].reverse();
    release(order);
    expect(allocate(pool, 32)).toEqual(order);
    release(order);
  });

  it('takes mbufs back on another lcore than the one that took them', () => {
    const pool = bench.pool({ count: 300, cacheSize: 32 });
    for (let round = 0; round < 40; round++) {
      const mbufs = allocate(pool, 32, 1);
      expect(mbufs).toHaveLength(32);
      release(mbufs, 2);
    }
    expect(pool.free()).toBe(300);
    expect(new Set(bench.freeHandles(pool)).size).toBe(300);
  });

  it('gives a chain back segment by segment, each as a free mbuf is', () => {
    const pool = bench.pool({ count: 8 });
    const packet = bench.packet(pool, Buffer.alloc(300), { segments: [100, 100] });
    expect(pool.free()).toBe(5);
    bench.kernels.packetFree(packet ?? 0, 0);
    for (const mbuf of bench.freeHandles(pool)) {
      expect([bench.ld32(mbuf + MBUF_NEXT), bench.ld16(mbuf + MBUF_SEGMENTS), bench.ld16(mbuf + MBUF_REFERENCES)]).toEqual([0, 1, 1]);
    }
    expect(pool.free()).toBe(8);
  });

  it('keeps an mbuf with several owners until the last one frees it', () => {
    const pool = bench.pool({ count: 4 });
    const packet = bench.packet(pool, Buffer.alloc(200), { segments: [100], references: 3 }) ?? 0;
    const second = bench.ld32(packet + MBUF_NEXT);
    bench.st16(second + MBUF_REFERENCES, 3);
    for (const left of [2, 2, 4]) {
      bench.kernels.packetFree(packet, 0);
      expect(pool.free()).toBe(left);
    }
  });

  it('never loses, doubles or invents an mbuf, whatever the order of bursts, lcores and chains', () => {
    const step = fc.record({
      allocate: fc.boolean(),
      count: fc.integer({ min: 1, max: 70 }),
      lcore: fc.constantFrom(0, 1, LCORE_SLOTS - 1),
      from: fc.nat(),
    });
    fc.assert(
      fc.property(fc.constantFrom(0, 1, 16, 32, 64), fc.array(step, { minLength: 1, maxLength: 60 }), (cacheSize, steps) => {
        const pool = createMempool(bench.arena, { count: 200, dataRoom: 192, cacheSize });
        const first = Math.min(...bench.freeHandles(pool));
        const held: number[] = [];
        for (const { allocate: wants, count, lcore, from } of steps) {
          if (wants) {
            const mbufs = allocate(pool, count, lcore);
            expect([0, count]).toContain(mbufs.length);
            held.push(...mbufs);
          } else {
            release(held.splice(from % (held.length + 1), count), lcore);
          }
          expect(pool.free()).toBe(200 - held.length);
          const all = new Set([...held, ...bench.freeHandles(pool)]);
          expect(all.size).toBe(200);
          for (const mbuf of all) expect((mbuf - first) % MBUF_BYTES).toBe(0);
        }
        release(held);
        pool.close();
      }),
      { numRuns: 40 },
    );
  });
});

describe('making a mempool', () => {
  let bench: RingBench;
  beforeEach(() => {
    bench = new RingBench('wasm');
  });
  afterEach(() => {
    bench[Symbol.dispose]();
  });

  it.each([
    [{ count: 0 }, /count 0/],
    [{ count: 1.5 }, /count 1.5/],
    [{ count: 1, dataRoom: 191 }, /dataRoom 191 must be 192..65535/],
    [{ count: 1, dataRoom: 65536 }, /dataRoom 65536/],
    [{ count: 1, cacheSize: 513 }, /cacheSize 513 must be 0..512/],
    [{ count: 1, cacheSize: -1 }, /cacheSize -1/],
  ])('refuses %o', (options, message) => {
    expect(() => createMempool(bench.arena, options)).toThrow(RangeError);
    expect(() => createMempool(bench.arena, options)).toThrow(message);
  });

  it('gives everything back when the arena is too small, and names what did not fit', () => {
    const before = [bench.arena.own.freeBytes, bench.arena.published.freeBytes];
    expect(() => createMempool(bench.arena, { count: 4000, name: 'big' })).toThrow(/4000 buffers of 2176 bytes of mempool big.*-m/);
    expect(() => createMempool(bench.arena, { count: 100_000, name: 'big' })).toThrow(/100000 mbufs of mempool big/);
    expect([bench.arena.own.freeBytes, bench.arena.published.freeBytes]).toEqual(before);
  });

  it.each([
    { count: 10, dataRoom: 192, cacheSize: 0 },
    { count: 777, dataRoom: 2176, cacheSize: 250 },
    { count: 100, dataRoom: 9216, cacheSize: 512 },
  ])('takes no more of the arena than it says: %o', (options) => {
    const own = bench.arena.own.freeBytes;
    const published = bench.arena.published.freeBytes;
    const pool = createMempool(bench.arena, options);
    const said = mempoolBytes(options);
    expect(own - bench.arena.own.freeBytes).toBeLessThanOrEqual(said.own);
    expect(published - bench.arena.published.freeBytes).toBeLessThanOrEqual(said.published);
    pool.close();
    expect(bench.arena.own.freeBytes).toBe(own);
    expect(bench.arena.published.freeBytes).toBe(published);
  });

  it('has no buffer across a boundary of 2 MiB, and none twice', () => {
    const dataRoom = 9216;
    const pool = createMempool(bench.arena, { count: 300, dataRoom });
    const { u32 } = bench;
    const first = u32[(pool.offset + POOL_FIRST) >>> 2] ?? 0;
    const buffers = Array.from({ length: 300 }, (_, index) => u32[(first + index * MBUF_BYTES + MBUF_BUFFER) >>> 2] ?? 0);
    const page = (offset: number): number => Math.floor((bench.arena.base + offset) / (2 * 1024 * 1024));
    expect(new Set(buffers.map(page)).size).toBeGreaterThan(1);
    for (const [index, buffer] of buffers.entries()) {
      expect(page(buffer)).toBe(page(buffer + dataRoom - 1));
      if (index > 0) expect(buffer).toBeGreaterThanOrEqual((buffers[index - 1] ?? 0) + dataRoom);
    }
    pool.close();
  });

  it('does not close while an mbuf is in use, and closes once', () => {
    const pool = createMempool(bench.arena, { count: 5, name: 'busy' });
    const packet = bench.packet(pool, Buffer.alloc(60)) ?? 0;
    expect(() => pool.close()).toThrow(/mempool busy: 1 of 5 mbufs are still in use/);
    bench.kernels.packetFree(packet, 0);
    pool.close();
    pool.close();
  });
});
