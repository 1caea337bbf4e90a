import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { DeviceOffer } from '../../src/backend/backend.ts';
import { VhostUserFrontEnd } from '../../src/backend/vhost-user/front-end.ts';
import type { Arena } from '../../src/memory/arena.ts';
import { QUEUE_MERGEABLE } from '../../src/ring/queue-layout.ts';
import { DriverQueue } from '../../src/ring/virtqueue.ts';
import { sleep, until } from '../support/deadline.ts';
import { nameOf, serveFrontEnd, type BackEndOptions } from '../support/raw-back-end.ts';
import { RawConnection, RawListener } from '../support/raw-vhost-user.ts';
import { testArena } from '../support/ring-pair.ts';
import { Feature, message, REPLY, Request, u64, VERSION } from '../support/vhost-user-messages.ts';

const directory = mkdtempSync(join(tmpdir(), 'dpdk-ts-front-end-'));
afterAll(() => rmSync(directory, { recursive: true }));

let arena: Arena;
beforeAll(() => {
  arena = testArena();
});
afterAll(() => arena.close());

interface Events {
  readonly offers: DeviceOffer[];
  losses: number;
  readonly log: string[];
}

let paths = 0;
const open: { close(): Promise<void> }[] = [];
const disposables: Disposable[] = [];
let path: string;
let events: Events;
beforeEach(() => {
  path = join(directory, `${paths++}.sock`);
  events = { offers: [], losses: 0, log: [] };
});
afterEach(async () => {
  for (const one of open.splice(0)) await one.close();
  for (const one of disposables.splice(0).reverse()) one[Symbol.dispose]();
});

function frontEnd(server = false): VhostUserFrontEnd {
  const made = new VhostUserFrontEnd({
    arena,
    path,
    server,
    events: {
      onOffer: (offer) => events.offers.push(offer),
      onLost: () => events.losses++,
    },
    log: (text) => events.log.push(text),
  });
  open.push(made);
  return made;
}

function listen(): RawListener {
  const listener = new RawListener(path);
  disposables.push(listener);
  return listener;
}

async function accept(
  listener: RawListener,
  options: BackEndOptions = {},
): Promise<{ connection: RawConnection; log: ReturnType<typeof serveFrontEnd> }> {
  const connection = await listener.accept();
  disposables.push(connection);
  return { connection, log: serveFrontEnd(connection, options) };
}

