/**
 * What is measured: cases, directions, pairings. A further case is one more entry in CASES; those of the matrix are in matrix.ts.
 * @module
 */
import type { ProgramName } from './programs.ts';

export type End = 'virtio' | 'vhost';
export type DirectionName =
  | 'virtio-to-vhost'
  | 'vhost-to-virtio'
  | 'io-loop'
  | 'flowgen-to-vhost'
  | 'flowgen-to-virtio'
  | 'zero-loss-vhost'
  | 'zero-loss-virtio'
  | 'partial-loss-vhost'
  | 'partial-loss-virtio'
  | 'latency-vhost'
  | 'latency-virtio';
export type Unit = 'Mpps' | 'Gbit/s' | 'us';

export interface Direction {
  readonly name: DirectionName;
  readonly title: string;
  /** Forwarding mode of each end. */
  readonly forward: Readonly<Record<End, string>>;
  /** Starts first, so that it is there when the first packet comes. The other end sends, or sends the loop's first packets. */
  readonly receiver: End;
  /** Whether the sender begins with `start tx_first`. */
  readonly loop: boolean;
  /** This end is ours whatever is measured, and has a rate: the program at the other end, which returns the packets, is measured. */
  readonly tester?: End;
  /** Packets a second that the tester sends; without one it seeks the highest rate without loss, or with no more than `lossLimit`. */
  readonly rate?: number;
  /** Part of the packets that may be lost; 0 if left out. */
  readonly lossLimit?: number;
}

export interface BenchCase {
  readonly name: string;
  readonly title: string;
  /** Length of each segment, as `set txpkts` takes them. */
  readonly segments: readonly number[];
  /** What its rates are shown in; `us` is the time of one round trip, for a loop with one packet in it. */
  readonly unit: Unit;
  /** More keys of the device, from the comma on. */
  readonly devargs?: Readonly<Partial<Record<End, string>>>;
  /** More EAL arguments of a program, at whichever end it stands. */
  readonly eal?: Readonly<Partial<Record<ProgramName, readonly string[]>>>;
  /** More testpmd arguments, both programs. */
  readonly testpmd?: readonly string[];
  /** Packets of each burst that the io loop begins with; 32 if left out, as all bursts are once it goes round. */
  readonly burst?: number;
  /** Bursts that go round in the io loop; 8 if left out. Even in one process, where each port sends half of them. */
  readonly burstsInFlight?: number;
  /** Descriptors of a ring; QUEUE_SIZE if left out. */
  readonly queueSize?: number;
  /** Those of DIRECTIONS if left out. */
  readonly directions?: readonly DirectionName[];
  /** Both ports in one process, on one lcore: both ends are the same program, and the packets go round. */
  readonly oneProcess?: boolean;
}

export interface Pairing {
  readonly name: string;
  readonly virtio: ProgramName;
  readonly vhost: ProgramName;
}

export const QUEUE_SIZE = 256;
export const DEFAULT_BURST = 32;
export const DEFAULT_BURSTS_IN_FLIGHT = 8;

export const DIRECTIONS: readonly Direction[] = [
  {
    name: 'virtio-to-vhost',
    title: 'virtio to vhost',
    forward: { virtio: 'txonly', vhost: 'rxonly' },
    receiver: 'vhost',
    loop: false,
  },
  {
    name: 'vhost-to-virtio',
    title: 'vhost to virtio',
    forward: { virtio: 'rxonly', vhost: 'txonly' },
    receiver: 'virtio',
    loop: false,
  },
  {
    name: 'io-loop',
    title: 'io loop',
    forward: { virtio: 'io', vhost: 'io' },
    receiver: 'vhost',
    loop: true,
  },
];

/** What FD.io's CSIT calls the partial drop rate. */
const PARTIAL_LOSS = 0.005;

