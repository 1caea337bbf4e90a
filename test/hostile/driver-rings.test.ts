/**
 * A driver that lies in its rings, against our net_vhost: an impossible value stops the queue with a message, a packet that makes no sense
 * is dropped; nothing outside the shared memory is touched and nobody else notices.
 * @module
 */
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { resizeFile } from '../../src/system/memory-map.ts';
import { sleep } from '../support/deadline.ts';
import { echo, expectEcho } from '../support/echo.ts';
import { whyMissing } from '../support/program.ts';
import {
  bufferOffset,
  DEFAULT_FEATURES,
  DESC_F_INDIRECT,
  DESC_F_NEXT,
  DESC_F_WRITE,
  descriptorBytes,
  guestAddress,
  MEMORY_BYTES,
  RawDriver,
  RING_SIZE,
  type Descriptor,
} from '../support/raw-driver.ts';
import { Feature, memoryTable, Request, VERSION, NEED_REPLY } from '../support/vhost-user-messages.ts';
import { GUEST_BASE, USER_BASE } from '../support/raw-driver.ts';
import { Arena, VICTIM } from '../support/victim.ts';

/**
 * - `stops`: the queue stops, and stderr says why.
 * - `drops`: the packet is counted and dropped, its descriptors come back, and the queue goes on: an honest packet passes on the same connection.
 * - `survives`: either.
 */
type Outcome = 'stops' | 'drops' | 'survives';

interface Attack {
  readonly name: string;
  readonly outcome: Outcome;
  readonly features?: bigint | undefined;
  readonly run: (driver: RawDriver) => void | Promise<void>;
}

const at = (index: number): bigint => guestAddress(bufferOffset(1, index));
const END = guestAddress(MEMORY_BYTES);

/** Transmit chains, from descriptor 0 on; the head is 0. */
function transmit(name: string, outcome: Outcome, chain: readonly Descriptor[], features?: bigint): Attack {
  return {
    name,
    outcome,
    features,
    run: (driver) => {
      for (const [index, descriptor] of chain.entries()) driver.writeDescriptor(1, index, descriptor);
      driver.offer(1, [0]);
    },
  };
}

/** A packet for the receive queue, whose buffers are these: a chain from descriptor 0 on. */
function receive(name: string, outcome: Outcome, chain: readonly Descriptor[], features?: bigint): Attack {
  return {
    name,
    outcome,
    features,
    run: (driver) => {
      for (const [index, descriptor] of chain.entries()) driver.writeDescriptor(0, index, descriptor);
      driver.offer(0, [0]);
      driver.sendPacket(Buffer.alloc(1000, 0x55));
    },
  };
}

const next = (index: number): Pick<Descriptor, 'flags' | 'next'> => ({ flags: DESC_F_NEXT, next: index });
const NOT_MERGEABLE = Feature.VERSION_1 | Feature.PROTOCOL_FEATURES;
const INDIRECT = DEFAULT_FEATURES | Feature.RING_INDIRECT_DESC;

