/**
 * Packets as objects and bursts of handles, between both ends of a socket.
 * @module
 */
import { describe, expect, test } from 'vitest';
import { createEnvironment, VirtioError } from '../../src/index.ts';
import { packetOf, PortPair } from './pair.ts';

const MBUFS = 2048;
const small = { mbufs: MBUFS, pageSize: 4096 } as const;

describe.each(['wasm', 'javascript'] as const)('%s kernels', (target) => {
  test('what is sent is received, byte for byte and in order, in both directions', async () => {
    await using environment = createEnvironment({ ...small, target });
    await using pair = await PortPair.open(environment);
    const sizes = [60, 64, 1500, 2048, 2049, 5000, 9000];
    const packets = Array.from({ length: 700 }, (_, number) => packetOf(number, sizes[number % sizes.length] ?? 60));
    for (const [from, to] of [
      [pair.driver, pair.device],
      [pair.device, pair.driver],
    ] as const) {
      const received: Uint8Array[] = [];
      const receiving = (async () => {
        for await (const packet of to.packets()) {
          received.push(packet.bytes.slice());
          if (received.length === packets.length) return;
        }
      })();
      await from.send(packets);
      await receiving;
      expect(received.findIndex((bytes, number) => !Buffer.from(bytes).equals(packets[number] ?? new Uint8Array()))).toBe(-1);
    }
    expect(pair.driver.statistics()).toMatchObject({ rxPackets: 700, txPackets: 700 });
  });
});

test('a packet says its addresses and type, and is gone after its turn', async () => {
  await using environment = createEnvironment(small);
  await using pair = await PortPair.open(environment);
  await pair.driver.send([packetOf(1, 60), packetOf(2, 60)]);
  const seen = [];
  for await (const packet of pair.device.packets()) {
    seen.push(packet);
    expect(packet.ethernet).toEqual({ source: '02:00:00:00:00:02', destination: '02:00:00:00:00:01', type: 0x88b5 });
    expect(packet.length).toBe(60);
    if (seen.length === 2) break;
  }
  for (const packet of seen) expect(() => packet.bytes).toThrow(/freed at the end of its turn/);
});

test('leaving the loop, an error in it and an aborted signal give every packet back', async () => {
  await using environment = createEnvironment(small);
  await using pair = await PortPair.open(environment);
  const { pool } = environment.arena;
  const packets = Array.from({ length: 20 }, (_, number) => packetOf(number, 3000));
  const nothingIsLost = async (): Promise<void> => {
    await pair.driver.stop();
    expect(pool.free()).toBe(MBUFS);
    await pair.driver.start();
    await pair.device.waitForLink(true, { timeout: 5000 });
  };

  await pair.driver.send(packets);
  for await (const packet of pair.device.packets()) if (packet.length > 0) break;
  await nothingIsLost();

  await pair.driver.send(packets);
  const failing = (async () => {
    for await (const packet of pair.device.packets()) throw new Error(`seen ${packet.length}`);
  })();
  await expect(failing).rejects.toThrow('seen 3000');
  await nothingIsLost();

  await pair.driver.send(packets);
  const controller = new AbortController();
  let count = 0;
  for await (const packet of pair.device.packets({ signal: controller.signal })) {
    count += packet.length > 0 ? 1 : 0;
    if (count === 3) controller.abort();
  }
  expect(count).toBe(3);
  await nothingIsLost();
});

test('a loop that waits ends with the signal and with the port', async () => {
  await using environment = createEnvironment(small);
  const pair = await PortPair.open(environment);
  const controller = new AbortController();
  const loop = async (signal?: AbortSignal): Promise<number> => {
    let count = 0;
    for await (const packet of pair.device.packets(signal === undefined ? {} : { signal })) count += packet.queue + 1;
    return count;
  };
  const [first, second] = [loop(controller.signal), loop()];
  controller.abort();
  expect(await first).toBe(0);
  await pair[Symbol.asyncDispose]();
  expect(await second).toBe(0);
});

test('send waits while the ring is full, and gives up with its signal', async () => {
  await using environment = createEnvironment(small);
  await using pair = await PortPair.open(environment);
  const signal = AbortSignal.timeout(100);
  // more than the ring holds, and nobody receives
  const packets = Array.from({ length: 600 }, (_, number) => packetOf(number, 60));
  await expect(pair.driver.send(packets, { signal })).rejects.toThrow(/timeout/i);
  const more = pair.driver.send(packetOf(999, 999));
  let last = 0;
  for await (const packet of pair.device.packets()) {
    last = packet.length;
    if (last === 999) break;
  }
  await more;
  expect(last).toBe(999);
});

