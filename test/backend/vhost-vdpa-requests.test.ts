import { describe, expect, it } from 'vitest';
import { decodeConfig, decodeIovaRange, encodeConfig, encodeIotlbMessage, VDPA } from '../../src/backend/vhost-vdpa/requests.ts';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const zeros = (bytes: number): string => '00'.repeat(bytes);

describe('requests of /dev/vhost-vdpa', () => {
  it('have the numbers of linux/vhost.h (as the C preprocessor computes them on x86-64)', () => {
    expect(VDPA).toEqual({
      VHOST_GET_FEATURES: 0x8008af00,
      VHOST_SET_FEATURES: 0x4008af00,
      VHOST_SET_OWNER: 0xaf01,
      VHOST_SET_VRING_NUM: 0x4008af10,
      VHOST_SET_VRING_ADDR: 0x4028af11,
      VHOST_SET_VRING_BASE: 0x4008af12,
      VHOST_SET_VRING_KICK: 0x4008af20,
      VHOST_SET_VRING_CALL: 0x4008af21,
      VHOST_SET_BACKEND_FEATURES: 0x4008af25,
      VHOST_GET_BACKEND_FEATURES: 0x8008af26,
      VHOST_VDPA_GET_DEVICE_ID: 0x8004af70,
      VHOST_VDPA_GET_STATUS: 0x8001af71,
      VHOST_VDPA_SET_STATUS: 0x4001af72,
      VHOST_VDPA_GET_CONFIG: 0x8008af73,
      VHOST_VDPA_SET_CONFIG: 0x4008af74,
      VHOST_VDPA_SET_VRING_ENABLE: 0x4008af75,
      VHOST_VDPA_GET_VRING_NUM: 0x8002af76,
      VHOST_VDPA_SET_CONFIG_CALL: 0x4004af77,
      VHOST_VDPA_GET_IOVA_RANGE: 0x8010af78,
      VHOST_VDPA_GET_CONFIG_SIZE: 0x8004af79,
      VHOST_VDPA_SUSPEND: 0xaf7d,
      VHOST_VDPA_GET_VQS_COUNT: 0x8004af80,
    });
  });

  it('struct vhost_vdpa_config: u32 off, u32 len, bytes', () => {
    expect(hex(encodeConfig(10, Uint8Array.of(0xdc, 0x05)))).toBe('0a00000002000000dc05');
    expect(hex(decodeConfig(encodeConfig(0, Uint8Array.of(1, 2, 3))))).toBe('010203');
  });

  it('struct vhost_vdpa_iova_range: u64 first, u64 last', () => {
    expect(decodeIovaRange(Buffer.from(`0010${zeros(6)}ffffffffffffffff`, 'hex'))).toEqual({ first: 0x1000n, last: 0xffffffffffffffffn });
  });
});

// What a C compiler lays out; offsets: type 0, asid 4 (version 2), iova 8, size 16, uaddr 24, perm 32, type 33; size 72
describe('messages written to the device (linux/vhost_types.h)', () => {
  const mapping = { iova: 0x200000, bytes: 0x400000, userAddress: 0x7f0000200000 };

  it('struct vhost_msg_v2: UPDATE with read and write access', () => {
    expect(hex(encodeIotlbMessage('UPDATE', mapping, true))).toBe(
      `02000000000000000000200000000000000040000000000000002000007f00000302${zeros(38)}`,
    );
  });

  it('struct vhost_msg: the same with type 1', () => {
    expect(hex(encodeIotlbMessage('UPDATE', mapping, false))).toBe(
      `01000000000000000000200000000000000040000000000000002000007f00000302${zeros(38)}`,
    );
  });

  it('INVALIDATE names the range alone', () => {
    expect(hex(encodeIotlbMessage('INVALIDATE', mapping, true))).toBe(
      `020000000000000000002000000000000000400000000000${zeros(8)}0003${zeros(38)}`,
    );
  });

  it('BATCH_BEGIN and BATCH_END have nothing but their type', () => {
    expect(hex(encodeIotlbMessage('BATCH_BEGIN', undefined, true))).toBe(`02000000${zeros(29)}05${zeros(38)}`);
    expect(hex(encodeIotlbMessage('BATCH_END', undefined, true))).toBe(`02000000${zeros(29)}06${zeros(38)}`);
  });
});
