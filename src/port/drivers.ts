/**
 * The list of port drivers. A new one is a file beside this and an entry here; one with a data path of its own also gets
 * a row in queue-functions.ts.
 * @module
 */
import { VirtioError } from '../system/error.ts';
import type { PortContext } from './context.ts';
import { nearestName, parseDevargs, type Devargs } from './devargs.ts';
import { nullDriver } from './null.ts';
import type { Port } from './port.ts';
import { ringDriver } from './ring.ts';
import { vhost } from './vhost.ts';
import { virtioUser } from './virtio-user.ts';

export interface PortDriver {
  /** Device names are this and a number: `net_null0`. */
  readonly name: string;
  readonly aliases: readonly string[];
  /** Others connect to it: it is made before ports that connect. */
  readonly serves: boolean;
  /** @throws VirtioError for arguments it does not accept, or when the device is not there */
  readonly create: (context: PortContext, id: number, devargs: Devargs) => Promise<Port>;
}

const drivers: readonly PortDriver[] = [virtioUser, vhost, nullDriver, ringDriver];

/** Every name that a device may start with. */
export const driverNames: readonly string[] = drivers.flatMap(({ name, aliases }) => [name, ...aliases]);

/** The driver of a device by its name, the number at its end aside. */
export function findDriver(deviceName: string): PortDriver | undefined {
  const wanted = deviceName.replace(/\d+$/, '');
  return drivers.find(({ name, aliases }) => name === wanted || aliases.includes(wanted));
}

/**
 * Makes a port from device arguments: `virtio_user0,path=/tmp/sock,queues=2`.
 * @throws VirtioError ENODEV for an unknown driver, EINVAL for arguments, or what keeps the device from being there
 */
export async function createPort(context: PortContext, id: number, text: string): Promise<Port> {
  const devargs = parseDevargs(text);
  const driver = findDriver(devargs.name);
  if (driver === undefined) {
    const near = nearestName(devargs.name.replace(/\d+$/, ''), driverNames);
    throw new VirtioError(
      `no driver for device "${devargs.name}"; ${near === undefined ? '' : `did you mean ${near}? `}known: ${drivers.map(({ name }) => name).join(', ')}`,
      { code: 'ENODEV' },
    );
  }
  return driver.create(context, id, devargs);
}
