/**
 * Forwarding engines on lcores: Workers pinned to CPUs, each with its own streams of packets from port to port.
 * @module
 */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { engineNames } from '../lcore/engines/index.ts';
import type { ForwardingPlan, LcoreSleeps, SleepSettings, Stream, StreamCounters } from '../lcore/forwarding-plan.ts';
import { pinOtherThreads, WorkerLcores, type LcoreOptions } from '../lcore/lcores.ts';
import { planStreams, topologies, type Topology } from '../lcore/streams.ts';
import type { Latency } from '../net/latency.ts';
import { parseIpAddress } from '../net/ip-address.ts';
import { parseMac, type MacAddress } from '../net/mac-address.ts';
import { Router } from '../net/router.ts';
import { hasInterrupts } from '../port/queue-functions.ts';
import { availableCpus } from '../system/cpu.ts';
import { VirtioError } from '../system/error.ts';
import type { Environment } from './environment.ts';
import type { PacketPort } from './packet-port.ts';

const BURST_LIMIT = 512;
const RATE_LIMIT = 0xffff_ffff;
/** Rounds without a packet before an lcore sleeps: about as long as it takes to wake it. */
const EMPTY_ROUNDS = 1000;
/** The engine that needs routes. */
const ROUTING_ENGINE = 'l3fwd';

/** An lcore by the number of its CPU, or by a number of its own and the CPUs that it may run on. */
export type LcoreChoice = number | { readonly id: number; readonly cpus: readonly number[] };

export interface LaunchOptions {
  /** An lcore each; those that would have nothing to do are not used. */
  readonly lcores: readonly LcoreChoice[];
  /** Started ports of one environment. While the lcores run, their packets are the lcores' alone. */
  readonly ports: readonly PacketPort[];
  /**
   * Where a port's packets go: `paired` 0 to 1 and 1 to 0, 2 to 3 and 3 to 2; `chained` each to the next; `loop` back out of
   * the same port. Default `paired`.
   */
  readonly topology?: Topology | undefined;
  /** Packets a burst, 1..512. Default 32. */
  readonly burst?: number | undefined;
  /** Try again what the transmit queue did not take: how often, and microseconds in between. Default: drop at once. */
  readonly retry?: { readonly count: number; readonly delay: number } | undefined;
  /** Drop what lies in the receive queues before the engine starts. Default false. */
  readonly flush?: boolean | undefined;
  /** Bytes of the segments of packets that `txonly` and `flowgen` make. Default one of 64. */
  readonly txSegments?: readonly number[] | undefined;
  /**
   * Packets a second that `txonly`, `flowgen` and `latency` send on each stream, evenly: 1..4294967295; what a pause of more than 0.1 ms held up is
   * not made up for (counters(): `unsent`, `late`). 0, the default: as many as the transmit queue takes.
   */
  readonly txRate?: number | undefined;
  /** Destination addresses by port, in the order of `ports`, for engines that write them (`mac`, `txonly`, `flowgen`). */
  readonly peers?: readonly string[] | undefined;
  /**
   * An lcore that finds no packets sleeps until one is there, instead of polling: its CPU is free then, and a packet that ends a sleep
   * comes some microseconds later. True, or after how many rounds without a packet (default 1000: some tens of microseconds). Only on
   * ports that can tell of packets: not net_null, net_ring, net_pcap. Default false.
   */
  readonly sleep?: boolean | { readonly afterEmptyRounds: number } | undefined;
  /** The routes of the engine `l3fwd`; packets without one go back by the port that they came from. */
  readonly routes?: readonly LaunchRoute[] | undefined;
}

/** Where packets go: those to a prefix, or those of a flow, which comes first. */
export type LaunchRoute = { readonly port: PacketPort } & (
  | {
      /** `198.51.100.0/24`, `2001:db8::/32`. */
      readonly to: string;
    }
  | {
      readonly flow: {
        readonly to: string;
        readonly from: string;
        readonly toPort: number;
        readonly fromPort: number;
        /** 6: TCP, 17: UDP. */
        readonly protocol: number;
      };
    }
);

/** A stream's counters, and what it is. */
export interface LaunchedStream extends StreamCounters {
  readonly lcore: number;
  readonly rxPort: PacketPort;
  readonly txPort: PacketPort;
  /** Receive and transmit queue. */
  readonly queue: number;
}

/** A module's URL, or anything with its text. */
export interface ModuleUrl {
  readonly href: string;
}

let allCpus: readonly number[] | undefined;
let running = 0;

