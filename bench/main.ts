/**
 * `npm run bench`: ours and DPDK's testpmd in turn, window after window, and a table at the end. docs/performance.md says how and why.
 *
 * Exit status: 0, or 1 for a wrong option or where windows failed (not merely did not count), 130 after Ctrl-C.
 * @module
 */
import { accessSync, constants, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { BASELINE, directionsOf, pairingsOf, type BenchCase, type Direction, type Pairing } from './cases.ts';
import { coreState, openCoreDistance } from './core-distance.ts';
import { allowedCpus, describeMachine, prepareMemory } from './machine.ts';
import { parseOptions, type BenchOptions } from './options.ts';
import { describeWindow, openProgress, timeLeft, type Progress } from './progress.ts';
import { dpdkVersion, findCommand, programAt, type Program, type ProgramName } from './programs.ts';
import { markdownReport, textReport } from './report-table.ts';
import { svgReport } from './report-svg.ts';
import { writeJson, type Report } from './report.ts';
import { countedWindows, tableRows } from './rows.ts';
import { measureStartUp, type StartUpResult } from './start-up.ts';
import { killAll } from './testpmd-process.ts';
import type { Setting } from './ends.ts';
import { measureWindow, WHOLE_CORE, type WindowResult } from './window.ts';

/** Rounds on top of those asked for, as a multiple, until one state of the cores has enough of each pairing. */
const EXTRA_ROUNDS = 1;
/** A pairing that failed so often in one case and direction is not tried again. */
const FAILURES_BEFORE_GIVING_UP = 2;
const STATE_LOOK_MS = 1_000;

interface Findings {
  readonly windows: WindowResult[];
  readonly startUps: StartUpResult[];
  failures: number;
}

async function main(): Promise<number> {
  const options = parseOptions(process.argv.slice(2));
  const progress = openProgress(process.stderr);
  const stop = new AbortController();
  const interrupt = (): void => {
    if (stop.signal.aborted) {
      killAll();
      process.exit(130);
    }
    stop.abort(new Error('interrupted'));
  };
  process.on('SIGINT', interrupt).on('SIGTERM', interrupt);

  for (const file of [options.json, options.svg, options.markdown]) {
    if (file !== undefined) {
      assertWritable(file);
    }
  }
  const dpdkPath = findCommand(options.dpdk);
  const pairings = choosePairings(options, dpdkPath !== undefined, progress);
  const programs: Partial<Record<ProgramName, Program>> = {};
  const cells = cellsOf(options, pairings);
  if (cells.length === 0 && !options.startUp) {
    throw new Error('nothing to measure: no case has the directions and pairings that are asked for');
  }
  if (usesProgram(options, pairings, cells, 'ours')) {
    if (!existsSync(options.ours)) {
      throw new Error(`our testpmd is not there: '${options.ours}' (npm run build makes it; --pairing ${BASELINE} does without)`);
    }
    programs.ours = programAt('ours', options.ours);
  }
  if (usesProgram(options, pairings, cells, 'dpdk') && dpdkPath !== undefined) {
    programs.dpdk = programAt('dpdk', dpdkPath);
  }
  const cpus = chooseCpus(options);
  const lock = await onlyOne();
  const directory = mkdtempSync(join(tmpdir(), 'dpdk-ts-bench-'));
  const removeDirectory = (): void => rmSync(directory, { recursive: true, force: true });
  process.on('exit', removeDirectory);
  const distance = await openCoreDistance(cpus);
  const findings: Findings = { windows: [], startUps: [], failures: 0 };
  const setting: Setting = {
    programs,
    cpus,
    memory: prepareMemory(),
    seconds: options.seconds,
    warmUpSeconds: options.warmUp,
    nearBelowNs: options.nearBelow,
    wantedState: options.state,
    distance,
    directory,
    signal: stop.signal,
  };
  try {
    await measureAll(setting, options, cells, findings, progress);
  } catch (error) {
    if (!stop.signal.aborted) {
      throw error;
    }
  } finally {
    progress.end();
    await distance.close();
    lock.close();
  }
  const dpdk = dpdkPath === undefined ? undefined : await dpdkVersion(dpdkPath);
  const report = makeReport(setting, options, findings, dpdk);
  process.stdout.write(textReport(report));
  if (options.json !== undefined) {
    writeJson(options.json, report);
  }
  if (options.svg !== undefined) {
    writeFileSync(options.svg, svgReport(report.rows, options.case));
  }
  if (options.markdown !== undefined) {
    writeFileSync(options.markdown, markdownReport(report));
  }
  return stop.signal.aborted ? 130 : findings.failures > 0 ? 1 : 0;
}

/** All cases; what was found so far is in `findings` whenever this throws. */
async function measureAll(
  setting: Setting,
  options: BenchOptions,
  cells: readonly Cell[],
  findings: Findings,
  progress: Progress,
): Promise<void> {
  if (options.startUp) {
    await measureStartUps(setting, options.rounds, findings, progress);
  }
  const begun = performance.now();
  for (const [done, { benchCase, direction, pairings }] of cells.entries()) {
    progress.line(
      `${benchCase.name} (${benchCase.title}), ${direction.title} ${timeLeft(performance.now() - begun, done, cells.length)}`.trimEnd(),
    );
    await measureInTurn(setting, options, benchCase, direction, pairings, findings, progress);
  }
}

interface Cell {
  readonly benchCase: BenchCase;
  readonly direction: Direction;
  readonly pairings: readonly Pairing[];
}

/** What is measured in turn: a case in a direction, with its pairings. */
function cellsOf(options: BenchOptions, wanted: readonly Pairing[]): Cell[] {
  return options.case
    .flatMap((benchCase) =>
      directionsOf(benchCase, options.direction).map((direction) => ({
        benchCase,
        direction,
        pairings: pairingsOf(benchCase, direction, wanted),
      })),
    )
    .filter(({ pairings }) => pairings.length > 0);
}

async function measureStartUps(setting: Setting, rounds: number, findings: Findings, progress: Progress): Promise<void> {
  const names = (['ours', 'dpdk'] as const).filter((name) => setting.programs[name] !== undefined);
  for (let round = 1; round <= rounds; round += 1) {
    for (const name of names) {
      progress.now(`start-up of ${name}, round ${round} of ${rounds}`);
      try {
        const start = await measureStartUp(setting, name);
        findings.startUps.push(start);
        progress.line(
          `start-up ${name} round ${round}: prompt ${Math.round(start.vhostPromptMs)} and ${Math.round(start.virtioPromptMs)} ms, ` +
            `first packet ${Math.round(start.firstPacketMs)} ms`,
        );
      } catch (error) {
        setting.signal.throwIfAborted();
        findings.failures += 1;
        progress.line(`start-up ${name} round ${round}: failed: ${error instanceof Error ? error.message : String(error)}`);
      }
    }
  }
}

/** One case and direction: the pairings one after the other, round after round, until one state of the cores has enough of each. */
async function measureInTurn(
  setting: Setting,
  options: BenchOptions,
  benchCase: BenchCase,
  direction: Direction,
  pairings: readonly Pairing[],
  findings: Findings,
  progress: Progress,
): Promise<void> {
  const windows: WindowResult[] = [];
  const ofPairing = (name: string): WindowResult[] => windows.filter((window) => window.pairing === name);
  const hasFailed = (name: string): boolean =>
    ofPairing(name).filter(({ leftOut }) => leftOut?.reason === 'failed').length >= FAILURES_BEFORE_GIVING_UP ||
    ofPairing(name).some(({ leftOut }) => leftOut?.reason === 'refused');
  const enough = (): boolean =>
    (['near', 'far'] as const).some((state) =>
      pairings.every(({ name }) => hasFailed(name) || countedWindows(ofPairing(name), state) >= options.rounds),
    );
  for (let round = 1; round <= options.rounds * (1 + EXTRA_ROUNDS) && !enough(); round += 1) {
    for (const pairing of pairings.filter(({ name }) => !hasFailed(name))) {
      progress.now(`${benchCase.name} ${direction.title} ${pairing.name} round ${round}`);
      await untilState(setting, options, progress);
      const window = await measureWindow(setting, benchCase, direction, pairing, round);
      windows.push(window);
      findings.windows.push(window);
      findings.failures += window.leftOut?.reason === 'failed' ? 1 : 0;
      progress.line(`  ${describeWindow(benchCase, window)}`);
    }
  }
}

/** Waits for the cores to be as the user wants them; after that much patience, the window is tried all the same. */
async function untilState(setting: Setting, options: BenchOptions, progress: Progress): Promise<void> {
  const deadline = performance.now() + options.patience * 1000;
  while (options.state !== 'any' && performance.now() < deadline) {
    const nanoseconds = await setting.distance.measure();
    if (coreState(nanoseconds, options.nearBelow) === options.state) {
      return;
    }
    progress.now(`waiting for the cores to be ${options.state}: ${Math.round(nanoseconds)} ns now`);
    await sleep(STATE_LOOK_MS, undefined, { signal: setting.signal });
  }
}

function choosePairings(options: BenchOptions, hasDpdk: boolean, progress: Progress): readonly Pairing[] {
  if (hasDpdk) {
    return options.pairing;
  }
  const alone = options.pairing.filter(({ virtio, vhost }) => virtio === 'ours' && vhost === 'ours');
  const missing = `'${options.dpdk}' is not installed (Debian: apt-get install --no-install-recommends dpdk-dev)`;
  if (alone.length === 0) {
    throw new Error(`${missing}, and no pairing does without`);
  }
  progress.line(`${missing}: measuring ours alone.`);
  return alone;
}

/** Better said now than after a quarter of an hour. */
function assertWritable(file: string): void {
  try {
    accessSync(existsSync(file) ? file : dirname(resolve(file)), constants.W_OK);
  } catch (error) {
    throw new Error(`cannot write '${file}'`, { cause: error });
  }
}

function usesProgram(options: BenchOptions, wanted: readonly Pairing[], cells: readonly Cell[], name: ProgramName): boolean {
  const pairings = [...(options.startUp ? wanted : []), ...cells.flatMap((cell) => cell.pairings)];
  return pairings.some(({ virtio, vhost }) => virtio === name || vhost === name);
}

function chooseCpus(options: BenchOptions): readonly [number, number] {
  const allowed = allowedCpus();
  const chosen: readonly number[] = options.cpus ?? allowed;
  const [first, second] = chosen;
  if (first === undefined || second === undefined) {
    throw new Error('each end polls on a CPU of its own: two are needed, and this process may use one');
  }
  const forbidden = [first, second].filter((cpu) => !allowed.includes(cpu));
  if (forbidden.length > 0) {
    throw new Error(`this process may not use CPU ${forbidden.join(', ')}; it may use ${allowed.join(', ')}`);
  }
  return [first, second];
}

/** Two benchmarks at once would measure each other. The name is gone with the process that holds it, however that ends. */
async function onlyOne(): Promise<Server> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once('error', () => reject(new Error('another benchmark is running on this machine')));
    server.listen('\0dpdk-ts-bench', resolve);
  });
  return server.unref();
}

function makeReport(setting: Setting, options: BenchOptions, findings: Findings, dpdk: string | undefined): Report {
  return {
    format: 1,
    generatedAt: new Date().toISOString(),
    interrupted: setting.signal.aborted,
    machine: describeMachine(),
    versions: { 'dpdk-ts': ownVersion(), node: process.versions.node, v8: process.versions.v8, ...(dpdk === undefined ? {} : { dpdk }) },
    method: {
      seconds: setting.seconds,
      warmUpSeconds: setting.warmUpSeconds,
      rounds: options.rounds,
      cpus: setting.cpus,
      memory: setting.memory,
      nearBelowNs: setting.nearBelowNs,
      wantedState: setting.wantedState,
      wholeCore: WHOLE_CORE,
    },
    rows: tableRows(findings.windows, options.case),
    startUps: findings.startUps,
    windows: findings.windows,
  };
}

function ownVersion(): string {
  const manifest: unknown = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
  return typeof manifest === 'object' && manifest !== null && 'version' in manifest ? String(manifest.version) : 'unknown';
}

try {
  process.exitCode = await main();
} catch (error) {
  process.stderr.write(`bench: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
} finally {
  killAll();
}
