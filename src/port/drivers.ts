/**
 * The list of port drivers. A new one is a file beside this and an entry here; one with a data path of its own also gets
 * a row in queue-functions.ts.
 * @module
 */
import { VirtioError } from '../system/error.ts';
import type { PortContext } from './context.ts';
import { afPacket } from './af-packet.ts';
import { afXdp } from './af-xdp.ts';
import { nearestName, parseDevargs, type Devargs } from './devargs.ts';
import { BasePort } from './base-port.ts';
import { nullDriver } from './null.ts';
import { pcapDriver } from './pcap.ts';
import type { Port } from './port.ts';
import { ringDriver } from './ring.ts';
import { tapDriver } from './tap.ts';
import { vhost } from './vhost.ts';
import { parsePciAddress } from '../pci/address.ts';
import { virtioPci } from './virtio-pci.ts';
import { joinDemands, type MemoryDemand } from './memory-demand.ts';
import { virtioQtest } from './virtio-qtest.ts';
import { virtioUser } from './virtio-user.ts';

export interface PortDriver {
  /** Device names are this and a number: `net_null0`. */
  readonly name: string;
  readonly aliases: readonly string[];
  /** Others connect to it: it is made before ports that connect. */
  readonly serves: boolean;
  /** It takes `queues=`: the number of queue pairs is agreed with the other side. */
  readonly agreesOnQueues: boolean;
  /** What such a device needs of the memory; absent: nothing in particular. @throws VirtioError EINVAL for its arguments */
  readonly memory?: (devargs: Devargs) => MemoryDemand;
  /** @throws VirtioError for arguments it does not accept, or when the device is not there */
  readonly create: (context: PortContext, id: number, devargs: Devargs) => Promise<Port>;
}

const drivers: readonly PortDriver[] = [virtioUser, vhost, nullDriver, ringDriver, pcapDriver, tapDriver, afPacket, afXdp, virtioQtest];

/** Every name that a virtual device may start with. */
export const driverNames: readonly string[] = drivers.flatMap(({ name, aliases }) => [name, ...aliases]);

/** The driver of a device by its name, the number at its end aside; that of a PCI device by its address. */
export function findDriver(deviceName: string): PortDriver | undefined {
  if (parsePciAddress(deviceName) !== undefined) return virtioPci;
  const wanted = deviceName.replace(/\d+$/, '');
  return drivers.find(({ name, aliases }) => name === wanted || aliases.includes(wanted));
}

/**
 * Makes a port from device arguments, as text (`virtio_user0,path=/tmp/sock,queues=2`) or parsed.
 * @throws VirtioError ENODEV for an unknown driver, EINVAL for arguments, or what keeps the device from being there
 */
export async function createPort(context: PortContext, id: number, device: string | Devargs): Promise<Port> {
  const devargs = typeof device === 'string' ? parseDevargs(device) : device;
  return requireDriver(devargs.name).create(context, id, devargs);
}

/** The driver of a device. @throws VirtioError ENODEV with the names that there are */
export function requireDriver(deviceName: string): PortDriver {
  const driver = findDriver(deviceName);
  if (driver !== undefined) return driver;
  const near = nearestName(deviceName.replace(/\d+$/, ''), driverNames);
  throw new VirtioError(
    `no driver for device "${deviceName}"; ${near === undefined ? '' : `did you mean ${near}? `}known: ${drivers.map(({ name }) => name).join(', ')}; a PCI device is named by its address, as in 0000:00:04.0`,
    { code: 'ENODEV' },
  );
}

/**
 * What all of these devices need of the memory that they share.
 * @throws VirtioError EINVAL when it cannot be had at once
 */
export function memoryDemand(devices: readonly Devargs[]): MemoryDemand {
  return joinDemands(
    devices.map((devargs) => {
      try {
        return findDriver(devargs.name)?.memory?.(devargs) ?? {};
      } catch {
        // the device's own failure, when it is made; the others go on
        return {};
      }
    }),
  );
}

export interface FailedPort {
  readonly text: string;
  readonly error: Error;
}

/**
 * Makes several ports, numbered from 0 in the order given. Those that others connect to are made first, so that both
 * ends of a socket may be ports of one process, in either order.
 */
export async function createPorts(
  context: PortContext,
  texts: readonly string[],
): Promise<{ readonly ports: readonly Port[]; readonly failed: readonly FailedPort[] }> {
  const made = new Map<number, Port>();
  const failed: FailedPort[] = [];
  const order = [...texts.entries()].sort(([, a], [, b]) => Number(servesFirst(b)) - Number(servesFirst(a)));
  for (const [index, text] of order) {
    try {
      made.set(index, await createPort(context, index, text));
    } catch (error) {
      failed.push({ text, error: error instanceof Error ? error : new Error(String(error)) });
    }
  }
  const ports = [...made.entries()].sort(([a], [b]) => a - b).map(([, port]) => port);
  for (const [id, port] of ports.entries()) if (port instanceof BasePort) port.id = id;
  return { ports, failed };
}

function servesFirst(text: string): boolean {
  return findDriver(text.split(',', 1)[0] ?? '')?.serves ?? false;
}
