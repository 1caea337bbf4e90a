#!/usr/bin/env node
/**
 * The command `dpdk-ts-testpmd`.
 * @module
 */
import { runTestpmd } from './testpmd.ts';

const status = await runTestpmd(process.argv.slice(2));
// a pipe may still hold output: end when it has taken everything
process.exitCode = status;
process.stdout.write('', () => {
  process.exit(status);
});
