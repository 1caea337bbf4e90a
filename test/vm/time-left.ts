/**
 * Leaves out, by name, the tests for which there is no time any more: DPDK_TS_VM_UNTIL says until when one may begin, in milliseconds
 * since 1970. `npm test` sets it, as all suites together have to end in time on a slow machine, too.
 * @module
 */
import { beforeEach } from 'vitest';

const until = Number(process.env['DPDK_TS_VM_UNTIL'] ?? Infinity);

beforeEach((context) => {
  if (Date.now() > until) context.skip('no time left: npm test -- --vm runs all of them');
});
