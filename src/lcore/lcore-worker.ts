/**
 * An lcore: a Worker pinned to its CPUs that runs forwarding engines in a poll loop.
 *
 * Between runs it sleeps in its event loop; during a run it looks at one word a round, and no message reaches it.
 * @module
 */
import { parentPort, workerData } from 'node:worker_threads';
import { openQueue, type QueueFunctions, type QueueInterrupt } from '../port/queue-functions.ts';
import { loadKernels, prepareKernels } from '../ring/kernels.ts';
import { pinThread, threadId } from '../system/cpu.ts';
import { RECORDER_TIME } from '../net/latency-layout.ts';
import { Clock } from './clock.ts';
import { describePackets } from './packet-dump.ts';
import { Pacer } from './pacer.ts';
import type { EngineStream, ForwardingEngine } from './engines/engine.ts';
import { loadEngine } from './engines/index.ts';
import {
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
  STREAM_COUNTERS,
  STREAM_CSUM,
  STREAM_HELD,
  STREAM_LISTS,
  STREAM_MBUFS,
  STREAM_RATE,
  STREAM_TEMPLATE,
  type FromLcore,
  type LcorePlan,
  type LcoreSleep,
  type LcoreStart,
  type LcoreStream,
  type ToLcore,
} from './lcore-protocol.ts';
import { Sleeper, type Sleep } from './sleep.ts';

/** Bursts taken from a queue when it is flushed: more than any ring holds. */
const FLUSH_BURSTS = 4096;
/** An atomic load in a loop takes about 10 ns: so many make a microsecond. */
const LOADS_A_MICROSECOND = 100;

const start = workerData as LcoreStart;
await prepareKernels(start.target);
const context = loadKernels(start.target, start.share);
const { u32, i32 } = context.views;
const stopIndex = (start.control + CONTROL_STOP) >>> 2;
const verboseIndex = (start.control + CONTROL_VERBOSE) >>> 2;
const runningIndex = (start.control + CONTROL_RUNNING) >>> 2;
const roundsIndex = (start.control + CONTROL_ROUNDS) >>> 2;

const nothing: QueueFunctions = { burst: () => 0, room: () => 0, interrupt: undefined };
/** Milliseconds between two lines about sleeping. */
const ANNOUNCE_MILLISECONDS = 100;

/** What a u32 counts to. */
const WORD = 2 ** 32;

let moved = false;

/** Whether a packet was received or sent since the last call. */
function hasMoved(): boolean {
  const before = moved;
  moved = false;
  return before;
}

function post(message: FromLcore): void {
  parentPort?.postMessage(message);
}

function addTo(counter: number, amount: number): void {
  const index = counter >>> 2;
  const before = u32[index] ?? 0;
  const after = (before + amount) >>> 0;
  u32[index] = after;
  if (after < before) u32[index + 1] = (u32[index + 1] ?? 0) + 1;
}

interface OpenStream extends EngineStream {
  readonly interrupt: QueueInterrupt | undefined;
}

