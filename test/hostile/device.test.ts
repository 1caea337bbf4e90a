/**
 * A device that breaks the rules against our virtio_user: the driver trusts nothing that it reads from the used ring, from a packet's header,
 * or from a reply (RT-Thread#11326 and #11327: used.id and used.len taken from a malicious device).
 * @module
 */
import { randomBytes } from 'node:crypto';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { sleep, until } from '../support/deadline.ts';
import { whyMissing } from '../support/program.ts';
import { DEVICE_FEATURES, RawDevice, type Deviation } from '../support/raw-device.ts';
import { RawConnection } from '../support/raw-vhost-user.ts';
import { Feature, message, REPLY, Request, u64, VERSION } from '../support/vhost-user-messages.ts';
import { Arena, VICTIM, type Victim } from '../support/victim.ts';

/** `stops`: the queue stops and stderr says why. `survives`: whatever happens to the packet. */
type Outcome = 'stops' | 'survives';

interface RingAttack {
  readonly name: string;
  readonly outcome: Outcome;
  readonly run: (device: RawDevice) => void | Promise<void>;
}

const RECEIVE = 0;
const TRANSMIT = 1;

/** An honest device sends packets and gets them back. */
async function expectEcho(victim: Victim): Promise<void> {
  await victim.testpmd.waitForLink(false, 0);
  {
    using device = await RawDevice.connect(victim.socket);
    await device.ready();
    await victim.testpmd.waitForLink(true, 0);
    // packets that were on their way when the last device left
    while (device.waiting(TRANSMIT)) await device.receivePacket();
    for (let number = 0; number < 3; number++) {
      const sent = Buffer.alloc(60 + number, number + 1);
      const head = await device.sendPacket(sent);
      device.give(RECEIVE, [{ id: head, length: 12 + sent.length }]);
      expect((await device.receivePacket()).equals(sent), `packet ${number} comes back unchanged`).toBe(true);
    }
  }
  await victim.testpmd.waitForLink(false, 0);
}

/** Says that a packet of so many bytes, header included, lies in the next buffer, and how many buffers it takes. */
function used(
  name: string,
  outcome: Outcome,
  lie: { readonly length?: number; readonly buffers?: number; readonly id?: (head: number, size: number) => number },
): RingAttack {
  return {
    name,
    outcome,
    run: async (device) => {
      const head = await device.sendPacket(Buffer.alloc(60), lie.buffers ?? 1);
      device.give(RECEIVE, [{ id: lie.id?.(head, device.ringSize(RECEIVE)) ?? head, length: lie.length ?? 72 }]);
    },
  };
}

const RINGS: readonly RingAttack[] = [
  used('a used id just beyond the ring', 'stops', { id: (_, size) => size }),
  used('used id 0xffff', 'stops', { id: () => 0xffff }),
  used('used id 0xffffffff', 'stops', { id: () => 0xffffffff }),
  used('used id 0x10000 + head', 'stops', { id: (head) => 0x10000 + head }),
  {
    name: 'a used id that is not outstanding any more',
    outcome: 'stops',
    run: async (device) => {
      const head = await device.sendPacket(Buffer.alloc(60));
      // the driver takes the first for what it is; the second is a buffer that it owns again, or another packet in it
      device.give(
        RECEIVE,
        Array.from({ length: device.ringSize(RECEIVE) }, () => ({ id: head, length: 72 })),
      );
    },
  },
  used('a used length longer than the buffer', 'stops', { length: 0x10000 }),
  used('used length 0xffffffff', 'stops', { length: 0xffffffff }),
  ...[0, 1, 11].map((length) => used(`used length ${length}, less than the header`, 'stops', { length })),
  used('used length 12, a header and no packet', 'survives', { length: 12 }),
  used('a packet in 0 buffers', 'survives', { buffers: 0 }),
  used('a packet in 2 buffers, of which one comes', 'survives', { buffers: 2 }),
  used('a packet in 65,535 buffers', 'survives', { buffers: 0xffff }),
  { name: 'a used index further ahead than anything offered', outcome: 'stops', run: (device) => device.give(RECEIVE, [], 0x8000) },
  { name: 'a used index that goes back', outcome: 'stops', run: (device) => device.give(RECEIVE, [], -1) },
  {
    name: 'a used index of the transmit queue, where nothing was sent',
    outcome: 'stops',
    run: async (device) => {
      device.give(TRANSMIT, [], 1000);
      await provoke(device, device.ringSize(TRANSMIT) + 8);
    },
  },
  {
    name: 'a used id of the transmit queue beyond the ring',
    outcome: 'stops',
    run: async (device) => {
      device.give(TRANSMIT, [{ id: 0x7fff_ffff, length: 0 }]);
      await provoke(device, device.ringSize(TRANSMIT) + 8);
    },
  },
  {
    name: 'a packet of the driver given back twice',
    outcome: 'survives',
    run: async (device) => {
      await provoke(device);
      const head = await device.take(TRANSMIT);
      device.give(TRANSMIT, [
        { id: head, length: 0 },
        { id: head, length: 0 },
      ]);
      await provoke(device);
    },
  },
  {
    name: "all of the driver's memory overwritten",
    outcome: 'survives',
    run: (device) => {
      const size = device.ringSize(RECEIVE);
      for (let head = 0; head < size; head++) {
        const { address, length } = device.descriptor(RECEIVE, head);
        if (length > 0) device.writeGuest(address, randomBytes(length));
      }
      device.give(
        RECEIVE,
        Array.from({ length: 16 }, () => ({ id: randomBytes(4).readUInt32LE(0), length: randomBytes(4).readUInt32LE(0) })),
      );
    },
  },
];

