import { describe, expect, it } from 'vitest';
import { ALL_DIRECTIONS, baselineOf, CASES, directionsOf, DIRECTIONS, PAIRINGS, pairingsOf, type BenchCase } from '../../bench/cases.ts';
import { refusalIn } from '../../bench/ends.ts';
import { matrixCases, PACKET_SIZES, PATHS, QUEUE_SIZES, TESTS } from '../../bench/matrix.ts';
import { benchCommand, parseOptions } from '../../bench/options.ts';
import { parseLatency, parseRate } from '../../bench/port-stats.ts';
import { passesMostly, passesOnce, search, type Trial } from '../../bench/zero-loss.ts';

function parse(...args: string[]): ReturnType<typeof parseOptions> {
  return parseOptions(
    args,
    benchCommand()
      .exitOverride()
      .configureOutput({ writeErr: () => undefined }),
  );
}

const names = (entries: readonly { readonly name: string }[]): string[] => entries.map(({ name }) => name);

function caseOf(path: string, queue: string, size: string, test: string): BenchCase {
  const [found] = parse('--matrix', '--path', path, '--queue', queue, '--size', size, '--test', test).case;
  if (found === undefined) throw new Error('no such case');
  return found;
}

function directionOf(name: string): (typeof ALL_DIRECTIONS)[number] {
  const found = ALL_DIRECTIONS.find((direction) => direction.name === name);
  if (found === undefined) throw new Error(`no direction ${name}`);
  return found;
}

describe('the matrix', () => {
  it('has a cell for each path, queue, size and test, each by a name of its own', () => {
    const cases = matrixCases({ paths: PATHS, queues: QUEUE_SIZES, sizes: PACKET_SIZES, tests: TESTS });
    expect(cases).toHaveLength(PATHS.length * QUEUE_SIZES.length * PACKET_SIZES.length * TESTS.length);
    expect(new Set(names(cases)).size).toBe(cases.length);
    for (const benchCase of cases) expect(directionsOf(benchCase, ALL_DIRECTIONS).length).toBeGreaterThan(0);
  });

  it('is chosen by --matrix, and narrowed to one cell', () => {
    const options = parse('--matrix', '--path', 'packed-vectorized', '--queue', '1024', '--size', '9000', '--test', 'flowgen');
    expect(options.case).toEqual([
      {
        name: 'packed-vectorized/1024/9000/flowgen',
        title: 'packed-vectorized (packed_vq=1,mrg_rxbuf=0,vectorized=1), queue_size=1024, 9000 B, one way, packets that change',
        segments: [9000],
        unit: 'Gbit/s',
        queueSize: 1024,
        devargs: { virtio: ',packed_vq=1,mrg_rxbuf=0,vectorized=1' },
        directions: ['flowgen-to-vhost', 'flowgen-to-virtio'],
        eal: { dpdk: ['--force-max-simd-bitwidth=512'] },
        testpmd: ['--mbuf-size=9344'],
      },
    ]);
    expect(names(options.pairing)).toEqual(['ours-ours', 'dpdk-dpdk']);
    expect(options.startUp).toBe(false);
    expect(names(parse('--matrix', '--pairing', 'ours-dpdk').pairing)).toEqual(['ours-dpdk']);
  });

  it('is a thing apart from the cases', () => {
    expect(() => parse('--path', 'split')).toThrow(/--path is a filter of the matrix: use it with --matrix/);
    expect(() => parse('--matrix', '--case', '64')).toThrow(/the matrix has cases of its own/);
    expect(() => parse('--matrix', '--size', '65')).toThrow(/Known: 64, 256, 1518, 9000/);
    expect(names(directionsOf(CASES[0] ?? caseOf('split', '256', '64', 'loop'), ALL_DIRECTIONS))).toEqual(names(DIRECTIONS));
  });

  it('has one program at both ends where there is one process, and ours as the tester', () => {
    const wanted = PAIRINGS.filter(({ name }) => ['ours-ours', 'dpdk-dpdk'].includes(name));
    const oneCore = caseOf('split', '256', '64', 'one-core');
    expect(names(pairingsOf(oneCore, directionOf('io-loop'), PAIRINGS))).toEqual(['ours-ours', 'dpdk-dpdk']);
    const zeroLoss = caseOf('split', '256', '64', 'zero-loss');
    const [vhost, virtio] = [directionOf('zero-loss-vhost'), directionOf('zero-loss-virtio')];
    expect(names(pairingsOf(zeroLoss, vhost, wanted))).toEqual(['ours-ours', 'ours-dpdk']);
    expect(names(pairingsOf(zeroLoss, virtio, wanted))).toEqual(['ours-ours', 'dpdk-ours']);
    expect(names(pairingsOf(zeroLoss, virtio, wanted.slice(0, 1)))).toEqual(['ours-ours']);
    expect([vhost, virtio, directionOf('io-loop')].map(baselineOf)).toEqual(['ours-dpdk', 'dpdk-ours', 'dpdk-dpdk']);
  });
});

