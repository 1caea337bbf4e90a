/**
 * What the main thread and an lcore's Worker say to each other: messages for the rare things, words in the arena for the rest.
 * @module
 */
import type { ArenaShare } from '../memory/arena.ts';
import { CSUM_BYTES } from '../net/recompute-checksums.kernel.ts';
import type { QueueHandle } from '../port/queue.ts';
import type { KernelTarget } from '../ring/kernels.ts';

export interface LcoreStart {
  readonly share: ArenaShare;
  readonly target: KernelTarget;
  readonly lcore: number;
  readonly cpus: readonly number[];
  /** Cache slot in pools. */
  readonly slot: number;
  /** Arena offset of the control words. */
  readonly control: number;
}

/** Control words of an lcore, on two lines: what the main thread writes, and what the lcore writes. */
export const CONTROL_STOP = 0;
/** 1: print received packets, 2: sent ones, 3: both. */
export const CONTROL_VERBOSE = 4;
/** 1 from before the first burst until after the last. */
export const CONTROL_RUNNING = 64;
/** Counts rounds over all streams. */
export const CONTROL_ROUNDS = 68;
/** Counts sleeps, and those of them that packets ended. */
export const CONTROL_SLEEPS = 72;
export const CONTROL_WAKE_UPS = 76;
export const CONTROL_BYTES = 128;

/** A stream's part of the arena. */
export const STREAM_MBUFS = 0;
/** Eight counters of two u32, at the COUNTER_* below. */
export const STREAM_COUNTERS = 2048;
export const STREAM_ADDRESSES = 2112;
/** Packets a second that a generator makes, u32, from the next burst on; 0: as many as the transmit queue takes. */
export const STREAM_RATE = 2112 + 16;
export const STREAM_TEMPLATE = 2176;
/** The settings of the csum engine (src/net/recompute-checksums.kernel.ts), and room for 512 handles of its own. */
export const STREAM_CSUM = 2176 + 1216;
export const STREAM_HELD = STREAM_CSUM + CSUM_BYTES;
export const STREAM_BYTES = STREAM_HELD + 2048;
/** Behind that, where there is a router: its lists of packets by output (src/net/router-layout.ts). */
export const STREAM_LISTS = STREAM_BYTES;

export const COUNTER_RECEIVED = 0;
export const COUNTER_SENT = 8;
export const COUNTER_DROPPED = 16;
export const COUNTER_NO_MBUF = 24;
export const COUNTER_BAD_IP = 32;
export const COUNTER_BAD_TRANSPORT = 40;
/** Packets that a rate asked for and that were given up (pacer.ts). */
export const COUNTER_UNSENT = 48;
export const COUNTER_LATE = 56;

export interface LcoreStream {
  readonly rxPort: number;
  readonly txPort: number;
  readonly rx: QueueHandle | undefined;
  readonly tx: QueueHandle | undefined;
  /** What else its packets may leave by. */
  readonly outputs: readonly { readonly port: number; readonly tx: QueueHandle }[];
  /** Arena offset of STREAM_BYTES. */
  readonly area: number;
  /** Arena offset of a recorder of latencies (src/net/latency-layout.ts); 0: none. */
  readonly recorder: number;
  /** VLAN tag of what is sent. */
  readonly vlan: number | undefined;
}

/** How an lcore sleeps (sleep.ts). */
export interface LcoreSleep {
  /** The lcore's eventfd. */
  readonly wake: number;
  readonly afterEmptyRounds: number;
  /** Says when it falls asleep, and what woke it. */
  readonly announce: boolean;
}

export interface LcorePlan {
  readonly engine: string;
  readonly streams: readonly LcoreStream[];
  readonly burst: number;
  readonly retry: { readonly count: number; readonly delay: number } | undefined;
  readonly segments: number;
  readonly txFirst: number;
  readonly flushRx: boolean;
  /** The tag is for what the engine sends, and not for txFirst's packets alone. */
  readonly insertsVlan: boolean;
  /** Undefined: it polls. */
  readonly sleep: LcoreSleep | undefined;
  /** Arena offset of a router (src/net/router-layout.ts); 0: none. */
  readonly router: number;
}

export type ToLcore = { readonly type: 'prepare'; readonly plan: LcorePlan } | { readonly type: 'run' };

export type FromLcore =
  | { readonly type: 'online'; readonly thread: number }
  | { readonly type: 'prepared' }
  | { readonly type: 'running' }
  | { readonly type: 'stopped' }
  | { readonly type: 'text'; readonly text: string }
  | { readonly type: 'failed'; readonly message: string };
