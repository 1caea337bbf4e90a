/**
 * Receive interrupts of QEMU's devices: l3fwd-power sleeps between two of them, and the first packet wakes it, by the doorbell's eventfds or
 * by words in shared memory.
 * @module
 */
import { describe, expect, test } from 'vitest';
import { until } from '../support/deadline.ts';
import { buildFrame } from '../support/frames.ts';
import { L3fwdPower } from '../support/l3fwd-power.ts';
import { Folder, RunningQemu, WHY_NO_QEMU } from './qemu.ts';
import { Wire } from './wire.ts';

/** To 2.1.1.N, whose route is port 1. */
function packet(number: number): Buffer {
  const { bytes } = buildFrame({ version: 4, protocol: 'udp', payload: Buffer.alloc(64, number), checksum: 'full' });
  bytes.set([2, 1, 1, number], 30);
  let sum = 0;
  bytes.writeUInt16BE(0, 24);
  for (let at = 14; at < 34; at += 2) sum += bytes.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  bytes.writeUInt16BE(~sum & 0xffff, 24);
  return bytes;
}

async function expectWakeUps(devices: readonly string[], input: Wire, output: Wire): Promise<void> {
  await using router = new L3fwdPower([
    ...['-l', '0-1'],
    ...devices.flatMap((device, index) => ['--vdev', `net_virtio_qtest${index},${device}`]),
    ...['--', '-p', '3', '-P', '--config=(0,0,1),(1,0,1)', '--no-numa', '--parse-ptype'],
  ]);
  for (let number = 1; number <= 5; number++) {
    await router.printed(new RegExp(`(lcore 1 sleeps until[^]*){${number}}`));
    const before = router.count(/waked up from rx interrupt on port 0 queue 0/);
    await input.send(packet(number));
    const frame = await output.received(`packet ${number}`, (candidate) => candidate[33] === number);
    expect(frame.subarray(42, 42 + 64).every((byte) => byte === number)).toBe(true);
    expect(frame[22], 'a hop').toBe(63);
    await until(
      5000,
      () => `the interrupt\n${router.output}`,
      () => router.count(/waked up from rx interrupt on port 0 queue 0/) > before,
    );
  }
  expect(router.output).not.toMatch(/RX interrupt won't enable/);
  expect(await router.stop()).toBe(0);
  expect(router.report(0)).toEqual({ received: 5, sent: 5, dropped: 0 });
}

describe.skipIf(WHY_NO_QEMU !== undefined)('l3fwd-power sleeps and wakes', () => {
  test.each(['q35', 'pc'])('by the doorbell: QEMUs of our own, %s', async (machine) => {
    await using a = await Wire.create();
    await using b = await Wire.create();
    await expectWakeUps(
      [a, b].map(({ netdev }) => `qemu=auto,machine=${machine},netdev=[${netdev}]`),
      a,
      b,
    );
  });

  test.each(['q35', 'pc'] as const)('by words in memory: a QEMU that runs, %s', async (chipSet) => {
    await using a = await Wire.create();
    await using b = await Wire.create();
    using folder = new Folder();
    await using qemu = await RunningQemu.start(folder, 'one', {
      chipSet,
      args: [a, b].flatMap(({ netdev }, index) => [
        ...['-netdev', `${netdev},id=n${index}`],
        ...['-device', `virtio-net-pci,netdev=n${index},addr=0x${4 + index},disable-legacy=on,vectors=4`],
      ]),
    });
    await expectWakeUps(
      [4, 5].map((slot) => `qtest=${qemu.qtest},memory=${qemu.memory},irq=msix,addr=${slot}`),
      a,
      b,
    );
  });
});
