/**
 * Reads what testpmd prints: `show port stats`, the forward statistics at `stop`, and ours of a rate. Rates are never taken from what it prints itself.
 * @module
 */

export interface PortStats {
  readonly rxPackets: number;
  readonly rxMissed: number;
  readonly rxBytes: number;
  readonly rxErrors: number;
  readonly rxNoMbuf: number;
  readonly txPackets: number;
  readonly txErrors: number;
  readonly txBytes: number;
}

export interface ForwardStats {
  readonly rxPackets: number;
  readonly rxDropped: number;
  readonly txPackets: number;
  readonly txDropped: number;
}

/** The block of one port in the output of `show port stats`; undefined where it is not there or not whole. */
export function parsePortStats(output: string, port = 0): PortStats | undefined {
  const block = blockAfter(output, new RegExp(`NIC statistics for port ${port}\\s`), /Throughput/);
  if (block === undefined) {
    return undefined;
  }
  return whole({
    rxPackets: field(block, 'RX-packets'),
    rxMissed: field(block, 'RX-missed'),
    rxBytes: field(block, 'RX-bytes'),
    rxErrors: field(block, 'RX-errors'),
    rxNoMbuf: field(block, 'RX-nombuf'),
    txPackets: field(block, 'TX-packets'),
    txErrors: field(block, 'TX-errors'),
    txBytes: field(block, 'TX-bytes'),
  });
}

/** The block of one port in the output of `stop` or `show fwd stats all`. */
export function parseForwardStats(output: string, port = 0): ForwardStats | undefined {
  const block = blockAfter(output, new RegExp(`Forward statistics for port ${port}\\s`), /\n\s*-{20}/);
  if (block === undefined) {
    return undefined;
  }
  return whole({
    rxPackets: field(block, 'RX-packets'),
    rxDropped: field(block, 'RX-dropped'),
    txPackets: field(block, 'TX-packets'),
    txDropped: field(block, 'TX-dropped'),
  });
}

export interface RateStats {
  readonly unsent: number;
  readonly late: number;
}

/** The line of a port's first queue in the output of `show fwd rate`, which ours alone has. */
export function parseRate(output: string, port = 0): RateStats | undefined {
  const line = new RegExp(`TX Port= *${port}/Queue= *0:.*`).exec(output)?.[0];
  return line === undefined ? undefined : whole({ unsent: field(line, 'TX-unsent'), late: field(line, 'TX-late') });
}

export interface LatencyStats extends RateStats {
  /** Sent by the tester, come back, and received without being its own. */
  readonly sent: number;
  readonly packets: number;
  readonly others: number;
  /** Microseconds by name: p50, p90 ... max. */
  readonly microseconds: Readonly<Record<string, number>>;
}

/** A port's first queue in the output of `show fwd latency`, which ours alone has. */
export function parseLatency(output: string, port = 0): LatencyStats | undefined {
  const [, counts = '', times = ''] = new RegExp(`TX Port=${port}/Queue=0\\s+(TX-packets.*)\\s+microseconds: (.*)`).exec(output) ?? [];
  const microseconds = Object.fromEntries([...times.matchAll(/(\S+): (\d+\.\d+)/g)].map(([, name = '', value]) => [name, Number(value)]));
  const counted = whole({
    sent: field(counts, 'TX-packets'),
    packets: field(counts, 'RX-packets'),
    others: field(counts, 'RX-others'),
    unsent: field(counts, 'TX-unsent'),
    late: field(counts, 'TX-late'),
  });
  return counted === undefined || microseconds['max'] === undefined ? undefined : { ...counted, microseconds };
}

function blockAfter(output: string, heading: RegExp, end: RegExp): string | undefined {
  const start = heading.exec(output);
  if (start === null) {
    return undefined;
  }
  const rest = output.slice(start.index);
  const stop = end.exec(rest);
  return stop === null ? undefined : rest.slice(0, stop.index);
}

function field(block: string, name: string): number | undefined {
  const digits = new RegExp(`${name}:\\s*(\\d+)`).exec(block)?.[1];
  return digits === undefined ? undefined : Number(digits);
}

function whole<K extends string>(fields: Record<K, number | undefined>): Record<K, number> | undefined {
  const isWhole = (values: Record<K, number | undefined>): values is Record<K, number> => !Object.values(values).includes(undefined);
  return isWhole(fields) ? fields : undefined;
}
