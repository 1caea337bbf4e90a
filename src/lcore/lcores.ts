/**
 * The forwarding lcores of a process, from the main thread: Workers started, plans handed out, grace periods waited for.
 * @module
 */
import { randomInt } from 'node:crypto';
import { Worker } from 'node:worker_threads';
import type { Arena } from '../memory/arena.ts';
import type { Mempool } from '../memory/mempool.ts';
import {
  TEMPLATE_FLOWS,
  TEMPLATE_HEADER_BYTES,
  TEMPLATE_HEADERS,
  TEMPLATE_LEAST_SEGMENTS,
  TEMPLATE_LENGTH,
  TEMPLATE_POOL,
  TEMPLATE_RANDOM,
  TEMPLATE_SEGMENT_LENGTHS,
  TEMPLATE_SEGMENTS,
} from '../net/generate.kernel.ts';
import { RECORDER_BYTES, RECORDER_CLEAR, RECORDER_MARK } from '../net/latency-layout.ts';
import { readLatency, type Latency } from '../net/latency.ts';
import { CSUM_POOL } from '../net/recompute-checksums.kernel.ts';
import { ROUTER_LISTS_BYTES } from '../net/router-layout.ts';
import type { Port } from '../port/port.ts';
import type { KernelTarget } from '../ring/kernels.ts';
import { Q_LCORE, Q_WAKE_FD } from '../ring/queue-layout.ts';
import { MAIN_LCORE_SLOT, NO_DESCRIPTOR, readCounter } from '../ring/virtqueue.ts';
import { pinThread, threadIds } from '../system/cpu.ts';
import { VirtioError } from '../system/error.ts';
import { closeFd, createEventFd, signalEventFd } from '../system/event-fd.ts';
import { writeCsumSettings } from './csum-settings.ts';
import {
  defaultCsumSettings,
  type CsumSettings,
  type ForwardingPlan,
  type LcoreSleeps,
  type Lcores,
  type Stream,
  type StreamCounters,
} from './forwarding-plan.ts';
import { FLOWGEN_FLOW, GENERATED_HEADER_BYTES, generatedHeaders, TXONLY_FLOW } from './generated-packet.ts';
import {
  CONTROL_BYTES,
  CONTROL_ROUNDS,
  CONTROL_RUNNING,
  CONTROL_SLEEPS,
  CONTROL_STOP,
  CONTROL_VERBOSE,
  CONTROL_WAKE_UPS,
  COUNTER_BAD_IP,
  COUNTER_BAD_TRANSPORT,
  COUNTER_DROPPED,
  COUNTER_LATE,
  COUNTER_NO_MBUF,
  COUNTER_RECEIVED,
  COUNTER_SENT,
  COUNTER_UNSENT,
  STREAM_ADDRESSES,
  STREAM_BYTES,
  STREAM_COUNTERS,
  STREAM_CSUM,
  STREAM_RATE,
  STREAM_TEMPLATE,
  type FromLcore,
  type LcoreStart,
  type LcoreStream,
  type ToLcore,
} from './lcore-protocol.ts';

const COUNTERS = [
  COUNTER_RECEIVED,
  COUNTER_SENT,
  COUNTER_DROPPED,
  COUNTER_NO_MBUF,
  COUNTER_BAD_IP,
  COUNTER_BAD_TRANSPORT,
  COUNTER_UNSENT,
  COUNTER_LATE,
];
/** How often the main thread looks whether a grace period has passed. */
const GRACE_MILLISECONDS = 1;
/** Turns of the event loop before that. */
const QUICK_TURNS = 20;

export interface LcoreOptions {
  readonly id: number;
  readonly cpus: readonly number[];
  /** Cache slot in pools, 1 and up; default: the place in the list, from 1. */
  readonly slot?: number | undefined;
}

/** Threads of all lcores of the process: pinning the others leaves them where they are. */
const lcoreThreads = new Set<number>();

