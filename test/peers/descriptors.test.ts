/** `desc used count` and `desc status` with DPDK at the other end of the ring, whose net_vhost counts as well and whose virtio does not. */
import { describe, expect, test } from 'vitest';
import { until } from '../support/deadline.ts';
import { Pair } from '../support/pair.ts';
import type { Testpmd } from '../support/testpmd.ts';
import { MEETINGS, WHY_NO_PEERS } from './matrix.ts';

const QUEUE_SIZE = 256;

/** What goes to standard error is not part of the answer. */
async function refused(side: Testpmd, text: string): Promise<void> {
  await until(2000, text, () => side.transcript().includes(text));
}

describe.skipIf(WHY_NO_PEERS !== undefined).each(MEETINGS.filter(({ server }) => server === 'device'))(
  '$name',
  ({ driver, device, server, ours }) => {
    test.each([false, true])('packets that nobody takes are counted (packed_vq %s)', async (packed) => {
      await using pair = await Pair.start({
        driver: { program: driver },
        device: { program: device },
        server,
        packed,
        mergeable: true,
        inOrder: true,
        queueSize: QUEUE_SIZE,
      });
      const [own, other] = ours === 'driver' ? (['driver', 'device'] as const) : (['device', 'driver'] as const);
      const ask = (question: string): Promise<string> => pair[own].command(`show port ${pair.port(own)} ${question}`);
      expect(await ask('rxq 0 desc used count')).toContain('Used desc count = 0');
      if (ours === 'driver') {
        expect(await ask('rxq 0 desc 0 status')).toContain('Desc status = AVAILABLE');
        expect(await ask('txq 0 desc 0 status')).toContain('Desc status = DONE');
      } else {
        await ask('rxq 0 desc 0 status');
        await refused(pair[own], 'Invalid input: queue id = 0, desc id = 0');
      }
      await pair[other].commands('set fwd txonly', 'start');
      let answer = '';
      await until(
        10_000,
        () => `a full ring: ${answer}`,
        async () => (answer = await ask('rxq 0 desc used count')).includes(`Used desc count = ${QUEUE_SIZE}`),
      );
      if (ours === 'driver') expect(await ask(`rxq 0 desc ${QUEUE_SIZE - 1} status`)).toContain('Desc status = DONE');
      await pair[other].command('stop');
      await ask(`rxq 0 desc ${QUEUE_SIZE} status`);
      await refused(pair[own], `Invalid input: queue id = 0, desc id = ${QUEUE_SIZE}`);
      if (ours === 'device') {
        await pair[other].command(`show port ${pair.port(other)} rxq 0 desc used count`);
        await refused(pair[other], 'Invalid queueid = 0');
      }
      await pair.quit();
    });
  },
);