describe('the vhost-user front-end', () => {
  it('says what DPDK says, in its order, and takes its rings back', async () => {
    const served = accept(listen(), { queuePairs: 2 });
    const front = frontEnd();
    expect(await front.open()).toMatchObject({ queuePairs: 2 });
    const rings = [0, 1].map((index) => new DriverQueue(arena, { name: `ring ${index}`, size: 256, port: 0 }));
    for (const ring of rings) ring.negotiate(QUEUE_MERGEABLE, 12);
    await front.start({ features: Feature.VERSION_1 | Feature.MRG_RXBUF, mtu: 1500, rings });
    await front.stop();
    await front.close();
    const log = await (await served).log;
    const ring = ['SET_VRING_NUM', 'SET_VRING_BASE', 'SET_VRING_ADDR', 'SET_VRING_KICK'];
    expect(log.map(({ request }) => nameOf(request))).toEqual([
      ...['SET_OWNER', 'GET_FEATURES', 'GET_PROTOCOL_FEATURES', 'SET_PROTOCOL_FEATURES', 'GET_QUEUE_NUM'],
      ...['SET_VRING_CALL', 'SET_VRING_CALL', 'SET_FEATURES', 'SET_STATUS', 'GET_STATUS', 'SET_MEM_TABLE'],
      ...[...ring, ...ring, 'SET_VRING_ENABLE', 'SET_VRING_ENABLE', 'SET_STATUS'],
      ...['SET_VRING_ENABLE', 'SET_VRING_ENABLE', 'GET_VRING_BASE', 'GET_VRING_BASE'],
    ]);
    const table = log.find(({ request }) => request === Request.SET_MEM_TABLE);
    expect(table?.descriptors).toHaveLength(1);
    const region = arena.publishedRegion;
    expect([table?.payload.readUInt32LE(0), table?.payload.readBigUInt64LE(8), table?.payload.readBigUInt64LE(16)]).toEqual([
      1,
      BigInt(region.guestAddress),
      BigInt(region.bytes),
    ]);
    for (const queue of rings) queue.close();
  });

  it('starts rings without enabling them where there are no protocol features', async () => {
    const served = accept(listen(), { features: Feature.VERSION_1 });
    const front = frontEnd();
    expect(await front.open()).toEqual({ features: Feature.VERSION_1, queuePairs: 1, packedEvents: true });
    const ring = new DriverQueue(arena, { name: 'a ring', size: 64, port: 0 });
    await front.start({ features: Feature.VERSION_1, mtu: 1500, rings: [undefined, ring] });
    await front.close();
    const log = await (await served).log;
    expect(log.map(({ request }) => nameOf(request))).not.toContain('SET_VRING_ENABLE');
    expect(log.filter(({ request }) => request === Request.SET_VRING_KICK).map(({ payload }) => payload.readUInt32LE(0))).toEqual([1]);
    ring.close();
  });

  it('says which path when nobody listens', async () => {
    await expect(frontEnd().open()).rejects.toThrow(`connect to ${path}: No such file or directory`);
  });

  it('tries the whole handshake again when a dying listener hangs up in it, and connects once', async () => {
    // cloud-hypervisor#8613: connect() may succeed on a listener that is just dying
    const listener = listen();
    const first = listener.accept().then((connection) => connection[Symbol.dispose]());
    const opening = frontEnd().open();
    await first;
    const { log } = await accept(listener);
    expect(await opening).toMatchObject({ queuePairs: 1 });
    // a second connection would come after the second that a loss is answered in
    const second = listener.accept(1600).then(
      () => 'a second connection',
      () => 'none',
    );
    expect(await second).toBe('none');
    expect([events.losses, events.offers]).toEqual([0, []]);
    void log;
  });

  it('gives up after three handshakes that were cut', async () => {
    const listener = listen();
    const refuse = async (): Promise<void> => {
      for (let time = 0; time < 3; time++) (await listener.accept())[Symbol.dispose]();
    };
    const refusing = refuse();
    await expect(frontEnd().open()).rejects.toThrow(/closed the connection|Broken pipe|reset/);
    await refusing;
  });

  it.each([
    [
      'an answer to something else',
      message(Request.GET_STATUS, u64(0), VERSION | REPLY),
      /an answer GET_STATUS of 8 bytes came while the answer to GET_FEATURES was expected/,
    ],
    ['a request', message(Request.GET_FEATURES, u64(0)), /a request GET_FEATURES/],
    ['an answer cut short', message(Request.GET_FEATURES, Buffer.alloc(4), VERSION | REPLY), /an answer GET_FEATURES of 4 bytes/],
    ['text', Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n'), /not a vhost-user message/],
  ])('refuses a peer that answers with %s', async (_, bytes, text) => {
    const served = accept(listen(), { answer: ({ request }) => (request === Request.GET_FEATURES ? bytes : 'honestly') });
    const failure = await frontEnd()
      .open()
      .then(
        () => undefined,
        (error: unknown) => error,
      );
    expect(failure).toBeInstanceOf(Error);
    const cause = failure instanceof Error && failure.cause instanceof Error ? failure.cause.message : '';
    expect(`${String(failure)} ${cause} ${events.log.join(' ')}`).toMatch(text);
    await served;
  });

  it.each([0n, 0x8001n, 0xffff_ffff_ffff_ffffn])('refuses a back-end that has %i queue pairs', async (pairs) => {
    const served = accept(listen(), {
      answer: ({ request }) => (request === Request.GET_QUEUE_NUM ? message(request, u64(pairs), VERSION | REPLY) : 'honestly'),
    });
    await expect(frontEnd().open()).rejects.toThrow(/the back-end says that it has \d+ queue pairs/);
    await served;
  });

  it('refuses to start when the back-end refuses features or memory', async () => {
    const refuses = (which: number, answer: bigint): BackEndOptions => ({
      answer: ({ request }) => (request === which ? message(request, u64(answer), VERSION | REPLY) : 'honestly'),
    });
    for (const [options, text] of [
      [refuses(Request.GET_STATUS, 3n), /refused the features/],
      [refuses(Request.SET_MEM_TABLE, 1n), /refused SET_MEM_TABLE/],
    ] as const) {
      path = join(directory, `${paths++}.sock`);
      const served = accept(listen(), options);
      const front = frontEnd();
      await front.open();
      await expect(front.start({ features: Feature.VERSION_1, mtu: 1500, rings: [] })).rejects.toThrow(text);
      await front.close();
      await served;
    }
  });

  it('reports a loss, connects again, and offers anew', async () => {
    const listener = listen();
    const first = accept(listener);
    const front = frontEnd();
    await front.open();
    (await first).connection[Symbol.dispose]();
    await until(2000, 'the loss', () => events.losses === 1);
    await accept(listener);
    await until(3000, 'an offer', () => events.offers.length === 1);
    expect([events.losses, events.offers[0]?.queuePairs]).toEqual([1, 1]);
  });

  it('waits as a server, refuses a second back-end, and takes the next one when the first is gone', async () => {
    const front = frontEnd(true);
    expect(await front.open()).toBeUndefined();
    const first = await RawConnection.connect(path);
    const serving = serveFrontEnd(first);
    await until(2000, 'an offer', () => events.offers.length === 1);
    using second = await RawConnection.connect(path);
    await second.hangUp();
    expect(events.log.join()).toMatch(/a second back-end connected while one is in use; refused/);
    expect([events.losses, events.offers.length]).toEqual([0, 1]);
    first[Symbol.dispose]();
    await serving.catch(() => undefined);
    using third = await RawConnection.connect(path);
    void serveFrontEnd(third).catch(() => undefined);
    await until(2000, 'another offer', () => events.offers.length === 2);
    expect(events.losses).toBe(1);
  });

  it('is not there for its peer: start says so', async () => {
    await expect(frontEnd().start({ features: 0n, mtu: 1500, rings: [] })).rejects.toThrow(/no back-end is connected/);
  });

  it('leaves no socket file and no descriptor behind, however often it is closed', async () => {
    await sleep(50);
    const before = readdirSync('/proc/self/fd').length;
    const front = frontEnd(true);
    await front.open();
    expect(readdirSync(directory)).toHaveLength(1);
    await front.close();
    await front.close();
    expect(readdirSync(directory)).toEqual([]);
    // the helper thread's descriptors go when it ends
    await until(3000, 'descriptors to be closed', () => readdirSync('/proc/self/fd').length <= before);
  });
});
