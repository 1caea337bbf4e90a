/**
 * Readiness of control sockets: one helper Worker sleeps in epoll_wait and wakes the main thread.
 *
 * The Worker starts with the first descriptor watched and ends with the last. Each descriptor is registered one-shot
 * and re-armed after its callback ran, so that a callback never runs twice for the same bytes. Ending the process
 * first wakes the Worker: process.exit() hangs for ever while a Worker is blocked in a foreign call.
 * @module
 */
import { Worker } from 'node:worker_threads';
import { closeFd, createEventFd, signalEventFd } from './event-fd.ts';
import { bindNative, systemError } from './ffi.ts';

const EPOLL_CLOEXEC = 0x80000;
const EPOLL_CTL_ADD = 1;
const EPOLL_CTL_DEL = 2;
const EPOLL_CTL_MOD = 3;
const EPOLLIN = 0x1;
const EPOLLRDHUP = 0x2000;
const EPOLLONESHOT = 0x40000000;
/** struct epoll_event is packed on x86-64 (12 bytes) and aligned elsewhere (16 bytes). */
const EVENT_DATA_OFFSET = process.arch === 'x64' ? 4 : 8;
const EVENT_BYTES = process.arch === 'x64' ? 12 : 16;
/** A wake-up that the exit handler could not send must not keep the process for longer than this. */
const WAIT_MILLISECONDS = 10_000;

const native = {
  create: bindNative('epoll_create1', 'i32', ['i32']),
  control: bindNative('epoll_ctl', 'i32', ['i32', 'i32', 'i32', 'buffer']),
  wait: bindNative('epoll_wait', 'i32', ['i32', 'buffer', 'i32', 'i32']),
};

interface Watch {
  readonly fd: number;
  readonly onReady: () => void;
}

interface Watcher {
  readonly worker: Worker;
  readonly epoll: number;
  readonly wake: number;
  readonly watches: Map<number, Watch>;
}

let watcher: Watcher | undefined;
let lastKey = 0;

function event(key: number): Uint8Array {
  const bytes = Buffer.alloc(EVENT_BYTES);
  bytes.writeUInt32LE((EPOLLIN | EPOLLRDHUP | EPOLLONESHOT) >>> 0, 0);
  bytes.writeUInt32LE(key, EVENT_DATA_OFFSET);
  return bytes;
}

function wakeOnExit(): void {
  if (watcher !== undefined) signalEventFd(watcher.wake);
}

function startWatcher(): Watcher {
  const { value: epoll, errno } = native.create(EPOLL_CLOEXEC);
  if (epoll < 0) throw systemError('readiness of control sockets', 'epoll_create1', errno);
  const wake = createEventFd();
  native.control(epoll, EPOLL_CTL_ADD, wake, event(0));
  const worker = new Worker(new URL('../../dist/system/readiness-worker.js', import.meta.url), {
    workerData: { epoll },
    execArgv: [],
    stdin: false,
    resourceLimits: { maxYoungGenerationSizeMb: 1, maxOldGenerationSizeMb: 16, codeRangeSizeMb: 4 },
  });
  const watches = new Map<number, Watch>();
  worker.on('message', (keys: readonly number[]) => {
    for (const key of keys) {
      const watch = watches.get(key);
      if (watch === undefined) continue;
      try {
        watch.onReady();
      } finally {
        if (watches.has(key)) native.control(epoll, EPOLL_CTL_MOD, watch.fd, event(key));
      }
    }
  });
  worker.on('exit', () => {
    closeFd(epoll);
    closeFd(wake);
  });
  process.once('exit', wakeOnExit);
  return { worker, epoll, wake, watches };
}

/**
 * Calls `onReady` on the main thread whenever `fd` has something to read or its peer has gone, until the returned
 * function is called; call that before closing `fd`.
 */
export function watchReadable(fd: number, onReady: () => void): () => void {
  watcher ??= startWatcher();
  const { epoll, watches } = watcher;
  const key = ++lastKey;
  const { value, errno } = native.control(epoll, EPOLL_CTL_ADD, fd, event(key));
  if (value < 0) throw systemError('readiness of a control socket', 'epoll_ctl', errno);
  watches.set(key, { fd, onReady });
  return () => {
    if (!watches.delete(key)) return;
    native.control(epoll, EPOLL_CTL_DEL, fd, event(key));
    if (watches.size === 0 && watcher?.watches === watches) {
      process.removeListener('exit', wakeOnExit);
      signalEventFd(watcher.wake);
      watcher = undefined;
    }
  };
}

/**
 * The Worker's loop: waits, posts the keys of what is ready, and ends when woken by key 0.
 * @internal
 */
export function waitForEvents(epoll: number, post: (keys: readonly number[]) => void): void {
  const events = Buffer.alloc(EVENT_BYTES * 16);
  for (;;) {
    const { value: count } = native.wait(epoll, events, 16, WAIT_MILLISECONDS);
    const keys: number[] = [];
    for (let index = 0; index < count; index++) keys.push(events.readUInt32LE(index * EVENT_BYTES + EVENT_DATA_OFFSET));
    if (keys.includes(0)) return;
    if (keys.length > 0) post(keys);
  }
}
