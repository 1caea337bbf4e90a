/** The back-end behind an IOMMU (VIRTIO_F_ACCESS_PLATFORM), told and asked by a front-end written by hand. */
import { mkdtempSync, openSync, readdirSync, rmSync, closeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Port } from '../../src/port/port.ts';
import { sleep, until } from '../support/deadline.ts';
import { PortBench } from '../support/port-pair.ts';
import { PAGE, RawIommu, ringIova, ringOffset } from '../support/raw-iommu.ts';
import {
  bufferOffset,
  DEFAULT_FEATURES,
  DESC_F_WRITE,
  descriptorBytes,
  guestAddress,
  MEMORY_BYTES,
  RawDriver,
  ringAddressesAt,
  USER_BASE,
  WHOLE_MEMORY,
} from '../support/raw-driver.ts';
import { frame } from '../support/ring-pair.ts';
import { Feature, iotlbMessage, IotlbType, memoryTable, message, Request, ringState, u64 } from '../support/vhost-user-messages.ts';

const READ = 1;
const WRITE = 2;
const MISS = IotlbType.MISS;

const directory = mkdtempSync(join(tmpdir(), 'dpdk-ts-iotlb-'));
afterAll(() => rmSync(directory, { recursive: true }));
let names = 0;
let path: string;
let bench: PortBench;
let port: Port;
let iommu: RawIommu;
beforeEach(async () => {
  path = join(directory, `${names++}.sock`);
  bench = new PortBench();
  port = await bench.open(`net_vhost0,iface=${path},iommu-support=1`);
  iommu = await RawIommu.connect(path);
});
afterEach(async () => {
  iommu[Symbol.dispose]();
  await bench[Symbol.asyncDispose]();
});

const receive = (): Buffer[] => bench.bench.take((_, mbufs, count) => port.rxBurst(0, mbufs, count), 0, 32);

/** A handshake, its rings translated without having been asked about further. */
async function started(): Promise<void> {
  await iommu.handshake();
  await iommu.questions(6);
  await iommu.updateRings();
  expect(port.link().up).toBe(true);
}

async function logged(text: RegExp): Promise<void> {
  await until(
    3000,
    () => `${String(text)} in ${bench.log.join('\n')}`,
    () => text.test(bench.log.join('\n')),
    2,
  );
}

describe('what is offered', () => {
  it('is ACCESS_PLATFORM and BACKEND_REQ with iommu-support=1', async () => {
    const { driver } = iommu;
    expect((await driver.ask(Request.GET_FEATURES)) ?? 0n).toBe(Feature.ACCESS_PLATFORM | ((await driver.ask(Request.GET_FEATURES)) ?? 0n));
    expect(((await driver.ask(Request.GET_PROTOCOL_FEATURES)) ?? 0n) & (1n << 5n)).toBe(1n << 5n);
  });

  it('is neither without', async () => {
    const other = join(directory, 'without.sock');
    await bench.open(`net_vhost1,iface=${other}`);
    using driver = await RawDriver.connect(other);
    expect(((await driver.ask(Request.GET_FEATURES)) ?? 0n) & Feature.ACCESS_PLATFORM).toBe(0n);
    expect(((await driver.ask(Request.GET_PROTOCOL_FEATURES)) ?? 0n) & (1n << 5n)).toBe(0n);
  });

  it('need not be taken', async () => {
    await iommu.driver.handshake();
    iommu.driver.sendPacket(frame(60));
    expect(receive()).toEqual([frame(60)]);
  });
});

