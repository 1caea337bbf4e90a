/**
 * A front-end that breaks the vhost-user protocol against our net_vhost: it loses its connection and nothing else happens.
 *
 * The cases are bugs that device sides have had; each names the one it is known by.
 * @module
 */
import { randomBytes } from 'node:crypto';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { expectEcho } from '../support/echo.ts';
import { whyMissing } from '../support/program.ts';
import { GUEST_BASE, MEMORY_BYTES, RawDriver, ringAddressesAt, USER_BASE, WHOLE_MEMORY } from '../support/raw-driver.ts';
import {
  memoryRegion,
  memoryTable,
  message,
  REPLY,
  Request,
  ringAddresses,
  ringState,
  u64,
  VERSION,
  type MemoryRegion,
} from '../support/vhost-user-messages.ts';
import { Arena, VICTIM } from '../support/victim.ts';

/**
 * What the attack must lead to.
 * - `refused`: the connection is closed, or the message is answered with an error, and stderr names the peer.
 * - `survived`: whatever the device side does with it, it lives on.
 */
type Outcome = 'refused' | 'survived';

interface Attack {
  readonly name: string;
  readonly outcome: Outcome;
  /** Performs this many steps of an honest handshake first; all of them when left out. */
  readonly after?: number | undefined;
  readonly run: (driver: RawDriver) => Promise<void>;
}

/** Steps before SET_MEM_TABLE. */
const BEFORE_MEMORY = 7;
const U64_MAX = 0xffff_ffff_ffff_ffffn;

function attack(name: string, outcome: Outcome, run: Attack['run'], after?: number): Attack {
  return { name, outcome, run, after };
}

const bytes = (...parts: readonly Uint8Array[]): Buffer => Buffer.concat(parts);

const FRAMING: readonly Attack[] = [
  attack('random bytes', 'refused', (driver) => driver.connection.send(seededBytes(4096)), 0),
  attack('random bytes after a handshake', 'refused', (driver) => driver.connection.send(seededBytes(4096))),
  attack('an HTTP request', 'refused', (driver) => driver.connection.send(Buffer.from('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')), 0),
  attack('half a header, then silence', 'survived', (driver) => driver.connection.send(message(Request.SET_OWNER).subarray(0, 5)), 0),
  attack(
    'half a payload, then silence',
    'survived',
    (driver) => driver.connection.send(message(Request.SET_FEATURES, u64(0)).subarray(0, 15)),
    0,
  ),
  attack(
    'half a message with a descriptor, then silence',
    'survived',
    (driver) => driver.connection.send(message(Request.SET_VRING_CALL, u64(0)).subarray(0, 14), [driver.eventFd()]),
    0,
  ),
  attack('one byte at a time', 'survived', async (driver) => {
    for (const byte of message(Request.GET_FEATURES)) await driver.connection.send(new Uint8Array([byte]));
    expect(await driver.connection.receive()).toMatchObject({ request: Request.GET_FEATURES });
  }),
  attack(
    'a payload of 4 GiB announced',
    'refused',
    (driver) => driver.connection.send(message(Request.SET_FEATURES, u64(0), VERSION, 0xffffffff)),
    0,
  ),
  attack(
    'a payload larger than any message',
    'refused',
    (driver) => driver.connection.send(message(Request.SET_FEATURES, Buffer.alloc(5000))),
    0,
  ),
  attack('a payload shorter than the request needs', 'refused', (driver) => driver.send(Request.SET_FEATURES, Buffer.alloc(4)), 0),
  attack('a payload longer than the request needs', 'refused', (driver) => driver.send(Request.SET_VRING_NUM, Buffer.alloc(64)), 2),
  attack(
    'a memory table with its payload cut short',
    'refused',
    (driver) => driver.send(Request.SET_MEM_TABLE, memoryTable([WHOLE_MEMORY]).subarray(0, 24), [driver.memory]),
    BEFORE_MEMORY,
  ),
  attack('protocol version 0', 'refused', (driver) => driver.send(Request.GET_FEATURES, undefined, [], 0), 0),
  attack('protocol version 3', 'refused', (driver) => driver.send(Request.GET_FEATURES, undefined, [], 3), 0),
  attack('a reply that nobody asked for', 'survived', (driver) => driver.send(Request.GET_FEATURES, u64(0), [], VERSION | REPLY), 0),
  attack('request 0', 'refused', (driver) => driver.send(0), 0),
  attack('request 255', 'refused', (driver) => driver.send(255), 0),
  attack('request 0xffffffff', 'refused', (driver) => driver.send(0xffffffff), 0),
  // CVE-2020-10724: vhost-crypto's messages
  attack('a vhost-crypto session', 'refused', (driver) => driver.send(Request.CREATE_CRYPTO_SESSION, Buffer.alloc(64, 0xff))),
];

