/**
 * virtio_user on a real vhost-vdpa, whose device (vduse-net.mjs) sends everything back: packets, restarts, link, removal and
 * return; what came of it as JSON. As root, with the modules vduse and vhost_vdpa, which the test machine's kernel lacks.
 * @module
 */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { openPort } from '../../dist/index.js';

const PATH = '/dev/vhost-vdpa-0';
const NAME = 'net0';
const PACKETS = 200;

async function until(what, condition, limit = 10_000) {
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

async function echo(port) {
  const sent = Array.from({ length: PACKETS }, (_, index) => Buffer.alloc(60 + (index % 1400), index));
  const back = [];
  const receive = (async () => {
    for await (const packet of port.packets({ signal: AbortSignal.timeout(20_000) })) {
      back.push(Buffer.from(packet.bytes));
      if (back.length === PACKETS) return;
    }
  })();
  await port.send(sent);
  await receive;
  return back.filter((bytes, index) => bytes.equals(sent[index])).length;
}

const device = spawn(process.execPath, [fileURLToPath(new URL('vduse-net.mjs', import.meta.url)), NAME], {
  stdio: ['pipe', 'inherit', 'inherit'],
});
const found = {};
let port;
try {
  await until('/dev/vduse', () => existsSync(`/dev/vduse/${NAME}`));
  await sleep(1000);
  run('/usr/sbin/vdpa', 'dev', 'add', 'name', NAME, 'mgmtdev', 'vduse');
  await until(PATH, () => existsSync(PATH));
  const environment = { mbufs: 2048, pageSize: 4096 };
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
  run('/usr/sbin/vdpa', 'dev', 'del', NAME);
} catch (error) {
  found.error = error.stack;
} finally {
  await port?.close();
  device.kill('SIGTERM');
}
console.log(JSON.stringify(found, undefined, 1));
process.exitCode = found.error === undefined ? 0 : 1;
