/**
 * Waiting for several descriptors by poll(2).
 */
import { expect, test } from 'vitest';
import { clearEventFd, closeFd, createEventFd, duplicateFd, signalEventFd } from '../../src/system/event-fd.ts';
import { DescriptorPoll } from '../../src/system/poll.ts';

test('tells which of them is readable, and waits no longer than that', () => {
  const [a, b] = [createEventFd(), createEventFd()] as const;
  const poll = new DescriptorPoll(3);
  poll.set(0, a);
  poll.set(2, b);
  poll.wait(0);
  expect([0, 1, 2].map((index) => poll.readable(index))).toEqual([false, false, false]);
  signalEventFd(b);
  poll.wait(10_000);
  expect([0, 1, 2].map((index) => poll.readable(index))).toEqual([false, false, true]);
  expect(clearEventFd(b)).toBe(true);
  expect(clearEventFd(b)).toBe(false);
  poll.wait(0);
  expect(poll.readable(2)).toBe(false);
  for (const fd of [a, b]) closeFd(fd);
});

test('one that is closed has failed, and one that is not waited for is nothing', () => {
  const fd = createEventFd();
  const poll = new DescriptorPoll(1);
  poll.set(0, fd);
  closeFd(fd);
  poll.wait(10_000);
  expect([poll.readable(0), poll.failed(0)]).toEqual([false, true]);
  poll.set(0, undefined);
  poll.wait(0);
  expect([poll.readable(0), poll.failed(0)]).toEqual([false, false]);
});

test('a duplicate outlives the number that it was made of', () => {
  const fd = createEventFd();
  const other = duplicateFd(fd);
  signalEventFd(fd);
  closeFd(fd);
  expect(clearEventFd(other)).toBe(true);
  closeFd(other);
  expect(() => duplicateFd(other)).toThrow(expect.objectContaining({ code: 'EBADF', syscall: 'dup' }));
});
