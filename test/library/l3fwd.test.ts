/**
 * Routing between ports by launch('l3fwd'): routes that are given, come and go; several queues and lcores; and all of it asleep in between.
 */
import { expect, test } from 'vitest';
import { createEnvironment, launch, type PacketPort } from '../../src/index.ts';
import { parseIpAddress } from '../../src/net/ip-address.ts';
import { availableCpus } from '../../src/system/cpu.ts';
import { until } from '../support/deadline.ts';
import { buildFrame, sum16 } from '../support/frames.ts';
import { PortPair } from './pair.ts';

const small = { mbufs: 8192, pageSize: 4096 } as const;
const [cpu = 0] = availableCpus().slice(-1);

function packetTo(to: string, protocol: 'udp' | 'tcp' = 'udp'): Buffer {
  const address = parseIpAddress(to) ?? new Uint8Array(4);
  const version = address.length === 4 ? 4 : 6;
  const { bytes } = buildFrame({ version, protocol, payload: Buffer.from(to) });
  bytes.set(address, version === 4 ? 30 : 38);
  if (version === 4) {
    bytes.writeUInt16BE(0, 24);
    bytes.writeUInt16BE(~sum16(bytes.subarray(14, 34)) & 0xffff, 24);
  }
  return bytes;
}

/** Receives so many packets: where they were sent to, and their times to live. */
async function take(port: PacketPort, count: number): Promise<string[]> {
  const found: string[] = [];
  for await (const packet of port.packets()) {
    const bytes = Buffer.from(packet.bytes);
    const version = bytes.readUInt16BE(12) === 0x0800 ? 4 : 6;
    if (version === 4) expect(sum16(bytes.subarray(14, 34))).toBe(0xffff);
    expect(bytes[version === 4 ? 22 : 21]).toBe(63);
    expect(bytes.subarray(0, 5)).toEqual(Buffer.from([2, 0, 0, 0, 0]));
    // the payload is the address
    found.push(bytes.subarray(version === 4 ? 42 : 62).toString());
    if (found.length === count) return found;
  }
  return found;
}

test('routes of both versions, asleep in between; a route that comes and one that goes', async () => {
  await using environment = createEnvironment(small);
  await using left = await PortPair.open(environment);
  await using right = await PortPair.open(environment);
  const [a, b] = [left.device, right.driver];
  await using cores = await launch('l3fwd', {
    lcores: [cpu],
    ports: [a, b],
    sleep: true,
    routes: [
      { to: '198.18.0.0/24', port: a },
      { to: '198.18.1.0/24', port: b },
      { to: '2001:db8::/32', port: b },
    ],
  });
  const sleeps = (): number => cores.sleeps()[0]?.sleeps ?? 0;
  await until(5000, 'a sleep', () => sleeps() > 0);
  const onward = ['198.18.1.1', '2001:db8::1'];
  await left.driver.send([...onward, '198.18.0.7', '203.0.113.1'].map((to) => packetTo(to)));
  expect(await take(right.device, 2)).toEqual(onward);
  expect(await take(left.driver, 2)).toEqual(['198.18.0.7', '203.0.113.1']);
  const { router } = cores;
  router?.addRoute('203.0.113.0/24', b.id);
  expect(router?.deleteRoute('198.18.1.0/24')).toBe(true);
  const before = sleeps();
  await until(5000, 'another sleep', () => sleeps() > before);
  await left.driver.send(['203.0.113.1', '198.18.1.1'].map((to) => packetTo(to)));
  expect(await take(right.device, 1)).toEqual(['203.0.113.1']);
  expect(await take(left.driver, 1)).toEqual(['198.18.1.1']);
  // and from the other side
  await right.device.send(packetTo('198.18.0.9'));
  expect(await take(left.driver, 1)).toEqual(['198.18.0.9']);
  await cores.stop();
  expect(cores.counters()).toMatchObject([
    { rxPackets: 6, txPackets: 6, dropped: 0 },
    { rxPackets: 1, txPackets: 1, dropped: 0 },
  ]);
  expect(cores.router).toBeUndefined();
});

test('flows before prefixes, addresses of the user, and a queue for each of two lcores', async () => {
  await using environment = createEnvironment(small);
  await using left = await PortPair.open(environment, { queues: 2 });
  await using right = await PortPair.open(environment, { queues: 2 });
  const ports = [left.device, right.device] as const;
  await using cores = await launch('l3fwd', {
    lcores: [
      { id: 8, cpus: [cpu] },
      { id: 9, cpus: [cpu] },
    ],
    ports,
    peers: ['02:00:00:00:00:21', '02:00:00:00:00:22'],
    sleep: { afterEmptyRounds: 5 },
    routes: [
      { to: '0.0.0.0/0', port: ports[0] },
      { flow: { to: '198.18.0.1', from: '10.0.0.1', toPort: 0x5678, fromPort: 0x1234, protocol: 17 }, port: ports[1] },
    ],
  });
  for (const queue of [0, 1]) await left.driver.send([packetTo('198.18.0.1'), packetTo('198.18.0.1', 'tcp')], { queue });
  const counters = (): { rx: number; tx: number } =>
    cores.counters().reduce((sum, stream) => ({ rx: sum.rx + stream.rxPackets, tx: sum.tx + stream.txPackets }), { rx: 0, tx: 0 });
  await until(5000, 'all packets', () => counters().tx === 4);
  const [one, two] = [right.driver.statistics(), left.driver.statistics()];
  using burst = environment.arena.burst(8);
  let seen = 0;
  for (const [port, last] of [
    [right.driver, 0x22],
    [left.driver, 0x21],
  ] as const) {
    for (const queue of [0, 1]) {
      const count = port.rxBurst(queue, burst, 8);
      for (const handle of burst.handles.subarray(0, count)) expect(environment.arena.bytes(handle)[5]).toBe(last);
      environment.arena.free(burst, count);
      seen += count;
    }
  }
  expect(seen).toBe(4);
  expect(one.rxErrors + two.rxErrors).toBe(0);
});

test('what cannot be routed', async () => {
  await using environment = createEnvironment(small);
  await using pair = await PortPair.open(environment);
  await using other = await PortPair.open(environment);
  const { device: port } = pair;
  const options = { lcores: [cpu], ports: [port] };
  await expect(launch('l3fwd', { ...options, routes: [{ to: '10.0.0.0/40', port }] })).rejects.toThrow(/expected a prefix/);
  await expect(launch('l3fwd', { ...options, routes: [{ to: '10.0.0.0/8', port: other.device }] })).rejects.toThrow(/none of the ports/);
  const two = [
    { id: 8, cpus: [cpu] },
    { id: 9, cpus: [cpu] },
  ];
  await expect(launch('l3fwd', { lcores: two, ports: [port, other.device] })).rejects.toThrow(/a transmit queue each/);
  // every refusal has given the port back
  await using cores = await launch('l3fwd', options);
  expect(cores.counters()).toHaveLength(1);
});
