/**
 * One testpmd process, ours or DPDK's, driven by its prompt.
 *
 * Everything has a time limit, and every path ends the process: `await using` in the test, kill -9 after a deadline, and
 * the whole process group at the end. What a clean exit must not leave behind is checked by close().
 * @module
 */
import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { existsSync, rmSync } from 'node:fs';
import { sleep, until, within } from './deadline.ts';
import { processGroup } from './processes.ts';
import { programCommand, type Program } from './program.ts';
import { linkUpIn, portStatisticsIn, type PortStats } from './statistics.ts';

export const PROMPT = 'testpmd> ';

export interface TestpmdOptions {
  readonly program: Program;
  /** EAL arguments, before `--`. */
  readonly eal: readonly string[];
  /** testpmd's own arguments, after `--`; `-i` is added. */
  readonly app?: readonly string[];
  /** Command that the program is the argument of: `unshare ...`. */
  readonly wrapper?: readonly string[];
  /** Files that must be gone after a clean exit. */
  readonly ownFiles?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  /** Milliseconds until the first prompt. */
  readonly startLimit?: number;
}

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** Another thread's line, printed at any moment: between two letters of a prompt as well. */
const EVENT = /\n?Port \d+: [a-z ]+ event\n/g;
const COMMAND_LIMIT = 10_000;
const QUIT_LIMIT = 10_000;
/** What does not receive for so long does not receive any more. */
const STILL_MILLISECONDS = 1500;
let lastPrefix = 0;

export class Testpmd implements AsyncDisposable {
  readonly program: Program;
  readonly pid: number;
  readonly exited: Promise<Exit>;
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #ownFiles: readonly string[];
  readonly #filePrefix: string;
  readonly #command: string;
  #exit: Exit | undefined;
  #stdout = '';
  #stderr = '';
  #changed: (() => void)[] = [];

  /** Spawns the process and does not wait for its prompt: a virtio_user in server mode blocks until its peer is there. */
  static spawn(options: TestpmdOptions): Testpmd {
    return new Testpmd(options);
  }

  /** Spawns the process and waits for its prompt. */
  static async start(options: TestpmdOptions): Promise<Testpmd> {
    const testpmd = new Testpmd(options);
    try {
      await testpmd.ready(options.startLimit);
    } catch (error) {
      await testpmd.kill();
      throw error;
    }
    return testpmd;
  }

