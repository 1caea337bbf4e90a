#!/usr/bin/env node
/**
 * The command `dpdk-ts-l3fwd-power`.
 * @module
 */
import { runL3fwdPower } from './l3fwd-power/l3fwd-power.ts';

const status = await runL3fwdPower(process.argv.slice(2));
// a pipe may still hold output: end when it has taken everything
process.exitCode = status;
process.stdout.write('', () => {
  process.exit(status);
});
