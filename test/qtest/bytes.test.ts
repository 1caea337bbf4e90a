/**
 * Packets byte by byte, within one process: two ports, each in a QEMU of its own. Bursts are made on the main thread, which does nothing
 * else meanwhile: kicks reach QEMU past it.
 * @module
 */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Port } from '../../src/port/port.ts';
import { PortBench } from '../support/port-pair.ts';
import { frame } from '../support/ring-pair.ts';
import { dgram, Folder, WHY_NO_QEMU } from './qemu.ts';

const LIMIT_MILLISECONDS = 10_000;

/** Without an await: nothing else runs on this thread. */
function pass({ bench, pool }: PortBench, from: Port, to: Port, length: number, count: number): void {
  const end = performance.now() + LIMIT_MILLISECONDS;
  let sent = 0;
  let received = 0;
  while (received < count && performance.now() < end) {
    const packets: number[] = [];
    for (let index = sent; index < Math.min(count, sent + 20); index++) packets.push(bench.packet(pool, frame(length, index)) ?? 0);
    sent += bench.send((_, mbufs, number) => from.txBurst(0, mbufs, number), 0, packets);
    for (const bytes of bench.take((_, mbufs, number) => to.rxBurst(0, mbufs, number), 0, 32)) {
      if (!bytes.equals(frame(length, received))) throw new Error(`packet ${received} of ${bytes.length} bytes is not what was sent`);
      received++;
    }
  }
  expect({ sent, received }).toEqual({ sent: count, received: count });
}

describe.skipIf(WHY_NO_QEMU !== undefined)('two ports, each in a QEMU of its own', () => {
  let bench: PortBench;
  let folder: Folder;
  beforeEach(() => {
    bench = new PortBench();
    folder = new Folder();
  });
  afterEach(async () => {
    await bench[Symbol.asyncDispose]();
    folder[Symbol.dispose]();
  });

  test('what is sent is what arrives, in order; stopped and started again as well', async () => {
    const open = (index: number, own: string, peer: string): ReturnType<PortBench['open']> =>
      bench.open(`net_virtio_qtest${index},qemu=auto,netdev=[${dgram(folder.path, own, peer)}]`);
    const [a, b] = [await open(0, 'a', 'b'), await open(1, 'b', 'a')];
    // QEMU's device filters by address
    for (const port of [a, b]) await port.setPromiscuous(true);
    for (let round = 0; round < 3; round++) {
      await bench.linksUp(a, b);
      for (const length of [60, 1514]) {
        pass(bench, a, b, length, 300);
        pass(bench, b, a, length, 300);
      }
      await a.stop();
      await b.stop();
      await a.start();
      await b.start();
    }
    expect(a.statistics()).toMatchObject({ txPackets: 1800, rxPackets: 1800, rxErrors: 0, txErrors: 0, rxNoMbuf: 0 });
    expect(b.statistics()).toMatchObject({ txPackets: 1800, rxPackets: 1800, txBytes: 900 * 1574, rxBytes: 900 * 1574 });
  });
});
