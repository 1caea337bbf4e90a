/**
 * net_pcap: receives what a capture file holds, and sends into one; interfaces in their place are pcap-interfaces.ts's.
 *
 * A file a queue. Receive files are opened anew at every start of the port and read in large pieces, or, with infinite_rx,
 * taken into the arena as a whole and read over and over. Transmit files are made when the port is, begin anew with every
 * start, as in DPDK, and are written in large pieces too: what is in the buffer reaches the file when the port stops.
 * @module
 */
import { closeSync, fstatSync, ftruncateSync, readFileSync, readSync, writeSync } from 'node:fs';
import { MBUF_HEADROOM } from '../memory/mbuf-layout.ts';
import { CAPTURE_CUT, CAPTURE_READ_FAILED, LINK_TYPE_ETHERNET } from '../net/pcap-format.ts';
import type { MacAddress } from '../net/mac-address.ts';
import { captureHeader, captureProblem, captureRecord, readCapture } from '../net/pcap.ts';
import { FILE_BUFFER, FILE_END, FILE_ENDED, FILE_ERRNO, FILE_POSITION, FILE_REPEATS, FILE_SWAPPED } from '../ring/pcap-queue.kernel.ts';
import { Q_POOL } from '../ring/queue-layout.ts';
import { VirtioError } from '../system/error.ts';
import { errnoName, errnoText } from '../system/ffi.ts';
import { createCaptureFile, fileError, formatOf, openCaptureFile } from './capture-files.ts';
import type { PortContext } from './context.ts';
import { readDevargs, type Devargs, type DevargsReader } from './devargs.ts';
import type { PortDriver } from './drivers.ts';
import { JoinedPort, openInterfacePart, type PartQueue } from './pcap-interfaces.ts';
import { PcapQueue } from './pcap-queue-state.ts';
import { writePiece } from './pcap-queue.ts';
import type { Port, PortInfo, RxQueueConfiguration, TxQueueConfiguration } from './port.ts';
import { SOFTWARE_PORT_INFO } from './software-port-info.ts';
import { SoftwarePort } from './software-port.ts';

const KEYS = ['rx_pcap', 'tx_pcap', 'infinite_rx', 'rx_iface', 'rx_iface_in', 'tx_iface', 'iface', 'phy_mac'];
/** Files of a port either way, as in DPDK. */
const QUEUES = 16;
/** Bytes read or written at a time. The longest block that is looked into is shorter. */
const BUFFER_BYTES = 512 * 1024;

interface OpenFile {
  readonly path: string;
  readonly descriptor: number;
}

interface PcapPortOptions {
  readonly id: number;
  readonly name: string;
  readonly devargs: string;
  readonly rxFiles: readonly string[];
  readonly txFiles: readonly OpenFile[];
  readonly repeats: boolean;
  /** Queues of a side without files. Default: as many as the other side has. */
  readonly queues?: number;
}

class PcapPort extends SoftwarePort<PcapQueue> {
  readonly info: PortInfo;
  protected readonly queueKind = 'pcap';
  readonly #options: PcapPortOptions;
  /** Receive files of a started port. */
  #open: number[] = [];
  #startedBefore = false;

  constructor(context: PortContext, options: PcapPortOptions) {
    super(context, { ...options, mac: numberedMac(options.name) });
    this.#options = options;
    const { rxFiles, txFiles, queues = Math.max(rxFiles.length, txFiles.length) } = options;
    // a side without files: nothing comes, or what is sent is dropped
    this.info = {
      ...SOFTWARE_PORT_INFO,
      driverName: 'net_pcap',
      maxRxQueues: rxFiles.length === 0 ? queues : rxFiles.length,
      maxTxQueues: txFiles.length === 0 ? queues : txFiles.length,
    };
  }

  protected makeRxQueue(index: number, configuration: RxQueueConfiguration): { queue: PcapQueue; descriptors: number } {
    if (configuration.pool.dataRoom <= MBUF_HEADROOM)
      throw this.error('EINVAL', `mbufs of ${String(configuration.pool.dataRoom)} bytes have no room for packets`);
    const queue = this.#makeQueue('rx', index, this.#options.rxFiles.length !== 0);
    queue.set(Q_POOL, configuration.pool.offset);
    return { queue, descriptors: configuration.descriptors };
  }

