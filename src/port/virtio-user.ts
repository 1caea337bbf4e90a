/**
 * virtio_user: the virtio-net driver over a vhost-user socket, over the kernel's vhost-net and a tap, or over a vDPA device.
 * @module
 */
import { readFileSync, statSync } from 'node:fs';
import type { BackendEvents, VirtioBackend } from '../backend/backend.ts';
import { VhostUserFrontEnd } from '../backend/vhost-user/front-end.ts';
import { randomMac } from '../net/mac-address.ts';
import { VirtioError } from '../system/error.ts';
import { checkTapName } from '../system/tap.ts';
import type { PortContext } from './context.ts';
import { readDevargs, type Devargs } from './devargs.ts';
import type { PortDriver } from './drivers.ts';
import { VirtioPort } from './virtio-port.ts';

const KEYS = [
  'path',
  'mac',
  'cq',
  'queue_size',
  'queues',
  'iface',
  'server',
  'mrg_rxbuf',
  'in_order',
  'packed_vq',
  'speed',
  'vectorized',
] as const;
/** Queue pairs of one port (VIRTIO_MAX_VIRTQUEUE_PAIRS of DPDK). */
const QUEUE_PAIR_LIMIT = 8;

const VHOST_NET = '/dev/vhost-net';
/** Major 10, minor VHOST_NET_MINOR (linux/miscdevice.h). */
const VHOST_NET_DEVICE = (10 << 8) | 238;

const VHOST_VDPA = '/dev/vhost-vdpa';

/** Its major number is the kernel's choice (DPDK looks there too). */
function isVhostVdpa(rdev: number): boolean {
  const major = /^\s*(\d+) vhost-vdpa$/m.exec(readFileSync('/proc/devices', 'latin1'))?.[1];
  return major !== undefined && Number(major) === ((rdev >>> 8) & 0xfff);
}

/** The kind of device behind `path=`: what is there, or what DPDK would take a missing path for. */
function deviceKind(name: string, path: string, server: boolean): 'vhost-user' | 'vhost-net' | 'vhost-vdpa' {
  const status = statSync(path, { throwIfNoEntry: false });
  const rdev = status?.isCharacterDevice() === true ? status.rdev : undefined;
  const vhostNet = path === VHOST_NET || rdev === VHOST_NET_DEVICE;
  if (vhostNet || path.startsWith(VHOST_VDPA) || (rdev !== undefined && isVhostVdpa(rdev))) {
    if (server) throw new VirtioError(`${name}: server=1: ${path} is no socket; leave it out`, { code: 'EINVAL' });
    return vhostNet ? 'vhost-net' : 'vhost-vdpa';
  }
  if (status !== undefined && !status.isSocket() && !server) {
    throw new VirtioError(`${name}: unable to determine backend type for path ${path}: it is neither a socket nor a vhost device`, {
      code: 'EINVAL',
    });
  }
  return 'vhost-user';
}

async function create(context: PortContext, id: number, devargs: Devargs): Promise<VirtioPort> {
  const args = readDevargs(devargs, KEYS);
  const { name } = devargs;
  if (!args.has('path'))
    throw new VirtioError(`arg path is mandatory for virtio_user: --vdev=${name},path=/path/to/socket`, { code: 'EINVAL' });
  const path = args.required('path');
  const server = args.flag('server', false);
  const queuePairs = args.unsigned('queues', { min: 1, max: QUEUE_PAIR_LIMIT, default: 1 });
  const queueSize = args.unsigned('queue_size', { min: 2, max: 32768, default: 256 });
  const packed = args.flag('packed_vq', false);
  if (!packed && (queueSize & (queueSize - 1)) !== 0) {
    const text = `queue_size=${String(queueSize)}: a split ring needs a power of two (256, 512, 1024 ...); packed_vq=1 takes any size`;
    throw new VirtioError(`${name}: ${text}`, { code: 'EINVAL' });
  }
  const kind = deviceKind(name, path, server);
  const interfaceName = args.string('iface');
  if (interfaceName !== undefined && kind !== 'vhost-net') {
    throw new VirtioError(`${name}: iface=${interfaceName}: it names the tap of path=${VHOST_NET}; ${path} has none`, {
      code: 'EINVAL',
    });
  }
  if (interfaceName !== undefined) checkTapName(`${name}: iface`, interfaceName);
  const mac = args.mac('mac');
  const { arena, log, signal, gracePeriod } = context;
  let makeBackend = (events: BackendEvents): VirtioBackend => new VhostUserFrontEnd({ arena, path, server, events, log, signal });
  // the others are loaded with the first such port: most programs have none
  if (kind === 'vhost-net') {
    const { VhostNet } = await import('../backend/vhost-net/vhost-net.ts');
    makeBackend = (events) => new VhostNet({ arena, path, interfaceName, queuePairs, mac, events, log });
  } else if (kind === 'vhost-vdpa') {
    const { VhostVdpa } = await import('../backend/vhost-vdpa/vhost-vdpa.ts');
    makeBackend = (events) => new VhostVdpa({ arena, path, queueSize, mac, events, log, gracePeriod });
  }
  return VirtioPort.open(context, {
    id,
    name,
    devargs: devargs.text,
    driverName: 'net_virtio_user',
    mac: mac ?? randomMac(),
    queuePairs,
    queueSize,
    mergeable: args.flag('mrg_rxbuf', true),
    inOrder: args.flag('in_order', true),
    packed,
    vectorized: args.flag('vectorized', false),
    // several pairs bring a control queue with them (VIRTIO_NET_F_MQ needs it), as in DPDK
    controlQueue: args.flag('cq', false) || queuePairs > 1,
    speed: args.unsigned('speed', { min: 0, max: 0xffff_ffff, default: 0 }),
    makeBackend,
  });
}

export const virtioUser: PortDriver = { name: 'virtio_user', aliases: ['net_virtio_user'], serves: false, agreesOnQueues: true, create };
