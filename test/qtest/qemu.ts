/**
 * A QEMU as a user starts it for `qtest=PATH`: its CPU halted, its memory in a file, and a monitor to pull plugs with.
 * @module
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { until, within } from '../support/deadline.ts';
import { findExecutable } from '../support/program.ts';

const MIB = 1024 * 1024;
/** Whatever happens, none outlives its test for long. */
const LIFE_MILLISECONDS = 120_000;

/** Why there is no QEMU here, or undefined. */
export const WHY_NO_QEMU: string | undefined =
  findExecutable('qemu-system-x86_64') === undefined ? 'no qemu-system-x86_64: apt-get install qemu-system-x86' : undefined;

export interface RunningQemuOptions {
  readonly chipSet?: 'q35' | 'pc';
  /** MiB of its RAM. */
  readonly megabytes?: number;
  /** Devices and netdevs. */
  readonly args: readonly string[];
  /** MiB of an ivshmem device's file besides. */
  readonly ivshmem?: number;
}

/** Sockets of both ends of a datagram netdev, as `-netdev dgram` and `netdev=[dgram,...]` take them. */
export function dgram(folder: string, own: string, peer: string): string {
  return `dgram,local.type=unix,local.path=${join(folder, own)},remote.type=unix,remote.path=${join(folder, peer)}`;
}

/** A folder for sockets and files of memory, gone with the test. */
export class Folder implements Disposable {
  readonly path: string;

  constructor() {
    // memory that is shared belongs into memory
    this.path = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'dpdk-ts-qtest-'));
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

/** QEMU's monitor (QMP). */
export class Monitor {
  readonly #socket: Socket;
  #answers: string[] = [];

  private constructor(socket: Socket) {
    this.#socket = socket;
    let partial = '';
    socket.on('error', () => undefined);
    socket.setEncoding('utf8').on('data', (text) => {
      const lines = (partial + String(text)).split('\r\n');
      partial = lines.pop() ?? '';
      this.#answers.push(...lines);
    });
  }

  static async connect(path: string): Promise<Monitor> {
    const monitor = new Monitor(connect(path));
    await monitor.run('qmp_capabilities');
    return monitor;
  }

  async run(execute: string, parameters: object = {}): Promise<void> {
    this.#answers = [];
    this.#socket.write(`${JSON.stringify({ execute, arguments: parameters })}\n`);
    const answer = await until(
      10_000,
      () => `QEMU's answer to ${execute}`,
      () => this.#answers.find((line) => /^\{"(return|error)"/.test(line)),
    );
    if (answer.startsWith('{"error"')) throw new Error(`${execute}: ${answer}`);
  }

  close(): void {
    this.#socket.destroy();
  }
}

export class RunningQemu implements AsyncDisposable {
  /** `qtest=` */
  readonly qtest: string;
  /** `memory=` */
  readonly memory: string;
  /** `ivshmem=` */
  readonly ivshmem: string;
  readonly #child: ChildProcess;
  readonly #exited: Promise<void>;
  readonly #monitorPath: string;
  #monitor: Monitor | undefined;
  #said = '';

  private constructor(folder: Folder, name: string, options: RunningQemuOptions) {
    const path = (kind: string): string => join(folder.path, `${name}.${kind}`);
    const { chipSet = 'q35', megabytes = 128 } = options;
    this.qtest = path('qtest');
    this.memory = path('memory');
    this.ivshmem = path('ivshmem');
    this.#monitorPath = path('qmp');
    const bios = Buffer.alloc(64 * 1024);
    // cli; hlt; jmp to the hlt
    bios.set([0xfa, 0xf4, 0xeb, 0xfd], 0xfff0);
    writeFileSync(path('bios'), bios);
    writeFileSync(this.memory, '');
    truncateSync(this.memory, megabytes * MIB);
    const shared = options.ivshmem;
    this.#child = spawn(
      'setpriv',
      [
        ...['--pdeathsig', 'KILL', 'qemu-system-x86_64'],
        ...['-M', `${chipSet},memory-backend=ram`, '-accel', 'tcg', '-m', `${megabytes}M`, '-nodefaults', '-no-user-config'],
        ...['-display', 'none', '-bios', path('bios')],
        ...['-object', `memory-backend-file,id=ram,size=${megabytes}M,mem-path=${this.memory},share=on`],
        ...['-qtest', `unix:${this.qtest},server=on,wait=off`, '-qtest-log', '/dev/null'],
        ...['-qmp', `unix:${this.#monitorPath},server=on,wait=off`],
        ...(shared === undefined
          ? []
          : [
              ...['-object', `memory-backend-file,id=shared,size=${shared}M,mem-path=${this.ivshmem},share=on`],
              ...['-device', 'ivshmem-plain,memdev=shared,addr=0x6'],
            ]),
        ...options.args,
      ],
      { stdio: ['ignore', 'ignore', 'pipe'], timeout: LIFE_MILLISECONDS, killSignal: 'SIGKILL' },
    );
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => (this.#said += text));
    this.#exited = new Promise((resolve) => {
      this.#child.once('error', () => resolve());
      this.#child.once('close', () => resolve());
    });
  }

  static async start(folder: Folder, name: string, options: RunningQemuOptions): Promise<RunningQemu> {
    const qemu = new RunningQemu(folder, name, options);
    try {
      await until(
        10_000,
        () => `QEMU's monitor; it says: ${qemu.#said}`,
        () => qemu.#child.exitCode !== null || existsSync(qemu.#monitorPath),
      );
      if (qemu.#child.exitCode !== null) throw new Error(`QEMU does not start: ${qemu.#said}`);
      qemu.#monitor = await Monitor.connect(qemu.#monitorPath);
      return qemu;
    } catch (error) {
      await qemu.kill();
      throw error;
    }
  }

  /** What QEMU printed, and how it ended. */
  get ending(): string {
    return `${this.#said} ${this.#child.exitCode ?? this.#child.signalCode ?? 'runs'}`;
  }

  get pid(): number {
    return this.#child.pid ?? -1;
  }

  /** Runs one command of the monitor. */
  async monitor(execute: string, parameters: object = {}): Promise<void> {
    await this.#monitor?.run(execute, parameters);
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  async kill(): Promise<void> {
    this.#monitor?.close();
    this.#child.kill('SIGKILL');
    await within(5000, 'the end of QEMU', this.#exited);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }
}
