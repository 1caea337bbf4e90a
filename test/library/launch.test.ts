/**
 * Engines on lcores, started by a program: traffic, counters, what happens to their ports meanwhile.
 * @module
 */
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { expect, test } from 'vitest';
import { createEnvironment, launch, openPort } from '../../src/index.ts';
import { availableCpus } from '../../src/system/cpu.ts';
import { sleep, until } from '../support/deadline.ts';
import { packetOf, PortPair } from './pair.ts';

const small = { mbufs: 4096, pageSize: 4096 } as const;
const [cpu = 0] = availableCpus().slice(-1);

function moduleFile(text: string): Disposable & { readonly url: URL } {
  const directory = mkdtempSync(join(tmpdir(), 'dpdk-ts-'));
  const path = join(directory, 'engine.mjs');
  writeFileSync(path, text);
  return { url: pathToFileURL(path), [Symbol.dispose]: () => rmSync(directory, { recursive: true, force: true }) };
}

test('an lcore returns what the main thread sends', async () => {
  await using environment = createEnvironment(small);
  await using pair = await PortPair.open(environment);
  await using cores = await launch('macswap', { lcores: [cpu], ports: [pair.device], topology: 'loop', retry: { count: 1e6, delay: 1 } });
  const packets = Array.from({ length: 300 }, (_, number) => packetOf(number, 60 + number));
  let count = 0;
  const receiving = (async () => {
    for await (const packet of pair.driver.packets()) {
      expect(packet.ethernet).toMatchObject({ source: '02:00:00:00:00:01', destination: '02:00:00:00:00:02' });
      expect(packet.length).toBe(60 + count++);
      if (count === packets.length) return;
    }
  })();
  await pair.driver.send(packets);
  await receiving;
  await cores.stop();
  expect(cores.counters()).toEqual([
    {
      lcore: cpu,
      rxPort: pair.device,
      txPort: pair.device,
      queue: 0,
      rxPackets: 300,
      txPackets: 300,
      dropped: 0,
      noMbuf: 0,
      badIp: 0,
      badTransport: 0,
      unsent: 0,
      late: 0,
    },
  ]);
  await cores.finished;
});

test('while lcores have a port the main thread has not; afterwards it has again', async () => {
  await using environment = createEnvironment(small);
  await using pair = await PortPair.open(environment);
  using burst = environment.arena.burst(4);
  const cores = await launch('io', { lcores: [cpu], ports: [pair.device], topology: 'loop' });
  expect(() => pair.device.rxBurst(0, burst, 4)).toThrow(/lcores forward its packets/);
  await expect(launch('io', { lcores: [cpu], ports: [pair.device] })).rejects.toMatchObject({ code: 'EBUSY' });
  await cores.close();
  await pair.driver.send(packetOf(0, 60));
  expect(pair.device.rxBurst(0, burst, 4)).toBe(1);
  environment.arena.free(burst, 1);
});

test('two groups share an environment; its ports stop, start and close under them', async () => {
  await using environment = createEnvironment(small);
  await using pair = await PortPair.open(environment);
  await using receivers = await launch('rxonly', { lcores: [{ id: 8, cpus: [cpu] }], ports: [pair.device] });
  await using senders = await launch('txonly', { lcores: [{ id: 9, cpus: [cpu] }], ports: [pair.driver] });
  const received = (): number => receivers.counters()[0]?.rxPackets ?? 0;
  await until(5000, 'packets', () => received() > 1000);
  // a grace period covers both groups
  await pair.driver.stop();
  await pair.driver.start();
  await pair.driver.waitForLink(true, { timeout: 5000 });
  const before = received();
  await until(5000, 'packets after the restart', () => received() > before + 1000);
  await pair.driver.close();
  await senders.finished;
  expect(senders.counters()[0]?.txPackets).toBeGreaterThan(0);
  expect(pair.device.state).toBe('started');
});

test('a module of the user; one that fails; one that is none', async () => {
  await using environment = createEnvironment(small);
  await using port = await openPort('net_null', { environment });
  await port.start();
  using counting = moduleFile(
    'export const engine = { name: "half", forward(s) { const n = s.receive(); s.send(n >> 1); s.context.kernels.packetsFree(s.mbufs + 4 * (n >> 1), n - (n >> 1), s.lcore); } };',
  );
  {
    await using cores = await launch(counting.url, { lcores: [cpu], ports: [port], topology: 'loop', burst: 16 });
    await until(5000, 'packets', () => (cores.counters()[0]?.rxPackets ?? 0) > 1000);
    await cores.stop();
    const [counters] = cores.counters();
    expect(counters?.txPackets).toBe((counters?.rxPackets ?? 0) / 2);
  }
  using throwing = moduleFile('export const engine = { name: "bad", forward() { throw new Error("no more"); } };');
  await using cores = await launch(throwing.url, { lcores: [cpu], ports: [port] });
  await expect(cores.finished).rejects.toThrow(/no more/);
  await cores.stop();
  using empty = moduleFile('export const motor = {};');
  await expect(launch(empty.url, { lcores: [cpu], ports: [port] })).rejects.toThrow(/no export 'engine'/);
  // the refusal has given the port back
  await using again = await launch('io', { lcores: [cpu], ports: [port] });
  expect(again.counters()).toHaveLength(1);
});

test('what cannot be launched', async () => {
  await using environment = createEnvironment(small);
  await using port = await openPort('net_null', { environment });
  await using other = await openPort('net_null', { environment: small });
  const refused = async (engine: string, options: Partial<Parameters<typeof launch>[1]>, message: RegExp): Promise<void> => {
    await expect(launch(engine, { lcores: [cpu], ports: [port], ...options })).rejects.toThrow(message);
  };
  await refused('io', {}, /start the port/);
  await port.start();
  await refused('oi', {}, /known are io, mac/);
  await refused('./nosuch.ts', {}, /nosuch.ts: no such file/);
  await refused('io', { lcores: [] }, /name one/);
  await refused('io', { lcores: [4095] }, /not among those of this process/);
  await refused('io', { lcores: [cpu, cpu] }, /twice/);
  await refused('io', { ports: [] }, /name one/);
  await refused('io', { ports: [port, port] }, /twice/);
  await refused('io', { ports: [port, other] }, /different environments/);
  await refused('io', { burst: 513 }, /1\.\.512/);
  await refused('txonly', { txSegments: [20] }, /42 bytes/);
  await refused('mac', { peers: ['x'] }, /no address/);
});

test('opening, launching and closing again and again keeps no descriptor and no thread', async () => {
  const open = (): number => readdirSync('/proc/self/fd').length + readdirSync('/proc/self/task').length;
  let first = Infinity;
  for (let turn = 0; turn < 4; turn++) {
    await using environment = createEnvironment(small);
    await using pair = await PortPair.open(environment);
    await using cores = await launch('io', { lcores: [cpu], ports: [pair.device], topology: 'loop' });
    expect(cores.counters()).toHaveLength(1);
    await environment.close();
    // the thread that waits for sockets ends by itself
    await sleep(200);
    await until(
      5000,
      () => `${String(open())} descriptors and threads to be ${String(first)}`,
      () => open() <= first,
    );
    if (turn === 0) first = open();
  }
});
