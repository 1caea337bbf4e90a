/**
 * Offloads through the library: asked for by name, refused by name, and seen on packets.
 */
import { expect, test } from 'vitest';
import { createEnvironment, openPort } from '../../src/index.ts';
import { buildFrame } from '../support/frames.ts';
import { SocketDirectory } from '../support/pair.ts';

const small = { mbufs: 2048, pageSize: 4096 } as const;
const PAYLOAD = 1800;
const MSS = 600;
const fields = { version: 4, protocol: 'tcp', payload: Buffer.alloc(PAYLOAD, 'dpdk-ts') } as const;

test('a packet whose work was left to the port arrives whole, and in parts where nobody asked for it', async () => {
  for (const asked of [true, false]) {
    await using environment = createEnvironment(small);
    using directory = new SocketDirectory();
    const device = await openPort('net_vhost', { iface: directory.socket, tso: true, environment });
    await using driver = await openPort('virtio_user', {
      path: directory.socket,
      environment,
      ...(asked ? { txOffloads: ['tcp_cksum', 'tcp_tso'] } : {}),
    });
    for (const port of [device, driver]) await port.start();
    for (const port of [device, driver]) await port.waitForLink(true, { timeout: 5000 });
    const { arena } = driver;
    using burst = arena.burst(1);
    expect(arena.allocate(burst, 1)).toBe(1);
    const packet = burst.handles[0] ?? 0;
    const frame = buildFrame({ ...fields, checksum: 'partial' });
    arena.write(packet, frame.bytes);
    expect(() => arena.requestChecksum(packet, frame.bytes.length - 1, 0)).toThrow(/the packet has 1854 bytes/);
    expect(() => arena.requestSegmentation(packet, 'tcp4', 0, 54)).toThrow(/use 1\.\.65535/);
    arena.requestChecksum(packet, frame.transport, frame.field);
    arena.requestSegmentation(packet, 'tcp4', MSS, frame.payload);
    arena.requestVlan(packet, 100);
    expect(driver.txBurst(0, burst, 1)).toBe(1);
    const seen: [string, number][] = [];
    for await (const { checksum, length } of device.packets()) {
      seen.push([checksum, length]);
      if (asked || seen.length === PAYLOAD / MSS) break;
    }
    expect(seen).toEqual(asked ? [['partial', 1858]] : Array.from({ length: 3 }, () => ['unknown', 658]));
    await device.close();
  }
});

test('tags are taken out where that was asked for', async () => {
  await using environment = createEnvironment(small);
  using directory = new SocketDirectory();
  await using device = await openPort('net_vhost', { iface: directory.socket, environment, rxOffloads: ['vlan_strip'] });
  await using driver = await openPort('virtio_user', { path: directory.socket, environment });
  for (const port of [device, driver]) await port.start();
  for (const port of [device, driver]) await port.waitForLink(true, { timeout: 5000 });
  await driver.send([buildFrame({ ...fields, vlans: [0x2005] }).bytes, buildFrame(fields).bytes]);
  const seen: (number | undefined)[] = [];
  for await (const { vlan, length } of device.packets()) {
    expect(length).toBe(54 + PAYLOAD);
    if (seen.push(vlan) === 2) break;
  }
  expect(seen).toEqual([0x2005, undefined]);
});

test('an offload that does not exist, or that the device lacks, is refused by its name', async () => {
  await using environment = createEnvironment(small);
  await expect(openPort('net_null', { environment, rxOffloads: ['tcp_lro'] })).rejects.toThrow(
    /net_null0: rxOffloads: tcp_lro is not offered/,
  );
  const wrong = { environment, txOffloads: ['tso'] } as unknown as { readonly txOffloads: readonly ['tcp_tso'] };
  await expect(openPort('net_null', wrong)).rejects.toThrow(/txOffloads: no offload is called tso; there are .*tcp_tso/);
});
