import { afterEach, beforeEach, describe, expect, it, test } from 'vitest';
import { Arena } from '../../src/memory/arena.ts';
import { PHYSICAL_ENTRIES } from '../../src/ring/physical-address.kernel.ts';
import { physicalAddressesIn } from '../../src/ring/physical-addresses.ts';
import { QUEUE_INDIRECT, QUEUE_PACKED } from '../../src/ring/queue-layout.ts';
import { DriverQueue } from '../../src/ring/virtqueue.ts';
import { freeHugePages } from '../support/huge-pages.ts';
import { frame, RingBench, TARGETS, type Region } from '../support/ring-pair.ts';

const PAGE = 2 * 1024 * 1024;
const PAGES = 2048;

/** A machine whose pages lie in any order, all above 4 GiB: its table, and the same as regions of a device. */
function scatteredPages(bench: RingBench): { table: number; regions: readonly Region[] } {
  const { guestAddress, bytes } = bench.arena.publishedRegion;
  const phase = bench.arena.base % PAGE;
  const table = bench.own(PHYSICAL_ENTRIES + 8 * (PAGES + 1));
  bench.st32(table, phase);
  const regions: Region[] = [];
  for (let offset = guestAddress; offset < guestAddress + bytes; offset += PAGE) {
    const index = (offset + phase) / PAGE;
    const guest = (BigInt((index * 7) % 64) + 1n) * 0x1_0000_0000n + BigInt(PAGE * ((index * 13) % 500));
    bench.st32(table + PHYSICAL_ENTRIES + 8 * index, Number(guest & 0xffff_ffffn));
    bench.st32(table + PHYSICAL_ENTRIES + 8 * index + 4, Number(guest >> 32n));
    regions.push({ guest, size: PAGE, offset });
  }
  return { table, regions };
}

describe.each(TARGETS)('a driver that tells physical addresses on %s', (target) => {
  let bench: RingBench;
  beforeEach(() => {
    bench = new RingBench(target);
  });
  afterEach(() => bench[Symbol.dispose]());

  it.each([0, QUEUE_INDIRECT, QUEUE_PACKED, QUEUE_PACKED | QUEUE_INDIRECT])(
    'sends packets of one segment and of several, which a device finds page by page (features %i)',
    (features) => {
      const { table, regions } = scatteredPages(bench);
      const pool = bench.pool({ count: 700 });
      const devicePool = bench.pool({ count: 128 });
      const driver = bench.driver({ physicalAddresses: table, features });
      const device = bench.device(driver, { devicePool, features }, bench.regions(regions));
      const texts = Array.from({ length: 600 }, (_, index) => frame(64 + (index % 900), index));
      const received: Buffer[] = [];
      const shapes = [{}, { segments: [20, 10] }, { headroom: 0 }];
      for (const [index, bytes] of texts.entries()) {
        const packet = bench.packet(pool, bytes, shapes[index % shapes.length]) ?? 0;
        expect(bench.send(bench.kernels.virtqueueTransmit, driver.offset, [packet])).toBe(1);
        received.push(...bench.take(bench.kernels.virtqueueReceive, device.offset, 32));
      }
      expect(received).toHaveLength(texts.length);
      for (const [index, bytes] of texts.entries()) expect(received[index]?.equals(bytes), String(index)).toBe(true);
      bench.kernels.driverReclaim(driver.offset);
    },
  );

  it('posts buffers that a device fills page by page', () => {
    const { table, regions } = scatteredPages(bench);
    const pool = bench.pool({ count: 700 });
    const devicePool = bench.pool({ count: 128 });
    const driver = bench.driver({ physicalAddresses: table, pool, size: 512 });
    while (bench.kernels.splitDriverRefill(driver.offset, 0) !== 0);
    const device = bench.device(driver, { size: 512 }, bench.regions(regions));
    for (let index = 0; index < 500; index++) {
      const bytes = frame(64 + (index % 900), index);
      const packet = bench.packet(devicePool, bytes) ?? 0;
      expect(bench.send(bench.kernels.splitDeviceEnqueue, device.offset, [packet])).toBe(1);
      const [arrived] = bench.take(bench.kernels.splitDriverReceive, driver.offset, 32);
      expect(arrived?.equals(bytes), String(index)).toBe(true);
    }
  });
});

describe('a ring in one piece (virtio 1.2, 2.7.2)', () => {
  it.each([2, 64, 256, 1024])('of %i descriptors: available behind the descriptors, used on the next page', (size) => {
    using bench = new RingBench('wasm');
    const queue = new DriverQueue(bench.arena, { name: 'legacy', size, port: 0, onePiece: true });
    expect((bench.arena.base + queue.descriptors) % 4096).toBe(0);
    expect(queue.available).toBe(queue.descriptors + 16 * size);
    const end = queue.available + 6 + 2 * size;
    expect(queue.used).toBe(queue.descriptors + Math.ceil((end - queue.descriptors) / 4096) * 4096);
    const page = (offset: number): number => Math.floor((bench.arena.base + offset) / PAGE);
    expect(page(queue.descriptors)).toBe(page(queue.used + 6 + 8 * size - 1));
    queue.close();
  });
});

describe('physical addresses of an arena', () => {
  test('ordinary pages have none that last', () => {
    using bench = new RingBench('wasm');
    expect(() => physicalAddressesIn(bench.arena)).toThrow(/pages of 4 KiB has no lasting physical addresses: use huge pages/);
  });

  test.skipIf(process.getuid?.() !== 0 || freeHugePages() < 8)('of huge pages, as root: one for each page, each at its boundary', () => {
    using arena = new Arena({ bytes: 8 * 1024 * 1024, ownBytes: PAGE, peerBytes: PAGE, pageSize: PAGE, filePrefix: 'test' });
    const physical = physicalAddressesIn(arena);
    expect(physicalAddressesIn(arena)).toBe(physical);
    const { guestAddress, bytes } = arena.publishedRegion;
    const seen = new Set<bigint>();
    for (let offset = guestAddress; offset < guestAddress + bytes; offset += PAGE) {
      const { low, high } = physical.addressOf(offset);
      const address = (BigInt(high) << 32n) + BigInt(low);
      expect(address % BigInt(PAGE)).toBe(0n);
      expect(address).not.toBe(0n);
      seen.add(address);
      expect(physical.addressOf(offset + 4711)).toEqual({ low: low + 4711, high });
    }
    expect(seen.size).toBe(bytes / PAGE);
  });
});
