/**
 * What the command line decides about a session: plain values, already parsed; what depends on the ports or lcores that exist is
 * checked when the session begins.
 * @module
 */
import type { MacAddress } from '../../net/mac-address.ts';
import type { CaptureWish } from '../../port/capture-options.ts';
import type { EventName } from './events.ts';
import type { Topology } from '../../lcore/streams.ts';
import { TX_OFFLOAD_MBUF_FAST_FREE } from '../../port/offloads.ts';
import { RSS_IP } from '../../port/rss.ts';

export interface SessionOptions {
  readonly interactive: boolean;
  readonly autoStart: boolean;
  /** Commands to run before the prompt. */
  readonly commandFile: string | undefined;
  /** Non-interactive: start with a burst from every port. */
  readonly txFirst: boolean;
  /** Non-interactive: seconds between statistics; 0 for none. */
  readonly statsPeriod: number;
  /** An engine's name or the path of its module; undefined: io, and not a word about it. */
  readonly forwardMode: string | undefined;
  readonly retry: boolean;
  readonly topology: Topology;
  readonly burst: number;
  readonly txSegments: readonly number[];
  /** --txrate: packets a second and stream; 0: as many as the transmit queue takes. */
  readonly txRate: number;
  readonly flowgenFlows: number;
  readonly flushRx: boolean;
  readonly rxQueues: number;
  readonly txQueues: number;
  /** 0: the driver's default. */
  readonly rxDescriptors: number;
  readonly txDescriptors: number;
  readonly rxOffloads: number;
  /** MBUF_FAST_FREE by default, as testpmd: dropped where a port has it not. */
  readonly txOffloads: number;
  /** --max-pkt-len; undefined: an MTU of 1500. */
  readonly maxPacketLength: number | undefined;
  /** --max-lro-pkt-size, in bytes; 0: the port's own limit. */
  readonly maxLroPacketSize: number;
  /** --rss-ip, --rss-udp, --disable-rss: RSS_* bits (port/rss.ts). */
  readonly rssTypes: bigint;
  /** --enable-drop-en. */
  readonly dropEnable: boolean;
  /** Bytes of data room of an mbuf, headroom included: 2176 by default. */
  readonly mbufSize: number;
  readonly cores: number | undefined;
  readonly ports: number | undefined;
  /** Of --coremask; undefined for all but the main one. */
  readonly forwardingLcores: readonly number[] | undefined;
  /** Of --portmask or --portlist, those that do not exist included; undefined for all. */
  readonly forwardingPorts: readonly number[] | undefined;
  /** Addresses by port id that replace 02:00:00:00:00:NN. */
  readonly peers: ReadonlyMap<number, MacAddress>;
  readonly linkCheck: boolean;
  readonly linkInterrupt: boolean;
  readonly startPorts: boolean;
  readonly printEvents: ReadonlySet<EventName>;
  /** Captures that begin with the ports. */
  readonly captures: readonly CaptureWish[];
}

export const defaultOptions: SessionOptions = {
  interactive: false,
  autoStart: false,
  commandFile: undefined,
  txFirst: false,
  statsPeriod: 0,
  forwardMode: undefined,
  retry: false,
  topology: 'paired',
  burst: 32,
  txSegments: [64],
  txRate: 0,
  flowgenFlows: 1024,
  flushRx: true,
  rxQueues: 1,
  txQueues: 1,
  rxDescriptors: 0,
  txDescriptors: 0,
  rxOffloads: 0,
  txOffloads: TX_OFFLOAD_MBUF_FAST_FREE,
  maxPacketLength: undefined,
  maxLroPacketSize: 0,
  rssTypes: RSS_IP,
  dropEnable: false,
  mbufSize: 2176,
  cores: undefined,
  ports: undefined,
  forwardingLcores: undefined,
  forwardingPorts: undefined,
  peers: new Map(),
  linkCheck: true,
  linkInterrupt: true,
  startPorts: true,
  printEvents: new Set([
    'unknown',
    'intr_lsc',
    'queue_state',
    'intr_reset',
    'macsec',
    'intr_rmv',
    'flow_aged',
    'err_recovering',
    'recovery_success',
    'recovery_failed',
  ]),
  captures: [],
};

/** What testpmd says of its options before it creates the mbuf pool. */
export function announceOptions(options: SessionOptions, print: (text: string) => void): void {
  if (options.interactive) print('Interactive-mode selected\n');
  if (options.commandFile !== undefined) print(`CLI commands to be read from ${options.commandFile}\n`);
  if (options.autoStart) print('Auto-start selected\n');
  if (!options.txFirst) return;
  print('Ports to start sending a burst of packets first\n');
  if (options.linkInterrupt) print('Warning: lsc_interrupt needs to be off when using tx_first. Disabling.\n');
}
