/**
 * Four suites: `unit` (fast, anywhere), `peers` (against DPDK, and QEMU's devices), `hostile` (our program against peers that break the rules) and `vm` (in a
 * virtual machine of its own, for what needs the kernel's vhost-net, taps and namespaces).
 * ffi-rs does not survive worker threads, so every file runs in a process of its own.
 * @module
 */
import { statSync } from 'node:fs';
import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** The virtual machine's time is limited (scripts/test.mjs): many short files come first in it, and the longest last. */
class ShortFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const bytes = ({ moduleId }: TestSpecification): number => statSync(moduleId).size;
    const machine = files.filter(({ project }) => project.name === 'vm');
    const others = files.filter(({ project }) => project.name !== 'vm');
    return [...(await super.sort(others)), ...machine.sort((one, other) => bytes(one) - bytes(other))];
  }
}

export default defineConfig({
  test: {
    pool: 'forks',
    sequence: { sequencer: ShortFirst },
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
