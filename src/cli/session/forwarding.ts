/**
 * Forwarding: which ports, lcores and engine; start, stop, and the statistics of a run.
 *
 * As in testpmd the streams are planned anew by the commands that change ports, cores or queues, and again at start; the engine
 * set by `set fwd` is in force for the plan only then.
 * @module
 */
import type { MacAddress } from '../../net/mac-address.ts';
import { TX_OFFLOAD_VLAN_INSERT } from '../../port/offloads.ts';
import {
  coresText,
  forwardConfigurationText,
  portConfigurationText,
  queueConfigurationText,
  txSegmentsText,
} from '../display/forward-configuration.ts';
import type { RetryParameters } from '../display/forward-configuration.ts';
import { forwardStatisticsText, rateText } from '../display/forward-statistics.ts';
import type { PortForwardStatistics } from '../display/forward-statistics.ts';
import type { Lcores, Stream, StreamCounters } from '../../lcore/forwarding-plan.ts';
import { latencyText } from '../display/latency.ts';
import type { Csum } from './csum.ts';
import { answersItself, insertsVlan, makesPackets, planEngine } from './engines.ts';
import { reason } from './errno-text.ts';
import type { SessionOptions } from './options.ts';
import type { Output } from './output.ts';
import type { PortTable } from './port-table.ts';
import { missingQueueText } from './port-table.ts';
import type { Settings } from './settings.ts';
import { maxBurst } from './settings.ts';
import type { StreamPlan } from '../../lcore/streams.ts';
import { pairsWithItself, planStreams } from '../../lcore/streams.ts';

/** Descriptors that testpmd takes a ring for when the driver does not say. */
const usualRing = 512;
/** Bytes of an Ethernet, IPv4 and UDP header: the shortest packet that txonly makes. */
const minTxPacket = 42;

const noCounters: StreamCounters = { rxPackets: 0, txPackets: 0, dropped: 0, noMbuf: 0, badIp: 0, badTransport: 0, unsent: 0, late: 0 };

function sameStream(one: Stream, other: Stream): boolean {
  return one.rxPort === other.rxPort && one.rxQueue === other.rxQueue && one.txPort === other.txPort && one.txQueue === other.txQueue;
}

function bits(mask: bigint): readonly number[] {
  return Array.from({ length: 64 }, (_, bit) => bit).filter((bit) => ((mask >> BigInt(bit)) & 1n) === 1n);
}

export interface ForwardingContext {
  readonly ports: PortTable;
  readonly settings: Settings;
  readonly lcores: Lcores;
  readonly mainLcore: number;
  readonly output: Output;
  /** Settings of the csum engine. */
  readonly csum: Csum;
}

export class Forwarding {
  readonly #context: ForwardingContext;
  readonly #options: SessionOptions;
  readonly #peers: Map<number, MacAddress>;
  #engine = 'io';
  #retrying = false;
  #retry: RetryParameters = { count: 64, delay: 1 };
  /** Ports of the last list or mask; the first `#portCount` of them forward. */
  #configuredPorts: readonly number[] = [];
  #portCount = 0;
  #lcoreIds: readonly number[] = [];
  #cores = 1;
  #plan: StreamPlan = { ports: [], lcores: [] };
  #planEngine = 'io';
  #running = false;
  #warned = false;
  /** Streams of the latest run, in the order of its counters. */
  #runStreams: readonly Stream[] = [];

  constructor(context: ForwardingContext, options: SessionOptions) {
    this.#context = context;
    this.#options = options;
    this.#peers = new Map(options.peers);
  }

  get running(): boolean {
    return this.#running;
  }

  /** Ids of the ports that the next start forwards. */
  get ports(): readonly number[] {
    return this.#configuredPorts.slice(0, this.#portCount);
  }

