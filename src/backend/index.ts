/**
 * `dpdk-ts/backend`: what a virtqueue's other side is reached by: the kernel's vhost-net and vhost-vdpa; vhost-user, both ends; any
 * virtio device that is reached by a transport.
 * @module
 */
export type { BackendEvents, DeviceLink, DeviceOffer, DeviceStart, RssLimits, VirtioBackend } from './backend.ts';
export { TransportBackend, type TransportBackendOptions } from './transport-backend.ts';
export { VhostNet, type VhostNetOptions } from './vhost-net/vhost-net.ts';
export { VhostUserDevice, type VhostUserDeviceOptions } from './vhost-user/device.ts';
export { VhostUserFrontEnd, type VhostUserFrontEndOptions } from './vhost-user/front-end.ts';
export { VhostVdpa, type VhostVdpaOptions } from './vhost-vdpa/vhost-vdpa.ts';
export * from './virtio-features.ts';
export type { RingPlace, TransportInterrupts, VirtioTransport } from './virtio-transport.ts';