describe('rings at I/O virtual addresses', () => {
  it('are asked for with what the device does with them, and start when they have been translated', async () => {
    await iommu.handshake();
    const asked = await iommu.questions(6);
    for (const queue of [0, 1]) {
      const { descriptors, available, used } = ringAddressesAt(ringIova(queue));
      expect(asked).toContainEqual({ type: MISS, address: descriptors, permission: READ });
      expect(asked).toContainEqual({ type: MISS, address: available, permission: READ });
      expect(asked).toContainEqual({ type: MISS, address: used, permission: WRITE });
    }
    expect(port.link().up).toBe(false);
    // the first three pages, and not yet those of the other ring
    await iommu.update(ringIova(0), ringOffset(0), 0x3000n);
    expect(port.link().up).toBe(false);
    await iommu.updateRings();
    expect(port.link().up).toBe(true);
  });

  it('are asked for page by page', async () => {
    await iommu.handshake({ rings: (queue) => ({ ...ringAddressesAt(ringIova(queue)), used: ringIova(queue) + 0x2800n }) });
    const asked = await iommu.questions(8);
    expect(asked).toContainEqual({ type: MISS, address: ringIova(1) + 0x2800n, permission: WRITE });
    expect(asked).toContainEqual({ type: MISS, address: ringIova(1) + 0x3000n, permission: WRITE });
  });

  it('are refused when a part lies on pages that are not side by side', async () => {
    await iommu.handshake({ rings: (queue) => ({ ...ringAddressesAt(ringIova(queue)), used: ringIova(queue) + 0x2800n }) });
    await iommu.update(ringIova(0), ringOffset(0), 0x3000n);
    expect(await iommu.update(ringIova(0) + 0x3000n, ringOffset(0) + 0x5000)).toBe(1n);
    await iommu.driver.connection.hangUp();
    await logged(
      /IOTLB_MSG: the used ring of ring 0 at 0xffff2800 is translated to pages that do not lie side by side; .*connection closed/,
    );
  });

  it('go on where they were after they were taken away and came back, elsewhere too', async () => {
    await started();
    const { driver } = iommu;
    await iommu.update(guestAddress(0), 0, BigInt(MEMORY_BYTES));
    for (const round of [0, 1]) driver.sendPacket(frame(60, round));
    expect(receive()).toEqual([frame(60, 0), frame(60, 1)]);
    expect(await iommu.invalidate(ringIova(1), PAGE)).toBe(0n);
    expect(await iommu.questions(1)).toEqual([{ type: MISS, address: ringIova(1), permission: READ }]);
    driver.sendPacket(frame(60, 2));
    expect([receive(), driver.usedIndex(1)]).toEqual([[], 2]);
    await iommu.update(ringIova(1), ringOffset(1));
    expect([receive(), driver.usedIndex(1)]).toEqual([[frame(60, 2)], 3]);
    // the driver's descriptors are on another page from now on
    driver.sendPacket(frame(60, 3));
    driver.write(ringOffset(5), driver.read(ringOffset(1), 4096));
    driver.write(ringOffset(1), new Uint8Array(4096));
    await iommu.update(ringIova(1), ringOffset(5));
    expect(receive()).toEqual([frame(60, 3)]);
  });

  it('tell the base of a queue whose ring was taken away', async () => {
    await started();
    await iommu.update(guestAddress(0), 0, BigInt(MEMORY_BYTES));
    iommu.driver.sendPacket(frame(60));
    expect(receive()).toHaveLength(1);
    await iommu.invalidate(0n, 0n);
    expect(await iommu.driver.ask(Request.GET_VRING_BASE, ringState(1, 0))).toBe((1n << 32n) | 1n);
  });

  it('are asked for again when the memory changes', async () => {
    await started();
    const { driver } = iommu;
    await iommu.update(guestAddress(0), 0, BigInt(MEMORY_BYTES));
    expect(await iommu.call(Request.SET_MEM_TABLE, memoryTable([WHOLE_MEMORY]), [driver.memory])).toBe(0n);
    await iommu.questions(6);
    driver.sendPacket(frame(60));
    expect(receive()).toEqual([]);
    await iommu.updateRings();
    await iommu.update(guestAddress(0), 0, BigInt(MEMORY_BYTES));
    expect(receive()).toEqual([frame(60)]);
  });
});