const TRANSMIT: readonly Attack[] = [
  // CVE-2018-1059: the range of an address is not checked as a whole
  transmit('a descriptor beyond the memory', 'stops', [{ address: END + 0x1000n, length: 64 }]),
  transmit('a descriptor across the end of the memory', 'stops', [{ address: END - 32n, length: 64 }]),
  transmit('a descriptor at guest address 0', 'stops', [{ address: 0n, length: 64 }]),
  transmit('a descriptor at 2^64-32', 'stops', [{ address: 0xffff_ffff_ffff_ffe0n, length: 64 }]),
  transmit('a descriptor of 4 GiB', 'stops', [{ address: at(0), length: 0xffffffff }]),
  transmit('a user address instead of a guest address', 'stops', [{ address: USER_BASE + BigInt(bufferOffset(1, 0)), length: 64 }]),
  // CVE-2020-10725: length 0 skips the check
  transmit('length 0 at an address beyond the memory', 'survives', [
    { address: at(0), length: 100, ...next(1) },
    { address: END + 0x1000n, length: 0 },
  ]),
  // DPDK 6ec1778134: next beyond the table, chains that never end
  transmit('next beyond the ring', 'stops', [{ address: at(0), length: 64, ...next(0xffff) }]),
  transmit('next just beyond the ring', 'stops', [{ address: at(0), length: 64, ...next(RING_SIZE) }]),
  transmit('a chain of one that is its own next', 'stops', [{ address: at(0), length: 64, ...next(0) }]),
  transmit('a chain that goes round', 'stops', [
    { address: at(0), length: 64, ...next(1) },
    { address: at(1), length: 64, ...next(2) },
    { address: at(2), length: 64, ...next(0) },
  ]),
  transmit('a chain of empty descriptors that goes round', 'stops', [
    { address: at(0), length: 0, ...next(1) },
    { address: at(1), length: 0, ...next(0) },
  ]),
  // CVE-2022-2132, DPDK e31b57e732: chains no longer than the header
  ...[0, 1, 10, 11, 12].map((length) => transmit(`a packet of ${length} bytes with its header`, 'drops', [{ address: at(0), length }])),
  transmit(
    '12 descriptors of one byte',
    'drops',
    Array.from({ length: 12 }, (_, index) => ({ address: at(index), length: 1, ...(index < 11 ? next(index + 1) : {}) })),
  ),
  transmit(
    'a header in 12 descriptors, then 60 bytes',
    'survives',
    Array.from({ length: 13 }, (_, index) => ({ address: at(index), length: index < 12 ? 1 : 60, ...(index < 12 ? next(index + 1) : {}) })),
  ),
  transmit('a device-writable descriptor', 'survives', [{ address: at(0), length: 100, flags: DESC_F_WRITE }]),
  transmit('an indirect table that was not negotiated', 'stops', [{ address: at(0), length: 16, flags: DESC_F_INDIRECT }]),
  transmit(
    'a chain as long as the ring',
    'survives',
    Array.from({ length: RING_SIZE }, (_, index) => ({ address: at(0), length: 255, ...(index < RING_SIZE - 1 ? next(index + 1) : {}) })),
  ),
  transmit('all flags set', 'survives', [{ address: at(0), length: 64, flags: 0xffff, next: 0xffff }]),
  indirect('an indirect table beyond the memory', 'survives', { address: END + 0x1000n, length: 16 }, []),
  indirect('an indirect table of length 0', 'survives', { address: at(100), length: 0 }, []),
  indirect('an indirect table of 15 bytes', 'survives', { address: at(100), length: 15 }, []),
  indirect('an indirect table whose next lies outside it', 'survives', { address: at(100), length: 32 }, [
    { address: at(0), length: 64, ...next(7) },
  ]),
  indirect('an indirect table within an indirect table', 'survives', { address: at(100), length: 16 }, [
    { address: at(100), length: 16, flags: DESC_F_INDIRECT },
  ]),
  indirect('an indirect chain that goes round', 'survives', { address: at(100), length: 16 }, [{ address: at(0), length: 64, ...next(0) }]),
];

const INDICES: readonly Attack[] = [
  // openvmm#3136
  { name: 'a head beyond the ring', outcome: 'stops', run: (driver) => driver.offer(1, [RING_SIZE]) },
  { name: 'head 0xffff', outcome: 'stops', run: (driver) => driver.offer(1, [0xffff]) },
  // vm-virtio#196
  { name: 'an available index further ahead than the ring is long', outcome: 'stops', run: (driver) => driver.offer(1, [], RING_SIZE + 1) },
  { name: 'an available index that goes back', outcome: 'stops', run: (driver) => driver.offer(1, [], -1) },
  {
    name: 'the same head 256 times',
    outcome: 'survives',
    run: (driver) => {
      driver.writeDescriptor(1, 0, { address: at(0), length: 72 });
      driver.offer(
        1,
        Array.from({ length: RING_SIZE }, () => 0),
      );
    },
  },
  {
    name: 'an available index of the receive queue further ahead than the ring is long',
    outcome: 'stops',
    run: (driver) => {
      driver.offer(0, [], RING_SIZE + 1);
      driver.sendPacket(Buffer.alloc(60));
    },
  },
  {
    name: 'a receive head beyond the ring',
    outcome: 'stops',
    run: (driver) => {
      driver.offer(0, [RING_SIZE]);
      driver.sendPacket(Buffer.alloc(60));
    },
  },
];

