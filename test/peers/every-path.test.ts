/**
 * Every path of the virtio driver, in both roles, each a port of one process: what DPDK gets comes back byte for byte, before and after
 * our ports stop and start, and after DPDK is killed and comes back.
 */
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { createEnvironment, openPort, type PacketPort } from '../../src/index.ts';
import { Q_FEATURES, QUEUE_EVENT_IDX, QUEUE_IN_ORDER, QUEUE_INDIRECT, QUEUE_MERGEABLE, QUEUE_PACKED } from '../../src/ring/queue-layout.ts';
import { packetOf } from '../library/pair.ts';
import { memoryArguments, usualMemory } from '../support/huge-pages.ts';
import { SocketDirectory } from '../support/pair.ts';
import { lcoresArgument } from '../support/program.ts';
import { Testpmd } from '../support/testpmd.ts';
import { WHY_NO_PEERS } from './matrix.ts';

const PATHS = [
  { mrg_rxbuf: true, in_order: true, packed_vq: false, vectorized: false, queue_size: 256 },
  { mrg_rxbuf: true, in_order: false, packed_vq: false, vectorized: false, queue_size: 256 },
  { mrg_rxbuf: false, in_order: true, packed_vq: false, vectorized: false, queue_size: 256 },
  { mrg_rxbuf: false, in_order: false, packed_vq: false, vectorized: false, queue_size: 256 },
  { mrg_rxbuf: false, in_order: false, packed_vq: false, vectorized: true, queue_size: 256 },
  { mrg_rxbuf: true, in_order: true, packed_vq: true, vectorized: false, queue_size: 256 },
  { mrg_rxbuf: true, in_order: false, packed_vq: true, vectorized: false, queue_size: 300 },
  { mrg_rxbuf: false, in_order: true, packed_vq: true, vectorized: false, queue_size: 256 },
  { mrg_rxbuf: false, in_order: false, packed_vq: true, vectorized: false, queue_size: 500 },
  { mrg_rxbuf: false, in_order: true, packed_vq: true, vectorized: true, queue_size: 256 },
] as const;
type Path = (typeof PATHS)[number];

/** `virtio_user0,...` and `net_vhost0,...` take 1 and 0. */
const asArguments = (path: Path): string =>
  Object.entries(path)
    .map(([key, value]) => `,${key}=${Number(value)}`)
    .join('');
const SIZES = [60, 64, 1514, 2000, 2036, 2048, 2049, 8192, 9000];
const PACKETS = 90;
/** DPDK has its vectorized loops of packed rings for AVX-512 only. */
const HAS_AVX512 = readFileSync('/proc/cpuinfo', 'utf8').includes('avx512vl');
const LINK = { timeout: 10_000 };
/** A loop through testpmd drops what our side is slow to take back, unless told to wait. */
const PATIENT = ['set fwd io retry', 'set burst tx delay 10 retry 100000', 'start'];

function dpdk(devices: readonly string[]): Promise<Testpmd> {
  const { eal } = memoryArguments(usualMemory());
  return Testpmd.start({
    program: 'dpdk',
    eal: [
      ...lcoresArgument(1),
      ...eal,
      '--force-max-simd-bitwidth=512',
      '--log-level=pmd.net.virtio.*:info',
      ...devices.flatMap((device) => ['--vdev', device]),
    ],
    // a driver keeps what it sent: rings full of packets of five mbufs
    app: ['--total-num-mbufs=24000', '--port-topology=loop', '--mbcache=128'],
  });
}

/** A packet of several buffers needs mergeable ones; without, 2,000 bytes fit one. */
async function expectEcho(port: PacketPort, path: Path): Promise<void> {
  const sizes = SIZES.filter((size) => path.mrg_rxbuf || size <= 2000);
  const packets = Array.from({ length: PACKETS }, (_, number) => packetOf(number, sizes[number % sizes.length] ?? 60));
  const signal = AbortSignal.timeout(10_000);
  const sending = port.send(packets, { signal });
  let next = 0;
  for await (const { bytes } of port.packets({ signal })) {
    if (Buffer.compare(bytes, packets[next] ?? new Uint8Array()) !== 0) throw new Error(`packet ${next} differs: ${bytes.length} bytes`);
    if (++next === PACKETS) break;
  }
  await sending;
  expect(next).toBe(PACKETS);
}

