/**
 * virtio_user on a real vhost-vdpa, whose device (vduse-net.mjs) sends everything back: packets, restarts, link, removal and
 * return, and every kind of ring; what came of it as JSON. As root, with the modules vduse and vhost_vdpa, which the test machine's kernel lacks.
 * @module
 */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { openPort } from '../../dist/index.js';
import { Q_FEATURES } from '../../dist/ring/queue-layout.js';

const PATH = '/dev/vhost-vdpa-0';
const NAME = 'net0';
const PACKETS = 200;

async function until(what, condition, limit = 60_000) {
  for (const end = Date.now() + limit; !condition(); await sleep(20)) if (Date.now() > end) throw new Error(`not in time: ${what}`);
}

function run(...words) {
  const { status, stderr, stdout } = spawnSync(words[0], words.slice(1), { encoding: 'utf8', timeout: 20_000 });
  if (status !== 0) throw new Error(`${words.join(' ')}: ${stdout}${stderr}`);
}

const refusal = (promise) =>
  promise.then(
    (port) => port.close().then(() => 'no error'),
    (error) => error.message,
  );
const openDescriptors = () => readdirSync('/proc/self/fd').length;

async function echo(port, longest = 1460) {
  const sent = Array.from({ length: PACKETS }, (_, index) => Buffer.alloc(60 + ((index * 37) % (longest - 60)), index));
  const back = [];
  const receive = (async () => {
    for await (const packet of port.packets({ signal: AbortSignal.timeout(30_000) })) {
      back.push(Buffer.from(packet.bytes));
      if (back.length === PACKETS) return;
    }
  })();
  // it waits for an interrupt by then
  await sleep(300);
  await port.send(sent);
  await receive;
  return back.filter((bytes, index) => bytes.equals(sent[index])).length;
}

/** A device that offers features besides the usual ones, and its character device. */
async function startDevice(features) {
  const program = fileURLToPath(new URL('vduse-net.mjs', import.meta.url));
  const started = spawn(process.execPath, [program, NAME, `${features}`], { stdio: ['pipe', 'inherit', 'inherit'] });
  await until('/dev/vduse', () => existsSync(`/dev/vduse/${NAME}`));
  await sleep(1000);
  run('/usr/sbin/vdpa', 'dev', 'add', 'name', NAME, 'mgmtdev', 'vduse');
  await until(PATH, () => existsSync(PATH));
  return started;
}

async function endDevice(started) {
  run('/usr/sbin/vdpa', 'dev', 'del', NAME);
  started.kill('SIGTERM');
  await new Promise((resolve) => started.once('exit', resolve));
}

/** Ring features: what was agreed on for the receive ring, and packets of every length before and after a restart. */
async function rings(features, keys) {
  device = await startDevice(features);
  port = await openPort('virtio_user', { path: PATH, environment, ...keys });
  await port.start();
  const { u32 } = port.environment.context.arena.views;
  const agreed = u32[(port.ethdev.rxQueueHandle(0).state + Q_FEATURES) >>> 2];
  const first = await echo(port, 8000);
  await port.stop();
  await port.start();
  const outcome = { agreed, echoed: [first, await echo(port, 8000)] };
  await port.close();
  await endDevice(device);
  return outcome;
}

const environment = { mbufs: 2048, pageSize: 4096 };
const found = {};
let device;
let port;
try {
  device = await startDevice(0);
  found.tooLarge = await refusal(openPort('virtio_user', { path: PATH, queue_size: 1024, environment }));
  found.tooMany = await refusal(openPort('virtio_user', { path: PATH, queues: 2, environment }));
  const before = openDescriptors();
  port = await openPort('virtio_user', { path: PATH, environment });
  found.busy = await refusal(openPort('virtio_user', { path: PATH, environment }));
  found.mac = Buffer.from(port.mac).toString('hex');
  await port.start();
  found.link = port.link().up;
  found.echoed = await echo(port);
  for (let round = 0; round < 5; round++) {
    await port.stop();
    await port.start();
  }
  found.echoedAgain = await echo(port);
  device.stdin.write('down\n');
  await until('link down', () => !port.link().up);
  device.stdin.write('up\n');
  await until('link up', () => port.link().up);
  found.linkChanged = true;
  // waits until the device is closed, which its absence brings about
  const removal = spawn('/usr/sbin/vdpa', ['dev', 'del', NAME], { stdio: 'inherit' });
  await until('link down by removal', () => !port.link().up);
  await new Promise((resolve) => removal.once('exit', resolve));
  run('/usr/sbin/vdpa', 'dev', 'add', 'name', NAME, 'mgmtdev', 'vduse');
  await until('link up by return', () => port.link().up);
  found.echoedAfterReturn = await echo(port);
  await port.close();
  // the thread that waited for the link's changes ends by itself
  await until('descriptors closed', () => openDescriptors() <= before);
  await endDevice(device);
  const [indirect, events, packed] = [1n << 28n, 1n << 29n, 1n << 34n];
  found.indirect = await rings(indirect);
  found.events = await rings(indirect | events);
  found.packed = await rings(packed, { packed_vq: true });
  found.packedIndirect = await rings(packed | indirect | events, { packed_vq: true, queue_size: 512 });
  device = await startDevice(packed);
  port = await openPort('virtio_user', { path: PATH, environment, packed_vq: true, queue_size: 300 });
  found.oddSize = await port.start().then(
    () => 'no error',
    (error) => error.message,
  );
  await port.close();
  await endDevice(device);
} catch (error) {
  found.error = error.stack;
} finally {
  await port?.close();
  device?.kill('SIGTERM');
}
console.log(JSON.stringify(found, undefined, 1));
process.exitCode = found.error === undefined ? 0 : 1;
