/**
 * A network card in this process, by VDUSE (linux/vduse.h): it sends back what it gets, so that vhost-vdpa has a device behind it
 * where there is no hardware. As root; Linux 6.12 lets it.
 *
 *     node test/vm/vduse-net.mjs NAME [FEATURES] &      then: vdpa dev add name NAME mgmtdev vduse
 *
 * FEATURES, a number, are offered besides those that are always: packed rings, events, tables of descriptors.
 * Its rings and packets are reached as those of a vhost-user front-end are. A line `down` or `up` on standard input is its link.
 * @module
 */
import { closeSync, constants, existsSync, openSync, readSync, writeSync } from 'node:fs';
import { Arena } from '../../dist/memory/arena.js';
import { createMempool } from '../../dist/memory/mempool.js';
import { PeerMemory } from '../../dist/backend/peer-memory.js';
import { loadKernels } from '../../dist/ring/kernels.js';
import { ringBits } from '../../dist/backend/ring-features.js';
import { Q_FEATURES, Q_NOTIFY, Q_OWN_INDEX, QUEUE_PACKED, QUEUE_RUNNING, QUEUE_STOPPED } from '../../dist/ring/queue-layout.js';
import { DeviceQueue, splitRingBytes } from '../../dist/ring/virtqueue.js';
import { ioctl, requestPlain, requestRead, requestWrite } from '../../dist/system/ioctl.js';

const BASE = 0x81;
const both = (number, bytes) => (requestRead(BASE, number, bytes) | requestWrite(BASE, number, bytes)) >>> 0;
const VDUSE = {
  SET_API_VERSION: requestWrite(BASE, 0x01, 8),
  CREATE_DEV: requestWrite(BASE, 0x02, 336),
  DESTROY_DEV: requestWrite(BASE, 0x03, 256),
  IOTLB_GET_FD: both(0x10, 32),
  DEV_GET_FEATURES: requestRead(BASE, 0x11, 8),
  DEV_SET_CONFIG: requestWrite(BASE, 0x12, 8),
  DEV_INJECT_CONFIG_IRQ: requestPlain(BASE, 0x13),
  VQ_SETUP: requestWrite(BASE, 0x14, 32),
  VQ_GET_INFO: both(0x15, 48),
  VQ_INJECT_IRQ: requestWrite(BASE, 0x17, 4),
};
const MESSAGE_BYTES = 152;
const [GET_VQ_STATE, SET_STATUS, UPDATE_IOTLB] = [0, 1, 2];
const DRIVER_OK = 4;
const RINGS = 2;
const LARGEST_RING = 512;
const CONFIG_BYTES = 24;

const [name = 'net0', more = '0'] = process.argv.slice(2);
/** Version 1, access platform, merged buffers, MAC, status, MTU. */
const FEATURES = (1n << 32n) | (1n << 33n) | (1n << 15n) | (1n << 5n) | (1n << 16n) | (1n << 3n) | BigInt(more);

function ask(fd, request, argument = 0) {
  const { value, errno } = ioctl(fd, VDUSE[request], argument);
  if (value < 0) throw new Error(`VDUSE_${request}: errno ${errno}`);
  return value;
}

function config(linkUp) {
  const bytes = Buffer.alloc(CONFIG_BYTES);
  bytes.set([2, 0, 0, 0, 0x76, 0x64]);
  bytes.writeUInt16LE(linkUp ? 1 : 0, 6);
  bytes.writeUInt16LE(1, 8);
  bytes.writeUInt16LE(9000, 10);
  return bytes;
}

function createDevice() {
  const control = openSync('/dev/vduse/control', 'r+');
  ask(control, 'SET_API_VERSION', Buffer.alloc(8));
  const device = Buffer.alloc(336 + CONFIG_BYTES);
  device.write(name, 'latin1');
  device.writeUInt32LE(1, 260);
  device.writeBigUInt64LE(FEATURES, 264);
  device.writeUInt32LE(RINGS, 272);
  device.writeUInt32LE(4096, 276);
  device.writeUInt32LE(CONFIG_BYTES, 332);
  config(true).copy(device, 336);
  ask(control, 'CREATE_DEV', device);
  return control;
}

const control = createDevice();
const fd = openSync(`/dev/vduse/${name}`, constants.O_RDWR | constants.O_NONBLOCK);
for (let index = 0; index < RINGS; index++) {
  const ring = Buffer.alloc(32);
  ring.writeUInt32LE(index, 0);
  ring.writeUInt16LE(LARGEST_RING, 4);
  ask(fd, 'VQ_SETUP', ring);
}

const arena = new Arena({ bytes: 8 << 20, ownBytes: 4 << 20, peerBytes: 512 << 20, pageSize: 4096, warn: () => undefined });
const { kernels } = loadKernels('wasm', arena);
const pool = createMempool(arena, { count: 1024 });
const queues = Array.from({ length: RINGS }, (_, index) => new DeviceQueue(arena, { name: `ring ${index}`, port: 1, pool: pool.offset }));
const memory = new PeerMemory(arena, name);
const handles = arena.allocateOwn(4 * 64, 'a burst');
let running = false;
let interrupts = 0;

