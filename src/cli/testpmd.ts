/**
 * dpdk-ts-testpmd from its arguments to its exit status: memory, ports, lcores, session; and all of it given back.
 * @module
 */
import { readFileSync } from 'node:fs';
import { createMempool, type Mempool } from '../memory/mempool.ts';
import type { MacAddress } from '../net/mac-address.ts';
import { startCapture } from '../port/capture.ts';
import { createPort } from '../port/drivers.ts';
import { parseCommandLine } from './arguments/command-line.ts';
import type { EalOptions } from './arguments/eal.ts';
import { parseEthPeersFile, ethPeersFileUnreadable } from './arguments/eth-peers-file.ts';
import { checkAgainstPorts } from './arguments/port-checks.ts';
import type { TestpmdOptions } from './arguments/testpmd.ts';
import { engineNames } from '../lcore/engines/index.ts';
import { WorkerLcores } from '../lcore/lcores.ts';
import { closePorts, probePorts, say, warn, type Closers } from './eal.ts';
import { runNonInteractive, type StandardInput } from './non-interactive.ts';
import { openEnvironment, runProgram } from './program.ts';
import { announceOptions, Session } from './session.ts';
import { sessionOptions } from './session/from-arguments.ts';
import { onTermination } from './session/termination.ts';
import { runShell } from './shell.ts';

const PROGRAM = 'dpdk-ts-testpmd';
const POOL_NAME = 'mb_pool_0';

/** For programs that are a testpmd with something more. */
export interface TestpmdHooks {
  /** Looks at the session once its ports are started, before forwarding begins. */
  readonly observe?: (session: Session) => void;
  /** Takes the place of standard input. */
  readonly input?: StandardInput;
}

/** Runs testpmd with `argv` (without the program's name); resolves with the exit status. */
export function runTestpmd(argv: readonly string[], hooks: TestpmdHooks = {}): Promise<number> {
  return runProgram(
    PROGRAM,
    (context) => parseCommandLine(argv, context),
    ({ eal, testpmd }, cleanup) => runParsed(eal, testpmd, cleanup, hooks),
  );
}

async function runParsed(eal: EalOptions, testpmd: TestpmdOptions, cleanup: Closers, hooks: TestpmdHooks): Promise<number> {
  using termination = onTermination();
  const peers = readPeers(testpmd);
  if (typeof peers === 'number') return peers;
  const {
    memory,
    arena,
    context,
    pciDevices,
    launching: launchOptions,
    setLcores,
  } = await openEnvironment(
    {
      eal,
      forwards: ({ id }) => id !== eal.mainLcore,
      mbufs: testpmd.totalNumMbufs,
      mbufSize: testpmd.mbufSize,
      cacheSize: testpmd.mbcache,
      signal: termination.signal,
    },
    cleanup,
  );
  // what comes later, and is asked for by what comes first
  const later: { session?: Session; mempool?: Mempool; status: number } = { status: 0 };
  const pool = (): Mempool => {
    if (later.mempool === undefined) throw new Error('the mbuf pool is made before forwarding starts');
    return later.mempool;
  };
  const launching = WorkerLcores.launch({
    ...launchOptions,
    pool,
    port: (id) => later.session?.ports.get(id)?.port,
    print: say,
    onFailure: (error) => {
      warn(error.message);
      later.status = 1;
      later.session?.interrupt();
    },
  });
  // the Workers start while the ports look for their devices
  launching.catch(() => undefined);
  // the session closes its ports itself; probePorts() does for the ways that lead past it
  const ports = await probePorts(context, eal, pciDevices, cleanup);
  if (ports.length === 0) warn('testpmd: No probed ethernet devices');
  const lcores = await launching;
  setLcores(lcores);
  cleanup.defer(() => lcores.close());

  const options = sessionOptions(testpmd, peers);
  announceOptions(options, say);
  const problems = checkAgainstPorts(
    testpmd,
    ports.map((port) => ({ maxRxQueues: port.info.maxRxQueues, maxTxQueues: port.info.maxTxQueues })),
    PROGRAM,
  );
  if (problems !== undefined) {
    for (const line of problems) warn(line);
    return 1;
  }
  say(`testpmd: create a new mbuf pool <${POOL_NAME}>: n=${String(memory.mbufs)}, size=${String(testpmd.mbufSize)}, socket=0\n`);
  say('testpmd: preferred mempool ops selected: ring_mp_mc\n');
  const mempool = createMempool(arena, { name: POOL_NAME, count: memory.mbufs, dataRoom: testpmd.mbufSize, cacheSize: testpmd.mbcache });
  later.mempool = mempool;
  cleanup.defer(() => {
    mempool.close();
  });
  const running = new Session({
    options,
    ports,
    lcores,
    mainLcore: eal.mainLcore,
    mempool,
    engines: engineNames,
    attachPort: (devargs, id) => createPort(context, id, devargs),
    startCapture: (port, wish) => startCapture(context, port, wish),
    output: say,
    errors: (text) => {
      process.stderr.write(text);
    },
    signal: termination.signal,
  });
  later.session = running;
  cleanup.defer(() => closePorts(running.ports.list().map(({ port }) => port)));
  await running.begin();
  hooks.observe?.(running);
  const { input = process.stdin } = hooks;
  if (options.interactive) await runShell(running, { input, output: process.stdout });
  else await runNonInteractive(running, input);
  return later.status;
}

/** The addresses of --eth-peers-configfile, or the exit status after an error. */
function readPeers(testpmd: TestpmdOptions): readonly MacAddress[] | 1 {
  const path = testpmd.ethPeersConfigfile;
  if (path === undefined) return [];
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    for (const line of ethPeersFileUnreadable(path, error instanceof Error ? error.message : String(error), PROGRAM)) warn(line);
    return 1;
  }
  const parsed = parseEthPeersFile(path, text, PROGRAM);
  if (parsed.kind === 'peers') return parsed.peers.map(({ mac }) => mac);
  for (const line of parsed.lines) warn(line);
  return 1;
}