describe('buffers at I/O virtual addresses', () => {
  it('that cannot be read yet stay in the ring until they have been asked for and translated', async () => {
    await started();
    const { driver } = iommu;
    for (const seed of [0, 1]) driver.sendPacket(frame(60, seed));
    expect([receive(), driver.usedIndex(1)]).toEqual([[], 0]);
    // both lie in one page
    expect(await iommu.questions(2)).toEqual([
      { type: MISS, address: guestAddress(bufferOffset(1, 0)), permission: READ },
      { type: MISS, address: guestAddress(bufferOffset(1, 1)), permission: READ },
    ]);
    expect(receive()).toEqual([]);
    await iommu.update(guestAddress(bufferOffset(1, 0)), bufferOffset(1, 0), PAGE, READ);
    expect([receive(), driver.usedIndex(1)]).toEqual([[frame(60, 0), frame(60, 1)], 2]);
  });

  it('are asked for ahead, before a packet needs them', async () => {
    await started();
    iommu.driver.offerReceiveBuffers(3);
    expect(await iommu.questions(3)).toEqual(
      [0, 1, 2].map((index) => ({ type: MISS, address: guestAddress(bufferOffset(0, index)), permission: WRITE })),
    );
    await iommu.update(guestAddress(bufferOffset(0, 0)), bufferOffset(0, 0), 2n * PAGE, WRITE);
    expect(bench.offer(port)).toBe(true);
    expect(iommu.driver.usedElement(0, 0)).toEqual({ id: 0, length: 72 });
    expect(iommu.driver.read(bufferOffset(0, 0) + 12, 60)).toEqual(frame(60));
  });

  it('are not written when they may be read only: the front-end is told so, once, and nothing is lost', async () => {
    await started();
    iommu.driver.offerReceiveBuffers(1);
    const address = guestAddress(bufferOffset(0, 0));
    await iommu.questions(1);
    expect(await iommu.update(address, bufferOffset(0, 0), PAGE, READ)).toBe(0n);
    expect(await iommu.questions(1)).toEqual([{ type: IotlbType.ACCESS_FAIL, address, permission: WRITE }]);
    expect(bench.offer(port)).toBe(false);
    expect(iommu.driver.read(bufferOffset(0, 0), 2048)).toEqual(Buffer.alloc(2048));
    await iommu.update(address, bufferOffset(0, 0), PAGE, READ | WRITE);
    expect(bench.offer(port)).toBe(true);
  });

  it('are other memory after INVALIDATE and UPDATE', async () => {
    await started();
    const { driver } = iommu;
    const address = guestAddress(bufferOffset(1, 0));
    await iommu.update(address, bufferOffset(1, 0));
    driver.sendPacket(frame(60, 1));
    expect(receive()).toEqual([frame(60, 1)]);
    expect(await iommu.invalidate(address, PAGE)).toBe(0n);
    driver.writeDescriptor(1, 1, { address, length: 72 });
    driver.offer(1, [1]);
    expect(receive()).toEqual([]);
    await iommu.update(address, bufferOffset(1, 100));
    driver.write(bufferOffset(1, 100) + 12, frame(60, 9));
    expect(receive()).toEqual([frame(60, 9)]);
    // and without INVALIDATE
    driver.writeDescriptor(1, 2, { address, length: 72 });
    driver.offer(1, [2]);
    await iommu.update(address, bufferOffset(1, 200));
    driver.write(bufferOffset(1, 200) + 12, frame(60, 10));
    expect(receive()).toEqual([frame(60, 10)]);
  });

  it('come and go under traffic, and every packet is whole', async () => {
    await iommu.handshake();
    iommu.mapAll();
    iommu.answer();
    await until(3000, 'the link', () => port.link().up, 2);
    const { driver } = iommu;
    let received = 0;
    let accepted = 0;
    driver.offerReceiveBuffers(200);
    for (let round = 0; round < 12; round++) {
      driver.sendPacket(frame(60 + (round % 7), round));
      await until(
        3000,
        `packet ${round}`,
        () => {
          for (const bytes of receive()) expect(bytes).toEqual(frame(60 + (received % 7), received++));
          return received === round + 1;
        },
        1,
      );
      if (bench.offer(port)) accepted++;
      if (round % 3 === 0)
        expect(await iommu.invalidate(round % 2 === 0 ? 0n : guestAddress(0), round % 2 === 0 ? 0n : BigInt(MEMORY_BYTES))).toBe(0n);
    }
    await until(
      3000,
      'the receive queue',
      () => {
        if (bench.offer(port)) accepted++;
        return accepted >= 10;
      },
      2,
    );
    expect(driver.usedIndex(0)).toBe(accepted);
    for (let index = 0; index < accepted; index++) expect(driver.read(bufferOffset(0, index) + 12, 60)).toEqual(frame(60));
  }, 60_000);
});