const DESCRIPTORS: readonly Attack[] = [
  // CVE-2019-14818, DPDK 585283f9a7, 218daf1664: descriptors of a refused message leak
  attack('8 descriptors with GET_FEATURES', 'survived', (driver) => driver.send(Request.GET_FEATURES, undefined, many(driver, 8)), 0),
  attack('8 descriptors with SET_FEATURES', 'survived', (driver) => driver.send(Request.SET_FEATURES, u64(0), many(driver, 8)), 0),
  attack(
    '40 descriptors, more than there is room for',
    'refused',
    (driver) => driver.send(Request.SET_VRING_CALL, u64(0), many(driver, 40)),
    0,
  ),
  attack('2 descriptors with SET_VRING_KICK', 'refused', (driver) => driver.send(Request.SET_VRING_KICK, u64(0), many(driver, 2))),
  attack('SET_VRING_KICK without its descriptor', 'refused', (driver) => driver.send(Request.SET_VRING_KICK, u64(0))),
  attack('SET_VRING_CALL without its descriptor', 'refused', (driver) => driver.send(Request.SET_VRING_CALL, u64(0))),
  attack('a call descriptor that is a full pipe of the peer, not an eventfd', 'survived', async (driver) => {
    await driver.send(Request.SET_VRING_CALL, u64(0), [driver.memory]);
    await driver.send(Request.SET_VRING_CALL, u64(1), [driver.memory]);
    await driver.ask(Request.GET_FEATURES);
  }),
  attack('SET_VRING_CALL a thousand times', 'survived', async (driver) => {
    const fd = driver.eventFd();
    for (let time = 0; time < 1000; time++) await driver.send(Request.SET_VRING_CALL, u64(time % 2), [fd]);
    await driver.ask(Request.GET_FEATURES);
  }),
  attack('SET_VRING_ERR a hundred times', 'survived', async (driver) => {
    for (let time = 0; time < 100; time++) await driver.send(Request.SET_VRING_ERR, u64(time % 2), [driver.eventFd()]);
    await driver.ask(Request.GET_FEATURES);
  }),
  // CVE-2020-10726, CVE-2021-3839, CVE-2022-0669: inflight messages leak, or trust num_queues
  attack('GET_INFLIGHT_FD a hundred times', 'survived', async (driver) => {
    for (let time = 0; time < 100; time++) await driver.send(Request.GET_INFLIGHT_FD, inflight(65535, 65535));
  }),
  attack('SET_INFLIGHT_FD for 65535 queues', 'survived', (driver) =>
    driver.send(Request.SET_INFLIGHT_FD, inflight(65535, 256), [driver.memoryFile(4096)]),
  ),
  attack('SET_INFLIGHT_FD with three descriptors', 'survived', (driver) =>
    driver.send(Request.SET_INFLIGHT_FD, inflight(1, 256), many(driver, 3)),
  ),
  // CVE-2020-10722, CVE-2026-86563: the dirty log's size and offset
  attack('SET_LOG_BASE of 2^64-1 bytes', 'survived', (driver) =>
    driver.send(Request.SET_LOG_BASE, bytes(u64(U64_MAX), u64(0)), [driver.memoryFile(4096)]),
  ),
  attack('SET_LOG_BASE at an offset beyond its file', 'survived', (driver) =>
    driver.send(Request.SET_LOG_BASE, bytes(u64(4096), u64(1n << 40n)), [driver.memoryFile(4096)]),
  ),
  attack('SET_BACKEND_REQ_FD with two descriptors', 'survived', (driver) =>
    driver.send(Request.SET_BACKEND_REQ_FD, undefined, many(driver, 2)),
  ),
  attack('POSTCOPY_ADVISE', 'survived', (driver) => driver.send(Request.POSTCOPY_ADVISE)),
];

