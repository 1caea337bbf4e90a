/**
 * Two testpmd processes joined by a vhost-user socket: a virtio_user port (the driver) in one, a net_vhost port (the device) in the other.
 * @module
 */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { until } from './deadline.ts';
import { memoryArguments, usualMemory, type MemoryKind } from './huge-pages.ts';
import { lcoresArgument, type Program } from './program.ts';
import { Testpmd, type TestpmdOptions } from './testpmd.ts';

export type Side = 'driver' | 'device';

export interface SideOptions {
  readonly program: Program;
  readonly memory?: MemoryKind;
  /** More EAL arguments: `--vdev net_pcap0,...`. They come before the port under test, whose number they raise. */
  readonly eal?: readonly string[];
  readonly app?: readonly string[];
  /** Forwarding lcores, all on the side's CPU; 1 when left out. */
  readonly lcores?: number;
  /** Command that the program is the argument of, for a namespace of its own. */
  readonly wrapper?: readonly string[];
  /** Path of the socket as this side sees it. */
  readonly socket?: string;
}

export interface PairOptions {
  readonly driver: SideOptions;
  readonly device: SideOptions;
  /** Which side owns the socket file. */
  readonly server: Side;
  readonly queues?: number;
  readonly mergeable?: boolean;
  readonly inOrder?: boolean;
  readonly packed?: boolean;
  readonly vectorized?: boolean;
  /** Descriptors of each ring; 256 when left out. */
  readonly queueSize?: number;
}

const MBUFS_PER_QUEUE = 2048;
/** DPDK's driver takes packets back when its ring is full, and not when mbufs run out: a ring full of packets of five segments has to be there. */
const MBUFS_PER_DESCRIPTOR = 6;

/** The command line of one side. */
export function sideCommandLine(options: PairOptions, side: Side, socket: string): TestpmdOptions {
  const { program, memory = usualMemory(), eal = [], app = [], wrapper = [], lcores = 1, socket: path = socket } = options[side];
  const queues = options.queues ?? 1;
  const serves = options.server === side;
  const flag = (on: boolean | undefined): string => (on === false ? '0' : '1');
  const device =
    side === 'driver'
      ? `virtio_user0,path=${path},queues=${queues},server=${serves ? 1 : 0},mrg_rxbuf=${flag(options.mergeable)},in_order=${flag(options.inOrder)}` +
        (options.packed === true ? ',packed_vq=1' : '') +
        (options.vectorized === true ? ',vectorized=1' : '') +
        (options.queueSize === undefined ? '' : `,queue_size=${options.queueSize}`)
      : `net_vhost0,iface=${path},queues=${queues},client=${serves ? 0 : 1}`;
  const held = memoryArguments(memory);
  const perQueue = program === 'dpdk' ? Math.max(MBUFS_PER_QUEUE, MBUFS_PER_DESCRIPTOR * (options.queueSize ?? 0)) : MBUFS_PER_QUEUE;
  return {
    program,
    eal: [...lcoresArgument(side === 'driver' ? 0 : 1, lcores), ...held.eal, ...eal, '--vdev', device],
    app: [`--nb-cores=${lcores}`, `--rxq=${queues}`, `--txq=${queues}`, `--total-num-mbufs=${perQueue * (queues + 1)}`, ...app],
    wrapper: [...wrapper, ...held.wrapper],
    ownFiles: serves ? [socket] : [],
  };
}

/** A directory of its own for the socket of a test, removed with it. */
export class SocketDirectory implements Disposable {
  readonly path = mkdtempSync(join(tmpdir(), 'dpdk-ts-'));
  readonly socket = join(this.path, 'vhost.sock');

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

export class Pair implements AsyncDisposable {
  readonly options: PairOptions;
  readonly directory: SocketDirectory;
  driver: Testpmd;
  device: Testpmd;

  private constructor(options: PairOptions, directory: SocketDirectory, driver: Testpmd, device: Testpmd) {
    this.options = options;
    this.directory = directory;
    this.driver = driver;
    this.device = device;
  }

  /** Starts the server, then the client, and waits until both links are up. */
  static async start(options: PairOptions, directory = new SocketDirectory()): Promise<Pair> {
    const spawned: Testpmd[] = [];
    try {
      const server = Testpmd.spawn(sideCommandLine(options, options.server, directory.socket));
      spawned.push(server);
      await until(
        15_000,
        () => `the server's socket\n${server.transcript()}`,
        () => existsSync(directory.socket) || !server.running,
      );
      // a virtio_user that serves has no prompt before its peer is there; a net_vhost accepts best when it has one
      if (options.server === 'device') await server.ready();
      const clientSide = options.server === 'device' ? 'driver' : 'device';
      const client = Testpmd.spawn(sideCommandLine(options, clientSide, directory.socket));
      spawned.push(client);
      await Promise.all([server.ready(), client.ready()]);
      const pair =
        options.server === 'device' ? new Pair(options, directory, client, server) : new Pair(options, directory, server, client);
      await pair.linksUp();
      return pair;
    } catch (error) {
      for (const testpmd of spawned) await testpmd.kill();
      directory[Symbol.dispose]();
      throw error;
    }
  }

  /** Number of the port under test in its process: the ports given before it come first. */
  port(side: Side): number {
    return (this.options[side].eal ?? []).filter((argument) => argument === '--vdev').length;
  }

  /** Starts one side again, after it was killed or quit; resolves when both links are up. */
  async restart(side: Side): Promise<Testpmd> {
    // a server that was killed leaves its socket file, and DPDK's own restart does not get past it
    if (this.options.server === side && this[side].program === 'dpdk') rmSync(this.directory.socket, { force: true });
    const testpmd = await Testpmd.start(sideCommandLine(this.options, side, this.directory.socket));
    this[side] = testpmd;
    await this.linksUp();
    return testpmd;
  }

  /** Waits until both links are up: a driver's is, where DPDK's device has answered it and not begun yet. */
  async linksUp(): Promise<void> {
    await Promise.all([this.driver.waitForLink(true, this.port('driver')), this.device.waitForLink(true, this.port('device'))]);
  }

  /** Quits both cleanly, client first, and checks what each leaves behind. */
  async quit(): Promise<void> {
    const [first, second] = this.options.server === 'device' ? [this.driver, this.device] : [this.device, this.driver];
    await first.quit();
    await second.quit();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await Promise.all([this.driver[Symbol.asyncDispose](), this.device[Symbol.asyncDispose]()]);
    } finally {
      this.directory[Symbol.dispose]();
    }
  }
}
