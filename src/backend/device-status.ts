/**
 * The steps of a virtio device's start up to the point where its rings are set up (virtio 1.2, 3.1.1), and the last one.
 * @module
 */
import { VirtioError } from '../system/error.ts';
import {
  VIRTIO_STATUS_ACKNOWLEDGE,
  VIRTIO_STATUS_DRIVER,
  VIRTIO_STATUS_DRIVER_OK,
  VIRTIO_STATUS_FAILED,
  VIRTIO_STATUS_FEATURES_OK,
  VIRTIO_STATUS_NEEDS_RESET,
} from './virtio-features.ts';
import type { VirtioTransport } from './virtio-transport.ts';

/** What a legacy device knows of features (virtio 1.2, 2.2.3). */
export const LEGACY_FEATURES = 0xffff_ffffn;
const DRIVER = VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER;

/** Resets the device and agrees on features with it. @throws VirtioError EPROTO when it refuses them, ETIMEDOUT when it does not reset */
export async function negotiate(transport: VirtioTransport, features: bigint): Promise<void> {
  await transport.reset();
  await transport.writeStatus(VIRTIO_STATUS_ACKNOWLEDGE);
  await transport.writeStatus(DRIVER);
  await transport.writeFeatures(features);
  // a legacy device is not asked (3.1.2)
  if (!transport.legacy) await setStatus(transport, DRIVER | VIRTIO_STATUS_FEATURES_OK, 'the device refused the features');
}

/** Lets the device begin. @throws VirtioError EPROTO when it does not */
export async function begin(transport: VirtioTransport): Promise<void> {
  const agreed = transport.legacy ? DRIVER : DRIVER | VIRTIO_STATUS_FEATURES_OK;
  await setStatus(transport, agreed | VIRTIO_STATUS_DRIVER_OK, 'the device did not start');
}

/** Sets a status and looks whether the device takes part in it. */
async function setStatus(transport: VirtioTransport, status: number, refusal: string): Promise<void> {
  await transport.writeStatus(status);
  const found = await transport.readStatus();
  if ((found & (status | VIRTIO_STATUS_NEEDS_RESET)) === status) return;
  // the driver has given up (3.1.1); whatever comes of that, the refusal is what is told
  await transport.writeStatus(found | VIRTIO_STATUS_FAILED).catch(() => undefined);
  throw new VirtioError(`${transport.name}: ${refusal} (status 0x${status.toString(16)} set, then read 0x${found.toString(16)})`, {
    code: 'EPROTO',
  });
}
