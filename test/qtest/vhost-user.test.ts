/**
 * A vhost-user back-end behind QEMU's device: our rings lie in memory that QEMU passes on, and the packets never touch QEMU itself.
 *
 *     our port --- virtio-pci registers --- QEMU --- vhost-user --- net_vhost in another process, ours or DPDK's
 *         \------------------ rings and packets, shared -----------------/
 * @module
 */
import { describe, expect, test } from 'vitest';
import { SocketDirectory } from '../support/pair.ts';
import { memoryArguments } from '../support/huge-pages.ts';
import { lcoresArgument, whyMissing, type Program } from '../support/program.ts';
import { Testpmd } from '../support/testpmd.ts';
import { WHY_NO_QEMU } from './qemu.ts';
import { expectArrival, startSide } from './sides.ts';

async function startBackEnd(program: Program, socket: string, queues: number): Promise<Testpmd> {
  const held = memoryArguments('ordinary');
  return Testpmd.start({
    program,
    eal: [...lcoresArgument(1), ...held.eal, '--vdev', `net_vhost0,iface=${socket},queues=${queues}`],
    app: ['--total-num-mbufs=8192', `--rxq=${queues}`, `--txq=${queues}`],
    wrapper: held.wrapper,
  });
}

describe.skipIf(WHY_NO_QEMU !== undefined)('vhost-user behind the device', () => {
  const programs = (['dpdk-ts', 'dpdk'] as const).filter((program) => whyMissing(program) === undefined);

  test.each(programs.flatMap((program) => [1, 4].map((queues) => ({ program, queues }))))(
    '$program net_vhost, $queues queue pairs: 64 B and 1514 B both ways, nothing lost',
    async ({ program, queues }) => {
      using directory = new SocketDirectory();
      await using backEnd = await startBackEnd(program, directory.socket, queues);
      await using port = await startSide({
        devices: [`qemu=auto,queues=${queues},netdev=[vhost-user,path=${directory.socket}]`],
        app: [`--rxq=${queues}`, `--txq=${queues}`],
      });
      await Promise.all([port.waitForLink(), backEnd.waitForLink()]);
      for (const bytes of [64, 1514]) {
        await expectArrival({ testpmd: port }, { testpmd: backEnd }, bytes);
        await expectArrival({ testpmd: backEnd }, { testpmd: port }, bytes);
      }
      // of a device whose control queue was not heard, only the first pair works
      for (const side of program === 'dpdk-ts' ? [port, backEnd] : [port]) {
        const counters = await side.command('show port xstats 0');
        for (let queue = 0; queue < queues; queue++) expect(counters).toMatch(new RegExp(`rx_q${queue}_good_packets: [1-9]`));
      }
      await port.quit();
      expect(backEnd.running).toBe(true);
    },
  );

  test('the back-end killed: a link event, and the link down; started again: up, and packets', async () => {
    using directory = new SocketDirectory();
    const first = await startBackEnd('dpdk-ts', directory.socket, 1);
    await using port = await startSide({ devices: [`qemu=auto,netdev=[vhost-user,path=${directory.socket}]`] });
    await port.waitForLink();
    await port.commands('set fwd txonly', 'start');
    await first.kill();
    await port.printed(/Port 0: link state change event/);
    await port.waitForLink(false);
    await port.command('stop');
    await using second = await startBackEnd('dpdk-ts', directory.socket, 1);
    await Promise.all([port.waitForLink(), second.waitForLink()]);
    await expectArrival({ testpmd: port }, { testpmd: second }, 64);
    await port.quit();
  });
});
