/** Single queues of QEMU's network cards, taken back and handed over again while the others go on (VIRTIO_F_RING_RESET; virtio 1.2, 2.6.1). */
import { describe, expect, test } from 'vitest';
import type { Port } from '../../src/port/port.ts';
import { sleep, until } from '../support/deadline.ts';
import { PortBench } from '../support/port-pair.ts';
import { frame } from '../support/ring-pair.ts';
import { WHY_NO_QEMU } from './qemu.ts';
import { Wire } from './wire.ts';

/** A broadcast that is told by its length. */
const broadcast = (length: number): Buffer => Buffer.alloc(length, 0xff);

function receive(bench: PortBench, port: Port): number[] {
  return bench.bench.take((_, mbufs, count) => port.rxBurst(0, mbufs, count), 0, 32).map(({ length }) => length);
}

describe.skipIf(WHY_NO_QEMU !== undefined)('one queue of a network card of QEMU', () => {
  async function card(bench: PortBench, wire: Wire, properties: string): Promise<Port> {
    const port = await bench.open(`net_virtio_qtest0,qemu=auto,netdev=[${wire.netdev}],device=[${properties}]`);
    await bench.linksUp(port);
    return port;
  }

  async function arrives(bench: PortBench, port: Port, wire: Wire, length: number): Promise<void> {
    await wire.send(broadcast(length));
    await until(5000, `a frame of ${length} bytes; ${bench.log.join('; ')}`, () => receive(bench, port).includes(length), 5);
  }

  async function leaves(bench: PortBench, port: Port, wire: Wire, length: number): Promise<void> {
    expect(bench.offer(port, length)).toBe(true);
    await wire.received(`a frame of ${length} bytes`, (bytes) => bytes.equals(frame(length)));
  }

  test.each(['packed=off', 'packed=on'])('stops, holds nothing, and starts as at first (%s)', async (ring) => {
    await using bench = new PortBench();
    await using wire = await Wire.create();
    const port = await card(bench, wire, ring);
    for (let round = 0; round < 3; round++) {
      const length = 100 + 10 * round;
      await arrives(bench, port, wire, length);
      await leaves(bench, port, wire, length);
      const free = bench.bench.freeHandles(bench.pool).length;
      await port.stopQueue('rx', 0);
      // its buffers are back in the pool
      expect(bench.bench.freeHandles(bench.pool).length).toBeGreaterThan(free);
      await port.stopQueue('rx', 0);
      await wire.send(broadcast(99));
      await sleep(20);
      expect(receive(bench, port)).toEqual([]);
      // the other direction goes on
      await leaves(bench, port, wire, length + 1);
      await port.stopQueue('tx', 0);
      expect(bench.offer(port, 99)).toBe(false);
      await port.startQueue('rx', 0);
      await arrives(bench, port, wire, length + 2);
      await port.startQueue('tx', 0);
      await port.startQueue('tx', 0);
      await leaves(bench, port, wire, length + 3);
    }
    await port.stopQueue('rx', 0);
    await port.stopQueue('tx', 0);
    // a port that is started has all of its queues
    await port.stop();
    await expect(port.startQueue('rx', 0)).rejects.toMatchObject({ code: 'ENODEV' });
    await port.start();
    await arrives(bench, port, wire, 90);
    await leaves(bench, port, wire, 91);
    expect(bench.log).toEqual([]);
  });

  test('goes on where the device does not give it back', async () => {
    await using bench = new PortBench();
    await using wire = await Wire.create();
    const port = await card(bench, wire, 'queue_reset=off');
    await expect(port.stopQueue('rx', 0)).rejects.toMatchObject({ code: 'EOPNOTSUPP' });
    await expect(port.stopQueue('tx', 1)).rejects.toMatchObject({ code: 'EINVAL' });
    await arrives(bench, port, wire, 90);
  });
});
