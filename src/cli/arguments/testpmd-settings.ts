/**
 * What testpmd is told to do: the settings that its arguments write, and what they are when nothing is said.
 * @module
 */
import type { MacAddress } from '../../net/mac-address.ts';
import type { CaptureWish } from '../../port/capture-options.ts';
import { TX_OFFLOAD_MBUF_FAST_FREE } from '../../port/offloads.ts';
import { RSS_IP } from '../../port/rss.ts';

export const FORWARD_MODES = ['io', 'mac', 'macswap', 'flowgen', 'rxonly', 'txonly', 'csum', 'icmpecho', '5tswap', 'latency'] as const;

export const EVENT_NAMES = [
  'unknown',
  'intr_lsc',
  'queue_state',
  'intr_reset',
  'vf_mbox',
  'macsec',
  'intr_rmv',
  'flow_aged',
  'err_recovering',
  'recovery_success',
  'recovery_failed',
] as const;
export type EventName = (typeof EVENT_NAMES)[number];

export type PortTopology = 'paired' | 'chained' | 'loop';

/** The destination that packets sent by one port are given. */
export interface EthPeer {
  readonly port: number;
  readonly mac: MacAddress;
}

export interface TestpmdOptions {
  readonly interactive: boolean;
  /** Start forwarding before the prompt appears. Without `interactive` it always starts. */
  readonly autoStart: boolean;
  /** File of commands to execute first. */
  readonly cmdlineFile: string | undefined;
  readonly txFirst: boolean;
  /** Seconds; 0 shows no statistics while running. */
  readonly statsPeriod: number;
  /** Forwarding lcores to use; undefined for one. */
  readonly nbCores: number | undefined;
  /** Ports to forward between; undefined for all. */
  readonly nbPorts: number | undefined;
  /** Lcores of `--coremask`, ascending; undefined for all but the main one. */
  readonly forwardingLcores: readonly number[] | undefined;
  /** Ports of `--portmask` or `--portlist`, whichever came last; undefined for all. */
  readonly forwardingPorts: readonly number[] | undefined;
  /** Bytes of an mbuf's buffer, headroom included. */
  readonly mbufSize: number;
  /** Undefined leaves the number to be computed from lcores and queues. */
  readonly totalNumMbufs: number | undefined;
  /** Mbufs that an lcore's cache of the pool holds. */
  readonly mbcache: number;
  /** Bytes of the longest frame, CRC included; undefined leaves the port's MTU. */
  readonly maxPktLen: number | undefined;
  readonly ethPeers: readonly EthPeer[];
  /** File with one address a line, the first for port 0 (eth-peers-file.ts). */
  readonly ethPeersConfigfile: string | undefined;
  readonly portTopology: PortTopology;
  /** One of FORWARD_MODES, or the path of a module that exports an engine: it has a `/` or ends in `.ts`, `.js`, `.mts` or `.mjs`. */
  readonly forwardMode: string;
  /** Retry what a transmit queue did not take. */
  readonly retry: boolean;
  readonly rxq: number;
  readonly txq: number;
  /** Descriptors; 0 takes the driver's default. */
  readonly rxd: number;
  readonly txd: number;
  readonly burst: number;
  /** Bytes of the segments of the packets that are made. */
  readonly txpkts: readonly number[];
  /** Packets a second and stream that txonly and flowgen send; 0: as many as the transmit queue takes. */
  readonly txrate: number;
  readonly flowgenFlows: number;
  readonly flushRx: boolean;
  readonly linkCheck: boolean;
  readonly deviceStart: boolean;
  readonly lscInterrupt: boolean;
  /** RTE_ETH_TX_OFFLOAD_* bits. */
  readonly txOffloads: number;
  /** RTE_ETH_RX_OFFLOAD_* bits. */
  readonly rxOffloads: number;
  /** Bytes; 0 leaves the port's own limit. */
  readonly maxLroPktSize: number;
  /** RSS_* bits (port/rss.ts); those that a device cannot hash are left out. */
  readonly rssTypes: bigint;
  readonly dropEnable: boolean;
  readonly printEvents: ReadonlySet<EventName>;
  /** Of --capture, in the order given. */
  readonly captures: readonly CaptureWish[];
}

export const DEFAULT_TESTPMD_OPTIONS: TestpmdOptions = {
  interactive: false,
  autoStart: false,
  cmdlineFile: undefined,
  txFirst: false,
  statsPeriod: 0,
  nbCores: undefined,
  nbPorts: undefined,
  forwardingLcores: undefined,
  forwardingPorts: undefined,
  mbufSize: 2176,
  totalNumMbufs: undefined,
  mbcache: 250,
  maxPktLen: undefined,
  ethPeers: [],
  ethPeersConfigfile: undefined,
  portTopology: 'paired',
  forwardMode: 'io',
  retry: false,
  rxq: 1,
  txq: 1,
  rxd: 0,
  txd: 0,
  burst: 32,
  txpkts: [64],
  txrate: 0,
  flowgenFlows: 1024,
  flushRx: true,
  linkCheck: true,
  deviceStart: true,
  lscInterrupt: true,
  txOffloads: TX_OFFLOAD_MBUF_FAST_FREE,
  rxOffloads: 0,
  maxLroPktSize: 0,
  rssTypes: RSS_IP,
  dropEnable: false,
  printEvents: new Set(EVENT_NAMES.filter((name) => name !== 'vf_mbox')),
  captures: [],
};
