/** Tags of streams: which packets an lcore sends with them. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { ForwardingPlan } from '../../src/lcore/forwarding-plan.ts';
import { WorkerLcores } from '../../src/lcore/lcores.ts';
import { MBUF_FLAGS, MBUF_VLAN, MBUF_WORK_VLAN } from '../../src/memory/mbuf-layout.ts';
import type { Port } from '../../src/port/port.ts';
import { availableCpus } from '../../src/system/cpu.ts';
import { until } from '../support/deadline.ts';
import { PortBench } from '../support/port-pair.ts';

const [cpu = 0] = availableCpus().slice(-1);

describe('VLAN tags of a stream', () => {
  let bench: PortBench;
  let port: Port;
  let lcores: WorkerLcores;
  beforeEach(async () => {
    bench = new PortBench();
    port = await bench.open('net_ring0');
    lcores = await WorkerLcores.launch({
      arena: bench.context.arena,
      target: 'wasm',
      main: { id: 0, cpus: [cpu] },
      forwarding: [{ id: 1, cpus: [cpu] }],
      pool: () => bench.pool,
      port: () => port,
      print: () => undefined,
      onFailure: (error) => bench.log.push(error.message),
    });
  });
  afterEach(async () => {
    await lcores.close();
    await bench[Symbol.asyncDispose]();
  });

  /** The tag that a packet has in it or asks for; undefined for none. */
  function tagOf(packet: number): number | undefined {
    const { u8, u32 } = bench.context.arena.views;
    const bytes = bench.bench.bytesOf(packet);
    if (bytes.readUInt16BE(12) === 0x8100) return bytes.readUInt16BE(14);
    const asked = ((u32[(packet + MBUF_FLAGS) >>> 2] ?? 0) & MBUF_WORK_VLAN) !== 0;
    return asked ? (u8[packet + MBUF_VLAN] ?? 0) | ((u8[packet + MBUF_VLAN + 1] ?? 0) << 8) : undefined;
  }

  async function tagsSent(plan: Partial<ForwardingPlan>, vlan: number | undefined): Promise<readonly (number | undefined)[]> {
    const stream = { lcore: 1, rxPort: 0, rxQueue: 0, txPort: 0, txQueue: 0, peer: Uint8Array.of(2, 0, 0, 0, 0, 9), vlan };
    const usual = { engine: 'io', burst: 32, retry: undefined, txSegments: [64], flowgenFlows: 1, verbose: 0, txFirst: 0, flushRx: false };
    await lcores.start({ ...usual, streams: [stream], ...plan });
    await until(
      5000,
      () => `packets sent; ${bench.log.join('; ')}`,
      () => port.statistics().txPackets > 0,
      5,
    );
    await lcores.stop();
    const packets = bench.bench.listed(port.rxBurst(0, bench.bench.handles, 32));
    expect(packets.length).toBeGreaterThan(0);
    const tags = packets.map(tagOf);
    bench.context.main.kernels.packetsFree(bench.bench.list(packets), packets.length, 0);
    return [...new Set(tags)];
  }

  it('are on what an engine sends when the plan says so', async () => {
    expect(await tagsSent({ engine: 'txonly', insertsVlan: true }, 0xe123)).toEqual([0xe123]);
  });

  it('are not when it does not, or when there is no tag', async () => {
    expect(await tagsSent({ engine: 'txonly' }, 5)).toEqual([undefined]);
    port.resetStatistics();
    expect(await tagsSent({ engine: 'txonly', insertsVlan: true }, undefined)).toEqual([undefined]);
  });

  it('are on the first bursts whatever the engine, and put there once', async () => {
    expect(await tagsSent({ txFirst: 1 }, 5)).toEqual([5]);
  });
});
