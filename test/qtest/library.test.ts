/**
 * The library over a device of QEMU: the user-mode network that QEMU has built in answers for its gateway, no privileges needed.
 * @module
 */
import { describe, expect, test } from 'vitest';
import { openPort, type PacketPort } from '../../src/index.ts';
import { hex } from '../support/frames.ts';
import { Folder, RunningQemu, WHY_NO_QEMU } from './qemu.ts';

/** Who has 10.0.2.2? Asks 10.0.2.15. */
function question(mac: Uint8Array): Buffer {
  const own = Buffer.from(mac).toString('hex');
  return hex(`ffffffffffff ${own} 0806 0001 0800 06 04 0001 ${own} 0a00020f 000000000000 0a000202`);
}

async function expectAnswer(port: PacketPort): Promise<void> {
  await port.start();
  await port.send(question(port.mac));
  for await (const { bytes } of port.packets({ signal: AbortSignal.timeout(5000) })) {
    expect(Buffer.from(bytes.subarray(0, 6))).toEqual(Buffer.from(port.mac));
    expect(Buffer.from(bytes.subarray(20, 22)).toString('hex'), 'an answer').toBe('0002');
    expect(Buffer.from(bytes.subarray(28, 32)).toString('hex'), 'of the gateway').toBe('0a000202');
    return;
  }
  throw new Error('no answer');
}

describe.skipIf(WHY_NO_QEMU !== undefined)('openPort', () => {
  test('a QEMU of its own: one call, and a device that answers', async () => {
    await using port = await openPort('net_virtio_qtest', { qemu: 'auto' });
    await expectAnswer(port);
  });

  test.each(['memory', 'ivshmem'] as const)('a QEMU that runs, %s', async (kind) => {
    using folder = new Folder();
    await using qemu = await RunningQemu.start(folder, 'one', {
      args: ['-netdev', 'user,id=n0', '-device', 'virtio-net-pci,netdev=n0,disable-legacy=on'],
      ivshmem: 128,
    });
    for (let round = 0; round < 2; round++) {
      await using port = await openPort('net_virtio_qtest0', { qtest: qemu.qtest, [kind]: qemu[kind] });
      await expectAnswer(port);
    }
  });

  test('an environment whose memory does not serve says what does', async () => {
    using folder = new Folder();
    await using qemu = await RunningQemu.start(folder, 'one', { args: [] });
    const environment = { pageSize: 4096, mbufs: 512 } as const;
    await using other = await openPort('net_null', { environment });
    await expect(openPort('net_virtio_qtest', { environment: other.environment, qtest: qemu.qtest, memory: qemu.memory })).rejects.toThrow(
      /is not where the packets of this process are/,
    );
    await expect(openPort('net_virtio_qtest', { environment, qtest: qemu.qtest, memory: qemu.memory })).rejects.toThrow(
      /that QEMU has no virtio-net device/,
    );
  });
});
