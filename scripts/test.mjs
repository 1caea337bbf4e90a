/**
 * The test command: builds, then lint, format check, types, and the suites. See HELP.
 *
 * Steps that do not depend on each other overlap; the suites against peers run one file at a time, because huge pages and CPUs belong to
 * the whole machine. The very last line is the sum of all suites.
 * @module
 */
import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { installMachine, installPeers, raiseHugePages } from './peers.mjs';

const HELP = `npm test -- [options] [FILTER...]

  (nothing)        build, lint, format check, types, and every suite
  --unit           only unit, property and command-line tests
  --peers          only the tests against DPDK's testpmd
  --hostile        only the tests against peers that break the protocol
  --vm             only the tests in a virtual machine with a kernel of its own (vhost-net, taps, namespaces, TCP)
  --static         only lint, format check and types
  -t, --name TEXT  only tests whose name matches
  --no-build       take dist/ as it is
  -h, --help       this text

FILTER is a part of a test file's name: npm test -- --peers restart

The peers' tests need dpdk-testpmd (Debian: dpdk-dev), ip and unshare. Run as root on Debian, this command installs them and raises
the number of huge pages; otherwise those suites are skipped, by name. The virtual machine needs QEMU and fetches a kernel package, which
is unpacked into a cache folder and not installed.`;

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..');
const REPORTS = join(ROOT, '.cache', 'test');
const BIN = join(ROOT, 'node_modules', '.bin');
/** Milliseconds after which a step is ended. */
const LIMITS = { build: 120_000, static: 180_000, unit: 300_000, peers: 780_000, hostile: 240_000, prepare: 240_000, vm: 1_200_000 };
/** Milliseconds from the start of all suites after which no test in the virtual machine begins: the whole stays under 30 minutes. */
const LAST_MACHINE = 24 * 60_000;

const children = new Set();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.once(signal, () => {
    for (const child of children) child.kill('SIGTERM');
    process.exit(130);
  });
}

/**
 * Runs a program to its end. With `quiet`, prints what it said only when it failed, in one piece.
 * @returns undefined when it ended with the exit status `absent`: what it is about is not to be had here
 */
async function run(title, file, args, { limit, quiet = false, absent }) {
  const started = performance.now();
  const child = spawn(file, args, { cwd: ROOT, stdio: ['ignore', quiet ? 'pipe' : 'inherit', quiet ? 'pipe' : 'inherit'] });
  children.add(child);
  const said = [];
  child.stdout?.on('data', (chunk) => said.push(chunk));
  child.stderr?.on('data', (chunk) => said.push(chunk));
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    child.kill('SIGTERM');
    setTimeout(() => child.kill('SIGKILL'), 5000).unref();
  }, limit);
  const status = await new Promise((resolve) => {
    child.once('error', (error) => {
      said.push(Buffer.from(`${error.message}\n`));
      resolve(127);
    });
    child.once('close', (code) => resolve(code ?? 1));
  });
  clearTimeout(timer);
  children.delete(child);
  if (quiet && status !== 0) process.stdout.write(Buffer.concat(said));
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  const why = late ? `no end within ${limit / 1000} s` : `exit status ${status}`;
  const mark = status === 0 ? 'ok    ' : status === absent ? 'absent' : 'FAILED';
  console.log(`${mark} ${title} (${seconds} s${status === 0 ? '' : `, ${why}`})`);
  return status === absent ? undefined : status === 0;
}

/** Runs one suite; adds its tests to the total. */
async function suite(name, total, { filters, pattern, sequential }) {
  const report = join(REPORTS, `${name}.json`);
  rmSync(report, { force: true });
  const args = ['run', '--project', name, '--passWithNoTests', '--reporter=default', '--reporter=json', `--outputFile.json=${report}`];
  if (sequential) args.push('--no-file-parallelism');
  if (pattern !== undefined) args.push('-t', pattern);
  const ok = await run(`${name} tests`, join(BIN, 'vitest'), [...args, ...filters], { limit: LIMITS[name] });
  let failed = 0;
  try {
    const { numPassedTests, numFailedTests, numPendingTests, numTodoTests } = JSON.parse(readFileSync(report, 'utf8'));
    failed = numFailedTests;
    total.passed += numPassedTests;
    total.skipped += numPendingTests + numTodoTests;
  } catch (error) {
    if (ok) throw error;
  }
  // a file that does not load, or an error outside of any test, fails the run without failing a test
  total.failed += ok ? failed : Math.max(failed, 1);
}

