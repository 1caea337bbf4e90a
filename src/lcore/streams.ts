/**
 * Stream set-up: which receive queue feeds which transmit queue, on which lcore. The order is testpmd's, so that the same
 * command line moves the same packets.
 *
 * With more than one queue on both sides there is a stream a queue and port, ports first (queue 0 of every port, then queue 1);
 * otherwise one stream a port, on queue 0.
 * @module
 */
import type { MacAddress } from '../net/mac-address.ts';
import type { Stream } from './forwarding-plan.ts';

export const topologies = ['paired', 'chained', 'loop'] as const;
export type Topology = (typeof topologies)[number];

export interface StreamInput {
  /** Forwarding ports, in the order of the port list. */
  readonly ports: readonly number[];
  readonly rxQueues: number;
  readonly txQueues: number;
  /** Configured forwarding lcores, in order. */
  readonly lcores: readonly number[];
  /** How many of them forward. */
  readonly cores: number;
  readonly topology: Topology;
  /** What a queue receives goes back by the queue of the same port, whatever the topology: a port's queues one after the other. */
  readonly toItself?: boolean | undefined;
  readonly peer: (port: number) => MacAddress;
}

export interface LcoreStreams {
  readonly id: number;
  readonly streams: readonly Stream[];
}

export interface StreamPlan {
  readonly ports: readonly number[];
  readonly lcores: readonly LcoreStreams[];
}

/** True when the last port of an odd number has no other to pair with, and pairs with itself. */
export function pairsWithItself(ports: number, topology: Topology): boolean {
  return topology === 'paired' && ports % 2 === 1;
}

function transmitIndex(index: number, ports: number, topology: Topology): number {
  switch (topology) {
    case 'paired':
      if (index % 2 === 1) return index - 1;
      return index + 1 < ports ? index + 1 : index;
    case 'chained':
      return (index + 1) % ports;
    case 'loop':
      return index;
  }
}

/** Streams and the lcores they run on. Lcores that would have nothing to do are left out. */
export function planStreams(input: StreamInput): StreamPlan {
  const { ports, rxQueues, txQueues, topology } = input;
  const queues = rxQueues > 1 && txQueues > 1 ? Math.min(rxQueues, txQueues) : 1;
  const numbers = Array.from({ length: queues }, (_, queue) => queue);
  const pairs =
    input.toItself === true
      ? ports.flatMap((port) => numbers.map((queue) => ({ queue, rxPort: port, txPort: port })))
      : numbers.flatMap((queue) =>
          ports.map((rxPort, index) => ({ queue, rxPort, txPort: ports[transmitIndex(index, ports.length, topology)] ?? rxPort })),
        );
  // One queue a port: no more cores than ports. Several: no more cores than streams. Both are the number of streams.
  const cores = Math.min(input.cores, input.lcores.length, pairs.length);
  const each = cores === 0 ? 0 : Math.floor(pairs.length / cores);
  const withOneMore = cores === 0 ? 0 : pairs.length % cores;
  let next = 0;
  const lcores = input.lcores.slice(0, cores).map((id, index): LcoreStreams => {
    const length = index < cores - withOneMore ? each : each + 1;
    const streams = pairs.slice(next, next + length).map(({ queue, rxPort, txPort }): Stream => ({
      lcore: id,
      rxPort,
      rxQueue: queue,
      txPort,
      txQueue: queue,
      peer: input.peer(txPort),
    }));
    next += length;
    return { id, streams };
  });
  return { ports, lcores };
}