describe('counters', () => {
  const counters = (): Record<string, number> =>
    Object.fromEntries(
      port
        .extendedStatistics()
        .filter(({ name }) => name.includes('iotlb'))
        .map(({ name, value }) => [name, value]),
    );

  it('tell of questions, answers, waits and what is known, and are reset with the others', async () => {
    await started();
    const { driver } = iommu;
    expect(counters()).toEqual({
      rx_q0_iotlb_misses: 0,
      tx_q0_iotlb_misses: 0,
      iotlb_questions: 6,
      iotlb_refusals: 0,
      iotlb_updates: 2,
      iotlb_invalidations: 0,
      iotlb_read_entries: 2,
      iotlb_write_entries: 2,
    });
    port.resetExtendedStatistics();
    const address = guestAddress(bufferOffset(1, 0));
    driver.sendPacket(frame(60));
    expect(receive()).toEqual([]);
    await iommu.questions(1);
    await iommu.update(address, bufferOffset(1, 0), PAGE, WRITE);
    await iommu.update(address, bufferOffset(1, 0), PAGE, READ);
    expect(receive()).toEqual([frame(60)]);
    await iommu.invalidate(address, PAGE);
    expect(counters()).toEqual({
      rx_q0_iotlb_misses: 1,
      tx_q0_iotlb_misses: 0,
      iotlb_questions: 1,
      iotlb_refusals: 1,
      iotlb_updates: 2,
      iotlb_invalidations: 1,
      iotlb_read_entries: 2,
      iotlb_write_entries: 2,
    });
  });

  it('are not there without iommu-support', async () => {
    const other = await bench.open(`net_vhost1,iface=${join(directory, 'counters.sock')}`);
    expect(other.extendedStatistics().filter(({ name }) => name.includes('iotlb'))).toEqual([]);
  });
});

