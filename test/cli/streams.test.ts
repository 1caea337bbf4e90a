import { describe, expect, it } from 'vitest';

import { pairsWithItself, planStreams } from '../../src/lcore/streams.ts';
import type { StreamInput } from '../../src/lcore/streams.ts';

function plan(input: Partial<StreamInput>): readonly string[] {
  const { lcores } = planStreams({
    ports: [0, 1],
    rxQueues: 1,
    txQueues: 1,
    lcores: [1],
    cores: 1,
    topology: 'paired',
    peer: (port) => Uint8Array.of(2, 0, 0, 0, 0, port),
    ...input,
  });
  return lcores.map(
    ({ id, streams }) => `${id}: ${streams.map((s) => `${s.rxPort}/${s.rxQueue}>${s.txPort}/${s.txQueue}@${s.peer[5] ?? ''}`).join(' ')}`,
  );
}

describe('stream set-up', () => {
  it('pairs ports, one stream each', () => {
    expect(plan({})).toEqual(['1: 0/0>1/0@1 1/0>0/0@0']);
    expect(plan({ ports: [3, 1, 2, 0] })).toEqual(['1: 3/0>1/0@1 1/0>3/0@3 2/0>0/0@0 0/0>2/0@2']);
  });

  it('pairs an odd port with itself', () => {
    expect(plan({ ports: [0] })).toEqual(['1: 0/0>0/0@0']);
    expect(plan({ ports: [0, 1, 2] })).toEqual(['1: 0/0>1/0@1 1/0>0/0@0 2/0>2/0@2']);
    expect(pairsWithItself(3, 'paired')).toBe(true);
    expect(pairsWithItself(3, 'chained')).toBe(false);
    expect(pairsWithItself(0, 'paired')).toBe(false);
  });

  it('chains ports, or sends back where packets came from', () => {
    expect(plan({ ports: [0, 1, 2], topology: 'chained' })).toEqual(['1: 0/0>1/0@1 1/0>2/0@2 2/0>0/0@0']);
    expect(plan({ ports: [0, 1, 2], topology: 'loop' })).toEqual(['1: 0/0>0/0@0 1/0>1/0@1 2/0>2/0@2']);
  });

  it('takes the ports of queue 0 first, then those of queue 1', () => {
    // From dpdk-testpmd 22.11: "port config all rxq 3", "port config all txq 3", "show config fwd".
    expect(plan({ rxQueues: 3, txQueues: 3 })).toEqual(['1: 0/0>1/0@1 1/0>0/0@0 0/1>1/1@1 1/1>0/1@0 0/2>1/2@1 1/2>0/2@0']);
  });

  it('uses the smaller of both queue counts, and queue 0 alone when one side has a single queue', () => {
    expect(plan({ ports: [0], rxQueues: 2, txQueues: 4 })).toEqual(['1: 0/0>0/0@0 0/1>0/1@0']);
    expect(plan({ ports: [0], rxQueues: 4, txQueues: 1 })).toEqual(['1: 0/0>0/0@0']);
    expect(plan({ ports: [0], rxQueues: 0, txQueues: 3 })).toEqual(['1: 0/0>0/0@0']);
  });

  it('gives the streams that are left over to the last lcores', () => {
    // From dpdk-testpmd 22.11: "set corelist 2,1" with three streams.
    expect(plan({ ports: [0], rxQueues: 3, txQueues: 3, lcores: [2, 1], cores: 2 })).toEqual(['2: 0/0>0/0@0', '1: 0/1>0/1@0 0/2>0/2@0']);
    expect(plan({ ports: [0, 1, 2, 3, 4], topology: 'loop', lcores: [1, 2, 3], cores: 3 })).toEqual([
      '1: 0/0>0/0@0',
      '2: 1/0>1/0@1 2/0>2/0@2',
      '3: 3/0>3/0@3 4/0>4/0@4',
    ]);
  });

  it('leaves out lcores without a stream', () => {
    expect(plan({ lcores: [1, 2, 3], cores: 3 })).toEqual(['1: 0/0>1/0@1', '2: 1/0>0/0@0']);
    expect(plan({ ports: [], lcores: [1, 2], cores: 2 })).toEqual([]);
  });
});
