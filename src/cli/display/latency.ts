/**
 * `show fwd latency`: how long packets were away.
 * @module
 */
import type { Stream, StreamCounters } from '../../lcore/forwarding-plan.ts';
import type { Latency } from '../../net/latency.ts';

export interface StreamLatency {
  readonly stream: Stream;
  readonly counters: StreamCounters;
  readonly latency: Latency;
}

const microseconds = (nanoseconds: number): string => (nanoseconds / 1000).toFixed(3);

/** Two lines a stream: packets, and microseconds. */
export function latencyText(streams: readonly StreamLatency[]): string {
  return streams
    .map(({ stream, counters, latency }) => {
      const values = [
        ...latency.percentiles.map(({ percent, nanoseconds }) => `p${percent}: ${microseconds(nanoseconds)}`),
        `max: ${microseconds(latency.longest)}`,
      ];
      return (
        `Latency on RX Port=${stream.rxPort}/Queue=${stream.rxQueue}, TX Port=${stream.txPort}/Queue=${stream.txQueue}\n` +
        `  TX-packets: ${counters.txPackets} RX-packets: ${latency.packets} RX-others: ${latency.others} ` +
        `TX-unsent: ${counters.unsent} TX-late: ${counters.late}\n` +
        `  microseconds: ${values.join(' ')}\n`
      );
    })
    .join('');
}