describe('packed rings', () => {
  /** Event suppression structures where a split ring has its other parts; all on pages of their own. */
  const parts = (queue: number): { descriptors: number; driver: number; device: number } => ({
    descriptors: ringOffset(queue),
    driver: ringOffset(queue) + 0x1000,
    device: ringOffset(queue) + 0x2000,
  });
  const [AVAIL, USED] = [0x80, 0x8000];
  const places = { 0: 0, 1: 0 };
  beforeEach(() => {
    places[0] = places[1] = 0;
  });

  async function packed(): Promise<void> {
    await iommu.handshake({ features: DEFAULT_FEATURES | Feature.ACCESS_PLATFORM | Feature.RING_PACKED, base: 0x8000_8000 });
    await iommu.questions(6);
  }

  /** Makes one descriptor of the first lap available. */
  function offer(queue: 0 | 1, address: bigint, length: number, flags = 0): void {
    const place = places[queue]++;
    // id and flags last
    const bytes = descriptorBytes({ address, length, flags: place, next: flags | AVAIL });
    const at = parts(queue).descriptors + 16 * place;
    iommu.driver.write(at, bytes.subarray(0, 12));
    iommu.driver.write(at + 12, bytes.subarray(12));
  }

  function sendPacket(bytes: Uint8Array): bigint {
    const offset = bufferOffset(1, places[1]);
    iommu.driver.write(offset + 12, bytes);
    offer(1, guestAddress(offset), 12 + bytes.length);
    return guestAddress(offset);
  }

  const isUsed = (queue: number, place: number): boolean =>
    (iommu.driver.read(parts(queue).descriptors + 16 * place + 14, 2).readUInt16LE() & (AVAIL | USED)) === (AVAIL | USED);

  it('are asked for as what is written: all of their descriptors, and one event word', async () => {
    await iommu.handshake({ features: DEFAULT_FEATURES | Feature.ACCESS_PLATFORM | Feature.RING_PACKED, base: 0x8000_8000 });
    const asked = await iommu.questions(6);
    for (const queue of [0, 1]) {
      const { descriptors, available, used } = ringAddressesAt(ringIova(queue));
      expect(asked).toContainEqual({ type: MISS, address: descriptors, permission: WRITE });
      expect(asked).toContainEqual({ type: MISS, address: available, permission: READ });
      expect(asked).toContainEqual({ type: MISS, address: used, permission: WRITE });
    }
    await iommu.updateRings();
    expect(port.link().up).toBe(true);
  });

  it('wait for translations of buffers, both ways, and lose nothing', async () => {
    await packed();
    await iommu.updateRings();
    const first = sendPacket(frame(60, 1));
    const second = sendPacket(frame(61, 2));
    expect([receive(), isUsed(1, 0)]).toEqual([[], false]);
    await iommu.questions(2);
    await iommu.update((first / PAGE) * PAGE, bufferOffset(1, 0), PAGE, READ);
    expect(second / PAGE).toBe(first / PAGE);
    expect(receive()).toEqual([frame(60, 1), frame(61, 2)]);
    expect([isUsed(1, 0), isUsed(1, 1)]).toEqual([true, true]);
    // to the driver: the buffer may not be written at first
    offer(0, guestAddress(bufferOffset(0, 0)), 0x800, DESC_F_WRITE);
    await iommu.questions(1);
    await iommu.update(guestAddress(bufferOffset(0, 0)), bufferOffset(0, 0), PAGE, READ);
    expect([bench.offer(port), isUsed(0, 0)]).toEqual([false, false]);
    await iommu.update(guestAddress(bufferOffset(0, 0)), bufferOffset(0, 0), PAGE, WRITE);
    expect([bench.offer(port), isUsed(0, 0)]).toEqual([true, true]);
    expect(iommu.driver.read(bufferOffset(0, 0) + 12, 60)).toEqual(frame(60));
  });

  it('go on at their place after they were taken away and came back, elsewhere too', async () => {
    await packed();
    await iommu.updateRings();
    await iommu.update(guestAddress(0), 0, BigInt(MEMORY_BYTES));
    sendPacket(frame(60, 1));
    expect(receive()).toEqual([frame(60, 1)]);
    await iommu.invalidate(ringIova(1), PAGE);
    expect(await iommu.questions(1)).toEqual([{ type: MISS, address: ringIova(1), permission: WRITE }]);
    sendPacket(frame(60, 2));
    expect(receive()).toEqual([]);
    iommu.driver.write(ringOffset(5), iommu.driver.read(ringOffset(1), 4096));
    await iommu.update(ringIova(1), ringOffset(5));
    expect(receive()).toEqual([frame(60, 2)]);
    expect(iommu.driver.read(ringOffset(5) + 16 + 14, 2).readUInt16LE() & (AVAIL | USED)).toBe(AVAIL | USED);
    expect(isUsed(1, 1)).toBe(false);
  });
});

