/**
 * Counts with a real peer: what one side says it sent is what the other says it received, in every combination of role,
 * queues, receive buffers and order, at every size.
 * @module
 */
import { describe, test } from 'vitest';
import { Pair } from '../support/pair.ts';
import { expectEverySize } from '../support/traffic.ts';
import { MEETINGS, WHY_NO_PEERS } from './matrix.ts';

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
        await expectEverySize(pair, features.mergeable);
        await pair.quit();
      },
    );
  });
});
