/** Features and their prerequisites (virtio 1.2, 5.1.3.1), as a table and on both sides. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { brokenDependencies, FEATURE_DEPENDENCIES, takeAccepted, withPrerequisites } from '../../src/backend/feature-dependencies.ts';
import { OFFLOAD_FEATURES } from '../../src/backend/offload-features.ts';
import { DEVICE_FEATURES, DEVICE_SEGMENTATION_FEATURES } from '../../src/backend/vhost-user/device-features.ts';

const bits = (...numbers: readonly number[]): bigint => numbers.reduce((sum, bit) => sum | (1n << BigInt(bit)), 0n);
const rng = fc.bigInt({ min: 0n, max: (1n << 71n) - 1n });

/** Numbers of the feature, and of those of which it needs one, out of the specification. */
const LISTED: readonly (readonly [string, number, readonly number[]])[] = [
  ['GUEST_TSO4', 7, [1]],
  ['GUEST_TSO6', 8, [1]],
  ['GUEST_ECN', 9, [7, 8]],
  ['GUEST_UFO', 10, [1]],
  ['GUEST_USO4', 54, [1]],
  ['GUEST_USO6', 55, [1]],
  ['HOST_TSO4', 11, [0]],
  ['HOST_TSO6', 12, [0]],
  ['HOST_ECN', 13, [11, 12]],
  ['HOST_UFO', 14, [0]],
  ['HOST_USO', 56, [0]],
  ['CTRL_RX', 18, [17]],
  ['CTRL_VLAN', 19, [17]],
  ['GUEST_ANNOUNCE', 21, [17]],
  ['MQ', 22, [17]],
  ['CTRL_MAC_ADDR', 23, [17]],
  ['VQ_NOTF_COAL', 52, [17]],
  ['NOTF_COAL', 53, [17]],
  ['RSC_EXT', 61, [11, 12]],
  ['RSS', 60, [17]],
];

describe('feature dependencies', () => {
  it.each(LISTED)('%s is dropped without its prerequisite, and kept with each of them', (name, feature, needs) => {
    expect(FEATURE_DEPENDENCIES.find((rule) => rule.name === name)).toMatchObject({ feature: bits(feature), needs: bits(...needs) });
    expect(withPrerequisites(bits(feature, 32))).toBe(bits(32));
    expect(brokenDependencies(bits(feature)).map((rule) => rule.name)).toEqual([name]);
    for (const need of needs) {
      // what is needed may itself need something
      const whole = bits(feature, need, 0, 1, 17, 32);
      expect(withPrerequisites(whole)).toBe(whole);
    }
  });

  it('a feature whose prerequisite was dropped is dropped too', () => {
    // GUEST_ECN needs GUEST_TSO4, which needs GUEST_CSUM
    expect(withPrerequisites(bits(9, 7, 15))).toBe(bits(15));
    expect(withPrerequisites(bits(13, 12, 61))).toBe(0n);
  });

  it('a control queue in between stands in for the device’s', () => {
    expect(withPrerequisites(bits(22, 21), bits(17))).toBe(bits(22, 21));
  });

  it('what is left breaks no rule, is no more than there was, and is as much as can be', () => {
    fc.assert(
      fc.property(rng, (features) => {
        const left = withPrerequisites(features);
        expect(brokenDependencies(left)).toEqual([]);
        expect(left & ~features).toBe(0n);
        for (const { feature } of FEATURE_DEPENDENCIES) {
          if ((features & feature) !== 0n && (left & feature) === 0n) expect(brokenDependencies(left | feature)).not.toEqual([]);
        }
      }),
    );
  });
});

describe('the device side', () => {
  it('offers no feature whose prerequisite it does not offer', () => {
    expect(brokenDependencies(DEVICE_FEATURES)).toEqual([]);
    expect(brokenDependencies(DEVICE_FEATURES | DEVICE_SEGMENTATION_FEATURES)).toEqual([]);
    expect(brokenDependencies(OFFLOAD_FEATURES)).toEqual([]);
  });

  it('refuses packed rings without VERSION_1, by their names', () => {
    expect(() => takeAccepted(bits(34, 15))).toThrow('features 0x400008000: RING_PACKED was accepted without VERSION_1');
    expect(takeAccepted(bits(34, 32))).toBe(bits(34, 32));
  });

  it('takes features for absent where a real driver is known to accept them without their prerequisite', () => {
    // DPDK: LRO without checksums; QEMU: MQ and GUEST_ANNOUNCE without CTRL_VQ
    expect(takeAccepted(bits(7, 8, 32))).toBe(bits(32));
    expect(takeAccepted(bits(22, 21, 32))).toBe(bits(32));
    expect(takeAccepted(bits(22, 21, 32), bits(17))).toBe(bits(22, 21, 32));
    for (const { brokenBy, name } of FEATURE_DEPENDENCIES) expect(brokenBy === undefined).toBe(name === 'RING_PACKED');
  });
});
