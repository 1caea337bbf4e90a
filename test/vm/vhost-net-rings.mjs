/**
 * virtio_user on the kernel's vhost-net, whose tap a packet socket reads and writes: packets of up to 9000 bytes each way, compared byte by
 * byte, and what was agreed on for the rings; as JSON. In the test machine.
 * @module
 */
import { spawnSync } from 'node:child_process';
import { createEnvironment, openPort } from '../../dist/index.js';
import { Q_FEATURES, QUEUE_EVENT_IDX, QUEUE_INDIRECT } from '../../dist/ring/queue-layout.js';

const SIZES = [60, 1514, 2036, 2037, 2048, 2049, 8192, 9000];
const PACKETS = 32;

/** Of a type that nobody else sends. */
function packetOf(number) {
  const packet = Buffer.alloc(SIZES[number % SIZES.length]);
  for (let at = 0; at < packet.length; at++) packet[at] = (number * 31 + at * 7 + (at >> 8)) & 0xff;
  packet.set([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5]);
  return packet;
}

/** Packets that arrived as they were sent, in order. */
async function pass(from, to) {
  const signal = AbortSignal.timeout(30_000);
  const sending = from.send(
    Array.from({ length: PACKETS }, (_, number) => packetOf(number)),
    { signal },
  );
  let intact = 0;
  for await (const { bytes } of to.packets({ signal })) {
    if (bytes[12] !== 0x88 || bytes[13] !== 0xb5) continue;
    if (Buffer.compare(bytes, packetOf(intact)) !== 0) break;
    if (++intact === PACKETS) break;
  }
  await sending;
  return intact;
}

const environment = createEnvironment({ mbufs: 4096, pageSize: 4096 });
const port = await openPort('virtio_user', { path: '/dev/vhost-net', iface: 'rings', environment });
await port.ethdev.setMtu(9000);
await port.start();
spawnSync('ip', ['link', 'set', 'rings', 'addrgenmode', 'none', 'up'], { stdio: 'inherit' });
const kernel = await openPort('net_af_packet', { iface: 'rings', framesz: 16_384, blocksz: 65_536, framecnt: 128, environment });
await kernel.start();
for (const one of [port, kernel]) await one.waitForLink(true, { timeout: 20_000 });
const { u32 } = environment.context.arena.views;
const agreed = u32[(port.ethdev.txQueueHandle(0).state + Q_FEATURES) >>> 2];
console.log(
  JSON.stringify({
    indirect: (agreed & QUEUE_INDIRECT) !== 0,
    events: (agreed & QUEUE_EVENT_IDX) !== 0,
    there: await pass(port, kernel),
    back: await pass(kernel, port),
  }),
);
await environment.close();
