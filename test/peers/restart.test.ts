/**
 * The peer goes and comes back under traffic, by kill -9 and by quit in turn: our side lives on and traffic resumes. And ports that stop
 * and start.
 * @module
 */
import { describe, expect, test } from 'vitest';
import { Pair, type Side } from '../support/pair.ts';
import { expectOneWay, otherSide } from '../support/traffic.ts';
import { MEETINGS, WHY_NO_PEERS, type Meeting } from './matrix.ts';

/** Sends bursts round between the two and waits until both have received many. */
async function expectTraffic(pair: Pair, survivor: Side): Promise<void> {
  const peer = otherSide(survivor);
  await pair[peer].commands('set fwd io', 'start tx_first 4');
  const before = await pair[survivor].statistics();
  await pair[survivor].waitForStatistics('traffic', ({ rxPackets }) => rxPackets > before.rxPackets + 5000);
  await pair[peer].waitForStatistics('traffic', ({ rxPackets }) => rxPackets > 5000);
}

interface Rings {
  readonly packed: boolean;
  readonly queueSize: number;
  readonly times: number;
}

const RINGS: readonly Rings[] = [
  { packed: false, queueSize: 256, times: 10 },
  { packed: true, queueSize: 300, times: 4 },
];

/** A client looks for its server once a second, so that each of its times takes longer. */
const CLIENT_TIMES = 4;

async function expectSurvival({ driver, device, server }: Meeting, survivor: Side, { times: most, ...rings }: Rings): Promise<void> {
  const peer = otherSide(survivor);
  const times = server === survivor ? most : Math.min(most, CLIENT_TIMES);
  await using pair = await Pair.start({ driver: { program: driver }, device: { program: device }, server, ...rings });
  await pair[survivor].commands('set fwd io', 'start');
  await expectTraffic(pair, survivor);
  for (let time = 0; time < times; time++) {
    const gone = pair[peer];
    await (time % 2 === 0 ? gone.kill() : gone.quit());
    await pair[survivor].waitForLink(false);
    await pair.restart(peer);
    await expectTraffic(pair, survivor);
  }
  await pair[survivor].command('stop');
  expect(pair[survivor].running).toBe(true);
  await pair.quit();
}

/** Either side's port stops and starts, the other one's does not. */
async function expectRestarts({ driver, device, server }: Meeting, rings: Omit<Rings, 'times'>): Promise<void> {
  await using pair = await Pair.start({ driver: { program: driver }, device: { program: device }, server, ...rings });
  for (const side of ['driver', 'device', 'driver', 'device'] as const) {
    await pair[side].commands('port stop all', 'port start all');
    await pair.linksUp();
    await expectOneWay(pair, 'driver', '64');
    await expectOneWay(pair, 'device', '1800,1800');
  }
  await pair.quit();
}

describe.skipIf(WHY_NO_PEERS !== undefined).each(RINGS)('packed_vq $packed, queue_size $queueSize', (rings) => {
  test.each(MEETINGS)('the peer restarts: $name', async (meeting) => expectSurvival(meeting, meeting.ours, rings), 120_000);
  test.each(MEETINGS)('ports stop and start: $name', async (meeting) => expectRestarts(meeting, rings), 120_000);
});
