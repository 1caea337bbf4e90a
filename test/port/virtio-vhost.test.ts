/** Our own two ends over a real Unix socket: for what cannot be provoked at a real peer. Interoperation is test/peers. */
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Port, PortEvent } from '../../src/port/port.ts';
import { until } from '../support/deadline.ts';
import { PortBench } from '../support/port-pair.ts';
import { RawConnection } from '../support/raw-vhost-user.ts';
import { TARGETS } from '../support/ring-pair.ts';
import { message, Request } from '../support/vhost-user-messages.ts';

const directory = mkdtempSync(join(tmpdir(), 'dpdk-ts-ports-'));
afterAll(() => rmSync(directory, { recursive: true }));
let names = 0;
let path: string;
let bench: PortBench;
beforeEach(() => {
  path = join(directory, `${names++}.sock`);
  bench = new PortBench();
});
afterEach(async () => {
  await bench[Symbol.asyncDispose]();
  expect(existsSync(path)).toBe(false);
});

async function pair(virtio = '', vhost = '', queues = 1): Promise<{ readonly virtio: Port; readonly vhost: Port }> {
  const asServer = virtio.includes('server=1');
  const openVirtio = (): Promise<Port> => bench.open(`virtio_user0,path=${path}${virtio}`, queues);
  const openVhost = (): Promise<Port> => bench.open(`net_vhost0,iface=${path}${vhost}`, queues);
  const first = asServer ? await openVirtio() : await openVhost();
  const second = asServer ? await openVhost() : await openVirtio();
  const ports = asServer ? { virtio: first, vhost: second } : { vhost: first, virtio: second };
  await bench.linksUp(ports.virtio, ports.vhost);
  return ports;
}

