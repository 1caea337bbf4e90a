/**
 * What one run of forwarding is made of: the streams, the engine that moves their packets, and the counters that come back.
 * The session (../cli/session.ts) or launch() makes the plan; the lcores (lcores.ts) carry it out.
 * @module
 */
import type { Latency } from '../net/latency.ts';
import type { MacAddress } from '../net/mac-address.ts';

/** One receive queue, the transmit queue its packets leave by, and the lcore that does it. */
export interface Stream {
  readonly lcore: number;
  readonly rxPort: number;
  readonly rxQueue: number;
  readonly txPort: number;
  readonly txQueue: number;
  /** Destination that engines which rewrite Ethernet addresses put into the packets. */
  readonly peer: MacAddress;
  /** Transmit queues that the packets of a routing engine may leave by, beside the one above; undefined for none. */
  readonly outputs?: readonly { readonly port: number; readonly queue: number }[] | undefined;
  /** VLAN tag (16 bits) that the transmit port is to insert, where the plan says so; undefined for none. */
  readonly vlan?: number | undefined;
}

/** What the csum engine does with the packets of a stream. */
export interface CsumSettings {
  /** TX_OFFLOAD_* bits of src/port/offloads.ts: what the transmit port is asked to do; the rest is done in software. */
  readonly txOffloads: number;
  /** The peer's address as destination and the transmit port's as source. */
  readonly rewriteAddresses: boolean;
  /** Handles the packets inside tunnels too. */
  readonly parseTunnels: boolean;
  /** Payload bytes of the segments that the transmit port is asked to cut (`tso set`); 0: none. */
  readonly segmentSize: number;
  /** Bursts from which TCP segments are gathered into large packets (gro), 1..4; 0: none are. */
  readonly groCycles: number;
  /** Bytes of the longest packet, Ethernet header included: longer ones are cut in software (gso); 0: none are. */
  readonly gsoSize: number;
}

/** csum as it is before anything is set: all in software. */
export const defaultCsumSettings: CsumSettings = {
  txOffloads: 0,
  rewriteAddresses: true,
  parseTunnels: false,
  segmentSize: 0,
  groCycles: 0,
  gsoSize: 0,
};

export interface ForwardingPlan {
  /** Name of a forwarding engine (engines/index.ts), or the URL of a module that exports one. */
  readonly engine: string;
  readonly streams: readonly Stream[];
  /** Packets a burst, 1..512. */
  readonly burst: number;
  /** Retry what the transmit queue did not take: how often, and microseconds between. Undefined: drop at once. */
  readonly retry: { readonly count: number; readonly delay: number } | undefined;
  /** Segment sizes in bytes of the packets that txonly and tx_first make. */
  readonly txSegments: readonly number[];
  /** Those packets have a random number of the segments, from the first up; undefined for no. */
  readonly randomSegments?: boolean | undefined;
  readonly flowgenFlows: number;
  /** Packets a second that txonly and flowgen send on each stream, 1..4294967295; undefined or 0: as many as the transmit queue takes. */
  readonly txRate?: number | undefined;
  readonly verbose: number;
  /** Settings of the csum engine; when missing, defaultCsumSettings with the transmit port's offloads. */
  readonly csum?: ((stream: Stream) => CsumSettings) | undefined;
  /** Bursts of generated packets that every stream's transmit queue gets before the engine starts. */
  readonly txFirst: number;
  /** Empty the receive queues before forwarding starts. */
  readonly flushRx: boolean;
  /** What the engine sends gets its stream's VLAN tag; undefined for no. The packets of `txFirst` always do. */
  readonly insertsVlan?: boolean | undefined;
  /** Lcores sleep while no packets come, where their queues can tell of packets; undefined: they poll. */
  readonly sleep?: SleepSettings | undefined;
  /** Arena offset of the router of the l3fwd engine (src/net/router.ts); undefined for none. */
  readonly router?: number | undefined;
}

/** When and how lcores sleep. */
export interface SleepSettings {
  /** Rounds without a packet after which an lcore sleeps, 1 and up: a few hundred take as long as a wake-up. */
  readonly afterEmptyRounds: number;
  /** Lcores print when they fall asleep and what woke them, some times a second at most. */
  readonly announce?: boolean | undefined;
}

/** How often an lcore slept since it was started, and how often it was packets that woke it. */
export interface LcoreSleeps {
  readonly lcore: number;
  readonly sleeps: number;
  readonly wakeUps: number;
}

/** Counters of one stream since forwarding started or was cleared. */
export interface StreamCounters {
  readonly rxPackets: number;
  readonly txPackets: number;
  /** Packets received or made, and not taken by the transmit queue. */
  readonly dropped: number;
  /** Packets that could not be made for want of an mbuf. */
  readonly noMbuf: number;
  /** csum: packets that were received with a wrong IP checksum, and with a wrong TCP or UDP checksum. */
  readonly badIp: number;
  readonly badTransport: number;
  /** Packets that the rate asked for and that were given up: the transmit queue had no room. */
  readonly unsent: number;
  /** The same: the lcore was not there to send them (it had no CPU), or could not make more. */
  readonly late: number;
}

/** The forwarding lcores of a process. */
export interface Lcores {
  /** Ids of the lcores that can forward: all but the main one, in order. */
  readonly forwarding: readonly number[];
  readonly running: boolean;
  /** Starts forwarding; resolves when every lcore has begun its streams. */
  start(plan: ForwardingPlan): Promise<void>;
  /** Stops forwarding; resolves when every lcore has put its streams down. */
  stop(): Promise<void>;
  /** Counters in the order of the plan's streams: live while running, final afterwards, empty before the first start. */
  counters(): readonly StreamCounters[];
  clearCounters(): void;
  /** What the latency engine recorded, in the order of the plan's streams; undefined with other engines. clearCounters() empties it. */
  latency(): readonly (Latency | undefined)[];
  /** How often each forwarding lcore slept. */
  sleeps(): readonly LcoreSleeps[];
  /** What lcores print of the packets they move, from now on: 1 received, 2 sent, 3 both, 0 nothing. */
  setVerbose(level: number): void;
  /** Another rate of the generators, packets a second and stream, for the streams of the run, from now on; 0: none. */
  setTxRate(rate: number): void;
  /** Other settings of the csum engine for the streams of the run, from now on. */
  setCsum(settings: (stream: Stream) => CsumSettings): void;
  close(): Promise<void>;
}