  protected makeTxQueue(index: number, configuration: TxQueueConfiguration): { queue: PcapQueue; descriptors: number } {
    const file = this.#options.txFiles[index];
    const queue = this.#makeQueue('tx', index, file !== undefined);
    if (file === undefined) return { queue, descriptors: configuration.descriptors };
    try {
      queue.takeBuffer(BUFFER_BYTES, `the buffer of ${file.path}`);
    } catch (error) {
      queue.close();
      throw error;
    }
    queue.beginFile(file.descriptor, formatOf(file.path) === 'pcapng');
    return { queue, descriptors: configuration.descriptors };
  }

  protected async startDevice(): Promise<void> {
    try {
      for (const [index, queue] of this.rxQueues.entries()) this.#beginReading(queue, this.#options.rxFiles[index]);
      if (this.#startedBefore) for (const [index, queue] of this.txQueues.entries()) this.#beginAnew(queue, this.#options.txFiles[index]);
    } catch (error) {
      this.#endReading();
      throw error;
    }
    this.#startedBefore = true;
    await this.runQueues(true);
  }

  protected async stopDevice(): Promise<void> {
    await this.runQueues(false);
    for (const [index, queue] of this.txQueues.entries())
      if (this.#options.txFiles[index] !== undefined) writePiece(this.context.main.views, queue.offset);
    this.#endReading();
  }

  protected closeDevice(): Promise<void> {
    for (const { descriptor } of this.#options.txFiles) closeSync(descriptor);
    return Promise.resolve();
  }

  protected override queueGivenUp(direction: 'rx' | 'tx', index: number, text: string): void {
    const queue = direction === 'rx' ? this.rxQueue(index) : this.txQueue(index);
    const path = direction === 'rx' ? this.#options.rxFiles[index] : this.#options.txFiles[index]?.path;
    if (queue === undefined || path === undefined) return;
    this.context.log(`${this.name}: ${path}: ${this.#explain(direction, queue, text)}`);
  }

  #explain(direction: 'rx' | 'tx', queue: PcapQueue, text: string): string {
    const reason = errnoText(errnoName(queue.fileGet(FILE_ERRNO)));
    if (direction === 'tx') return `cannot write: ${reason}; packets that do not reach the file count as errors`;
    if (queue.error === 0) return 'packets of another link type than Ethernet are left out and count as errors';
    const at = `at byte ${String(queue.fileOffset)}`;
    if (queue.error === CAPTURE_READ_FAILED) return `${at}: cannot read: ${reason}`;
    return queue.error >= CAPTURE_CUT ? `${at}: ${captureProblem(queue.error)}` : text;
  }

  #makeQueue(direction: string, index: number, hasFile: boolean): PcapQueue {
    return new PcapQueue(this.context, `${direction} queue ${String(index)} of ${this.name}`, this.id, hasFile);
  }

  #beginReading(queue: PcapQueue, path: string | undefined): void {
    if (path === undefined) return;
    if (this.#options.repeats) {
      this.#takeWhole(queue, path);
      return;
    }
    const { descriptor, format, start } = openCaptureFile(this.name, path);
    this.#open.push(descriptor);
    queue.takeBuffer(BUFFER_BYTES, `the buffer of ${path}`);
    queue.beginFile(descriptor, format === 'pcapng');
    // the pieces follow on each other, from behind the header
    if (start.bytes > 0) readSync(descriptor, new Uint8Array(start.bytes), 0, start.bytes, null);
    queue.fileSet(FILE_SWAPPED, start.swapped ? 1 : 0);
    queue.fileSet(FILE_POSITION, start.bytes);
  }

