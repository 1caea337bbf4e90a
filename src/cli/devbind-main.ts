#!/usr/bin/env node
/**
 * The command `dpdk-ts-devbind`.
 * @module
 */
import { runDevbind } from './devbind.ts';

process.exitCode = runDevbind(process.argv.slice(2), {
  output: (text) => {
    process.stdout.write(text);
  },
  errors: (text) => {
    process.stderr.write(text);
  },
});