const MEMORY: readonly Attack[] = [
  ...memoryAttacks(),
  attack('nine regions', 'refused', (driver) => tableOf(driver, regions(9)), BEFORE_MEMORY),
  attack(
    'nine regions announced, one sent',
    'refused',
    (driver) => driver.send(Request.SET_MEM_TABLE, memoryTable([WHOLE_MEMORY], 9), [driver.memory]),
    BEFORE_MEMORY,
  ),
  attack(
    '0xffffffff regions announced',
    'refused',
    (driver) => driver.send(Request.SET_MEM_TABLE, memoryTable([WHOLE_MEMORY], 0xffffffff), [driver.memory]),
    BEFORE_MEMORY,
  ),
  attack(
    'a memory table without a descriptor',
    'refused',
    (driver) => driver.send(Request.SET_MEM_TABLE, memoryTable([WHOLE_MEMORY])),
    BEFORE_MEMORY,
  ),
  attack(
    'two regions and one descriptor',
    'refused',
    (driver) => driver.send(Request.SET_MEM_TABLE, memoryTable(regions(2)), [driver.memory]),
    BEFORE_MEMORY,
  ),
  attack(
    'one region and eight descriptors',
    'refused',
    (driver) => driver.send(Request.SET_MEM_TABLE, memoryTable([WHOLE_MEMORY]), many(driver, 8)),
    BEFORE_MEMORY,
  ),
  attack(
    'a region whose descriptor is an eventfd',
    'refused',
    (driver) => driver.send(Request.SET_MEM_TABLE, memoryTable([WHOLE_MEMORY]), [driver.eventFd()]),
    BEFORE_MEMORY,
  ),
  attack('two regions that overlap', 'survived', (driver) => tableOf(driver, [WHOLE_MEMORY, WHOLE_MEMORY]), BEFORE_MEMORY),
  attack(
    'eight regions, and then again, a hundred times',
    'survived',
    async (driver) => {
      for (let time = 0; time < 100; time++) await tableOf(driver, regions(8));
      await driver.ask(Request.GET_FEATURES);
    },
    BEFORE_MEMORY,
  ),
  attack('REM_MEM_REG of a region that was never added', 'survived', (driver) =>
    driver.send(Request.REM_MEM_REG, bytes(u64(0), memoryRegion({ ...WHOLE_MEMORY, guest: 1n << 50n }))),
  ),
  attack('ADD_MEM_REG larger than its file', 'refused', (driver) =>
    driver.send(Request.ADD_MEM_REG, bytes(u64(0), memoryRegion({ ...WHOLE_MEMORY, guest: 1n << 50n, size: 1n << 30n })), [driver.memory]),
  ),
  attack('a memory table without the rings that run, then traffic', 'survived', async (driver) => {
    await driver.send(Request.SET_MEM_TABLE, memoryTable([{ ...WHOLE_MEMORY, guest: 1n << 45n, user: 1n << 46n }]), [driver.memory]);
    driver.sendPacket(Buffer.alloc(60));
    await driver.ask(Request.GET_FEATURES);
  }),
];

