/**
 * QEMU's qtest protocol: lines over a stream that read and write the guest's memory and I/O ports, as its CPU would.
 *
 *     -> readl 0xe0000000          -> outl 0xcf8 0x80002000     -> irq_intercept_in ioapic
 *     <- OK 0x0000000000000012     <- OK                        <- OK
 *                                                               <- IRQ raise 20      (at any time from then on)
 *
 * Requests are answered in order, one line each, so many may be under way. Whatever breaks that order ends the link: no answer after it
 * could be told from another's. (QEMU: docs/devel/qtest.rst.)
 * @module
 */
import { connect } from 'node:net';
import type { Duplex } from 'node:stream';
import { VirtioError } from '../../system/error.ts';
import { errnoText } from '../../system/ffi.ts';
import type { Width } from '../pci-function.ts';

/** QEMU answers within microseconds; one that was stopped, or serves somebody else, never does. */
const ANSWER_MILLISECONDS = 5000;
/** The time for an answer is counted in so many steps: a clock that leaps, or a process that stood still, is one of them. */
const ANSWER_STEPS = 5;
/** No answer to a request that is made here is nearly as long. */
const LONGEST_LINE = 4096;
const SUFFIXES = { 1: 'b', 2: 'w', 4: 'l' } as const satisfies Readonly<Record<Width, string>>;

export interface QtestLinkOptions {
  /** How messages name the other end: the path of the socket. */
  readonly peer: string;
  /** Time for an answer; default 5000. */
  readonly answerMilliseconds?: number | undefined;
}

interface Request {
  readonly text: string;
  readonly resolve: (value: string) => void;
  readonly reject: (error: Error) => void;
}

export class QtestLink {
  readonly peer: string;
  readonly #stream: Duplex;
  readonly #answerMilliseconds: number;
  readonly #requests: Request[] = [];
  readonly #gone: ((reason: string) => void)[] = [];
  readonly #lines = new Set<(line: number, raised: boolean) => void>();
  #timer: NodeJS.Timeout | undefined;
  #partial = '';
  /** Why there is no link any more. */
  #end: VirtioError | undefined;
  #intercepted: Promise<void> | undefined;

  /** @param stream a connected one, which the link closes */
  constructor(stream: Duplex, options: QtestLinkOptions) {
    this.peer = options.peer;
    this.#stream = stream;
    this.#answerMilliseconds = options.answerMilliseconds ?? ANSWER_MILLISECONDS;
    stream.on('data', (bytes: Buffer) => {
      this.#receive(bytes.toString('latin1'));
    });
    stream.once('error', (error: Error) => {
      this.#finish('ENODEV', `QEMU has ended (${error.message})`);
    });
    const closed = (): void => {
      const half = this.#partial === '' ? '' : ` in the middle of a line, after ${JSON.stringify(this.#partial)}`;
      this.#finish('ENODEV', `QEMU has ended${half}`);
    };
    stream.once('end', closed);
    stream.once('close', closed);
  }

  /**
   * Connects to QEMU's `-qtest unix:PATH,server=on,wait=off`.
   * @throws VirtioError ENOENT, ECONNREFUSED or what else keeps the socket from being reached
   */
  static async connect(path: string, options: Omit<QtestLinkOptions, 'peer'> = {}): Promise<QtestLink> {
    const socket = connect(path);
    try {
      await new Promise<void>((resolve, reject) => {
        socket.once('connect', resolve);
        socket.once('error', reject);
      });
    } catch (cause) {
      socket.destroy();
      const code = (cause as NodeJS.ErrnoException).code ?? 'EIO';
      throw new VirtioError(
        `qtest=${path}: ${errnoText(code)}; it is what QEMU listens on with -qtest unix:${path},server=on,wait=off (or give qemu=auto)`,
        { code, cause },
      );
    }
    return new QtestLink(socket, { peer: path, ...options });
  }

  /** Reads guest memory or what is mapped there. */
  async read(address: number, width: Width): Promise<number> {
    return this.#number(`read${SUFFIXES[width]} 0x${address.toString(16)}`);
  }

  async write(address: number, width: Width, value: number): Promise<void> {
    await this.#command(`write${SUFFIXES[width]} 0x${address.toString(16)} 0x${(value >>> 0).toString(16)}`);
  }

  /** Reads an I/O port. */
  async in(port: number, width: Width): Promise<number> {
    return this.#number(`in${SUFFIXES[width]} 0x${port.toString(16)}`);
  }

