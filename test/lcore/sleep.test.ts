/**
 * Falling asleep and waking: what is asked of the queues, in which order, and what ends a sleep.
 */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Sleeper } from '../../src/lcore/sleep.ts';
import type { QueueInterrupt } from '../../src/port/queue-functions.ts';
import { clearEventFd, closeFd, createEventFd, signalEventFd } from '../../src/system/event-fd.ts';

/** A queue whose answers are given, and which writes down what it was asked. */
class Queue implements QueueInterrupt {
  readonly fd = createEventFd();
  readonly #name: string;
  readonly #asked: string[];
  /** What descriptor() answers. */
  now: number | undefined = this.fd;
  can = true;
  packets = false;

  constructor(name: string, asked: string[]) {
    this.#name = name;
    this.#asked = asked;
  }

  descriptor(): number | undefined {
    return this.now;
  }

  available(): boolean {
    return this.can;
  }

  armInterrupt(): boolean {
    this.#asked.push(`arm ${this.#name}`);
    return !this.packets;
  }

  disarmInterrupt(signalled: boolean): void {
    this.#asked.push(`disarm ${this.#name}${signalled ? ', signalled' : ''}`);
    if (signalled) clearEventFd(this.fd);
  }
}

let asked: string[];
let wake: number;
let a: Queue;
let b: Queue;
let sleeper: Sleeper;
beforeEach(() => {
  asked = [];
  wake = createEventFd();
  a = new Queue('a', asked);
  b = new Queue('b', asked);
  sleeper = new Sleeper(wake, [a, b]);
});
afterEach(() => {
  for (const fd of [wake, a.fd, b.fd]) closeFd(fd);
});

const ALL = ['arm a', 'arm b', 'disarm a', 'disarm b'];

test('asks all queues, sleeps, and takes it back', () => {
  expect(sleeper.sleep()).toBe('timeout');
  expect(asked).toEqual(ALL);
});

test('packets end it, and which queue has them is known', () => {
  signalEventFd(b.fd);
  expect(sleeper.sleep()).toBe('packets');
  expect(sleeper.readable).toBe(1);
  expect(asked).toEqual(['arm a', 'arm b', 'disarm a', 'disarm b, signalled']);
  expect(sleeper.sleep()).toBe('timeout');
});

test('the control plane ends it, once', () => {
  signalEventFd(wake);
  signalEventFd(wake);
  expect(sleeper.sleep()).toBe('woken');
  expect(sleeper.sleep()).toBe('timeout');
});

test('does not sleep where packets are there already, or a queue has to be polled', () => {
  a.packets = true;
  expect(sleeper.sleep()).toBe('awake');
  expect(asked).toEqual(['arm a', 'disarm a']);
  asked.length = 0;
  a.packets = false;
  b.can = false;
  expect(sleeper.sleep()).toBe('awake');
  expect(asked).toEqual(['arm a', 'disarm a']);
});

test('a stopped queue is not waited for', () => {
  a.now = undefined;
  signalEventFd(a.fd);
  expect(sleeper.sleep()).toBe('timeout');
  expect(asked).toEqual(ALL);
});

test('a descriptor that failed does not keep it awake, and another one is waited for again', () => {
  const gone = createEventFd();
  closeFd(gone);
  a.now = gone;
  expect(sleeper.sleep()).toBe('timeout');
  const before = performance.now();
  expect(sleeper.sleep()).toBe('timeout');
  // it did sleep this time
  expect(performance.now() - before).toBeGreaterThan(50);
  a.now = a.fd;
  signalEventFd(a.fd);
  expect(sleeper.sleep()).toBe('packets');
});
