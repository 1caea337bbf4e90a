/**
 * What the program says to a start that cannot work: the argument or the peer by name; and nothing is left behind.
 * Options that are merely misspelt are tested beside their parser.
 * @module
 */
import { existsSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { until } from '../support/deadline.ts';
import { SocketDirectory } from '../support/pair.ts';
import { isAlive } from '../support/processes.ts';
import { findExecutable, whyMissing } from '../support/program.ts';
import { RawListener } from '../support/raw-vhost-user.ts';
import { Testpmd } from '../support/testpmd.ts';

const SMALL = ['--lcores', '0@0,1@0', '--no-huge', '-m', '64'] as const;

let files: SocketDirectory;
beforeEach(() => {
  files = new SocketDirectory();
});
afterEach(() => files[Symbol.dispose]());

/**
 * Expects a message, and then either exit status 1 or, as dpdk-testpmd does where only a device cannot be had, a prompt without it that quits with 0.
 */
async function expectRefusal(eal: readonly string[], says: RegExp, wrapper: readonly string[] = []): Promise<void> {
  await using testpmd = Testpmd.spawn({ program: 'dpdk-ts', eal, app: ['--total-num-mbufs=2048'], wrapper });
  const prompt = testpmd.ready().then(
    () => true,
    () => false,
  );
  if (await prompt) await testpmd.quit();
  else expect(await testpmd.waitForExit(), testpmd.transcript()).toEqual({ code: 1, signal: null });
  expect(testpmd.stderr + testpmd.stdout).toMatch(says);
  expect(testpmd.stderr, 'a message, not a stack').not.toMatch(/^\s+at .*\.js:\d+/m);
}

describe.skipIf(whyMissing('dpdk-ts') !== undefined)('a start that cannot work', () => {
  const devices: readonly (readonly [device: string, says: RegExp])[] = [
    ['virtio_user0', /path/],
    ['virtio_user0,path=PATH/none.sock', /none\.sock/],
    ['virtio_user0,path=/etc/passwd', /\/etc\/passwd/],
    ['virtio_user0,path=PATH/none.sock,queue_size=100', /queue_size/],
    ['virtio_user0,path=PATH/none.sock,queue_size=0', /queue_size/],
    ['virtio_user0,path=PATH/none.sock,queue_size=65536', /queue_size/],
    ['virtio_user0,path=PATH/none.sock,queue_size=abc', /queue_size/],
    ['virtio_user0,path=PATH/none.sock,queues=0', /queues/],
    ['virtio_user0,path=PATH/none.sock,queues=100', /queues/],
    ['virtio_user0,path=PATH/none.sock,mac=zz', /mac/],
    ['virtio_user0,path=PATH/none.sock,pth=x', /pth/],
    ['net_vhost0', /iface/],
    ['net_vhost0,iface=PATH/none/x.sock', /none\/x\.sock/],
    ['net_vhost0,iface=PATH/a.sock,queues=0', /queues/],
    ['net_vhost0,iface=PATH/a.sock,foo=1', /foo/],
    ['net_vhost0,iface=/etc/passwd', /\/etc\/passwd/],
    [`net_vhost0,iface=PATH/${'long'.repeat(30)}`, /long/],
    ['net_foo0', /net_foo0/],
    ['net_null0,size=-1', /size/],
  ];
  test.each(devices)('--vdev %s', async (device, says) => {
    await expectRefusal([...SMALL, '--vdev', device.replace('PATH', files.path)], says);
  });

  test('two ports on one socket', async () => {
    await expectRefusal(
      [...SMALL, '--vdev', `net_vhost0,iface=${files.socket}`, '--vdev', `net_vhost1,iface=${files.socket}`],
      /vhost\.sock/,
    );
    expect(existsSync(files.socket)).toBe(false);
  });

  test('a socket on which another process listens', async () => {
    await using other = await Testpmd.start({ program: 'dpdk-ts', eal: [...SMALL, '--vdev', `net_vhost0,iface=${files.socket}`] });
    await expectRefusal([...SMALL, '--vdev', `net_vhost0,iface=${files.socket}`], /vhost\.sock/);
    expect(existsSync(files.socket)).toBe(true);
    await other.quit();
  });

  test('a path that is an ordinary file, which stays as it was', async () => {
    writeFileSync(files.socket, 'precious');
    await expectRefusal([...SMALL, '--vdev', `net_vhost0,iface=${files.socket}`], /vhost\.sock/);
    expect(existsSync(files.socket)).toBe(true);
  });

  test('a stale socket file is taken over', async () => {
    const first = await Testpmd.start({ program: 'dpdk-ts', eal: [...SMALL, '--vdev', `net_vhost0,iface=${files.socket}`] });
    await first.kill();
    expect(existsSync(files.socket)).toBe(true);
    await using second = await Testpmd.start({
      program: 'dpdk-ts',
      eal: [...SMALL, '--vdev', `net_vhost0,iface=${files.socket}`],
      ownFiles: [files.socket],
    });
    await second.quit();
  });

  test('too few huge pages', async () => {
    await expectRefusal(['--lcores', '0@0,1@0', '--in-memory', '--single-file-segments', '-m', '100000', '--vdev', 'net_null0'], /huge|-m/);
  });

  test('--no-huge with less memory than the mbufs need', async () => {
    await expectRefusal(['--lcores', '0@0,1@0', '--no-huge', '-m', '1', '--vdev', 'net_null0'], /-m/);
  });

  test.skipIf(findExecutable('bash') === undefined)('ulimit -v too small', async () => {
    const wrapper = ['bash', '-c', 'ulimit -v 6000000 && exec "$@"', 'bash'];
    await expectRefusal([...SMALL, '--vdev', 'net_null0'], /ulimit -v|address space/, wrapper);
  });

  test('a socket whose owner speaks HTTP', async () => {
    const server = createServer((socket) => {
      socket.on('error', () => undefined).end('HTTP/1.1 400 Bad Request\r\n\r\n');
    });
    await new Promise<void>((resolve) => server.listen(files.socket, resolve));
    try {
      await expectRefusal([...SMALL, '--vdev', `virtio_user0,path=${files.socket}`], /vhost\.sock/);
    } finally {
      server.close();
    }
  });
});

describe.skipIf(whyMissing('dpdk-ts') !== undefined)('the process ends when it is told to', () => {
  const signals: readonly (readonly [NodeJS.Signals, string])[] = [
    ['SIGINT', 'at the prompt'],
    ['SIGTERM', 'at the prompt'],
    ['SIGINT', 'while forwarding'],
    ['SIGTERM', 'while forwarding'],
  ];
  test.each(signals)('%s %s: statistics, and nothing left', async (signal, when) => {
    await using testpmd = await Testpmd.start({
      program: 'dpdk-ts',
      eal: [...SMALL, '--vdev', `net_vhost0,iface=${files.socket}`],
    });
    if (when === 'while forwarding') await testpmd.command('start');
    testpmd.signal(signal);
    await testpmd.waitForExit(5000);
    expect(existsSync(files.socket)).toBe(false);
  });

  test('SIGINT while a virtio_user waits for the answer of a silent peer', async () => {
    using listener = new RawListener(files.socket);
    await using testpmd = Testpmd.spawn({ program: 'dpdk-ts', eal: [...SMALL, '--vdev', `virtio_user0,path=${files.socket}`] });
    using connection = await listener.accept();
    expect((await connection.receive())?.request).toBeDefined();
    testpmd.signal('SIGINT');
    await testpmd.waitForExit(5000);
  });

  test('SIGTERM while a virtio_user serves and nobody comes', async () => {
    await using testpmd = Testpmd.spawn({ program: 'dpdk-ts', eal: [...SMALL, '--vdev', `virtio_user0,path=${files.socket},server=1`] });
    await until(
      8000,
      () => `the socket\n${testpmd.transcript()}`,
      () => existsSync(files.socket),
    );
    testpmd.signal('SIGTERM');
    await testpmd.waitForExit(5000);
    expect(existsSync(files.socket)).toBe(false);
  });

  test('the end of input', async () => {
    await using testpmd = await Testpmd.start({ program: 'dpdk-ts', eal: [...SMALL, '--vdev', `net_vhost0,iface=${files.socket}`] });
    await testpmd.command('start');
    testpmd.endInput();
    await testpmd.waitForExit(5000);
    expect(isAlive(testpmd.pid)).toBe(false);
    expect(existsSync(files.socket)).toBe(false);
  });
});