export interface WorkerLcoresOptions {
  readonly arena: Arena;
  readonly target: KernelTarget;
  readonly main: LcoreOptions;
  readonly forwarding: readonly LcoreOptions[];
  /** Pool of generated packets. */
  readonly pool: () => Mempool;
  readonly port: (id: number) => Port | undefined;
  /** Takes what lcores print. */
  readonly print: (text: string) => void;
  /** An lcore died; forwarding on it is over. */
  readonly onFailure: (error: VirtioError) => void;
}

interface Lcore {
  readonly id: number;
  readonly slot: number;
  readonly worker: Worker;
  readonly control: number;
  /** Eventfd that ends its sleep. */
  readonly wake: number;
  /** Resolves the answer that is waited for. */
  waiting: { readonly type: FromLcore['type']; readonly resolve: () => void; readonly reject: (error: Error) => void } | undefined;
  busy: boolean;
  thread: number;
}

interface RunningStream {
  readonly stream: Stream;
  readonly area: number;
  /** Of the latency engine; 0 with others. */
  readonly recorder: number;
}

/** The engine that records. */
const RECORDING_ENGINE = 'latency';

export class WorkerLcores implements Lcores {
  readonly forwarding: readonly number[];
  readonly #options: WorkerLcoresOptions;
  readonly #lcores: Lcore[] = [];
  #streams: RunningStream[] = [];
  #baselines: number[][] = [];
  #running = false;
  #open = true;

  private constructor(options: WorkerLcoresOptions) {
    this.#options = options;
    this.forwarding = options.forwarding.map(({ id }) => id);
  }

