/**
 * net_pcap on network interfaces: one port over the queues of several, capture files (pcap.ts) and packet sockets (af-packet.ts).
 * @module
 */
import type { MacAddress } from '../net/mac-address.ts';
import { QueueState } from '../ring/virtqueue.ts';
import { pageSize } from '../system/memory-map.ts';
import { NetworkInterface } from '../system/network-interface.ts';
import { afPacket } from './af-packet.ts';
import { BasePort, type QueueObserver } from './base-port.ts';
import type { PortContext } from './context.ts';
import { parseDevargs } from './devargs.ts';
import type {
  ExtendedStatistic,
  Link,
  Port,
  PortConfiguration,
  PortInfo,
  PortStatistics,
  RxQueueConfiguration,
  TxQueueConfiguration,
} from './port.ts';
import type { QueueHandle } from './queue.ts';
import { SOFTWARE_PORT_INFO } from './software-port-info.ts';
import { basicExtended } from './statistics.ts';

/** Ethernet header and VLAN tag, and what of a frame holds no packet. */
const FRAME_OVERHEAD = 94;

/** A queue of a part. */
export interface PartQueue {
  readonly port: Port;
  readonly queue: number;
}

export interface JoinedPortOptions {
  readonly id: number;
  readonly name: string;
  readonly devargs: string;
  readonly mac: MacAddress;
  /** In the order of the port's own queues. */
  readonly rx: readonly PartQueue[];
  readonly tx: readonly PartQueue[];
}

/** A port over an interface, under the name of the whole. */
export function openInterfacePart(context: PortContext, id: number, name: string, iface: string): Promise<Port> {
  using properties = new NetworkInterface(iface);
  const mtu = properties.mtu() ?? 1500;
  const frame = Math.max(2048, 2 ** Math.ceil(Math.log2(mtu + FRAME_OVERHEAD)));
  const keys = `iface=${iface},framesz=${String(frame)},blocksz=${String(Math.max(frame, pageSize()))},framecnt=512`;
  return afPacket.create(context, id, parseDevargs(`${name},${keys}`));
}

/** The parts make, start and stop their queues; the whole says which of them are its own. */
export class JoinedPort extends BasePort {
  readonly info: PortInfo;
  /** Of no meaning: each queue says its own. */
  protected readonly queueKind = 'packet-ring';
  readonly #options: JoinedPortOptions;
  readonly #parts: readonly BasePort[];
  readonly #stopListening: readonly (() => void)[];

