/** The vhost-user back-end, told by a front-end written by hand: states of rings (vhost-user, "Ring states"), memory, and what is left when it goes. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DEVICE_FEATURES, DEVICE_PROTOCOL_FEATURES } from '../../src/backend/vhost-user/device-features.ts';
import type { Port, PortEvent } from '../../src/port/port.ts';
import { sleep, until } from '../support/deadline.ts';
import { PortBench } from '../support/port-pair.ts';
import { DEFAULT_FEATURES, MEMORY_BYTES, RawDriver, USER_BASE, WHOLE_MEMORY } from '../support/raw-driver.ts';
import { frame } from '../support/ring-pair.ts';
import {
  Feature,
  memoryRegion,
  memoryTable,
  NEED_REPLY,
  NO_DESCRIPTOR,
  Request,
  ringAddresses,
  ringState,
  u64,
  VERSION,
} from '../support/vhost-user-messages.ts';

const directory = mkdtempSync(join(tmpdir(), 'dpdk-ts-device-'));
afterAll(() => rmSync(directory, { recursive: true }));
let names = 0;
let path: string;
let bench: PortBench;
let port: Port;
let events: PortEvent[];
const drivers: RawDriver[] = [];
beforeEach(async () => {
  path = join(directory, `${names++}.sock`);
  bench = new PortBench();
  port = await bench.open(`net_vhost0,iface=${path}`);
  events = [];
  port.onEvent((event) => events.push(event));
});
afterEach(async () => {
  for (const driver of drivers.splice(0)) driver[Symbol.dispose]();
  await bench[Symbol.asyncDispose]();
});

async function connect(): Promise<RawDriver> {
  const driver = await RawDriver.connect(path);
  drivers.push(driver);
  return driver;
}

/** Steps of an honest handshake by name, but for those that are left out. */
async function handshake(driver: RawDriver, options: { readonly features?: bigint; readonly without?: RegExp } = {}): Promise<void> {
  for (const [name, step] of driver.handshakeSteps(options.features)) if (options.without?.test(name) !== true) await step();
  await settled(driver);
}

/** Waits until the device has handled everything so far. */
async function settled(driver: RawDriver): Promise<void> {
  expect(await driver.ask(Request.GET_FEATURES)).toBe(DEVICE_FEATURES);
}

const receive = (): Buffer[] => bench.bench.take((_, mbufs, count) => port.rxBurst(0, mbufs, count), 0, 32);
const acknowledged = (
  driver: RawDriver,
  request: number,
  payload: Uint8Array,
  descriptors: readonly number[] = [],
): Promise<bigint | undefined> => driver.ask(request, payload, descriptors, VERSION | NEED_REPLY);
const base = async (driver: RawDriver, ring: number): Promise<readonly [ring: number, base: number]> => {
  await driver.send(Request.GET_VRING_BASE, ringState(ring, 0));
  const reply = await driver.connection.receive();
  return [reply?.payload.readUInt32LE(0) ?? -1, reply?.payload.readUInt32LE(4) ?? -1];
};

