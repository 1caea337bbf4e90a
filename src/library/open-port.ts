/**
 * Opening ports by driver and keys, or by device arguments as `--vdev` takes them.
 * @module
 */
import { parseDevargs, type Devargs } from '../port/devargs.ts';
import { createPort, memoryDemand, requireDriver } from '../port/drivers.ts';
import type { MemoryDemand } from '../port/memory-demand.ts';
import type { Port } from '../port/port.ts';
import { VirtioError } from '../system/error.ts';
import { defaultEnvironment, Environment, openEnvironment, type EnvironmentOptions } from './environment.ts';
import { rxOffloadBits, txOffloadBits, type RxOffload, type TxOffload } from './offloads.ts';
import { PacketPort } from './packet-port.ts';

/** What every driver takes. */
export interface OpenPortOptions {
  /**
   * The environment to open the port in, or options for one of its own, which closes with the port. Default: one that all
   * ports of the process share.
   */
  readonly environment?: Environment | EnvironmentOptions | undefined;
  /** Queue pairs. Default 1. With virtio_user and net_vhost the other side must offer as many. */
  readonly queues?: number | undefined;
  /**
   * What the device may leave undone on packets that it hands over: `tcp_cksum`, `udp_cksum`, `tcp_lro` (several packets of a stream
   * as one of up to 64 KB), `vlan_strip`; also `vlan_filter` and `rss_hash` (`packet.hash`). Default: nothing.
   */
  readonly rxOffloads?: readonly RxOffload[] | undefined;
  /**
   * What is left to the device on packets that are sent: `tcp_cksum`, `udp_cksum`, `tcp_tso`, `udp_tso`, `vlan_insert`. Default: nothing;
   * work that a packet carries is then done in software.
   */
  readonly txOffloads?: readonly TxOffload[] | undefined;
}

/** Keys of virtio_user: the driver side, over a vhost-user socket. The names are DPDK's. */
export interface VirtioUserOptions extends OpenPortOptions {
  /** Path of the socket, `/dev/vhost-net`, or `/dev/vhost-vdpa-N`. */
  readonly path: string;
  /** Name of the tap behind `/dev/vhost-net`; by default tap0, tap1 ... */
  readonly iface?: string | undefined;
  /** Listen on the path instead of connecting to it. */
  readonly server?: boolean | undefined;
  /** `AA:BB:CC:DD:EE:FF`; a random address by default. */
  readonly mac?: string | undefined;
  /** Descriptors of each ring: a power of two. Default 256. */
  readonly queue_size?: number | undefined;
  /** Packets may lie in several receive buffers. Default true. */
  readonly mrg_rxbuf?: boolean | undefined;
  /** Offer VIRTIO_F_IN_ORDER. Default true. */
  readonly in_order?: boolean | undefined;
  /** Mbit/s to report. Default 0: unknown. */
  readonly speed?: number | undefined;
  /** Accept promiscuous and all-multicast settings. Default false. */
  readonly cq?: boolean | undefined;
}

/** Keys of net_vhost: the device side of a vhost-user socket. */
export interface VhostOptions extends OpenPortOptions {
  /** Path of the socket. */
  readonly iface: string;
  /** Connect to the path instead of listening on it. */
  readonly client?: boolean | undefined;
  /** Offer segmentation to the driver: it may then send packets of up to 64 KB. Default false. */
  readonly tso?: boolean | undefined;
}

/** Keys of net_null: receives packets out of nothing and sends into nothing. */
export interface NullOptions extends OpenPortOptions {
  /** Bytes of a received packet, 14..9000. Default 64. */
  readonly size?: number | undefined;
  /** Copy every packet's bytes. Default false. */
  readonly copy?: boolean | undefined;
  /** Receive nothing. Default false. */
  readonly 'no-rx'?: boolean | undefined;
}

/** Keys of net_af_packet: an interface of the kernel. */
export interface AfPacketOptions extends OpenPortOptions {
  /** Name of the interface. */
  readonly iface: string;
  /** Queue pairs that the port can have; `queues` of them are used. Default 1. */
  readonly qpairs?: number | undefined;
  /** Bytes of a block of the rings: whole pages. Default: one page. */
  readonly blocksz?: number | undefined;
  /** Bytes of a frame, 94 of them not the packet's behind its Ethernet header: a multiple of 16. Default 2048. */
  readonly framesz?: number | undefined;
  /** Frames of a ring. Default 512. */
  readonly framecnt?: number | undefined;
  /** Send past the interface's queueing discipline. Default true. */
  readonly qdisc_bypass?: boolean | undefined;
}

/** Keys of net_af_xdp: an interface of the kernel, past its stack. */
export interface AfXdpOptions extends OpenPortOptions {
  /** Name of the interface. */
  readonly iface: string;
  /** The interface's queue that is the port's first. Default 0. */
  readonly start_queue?: number | undefined;
  /** Queues of the interface that the port can have; `queues` of them are used. Default 1. */
  readonly queue_count?: number | undefined;
  /** One area of packets for all queues. Default false. */
  readonly shared_umem?: boolean | undefined;
  /** Let the kernel copy packets even where the driver need not. Default false. */
  readonly force_copy?: boolean | undefined;
  /** Packets of a poll, where they are received within the port's calls; 0: in interrupts. Default 0. */
  readonly busy_budget?: number | undefined;
}

