/**
 * The device side of packed virtqueues against a driver written by hand, which breaks every rule in turn.
 */
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { MBUF_DATA, MBUF_FLAGS, MBUF_PORT, MBUF_WORK_CHECKSUM } from '../../src/memory/mbuf-layout.ts';
import type { Mempool } from '../../src/memory/mempool.ts';
import { EVENT_DESCRIPTOR, EVENT_DISABLE, EVENT_ENABLE } from '../../src/ring/packed-layout.ts';
import {
  Q_BYTES,
  Q_DROPPED,
  Q_ERRORS,
  Q_NO_MBUF,
  Q_NOTIFY,
  Q_PACKETS,
  Q_STATE,
  Q_UNFINISHED,
  QUEUE_DISABLED,
  QUEUE_ERROR_ADDRESS,
  QUEUE_ERROR_CHAIN,
  QUEUE_EVENT_IDX,
  QUEUE_IN_ORDER,
  QUEUE_INDIRECT,
  QUEUE_MERGEABLE,
  QUEUE_PACKED,
  QUEUE_RUNNING,
  QUEUE_STOPPED,
} from '../../src/ring/queue-layout.ts';
import { DeviceQueue } from '../../src/ring/virtqueue.ts';
import { BUFFERS, GUEST } from '../support/guest-memory.ts';
import { AVAIL, INDIRECT, NEXT, PackedDriver, USED, WRITE, type Element, type PackedDriverOptions } from '../support/packed-driver.ts';
import { counter, frame, RingBench, TARGETS } from '../support/ring-pair.ts';

const header = (length = 12): Buffer => Buffer.alloc(length, 0x77);
const withHeader = (packet: Buffer): Buffer => Buffer.concat([header(), packet]);
/** Milliseconds for all runs of a property, shrinking included. */
const LIMIT = 12_000;

/** Every test has a bench and a pool of its own; nothing may be written beside what the driver shares. */
function benches(target: (typeof TARGETS)[number]): {
  readonly bench: () => RingBench;
  readonly pool: () => Mempool;
  readonly hand: (options?: PackedDriverOptions) => PackedDriver;
} {
  let bench: RingBench;
  let pool: Mempool;
  const open: PackedDriver[] = [];
  beforeEach(() => {
    bench = new RingBench(target);
    bench.canaries();
    pool = bench.pool({ count: 256 });
  });
  afterEach(() => {
    bench.canaries();
    expect(bench.deadCanaries()).toEqual([]);
    for (const driver of open.splice(0)) driver.device.close();
    bench[Symbol.dispose]();
  });
  return {
    bench: () => bench,
    pool: () => pool,
    hand: (options = {}) => {
      const driver = new PackedDriver(bench, { pool, ...options });
      open.push(driver);
      return driver;
    },
  };
}

