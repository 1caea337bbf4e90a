import { describe, expect, it } from 'vitest';
import { availableCpus, numaNodes, onlineCpus, pinThread, threadId, threadIds } from '../../src/system/cpu.ts';

describe('CPUs', () => {
  it('are those of the machine, in order', () => {
    const cpus = availableCpus();
    expect(cpus.length).toBeGreaterThan(0);
    expect(cpus.length).toBeLessThanOrEqual(onlineCpus());
    expect([...cpus].sort((a, b) => a - b)).toEqual(cpus);
    expect(numaNodes()).toBeGreaterThanOrEqual(1);
  });

  it('take a thread, and give it back', () => {
    const cpus = availableCpus();
    try {
      for (const cpu of cpus.slice(-2)) {
        pinThread([cpu]);
        expect(availableCpus()).toEqual([cpu]);
      }
    } finally {
      pinThread(cpus);
    }
    expect(availableCpus()).toEqual(cpus);
  });

  it('take another thread by its number', () => {
    expect(threadIds()).toContain(threadId());
    expect(threadId()).toBe(process.pid);
    const cpus = availableCpus();
    pinThread(cpus, threadId());
    expect(availableCpus()).toEqual(cpus);
  });

  it('that are not there are refused by number', () => {
    const missing = 1000;
    expect(availableCpus()).not.toContain(missing);
    expect(() => pinThread([missing])).toThrow(`CPUs ${missing} for a thread: Invalid argument (sched_setaffinity)`);
    expect(() => pinThread([])).toThrow(/Invalid argument/);
    expect(() => pinThread([0], 0x7fff_fffe)).toThrow(/sched_setaffinity/);
  });

  it.each([-1, 1024, 1.5, Number.NaN])('%d is no CPU', (cpu) => {
    expect(() => pinThread([cpu])).toThrow(/is outside 0..1023/);
  });
});