function engineUrl(engine: string | ModuleUrl): string {
  const text = typeof engine === 'string' ? engine : engine.href;
  const names = [...engineNames, ROUTING_ENGINE];
  if (names.includes(text)) return text;
  if (typeof engine === 'string' && !/[/.]/.test(text)) {
    throw new VirtioError(`forwarding engine ${text}: known are ${names.join(', ')}; or give the URL of a module`, {
      code: 'EINVAL',
    });
  }
  const url = /^[a-z]{2,}:/.test(text) ? text : pathToFileURL(resolve(text)).href;
  if (url.startsWith('file:') && !existsSync(fileURLToPath(url))) {
    throw new VirtioError(`forwarding engine ${fileURLToPath(url)}: no such file`, { code: 'ENOENT' });
  }
  return url;
}

function chosenLcores(choices: readonly LcoreChoice[], cpus: readonly number[]): readonly LcoreOptions[] {
  const lcores = choices.map((choice) => (typeof choice === 'number' ? { id: choice, cpus: [choice] } : choice));
  if (lcores.length === 0) throw new RangeError('lcores: name one at least');
  for (const [index, lcore] of lcores.entries()) {
    if (lcores.findIndex(({ id }) => id === lcore.id) !== index) {
      throw new RangeError(`lcores: ${String(lcore.id)} is there twice; to share a CPU use { id, cpus }`);
    }
    const missing = lcore.cpus.find((cpu) => !cpus.includes(cpu));
    if (missing !== undefined || lcore.cpus.length === 0) {
      throw new RangeError(
        `lcores: CPU ${String(missing ?? 'none')} of lcore ${String(lcore.id)} is not among those of this process (${cpus.join(', ')})`,
      );
    }
  }
  return lcores;
}

function environmentOf(ports: readonly PacketPort[]): Environment {
  const [first] = ports;
  if (first === undefined) throw new RangeError('ports: name one at least');
  for (const port of ports) {
    if (port.environment !== first.environment) {
      throw new RangeError(`ports: ${first.name} and ${port.name} are in different environments, and packets do not move between them`);
    }
    if (ports.indexOf(port) !== ports.lastIndexOf(port)) throw new RangeError(`ports: ${port.name} is there twice`);
    if (port.state !== 'started') throw new VirtioError(`${port.name}: start the port before lcores forward on it`, { code: 'ENETDOWN' });
  }
  return first.environment;
}

/** The addresses that packets sent by a port go to. */
function peersOf({ ports, peers = [] }: LaunchOptions): (id: number) => MacAddress {
  const addresses = peers.map((text) => {
    const mac = parseMac(text);
    if (mac === undefined) throw new RangeError(`peers: ${text} is no address; use XX:XX:XX:XX:XX:XX`);
    return mac;
  });
  return (id) => addresses[ports.findIndex((port) => port.id === id)] ?? Uint8Array.of(0x02, 0, 0, 0, 0, id);
}

function sleepOf({ sleep = false, ports }: LaunchOptions): SleepSettings | undefined {
  if (sleep === false) return undefined;
  const { afterEmptyRounds } = sleep === true ? { afterEmptyRounds: EMPTY_ROUNDS } : sleep;
  if (!Number.isInteger(afterEmptyRounds) || afterEmptyRounds < 1) {
    throw new RangeError(`sleep.afterEmptyRounds ${String(afterEmptyRounds)}: use 1 and up`);
  }
  for (const { ethdev, name } of ports) {
    if ((ethdev.configuration?.rxQueues ?? 0) > 0 && !hasInterrupts(ethdev.rxQueueHandle(0).kind)) {
      throw new VirtioError(`${name}: sleep: it cannot tell of packets, and has to be polled`, { code: 'EOPNOTSUPP' });
    }
  }
  return { afterEmptyRounds };
}

/** The router of a plan, with its ports and routes. */
function routerOf(environment: Environment, options: LaunchOptions): Router {
  const { ports, routes = [] } = options;
  const flows = routes.filter((route) => 'flow' in route).length;
  const router = new Router(environment.arena.memory, environment.context.main.kernels, { flows });
  const peer = peersOf(options);
  try {
    for (const [output, { id, mac }] of ports.entries()) router.addPort(id, { output, source: mac, destination: peer(id) });
    for (const route of routes) {
      if (!ports.includes(route.port)) throw new RangeError(`routes: ${route.port.name} is none of the ports`);
      if ('to' in route) router.addRoute(route.to, route.port.id);
      else {
        const { to, from, toPort, fromPort, protocol } = route.flow;
        const [destination, source] = [to, from].map((text) => {
          const address = parseIpAddress(text);
          if (address === undefined) throw new RangeError(`routes: ${text} is no IP address`);
          return address;
        });
        const ends = { destination: destination ?? new Uint8Array(0), source: source ?? new Uint8Array(0) };
        router.addFlow({ ...ends, destinationPort: toPort, sourcePort: fromPort, protocol }, route.port.id);
      }
    }
  } catch (error) {
    router.close();
    throw error;
  }
  return router;
}

