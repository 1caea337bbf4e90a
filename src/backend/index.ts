/**
 * `dpdk-ts/backend`: what a virtqueue's other side is reached by: the kernel's vhost-net and vhost-vdpa; vhost-user, both ends.
 * @module
 */
export type { BackendEvents, DeviceOffer, DeviceStart, VirtioBackend } from './backend.ts';
export { VhostNet, type VhostNetOptions } from './vhost-net/vhost-net.ts';
export { VhostUserDevice, type VhostUserDeviceOptions } from './vhost-user/device.ts';
export { VhostUserFrontEnd, type VhostUserFrontEndOptions } from './vhost-user/front-end.ts';
export { VhostVdpa, type VhostVdpaOptions } from './vhost-vdpa/vhost-vdpa.ts';
export * from './virtio-features.ts';