  /** A started port's file has what it sent since then only. */
  #beginAnew(queue: PcapQueue, file: OpenFile | undefined): void {
    if (file === undefined) return;
    const { path, descriptor } = file;
    // a pipe or a device goes on as it is
    if (!fstatSync(descriptor).isFile()) return;
    try {
      ftruncateSync(descriptor, 0);
      writeSync(descriptor, captureHeader(formatOf(path)));
    } catch (cause) {
      throw fileError(this.name, path, cause);
    }
    queue.beginFile(descriptor, formatOf(path) === 'pcapng');
  }

  /** infinite_rx: the packets of a file, into the arena. */
  #takeWhole(queue: PcapQueue, path: string): void {
    const { descriptor } = openCaptureFile(this.name, path);
    let bytes: Uint8Array;
    try {
      bytes = readFileSync(descriptor);
    } finally {
      closeSync(descriptor);
    }
    const { packets, problem } = readCapture(`${this.name}: ${path}`, bytes);
    const usable = packets.filter((packet) => packet.linkType === LINK_TYPE_ETHERNET && packet.bytes.length > 0);
    if (problem !== undefined) this.context.log(problem);
    if (usable.length === 0) throw this.error('EINVAL', `${path}: no packets that infinite_rx=1 could repeat`);
    const total = usable.reduce((sum, packet) => sum + 16 + packet.bytes.length, 0);
    try {
      queue.takeBuffer(total, `the packets of ${path}`);
    } catch (cause) {
      throw new VirtioError(
        `${this.name}: ${path}: infinite_rx=1 keeps all packets in memory, and ${String(total)} bytes are not free there; give more with -m, or a shorter file`,
        { code: 'ENOMEM', cause },
      );
    }
    queue.beginFile(0, false);
    let at = queue.fileGet(FILE_BUFFER);
    for (const packet of usable) {
      const record = captureRecord('pcap', packet.bytes, packet.seconds, packet.nanoseconds);
      this.context.arena.views.u8.set(record, at);
      at += record.length;
    }
    queue.fileSet(FILE_END, total);
    queue.fileSet(FILE_ENDED, 1);
    queue.fileSet(FILE_REPEATS, 1);
  }

  #endReading(): void {
    for (const descriptor of this.#open.splice(0)) closeSync(descriptor);
    for (const queue of this.rxQueues) queue.releaseBuffer();
  }
}

function checkFiles(name: string, rxFiles: readonly string[], txFiles: readonly string[]): void {
  for (const [key, files] of [
    ['rx_pcap', rxFiles],
    ['tx_pcap', txFiles],
  ] as const) {
    if (files.length > QUEUES)
      throw new VirtioError(`${name}: ${key} is given ${String(files.length)} times; a port has ${String(QUEUES)} queues`, {
        code: 'EINVAL',
      });
  }
  const both = txFiles.find((path, index) => rxFiles.includes(path) || txFiles.indexOf(path) !== index);
  if (both !== undefined) throw new VirtioError(`${name}: tx_pcap=${both}: the file has another use in this port`, { code: 'EINVAL' });
}

function numberedMac(name: string): MacAddress {
  // DPDK's: "pcap" in ASCII, and the number of the device
  return Uint8Array.of(2, 0x70, 0x63, 0x61, 0x70, Number(/\d+$/.exec(name)?.[0] ?? 0) & 0xff);
}

interface Sources {
  readonly rxFiles: readonly string[];
  readonly txPaths: readonly string[];
  /** One for both ways, on one socket. */
  readonly iface: string | undefined;
  readonly rxInterfaces: readonly string[];
  readonly txInterfaces: readonly string[];
  readonly repeats: boolean;
}

function readSources(args: DevargsReader): Sources {
  const { name } = args;
  const sources: Sources = {
    rxFiles: args.strings('rx_pcap'),
    txPaths: args.strings('tx_pcap'),
    iface: args.string('iface'),
    rxInterfaces: [...args.strings('rx_iface'), ...args.strings('rx_iface_in')],
    txInterfaces: args.strings('tx_iface'),
    repeats: args.flag('infinite_rx', false),
  };
  const { rxFiles, txPaths, iface, rxInterfaces, txInterfaces, repeats } = sources;
  const wrong = (text: string): VirtioError => new VirtioError(`${name}: ${text}`, { code: 'EINVAL' });
  if (iface !== undefined && rxFiles.length + txPaths.length + rxInterfaces.length + txInterfaces.length !== 0)
    throw wrong(`iface=${iface} is for both ways; leave out the other files and interfaces, or give rx_iface and tx_iface`);
  if (rxFiles.length !== 0 && rxInterfaces.length !== 0) throw wrong('rx_pcap and rx_iface: packets come from files or from interfaces');
  if (txPaths.length !== 0 && txInterfaces.length !== 0) throw wrong('tx_pcap and tx_iface: packets go to files or to interfaces');
  if (iface === undefined && rxFiles.length + txPaths.length + rxInterfaces.length + txInterfaces.length === 0)
    throw wrong('give a file to read, rx_pcap=FILE, or to write, tx_pcap=FILE, or an interface: iface=NAME, rx_iface=NAME, tx_iface=NAME');
  if (repeats && rxFiles.length === 0) throw wrong('infinite_rx=1 needs rx_pcap=FILE');
  const most = Math.max(rxInterfaces.length, txInterfaces.length);
  if (most > QUEUES) throw wrong(`${String(most)} interfaces one way; a port has ${String(QUEUES)} queues`);
  checkFiles(name, rxFiles, txPaths);
  return sources;
}

