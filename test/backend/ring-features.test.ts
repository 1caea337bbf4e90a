import { expect, test } from 'vitest';
import { drivenFeatures, RING_FEATURES, ringBits } from '../../src/backend/ring-features.ts';
import { VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC, VIRTIO_F_RING_PACKED, VIRTIO_F_VERSION_1 } from '../../src/backend/virtio-features.ts';
import { QUEUE_EVENT_IDX, QUEUE_INDIRECT, QUEUE_PACKED } from '../../src/ring/queue-layout.ts';

test.each([
  ['split', 0n, undefined, true],
  ['split', 0n, true, true],
  // QEMU's card leaves its event behind: docs/architecture.md
  ['packed', VIRTIO_F_RING_PACKED, undefined, false],
  ['packed', VIRTIO_F_RING_PACKED, false, false],
  ['packed', VIRTIO_F_RING_PACKED, true, true],
])('a driver takes events on %s rings (%i) from a device whose packedEvents is %s: %s', (_, format, packedEvents, taken) => {
  const both = RING_FEATURES | VIRTIO_F_VERSION_1 | format;
  const driven = drivenFeatures(both, packedEvents);
  expect(driven).toBe(taken ? both : both & ~VIRTIO_F_EVENT_IDX);
  // virtio 1.2, 6: bits 28, 29 and 34
  expect(VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VIRTIO_F_RING_PACKED).toBe((1n << 28n) | (1n << 29n) | (1n << 34n));
  expect(ringBits(driven)).toBe(QUEUE_INDIRECT | (taken ? QUEUE_EVENT_IDX : 0) | (format === 0n ? 0 : QUEUE_PACKED));
});
