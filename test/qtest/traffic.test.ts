/**
 * Packets through virtio-net devices inside unmodified QEMUs, by every way that leads to one. Two devices talk to each other over their
 * datagram netdevs; what one port says it sent is what the other says it received.
 * @module
 */
import { describe, expect, test } from 'vitest';
import { isAlive } from '../support/processes.ts';
import { dgram, Folder, RunningQemu, WHY_NO_QEMU } from './qemu.ts';
import { expectArrival, startSide } from './sides.ts';

const NIC = 'virtio-net-pci,netdev=n0,addr=0x4,disable-legacy=on,vectors=4';

/** 64 B and the longest frame that needs no offload, both ways. */
async function expectBothWays(ours: string, peers: string): Promise<void> {
  await using driver = await startSide({ devices: [ours], cpu: 0 });
  await using device = await startSide({ devices: [peers], cpu: 1 });
  await Promise.all([driver.waitForLink(), device.waitForLink()]);
  const [one, other] = [{ testpmd: driver }, { testpmd: device }];
  for (const bytes of [64, 1514]) {
    await expectArrival(one, other, bytes);
    await expectArrival(other, one, bytes);
  }
  await driver.quit();
  await device.quit();
}

describe.skipIf(WHY_NO_QEMU !== undefined)('64 B and 1514 B both ways, nothing lost', () => {
  test.each([
    ['q35', 'msix'],
    ['q35', 'intx'],
    ['pc', 'msix'],
    ['pc', 'intx'],
  ])('QEMUs of our own, %s, irq=%s', async (machine, irq) => {
    using folder = new Folder();
    const device = (own: string, peer: string): string =>
      `qemu=auto,machine=${machine},irq=${irq},netdev=[${dgram(folder.path, own, peer)}]`;
    await expectBothWays(device('a', 'b'), device('b', 'a'));
  });

  test.each([
    ['memory', 'q35', 'msix'],
    ['memory', 'pc', 'intx'],
    ['ivshmem', 'q35', 'intx'],
    ['ivshmem', 'pc', 'msix'],
  ] as const)('a QEMU that runs, %s=, %s, irq=%s', async (kind, chipSet, irq) => {
    using folder = new Folder();
    await using qemu = await RunningQemu.start(folder, 'one', {
      chipSet,
      args: ['-netdev', `${dgram(folder.path, 'a', 'b')},id=n0`, '-device', NIC],
      ...(kind === 'ivshmem' ? { megabytes: 16, ivshmem: 128 } : {}),
    });
    await expectBothWays(`qtest=${qemu.qtest},${kind}=${qemu[kind]},irq=${irq}`, `qemu=auto,netdev=[${dgram(folder.path, 'b', 'a')}]`);
    expect(isAlive(qemu.pid), 'somebody else’s QEMU goes on').toBe(true);
  });

  test.each([
    ['packed', 'disable-legacy=on,packed=on'],
    ['transitional', 'disable-legacy=off'],
    ['legacy', 'disable-modern=on,disable-legacy=off'],
  ])('a %s device', async (_, properties) => {
    using folder = new Folder();
    const device = (own: string, peer: string): string => `qemu=auto,device=[${properties}],netdev=[${dgram(folder.path, own, peer)}]`;
    await expectBothWays(device('a', 'b'), device('b', 'a'));
  });
});