/** Fetches the virtual machine's kernel, once QEMU is there. Returns why there is no machine here, or undefined. */
async function prepareMachine(total) {
  const ready = await run('virtual machine', join(BIN, 'tsx'), ['test/vm/main.ts', '--prepare'], { limit: LIMITS.prepare, absent: 3 });
  if (ready === false) total.failed++;
  return ready === true ? undefined : 'it could not be prepared; the reason is printed above';
}

async function staticChecks(total) {
  const check = async (title, file, ...args) => {
    if (!(await run(title, join(BIN, file), args, { limit: LIMITS.static, quiet: true }))) total.failed++;
  };
  await check('types', 'tsc', '-p', 'tsconfig.json', '--noEmit');
  await check('lint', 'eslint', '.', '--max-warnings', '0');
  await check('format', 'prettier', '--check', '--log-level', 'warn', '.');
}

function readArguments() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        unit: { type: 'boolean', default: false },
        peers: { type: 'boolean', default: false },
        hostile: { type: 'boolean', default: false },
        vm: { type: 'boolean', default: false },
        static: { type: 'boolean', default: false },
        name: { type: 'string', short: 't' },
        'no-build': { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    });
  } catch (error) {
    console.error(`${error.message}\n\n${HELP}`);
    process.exit(2);
  }
}

async function main() {
  const { values, positionals } = readArguments();
  if (values.help) {
    console.log(HELP);
    return;
  }
  const chosen = ['unit', 'peers', 'hostile', 'vm', 'static'].filter((name) => values[name]);
  const filtered = positionals.length > 0 || values.name !== undefined;
  const wants = (name) => (chosen.length > 0 ? chosen.includes(name) : name !== 'static' || !filtered);
  const total = { passed: 0, failed: 0, skipped: 0 };
  const options = { filters: positionals, pattern: values.name };
  const skips = [];
  mkdirSync(REPORTS, { recursive: true });

  const built = values['no-build'] || (await run('build', process.execPath, ['scripts/build.mjs', '--quiet'], { limit: LIMITS.build }));
  if (!built) total.failed++;

  const first = [];
  if (wants('static')) first.push(staticChecks(total));
  if (built && wants('unit')) first.push(suite('unit', total, { ...options, sequential: false }));
  await Promise.all(first);

  if (built && (wants('peers') || wants('hostile'))) console.log(raiseHugePages());
  // QEMU is the peers' tests' as well
  const whyNoQemu = built && (wants('peers') || wants('vm')) ? installMachine() : undefined;
  if (built && wants('peers')) {
    if (whyNoQemu !== undefined) skips.push(`the tests with devices inside a QEMU (peers: qtest): ${whyNoQemu}`);
    const why = installPeers();
    if (why !== undefined) skips.push(`the peers' tests (peers: interoperation with DPDK): ${why}`);
    await suite('peers', total, { ...options, sequential: true });
  }
  if (built && wants('hostile')) await suite('hostile', total, { ...options, sequential: true });

  if (built && wants('vm')) {
    // asked for alone, they all run
    if (wants('unit')) process.env.DPDK_TS_VM_UNTIL ??= String(Math.round(Date.now() - performance.now() + LAST_MACHINE));
    const why = whyNoQemu ?? (await prepareMachine(total));
    if (why !== undefined)
      skips.push(`the tests in the virtual machine (vm: the exception path, vhost-net and taps of a real kernel): ${why}`);
    await suite('vm', total, { ...options, sequential: true });
  }

  for (const skip of skips) console.log(`\n*** SKIPPED: ${skip}\n`);
  if (total.failed > 0) process.exitCode = 1;
  console.log(`${total.passed} passed, ${total.failed} failed${total.skipped > 0 ? `, ${total.skipped} skipped` : ''}`);
}

await main();
