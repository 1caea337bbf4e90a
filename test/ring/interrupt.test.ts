/**
 * Receive interrupts of split virtqueues: who is told of what, and that nothing slips between asking and looking.
 */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { BurstKernel, Kernels } from '../../src/ring/kernels.ts';
import { Q_NOTIFY, QUEUE_IN_ORDER, QUEUE_STOPPED } from '../../src/ring/queue-layout.ts';
import { AVAILABLE_F_NO_INTERRUPT, USED_F_NO_NOTIFY } from '../../src/ring/split-layout.ts';
import type { QueueState } from '../../src/ring/virtqueue.ts';
import { frame, RingBench, TARGETS, type Pair } from '../support/ring-pair.ts';

/** One end that receives, and the other one that sends to it. */
interface Ends {
  readonly receiver: QueueState;
  readonly sender: QueueState;
  readonly receive: BurstKernel;
  readonly send: BurstKernel;
  readonly arm: (queue: number) => number;
  readonly disarm: (queue: number) => void;
}

const sides = ['driver', 'device'] as const;

function ends(side: (typeof sides)[number], { driver, device }: Pair, kernels: Kernels): Ends {
  return side === 'driver'
    ? {
        receiver: driver,
        sender: device,
        receive: kernels.splitDriverReceive,
        send: kernels.splitDeviceEnqueue,
        arm: kernels.splitDriverArm,
        disarm: kernels.splitDriverDisarm,
      }
    : {
        receiver: device,
        sender: driver,
        receive: kernels.splitDeviceDequeue,
        send: kernels.splitDriverTransmit,
        arm: kernels.splitDeviceArm,
        disarm: kernels.splitDeviceDisarm,
      };
}

function opened(bench: RingBench, side: (typeof sides)[number], features = 0): Ends & { readonly one: () => number } {
  const pool = bench.pool();
  const pair = bench.pair({ features, size: 16, devicePool: pool, ...(side === 'driver' ? { pool } : {}) });
  // the device polls until it asks for kicks
  bench.st16(pair.driver.used, USED_F_NO_NOTIFY);
  const both = ends(side, pair, bench.kernels);
  // the driver posts its buffers
  if (side === 'driver') bench.take(both.receive, both.receiver.offset, 1);
  both.sender.set(Q_NOTIFY, 0);
  both.receiver.set(Q_NOTIFY, 0);
  return { ...both, one: () => bench.send(both.send, both.sender.offset, [bench.packet(pool, frame(60)) ?? 0]) };
}

describe.each(TARGETS)('%s', (target) => {
  test.each(sides)('the %s is told when it asks, and not when it polls', (side) => {
    using bench = new RingBench(target);
    const { receiver, sender, receive, arm, disarm, one } = opened(bench, side);
    one();
    expect(sender.get(Q_NOTIFY)).toBe(0);
    expect(bench.take(receive, receiver.offset, 4)).toHaveLength(1);
    expect(arm(receiver.offset)).toBe(1);
    one();
    expect(sender.get(Q_NOTIFY)).toBe(1);
    sender.set(Q_NOTIFY, 0);
    disarm(receiver.offset);
    expect(bench.take(receive, receiver.offset, 4)).toHaveLength(1);
    one();
    expect(sender.get(Q_NOTIFY)).toBe(0);
    bench.take(receive, receiver.offset, 4);
  });

  test.each(sides)('what came before the %s asked is found by asking', (side) => {
    using bench = new RingBench(target);
    const { receiver, receive, arm, disarm, one } = opened(bench, side);
    one();
    expect(arm(receiver.offset)).toBe(0);
    disarm(receiver.offset);
    expect(bench.take(receive, receiver.offset, 4)).toHaveLength(1);
    expect(arm(receiver.offset)).toBe(1);
  });

  test.each(sides)('a stopped queue of the %s is left alone', (side) => {
    using bench = new RingBench(target);
    const pool = bench.pool();
    const pair = bench.pair({ size: 16, pool, devicePool: pool });
    bench.st16(pair.driver.used, USED_F_NO_NOTIFY);
    const { receiver, arm, disarm } = ends(side, pair, bench.kernels);
    receiver.setState(QUEUE_STOPPED);
    expect(arm(receiver.offset)).toBe(1);
    expect([bench.ld16(pair.driver.available), bench.ld16(pair.driver.used)]).toEqual([AVAILABLE_F_NO_INTERRUPT, USED_F_NO_NOTIFY]);
    bench.st16(pair.driver.available, 0);
    bench.st16(pair.driver.used, 0);
    disarm(receiver.offset);
    expect([bench.ld16(pair.driver.available), bench.ld16(pair.driver.used)]).toEqual([0, 0]);
  });
});

test.each(sides)('property: the %s that sleeps only when told that it may never sleeps over a packet', (side) => {
  const step = fc.constantFrom('send', 'receive', 'arm', 'disarm');
  fc.assert(
    fc.property(fc.array(step, { maxLength: 120 }), fc.constantFrom(0, QUEUE_IN_ORDER), (steps, features) => {
      const transcripts = TARGETS.map((target) => {
        using bench = new RingBench(target);
        const { receiver, sender, receive, arm, disarm, one } = opened(bench, side, features);
        let waiting = 0;
        let armed = false;
        const transcript: unknown[] = [];
        for (const what of steps) {
          if (what === 'send') {
            const sent = one();
            // whoever was promised a notification gets one with the next packet
            if (armed && sent === 1) expect(sender.get(Q_NOTIFY)).toBe(1);
            if (!armed) expect(sender.get(Q_NOTIFY)).toBe(0);
            sender.set(Q_NOTIFY, 0);
            waiting += sent;
            transcript.push(sent);
          } else if (what === 'receive') {
            const received = bench.take(receive, receiver.offset, 3).length;
            // the driver's refilling may kick the device, which is another matter
            receiver.set(Q_NOTIFY, 0);
            expect(received).toBe(Math.min(3, waiting));
            waiting -= received;
          } else if (what === 'arm') {
            const may = arm(receiver.offset);
            armed = true;
            expect(may).toBe(waiting === 0 ? 1 : 0);
            transcript.push(may);
          } else {
            disarm(receiver.offset);
            armed = false;
          }
        }
        return transcript;
      });
      expect(transcripts[0]).toEqual(transcripts[1]);
    }),
    { numRuns: 60 },
  );
});