const into = (index: number): bigint => guestAddress(bufferOffset(0, index));

const RECEIVE: readonly Attack[] = [
  // CVE-2026-86566: the header is subtracted from a length that is smaller
  ...[0, 1, 2, 8, 10, 11].map((length) =>
    receive(`a receive buffer of ${length} bytes`, 'survives', [{ address: into(0), length, flags: DESC_F_WRITE }]),
  ),
  ...[0, 1, 11].map((length) =>
    receive(
      `a receive buffer of ${length} bytes, not mergeable`,
      'survives',
      [{ address: into(0), length, flags: DESC_F_WRITE }],
      NOT_MERGEABLE,
    ),
  ),
  receive('a receive buffer of just the header', 'survives', [{ address: into(0), length: 12, flags: DESC_F_WRITE }]),
  receive('a receive buffer beyond the memory', 'stops', [{ address: END, length: 2048, flags: DESC_F_WRITE }]),
  receive('a receive buffer across the end of the memory', 'stops', [{ address: END - 100n, length: 2048, flags: DESC_F_WRITE }]),
  receive('a receive buffer that is not writable', 'survives', [{ address: into(0), length: 2048 }]),
  receive('a receive chain that goes round', 'stops', [{ address: into(0), length: 16, flags: DESC_F_WRITE | DESC_F_NEXT, next: 0 }]),
  receive('a receive chain with next beyond the ring', 'stops', [
    { address: into(0), length: 16, flags: DESC_F_WRITE | DESC_F_NEXT, next: 0xffff },
  ]),
  receive('a receive chain of empty buffers that goes round', 'stops', [
    { address: into(0), length: 0, flags: DESC_F_WRITE | DESC_F_NEXT, next: 0 },
  ]),
  receive(
    'a receive buffer too small for the packet, not mergeable',
    'survives',
    [{ address: into(0), length: 100, flags: DESC_F_WRITE }],
    NOT_MERGEABLE,
  ),
  {
    // GHSA-x3fm-32v3-x7hm: a queue full of tiny mergeable buffers
    name: '255 mergeable buffers of 13 bytes for packets of 1,000',
    outcome: 'survives',
    run: (driver) => {
      driver.offerReceiveBuffers(255, 13);
      for (let count = 0; count < 32; count++) driver.sendPacket(Buffer.alloc(1000, count));
    },
  },
];

function indirect(name: string, outcome: Outcome, table: Descriptor, entries: readonly Descriptor[]): Attack {
  return {
    name,
    outcome,
    features: INDIRECT,
    run: (driver) => {
      for (const [index, entry] of entries.entries()) driver.write(bufferOffset(1, 100) + 16 * index, descriptorBytes(entry));
      driver.writeDescriptor(1, 0, { ...table, flags: DESC_F_INDIRECT });
      driver.offer(1, [0]);
    },
  };
}

