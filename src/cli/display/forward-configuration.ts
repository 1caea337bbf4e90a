/**
 * `show config fwd|rxtx|cores|txpkts`, and the same blocks as `start` prints them.
 * @module
 */
import { formatMac } from '../../net/mac-address.ts';
import type { StreamPlan } from '../../lcore/streams.ts';

export interface RetryParameters {
  readonly count: number;
  /** Microseconds. */
  readonly delay: number;
}

/** `show config fwd`: which lcore moves what from where to where. */
export function forwardConfigurationText(engine: string, plan: StreamPlan, retry: RetryParameters | undefined): string {
  const streams = plan.lcores.reduce((total, lcore) => total + lcore.streams.length, 0);
  let text =
    `${engine} packet forwarding${retry === undefined ? '' : ' with retry'} - ports=${plan.ports.length} - cores=${plan.lcores.length}` +
    ` - streams=${streams} - NUMA support enabled, MP allocation mode: native\n`;
  if (retry !== undefined) text += `TX retry num: ${retry.count}, delay between TX retries: ${retry.delay}us\n`;
  for (const lcore of plan.lcores) {
    text += `Logical Core ${lcore.id} (socket 0) forwards packets on ${lcore.streams.length} streams:`;
    for (const { rxPort, rxQueue, txPort, txQueue, peer } of lcore.streams) {
      text += `\n  RX P=${rxPort}/Q=${rxQueue} (socket 0) -> TX P=${txPort}/Q=${txQueue} (socket 0) peer=${formatMac(peer)}`;
    }
    text += '\n';
  }
  return `${text}\n`;
}

export interface QueueConfiguration {
  readonly engine: string;
  readonly retry: boolean;
  readonly burst: number;
  /** Set for the engines that make their packets. */
  readonly packet: { readonly length: number; readonly segments: number } | undefined;
  readonly cores: number;
  readonly forwardPorts: number;
  readonly rxQueues: number;
  readonly txQueues: number;
  readonly rxDescriptors: number;
  readonly txDescriptors: number;
  readonly ports: readonly { readonly id: number; readonly rxOffloads: number; readonly txOffloads: number }[];
}

/** `show config rxtx`: the first queue of every port stands for all. Thresholds are 0: no driver here has them. */
export function queueConfigurationText(configuration: QueueConfiguration): string {
  const lines = [
    `  ${configuration.engine} packet forwarding${configuration.retry ? ' with retry' : ''} packets/burst=${configuration.burst}`,
  ];
  if (configuration.packet !== undefined) {
    lines.push(`  packet len=${configuration.packet.length} - nb packet segments=${configuration.packet.segments}`);
  }
  lines.push(`  nb forwarding cores=${configuration.cores} - nb forwarding ports=${configuration.forwardPorts}`);
  for (const port of configuration.ports) {
    const rxOffloads = port.rxOffloads.toString(16);
    const txOffloads = port.txOffloads.toString(16);
    lines.push(
      `  port ${port.id}: RX queue number: ${configuration.rxQueues} Tx queue number: ${configuration.txQueues}`,
      `    Rx offloads=0x${rxOffloads} Tx offloads=0x${txOffloads}`,
      '    RX queue: 0',
      `      RX desc=${configuration.rxDescriptors} - RX free threshold=0`,
      '      RX threshold registers: pthresh=0 hthresh=0  wthresh=0',
      `      RX Offloads=0x${rxOffloads}`,
      '    TX queue: 0',
      `      TX desc=${configuration.txDescriptors} - TX free threshold=0`,
      '      TX threshold registers: pthresh=0 hthresh=0  wthresh=0',
      `      TX offloads=0x${txOffloads} - TX RS bit threshold=0`,
    );
  }
  return `${lines.join('\n')}\n`;
}

/** `show config cores`. */
export function coresText(lcores: readonly number[]): string {
  return `List of forwarding lcores:${lcores.map((lcore) => ` ${String(lcore).padStart(2)}`).join('')}\n`;
}

/** `show config txpkts`. */
export function txSegmentsText(segments: readonly number[]): string {
  return `Number of segments: ${segments.length}\nSegment sizes: ${segments.join(',')}\nSplit packet: off\n`;
}