  /** Starts the Workers and pins every thread: the lcores to theirs, all others to the main lcore's CPUs. */
  static async launch(options: WorkerLcoresOptions): Promise<WorkerLcores> {
    const lcores = new WorkerLcores(options);
    try {
      await Promise.all(options.forwarding.map((lcore, index) => lcores.#launch(lcore, lcore.slot ?? index + 1)));
      // V8's own helpers must not take turns with a poll loop
      pinOtherThreads(options.main.cpus);
    } catch (error) {
      await lcores.close();
      throw error;
    }
    return lcores;
  }

  get running(): boolean {
    return this.#running;
  }

  async start(plan: ForwardingPlan): Promise<void> {
    if (this.#running) throw new VirtioError('packet forwarding is already started', { code: 'EBUSY' });
    this.#releaseStreams();
    const mark = randomInt(1, 0xffff_ffff);
    const streams = plan.streams.map((stream) => this.#makeStream(stream, plan, mark));
    this.#streams = streams;
    this.#baselines = streams.map(() => COUNTERS.map(() => 0));
    const busy = this.#lcores.filter((lcore) => streams.some(({ stream }) => stream.lcore === lcore.id));
    for (const lcore of busy) Atomics.store(this.#options.arena.views.i32, (lcore.control + CONTROL_STOP) >>> 2, 0);
    this.setVerbose(plan.verbose);
    const preparing = Promise.all(
      busy.map((lcore) => {
        const own = streams.filter(({ stream }) => stream.lcore === lcore.id).map((running) => this.#lcoreStream(running));
        const { engine, burst, retry, txFirst, flushRx, insertsVlan = false, router = 0 } = plan;
        const sleep =
          plan.sleep === undefined
            ? undefined
            : { afterEmptyRounds: plan.sleep.afterEmptyRounds, announce: plan.sleep.announce ?? false, wake: lcore.wake };
        const segments = plan.txSegments.length;
        const message: ToLcore = {
          type: 'prepare',
          plan: { engine, burst, retry, txFirst, flushRx, insertsVlan, segments, streams: own, sleep, router },
        };
        if (sleep !== undefined) this.#setWake(own, lcore.wake);
        return this.#ask(lcore, message, 'prepared');
      }),
    );
    try {
      await preparing;
    } catch (error) {
      this.#forgetWake();
      throw error;
    }
    this.#running = true;
    for (const lcore of busy) lcore.busy = true;
    try {
      await Promise.all(busy.map((lcore) => this.#ask(lcore, { type: 'run' }, 'running')));
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  async stop(): Promise<void> {
    if (!this.#running) return;
    const busy = this.#lcores.filter((lcore) => lcore.busy);
    await Promise.all(
      busy.map((lcore) => {
        const stopped = new Promise<void>((resolve, reject) => {
          lcore.waiting = { type: 'stopped', resolve, reject };
        });
        Atomics.store(this.#options.arena.views.i32, (lcore.control + CONTROL_STOP) >>> 2, 1);
        signalEventFd(lcore.wake);
        return stopped;
      }),
    );
    for (const lcore of busy) lcore.busy = false;
    this.#running = false;
    // from here on the queues are the main thread's
    this.#forgetWake();
    const { u32 } = this.#options.arena.views;
    for (const { stream } of this.#streams) {
      const { rx, tx, outputs } = this.#handles(stream);
      for (const handle of [rx, tx, ...outputs.map((output) => output.tx)])
        if (handle !== undefined) u32[(handle.state + Q_LCORE) >>> 2] = MAIN_LCORE_SLOT;
    }
  }

  counters(): readonly StreamCounters[] {
    return this.#streams.map(({ area }, index) => {
      const [rxPackets = 0, txPackets = 0, dropped = 0, noMbuf = 0, badIp = 0, badTransport = 0, unsent = 0, late = 0] = COUNTERS.map(
        (counter, place) => this.#raw(area + STREAM_COUNTERS + counter) - (this.#baselines[index]?.[place] ?? 0),
      );
      return { rxPackets, txPackets, dropped, noMbuf, badIp, badTransport, unsent, late };
    });
  }

  clearCounters(): void {
    this.#baselines = this.#streams.map(({ area }) => COUNTERS.map((counter) => this.#raw(area + STREAM_COUNTERS + counter)));
    const { u32 } = this.#options.arena.views;
    for (const { recorder } of this.#streams) {
      if (recorder !== 0) u32[(recorder + RECORDER_CLEAR) >>> 2] = (u32[(recorder + RECORDER_CLEAR) >>> 2] ?? 0) + 1;
    }
  }

  latency(): readonly (Latency | undefined)[] {
    return this.#streams.map(({ recorder }) => (recorder === 0 ? undefined : readLatency(this.#options.arena.views.u32, recorder)));
  }

  sleeps(): readonly LcoreSleeps[] {
    const { u32 } = this.#options.arena.views;
    return this.#lcores.map(({ id, control }) => ({
      lcore: id,
      sleeps: u32[(control + CONTROL_SLEEPS) >>> 2] ?? 0,
      wakeUps: u32[(control + CONTROL_WAKE_UPS) >>> 2] ?? 0,
    }));
  }

  setVerbose(level: number): void {
    for (const { control } of this.#lcores) this.#options.arena.views.u32[(control + CONTROL_VERBOSE) >>> 2] = level;
  }

  setTxRate(rate: number): void {
    const { u32 } = this.#options.arena.views;
    for (const { area } of this.#streams) u32[(area + STREAM_RATE) >>> 2] = rate;
  }

  setCsum(settings: (stream: Stream) => CsumSettings): void {
    const { u32 } = this.#options.arena.views;
    for (const { stream, area } of this.#streams) writeCsumSettings(u32, area + STREAM_CSUM, settings(stream));
  }

  /** Resolves when no lcore is still inside a burst that began before the call; one that sleeps is woken, to look at its queues anew. */
  async gracePeriod(): Promise<void> {
    const { i32 } = this.#options.arena.views;
    const inside = this.#lcores.flatMap((lcore) => {
      const running = (lcore.control + CONTROL_RUNNING) >>> 2;
      const rounds = (lcore.control + CONTROL_ROUNDS) >>> 2;
      return Atomics.load(i32, running) === 0 ? [] : [{ running, rounds, wake: lcore.wake, before: Atomics.load(i32, rounds) }];
    });
    for (const { running, rounds, wake, before } of inside) {
      signalEventFd(wake);
      // two rounds on, the lcore has begun one after the call: microseconds, unless it sleeps or has no CPU
      for (let turns = 0; Atomics.load(i32, running) !== 0 && (Atomics.load(i32, rounds) - before) >>> 0 < 2; turns++) {
        await new Promise((resolve) => (turns < QUICK_TURNS ? setImmediate(resolve) : setTimeout(resolve, GRACE_MILLISECONDS)));
        // it may have slept once more after a single round
        signalEventFd(wake);
      }
    }
  }

  async close(): Promise<void> {
    if (!this.#open) return;
    if (this.#running) await this.stop();
    this.#open = false;
    await Promise.all(
      this.#lcores.map(({ worker, wake }) => {
        // a thread inside a system call ends when that returns
        signalEventFd(wake);
        return worker.terminate();
      }),
    );
    for (const { thread } of this.#lcores) lcoreThreads.delete(thread);
    for (const { control, wake } of this.#lcores.splice(0)) {
      this.#options.arena.own.release(control);
      closeFd(wake);
    }
    this.#releaseStreams();
  }

  async #launch({ id, cpus }: LcoreOptions, slot: number): Promise<void> {
    const { arena, target } = this.#options;
    const control = arena.allocateOwn(CONTROL_BYTES, `the control words of lcore ${String(id)}`);
    const wake = createEventFd();
    const data: LcoreStart = { share: arena.share(), target, lcore: id, cpus, slot, control };
    const worker = new Worker(new URL('../../dist/lcore/lcore-worker.js', import.meta.url), {
      workerData: data,
      name: `lcore-${String(id)}`,
    });
    const lcore: Lcore = { id, slot, worker, control, wake, waiting: undefined, busy: false, thread: -1 };
    this.#lcores.push(lcore);
    return new Promise<void>((resolve, reject) => {
      const fail = (error: Error): void => {
        reject(error);
        this.#failed(lcore, error);
      };
      worker.on('message', (message: FromLcore) => {
        switch (message.type) {
          case 'online':
            lcore.thread = message.thread;
            lcoreThreads.add(message.thread);
            resolve();
            break;
          case 'text':
            this.#options.print(message.text);
            break;
          case 'failed':
            fail(new VirtioError(`lcore ${String(id)}: ${message.message}`, { code: 'EIO' }));
            break;
          default:
            if (lcore.waiting?.type === message.type) {
              const { resolve: answered } = lcore.waiting;
              lcore.waiting = undefined;
              answered();
            }
        }
      });
      worker.on('error', (error) => {
        fail(new VirtioError(`lcore ${String(id)} ended: ${error.message}`, { code: 'EIO', cause: error }));
      });
    });
  }

  #failed(lcore: Lcore, error: Error): void {
    const { waiting } = lcore;
    lcore.waiting = undefined;
    lcore.busy = false;
    Atomics.store(this.#options.arena.views.i32, (lcore.control + CONTROL_RUNNING) >>> 2, 0);
    if (waiting?.type === 'stopped') waiting.resolve();
    else if (waiting !== undefined) waiting.reject(error);
    else this.#options.onFailure(error instanceof VirtioError ? error : new VirtioError(error.message, { code: 'EIO', cause: error }));
  }

  #ask(lcore: Lcore, message: ToLcore, answer: FromLcore['type']): Promise<void> {
    return new Promise((resolve, reject) => {
      lcore.waiting = { type: answer, resolve, reject };
      lcore.worker.postMessage(message);
    });
  }

  /** Lets queues wake their lcore when they come or go. */
  #setWake(streams: readonly LcoreStream[], wake: number): void {
    const { u32 } = this.#options.arena.views;
    for (const { rx } of streams) if (rx !== undefined) u32[(rx.state + Q_WAKE_FD) >>> 2] = wake;
  }

  /** From here on no queue knows of the lcores' eventfds. */
  #forgetWake(): void {
    for (const { stream } of this.#streams) {
      const { rx } = this.#handles(stream);
      if (rx !== undefined) this.#options.arena.views.u32[(rx.state + Q_WAKE_FD) >>> 2] = NO_DESCRIPTOR;
    }
  }

  #handles(stream: Stream): Pick<LcoreStream, 'rx' | 'tx' | 'outputs'> {
    const rxPort = this.#options.port(stream.rxPort);
    const txPort = this.#options.port(stream.txPort);
    return {
      rx: rxPort?.rxQueueInfo(stream.rxQueue) === undefined ? undefined : rxPort.rxQueueHandle(stream.rxQueue),
      tx: txPort?.txQueueInfo(stream.txQueue) === undefined ? undefined : txPort.txQueueHandle(stream.txQueue),
      outputs: (stream.outputs ?? []).flatMap(({ port, queue }) => {
        const output = this.#options.port(port);
        return output?.txQueueInfo(queue) === undefined ? [] : [{ port, tx: output.txQueueHandle(queue) }];
      }),
    };
  }

  #lcoreStream({ stream, area, recorder }: RunningStream): LcoreStream {
    return { rxPort: stream.rxPort, txPort: stream.txPort, area, recorder, vlan: stream.vlan, ...this.#handles(stream) };
  }

  /** Lays out a stream's part of the arena: addresses, and the template of the packets that it may have to make. */
  #makeStream(stream: Stream, plan: ForwardingPlan, mark: number): RunningStream {
    const { arena, pool, port } = this.#options;
    const records = plan.engine === RECORDING_ENGINE;
    const bytes = STREAM_BYTES + (plan.router === undefined ? 0 : ROUTER_LISTS_BYTES) + (records ? RECORDER_BYTES : 0);
    const area = arena.allocateOwn(bytes, `the stream of port ${String(stream.rxPort)} queue ${String(stream.rxQueue)}`);
    const { u8, u32 } = arena.views;
    const source = port(stream.txPort)?.mac ?? new Uint8Array(6);
    u8.set(stream.peer, area + STREAM_ADDRESSES);
    u8.set(source, area + STREAM_ADDRESSES + 6);
    u32[(area + STREAM_RATE) >>> 2] = plan.txRate ?? 0;
    const template = area + STREAM_TEMPLATE;
    const length = plan.txSegments.reduce((sum, segment) => sum + segment, 0);
    const flow = plan.engine === 'flowgen' ? FLOWGEN_FLOW : TXONLY_FLOW;
    const set = (field: number, value: number): void => {
      u32[(template + field) >>> 2] = value;
    };
    set(TEMPLATE_POOL, pool().offset);
    set(TEMPLATE_LENGTH, length);
    set(TEMPLATE_SEGMENTS, plan.txSegments.length);
    set(TEMPLATE_HEADER_BYTES, GENERATED_HEADER_BYTES);
    set(TEMPLATE_FLOWS, plan.engine === 'flowgen' ? plan.flowgenFlows : 0);
    // headers that do not fit the first segment are cut, and their lengths could not be set
    if (plan.randomSegments === true && (plan.txSegments[0] ?? 0) >= GENERATED_HEADER_BYTES) {
      set(TEMPLATE_LEAST_SEGMENTS, 1);
      set(TEMPLATE_RANDOM, randomInt(1, 0xffff_ffff));
    }
    for (const [index, segment] of plan.txSegments.entries()) set(TEMPLATE_SEGMENT_LENGTHS + 4 * index, segment);
    u8.set(generatedHeaders({ source, destination: stream.peer, length, ...flow }), template + TEMPLATE_HEADERS);
    writeCsumSettings(
      u32,
      area + STREAM_CSUM,
      plan.csum?.(stream) ?? { ...defaultCsumSettings, txOffloads: port(stream.txPort)?.configuration?.txOffloads ?? 0 },
    );
    u32[(area + STREAM_CSUM + CSUM_POOL) >>> 2] = pool().offset;
    const recorder = records ? area + STREAM_BYTES : 0;
    if (records) u32[(recorder + RECORDER_MARK) >>> 2] = mark;
    return { stream, area, recorder };
  }

  #releaseStreams(): void {
    for (const { area } of this.#streams) this.#options.arena.own.release(area);
    this.#streams = [];
  }

  #raw(counter: number): number {
    return readCounter(this.#options.arena.views.i32, counter);
  }
}

/** Pins every thread of the process that is no lcore. */
export function pinOtherThreads(cpus: readonly number[]): void {
  for (const thread of threadIds()) if (!lcoreThreads.has(thread)) pinQuietly(cpus, thread);
}

/** A helper thread may have ended since it was listed. */
function pinQuietly(cpus: readonly number[], thread: number): void {
  try {
    pinThread(cpus, thread);
  } catch {
    // then there is nothing to pin
  }
}
