/**
 * How a queue's other side is told, by what its state says: an eventfd, a register in the arena, a register in a file.
 * @module
 */
import { readSync } from 'node:fs';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { Arena } from '../../src/memory/arena.ts';
import { makeNotifier, setNotification } from '../../src/ring/notification.ts';
import { Q_NOTIFICATIONS, Q_NOTIFY, Q_OWN_INDEX } from '../../src/ring/queue-layout.ts';
import { DriverQueue } from '../../src/ring/virtqueue.ts';
import { closeFd, createEventFd } from '../../src/system/event-fd.ts';
import { createMemoryFile, resizeFile } from '../../src/system/memory-map.ts';

const arena = new Arena({ bytes: 4 << 20, ownBytes: 4 << 20, peerBytes: 0, pageSize: 4096, warn: () => undefined });
const queue = new DriverQueue(arena, { name: 'a queue', size: 64, port: 0, pool: undefined });
const register = arena.allocateOwn(16, 'registers');
const { u8, u32 } = arena.views;
afterAll(() => {
  queue.close();
  arena.close();
});
beforeEach(() => {
  u8.fill(0, register, register + 16);
  queue.set(Q_NOTIFICATIONS, 0);
  queue.set(Q_OWN_INDEX, 0x1_2345 & 0xffff);
});

function notify(): string {
  queue.set(Q_NOTIFY, 1);
  makeNotifier(arena.views, queue.offset)();
  expect(queue.get(Q_NOTIFY)).toBe(0);
  return Buffer.from(u8.slice(register, register + 16)).toString('hex');
}

describe('a register in the arena', () => {
  test('of 16 bits takes the number of the queue, and nothing beside it changes', () => {
    setNotification(queue, { kind: 'register', offset: register + 4, bytes: 2, value: 3 });
    expect(notify()).toBe('00000000' + '0300' + '0000' + '0000000000000000');
    expect(u32[(queue.offset + Q_NOTIFICATIONS) >>> 2]).toBe(1);
  });

  test('of 32 bits takes the next available index as well (VIRTIO_F_NOTIFICATION_DATA)', () => {
    setNotification(queue, { kind: 'register', offset: register + 4, bytes: 4, value: 3 });
    expect(notify()).toBe('00000000' + '03004523' + '0000000000000000');
    queue.set(Q_OWN_INDEX, 0xfffe);
    expect(notify()).toBe('00000000' + '0300feff' + '0000000000000000');
  });
});

test('a register at a position of a file beyond 4 GiB', () => {
  const fd = createMemoryFile('registers', 4096);
  const position = 4 * 2 ** 40 + 0x3008;
  try {
    resizeFile(fd, position + 4096, 'registers');
    setNotification(queue, { kind: 'file', fd, position, bytes: 2, value: 2 });
    notify();
    const content = Buffer.alloc(4);
    readSync(fd, content, 0, 4, position);
    expect(content.toString('hex')).toBe('02000000');
    setNotification(queue, { kind: 'file', fd, position, bytes: 4, value: 2 });
    notify();
    readSync(fd, content, 0, 4, position);
    expect(content.toString('hex')).toBe('02004523');
  } finally {
    setNotification(queue, undefined);
    closeFd(fd);
  }
});

test('an eventfd; a full one, and none, are no errors', () => {
  const fd = createEventFd();
  try {
    setNotification(queue, { kind: 'descriptor', fd });
    notify();
    notify();
    const count = Buffer.alloc(8);
    readSync(fd, count);
    expect(count.readBigUInt64LE()).toBe(2n);
  } finally {
    closeFd(fd);
  }
  notify();
  setNotification(queue, undefined);
  notify();
  expect(queue.get(Q_NOTIFICATIONS)).toBe(3);
});
