import { describe, expect, it } from 'vitest';
import { parseCpuList } from '../../bench/machine.ts';
import { parseStatus } from '../../bench/process-memory.ts';
import { busiestTask, parseSchedstat, parseStat, taskTimes } from '../../bench/schedstat.ts';

describe('time on a CPU', () => {
  it('is the first number of schedstat', () => {
    expect(parseSchedstat('326077 64796 2\n')).toBe(326077);
    expect(() => parseSchedstat('')).toThrow(TypeError);
  });

  it('is user and system time of stat, whatever the name holds', () => {
    const fields = ['R', ...Array.from({ length: 10 }, () => '0'), '150', '50', '0'];
    expect(parseStat(`12 (a) b (c) ${fields.join(' ')}`)).toBe(2e9);
  });

  it('names the thread that ran most between two readings', () => {
    const before = new Map([
      [1, { name: 'main', nanoseconds: 900 }],
      [2, { name: 'rte-worker-1', nanoseconds: 100 }],
    ]);
    const after = new Map([
      [1, { name: 'main', nanoseconds: 950 }],
      [2, { name: 'rte-worker-1', nanoseconds: 600 }],
      [3, { name: 'new', nanoseconds: 20 }],
    ]);
    expect(busiestTask(before, after)).toEqual({ thread: 2, name: 'rte-worker-1', nanoseconds: 500 });
    expect(busiestTask(after, after)).toBeUndefined();
  });

  it('is there for this very process', () => {
    expect(taskTimes(process.pid).get(process.pid)?.nanoseconds).toBeGreaterThan(0);
  });
});

it('memory is read in bytes; what a kernel does not list is 0', () => {
  const status = 'VmRSS:\t  120000 kB\nRssAnon:\t   54600 kB\nRssFile:\t   56900 kB\nRssShmem:\t       0 kB\n';
  expect(parseStatus(status)).toEqual({ rssAnon: 54600 * 1024, rssFile: 56900 * 1024, rssShmem: 0, hugePages: 0 });
});

it('CPU lists hold numbers and ranges', () => {
  expect(parseCpuList('0-2,5')).toEqual([0, 1, 2, 5]);
  expect(parseCpuList('3')).toEqual([3]);
});