describe('a front-end that breaks the rules', () => {
  it.each([
    [
      'a translation outside the memory',
      { address: 0n, size: PAGE, user: USER_BASE + BigInt(MEMORY_BYTES) },
      /leads to 0x7f1180600000, outside/,
    ],
    ['one that ends outside', { address: 0n, size: 2n * PAGE, user: USER_BASE + BigInt(MEMORY_BYTES) - PAGE }, /outside the shared memory/],
    ['a translation of nothing', { address: 0n, size: 0n, user: USER_BASE }, /is empty/],
    ['one of 2^64-1 bytes', { address: 0n, size: (1n << 64n) - 1n, user: USER_BASE }, /outside the shared memory/],
    ['one that ends beyond 2^64', { address: (1n << 64n) - PAGE, size: 2n * PAGE, user: USER_BASE }, /ends beyond 2\^64/],
    ['a permission of 0', { address: 0n, size: PAGE, user: USER_BASE, permission: 0 }, /impossible permission 0/],
    ['a permission of 4', { address: 0n, size: PAGE, user: USER_BASE, permission: 4 }, /impossible permission 4/],
    ['a question of its own', { type: MISS, address: 0n }, /type 1 is neither UPDATE nor INVALIDATE/],
  ])('loses its connection for %s', async (_, lie, text) => {
    await started();
    expect(await iommu.call(Request.IOTLB_MSG, iotlbMessage({ type: IotlbType.UPDATE, permission: 3, ...lie }))).toBe(1n);
    await iommu.driver.connection.hangUp();
    await logged(text);
    await until(2000, 'the link to go down', () => !port.link().up, 2);
  });

  it('loses it for a short message, and for one without ACCESS_PLATFORM', async () => {
    await started();
    expect(await iommu.call(Request.IOTLB_MSG, Buffer.alloc(16))).toBe(1n);
    await logged(/IOTLB_MSG: 16 bytes of 32/);
    using other = await RawIommu.connect(path);
    await other.driver.handshake();
    expect(await other.update(0n, 0)).toBe(1n);
    await logged(/VIRTIO_F_ACCESS_PLATFORM was not negotiated/);
  });

  it('loses it for a back-end channel that is no socket or was not negotiated', async () => {
    const file = openSync('/dev/null', 'r');
    await iommu.handshake();
    expect(await iommu.call(Request.SET_BACKEND_REQ_FD, new Uint8Array(), [file])).toBe(1n);
    await logged(/SET_BACKEND_REQ_FD: the file descriptor is not a socket/);
    using other = await RawIommu.connect(path);
    await other.driver.handshake();
    expect(await other.call(Request.SET_BACKEND_REQ_FD, new Uint8Array(), [file])).toBe(1n);
    await logged(/SET_BACKEND_REQ_FD: a back-end channel was not negotiated/);
    closeSync(file);
  });

  it('may send thousands of translations: what came last stands', async () => {
    await started();
    const { driver } = iommu;
    const own = bench.context.arena.own.freeBytes;
    const update = (index: number): Buffer =>
      message(
        Request.IOTLB_MSG,
        iotlbMessage({
          type: IotlbType.UPDATE,
          address: (1n << 40n) + BigInt(index) * 2n * PAGE,
          size: PAGE,
          user: USER_BASE + PAGE * BigInt(index % 1000),
          permission: 3,
        }),
      );
    for (let first = 0; first < 4500; first += 250) {
      await driver.connection.send(Buffer.concat(Array.from({ length: 250 }, (_, index) => update(first + index))));
      await iommu.settled();
    }
    expect(bench.context.arena.own.freeBytes).toBe(own);
    // the rings are translated still: they are not looked up again
    driver.write(499 * 4096 + 12, frame(60));
    driver.writeDescriptor(1, 0, { address: (1n << 40n) + 4499n * 2n * PAGE, length: 72 });
    driver.offer(1, [0]);
    expect(receive()).toEqual([frame(60)]);
  }, 60_000);

  it('may overlap its translations: the last one counts, of each byte', async () => {
    await started();
    const { driver } = iommu;
    const address = 1n << 50n;
    await iommu.update(address, 0x10_0000, 4n * PAGE);
    await iommu.update(address + PAGE, 0x20_0000, PAGE);
    driver.write(0x20_0000 + 12, frame(60, 1));
    driver.write(0x10_2000 + 12, frame(60, 2));
    for (const [index, at] of [PAGE, 2n * PAGE].entries()) driver.writeDescriptor(1, index, { address: address + at, length: 72 });
    driver.offer(1, [0, 1]);
    expect(receive()).toEqual([frame(60, 1), frame(60, 2)]);
  });

  it('that never answers is asked again now and then, about few addresses, and the port lives on', async () => {
    await started();
    const { driver } = iommu;
    for (let index = 0; index < 200; index++) driver.sendPacket(frame(60, index));
    const end = Date.now() + 1800;
    while (Date.now() < end) {
      expect(receive()).toEqual([]);
      await sleep(5);
    }
    const asked = await iommu.questions(128);
    // what a queue waits for is among them each time
    expect(asked.filter(({ address }) => address === guestAddress(bufferOffset(1, 0)))).toHaveLength(2);
    await expect(iommu.channel.receive(100)).rejects.toThrow();
    // a buffer of 4 GiB, even, is not asked about page by page
    await iommu.update(guestAddress(0), 0, BigInt(MEMORY_BYTES));
    driver.writeDescriptor(0, 0, { address: 1n << 60n, length: 0xffff_ffff, flags: DESC_F_WRITE });
    driver.offer(0, [0]);
    expect(await iommu.questions(16)).toHaveLength(16);
    await expect(iommu.channel.receive(100)).rejects.toThrow();
  });

  it('that goes with questions open leaves nothing behind', async () => {
    await sleep(20);
    const descriptors = readdirSync('/proc/self/fd').length;
    const { arena } = bench.context;
    const window = arena.window.freeBytes;
    for (let round = 0; round < 3; round++) {
      const other = round === 0 ? iommu : await RawIommu.connect(path);
      await other.handshake();
      await other.questions(6);
      await other.updateRings();
      other.driver.sendPacket(frame(60));
      expect(receive()).toEqual([]);
      other[Symbol.dispose]();
      await until(2000, 'the link to go down', () => !port.link().up && arena.window.freeBytes === window, 2);
    }
    await until(2000, 'descriptors to be closed', () => readdirSync('/proc/self/fd').length <= descriptors);
    // one without an IOMMU is served as ever
    using plain = await RawDriver.connect(path);
    await plain.handshake();
    plain.sendPacket(frame(60));
    expect(receive()).toEqual([frame(60)]);
  });
});

