import { spawn } from 'node:child_process';
import {
  closeSync,
  existsSync,
  fstatSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { VirtioError } from '../../src/system/error.ts';
import { createEventFd } from '../../src/system/event-fd.ts';
import {
  acceptUnix,
  connectUnix,
  isEventFd,
  listenUnix,
  MAX_DESCRIPTORS,
  receiveUnix,
  sendUnix,
  setNonBlocking,
  type Listener,
} from '../../src/system/unix-socket.ts';

const directory = mkdtempSync(join(tmpdir(), 'dpdk-ts-unix-'));
afterAll(() => rmSync(directory, { recursive: true }));
let names = 0;
const fresh = (): string => join(directory, `${names++}.sock`);
/** Leaves a socket file behind that nobody listens at. */
async function stale(path: string): Promise<void> {
  const code = `require('node:net').createServer().listen(process.argv[1], () => process.kill(process.pid, 'SIGKILL'))`;
  await new Promise((resolve) => spawn(process.execPath, ['-e', code, path]).once('exit', resolve));
}
function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    return error instanceof VirtioError ? error.code : String(error);
  }
  return 'no error';
}

describe('listening at a path', () => {
  it('makes a socket file, and removes it at the end', () => {
    const path = fresh();
    const listener = listenUnix(path);
    expect(existsSync(path)).toBe(true);
    listener.close();
    listener.close();
    expect(existsSync(path)).toBe(false);
  });

  it('takes the place of a socket file that nobody listens at any more', async () => {
    const path = fresh();
    await stale(path);
    expect(existsSync(path)).toBe(true);
    const listener = listenUnix(path);
    const fd = connectUnix(path);
    expect(acceptUnix(listener)).toBeTypeOf('number');
    closeSync(fd);
    listener.close();
  });

  it('refuses a path that somebody listens at, and leaves it to them', () => {
    const listener = listenUnix(fresh());
    expect(() => listenUnix(listener.path)).toThrow(
      `${listener.path}: another process or port listens there; end it or choose another path`,
    );
    expect(existsSync(listener.path)).toBe(true);
    listener.close();
  });

  it('refuses a path whose listener has no room for another connection', () => {
    const listener = listenUnix(fresh(), 0);
    const waiting: number[] = [];
    const fill = (): void => {
      for (let count = 0; count < 50; count++) waiting.push(connectUnix(listener.path));
    };
    expect(codeOf(fill)).toBe('EAGAIN');
    expect(codeOf(() => listenUnix(listener.path))).toBe('EADDRINUSE');
    for (const fd of waiting) closeSync(fd);
    listener.close();
  });

  it.each(['file', 'directory', 'link to nothing'])('refuses a path that is a %s, and does not remove it', (kind) => {
    const path = fresh();
    if (kind === 'file') writeFileSync(path, 'precious');
    const target = kind === 'directory' ? directory : path;
    if (kind === 'link to nothing') symlinkSync(join(directory, 'nowhere'), path);
    expect(() => listenUnix(target)).toThrow(`${target} exists and is not a socket; remove it or choose another path`);
    expect(codeOf(() => listenUnix(target))).toBe('EEXIST');
  });

  it.each([
    ['a path of 108 bytes', `/tmp/${'x'.repeat(103)}`, /108 bytes, and a Unix socket's path has at most 107/],
    ['a path of 108 bytes in few characters', `/tmp/${'ä'.repeat(51)}x`, /108 bytes/],
    ['no path', '', /socket path is empty/],
    [
      'a directory that is not there',
      '/nonexistent-directory/sock',
      /socket \/nonexistent-directory\/sock.*No such file or directory|directory does not exist/,
    ],
  ])('refuses %s', (_, path, text) => {
    expect(() => listenUnix(path)).toThrow(text);
  });

  it('takes a path of 107 bytes', () => {
    const path = join(directory, 'y'.repeat(107 - directory.length - 1));
    expect(Buffer.byteLength(path)).toBe(107);
    listenUnix(path).close();
  });

  it('does not remove a file that another listener has put there meanwhile', () => {
    const path = fresh();
    const first = listenUnix(path);
    rmSync(path);
    // takes the inode number that is free again, where the file system gives it out at once
    const between = join(directory, 'between');
    writeFileSync(between, '');
    const second = listenUnix(path);
    first.close();
    expect(existsSync(path)).toBe(true);
    second.close();
    rmSync(between);
  });

  it('leaves no descriptor behind when it fails', () => {
    const before = readdirSync('/proc/self/fd').length;
    for (const path of ['', directory, '/nonexistent-directory/sock']) expect(() => listenUnix(path)).toThrow();
    expect(() => connectUnix('/nonexistent-directory/sock')).toThrow();
    expect(readdirSync('/proc/self/fd')).toHaveLength(before);
  });
});

describe('connecting', () => {
  it('names the path and the reason', async () => {
    const path = fresh();
    expect(() => connectUnix(path)).toThrow(`connect to ${path}: No such file or directory`);
    await stale(path);
    expect(() => connectUnix(path)).toThrow(`connect to ${path}: Connection refused`);
    expect(codeOf(() => connectUnix(path))).toBe('ECONNREFUSED');
  });
});

describe('a connected socket', () => {
  let listener: Listener;
  let near: number;
  let far: number;
  beforeEach(() => {
    listener = listenUnix(fresh());
    near = connectUnix(listener.path);
    far = acceptUnix(listener) ?? -1;
  });
  afterEach(() => {
    for (const fd of [near, far]) if (fd >= 0) closeSync(fd);
    listener.close();
  });

  it('carries bytes and descriptors, which are other numbers for the same thing', () => {
    const files = [createEventFd(), openSync('/dev/null', 'r')];
    expect(sendUnix(near, 'a peer', Buffer.from('hello'), files)).toBe(5);
    const data = Buffer.alloc(3);
    const first = receiveUnix(far, 'a peer', data);
    expect([first?.bytes, data.toString(), first?.descriptors.length, first?.truncated]).toEqual([3, 'hel', 2, false]);
    expect([isEventFd(first?.descriptors[0] ?? -1), fstatSync(first?.descriptors[1] ?? -1).isCharacterDevice()]).toEqual([true, true]);
    const second = receiveUnix(far, 'a peer', data);
    expect(second).toEqual({ bytes: 2, descriptors: [], truncated: false });
    for (const fd of [...files, ...(first?.descriptors ?? [])]) closeSync(fd);
  });

  it('has nothing to read, then an end', () => {
    const data = Buffer.alloc(8);
    expect(receiveUnix(far, 'a peer', data)).toBeUndefined();
    closeSync(near);
    near = -1;
    expect(receiveUnix(far, 'a peer', data)).toEqual({ bytes: 0, descriptors: [], truncated: false });
  });

  it(`takes ${MAX_DESCRIPTORS} descriptors with one message`, () => {
    const fd = createEventFd();
    sendUnix(
      near,
      'a peer',
      Buffer.of(1),
      Array.from({ length: MAX_DESCRIPTORS }, () => fd),
    );
    const received = receiveUnix(far, 'a peer', Buffer.alloc(1));
    expect([received?.descriptors.length, received?.truncated]).toEqual([MAX_DESCRIPTORS, false]);
    for (const one of [fd, ...(received?.descriptors ?? [])]) closeSync(one);
  });

  it('stops taking bytes when it is full', () => {
    const bytes = Buffer.alloc(65_536);
    let sent = 0;
    for (let more = 1; more > 0; sent += more) more = sendUnix(near, 'a peer', bytes);
    expect(sent).toBeGreaterThan(65_536);
  });

  it('says EPIPE, and does not die of it, when the peer is gone', () => {
    closeSync(far);
    far = -1;
    expect(() => sendUnix(near, 'a peer', Buffer.of(1))).toThrow('message to a peer: Broken pipe (sendmsg)');
  });

  it('refuses more descriptors than it has room for, and sends nothing', () => {
    expect(() =>
      sendUnix(
        near,
        'a peer',
        Buffer.of(1),
        Array.from({ length: 40 }, () => 0),
      ),
    ).toThrow(RangeError);
    expect(receiveUnix(far, 'a peer', Buffer.alloc(1))).toBeUndefined();
  });
});

describe('kinds of descriptors', () => {
  it('tells an eventfd from everything else', () => {
    const fds = [createEventFd(), openSync('/dev/null', 'r')];
    expect([...fds.map(isEventFd), isEventFd(-1), isEventFd(9999)]).toEqual([true, false, false, false]);
    for (const fd of fds) closeSync(fd);
  });

  it('makes an eventfd of a peer non-blocking, so that a full counter holds up nobody', () => {
    const fd = createEventFd(false);
    setNonBlocking(fd);
    const [, flags = '0'] = /^flags:\s+(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8')) ?? [];
    expect(Number.parseInt(flags, 8) & 0o4000).toBe(0o4000);
    closeSync(fd);
  });
});