describe.each(TARGETS)('taking packets as a device of a packed ring on %s', (target) => {
  const { bench, pool, hand } = benches(target);
  /** Offers the same 60 bytes `count` times. */
  const offerPackets = (driver: PackedDriver, count: number): void => {
    driver.write(0, withHeader(frame(60)));
    for (let at = 0; at < count; at++) driver.offer([{ address: driver.at(0), length: 72 }]);
  };

  it.each([10, 12])('takes what follows the header of %i bytes, whatever the header says', (bytes) => {
    const driver = hand({ header: bytes });
    driver.write(0, Buffer.concat([Buffer.alloc(bytes, 0xff), frame(60)]));
    driver.offer([{ address: driver.at(0), length: bytes + 60 }], 0xabcd);
    expect(bench().kernels.packedDeviceDequeue(driver.device.offset, bench().handles, 8)).toBe(1);
    const [packet = 0] = bench().listed(1);
    expect(bench().bytesOf(packet)).toEqual(frame(60));
    expect(bench().ld16(packet + MBUF_PORT)).toBe(7);
    bench().kernels.packetFree(packet, 0);
    // virtio 1.2, 2.8.3 and 2.8.4: without WRITE the length is reserved
    expect(driver.readDescriptor(0)).toEqual({ address: driver.at(0), length: bytes + 60, id: 0xabcd, flags: AVAIL | USED });
    expect([counter(driver.device, Q_PACKETS), counter(driver.device, Q_BYTES)]).toEqual([1, 60]);
  });

  it('takes data at any alignment', () => {
    const driver = hand();
    for (const at of [1, 2, 3, 5, 7]) {
      driver.write(at, withHeader(frame(99, at)));
      driver.offer([{ address: driver.at(at), length: 12 + 99 }]);
      expect(driver.receive()).toEqual([frame(99, at)]);
    }
  });

  it('assumes nothing about how the driver frames header and packet', () => {
    const bytes = withHeader(frame(200, 4));
    const cuts: readonly (readonly number[])[] = [
      [12, 200],
      [10, 2, 200],
      [1, 11, 200],
      [11, 1, 200],
      [6, 6, 1, 199],
      [13, 199],
      [0, 12, 0, 200, 0],
      [212],
      [5, 207],
    ];
    for (const indirect of [false, true]) {
      // 5 divides none of what the lists come to: they lie across the end of the ring
      const driver = hand({ size: 5, features: QUEUE_INDIRECT });
      driver.write(0, bytes);
      for (const cut of cuts) {
        let at = 0;
        const elements = cut.map((length) => ({ address: driver.at((at += length) - length), length }));
        const id = indirect ? driver.offerTable(4096, elements) : driver.offer(elements);
        expect(driver.receive()).toEqual([frame(200, 4)]);
        expect(driver.takeUsed()).toEqual([{ id, length: undefined }]);
      }
    }
  });

  it('takes a list as long as the ring, from any place on', () => {
    const driver = hand({ size: 17 });
    const bytes = withHeader(frame(328, 2));
    driver.write(0, bytes);
    for (let round = 0; round < 17; round++) {
      driver.offer(Array.from({ length: 17 }, (_, at) => ({ address: driver.at(20 * at), length: 20 })));
      expect(driver.receive()).toEqual([frame(328, 2)]);
      expect(driver.takeUsed()).toHaveLength(1);
      driver.offer([{ address: driver.at(0), length: 340 }]);
      expect(driver.receive()).toHaveLength(1);
      expect(driver.takeUsed()).toHaveLength(1);
    }
  });

  it('spreads a packet larger than a data room over several mbufs', () => {
    const driver = hand();
    driver.write(0, withHeader(frame(9000, 3)));
    driver.offer([{ address: driver.at(0), length: 9012 }]);
    expect(driver.receive()).toEqual([frame(9000, 3)]);
  });

  it('takes a packet of 64 KiB, and drops a larger one without losing the next', () => {
    const driver = hand();
    driver.write(0, withHeader(frame(65_535, 3)));
    driver.offer([{ address: driver.at(0), length: 12 + 65_535 }]);
    driver.offer([{ address: driver.at(0), length: 12 + 65_535 + 64 }]);
    driver.offer(Array.from({ length: 3 }, () => ({ address: driver.at(0), length: 40_000 })));
    driver.offer([{ address: driver.at(0), length: 72 }]);
    expect(driver.receive()).toEqual([frame(65_535, 3), frame(65_535, 3).subarray(0, 60)]);
    expect(driver.takeUsed()).toHaveLength(4);
    expect([counter(driver.device, Q_ERRORS), driver.error]).toEqual([2, 0]);
  });

  it.each([0, 1, 11, 12, 13, 25])('drops and counts a buffer of %i bytes in all, and goes on', (length) => {
    // no longer than the header, or shorter than an Ethernet header behind it
    const driver = hand();
    driver.write(0, withHeader(frame(60)));
    driver.offer([{ address: driver.at(0), length }]);
    driver.offer([0, 1, 2].map((at) => ({ address: driver.at(0), length: Math.floor((length + at) / 3) })));
    driver.offer([{ address: driver.at(0), length: 72 }]);
    expect(driver.receive()).toEqual([frame(60)]);
    expect(driver.takeUsed()).toHaveLength(3);
    expect([counter(driver.device, Q_ERRORS), counter(driver.device, Q_PACKETS)]).toEqual([2, 1]);
    expect(pool().free()).toBe(256);
  });

  it('drops a packet whose header asks for what was not negotiated, and hands its mbuf on clean', () => {
    const driver = hand({ offloads: MBUF_WORK_CHECKSUM });
    // NEEDS_CSUM beyond the packet, then a plain one
    driver.write(0, Buffer.concat([Buffer.from([1, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0]), frame(60)]));
    driver.write(100, Buffer.concat([Buffer.alloc(12), frame(61)]));
    for (const elements of [[72], [20, 52]]) {
      let at = 0;
      driver.offer(elements.map((length) => ({ address: driver.at((at += length) - length), length })));
    }
    driver.offer([{ address: driver.at(100), length: 73 }]);
    expect(driver.receive()).toEqual([frame(61)]);
    expect([counter(driver.device, Q_ERRORS), driver.takeUsed().length, pool().free()]).toEqual([2, 3, 256]);
  });

  it('drops twelve descriptors of one byte: the header and nothing else', () => {
    const driver = hand();
    driver.offer(Array.from({ length: 12 }, (_, at) => ({ address: driver.at(at), length: 1 })));
    expect(driver.receive()).toEqual([]);
    expect([counter(driver.device, Q_ERRORS), driver.error]).toEqual([1, 0]);
  });

  it('does not look at the address of a descriptor without a length', () => {
    const driver = hand();
    driver.write(0, withHeader(frame(60)));
    driver.offer([
      { address: 0xdead_0000_0000n, length: 0 },
      { address: driver.at(0), length: 72 },
      { address: 0xffff_ffff_ffff_ffffn, length: 0 },
    ]);
    expect(driver.receive()).toEqual([frame(60)]);
  });

  it('leaves packets in the ring while the pool is empty, and takes them when it is not', () => {
    const driver = hand();
    offerPackets(driver, 8);
    driver.offer([12, 60].map((length, at) => ({ address: driver.at(12 * at), length })));
    const held = Array.from({ length: 256 }, () => bench().packet(pool(), frame(60)) ?? 0);
    expect(driver.receive()).toEqual([]);
    expect([driver.takeUsed(), counter(driver.device, Q_NO_MBUF)]).toEqual([[], 1]);
    for (const packet of held) bench().kernels.packetFree(packet, 0);
    expect(driver.receive(8)).toHaveLength(8);
    for (let at = 0; at < 256; at++) held[at] = bench().packet(pool(), frame(60)) ?? 0;
    // the list is left as well
    expect(driver.receive()).toEqual([]);
    expect([driver.takeUsed().length, counter(driver.device, Q_NO_MBUF)]).toEqual([8, 2]);
    for (const packet of held) bench().kernels.packetFree(packet, 0);
    expect(driver.receive()).toHaveLength(1);
  });

  it('leaves a large packet in the ring when its further segments cannot be had, and loses no mbuf', () => {
    const driver = hand();
    driver.write(0, withHeader(frame(9000)));
    driver.offer([{ address: driver.at(0), length: 72 }]);
    driver.offer([{ address: driver.at(0), length: 9012 }]);
    const held = Array.from({ length: 253 }, () => bench().packet(pool(), frame(60)) ?? 0);
    expect(driver.receive()).toEqual([frame(9000).subarray(0, 60)]);
    expect([pool().free(), driver.takeUsed().length]).toEqual([3, 1]);
    for (const packet of held) bench().kernels.packetFree(packet, 0);
    expect(driver.receive()).toEqual([frame(9000)]);
  });

  it.each([1, 3, 63, 64, 65, 128, 200])('takes no more than %i when so many were asked for', (asked) => {
    const driver = hand({ size: 201 });
    offerPackets(driver, 201);
    for (let left = 201; left > 0; left -= asked) {
      const expected = Math.min(asked, left);
      expect(driver.receive(asked)).toHaveLength(expected);
      expect(driver.takeUsed()).toHaveLength(expected);
    }
    expect(driver.receive(asked)).toEqual([]);
  });

  it.each([2, 3, 16, 100])('takes every descriptor of a ring of %i once, whatever was asked for', (size) => {
    for (const features of [0, QUEUE_IN_ORDER]) {
      const driver = hand({ size, features });
      for (let round = 0; round < 5; round++) {
        offerPackets(driver, size);
        expect(driver.receive(200)).toHaveLength(size);
        expect(driver.receive(200)).toEqual([]);
        expect(driver.takeUsed()).toHaveLength(size);
      }
    }
  });

  it('goes on at the base that it was given, and tells where it has come to', () => {
    // bits 0 to 14 the descriptor, bit 15 the wrap counter (virtio 1.2, 2.9; vhost-user, "Vring state")
    for (const base of [5, 0x8000 | 5]) {
      const driver = hand({ size: 7, base });
      expect(driver.device.nextAvailable).toBe(base);
      offerPackets(driver, 4);
      expect(driver.receive()).toHaveLength(4);
      expect(driver.device.nextAvailable).toBe(2 | (base === 5 ? 0x8000 : 0));
      expect(driver.takeUsed()).toHaveLength(4);
    }
  });

  it('refuses a base outside the ring, and sizes that no ring has', () => {
    using arena = new RingBench(target);
    const queue = new DeviceQueue(arena.arena, { name: 'a queue', port: 0 });
    const ring = { descriptors: 0, available: 0, used: 0, features: QUEUE_PACKED, headerBytes: 12, regions: 0 };
    for (const size of [0, 1, 32_769, 2.5, Number.NaN])
      expect(() => {
        queue.attach({ ...ring, size });
      }).toThrow(/ring size .*: a ring has 2 to 32768 descriptors/);
    for (const base of [100, 0x8000 | 100, 0x7fff])
      expect(() => {
        queue.attach({ ...ring, size: 100 }, base);
      }).toThrow(/^ring base [0-9]+: the ring has 100 descriptors$/);
    queue.attach({ ...ring, size: 32_768 }, 0x7fff);
    expect(queue.nextAvailable).toBe(0x7fff);
    queue.close();
  });

  it.each([
    [EVENT_ENABLE, 0, 1],
    [EVENT_DISABLE, 0, 0],
    [EVENT_DESCRIPTOR, 0x8000, 1],
    [EVENT_DESCRIPTOR, 0x8001, 1],
    [EVENT_DESCRIPTOR, 0x8002, 0],
    [EVENT_DESCRIPTOR, 0x0001, 0],
    [EVENT_DESCRIPTOR, 0xffff, 0],
    [3, 0, 0],
    [0xfffc, 0, 1],
  ])("asks for a call after descriptors 0 and 1 when the driver's flags and place are %i and 0x%x: %i", (flags, place, wanted) => {
    // virtio 1.2, 2.8.10 and 2.8.14
    const driver = hand();
    bench().st32(driver.driverEvents, ((flags << 16) | place) >>> 0);
    offerPackets(driver, 2);
    driver.receive();
    expect(driver.device.get(Q_NOTIFY)).toBe(wanted);
    driver.device.set(Q_NOTIFY, 0);
    driver.receive();
    expect(driver.device.get(Q_NOTIFY)).toBe(0);
  });

  it('writes one used descriptor for a burst in order, with the id of its last buffer at the place of its first', () => {
    // virtio 1.2, 2.8.8
    const driver = hand({ size: 9, features: QUEUE_IN_ORDER });
    for (let round = 0; round < 20; round++) {
      offerPackets(driver, 3);
      driver.offer([12, 60].map((length, at) => ({ address: driver.at(12 * at), length })));
      const ids = driver.outstanding;
      const before = Array.from({ length: 9 }, (_, index) => driver.readDescriptor(index));
      const place = driver.place(4);
      expect(driver.receive()).toHaveLength(4);
      const after = Array.from({ length: 9 }, (_, index) => driver.readDescriptor(index));
      expect(after.flatMap((descriptor, index) => (descriptor.flags === before[index]?.flags ? [] : [index]))).toEqual([place]);
      expect(after[place]?.id).toBe(ids.at(-1));
      expect(driver.takeUsed().map(({ id }) => id)).toEqual(ids);
    }
  });

  it.each([0, QUEUE_IN_ORDER])('consumes and discards everything on a ring that is disabled (features %i)', (features) => {
    // vhost-user, "Ring states": a started but disabled network ring processes and discards its descriptors
    const driver = hand({ size: 6, features });
    driver.device.setState(QUEUE_DISABLED);
    offerPackets(driver, 2);
    driver.offer([12, 30, 30].map((length) => ({ address: driver.at(0), length })));
    expect(driver.receive()).toEqual([]);
    expect(driver.takeUsed()).toHaveLength(3);
    expect([counter(driver.device, Q_DROPPED), counter(driver.device, Q_PACKETS)]).toEqual([3, 0]);
    expect(driver.receive()).toEqual([]);
    expect([driver.takeUsed(), counter(driver.device, Q_DROPPED)]).toEqual([[], 3]);
    driver.device.setState(QUEUE_RUNNING);
    offerPackets(driver, 1);
    expect(driver.receive()).toHaveLength(1);
  });

  it('does nothing while it is stopped', () => {
    const driver = hand();
    driver.device.setState(QUEUE_STOPPED);
    offerPackets(driver, 1);
    expect(driver.receive()).toEqual([]);
    expect(driver.takeUsed()).toEqual([]);
  });

  it('looks at no descriptor whose flags do not say available in this lap', () => {
    // virtio 1.2, 2.8.1
    for (const [base, flags] of [
      [0x8000, 0],
      [0x8000, USED],
      [0x8000, AVAIL | USED],
      [0, 0],
      [0, AVAIL],
      [0, AVAIL | USED],
    ] as const) {
      const driver = hand({ base });
      driver.write(0, withHeader(frame(60)));
      for (const more of [0, NEXT, WRITE, INDIRECT]) {
        driver.descriptor(0, { address: 0xdead_beefn, length: 72, flags: flags | more });
        expect(driver.receive()).toEqual([]);
        expect([driver.error, driver.readDescriptor(0).flags]).toEqual([0, flags | more]);
      }
      offerPackets(driver, 1);
      expect(driver.receive()).toHaveLength(1);
    }
  });

  it.each([
    [0, EVENT_ENABLE << 16, EVENT_ENABLE << 16],
    // of the next descriptor alone
    [QUEUE_EVENT_IDX, (EVENT_DESCRIPTOR << 16) | 0x8000, (EVENT_DESCRIPTOR << 16) | 0x8001],
  ])('is told to stop asking for kicks, or to ask and look once more (features %i)', (features, wish, next) => {
    const driver = hand({ features });
    const { deviceArm, deviceDisarm } = bench().kernels;
    deviceDisarm(driver.device.offset);
    expect(bench().ld32(driver.deviceEvents)).toBe(EVENT_DISABLE << 16);
    expect(deviceArm(driver.device.offset)).toBe(1);
    expect(bench().ld32(driver.deviceEvents)).toBe(wish);
    offerPackets(driver, 1);
    expect(deviceArm(driver.device.offset)).toBe(0);
    driver.receive();
    expect(deviceArm(driver.device.offset)).toBe(1);
    expect(bench().ld32(driver.deviceEvents)).toBe(next);
    deviceDisarm(driver.device.offset);
    driver.device.setState(QUEUE_STOPPED);
    expect(deviceArm(driver.device.offset)).toBe(1);
    expect(bench().ld32(driver.deviceEvents)).toBe(EVENT_DISABLE << 16);
  });

  it('takes packets through tables of descriptors, whose order is theirs and whose other flags mean nothing', () => {
    // virtio 1.2, 2.8.7
    const driver = hand({ features: QUEUE_INDIRECT });
    driver.write(0, withHeader(frame(200, 4)));
    const entries = [
      // DPDK's driver does so
      { address: driver.at(0), length: 12, flags: AVAIL | WRITE },
      { address: driver.at(12), length: 150, flags: NEXT | USED },
      { address: driver.at(162), length: 50, flags: NEXT },
    ];
    const ids = [driver.offerTable(4096, entries), driver.offerTable(8196, entries, WRITE), driver.offerTable(12_288, entries)];
    expect(driver.receive()).toEqual([frame(200, 4), frame(200, 4), frame(200, 4)]);
    expect(driver.takeUsed().map(({ id }) => id)).toEqual(ids);
    // a long table for a short packet: more pieces than a packet may have
    driver.offerTable(
      16_384,
      Array.from({ length: 512 }, () => ({ address: driver.at(0), length: 1 })),
    );
    driver.offerTable(
      32_768,
      Array.from({ length: 511 }, () => ({ address: driver.at(0), length: 1 })),
    );
    expect(driver.receive()).toHaveLength(1);
    expect([counter(driver.device, Q_ERRORS), driver.error]).toEqual([1, 0]);
  });

  const broken: readonly (readonly [name: string, error: number, make: (driver: PackedDriver) => void])[] = [
    [
      'a list that comes round to what is in its burst',
      QUEUE_ERROR_CHAIN,
      (driver) => {
        for (let ahead = 0; ahead < driver.free; ahead++)
          driver.descriptor(driver.place(ahead), { address: driver.at(0), length: 20, flags: NEXT | driver.availableFlags(ahead) });
      },
    ],
    [
      'a list that comes round, without lengths',
      QUEUE_ERROR_CHAIN,
      (driver) => {
        for (let ahead = 0; ahead < driver.free; ahead++)
          driver.descriptor(driver.place(ahead), { address: driver.at(0), length: 0, flags: NEXT | driver.availableFlags(ahead) });
      },
    ],
    [
      'a list that goes on in descriptors of the next lap',
      QUEUE_ERROR_CHAIN,
      (driver) => {
        for (let ahead = 0; ahead < driver.free; ahead++)
          driver.descriptor(driver.place(ahead), { address: driver.at(0), length: 20, flags: NEXT | driver.availableFlags() });
      },
    ],
    [
      'a list that goes on where nothing was made available',
      QUEUE_ERROR_CHAIN,
      (driver) => {
        driver.descriptor(driver.place(), { address: driver.at(0), length: 20, flags: NEXT | driver.availableFlags() });
      },
    ],
    [
      'a buffer that the device is to write',
      QUEUE_ERROR_CHAIN,
      (driver) => driver.offer([{ address: driver.at(0), length: 72, flags: WRITE }]),
    ],
    [
      'a buffer to write at the end of a list',
      QUEUE_ERROR_CHAIN,
      (driver) =>
        driver.offer([
          { address: driver.at(0), length: 72 },
          { address: driver.at(0), length: 10, flags: WRITE },
        ]),
    ],
    ['a table with something behind it', QUEUE_ERROR_CHAIN, (driver) => driver.offerTable(4096, [{ address: GUEST, length: 72 }], NEXT)],
    [
      'a table in a list',
      QUEUE_ERROR_CHAIN,
      (driver) =>
        driver.offer([
          { address: driver.at(0), length: 12 },
          { address: driver.at(4096), length: 16, flags: INDIRECT },
        ]),
    ],
    [
      'a table in a table',
      QUEUE_ERROR_CHAIN,
      (driver) => driver.offerTable(4096, [{ address: GUEST + 4096n, length: 16, flags: INDIRECT }]),
    ],
    ...[0, 1, 15, 17, 24, 0x8_0010, 0xffff_fff0].map(
      (length) =>
        [`a table of ${length} bytes`, QUEUE_ERROR_CHAIN, (driver: PackedDriver) => driver.offerTable(4096, [], 0, length)] as const,
    ),
    [
      'a table outside the memory',
      QUEUE_ERROR_ADDRESS,
      (driver) => driver.offer([{ address: 0x5_0000_0000n, length: 16, flags: INDIRECT }]),
    ],
    [
      'a table whose range leaves the memory',
      QUEUE_ERROR_ADDRESS,
      (driver) => driver.offer([{ address: GUEST + BigInt(BUFFERS) - 16n, length: 32, flags: INDIRECT }]),
    ],
    ['a table at an odd address', QUEUE_ERROR_ADDRESS, (driver) => driver.offer([{ address: GUEST + 4097n, length: 16, flags: INDIRECT }])],
    [
      'an address outside the memory in a table',
      QUEUE_ERROR_ADDRESS,
      (driver) =>
        driver.offerTable(4096, [
          { address: GUEST, length: 72 },
          { address: 1n, length: 72 },
        ]),
    ],
    ...(
      [
        ['outside the memory', 0x5_0000_0000n, 72],
        ['of 0', 0n, 72],
        ['just before the memory', GUEST - 1n, 72],
        ['whose range leaves the memory', GUEST + BigInt(BUFFERS) - 71n, 72],
        ['whose length is all ones', GUEST, 0xffff_ffff],
        ['that wraps beyond 2^64', 0xffff_ffff_ffff_fff0n, 72],
        ['right only in its low word', GUEST + 0x7_0000_0000n, 72],
      ] as const
    ).flatMap(([name, address, length]) => [
      [`an address ${name}`, QUEUE_ERROR_ADDRESS, (driver: PackedDriver) => driver.offer([{ address, length }])] as const,
      [
        `an address ${name} in a list`,
        QUEUE_ERROR_ADDRESS,
        (driver: PackedDriver) =>
          driver.offer([
            { address: driver.at(0), length: 5000 },
            { address, length },
          ]),
      ] as const,
    ]),
  ];

  it.each(broken)('refuses %s, delivers what came before, and loses no mbuf', (_, error, make) => {
    for (const [size, features] of [
      [16, QUEUE_INDIRECT],
      [16, QUEUE_INDIRECT | QUEUE_IN_ORDER],
      // so that what is broken lies across the end of the ring
      [3, QUEUE_INDIRECT],
    ] as const) {
      const driver = hand({ size, features });
      if (size === 3) {
        offerPackets(driver, 1);
        driver.receive();
        driver.takeUsed();
      }
      offerPackets(driver, 1);
      make(driver);
      expect(driver.receive()).toHaveLength(1);
      expect([driver.device.get(Q_STATE), driver.error]).toEqual([QUEUE_STOPPED, error]);
      expect(driver.receive()).toEqual([]);
      expect(driver.takeUsed()).toHaveLength(1);
      expect(pool().free()).toBe(256);
    }
  });

  it('refuses a table that was not negotiated', () => {
    const driver = hand();
    driver.offerTable(4096, [{ address: GUEST, length: 72 }]);
    expect(driver.receive()).toEqual([]);
    expect(driver.error).toBe(QUEUE_ERROR_CHAIN);
  });

  it.each([0, 20])('refuses a list longer than the ring, of descriptors of %i bytes', (length) => {
    for (const size of [2, 5, 16]) {
      const driver = hand({ size, base: 1 });
      for (let ahead = 0; ahead < size; ahead++)
        driver.descriptor(driver.place(ahead), { address: driver.at(0), length, flags: NEXT | driver.availableFlags(ahead) });
      expect(driver.receive()).toEqual([]);
      expect([driver.error, driver.device.nextAvailable, pool().free()]).toEqual([QUEUE_ERROR_CHAIN, 1, 256]);
    }
  });

  it('refuses a list that runs into those of its own burst', () => {
    // a ring of 4, and 3 + 2 descriptors
    for (const state of [QUEUE_RUNNING, QUEUE_DISABLED]) {
      const driver = hand({ size: 4 });
      driver.device.setState(state);
      driver.write(0, withHeader(frame(60)));
      driver.offer([24, 24, 24].map((length, at) => ({ address: driver.at(24 * at), length })));
      driver.descriptor(3, { address: driver.at(0), length: 72, flags: AVAIL | NEXT });
      expect(driver.receive()).toHaveLength(state === QUEUE_RUNNING ? 1 : 0);
      expect([driver.error, driver.device.nextAvailable]).toEqual([QUEUE_ERROR_CHAIN, 0x8003]);
      expect(driver.takeUsed()).toHaveLength(1);
    }
  });

  it('refuses a buffer that spans two regions which are not neighbours', () => {
    const driver = hand({
      regions: (buffers) => [
        { guest: GUEST, size: 4096, offset: buffers },
        { guest: GUEST + 4096n, size: 4096, offset: buffers + 8192 },
      ],
    });
    driver.write(8192, withHeader(frame(60)));
    driver.offer([{ address: GUEST + 4096n, length: 72 }]);
    expect(driver.receive()).toEqual([frame(60)]);
    driver.offer([{ address: GUEST + 4090n, length: 72 }]);
    expect(driver.receive()).toEqual([]);
    expect(driver.error).toBe(QUEUE_ERROR_ADDRESS);
  });

  it('property: takes what is sent, in any lists, through rings of any size', () => {
    const list = fc.record({
      length: fc.integer({ min: 14, max: 400 }),
      cuts: fc.array(fc.nat(400), { maxLength: 4 }),
      table: fc.boolean(),
    });
    const step = fc.oneof(
      fc.record({ offer: fc.array(list, { minLength: 1, maxLength: 8 }) }),
      fc.record({ take: fc.integer({ min: 1, max: 9 }) }),
    );
    const check = (
      size: number,
      features: number,
      base: number,
      steps: readonly (typeof step extends fc.Arbitrary<infer T> ? T : never)[],
    ): void => {
      const driver = hand({ size, features: features | QUEUE_INDIRECT, base: (base & 0x8000) | ((base & 0x7fff) % size) });
      const sent: Buffer[] = [];
      const ids: number[] = [];
      let seed = 0;
      const drain = (take: number): void => {
        const packets = driver.receive(take);
        expect(packets).toEqual(sent.splice(0, packets.length));
        expect(driver.takeUsed().map(({ id }) => id)).toEqual(ids.splice(0, packets.length));
        expect(driver.error).toBe(0);
      };
      for (const each of steps) {
        if ('take' in each) {
          drain(each.take);
          continue;
        }
        for (const { length, cuts, table } of each.offer) {
          const slot = 1024 * (seed % 64);
          const packet = frame(length, seed++);
          const ends = [...cuts.map((cut) => cut % (length + 12)).sort((a, b) => a - b), length + 12];
          const elements = ends.map((end, index) => ({
            address: driver.at(slot + (ends[index - 1] ?? 0)),
            length: end - (ends[index - 1] ?? 0),
          }));
          if (sent.length === 64 || (table ? 1 : elements.length) > driver.free) continue;
          driver.write(slot, withHeader(packet));
          sent.push(packet);
          ids.push(table ? driver.offerTable(slot + 800, elements) : driver.offer(elements));
        }
      }
      while (sent.length > 0) {
        const before = sent.length;
        drain(32);
        expect(sent.length).toBeLessThan(before);
      }
      expect(pool().free()).toBe(256);
      driver.device.close();
    };
    fc.assert(
      fc.property(
        fc.oneof(fc.integer({ min: 2, max: 9 }), fc.integer({ min: 10, max: 70 })),
        fc.constantFrom(0, QUEUE_IN_ORDER),
        fc.nat(0xffff),
        fc.array(step, { minLength: 1, maxLength: 30, size: 'max' }),
        check,
      ),
      { numRuns: 12, interruptAfterTimeLimit: LIMIT },
    );
  });
});

