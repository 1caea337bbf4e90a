/**
 * The MTU of a network card of QEMU (`host_mtu`; VIRTIO_NET_F_MTU, virtio 1.2, 5.1.4): what testpmd makes of it, and, with QEMU as the
 * front-end of vhost-user, what the device side hears of it (NET_SET_MTU).
 */
import { describe, expect, test } from 'vitest';
import { memoryArguments } from '../support/huge-pages.ts';
import { SocketDirectory } from '../support/pair.ts';
import { lcoresArgument, whyMissing } from '../support/program.ts';
import { Testpmd } from '../support/testpmd.ts';
import { WHY_NO_QEMU } from './qemu.ts';
import { expectArrival, startSide } from './sides.ts';
import { Wire } from './wire.ts';

const MTU = 1400;
/** With an Ethernet header. */
const LONGEST = MTU + 14;
/** Packets of `start tx_first`. */
const BURST = 32;

/** Sends one burst of packets of that length. */
async function sendBurst(port: Testpmd, bytes: number): Promise<void> {
  await port.commands('set fwd rxonly', `set txpkts ${bytes}`, 'start tx_first', 'stop');
}

const statistic = async (port: Testpmd, name: string): Promise<number> =>
  Number(new RegExp(`${name}: (\\d+)`).exec(await port.command('show port xstats 0'))?.[1] ?? NaN);

describe.skipIf(WHY_NO_QEMU !== undefined)('a card with an MTU of 1400', () => {
  test.each(['packed=off', 'packed=on'])('tells it, and is sent nothing longer (%s)', async (ring) => {
    await using wire = await Wire.create();
    await using port = await startSide({ devices: [`qemu=auto,netdev=[${wire.netdev}],device=[host_mtu=${MTU},${ring}]`] });
    await port.waitForLink();
    expect(await port.command('show port info 0')).toMatch(/^MTU: 1400$/m);
    expect(await port.command('port config mtu 0 1401')).toBe('');
    expect(port.stderr).toMatch(/^MTU \(1401\) > device max MTU \(1400\) for port_id 0$/m);
    await sendBurst(port, LONGEST + 1);
    await sendBurst(port, LONGEST);
    await wire.received('packets of the MTU', ({ length }) => length === LONGEST);
    expect(await port.statistics()).toMatchObject({ txPackets: BURST, txBytes: BURST * LONGEST, txErrors: BURST });
    expect(await statistic(port, 'tx_q0_oversize_packets')).toBe(BURST);
    expect(wire.lengths()).toEqual(new Set([LONGEST]));
    // a smaller one is the port's own affair: the device's stays
    await port.commands('port stop 0', 'port config mtu 0 1000', 'port start 0');
    await port.waitForLink();
    expect(await port.command('show port info 0')).toMatch(/^MTU: 1000$/m);
    await port.quit();
  });

  test.each((['dpdk-ts', 'dpdk'] as const).filter((program) => whyMissing(program) === undefined))(
    'behind which is a net_vhost of %s: the longest packets pass, longer ones do not',
    async (program) => {
      using directory = new SocketDirectory();
      const held = memoryArguments('ordinary');
      await using backEnd = await Testpmd.start({
        program,
        eal: [...lcoresArgument(1), ...held.eal, '--vdev', `net_vhost0,iface=${directory.socket}`],
        app: ['--total-num-mbufs=8192'],
        wrapper: held.wrapper,
      });
      await using port = await startSide({
        devices: [`qemu=auto,netdev=[vhost-user,path=${directory.socket}],device=[host_mtu=${MTU}]`],
      });
      await Promise.all([port.waitForLink(), backEnd.waitForLink()]);
      await expectArrival({ testpmd: port }, { testpmd: backEnd }, LONGEST);
      await expectArrival({ testpmd: backEnd }, { testpmd: port }, LONGEST);
      const received = (await backEnd.statistics()).rxPackets;
      await sendBurst(port, LONGEST + 1);
      expect(await statistic(port, 'tx_q0_oversize_packets')).toBe(BURST);
      expect((await backEnd.drained()).rxPackets).toBe(received);
      // DPDK's device does not look at what it was told
      if (program === 'dpdk-ts') {
        await sendBurst(backEnd, LONGEST + 1);
        expect(await statistic(backEnd, 'tx_q0_oversize_packets')).toBe(BURST);
        expect((await backEnd.statistics()).txErrors).toBe(BURST);
      }
      await port.quit();
    },
  );
});
