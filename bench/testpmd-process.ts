/**
 * Starts a testpmd, ours or DPDK's, and drives it through its prompt over pipes. Every wait has a limit, and every process ends with this
 * one, whatever happens.
 *
 * ```ts
 * await using testpmd = await startTestpmd({ command: 'dpdk-testpmd', args: [...] });
 * const output = await testpmd.command('show port stats 0');
 * ```
 * @module
 */
import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { basename } from 'node:path';

export const PROMPT = 'testpmd> ';

export interface TestpmdOptions {
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: Readonly<NodeJS.ProcessEnv>;
  /** For the prompt at the start, and for each command that does not say otherwise; milliseconds. */
  readonly timeout?: number;
  /** Ends every wait; the process itself ends when it is disposed. */
  readonly signal?: AbortSignal;
}

export interface Testpmd extends AsyncDisposable {
  readonly pid: number;
  /** `performance.now()` when the process was started. */
  readonly startedAt: number;
  /** From the start to the first prompt, milliseconds. */
  readonly startUpMs: number;
  /** Sends one line and returns what was printed up to the next prompt. */
  command(line: string, timeout?: number): Promise<string>;
  /** Everything printed so far, on either output. */
  output(): string;
  errors(): string;
  /** Stops all its threads where they are, until `resume`. */
  pause(): void;
  resume(): void;
  /** Sends `quit`; the process is killed when it has not ended by the limit. Returns the exit status, null after a signal. */
  quit(timeout?: number): Promise<number | null>;
}

/** Another thread's line, printed at any moment: between two letters of a prompt as well. */
const EVENT = /\n?Port \d+: [a-z ]+ event\n/g;
const DEFAULT_TIMEOUT_MS = 15_000;
const QUIT_TIMEOUT_MS = 5_000;

const running = new Set<ChildProcessWithoutNullStreams>();
process.on('exit', killAll);

/** Kills what is still running, at once. For the last resort: a process that ends normally has disposed of each. */
export function killAll(): void {
  for (const child of running) {
    child.kill('SIGKILL');
  }
  running.clear();
}

/** Resolves at the first prompt. Rejects, with the last lines it printed, when it ends before or says nothing in time. */
export async function startTestpmd(options: TestpmdOptions): Promise<Testpmd> {
  const timeout = options.timeout ?? DEFAULT_TIMEOUT_MS;
  const title = basename(options.args.find((argument) => argument.includes('testpmd')) ?? options.command);
  options.signal?.throwIfAborted();
  const startedAt = performance.now();
  // A session of its own: Ctrl-C at the terminal reaches the benchmark only, which then ends them in order.
  const child = spawn(options.command, options.args, { env: { ...process.env, ...options.env }, detached: true });
  running.add(child);
  let output = '';
  let errors = '';
  let ended: string | undefined;
  let unread = '';
  let wake = (): void => undefined;
  const exited = new Promise<number | null>((resolve) => {
    const end = (reason: string, status: number | null): void => {
      ended ??= reason;
      running.delete(child);
      resolve(status);
      wake();
    };
    child.once('error', (error) => end(`could not be started: ${error.message}`, null));
    child.once('close', (status, signal) => end(signal === null ? `ended with status ${status ?? '?'}` : `ended by ${signal}`, status));
  });
  child.stdin.on('error', () => undefined);
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
    unread = (unread + text).replace(EVENT, '');
    wake();
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text;
  });

  function failure(what: string): Error {
    const last = (text: string): string[] => text.trimEnd().split('\n').slice(-8);
    // its complaints last: what it printed while it ended says nothing
    const tail = [...last(output.slice(-1500)), ...last(errors)].join('\n  ');
    return new Error(`${title} ${what}\n  ${tail}`);
  }

  async function untilPrompt(limit: number, what: string): Promise<string> {
    const deadline = performance.now() + limit;
    for (;;) {
      options.signal?.throwIfAborted();
      const found = unread.indexOf(PROMPT);
      if (found >= 0) {
        const text = unread.slice(0, found);
        unread = unread.slice(found + PROMPT.length);
        return text;
      }
      if (ended !== undefined) {
        throw failure(`${ended} ${what}`);
      }
      if (performance.now() >= deadline) {
        throw failure(`showed no prompt within ${Math.round(limit)} ms ${what}`);
      }
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, deadline - performance.now());
        const abort = (): void => wake();
        options.signal?.addEventListener('abort', abort, { once: true });
        wake = () => {
          clearTimeout(timer);
          options.signal?.removeEventListener('abort', abort);
          resolve();
        };
      });
    }
  }

  async function end(limit: number, line: string | undefined): Promise<number | null> {
    if (ended === undefined) {
      child.kill('SIGCONT');
      if (line === undefined) {
        child.kill('SIGKILL');
      } else {
        child.stdin.end(`${line}\n`);
      }
    }
    const timer = setTimeout(() => child.kill('SIGKILL'), limit);
    try {
      return await exited;
    } finally {
      clearTimeout(timer);
    }
  }

  try {
    await untilPrompt(timeout, 'at its start');
  } catch (error) {
    await end(QUIT_TIMEOUT_MS, undefined);
    throw error;
  }
  const { pid } = child;
  if (pid === undefined) {
    throw failure('has no process id');
  }
  return {
    pid,
    startedAt,
    startUpMs: performance.now() - startedAt,
    command(line, limit = timeout) {
      child.stdin.write(`${line}\n`);
      return untilPrompt(limit, `after '${line}'`);
    },
    output: () => output,
    errors: () => errors,
    pause: () => void child.kill('SIGSTOP'),
    resume: () => void child.kill('SIGCONT'),
    quit: (limit = QUIT_TIMEOUT_MS) => end(limit, 'quit'),
    async [Symbol.asyncDispose]() {
      await end(QUIT_TIMEOUT_MS, undefined);
    },
  };
}
