/**
 * A learning Ethernet switch between vhost-user sockets: each is a cable for a virtio_user, in another process or container.
 *
 *     npx tsx examples/switch.ts /tmp/a.sock /tmp/b.sock /tmp/c.sock
 *
 * A packet goes from port to port without a copy; only flooding copies.
 * @module
 */
import { setImmediate, setTimeout } from 'node:timers/promises';
import { openPort, type PacketPort } from 'dpdk-ts';

const BURST = 32;
/** Addresses remembered at most. */
const TABLE_LIMIT = 4096;

const paths = process.argv.slice(2);
if (paths.length < 2) throw new RangeError('usage: switch.ts SOCKET SOCKET [SOCKET ...]');
const interrupted = new AbortController();
process.once('SIGINT', () => interrupted.abort());

const ports: PacketPort[] = [];
for (const iface of paths) ports.push(await openPort('net_vhost', { iface }));
for (const port of ports) {
  await port.start();
  port.onEvent(({ type }) => {
    if (type === 'intr_lsc') console.log(`${port.name}: link ${port.link().up ? 'up' : 'down'}`);
  });
}

/** Port behind an address. */
const table = new Map<number, PacketPort>();
const [{ arena } = {}] = ports;
if (arena === undefined) throw new Error('no ports');
const { u8 } = arena;
using received = arena.burst(BURST);
using sending = arena.burst(1);

/** The 48 bits of an address as a number. */
function address(at: number): number {
  let value = 0;
  for (let index = 0; index < 6; index++) value = value * 256 + (u8[at + index] ?? 0);
  return value;
}

function send(port: PacketPort, handle: number): void {
  sending.handles[0] = handle;
  if (port.txBurst(0, sending, 1) === 0) port.arena.freePacket(handle);
}

function forward(from: PacketPort, handle: number): void {
  const at = from.arena.data(handle);
  if (table.size < TABLE_LIMIT) table.set(address(at + 6), from);
  const to = table.get(address(at));
  if (to === from) {
    from.arena.freePacket(handle);
    return;
  }
  if (to !== undefined) {
    send(to, handle);
    return;
  }
  const bytes = from.arena.bytes(handle);
  for (const other of ports) {
    if (other === from || !other.link().up || bytes.length > from.arena.dataRoom || from.arena.allocate(sending, 1) === 0) continue;
    const [copy = 0] = sending.handles;
    from.arena.write(copy, bytes);
    send(other, copy);
  }
  from.arena.freePacket(handle);
}

console.log(`switching between ${ports.map(({ name }, index) => `${name} (${paths[index] ?? ''})`).join(', ')}; Ctrl-C ends it`);
while (!interrupted.signal.aborted) {
  let moved = 0;
  for (const port of ports) {
    const count = port.rxBurst(0, received, BURST);
    for (let index = 0; index < count; index++) forward(port, received.handles[index] ?? 0);
    moved += count;
  }
  if (moved === 0) await setTimeout(1);
  else await setImmediate();
}
for (const port of ports) await port.close();