const RINGS: readonly Attack[] = [
  // CVE-2020-10723: the index of a queue cut to 16 bits before the check
  ...([0x10000, 0xffffffff, 1000] as const).flatMap((index) => [
    attack(`SET_VRING_NUM of queue ${index}`, 'refused', (driver) => driver.send(Request.SET_VRING_NUM, ringState(index, 256))),
    attack(`SET_VRING_BASE of queue ${index}`, 'refused', (driver) => driver.send(Request.SET_VRING_BASE, ringState(index, 0))),
    attack(`SET_VRING_ADDR of queue ${index}`, 'refused', (driver) =>
      driver.send(Request.SET_VRING_ADDR, ringAddresses(index, ringAddressesAt(USER_BASE))),
    ),
    attack(`SET_VRING_ENABLE of queue ${index}`, 'refused', (driver) => driver.send(Request.SET_VRING_ENABLE, ringState(index, 1))),
    attack(`GET_VRING_BASE of queue ${index}`, 'refused', (driver) => driver.send(Request.GET_VRING_BASE, ringState(index, 0))),
  ]),
  attack('SET_VRING_CALL of queue 255', 'survived', (driver) => driver.send(Request.SET_VRING_CALL, u64(255), [driver.eventFd()])),
  // DPDK 3c929a0bb3: a NULL dereference on multiqueue reconnect
  attack(
    'GET_VRING_BASE of a queue that was never created',
    'survived',
    (driver) => driver.send(Request.GET_VRING_BASE, ringState(7, 0)),
    2,
  ),
  attack('GET_VRING_BASE before anything else', 'survived', (driver) => driver.send(Request.GET_VRING_BASE, ringState(0, 0)), 0),
  attack(
    'SET_VRING_ADDR before the memory table',
    'survived',
    (driver) => driver.send(Request.SET_VRING_ADDR, ringAddresses(0, ringAddressesAt(USER_BASE))),
    0,
  ),
  attack(
    'SET_VRING_KICK and ENABLE of a ring without addresses',
    'survived',
    async (driver) => {
      await driver.send(Request.SET_VRING_KICK, u64(0), [driver.eventFd()]);
      await driver.send(Request.SET_VRING_ENABLE, ringState(0, 1));
      await driver.ask(Request.GET_FEATURES);
    },
    8,
  ),
  ...[0, 3, 100, 32769, 65536, 0xffffffff].map((size) =>
    attack(`a ring of ${size} descriptors`, 'refused', (driver) => driver.send(Request.SET_VRING_NUM, ringState(0, size)), 8),
  ),
  attack(
    'SET_VRING_NUM ten thousand times',
    'survived',
    async (driver) => {
      const flood = bytes(...Array.from({ length: 100 }, () => message(Request.SET_VRING_NUM, ringState(0, 256))));
      for (let time = 0; time < 100; time++) await driver.connection.send(flood);
      await driver.ask(Request.GET_FEATURES);
    },
    8,
  ),
  // DPDK 04c27cb673: the address changed under the data path
  attack('SET_VRING_ADDR of a running ring', 'survived', async (driver) => {
    driver.offerReceiveBuffers(64);
    for (let time = 0; time < 50; time++) {
      driver.sendPacket(Buffer.alloc(60, time));
      await driver.send(Request.SET_VRING_ADDR, ringAddresses(time % 2, ringAddressesAt(USER_BASE + BigInt(0x10000 * (1 + (time % 3))))));
    }
    await driver.ask(Request.GET_FEATURES);
  }),
  attack('SET_VRING_NUM of a running ring', 'survived', async (driver) => {
    await driver.send(Request.SET_VRING_NUM, ringState(1, 32768));
    driver.sendPacket(Buffer.alloc(60));
    await driver.ask(Request.GET_FEATURES);
  }),
  ...ringAddressAttacks(),
];

function seededBytes(length: number): Buffer {
  const noise = randomBytes(length);
  // a size that fits, so that the reader goes on beyond the first header
  noise.writeUInt32LE(0x77777777, 0);
  return noise;
}

function many(driver: RawDriver, count: number): readonly number[] {
  const fd = driver.eventFd();
  return Array.from({ length: count }, () => fd);
}

function inflight(queues: number, size: number): Buffer {
  const payload = Buffer.alloc(24);
  payload.writeBigUInt64LE(4096n, 0);
  payload.writeUInt16LE(queues, 16);
  payload.writeUInt16LE(size, 18);
  return payload;
}

/** The memory cut into so many regions. */
function regions(count: number): readonly MemoryRegion[] {
  const size = BigInt(MEMORY_BYTES / 16);
  return Array.from({ length: count }, (_, number) => {
    const offset = size * BigInt(number);
    return { guest: GUEST_BASE + offset, size, user: USER_BASE + offset, offset };
  });
}

async function tableOf(driver: RawDriver, table: readonly MemoryRegion[]): Promise<void> {
  await driver.send(
    Request.SET_MEM_TABLE,
    memoryTable(table),
    table.map(() => driver.memory),
  );
}

