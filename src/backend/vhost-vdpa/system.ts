/**
 * The system calls of the vhost-vdpa backend.
 * @module
 */
import { realDeviceFiles, type DeviceFiles } from '../../system/device-files.ts';

export type VdpaSystem = Pick<DeviceFiles, 'open' | 'close' | 'exists' | 'ioctl' | 'write' | 'watch' | 'lockedBytesLimit'>;

export const realVdpaSystem: VdpaSystem = realDeviceFiles;