/** Keys of net_pcap: capture files, or interfaces in their place. Those that may be several are a queue each. */
export interface PcapOptions extends OpenPortOptions {
  /** Files to receive from: pcap or pcapng. */
  readonly rx_pcap?: string | readonly string[] | undefined;
  /** Files to send to, made anew with every start: pcapng where the name ends so, else pcap. */
  readonly tx_pcap?: string | readonly string[] | undefined;
  /** Receive the packets of the files over and over. Default false. */
  readonly infinite_rx?: boolean | undefined;
  /** An interface for both ways. */
  readonly iface?: string | undefined;
  /** Interfaces to receive from. */
  readonly rx_iface?: string | readonly string[] | undefined;
  /** Interfaces to send to. */
  readonly tx_iface?: string | readonly string[] | undefined;
  /** The address is the interface's. Default false. */
  readonly phy_mac?: boolean | undefined;
}

/** Keys of net_tap: an interface of the kernel that the port makes. */
export interface TapOptions extends OpenPortOptions {
  /** Name of the interface, at most 15 bytes. Default: dtap0, dtap1 ... */
  readonly iface?: string | undefined;
  /** `AA:BB:CC:DD:EE:FF`, or `fixed`: 02:64:74:61:70 and the number of the device. Default: what the kernel chooses. */
  readonly mac?: string | undefined;
  /** The interface stays when the port is closed. Default false. */
  readonly persist?: boolean | undefined;
}

/** Keys of a PCI device, a virtio network card bound to vfio-pci or uio_pci_generic, which is named by its address. */
export interface PciOptions extends OpenPortOptions {
  /** Mbit/s to report where the card does not tell. Default 0: unknown. */
  readonly speed?: number | undefined;
  /** Packets may lie in several receive buffers. Default true. */
  readonly mrg_rxbuf?: boolean | undefined;
  /** Accept VIRTIO_F_IN_ORDER. Default true. */
  readonly in_order?: boolean | undefined;
}

/** Keys of net_virtio_qtest: a virtio-net device inside a QEMU, driven from outside. Give `qemu`, or `qtest` with `memory` or `ivshmem`. */
export interface QtestOptions extends OpenPortOptions {
  /** `auto`, or a program: starts a QEMU that ends with the port. */
  readonly qemu?: string | undefined;
  /** With `qemu`: QEMU's netdev without its id: `tap,ifname=tap0`. Default `user`. */
  readonly netdev?: string | undefined;
  /** With `qemu`: more properties of virtio-net-pci: `host_mtu=1400`. */
  readonly device?: string | undefined;
  /** With `qemu`: the machine. Default `q35`. */
  readonly machine?: 'q35' | 'pc' | undefined;
  /** With `qemu`: where its monitor (QMP) listens. Default: nowhere. */
  readonly qmp?: string | undefined;
  /** Path of the qtest socket of a QEMU that runs. */
  readonly qtest?: string | undefined;
  /** With `qtest`: the file that its RAM is. */
  readonly memory?: string | undefined;
  /** With `qtest`: the file that the memory of its ivshmem device is. */
  readonly ivshmem?: string | undefined;
  /** How the device interrupts. Default: `msix` where it works, with `qemu`; else `intx`. */
  readonly irq?: 'msix' | 'intx' | undefined;
  /** Slot (`0x4`) or address (`0000:01:00.0`) of the device. Default: the only one. */
  readonly addr?: string | undefined;
  /** `AA:BB:CC:DD:EE:FF`; the device's own by default. */
  readonly mac?: string | undefined;
  /** Packets may lie in several receive buffers. Default true. */
  readonly mrg_rxbuf?: boolean | undefined;
  /** Mbit/s to report where the device does not tell. Default 0: unknown. */
  readonly speed?: number | undefined;
}

/** Options by driver. */
export interface DriverOptions {
  readonly virtio_user: VirtioUserOptions;
  readonly net_virtio_user: VirtioUserOptions;
  readonly net_vhost: VhostOptions;
  readonly eth_vhost: VhostOptions;
  readonly net_null: NullOptions;
  readonly eth_null: NullOptions;
  readonly net_ring: OpenPortOptions;
  readonly eth_ring: OpenPortOptions;
  readonly net_pcap: PcapOptions;
  readonly eth_pcap: PcapOptions;
  readonly net_tap: TapOptions;
  readonly eth_tap: TapOptions;
  readonly net_af_packet: AfPacketOptions;
  readonly eth_af_packet: AfPacketOptions;
  readonly net_af_xdp: AfXdpOptions;
  readonly eth_af_xdp: AfXdpOptions;
  readonly net_virtio_qtest: QtestOptions;
}

type Value = string | number | boolean | readonly string[] | undefined;

function valueText(value: string | number | boolean): string {
  return typeof value === 'boolean' ? (value ? '1' : '0') : String(value);
}