  constructor(context: PortContext, options: JoinedPortOptions) {
    super(context, options);
    this.#options = options;
    const parts = [...options.rx, ...options.tx].map(({ port }) => port);
    this.#parts = parts.filter((part, index): part is BasePort => part instanceof BasePort && parts.indexOf(part) === index);
    this.info = {
      ...SOFTWARE_PORT_INFO,
      driverName: 'net_pcap',
      maxRxQueues: options.rx.length,
      maxTxQueues: options.tx.length,
      rxOffloadCapabilities: parts.reduce((bits, part) => bits & part.info.rxOffloadCapabilities, -1),
      txOffloadCapabilities: parts.reduce((bits, part) => bits & part.info.txOffloadCapabilities, -1),
    };
    this.#stopListening = this.#parts.map((part) =>
      part.onEvent((event) => {
        this.emit(event);
      }),
    );
  }

  link(): Link {
    const up = this.state === 'started' && this.#parts.every((part) => part.state !== 'started' || part.link().up);
    return { up, speed: 10_000, fullDuplex: true, autonegotiation: false };
  }

  override async configure(configuration: PortConfiguration): Promise<void> {
    await super.configure(configuration);
    for (const part of this.#parts) {
      const count = (queues: readonly PartQueue[], most: number): number =>
        queues.slice(0, most).filter(({ port }) => port === part).length;
      await part.configure({
        rxOffloads: 0,
        txOffloads: 0,
        rxQueues: count(this.#options.rx, configuration.rxQueues),
        txQueues: count(this.#options.tx, configuration.txQueues),
      });
      // libpcap's own way to open an interface
      await part.setPromiscuous(true);
    }
  }

  /** The parts' own: those of the whole are never used. */
  override rxQueueHandle(queue: number): QueueHandle {
    const { port, queue: own } = this.#partQueue(this.#options.rx, queue);
    return { ...port.rxQueueHandle(own), port: this.id, queue };
  }

  override txQueueHandle(queue: number): QueueHandle {
    const { port, queue: own } = this.#partQueue(this.#options.tx, queue);
    return { ...port.txQueueHandle(own), port: this.id, queue };
  }

  override observeQueues(observer: QueueObserver): () => void {
    const stops = this.#parts.map((part) =>
      part.observeQueues({
        queueSetUp: (direction, own, state) => {
          const list = direction === 'receive' ? this.#options.rx : this.#options.tx;
          observer.queueSetUp(
            direction,
            list.findIndex(({ port, queue }) => port === part && queue === own),
            state,
          );
        },
        portClosing: () => observer.portClosing(),
      }),
    );
    return () => {
      for (const stop of stops) stop();
    };
  }

  override statistics(): PortStatistics {
    const all = this.#parts.map((part) => part.statistics());
    const sum = (of: (statistics: PortStatistics) => number): number => all.reduce((total, statistics) => total + of(statistics), 0);
    return {
      rxPackets: sum(({ rxPackets }) => rxPackets),
      rxBytes: sum(({ rxBytes }) => rxBytes),
      rxMissed: sum(({ rxMissed }) => rxMissed),
      rxErrors: sum(({ rxErrors }) => rxErrors),
      rxNoMbuf: sum(({ rxNoMbuf }) => rxNoMbuf),
      txPackets: sum(({ txPackets }) => txPackets),
      txBytes: sum(({ txBytes }) => txBytes),
      txErrors: sum(({ txErrors }) => txErrors),
    };
  }

  override resetStatistics(): void {
    for (const part of this.#parts) part.resetStatistics();
  }

  override resetExtendedStatistics(): void {
    for (const part of this.#parts) part.resetExtendedStatistics();
  }

  override extendedStatistics(): readonly ExtendedStatistic[] {
    const { rx, tx } = this.#options;
    const { rxQueues = 0, txQueues = 0 } = this.configuration ?? {};
    const rows = (direction: string, queues: readonly PartQueue[]): readonly ExtendedStatistic[] =>
      queues.flatMap(({ port, queue }, index) => {
        const prefix = `${direction}_q${String(queue)}_`;
        return port
          .extendedStatistics()
          .filter(({ name }) => name.startsWith(prefix))
          .map(({ name, value }) => ({ name: `${direction}_q${String(index)}_${name.slice(prefix.length)}`, value }));
      });
    return [...basicExtended(this.statistics()), ...rows('rx', rx.slice(0, rxQueues)), ...rows('tx', tx.slice(0, txQueues))];
  }

  override async setupRxQueue(queue: number, configuration: RxQueueConfiguration): Promise<void> {
    await super.setupRxQueue(queue, configuration);
    const { port, queue: own } = this.#partQueue(this.#options.rx, queue);
    await port.setupRxQueue(own, configuration);
  }

  override async setupTxQueue(queue: number, configuration: TxQueueConfiguration): Promise<void> {
    await super.setupTxQueue(queue, configuration);
    const { port, queue: own } = this.#partQueue(this.#options.tx, queue);
    await port.setupTxQueue(own, configuration);
  }

  protected makeRxQueue(index: number, configuration: RxQueueConfiguration): { queue: QueueState; descriptors: number } {
    return {
      queue: new QueueState(this.context.arena, `rx queue ${String(index)} of ${this.name}`, this.id),
      descriptors: configuration.descriptors,
    };
  }

  protected makeTxQueue(index: number, configuration: TxQueueConfiguration): { queue: QueueState; descriptors: number } {
    return {
      queue: new QueueState(this.context.arena, `tx queue ${String(index)} of ${this.name}`, this.id),
      descriptors: configuration.descriptors,
    };
  }

  protected async startDevice(): Promise<void> {
    const started: BasePort[] = [];
    try {
      for (const part of this.#parts) {
        const { rxQueues = 0, txQueues = 0 } = part.configuration ?? {};
        if (rxQueues + txQueues === 0) continue;
        part.id = this.id;
        await part.start();
        started.push(part);
      }
    } catch (error) {
      for (const part of started) await part.stop();
      throw error;
    }
  }

  protected async stopDevice(): Promise<void> {
    for (const part of this.#parts) await part.stop();
  }

  protected async closeDevice(): Promise<void> {
    for (const stop of this.#stopListening) stop();
    for (const part of this.#parts) await part.close();
  }

  #partQueue(list: readonly PartQueue[], index: number): PartQueue {
    const found = list[index];
    if (found === undefined) throw new RangeError(`${this.name}: no queue ${String(index)}`);
    return found;
  }
}
