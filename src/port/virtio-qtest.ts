/**
 * net_virtio_qtest: the virtio-net driver over a device inside an unmodified QEMU, on the host, without a guest.
 *
 *     --vdev=net_virtio_qtest0,qemu=auto                              a QEMU of our own (and netdev=[...])
 *     --vdev=net_virtio_qtest0,qtest=/tmp/q.sock,memory=/dev/shm/m    one that somebody runs, our rings in its RAM
 *     --vdev=net_virtio_qtest0,qtest=/tmp/q.sock,ivshmem=/dev/shm/m   the same, our rings in the memory of its ivshmem device
 * @module
 */
import type { BackendEvents, VirtioBackend } from '../backend/backend.ts';
import { TransportBackend } from '../backend/transport-backend.ts';
import { randomMac } from '../net/mac-address.ts';
import { parsePciAddress } from '../pci/address.ts';
import type { QtestTarget } from '../pci/qtest/open-transport.ts';
import { canHaveMsix } from '../pci/qtest/qemu.ts';
import { VirtioError } from '../system/error.ts';
import type { PortContext } from './context.ts';
import { readDevargs, type Devargs, type DevargsReader } from './devargs.ts';
import type { PortDriver } from './drivers.ts';
import type { MemoryDemand } from './memory-demand.ts';
import { VirtioPort } from './virtio-port.ts';

const KEYS_OF_SOCKET = ['memory', 'ivshmem'] as const;
const KEYS_OF_OWN_QEMU = ['netdev', 'device', 'machine', 'qmp'] as const;
const KEYS = ['qtest', 'qemu', ...KEYS_OF_SOCKET, ...KEYS_OF_OWN_QEMU, 'queues', 'irq', 'addr', 'mac', 'mrg_rxbuf', 'speed'] as const;
const PROGRAM = 'qemu-system-x86_64';
/** Queue pairs of one port, as virtio_user has them. */
const QUEUE_PAIR_LIMIT = 8;
const DEFAULT_SLOT = 4;
/** Slot 0 is the host bridge, 1 and 31 belong to the chip sets. */
const FIRST_SLOT = 2;
const LAST_SLOT = 30;

function invalid(name: string, text: string): VirtioError {
  return new VirtioError(`${name}: ${text}`, { code: 'EINVAL' });
}

/** Refuses keys that have no meaning beside another. */
function refuseKeys(args: DevargsReader, keys: readonly string[], reason: string): void {
  const key = keys.find((candidate) => args.has(candidate));
  if (key !== undefined) throw invalid(args.name, `${key}= ${reason}`);
}

/** A value that may have commas stands in brackets. */
function unbracketed(text: string | undefined): string | undefined {
  return text?.startsWith('[') === true ? text.slice(1, -1) : text;
}

/** @returns which of the two there is, and its file; undefined for a QEMU of our own */
function memoryOf(args: DevargsReader): { readonly kind: 'memory' | 'ivshmem'; readonly path: string } | undefined {
  const { name } = args;
  if (args.has('qemu') === args.has('qtest')) {
    throw invalid(name, 'give either qemu=auto, or the socket of a QEMU that runs: qtest=PATH,memory=FILE');
  }
  if (args.has('qemu')) {
    refuseKeys(args, KEYS_OF_SOCKET, 'is for a QEMU that runs already (qtest=); qemu=auto has the memory from here');
    return undefined;
  }
  refuseKeys(args, KEYS_OF_OWN_QEMU, 'is for qemu=auto; a QEMU that runs already has been told');
  if (args.has('memory') === args.has('ivshmem')) {
    throw invalid(
      name,
      "give the file of QEMU's memory, memory=FILE (-object memory-backend-file,mem-path=FILE,share=on), or that of its ivshmem device, ivshmem=FILE",
    );
  }
  return args.has('memory') ? { kind: 'memory', path: args.required('memory') } : { kind: 'ivshmem', path: args.required('ivshmem') };
}

/** What the arena has to be like for this device. @throws VirtioError EINVAL */
function memory(devargs: Devargs): MemoryDemand {
  const file = memoryOf(readDevargs(devargs, KEYS));
  // a huge page would have to lie in the guest where it lies in the arena, and V8 chooses the arena's base
  return file === undefined ? { pageSize: 4096 } : { publishedPath: file.path };
}

