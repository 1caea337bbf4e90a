/**
 * `dpdk-ts/backend`: what a virtqueue's other side is reached by; vhost-user, both ends.
 * @module
 */
export type { BackendEvents, DeviceOffer, DeviceStart, VirtioBackend } from './backend.ts';
export { VhostUserDevice, type VhostUserDeviceOptions } from './vhost-user/device.ts';
export { VhostUserFrontEnd, type VhostUserFrontEndOptions } from './vhost-user/front-end.ts';
export * from './virtio-features.ts';
