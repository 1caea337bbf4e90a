/**
 * Traffic between the two processes of a pair, and the comparison of what each counted.
 * @module
 */
import { expect } from 'vitest';
import { until } from './deadline.ts';
import type { Pair, Side } from './pair.ts';
import type { PortStats } from './statistics.ts';
import type { Testpmd } from './testpmd.ts';

/** Packets of a window, at least: its rings, of up to 8 queues with 1024 entries each, come round. */
const PACKETS = 20_000;
const LOOK_MILLISECONDS = 5;

export function otherSide(side: Side): Side {
  return side === 'driver' ? 'device' : 'driver';
}

/** What a counter grew by. */
function growth(before: PortStats, after: PortStats): PortStats {
  return {
    rxPackets: after.rxPackets - before.rxPackets,
    rxMissed: after.rxMissed - before.rxMissed,
    rxBytes: after.rxBytes - before.rxBytes,
    rxErrors: after.rxErrors - before.rxErrors,
    rxNoMbuf: after.rxNoMbuf - before.rxNoMbuf,
    txPackets: after.txPackets - before.txPackets,
    txErrors: after.txErrors - before.txErrors,
    txBytes: after.txBytes - before.txBytes,
  };
}

/** Waits until one has sent a window's packets. */
async function expectSending(what: string, testpmd: Testpmd, before: PortStats): Promise<void> {
  await until(
    10_000,
    () => `${PACKETS} packets: ${what}`,
    async () => growth(before, await testpmd.statistics()).txPackets > PACKETS,
    LOOK_MILLISECONDS,
  );
}

/**
 * Sends packets of the given segments one way; then stops the sender, lets the receiver drain, stops that,
 * and expects both to have counted the same packets and bytes.
 */
export async function expectOneWay(pair: Pair, from: Side, segments: string): Promise<number> {
  const sender = pair[from];
  const receiver = pair[otherSide(from)];
  const bytes = segments.split(',').reduce((sum, segment) => sum + Number(segment), 0);
  await receiver.commands('set fwd rxonly', 'start');
  await sender.commands('set fwd txonly', `set txpkts ${segments}`);
  const receivedBefore = await receiver.statistics();
  const sentBefore = await sender.statistics();
  await sender.command('start');
  await expectSending(`${from} sends ${segments}`, sender, sentBefore);
  await sender.command('stop');
  const sent = growth(sentBefore, await sender.statistics());
  await receiver.drained(0, receivedBefore.rxPackets + sent.txPackets);
  await receiver.command('stop');
  const received = growth(receivedBefore, await receiver.statistics());
  const what = `${from} sends ${segments}`;
  expect(received.rxPackets, `${what}: packets received`).toBe(sent.txPackets);
  expect(received.rxBytes, `${what}: bytes received`).toBe(sent.txBytes);
  expect(sent.txBytes, `${what}: bytes of a packet`).toBe(sent.txPackets * bytes);
  expect([received.rxErrors, received.rxNoMbuf, sent.rxPackets, received.txPackets], `${what}: errors, no mbuf, packets back`).toEqual([
    0, 0, 0, 0,
  ]);
  return sent.txPackets;
}

/**
 * Lets packets go round between the two: `first` injects bursts and forwards what comes back in mode io, the other in mode `mode`.
 * What is under way when both have stopped is fetched by one more start of the first, so that every packet is accounted for.
 */
export async function expectLoop(pair: Pair, first: Side, mode: 'io' | 'macswap' | 'mac'): Promise<number> {
  const initiator = pair[first];
  const reflector = pair[otherSide(first)];
  await initiator.commands('set fwd io', 'set txpkts 64');
  await reflector.commands(`set fwd ${mode}`, 'start');
  const before = { initiator: await initiator.statistics(), reflector: await reflector.statistics() };
  await initiator.command('start tx_first 4');
  await expectSending(`a loop that ${first} begins`, initiator, before.initiator);
  await initiator.command('stop');
  const { txPackets } = growth(before.initiator, await initiator.statistics());
  await reflector.drained(0, before.reflector.rxPackets + txPackets);
  await reflector.command('stop');
  await initiator.commands('set fwd rxonly', 'start');
  await initiator.drained(0, before.initiator.rxPackets + txPackets);
  await initiator.command('stop');
  const near = growth(before.initiator, await initiator.statistics());
  const far = growth(before.reflector, await reflector.statistics());
  expect(far.rxPackets, 'packets that arrived').toBe(near.txPackets);
  expect(far.txPackets, 'packets sent back').toBe(far.rxPackets);
  expect(near.rxPackets, 'packets that came back').toBe(far.txPackets);
  return near.txPackets;
}

const SIZES = ['60', '64', '128', '1518', '2000', '1800,1800,1800,1800,1800'] as const;

/** Expects equal counts both ways at every size, and in a loop from either side. @param mergeable whether packets may take several buffers */
export async function expectEverySize(pair: Pair, mergeable: boolean): Promise<void> {
  for (const size of SIZES) {
    await expectOneWay(pair, 'driver', size);
    // without mergeable buffers a packet must fit one of them
    if (mergeable || !size.includes(',')) await expectOneWay(pair, 'device', size);
  }
  expect(await expectLoop(pair, 'driver', 'io')).toBeGreaterThan(0);
  expect(await expectLoop(pair, 'device', 'macswap')).toBeGreaterThan(0);
}