function checkedRate(rate: number): number {
  if (!Number.isInteger(rate) || rate < 0 || rate > RATE_LIMIT)
    throw new RangeError(`txRate ${String(rate)}: use 0..${String(RATE_LIMIT)} packets a second`);
  return rate;
}

function planOf(engine: string | ModuleUrl, options: LaunchOptions, lcores: readonly LcoreOptions[]): ForwardingPlan {
  const { ports, topology = 'paired', burst = 32, retry, flush = false, txSegments = [64], txRate = 0 } = options;
  if (!topologies.includes(topology)) throw new RangeError(`topology ${topology}: use ${topologies.join(', ')}`);
  if (!Number.isInteger(burst) || burst < 1 || burst > BURST_LIMIT)
    throw new RangeError(`burst ${String(burst)}: use 1..${String(BURST_LIMIT)}`);
  const room = ports[0]?.arena.dataRoom ?? 0;
  for (const segment of txSegments) {
    if (!Number.isInteger(segment) || segment < 1 || segment > room)
      throw new RangeError(`txSegments ${String(segment)}: use 1..${String(room)} bytes`);
  }
  if (txSegments.length > 255 || (txSegments[0] ?? 0) < 42)
    throw new RangeError('txSegments: 1..255 segments, the first of 42 bytes or more');
  const queues = Math.min(...ports.map((port) => port.queues));
  const { lcores: planned } = planStreams({
    ports: ports.map(({ id }) => id),
    rxQueues: queues,
    txQueues: queues,
    lcores: lcores.map(({ id }) => id),
    cores: lcores.length,
    topology,
    peer: peersOf(options),
  });
  const used = lcores.filter(({ id }) => planned.some((lcore) => lcore.id === id));
  const routes = engine === ROUTING_ENGINE;
  if (routes && used.length > queues) {
    throw new RangeError(`lcores: ${String(used.length)} that route need a transmit queue each, and a port has ${String(queues)}`);
  }
  return {
    engine: engineUrl(engine),
    streams: planned.flatMap(({ streams }, queue) =>
      streams.map((stream) => (routes ? { ...stream, outputs: ports.map(({ id }) => ({ port: id, queue })) } : stream)),
    ),
    sleep: sleepOf(options),
    burst,
    retry,
    txSegments,
    flowgenFlows: 1024,
    txRate: checkedRate(txRate),
    verbose: 0,
    txFirst: 0,
    flushRx: flush,
  };
}

/** Lcores that run an engine. */
export class LaunchedLcores implements AsyncDisposable {
  readonly environment: Environment;
  readonly ports: readonly PacketPort[];
  /**
   * Resolves when the lcores have stopped; rejected when one of them fails (an engine that throws), the others going on until
   * stop().
   */
  readonly finished: Promise<void>;
  readonly #streams: readonly Stream[];
  readonly #slots: readonly number[];
  #lcores: WorkerLcores | undefined;
  #router: Router | undefined;
  #stopping: Promise<void> | undefined;
  #finish = (): void => undefined;
  #fail = (_error: Error): void => undefined;
  #last: readonly StreamCounters[] | undefined;
  #lastLatency: readonly (Latency | undefined)[] | undefined;

  private constructor(environment: Environment, ports: readonly PacketPort[], streams: readonly Stream[], slots: readonly number[]) {
    this.environment = environment;
    this.ports = ports;
    this.#streams = streams;
    this.#slots = slots;
    this.finished = new Promise((resolve, reject) => {
      this.#finish = resolve;
      this.#fail = reject;
    });
    // who does not ask is told by the log
    this.finished.catch(() => undefined);
  }