it('a refusal is what testpmd said before it went on without the device', () => {
  const output = `EAL: Detected NUMA nodes: 1
virtio_user_dev_init(): feature not supported
vdev_probe(): failed to initialize virtio_user0 device
EAL: Bus (vdev) probe failed.
testpmd: No probed ethernet devices
`;
  expect(refusalIn(output)).toBe('virtio_user_dev_init(): feature not supported');
  expect(refusalIn('EAL: Detected NUMA nodes: 1\nConfiguring Port 0 (socket 0)\n')).toBeUndefined();
});

it('latencies are read as our testpmd prints them', () => {
  const output = `Latency on RX Port=0/Queue=0, TX Port=0/Queue=0
  TX-packets: 100 RX-packets: 88 RX-others: 2 TX-unsent: 7 TX-late: 3
  microseconds: p50: 1.000 p99.999: 3.500 max: 12345.678
`;
  expect(parseLatency(output)).toEqual({
    sent: 100,
    packets: 88,
    others: 2,
    unsent: 7,
    late: 3,
    microseconds: { p50: 1, 'p99.999': 3.5, max: 12345.678 },
  });
  expect(parseLatency(output, 1)).toBeUndefined();
  expect(parseLatency('Bad arguments\n')).toBeUndefined();
});

describe('the search for a rate without loss', () => {
  it.each([0, 1e6, 7_654_321, 9_999_999])('finds %i packets a second to within two per cent of the range', async (limit) => {
    const tried: number[] = [];
    const found = await search(1e7, (rate) => {
      tried.push(rate);
      return Promise.resolve(rate <= limit);
    });
    expect(found).toBeLessThanOrEqual(limit);
    expect(limit - found).toBeLessThanOrEqual(2e5);
    expect(tried).toHaveLength(6);
  });

  /** Trials of a thousand packets that lose so many, one after the other. */
  const losing = (...losses: number[]): { run: (rate: number) => Promise<Trial>; left: number[] } => ({
    left: losses,
    run: (rate) => Promise.resolve({ rate, sent: 1000, lost: losses.shift() ?? NaN, late: 0 }),
  });

  it('takes one loss for one too many', async () => {
    const [without, one] = [losing(0), losing(1)];
    expect([await passesOnce(without.run)(1), await passesOnce(one.run)(1)]).toEqual([true, false]);
    const late = (rate: number): Promise<Trial> => Promise.resolve({ rate, sent: 1000, lost: 0, late: 100 });
    expect(await passesOnce(late)(1)).toBe(false);
  });

  it.each([
    [[5, 0], true, 0],
    [[6, 0, 5], true, 0],
    [[6, 7, 0], false, 1],
    [[0, 20, 6], false, 0],
  ])('lets most trials decide where some may be lost: %j of 1000 at 0.5 %%', async (losses, passed, untried) => {
    const { run, left } = losing(...losses);
    expect(await passesMostly(run, 0.005)(1)).toBe(passed);
    expect(left).toHaveLength(untried);
  });

  it('reads what our testpmd says of a rate', () => {
    const output = `TX rate: 1000000 packets/s on each stream
  TX Port= 0/Queue= 0: TX-packets: 90             TX-unsent: 7              TX-late: 3
  TX Port= 1/Queue= 0: TX-packets: 100            TX-unsent: 0              TX-late: 5
`;
    expect(parseRate(output)).toEqual({ unsent: 7, late: 3 });
    expect(parseRate(output, 1)).toEqual({ unsent: 0, late: 5 });
    expect(parseRate('Bad arguments\n')).toBeUndefined();
  });
});
