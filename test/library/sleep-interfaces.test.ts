/**
 * Lcores asleep on ports over interfaces of the kernel: a packet of the kernel's wakes them, an interface that goes down or away lets them
 * sleep on.
 */
import { createSocket } from 'node:dgram';
import { afterEach, beforeAll, describe, expect, test } from 'vitest';
import { createEnvironment, launch, openPort, type LaunchedLcores } from '../../src/index.ts';
import { availableCpus } from '../../src/system/cpu.ts';
import { sleep, until } from '../support/deadline.ts';
import { enterNetworkNamespace, ip, makeVeth, removeInterfaces, WHY_NO_NETWORK } from '../support/network.ts';

const [cpu = 0] = availableCpus().slice(-1);
const NEIGHBOUR = '10.9.9.2';

/** Has the kernel send one packet out of an interface. */
async function kernelSends(): Promise<void> {
  const socket = createSocket('udp4');
  await new Promise<void>((resolve, reject) => {
    socket.send('x', 9, NEIGHBOUR, (error) => {
      socket.close();
      if (error === null) resolve();
      else reject(error);
    });
  });
}

function address(interfaceName: string): void {
  ip(`addr add 10.9.9.1/24 dev ${interfaceName}`);
  ip(`neigh replace ${NEIGHBOUR} lladdr 02:00:00:00:00:77 dev ${interfaceName} nud permanent`);
}

const received = (cores: LaunchedLcores): number => cores.counters()[0]?.rxPackets ?? 0;
const sleeps = (cores: LaunchedLcores): number => cores.sleeps()[0]?.sleeps ?? 0;
const wakeUps = (cores: LaunchedLcores): number => cores.sleeps()[0]?.wakeUps ?? 0;

async function asleep(cores: LaunchedLcores): Promise<void> {
  const before = sleeps(cores);
  await until(5000, 'a sleep', () => sleeps(cores) > before);
}

/** Milliseconds of CPU time that this process takes in a second. */
async function cpuTime(): Promise<number> {
  const before = process.cpuUsage();
  await sleep(1000);
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}

describe.skipIf(WHY_NO_NETWORK !== undefined)('interfaces of the kernel', () => {
  beforeAll(enterNetworkNamespace);
  afterEach(removeInterfaces);

  test.each([
    ['net_af_packet', { iface: 'va' }],
    ['net_af_xdp', { iface: 'va' }],
    ['net_tap', { iface: 'vb' }],
  ] as const)('%s', async (driver, options) => {
    if (driver !== 'net_tap') makeVeth('va', 'vb');
    await using environment = createEnvironment({ mbufs: 4096, pageSize: 4096 });
    await using port = await openPort(driver, { ...options, environment });
    await port.start();
    if (driver === 'net_tap') ip('link set vb addrgenmode none');
    address('vb');
    await port.waitForLink(true, { timeout: 5000 });
    await using cores = await launch('rxonly', { lcores: [cpu], ports: [port], sleep: { afterEmptyRounds: 10 } });
    for (let packet = 0; packet < 5; packet++) {
      await asleep(cores);
      const before = { packets: received(cores), wakeUps: wakeUps(cores) };
      await kernelSends();
      await until(5000, 'the packet', () => received(cores) > before.packets);
      expect(wakeUps(cores)).toBeGreaterThan(before.wakeUps);
    }
    // its sockets report an error for as long as it is down
    ip(`link set ${driver === 'net_tap' ? 'vb' : 'va'} down`);
    await until(5000, 'the link to be down', () => !port.link().up);
    expect(await cpuTime()).toBeLessThan(500);
    ip(`link set ${driver === 'net_tap' ? 'vb' : 'va'} up`);
    await port.waitForLink(true, { timeout: 5000 });
    ip(`neigh replace ${NEIGHBOUR} lladdr 02:00:00:00:00:77 dev vb nud permanent`);
    const before = received(cores);
    await kernelSends();
    await until(5000, 'a packet again', () => received(cores) > before);
    ip('link del vb');
    await until(5000, 'the link to be down', () => !port.link().up);
    expect(await cpuTime()).toBeLessThan(500);
    await cores.stop();
  });

  test('packets() waits for them as well', async () => {
    makeVeth('va', 'vb');
    await using environment = createEnvironment({ mbufs: 2048, pageSize: 4096 });
    await using port = await openPort('net_af_packet', { iface: 'va', environment });
    await port.start();
    address('vb');
    await port.waitForLink(true, { timeout: 5000 });
    let count = 0;
    const receiving = (async () => {
      for await (const packet of port.packets()) {
        expect(packet.length).toBeGreaterThan(40);
        if (++count === 3) return;
      }
    })();
    for (let packet = 0; packet < 3; packet++) {
      await sleep(50);
      await kernelSends();
    }
    await receiving;
  });
});