describe('virtio_user and net_vhost', () => {
  it.each(['', ',mrg_rxbuf=0', ',in_order=0', ',mrg_rxbuf=0,in_order=0', ',queue_size=64', ',queue_size=1024'])(
    'pass packets both ways with %j',
    async (options) => {
      const { virtio, vhost } = await pair(options);
      for (const length of [60, 1514, 2000]) {
        bench.pass(virtio, vhost, { length, count: 700 });
        bench.pass(vhost, virtio, { length, count: 700 });
      }
      expect(virtio.statistics()).toMatchObject({ txPackets: 2100, rxPackets: 2100, rxErrors: 0, txErrors: 0, rxNoMbuf: 0 });
      expect(vhost.statistics()).toMatchObject({ txPackets: 2100, rxPackets: 2100, txBytes: 700 * 3574, rxBytes: 700 * 3574 });
    },
  );

  it('pass packets on the JavaScript target', async () => {
    await bench[Symbol.asyncDispose]();
    bench = new PortBench(TARGETS[1]);
    const { virtio, vhost } = await pair();
    bench.pass(virtio, vhost);
    bench.pass(vhost, virtio);
  });

  it('pass packets on four queue pairs, each to its own', async () => {
    const { virtio, vhost } = await pair(',queues=4', ',queues=4', 4);
    for (const queue of [3, 0, 2, 1]) {
      bench.pass(virtio, vhost, { queue });
      bench.pass(vhost, virtio, { queue });
    }
    const names = vhost.extendedStatistics().filter(({ name }) => name.startsWith('rx_q3_'));
    expect(names.find(({ name }) => name === 'rx_q3_good_packets')?.value).toBe(100);
  });

  it('pass packets with the roles of the socket exchanged', async () => {
    const { virtio, vhost } = await pair(',server=1', ',client=1');
    bench.pass(virtio, vhost);
    bench.pass(vhost, virtio);
  });

  it('refuse more queues than the other side has, and say how many there are', async () => {
    await bench.open(`net_vhost0,iface=${path},queues=2`, 2);
    await expect(bench.open(`virtio_user0,path=${path},queues=4`, 4)).rejects.toThrow(
      /queues=4, and the device behind \(.*\) has 2 queue pairs/,
    );
  });

  it('go on after stop and start on either side', async () => {
    const { virtio, vhost } = await pair();
    for (let round = 0; round < 3; round++) {
      bench.pass(virtio, vhost, { count: 50 });
      await virtio.stop();
      expect(virtio.link().up).toBe(false);
      await until(2000, 'the link of net_vhost to go down', () => !vhost.link().up, 2);
      expect(bench.offer(virtio)).toBe(false);
      await virtio.start();
      await bench.linksUp(virtio, vhost);
      bench.pass(vhost, virtio, { count: 50 });
      await vhost.stop();
      expect(bench.offer(vhost)).toBe(false);
      await vhost.start();
      bench.pass(virtio, vhost, { count: 50 });
    }
  });

  it('give all mbufs back when they are stopped with full rings', async () => {
    const { virtio, vhost } = await pair();
    for (let count = 0; count < 300; count++) {
      bench.offer(virtio);
      bench.offer(vhost);
    }
    await virtio.stop();
    await vhost.stop();
    await virtio.start();
    await vhost.start();
    await bench.linksUp(virtio, vhost);
    bench.pass(virtio, vhost, { count: 300 });
    bench.pass(vhost, virtio, { count: 300 });
  });

  it.each([
    ['net_vhost is the server', '', '', 'net_vhost'],
    ['net_vhost is the client', ',server=1', ',client=1', 'net_vhost'],
    ['virtio_user is the client', '', '', 'virtio_user'],
    ['virtio_user is the server', ',server=1', ',client=1', 'virtio_user'],
  ])('resume when the other end goes and comes back: %s', async (_, virtioOptions, vhostOptions, goes) => {
    const { virtio, vhost } = await pair(virtioOptions, vhostOptions);
    bench.pass(virtio, vhost, { count: 300 });
    const [gone, stays] = goes === 'net_vhost' ? [vhost, virtio] : [virtio, vhost];
    const events: PortEvent[] = [];
    stays.onEvent((event) => events.push(event));
    // packets on their way when it happens
    bench.offer(stays);
    await gone.close();
    await until(3000, 'the link to go down', () => !stays.link().up, 2);
    expect(events.some(({ type }) => type === 'intr_lsc')).toBe(true);
    const back = await bench.open(
      goes === 'net_vhost' ? `net_vhost1,iface=${path}${vhostOptions}` : `virtio_user1,path=${path}${virtioOptions}`,
    );
    await bench.linksUp(stays, back);
    // what was in the rings of the old end may be lost, and nothing of it arrives at the new one
    const [to, from] = goes === 'net_vhost' ? [back, stays] : [stays, back];
    bench.pass(from, to, { count: 500 });
    bench.pass(to, from, { count: 500 });
  });

  it('keep the first front-end when a second one comes', async () => {
    const { virtio, vhost } = await pair();
    await expect(bench.open(`virtio_user1,path=${path}`)).rejects.toThrow();
    expect(bench.log.join('\n')).toMatch(/a second front-end connected while one is in use; refused/);
    expect([virtio.link().up, vhost.link().up]).toEqual([true, true]);
    bench.pass(virtio, vhost);
  });

  it('survive a peer that is no vhost-user peer, and serve the next one', async () => {
    const vhost = await bench.open(`net_vhost0,iface=${path}`);
    for (const bytes of [Buffer.from('GET / HTTP/1.1\r\n\r\n'), message(Request.SET_VRING_NUM, Buffer.alloc(3)), message(99)]) {
      using raw = await RawConnection.connect(path);
      await raw.send(bytes);
      await raw.hangUp();
    }
    const virtio = await bench.open(`virtio_user0,path=${path}`);
    await bench.linksUp(virtio, vhost);
    bench.pass(virtio, vhost);
    expect(bench.log.filter((text) => text.includes('connection closed'))).toHaveLength(3);
  });

  it('wait for each other in either order when net_vhost is the client', async () => {
    const vhost = await bench.open(`net_vhost0,iface=${path},client=1`);
    expect(vhost.link().up).toBe(false);
    expect(bench.log.join()).toMatch(/No such file or directory; trying again every second/);
    const virtio = await bench.open(`virtio_user0,path=${path},server=1`);
    expect(virtio.link().up).toBe(false);
    await bench.linksUp(virtio, vhost);
    bench.pass(virtio, vhost);
  });

  it('leave no descriptor, window or arena memory behind', async () => {
    const { arena } = bench.context;
    const before = [arena.own.freeBytes, arena.published.freeBytes, arena.window.freeBytes];
    const descriptors = (): number => readdirSync('/proc/self/fd').length;
    const { virtio, vhost } = await pair(',queues=2', ',queues=2', 2);
    const open = descriptors();
    bench.pass(virtio, vhost);
    await virtio.close();
    await vhost.close();
    await virtio.close();
    expect([arena.own.freeBytes, arena.published.freeBytes, arena.window.freeBytes]).toEqual(before);
    // a listener, both ends of a connection, eight eventfds at the driver and as many at the device
    await until(3000, 'descriptors to be closed', () => descriptors() <= open - 19);
  });
});

describe('opening a port', () => {
  it.each([
    ['virtio_user0', /path is mandatory/],
    ['virtio_user0,path=/nonexistent/socket', /connect to \/nonexistent\/socket: No such file or directory/],
    ['virtio_user0,path=/dev/null', /unable to determine backend type for path \/dev\/null/],
    ['virtio_user0,path=/tmp/x,queue_size=100', /queue_size=100: a split ring needs a power of two/],
    ['virtio_user0,path=/tmp/x,queues=9', /queues=9: expected a number from 1 to 8/],
    ['net_vhost0', /iface is mandatory/],
    ['net_vhost0,iface=/tmp/x,queues=129', /queues=129/],
    ['net_vhots0,iface=/tmp/x', /did you mean net_vhost\?/],
    ['net_null0,size=13', /size=13/],
    ['net_null0,copy=1,no-rx=1', /cannot both be/],
    ['net_ring0,nodeaction=r:0:ATTACH', /cannot be attached/],
  ])('refuses %s', async (text, reason) => {
    await expect(bench.open(text)).rejects.toThrow(reason);
  });

  it('refuses a path that is no socket, and two ports on one socket', async () => {
    const file = join(directory, 'a file');
    writeFileSync(file, '');
    await expect(bench.open(`net_vhost0,iface=${file}`)).rejects.toThrow(/exists and is not a socket/);
    await bench.open(`net_vhost0,iface=${path}`);
    await expect(bench.open(`net_vhost1,iface=${path}`)).rejects.toThrow(/another process or port listens there/);
  });
});