describe('the back-end channel', () => {
  it('that was never sent: the queue waits, one line says so, and translations that come unasked do', async () => {
    await iommu.handshake({ channel: false });
    await logged(/has no back-end channel to be asked on; the queue waits/);
    await iommu.updateRings();
    await iommu.update(guestAddress(0), 0, BigInt(MEMORY_BYTES));
    iommu.driver.sendPacket(frame(60));
    expect(receive()).toEqual([frame(60)]);
    expect(bench.log.filter((text) => text.includes('back-end channel'))).toHaveLength(1);
  });

  it('that the front-end closes is missed, and another one takes its place', async () => {
    await started();
    iommu.channel[Symbol.dispose]();
    await logged(/back-end channel closed: the front-end closed it/);
    iommu.driver.sendPacket(frame(60));
    expect(receive()).toEqual([]);
    expect(await iommu.sendChannel()).toBe(0n);
    expect(await iommu.questions(1)).toEqual([{ type: MISS, address: guestAddress(bufferOffset(1, 0)), permission: READ }]);
    await iommu.update(guestAddress(0), 0, BigInt(MEMORY_BYTES));
    expect(receive()).toEqual([frame(60)]);
  });

  it('is closed when the front-end speaks on it unasked, descriptors and all', async () => {
    await started();
    const descriptors = readdirSync('/proc/self/fd').length;
    await iommu.channel.send(message(1, u64(0)), [iommu.driver.memory]);
    await iommu.channel.hangUp();
    await logged(/back-end channel closed: the front-end spoke without having been asked/);
    await until(2000, 'descriptors to be closed', () => readdirSync('/proc/self/fd').length < descriptors);
    await iommu.settled();
  });

  it('survives half a message for as long as any connection does', async () => {
    await started();
    await iommu.channel.send(message(1, u64(0)).subarray(0, 7));
    iommu.driver.sendPacket(frame(60));
    expect(receive()).toEqual([]);
    await iommu.questions(1);
    await iommu.update(guestAddress(0), 0, BigInt(MEMORY_BYTES));
    expect(receive()).toEqual([frame(60)]);
    iommu.channel[Symbol.dispose]();
    await logged(/back-end channel closed: .*closed in the middle of a message/);
  });
});