describe.each([{ packed_vq: false }, { packed_vq: true }])(
  'few mbufs, packed_vq $packed_vq: what lies in the transmit ring, sent, is taken back',
  (keys) => {
    // the receive ring takes 256 of them, and the transmit ring has room for more than the others
    const few = { mbufs: 256 + 144, pageSize: 4096, cacheSize: 32 } as const;

    test('by allocate', async () => {
      await using environment = createEnvironment(few);
      await using pair = await PortPair.open(environment, keys);
      const { arena } = environment;
      using burst = arena.burst(128);
      for (let round = 0; round < 20; round++) {
        const count = round % 2 === 0 ? 40 : 128;
        expect(arena.allocate(burst, count), `round ${round}`).toBe(count);
        for (const handle of burst.handles.subarray(0, count)) arena.setLength(handle, 60);
        // what the device has not taken is not taken back
        expect(pair.driver.txBurst(0, burst, count)).toBe(count);
        expect(arena.allocate(burst, 128)).toBe(0);
        let left = count;
        while (left > 0) {
          const received = pair.device.rxBurst(0, burst, Math.min(left, 16));
          expect(received).toBeGreaterThan(0);
          arena.free(burst, received);
          left -= received;
        }
      }
      expect(pair.device.statistics().rxPackets).toBe(10 * 168);
    });

    test('by send', async () => {
      await using environment = createEnvironment(few);
      await using pair = await PortPair.open(environment, keys, small);
      const packets = Array.from({ length: 1000 }, (_, number) => packetOf(number, 60 + (number % 1000)));
      const sending = pair.driver.send(packets);
      let received = 0;
      for await (const { bytes } of pair.device.packets({ signal: AbortSignal.timeout(10_000) })) {
        if (!Buffer.from(bytes).equals(packets[received] ?? new Uint8Array())) throw new Error(`packet ${received} is not what was sent`);
        if (++received === packets.length) break;
      }
      expect(received).toBe(packets.length);
      await sending;
    });
  },
);

test('more mbufs at once than a thread keeps for itself: those that it has count', async () => {
  await using environment = createEnvironment({ mbufs: 600, pageSize: 4096, cacheSize: 250 });
  const { arena } = environment;
  using burst = arena.burst(512);
  for (let round = 0; round < 3; round++) {
    expect(arena.allocate(burst, 512)).toBe(512);
    expect(new Set(burst.handles).size).toBe(512);
    using more = arena.burst(512);
    expect(arena.allocate(more, 300)).toBe(0);
    expect(arena.pool.free()).toBe(88);
    arena.free(burst, 512);
  }
  expect(arena.pool.free()).toBe(600);
});

test('several sends at once keep their order', async () => {
  await using environment = createEnvironment(small);
  await using pair = await PortPair.open(environment);
  const sends = Array.from({ length: 40 }, (_, turn) =>
    pair.driver.send(Array.from({ length: 20 }, (__, index) => packetOf(0, 60 + turn * 20 + index))),
  );
  const lengths: number[] = [];
  for await (const packet of pair.device.packets()) {
    lengths.push(packet.length);
    if (lengths.length === 800) break;
  }
  await Promise.all(sends);
  expect(lengths).toEqual(Array.from({ length: 800 }, (_, index) => 60 + index));
});

test('send refuses what cannot be sent', async () => {
  await using environment = createEnvironment(small);
  await using pair = await PortPair.open(environment);
  await expect(pair.driver.send(new Uint8Array(13))).rejects.toThrow(RangeError);
  await expect(pair.driver.send(new Uint8Array(9729))).rejects.toThrow(/14\.\.9728/);
  await pair.driver.stop();
  await expect(pair.driver.send(new Uint8Array(60))).rejects.toThrow(
    new VirtioError('virtio_user0: cannot send, the port is stopped', { code: 'ENETDOWN' }),
  );
});

test('bursts of handles: allocated, written, sent, received and freed', async () => {
  await using environment = createEnvironment(small);
  await using pair = await PortPair.open(environment, { queues: 2 });
  const { arena } = environment;
  using out = arena.burst(8);
  using back = arena.burst(8);
  expect(arena.allocate(out, 8)).toBe(8);
  for (const [index, handle] of out.handles.entries()) arena.write(handle, packetOf(index, 60 + index));
  expect(pair.driver.txBurst(1, out, 8)).toBe(8);
  expect(pair.device.rxBurst(0, back, 8)).toBe(0);
  expect(pair.device.rxBurst(1, back, 4)).toBe(4);
  expect(pair.device.rxBurst(1, back, 4, 4)).toBe(4);
  expect([...back.handles].map((handle) => arena.length(handle))).toEqual([60, 61, 62, 63, 64, 65, 66, 67]);
  const [first = 0] = back.handles;
  expect(arena.bytes(first)).toEqual(packetOf(0, 60));
  expect(arena.u8[arena.data(first) + 12]).toBe(0x88);
  expect([arena.segments(first), arena.next(first), arena.port(first)]).toEqual([1, 0, pair.device.id]);
  arena.free(back, 8);

  expect(() => pair.driver.txBurst(0, out, 9)).toThrow(RangeError);
  expect(() => pair.driver.rxBurst(2, back, 8)).toThrow(/no receive queue 2/);
  expect(() => arena.burst(0)).toThrow(RangeError);
  expect(() => arena.write(first, new Uint8Array(2049))).toThrow(/0\.\.2048/);
  expect(arena.allocate(arena.burst(512), 512) + arena.allocate(arena.burst(512), 512)).toBe(1024);
  out.close();
  expect(() => pair.driver.txBurst(0, out, 1)).toThrow(/closed/);
});