function mapMemory(address) {
  const entry = Buffer.alloc(32);
  entry.writeBigUInt64LE(address, 8);
  entry.writeBigUInt64LE(address, 16);
  const file = ask(fd, 'IOTLB_GET_FD', entry);
  const [fileOffset, start, last] = [0, 8, 16].map((at) => entry.readBigUInt64LE(at));
  memory.replace([{ guestAddress: start, size: last - start + 1n, userAddress: start, fileOffset }], [file]);
}

function start() {
  const accepted = Buffer.alloc(8);
  ask(fd, 'DEV_GET_FEATURES', accepted);
  const features = accepted.readBigUInt64LE();
  for (const [index, queue] of queues.entries()) {
    const info = Buffer.alloc(48);
    info.writeUInt32LE(index, 0);
    ask(fd, 'VQ_GET_INFO', info);
    const size = info.readUInt32LE(4);
    const addresses = [8, 16, 24].map((at) => info.readBigUInt64LE(at));
    if (info[40] !== 1) throw new Error(`ring ${index} is not ready`);
    if (index === 0) mapMemory(addresses[0]);
    const bits = ringBits(features);
    const packed = (bits & QUEUE_PACKED) !== 0;
    const bytes = packed ? { descriptors: 16 * size, available: 4, used: 4 } : splitRingBytes(size);
    const [descriptors, available, used] = [bytes.descriptors, bytes.available, bytes.used].map((length, part) =>
      memory.translateUser(addresses[part], length),
    );
    if (descriptors === undefined || available === undefined || used === undefined) throw new Error(`ring ${index} is out of reach`);
    queue.attach({ size, descriptors, available, used, features: bits, headerBytes: 12, regions: memory.table });
    queue.setState(QUEUE_RUNNING);
  }
  running = true;
  console.error(`${name}: started with features 0x${features.toString(16)}`);
}

function stop() {
  running = false;
  for (const queue of queues) queue.setState(QUEUE_STOPPED);
  memory.clear();
}

/** Where a queue stands: an index; packed: counter and index, of what is available and of what is used. */
function writeState(answer, queue) {
  if ((queue.get(Q_FEATURES) & QUEUE_PACKED) === 0) {
    answer.writeUInt16LE(queue.nextAvailable & 0xffff, 28);
    return;
  }
  for (const [index, position] of [queue.nextAvailable, queue.get(Q_OWN_INDEX)].entries()) {
    answer.writeUInt16LE(position >>> 15, 28 + 4 * index);
    answer.writeUInt16LE(position & 0x7fff, 30 + 4 * index);
  }
}

/** Tells the driver what its rings ask to be told. */
function interrupt() {
  for (const [index, queue] of queues.entries()) {
    // the kernel takes none before it has seen the answer to DRIVER_OK
    if (queue.get(Q_NOTIFY) === 0 || ioctl(fd, VDUSE.VQ_INJECT_IRQ, Uint8Array.of(index, 0, 0, 0)).value < 0) continue;
    queue.set(Q_NOTIFY, 0);
    interrupts++;
  }
}

/** Answers one message of the kernel; false when there is none. */
function answerMessage() {
  const message = Buffer.alloc(MESSAGE_BYTES);
  try {
    readSync(fd, message);
  } catch (error) {
    if (error.code === 'EAGAIN') return false;
    throw error;
  }
  const answer = Buffer.alloc(MESSAGE_BYTES);
  message.copy(answer, 0, 4, 8);
  try {
    switch (message.readUInt32LE(0)) {
      case GET_VQ_STATE:
        message.copy(answer, 24, 24, 28);
        writeState(answer, queues[message.readUInt32LE(24)]);
        break;
      case SET_STATUS:
        if (message[24] === 0) stop();
        else if ((message[24] & DRIVER_OK) !== 0 && !running) start();
        break;
      case UPDATE_IOTLB:
        stop();
        break;
      default:
        throw new Error('an unknown message');
    }
  } catch (error) {
    console.error(`${name}: ${error.message}`);
    answer.writeUInt32LE(1, 4);
  }
  writeSync(fd, answer);
  return true;
}

function setLink(up) {
  const bytes = config(up);
  const change = Buffer.alloc(8 + CONFIG_BYTES);
  change.writeUInt32LE(CONFIG_BYTES, 4);
  bytes.copy(change, 8);
  ask(fd, 'DEV_SET_CONFIG', change);
  ask(fd, 'DEV_INJECT_CONFIG_IRQ');
}

process.stdin.on('data', (text) => {
  const up = `${text}`.trim() === 'up';
  setLink(up);
  console.error(`${name}: link ${up ? 'up' : 'down'}`);
});
process.on('SIGTERM', () => {
  console.error(`${name}: ${interrupts} interrupts`);
  closeSync(fd);
  const gone = Buffer.alloc(256);
  gone.write(name, 'latin1');
  if (existsSync(`/dev/vduse/${name}`)) ioctl(control, VDUSE.DESTROY_DEV, gone);
  process.exit(0);
});

let idle = 0;
function turn() {
  let work = answerMessage();
  if (running) {
    const count = kernels.virtqueueReceive(queues[1].offset, handles, 32);
    if (count > 0) {
      work = true;
      const sent = kernels.virtqueueTransmit(queues[0].offset, handles, count);
      kernels.packetsFree(handles + 4 * sent, count - sent, 0);
    }
    interrupt();
  }
  idle = work ? 0 : idle + 1;
  if (idle < 100) setImmediate(turn);
  else setTimeout(turn, 1);
}
turn();
console.error(`${name}: there`);