describe.skipIf(whyMissing(VICTIM) !== undefined)('a driver that lies in its rings', () => {
  const arena = new Arena((socket) => `net_vhost0,iface=${socket},queues=1`, expectEcho);
  beforeEach(() => arena.open(), 30_000);
  afterAll(() => arena.close());

  const groups = { 'transmit queue': TRANSMIT, indices: INDICES, 'receive queue': RECEIVE };
  describe.each(Object.entries(groups))('%s', (_, attacks) => {
    test.each(attacks)('$name: $outcome', async ({ outcome, features, run }) => {
      await arena.attack(async (victim) => {
        using driver = await RawDriver.connect(victim.socket);
        await driver.handshake(features === undefined ? {} : { features });
        victim.listen();
        await run(driver);
        if (outcome === 'stops') await victim.expectComplaint();
        if (outcome === 'survives') await sleep(50);
        if (outcome === 'drops') {
          await driver.waitForUsed(1, 1);
          driver.offerReceiveBuffers(16);
          await echo(driver, 1);
        }
        await victim.expectBystandersForward();
      });
    });
  });

  test('a descriptor that spans two regions, contiguous for the driver and not for the device', async () => {
    await arena.attack(async (victim) => {
      using driver = await RawDriver.connect(victim.socket);
      await driver.handshake();
      const half = MEMORY_BYTES / 2;
      const regions = [0, half].map((offset) => ({
        guest: GUEST_BASE + BigInt(offset),
        user: USER_BASE + BigInt(offset),
        size: BigInt(half),
        offset: BigInt(offset),
      }));
      await driver.ask(Request.SET_MEM_TABLE, memoryTable(regions), [driver.memory, driver.memory], VERSION | NEED_REPLY);
      driver.writeDescriptor(1, 0, { address: guestAddress(half - 40), length: 80 });
      driver.offer(1, [0]);
      await sleep(50);
      await victim.expectBystandersForward();
    });
  });

  // DPDK's testpmd dies of a bus error here
  test.skipIf(VICTIM === 'dpdk' || process.arch !== 'x64').each([
    ['everything', 0],
    ['the buffers of one queue', 0x200000],
    ['some of these buffers', 0x200000 + 0x1000],
  ])('a file made shorter while it is in use: %s', async (_, bytes) => {
    await arena.attack(async (victim) => {
      using driver = await RawDriver.connect(victim.socket);
      await driver.handshake();
      driver.offerReceiveBuffers(255);
      for (let count = 0; count < 64; count++) driver.sendPacket(Buffer.alloc(1000, 0x02));
      await driver.waitForUsed(1, 64);
      victim.listen();
      resizeFile(driver.memory, bytes, 'the memory of the raw driver');
      // whatever the rings say by now, the device looks at them all the time; buffers are touched with the next packets
      if (bytes !== 0)
        driver.offer(
          1,
          Array.from({ length: 64 }, (_, head) => head),
        );
      await victim.testpmd.printed(/region of 0x400000 bytes .* lost its file \(now \d+ bytes\) while it was in use; connection closed/);
      await victim.expectBystandersForward();
    });
  });

  test('lengths that change while they are read', async () => {
    await arena.attack(async (victim) => {
      using driver = await RawDriver.connect(victim.socket);
      await driver.handshake();
      driver.offerReceiveBuffers(255);
      const end = performance.now() + 500;
      // DPDK 134228ca39, af584d21bf: the length is checked and then read again
      while (performance.now() < end) {
        driver.sendPacket(Buffer.alloc(60));
        for (let index = 0; index < RING_SIZE; index++)
          driver.writeDescriptor(1, index, { address: at(index), length: index % 2 === 0 ? 72 : 0xffffffff });
        await sleep(0);
      }
    });
  });

  test('memory that is never written twice: what is outside of the rings and buffers stays as it was', async () => {
    await arena.attack(async (victim) => {
      using driver = await RawDriver.connect(victim.socket);
      const guard = 0x300000;
      driver.write(guard, Buffer.alloc(0x1000, 0xa5));
      await driver.handshake();
      driver.offerReceiveBuffers(64);
      await echo(driver, 16);
      expect(driver.read(guard, 0x1000).equals(Buffer.alloc(0x1000, 0xa5))).toBe(true);
    });
  });
});
