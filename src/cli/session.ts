/**
 * A testpmd from its first port to its last word: owns the ports' configuration and the forwarding, and says what it does.
 *
 * ```
 * begin()  checks the options that depend on ports and lcores, starts the ports
 *   |      commands (commands/), one at a time through exclusive()
 * end()    stops forwarding, stops and closes the ports: "Bye..."
 * ```
 * @module
 */
import { setTimeout as delay } from 'node:timers/promises';

import type { Mempool } from '../memory/mempool.ts';
import type { Port } from '../port/port.ts';
import { VirtioError } from '../system/error.ts';
import type { Lcores } from '../lcore/forwarding-plan.ts';
import { Captures } from './session/captures.ts';
import type { StartCapture } from './session/captures.ts';
import { Csum } from './session/csum.ts';
import { Forwarding } from './session/forwarding.ts';
import { isEngineModule } from './session/engines.ts';
import type { SessionOptions } from './session/options.ts';
import { Output } from './session/output.ts';
import type { Write } from './session/output.ts';
import { PortConfigurator } from './session/port-configuration.ts';
import { PortControl } from './session/port-control.ts';
import { PortDisplay } from './session/port-display.ts';
import { PortFilters } from './session/port-filters.ts';
import { PortOffloads } from './session/port-offloads.ts';
import { PortRss } from './session/port-rss.ts';
import { PortSwitches } from './session/port-switches.ts';
import { PortTable } from './session/port-table.ts';
import type { Settings } from './session/settings.ts';
import { initialSettings } from './session/settings.ts';

export { announceOptions, defaultOptions } from './session/options.ts';
export type { SessionOptions } from './session/options.ts';

/** Milliseconds between the news that a device is gone and its detachment. */
const removalDelay = 100;

export interface SessionContext {
  readonly options: SessionOptions;
  /** Ports that exist at start, ids 0, 1, … in order. The session closes them; the lcores and the pool stay the caller's. */
  readonly ports: readonly Port[];
  readonly lcores: Lcores;
  readonly mainLcore: number;
  /** Receive buffers of every queue. */
  readonly mempool: Mempool;
  /** Names of the forwarding engines there are. */
  readonly engines: readonly string[];
  /** Creates the device that `devargs` (as after --vdev) asks for, with this id. */
  readonly attachPort: (devargs: string, id: number) => Promise<Port>;
  /** Begins to write the packets of a port to a file; without it there are no captures. */
  readonly startCapture?: StartCapture;
  readonly output: Write;
  /** Where what went wrong is written; `output` by default. */
  readonly errors?: Write;
  /** Ends waits and the prompt: SIGINT, SIGTERM. */
  readonly signal?: AbortSignal;
}

export class Session {
  readonly options: SessionOptions;
  readonly engines: readonly string[];
  readonly output: Output;
  readonly settings: Settings;
  readonly ports = new PortTable();
  readonly forwarding: Forwarding;
  readonly control: PortControl;
  readonly configuration: PortConfigurator;
  readonly display: PortDisplay;
  readonly offloads: PortOffloads;
  readonly csum: Csum;
  readonly switches: PortSwitches;
  readonly filters: PortFilters;
  readonly rss: PortRss;
  readonly captures: Captures;
  readonly #lcores: Lcores;
  readonly #interruption = new AbortController();
  #last: Promise<unknown> = Promise.resolve();
  #ended = false;

  constructor(context: SessionContext) {
    const { options, lcores, mainLcore } = context;
    this.options = options;
    this.engines = context.engines;
    this.output = new Output(context.output, context.errors);
    this.settings = initialSettings(options);
    this.#lcores = lcores;
    context.signal?.addEventListener('abort', () => this.interrupt(), { once: true });
    if (context.signal?.aborted === true) this.interrupt();

    const shared = { ports: this.ports, settings: this.settings, output: this.output };
    this.offloads = new PortOffloads(this.ports, this.output);
    this.csum = new Csum({ ...shared, offloads: this.offloads, lcores, isRunning: () => this.forwarding.running });
    this.forwarding = new Forwarding({ ...shared, lcores, mainLcore, csum: this.csum }, options);
    this.control = new PortControl(
      {
        ...shared,
        forwarding: this.forwarding,
        mempool: context.mempool,
        signal: this.signal,
        attachPort: context.attachPort,
        onRemoval: (port) => this.#removeLater(port),
      },
      options,
    );
    for (const port of context.ports) this.control.add(port);
    this.forwarding.useAll();
    this.configuration = new PortConfigurator({ ...shared, forwarding: this.forwarding, control: this.control });
    this.display = new PortDisplay({ ...shared, forwarding: this.forwarding });
    this.captures = new Captures({ ports: this.ports, output: this.output, startCapture: context.startCapture });
    this.switches = new PortSwitches(this.ports, this.output);
    this.filters = new PortFilters(this.ports, this.output);
    this.rss = new PortRss(shared);
  }

