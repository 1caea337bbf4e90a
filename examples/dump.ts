/**
 * Prints the packets that come to a port, until Ctrl-C.
 *
 *     npx tsx examples/dump.ts net_vhost0,iface=/tmp/vhost.sock
 *
 * @module
 */
import { openPort } from 'dpdk-ts';

const interrupted = new AbortController();
process.once('SIGINT', () => interrupted.abort());

await using port = await openPort(process.argv[2] ?? 'net_vhost0,iface=/tmp/vhost.sock');
await port.start();
console.log(`${port.name} waits for packets; Ctrl-C ends it`);
let count = 0;
for await (const packet of port.packets({ signal: interrupted.signal })) {
  const { source = '?', destination = '?', type = 0 } = packet.ethernet ?? {};
  console.log(`${++count}: ${source} > ${destination}, type 0x${type.toString(16).padStart(4, '0')}, ${packet.length} bytes`);
}
console.log(port.statistics());
