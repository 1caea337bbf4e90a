import { describe, expect, it } from 'vitest';
import { MBUF_FLAGS, MBUF_VLAN, MBUF_VLAN_STRIPPED, MBUF_WORK_CHECKSUM, MBUF_WORK_VLAN } from '../../src/memory/mbuf-layout.ts';
import { RingBench, TARGETS } from '../support/ring-pair.ts';

describe.each(TARGETS)('marking packets for a VLAN tag on %s', (target) => {
  it('says which, and keeps the other work', () => {
    using bench = new RingBench(target);
    const pool = bench.pool({ count: 64 });
    const packets = Array.from({ length: 3 }, () => bench.packet(pool, Buffer.alloc(60)) ?? 0);
    const [first = 0, second = 0, third = 0] = packets;
    const { u32, u8 } = bench.arena.views;
    const tagOf = (packet: number): number => (u8[packet + MBUF_VLAN] ?? 0) | ((u8[packet + MBUF_VLAN + 1] ?? 0) << 8);
    const flagsOf = (packet: number): number => u32[(packet + MBUF_FLAGS) >>> 2] ?? 0;
    u32[(first + MBUF_FLAGS) >>> 2] = MBUF_WORK_CHECKSUM | MBUF_VLAN_STRIPPED;
    u8[first + MBUF_VLAN] = 7;
    bench.kernels.markVlan(bench.list(packets), 2, 0xe123);
    bench.kernels.markVlan(bench.list(packets), 0, 5);
    expect([tagOf(first), tagOf(second), tagOf(third)]).toEqual([0xe123, 0xe123, 0]);
    expect(flagsOf(first)).toBe(MBUF_WORK_CHECKSUM | MBUF_VLAN_STRIPPED | MBUF_WORK_VLAN);
    expect([flagsOf(second), flagsOf(third)]).toEqual([MBUF_WORK_VLAN, 0]);
    bench.kernels.packetsFree(bench.list(packets), 3, 0);
  });
});
