/**
 * `show rxq info` and `show txq info`.
 * @module
 */
import type { QueueInfo } from '../../port/port.ts';

const border = '*********************';

export interface ShownQueue {
  readonly port: number;
  readonly queue: number;
  readonly info: QueueInfo;
  readonly scattered: boolean;
  readonly drops: boolean;
  readonly started: boolean;
}

function burstModeLine({ burstMode }: QueueInfo): readonly string[] {
  return burstMode === undefined ? [] : [`Burst mode: ${burstMode}`];
}

export function rxQueueInfoText({ port, queue, info, scattered, drops, started }: ShownQueue): string {
  return [
    '',
    `${border} Infos for port ${String(port).padEnd(2)}, RX queue ${String(queue).padEnd(2)} ${border}`,
    `Mempool: ${info.poolName ?? 'NULL'}`,
    'RX prefetch threshold: 0',
    'RX host threshold: 0',
    'RX writeback threshold: 0',
    'RX free threshold: 0',
    `RX drop packets: ${drops ? 'on' : 'off'}`,
    'RX deferred start: off',
    `RX scattered packets: ${scattered ? 'on' : 'off'}`,
    `Rx queue state: ${started ? 'started' : 'stopped'}`,
    `Number of RXDs: ${info.descriptors}`,
    ...burstModeLine(info),
    '',
  ].join('\n');
}

export function txQueueInfoText({ port, queue, info, started }: ShownQueue): string {
  return [
    '',
    `${border} Infos for port ${String(port).padEnd(2)}, TX queue ${String(queue).padEnd(2)} ${border}`,
    'TX prefetch threshold: 0',
    'TX host threshold: 0',
    'TX writeback threshold: 0',
    'TX RS threshold: 0',
    'TX free threshold: 0',
    'TX deferred start: off',
    `Number of TXDs: ${info.descriptors}`,
    `Tx queue state: ${started ? 'started' : 'stopped'}`,
    ...burstModeLine(info),
    '',
  ].join('\n');
}