/** `4`, `0x4`, `00:04.0`, `0000:01:00.0`. */
function addressOf(args: DevargsReader): string | undefined {
  const text = args.string('addr');
  if (text === undefined) return undefined;
  const slot = /^(?:0x[0-9a-f]{1,2}|\d{1,2})$/i.test(text) ? Number(text) : undefined;
  const address = slot === undefined ? parsePciAddress(text) : parsePciAddress(`00:${slot.toString(16)}.0`);
  if (address === undefined) throw invalid(args.name, `addr=${text}: expected a slot (0x4) or an address (0000:01:00.0)`);
  return address;
}

function targetOf(context: PortContext, args: DevargsReader, address: string | undefined, queuePairs: number): QtestTarget {
  const { name } = args;
  const file = memoryOf(args);
  if (file !== undefined) {
    if (!context.arena.isPublishedIn(file.path)) {
      throw invalid(
        name,
        `${file.kind}=${file.path} is not where the packets of this process are; name it when the process starts (--vdev), and the same for every device`,
      );
    }
    return { kind: 'socket', path: args.required('qtest'), memory: file.kind };
  }
  const program = args.required('qemu');
  const slot = address === undefined ? DEFAULT_SLOT : Number.parseInt(/^0000:00:(..)\.0$/.exec(address)?.[1] ?? '0', 16);
  if (slot < FIRST_SLOT || slot > LAST_SLOT) {
    throw invalid(name, `addr=${args.required('addr')}: with qemu=auto a slot from 0x2 to 0x1e`);
  }
  return {
    kind: 'start',
    options: {
      name,
      arena: context.arena,
      program: program === 'auto' ? PROGRAM : program,
      chipSet: args.choice('machine', ['q35', 'pc'], 'q35'),
      netdev: netdevOf(args),
      device: unbracketed(args.string('device')),
      queuePairs,
      mac: args.mac('mac') ?? randomMac(),
      slot,
      monitor: args.string('qmp'),
    },
  };
}

function netdevOf(args: DevargsReader): string {
  return unbracketed(args.string('netdev')) ?? 'user';
}

async function create(context: PortContext, id: number, devargs: Devargs): Promise<VirtioPort> {
  const args = readDevargs(devargs, KEYS);
  const { name } = devargs;
  const { arena, log, gracePeriod } = context;
  const address = addressOf(args);
  const own = args.has('qemu');
  const queuePairs = args.unsigned('queues', { min: 1, max: QUEUE_PAIR_LIMIT, default: 1 });
  const target = targetOf(context, args, address, queuePairs);
  const msix = canHaveMsix(netdevOf(args));
  // of somebody's QEMU it is not known what is behind its device
  const mode = args.choice('irq', ['msix', 'intx'], own && msix ? 'msix' : 'intx');
  if (mode === 'msix' && !msix) {
    throw new VirtioError(`${name}: irq=msix with netdev=[vhost-user,...]: QEMU 7.2 dies of it without KVM; leave irq= out`, {
      code: 'EOPNOTSUPP',
    });
  }
  const mac = args.mac('mac');
  return VirtioPort.open(context, {
    id,
    name,
    devargs: devargs.text,
    driverName: 'net_virtio',
    // of a device that has none; it has one as a rule
    mac: mac ?? randomMac(),
    queuePairs: args.has('queues') ? queuePairs : undefined,
    queueSize: undefined,
    mergeable: args.flag('mrg_rxbuf', true),
    // no QEMU offers it
    inOrder: true,
    packed: true,
    controlQueue: true,
    speed: args.unsigned('speed', { min: 0, max: 0xffff_ffff, default: 0 }),
    makeBackend: (events: BackendEvents): VirtioBackend =>
      new TransportBackend({
        arena,
        peer: name,
        openTransport: async () => (await import('../pci/qtest/open-transport.ts')).openQtestTransport(arena, target, address, mode),
        returns: false,
        queueSize: undefined,
        mac,
        events,
        log,
        gracePeriod,
      }),
  });
}

export const virtioQtest: PortDriver = {
  name: 'net_virtio_qtest',
  aliases: [],
  serves: false,
  agreesOnQueues: true,
  memory,
  create,
};
