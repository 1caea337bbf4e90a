/**
 * Lcores that sleep until packets come: they do sleep, they lose nothing, and what the control plane does reaches them.
 */
import { expect, test } from 'vitest';
import { createEnvironment, launch, openPort, type LaunchedLcores } from '../../src/index.ts';
import { availableCpus } from '../../src/system/cpu.ts';
import { sleep, until } from '../support/deadline.ts';
import { packetOf, PortPair } from './pair.ts';

const small = { mbufs: 4096, pageSize: 4096 } as const;
const [cpu = 0] = availableCpus().slice(-1);

/** CPU time of this process, in milliseconds. */
function cpuTime(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

function wakeUps(cores: LaunchedLcores): number {
  return cores.sleeps()[0]?.wakeUps ?? 0;
}

function sleeps(cores: LaunchedLcores): number {
  return cores.sleeps()[0]?.sleeps ?? 0;
}

for (const [side, packed_vq] of [
  ['device', false],
  ['driver', false],
  ['device', true],
  ['driver', true],
] as const) {
  test(`an lcore on the ${side} of ${packed_vq ? 'packed' : 'split'} rings sleeps between bursts and returns every packet`, async () => {
    await using environment = createEnvironment(small);
    await using pair = await PortPair.open(environment, { packed_vq });
    const port = pair[side];
    const other = side === 'device' ? pair.driver : pair.device;
    await using cores = await launch('macswap', { lcores: [cpu], ports: [port], topology: 'loop', sleep: true });
    for (let burst = 0; burst < 5; burst++) {
      const before = sleeps(cores);
      await until(5000, 'a sleep', () => sleeps(cores) > before);
      // that one has ended; a sleep lasts 100 ms when nothing comes: in the middle of the next one
      await sleep(30);
      const packets = Array.from({ length: 20 }, (_, number) => packetOf(number + burst, 60 + number));
      let count = 0;
      const receiving = (async () => {
        for await (const packet of other.packets()) {
          expect(packet.length).toBe(60 + count++);
          if (count === packets.length) return;
        }
      })();
      await other.send(packets);
      await receiving;
    }
    expect(wakeUps(cores)).toBeGreaterThanOrEqual(5);
    await cores.stop();
    expect(cores.counters()).toMatchObject([{ rxPackets: 100, txPackets: 100, dropped: 0 }]);
  });
}

test('asleep it takes next to no CPU time', async () => {
  await using environment = createEnvironment(small);
  await using pair = await PortPair.open(environment);
  await using cores = await launch('io', { lcores: [cpu], ports: [pair.device], topology: 'loop', sleep: { afterEmptyRounds: 10 } });
  await until(5000, 'a sleep', () => sleeps(cores) > 0);
  const before = cpuTime();
  await sleep(2000);
  // 2 s of polling would be 2000 ms, or a good part of it
  expect(cpuTime() - before).toBeLessThan(600);
});

test('a peer that goes and comes back while the lcore sleeps is noticed', async () => {
  await using environment = createEnvironment(small);
  await using pair = await PortPair.open(environment);
  await using cores = await launch('io', { lcores: [cpu], ports: [pair.device], topology: 'loop', sleep: { afterEmptyRounds: 10 } });
  for (let turn = 0; turn < 3; turn++) {
    await until(5000, 'a sleep', () => sleeps(cores) > 0);
    await pair.driver.stop();
    await pair.driver.start();
    await pair.driver.waitForLink(true, { timeout: 5000 });
    const before = wakeUps(cores);
    const [received] = await Promise.all([
      (async () => {
        for await (const packet of pair.driver.packets()) return packet.length;
        return 0;
      })(),
      pair.driver.send(packetOf(turn, 70)),
    ]);
    expect(received).toBe(70);
    await until(5000, 'the packet to be what woke it', () => wakeUps(cores) > before || sleeps(cores) > 0);
  }
});

test('an lcore stops out of its sleep, and its queues do not know it any more', async () => {
  await using environment = createEnvironment(small);
  await using pair = await PortPair.open(environment);
  for (let turn = 0; turn < 3; turn++) {
    await using cores = await launch('io', { lcores: [cpu], ports: [pair.device], topology: 'loop', sleep: true });
    await until(5000, 'a sleep', () => sleeps(cores) > 0);
    await cores.stop();
    // the port goes on in the hands of the main thread
    await pair.driver.send(packetOf(turn, 60));
    for await (const packet of pair.device.packets()) {
      expect(packet.length).toBe(60);
      break;
    }
    await pair.device.stop();
    await pair.device.start();
    await pair.driver.waitForLink(true, { timeout: 5000 });
  }
});

test('packets() waits without polling', async () => {
  await using environment = createEnvironment(small);
  await using pair = await PortPair.open(environment);
  const controller = new AbortController();
  let count = 0;
  const receiving = (async () => {
    for await (const packet of pair.device.packets({ signal: controller.signal })) count += packet.length;
  })();
  await sleep(300);
  const before = cpuTime();
  await sleep(1000);
  expect(cpuTime() - before).toBeLessThan(300);
  for (let number = 0; number < 10; number++) {
    await pair.driver.send(packetOf(number, 60));
    await sleep(15);
  }
  await until(2000, 'all packets', () => count === 600);
  // lcores take the queue over from the loop that waits, which ends with an error
  const ended = expect(receiving).rejects.toMatchObject({ code: 'EBUSY' });
  await using cores = await launch('rxonly', { lcores: [cpu], ports: [pair.device], sleep: { afterEmptyRounds: 1 } });
  await ended;
  await pair.driver.send(packetOf(0, 60));
  await until(2000, 'the packet on the lcore', () => cores.counters()[0]?.rxPackets === 1);
});

test('a loop that waits ends at once when its signal is aborted', async () => {
  await using environment = createEnvironment(small);
  await using pair = await PortPair.open(environment);
  const controller = new AbortController();
  const receiving = (async () => {
    for await (const packet of pair.device.packets({ signal: controller.signal })) expect(packet).toBeUndefined();
  })();
  await sleep(200);
  controller.abort();
  await receiving;
});

test('what cannot sleep', async () => {
  await using environment = createEnvironment(small);
  await using port = await openPort('net_null', { environment });
  await port.start();
  await expect(launch('rxonly', { lcores: [cpu], ports: [port], sleep: true })).rejects.toMatchObject({ code: 'EOPNOTSUPP' });
  await expect(launch('rxonly', { lcores: [cpu], ports: [port], sleep: { afterEmptyRounds: 0 } })).rejects.toThrow(/1 and up/);
});