/** Those of the matrix alone. */
const FURTHER_DIRECTIONS: readonly Direction[] = [
  {
    name: 'flowgen-to-vhost',
    title: 'virtio to vhost, flows',
    forward: { virtio: 'flowgen', vhost: 'rxonly' },
    receiver: 'vhost',
    loop: false,
  },
  {
    name: 'flowgen-to-virtio',
    title: 'vhost to virtio, flows',
    forward: { virtio: 'rxonly', vhost: 'flowgen' },
    receiver: 'virtio',
    loop: false,
  },
  {
    name: 'zero-loss-vhost',
    title: 'rate without loss, vhost returns',
    forward: { virtio: 'flowgen', vhost: 'io' },
    receiver: 'vhost',
    loop: false,
    tester: 'virtio',
  },
  {
    name: 'zero-loss-virtio',
    title: 'rate without loss, virtio returns',
    forward: { virtio: 'io', vhost: 'flowgen' },
    receiver: 'virtio',
    loop: false,
    tester: 'vhost',
  },
  {
    name: 'partial-loss-vhost',
    title: 'rate with 0.5 % lost at most, vhost returns',
    forward: { virtio: 'flowgen', vhost: 'io' },
    receiver: 'vhost',
    loop: false,
    tester: 'virtio',
    lossLimit: PARTIAL_LOSS,
  },
  {
    name: 'partial-loss-virtio',
    title: 'rate with 0.5 % lost at most, virtio returns',
    forward: { virtio: 'io', vhost: 'flowgen' },
    receiver: 'virtio',
    loop: false,
    tester: 'vhost',
    lossLimit: PARTIAL_LOSS,
  },
  {
    name: 'latency-vhost',
    title: 'latency, vhost returns',
    forward: { virtio: 'latency', vhost: 'io' },
    receiver: 'vhost',
    loop: false,
    tester: 'virtio',
    rate: 1_000_000,
  },
  {
    name: 'latency-virtio',
    title: 'latency, virtio returns',
    forward: { virtio: 'io', vhost: 'latency' },
    receiver: 'virtio',
    loop: false,
    tester: 'vhost',
    rate: 1_000_000,
  },
];

export const ALL_DIRECTIONS: readonly Direction[] = [...DIRECTIONS, ...FURTHER_DIRECTIONS];

export const CASES: readonly BenchCase[] = [
  { name: '64', title: 'split ring, default features, 64 B', segments: [64], unit: 'Mpps' },
  { name: '1518', title: 'split ring, default features, 1518 B', segments: [1518], unit: 'Gbit/s' },
  {
    name: 'javascript',
    title: 'split ring, default features, 64 B, our kernels as JavaScript',
    segments: [64],
    unit: 'Mpps',
    eal: { ours: ['--force-max-simd-bitwidth=64'] },
  },
];

/** In the order in which they take turns: what is compared most stands side by side. */
export const PAIRINGS: readonly Pairing[] = [
  { name: 'ours-ours', virtio: 'ours', vhost: 'ours' },
  { name: 'dpdk-dpdk', virtio: 'dpdk', vhost: 'dpdk' },
  { name: 'ours-dpdk', virtio: 'ours', vhost: 'dpdk' },
  { name: 'dpdk-ours', virtio: 'dpdk', vhost: 'ours' },
];

/** What the others are compared with. */
export const BASELINE = 'dpdk-dpdk';

/** The same for a direction: where one end is ours in any case, DPDK is at the other. */
export function baselineOf({ tester }: Direction): string {
  return tester === undefined ? BASELINE : tester === 'virtio' ? 'ours-dpdk' : 'dpdk-ours';
}

export function packetBytes(benchCase: BenchCase): number {
  return benchCase.segments.reduce((sum, length) => sum + length, 0);
}

/** Packets that go round in the io loop. */
export function packetsInFlight(benchCase: BenchCase): number {
  return (benchCase.burst ?? DEFAULT_BURST) * (benchCase.burstsInFlight ?? DEFAULT_BURSTS_IN_FLIGHT);
}

/** Packets a second in the case's unit. */
export function inUnit(benchCase: BenchCase, packetsPerSecond: number): number {
  switch (benchCase.unit) {
    case 'Mpps':
      return packetsPerSecond / 1e6;
    case 'Gbit/s':
      return (packetsPerSecond * packetBytes(benchCase) * 8) / 1e9;
    case 'us':
      return packetsPerSecond === 0 ? Infinity : (packetsInFlight(benchCase) * 1e6) / packetsPerSecond;
  }
}

/** Those of the wanted directions that the case has. */
export function directionsOf(benchCase: BenchCase, wanted: readonly Direction[]): readonly Direction[] {
  const names = benchCase.directions ?? DIRECTIONS.map(({ name }) => name);
  return wanted.filter(({ name, loop }) => names.includes(name) && (loop || benchCase.oneProcess !== true));
}

/**
 * Those of the wanted pairings that the case has in a direction. Where one end is ours in any case, those whose other end is wanted: for
 * DPDK with DPDK, ours with DPDK.
 */
export function pairingsOf(benchCase: BenchCase, { tester }: Direction, wanted: readonly Pairing[]): readonly Pairing[] {
  if (tester !== undefined) {
    const measured = tester === 'virtio' ? 'vhost' : 'virtio';
    return PAIRINGS.filter((pairing) => pairing[tester] === 'ours' && wanted.some((other) => other[measured] === pairing[measured]));
  }
  return wanted.filter(({ virtio, vhost }) => virtio === vhost || benchCase.oneProcess !== true);
}
