/**
 * Where either side's memory may lie: one file that grows while running, one file with -m, a mounted hugetlbfs, ordinary pages.
 * @module
 */
import { describe, test } from 'vitest';
import { whyNoHugePages, type MemoryKind } from '../support/huge-pages.ts';
import { Pair } from '../support/pair.ts';
import { expectLoop, expectOneWay } from '../support/traffic.ts';
import { MEETINGS, WHY_NO_PEERS } from './matrix.ts';

const HUGE: readonly MemoryKind[] = ['grows', 'huge', 'mounted'];
const ROOT = process.getuid?.() === 0;

/** Whichever side owns the socket, memory is shared in the same way. */
const LISTENING_DEVICES = MEETINGS.filter(({ server }) => server === 'device');

describe.skipIf(WHY_NO_PEERS !== undefined).each(LISTENING_DEVICES)('$name', ({ driver, device, server }) => {
  async function expectTraffic(driverMemory: MemoryKind, deviceMemory: MemoryKind): Promise<void> {
    await using pair = await Pair.start({
      driver: { program: driver, memory: driverMemory },
      device: { program: device, memory: deviceMemory },
      server,
    });
    await expectOneWay(pair, 'driver', '64');
    await expectOneWay(pair, 'device', '1800,1800');
    await expectLoop(pair, 'driver', 'io');
    await pair.quit();
  }

  test('both on ordinary pages', async () => expectTraffic('ordinary', 'ordinary'));
  describe.skipIf(whyNoHugePages() !== undefined || !ROOT)('on huge pages', () => {
    test.each(HUGE)('driver: %s', async (memory) => expectTraffic(memory, 'ordinary'));
    test.each(HUGE)('device: %s', async (memory) => expectTraffic('ordinary', memory));
  });
});