  private constructor(options: TestpmdOptions) {
    this.program = options.program;
    this.#ownFiles = options.ownFiles ?? [];
    this.#filePrefix = `dpdk-ts-test-${process.pid}-${++lastPrefix}`;
    const [file = '', ...rest] = [
      ...(options.wrapper ?? []),
      ...programCommand(options.program),
      '--no-pci',
      '--file-prefix',
      this.#filePrefix,
      ...options.eal,
      '--',
      '-i',
      ...(options.app ?? []),
    ];
    this.#command = [file, ...rest].join(' ');
    // a process group of its own: a Ctrl-C at the test run does not reach it before its test does, and leftovers are found
    this.#child = spawn(file, rest, { detached: true, env: { ...process.env, ...options.environment } });
    this.pid = this.#child.pid ?? -1;
    this.#child.stdout.setEncoding('utf8').on('data', (text: string) => {
      this.#stdout += text;
      this.#notify();
    });
    this.#child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr += text;
      this.#notify();
    });
    // a write to a process that has just died
    this.#child.stdin.on('error', () => undefined);
    this.exited = new Promise((resolve) => {
      this.#child.once('error', (error) => {
        this.#stderr += `\n${error.message}\n`;
        resolve({ code: 127, signal: null });
      });
      this.#child.once('close', (code, signal) => resolve({ code, signal }));
    });
    void this.exited.then((exit) => {
      this.#exit = exit;
      this.#notify();
    });
    registerForCleanup(this);
  }

  get stdout(): string {
    return this.#stdout;
  }

  get stderr(): string {
    return this.#stderr;
  }

  get running(): boolean {
    return this.#exit === undefined;
  }

  /** Waits for the first prompt. */
  async ready(limit = 20_000): Promise<this> {
    await this.#waitFor(() => this.#stdout.replace(EVENT, '').includes(PROMPT), limit, 'the first prompt');
    return this;
  }

  /** Types one command and returns what is printed before the next prompt, without the echo. */
  async command(text: string, limit = COMMAND_LIMIT): Promise<string> {
    const from = this.#stdout.length;
    const printed = (): string => this.#stdout.slice(from).replace(EVENT, '').replaceAll('\r', '');
    this.#child.stdin.write(`${text}\n`);
    await this.#waitFor(() => printed().includes(PROMPT), limit, `the prompt after '${text}'`);
    const all = printed();
    const answer = all.slice(0, all.indexOf(PROMPT));
    return answer.startsWith(`${text}\n`) ? answer.slice(text.length + 1) : answer;
  }

  /** Types several commands, one after the other. */
  async commands(...texts: readonly string[]): Promise<void> {
    for (const text of texts) await this.command(text);
  }

  async statistics(port = 0): Promise<PortStats> {
    return portStatisticsIn(await this.command(`show port stats ${port}`), port);
  }

  async linkUp(port = 0): Promise<boolean> {
    return linkUpIn(await this.command(`show port summary ${port}`), port);
  }

  async waitForLink(up = true, port = 0, limit = 8000): Promise<void> {
    await until(
      limit,
      () => `port ${port} ${up ? 'up' : 'down'}\n${this.transcript()}`,
      async () => (await this.linkUp(port)) === up,
      30,
    );
  }

  /** Waits until a counter satisfies `condition`; returns the statistics of that moment. */
  async waitForStatistics(what: string, condition: (statistics: PortStats) => boolean, port = 0, limit = 8000): Promise<PortStats> {
    const look = async (): Promise<PortStats | undefined> => {
      const statistics = await this.statistics(port);
      return condition(statistics) ? statistics : undefined;
    };
    return until(limit, () => `${what} on port ${port}\n${this.transcript()}`, look, 30);
  }

  /** Waits until the packets received are as many as expected, or stand still: everything that was sent has arrived, or is lost. */
  async drained(port = 0, expected = Infinity): Promise<PortStats> {
    let last = -1;
    let since = 0;
    return this.waitForStatistics(
      'receiving to end',
      ({ rxPackets }) => {
        if (rxPackets !== last) since = performance.now();
        last = rxPackets;
        // an lcore may have no CPU for a while
        return rxPackets >= expected || performance.now() - since > STILL_MILLISECONDS;
      },
      port,
    );
  }

  /** Waits until `pattern` has been printed on stdout or stderr since the start. */
  async printed(pattern: RegExp, limit = COMMAND_LIMIT): Promise<void> {
    await this.#waitFor(() => pattern.test(this.#stdout) || pattern.test(this.#stderr), limit, String(pattern));
  }

  /** Types `quit` and waits for the end. @throws Error when the exit status is not 0, or anything is left behind */
  async quit(limit = QUIT_LIMIT): Promise<void> {
    this.#child.stdin.write('quit\n');
    const exit = await this.#end(limit, 'the end after quit');
    if (exit.code !== 0) throw new Error(`exit status ${exit.code ?? exit.signal ?? '?'} after quit\n${this.transcript()}`);
    await this.#checkLeftovers();
  }

  /** Ends the input as Ctrl-D does. */
  endInput(): void {
    this.#child.stdin.end();
  }

  signal(signal: NodeJS.Signals): void {
    if (this.running) this.#child.kill(signal);
  }

  /** Waits until the process ended by itself or by a signal. */
  async waitForExit(limit = QUIT_LIMIT): Promise<Exit> {
    return this.#end(limit, 'the end of the process');
  }

  /** kill -9 of the whole process group. */
  async kill(): Promise<void> {
    if (this.running && this.pid > 0) {
      try {
        process.kill(-this.pid, 'SIGKILL');
      } catch {
        this.#child.kill('SIGKILL');
      }
      await this.#end(5000, 'the end after kill -9');
    }
    cleaned(this);
    // DPDK's run-time directory outlives a killed process
    rmSync(`/var/run/dpdk/${this.#filePrefix}`, { recursive: true, force: true });
  }

  /** Ends the process on whatever path: by `quit` if it still answers. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.running) {
      this.#child.stdin.write('quit\n');
      await Promise.race([this.exited, sleep(3000, undefined, { ref: false })]);
    }
    await this.kill();
  }

  /** Everything it printed, for a failed test's message. */
  transcript(): string {
    const tail = (text: string): string => (text.length > 6000 ? `...${text.slice(-6000)}` : text);
    return `--- ${this.#command}\n--- stdout\n${tail(this.#stdout)}\n--- stderr\n${tail(this.#stderr)}\n---`;
  }

  async #end(limit: number, what: string): Promise<Exit> {
    const exit = await within(limit, () => `${what}\n${this.transcript()}`, this.exited);
    cleaned(this);
    return exit;
  }

  async #checkLeftovers(): Promise<void> {
    const left = this.#ownFiles.filter((file) => existsSync(file));
    if (left.length > 0) throw new Error(`left behind: ${left.join(', ')}\n${this.transcript()}`);
    await until(
      1000,
      () => `left running: ${processGroup(this.pid).join(', ')}`,
      () => processGroup(this.pid).length === 0,
    );
  }

  async #waitFor(condition: () => boolean, limit: number, what: string): Promise<void> {
    if (condition()) return;
    const seen = new Promise<void>((resolve, reject) => {
      const look = (): void => {
        if (condition()) resolve();
        else if (this.#exit !== undefined)
          reject(new Error(`ended (${this.#exit.code ?? this.#exit.signal ?? '?'}) before ${what}\n${this.transcript()}`));
        else this.#changed.push(look);
      };
      look();
    });
    await within(limit, () => `${what}\n${this.transcript()}`, seen);
  }

  #notify(): void {
    const waiting = this.#changed;
    this.#changed = [];
    for (const look of waiting) look();
  }
}

/** Processes that live: ended with the test process, however that ends. */
const living = new Set<Testpmd>();
process.once('exit', killLiving);

function registerForCleanup(testpmd: Testpmd): void {
  living.add(testpmd);
}

function cleaned(testpmd: Testpmd): void {
  living.delete(testpmd);
}

function killLiving(): void {
  for (const { pid } of living) {
    try {
      if (pid > 0) process.kill(-pid, 'SIGKILL');
    } catch {
      // gone
    }
  }
}
