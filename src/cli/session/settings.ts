/**
 * What commands change while a session lives and both ports and forwarding read.
 * @module
 */
import type { SessionOptions } from './options.ts';

/** `rand`: txonly makes packets of any number of the segments, from one to all. */
export const txSplits = ['off', 'on', 'rand'] as const;
export type TxSplit = (typeof txSplits)[number];

export interface Settings {
  rxQueues: number;
  txQueues: number;
  /** 0: the driver's default. */
  rxDescriptors: number;
  txDescriptors: number;
  burst: number;
  txSegments: readonly number[];
  txSplit: TxSplit;
  /** Packets a second that txonly and flowgen send on a stream; 0: as many as the transmit queue takes. */
  txRate: number;
  /** RSS_* bits that are hashed where a port has several receive queues; beyond what its device can, as they were asked for. */
  rssTypes: bigint;
  /** Whether receive queues are asked to drop what finds no descriptor: shown, and in the nature of virtqueues. */
  dropEnable: boolean;
  verbose: number;
  flushRx: boolean;
  linkCheck: boolean;
  readonly linkInterrupt: boolean;
  hideZeroStatistics: boolean;
}

/** Most packets a burst may have. */
export const maxBurst = 512;

export function initialSettings(options: SessionOptions): Settings {
  return {
    rxQueues: options.rxQueues,
    txQueues: options.txQueues,
    rxDescriptors: options.rxDescriptors,
    txDescriptors: options.txDescriptors,
    burst: options.burst,
    txSegments: options.txSegments,
    txSplit: 'off',
    txRate: options.txRate,
    rssTypes: options.rssTypes,
    dropEnable: options.dropEnable,
    verbose: 0,
    flushRx: options.flushRx,
    linkCheck: options.linkCheck,
    // A burst sent before forwarding needs links that are known to be up, not announced later.
    linkInterrupt: options.linkInterrupt && !options.txFirst,
    hideZeroStatistics: false,
  };
}
