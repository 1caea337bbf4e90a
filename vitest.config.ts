/**
 * Four suites: `unit` (fast, anywhere), `peers` (against DPDK, and QEMU's devices), `hostile` (our program against peers that break the rules) and `vm` (in a
 * virtual machine of its own, for what needs the kernel's vhost-net, taps and namespaces).
 * ffi-rs does not survive worker threads, so every file runs in a process of its own.
 * @module
 */
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    pool: 'forks',
    projects: [
      {
        test: {
          name: 'unit',
          pool: 'forks',
          include: ['test/**/*.test.ts'],
          exclude: ['test/peers/**', 'test/qtest/**', 'test/hostile/**', 'test/vm/**'],
          testTimeout: 20_000,
        },
      },
      { test: { name: 'peers', pool: 'forks', include: ['test/{peers,qtest}/**/*.test.ts'], testTimeout: 60_000, hookTimeout: 60_000 } },
      { test: { name: 'hostile', pool: 'forks', include: ['test/hostile/**/*.test.ts'], testTimeout: 60_000, hookTimeout: 60_000 } },
      {
        test: {
          name: 'vm',
          pool: 'forks',
          include: ['test/vm/**/*.test.ts'],
          setupFiles: ['test/vm/time-left.ts'],
          testTimeout: 300_000,
          hookTimeout: 60_000,
        },
      },
    ],
  },
});