/** One region that cannot be (CVE-2026-86561: size 0, huge, overflowing, larger than the file). */
function memoryAttacks(): readonly Attack[] {
  const lies: readonly (readonly [string, Partial<MemoryRegion>])[] = [
    ['of size 0', { size: 0n }],
    ['larger than its file', { size: BigInt(MEMORY_BYTES) * 2n }],
    ['larger than its file by one page', { size: BigInt(MEMORY_BYTES) + 4096n }],
    ['that starts behind the end of its file', { offset: BigInt(MEMORY_BYTES), size: 4096n }],
    ['of 2^64-1 bytes', { size: U64_MAX }],
    ['of 2^63 bytes', { size: 1n << 63n }],
    ['of 2^40 bytes', { size: 1n << 40n }],
    ['whose offset and size overflow', { offset: U64_MAX - 4095n, size: 8192n }],
    ['whose guest address and size overflow', { guest: U64_MAX - 4095n }],
    ['whose user address and size overflow', { user: U64_MAX - 4095n }],
    ['at an offset within a page', { offset: 1n, size: 4096n }],
  ];
  return lies.map(([name, lie]) =>
    attack(
      `a region ${name}`,
      name.startsWith('at an') ? 'survived' : 'refused',
      (driver) => tableOf(driver, [{ ...WHOLE_MEMORY, ...lie }]),
      BEFORE_MEMORY,
    ),
  );
}

/** Ring addresses outside the memory, or partly (CVE-2018-1059). The ring must not start; a packet offered must not move. */
function ringAddressAttacks(): readonly Attack[] {
  const end = USER_BASE + BigInt(MEMORY_BYTES);
  const places: readonly (readonly [string, bigint])[] = [
    ['at 0', 0n],
    ['outside the memory', USER_BASE - 0x100000n],
    ['at the end of the memory', end],
    ['across the end of the memory', end - 16n],
    ['at 2^64-1', U64_MAX],
    ['at odd addresses', USER_BASE + 0x10001n],
    ['at guest instead of user addresses', GUEST_BASE],
  ];
  return places.map(([name, place]) =>
    attack(`a ring ${name}`, 'survived', async (driver) => {
      await driver.send(Request.GET_VRING_BASE, ringState(1, 0));
      await driver.connection.receive();
      await driver.send(Request.SET_VRING_ADDR, ringAddresses(1, { descriptors: place, available: place, used: place }));
      await driver.send(Request.SET_VRING_KICK, u64(1), [driver.eventFd()]);
      await driver.send(Request.SET_VRING_ENABLE, ringState(1, 1));
      driver.sendPacket(Buffer.alloc(60));
      await driver.ask(Request.GET_FEATURES);
      expect(driver.usedIndex(1)).toBe(0);
    }),
  );
}

describe.skipIf(whyMissing(VICTIM) !== undefined)('a front-end that breaks the protocol', () => {
  const arena = new Arena((socket) => `net_vhost0,iface=${socket},queues=1`, expectEcho);
  beforeEach(() => arena.open(), 30_000);
  afterAll(() => arena.close());

  const groups = { framing: FRAMING, descriptors: DESCRIPTORS, memory: MEMORY, rings: RINGS };
  describe.each(Object.entries(groups))('%s', (_, attacks) => {
    test.each(attacks)('$name: $outcome', async ({ outcome, after, run }) => {
      await arena.attack(async (victim) => {
        using driver = await RawDriver.connect(victim.socket);
        await driver.handshake(after === undefined ? {} : { steps: after });
        victim.listen();
        await run(driver);
        if (outcome === 'refused') {
          // a request after the bad one, lest the victim waits for the rest of that
          await driver.send(Request.SET_VRING_ENABLE, ringState(0, 0));
          await driver.connection.hangUp();
          await victim.expectComplaint();
        }
      });
    });
  });

  test.each(Array.from({ length: 18 }, (_, steps) => steps))('disconnect after step %i of the handshake', async (steps) => {
    await arena.attack(async (victim) => {
      using driver = await RawDriver.connect(victim.socket);
      await driver.handshake({ steps });
    });
  });

  test('a hundred connections, one after the other', async () => {
    await arena.attack(async (victim) => {
      for (let time = 0; time < 100; time++) {
        using driver = await RawDriver.connect(victim.socket);
        await driver.send(Request.SET_OWNER);
      }
    });
  });

  test('ten connections at once', async () => {
    await arena.attack(async (victim) => {
      const drivers = await Promise.all(Array.from({ length: 10 }, () => RawDriver.connect(victim.socket)));
      for (const driver of drivers) await driver.send(Request.GET_FEATURES);
      await victim.expectBystandersForward();
      for (const driver of drivers) driver[Symbol.dispose]();
    });
  });
});
