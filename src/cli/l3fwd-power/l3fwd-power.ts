/**
 * dpdk-ts-l3fwd-power from its arguments to its exit status: ports, routes, and lcores that forward, asleep while there is nothing to do.
 * @module
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { ForwardingPlan, StreamCounters } from '../../lcore/forwarding-plan.ts';
import { WorkerLcores } from '../../lcore/lcores.ts';
import { createMempool, type Mempool } from '../../memory/mempool.ts';
import { parsePrefix } from '../../net/ip-address.ts';
import { formatMac, type MacAddress } from '../../net/mac-address.ts';
import { Router } from '../../net/router.ts';
import type { PortContext } from '../../port/context.ts';
import { frameOverhead } from '../../port/frame-size.ts';
import { TX_OFFLOAD_MULTI_SEGS } from '../../port/offloads.ts';
import type { Port } from '../../port/port.ts';
import { VirtioError } from '../../system/error.ts';
import type { EalOptions } from '../arguments/eal.ts';
import { linkText } from '../display/link.ts';
import { probePorts, say, warn, type Closers } from '../eal.ts';
import { openEnvironment, runProgram } from '../program.ts';
import { onTermination } from '../session/termination.ts';
import { parseL3fwd } from './arguments.ts';
import { DEFAULT_FLOWS, DEFAULT_PREFIXES, flowText, prefixText, readRules, type Rules } from './rules.ts';
import type { L3fwdOptions, QueueAssignment } from './settings.ts';

const PROGRAM = 'dpdk-ts-l3fwd-power';
const BURST = 32;
const MBUF_SIZE = 2176;
const CACHE_SIZE = 256;
/** Own memory for the tables of routes, and for the lists of packets of an lcore's queues. */
const ROUTER_OWN_BYTES = 4 * 1024 * 1024;
/** Flows that the table of --lookup=em is made for, at least. */
const FLOW_ENTRIES = 1024;
const SHORTEST_FRAME = 64;
const LONGEST_FRAME = 9600;
const ETHERNET_MTU = 1500;
const LINK_INTERVAL_MILLISECONDS = 100;
const LINK_ROUNDS = 90;

/** Runs l3fwd-power with `argv` (without the program's name); resolves with the exit status. */
export function runL3fwdPower(argv: readonly string[]): Promise<number> {
  return runProgram(
    PROGRAM,
    (context) => parseL3fwd(argv, context),
    async ({ eal, options, assignments, said, interruptOnly }, cleanup) => {
      for (const line of said) say(`${line}\n`);
      if (!interruptOnly) {
        warn('L3FWD_POWER: Operating mode not specified, probing frequency scaling support...');
        warn('L3FWD_POWER: Frequency scaling not supported, selecting interrupt-only mode');
      }
      warn('L3FWD_POWER: Selected operation mode: interrupt-only');
      await run(eal, options, assignments, cleanup);
      return 0;
    },
  );
}

async function run(eal: EalOptions, options: L3fwdOptions, assignments: readonly QueueAssignment[], cleanup: Closers): Promise<void> {
  using termination = onTermination();
  const { signal } = termination;
  const rules = readAllRules(options);
  const { memory, arena, context, pciDevices, launching, setLcores } = await openEnvironment(
    {
      eal,
      forwards: ({ id }) => assignments.some(({ lcore }) => lcore === id),
      mbufs: undefined,
      mbufSize: MBUF_SIZE,
      cacheSize: CACHE_SIZE,
      ownBytes: ROUTER_OWN_BYTES,
      signal,
    },
    cleanup,
  );
  const mempool = createMempool(arena, { name: 'mbuf_pool_0', count: memory.mbufs, dataRoom: MBUF_SIZE, cacheSize: CACHE_SIZE });
  cleanup.defer(() => {
    mempool.close();
  });
  const all = await probePorts(context, eal, pciDevices, cleanup);
  const ports = chosenPorts(all, options.ports);
  say('Allocated mbuf pool on socket 0\n');
  const router = makeRouter(context, options, rules, cleanup);
  const failures: VirtioError[] = [];
  const ended = new AbortController();
  const lcores = await WorkerLcores.launch({
    ...launching,
    pool: () => mempool,
    port: (id) => all[id],
    print: warnText,
    onFailure: (error) => {
      failures.push(error);
      ended.abort();
    },
  });
  setLcores(lcores);
  cleanup.defer(() => lcores.close());

  for (const port of all) {
    if (ports.includes(port)) await configure(port, options, assignments, lcores.forwarding, mempool);
    else say(`\nSkipping disabled port ${String(port.id)}\n`);
  }
  for (const lcore of lcores.forwarding) {
    const queues = assignments
      .filter((assignment) => assignment.lcore === lcore)
      .map(({ port, queue }) => `rxq=${String(port)},${String(queue)},0`);
    say(`\nInitializing rx queues on lcore ${String(lcore)} ... ${queues.join(' ')} `);
  }
  say('\n');
  for (const port of ports) {
    await port.start();
    if (options.promiscuous) await enablePromiscuous(port);
    if (options.parsePtype) say(`Port ${String(port.id)}: softly parse packet type info\n`);
  }
  for (const [output, port] of ports.entries()) {
    router.addPort(port.id, { output, source: port.mac, destination: destinationOf(options, port.id) });
  }
  await checkLinks(ports, signal);
  announceQueues(ports, assignments, lcores.forwarding);
  await lcores.start(planOf(ports, options, assignments, lcores.forwarding, router));
  await aborted(AbortSignal.any([signal, ended.signal]));
  await lcores.stop();
  report(lcores, assignments);
  for (const port of ports) await port.stop();
  const [failure] = failures;
  if (failure !== undefined) throw failure;
}

