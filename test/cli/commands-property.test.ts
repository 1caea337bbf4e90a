/** Whatever is typed is answered: nothing throws, and a session stays usable and ends. */
import fc from 'fast-check';
import { expect, it } from 'vitest';

import { commandWords, runCommand } from '../../src/cli/commands/table.ts';
import { parseItemList } from '../../src/cli/session/item-list.ts';
import { planStreams, topologies } from '../../src/lcore/streams.ts';
import { FakeLcores } from './fake-port.ts';
import { fakeSession } from './fake-session.ts';

// These read files or wait; what they say is tested elsewhere.
const without = new Set(['load', 'sleep', 'quit']);
const words = commandWords().filter((word) => !without.has(word));
const values = [
  '0',
  '1',
  '9',
  '65535',
  '65536',
  '-1',
  '0x3',
  'all',
  'on',
  'off',
  '0,1',
  '64,64',
  ',',
  '02:00:00:00:00:09',
  'net_null5',
  '#',
  '1e9',
];
const word = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom(...words) },
  { weight: 4, arbitrary: fc.constantFrom(...values) },
  { weight: 1, arbitrary: fc.string() },
);
const line = fc.array(word, { maxLength: 7 }).map((parts) => parts.join(' '));

it('answers random lines', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(line, { maxLength: 40 }), async (lines) => {
      const { session, take } = await fakeSession({ lcores: new FakeLcores([1, 2]) });
      for (const text of lines) await session.exclusive(() => runCommand(session, text));
      await session.end();
      expect(take().endsWith('\nBye...\n')).toBe(true);
    }),
    { numRuns: 300 },
  );
});

/** Lines that commands accept, made from their own tokens. */
const sensible = fc.constantFrom(
  'start',
  'stop',
  'start tx_first 2',
  'port stop all',
  'port start all',
  'port stop 0',
  'port start 0',
  'port close 1',
  'port detach 0',
  'port attach net_null7',
  'port attach net_null8',
  'set portlist 0,1',
  'set portlist 1',
  'set nbport 1',
  'set nbport 0',
  'set nbcore 2',
  'set corelist 2,1',
  'set default',
  'port config all rxq 4',
  'port config all txq 4',
  'port config all rxq 0',
  'port config all rxq 1',
  'set fwd mac retry',
  'set fwd txonly',
  'set fwd io',
  'show fwd stats all',
  'clear fwd stats all',
  'clear port stats all',
  'show port stats all',
  'show config fwd',
  'show config rxtx',
  'show port info all',
);

it('keeps ports and forwarding in step', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(sensible, { maxLength: 60 }), async (lines) => {
      const { session, lcores, take } = await fakeSession({ lcores: new FakeLcores([1, 2]) });
      for (const text of lines) {
        await session.exclusive(() => runCommand(session, text));
        expect(session.forwarding.running).toBe(lcores.running);
        // A port that packets are forwarded on is open and started.
        if (!lcores.running) continue;
        for (const { rxPort, txPort } of lcores.plan?.streams ?? []) {
          expect(session.ports.get(rxPort)?.status).toBe('started');
          expect(session.ports.get(txPort)?.status).toBe('started');
        }
      }
      await session.end();
      expect(take().endsWith('\nBye...\n')).toBe(true);
      expect(session.ports.size).toBe(0);
    }),
    { numRuns: 300 },
  );
});

it('plans every receive queue exactly once, lcores in turn', () => {
  fc.assert(
    fc.property(
      fc.uniqueArray(fc.integer({ min: 0, max: 31 }), { maxLength: 8 }),
      fc.integer({ min: 1, max: 8 }),
      fc.integer({ min: 1, max: 8 }),
      fc.integer({ min: 1, max: 6 }),
      fc.constantFrom(...topologies),
      (ports, rxQueues, txQueues, cores, topology) => {
        const ids = Array.from({ length: cores }, (_, index) => index + 1);
        const peer = (): Uint8Array => new Uint8Array(6);
        const { lcores } = planStreams({ ports, rxQueues, txQueues, lcores: ids, cores, topology, peer });
        const streams = lcores.flatMap((lcore) => lcore.streams);
        const queues = rxQueues > 1 && txQueues > 1 ? Math.min(rxQueues, txQueues) : 1;
        expect(new Set(streams.map(({ rxPort, rxQueue }) => `${rxPort}/${rxQueue}`)).size).toBe(ports.length * queues);
        expect(new Set(streams.map(({ txPort, txQueue }) => `${txPort}/${txQueue}`)).size).toBe(ports.length * queues);
        const lengths = lcores.map((lcore) => lcore.streams.length);
        expect(lengths).toEqual([...lengths].sort((one, other) => one - other));
        expect((lengths.at(-1) ?? 0) - (lengths[0] ?? 0)).toBeLessThanOrEqual(1);
        expect(lengths).not.toContain(0);
      },
    ),
  );
});

it('reads any list', () => {
  fc.assert(fc.property(fc.string(), (text) => void parseItemList(text, { item: 'port', max: 32, unique: true })));
});