  /** Aborted once the session was asked to end: commands that wait give up. */
  get signal(): AbortSignal {
    return this.#interruption.signal;
  }

  /** Asks whatever runs the session to end it. */
  interrupt(): void {
    this.#interruption.abort();
  }

  /** Runs one thing at a time, in the order asked. */
  async exclusive<Result>(action: () => Promise<Result> | Result): Promise<Result> {
    const result = this.#last.then(action);
    this.#last = result.catch(() => undefined);
    return result;
  }

  #removeLater(port: number): void {
    const remove = async (): Promise<void> => {
      await delay(removalDelay, undefined, { ref: false });
      await this.exclusive(() => (this.#ended ? undefined : this.control.remove(port)));
    };
    remove().catch((error: unknown) => this.output.warn(String(error)));
  }

  #applyOptions(): void {
    const { options, forwarding, configuration } = this;
    const fail = (message: string): never => {
      throw new VirtioError(message, { code: 'EINVAL' });
    };
    const lcores = this.#lcores.forwarding.length;
    if (lcores === 0) fail('No cores defined for forwarding\nCheck the core mask argument');
    for (const [direction, count] of [
      ['rx', options.rxQueues],
      ['tx', options.txQueues],
    ] as const) {
      if (this.ports.size === 0) break;
      const { fits, most } = configuration.checkQueues(direction, count);
      if (!fits) fail(`${direction}q ${count} invalid - must be >= 0 && <= ${most}`);
    }
    const { forwardMode, retry, forwardingLcores, forwardingPorts, cores, ports } = options;
    if (forwardMode !== undefined) {
      if (!this.engines.includes(forwardMode) && !isEngineModule(forwardMode)) fail(`Invalid ${forwardMode} packet forwarding mode`);
      forwarding.setEngine(forwardMode, retry);
    }
    if (forwardingLcores !== undefined && !forwarding.setCoreList(forwardingLcores)) fail('coremask is not valid');
    if (forwardingPorts !== undefined) forwarding.setPortList(forwardingPorts.filter((id) => this.ports.get(id) !== undefined));
    if (cores !== undefined && (cores < 1 || cores > lcores)) fail(`nb-cores should be > 0 and <= ${lcores}`);
    if (ports !== undefined && (ports < 1 || ports > this.ports.size)) fail(`Invalid port ${ports}`);
    forwarding.limit(cores, ports);
  }

  /**
   * Starts the ports as the options say.
   * @throws VirtioError EINVAL for an option that does not fit the ports or lcores; EIO when ports cannot start and nobody is there to see to it
   */
  async begin(): Promise<void> {
    const { options, output } = this;
    this.#applyOptions();
    if (options.rxQueues > 1 && options.rxQueues > options.txQueues) {
      output.warn(
        `Warning: nb_rxq=${options.rxQueues} enables RSS configuration, but nb_txq=${options.txQueues} will prevent to fully test it.`,
      );
    }
    this.forwarding.setUp();
    for (const { port, options: wish } of options.captures) this.captures.begin(port, wish);
    if (options.startPorts && !(await this.control.start('all'))) {
      if (!options.interactive) throw new VirtioError('Start ports failed', { code: 'EIO' });
      output.warn('Start ports failed');
    }
    for (const { port } of this.ports.list()) await this.control.enablePromiscuous(port);
  }

  /** Stops and closes everything, once, and says so. */
  async end(): Promise<void> {
    await this.exclusive(async () => {
      if (this.#ended) return;
      this.#ended = true;
      const { output } = this;
      if (this.forwarding.running) await this.forwarding.stop();
      output.print("\nPrimary: Sending 'stop_req' request to secondary...\n");
      this.settings.linkCheck = false;
      for (const id of this.ports.ids()) {
        output.print(`\nStopping port ${id}...\n`);
        await this.control.stop(id);
      }
      for (const id of this.ports.ids()) {
        output.print(`\nShutting down port ${id}...\n`);
        await this.control.close(id, true);
      }
      output.print('\nBye...\n');
    });
  }
}
