import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { lookRegularly } from '../../src/system/regular-looks.ts';

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
});
afterEach(() => {
  vi.useRealTimers();
});

it('looks twice a second, at everything in one wake-up, until told to stop', () => {
  const looked: string[] = [];
  const look = (name: string) => (): void => {
    looked.push(name);
  };
  const stopFirst = lookRegularly(look('first'));
  vi.advanceTimersByTime(300);
  const stopSecond = lookRegularly(look('second'));
  expect(vi.getTimerCount()).toBe(1);
  vi.advanceTimersByTime(200);
  expect(looked.splice(0)).toEqual(['first', 'second']);
  stopFirst();
  stopFirst();
  vi.advanceTimersByTime(1000);
  expect(looked.splice(0)).toEqual(['second', 'second']);
  stopSecond();
  expect(vi.getTimerCount()).toBe(0);
});

it('looks twice for who asks twice, and goes on after a pause', () => {
  let looked = 0;
  const look = (): void => {
    looked++;
  };
  const stops = [lookRegularly(look), lookRegularly(look)];
  vi.advanceTimersByTime(500);
  for (const stop of stops) stop();
  expect(looked).toBe(2);
  const stop = lookRegularly(look);
  vi.advanceTimersByTime(500);
  stop();
  expect(looked).toBe(3);
});
