/**
 * What the machine is for: the kernel's vhost-net and tap answer inside.
 * @module
 */
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { WHY_NO_MACHINE } from './available.ts';
import { runInMachine } from './machine.ts';

const FEATURES = fileURLToPath(new URL('vhost-features.mjs', import.meta.url));

const VIRTIO_NET_F_MRG_RXBUF = 1n << 15n;
const VIRTIO_F_VERSION_1 = 1n << 32n;
const IFF_TAP = 0x0002;
const IFF_MULTI_QUEUE = 0x0100;
const IFF_VNET_HDR = 0x4000;

describe.skipIf(WHY_NO_MACHINE !== undefined)('in the test machine', () => {
  test('vhost-net and tun answer to our FFI', async () => {
    const { status, stdout, stderr } = await runInMachine({ command: ['node', FEATURES] });
    expect(status, stderr).toBe(0);
    const { vhost, tun } = JSON.parse(stdout) as { readonly vhost: string; readonly tun: string };
    expect(BigInt(vhost) & (VIRTIO_NET_F_MRG_RXBUF | VIRTIO_F_VERSION_1)).toBe(VIRTIO_NET_F_MRG_RXBUF | VIRTIO_F_VERSION_1);
    expect(Number(tun) & (IFF_TAP | IFF_MULTI_QUEUE | IFF_VNET_HDR)).toBe(IFF_TAP | IFF_MULTI_QUEUE | IFF_VNET_HDR);
  });
});
