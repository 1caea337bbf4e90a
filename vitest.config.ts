/**
 * Three suites: `unit` (fast, anywhere), `peers` (against DPDK) and `hostile` (our program against peers that break the rules).
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
          exclude: ['test/peers/**', 'test/hostile/**'],
          testTimeout: 20_000,
        },
      },
      { test: { name: 'peers', pool: 'forks', include: ['test/peers/**/*.test.ts'], testTimeout: 60_000, hookTimeout: 60_000 } },
      { test: { name: 'hostile', pool: 'forks', include: ['test/hostile/**/*.test.ts'], testTimeout: 60_000, hookTimeout: 60_000 } },
    ],
  },
});
