/**
 * Interrupts of QEMU's devices: the monitor takes the link away and gives it back, and the port hears of it, whichever way interrupts come.
 * @module
 */
import { join } from 'node:path';
import { describe, test } from 'vitest';
import type { Testpmd } from '../support/testpmd.ts';
import { Folder, Monitor, RunningQemu, WHY_NO_QEMU } from './qemu.ts';
import { startSide } from './sides.ts';

type SetLink = (up: boolean) => Promise<void>;

async function expectLinkEvents(testpmd: Testpmd, setLink: SetLink): Promise<void> {
  await testpmd.waitForLink();
  for (let round = 1; round <= 2; round++) {
    await setLink(false);
    await testpmd.printed(new RegExp(`(link state change event[^]*){${2 * round - 1}}`));
    await testpmd.waitForLink(false);
    await setLink(true);
    await testpmd.printed(new RegExp(`(link state change event[^]*){${2 * round}}`));
    await testpmd.waitForLink();
  }
  await testpmd.quit();
}

describe.skipIf(WHY_NO_QEMU !== undefined)('the link, taken away and given back', () => {
  test.each([
    ['q35', 'msix'],
    ['pc', 'msix'],
    ['q35', 'intx'],
    ['pc', 'intx'],
  ])('a QEMU of our own, %s, irq=%s', async (machine, irq) => {
    using folder = new Folder();
    const qmp = join(folder.path, 'qmp');
    await using testpmd = await startSide({ devices: [`qemu=auto,machine=${machine},irq=${irq},qmp=${qmp}`] });
    const monitor = await Monitor.connect(qmp);
    await expectLinkEvents(testpmd, (up) => monitor.run('set_link', { name: 'net0', up }));
    monitor.close();
  });

  test.each([
    ['q35', 'msix'],
    ['pc', 'msix'],
    ['q35', 'intx'],
    ['pc', 'intx'],
  ] as const)('a QEMU that runs, %s, irq=%s', async (chipSet, irq) => {
    using folder = new Folder();
    await using qemu = await RunningQemu.start(folder, 'one', {
      chipSet,
      args: ['-netdev', 'user,id=n0', '-device', 'virtio-net-pci,netdev=n0,addr=0x7,disable-legacy=on'],
    });
    await using testpmd = await startSide({ devices: [`qtest=${qemu.qtest},memory=${qemu.memory},irq=${irq}`] });
    await expectLinkEvents(testpmd, (up) => qemu.monitor('set_link', { name: 'n0', up }));
  });
});
