/**
 * Receive interrupts of virtqueues of both formats: who is told of what, and that nothing slips between asking and looking.
 */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Kernels } from '../../src/ring/kernels.ts';
import { Q_NOTIFY, QUEUE_EVENT_IDX, QUEUE_IN_ORDER, QUEUE_PACKED, QUEUE_STOPPED } from '../../src/ring/queue-layout.ts';
import { AVAILABLE_F_NO_INTERRUPT, EVENT_FAR, USED_F_NO_NOTIFY } from '../../src/ring/split-layout.ts';
import type { QueueState } from '../../src/ring/virtqueue.ts';
import { frame, RingBench, TARGETS, type Pair } from '../support/ring-pair.ts';

/** One end that receives, and the other one that sends to it. */
interface Ends {
  readonly receiver: QueueState;
  readonly sender: QueueState;
  readonly arm: (queue: number) => number;
  readonly disarm: (queue: number) => void;
}

const sides = ['driver', 'device'] as const;

function ends(side: (typeof sides)[number], { driver, device }: Pair, kernels: Kernels): Ends {
  return side === 'driver'
    ? {
        receiver: driver,
        sender: device,
        arm: kernels.driverArm,
        disarm: kernels.driverDisarm,
      }
    : {
        receiver: device,
        sender: driver,
        arm: kernels.deviceArm,
        disarm: kernels.deviceDisarm,
      };
}

/** How a side says what it wants to be told: by flags, or with VIRTIO_F_EVENT_IDX. */
const WAYS = [
  ['flags', 0],
  ['events', QUEUE_EVENT_IDX],
] as const;
const SPLIT = WAYS.flatMap(([way, features]) => sides.map((side) => [side, way, features] as const));
const PACKED = SPLIT.map(([side, way, features]) => [side, `${way} of packed rings`, features | QUEUE_PACKED] as const);
const CASES = [...SPLIT, ...PACKED];

interface OpenedOptions {
  readonly start?: number;
  /** The driver posts its buffers; default true. */
  readonly post?: boolean;
}

function opened(
  bench: RingBench,
  side: (typeof sides)[number],
  features = 0,
  { start, post = true }: OpenedOptions = {},
): Ends & { readonly pair: Pair; readonly one: () => number } {
  const pool = bench.pool();
  const pair = bench.pair({
    features,
    size: 16,
    ...(start === undefined ? {} : { start }),
    devicePool: pool,
    ...(side === 'driver' ? { pool } : {}),
  });
  const both = ends(side, pair, bench.kernels);
  if (side === 'driver' && post) bench.take(bench.kernels.virtqueueReceive, both.receiver.offset, 1);
  both.sender.set(Q_NOTIFY, 0);
  both.receiver.set(Q_NOTIFY, 0);
  return {
    ...both,
    pair,
    one: () => bench.send(bench.kernels.virtqueueTransmit, both.sender.offset, [bench.packet(pool, frame(60)) ?? 0]),
  };
}

/** virtio 1.2, 2.7.6 and 2.7.8: flags of both rings, used_event and avail_event. */
function wishes(bench: RingBench, { driver }: Pair): { flags: readonly number[]; events: readonly number[] } {
  const [usedEvent, availableEvent] = [driver.available + 4 + 2 * driver.size, driver.used + 4 + 8 * driver.size];
  return { flags: [bench.ld16(driver.available), bench.ld16(driver.used)], events: [bench.ld16(usedEvent), bench.ld16(availableEvent)] };
}