  async out(port: number, width: Width, value: number): Promise<void> {
    await this.#command(`out${SUFFIXES[width]} 0x${port.toString(16)} 0x${(value >>> 0).toString(16)}`);
  }

  /**
   * Calls `listener` when an input of the I/O APIC is raised or lowered, until the returned function is called. The machine's CPU hears of
   * none of them any more.
   */
  async watchLines(listener: (line: number, raised: boolean) => void): Promise<() => void> {
    this.#lines.add(listener);
    try {
      this.#intercepted ??= this.#command('irq_intercept_in ioapic').then(() => undefined);
      await this.#intercepted;
    } catch (error) {
      this.#lines.delete(listener);
      throw error;
    }
    return () => {
      this.#lines.delete(listener);
    };
  }

  /** Calls `listener` once when the link has ended by itself, with the reason; later for one that comes late. */
  onGone(listener: (reason: string) => void): void {
    const end = this.#end;
    if (end === undefined) this.#gone.push(listener);
    else
      queueMicrotask(() => {
        listener(end.message);
      });
  }

  /** Closes it; nobody is told. What is not answered yet fails. */
  close(): void {
    this.#gone.length = 0;
    this.#finish('EBADF', 'the link has been closed');
  }

  async #number(text: string): Promise<number> {
    const answer = await this.#command(text);
    if (/^0x[0-9a-f]{1,16}$/i.test(answer)) return Number(answer);
    throw this.#finish('EPROTO', `expected a number in answer to '${text}', found ${JSON.stringify(answer)}`);
  }

  #command(text: string): Promise<string> {
    if (this.#end !== undefined) return Promise.reject(this.#end);
    return new Promise((resolve, reject) => {
      this.#requests.push({ text, resolve, reject });
      this.#stream.write(`${text}\n`, 'latin1');
      if (this.#requests.length === 1) this.#startTimer();
    });
  }

  #startTimer(left = ANSWER_STEPS): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      if (left > 1) {
        this.#startTimer(left - 1);
        return;
      }
      const seconds = String(this.#answerMilliseconds / 1000);
      this.#finish(
        'ETIMEDOUT',
        `no answer to '${this.#requests[0]?.text ?? ''}' within ${seconds} s; is QEMU stopped, or another process connected to it?`,
      );
    }, this.#answerMilliseconds / ANSWER_STEPS);
  }

  #receive(text: string): void {
    const lines = (this.#partial + text).split('\n');
    this.#partial = lines.pop() ?? '';
    for (const line of lines) {
      if (this.#end !== undefined) return;
      this.#take(line.endsWith('\r') ? line.slice(0, -1) : line);
    }
    if (this.#partial.length > LONGEST_LINE) this.#finish('EPROTO', 'a line without an end; that is not QEMU');
  }

  #take(line: string): void {
    const interrupt = /^IRQ (raise|lower) (\d{1,6})$/.exec(line);
    if (interrupt !== null) {
      for (const listener of [...this.#lines]) listener(Number(interrupt[2]), interrupt[1] === 'raise');
      return;
    }
    const answer = /^(OK|FAIL|ERR)(?: (.*))?$/.exec(line);
    if (answer === null) {
      this.#finish('EPROTO', `a line that is none of its protocol: ${JSON.stringify(line.slice(0, 80))}`);
      return;
    }
    const request = this.#requests.shift();
    if (request === undefined) {
      this.#finish('EPROTO', `an answer that nothing asked for: ${JSON.stringify(line.slice(0, 80))}`);
      return;
    }
    if (this.#requests.length === 0) clearTimeout(this.#timer);
    else this.#startTimer();
    if (answer[1] === 'OK') request.resolve(answer[2] ?? '');
    else request.reject(new VirtioError(`${this.peer}: QEMU refuses '${request.text}': ${line}`, { code: 'EINVAL' }));
  }

  /** Ends the link, once, and returns why it ended. */
  #finish(code: string, text: string): VirtioError {
    if (this.#end !== undefined) return this.#end;
    const error = new VirtioError(`${this.peer}: ${text}`, { code });
    this.#end = error;
    clearTimeout(this.#timer);
    this.#stream.destroy();
    for (const { reject } of this.#requests.splice(0)) reject(error);
    for (const listener of this.#gone.splice(0)) listener(error.message);
    return error;
  }
}
