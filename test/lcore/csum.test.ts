/** The csum engine's rounds: what is received is listed, and what it sends is kept. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { MBUF_CHECKSUM_BAD, MBUF_IP_CHECKSUM_BAD } from '../../src/memory/mbuf-layout.ts';
import { CSUM_POOL } from '../../src/net/recompute-checksums.kernel.ts';
import { writeCsumSettings } from '../../src/lcore/csum-settings.ts';
import { csum } from '../../src/lcore/engines/csum.ts';
import type { EngineStream } from '../../src/lcore/engines/engine.ts';
import { icmpecho } from '../../src/lcore/engines/icmpecho.ts';
import { defaultCsumSettings, type CsumSettings } from '../../src/lcore/forwarding-plan.ts';
import { TX_OFFLOAD_TCP_CKSUM } from '../../src/port/offloads.ts';
import { buildFrame, hex } from '../support/frames.ts';
import { PacketBench } from '../support/packets.ts';
import { frame } from '../support/ring-pair.ts';

const OWN = '0200000000aa';
const PEER = '0200000000bb';

describe('the csum engine', () => {
  let bench: PacketBench;
  let stream: EngineStream;
  let arriving: number[][];
  let sent: number[][];
  let dropped: number;
  let bad: [number, number];
  beforeEach(() => {
    bench = new PacketBench('wasm', 1500);
    const { ring } = bench;
    const mbufs = ring.own(2048);
    arriving = [];
    sent = [];
    dropped = 0;
    bad = [0, 0];
    ring.write(bench.addresses, hex(PEER + OWN));
    stream = {
      rxPort: 0,
      txPort: 1,
      burst: 32,
      mbufs,
      addresses: bench.addresses,
      template: 0,
      segments: 1,
      csum: bench.settings,
      held: bench.list,
      lcore: 0,
      outputs: [],
      router: 0,
      lists: 0,
      context: { target: 'wasm', views: ring.arena.views, kernels: ring.kernels },
      receive() {
        const packets = arriving.shift() ?? [];
        ring.u32.set(packets, mbufs >>> 2);
        return packets.length;
      },
      send(count) {
        sent.push([...ring.u32.subarray(mbufs >>> 2, (mbufs >>> 2) + count)]);
      },
      free(count) {
        ring.kernels.packetsFree(mbufs, count, 0);
      },
      room: (wanted) => wanted,
      recorder: 0,
      tellTime: () => undefined,
      due: (most) => most,
      spend: () => undefined,
      countNoMbuf: () => undefined,
      countDropped(count) {
        dropped += count;
      },
      countBadChecksums(ip, transport) {
        bad = [bad[0] + ip, bad[1] + transport];
      },
    };
  });
  afterEach(() => {
    bench.free(sent.flat());
    bench[Symbol.dispose]();
  });

  const settings = (changed: Partial<CsumSettings>): void => {
    bench.set({ [CSUM_POOL]: bench.pool.offset });
    writeCsumSettings(bench.ring.u32, bench.settings, { ...defaultCsumSettings, ...changed });
  };
  const tcp = (sequence: number, bytes: number): Buffer =>
    buildFrame({ version: 4, protocol: 'tcp', sequence, payload: frame(bytes, sequence) }).bytes;
  const lengths = (): number[][] => sent.map((packets) => bench.bytes(packets).map((bytes) => bytes.length));
  const rounds = (count: number): void => {
    for (let round = 0; round < count; round++) csum.forward(stream);
  };

  it('writes addresses unless told not to, and sends nothing when nothing came', () => {
    settings({});
    arriving.push([bench.packet(tcp(1, 100))]);
    rounds(2);
    expect(bench.bytes(sent.flat())[0]?.subarray(0, 12)).toEqual(hex(PEER + OWN));
    settings({ rewriteAddresses: false });
    arriving.push([bench.packet(tcp(1, 100))]);
    rounds(1);
    expect(bench.bytes(sent.flat())[1]?.subarray(0, 12)).toEqual(tcp(1, 100).subarray(0, 12));
    expect(sent).toHaveLength(2);
  });

  it('counts wrong checksums once', () => {
    settings({});
    arriving.push([bench.packet(tcp(1, 9), { flags: MBUF_CHECKSUM_BAD }), bench.packet(tcp(1, 9), { flags: MBUF_IP_CHECKSUM_BAD })]);
    arriving.push([bench.packet(tcp(1, 9), { flags: MBUF_CHECKSUM_BAD })]);
    rounds(3);
    expect(bad).toEqual([1, 2]);
  });

  it('gathers within a burst, and not across bursts, with one cycle', () => {
    settings({ groCycles: 1 });
    arriving.push([bench.packet(tcp(1, 100)), bench.packet(tcp(101, 100))], [bench.packet(tcp(201, 100))]);
    rounds(2);
    expect(lengths()).toEqual([[254], [154]]);
  });

  it('gathers across bursts with more, and counts empty ones once it holds something', () => {
    settings({ groCycles: 3 });
    arriving.push([], [bench.packet(tcp(1, 100))], [bench.packet(tcp(101, 100))], [], [], [bench.packet(tcp(201, 100))], []);
    rounds(3);
    expect(sent).toEqual([]);
    rounds(1);
    expect(lengths()).toEqual([[254]]);
    rounds(3);
    expect(sent).toHaveLength(1);
    csum.end?.(stream);
    expect(lengths()).toEqual([[254], [154]]);
    csum.end?.(stream);
    expect(sent).toHaveLength(2);
  });

  it('holds back no more than there is room for', () => {
    settings({ groCycles: 4 });
    const other = (index: number): number => bench.packet(buildFrame({ version: 4, protocol: 'udp', payload: frame(20, index) }).bytes);
    stream = { ...stream, burst: 200 };
    for (let burst = 0; burst < 2; burst++) arriving.push(Array.from({ length: 200 }, (_, index) => other(index)));
    rounds(2);
    expect(sent.map((packets) => packets.length)).toEqual([400]);
  });

  it('cuts what is too long, in as many bursts as it takes', () => {
    settings({ gsoSize: 154, txOffloads: TX_OFFLOAD_TCP_CKSUM });
    arriving.push([bench.packet(tcp(1, 40_000)), bench.packet(tcp(1, 100)), bench.packet(tcp(1, 20_000))]);
    rounds(1);
    expect(sent.map((packets) => packets.length)).toEqual([401, 200]);
    expect(dropped).toBe(0);
  });

  it('counts what it could not cut', () => {
    settings({ gsoSize: 60 });
    arriving.push([bench.packet(tcp(1, 30_000)), bench.packet(tcp(1, 6))]);
    rounds(1);
    expect(lengths()).toEqual([[60]]);
    expect(dropped).toBe(1);
  });

  it('icmpecho sends answers only, and nothing when there are none', () => {
    const request = hex(`ffffffffffff 020000000001 0806 0001 0800 0604 0001 020000000001 0a000001 000000000000 0a000009`);
    arriving.push([bench.packet(tcp(1, 10))], [bench.packet(tcp(1, 10)), bench.packet(request)], []);
    for (let round = 0; round < 3; round++) icmpecho.forward(stream);
    expect(lengths()).toEqual([[42]]);
    expect(bench.bytes(sent.flat())[0]?.subarray(6, 12)).toEqual(hex(OWN));
  });
});
