/**
 * Ports in one process, over one small arena: what they need, and packets through them.
 * @module
 */
import { expect } from 'vitest';
import { MBUF_LENGTH } from '../../src/memory/mbuf-layout.ts';
import type { Mempool } from '../../src/memory/mempool.ts';
import type { PortContext } from '../../src/port/context.ts';
import { createPort } from '../../src/port/drivers.ts';
import type { Port, PortEvent } from '../../src/port/port.ts';
import { loadKernels, type KernelTarget } from '../../src/ring/kernels.ts';
import { until } from './deadline.ts';
import { ip, makeVeth } from './network.ts';
import { frame, RingBench, testArena } from './ring-pair.ts';

/** RX_OFFLOAD_* and TX_OFFLOAD_* bits of a configuration. */
export interface Offloads {
  readonly rx?: number;
  readonly tx?: number;
}

export class PortBench implements AsyncDisposable {
  readonly bench: RingBench;
  readonly context: PortContext;
  readonly pool: Mempool;
  readonly log: string[] = [];
  /** `TYPE: text`, lines of level info. */
  readonly infoLog: string[] = [];
  /** How long an lcore is inside a burst; there is none here. */
  grace: Promise<void> = Promise.resolve();
  readonly #ports: Port[] = [];

  constructor(target: KernelTarget = 'wasm') {
    const arena = testArena(8 * 1024 * 1024);
    this.bench = new RingBench(target, arena);
    this.pool = this.bench.pool({ count: 3000 });
    this.context = {
      arena,
      main: loadKernels(target, arena),
      gracePeriod: () => this.grace,
      log: (text) => this.log.push(text),
      logInfo: (type, text) => this.infoLog.push(`${type}: ${text}`),
    };
  }

  /** Makes a port, configures `queues` queue pairs, and starts it. */
  async open(text: string, queues = 1, start = true, offloads: Offloads = {}): Promise<Port> {
    const port = await createPort(this.context, this.#ports.length, text);
    this.#ports.push(port);
    await this.setUp(port, queues, offloads);
    if (start) await port.start();
    return port;
  }

  async setUp(port: Port, queues: number, { rx = 0, tx = 0 }: Offloads = {}): Promise<void> {
    await port.configure({ rxQueues: queues, txQueues: queues, rxOffloads: rx, txOffloads: tx });
    for (let queue = 0; queue < queues; queue++) {
      await port.setupRxQueue(queue, { descriptors: 0, pool: this.pool });
      await port.setupTxQueue(queue, { descriptors: 0 });
    }
  }

  async linksUp(...ports: readonly Port[]): Promise<void> {
    for (const port of ports) await until(5000, `link of ${port.name}; ${this.log.join('; ')}`, () => port.link().up, 5);
  }

  /** Sends packets on one port and receives them on another, byte by byte the same and in order. */
  pass(from: Port, to: Port, options: { readonly count?: number; readonly length?: number; readonly queue?: number } = {}): void {
    const { count = 100, length = 60, queue = 0 } = options;
    const { bench } = this;
    let sent = 0;
    let received = 0;
    for (let turns = 0; received < count && turns < 10_000; turns++) {
      const packets: number[] = [];
      for (let index = sent; index < Math.min(count, sent + 20); index++) packets.push(bench.packet(this.pool, frame(length, index)) ?? 0);
      sent += bench.send((_, mbufs, number) => from.txBurst(queue, mbufs, number), 0, packets);
      for (const bytes of bench.take((_, mbufs, number) => to.rxBurst(queue, mbufs, number), 0, 32)) {
        if (!bytes.equals(frame(length, received))) throw new Error(`packet ${received} of ${bytes.length} bytes is not what was sent`);
        received++;
      }
    }
    if (received !== count) throw new Error(`${received} of ${count} packets arrived, ${sent} were taken; ${this.log.join('; ')}`);
  }

  /** Sends one packet whatever becomes of it; returns whether it was taken. */
  offer(port: Port, length = 60): boolean {
    return (
      this.bench.send((_, mbufs, number) => port.txBurst(0, mbufs, number), 0, [this.bench.packet(this.pool, frame(length)) ?? 0]) === 1
    );
  }

  lengthOf(packet: number): number {
    return this.bench.ld32(packet + MBUF_LENGTH);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const port of this.#ports.reverse()) await port.close();
    // throws when a port kept an mbuf
    this.bench[Symbol.dispose]();
    this.context.arena.close();
  }
}

/** Packets that a queue of a port has received by now; they are freed. */
export function take(ports: PortBench, port: Port, queue = 0): Buffer[] {
  return ports.bench.take((_, mbufs, count) => port.rxBurst(queue, mbufs, count), 0, 64);
}

/** Sends packets, each of the segments given; returns how many were taken. */
export function send(ports: PortBench, port: Port, packets: readonly Uint8Array[], segments?: readonly number[], queue = 0): number {
  const handles = packets.map((bytes) => ports.bench.packet(ports.pool, bytes, { segments }) ?? 0);
  return ports.bench.send((_, mbufs, count) => port.txBurst(queue, mbufs, count), 0, handles);
}

/** Waits until a queue of a port has received `count` packets. */
export async function receive(ports: PortBench, port: Port, count: number, queue = 0): Promise<Buffer[]> {
  const got: Buffer[] = [];
  await until(5000, `${count} packets on ${port.name}`, () => got.push(...take(ports, port, queue)) >= count, 1);
  return got;
}

/** Two ports on the veth pair va and vb, which both are up: va goes down, up, away, and comes back. */
export async function expectToFollowInterface(ports: PortBench, a: Port, b: Port): Promise<void> {
  const events: PortEvent[] = [];
  a.onEvent((event) => events.push(event));
  await ports.linksUp(a, b);
  ip('link set va down');
  // the other end lost its carrier only
  await until(2000, 'both links down', () => !a.link().up && !b.link().up);
  expect(send(ports, a, [frame(60)])).toBe(0);
  expect(take(ports, a)).toEqual([]);
  ip('link set va up');
  await ports.linksUp(a, b);
  ports.pass(a, b, { count: 100 });
  ip('link del va');
  // at once, before anybody has looked: no exception
  send(ports, a, [frame(60)]);
  expect(take(ports, a)).toEqual([]);
  await until(2000, 'both links down', () => !a.link().up && !b.link().up);
  expect(send(ports, b, [frame(60)])).toBe(0);
  expect(ports.log.join('\n')).toMatch(/interface va is gone; the link is down until/);
  await a.stop();
  await expect(a.start()).rejects.toMatchObject({ code: 'ENODEV' });
  makeVeth('va', 'vb');
  await a.start();
  await ports.linksUp(a, b);
  ports.pass(a, b, { count: 100 });
  expect(events.length).toBeGreaterThanOrEqual(3);
}
