import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { MBUF_DATA, MBUF_PORT } from '../../src/memory/mbuf-layout.ts';
import type { Mempool } from '../../src/memory/mempool.ts';
import {
  Q_DROPPED,
  Q_ERRORS,
  Q_NO_MBUF,
  Q_NOTIFY,
  Q_PACKETS,
  Q_STATE,
  QUEUE_DISABLED,
  QUEUE_ERROR_ADDRESS,
  QUEUE_ERROR_CHAIN,
  QUEUE_ERROR_ID,
  QUEUE_ERROR_INDEX,
  QUEUE_EVENT_IDX,
  QUEUE_IN_ORDER,
  QUEUE_INDIRECT,
  QUEUE_MERGEABLE,
  QUEUE_STOPPED,
} from '../../src/ring/queue-layout.ts';
import { BUFFERS, GUEST } from '../support/guest-memory.ts';
import { HandDriver, type Link } from '../support/hand-driver.ts';
import { counter, frame, RingBench, TARGETS } from '../support/ring-pair.ts';

const NEXT = 1;
const WRITE = 2;
const INDIRECT = 4;
const header = (length = 12): Buffer => Buffer.alloc(length, 0x77);

describe.each(TARGETS)('taking packets as a device on %s', (target) => {
  let bench: RingBench;
  let pool: Mempool;
  const open: HandDriver[] = [];
  beforeEach(() => {
    bench = new RingBench(target);
    pool = bench.pool({ count: 256 });
  });
  afterEach(() => {
    for (const driver of open.splice(0)) driver.device.close();
    bench[Symbol.dispose]();
  });
  const hand = (options: ConstructorParameters<typeof HandDriver>[1] = {}): HandDriver => {
    const driver = new HandDriver(bench, { pool, ...options });
    open.push(driver);
    return driver;
  };

  it.each([10, 12])('takes what follows the header of %i bytes, whatever the header says', (bytes) => {
    const driver = hand({ header: bytes });
    driver.write(0, Buffer.concat([Buffer.alloc(bytes, 0xff), frame(60)]));
    driver.descriptor(3, { address: driver.at(0), length: bytes + 60 });
    driver.offer(3);
    expect(bench.kernels.splitDeviceDequeue(driver.device.offset, bench.handles, 8)).toBe(1);
    const [packet = 0] = bench.listed(1);
    expect(bench.bytesOf(packet)).toEqual(frame(60));
    expect(bench.ld16(packet + MBUF_PORT)).toBe(7);
    bench.kernels.packetFree(packet, 0);
    expect([driver.usedIndex, driver.usedElement(0)]).toEqual([1, { id: 3, length: 0 }]);
  });

  it('takes data at any alignment', () => {
    const driver = hand();
    for (const at of [1, 2, 3, 5, 7]) {
      driver.write(at, Buffer.concat([header(), frame(99, at)]));
      driver.descriptor(0, { address: driver.at(at), length: 12 + 99 });
      driver.offer(0);
      expect(driver.receive()).toEqual([frame(99, at)]);
    }
  });

  it('assumes nothing about how the driver frames header and packet', () => {
    // virtio 1.2, 2.7.4.1: "The device MUST NOT make assumptions about the particular arrangement of descriptors"
    const bytes = Buffer.concat([header(), frame(200, 4)]);
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
    const driver = hand();
    driver.write(0, bytes);
    for (const cut of cuts) {
      let at = 0;
      const links = cut.map((length) => ({ address: driver.at((at += length) - length), length }));
      driver.chain(2, links);
      driver.offer(2);
      expect(driver.receive()).toEqual([frame(200, 4)]);
    }
    expect(driver.usedIndex).toBe(cuts.length);
  });

  it('takes a chain as long as the ring', () => {
    const driver = hand({ size: 16 });
    const bytes = Buffer.concat([header(), frame(308, 2)]);
    driver.write(0, bytes);
    driver.chain(
      0,
      Array.from({ length: 16 }, (_, at) => ({ address: driver.at(20 * at), length: 20 })),
    );
    driver.offer(0);
    expect(driver.receive()).toEqual([frame(308, 2)]);
  });

  it('follows a chain in any order of descriptor numbers', () => {
    const driver = hand();
    driver.write(0, header());
    driver.write(100, frame(40, 1));
    driver.descriptor(9, { address: driver.at(0), length: 12, flags: NEXT, next: 2 });
    driver.descriptor(2, { address: driver.at(100), length: 20, flags: NEXT, next: 15 });
    driver.descriptor(15, { address: driver.at(120), length: 20 });
    driver.offer(9);
    expect(driver.receive()).toEqual([frame(40, 1)]);
    expect(driver.usedElement(0).id).toBe(9);
  });

  it('spreads a packet larger than a data room over several mbufs', () => {
    const driver = hand();
    const bytes = frame(9000, 3);
    driver.write(0, Buffer.concat([header(), bytes]));
    driver.descriptor(0, { address: driver.at(0), length: 9012 });
    driver.offer(0);
    expect(driver.receive()).toEqual([bytes]);
  });

  it('takes a packet of 64 KiB, and drops a larger one without losing the next', () => {
    const driver = hand();
    const bytes = frame(65_535, 3);
    driver.write(0, Buffer.concat([header(), bytes]));
    driver.descriptor(0, { address: driver.at(0), length: 12 + 65_535 });
    driver.descriptor(1, { address: driver.at(0), length: 12 + 65_535 + 64 });
    driver.chain(
      2,
      Array.from({ length: 3 }, () => ({ address: driver.at(0), length: 40_000 })),
    );
    driver.descriptor(6, { address: driver.at(0), length: 72 });
    driver.offer(0, 1, 2, 6);
    expect(driver.receive()).toEqual([bytes, frame(65_535, 3).subarray(0, 60)]);
    expect([counter(driver.device, Q_ERRORS), driver.usedIndex, driver.error]).toEqual([2, 4, 0]);
  });

  it.each([0, 1, 11, 12, 13, 25])('drops and counts a chain of %i bytes in all, and goes on', (length) => {
    // no longer than the header, or shorter than an Ethernet header behind it
    const driver = hand();
    driver.write(0, Buffer.concat([header(), frame(60)]));
    driver.descriptor(0, { address: driver.at(0), length });
    driver.chain(
      1,
      Array.from({ length: 3 }, (_, at) => ({
        address: driver.at(0),
        length: at < length % 3 ? Math.ceil(length / 3) : Math.floor(length / 3),
      })),
    );
    driver.descriptor(5, { address: driver.at(0), length: 72 });
    driver.offer(0, 1, 5);
    expect(driver.receive()).toEqual([frame(60)]);
    expect([counter(driver.device, Q_ERRORS), counter(driver.device, Q_PACKETS), driver.usedIndex]).toEqual([2, 1, 3]);
    expect(pool.free()).toBe(256);
  });

  it('drops twelve descriptors of one byte: the header and nothing else', () => {
    const driver = hand();
    driver.chain(
      0,
      Array.from({ length: 12 }, (_, at) => ({ address: driver.at(at), length: 1 })),
    );
    driver.offer(0);
    expect(driver.receive()).toEqual([]);
    expect([counter(driver.device, Q_ERRORS), driver.error]).toEqual([1, 0]);
  });

  it('does not look at the address of a descriptor without a length', () => {
    const driver = hand();
    driver.write(0, Buffer.concat([header(), frame(60)]));
    driver.chain(0, [
      { address: 0xdead_0000_0000n, length: 0 },
      { address: driver.at(0), length: 72 },
      { address: 0xffff_ffff_ffff_ffffn, length: 0 },
    ]);
    driver.offer(0);
    expect(driver.receive()).toEqual([frame(60)]);
  });

  describe('with indirect descriptors', () => {
    const TABLE = 8192;
    const indirect = (): HandDriver => {
      const driver = hand({ features: QUEUE_INDIRECT });
      driver.write(0, Buffer.concat([header(), frame(300)]));
      return driver;
    };
    const parts = (driver: HandDriver): readonly Link[] => [
      { address: driver.at(0), length: 100, flags: NEXT, next: 1 },
      { address: driver.at(100), length: 12, flags: NEXT, next: 2 },
      { address: driver.at(112), length: 200 },
    ];

    it.each([0, WRITE])('takes a packet by a table, whatever WRITE says of that (flags %i)', (flags) => {
      // virtio 1.2, 2.7.5.3.2: "The device MUST ignore the write-only flag in the descriptor that refers to an indirect table"
      const driver = indirect();
      driver.table(TABLE, parts(driver));
      driver.descriptor(5, { address: driver.at(TABLE), length: 48, flags: INDIRECT | flags, next: 9 });
      driver.offer(5);
      expect(driver.receive()).toEqual([frame(300)]);
      expect([driver.usedIndex, driver.usedElement(0)]).toEqual([1, { id: 5, length: 0 }]);
    });

    it('takes a table behind descriptors of the ring', () => {
      // virtio 1.2, 2.7.5.3.2: "zero or more normal chained descriptors followed by a single descriptor with INDIRECT"
      const driver = indirect();
      const [first, ...others] = parts(driver);
      driver.descriptor(2, { ...first, address: driver.at(0), length: 100, flags: NEXT, next: 15 });
      driver.table(
        TABLE,
        others.map((link, index) => ({ ...link, next: index + 1 })),
      );
      driver.descriptor(15, { address: driver.at(TABLE), length: 32, flags: INDIRECT });
      driver.offer(2);
      expect(driver.receive()).toEqual([frame(300)]);
      expect(driver.usedElement(0).id).toBe(2);
    });

    it('follows the entries of a table in any order, and leaves those that no one names alone', () => {
      const driver = indirect();
      driver.table(TABLE, [
        { address: driver.at(0), length: 100, flags: NEXT, next: 3 },
        { address: 1n, length: 9, flags: 0xffff, next: 0xffff },
        { address: driver.at(112), length: 200 },
        { address: driver.at(100), length: 12, flags: NEXT, next: 2 },
      ]);
      driver.descriptor(0, { address: driver.at(TABLE), length: 64, flags: INDIRECT });
      driver.offer(0);
      expect(driver.receive()).toEqual([frame(300)]);
    });

    it('takes a table longer than the ring', () => {
      const driver = indirect();
      driver.table(
        TABLE,
        Array.from({ length: 312 }, (_, index) => ({
          address: driver.at(index),
          length: 1,
          flags: index < 311 ? NEXT : 0,
          next: index + 1,
        })),
      );
      driver.descriptor(0, { address: driver.at(TABLE), length: 312 * 16, flags: INDIRECT });
      driver.offer(0);
      expect(driver.receive()).toEqual([frame(300)]);
    });

    /** What is wrong with a descriptor that refers to a table, or with the table. */
    const tables: readonly (readonly [name: string, error: number, change: (driver: HandDriver) => Partial<Link>])[] = [
      ['of 0 bytes', QUEUE_ERROR_CHAIN, () => ({ length: 0 })],
      ['of 15 bytes', QUEUE_ERROR_CHAIN, () => ({ length: 15 })],
      ['of 49 bytes', QUEUE_ERROR_CHAIN, () => ({ length: 49 })],
      ['of 4 GiB', QUEUE_ERROR_CHAIN, () => ({ length: 0xffff_fff0 })],
      ['with NEXT', QUEUE_ERROR_CHAIN, () => ({ flags: INDIRECT | NEXT, next: 1 })],
      ['outside the memory', QUEUE_ERROR_ADDRESS, () => ({ address: 0x5_0000_0000n })],
      ['across the end of the memory', QUEUE_ERROR_ADDRESS, () => ({ address: GUEST + BigInt(BUFFERS) - 32n })],
      ['at an address that wraps', QUEUE_ERROR_ADDRESS, () => ({ address: 0xffff_ffff_ffff_fff0n })],
      ['at an odd address', QUEUE_ERROR_ADDRESS, (driver) => ({ address: driver.at(TABLE + 1) })],
      [
        'whose first entry refers to a table',
        QUEUE_ERROR_CHAIN,
        (driver) => {
          driver.table(TABLE, [{ address: driver.at(TABLE), length: 48, flags: INDIRECT }]);
          return {};
        },
      ],
      [
        'whose last entry refers to a table',
        QUEUE_ERROR_CHAIN,
        (driver) => {
          driver.table(TABLE + 32, [{ address: driver.at(TABLE), length: 48, flags: INDIRECT }]);
          return {};
        },
      ],
      [
        'that goes round',
        QUEUE_ERROR_CHAIN,
        (driver) => {
          driver.table(TABLE + 32, [{ address: driver.at(112), length: 0, flags: NEXT, next: 1 }]);
          return {};
        },
      ],
      [
        'whose next lies behind it, though within the ring',
        QUEUE_ERROR_ID,
        (driver) => {
          driver.table(TABLE, [{ address: driver.at(0), length: 20, flags: NEXT, next: 3 }]);
          return {};
        },
      ],
      [
        'with a buffer that the device is to write',
        QUEUE_ERROR_CHAIN,
        (driver) => {
          driver.table(TABLE + 32, [{ address: driver.at(112), length: 20, flags: WRITE }]);
          return {};
        },
      ],
      [
        'with a buffer outside the memory',
        QUEUE_ERROR_ADDRESS,
        (driver) => {
          driver.table(TABLE + 32, [{ address: 1n, length: 20 }]);
          return {};
        },
      ],
    ];
    it.each(tables)('refuses a table %s', (_, error, change) => {
      const driver = indirect();
      driver.descriptor(8, { address: driver.at(0), length: 312 });
      driver.offer(8);
      driver.table(TABLE, parts(driver));
      driver.descriptor(0, { address: driver.at(TABLE), length: 48, flags: INDIRECT, ...change(driver) });
      driver.offer(0);
      expect(driver.receive()).toEqual([frame(300)]);
      expect([driver.device.get(Q_STATE), driver.error]).toEqual([QUEUE_STOPPED, error]);
      expect(driver.usedIndex).toBe(1);
      expect(pool.free()).toBe(256);
    });
  });

  it('leaves packets in the ring while the pool is empty, and takes them when it is not', () => {
    const driver = hand();
    driver.write(0, Buffer.concat([header(), frame(60)]));
    for (let at = 0; at < 8; at++) driver.descriptor(at, { address: driver.at(0), length: 72 });
    driver.offer(0, 1, 2, 3, 4, 5, 6, 7);
    const held = Array.from({ length: 256 }, () => bench.packet(pool, frame(60)) ?? 0);
    expect(driver.receive()).toEqual([]);
    expect([driver.usedIndex, counter(driver.device, Q_NO_MBUF)]).toEqual([0, 1]);
    for (const packet of held) bench.kernels.packetFree(packet, 0);
    expect(driver.receive()).toHaveLength(8);
  });

  it('leaves a large packet in the ring when its further segments cannot be had, and loses no mbuf', () => {
    const driver = hand();
    driver.write(0, Buffer.concat([header(), frame(9000)]));
    driver.descriptor(0, { address: driver.at(0), length: 72 });
    driver.descriptor(1, { address: driver.at(0), length: 9012 });
    driver.offer(0, 1);
    const held = Array.from({ length: 253 }, () => bench.packet(pool, frame(60)) ?? 0);
    expect(driver.receive()).toEqual([frame(9000).subarray(0, 60)]);
    expect([pool.free(), driver.usedIndex]).toEqual([3, 1]);
    for (const packet of held) bench.kernels.packetFree(packet, 0);
    expect(driver.receive()).toEqual([frame(9000)]);
  });

  it('takes no more than were asked for', () => {
    const driver = hand();
    driver.write(0, Buffer.concat([header(), frame(60)]));
    for (let at = 0; at < 8; at++) driver.descriptor(at, { address: driver.at(0), length: 72 });
    driver.offer(0, 1, 2, 3, 4, 5, 6, 7);
    expect(driver.receive(3)).toHaveLength(3);
    expect(driver.usedIndex).toBe(3);
    expect(driver.receive(3)).toHaveLength(3);
    expect(driver.receive(3)).toHaveLength(2);
  });

  it('goes on where the used index stands, across the wrap of 16 bits', () => {
    const driver = hand({ index: 0xfffc });
    driver.write(0, Buffer.concat([header(), frame(60)]));
    for (let at = 0; at < 8; at++) driver.descriptor(at, { address: driver.at(0), length: 72 });
    driver.offer(0, 1, 2, 3, 4, 5, 6, 7);
    expect(driver.receive()).toHaveLength(8);
    expect(driver.usedIndex).toBe(4);
    expect(driver.device.nextAvailable).toBe(4);
    expect(Array.from({ length: 8 }, (_, at) => driver.usedElement(0xfffc + at).id)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  });

  it.each([
    // virtio 1.2, 2.7.7.2: a call once the index of an element equals used_event
    [0, 1, 0, 1],
    [0, 1, 1, 0],
    [0, 3, 2, 1],
    [0, 3, 3, 0],
    [0, 3, 0xbfff, 0],
    [0xfffe, 3, 0, 1],
    [0xfffe, 3, 0xfffe, 1],
    [0xfffe, 3, 1, 0],
    [0xfffe, 3, 0xfffd, 0],
  ])('with EVENT_IDX, from index %i on, %i packets and a used_event of %i: calls %i', (index, count, event, wanted) => {
    const driver = hand({ features: QUEUE_EVENT_IDX, index });
    driver.device.set(Q_NOTIFY, 0);
    // virtio 1.2, 2.7.6: behind the ring; the flags mean nothing then
    bench.st16(driver.available, wanted);
    bench.st16(driver.available + 4 + 2 * driver.size, event);
    for (let at = 0; at < count; at++) driver.descriptor(at, { address: driver.at(0), length: 72 });
    driver.offer(...Array.from({ length: count }, (_, at) => at));
    expect(driver.receive()).toHaveLength(count);
    expect(driver.device.get(Q_NOTIFY)).toBe(wanted);
    expect(bench.ld16(driver.used)).toBe(0);
  });

  it.each([
    [0, 1],
    [1, 0],
    [0xfffe, 1],
    [0xffff, 0],
  ])('asks for a call according to the flags %i of the available ring: %i', (flags, wanted) => {
    // virtio 1.2, 2.7.7: VIRTQ_AVAIL_F_NO_INTERRUPT is bit 0
    const driver = hand();
    bench.st16(driver.available, flags);
    driver.descriptor(0, { address: driver.at(0), length: 72 });
    driver.offer(0);
    driver.receive();
    expect(driver.device.get(Q_NOTIFY)).toBe(wanted);
  });

  it('consumes and discards everything on a ring that is disabled', () => {
    // vhost-user, "Ring states": a started but disabled network ring processes and discards its descriptors
    const driver = hand();
    driver.device.setState(QUEUE_DISABLED);
    driver.offer(3, 2, 1);
    expect(driver.receive()).toEqual([]);
    expect([driver.usedIndex, counter(driver.device, Q_DROPPED), counter(driver.device, Q_PACKETS)]).toEqual([3, 3, 0]);
    expect([0, 1, 2].map((at) => driver.usedElement(at))).toEqual([3, 2, 1].map((id) => ({ id, length: 0 })));
    driver.jump(17);
    driver.receive();
    expect(driver.error).toBe(QUEUE_ERROR_INDEX);
  });

  it('does nothing while it is stopped', () => {
    const driver = hand();
    driver.device.setState(QUEUE_STOPPED);
    driver.descriptor(0, { address: driver.at(0), length: 72 });
    driver.offer(0);
    expect(driver.receive()).toEqual([]);
    expect(driver.usedIndex).toBe(0);
  });

  const broken: readonly (readonly [name: string, error: number, make: (driver: HandDriver) => void])[] = [
    ['an available index further ahead than the ring is long', QUEUE_ERROR_INDEX, (driver) => driver.jump(17)],
    ['an available index that goes back', QUEUE_ERROR_INDEX, (driver) => driver.jump(-1)],
    ['an available entry outside the ring', QUEUE_ERROR_ID, (driver) => driver.offer(16)],
    ['an available entry of 0xffff', QUEUE_ERROR_ID, (driver) => driver.offer(0xffff)],
    [
      'a next outside the ring',
      QUEUE_ERROR_ID,
      (driver) => {
        driver.descriptor(0, { address: driver.at(0), length: 12, flags: NEXT, next: 16 });
        driver.offer(0);
      },
    ],
    [
      'a next of 0xffff',
      QUEUE_ERROR_ID,
      (driver) => {
        driver.descriptor(0, { address: driver.at(0), length: 12, flags: NEXT, next: 0xffff });
        driver.offer(0);
      },
    ],
    [
      'a descriptor that follows itself',
      QUEUE_ERROR_CHAIN,
      (driver) => {
        driver.descriptor(0, { address: driver.at(0), length: 20, flags: NEXT, next: 0 });
        driver.offer(0);
      },
    ],
    [
      'a loop of descriptors without lengths',
      QUEUE_ERROR_CHAIN,
      (driver) => {
        driver.descriptor(0, { address: driver.at(0), length: 0, flags: NEXT, next: 1 });
        driver.descriptor(1, { address: driver.at(0), length: 0, flags: NEXT, next: 0 });
        driver.offer(0);
      },
    ],
    [
      'a loop behind a packet that is too large anyway',
      QUEUE_ERROR_CHAIN,
      (driver) => {
        driver.descriptor(0, { address: driver.at(0), length: 200_000, flags: NEXT, next: 0 });
        driver.offer(0);
      },
    ],
    [
      'a buffer that the device is to write',
      QUEUE_ERROR_CHAIN,
      (driver) => {
        driver.descriptor(0, { address: driver.at(0), length: 72, flags: WRITE });
        driver.offer(0);
      },
    ],
    [
      'a buffer to write at the end of a chain',
      QUEUE_ERROR_CHAIN,
      (driver) => {
        driver.chain(0, [
          { address: driver.at(0), length: 72 },
          { address: driver.at(0), length: 10, flags: WRITE },
        ]);
        driver.offer(0);
      },
    ],
    [
      'an indirect table that was not negotiated',
      QUEUE_ERROR_CHAIN,
      (driver) => {
        driver.descriptor(0, { address: driver.at(0), length: 32, flags: INDIRECT });
        driver.offer(0);
      },
    ],
    ...(
      [
        ['outside the memory', 0x5_0000_0000n, 72],
        ['of 0', 0n, 72],
        ['just before the memory', GUEST - 1n, 72],
        ['whose range leaves the memory', GUEST + BigInt(BUFFERS) - 71n, 72],
        ['that wraps beyond 2^64', 0xffff_ffff_ffff_fff0n, 72],
        ['right only in its low word', GUEST + 0x7_0000_0000n, 72],
      ] as const
    ).map(([name, address, length]) => {
      const make = (driver: HandDriver): void => {
        driver.descriptor(0, { address, length });
        driver.offer(0);
      };
      return [`an address ${name}`, QUEUE_ERROR_ADDRESS, make] as const;
    }),
    [
      'an address outside the memory in a chain',
      QUEUE_ERROR_ADDRESS,
      (driver) => {
        driver.chain(0, [
          { address: driver.at(0), length: 5000 },
          { address: 1n, length: 10 },
        ]);
        driver.offer(0);
      },
    ],
  ];

  it.each(broken)('refuses %s, delivers what came before, and loses no mbuf', (_, error, make) => {
    const driver = hand();
    driver.write(0, Buffer.concat([header(), frame(60)]));
    const jumps = error === QUEUE_ERROR_INDEX;
    if (!jumps) {
      driver.descriptor(8, { address: driver.at(0), length: 72 });
      driver.offer(8);
    }
    make(driver);
    expect(driver.receive()).toHaveLength(jumps ? 0 : 1);
    expect([driver.device.get(Q_STATE), driver.error]).toEqual([QUEUE_STOPPED, error]);
    expect(driver.receive()).toEqual([]);
    expect(driver.usedIndex).toBe(jumps ? 0 : 1);
    expect(pool.free()).toBe(256);
  });

  it('refuses a buffer that spans two regions which are not neighbours', () => {
    const driver = hand({
      regions: (buffers) => [
        { guest: GUEST, size: 4096, offset: buffers },
        { guest: GUEST + 4096n, size: 4096, offset: buffers + 8192 },
      ],
    });
    driver.descriptor(0, { address: GUEST + 4090n, length: 72 });
    driver.descriptor(1, { address: GUEST + 4096n, length: 72 });
    driver.offer(1);
    expect(driver.receive()).toHaveLength(1);
    driver.offer(0);
    expect(driver.receive()).toHaveLength(0);
    expect(driver.error).toBe(QUEUE_ERROR_ADDRESS);
  });
});

describe.each(TARGETS)('giving packets as a device on %s', (target) => {
  let bench: RingBench;
  let pool: Mempool;
  const open: HandDriver[] = [];
  beforeEach(() => {
    bench = new RingBench(target);
    pool = bench.pool({ count: 256 });
  });
  afterEach(() => {
    for (const driver of open.splice(0)) driver.device.close();
    bench[Symbol.dispose]();
  });
  const hand = (options: ConstructorParameters<typeof HandDriver>[1] = {}): HandDriver => {
    const driver = new HandDriver(bench, options);
    open.push(driver);
    return driver;
  };
  /** Posts buffers of one descriptor, 4096 bytes apart. */
  const post = (driver: HandDriver, lengths: readonly number[], first = 0): void => {
    for (const [at, length] of lengths.entries()) {
      driver.descriptor(first + at, { address: driver.at(4096 * (first + at)), length, flags: WRITE });
      driver.offer(first + at);
    }
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
      driver.descriptor(5, { address: driver.at(at), length: 200, flags: WRITE });
      driver.offer(5);
      expect(driver.send(pool, frame(61))).toBe(1);
      expect(driver.read(at, bytes)).toEqual(written);
      expect(driver.read(at + bytes, 61)).toEqual(frame(61));
      expect(driver.read(at + bytes + 61, 20)).toEqual(Buffer.alloc(20, 0xee));
      expect([driver.usedIndex, driver.usedElement(0)]).toEqual([1, { id: 5, length: bytes + 61 }]);
      expect(pool.free()).toBe(256);
    }
  });

  it('fills a buffer to its last byte, and no further', () => {
    const driver = hand();
    driver.write(0, Buffer.alloc(300, 0xee));
    post(driver, [100]);
    expect(driver.send(pool, frame(88))).toBe(1);
    expect(driver.read(12, 88)).toEqual(frame(88));
    expect(driver.read(100, 50)).toEqual(Buffer.alloc(50, 0xee));
  });

  it('spreads a packet over the buffers of a chain', () => {
    const driver = hand();
    driver.chain(3, [
      { address: driver.at(0), length: 12, flags: WRITE },
      { address: driver.at(1001), length: 0, flags: WRITE },
      { address: driver.at(1001), length: 33, flags: WRITE },
      { address: driver.at(2002), length: 500, flags: WRITE },
    ]);
    driver.offer(3);
    expect(driver.send(pool, frame(100))).toBe(1);
    expect(Buffer.concat([driver.read(1001, 33), driver.read(2002, 67)])).toEqual(frame(100));
    expect(driver.usedElement(0)).toEqual({ id: 3, length: 112 });
  });

  it('spreads a packet over the buffers of a table, and leaves that as it is', () => {
    const driver = hand({ features: QUEUE_INDIRECT });
    driver.table(8192, [
      { address: driver.at(0), length: 12, flags: WRITE | NEXT, next: 1 },
      { address: driver.at(1001), length: 33, flags: WRITE | NEXT, next: 2 },
      { address: driver.at(2002), length: 500, flags: WRITE },
    ]);
    const before = driver.read(8192, 48);
    driver.descriptor(3, { address: driver.at(8192), length: 48, flags: INDIRECT });
    driver.offer(3);
    expect(driver.send(pool, frame(100))).toBe(1);
    expect(Buffer.concat([driver.read(1001, 33), driver.read(2002, 67)])).toEqual(frame(100));
    expect(driver.usedElement(0)).toEqual({ id: 3, length: 112 });
    expect(driver.read(8192, 48)).toEqual(before);
  });

  it('spreads a packet over buffers and says how many, all but the last of them full', () => {
    // virtio 1.2, 5.1.6.4.1
    const driver = hand({ features: QUEUE_MERGEABLE });
    post(driver, [100, 50, 400, 400]);
    expect(driver.send(pool, frame(300))).toBe(1);
    expect(driver.read(0, 12)).toEqual(zeroHeader(3));
    expect(Buffer.concat([driver.read(12, 88), driver.read(4096, 50), driver.read(8192, 162)])).toEqual(frame(300));
    expect([0, 1, 2].map((at) => driver.usedElement(at))).toEqual([
      { id: 0, length: 100 },
      { id: 1, length: 50 },
      { id: 2, length: 162 },
    ]);
    expect(driver.usedIndex).toBe(3);
    expect(driver.send(pool, frame(60))).toBe(1);
    expect(driver.usedElement(3)).toEqual({ id: 3, length: 72 });
  });

  it('joins the segments of a packet', () => {
    const driver = hand();
    post(driver, [400]);
    const packet = bench.packet(pool, frame(300), { segments: [1, 99, 0, 150] }) ?? 0;
    expect(bench.send(bench.kernels.splitDeviceEnqueue, driver.device.offset, [packet])).toBe(1);
    expect(driver.read(12, 300)).toEqual(frame(300));
  });

  it('spreads segments of any length over buffers of any length', () => {
    const driver = hand({ features: QUEUE_MERGEABLE | QUEUE_IN_ORDER });
    post(driver, [13, 1, 7, 100, 64, 200]);
    const packet = bench.packet(pool, frame(300), { segments: [5, 100, 3] }) ?? 0;
    expect(bench.send(bench.kernels.splitDeviceEnqueue, driver.device.offset, [packet])).toBe(1);
    const parts = [
      driver.read(12, 1),
      driver.read(4096, 1),
      driver.read(8192, 7),
      driver.read(12288, 100),
      driver.read(16384, 64),
      driver.read(20480, 127),
    ];
    expect(Buffer.concat(parts)).toEqual(frame(300));
    expect(driver.read(0, 12)).toEqual(zeroHeader(6));
  });

  it('waits for more buffers when those posted are too few, and takes nothing of the packet meanwhile', () => {
    const driver = hand({ features: QUEUE_MERGEABLE });
    post(driver, [100, 100]);
    expect(driver.send(pool, frame(60), frame(300))).toBe(1);
    expect([driver.usedIndex, pool.free()]).toEqual([1, 256]);
    post(driver, [100, 100, 100], 2);
    expect(driver.send(pool, frame(300))).toBe(1);
    expect(driver.usedIndex).toBe(5);
    expect(driver.read(4096, 12)).toEqual(zeroHeader(4));
  });

  it.each([0, QUEUE_MERGEABLE])(
    'drops and counts a packet that no number of buffers could hold, and nothing else (features %i)',
    (features) => {
      const driver = hand({ size: 4, features });
      post(driver, [80, 80, 80, 80]);
      expect(driver.send(pool, frame(60, 1), frame(400, 2), frame(60, 3))).toBe(features === 0 ? 3 : 1);
      if (features !== 0) {
        // the ring is not full any more: with a full one it is certain that more buffers cannot come
        post(driver, [80], 0);
        expect(driver.send(pool, frame(400, 2), frame(60, 3))).toBe(2);
      }
      expect([driver.read(12, 60), driver.read(4096 + 12, 60)]).toEqual([frame(60, 1), frame(60, 3)]);
      expect([counter(driver.device, Q_DROPPED), counter(driver.device, Q_PACKETS), driver.error]).toEqual([1, 2, 0]);
      expect(pool.free()).toBe(256);
    },
  );

  it('leaves packets to the caller when there are no buffers', () => {
    const driver = hand();
    post(driver, [200, 200]);
    expect(driver.send(pool, frame(60), frame(61), frame(62))).toBe(2);
    expect(driver.send(pool, frame(62))).toBe(0);
    expect(pool.free()).toBe(256);
  });

  it('goes on across the wrap of the 16-bit index', () => {
    const driver = hand({ index: 0xfffe });
    post(driver, [200, 200, 200, 200]);
    expect(driver.send(pool, frame(60), frame(61), frame(62), frame(63))).toBe(4);
    expect(driver.usedIndex).toBe(2);
    expect([0, 1, 2, 3].map((at) => driver.usedElement(0xfffe + at).length)).toEqual([72, 73, 74, 75]);
  });

  it.each([
    [0, 1],
    [1, 0],
  ])('asks for a call according to the flags %i of the available ring: %i', (flags, wanted) => {
    const driver = hand();
    bench.st16(driver.available, flags);
    post(driver, [200]);
    driver.send(pool, frame(60));
    expect(driver.device.get(Q_NOTIFY)).toBe(wanted);
  });

  it.each([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])('refuses receive buffers of %i bytes: no room for the header', (length) => {
    for (const features of [0, QUEUE_MERGEABLE]) {
      const driver = hand({ features, size: 64 });
      post(
        driver,
        Array.from({ length: 64 }, () => length),
      );
      const sent = driver.send(pool, frame(60));
      // not mergeable: the packet cannot fit into one such buffer and is dropped
      expect(sent === 1 ? counter(driver.device, Q_DROPPED) : driver.error).toBe(sent === 1 ? 1 : QUEUE_ERROR_CHAIN);
      expect(driver.read(length, 4096 - length)).toEqual(Buffer.alloc(4096 - length));
      expect(pool.free()).toBe(256);
    }
  });

  const broken: readonly (readonly [name: string, error: number, make: (driver: HandDriver) => void])[] = [
    ['an available index further ahead than the ring is long', QUEUE_ERROR_INDEX, (driver) => driver.jump(17)],
    ['an available entry outside the ring', QUEUE_ERROR_ID, (driver) => driver.offer(16)],
    ['a buffer that may only be read', QUEUE_ERROR_CHAIN, (driver) => driver.offer(0)],
    [
      'a chain of which a part may only be read',
      QUEUE_ERROR_CHAIN,
      (driver) => {
        driver.chain(0, [
          { address: driver.at(0), length: 20, flags: WRITE },
          { address: driver.at(100), length: 200 },
        ]);
        driver.offer(0);
      },
    ],
    [
      'an indirect table that was not negotiated',
      QUEUE_ERROR_CHAIN,
      (driver) => {
        driver.descriptor(0, { address: driver.at(0), length: 200, flags: WRITE | INDIRECT });
        driver.offer(0);
      },
    ],
    [
      'a loop',
      QUEUE_ERROR_CHAIN,
      (driver) => {
        driver.descriptor(0, { address: driver.at(0), length: 1, flags: WRITE | NEXT, next: 0 });
        driver.offer(0);
      },
    ],
    [
      'a next outside the ring',
      QUEUE_ERROR_ID,
      (driver) => {
        driver.descriptor(0, { address: driver.at(0), length: 1, flags: WRITE | NEXT, next: 99 });
        driver.offer(0);
      },
    ],
    ...(
      [
        ['outside the memory', 0x5_0000_0000n, 200],
        ['of 0', 0n, 200],
        ['that wraps beyond 2^64', 0xffff_ffff_ffff_fff0n, 200],
        ['whose range leaves the memory', GUEST + BigInt(BUFFERS) - 71n, 200],
      ] as const
    ).flatMap(([name, address, length]) => {
      const single = (driver: HandDriver): void => {
        driver.descriptor(0, { address, length, flags: WRITE });
        driver.offer(0);
      };
      const chained = (driver: HandDriver): void => {
        driver.chain(0, [
          { address: driver.at(0), length: 20, flags: WRITE },
          { address, length, flags: WRITE },
        ]);
        driver.offer(0);
      };
      return [
        [`an address ${name}`, QUEUE_ERROR_ADDRESS, single] as const,
        [`an address ${name} in a chain`, QUEUE_ERROR_ADDRESS, chained] as const,
      ];
    }),
  ];

  it.each(broken)('refuses %s, and the caller keeps the packet', (_, error, make) => {
    for (const features of [0, QUEUE_MERGEABLE]) {
      const driver = hand({ features });
      if (error !== QUEUE_ERROR_INDEX) post(driver, [200], 8);
      make(driver);
      expect(driver.send(pool, frame(60, 1), frame(60, 2))).toBe(error === QUEUE_ERROR_INDEX ? 0 : 1);
      expect([driver.device.get(Q_STATE), driver.error]).toEqual([QUEUE_STOPPED, error]);
      expect(driver.usedIndex).toBe(error === QUEUE_ERROR_INDEX ? 0 : 1);
      expect(driver.send(pool, frame(60))).toBe(0);
      expect(pool.free()).toBe(256);
    }
  });

  it('does not write the descriptor table or the available ring', () => {
    // virtio 1.2, 2.7.5.2
    const driver = hand({ features: QUEUE_MERGEABLE });
    post(driver, [100, 50, 400, 400]);
    const before = [bench.read(driver.descriptors, 256), bench.read(driver.available, 38)];
    driver.send(pool, frame(300));
    driver.send(pool, frame(60));
    expect([bench.read(driver.descriptors, 256), bench.read(driver.available, 38)]).toEqual(before);
  });

  it('keeps what a packet with a second owner holds', () => {
    const driver = hand();
    post(driver, [200]);
    const packet = bench.packet(pool, frame(60), { references: 2 }) ?? 0;
    expect(bench.send(bench.kernels.splitDeviceEnqueue, driver.device.offset, [packet])).toBe(1);
    expect(bench.read(bench.ld32(packet + MBUF_DATA), 60)).toEqual(frame(60));
    expect(pool.free()).toBe(255);
    bench.kernels.packetFree(packet, 0);
  });
});
