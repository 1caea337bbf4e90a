/**
 * A front-end behind an IOMMU that breaks the rules of IOTLB messages against our net_vhost with iommu-support=1: it loses its connection
 * or waits for its own translations, nothing outside of what it shares is read or written, and the ports beside it go on.
 */
import { randomBytes } from 'node:crypto';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { sleep, until } from '../support/deadline.ts';
import { echo } from '../support/echo.ts';
import { whyMissing } from '../support/program.ts';
import { bufferOffset, DESC_F_INDIRECT, DESC_F_WRITE, guestAddress, MEMORY_BYTES, USER_BASE } from '../support/raw-driver.ts';
import { PAGE, RawIommu, ringIova, ringOffset } from '../support/raw-iommu.ts';
import { iotlbMessage, IotlbType, memoryTable, message, Request, u64, VERSION, type IotlbFields } from '../support/vhost-user-messages.ts';
import { Arena, type Victim } from '../support/victim.ts';

const { UPDATE, INVALIDATE, MISS, ACCESS_FAIL } = IotlbType;
const U64_MAX = 0xffff_ffff_ffff_ffffn;
const END = USER_BASE + BigInt(MEMORY_BYTES);
const READ = 1;
const WRITE = 2;

/** An honest front-end, which answers what it is asked, sends packets and gets them back. */
async function expectTranslatedEcho(victim: Victim): Promise<void> {
  using iommu = await RawIommu.connect(victim.socket);
  iommu.mapAll();
  await iommu.handshake();
  iommu.answer();
  await victim.testpmd.waitForLink(true, 0);
  const buffers = Array.from({ length: 64 }, (_, buffer) => guestAddress(bufferOffset(0, buffer)) / PAGE);
  iommu.driver.offerReceiveBuffers(buffers.length);
  // asked for ahead, lest the engine finds receive buffers that it may not write yet
  await until(10_000, 'translations of all receive buffers', () => buffers.every((page) => iommu.answeredPages.has(page)));
  await echo(iommu.driver, 3);
}

/** Rings translated, nothing else. */
async function started(victim: Victim): Promise<RawIommu> {
  const iommu = await RawIommu.connect(victim.socket);
  await iommu.handshake();
  await iommu.questions(6);
  await iommu.updateRings();
  return iommu;
}

const raw = (iommu: RawIommu, payload: Uint8Array, descriptors: readonly number[] = []): Promise<void> =>
  iommu.driver.connection.send(message(Request.IOTLB_MSG, payload, VERSION), descriptors);

