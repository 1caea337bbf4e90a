/**
 * The library's ports against DPDK's testpmd: packets as objects, both roles, a peer that comes back, engines on lcores.
 * @module
 */
import { rmSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { launch, openPort, type PacketPort } from '../../src/index.ts';
import { availableCpus } from '../../src/system/cpu.ts';
import { packetOf } from '../library/pair.ts';
import { until } from '../support/deadline.ts';
import { memoryArguments, usualMemory } from '../support/huge-pages.ts';
import { SocketDirectory } from '../support/pair.ts';
import { lcoresArgument } from '../support/program.ts';
import { Testpmd } from '../support/testpmd.ts';
import { WHY_NO_PEERS } from './matrix.ts';

/** A loop through testpmd drops what our side is slow to take back, unless told to wait. */
const PATIENT = ['set fwd io retry', 'set burst tx delay 10 retry 100000', 'start'];
const [cpu = 0] = availableCpus();

function dpdk(device: string): Promise<Testpmd> {
  const { eal } = memoryArguments(usualMemory());
  return Testpmd.start({ program: 'dpdk', eal: [...lcoresArgument(1), ...eal, '--vdev', device], app: ['--total-num-mbufs=4096'] });
}

/** Sends packets of many sizes to a testpmd that returns them, chained on both sides, and compares. */
async function throughPeer(port: PacketPort, count: number): Promise<void> {
  const sizes = [60, 64, 1514, 2036, 2048, 2049, 5000, 9000];
  const packets = Array.from({ length: count }, (_, number) => packetOf(number, sizes[number % sizes.length] ?? 60));
  const signal = AbortSignal.timeout(20_000);
  const returning = (async () => {
    let next = 0;
    for await (const packet of port.packets({ signal })) {
      if (Buffer.compare(packet.bytes, packets[next] ?? new Uint8Array()) !== 0)
        throw new Error(`packet ${next} differs; ${packet.length} bytes`);
      if (++next === count) break;
    }
    return next;
  })();
  await port.send(packets, { signal });
  expect(await returning).toBe(count);
}

describe.skipIf(WHY_NO_PEERS !== undefined)('library', () => {
  test("net_vhost against DPDK's virtio_user: packets come back byte for byte", async () => {
    using directory = new SocketDirectory();
    await using port = await openPort('net_vhost', { iface: directory.socket });
    await port.start();
    await using peer = await dpdk(`virtio_user0,path=${directory.socket}`);
    await port.waitForLink(true, { timeout: 10_000 });
    await peer.commands(...PATIENT);
    await throughPeer(port, 1000);
    await peer.command('stop');
    const down = port.waitForLink(false, { timeout: 10_000 });
    await peer.quit();
    await down;
  });

  test("virtio_user against DPDK's net_vhost, which is killed and comes back", async () => {
    using directory = new SocketDirectory();
    let peer = await dpdk(`net_vhost0,iface=${directory.socket}`);
    try {
      await using port = await openPort('virtio_user', { path: directory.socket });
      await port.start();
      for (let turn = 0; turn < 3; turn++) {
        await port.waitForLink(true, { timeout: 10_000 });
        await peer.waitForLink(true, 0);
        await peer.commands(...PATIENT);
        await throughPeer(port, 500);
        const down = port.waitForLink(false, { timeout: 10_000 });
        await peer.kill();
        await down;
        // DPDK's own restart does not get past the file of a server that was killed
        rmSync(directory.socket, { force: true });
        if (turn < 2) peer = await dpdk(`net_vhost0,iface=${directory.socket}`);
      }
    } finally {
      await peer.kill();
    }
  });

  test('an engine on an lcore counts what DPDK sends', async () => {
    using directory = new SocketDirectory();
    await using port = await openPort('net_vhost', { iface: directory.socket });
    await port.start();
    await using peer = await dpdk(`virtio_user0,path=${directory.socket}`);
    await port.waitForLink(true, { timeout: 10_000 });
    await using cores = await launch('rxonly', { lcores: [cpu], ports: [port] });
    await peer.commands('set fwd txonly', 'start');
    await until(10_000, 'packets', () => (cores.counters()[0]?.rxPackets ?? 0) > 10_000);
    await peer.command('stop');
    const { txPackets } = await peer.statistics(0);
    await until(5000, 'the last packets', () => cores.counters()[0]?.rxPackets === txPackets);
    await cores.stop();
    expect(port.statistics().rxPackets).toBe(txPackets);
    await peer.quit();
  });
});