function openStream(stream: LcoreStream, plan: LcorePlan): OpenStream {
  const { kernels } = context;
  const { area } = stream;
  const rx = stream.rx === undefined ? nothing : openQueue(context, stream.rx, 'receive', start.slot);
  const tx = stream.tx === undefined ? nothing : openQueue(context, stream.tx, 'transmit', start.slot);
  const mbufs = area + STREAM_MBUFS;
  const counters = area + STREAM_COUNTERS;
  const { burst } = plan;
  const retries = plan.retry?.count ?? 0;
  const loads = (plan.retry?.delay ?? 0) * LOADS_A_MICROSECOND;
  const vlan = plan.insertsVlan ? stream.vlan : undefined;
  const rateIndex = (area + STREAM_RATE) >>> 2;
  const timeIndex = (stream.recorder + RECORDER_TIME) >>> 2;
  const clock = new Clock();
  const pacer = new Pacer(clock.time);

  const retry = (sent: number, count: number): number => {
    let done = sent;
    for (let attempt = 0; done < count && attempt < retries; attempt++) {
      for (let load = 0; load < loads; load++) Atomics.load(i32, stopIndex);
      done += tx.burst(mbufs + (done << 2), count - done);
    }
    return done;
  };
  const dump = (count: number, sending: boolean): void => {
    const [port, queue] = sending ? [stream.txPort, stream.tx?.queue ?? 0] : [stream.rxPort, stream.rx?.queue ?? 0];
    post({ type: 'text', text: describePackets(context.views, mbufs, count, { port, queue, sending }) });
  };

  const outputs = stream.outputs.map(({ port, tx: handle }) => {
    const output = openQueue(context, handle, 'transmit', start.slot);
    return {
      port,
      send(from: number, count: number): void {
        const sent = output.burst(from, count);
        addTo(counters + COUNTER_SENT, sent);
        if (sent === count) return;
        kernels.packetsFree(from + (sent << 2), count - sent, start.slot);
        addTo(counters + COUNTER_DROPPED, count - sent);
      },
    };
  });

  return {
    interrupt: rx.interrupt,
    outputs,
    router: plan.router,
    lists: area + STREAM_LISTS,
    rxPort: stream.rxPort,
    txPort: stream.txPort,
    burst,
    mbufs,
    addresses: area + STREAM_ADDRESSES,
    template: area + STREAM_TEMPLATE,
    segments: plan.segments,
    csum: area + STREAM_CSUM,
    held: area + STREAM_HELD,
    lcore: start.slot,
    context,
    recorder: stream.recorder,
    tellTime() {
      clock.look();
      const time = clock.time[0] ?? 0;
      u32[timeIndex] = time;
      u32[timeIndex + 1] = time / WORD;
    },
    receive() {
      const count = rx.burst(mbufs, burst);
      if (count !== 0) {
        moved = true;
        addTo(counters + COUNTER_RECEIVED, count);
        if (((u32[verboseIndex] ?? 0) & 1) !== 0) dump(count, false);
      }
      return count;
    },
    send(count) {
      moved = true;
      if (vlan !== undefined) kernels.markVlan(mbufs, count, vlan);
      if (((u32[verboseIndex] ?? 0) & 2) !== 0) dump(count, true);
      let sent = tx.burst(mbufs, count);
      if (sent < count && retries !== 0) sent = retry(sent, count);
      addTo(counters + COUNTER_SENT, sent);
      if (sent < count) {
        kernels.packetsFree(mbufs + (sent << 2), count - sent, start.slot);
        addTo(counters + COUNTER_DROPPED, count - sent);
      }
    },
    free(count) {
      kernels.packetsFree(mbufs, count, start.slot);
    },
    room(wanted) {
      return tx.room(wanted);
    },
    due(most) {
      const rate = u32[rateIndex] ?? 0;
      if (rate === 0) {
        pacer.rest();
        return most;
      }
      // no packet that arrives would wake an lcore that sleeps for the next one that is due
      moved = true;
      clock.look();
      const due = pacer.due(rate, most);
      const unsent = pacer.takeUnsent();
      if (unsent !== 0) addTo(counters + COUNTER_UNSENT, unsent);
      const late = pacer.takeLate();
      if (late !== 0) addTo(counters + COUNTER_LATE, late);
      return due;
    },
    spend(count) {
      pacer.spend(count);
    },
    countNoMbuf(count) {
      addTo(counters + COUNTER_NO_MBUF, count);
    },
    countDropped(count) {
      addTo(counters + COUNTER_DROPPED, count);
    },
    countBadChecksums(ip, transport) {
      addTo(counters + COUNTER_BAD_IP, ip);
      addTo(counters + COUNTER_BAD_TRANSPORT, transport);
    },
  };
}

/** Empties the receive queue: what came before forwarding started does not count. */
function flush(stream: LcoreStream): void {
  if (stream.rx === undefined) return;
  const { burst } = openQueue(context, stream.rx, 'receive', start.slot);
  for (let round = 0; round < FLUSH_BURSTS; round++) {
    const count = burst(stream.area + STREAM_MBUFS, 32);
    if (count === 0) return;
    context.kernels.packetsFree(stream.area + STREAM_MBUFS, count, start.slot);
  }
}

/** The burst of generated packets that `start tx_first` sends ahead. */
function sendFirst(stream: EngineStream, vlan: number | undefined): void {
  if (context.kernels.generatePackets(stream.template, stream.lcore, stream.mbufs, stream.burst) === 0) {
    stream.countNoMbuf(stream.burst);
    return;
  }
  if (vlan !== undefined) context.kernels.markVlan(stream.mbufs, stream.burst, vlan);
  stream.send(stream.burst);
}

interface Prepared {
  readonly engine: ForwardingEngine;
  readonly streams: readonly OpenStream[];
  readonly plan: LcorePlan;
}

let prepared: Prepared | undefined;

async function prepare(plan: LcorePlan): Promise<void> {
  const engine = await loadEngine(plan.engine);
  Atomics.store(i32, runningIndex, 1);
  try {
    if (plan.flushRx) for (const stream of plan.streams) flush(stream);
    prepared = { engine, plan, streams: plan.streams.map((stream) => openStream(stream, plan)) };
  } finally {
    Atomics.store(i32, runningIndex, 0);
  }
  post({ type: 'prepared' });
}