describe.skipIf(whyMissing('dpdk-ts') !== undefined)('a front-end that breaks the rules of its IOMMU', () => {
  const arena = new Arena((socket) => `net_vhost0,iface=${socket},queues=1,iommu-support=1`, expectTranslatedEcho);
  beforeEach(() => arena.open(), 30_000);
  afterAll(() => arena.close());

  const good = { type: UPDATE, address: 1n << 40n, size: PAGE, user: USER_BASE, permission: 3 };
  const lies: readonly (readonly [name: string, lie: IotlbFields | Uint8Array])[] = [
    ['a translation of nothing', { ...good, size: 0n }],
    ['one of 2^64-1 bytes', { ...good, address: 0n, size: U64_MAX }],
    ['one that ends beyond 2^64', { ...good, address: U64_MAX - 4095n, size: 2n * PAGE }],
    ['one whose user address overflows', { ...good, user: U64_MAX - 4095n, size: 2n * PAGE }],
    ['one below the memory', { ...good, user: USER_BASE - PAGE }],
    ['one at its end', { ...good, user: END }],
    ['one across its end', { ...good, user: END - PAGE, size: 2n * PAGE }],
    ['one byte across its end', { ...good, user: END - PAGE, size: PAGE + 1n }],
    ['one of 4 GiB and a page, whose size wraps to a page', { ...good, size: (1n << 32n) + PAGE }],
    ['one to address 0 of the process', { ...good, user: 0n }],
    ['one without a permission', { ...good, permission: 0 }],
    ['one with a permission of 4', { ...good, permission: 4 }],
    ['one with a permission of 255', { ...good, permission: 255 }],
    ['a type of 0', { ...good, type: 0 }],
    ['a question of its own', { ...good, type: MISS }],
    ['a refusal of its own', { ...good, type: ACCESS_FAIL }],
    ['a type of 255', { ...good, type: 255 }],
    ['no message at all', new Uint8Array()],
    ['a message cut short', iotlbMessage(good).subarray(0, 25)],
    ['a message of 4096 bytes', new Uint8Array(4096)],
  ];
  test.each(lies)('loses its connection for %s', async (_, lie) => {
    await arena.attack(async (victim) => {
      using iommu = await started(victim);
      victim.listen();
      await raw(iommu, lie instanceof Uint8Array ? lie : iotlbMessage(lie));
      await iommu.driver.send(Request.SET_OWNER);
      await iommu.driver.connection.hangUp();
      await victim.expectComplaint();
      expect(victim.said).toMatch(/IOTLB_MSG|payload|bytes/);
    });
  });

  test('loses it for IOTLB messages without ACCESS_PLATFORM', async () => {
    await arena.attack(async (victim) => {
      using iommu = await RawIommu.connect(victim.socket);
      await iommu.driver.handshake();
      await raw(iommu, iotlbMessage(good));
      await iommu.driver.connection.hangUp();
      await victim.expectComplaint();
    });
  });

  test('may send descriptors along: they are closed', async () => {
    await arena.attack(async (victim) => {
      using iommu = await started(victim);
      const fd = iommu.driver.eventFd();
      await raw(iommu, iotlbMessage(good), [fd, fd, fd, fd, fd, fd, fd, fd]);
      await iommu.driver.ask(Request.GET_FEATURES);
    });
  });

  test('may flood it with translations, alike and not, and invalidations: what is kept is bounded, the ports beside it go on', async () => {
    await arena.attack(async (victim) => {
      using iommu = await started(victim);
      const one = (index: number): Buffer => {
        const address = (1n << 40n) + BigInt(index) * 3n * PAGE;
        const user = USER_BASE + PAGE * BigInt(index % 1000);
        return index % 7 === 0 ? iotlbMessage({ type: INVALIDATE, address, size: PAGE }) : iotlbMessage({ ...good, address, user });
      };
      for (let first = 0; first < 12_000; first += 400) {
        await iommu.driver.connection.send(
          Buffer.concat(Array.from({ length: 400 }, (_, index) => message(Request.IOTLB_MSG, one(first + index), VERSION))),
        );
        await iommu.settled();
      }
      const said = await victim.testpmd.command('show port xstats 0');
      for (const kind of ['read', 'write']) {
        const entries = Number(new RegExp(`iotlb_${kind}_entries: (\\d+)`).exec(said)?.[1] ?? NaN);
        expect(entries).toBeGreaterThan(4000);
        expect(entries).toBeLessThanOrEqual(4096);
      }
    });
  }, 120_000);

  test('may take back what is in use, again and again, packets on their way: nothing moves without a translation', async () => {
    await arena.attack(async (victim) => {
      using iommu = await started(victim);
      const { driver } = iommu;
      const all = (): Promise<bigint | undefined> => iommu.update(guestAddress(0), 0, BigInt(MEMORY_BYTES));
      await all();
      driver.offerReceiveBuffers(200);
      for (let round = 0; round < 60; round++) {
        driver.sendPacket(Buffer.alloc(60, round));
        if (round % 3 === 0) await iommu.invalidate(0n, 0n);
        else await iommu.invalidate(guestAddress(bufferOffset(round % 2, 0)), PAGE);
        if (round % 3 === 0) await iommu.updateRings();
        await all();
      }
      // rings are gone: whatever is sent stays
      await iommu.invalidate(0n, 0n);
      const before = driver.read(0, MEMORY_BYTES);
      driver.sendPacket(Buffer.alloc(60, 1));
      const after = driver.read(0, MEMORY_BYTES);
      await sleep(100);
      expect(driver.read(0, MEMORY_BYTES).equals(after)).toBe(true);
      expect(before.equals(after)).toBe(false);
    });
  }, 120_000);

  test('may map its receive buffers for reading alone: they are not written', async () => {
    await arena.attack(async (victim) => {
      using iommu = await started(victim);
      const { driver } = iommu;
      driver.write(bufferOffset(0, 0), Buffer.alloc(64 * 0x800, 0xa5));
      await iommu.update(guestAddress(bufferOffset(0, 0)), bufferOffset(0, 0), 32n * PAGE, READ);
      await iommu.update(guestAddress(bufferOffset(1, 0)), bufferOffset(1, 0), 32n * PAGE, READ);
      driver.offerReceiveBuffers(64);
      for (let round = 0; round < 20; round++) driver.sendPacket(Buffer.alloc(60, round));
      await driver.waitForUsed(1, 20);
      await sleep(100);
      expect(driver.usedIndex(0)).toBe(0);
      expect(driver.read(bufferOffset(0, 0), 64 * 0x800).equals(Buffer.alloc(64 * 0x800, 0xa5))).toBe(true);
    });
  });

  test('may map what it sends for writing alone: it is not read', async () => {
    await arena.attack(async (victim) => {
      using iommu = await started(victim);
      const { driver } = iommu;
      await iommu.update(guestAddress(0), 0, BigInt(MEMORY_BYTES), WRITE);
      driver.offerReceiveBuffers(8);
      for (let round = 0; round < 5; round++) driver.sendPacket(Buffer.alloc(60, round));
      await sleep(100);
      expect([driver.usedIndex(1), driver.usedIndex(0)]).toEqual([0, 0]);
    });
  });

  test('may name buffers and tables that are never translated, or end where nothing is: the queue waits', async () => {
    await arena.attack(async (victim) => {
      using iommu = await started(victim);
      const { driver } = iommu;
      await iommu.update(guestAddress(0), 0, BigInt(MEMORY_BYTES));
      const elements = [
        { address: U64_MAX, length: 0xffff_ffff },
        { address: guestAddress(MEMORY_BYTES) - 16n, length: 0x1000 },
        { address: 0n, length: 0x1000, flags: DESC_F_INDIRECT },
        { address: U64_MAX - 15n, length: 0x8000_0000, flags: DESC_F_INDIRECT },
        { address: 1n << 63n, length: 0xffff_ffff, flags: DESC_F_WRITE },
      ];
      for (const [head, element] of elements.entries()) {
        driver.writeDescriptor(1, head, element);
        driver.writeDescriptor(0, head, { ...element, flags: (element.flags ?? 0) | DESC_F_WRITE });
      }
      driver.offer(1, [0, 1, 2, 3, 4]);
      driver.offer(0, [0, 1, 2, 3, 4]);
      await victim.expectBystandersForward();
      expect([driver.usedIndex(0), driver.usedIndex(1)]).toEqual([0, 0]);
    });
  });

  test('may never answer, and never read what it is asked: the questions end', async () => {
    await arena.attack(async (victim) => {
      using iommu = await started(victim);
      const { driver } = iommu;
      await victim.testpmd.command('clear port xstats 0');
      driver.offerReceiveBuffers(256);
      for (let round = 0; round < 200; round++) driver.sendPacket(Buffer.alloc(60, round));
      await sleep(2500);
      await victim.expectBystandersForward();
      const said = await victim.testpmd.command('show port xstats 0');
      // at most 64 a second, and on a busy host the seconds are longer
      const questions = Number(/iotlb_questions: (\d+)/.exec(said)?.[1] ?? NaN);
      expect(questions).toBeGreaterThan(64);
      expect(questions).toBeLessThanOrEqual(64 * 8);
      expect(driver.usedIndex(1)).toBe(0);
    });
  });

  test('may answer other questions than were asked, and replies that nobody waits for', async () => {
    await arena.attack(async (victim) => {
      using iommu = await started(victim);
      const { driver } = iommu;
      driver.sendPacket(Buffer.alloc(60));
      await iommu.questions(1);
      for (let round = 0; round < 200; round++) await iommu.update((1n << 44n) + PAGE * BigInt(2 * round), ringOffset(0));
      expect(driver.usedIndex(1)).toBe(0);
      await iommu.channel.send(message(1, u64(0), VERSION | 4));
      await driver.ask(Request.GET_FEATURES);
    });
  });

  test('may write noise to the back-end channel, descriptors and all', async () => {
    await arena.attack(async (victim) => {
      using iommu = await started(victim);
      const fd = iommu.driver.eventFd();
      await iommu.channel.send(randomBytes(4096), [fd, fd, fd]).catch(() => undefined);
      await iommu.driver.ask(Request.GET_FEATURES);
    });
  });

  test('may translate its rings to its buffers, to each other and to odd places', async () => {
    await arena.attack(async (victim) => {
      using iommu = await RawIommu.connect(victim.socket);
      await iommu.handshake();
      await iommu.questions(6);
      const { driver } = iommu;
      await iommu.update(guestAddress(0), 0, BigInt(MEMORY_BYTES));
      driver.write(bufferOffset(0, 0), randomBytes(0x8000));
      for (const queue of [0, 1]) await iommu.update(ringIova(queue), bufferOffset(0, 0), 0x4000n).catch(() => undefined);
      await sleep(100);
      await iommu.update(ringIova(1), ringOffset(1) + 1, 0x4000n).catch(() => undefined);
      await victim.expectBystandersForward();
    });
  });

  test('may change its memory while translations lead into it, and go in the middle', async () => {
    await arena.attack(async (victim) => {
      using iommu = await started(victim);
      const { driver } = iommu;
      await iommu.update(guestAddress(0), 0, BigInt(MEMORY_BYTES));
      driver.offerReceiveBuffers(200);
      for (let round = 0; round < 5; round++) {
        driver.sendPacket(Buffer.alloc(60, round));
        const half = { guest: 0n, size: BigInt(MEMORY_BYTES / 2), user: USER_BASE, offset: 0n };
        await iommu.call(Request.SET_MEM_TABLE, memoryTable([half]), [driver.memory]);
        await iommu.updateRings();
        await iommu.update(guestAddress(0), 0, BigInt(MEMORY_BYTES / 2));
      }
      // leads to the half that is gone
      await raw(iommu, iotlbMessage({ ...good, user: USER_BASE + BigInt(MEMORY_BYTES / 2) }));
      await driver.connection.hangUp();
      await victim.expectComplaint();
    });
  });
});