describe.each(TARGETS)('giving packets as a device of a packed ring on %s', (target) => {
  const { bench, pool, hand } = benches(target);
  /** Posts buffers of one descriptor, 4096 bytes apart. */
  const post = (driver: PackedDriver, lengths: readonly number[], first = 0): void => {
    for (const [at, length] of lengths.entries()) driver.offer([{ address: driver.at(4096 * (first + at)), length, flags: WRITE }]);
  };
  const zeroHeader = (buffers: number): Buffer => Buffer.from([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, buffers, 0]);

  it.each([
    [10, Buffer.alloc(10)],
    [12, zeroHeader(1)],
  ])('writes a header of %i bytes, num_buffers 1, then the packet, and its whole length', (bytes, written) => {
    // virtio 1.2, 5.1.6.4.1: without VIRTIO_NET_F_MRG_RXBUF num_buffers is 1
    for (const at of [0, 1, 2, 3]) {
      const driver = hand({ header: bytes });
      driver.write(0, Buffer.alloc(200, 0xee));
      driver.offer([{ address: driver.at(at), length: 200, flags: WRITE }], 0x1234);
      expect(driver.send(pool(), frame(61))).toBe(1);
      expect(driver.read(at, bytes)).toEqual(written);
      expect(driver.read(at + bytes, 61)).toEqual(frame(61));
      expect(driver.read(at + bytes + 61, 20)).toEqual(Buffer.alloc(20, 0xee));
      // virtio 1.2, 2.8.3
      expect(driver.readDescriptor(0)).toEqual({ address: driver.at(at), length: bytes + 61, id: 0x1234, flags: AVAIL | USED | WRITE });
      expect([pool().free(), counter(driver.device, Q_PACKETS), counter(driver.device, Q_BYTES)]).toEqual([256, 1, 61]);
    }
  });

  it('fills a buffer to its last byte, and no further', () => {
    const driver = hand();
    driver.write(0, Buffer.alloc(300, 0xee));
    post(driver, [100]);
    expect(driver.send(pool(), frame(88))).toBe(1);
    expect(driver.read(12, 88)).toEqual(frame(88));
    expect(driver.read(100, 50)).toEqual(Buffer.alloc(50, 0xee));
  });

  it('spreads a packet over the elements of a list, or of a table', () => {
    for (const table of [false, true]) {
      const driver = hand({ size: 5, features: QUEUE_INDIRECT });
      const elements = [
        { address: driver.at(0), length: 12, flags: WRITE },
        { address: driver.at(1001), length: 0, flags: WRITE },
        { address: driver.at(1001), length: 33, flags: WRITE },
        { address: driver.at(2002), length: 500, flags: WRITE },
      ];
      for (let round = 0; round < 6; round++) {
        const id = table ? driver.offerTable(8192, elements) : driver.offer(elements);
        expect(driver.send(pool(), frame(100, round))).toBe(1);
        expect(Buffer.concat([driver.read(1001, 33), driver.read(2002, 67)])).toEqual(frame(100, round));
        expect(driver.takeUsed()).toEqual([{ id, length: 112 }]);
      }
    }
  });

  it('spreads a packet over buffers and says how many, all but the last of them full', () => {
    // virtio 1.2, 5.1.6.4.1
    const driver = hand({ features: QUEUE_MERGEABLE });
    post(driver, [100, 50, 400, 400]);
    expect(driver.send(pool(), frame(300))).toBe(1);
    expect(driver.read(0, 12)).toEqual(zeroHeader(3));
    expect(Buffer.concat([driver.read(12, 88), driver.read(4096, 50), driver.read(8192, 162)])).toEqual(frame(300));
    expect(driver.takeUsed()).toEqual([
      { id: 0, length: 100 },
      { id: 1, length: 50 },
      { id: 2, length: 162 },
    ]);
    expect(driver.send(pool(), frame(60))).toBe(1);
    expect(driver.takeUsed()).toEqual([{ id: 3, length: 72 }]);
  });

  it('says that nothing was written into a buffer without room', () => {
    // virtio 1.2, 2.8.3
    const driver = hand({ features: QUEUE_MERGEABLE });
    post(driver, [100, 0, 400]);
    expect(driver.send(pool(), frame(300))).toBe(1);
    expect(driver.read(0, 12)).toEqual(zeroHeader(3));
    expect(driver.takeUsed().map(({ length }) => length)).toEqual([100, undefined, 212]);
    expect(driver.readDescriptor(1).flags).toBe(AVAIL | USED);
  });

  it('joins the segments of a packet', () => {
    const driver = hand();
    post(driver, [400]);
    const packet = bench().packet(pool(), frame(300), { segments: [1, 99, 0, 150] }) ?? 0;
    expect(bench().send(bench().kernels.packedDeviceEnqueue, driver.device.offset, [packet])).toBe(1);
    expect(driver.read(12, 300)).toEqual(frame(300));
  });

  it('writes every used descriptor also in order, as lengths matter', () => {
    const driver = hand({ size: 5, features: QUEUE_MERGEABLE | QUEUE_IN_ORDER });
    for (let round = 0; round < 7; round++) {
      post(driver, [100, 100, 200, 100]);
      expect(driver.send(pool(), frame(60), frame(250), frame(61))).toBe(3);
      expect(driver.takeUsed().map(({ length }) => length)).toEqual([72, 100, 162, 73]);
    }
  });

  it('waits for more buffers when those posted are too few, and takes nothing of the packet meanwhile', () => {
    const driver = hand({ features: QUEUE_MERGEABLE });
    post(driver, [100, 100]);
    const before = driver.readDescriptor(1);
    expect(driver.send(pool(), frame(60), frame(300))).toBe(1);
    expect([driver.takeUsed().length, pool().free()]).toEqual([1, 256]);
    expect(driver.readDescriptor(1)).toEqual(before);
    post(driver, [100, 100, 100], 2);
    expect(driver.send(pool(), frame(300))).toBe(1);
    expect(driver.takeUsed()).toHaveLength(4);
    expect(driver.read(4096, 12)).toEqual(zeroHeader(4));
  });

  it.each([0, QUEUE_MERGEABLE])(
    'drops and counts a packet that no number of buffers could hold, and nothing else (features %i)',
    (features) => {
      const driver = hand({ size: 4, features });
      post(driver, [80, 80, 80, 80]);
      expect(driver.send(pool(), frame(60, 1), frame(400, 2), frame(60, 3))).toBe(features === 0 ? 3 : 1);
      driver.takeUsed();
      if (features !== 0) {
        // the ring is not full any more: with a full one it is certain that more buffers cannot come
        post(driver, [80], 0);
        expect(driver.send(pool(), frame(400, 2), frame(60, 3))).toBe(2);
      }
      expect([driver.read(12, 60), driver.read(4096 + 12, 60)]).toEqual([frame(60, 1), frame(60, 3)]);
      expect([counter(driver.device, Q_DROPPED), counter(driver.device, Q_PACKETS), driver.error]).toEqual([1, 2, 0]);
      expect(pool().free()).toBe(256);
    },
  );

  it('drops a packet that two lists cannot hold which fill the ring', () => {
    const driver = hand({ size: 5, features: QUEUE_MERGEABLE });
    for (const elements of [2, 3])
      driver.offer(Array.from({ length: elements }, () => ({ address: driver.at(0), length: 40, flags: WRITE })));
    expect(driver.send(pool(), frame(400, 2), frame(60, 3))).toBe(2);
    expect([counter(driver.device, Q_DROPPED), driver.takeUsed().length]).toEqual([1, 1]);
  });

  it('puts a packet into 512 buffers, and drops one that would take more', () => {
    const driver = hand({ size: 1000, features: QUEUE_MERGEABLE });
    post(driver, [12], 0);
    for (let at = 1; at < 999; at++) driver.offer([{ address: driver.at(4096 + at), length: 1, flags: WRITE }]);
    expect(driver.send(pool(), frame(512), frame(511))).toBe(2);
    expect(driver.takeUsed()).toHaveLength(512);
    expect(driver.read(4097, 511)).toEqual(frame(511));
    expect(driver.read(0, 12).readUInt16LE(10)).toBe(512);
    expect([counter(driver.device, Q_DROPPED), driver.error]).toEqual([1, 0]);
  });

  it('leaves packets to the caller when there are no buffers', () => {
    const driver = hand();
    post(driver, [200, 200]);
    expect(driver.send(pool(), frame(60), frame(61), frame(62))).toBe(2);
    expect(driver.send(pool(), frame(62))).toBe(0);
    expect(pool().free()).toBe(256);
  });

  it('stops before a packet with work that was not negotiated, and says so', () => {
    const driver = hand();
    post(driver, [200, 200]);
    const packets = [frame(60), frame(61)].map((bytes) => bench().packet(pool(), bytes) ?? 0);
    bench().st32((packets[1] ?? 0) + MBUF_FLAGS, MBUF_WORK_CHECKSUM);
    expect(bench().send(bench().kernels.packedDeviceEnqueue, driver.device.offset, packets)).toBe(1);
    expect([driver.device.get(Q_UNFINISHED), driver.takeUsed().length]).toEqual([1, 1]);
  });

  it.each([2, 3, 16, 63, 64, 65, 100])('fills a ring of %i round after round, each packet in its buffer', (size) => {
    const driver = hand({ size, base: 1 });
    let seed = 0;
    for (let round = 0; round < 4; round++) {
      const ids = Array.from({ length: size }, (_, at) => driver.offer([{ address: driver.at(256 * at), length: 256, flags: WRITE }]));
      const packets = Array.from({ length: size + 1 }, () => frame(60 + (seed % 100), seed++));
      expect(driver.send(pool(), ...packets)).toBe(size);
      expect(driver.takeUsed()).toEqual(ids.map((id, at) => ({ id, length: (packets[at]?.length ?? 0) + 12 })));
      for (let at = 0; at < size; at++) expect(driver.read(256 * at + 12, packets[at]?.length ?? 0)).toEqual(packets[at]);
      expect(driver.device.nextAvailable & 0x7fff).toBe(1);
    }
  });

  it.each([
    [EVENT_ENABLE, 1],
    [EVENT_DISABLE, 0],
  ])('asks for a call according to the flags %i of the driver: %i', (flags, wanted) => {
    const driver = hand();
    bench().st32(driver.driverEvents, flags << 16);
    post(driver, [200]);
    driver.send(pool(), frame(60));
    expect(driver.device.get(Q_NOTIFY)).toBe(wanted);
  });

  it.each([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])('refuses receive buffers of %i bytes: no room for the header', (length) => {
    for (const features of [0, QUEUE_MERGEABLE]) {
      const driver = hand({ features, size: 64 });
      post(
        driver,
        Array.from({ length: 64 }, () => length),
      );
      const sent = driver.send(pool(), frame(60));
      // not mergeable: the packet cannot fit into one such buffer and is dropped
      expect(sent === 1 ? counter(driver.device, Q_DROPPED) : driver.error).toBe(sent === 1 ? 1 : QUEUE_ERROR_CHAIN);
      expect(driver.read(length, 4096 - length)).toEqual(Buffer.alloc(4096 - length));
      expect(pool().free()).toBe(256);
    }
  });

  const broken: readonly (readonly [name: string, error: number, make: (driver: PackedDriver) => void])[] = [
    ['a buffer that may only be read', QUEUE_ERROR_CHAIN, (driver) => driver.offer([{ address: driver.at(0), length: 200 }])],
    [
      'a list of which a part may only be read',
      QUEUE_ERROR_CHAIN,
      (driver) =>
        driver.offer([
          { address: driver.at(0), length: 20, flags: WRITE },
          { address: driver.at(100), length: 200 },
        ]),
    ],
    [
      'a table of which a part may only be read',
      QUEUE_ERROR_CHAIN,
      (driver) =>
        driver.offerTable(4096, [
          { address: driver.at(0), length: 20, flags: WRITE },
          { address: driver.at(100), length: 200 },
        ]),
    ],
    [
      'a list without an end',
      QUEUE_ERROR_CHAIN,
      (driver) => {
        for (let ahead = 0; ahead < driver.free; ahead++)
          driver.descriptor(driver.place(ahead), { address: driver.at(0), length: 1, flags: WRITE | NEXT | driver.availableFlags(ahead) });
      },
    ],
    [
      'a list that goes on where nothing was made available',
      QUEUE_ERROR_CHAIN,
      (driver) => {
        driver.descriptor(driver.place(), { address: driver.at(0), length: 20, flags: WRITE | NEXT | driver.availableFlags() });
      },
    ],
    ['a table of 24 bytes', QUEUE_ERROR_CHAIN, (driver) => driver.offerTable(4096, [], WRITE, 24)],
    [
      'a table at an odd address',
      QUEUE_ERROR_ADDRESS,
      (driver) => driver.offer([{ address: GUEST + 4097n, length: 16, flags: WRITE | INDIRECT }]),
    ],
    ...(
      [
        ['outside the memory', 0x5_0000_0000n, 200],
        ['of 0', 0n, 200],
        ['that wraps beyond 2^64', 0xffff_ffff_ffff_fff0n, 200],
        ['whose range leaves the memory', GUEST + BigInt(BUFFERS) - 71n, 200],
      ] as const
    ).flatMap(([name, address, length]) => {
      const elements: readonly Element[] = [
        { address: GUEST, length: 20, flags: WRITE },
        { address, length, flags: WRITE },
      ];
      return [
        [`an address ${name}`, QUEUE_ERROR_ADDRESS, (driver: PackedDriver) => driver.offer(elements.slice(1))] as const,
        [`an address ${name} in a list`, QUEUE_ERROR_ADDRESS, (driver: PackedDriver) => driver.offer(elements)] as const,
        [`an address ${name} in a table`, QUEUE_ERROR_ADDRESS, (driver: PackedDriver) => driver.offerTable(4096, elements)] as const,
      ];
    }),
  ];

  it.each(broken)('refuses %s, and the caller keeps the packet', (_, error, make) => {
    for (const features of [0, QUEUE_MERGEABLE]) {
      const driver = hand({ features: features | QUEUE_INDIRECT });
      post(driver, [200], 8);
      make(driver);
      expect(driver.send(pool(), frame(60, 1), frame(60, 2))).toBe(1);
      expect([driver.device.get(Q_STATE), driver.error]).toEqual([QUEUE_STOPPED, error]);
      expect(driver.takeUsed()).toHaveLength(1);
      expect(driver.send(pool(), frame(60))).toBe(0);
      expect(pool().free()).toBe(256);
    }
  });

  it('keeps what a packet with a second owner holds', () => {
    const driver = hand();
    post(driver, [200]);
    const packet = bench().packet(pool(), frame(60), { references: 2 }) ?? 0;
    expect(bench().send(bench().kernels.packedDeviceEnqueue, driver.device.offset, [packet])).toBe(1);
    expect(bench().read(bench().ld32(packet + MBUF_DATA), 60)).toEqual(frame(60));
    expect(pool().free()).toBe(255);
    bench().kernels.packetFree(packet, 0);
  });

  it('property: delivers what is sent, into any lists, through rings of any size', () => {
    const buffer = fc.record({ lengths: fc.array(fc.integer({ min: 20, max: 300 }), { minLength: 1, maxLength: 3 }), table: fc.boolean() });
    const step = fc.oneof(
      fc.record({ post: fc.array(buffer, { minLength: 1, maxLength: 8 }) }),
      fc.record({ send: fc.array(fc.integer({ min: 14, max: 700 }), { minLength: 1, maxLength: 8 }) }),
    );
    type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;
    const check = (size: number, features: number, base: number, steps: readonly Step[]): void => {
      const driver = hand({ size, features: features | QUEUE_INDIRECT, base: (base & 0x8000) | ((base & 0x7fff) % size) });
      const posted: { readonly id: number; readonly elements: readonly Element[] }[] = [];
      let slots = 0;
      let seed = 0;
      let delivered = 0;
      for (const each of steps) {
        if ('post' in each) {
          for (const { lengths, table } of each.post) {
            if ((table ? 1 : lengths.length) > driver.free) continue;
            const slot = 1024 * (slots++ % 128);
            const elements = lengths.map((length, at) => ({ address: driver.at(slot + 300 * at), length, flags: WRITE }));
            posted.push({ id: table ? driver.offerTable(128 * 1024 + slot, elements) : driver.offer(elements), elements });
          }
          continue;
        }
        const free = driver.free;
        const packets = each.send.map((length) => frame(length, seed++));
        const dropped = counter(driver.device, Q_DROPPED);
        const taken = driver.send(pool(), ...packets);
        expect(driver.error).toBe(0);
        const used = driver.takeUsed();
        let lost = 0;
        for (const packet of packets.slice(0, taken)) {
          // what a buffer or all of them can hold
          const rooms = posted.map(({ elements }) => elements.reduce((sum, { length }) => sum + length, 0));
          const room = (features & QUEUE_MERGEABLE) !== 0 ? rooms.reduce((sum, one) => sum + one, 0) : (rooms[0] ?? 0);
          if (room < packet.length + 12) {
            lost++;
            continue;
          }
          const parts: Buffer[] = [];
          let left = packet.length + 12;
          let buffers = 0;
          while (left > 0) {
            const { id = -1, elements = [] } = posted.shift() ?? {};
            const bytes = Math.min(left, rooms[buffers++] ?? 0);
            expect(used.shift()).toEqual({ id, length: bytes });
            const whole = Buffer.concat(elements.map(({ address, length }) => driver.read(Number(address - GUEST), length)));
            parts.push(whole.subarray(0, bytes));
            left -= bytes;
          }
          const got = Buffer.concat(parts);
          expect(got.subarray(12)).toEqual(packet);
          expect(got.subarray(0, 12)).toEqual(zeroHeader(buffers));
          delivered++;
        }
        expect(used).toEqual([]);
        expect(counter(driver.device, Q_DROPPED) - dropped).toBe(lost);
        // only a ring that was full is sure to have no more
        if (lost > 0 && (features & QUEUE_MERGEABLE) !== 0) expect(free).toBe(0);
      }
      expect(counter(driver.device, Q_PACKETS)).toBe(delivered);
      expect(pool().free()).toBe(256);
      driver.device.close();
    };
    fc.assert(
      fc.property(
        fc.oneof(fc.integer({ min: 2, max: 9 }), fc.integer({ min: 10, max: 70 })),
        fc.constantFrom(0, QUEUE_MERGEABLE, QUEUE_IN_ORDER, QUEUE_MERGEABLE | QUEUE_IN_ORDER),
        fc.nat(0xffff),
        fc.array(step, { minLength: 1, maxLength: 30, size: 'max' }),
        check,
      ),
      { numRuns: 12, interruptAfterTimeLimit: LIMIT },
    );
  });
});