/**
 * Has the driver send something: packets that it will send back. It looks at the used ring of its transmit queue when it
 * runs out of descriptors, so a lie there is found after a ring full of packets.
 */
async function provoke(device: RawDevice, packets = 8): Promise<void> {
  for (let count = 0; count < packets; count++) {
    const head = await device.sendPacket(Buffer.alloc(60));
    device.give(RECEIVE, [{ id: head, length: 72 }]);
  }
  await sleep(20);
}

interface ReplyAttack {
  readonly name: string;
  readonly deviate: Deviation;
}

/** Answers one kind of request with these bytes. */
function answer(name: string, request: number, bytes: () => Uint8Array): ReplyAttack {
  return {
    name,
    deviate: async (device, { request: asked }) => {
      if (asked !== request) return false;
      await device.connection.send(bytes());
      return true;
    },
  };
}

const REPLIED = VERSION | REPLY;
const REPLIES: readonly ReplyAttack[] = [
  answer('features without VIRTIO_F_VERSION_1', Request.GET_FEATURES, () => message(Request.GET_FEATURES, u64(0), REPLIED)),
  answer('all features', Request.GET_FEATURES, () => message(Request.GET_FEATURES, u64(0xffff_ffff_ffff_ffffn), REPLIED)),
  answer('random bytes', Request.GET_FEATURES, () => randomBytes(64)),
  answer('the reply to another request', Request.GET_FEATURES, () => message(Request.GET_QUEUE_NUM, u64(1), REPLIED)),
  answer('a request instead of a reply', Request.GET_FEATURES, () => message(Request.GET_FEATURES, u64(1))),
  answer('a reply of version 0', Request.GET_FEATURES, () => message(Request.GET_FEATURES, u64(1), REPLY)),
  answer('a reply without its payload', Request.GET_FEATURES, () => message(Request.GET_FEATURES, new Uint8Array(), REPLIED)),
  answer('a reply of 4 GiB', Request.GET_FEATURES, () => message(Request.GET_FEATURES, u64(0), REPLIED, 0xffffffff)),
  answer('half a reply, then silence', Request.GET_FEATURES, () => message(Request.GET_FEATURES, u64(0), REPLIED).subarray(0, 14)),
  answer('silence', Request.GET_FEATURES, () => new Uint8Array()),
  answer('two replies', Request.GET_PROTOCOL_FEATURES, () =>
    Buffer.concat([0, 1].map(() => message(Request.GET_PROTOCOL_FEATURES, u64(9), REPLIED))),
  ),
  answer('all protocol features', Request.GET_PROTOCOL_FEATURES, () =>
    message(Request.GET_PROTOCOL_FEATURES, u64(0xffff_ffff_ffff_ffffn), REPLIED),
  ),
  answer('an error for the memory table', Request.SET_MEM_TABLE, () => message(Request.SET_MEM_TABLE, u64(1), REPLIED)),
  answer('a flood of replies', Request.GET_FEATURES, () =>
    Buffer.concat(Array.from({ length: 2000 }, () => message(Request.GET_FEATURES, u64(1), REPLIED))),
  ),
];

describe.skipIf(whyMissing(VICTIM) !== undefined)('a device that breaks the rules', () => {
  const arena = new Arena(
    (socket) => `virtio_user0,path=${socket},queues=1,server=1`,
    expectEcho,
    async (socket, started) => {
      // a virtio_user that serves may wait for its device before the first prompt
      using device = await RawDevice.connect(socket);
      await device.ready();
      await started;
    },
  );
  beforeEach(() => arena.open(), 30_000);
  afterAll(() => arena.close());

  const rings: readonly (readonly [string, bigint])[] = [
    ['mergeable', DEVICE_FEATURES],
    ['mergeable, in order', DEVICE_FEATURES | Feature.IN_ORDER],
    ['neither', DEVICE_FEATURES & ~Feature.MRG_RXBUF],
  ];
  describe.each(rings)('in its rings: %s', (_, features) => {
    test.each(RINGS)('$name: $outcome', async ({ outcome, run }) => {
      await arena.attack(async (victim) => {
        using device = await RawDevice.connect(victim.socket, features);
        await device.ready();
        await victim.testpmd.waitForLink(true, 0);
        victim.listen();
        await run(device);
        // without mergeable buffers nobody reads num_buffers, and what is in order is not looked up by its id
        if (outcome === 'stops' && features === DEVICE_FEATURES) await victim.expectComplaint();
        else await sleep(50);
        await victim.expectBystandersForward();
      });
    });
  });

  describe('in its replies', () => {
    test.each(REPLIES)('$name', async ({ deviate }) => {
      await arena.attack(async (victim) => {
        using device = await RawDevice.connect(victim.socket, DEVICE_FEATURES, deviate);
        await until(3000, 'requests', () => device.requests > 1);
        await sleep(100);
        await victim.expectBystandersForward();
      });
    });

    test.each(Array.from({ length: 20 }, (_, count) => count))('hangs up at request %i', async (last) => {
      await arena.attack(async (victim) => {
        using device = await RawDevice.connect(victim.socket, DEVICE_FEATURES, (one) => {
          if (one.requests <= last) return false;
          one[Symbol.dispose]();
          return true;
        });
        await until(3000, 'requests', () => device.requests > last || device.connection.ended, 2);
      });
    });

    test('random bytes before any request', async () => {
      await arena.attack(async (victim) => {
        using connection = await RawConnection.connect(victim.socket);
        await connection.send(randomBytes(4096));
        await victim.expectBystandersForward();
      });
    });
  });
});