  /** True during a run that a port takes part in, be it by its streams or by a list that changed since. */
  isForwarding(id: number): boolean {
    if (!this.#running) return false;
    return this.ports.includes(id) || this.#runStreams.some(({ rxPort, txPort }) => rxPort === id || txPort === id);
  }

  get plannedPorts(): readonly number[] {
    return this.#plan.ports;
  }

  /** Takes every port there is and every lcore, of which one forwards. */
  useAll(): void {
    this.#configuredPorts = this.#context.ports.ids();
    this.#portCount = this.#configuredPorts.length;
    this.#lcoreIds = this.#context.lcores.forwarding;
    this.#cores = 1;
  }

  /** `set default`. */
  reset(): void {
    this.useAll();
    this.#peers.clear();
  }

  /** Plans the streams from what is configured now. */
  setUp(): void {
    const { settings, output } = this.#context;
    const { topology } = this.#options;
    const ports = this.ports;
    this.#planEngine = this.#engine;
    this.#plan = planStreams({
      ports,
      rxQueues: settings.rxQueues,
      txQueues: settings.txQueues,
      lcores: this.#lcoreIds,
      cores: this.#cores,
      topology,
      toItself: answersItself(this.#engine),
      peer: (port) => this.#peers.get(port) ?? Uint8Array.of(0x02, 0, 0, 0, 0, port),
    });
    if (this.#warned || answersItself(this.#engine) || !pairsWithItself(ports.length, topology)) return;
    this.#warned = true;
    output.warn('\nWarning! port-topology=paired and odd forward ports number, the last port will pair with itself.\n');
  }

  addPort(id: number): void {
    this.#configuredPorts = [...this.ports, id];
    this.#portCount = this.#configuredPorts.length;
  }

  /** Forgets ports that are gone. */
  removeClosedPorts(): void {
    this.#configuredPorts = this.ports.filter((id) => this.#context.ports.get(id) !== undefined);
    this.#portCount = this.#configuredPorts.length;
  }

  setEngine(engine: string, retry: boolean): void {
    this.#retrying = retry;
    this.#engine = engine;
    this.#context.output.say(`Set ${engine} packet forwarding mode${retry ? ' with retry' : ''}`);
  }

  /** `count` attempts, `delay` microseconds between them. */
  setRetry(retry: RetryParameters): void {
    this.#retry = retry;
  }

  /** False, with a line that says why, while packets are being forwarded. */
  mayChange(): boolean {
    if (this.#running) this.#context.output.warn('Please stop forwarding first');
    return !this.#running;
  }

  setPortList(ids: readonly number[]): void {
    const { ports, output } = this.#context;
    const unknown = ids.find((id) => ports.get(id) === undefined);
    if (unknown !== undefined) {
      output.warn(`Invalid port ${unknown}`);
      return;
    }
    this.#configuredPorts = ids;
    if (this.#portCount !== ids.length) {
      output.say(`previous number of forwarding ports ${this.#portCount} - changed to number of configured ports ${ids.length}`);
    }
    this.#portCount = ids.length;
  }

  setPortMask(mask: bigint): void {
    if (mask === 0n) {
      this.#context.output.warn('Invalid NULL mask of ports');
      return;
    }
    const { ports } = this.#context;
    this.setPortList(bits(mask).filter((id) => ports.get(id) !== undefined));
  }

  setPortCount(count: number): void {
    const { output } = this.#context;
    const most = this.#configuredPorts.length;
    if (count > most) {
      output.warn(`nb fwd ports ${count} > ${most} (number of configured ports) - ignored`);
      return;
    }
    this.#portCount = count;
    output.say(`Number of forwarding ports set to ${count}`);
  }

  /** Returns false, with a line that says why, when an lcore cannot forward. */
  setCoreList(ids: readonly number[]): boolean {
    const { lcores, mainLcore, output } = this.#context;
    for (const id of ids) {
      if (id === mainLcore) {
        output.warn(
          `lcore ${id} cannot be masked on for running packet forwarding, which is the main lcore and reserved for command line parsing only`,
        );
        return false;
      }
      if (!lcores.forwarding.includes(id)) {
        output.warn(`lcore ${id} not enabled`);
        return false;
      }
    }
    this.#lcoreIds = ids;
    if (this.#cores !== ids.length) {
      output.say(`previous number of forwarding cores ${this.#cores} - changed to number of configured cores ${ids.length}`);
    }
    this.#cores = ids.length;
    return true;
  }

  setCoreMask(mask: bigint): boolean {
    if (mask !== 0n) return this.setCoreList(bits(mask));
    this.#context.output.warn('Invalid NULL mask of cores');
    return false;
  }

  setCoreCount(count: number): void {
    const { output } = this.#context;
    if (!this.mayChange()) return;
    const most = this.#lcoreIds.length;
    if (count > most) {
      output.warn(`nb fwd cores ${count} > ${most} (max. number of configured lcores) - ignored`);
      return;
    }
    if (count === 0) {
      output.warn('nb fwd cores 0: at least one lcore has to forward - ignored');
      return;
    }
    this.#cores = count;
    output.say(`Number of forwarding cores set to ${count}`);
  }

  /** --nb-cores and --nb-ports: no word when all is well. The caller has checked the range. */
  limit(cores: number | undefined, ports: number | undefined): void {
    this.#cores = cores ?? this.#cores;
    this.#portCount = ports ?? this.#portCount;
  }

  setVerbose(level: number): void {
    this.#context.lcores.setVerbose(level);
  }

  setPeer(port: number, mac: MacAddress): void {
    this.#peers.set(port, mac);
  }

  setBurst(burst: number): void {
    const { settings, output } = this.#context;
    if (burst > maxBurst) {
      output.warn(`nb pkt per burst: ${burst} > ${maxBurst} (maximum packet per burst)  ignored`);
      return;
    }
    settings.burst = burst;
    output.say(`Number of packets per burst set to ${burst}`);
  }

  /** Packets a second on every stream of txonly and flowgen, those that are running included; 0 for all they can. */
  setTxRate(rate: number): void {
    const { settings, lcores, output } = this.#context;
    settings.txRate = rate;
    lcores.setTxRate(rate);
    output.say(rate === 0 ? 'Packets are sent as fast as possible' : `Packets per second on each stream set to ${rate}`);
  }

  setTxSegments(lengths: readonly number[]): void {
    const { ports, settings, output } = this.#context;
    if (lengths.length > 1) {
      for (const { port } of ports.list()) {
        for (let queue = 0; queue < (port.configuration?.txQueues ?? 0); queue += 1) {
          // a queue without a ring of its own, as a vhost port's, counts for as many as a usual one
          const given = port.txQueueInfo(queue)?.descriptors ?? 0;
          const ring = given === 0 ? usualRing : given;
          if (ring >= lengths.length) continue;
          output.say(`nb segments per TX packets=${lengths.length} >= TX queue(${queue}) ring_size=${ring} - txpkts ignored`);
          output.warn(`Tx segment size(${lengths.length}) is not supported - txpkts ignored`);
          return;
        }
      }
    }
    const tooLong = lengths.findIndex((length) => length > this.#options.mbufSize);
    if (tooLong !== -1) {
      output.warn(`length[${tooLong}]=${lengths[tooLong] ?? 0} > mbuf_data_size=${this.#options.mbufSize} - give up`);
      return;
    }
    const total = lengths.reduce((sum, length) => sum + length, 0) & 0xffff;
    if (total < minTxPacket) {
      output.warn(`total packet length=${total} < ${minTxPacket} - give up`);
      return;
    }
    settings.txSegments = lengths;
  }

  #configurationText(): string {
    return forwardConfigurationText(this.#planEngine, this.#plan, this.#retrying ? this.#retry : undefined, this.#context.settings.txRate);
  }

  #printQueueConfiguration(): void {
    const { settings, ports, output } = this.#context;
    const segments = settings.txSegments;
    const configuration = {
      ...settings,
      engine: this.#engine,
      retry: this.#retrying,
      packet: makesPackets(this.#engine)
        ? { length: segments.reduce((sum, length) => sum + length, 0), segments: segments.length }
        : undefined,
      cores: this.#cores,
      forwardPorts: this.#portCount,
    };
    output.print(queueConfigurationText(configuration));
    for (const managed of ports.list()) {
      const { port, rxOffloads, txOffloads, rxQueueOffloads, txQueueOffloads } = managed;
      const [rxQueue = 0] = rxQueueOffloads;
      const [txQueue = 0] = txQueueOffloads;
      const text = portConfigurationText(configuration, { id: port.id, rx: rxOffloads, tx: txOffloads, rxQueue, txQueue });
      output.print(text.port);
      for (const direction of ['rx', 'tx'] as const) {
        const missing = missingQueueText(managed, direction, 0);
        if (missing !== undefined) output.warn(missing);
        output.print(text[direction]);
      }
    }
  }

  showConfiguration(): void {
    this.#context.output.print(this.#configurationText());
  }

  showQueueConfiguration(): void {
    this.#printQueueConfiguration();
  }

  showCores(): void {
    this.#context.output.print(coresText(this.#lcoreIds));
  }

  showTxSegments(): void {
    this.#context.output.print(txSegmentsText(this.#context.settings.txSegments, this.#context.settings.txSplit));
  }

  #whyNotStart(): string | undefined {
    const { ports, settings } = this.#context;
    const engine = this.#engine;
    if (engine === 'rxonly') {
      if (settings.rxQueues === 0) return 'rxq are 0, cannot use rxonly fwd mode';
    } else if (engine === 'txonly') {
      if (settings.txQueues === 0) return 'txq are 0, cannot use txonly fwd mode';
    } else if (settings.rxQueues === 0 || settings.txQueues === 0) {
      return `Either rxq or txq are 0, cannot use ${engine} fwd mode`;
    }
    if (ports.list().some(({ status }) => status !== 'started')) return 'Not all ports were started';
    if (this.#running) return 'Packet forwarding already started';
    if (settings.burst === 0) return `Packets per burst is 0: choose 1 to ${maxBurst} with "set burst N"`;
    return undefined;
  }

  /** The tag of what a port sends; undefined for none. */
  #tagOf(id: number): number | undefined {
    const managed = this.#context.ports.get(id);
    return ((managed?.txOffloads ?? 0) & TX_OFFLOAD_VLAN_INSERT) === 0 ? undefined : managed?.txVlan;
  }

  /** Starts forwarding, after `txFirst` bursts from every stream's transmit queue. */
  async start(txFirst: number): Promise<void> {
    const { settings, lcores, output, csum } = this.#context;
    const refusal = this.#whyNotStart();
    if (refusal !== undefined) {
      output.warn(refusal);
      return;
    }
    this.setUp();
    output.print(this.#configurationText());
    this.#printQueueConfiguration();
    const streams = this.#plan.lcores.flatMap((lcore) => lcore.streams.map((stream) => ({ ...stream, vlan: this.#tagOf(stream.txPort) })));
    this.#runStreams = streams;
    this.#takeBaselines(() => 0);
    this.#running = true;
    try {
      await lcores.start({
        engine: planEngine(this.#engine),
        streams,
        burst: settings.burst,
        retry: this.#retrying ? this.#retry : undefined,
        txSegments: settings.txSegments,
        randomSegments: settings.txSplit === 'rand' && this.#engine !== 'flowgen',
        flowgenFlows: this.#options.flowgenFlows,
        txRate: settings.txRate,
        verbose: settings.verbose,
        csum: (stream) => csum.settingsOf(stream),
        txFirst,
        flushRx: settings.flushRx,
        insertsVlan: insertsVlan(this.#engine),
      });
    } catch (error) {
      this.#running = false;
      this.#runStreams = [];
      output.warn(reason(error));
      output.warn('Packet forwarding is not ready');
    }
  }

  async stop(): Promise<void> {
    const { lcores, output } = this.#context;
    if (!this.#running) {
      output.warn('Packet forwarding not started');
      return;
    }
    output.print('Telling cores to stop...\nWaiting for lcores to finish...\n');
    try {
      await lcores.stop();
    } catch (error) {
      output.warn(reason(error));
    }
    this.showStatistics();
    output.print('\nDone.\n');
    this.#running = false;
  }

  #counters(): readonly (StreamCounters & { readonly stream: Stream })[] {
    const counters = this.#runStreams.length === 0 ? [] : this.#context.lcores.counters();
    return this.#runStreams.map((stream, index) => ({ stream, ...(counters[index] ?? noCounters) }));
  }

  /** Packets that the run's streams received on a port. The port's own counter includes what was flushed before the start. */
  received(port: number): number {
    return this.#counters()
      .filter(({ stream }) => stream.rxPort === port)
      .reduce((sum, { rxPackets }) => sum + rxPackets, 0);
  }

  /** Packets of the run that a port received with wrong checksums. */
  #badChecksums(port: number): Pick<PortForwardStatistics, 'badIp' | 'badTransport'> {
    const received = this.#counters().filter(({ stream }) => stream.rxPort === port);
    return {
      badIp: received.reduce((sum, { badIp }) => sum + badIp, 0),
      badTransport: received.reduce((sum, { badTransport }) => sum + badTransport, 0),
    };
  }

  #takeBaselines(received: (port: number) => number): void {
    for (const managed of this.#context.ports.list()) {
      if (!this.#plan.ports.includes(managed.port.id)) continue;
      managed.baseline = managed.port.statistics();
      managed.rxBaseline = received(managed.port.id);
    }
  }

  showStatistics(): void {
    const { ports, output } = this.#context;
    const run = this.#counters();
    const streams = this.#plan.lcores
      .flatMap((lcore) => lcore.streams)
      .map((stream) => ({ stream, counters: run.find((entry) => sameStream(entry.stream, stream)) ?? noCounters }));
    const shown = this.#plan.ports.flatMap((id): PortForwardStatistics[] => {
      const managed = ports.get(id);
      if (managed === undefined) return [];
      const { baseline } = managed;
      const now = managed.port.statistics();
      const since = (value: number, before: number): number => Math.max(0, value - before);
      const dropped = streams.filter(({ stream }) => stream.txPort === id).reduce((sum, { counters }) => sum + counters.dropped, 0);
      return [
        {
          port: id,
          rxPackets: since(this.received(id), managed.rxBaseline),
          rxDropped: since(now.rxMissed, baseline.rxMissed),
          rxErrors: now.rxErrors,
          rxNoMbuf: since(now.rxNoMbuf, baseline.rxNoMbuf),
          txPackets: since(now.txPackets, baseline.txPackets),
          txDropped: dropped + since(now.txErrors, baseline.txErrors),
          ...this.#badChecksums(id),
        },
      ];
    });
    output.print(forwardStatisticsText({ streams, ports: shown, checksums: this.#planEngine === 'csum' }));
  }

  /** What generators sent of what the rate asks for. */
  showRate(): void {
    const { output, settings } = this.#context;
    output.print(
      rateText(
        settings.txRate,
        this.#counters().map(({ stream, ...counters }) => ({ stream, counters })),
      ),
    );
  }

  /** What the latency engine recorded. */
  showLatency(): void {
    const { output, lcores } = this.#context;
    const recorded = this.#runStreams.length === 0 ? [] : lcores.latency();
    const streams = this.#counters().flatMap(({ stream, ...counters }, index) => {
      const latency = recorded[index];
      return latency === undefined ? [] : [{ stream, counters, latency }];
    });
    if (streams.length === 0) output.warn('No latency recorded: start with "set fwd latency"');
    else output.print(latencyText(streams));
  }

  clearStatistics(): void {
    this.#context.lcores.clearCounters();
    this.#takeBaselines((port) => this.received(port));
  }
}