function forwardUntilStopped({ forward }: ForwardingEngine, streams: readonly EngineStream[]): void {
  let rounds = u32[roundsIndex] ?? 0;
  const [only] = streams;
  if (streams.length === 1 && only !== undefined) {
    while (Atomics.load(i32, stopIndex) === 0) {
      forward(only);
      rounds = (rounds + 1) >>> 0;
      u32[roundsIndex] = rounds;
    }
    return;
  }
  while (Atomics.load(i32, stopIndex) === 0) {
    for (const stream of streams) forward(stream);
    rounds = (rounds + 1) >>> 0;
    u32[roundsIndex] = rounds;
  }
}

/** The same, but asleep after so many rounds without a packet. */
function forwardAndSleep(engine: ForwardingEngine, streams: readonly OpenStream[], plan: LcorePlan, sleep: LcoreSleep): void {
  // a stream without a receive queue has to go on by itself; one that cannot tell of packets has to be polled
  const interrupts = streams.map(({ interrupt }) => interrupt).filter((interrupt) => interrupt !== undefined);
  if (interrupts.length < streams.length) {
    forwardUntilStopped(engine, streams);
    return;
  }
  const { forward } = engine;
  const sleeper = new Sleeper(sleep.wake, interrupts);
  const report = sleep.announce ? sleepReporter(plan.streams) : undefined;
  const sleepsIndex = (start.control + CONTROL_SLEEPS) >>> 2;
  const wakeUpsIndex = (start.control + CONTROL_WAKE_UPS) >>> 2;
  let rounds = u32[roundsIndex] ?? 0;
  let empty = 0;
  while (Atomics.load(i32, stopIndex) === 0) {
    for (const stream of streams) forward(stream);
    rounds = (rounds + 1) >>> 0;
    u32[roundsIndex] = rounds;
    if (hasMoved()) {
      empty = 0;
      report?.moved();
      continue;
    }
    empty += 1;
    if (empty < sleep.afterEmptyRounds) continue;
    empty = 0;
    report?.before();
    const outcome = sleeper.sleep();
    if (outcome === 'awake') continue;
    u32[sleepsIndex] = ((u32[sleepsIndex] ?? 0) + 1) >>> 0;
    if (outcome === 'packets') u32[wakeUpsIndex] = ((u32[wakeUpsIndex] ?? 0) + 1) >>> 0;
    report?.after(outcome, sleeper.readable);
  }
}

/** What l3fwd-power prints of sleeping, but not more often than can be read. */
function sleepReporter(streams: readonly LcoreStream[]): {
  readonly moved: () => void;
  readonly before: () => void;
  readonly after: (outcome: Sleep, stream: number) => void;
} {
  const lcore = `L3FWD_POWER: lcore ${String(start.lcore)}`;
  let said = -ANNOUNCE_MILLISECONDS;
  let news = true;
  return {
    moved() {
      // packets may come while it is awake by itself: then nothing woke it, and that it sleeps again is to be said all the same
      news = true;
    },
    before() {
      const now = performance.now();
      if (!news || now - said < ANNOUNCE_MILLISECONDS) return;
      said = now;
      news = false;
      post({ type: 'text', text: `${lcore} sleeps until interrupt triggers\n` });
    },
    after(outcome, stream) {
      if (outcome !== 'packets' || news) return;
      news = true;
      const { port = 0, queue = 0 } = streams[stream]?.rx ?? {};
      post({ type: 'text', text: `${lcore} is waked up from rx interrupt on port ${String(port)} queue ${String(queue)}\n` });
    },
  };
}

function run(): void {
  if (prepared === undefined) return;
  const { engine, streams, plan } = prepared;
  prepared = undefined;
  Atomics.store(i32, runningIndex, 1);
  try {
    for (const stream of streams) engine.begin?.(stream);
    for (let burst = 0; burst < plan.txFirst; burst++) {
      for (const [index, stream] of streams.entries()) sendFirst(stream, plan.streams[index]?.vlan);
    }
    post({ type: 'running' });
    if (plan.sleep === undefined) forwardUntilStopped(engine, streams);
    else forwardAndSleep(engine, streams, plan, plan.sleep);
    for (const stream of streams) engine.end?.(stream);
  } finally {
    Atomics.store(i32, runningIndex, 0);
  }
  post({ type: 'stopped' });
}

function fail(error: unknown): void {
  post({ type: 'failed', message: error instanceof Error ? error.message : String(error) });
}

pinThread(start.cpus);
parentPort?.on('message', (message: ToLcore) => {
  if (message.type === 'prepare') {
    prepare(message.plan).catch(fail);
    return;
  }
  try {
    run();
  } catch (error) {
    fail(error);
  }
});
post({ type: 'online', thread: threadId() });
