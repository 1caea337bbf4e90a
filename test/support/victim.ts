/**
 * The process under attack: port 0 faces the hostile peer; ports 1 and 2, a net_vhost and a virtio_user of the same process joined by a
 * real socket, send packets to each other all the time and must never notice.
 * @module
 */
import { expect } from 'vitest';
import { until } from './deadline.ts';
import { memoryArguments } from './huge-pages.ts';
import { SocketDirectory } from './pair.ts';
import { fileMappings, isAlive, openDescriptors } from './processes.ts';
import type { Program } from './program.ts';
import { Testpmd } from './testpmd.ts';

/** DPDK_TS_TEST_VICTIM=dpdk attacks DPDK instead: to tell a fault of a test from a fault of ours, and to see what others do. */
export const VICTIM: Program = process.env['DPDK_TS_TEST_VICTIM'] === 'dpdk' ? 'dpdk' : 'dpdk-ts';

interface Held {
  readonly descriptors: number;
  readonly mappings: number;
}

/** What a peer does while the victim starts. */
export type Meanwhile = (socket: string, started: Promise<unknown>) => Promise<void>;

export class Victim implements AsyncDisposable {
  readonly testpmd: Testpmd;
  readonly directory: SocketDirectory;
  /** Socket that port 0 serves, or connects to. */
  readonly socket: string;
  readonly #device: string;
  #baseline: Held | undefined;
  #stderrSeen = 0;

  /** @param device device arguments of port 0, given the path of its socket */
  static async start(device: (socket: string) => string, meanwhile?: Meanwhile): Promise<Victim> {
    const directory = new SocketDirectory();
    const inner = `${directory.path}/inner.sock`;
    // DPDK's net_vhost does not listen yet when its virtio_user connects
    const bystanders =
      VICTIM === 'dpdk' ? ['net_null1', 'net_null2'] : [`net_vhost1,iface=${inner},queues=1`, `virtio_user2,path=${inner},queues=1`];
    const testpmd = Testpmd.spawn({
      program: VICTIM,
      eal: [
        ...['--lcores', '0@0,1@1'],
        // ordinary pages: a raw device can then reach this process's memory by pread and pwrite
        ...memoryArguments('ordinary').eal,
        ...['--vdev', device(directory.socket)],
        ...bystanders.flatMap((bystander) => ['--vdev', bystander]),
      ],
      app: ['--port-topology=loop', '--total-num-mbufs=8192'],
    });
    const victim = new Victim(testpmd, directory, device('').split(',')[0] ?? '');
    try {
      const started = testpmd.ready();
      await Promise.all([started, meanwhile?.(directory.socket, started)]);
      await testpmd.waitForLink(true, 1);
      await testpmd.commands('set fwd io', 'start tx_first 2');
      await victim.expectBystandersForward();
      return victim;
    } catch (error) {
      await victim[Symbol.asyncDispose]();
      throw error;
    }
  }

  private constructor(testpmd: Testpmd, directory: SocketDirectory, device: string) {
    this.#device = device;
    this.testpmd = testpmd;
    this.directory = directory;
    this.socket = directory.socket;
  }

  /** Remembers what the process holds now: what it must hold again after the attack. */
  begin(): void {
    this.#baseline = this.#held();
    this.listen();
  }

  /** Forgets what it printed on stderr: what counts as a complaint comes from now on. */
  listen(): void {
    this.#stderrSeen = this.testpmd.stderr.length;
  }

  /** What it printed on stderr since begin() or listen(). */
  get said(): string {
    return this.testpmd.stderr.slice(this.#stderrSeen);
  }

  /** Waits until stderr names the peer by its socket or by the port that faces it. */
  async expectComplaint(): Promise<void> {
    const named = (): boolean => this.said.includes(this.socket) || this.said.includes('port 0') || this.said.includes(this.#device);
    await until(10_000, () => `a message on stderr that names ${this.socket} or ${this.#device}; it said: ${this.said}`, named);
  }

  async expectBystandersForward(): Promise<void> {
    for (const port of [1, 2]) {
      const { rxPackets } = await this.testpmd.statistics(port);
      await this.testpmd.waitForStatistics(`port ${port} forwards on`, (now) => now.rxPackets > rxPackets + 100, port, 3000);
    }
  }

  /** After the attack: alive, the others forward, nothing is held that was not held before. */
  async expectUnharmed(): Promise<void> {
    expect(isAlive(this.testpmd.pid), this.testpmd.transcript()).toBe(true);
    await this.expectBystandersForward();
    const baseline = this.#baseline;
    if (baseline === undefined) throw new Error('begin() was not called');
    const leaked = (): boolean => {
      const now = this.#held();
      return now.descriptors > baseline.descriptors || now.mappings > baseline.mappings;
    };
    await until(
      3000,
      () => `everything released: before ${JSON.stringify(baseline)}, after ${JSON.stringify(this.#held())}\n${this.#inventory()}`,
      () => !leaked(),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.testpmd[Symbol.asyncDispose]();
    this.directory[Symbol.dispose]();
  }

  #held(): Held {
    return { descriptors: openDescriptors(this.testpmd.pid).size, mappings: fileMappings(this.testpmd.pid).length };
  }

  #inventory(): string {
    const descriptors = [...openDescriptors(this.testpmd.pid)].map(([fd, target]) => `${fd} -> ${target}`);
    return [...descriptors, ...fileMappings(this.testpmd.pid)].join('\n');
  }
}

/**
 * One victim for many attacks: it is replaced after an attack that harmed it, so that every failure is of its own making.
 */
export class Arena {
  readonly #device: (socket: string) => string;
  readonly #prove: (victim: Victim) => Promise<void>;
  readonly #meanwhile: Meanwhile | undefined;
  #victim: Victim | undefined;

  /** @param prove honest traffic with port 0, the proof that it is well */
  constructor(device: (socket: string) => string, prove: (victim: Victim) => Promise<void>, meanwhile?: Meanwhile) {
    this.#device = device;
    this.#prove = prove;
    this.#meanwhile = meanwhile;
  }

  async open(): Promise<void> {
    if (this.#victim !== undefined) return;
    this.#victim = await Victim.start(this.#device, this.#meanwhile);
    // what a first connection allocates for good is no leak
    await this.#prove(this.#victim);
  }

  /** Has the victim attacked; then expects it to be alive, to hold nothing more than before, and to serve an honest peer. */
  async attack(run: (victim: Victim) => Promise<void>): Promise<void> {
    const victim = this.#victim;
    if (victim === undefined) throw new Error('open() was not called');
    try {
      victim.begin();
      await run(victim);
      await victim.expectUnharmed();
      await this.#prove(victim);
    } catch (error) {
      this.#victim = undefined;
      const said = victim.testpmd.transcript();
      await victim[Symbol.asyncDispose]();
      throw new Error(`${error instanceof Error ? error.message : String(error)}\n${said}`, { cause: error });
    }
  }

  async close(): Promise<void> {
    const victim = this.#victim;
    this.#victim = undefined;
    if (victim === undefined) return;
    try {
      await victim.testpmd.quit();
    } finally {
      await victim[Symbol.asyncDispose]();
    }
  }
}
