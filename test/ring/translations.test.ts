/** Kernels of a device behind an IOMMU: what cannot be translated yet stays in the ring and is noted, permissions are kept. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { TranslationTable, TRANSLATIONS_BYTES } from '../../src/backend/translation-table.ts';
import { makeNotifier } from '../../src/ring/notification.ts';
import {
  NOTIFY_MISS,
  Q_MISS,
  Q_MISS_FD,
  Q_MISS_HIGH,
  Q_MISS_LENGTH,
  Q_MISS_LOW,
  Q_NOTIFICATIONS,
  Q_NOTIFY,
  Q_NOTIFY_FD,
  QUEUE_ERROR_ADDRESS,
  QUEUE_INDIRECT,
  QUEUE_MERGEABLE,
  REGIONS_TO_READ,
  REGIONS_TO_WRITE,
} from '../../src/ring/queue-layout.ts';
import { clearEventFd, closeFd, createEventFd } from '../../src/system/event-fd.ts';
import { GUEST } from '../support/guest-memory.ts';
import { HandDriver } from '../support/hand-driver.ts';
import { frame, RingBench, TARGETS } from '../support/ring-pair.ts';

const WRITE = 2;
const INDIRECT = 4;
const HEADER = Buffer.alloc(12);

describe.each(TARGETS)('a device behind an IOMMU, %s', (target) => {
  let bench: RingBench;
  let readable: TranslationTable;
  let writable: TranslationTable;
  let readTable: number;
  let writeTable: number;
  beforeEach(() => {
    bench = new RingBench(target);
    readable = new TranslationTable();
    writable = new TranslationTable();
    readTable = bench.own(TRANSLATIONS_BYTES);
    writeTable = bench.own(TRANSLATIONS_BYTES);
    publish();
  });
  afterEach(() => bench[Symbol.dispose]());

  function publish(): void {
    readable.write(bench.u32, readTable, REGIONS_TO_READ, 0);
    writable.write(bench.u32, writeTable, REGIONS_TO_WRITE, readTable);
  }

  /** The control plane has done what was noted. */
  function resolve(driver: HandDriver): void {
    publish();
    driver.device.set(Q_MISS, 0);
    driver.device.set(Q_NOTIFY, 0);
  }

  /** Permission, address and length that the queue waits for. */
  function missOf({ device }: HandDriver): readonly [permission: number, address: bigint, length: number] {
    return [device.get(Q_MISS), (BigInt(device.get(Q_MISS_HIGH)) << 32n) | BigInt(device.get(Q_MISS_LOW)), device.get(Q_MISS_LENGTH)];
  }

  function sender(): HandDriver {
    const driver = new HandDriver(bench, { pool: bench.pool(), table: readTable });
    bench.st16(driver.available, 1);
    return driver;
  }

  it('takes the packets before a miss, leaves the one that misses, and goes on with it', () => {
    const driver = sender();
    for (const [index, at] of [0, 0x1000, 0x2000].entries()) {
      driver.write(at, Buffer.concat([HEADER, frame(60, index)]));
      driver.descriptor(index, { address: driver.at(at), length: 72 });
    }
    readable.insert(GUEST, 4096n, driver.buffers);
    readable.insert(GUEST + 0x2000n, 4096n, driver.buffers + 0x2000);
    publish();
    driver.offer(0, 1, 2);
    expect(driver.receive()).toEqual([frame(60, 0)]);
    expect([driver.error, driver.usedIndex, driver.device.get(Q_NOTIFY)]).toEqual([0, 1, NOTIFY_MISS]);
    expect(missOf(driver)).toEqual([REGIONS_TO_READ, GUEST + 0x1000n, 72]);
    // noted once, however often it is tried
    driver.device.set(Q_NOTIFY, 0);
    expect(driver.receive()).toEqual([]);
    expect(driver.device.get(Q_NOTIFY)).toBe(0);
    readable.insert(GUEST + 0x1000n, 4096n, driver.buffers + 0x1000);
    resolve(driver);
    expect(driver.receive()).toEqual([frame(60, 1), frame(60, 2)]);
    expect([driver.usedIndex, driver.device.get(Q_MISS)]).toEqual([3, 0]);
  });

  it('does not read what it may only write, nor write what it may only read', () => {
    const driver = sender();
    driver.write(0, Buffer.concat([HEADER, frame(60)]));
    driver.descriptor(0, { address: driver.at(0), length: 72 });
    writable.insert(GUEST, 4096n, driver.buffers);
    publish();
    driver.offer(0);
    expect(driver.receive()).toEqual([]);
    expect(missOf(driver)).toEqual([REGIONS_TO_READ, GUEST, 72]);

    const other = new HandDriver(bench, { table: writeTable });
    readable.insert(GUEST, 4096n, other.buffers);
    writable.clear();
    publish();
    other.descriptor(0, { address: GUEST, length: 1526, flags: WRITE });
    other.offer(0);
    const pool = bench.pool();
    expect(other.send(pool, frame(60))).toBe(0);
    expect(missOf(other)).toEqual([REGIONS_TO_WRITE, GUEST, 1526]);
    expect(other.read(0, 1526)).toEqual(Buffer.alloc(1526));
    writable.insert(GUEST, 4096n, other.buffers);
    resolve(other);
    expect(other.send(pool, frame(60))).toBe(1);
    expect(other.read(12, 60)).toEqual(frame(60));
  });

  it('reads and writes buffers whose pages lie apart', () => {
    const driver = sender();
    const packet = frame(1500, 5);
    const bytes = Buffer.concat([HEADER, packet]);
    // page 0 of the addresses is page 3 of the memory, page 1 is page 1
    driver.write(0x3f00, bytes.subarray(0, 0x100));
    driver.write(0x1000, bytes.subarray(0x100));
    readable.insert(GUEST, 4096n, driver.buffers + 0x3000);
    publish();
    driver.descriptor(0, { address: driver.at(0xf00), length: bytes.length });
    driver.offer(0);
    expect(driver.receive()).toEqual([]);
    expect(missOf(driver)).toEqual([REGIONS_TO_READ, GUEST + 0x1000n, bytes.length - 0x100]);
    readable.insert(GUEST + 0x1000n, 4096n, driver.buffers + 0x1000);
    resolve(driver);
    expect(driver.receive()).toEqual([packet]);

    const other = new HandDriver(bench, { table: writeTable, features: QUEUE_MERGEABLE });
    writable.insert(GUEST, 4096n, other.buffers + 0x3000);
    writable.insert(GUEST + 0x1000n, 4096n, other.buffers + 0x1000);
    publish();
    other.descriptor(0, { address: other.at(0xf00), length: 0x1000, flags: WRITE });
    other.offer(0);
    expect(other.send(bench.pool(), packet)).toBe(1);
    expect(Buffer.concat([other.read(0x3f0c, 0xf4), other.read(0x1000, 1500 - 0xf4)])).toEqual(packet);
    // the bytes beside
    expect([other.read(0x2f00, 0x1000), other.read(0x1000 + 1500 - 0xf4, 64)]).toEqual([Buffer.alloc(0x1000), Buffer.alloc(64)]);
  });

  it('reads indirect tables wherever it may read, and gives up on one in pieces', () => {
    const driver = new HandDriver(bench, { table: writeTable, features: QUEUE_INDIRECT });
    const entry = Buffer.alloc(16);
    entry.writeBigUInt64LE(driver.at(0x1000), 0);
    entry.writeUInt32LE(1526, 8);
    entry.writeUInt16LE(WRITE, 12);
    driver.write(0, entry);
    driver.descriptor(0, { address: GUEST, length: 16, flags: INDIRECT });
    driver.descriptor(1, { address: GUEST + 0x3ff0n, length: 32, flags: INDIRECT });
    driver.offer(0, 1);
    writable.insert(GUEST, 0x2000n, driver.buffers);
    publish();
    const pool = bench.pool();
    expect(driver.send(pool, frame(60))).toBe(0);
    expect(missOf(driver)).toEqual([REGIONS_TO_READ, GUEST, 16]);
    readable.insert(GUEST, 4096n, driver.buffers);
    resolve(driver);
    expect(driver.send(pool, frame(60))).toBe(1);
    expect(driver.read(0x100c, 60)).toEqual(frame(60));
    readable.insert(GUEST + 0x3000n, 4096n, driver.buffers + 0x3000);
    resolve(driver);
    expect(driver.send(pool, frame(60))).toBe(0);
    expect(missOf(driver)).toEqual([REGIONS_TO_READ, GUEST + 0x3ff0n, 32]);
    readable.insert(GUEST + 0x4000n, 4096n, driver.buffers + 0x8000);
    resolve(driver);
    expect(driver.send(pool, frame(60))).toBe(0);
    expect(driver.error).toBe(QUEUE_ERROR_ADDRESS);
  });

  it('waits for addresses beyond 2^64 as for any other', () => {
    const driver = sender();
    const last = 0xffff_ffff_ffff_f000n;
    readable.insert(last, 4096n, driver.buffers);
    publish();
    driver.descriptor(0, { address: last + 0xf00n, length: 0x200 });
    driver.offer(0);
    expect(driver.receive()).toEqual([]);
    expect([driver.error, ...missOf(driver)]).toEqual([0, REGIONS_TO_READ, 0n, 0x100]);
  });

  it('tells the control plane of a miss and not the driver, and the driver of packets beside one', () => {
    const driver = sender();
    const [miss, call] = [createEventFd(), createEventFd()];
    driver.device.set(Q_MISS_FD, miss);
    driver.device.set(Q_NOTIFY_FD, call);
    const notify = makeNotifier(bench.arena.views, driver.device.offset);
    driver.write(0, Buffer.concat([HEADER, frame(60)]));
    for (const index of [0, 1]) driver.descriptor(index, { address: driver.at(0x1000 * index), length: 72 });
    readable.insert(GUEST, 4096n, driver.buffers);
    publish();
    // the driver wants calls
    bench.st16(driver.available, 0);
    driver.offer(0, 1);
    expect(driver.receive()).toHaveLength(1);
    notify();
    expect([clearEventFd(miss), clearEventFd(call)]).toEqual([true, true]);
    driver.device.set(Q_MISS, 0);
    expect(driver.receive()).toHaveLength(0);
    notify();
    expect([clearEventFd(miss), clearEventFd(call), driver.device.counter(Q_NOTIFICATIONS)]).toEqual([true, false, 1]);
    for (const fd of [miss, call]) closeFd(fd);
  });

  it('lets a thread sleep over a packet that misses', () => {
    const driver = sender();
    driver.descriptor(0, { address: GUEST, length: 72 });
    driver.offer(0);
    expect(bench.kernels.deviceArm(driver.device.offset)).toBe(0);
    driver.receive();
    expect(bench.kernels.deviceArm(driver.device.offset)).toBe(1);
    driver.device.set(Q_MISS, 0);
    expect(bench.kernels.deviceArm(driver.device.offset)).toBe(0);
  });
});
