/**
 * The peer goes and comes back under traffic, ten times, by kill -9 and by quit in turn; our side lives on and traffic resumes.
 * @module
 */
import { describe, expect, test } from 'vitest';
import { Pair, type Side } from '../support/pair.ts';
import { otherSide } from '../support/traffic.ts';
import { MEETINGS, WHY_NO_PEERS, type Meeting } from './matrix.ts';

const TIMES = 10;

/** Sends bursts round between the two and waits until both have received many. */
async function expectTraffic(pair: Pair, survivor: Side): Promise<void> {
  const peer = otherSide(survivor);
  await pair[peer].commands('set fwd io', 'start tx_first 4');
  const before = await pair[survivor].statistics();
  await pair[survivor].waitForStatistics('traffic', ({ rxPackets }) => rxPackets > before.rxPackets + 5000);
  await pair[peer].waitForStatistics('traffic', ({ rxPackets }) => rxPackets > 5000);
}

async function expectSurvival({ driver, device, server }: Meeting, survivor: Side): Promise<void> {
  const peer = otherSide(survivor);
  await using pair = await Pair.start({ driver: { program: driver }, device: { program: device }, server });
  await pair[survivor].commands('set fwd io', 'start');
  await expectTraffic(pair, survivor);
  for (let time = 0; time < TIMES; time++) {
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

describe.skipIf(WHY_NO_PEERS !== undefined)('the peer restarts ten times', () => {
  test.each(MEETINGS)('$name', async (meeting) => expectSurvival(meeting, meeting.ours), 120_000);
});
