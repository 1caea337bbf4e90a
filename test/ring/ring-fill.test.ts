/** How far the two sides of a ring are apart: what is counted from outside is what the next burst then brings. */
import { describe, expect, it } from 'vitest';
import { QUEUE_IN_ORDER, QUEUE_INDIRECT, QUEUE_MERGEABLE, QUEUE_PACKED } from '../../src/ring/queue-layout.ts';
import { availableBuffers, usedBuffers } from '../../src/ring/ring-fill.ts';
import { frame, RingBench } from '../support/ring-pair.ts';

const FEATURES = [0, QUEUE_IN_ORDER, QUEUE_PACKED, QUEUE_PACKED | QUEUE_IN_ORDER, QUEUE_PACKED | QUEUE_INDIRECT];

describe.each(FEATURES)('buffers that wait, ring features %i', (more) => {
  const features = more | QUEUE_MERGEABLE;
  const size = 16;

  it('for the driver, received or sent, many times round', () => {
    using bench = new RingBench('wasm');
    const [pool, devicePool] = [bench.pool(), bench.pool()];
    const { kernels, arena } = bench;
    const { driver, device } = bench.pair({ features, size, pool });
    while (kernels.driverRefill(driver.offset, 0) !== 0) continue;
    for (let round = 0; round < 40; round++) {
      expect(usedBuffers(arena.views, driver)).toBe(0);
      expect(availableBuffers(arena.views, device)).toBe(size);
      const count = round % 7;
      const packets = Array.from({ length: count }, (_, index) => bench.packet(devicePool, frame(60, index)) ?? 0);
      expect(bench.send(kernels.virtqueueTransmit, device.offset, packets)).toBe(count);
      expect(usedBuffers(arena.views, driver)).toBe(count);
      expect(availableBuffers(arena.views, device)).toBe(size - count);
      expect(bench.take(kernels.virtqueueReceive, driver.offset, 32)).toHaveLength(count);
      while (kernels.driverRefill(driver.offset, 0) !== 0) continue;
    }
  });

  it('for the device, and for the driver once they are used', () => {
    using bench = new RingBench('wasm');
    const [pool, devicePool] = [bench.pool(), bench.pool()];
    const { kernels, arena } = bench;
    const { driver, device } = bench.pair({ features, size, devicePool });
    for (let round = 0; round < 40; round++) {
      const packets = Array.from({ length: round % 5 }, (_, index) => {
        return bench.packet(pool, frame(60, index), index % 2 === 0 ? {} : { segments: [20, 20] }) ?? 0;
      });
      expect(bench.send(kernels.virtqueueTransmit, driver.offset, packets)).toBe(packets.length);
      expect(availableBuffers(arena.views, device)).toBe(packets.length);
      expect(usedBuffers(arena.views, driver)).toBe(0);
      expect(bench.take(kernels.virtqueueReceive, device.offset, 32)).toHaveLength(packets.length);
      expect(availableBuffers(arena.views, device)).toBe(0);
      expect(usedBuffers(arena.views, driver)).toBe(packets.length);
      expect(kernels.driverReclaim(driver.offset)).toBe(size);
    }
  });
});