function warnText(text: string): void {
  process.stderr.write(text);
}

function readAllRules({ lookup, ruleFiles, routes }: L3fwdOptions): Rules {
  const read = ([4, 6] as const).map((version): Rules => {
    const path = ruleFiles[version];
    return path === undefined ? { prefixes: DEFAULT_PREFIXES[version], flows: DEFAULT_FLOWS[version] } : readRules(path, version);
  });
  const more = routes.flatMap(({ prefix: text, port }) => {
    const prefix = parsePrefix(text);
    return prefix === undefined ? [] : [{ prefix, port }];
  });
  return lookup === 'em'
    ? { prefixes: more, flows: read.flatMap(({ flows }) => flows) }
    : { prefixes: [...read.flatMap(({ prefixes }) => prefixes), ...more], flows: [] };
}

function makeRouter({ arena, main }: PortContext, { lookup }: L3fwdOptions, { prefixes, flows }: Rules, cleanup: Closers): Router {
  const router = new Router(arena, main.kernels, {
    flows: lookup === 'em' ? Math.max(FLOW_ENTRIES, flows.length) : 0,
    prefixes: lookup === 'lpm' || prefixes.length > 0,
  });
  cleanup.defer(() => {
    router.close();
  });
  for (const rule of flows) {
    router.addFlow(rule.flow, rule.port);
    say(`${flowText(rule)}\n`);
  }
  for (const rule of prefixes) {
    router.addRoute(rule.prefix, rule.port);
    say(`${prefixText(rule)}\n`);
  }
  return router;
}

/** The ports of the mask. @throws VirtioError ENODEV when one is not there */
function chosenPorts(all: readonly Port[], wanted: readonly number[]): readonly Port[] {
  return wanted.map((id) => {
    const port = all[id];
    if (port !== undefined) return port;
    const there =
      all.length === 0
        ? 'there is no port: give one with --vdev, or bind a device with dpdk-ts-devbind'
        : `there are ${String(all.length)} ports`;
    throw new VirtioError(`check_port_config failed\nport ${String(id)} is not present on the board: ${there}`, { code: 'ENODEV' });
  });
}

function destinationOf({ destinations }: L3fwdOptions, port: number): MacAddress {
  return destinations.get(port) ?? Uint8Array.of(0x02, 0, 0, 0, 0, port);
}

/** Queues: as many receive queues as the configuration names, and a transmit queue for every lcore. */
async function configure(
  port: Port,
  { maxPktLen }: L3fwdOptions,
  assignments: readonly QueueAssignment[],
  lcores: readonly number[],
  pool: Mempool,
): Promise<void> {
  const { id, info } = port;
  const rxQueues = assignments.filter((assignment) => assignment.port === id).length;
  if (rxQueues > info.maxRxQueues) throw new VirtioError(`Cannot configure not existed rxq: port=${String(id)}`, { code: 'EINVAL' });
  if (lcores.length > info.maxTxQueues) {
    throw new VirtioError(
      `${port.name}: ${String(lcores.length)} lcores forward and need a transmit queue each, and it has ${String(info.maxTxQueues)}; ` +
        `give the device more (queues=${String(lcores.length)}), or name fewer lcores in --config`,
      { code: 'EINVAL' },
    );
  }
  if (maxPktLen !== undefined && (maxPktLen < SHORTEST_FRAME || maxPktLen > LONGEST_FRAME)) {
    throw new VirtioError(`Invalid max packet length: ${String(maxPktLen)} (port ${String(id)})`, { code: 'EINVAL' });
  }
  const mtu = maxPktLen === undefined ? undefined : maxPktLen - frameOverhead(info);
  const txOffloads = mtu !== undefined && mtu > ETHERNET_MTU ? TX_OFFLOAD_MULTI_SEGS & info.txOffloadCapabilities : 0;
  const txText = lcores.map((lcore, queue) => `txq=${String(lcore)},${String(queue)},0 `).join('');
  await port.configure({ rxQueues, txQueues: lcores.length, rxOffloads: 0, txOffloads, mtu });
  for (let queue = 0; queue < lcores.length; queue++) await port.setupTxQueue(queue, { descriptors: 0 });
  for (let queue = 0; queue < rxQueues; queue++) await port.setupRxQueue(queue, { descriptors: 0, pool });
  say(
    `Initializing port ${String(id)} ... Creating queues: nb_rxq=${String(rxQueues)} nb_txq=${String(lcores.length)}... ` +
      ` Address:${formatMac(port.mac)}, ${txText}\n`,
  );
}