/** What was agreed on, on both rings. */
function agreed(port: PacketPort): number[] {
  const { u32 } = port.environment.context.arena.views;
  return [port.ethdev.rxQueueHandle(0), port.ethdev.txQueueHandle(0)].map(({ state }) => u32[(state + Q_FEATURES) >>> 2] ?? 0);
}

describe.skipIf(WHY_NO_PEERS !== undefined)('every path with DPDK', () => {
  test.each(['driver', 'device'] as const)(
    'ours as %s: packets of up to 9000 bytes come back byte for byte, also after a restart of the ports and of DPDK',
    async (ours) => {
      using directory = new SocketDirectory();
      const sockets = PATHS.map((_, index) => join(directory.path, String(index)));
      const peerDevices = PATHS.map((path, index) =>
        ours === 'driver' ? `net_vhost${index},iface=${sockets[index]}` : `virtio_user${index},path=${sockets[index]}${asArguments(path)}`,
      );
      await using environment = createEnvironment({ mbufs: 16_384, pageSize: 4096 });
      const ports: PacketPort[] = [];
      const open = async (): Promise<void> => {
        for (const [index, path] of PATHS.entries()) {
          const socket = sockets[index] ?? '';
          ports.push(
            ours === 'driver'
              ? await openPort('virtio_user', { path: socket, environment, ...path })
              : await openPort('net_vhost', { iface: socket, environment }),
          );
          await ports[index]?.start();
        }
      };
      const everyPort = async (task: (port: PacketPort, path: Path) => Promise<void>): Promise<void> => {
        for (const [index, path] of PATHS.entries()) {
          const port = ports[index];
          if (port === undefined) throw new Error('not open');
          await task(port, path).catch((cause: unknown) => {
            throw new Error(`${asArguments(path)}: ${String(cause)}`, { cause });
          });
        }
      };
      const expectTraffic = async (): Promise<void> => {
        for (const port of ports) await port.waitForLink(true, LINK);
        await everyPort(expectEcho);
      };

      if (ours === 'device') await open();
      let peer = await dpdk(peerDevices);
      try {
        if (ours === 'driver') await open();
        await peer.commands(...PATIENT);
        await expectTraffic();
        await everyPort((port, path) => {
          const bits = (path.packed_vq ? QUEUE_PACKED : 0) | (path.mrg_rxbuf ? QUEUE_MERGEABLE : 0) | (path.in_order ? QUEUE_IN_ORDER : 0);
          for (const features of agreed(port)) {
            expect(features & (QUEUE_PACKED | QUEUE_MERGEABLE | QUEUE_IN_ORDER)).toBe(bits);
            if (ours === 'driver') expect(features & (QUEUE_INDIRECT | QUEUE_EVENT_IDX)).toBe(QUEUE_INDIRECT | QUEUE_EVENT_IDX);
          }
          return Promise.resolve();
        });
        if (ours === 'device') {
          await peer.printed(/using vectorized Rx path on port 4/);
          if (HAS_AVX512) await peer.printed(/using packed ring vectorized Rx path on port 9/);
        }
        for (const port of ports) await port.stop();
        for (const port of ports) await port.start();
        await expectTraffic();
        await peer.kill();
        for (const port of ports) await port.waitForLink(false, LINK);
        // DPDK's own restart does not get past the file of a server that was killed
        if (ours === 'driver') for (const socket of sockets) rmSync(socket, { force: true });
        peer = await dpdk(peerDevices);
        await peer.commands(...PATIENT);
        await expectTraffic();
      } finally {
        await peer.kill();
      }
    },
  );
});
