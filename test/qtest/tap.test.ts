/**
 * The host's kernel behind QEMU's device: a tap as its netdev, with several queues, whose number the control queue sets.
 * @module
 */
import { spawnSync } from 'node:child_process';
import { beforeAll, describe, expect, test } from 'vitest';
import { enterNetworkNamespace, ip, WHY_NO_NETWORK } from '../support/network.ts';
import { WHY_NO_QEMU } from './qemu.ts';
import { startSide } from './sides.ts';

describe.skipIf((WHY_NO_QEMU ?? WHY_NO_NETWORK) !== undefined)('a tap behind the device', () => {
  beforeAll(enterNetworkNamespace);

  test.each([1, 4])('%i queue pairs: the kernel pings through QEMU, and icmpecho answers', async (queues) => {
    await using port = await startSide({
      devices: [`qemu=auto,queues=${queues},netdev=[tap,ifname=qtest${queues}]`],
      app: [`--rxq=${queues}`, `--txq=${queues}`, '--forward-mode=icmpecho', '--auto-start'],
    });
    expect(await port.command('show port info 0')).toContain(`Max possible RX queues: ${queues}`);
    ip(`addr add 10.9.${queues}.1/24 dev qtest${queues}`);
    ip(`link set qtest${queues} up`);
    await port.waitForLink();
    for (const bytes of ['56', '1400']) {
      // until ten are answered, however late on a busy host
      const { status, stdout } = spawnSync('ping', ['-c', '10', '-w', '15', '-i', '0.1', '-s', bytes, `10.9.${queues}.2`], {
        encoding: 'utf8',
      });
      expect(status, stdout).toBe(0);
      expect(stdout).toMatch(/ 10 received/);
    }
    await port.command('stop');
    await port.quit();
  });
});
