/**
 * A stopped queue is the control plane's, which lays its ring out anew and may give it the other format: whatever an lcore calls, it touches
 * nothing.
 */
import { describe, expect, it } from 'vitest';
import { Q_BYTES_TOTAL, Q_FREE, Q_NOTIFY, QUEUE_PACKED, QUEUE_RUNNING, QUEUE_STOPPED } from '../../src/ring/queue-layout.ts';
import { frame, RingBench, TARGETS } from '../support/ring-pair.ts';

const FORMATS = [
  ['split', 0],
  ['packed', QUEUE_PACKED],
] as const;
const CASES = TARGETS.flatMap((target) => FORMATS.map(([name, features]) => [target, name, features] as const));

describe.each(CASES)('a stopped queue on %s, %s', (target, _, features) => {
  it('is left as it is at either end, and goes on where it was', () => {
    using bench = new RingBench(target);
    const { kernels } = bench;
    const pool = bench.pool();
    const { driver, device } = bench.pair({ size: 16, features, devicePool: bench.pool() });
    const sent = [frame(60, 1), frame(61, 2)];
    const send = (): number =>
      bench.send(
        kernels.virtqueueTransmit,
        driver.offset,
        sent.map((bytes) => bench.packet(pool, bytes) ?? 0),
      );
    expect(send()).toBe(2);
    expect(bench.take(kernels.virtqueueReceive, device.offset, 8)).toEqual(sent);
    expect(send()).toBe(2);

    // two to take back, and two to receive
    for (const queue of [driver, device]) queue.setState(QUEUE_STOPPED);
    const places = [
      [driver.offset, Q_BYTES_TOTAL],
      [device.offset, Q_BYTES_TOTAL],
      [driver.descriptors, 1024],
    ] as const;
    const bytes = (): Buffer[] => places.map(([from, length]) => bench.read(from, length));
    const before = bytes();
    expect(kernels.driverReclaim(driver.offset)).toBe(0);
    expect(kernels.virtqueueTransmit(driver.offset, bench.handles, 2)).toBe(0);
    expect(kernels.virtqueueReceive(device.offset, bench.handles, 8)).toBe(0);
    expect([kernels.driverArm(driver.offset), kernels.deviceArm(device.offset)]).toEqual([1, 1]);
    kernels.driverDisarm(driver.offset);
    kernels.deviceDisarm(device.offset);
    expect(bytes()).toEqual(before);
    expect(pool.free()).toBe(508);

    for (const queue of [driver, device]) queue.setState(QUEUE_RUNNING);
    expect(kernels.driverReclaim(driver.offset)).toBe(14);
    expect(bench.take(kernels.virtqueueReceive, device.offset, 8)).toEqual(sent);
    expect(kernels.driverReclaim(driver.offset)).toBe(16);
    expect([driver.get(Q_FREE), driver.get(Q_NOTIFY), pool.free()]).toEqual([16, 0, 512]);
  });
});
