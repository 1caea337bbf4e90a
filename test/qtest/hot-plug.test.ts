/**
 * A device that is unplugged while packets run through it, and plugged again: by ACPI on a machine of type pc, behind a root port on q35.
 * Three cards hang on one hub inside QEMU; what one sends the others receive.
 * @module
 */
import { describe, expect, test } from 'vitest';
import { Folder, RunningQemu, WHY_NO_QEMU } from './qemu.ts';
import { startSide } from './sides.ts';

const HUB = [0, 1, 2].flatMap((index) => ['-netdev', `hubport,id=n${index},hubid=0`]);

function card(index: number, place: string): string {
  return `virtio-net-pci,id=nic${index},netdev=n${index},${place},mac=52:54:00:00:00:0${index},disable-legacy=on`;
}

const MACHINES = [
  { chipSet: 'pc', bridge: [], place: 'addr=0x4', address: '0x4', plug: { bus: 'pci.0', addr: '0x4' } },
  {
    chipSet: 'q35',
    bridge: ['-device', 'pcie-root-port,id=rp0,addr=0x8,chassis=1,slot=1'],
    place: 'bus=rp0',
    address: '0000:01:00.0',
    plug: { bus: 'rp0' },
  },
] as const;

describe.skipIf(WHY_NO_QEMU !== undefined)('hot plug', () => {
  test.each(MACHINES)('$chipSet: unplugged under traffic, the port is removed, the others go on; plugged again', async (machine) => {
    using folder = new Folder();
    await using qemu = await RunningQemu.start(folder, 'one', {
      chipSet: machine.chipSet,
      args: [
        ...HUB,
        ...machine.bridge,
        ...['-device', card(0, machine.place), '-device', card(1, 'addr=0x5'), '-device', card(2, 'addr=0x6')],
      ],
    });
    const where = `qtest=${qemu.qtest},memory=${qemu.memory}`;
    await using testpmd = await startSide({ devices: [`${where},addr=${machine.address}`, `${where},addr=5`, `${where},addr=00:06.0`] });
    await testpmd.commands('set fwd flowgen', 'start');
    for (const port of [0, 1, 2]) await testpmd.waitForStatistics('packets', ({ rxPackets }) => rxPackets > 0, port);

    await qemu.monitor('device_del', { id: 'nic0' });
    await testpmd.printed(/Port 0: device removal event/);
    await testpmd.printed(/the device was unplugged/);
    await testpmd.printed(/Port 0 is closed/);
    expect(await testpmd.command('show port summary all')).toContain('Number of available ports: 2');
    for (const port of [1, 2]) {
      const { rxPackets: before } = await testpmd.statistics(port);
      await testpmd.waitForStatistics('more packets', ({ rxPackets }) => rxPackets > before + 100, port);
    }
    await testpmd.command('stop');

    await qemu.monitor('device_add', { driver: 'virtio-net-pci', id: 'nic0', netdev: 'n0', 'disable-legacy': 'on', ...machine.plug });
    expect(await testpmd.command(`port attach net_virtio_qtest0,${where},addr=${machine.address}`)).toContain('Port 0 is attached');
    await testpmd.commands('port start 0', 'start');
    await testpmd.waitForStatistics('packets again', ({ rxPackets }) => rxPackets > 100, 0);
    await testpmd.command('stop');
    await testpmd.quit();
    // QEMU 7.2 does not survive an ejection under traffic: the device is reset first
    expect(qemu.ending).toMatch(/runs$/);
  });
});