  /** @internal */
  static async launch(engine: string | ModuleUrl, options: LaunchOptions): Promise<LaunchedLcores> {
    allCpus ??= availableCpus();
    const cpus = allCpus;
    const chosen = chosenLcores(options.lcores, cpus);
    const environment = environmentOf(options.ports);
    const plan = planOf(engine, options, chosen);
    const used = chosen.filter(({ id }) => plan.streams.some((stream) => stream.lcore === id));
    const slots = environment.takeSlots(used.length);
    const launched = new LaunchedLcores(environment, options.ports, plan.streams, slots);
    environment.addGroup(launched);
    running++;
    try {
      for (const port of options.ports) port.handOver(launched);
      const taken = new Set(used.flatMap((lcore) => lcore.cpus));
      const rest = cpus.filter((cpu) => !taken.has(cpu));
      launched.#lcores = await WorkerLcores.launch({
        arena: environment.arena.memory,
        target: environment.target,
        main: { id: -1, cpus: rest.length === 0 ? cpus : rest },
        forwarding: used.map((lcore, index) => ({ ...lcore, slot: slots[index] })),
        pool: () => environment.arena.pool,
        port: (id) => options.ports.find((port) => port.id === id)?.ethdev,
        print: environment.context.log,
        onFailure: (error) => {
          environment.context.log(error.message);
          launched.#fail(error);
        },
      });
      const router = plan.engine === ROUTING_ENGINE ? routerOf(environment, options) : undefined;
      launched.#router = router;
      await launched.#lcores.start({ ...plan, router: router?.offset });
    } catch (error) {
      await launched.stop();
      throw error;
    }
    return launched;
  }

  /** Streams and what they moved: live while running, final afterwards. */
  counters(): readonly LaunchedStream[] {
    const counters = this.#last ?? this.#lcores?.counters() ?? [];
    return this.#streams.flatMap((stream, index) => {
      const rxPort = this.ports.find(({ id }) => id === stream.rxPort);
      const txPort = this.ports.find(({ id }) => id === stream.txPort);
      const moved = counters[index];
      if (rxPort === undefined || txPort === undefined || moved === undefined) return [];
      return [{ lcore: stream.lcore, rxPort, txPort, queue: stream.rxQueue, ...moved }];
    });
  }

  /** How often each lcore has slept, and how often packets woke it; empty after stop(). */
  sleeps(): readonly LcoreSleeps[] {
    return this.#stopping === undefined ? (this.#lcores?.sleeps() ?? []) : [];
  }

  /** What the engine `latency` recorded, a stream each, in the order of counters(): live while running, final afterwards; empty with other engines. */
  latency(): readonly Latency[] {
    return (this.#lastLatency ?? this.#lcores?.latency() ?? []).flatMap((latency) => latency ?? []);
  }

  /** Another `txRate`, from now on. Throws RangeError for one that cannot be. */
  setTxRate(rate: number): void {
    this.#lcores?.setTxRate(checkedRate(rate));
  }

  /** The routes of the engine `l3fwd`, to add to and take from while it runs; undefined with other engines. */
  get router(): Router | undefined {
    return this.#router;
  }

  /** Stops the engines, ends the Workers and gives the ports back. Later calls wait for the first. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  /** The same as stop(). */
  close(): Promise<void> {
    return this.stop();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  /** @internal */
  async gracePeriod(): Promise<void> {
    await this.#lcores?.gracePeriod();
  }

  async #stop(): Promise<void> {
    try {
      await this.#lcores?.stop();
      this.#last = this.#lcores?.counters() ?? [];
      this.#lastLatency = this.#lcores?.latency() ?? [];
      await this.#lcores?.close();
    } finally {
      this.#router?.close();
      this.#router = undefined;
      this.environment.removeGroup(this, this.#slots);
      for (const port of this.ports) port.takeBack(this);
      running--;
      if (running === 0 && allCpus !== undefined) pinOtherThreads(allCpus);
      this.#finish();
    }
  }
}

/**
 * Runs a forwarding engine on lcores: a Worker each, pinned to its CPU, polling its streams until stop(), or asleep while nothing comes. The other threads of
 * the process are moved off those CPUs where it has more.
 *
 * ```ts
 * await using cores = await launch(new URL('./engine.ts', import.meta.url), { lcores: [1, 2], ports: [a, b] });
 * ```
 * @param engine a module whose export `engine` is a ForwardingEngine (URL or path; TypeScript where Node or tsx reads it), or
 * the name of one that is here: io, mac, macswap, 5tswap, rxonly, txonly, flowgen, csum, icmpecho, latency, l3fwd
 * @throws RangeError for lcores, ports or numbers that cannot be; VirtioError EINVAL for an engine that is not known, ENOENT for a
 * file that is not there, EIO when the engine fails to load or to begin, ENETDOWN for a
 * port that is not started, EBUSY for one that other lcores have
 */
export function launch(engine: string | ModuleUrl, options: LaunchOptions): Promise<LaunchedLcores> {
  return LaunchedLcores.launch(engine, options);
}
