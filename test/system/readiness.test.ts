import { spawn } from 'node:child_process';
import { closeSync, readdirSync, readSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { createEventFd, signalEventFd } from '../../src/system/event-fd.ts';
import { watchReadable } from '../../src/system/readiness.ts';
import { until } from '../support/deadline.ts';

const open: number[] = [];
const stops: (() => void)[] = [];
afterEach(() => {
  for (const stop of stops.splice(0)) stop();
  for (const fd of open.splice(0)) closeSync(fd);
});
function event(): number {
  const fd = createEventFd();
  open.push(fd);
  return fd;
}
const drain = (fd: number): number => readSync(fd, Buffer.alloc(8));
function watch(fd: number, onReady: () => void): () => void {
  const stop = watchReadable(fd, onReady);
  stops.push(stop);
  return stop;
}

/** Runs a program over the built library; returns its exit status, null when it had to be killed. */
async function run(code: string): Promise<{ readonly status: number | null; readonly output: string; readonly milliseconds: number }> {
  const module = (name: string): string => new URL(`../../dist/system/${name}.js`, import.meta.url).href;
  const program = `import { watchReadable } from '${module('readiness')}'; import { createEventFd, signalEventFd } from '${module('event-fd')}'; ${code}`;
  const started = performance.now();
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const timer = setTimeout(() => child.kill('SIGKILL'), 8000);
  const status = await new Promise<number | null>((resolve) => child.once('close', resolve));
  clearTimeout(timer);
  return { status, output, milliseconds: performance.now() - started };
}

describe('readiness', () => {
  it('calls back once for each event, not once for each look', async () => {
    const fd = event();
    let calls = 0;
    watch(fd, () => {
      calls++;
      drain(fd);
    });
    for (let expected = 1; expected <= 5; expected++) {
      signalEventFd(fd);
      await until(2000, 'a call', () => calls === expected, 1);
    }
    await sleep(50);
    expect(calls).toBe(5);
  });

  it('calls again while something is left to read', async () => {
    const fd = event();
    let calls = 0;
    watch(fd, () => {
      if (++calls === 3) drain(fd);
    });
    signalEventFd(fd);
    await until(2000, 'three calls', () => calls === 3, 1);
    await sleep(30);
    expect(calls).toBe(3);
  });

  it('tells many descriptors apart', async () => {
    const seen = new Set<number>();
    const fds = Array.from({ length: 40 }, event);
    for (const fd of fds) {
      watch(fd, () => {
        drain(fd);
        seen.add(fd);
      });
    }
    for (const fd of fds.filter((_, index) => index % 2 === 0)) signalEventFd(fd);
    await until(2000, 'twenty calls', () => seen.size === 20, 1);
    expect([...seen].sort((a, b) => a - b)).toEqual(fds.filter((_, index) => index % 2 === 0));
  });

  it('does not call after it was stopped, even for what was ready before, nor for a new file with the same number', async () => {
    const fd = createEventFd();
    let calls = 0;
    const stop = watch(fd, () => calls++);
    signalEventFd(fd);
    // the helper thread may have reported it already
    stop();
    stop();
    closeSync(fd);
    const again = event();
    watch(again, () => {
      drain(again);
      calls += 100;
    });
    signalEventFd(again);
    await until(2000, 'the other call', () => calls >= 100, 1);
    expect(calls).toBe(100);
  });

  it('lets a callback stop itself and others', async () => {
    const [a, b] = [event(), event()];
    let calls = 0;
    const stopB = watch(b, () => calls++);
    const stopA = watch(a, () => {
      calls++;
      stopA();
      stopB();
    });
    signalEventFd(a);
    await until(2000, 'a call', () => calls > 0, 1);
    signalEventFd(b);
    await sleep(50);
    expect(calls).toBe(1);
  });

  it('refuses a descriptor that is not open', () => {
    expect(() => watchReadable(9999, () => undefined)).toThrow(/readiness of a control socket: Bad file descriptor/);
    const fd = event();
    // the refusal leaves the rest at work
    expect(() => watch(fd, () => undefined)).not.toThrow();
  });

  it('ends its helper thread with the last descriptor, and starts another when there is one again', async () => {
    await sleep(100);
    const before = readdirSync('/proc/self/fd').length;
    for (let round = 0; round < 3; round++) {
      const fd = createEventFd();
      let calls = 0;
      const stop = watchReadable(fd, () => {
        drain(fd);
        calls++;
      });
      signalEventFd(fd);
      await until(2000, 'a call', () => calls === 1, 1);
      stop();
      closeSync(fd);
    }
    await until(3000, 'all descriptors to be closed', () => readdirSync('/proc/self/fd').length <= before);
  });
});

describe('ending the process while something is watched', () => {
  it('does not hang in process.exit', async () => {
    const { status, milliseconds } = await run(`watchReadable(createEventFd(), () => {}); setTimeout(() => process.exit(7), 300);`);
    expect(status).toBe(7);
    expect(milliseconds).toBeLessThan(5000);
  });

  it('does not hang in process.exit at once, before the helper thread has begun to wait', async () => {
    expect((await run(`watchReadable(createEventFd(), () => {}); process.exit(6);`)).status).toBe(6);
  });

  it('does not hang after an error that nobody caught', async () => {
    const { status, output } = await run(
      `watchReadable(createEventFd(), () => {}); setTimeout(() => { throw new Error('thrown on purpose'); }, 200);`,
    );
    expect([status, output]).toEqual([1, expect.stringContaining('thrown on purpose')]);
  });

  it('does not hang after an error in a callback', async () => {
    const { status, output } = await run(
      `const fd = createEventFd(); watchReadable(fd, () => { throw new Error('thrown in it'); }); signalEventFd(fd);`,
    );
    expect([status, output]).toEqual([1, expect.stringContaining('thrown in it')]);
  });

  it('ends by itself when nothing is watched any more', async () => {
    expect((await run(`const stop = watchReadable(createEventFd(), () => {}); setTimeout(stop, 100);`)).status).toBe(0);
  });
});
