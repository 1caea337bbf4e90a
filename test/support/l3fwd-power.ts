/**
 * One l3fwd-power process: started, waited for, looked at, and ended by a signal.
 * @module
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { until, within } from './deadline.ts';
import { cpuMilliseconds } from './processes.ts';

const PROGRAM = fileURLToPath(new URL('../../dist/cli/l3fwd-power-main.js', import.meta.url));

export interface QueueReport {
  readonly received: number;
  readonly sent: number;
  readonly dropped: number;
}

export class L3fwdPower implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #exited: Promise<number | null>;
  #output = '';

  /** @param argv without `--no-pci`, which is given */
  constructor(argv: readonly string[]) {
    this.#child = spawn(process.execPath, [PROGRAM, '--no-pci', ...argv], { stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.#output += text;
      });
    }
    this.#exited = new Promise((resolve) => {
      this.#child.once('close', (code) => {
        resolve(code);
      });
    });
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  get output(): string {
    return this.#output;
  }

  /** How often a text was printed. */
  count(pattern: RegExp): number {
    return [...this.#output.matchAll(new RegExp(pattern, 'g'))].length;
  }

  async printed(pattern: RegExp, limit = 20_000): Promise<void> {
    const ended = (): boolean => this.#child.exitCode !== null && !pattern.test(this.#output);
    await until(
      limit,
      () => `${String(pattern)} in\n${this.#output}`,
      () => pattern.test(this.#output) || ended(),
    );
    if (ended()) throw new Error(`ended before ${String(pattern)}:\n${this.#output}`);
  }

  /** CPU time of all its threads so far. */
  cpuMilliseconds(): number {
    return cpuMilliseconds(this.pid);
  }

  /** Ends it as Ctrl-C does; resolves with the exit status. */
  async stop(limit = 10_000): Promise<number | null> {
    this.#child.kill('SIGINT');
    return this.waitForExit(limit);
  }

  async waitForExit(limit = 20_000): Promise<number | null> {
    return within(limit, () => `the end of\n${this.#output}`, this.#exited);
  }

  /** The last lines: what became of the packets of a port, all of its queues. */
  report(port: number): QueueReport {
    const pattern = new RegExp(`port ${String(port)} queue \\d+: RX-packets: (\\d+) TX-packets: (\\d+) dropped: (\\d+)`, 'g');
    let [received, sent, dropped] = [0, 0, 0];
    for (const [, rx, tx, lost] of this.#output.matchAll(pattern)) {
      received += Number(rx);
      sent += Number(tx);
      dropped += Number(lost);
    }
    return { received, sent, dropped };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) this.#child.kill('SIGKILL');
    await this.#exited;
  }
}
