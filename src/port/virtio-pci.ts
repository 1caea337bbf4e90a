/**
 * net_virtio: the virtio-net driver over a PCI device, named by its address.
 * @module
 */
import type { BackendEvents, VirtioBackend } from '../backend/backend.ts';
import { TransportBackend } from '../backend/transport-backend.ts';
import { randomMac } from '../net/mac-address.ts';
import { VirtioError } from '../system/error.ts';
import type { PortContext } from './context.ts';
import { readDevargs, type Devargs } from './devargs.ts';
import type { PortDriver } from './drivers.ts';
import { VirtioPort } from './virtio-port.ts';

const KEYS = ['vdpa', 'speed', 'vectorized', 'mrg_rxbuf', 'in_order', 'packed_vq'] as const;

/**
 * Whether `vdpa=1` asks to leave the device alone, for another driver to have.
 * @throws VirtioError EINVAL
 */
export function isLeftAlone(devargs: Devargs): boolean {
  return readDevargs(devargs, KEYS).flag('vdpa', false);
}

async function create(context: PortContext, id: number, devargs: Devargs): Promise<VirtioPort> {
  const args = readDevargs(devargs, KEYS);
  const { name } = devargs;
  const refused = (text: string): VirtioError => new VirtioError(`${name}: ${text}; leave it out`, { code: 'EOPNOTSUPP' });
  if (args.flag('vdpa', false)) throw refused('vdpa=1 leaves the device to another driver');
  const { arena, log, gracePeriod, iovaMode } = context;
  return VirtioPort.open(context, {
    id,
    name,
    devargs: devargs.text,
    bus: 'pci',
    driverName: 'net_virtio',
    // of a device that has none; it has one as a rule
    mac: randomMac(),
    queuePairs: undefined,
    queueSize: undefined,
    mergeable: args.flag('mrg_rxbuf', true),
    inOrder: args.flag('in_order', true),
    packed: args.flag('packed_vq', true),
    vectorized: args.flag('vectorized', false),
    controlQueue: true,
    speed: args.unsigned('speed', { min: 0, max: 0xffff_ffff, default: 0 }),
    makeBackend: (events: BackendEvents): VirtioBackend =>
      new TransportBackend({
        arena,
        peer: name,
        // loaded with the first such port: most programs have none
        openTransport: async () => (await import('../pci/open-transport.ts')).openPciTransport(arena, name, iovaMode),
        returns: false,
        queueSize: undefined,
        mac: undefined,
        events,
        log,
        gracePeriod,
      }),
  });
}

export const virtioPci: PortDriver = { name: 'net_virtio', aliases: [], serves: false, agreesOnQueues: false, create };
