/**
 * Counts with a real peer: what one side says it sent is what the other says it received, in every combination of role,
 * queues, receive buffers and order, at every size.
 * @module
 */
import { describe, expect, test } from 'vitest';
import { Pair } from '../support/pair.ts';
import { expectLoop, expectOneWay } from '../support/traffic.ts';
import { MEETINGS, WHY_NO_PEERS } from './matrix.ts';

const SIZES = ['60', '64', '128', '1518', '2000', '1800,1800,1800,1800,1800'] as const;
const MILLISECONDS = 100;
const FEATURES = [
  { mergeable: true, inOrder: true },
  { mergeable: true, inOrder: false },
  { mergeable: false, inOrder: true },
  { mergeable: false, inOrder: false },
] as const;

describe.skipIf(WHY_NO_PEERS !== undefined).each(MEETINGS)('$name', ({ driver, device, server }) => {
  describe.each([1, 4])('%i queue pairs', (queues) => {
    test.each(FEATURES)(
      'mrg_rxbuf $mergeable, in_order $inOrder: equal counts both ways at every size, and in a loop',
      async (features) => {
        await using pair = await Pair.start({ driver: { program: driver }, device: { program: device }, server, queues, ...features });
        for (const size of SIZES) {
          await expectOneWay(pair, 'driver', size, MILLISECONDS);
          // without mergeable buffers a packet must fit one of them
          if (features.mergeable || !size.includes(',')) await expectOneWay(pair, 'device', size, MILLISECONDS);
        }
        expect(await expectLoop(pair, 'driver', 'io', MILLISECONDS)).toBeGreaterThan(0);
        expect(await expectLoop(pair, 'device', 'macswap', MILLISECONDS)).toBeGreaterThan(0);
        await pair.quit();
      },
    );
  });
});