describe.each(TARGETS)('%s', (target) => {
  test('who polls says so from the start: by flags, or by events that are far and flags of 0', () => {
    using bench = new RingBench(target);
    expect(wishes(bench, bench.pair({ size: 16 }))).toEqual({ flags: [AVAILABLE_F_NO_INTERRUPT, USED_F_NO_NOTIFY], events: [0, 0] });
    for (const start of [0, 0x7ff0]) {
      const far = (start + EVENT_FAR) & 0xffff;
      const pair = bench.pair({ size: 16, start, features: QUEUE_EVENT_IDX });
      // virtio 1.2, 2.7.7.1 and 2.7.10.1: "MUST set flags to 0"
      expect(wishes(bench, pair)).toEqual({ flags: [0, 0], events: [far, far] });
    }
  });

  test.each(CASES)('the %s is told when it asks, and not when it polls, by %s', (side, _, features) => {
    using bench = new RingBench(target);
    const { receiver, sender, arm, disarm, one } = opened(bench, side, features);
    one();
    expect(sender.get(Q_NOTIFY)).toBe(0);
    expect(bench.take(bench.kernels.virtqueueReceive, receiver.offset, 4)).toHaveLength(1);
    expect(arm(receiver.offset)).toBe(1);
    one();
    expect(sender.get(Q_NOTIFY)).toBe(1);
    sender.set(Q_NOTIFY, 0);
    // by flags until it says otherwise, by its event once
    one();
    expect(sender.get(Q_NOTIFY)).toBe((features & QUEUE_EVENT_IDX) === 0 ? 1 : 0);
    sender.set(Q_NOTIFY, 0);
    disarm(receiver.offset);
    expect(bench.take(bench.kernels.virtqueueReceive, receiver.offset, 4)).toHaveLength(2);
    one();
    expect(sender.get(Q_NOTIFY)).toBe(0);
    bench.take(bench.kernels.virtqueueReceive, receiver.offset, 4);
  });

  test.each(CASES)('what came before the %s asked by %s is found by asking', (side, _, features) => {
    using bench = new RingBench(target);
    const { receiver, arm, disarm, one } = opened(bench, side, features);
    one();
    expect(arm(receiver.offset)).toBe(0);
    disarm(receiver.offset);
    expect(bench.take(bench.kernels.virtqueueReceive, receiver.offset, 4)).toHaveLength(1);
    expect(arm(receiver.offset)).toBe(1);
  });

  test.each(SPLIT)('a stopped queue of the %s is left alone (%s)', (side, _, features) => {
    using bench = new RingBench(target);
    const { pair, receiver, arm, disarm } = opened(bench, side, features);
    receiver.setState(QUEUE_STOPPED);
    const before = wishes(bench, pair);
    expect(arm(receiver.offset)).toBe(1);
    expect(wishes(bench, pair)).toEqual(before);
    bench.u8.fill(0, pair.driver.available, pair.driver.available + 2);
    bench.u8.fill(0, pair.driver.used, pair.driver.used + 2);
    const zero = { ...before, flags: [0, 0] };
    disarm(receiver.offset);
    expect(wishes(bench, pair)).toEqual(zero);
  });

  test.each(sides)('while the %s polls, events move on seldom and are never reached, round the whole index', (side) => {
    using bench = new RingBench(target);
    const { pair, receiver, sender, one } = opened(bench, side, QUEUE_EVENT_IDX, { start: 0xff00 });
    let moves = 0;
    let { events } = wishes(bench, pair);
    for (let sent = 0; sent < 0x11000; sent += 3) {
      expect(one() + one() + one()).toBe(3);
      expect(bench.kernels.virtqueueReceive(receiver.offset, bench.handles, 8)).toBe(3);
      bench.kernels.packetsFree(bench.handles, 3, 0);
      const now = wishes(bench, pair).events;
      for (const [index, event] of now.entries()) if (event !== events[index]) moves++;
      events = now;
      if (sender.get(Q_NOTIFY) + receiver.get(Q_NOTIFY) !== 0) throw new Error(`a notification after ${String(sent)} packets`);
    }
    // each side once in 0x4000 entries
    expect(moves).toBeGreaterThanOrEqual(8);
    expect(moves).toBeLessThanOrEqual(10);
  });

  test('buffers that are posted while the driver waits leave its event where it is', () => {
    using bench = new RingBench(target);
    const { receiver, sender, arm, one } = opened(bench, 'driver', QUEUE_EVENT_IDX, { start: 0x3ff8, post: false });
    expect(arm(receiver.offset)).toBe(1);
    // across an index at which events that are far move on
    while (bench.kernels.splitDriverRefill(receiver.offset, 0) !== 0);
    expect(one()).toBe(1);
    expect(sender.get(Q_NOTIFY)).toBe(1);
  });

  test('a device that takes a ring over calls once, for what the one before may not have told of', () => {
    using bench = new RingBench(target);
    expect(bench.pair({ features: QUEUE_EVENT_IDX }).device.get(Q_NOTIFY)).toBe(1);
    expect(bench.pair().device.get(Q_NOTIFY)).toBe(0);
  });
});

test.each(sides)('property: the %s that sleeps only when told that it may never sleeps over a packet', (side) => {
  const step = fc.constantFrom('send', 'receive', 'arm', 'disarm');
  const start = fc.constantFrom(0, 0x3ff0, 0xfff0);
  const negotiated = fc.constantFrom(
    ...[0, QUEUE_PACKED].flatMap((format) =>
      [0, QUEUE_IN_ORDER, QUEUE_EVENT_IDX, QUEUE_EVENT_IDX | QUEUE_IN_ORDER].map((bits) => bits | format),
    ),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 120 }), negotiated, start, (steps, features, start) => {
      const byEvents = (features & QUEUE_EVENT_IDX) !== 0;
      const transcripts = TARGETS.map((target) => {
        using bench = new RingBench(target);
        const { receiver, sender, arm, disarm, one } = opened(bench, side, features, (features & QUEUE_PACKED) === 0 ? { start } : {});
        let waiting = 0;
        let promised = false;
        const transcript: unknown[] = [];
        for (const what of steps) {
          if (what === 'send') {
            const sent = one();
            // whoever was promised a notification gets one with the next packet
            if (sent === 1) expect(sender.get(Q_NOTIFY)).toBe(promised ? 1 : 0);
            if (byEvents && sent === 1) promised = false;
            sender.set(Q_NOTIFY, 0);
            waiting += sent;
            transcript.push(sent);
          } else if (what === 'receive') {
            const received = bench.take(bench.kernels.virtqueueReceive, receiver.offset, 3).length;
            // nobody waits for what the receiver gives back
            expect(receiver.get(Q_NOTIFY)).toBe(0);
            expect(received).toBe(Math.min(3, waiting));
            waiting -= received;
          } else if (what === 'arm') {
            const may = arm(receiver.offset);
            // an event that has been passed already is not passed again
            promised = !byEvents || may === 1;
            expect(may).toBe(waiting === 0 ? 1 : 0);
            transcript.push(may);
          } else {
            disarm(receiver.offset);
            promised = false;
          }
        }
        return transcript;
      });
      expect(transcripts[0]).toEqual(transcripts[1]);
    }),
    { numRuns: 160 },
  );
});
