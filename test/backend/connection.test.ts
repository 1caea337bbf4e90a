import { closeSync, mkdtempSync, openSync, readdirSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import fc from 'fast-check';
import { VhostUserConnection } from '../../src/backend/vhost-user/connection.ts';
import { encodeMessage, encodeU64, REQUEST, type Message } from '../../src/backend/vhost-user/messages.ts';
import type { VirtioError } from '../../src/system/error.ts';
import { createEventFd } from '../../src/system/event-fd.ts';
import { acceptUnix, connectUnix, listenUnix, receiveUnix, sendUnix } from '../../src/system/unix-socket.ts';
import { sleep, until } from '../support/deadline.ts';

const directory = mkdtempSync(join(tmpdir(), 'dpdk-ts-connection-'));
afterAll(() => rmSync(directory, { recursive: true }));
/** A file whose descriptors can be told from all others. */
const tracked = join(directory, 'tracked');
writeFileSync(tracked, '');
const trackedDescriptors = (): number =>
  readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === tracked;
    } catch {
      return false;
    }
  }).length;

let sockets = 0;
/** Both ends of a connected socket. */
function socketPair(): [number, number] {
  const listener = listenUnix(join(directory, `${sockets++}.sock`));
  const near = connectUnix(listener.path);
  const far = acceptUnix(listener);
  listener.close();
  if (far === undefined) throw new Error('no connection');
  return [near, far];
}

