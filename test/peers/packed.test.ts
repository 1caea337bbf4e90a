/**
 * Packed rings with a real peer: equal counts in every combination of role, receive buffers and order, at every size, in rings of any
 * number of descriptors.
 * @module
 */
import { describe, test } from 'vitest';
import { Pair } from '../support/pair.ts';
import { expectEverySize } from '../support/traffic.ts';
import { MEETINGS, WHY_NO_PEERS } from './matrix.ts';

const FEATURES = [
  { mergeable: true, inOrder: true, vectorized: false, queueSize: 256, queues: 1 },
  { mergeable: true, inOrder: false, vectorized: false, queueSize: 320, queues: 4 },
  { mergeable: false, inOrder: true, vectorized: false, queueSize: 1024, queues: 8 },
  { mergeable: false, inOrder: true, vectorized: true, queueSize: 300, queues: 1 },
  { mergeable: false, inOrder: false, vectorized: false, queueSize: 500, queues: 1 },
] as const;

describe.skipIf(WHY_NO_PEERS !== undefined).each(MEETINGS)('$name', ({ driver, device, server }) => {
  test.each(FEATURES)(
    'mrg_rxbuf $mergeable, in_order $inOrder, vectorized $vectorized, $queues queue pairs of $queueSize: equal counts both ways at every size, and in a loop',
    async (features) => {
      await using pair = await Pair.start({ driver: { program: driver }, device: { program: device }, server, packed: true, ...features });
      await expectEverySize(pair, features.mergeable);
      await pair.quit();
    },
  );
});