function isTexts(value: Value): value is readonly string[] {
  return Array.isArray(value) && value.every((text) => typeof text === 'string');
}

function keysOf(options: OpenPortOptions): readonly [string, string | number | boolean][] {
  const { environment: _environment, queues: _queues, rxOffloads: _rx, txOffloads: _tx, ...keys } = options;
  return Object.entries(keys as Readonly<Record<string, Value>>).flatMap(([key, value]): [string, string | number | boolean][] => {
    if (value === undefined) return [];
    if (isTexts(value)) return value.map((text) => [key, text]);
    if (!['string', 'number', 'boolean'].includes(typeof value)) throw new TypeError(`${key}: use a text, a number or true or false`);
    return [[key, value]];
  });
}

/** The device that was asked for: what the text says and the options together. */
function describe(device: string, options: OpenPortOptions, queueKey: boolean): Devargs {
  const given = parseDevargs(device);
  const { queues } = options;
  const keys = [...keysOf(options), ...(queueKey && queues !== undefined ? [['queues', queues] as const] : [])];
  const added = keys.map(([key, value]) => ({ key, value: valueText(value) }));
  const twice = added.find(({ key }) => given.args.some((argument) => argument.key === key));
  if (twice !== undefined) throw new VirtioError(`${given.name}: ${twice.key} is given twice`, { code: 'EINVAL' });
  const args = [...given.args, ...added];
  return { name: given.name, args, text: args.map(({ key, value }) => (value === undefined ? key : `${key}=${value}`)).join(',') };
}

async function configure(environment: Environment, port: Port, queues: number, options: OpenPortOptions): Promise<void> {
  const rxOffloads = rxOffloadBits(port.name, options.rxOffloads, port.info.rxOffloadCapabilities);
  const txOffloads = txOffloadBits(port.name, options.txOffloads, port.info.txOffloadCapabilities);
  await port.configure({ rxQueues: queues, txQueues: queues, rxOffloads, txOffloads });
  for (let queue = 0; queue < queues; queue++) {
    await port.setupRxQueue(queue, { descriptors: 0, pool: environment.arena.pool });
    await port.setupTxQueue(queue, { descriptors: 0 });
  }
}

/**
 * Opens a port, stopped, its queues set up.
 *
 * ```ts
 * await using port = await openPort('virtio_user', { path: '/tmp/vhost.sock' });
 * await using other = await openPort('net_vhost0,iface=/tmp/s.sock,queues=2');
 * await using card = await openPort('0000:00:10.0', { queues: 4 });
 * ```
 * @param device name of a driver, with a number at its end or without; the address of a PCI device; or device arguments as `--vdev` and
 * `-a` of testpmd take them
 * @param options keys of the device as in its arguments, and what every driver takes
 * @throws VirtioError ENODEV for an unknown driver, EINVAL for keys and values that it does not accept, ENOENT or
 * ECONNREFUSED when nobody listens on the socket, EADDRINUSE when somebody else does, ENOMEM
 */
export function openPort<Driver extends keyof DriverOptions>(
  device: Driver | `${Driver}${number}`,
  options: DriverOptions[Driver],
): Promise<PacketPort>;
export function openPort(address: `${string}:${string}.${number}`, options?: PciOptions): Promise<PacketPort>;
export function openPort(device: string, options?: OpenPortOptions): Promise<PacketPort>;
export async function openPort(device: string, options: OpenPortOptions = {}): Promise<PacketPort> {
  const driver = requireDriver(parseDevargs(device).name);
  const devargs = describe(device, options, driver.agreesOnQueues);
  const { queues } = options;
  if (queues !== undefined && (!Number.isInteger(queues) || queues < 1)) throw new RangeError(`queues ${String(queues)}: use 1 or more`);
  const [environment, own] = environmentOf(options, memoryDemand([devargs]));
  let id: number | undefined;
  try {
    const place = environment.beginPort(devargs.name);
    id = place.id;
    const ethdev = await createPort(environment.context, id, { ...devargs, name: place.name });
    try {
      await configure(environment, ethdev, driver.agreesOnQueues ? ethdev.info.maxRxQueues : (queues ?? 1), options);
    } catch (error) {
      await ethdev.close();
      throw error;
    }
    const port = new PacketPort(environment, ethdev);
    environment.addPort(id, port);
    return port;
  } catch (error) {
    if (id !== undefined) await environment.abandonPort(id);
    if (own) await environment.close();
    throw error;
  }
}

/** The environment to use, and whether it is the port's own: one whose memory is to be of a kind has its own where none is given. */
function environmentOf({ environment }: OpenPortOptions, { publishedPath, pageSize }: MemoryDemand): readonly [Environment, boolean] {
  if (environment instanceof Environment) return [environment, false];
  const special = publishedPath !== undefined || pageSize !== undefined;
  if (environment === undefined && !special) return [defaultEnvironment(), false];
  const kind = { ...(publishedPath === undefined ? {} : { memoryFile: publishedPath }), ...(pageSize === undefined ? {} : { pageSize }) };
  return [openEnvironment({ ...kind, ...environment }, true), true];
}