describe('a vhost-user connection', () => {
  let far: number;
  let connection: VhostUserConnection;
  let messages: Message[];
  let closings: (VirtioError | undefined)[];
  beforeEach(() => {
    const [near, other] = socketPair();
    far = other;
    messages = [];
    closings = [];
    connection = new VhostUserConnection(near, 'a peer', {
      onMessage: (message) => messages.push(message),
      onClose: (error) => closings.push(error),
    });
  });
  afterEach(() => {
    vi.useRealTimers();
    for (const { descriptors } of messages) for (const fd of descriptors) closeSync(fd);
    connection.close();
    hangUp();
  });
  /** Closes the far end, once: its number may belong to somebody else by now. */
  const hangUp = (): void => {
    if (far >= 0) closeSync(far);
    far = -1;
  };
  const send = (bytes: Uint8Array, descriptors: readonly number[] = []): number => sendUnix(far, 'us', bytes, descriptors);
  const arrived = (count: number): Promise<unknown> => until(2000, `${count} messages`, () => messages.length >= count, 2);
  const closed = (): Promise<unknown> => until(2000, 'the end', () => closings.length > 0, 2);
  const request = encodeMessage(REQUEST.SET_FEATURES, 0, encodeU64(0x1234n));

  it('takes several messages out of one piece', async () => {
    send(Buffer.concat([encodeMessage(REQUEST.SET_OWNER, 0, new Uint8Array(0)), request, request]));
    await arrived(3);
    expect(messages.map(({ request: number, payload }) => [number, payload.length])).toEqual([
      [3, 0],
      [2, 8],
      [2, 8],
    ]);
  });

  it('puts a message together that comes byte by byte, its descriptor with the first', async () => {
    const fd = createEventFd();
    for (const [index, byte] of request.entries()) {
      send(Uint8Array.of(byte), index === 0 ? [fd] : []);
      if (index % 5 === 0) await sleep(1);
    }
    closeSync(fd);
    await arrived(1);
    expect(messages[0]?.payload).toEqual(encodeU64(0x1234n));
    expect(messages[0]?.descriptors).toHaveLength(1);
  });

  it('gives each message its own descriptors', async () => {
    const fds = [createEventFd(), createEventFd(), createEventFd()];
    send(request, fds.slice(0, 1));
    send(request);
    send(request, fds.slice(1));
    for (const fd of fds) closeSync(fd);
    await arrived(3);
    expect(messages.map(({ descriptors }) => descriptors.length)).toEqual([1, 0, 2]);
  });

  it('is over without an error when the peer hangs up between messages', async () => {
    send(request);
    hangUp();
    await closed();
    expect([messages.length, closings]).toEqual([1, [undefined]]);
  });

  it.each([
    ['another version', Buffer.from('010000000200000000000000', 'hex'), /not a vhost-user message of version 1 \(first word 0x1\)/],
    ['an HTTP request', Buffer.from('GET / HTTP/1.1\r\n\r\n'), /0x20544547/],
    ['a payload of 4 GiB', Buffer.from('0200000001000000ffffffff', 'hex'), /SET_FEATURES announces 4294967295 bytes/],
    ['a payload just too long', Buffer.from('020000000100000001040000', 'hex'), /SET_FEATURES announces 1025 bytes/],
  ])('ends with a reason at %s', async (_, bytes, text) => {
    send(bytes);
    await closed();
    expect(closings.map((error) => [error?.code, error?.message])).toEqual([['EPROTO', expect.stringMatching(text)]]);
    expect(messages).toEqual([]);
  });

  it.each([5, 12, 15])('ends with a reason when the peer closes after %i bytes of a message', async (bytes) => {
    send(request.subarray(0, bytes));
    hangUp();
    await closed();
    expect(closings[0]?.message).toMatch(/a peer: the peer closed in the middle of a message/);
  });

  it.each([1, 12, 19])('ends five seconds after the first of %i bytes, when no more come', async (bytes) => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const fd = openSync(tracked, 'r');
    send(request.subarray(0, bytes), [fd]);
    await until(2000, 'the bytes to be read', () => vi.getTimerCount() > 0, 2);
    vi.advanceTimersByTime(4999);
    expect(closings).toEqual([]);
    vi.advanceTimersByTime(1);
    expect(closings.map((error) => error?.message)).toEqual([expect.stringMatching(/half a message, and then nothing for 5 seconds/)]);
    expect(trackedDescriptors()).toBe(1);
    closeSync(fd);
  });

  it('does not time out between messages', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    send(request);
    await arrived(1);
    expect(vi.getTimerCount()).toBe(0);
  });

  it('ends, and keeps no descriptor, when more come with a message than any may carry', async () => {
    const fd = openSync(tracked, 'r');
    send(
      request.subarray(0, 10),
      Array.from({ length: 32 }, () => fd),
    );
    send(
      request.subarray(10, 11),
      Array.from({ length: 32 }, () => fd),
    );
    await closed();
    expect(closings[0]?.message).toMatch(/more file descriptors than any message may carry/);
    expect(trackedDescriptors()).toBe(1);
    closeSync(fd);
  });

  it('sends whole messages, and says ENOTCONN once it is closed', () => {
    connection.send(REQUEST.GET_FEATURES, 4, encodeU64(7n));
    const bytes = Buffer.alloc(64);
    expect(receiveUnix(far, 'us', bytes)?.bytes).toBe(20);
    expect(bytes.subarray(0, 20)).toEqual(encodeMessage(1, 4, encodeU64(7n)));
    connection.close();
    connection.close();
    expect(() => connection.send(1, 0, new Uint8Array(0))).toThrow(/a peer: the connection is closed/);
    expect(closings).toEqual([]);
  });

  it('gives a peer up that reads nothing', () => {
    const flood = (): void => {
      for (let count = 0; count < 100_000; count++) connection.send(REQUEST.GET_FEATURES, 4, encodeU64(0n));
    };
    expect(flood).toThrow(/a peer: the peer does not read its messages \(socket full at GET_FEATURES\)/);
    expect([closings.length, connection.isOpen()]).toEqual([1, false]);
  });

  it('says EPIPE when the peer is gone, and closes once', () => {
    hangUp();
    expect(() => connection.send(REQUEST.SET_OWNER, 0, new Uint8Array(0))).toThrow(/Broken pipe/);
    expect(closings).toHaveLength(1);
  });

  it('delivers the same messages however the stream is cut', async () => {
    const one = fc.tuple(fc.integer({ min: 1, max: 40 }), fc.uint8Array({ maxLength: 300 }), fc.boolean());
    await fc.assert(
      fc.asyncProperty(
        fc.array(one, { minLength: 1, maxLength: 12 }),
        fc.array(fc.integer({ min: 1, max: 400 })),
        async (described, cuts) => {
          messages.length = 0;
          const stream = Buffer.concat(described.map(([number, payload, needReply]) => encodeMessage(number, needReply ? 8 : 0, payload)));
          let at = 0;
          for (const cut of [...cuts, stream.length]) {
            if (at >= stream.length) break;
            at += send(stream.subarray(at, at + cut));
            if (cut % 3 === 0) connection.poll();
          }
          for (let turns = 0; messages.length < described.length && turns < 1000; turns++) connection.poll();
          expect(
            messages.map(({ request: number, payload, needReply }) => [number, Buffer.from(payload).toString('hex'), needReply]),
          ).toEqual(described.map(([number, payload, needReply]) => [number, Buffer.from(payload).toString('hex'), needReply]));
          await Promise.resolve();
        },
      ),
      { numRuns: 150 },
    );
    expect(closings).toEqual([]);
  });

  it('delivers or ends at random bytes, and never throws', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.uint8Array({ minLength: 1, maxLength: 64 }), { maxLength: 20 }),
        fc.boolean(),
        async (pieces, plausible) => {
          const [near, other] = socketPair();
          let ends = 0;
          const victim = new VhostUserConnection(near, 'a peer', { onMessage: () => undefined, onClose: () => ends++ });
          for (const piece of pieces) {
            // a header that passes, so that what follows is reached as well
            if (plausible) sendUnix(other, 'us', encodeMessage(piece[0] ?? 0, 0, piece));
            else sendUnix(other, 'us', piece);
            victim.poll();
            if (!victim.isOpen()) break;
          }
          closeSync(other);
          victim.poll();
          victim.poll();
          expect([victim.isOpen(), ends]).toEqual([false, 1]);
          await Promise.resolve();
        },
      ),
      { numRuns: 100 },
    );
  });
});
