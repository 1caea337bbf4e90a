/**
 * Forward statistics: what `stop`, `show fwd stats all` and `show fwd rate` print.
 * @module
 */
import type { Stream, StreamCounters } from '../../lcore/forwarding-plan.ts';

const border = '----------------------';
const totalBorder = '+++++++++++++++';

export interface PortForwardStatistics {
  readonly port: number;
  readonly rxPackets: number;
  readonly rxDropped: number;
  readonly rxErrors: number;
  readonly rxNoMbuf: number;
  readonly txPackets: number;
  readonly txDropped: number;
  /** Received with a wrong IP checksum, and with a wrong TCP or UDP checksum. */
  readonly badIp: number;
  readonly badTransport: number;
}

export interface ForwardStatistics {
  /** One entry a stream; shown when a port has several. */
  readonly streams: readonly { readonly stream: Stream; readonly counters: StreamCounters }[];
  readonly ports: readonly PortForwardStatistics[];
  /** The engine looked at checksums. */
  readonly checksums: boolean;
}

const wide = (value: number): string => String(value).padEnd(14);
const two = (value: number): string => String(value).padStart(2);

/** Wrong checksums of a stream; outside tunnels no port here looks at them. */
function streamChecksums({ badIp, badTransport }: StreamCounters): string {
  return (
    `  RX- bad IP checksum: ${wide(badIp)}  Rx- bad L4 checksum: ${wide(badTransport)} Rx- bad outer L4 checksum: ${wide(0)}\n` +
    ` RX- bad outer IP checksum: ${wide(0)}`
  );
}

function streamText(stream: Stream, counters: StreamCounters, checksums: boolean): string {
  if (counters.rxPackets === 0 && counters.txPackets === 0 && counters.dropped === 0) return '';
  return [
    '',
    `  ------- Forward Stats for RX Port=${two(stream.rxPort)}/Queue=${two(stream.rxQueue)} -> TX Port=${two(stream.txPort)}/Queue=${two(stream.txQueue)} -------`,
    `  RX-packets: ${wide(counters.rxPackets)} TX-packets: ${wide(counters.txPackets)} TX-dropped: ${wide(counters.dropped)}${checksums ? streamChecksums(counters) : ''}`,
    '',
  ].join('\n');
}

function receiveLine(packets: number, dropped: number): string {
  return `  RX-packets: ${wide(packets)} RX-dropped: ${wide(dropped)}RX-total: ${packets + dropped}`;
}

function transmitLine(packets: number, dropped: number): string {
  return `  TX-packets: ${wide(packets)} TX-dropped: ${wide(dropped)}TX-total: ${packets + dropped}`;
}

function portText(port: PortForwardStatistics, checksums: boolean): string {
  const lines = [
    '',
    `  ${border} Forward statistics for port ${String(port.port).padEnd(2)} ${border}`,
    receiveLine(port.rxPackets, port.rxDropped),
  ];
  if (checksums) {
    lines.push(
      `  Bad-ipcsum: ${wide(port.badIp)} Bad-l4csum: ${wide(port.badTransport)}Bad-outer-l4csum: ${wide(0)}`,
      `  Bad-outer-ipcsum: ${wide(0)}`,
    );
  }
  if (port.rxErrors + port.rxNoMbuf > 0) lines.push(`  RX-error: ${port.rxErrors}`, `  RX-nombufs: ${wide(port.rxNoMbuf)}`);
  lines.push(transmitLine(port.txPackets, port.txDropped), `  ${border}--------------------------------${border}`, '');
  return lines.join('\n');
}

/** The blocks of every port and their sum; before them a line a stream where a port has more than one. */
export function forwardStatisticsText({ streams, ports, checksums }: ForwardStatistics): string {
  const sum = (of: (port: PortForwardStatistics) => number): number => ports.reduce((total, port) => total + of(port), 0);
  const noMbuf = sum((port) => port.rxNoMbuf);
  const total = [
    '',
    `  ${totalBorder} Accumulated forward statistics for all ports${totalBorder}`,
    receiveLine(
      sum((port) => port.rxPackets),
      sum((port) => port.rxDropped),
    ),
    transmitLine(
      sum((port) => port.txPackets),
      sum((port) => port.txDropped),
    ),
    ...(noMbuf > 0 ? [`  RX-nombufs: ${wide(noMbuf)}`] : []),
    `  ${totalBorder}++++++++++++++++++++++++++++++++++++++++++++++${totalBorder}`,
    '',
  ];
  const perStream = streams.length > ports.length ? streams.map(({ stream, counters }) => streamText(stream, counters, checksums)) : [];
  return [...perStream, ...ports.map((port) => portText(port, checksums)), total.join('\n')].join('');
}

/** `show fwd rate`: a line a stream. `rate`: packets a second; 0: none is set. */
export function rateText(rate: number, streams: ForwardStatistics['streams']): string {
  const set = rate === 0 ? 'none, packets are sent as fast as possible' : `${rate} packets/s on each stream`;
  const lines = streams.map(
    ({ stream, counters }) =>
      `  TX Port=${two(stream.txPort)}/Queue=${two(stream.txQueue)}: TX-packets: ${wide(counters.txPackets)} ` +
      `TX-unsent: ${wide(counters.unsent)} TX-late: ${counters.late}`,
  );
  return `${[`TX rate: ${set}`, ...lines].join('\n')}\n`;
}
