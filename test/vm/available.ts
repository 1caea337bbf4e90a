/**
 * Can the tests of this folder run here?
 * @module
 */
import { existsSync } from 'node:fs';
import { whyMissing } from '../support/program.ts';
import { cachedKernel } from './kernel.ts';
import { whyNoPrograms } from './requirements.ts';

async function why(): Promise<string | undefined> {
  const missing = whyNoPrograms() ?? whyMissing('dpdk-ts') ?? whyMissing('dpdk');
  if (missing !== undefined) return missing;
  const kernel = await cachedKernel();
  return kernel !== undefined && existsSync(kernel.image) ? undefined : "no kernel for the machine: 'npm run vm -- --prepare' fetches one";
}

/** Why there is no test machine here, or undefined. */
export const WHY_NO_MACHINE: string | undefined = await why();
