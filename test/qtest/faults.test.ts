/**
 * QEMUs that are not there, are not what was said of them, or end while they are used: each is answered by name, and only its port goes.
 * @module
 */
import { readdirSync, truncateSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { until } from '../support/deadline.ts';
import { isAlive, processGroup } from '../support/processes.ts';
import type { Testpmd } from '../support/testpmd.ts';
import { Folder, RunningQemu, WHY_NO_QEMU } from './qemu.ts';
import { spawnSide, startSide } from './sides.ts';

const USER = ['-netdev', 'user,id=n0', '-device', 'virtio-net-pci,netdev=n0,addr=0x4,disable-legacy=on'];

/** Starts with a port that fails and one that does not; expects the reason, and the other port at work. */
async function expectRefused(device: string, reason: RegExp): Promise<void> {
  await using testpmd = await startSide({ devices: [device], eal: ['--vdev', 'net_null0'] });
  await testpmd.printed(reason);
  await testpmd.printed(/vdev_probe\(\): failed to initialize net_virtio_qtest0 device/);
  await testpmd.commands('start');
  await testpmd.waitForStatistics('packets', ({ rxPackets }) => rxPackets > 0, 0);
  await testpmd.quit();
}

/** Process ids of the QEMUs that a testpmd has started. */
function qemusOf(testpmd: Testpmd): readonly number[] {
  return processGroup(testpmd.pid)
    .filter((member) => member.includes('qemu-system'))
    .map((member) => Number.parseInt(member, 10));
}

/** Ends the first of the QEMUs that a testpmd has started. */
function killQemu(testpmd: Testpmd, signal: NodeJS.Signals): void {
  const [qemu] = qemusOf(testpmd);
  // -1 would be every process there is
  if (qemu === undefined) throw new Error(`no QEMU among ${processGroup(testpmd.pid).join(', ')}\n${testpmd.transcript()}`);
  process.kill(qemu, signal);
}

/** The port is removed; a port of another kind goes on, and the end is clean. */
async function expectRemoved(testpmd: Testpmd, reason: RegExp): Promise<void> {
  await testpmd.printed(/Port 0: device removal event/);
  await testpmd.printed(reason);
  await testpmd.printed(/Port 0 is closed/);
  const { txPackets } = await testpmd.statistics(1);
  await testpmd.waitForStatistics('packets on the other port', (now) => now.txPackets > txPackets, 1);
  await testpmd.commands('stop');
  await testpmd.quit();
}

describe.skipIf(WHY_NO_QEMU !== undefined)('a QEMU that is not there', () => {
  test.each([
    ['qtest=/nonexistent/qtest', 'no socket', /\/nonexistent\/qtest: No such file or directory/],
    ['qemu=/nonexistent/qemu', 'no program', /QEMU does not start: .*\/nonexistent\/qemu.*apt-get install qemu-system-x86/],
    ['qemu=auto,netdev=[nonsense]', "QEMU's own words", /QEMU does not start: .*nonsense/],
    ['qemu=auto,netdev=[vhost-user,path=/nonexistent/vhost]', 'no back-end', /there is no such socket; start the back-end first/],
    ['qemu=auto,device=[nonsense=1]', 'a property that there is not', /QEMU does not start: .*nonsense/],
  ])('%s: %s', async (device, _, reason) => {
    using folder = new Folder();
    const memory = join(folder.path, 'memory');
    writeFileSync(memory, '');
    truncateSync(memory, 128 << 20);
    await expectRefused(device.startsWith('qtest') ? `${device},memory=${memory}` : device, reason);
  });

  test('something else that listens there', async () => {
    using folder = new Folder();
    const path = join(folder.path, 'qtest');
    const memory = join(folder.path, 'memory');
    writeFileSync(memory, '');
    truncateSync(memory, 128 << 20);
    const server = createServer((socket) => {
      socket.on('error', () => undefined).on('data', () => socket.write('HTTP/1.1 400 Bad Request\r\n\r\n'));
    });
    await new Promise<void>((resolve) => void server.listen(path, resolve));
    try {
      await expectRefused(`qtest=${path},memory=${memory}`, /a line that is none of its protocol: "HTTP/);
    } finally {
      server.close();
    }
  });
});

describe.skipIf(WHY_NO_QEMU !== undefined)('a QEMU that is not as it was said to be', () => {
  test('memory that is not its RAM, another port’s device, no such device, a file that is too small', async () => {
    using folder = new Folder();
    await using qemu = await RunningQemu.start(folder, 'one', { args: USER, ivshmem: 128 });
    const other = join(folder.path, 'other');
    writeFileSync(other, '');
    truncateSync(other, 128 << 20);
    await expectRefused(`qtest=${qemu.qtest},memory=${other}`, /memory= is not the RAM of that QEMU/);
    await expectRefused(`qtest=${qemu.qtest},ivshmem=${other}`, /ivshmem= is not the memory of its ivshmem device/);
    await expectRefused(
      `qtest=${qemu.qtest},memory=${qemu.memory},addr=9`,
      /addr=0000:00:09.0 is no virtio-net device; there are: 0000:00:04.0/,
    );
    const where = `qtest=${qemu.qtest},memory=${qemu.memory}`;
    {
      await using testpmd = await startSide({ devices: [where, where, `qtest=${qemu.qtest},ivshmem=${qemu.memory}`] });
      await testpmd.printed(/another port has 0000:00:04.0/);
      await testpmd.printed(/another port has that QEMU with memory=/);
      expect(await testpmd.command('show port summary all')).toContain('Number of available ports: 1');
      await testpmd.quit();
    }
    const small = join(folder.path, 'small');
    writeFileSync(small, '');
    truncateSync(small, 16 << 20);
    for (const [devices, reason] of [
      [[`qtest=${qemu.qtest},memory=${small}`], /small has 16 MiB, and rings and packets need it to have \d+/],
      [[where, `qtest=${qemu.qtest},memory=${other}`], /packets cannot be in .* and in .*other/],
    ] as const) {
      await using testpmd = spawnSide({ devices });
      await testpmd.printed(reason);
      expect((await testpmd.waitForExit()).code).toBe(1);
    }
  });

  test('a socket, or memory, that another process has', async () => {
    using folder = new Folder();
    await using qemu = await RunningQemu.start(folder, 'one', { args: USER, ivshmem: 128 });
    const where = `qtest=${qemu.qtest},memory=${qemu.memory}`;
    await using first = await startSide({ devices: [where] });
    await expectRefused(
      `qtest=${qemu.qtest},ivshmem=${qemu.ivshmem}`,
      /no answer to 'outl .*' within 5 s; is QEMU stopped, or another process connected to it\?/,
    );
    await using second = spawnSide({ devices: [where] });
    await second.printed(/another process has its packets in .*memory; end it/);
    expect((await second.waitForExit()).code).toBe(1);
    await first.commands('set fwd txonly', 'start');
    await first.waitForStatistics('packets', ({ txPackets }) => txPackets > 1000);
    await first.commands('stop');
    await first.quit();
    // one that comes after it finds QEMU free
    await using third = await startSide({ devices: [where] });
    await third.waitForLink();
    await third.quit();
  });
});

describe.skipIf(WHY_NO_QEMU !== undefined)('the end of a QEMU, or of us', () => {
  test('a QEMU that runs is killed while packets run through it', async () => {
    using folder = new Folder();
    await using qemu = await RunningQemu.start(folder, 'one', { args: USER });
    await using testpmd = await startSide({ devices: [`qtest=${qemu.qtest},memory=${qemu.memory}`], eal: ['--vdev', 'net_null0'] });
    await testpmd.commands('set fwd txonly', 'start');
    await testpmd.waitForStatistics('packets', ({ txPackets }) => txPackets > 0, 0);
    await qemu.kill();
    await expectRemoved(testpmd, /QEMU has ended/);
  });

  test('one of our own is killed, and another takes its place', async () => {
    await using testpmd = await startSide({ devices: ['qemu=auto'], eal: ['--vdev', 'net_null0'] });
    await testpmd.commands('set fwd txonly', 'start');
    await testpmd.waitForStatistics('packets', ({ txPackets }) => txPackets > 0, 0);
    killQemu(testpmd, 'SIGKILL');
    await testpmd.printed(/Port 0 is closed/);
    await testpmd.command('stop');
    await testpmd.command('port attach net_virtio_qtest0,qemu=auto');
    await testpmd.commands('port start 0', 'start');
    await testpmd.waitForStatistics('packets', ({ txPackets }) => txPackets > 0, 0);
    killQemu(testpmd, 'SIGSEGV');
    await expectRemoved(testpmd, /QEMU of net_virtio_qtest0: QEMU ended by signal SIGSEGV/);
  });

  test.each(['SIGKILL', 'SIGTERM', 'SIGINT'] as const)('we get %s: our QEMU ends too, and nothing is left', async (signal) => {
    await using testpmd = await startSide({ devices: ['qemu=auto', 'qemu=auto,machine=pc'] });
    await testpmd.commands('set fwd txonly', 'start');
    const qemus = qemusOf(testpmd);
    expect(qemus).toHaveLength(2);
    testpmd.signal(signal);
    await testpmd.waitForExit();
    await until(5000, 'the end of QEMU', () => qemus.every((pid) => !isAlive(pid)));
  });

  test('opened and closed twenty times: no descriptor, no process stays', async () => {
    await using testpmd = await startSide({ devices: [], eal: ['--vdev', 'net_null0', '--no-huge'] });
    const descriptors = (): number => readdirSync(`/proc/${testpmd.pid}/fd`).length;
    let before = 0;
    for (let round = 0; round < 21; round++) {
      await testpmd.command('port attach net_virtio_qtest0,qemu=auto');
      await testpmd.commands('port start 1', 'port stop 1', 'port close 1');
      if (round === 0) before = descriptors();
    }
    expect(descriptors()).toBe(before);
    expect(qemusOf(testpmd)).toEqual([]);
    await testpmd.quit();
  });
});
