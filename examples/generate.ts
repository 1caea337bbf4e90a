/**
 * Sends UDP packets as fast as a port takes them, and says how many each second.
 *
 *     npx tsx examples/generate.ts virtio_user0,path=/tmp/vhost.sock [BYTES [SECONDS]]
 *
 * Bursts of handles in shared memory: nothing is allocated a packet. On pinned lcores, launch('txonly', ...) is faster still.
 * @module
 */
import { setImmediate } from 'node:timers/promises';
import { openPort } from 'dpdk-ts';

const BURST = 32;
/** Bursts between two turns of the event loop, which serves the control socket. */
const BURSTS_A_TURN = 64;

const [device = 'virtio_user0,path=/tmp/vhost.sock', bytes = '64', seconds = '10'] = process.argv.slice(2);
const length = Number(bytes);
if (!Number.isInteger(length) || length < 60 || length > 1518) throw new RangeError(`BYTES ${bytes}: use 60..1518`);

/** Ethernet, IPv4 and UDP headers from 198.18.0.1 to 198.18.0.2, discard port, and zeroes. */
function udpPacket(source: Uint8Array): Buffer {
  const packet = Buffer.alloc(length);
  packet.set([0x02, 0, 0, 0, 0, 1, ...source, 0x08, 0x00]);
  packet.set([0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 198, 18, 0, 1, 198, 18, 0, 2, 0, 9, 0, 9], 14);
  packet.writeUInt16BE(length - 14, 16);
  packet.writeUInt16BE(length - 34, 38);
  let sum = 0;
  for (let at = 14; at < 34; at += 2) sum += packet.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  packet.writeUInt16BE(~sum & 0xffff, 24);
  return packet;
}

const interrupted = new AbortController();
process.once('SIGINT', () => interrupted.abort());
const ended = setTimeout(() => interrupted.abort(), Number(seconds) * 1000);

await using port = await openPort(device);
await port.start();
await port.waitForLink(true, { timeout: 10_000 });
const template = udpPacket(port.mac);
using burst = port.arena.burst(BURST);
let before = 0;
const report = setInterval(() => {
  const { txPackets } = port.statistics();
  console.log(`${((txPackets - before) / 1e6).toFixed(2)} Mpps`);
  before = txPackets;
}, 1000);

while (!interrupted.signal.aborted) {
  for (let round = 0; round < BURSTS_A_TURN && port.arena.allocate(burst, BURST) !== 0; round++) {
    for (const handle of burst.handles) port.arena.write(handle, template);
    const sent = port.txBurst(0, burst, BURST);
    if (sent === BURST) continue;
    port.arena.free(burst, BURST - sent, sent);
    break;
  }
  await setImmediate();
}
clearInterval(report);
clearTimeout(ended);
console.log(`${port.statistics().txPackets} packets sent`);