function createFiles(context: PortContext, options: Omit<PcapPortOptions, 'txFiles'>, txPaths: readonly string[]): PcapPort {
  const { name } = options;
  for (const path of options.rxFiles) closeSync(openCaptureFile(name, path).descriptor);
  const txFiles: OpenFile[] = [];
  try {
    for (const path of txPaths) txFiles.push({ path, descriptor: createCaptureFile(name, path, captureHeader(formatOf(path))) });
    return new PcapPort(context, { ...options, txFiles });
  } catch (error) {
    for (const { descriptor } of txFiles) closeSync(descriptor);
    throw error;
  }
}

/** A port of which a side at least is an interface. */
async function createJoined(context: PortContext, id: number, devargs: Devargs, sources: Sources, physical: boolean): Promise<JoinedPort> {
  const { name, text } = devargs;
  const { rxFiles, txPaths, iface, rxInterfaces, txInterfaces, repeats } = sources;
  const opened: Port[] = [];
  const open = async (ifaceName: string): Promise<PartQueue> => {
    const port = await openInterfacePart(context, id, name, ifaceName);
    opened.push(port);
    return { port, queue: 0 };
  };
  const rx: PartQueue[] = [];
  const tx: PartQueue[] = [];
  try {
    if (iface !== undefined) {
      const both = await open(iface);
      rx.push(both);
      tx.push(both);
    }
    for (const ifaceName of rxInterfaces) rx.push(await open(ifaceName));
    for (const ifaceName of txInterfaces) tx.push(await open(ifaceName));
    const interfaceMac = opened[0]?.mac;
    const queues = Math.max(rxFiles.length, txPaths.length, rx.length, tx.length);
    if (rx.length === 0 || tx.length === 0) {
      // files, or where a side has nothing at all: nothing comes, or what is sent is dropped
      const files = createFiles(context, { id, name, devargs: text, rxFiles, repeats, queues }, txPaths);
      opened.push(files);
      for (const list of [rx, tx]) {
        const count = (list === rx ? rxFiles : txPaths).length;
        if (list.length === 0) list.push(...Array.from({ length: count === 0 ? queues : count }, (_, queue) => ({ port: files, queue })));
      }
    }
    const mac = physical && interfaceMac !== undefined ? interfaceMac : numberedMac(name);
    return new JoinedPort(context, { id, name, devargs: text, mac, rx, tx });
  } catch (error) {
    for (const port of opened) await port.close();
    throw error;
  }
}

async function create(context: PortContext, id: number, devargs: Devargs): Promise<Port> {
  const args = readDevargs(devargs, KEYS);
  const sources = readSources(args);
  const physical = args.flag('phy_mac', false);
  const { rxFiles, txPaths, iface, rxInterfaces, txInterfaces, repeats } = sources;
  if (iface !== undefined || rxInterfaces.length + txInterfaces.length !== 0) return createJoined(context, id, devargs, sources, physical);
  // failures are rejections
  await Promise.resolve();
  return createFiles(context, { id, name: devargs.name, devargs: devargs.text, rxFiles, repeats }, txPaths);
}

export const pcapDriver: PortDriver = { name: 'net_pcap', aliases: ['eth_pcap'], serves: false, agreesOnQueues: false, create };