describe('the vhost-user back-end', () => {
  it('offers no feature whose prerequisite it does not offer', () => {
    // virtio 1.2, 5.1.3.1: MQ needs CTRL_VQ
    expect(DEVICE_FEATURES & (Feature.MQ | Feature.CTRL_VQ | Feature.VERSION_1 | Feature.PROTOCOL_FEATURES)).toBe(
      Feature.MQ | Feature.CTRL_VQ | Feature.VERSION_1 | Feature.PROTOCOL_FEATURES,
    );
  });

  it('refuses packed rings without VERSION_1, and takes a choice that real front-ends make', async () => {
    const driver = await connect();
    // QEMU: MQ without CTRL_VQ; DPDK: segments without checksums
    await driver.send(Request.SET_PROTOCOL_FEATURES, u64(BigInt(DEVICE_PROTOCOL_FEATURES)));
    const lacking = Feature.MQ | Feature.VERSION_1 | Feature.PROTOCOL_FEATURES | (1n << 7n) | (1n << 8n);
    expect(await acknowledged(driver, Request.SET_FEATURES, u64(lacking))).toBe(0n);
    expect(await acknowledged(driver, Request.SET_FEATURES, u64(Feature.PROTOCOL_FEATURES | (1n << 34n)))).not.toBe(0n);
    await until(1000, 'the reason', () => bench.log.some((line) => line.includes('RING_PACKED was accepted without VERSION_1')), 1);
  });

  it('answers what it has before any feature is set', async () => {
    const driver = await connect();
    expect(await driver.ask(Request.GET_PROTOCOL_FEATURES)).toBe(BigInt(DEVICE_PROTOCOL_FEATURES));
    expect(await driver.ask(Request.GET_QUEUE_NUM)).toBe(1n);
    expect(await driver.ask(Request.GET_MAX_MEM_SLOTS)).toBe(32n);
    await driver.send(Request.SET_STATUS, u64(0xb));
    expect(await driver.ask(Request.GET_STATUS)).toBe(0xbn);
  });

  it('passes packets once the rings are started and enabled', async () => {
    const driver = await connect();
    await handshake(driver);
    expect(port.link().up).toBe(true);
    driver.sendPacket(frame(60, 1));
    expect(receive()).toEqual([frame(60, 1)]);
    driver.offerReceiveBuffers(4);
    expect(bench.offer(port)).toBe(true);
    expect(driver.usedElement(0, 0)).toEqual({ id: 0, length: 72 });
  });

  it('passes nothing beyond the MTU that the front-end told, where the driver knows of it', async () => {
    const mtuBit = 1n << 3n;
    for (const [features, told, lost] of [
      [DEFAULT_FEATURES | mtuBit, 600n, 1],
      [DEFAULT_FEATURES, 600n, 0],
      [DEFAULT_FEATURES | mtuBit, undefined, 0],
    ] as const) {
      port.resetExtendedStatistics();
      const driver = await connect();
      await handshake(driver, { features });
      if (told !== undefined) expect(await acknowledged(driver, Request.NET_SET_MTU, u64(told))).toBe(0n);
      driver.offerReceiveBuffers(4);
      for (const length of [614, 615]) expect(bench.offer(port, length)).toBe(true);
      expect(driver.usedIndex(0)).toBe(2 - lost);
      expect(port.extendedStatistics()).toContainEqual({ name: 'tx_q0_oversize_packets', value: lost });
      expect(port.statistics().txErrors).toBe(lost);
      driver[Symbol.dispose]();
      await until(1000, 'the front-end is gone', () => !port.link().up, 1);
    }
  });

  it('consumes and discards what comes on a ring that is started but disabled, and only there', async () => {
    const driver = await connect();
    await handshake(driver, { without: /ENABLE/ });
    driver.sendPacket(frame(60));
    driver.offerReceiveBuffers(4);
    expect(receive()).toEqual([]);
    expect(driver.usedIndex(1)).toBe(1);
    expect(bench.offer(port)).toBe(false);
    await driver.send(Request.SET_VRING_ENABLE, ringState(1, 1));
    await settled(driver);
    // who waits for the link may send at once
    expect(port.link().up).toBe(false);
    await driver.send(Request.SET_VRING_ENABLE, ringState(0, 1));
    await settled(driver);
    expect(port.link().up).toBe(true);
    driver.sendPacket(frame(61));
    expect(receive()).toEqual([frame(61)]);
    expect(bench.offer(port)).toBe(true);
    expect(events.filter(({ type }) => type === 'queue_state')).toHaveLength(2);
    await driver.send(Request.SET_VRING_ENABLE, ringState(0, 0));
    await settled(driver);
    expect(port.link().up).toBe(true);
  });

  it('runs a ring as soon as it is enabled; the answer waits until no lcore discards any more', async () => {
    const driver = await connect();
    await handshake(driver, { without: /ENABLE/ });
    let pass = (): void => undefined;
    bench.grace = new Promise<void>((resolve) => {
      pass = resolve;
    });
    await driver.send(Request.SET_VRING_ENABLE, ringState(0, 1));
    let answer: bigint | undefined;
    const answered = acknowledged(driver, Request.SET_VRING_ENABLE, ringState(1, 1)).then((value) => {
      answer = value;
    });
    // DPDK's driver asks for no answer and sends at once
    await until(1000, 'the link', () => port.link().up, 1);
    driver.sendPacket(frame(61));
    driver.offerReceiveBuffers(4);
    expect(receive()).toEqual([frame(61)]);
    expect(bench.offer(port)).toBe(true);
    await sleep(20);
    expect(answer).toBeUndefined();
    pass();
    await answered;
    expect(answer).toBe(0n);
  });

  it('enables rings from the start when protocol features were not negotiated', async () => {
    const driver = await connect();
    await handshake(driver, { features: DEFAULT_FEATURES & ~Feature.PROTOCOL_FEATURES, without: /ENABLE|PROTOCOL|MEM_TABLE/ });
    // no acknowledgements either
    await driver.send(Request.SET_MEM_TABLE, memoryTable([WHOLE_MEMORY]), [driver.memory]);
    await settled(driver);
    driver.sendPacket(frame(60));
    expect(receive()).toEqual([frame(60)]);
  });

  it('starts a ring that has no kick descriptor', async () => {
    const driver = await connect();
    await handshake(driver, { without: /KICK/ });
    expect(port.link().up).toBe(false);
    for (const ring of [0, 1]) await driver.send(Request.SET_VRING_KICK, u64(ring | NO_DESCRIPTOR));
    await settled(driver);
    driver.sendPacket(frame(60));
    expect(receive()).toEqual([frame(60)]);
  });

  it('waits for memory that comes after the rings', async () => {
    const driver = await connect();
    await handshake(driver, { without: /MEM_TABLE/ });
    expect([port.link().up, receive()]).toEqual([false, []]);
    expect(await acknowledged(driver, Request.SET_MEM_TABLE, memoryTable([WHOLE_MEMORY]), [driver.memory])).toBe(0n);
    driver.sendPacket(frame(60));
    expect(receive()).toEqual([frame(60)]);
  });

  it('stops a ring at GET_VRING_BASE and says how far it came; another start goes on there', async () => {
    // rust-vmm/vhost#154: it must return the last available index and stop, not reset
    const driver = await connect();
    await handshake(driver);
    for (let count = 0; count < 5; count++) driver.sendPacket(frame(60, count));
    expect(receive()).toHaveLength(5);
    expect(await base(driver, 1)).toEqual([1, 5]);
    expect(port.link().up).toBe(false);
    driver.sendPacket(frame(60, 9));
    expect([receive(), driver.usedIndex(1)]).toEqual([[], 5]);
    await driver.send(Request.SET_VRING_BASE, ringState(1, 5));
    await driver.send(Request.SET_VRING_KICK, u64(1), [driver.eventFd()]);
    await settled(driver);
    expect(receive()).toEqual([frame(60, 9)]);
  });

  it('answers GET_VRING_BASE of a ring that was never set up', async () => {
    // DPDK 3c929a0bb3
    const driver = await connect();
    expect([await base(driver, 0), await base(driver, 1)]).toEqual([
      [0, 0],
      [1, 0],
    ]);
  });

  it('takes a new memory table while rings run, the same rings at another place', async () => {
    const driver = await connect();
    await handshake(driver);
    driver.sendPacket(frame(60, 1));
    expect(receive()).toHaveLength(1);
    for (let round = 0; round < 3; round++) {
      expect(await acknowledged(driver, Request.SET_MEM_TABLE, memoryTable([WHOLE_MEMORY]), [driver.memory])).toBe(0n);
      driver.sendPacket(frame(60, 2 + round));
      expect(receive()).toEqual([frame(60, 2 + round)]);
    }
  });

  it('takes memory region by region, and gives back what is removed', async () => {
    const driver = await connect();
    await handshake(driver, { without: /MEM_TABLE/ });
    const half = BigInt(MEMORY_BYTES / 2);
    const regions = [
      { ...WHOLE_MEMORY, size: half },
      { guest: WHOLE_MEMORY.guest + half, size: half, user: WHOLE_MEMORY.user + half, offset: half },
    ];
    for (const region of regions) {
      expect(await acknowledged(driver, Request.ADD_MEM_REG, Buffer.concat([u64(0), memoryRegion(region)]), [driver.memory])).toBe(0n);
    }
    driver.sendPacket(frame(60));
    expect(receive()).toEqual([frame(60)]);
    // it may carry a descriptor, which must be closed
    const descriptors = readdirSync('/proc/self/fd').length;
    const [, second = WHOLE_MEMORY] = regions;
    expect(await acknowledged(driver, Request.REM_MEM_REG, Buffer.concat([u64(0), memoryRegion(second)]), [driver.memory])).toBe(0n);
    expect(readdirSync('/proc/self/fd')).toHaveLength(descriptors - 1);
  });

  it.each([
    ['features that were not offered', Request.SET_FEATURES, u64(1n << 37n), /features 0x2000000000 go beyond the offered/],
    ['protocol features that were not offered', Request.SET_PROTOCOL_FEATURES, u64(1n << 8n), /protocol features 0x100 were not offered/],
    ['a ring that is no power of two', Request.SET_VRING_NUM, ringState(0, 100), /ring size 100/],
    ['a ring of 65536', Request.SET_VRING_NUM, ringState(0, 65_536), /ring size 65536/],
    ['a ring of nothing', Request.SET_VRING_NUM, ringState(0, 0), /ring size 0/],
    ['a ring beyond its queues', Request.SET_VRING_ENABLE, ringState(2, 1), /ring 2 of 2; raise queues= of net_vhost0/],
    ['a ring number of which 16 bits are right', Request.SET_VRING_NUM, ringState(0x1_0000, 256), /ring 65536 of 2/],
    ['a kick without its descriptor', Request.SET_VRING_KICK, u64(0), /the file descriptor is missing/],
    ['an MTU of 67', Request.NET_SET_MTU, u64(67), /MTU 67 is outside 68..65535/],
    ['a request that it does not know', 99, u64(0), /request 99: not supported by this back-end/],
    [
      'rings outside the memory',
      Request.SET_VRING_ADDR,
      ringAddresses(1, { descriptors: 16n, available: 16n, used: 16n }),
      /descriptor table of ring 1 at 0x10 lies outside the shared memory/,
    ],
    [
      'a ring that is not aligned',
      Request.SET_VRING_ADDR,
      ringAddresses(1, { descriptors: USER_BASE + 8n, available: USER_BASE, used: USER_BASE }),
      /is not aligned to 16 bytes/,
    ],
    [
      'a ring of which the end lies outside the memory',
      Request.SET_VRING_ADDR,
      ringAddresses(1, { descriptors: USER_BASE, available: USER_BASE, used: USER_BASE + BigInt(MEMORY_BYTES - 2048) }),
      /used ring of ring 1 .* lies outside the shared memory/,
    ],
  ])('refuses %s: says why, answers with an error, and hangs up', async (_, request, payload, text) => {
    const driver = await connect();
    await handshake(driver);
    expect(await acknowledged(driver, request, payload)).toBe(1n);
    await driver.connection.hangUp();
    expect(bench.log.join('\n')).toMatch(text);
    expect(bench.log.join('\n')).toMatch(/; connection closed/);
    await until(2000, 'the link to go down', () => !port.link().up, 2);
    // the next one is served
    const next = await connect();
    await handshake(next);
    next.sendPacket(frame(60));
    expect(receive()).toEqual([frame(60)]);
  });

  it('does not tell a front-end more than was negotiated', async () => {
    const driver = await connect();
    await driver.send(Request.SET_VRING_NUM, ringState(0, 256), [], VERSION | NEED_REPLY);
    await settled(driver);
  });

  it('forgets everything about a front-end that hangs up: rings, memory, descriptors', async () => {
    await sleep(50);
    const { arena } = bench.context;
    const window = arena.window.freeBytes;
    const before = readdirSync('/proc/self/fd').length;
    for (let round = 0; round < 3; round++) {
      const driver = await RawDriver.connect(path);
      await handshake(driver);
      driver.sendPacket(frame(60));
      driver[Symbol.dispose]();
      await until(2000, 'the link to go down', () => !port.link().up, 2);
      expect([receive(), bench.offer(port), arena.window.freeBytes]).toEqual([[], false, window]);
    }
    await until(2000, 'descriptors to be closed', () => readdirSync('/proc/self/fd').length <= before);
  });

  it('says why a queue stopped, and serves the next front-end', async () => {
    const driver = await connect();
    await handshake(driver);
    driver.offer(1, [300]);
    expect(receive()).toEqual([]);
    await until(3000, 'a message', () => bench.log.some((text) => text.includes('outside the ring')) || void port.statistics(), 50);
    driver[Symbol.dispose]();
    await until(2000, 'the link to go down', () => !port.link().up, 2);
    const next = await connect();
    await handshake(next);
    next.sendPacket(frame(60));
    expect(receive()).toEqual([frame(60)]);
  });
});
