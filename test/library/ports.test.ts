/**
 * Opening and closing: environments, names, options, links.
 * @module
 */
import { existsSync, readdirSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { createEnvironment, openPort, type OpenPortOptions } from '../../src/index.ts';
import { SocketDirectory } from '../support/pair.ts';
import { PortPair } from './pair.ts';

const small = { mbufs: 1024, pageSize: 4096 } as const;

test('a PCI device is named by its address, with the domain or without', async () => {
  await expect(openPort('ff:1f.7', { speed: 1000 })).rejects.toMatchObject({
    code: 'ENODEV',
    message: expect.stringMatching(/^0000:ff:1f\.7: there is no such PCI device/) as string,
  });
  await expect(openPort('0000:ff:1f.7,sped=1')).rejects.toMatchObject({ code: 'EINVAL' });
});

describe('environments', () => {
  test('ports without one share the default, which ends with the last of them', async () => {
    const first = await openPort('net_null', { size: 100 });
    const second = await openPort('net_ring3');
    expect(second.environment).toBe(first.environment);
    expect([first.name, first.id, second.name, second.id]).toEqual(['net_null0', 0, 'net_ring3', 1]);
    await first.close();
    expect(second.environment.closed).toBe(false);
    await second.close();
    expect(second.environment.closed).toBe(true);
    await using third = await openPort('net_null');
    expect(third.environment).not.toBe(first.environment);
  });

  test('options make one of its own, which ends with the port', async () => {
    const port = await openPort('net_null', { environment: small });
    expect(port.arena.pool.count).toBe(1024);
    expect(port.arena.memory.pageSize).toBe(4096);
    await port.close();
    expect(port.environment.closed).toBe(true);
  });

  test('asDefault is taken by ports that name none, and stays until it is closed', async () => {
    const environment = createEnvironment({ ...small, asDefault: true });
    expect(() => createEnvironment({ ...small, asDefault: true })).toThrow(/default environment already/);
    const port = await openPort('net_null');
    expect(port.environment).toBe(environment);
    await port.close();
    expect(environment.closed).toBe(false);
    await environment.close();
  });

  test('closing one closes its ports; a port opened in it afterwards is refused', async () => {
    const environment = createEnvironment(small);
    const port = await openPort('net_null', { environment });
    await environment.close();
    expect(port.state).toBe('closed');
    await expect(openPort('net_null', { environment })).rejects.toThrow(/environment is closed/);
  });

  test('the JavaScript kernels serve one at a time', async () => {
    await using environment = createEnvironment({ ...small, target: 'javascript' });
    expect(environment.target).toBe('javascript');
    expect(() => createEnvironment({ ...small, target: 'javascript' })).toThrow(/one at a time/);
  });

  test('a port that could not be opened leaves nothing behind', async () => {
    const descriptors = (): number => readdirSync('/proc/self/fd').length;
    await expect(openPort('virtio_user', { path: '/nonexistent/socket' })).rejects.toThrow(/nonexistent/);
    const before = descriptors();
    for (let turn = 0; turn < 3; turn++) {
      await expect(openPort('virtio_user', { path: '/nonexistent/socket' })).rejects.toMatchObject({ code: 'ENOENT' });
    }
    expect(descriptors()).toBe(before);
  });
});

describe('options', () => {
  test.each([
    ['virtio_userr', {}, /did you mean virtio_user/],
    ['virtio_user', {}, /path is mandatory/],
    ['virtio_user', { path: '/tmp/x', quues: 2 }, /unknown key quues; did you mean queues/],
    ['virtio_user', { path: '/tmp/x', queue_size: 100 }, /power of two/],
    ['virtio_user', { path: '/tmp/x', queue_size: 300 }, /a split ring needs a power of two .* packed_vq=1 takes any size/],
    ['net_vhost0,iface=/tmp/x', { iface: '/tmp/y' }, /iface is given twice/],
    ['net_null,size=3', {}, /from 14 to 9000/],
    ['net_null', { queues: 0 }, /queues 0: use 1 or more/],
    ['net_null', { queues: 1025 }, /outside 0\.\.1024/],
    ['net_null', { size: {} }, /size: use a text/],
  ])('%s %o', async (device, options, message) => {
    await expect(openPort(device, options as OpenPortOptions)).rejects.toThrow(message);
  });

  test('a name that is taken is refused', async () => {
    await using environment = createEnvironment(small);
    await openPort('net_null0', { environment });
    await expect(openPort('net_null0', { environment })).rejects.toMatchObject({ code: 'EEXIST' });
    expect((await openPort('net_null', { environment })).name).toBe('net_null1');
  });

  test('the text form of device arguments', async () => {
    using directory = new SocketDirectory();
    await using port = await openPort(`net_vhost7,iface=${directory.socket},queues=3`);
    expect([port.name, port.queues, port.ethdev.devargs]).toEqual(['net_vhost7', 3, `iface=${directory.socket},queues=3`]);
    expect(existsSync(directory.socket)).toBe(true);
    await port.close();
    expect(existsSync(directory.socket)).toBe(false);
  });
});

describe('links', () => {
  test('come and go, as an event and as a promise', async () => {
    await using environment = createEnvironment(small);
    await using pair = await PortPair.open(environment);
    const events: string[] = [];
    const stop = pair.device.onEvent(({ type }) => events.push(type));
    const down = pair.device.waitForLink(false, { timeout: 5000 });
    await pair.driver.stop();
    await down;
    expect(events).toContain('intr_lsc');
    const up = pair.device.waitForLink(true, { timeout: 5000 });
    await pair.driver.start();
    await up;
    stop();
    expect(pair.driver.link().up).toBe(true);
  });

  test('waiting ends with the time, the signal and the port', async () => {
    using directory = new SocketDirectory();
    await using port = await openPort('net_vhost', { iface: directory.socket, environment: small });
    await port.start();
    await expect(port.waitForLink(true, { timeout: 60 })).rejects.toMatchObject({ code: 'ETIMEDOUT' });
    await expect(port.waitForLink(true, { signal: AbortSignal.timeout(20) })).rejects.toThrow(/timeout/);
    const waiting = expect(port.waitForLink()).rejects.toThrow(/closed/);
    await port.close();
    await waiting;
  });
});