async function enablePromiscuous(port: Port): Promise<void> {
  try {
    await port.setPromiscuous(true);
  } catch (error) {
    // a virtio_user without a control queue filters nothing
    if (!(error instanceof VirtioError) || error.code !== 'EOPNOTSUPP') throw error;
  }
}

/** Waits up to nine seconds for all links, and prints them. */
async function checkLinks(ports: readonly Port[], signal: AbortSignal): Promise<void> {
  say('\nChecking link status');
  for (let round = 0; round < LINK_ROUNDS && !signal.aborted; round++) {
    if (ports.every((port) => port.link().up)) break;
    say('.');
    await delay(LINK_INTERVAL_MILLISECONDS, undefined, { signal }).catch(() => undefined);
  }
  say('done\n');
  for (const port of ports) say(`Port ${String(port.id)} ${linkText(port.link())}\n`);
}

/** Which lcore has what, and whether it can sleep. */
function announceQueues(ports: readonly Port[], assignments: readonly QueueAssignment[], lcores: readonly number[]): void {
  for (const lcore of lcores) {
    warn(`L3FWD_POWER: entering main interrupt loop on lcore ${String(lcore)}`);
    const own = assignments.filter((assignment) => assignment.lcore === lcore);
    for (const { port, queue } of own) warn(`L3FWD_POWER:  -- lcoreid=${String(lcore)} portid=${String(port)} rxqueueid=${String(queue)}`);
    const polled = own.find(
      ({ port, queue }) =>
        ports
          .find(({ id }) => id === port)
          ?.rxInterrupt(queue)
          ?.available() !== true,
    );
    if (polled === undefined) continue;
    const port = ports.find(({ id }) => id === polled.port);
    const advice = port?.bus === 'pci' ? '; a device needs MSI-X, and a vector more than it has receive queues' : '';
    warn("L3FWD_POWER: RX interrupt won't enable.");
    warn(`${port?.name ?? ''}: receive queue ${String(polled.queue)} has no interrupt, so lcore ${String(lcore)} polls${advice}`);
  }
}

function planOf(
  ports: readonly Port[],
  options: L3fwdOptions,
  assignments: readonly QueueAssignment[],
  lcores: readonly number[],
  router: Router,
): ForwardingPlan {
  const outputs = (lcore: number): { port: number; queue: number }[] => ports.map(({ id }) => ({ port: id, queue: lcores.indexOf(lcore) }));
  return {
    engine: 'l3fwd',
    streams: assignments.map(({ port, queue, lcore }) => ({
      lcore,
      rxPort: port,
      rxQueue: queue,
      txPort: port,
      txQueue: lcores.indexOf(lcore),
      peer: destinationOf(options, port),
      outputs: outputs(lcore),
    })),
    burst: BURST,
    retry: undefined,
    txSegments: [SHORTEST_FRAME],
    flowgenFlows: 1,
    verbose: 0,
    txFirst: 0,
    flushRx: false,
    sleep: { afterEmptyRounds: options.emptyPolls, announce: true },
    router: router.offset,
  };
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    // a timer keeps the process alive, which a signal alone does not
    const timer = setInterval(() => undefined, 1 << 30);
    signal.addEventListener(
      'abort',
      () => {
        clearInterval(timer);
        resolve();
      },
      { once: true },
    );
  });
}

/** What became of the packets, a line a queue; and how the lcores slept. */
function report(lcores: WorkerLcores, assignments: readonly QueueAssignment[]): void {
  const counters = lcores.counters();
  for (const [index, { port, queue, lcore }] of assignments.entries()) {
    const { rxPackets, txPackets, dropped }: Partial<StreamCounters> = counters[index] ?? {};
    say(
      `lcore ${String(lcore)} port ${String(port)} queue ${String(queue)}: RX-packets: ${String(rxPackets ?? 0)} ` +
        `TX-packets: ${String(txPackets ?? 0)} dropped: ${String(dropped ?? 0)}\n`,
    );
  }
  for (const { lcore, sleeps, wakeUps } of lcores.sleeps()) {
    say(`lcore ${String(lcore)}: sleeps: ${String(sleeps)} wake-ups: ${String(wakeUps)}\n`);
  }
}
