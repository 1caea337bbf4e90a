/**
 * Both testpmds through the same command line and the same lines at the prompt: everything that they say, side by side.
 * @module
 */
import { expect } from 'vitest';
import { memoryArguments, usualMemory } from './huge-pages.ts';
import { lcoresArgument, type Program } from './program.ts';
import { PROMPT, Testpmd, type TestpmdOptions } from './testpmd.ts';

const MAC_ADDRESS = /(?:[0-9A-F]{2}:){5}[0-9A-F]{2}/g;
/** What libraries log beside the answers, whenever they like. */
const LOGGED = /^((EAL|VHOST_CONFIG|VHOST_DATA|virtio_\w+\(\)|vhost_\w+\(\)|net_vhost\d): |Warning: NUMA|[RT]x csum will be done in SW)/;

function lines(text: string): string[] {
  return text
    .replaceAll('\r', '')
    .replace(MAC_ADDRESS, 'MAC')
    .split('\n')
    .filter((line) => !LOGGED.test(line));
}

/** A testpmd without lcores of its own choice, whose answers and errors come in one stream. */
export function commandLine(program: Program, vdevs: readonly string[], app: readonly string[]): TestpmdOptions {
  const held = memoryArguments(usualMemory());
  return {
    program,
    eal: [...lcoresArgument(0), ...held.eal, ...vdevs.flatMap((vdev) => ['--vdev', vdev])],
    app: ['--total-num-mbufs=4096', ...app],
    // answers and errors in one stream, in the order in which they were written
    wrapper: [...held.wrapper, 'sh', '-c', 'exec "$@" 2>&1', 'sh'],
  };
}

/** Everything that a program says from its start on, to each line of a script and then to `quit`. */
async function transcript(
  program: Program,
  vdevs: readonly string[],
  app: readonly string[],
  script: readonly string[],
): Promise<string[]> {
  await using testpmd = await Testpmd.start(commandLine(program, vdevs, app));
  const said = lines(testpmd.stdout.slice(0, testpmd.stdout.indexOf(PROMPT)));
  for (const line of script) said.push(`${PROMPT}${line}`, ...lines(await testpmd.command(line)));
  await testpmd.quit();
  return said;
}

/** Expects both programs to say the same to the same; what DPDK's said. */
export async function expectSame(vdevs: readonly string[], app: readonly string[], script: readonly string[]): Promise<string[]> {
  const theirs = await transcript('dpdk', vdevs, app, script);
  expect(await transcript('dpdk-ts', vdevs, app, script)).toEqual(theirs);
  return theirs;
}
