/** The recorder of latencies: stamps, buckets, percentiles, on both targets of the kernels. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { launch, createEnvironment } from '../../src/index.ts';
import { LATENCY_STAMP, RECORDER_BYTES, RECORDER_CLEAR, RECORDER_MARK, RECORDER_TIME } from '../../src/net/latency-layout.ts';
import { readLatency, type Latency } from '../../src/net/latency.ts';
import { MBUF_DATA } from '../../src/memory/mbuf-layout.ts';
import { availableCpus } from '../../src/system/cpu.ts';
import { until } from '../support/deadline.ts';
import { RingBench, TARGETS } from '../support/ring-pair.ts';
import { PortPair } from '../library/pair.ts';

const MARK = 0xdeadbeef;
const WORD = 2 ** 32;

describe.each(TARGETS)('recording on %s', (target) => {
  let bench: RingBench;
  let recorder: number;
  let packet: number;
  beforeEach(() => {
    bench = new RingBench(target);
    recorder = bench.own(RECORDER_BYTES);
    bench.st32(recorder + RECORDER_MARK, MARK);
    const pool = bench.pool({ count: 64, cacheSize: 8 });
    packet = bench.packet(pool, Buffer.alloc(64, 0x55)) ?? 0;
  });
  afterEach(() => {
    bench.kernels.packetFree(packet, 0);
    bench[Symbol.dispose]();
  });

  const at = (time: number): void => {
    bench.st32(recorder + RECORDER_TIME, time % WORD);
    bench.st32(recorder + RECORDER_TIME + 4, Math.floor(time / WORD));
  };
  const send = (time: number): void => {
    at(time);
    bench.kernels.stampPackets(recorder, bench.list([packet]), 1);
  };
  const receive = (time: number): void => {
    at(time);
    bench.kernels.recordLatency(recorder, bench.list([packet]), 1);
  };
  const read = (): Latency => readLatency(bench.u32, recorder);

  it.each([0, 1, 63, 64, 127, 128, 129, 255, 256, 1000, 12_345, 999_999, 2 ** 31, WORD - 1])(
    'knows %i ns to a part in sixty-four',
    (away) => {
      for (const sent of [0, 5, WORD - 1, 3 * WORD - 500]) {
        bench.st32(recorder + RECORDER_CLEAR, sent + 1);
        send(sent);
        receive(sent + away);
        const { percentiles, longest, packets } = read();
        expect({ longest, packets }).toEqual({ longest: away, packets: 1 });
        expect(percentiles.map(({ nanoseconds }) => nanoseconds)).toEqual(Array(6).fill(away));
      }
      // behind a longer one the bucket itself is seen
      send(0);
      receive(2 * WORD);
      const [half] = read().percentiles;
      expect(half?.nanoseconds).toBeGreaterThanOrEqual(away);
      expect(half?.nanoseconds).toBeLessThanOrEqual(away * (1 + 1 / 64));
    },
  );

  it('takes everything above 4.29 s for as long', () => {
    for (const away of [WORD, 7 * WORD + 3, WORD * 1000]) {
      send(77);
      receive(77 + away);
    }
    expect(read()).toMatchObject({ packets: 3, longest: WORD - 1 });
  });

  it('leaves the rest of the packet alone, and counts those of others', () => {
    send(1);
    const data = bench.u32[(packet + MBUF_DATA) >>> 2] ?? 0;
    expect([...bench.arena.views.u8.subarray(data, data + LATENCY_STAMP)]).toEqual(Array(LATENCY_STAMP).fill(0x55));
    expect([...bench.arena.views.u8.subarray(data + LATENCY_STAMP + 12, data + 64)]).toEqual(Array(10).fill(0x55));
    bench.st32(recorder + RECORDER_MARK, MARK + 1);
    receive(2);
    expect(read()).toMatchObject({ packets: 0, others: 1, longest: 0 });
  });

  it('has percentiles of what was recorded, and none after it was asked to forget', () => {
    for (let away = 1; away <= 100; away++) {
      send(1000);
      receive(1000 + away);
    }
    const nanoseconds = read().percentiles.map((entry) => entry.nanoseconds);
    expect(nanoseconds).toEqual([50, 90, 99, 100, 100, 100]);
    bench.st32(recorder + RECORDER_CLEAR, 1);
    expect(read()).toMatchObject({ packets: 0, longest: 0 });
    send(1);
    receive(8);
    expect(read()).toMatchObject({ packets: 1, longest: 7 });
  });
});

it('the latency engine measures what another lcore returns, and only that', async () => {
  const [cpu = 0] = availableCpus().slice(-1);
  await using environment = createEnvironment({ mbufs: 4096, pageSize: 4096 });
  await using pair = await PortPair.open(environment);
  await using reflector = await launch('io', { lcores: [{ id: 8, cpus: [cpu] }], ports: [pair.device], topology: 'loop' });
  await using tester = await launch('latency', { lcores: [{ id: 9, cpus: [cpu] }], ports: [pair.driver], topology: 'loop', txRate: 2000 });
  await until(20_000, 'packets', () => (tester.latency()[0]?.packets ?? 0) > 100);
  await tester.stop();
  const [latency] = tester.latency();
  expect(latency?.others).toBe(0);
  expect(latency?.longest).toBeGreaterThan(100);
  const [half] = latency?.percentiles ?? [];
  expect(half?.nanoseconds).toBeGreaterThan(100);
  expect(latency?.packets).toBeLessThanOrEqual(tester.counters()[0]?.txPackets ?? 0);
  expect(reflector.latency()).toEqual([]);
  await expect(
    launch('latency', { lcores: [{ id: 9, cpus: [cpu] }], ports: [pair.driver], txSegments: [53], topology: 'loop' }),
  ).rejects.toThrow(/first segment of 53 bytes has no room for the time; make it 54 bytes or more/);
});
