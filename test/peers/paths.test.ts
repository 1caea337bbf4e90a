/**
 * Paths beside DPDK's: for the same device arguments, the same choice, in the same words; and packets on each of them.
 */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { Pair, type PairOptions } from '../support/pair.ts';
import type { Program } from '../support/program.ts';
import { expectOneWay } from '../support/traffic.ts';
import { WHY_NO_PEERS } from './matrix.ts';

const CASES = [
  { mergeable: true, inOrder: true, receive: 'Scalar in order mergeable', transmit: 'Scalar in order' },
  { mergeable: false, inOrder: true, receive: 'Scalar in order', transmit: 'Scalar in order' },
  { mergeable: true, inOrder: false, receive: 'Scalar mergeable', transmit: 'Scalar' },
  { mergeable: false, inOrder: false, receive: 'Scalar', transmit: 'Scalar' },
  { vectorized: true, mergeable: false, inOrder: false, receive: 'Vector SIMD128', transmit: 'Scalar' },
  {
    packed: true,
    mergeable: true,
    inOrder: true,
    receive: 'Scalar in order mergeable packed ring',
    transmit: 'Scalar in order packed ring',
  },
  { packed: true, mergeable: false, inOrder: false, receive: 'Scalar standard packed ring', transmit: 'Scalar packed ring' },
  // asked for, and not possible
  { vectorized: true, mergeable: true, inOrder: false, receive: 'Scalar mergeable', transmit: 'Scalar' },
  {
    packed: true,
    vectorized: true,
    mergeable: false,
    inOrder: false,
    receive: 'Scalar standard packed ring',
    transmit: 'Scalar packed ring',
  },
] as const;

/** DPDK has its vectorized loops of packed rings for AVX-512 only. */
const VECTORIZED = {
  packed: true,
  vectorized: true,
  mergeable: false,
  inOrder: true,
  receive: 'Vector SIMD128 packed ring',
  transmit: 'Vector SIMD128 packed ring',
} as const;
const HAS_AVX512 = readFileSync('/proc/cpuinfo', 'utf8').includes('avx512vl');

type Keys = Pick<PairOptions, 'mergeable' | 'inOrder' | 'packed' | 'vectorized'>;

/** What a driver logs of its paths, and of those that it did not take. */
function logged(stderr: string, what: 'using' | 'disabled'): string[] {
  return [...stderr.matchAll(new RegExp(`\\b(?:virtio: )?${what} .*$`, 'gm'))]
    .map(([line]) => line)
    .filter((line) => /path|vectorized/.test(line));
}

/** A program as the driver, with DPDK's net_vhost. */
function start(driver: Program, keys: Keys): Promise<Pair> {
  return Pair.start({
    driver: { program: driver, eal: ['--log-level=pmd.net.virtio.*:info', '--force-max-simd-bitwidth=512'] },
    device: { program: 'dpdk' },
    server: 'device',
    ...keys,
  });
}

describe.skipIf(WHY_NO_PEERS !== undefined)('virtio_user', () => {
  test.each(HAS_AVX512 ? [...CASES, VECTORIZED] : CASES)(
    'mrg_rxbuf $mergeable, in_order $inOrder, packed_vq $packed, vectorized $vectorized: the path that dpdk-testpmd takes, $receive',
    async ({ receive, transmit, ...keys }) => {
      await using dpdk = await start('dpdk', keys);
      const theirs = dpdk.driver.stderr + dpdk.driver.stdout;
      // 22.11 has no such answer, and neither net_vhost nor net_null has one today
      expect(await dpdk.driver.command('show rxq info 0 0')).not.toContain('Burst mode');
      await dpdk.quit();

      await using pair = await start('dpdk-ts', keys);
      const ours = pair.driver.stderr;
      expect(logged(ours, 'using')).toHaveLength(2);
      expect(logged(ours, 'using')).toEqual(logged(theirs, 'using'));
      expect(logged(ours, 'disabled').length > 0).toBe(logged(theirs, 'disabled').length > 0);
      expect(await pair.driver.command('show rxq info 0 0')).toMatch(
        new RegExp(`\\nNumber of RXDs: 256\\nBurst mode: ${receive}, WebAssembly\\n`),
      );
      expect(await pair.driver.command('show txq info 0 0')).toMatch(
        new RegExp(`\\nTx queue state: started\\nBurst mode: ${transmit}, WebAssembly\\n`),
      );
      await expectOneWay(pair, 'driver', '64');
      await expectOneWay(pair, 'device', '1518');
      await pair.quit();
    },
  );
});
