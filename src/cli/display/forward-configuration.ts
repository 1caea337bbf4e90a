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

/** `show config fwd`: which lcore moves what from where to where. `rate`: packets a second and stream, 0 for none, which DPDK has not. */
export function forwardConfigurationText(engine: string, plan: StreamPlan, retry: RetryParameters | undefined, rate = 0): string {
  const streams = plan.lcores.reduce((total, lcore) => total + lcore.streams.length, 0);
  let text =
    `${engine} packet forwarding${retry === undefined ? '' : ' with retry'} - ports=${plan.ports.length} - cores=${plan.lcores.length}` +
    ` - streams=${streams} - NUMA support enabled, MP allocation mode: native\n`;
  if (retry !== undefined) text += `TX retry num: ${retry.count}, delay between TX retries: ${retry.delay}us\n`;
  if (rate !== 0) text += `TX rate: ${rate} packets/s on each stream\n`;
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
}

/** The first lines of `show config rxtx`. */
export function queueConfigurationText(configuration: QueueConfiguration): string {
  const lines = [
    `  ${configuration.engine} packet forwarding${configuration.retry ? ' with retry' : ''} packets/burst=${configuration.burst}`,
  ];
  if (configuration.packet !== undefined) {
    lines.push(`  packet len=${configuration.packet.length} - nb packet segments=${configuration.packet.segments}`);
  }
  lines.push(`  nb forwarding cores=${configuration.cores} - nb forwarding ports=${configuration.forwardPorts}`);
  return `${lines.join('\n')}\n`;
}

/** What `show config rxtx` shows of a port: the offloads of the port and of its first queues, which stand for all. */
export interface PortOffloadsShown {
  readonly id: number;
  readonly rx: number;
  readonly tx: number;
  readonly rxQueue: number;
  readonly txQueue: number;
}

/**
 * A port's lines of `show config rxtx`, in three parts, so that a queue that is not there can be complained of before its part.
 * Thresholds are 0: no driver here has them.
 */
export function portConfigurationText(
  { rxQueues, txQueues, rxDescriptors, txDescriptors }: QueueConfiguration,
  { id, rx, tx, rxQueue, txQueue }: PortOffloadsShown,
): { readonly port: string; readonly rx: string; readonly tx: string } {
  const text = (lines: readonly string[]): string => `${lines.join('\n')}\n`;
  return {
    port: text([
      `  port ${id}: RX queue number: ${rxQueues} Tx queue number: ${txQueues}`,
      `    Rx offloads=0x${rx.toString(16)} Tx offloads=0x${tx.toString(16)}`,
    ]),
    rx: text([
      '    RX queue: 0',
      `      RX desc=${rxDescriptors} - RX free threshold=0`,
      '      RX threshold registers: pthresh=0 hthresh=0  wthresh=0',
      `      RX Offloads=0x${rxQueue.toString(16)}`,
    ]),
    tx: text([
      '    TX queue: 0',
      `      TX desc=${txDescriptors} - TX free threshold=0`,
      '      TX threshold registers: pthresh=0 hthresh=0  wthresh=0',
      `      TX offloads=0x${txQueue.toString(16)} - TX RS bit threshold=0`,
    ]),
  };
}

/** `show config cores`. */
export function coresText(lcores: readonly number[]): string {
  return `List of forwarding lcores:${lcores.map((lcore) => ` ${String(lcore).padStart(2)}`).join('')}\n`;
}

/** `show config txpkts`. */
export function txSegmentsText(segments: readonly number[], split: string): string {
  return `Number of segments: ${segments.length}\nSegment sizes: ${segments.join(',')}\nSplit packet: ${split}\n`;
}
