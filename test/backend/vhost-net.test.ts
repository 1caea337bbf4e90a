import { existsSync, readdirSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { encodeVringFile, NO_FILE, VHOST } from '../../src/backend/vhost-ioctl/requests.ts';
import { VhostNet, type VhostNetOptions } from '../../src/backend/vhost-net/vhost-net.ts';
import { encodeMemoryTable, encodeVringAddress, encodeVringState } from '../../src/backend/vhost-user/messages.ts';
import type { Arena } from '../../src/memory/arena.ts';
import { testArena } from '../support/ring-pair.ts';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

describe('requests of /dev/vhost-net', () => {
  it('have the numbers of linux/vhost.h', () => {
    expect(VHOST).toEqual({
      GET_FEATURES: 0x8008af00,
      SET_FEATURES: 0x4008af00,
      SET_OWNER: 0xaf01,
      SET_MEM_TABLE: 0x4008af03,
      SET_VRING_NUM: 0x4008af10,
      SET_VRING_ADDR: 0x4028af11,
      SET_VRING_BASE: 0x4008af12,
      SET_VRING_KICK: 0x4008af20,
      SET_VRING_CALL: 0x4008af21,
      NET_SET_BACKEND: 0x4008af30,
    });
  });

  it('struct vhost_vring_file: ring, descriptor, -1 for none', () => {
    expect(hex(encodeVringFile(1, 0x1234))).toBe('0100000034120000');
    expect(hex(encodeVringFile(0, NO_FILE))).toBe('00000000ffffffff');
  });

  it('structs that vhost-user shares: vhost_vring_state, vhost_vring_addr, vhost_memory', () => {
    expect(hex(encodeVringState(1, 256))).toBe('0100000000010000');
    const address = { index: 1, flags: 0, descriptors: 0x1000n, used: 0x2000n, available: 0x3000n };
    // index, flags, desc_user_addr, used_user_addr, avail_user_addr, log_guest_addr
    expect(hex(encodeVringAddress(address))).toBe(
      `01000000${'00'.repeat(4)}0010${'00'.repeat(6)}0020${'00'.repeat(6)}0030${'00'.repeat(14)}`,
    );
    const region = { guestAddress: 0x10000n, size: 0x200000n, userAddress: 0x7f0000010000n, fileOffset: 0n };
    // nregions, padding; guest_phys_addr, memory_size, userspace_addr, flags_padding
    expect(hex(encodeMemoryTable([region]))).toBe(`01000000000000000000010000000000000020000000000000000100007f0000${'00'.repeat(8)}`);
  });
});

describe('a device that cannot be had', () => {
  let arena: Arena;
  beforeAll(() => {
    arena = testArena();
  });
  afterAll(() => arena.close());

  function device(options: Partial<VhostNetOptions>): VhostNet {
    const events = { onOffer: () => undefined, onLost: () => undefined };
    return new VhostNet({
      arena,
      path: '/dev/vhost-net',
      interfaceName: undefined,
      queuePairs: 1,
      mac: undefined,
      events,
      log: () => undefined,
      ...options,
    });
  }

  async function refusal(options: Partial<VhostNetOptions>): Promise<string> {
    const before = readdirSync('/proc/self/fd').length;
    const made = device(options);
    const error: unknown = await made.open().then(
      () => undefined,
      (reason: unknown) => reason,
    );
    await made.close();
    expect(readdirSync('/proc/self/fd')).toHaveLength(before);
    return error instanceof Error ? error.message : 'no error';
  }

  it('names the device and the module when it is missing', async () => {
    expect(await refusal({ path: '/dev/vhost-net-that-is-not' })).toBe(
      "/dev/vhost-net-that-is-not: no such file: the kernel's vhost-net is not there; as root: modprobe vhost_net, and in a container give it the device",
    );
  });

  it('says that a device is no vhost device, and closes it', async () => {
    expect(await refusal({ path: '/dev/null' })).toBe('/dev/null: Inappropriate ioctl for device (VHOST_SET_OWNER)');
    expect(await refusal({ path: '/dev/null', interfaceName: 'tap77' })).toBe(
      '/dev/null (tap77): Inappropriate ioctl for device (VHOST_SET_OWNER)',
    );
    expect(existsSync('/sys/class/net/tap77')).toBe(false);
  });

  it('is not started', async () => {
    const made = device({});
    await expect(made.start({ features: 0n, mtu: 1500, rings: [] })).rejects.toThrow('/dev/vhost-net: the tap is gone');
    await made.stop();
    await made.close();
  });
});
