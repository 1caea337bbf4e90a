/**
 * The cases of `npm run bench -- --matrix`: every path of the drivers, with two sizes of ring and four of packets, in every test.
 * @module
 */
import type { BenchCase, DirectionName } from './cases.ts';

export interface Path {
  readonly name: string;
  /** Keys of virtio_user. */
  readonly devargs: string;
  /** More EAL arguments of DPDK. */
  readonly dpdk?: readonly string[];
}

/** DPDK takes its AVX-512 paths only when told to. */
const WIDE = ['--force-max-simd-bitwidth=512'];

/** What virtio_user is told decides what both sides negotiate, and so the path of either. */
export const PATHS: readonly Path[] = [
  { name: 'split', devargs: '' },
  { name: 'split-mergeable', devargs: ',in_order=0' },
  { name: 'split-in-order', devargs: ',mrg_rxbuf=0' },
  { name: 'split-regular', devargs: ',mrg_rxbuf=0,in_order=0' },
  { name: 'split-vectorized', devargs: ',mrg_rxbuf=0,in_order=0,vectorized=1', dpdk: WIDE },
  { name: 'packed', devargs: ',packed_vq=1' },
  { name: 'packed-mergeable', devargs: ',packed_vq=1,in_order=0' },
  { name: 'packed-in-order', devargs: ',packed_vq=1,mrg_rxbuf=0' },
  { name: 'packed-regular', devargs: ',packed_vq=1,mrg_rxbuf=0,in_order=0' },
  { name: 'packed-vectorized', devargs: ',packed_vq=1,mrg_rxbuf=0,vectorized=1', dpdk: WIDE },
];

export const QUEUE_SIZES: readonly number[] = [256, 1024];
export const PACKET_SIZES: readonly number[] = [64, 256, 1518, 9000];

export interface Test {
  readonly name: string;
  readonly title: string;
  readonly directions: readonly DirectionName[];
  /** What it changes of a case. */
  readonly more?: Partial<BenchCase>;
}

export const TESTS: readonly Test[] = [
  { name: 'one-way', title: 'one way', directions: ['virtio-to-vhost', 'vhost-to-virtio'] },
  { name: 'flowgen', title: 'one way, packets that change', directions: ['flowgen-to-vhost', 'flowgen-to-virtio'] },
  { name: 'loop', title: '256 packets going round', directions: ['io-loop'] },
  { name: 'one-core', title: 'both ports on one core', directions: ['io-loop'], more: { oneProcess: true, unit: 'Mpps' } },
  {
    name: 'round-trip',
    title: 'one packet going round',
    directions: ['io-loop'],
    more: { unit: 'us', burst: 1, burstsInFlight: 1 },
  },
  {
    name: 'zero-loss',
    title: 'highest rate without loss (RFC 2544)',
    directions: ['zero-loss-vhost', 'zero-loss-virtio'],
    more: { unit: 'Mpps' },
  },
  {
    name: 'partial-loss',
    title: 'highest rate with 0.5 % lost at most',
    directions: ['partial-loss-vhost', 'partial-loss-virtio'],
    more: { unit: 'Mpps' },
  },
  {
    name: 'latency',
    title: 'percentiles of the time there and back at 1 Mpps',
    directions: ['latency-vhost', 'latency-virtio'],
    more: { unit: 'us' },
  },
];

/** Packets longer than an mbuf of the usual size get one that holds them in one segment. */
const LONG_PACKET = 2048;
const LONG_MBUF = 9344;

export interface MatrixFilter {
  readonly paths: readonly Path[];
  readonly queues: readonly number[];
  readonly sizes: readonly number[];
  readonly tests: readonly Test[];
}

/** A case a cell, named `path/queue/size/test`; what is compared with one another stands together. */
export function matrixCases({ paths, queues, sizes, tests }: MatrixFilter): BenchCase[] {
  return tests.flatMap((test) =>
    sizes.flatMap((size) => queues.flatMap((queue) => paths.map((path) => matrixCase(path, queue, size, test)))),
  );
}

function matrixCase(path: Path, queue: number, size: number, test: Test): BenchCase {
  return {
    name: [path.name, queue, size, test.name].join('/'),
    title: `${path.name} (${path.devargs === '' ? 'defaults' : path.devargs.slice(1)}), queue_size=${queue}, ${size} B, ${test.title}`,
    segments: [size],
    unit: size < 1500 ? 'Mpps' : 'Gbit/s',
    queueSize: queue,
    devargs: { virtio: path.devargs },
    directions: test.directions,
    ...(path.dpdk === undefined ? {} : { eal: { dpdk: path.dpdk } }),
    ...(size > LONG_PACKET ? { testpmd: [`--mbuf-size=${LONG_MBUF}`] } : {}),
    ...test.more,
  };
}
