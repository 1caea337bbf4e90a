/**
 * What a forwarding engine is, and what it works with. A new engine is one small file beside this one and an entry in
 * index.ts; a user's own engine is a module whose `engine` export has this shape (`--forward-mode=./mirror.js`).
 * @module
 */
import type { KernelContext } from '../../ring/kernels.ts';

/** A transmit queue that packets may leave by. */
export interface EngineOutput {
  readonly port: number;
  /** Sends the `count` packets listed at arena offset `from`, drops what is not taken, and counts. */
  readonly send: (from: number, count: number) => void;
}

/** One stream as its lcore sees it. Everything here is ready when begin() runs; nothing on the burst path allocates. */
export interface EngineStream {
  readonly rxPort: number;
  readonly txPort: number;
  /** Packets a burst. */
  readonly burst: number;
  /** Arena offset of room for 512 handles. */
  readonly mbufs: number;
  /** Arena offset of 12 bytes: the peer's address, then the transmit port's own. */
  readonly addresses: number;
  /** Arena offset of the template of generated packets (src/net/generate.kernel.ts). */
  readonly template: number;
  /** Segments of a generated packet. */
  readonly segments: number;
  /** Arena offset of the csum engine's settings (src/net/recompute-checksums.kernel.ts), and of room for 512 handles of its own. */
  readonly csum: number;
  readonly held: number;
  /** Cache slot of this lcore, for kernels that take or give mbufs. */
  readonly lcore: number;
  readonly context: KernelContext;
  /** For routing engines: what the packets may leave by. */
  readonly outputs: readonly EngineOutput[];
  /** Arena offset of the router (src/net/router-layout.ts), and of room for its lists of packets by output; 0 without one. */
  readonly router: number;
  readonly lists: number;
  /** Arena offset of the recorder of the latency engine (src/net/latency-layout.ts); 0 with others. */
  readonly recorder: number;
  /** Looks at the clock, and tells the recorder. */
  tellTime(): void;
  /** Receives a burst into `mbufs` and counts it. */
  receive(): number;
  /** Sends the first `count` of `mbufs`, tries again where the plan says so, drops the rest, and counts. */
  send(count: number): void;
  /** Frees the first `count` of `mbufs`. */
  free(count: number): void;
  /** How many descriptors are free for transmitting, `wanted` at the most being of interest. */
  room(wanted: number): number;
  /**
   * How many packets a generator may make now at the rate that was set, `most` at the most; all of them where none was set. What is
   * made of them has to be told to spend(). Looks at the clock: once a round is enough.
   */
  due(most: number): number;
  spend(count: number): void;
  /** Counts packets that could not be made for want of mbufs. */
  countNoMbuf(count: number): void;
  /** Counts packets that were freed where they should have been sent. */
  countDropped(count: number): void;
  /** Counts packets received with a wrong IP checksum, and with a wrong TCP or UDP checksum. */
  countBadChecksums(ip: number, transport: number): void;
}

export interface ForwardingEngine {
  readonly name: string;
  /** Before the first round of a stream. */
  readonly begin?: (stream: EngineStream) => void;
  /** One round: usually a burst received and sent. */
  readonly forward: (stream: EngineStream) => void;
  /** After the last round. */
  readonly end?: (stream: EngineStream) => void;
}
