import { readdirSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { DeviceOffer, DeviceStart } from '../../src/backend/backend.ts';
import { realVdpaSystem } from '../../src/backend/vhost-vdpa/system.ts';
import { VhostVdpa, type VhostVdpaOptions } from '../../src/backend/vhost-vdpa/vhost-vdpa.ts';
import type { Arena } from '../../src/memory/arena.ts';
import { Q_NOTIFY_FD } from '../../src/ring/queue-layout.ts';
import { DriverQueue } from '../../src/ring/virtqueue.ts';
import { testArena } from '../support/ring-pair.ts';
import { ERRNO, VdpaModel, type VdpaModelOptions } from '../support/vhost-vdpa-model.ts';

const MIB = 1024 * 1024;
const VERSION_1 = 1n << 32n;
const ACCESS_PLATFORM = 1n << 33n;
const MAC = 1n << 5n;
const STATUS = 1n << 16n;
const MTU = 1n << 3n;
const CONTROL = (1n << 17n) | (1n << 22n);
const DEFAULT = VERSION_1 | ACCESS_PLATFORM | MAC | STATUS | MTU;

/** One backend on one model, with what came of it. */
interface Bench {
  readonly model: VdpaModel;
  readonly backend: VhostVdpa;
  readonly logged: string[];
  readonly events: string[];
}

describe('the vhost-vdpa backend, on a model of the kernel', () => {
  let arena: Arena;
  let benches: Bench[];
  let queues: DriverQueue[];
  let descriptorsBefore: number;

  beforeEach(() => {
    arena = testArena();
    benches = [];
    queues = [];
    descriptorsBefore = readdirSync('/proc/self/fd').length;
  });

  afterEach(async () => {
    vi.useRealTimers();
    for (const { backend } of benches) await backend.close();
    expect(readdirSync('/proc/self/fd')).toHaveLength(descriptorsBefore);
    for (const { model } of benches) {
      expect(model.violations).toEqual([]);
      expect(model.openHandles).toBe(0);
      expect(model.openWatches).toBe(0);
    }
    for (const queue of queues) queue.close();
    expect(publishedBytes()).toBe(0);
    arena.close();
  });

  const publishedBytes = (): number => arena.published.end - arena.published.start - arena.published.freeBytes;

  function bench(model: VdpaModelOptions = {}, options: Partial<VhostVdpaOptions> = {}): Bench {
    const made = new VdpaModel(arena, model);
    const logged: string[] = [];
    const events: string[] = [];
    const backend = new VhostVdpa({
      arena,
      path: made.path,
      queueSize: 256,
      mac: undefined,
      events: {
        onOffer: ({ queuePairs }) => events.push(`offer ${String(queuePairs)}`),
        onLost: () => events.push('lost'),
        onLink: ({ up }) => events.push(up ? 'up' : 'down'),
      },
      log: (text) => logged.push(text),
      system: made.system,
      ...options,
    });
    const all = { model: made, backend, logged, events };
    benches.push(all);
    return all;
  }

  function rings(pairs = 1, size = 256): readonly DriverQueue[] {
    const made = Array.from({ length: 2 * pairs }, (_, index) => new DriverQueue(arena, { name: `ring ${String(index)}`, size, port: 0 }));
    queues.push(...made);
    return made;
  }

  const start = (given: Partial<DeviceStart> = {}): DeviceStart => ({ features: VERSION_1 | MTU, mtu: 1500, rings: rings(), ...given });

  async function refusal(promise: Promise<unknown>): Promise<string> {
    return promise.then(
      () => 'no error',
      (error: unknown) => (error instanceof Error ? error.message : String(error)),
    );
  }

  it('asks for everything in the order that the kernel wants', async () => {
    const { model, backend } = bench();
    const negotiation = [
      'VHOST_VDPA_SET_STATUS',
      'VHOST_VDPA_GET_STATUS',
      'VHOST_VDPA_SET_STATUS',
      'VHOST_VDPA_SET_STATUS',
      'VHOST_SET_FEATURES',
      'VHOST_VDPA_SET_STATUS',
      'VHOST_VDPA_GET_STATUS',
    ];
    const offer = await backend.open();
    expect(offer).toEqual<DeviceOffer>({
      features: model.offered,
      queuePairs: 1,
      ringSizes: [256, 256],
      mtu: 1500,
      rss: undefined,
      addressHigh: 0,
      physicalAddresses: 0,
      legacy: false,
      mac: Buffer.from([2, 0, 0, 0, 0, 1]),
    });
    expect(model.journal.splice(0)).toEqual([
      'open',
      'VHOST_VDPA_GET_DEVICE_ID',
      'VHOST_SET_OWNER',
      'VHOST_GET_BACKEND_FEATURES',
      'VHOST_SET_BACKEND_FEATURES',
      'VHOST_VDPA_GET_IOVA_RANGE',
      'VHOST_GET_FEATURES',
      'VHOST_VDPA_GET_CONFIG_SIZE',
      ...negotiation,
      'VHOST_VDPA_GET_VQS_COUNT',
      'VHOST_VDPA_GET_VRING_NUM',
      'VHOST_VDPA_GET_VRING_NUM',
      'VHOST_VDPA_SET_STATUS',
      'VHOST_VDPA_GET_STATUS',
      'VHOST_VDPA_GET_CONFIG',
      'VHOST_VDPA_GET_CONFIG',
    ]);
    const given = start();
    await backend.start(given);
    const ring = [
      'VHOST_SET_VRING_NUM',
      'VHOST_SET_VRING_BASE',
      'VHOST_SET_VRING_ADDR',
      'VHOST_SET_VRING_CALL',
      'VHOST_SET_VRING_KICK',
      'VHOST_VDPA_SET_VRING_ENABLE',
    ];
    expect(model.journal.splice(0)).toEqual([
      ...negotiation,
      'VHOST_IOTLB_BATCH_BEGIN',
      'VHOST_IOTLB_UPDATE',
      'VHOST_IOTLB_BATCH_END',
      ...ring,
      ...ring,
      'VHOST_VDPA_SET_CONFIG_CALL',
      'VHOST_VDPA_SET_STATUS',
      'VHOST_VDPA_GET_STATUS',
      'VHOST_VDPA_GET_CONFIG',
    ]);
    expect(model.status).toBe(0x0f);
    expect(model.features).toBe(DEFAULT);
    for (const [index, queue] of given.rings.entries()) {
      const held = model.rings[index];
      expect(held).toMatchObject({ size: 256, base: 0, descriptors: BigInt(queue?.descriptors ?? 0), enabled: true });
      expect(held?.kick).toBe(queue?.get(Q_NOTIFY_FD));
    }
    await backend.stop();
    expect(model.journal.splice(0)).toEqual([
      'VHOST_VDPA_SUSPEND',
      'VHOST_VDPA_SET_STATUS',
      'VHOST_VDPA_GET_STATUS',
      'VHOST_IOTLB_BATCH_BEGIN',
      'VHOST_IOTLB_INVALIDATE',
      'VHOST_IOTLB_BATCH_END',
    ]);
    expect(model.status).toBe(0);
    expect(model.mappings).toEqual([]);
  });

  it('starts and stops again and again', async () => {
    const { model, backend } = bench();
    await backend.open();
    const given = start();
    for (let round = 0; round < 5; round++) {
      await backend.start(given);
      expect(model.status).toBe(0x0f);
      await backend.stop();
    }
    await backend.stop();
  });

  it('works with a kernel that knows none of the newer requests', async () => {
    const unknown = ['GET_IOVA_RANGE', 'GET_CONFIG_SIZE', 'GET_VQS_COUNT', 'SUSPEND'].map((name) => `VHOST_VDPA_${name}`);
    const { model, backend } = bench({ unknown: [...unknown, 'VHOST_GET_BACKEND_FEATURES'] });
    await backend.open();
    await backend.start(start());
    await backend.stop();
    // messages of version 1 without batches: the model looks at them
    expect(model.journal.filter((name) => name.includes('IOTLB'))).toEqual(['VHOST_IOTLB_UPDATE', 'VHOST_IOTLB_INVALIDATE']);
  });

  it('leaves out what the device does not offer', async () => {
    const { model, backend } = bench({ features: VERSION_1 });
    expect(await backend.open()).toMatchObject({ features: VERSION_1, queuePairs: 1, mtu: undefined });
    await backend.start(start({ features: VERSION_1, mtu: 9000 }));
    expect(model.features).toBe(VERSION_1);
    await backend.setMac(Uint8Array.of(2, 0, 0, 0, 0, 9));
    expect(model.journal).not.toContain('VHOST_VDPA_SET_CONFIG');
  });

  it('gives the device the address that was asked for', async () => {
    const mac = Uint8Array.of(2, 0, 0, 0, 0, 0x77);
    const { model, backend } = bench({}, { mac });
    expect(await backend.open()).toMatchObject({ mac: Buffer.from(mac) });
    expect([...model.config.subarray(0, 6)]).toEqual([...mac]);
    await backend.setMac(Uint8Array.of(2, 0, 0, 0, 0, 0x78));
    expect(model.config[5]).toBe(0x78);
  });

  it('takes the address of a device that keeps its own, and says so', async () => {
    const { backend, logged } = bench({ fixedMac: true }, { mac: Uint8Array.of(2, 0, 0, 0, 0, 0x77) });
    expect(await backend.open()).toMatchObject({ mac: Buffer.from([2, 0, 0, 0, 0, 1]) });
    expect(logged).toEqual(['/dev/vhost-vdpa-7: the device keeps its address 02:00:00:00:00:01 instead of 02:00:00:00:00:77']);
    expect(await refusal(backend.setMac(Uint8Array.of(2, 0, 0, 0, 0, 3)))).toBe(
      '/dev/vhost-vdpa-7: the device keeps its address 02:00:00:00:00:01',
    );
  });

  it('leaves the address to the port where the device was given none', async () => {
    const { backend } = bench({ mac: [0, 0, 0, 0, 0, 0] });
    expect((await backend.open())?.mac).toBeUndefined();
  });

  it('does not believe in an MTU of 0', async () => {
    const { backend } = bench({ mtu: 0 });
    await backend.open();
    await backend.start(start());
  });

  it('tells of the link', async () => {
    const { model, backend, events } = bench();
    await backend.open();
    await backend.start(start());
    for (const linkUp of [false, false, true]) {
      model.change({ linkUp });
      await backend.setMtu(1500);
    }
    expect(events).toEqual(['down', 'up']);
    await backend.stop();
    model.change({ linkUp: false });
    await backend.setMtu(1500);
    expect(events).toEqual(['down', 'up']);
    await backend.start(start());
    expect(events).toEqual(['down', 'up', 'down']);
  });

  describe('queue pairs', () => {
    const three = { features: DEFAULT | CONTROL, queuePairs: 3, rings: 7 };

    it('one: no control queue where none is asked for', async () => {
      const { model, backend } = bench(three);
      expect(await backend.open()).toMatchObject({ queuePairs: 3 });
      await backend.start(start({ features: DEFAULT }));
      expect(model.features & CONTROL).toBe(0n);
      expect(model.rings.filter(({ enabled }) => enabled === true)).toHaveLength(2);
    });

    it('one: the control queue is the third ring, whatever the device could have', async () => {
      const { model, backend } = bench(three);
      await backend.open();
      await backend.start(start({ features: DEFAULT | CONTROL }));
      expect(model.features & CONTROL).toBe(1n << 17n);
      expect(model.rings.map(({ enabled }) => enabled === true)).toEqual([true, true, true, false, false, false, false]);
      expect(model.queuePairsSet).toEqual([]);
    });

    it('several: the control queue, behind the last ring of the device, says how many', async () => {
      const { model, backend } = bench(three);
      await backend.open();
      const given = start({ features: DEFAULT | CONTROL, rings: rings(2) });
      for (let round = 1; round <= 2; round++) {
        await backend.start(given);
        expect(model.rings.map(({ enabled }) => enabled === true)).toEqual([true, true, true, true, false, false, true]);
        expect(model.queuePairsSet).toHaveLength(round);
        await backend.stop();
      }
      expect(model.queuePairsSet).toEqual([2, 2]);
    });

    it('a device that refuses them does not start', async () => {
      const { model, backend } = bench({ ...three, controlAnswer: 1 });
      await backend.open();
      expect(await refusal(backend.start(start({ features: DEFAULT | CONTROL, rings: rings(2) })))).toBe(
        '/dev/vhost-vdpa-7: VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET: the device answered 1',
      );
      expect(model.status).toBe(0);
    });

    it('a device that does not answer is given up', async () => {
      const { model, backend } = bench({ ...three, controlAnswer: undefined });
      await backend.open();
      vi.useFakeTimers({ toFake: ['setTimeout', 'performance'] });
      const refused = refusal(backend.start(start({ features: DEFAULT | CONTROL, rings: rings(2) })));
      await vi.advanceTimersByTimeAsync(3000);
      expect(await refused).toBe('/dev/vhost-vdpa-7: no answer to VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET on the control queue');
      expect(model.status).toBe(0);
    });

    it('a device with fewer rings than it says has one pair, and one with rings too short for a command', async () => {
      expect(await bench({ ...three, rings: 2 }).backend.open()).toMatchObject({ queuePairs: 1 });
      expect(await bench({ ...three, largestRing: 2 }, { queueSize: 2 }).backend.open()).toMatchObject({ queuePairs: 1 });
    });
  });

  describe('refusals', () => {
    it.each<[string, VdpaModelOptions, string]>([
      ['another type of device', { deviceId: 2 }, '/dev/vhost-vdpa-7: it is a virtio device of type 2, and no network card (type 1)'],
      [
        'rings that are too small',
        { largestRing: 128 },
        'queue_size=256: the rings of /dev/vhost-vdpa-7 have 128 descriptors at most; ask for that or less',
      ],
      [
        'impossible numbers',
        { rings: 1 },
        '/dev/vhost-vdpa-7: ring 1: the device has no such ring (its size is 0); the device cannot be used',
      ],
      [
        'impossible queue pairs',
        { features: DEFAULT | CONTROL, queuePairs: 0 },
        '/dev/vhost-vdpa-7: the device says that it has 0 queue pairs',
      ],
    ])('%s', async (_, options, text) => {
      const { backend } = bench(options);
      expect(await refusal(backend.open())).toBe(text);
    });

    it('memory out of the reach of the device', async () => {
      const { backend } = bench({ iovaRange: [0n, 0xfffffn] });
      expect(await refusal(backend.open())).toMatch(
        /^\/dev\/vhost-vdpa-7: the device reaches addresses 0x0 to 0xfffff, and the packet memory has 0x[0-9a-f]+ to 0x[0-9a-f]+; ask for less memory with -m/,
      );
    });

    it('memory that may not be locked', async () => {
      const { model, backend } = bench({ lockedBytesLimit: 1.5 * MIB });
      await backend.open();
      expect(await refusal(backend.start(start()))).toBe(
        '/dev/vhost-vdpa-7: 4 MiB of packet memory cannot be locked for the device (VHOST_IOTLB_UPDATE): this process may lock 1.5 MiB (RLIMIT_MEMLOCK); ' +
          'raise the limit (ulimit -l unlimited; LimitMEMLOCK=infinity in a unit of systemd), or ask for less memory with -m',
      );
      expect(model.status).toBe(0);
    });

    it.each<[string, VdpaModelOptions, string]>([
      ['features', { refuseFeatures: true }, 'the device refused the features (status 0xb set, then read 0x3)'],
      ['the start', { refuseStart: true }, 'the device did not start (status 0xf set, then read 0x4f)'],
    ])('%s', async (_, options, text) => {
      const { model, backend } = bench(options);
      expect(await refusal(backend.open().then(() => backend.start(start())))).toBe(`/dev/vhost-vdpa-7: ${text}`);
      // the driver says that it has given up (3.1.1), and then resets, or closes, which resets as well
      expect(model.statuses.filter((status) => (status & 0x80) !== 0)).toHaveLength(1);
      expect(model.status).toBe(0);
    });

    it('a device that does not reset', async () => {
      const { backend } = bench({ neverResets: true });
      expect(await refusal(backend.open())).toBe('/dev/vhost-vdpa-7: the device does not reset (VHOST_VDPA_GET_STATUS)');
    });

    it('an MTU that the device does not take', async () => {
      const { backend } = bench({ mtu: 1400 });
      await backend.open();
      const text = "/dev/vhost-vdpa-7: MTU 1500: the device takes 1400 at most; set the port's MTU to that or less";
      expect(await refusal(backend.start(start()))).toBe(text);
      expect(await refusal(backend.setMtu(1500))).toBe(text);
      await backend.setMtu(1400);
      await backend.start(start({ mtu: 1400 }));
    });

    it('a second owner', async () => {
      const first = bench();
      await first.backend.open();
      const second = bench({}, { system: first.model.system });
      expect(await refusal(second.backend.open())).toBe('/dev/vhost-vdpa-7: busy: another process has it open');
    });
  });

  describe('a device that goes', () => {
    const second = async (): Promise<void> => {
      await vi.advanceTimersByTimeAsync(1000);
    };

    it('is taken again when it is back', async () => {
      vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
      const { model, backend, logged, events } = bench();
      await backend.open();
      await backend.start(start());
      model.present = false;
      await second();
      await second();
      expect(events).toEqual(['lost']);
      expect(model.openHandles).toBe(0);
      expect(await refusal(backend.start(start()))).toBe('/dev/vhost-vdpa-7: the device is gone; it is looked for every second');
      model.present = true;
      await second();
      expect(events).toEqual(['lost', 'offer 1']);
      await backend.start(start());
      expect(model.status).toBe(0x0f);
      expect(logged).toEqual([
        '/dev/vhost-vdpa-7: the device was removed; it is taken again when it is back',
        '/dev/vhost-vdpa-7: no such device: as root: modprobe vhost_vdpa, and make one (vdpa mgmtdev show; vdpa dev add name NAME mgmtdev DEVICE)',
      ]);
    });

    it('is opened anew when it says that it needs a reset', async () => {
      vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
      const { model, backend, logged, events } = bench();
      await backend.open();
      await backend.start(start());
      model.change({ needsReset: true });
      await backend.setMtu(1500);
      expect(logged).toEqual(['/dev/vhost-vdpa-7: the device needs a reset (DEVICE_NEEDS_RESET); it is opened anew']);
      await second();
      expect(events).toEqual(['lost', 'offer 1']);
    });

    it('and whose control queue is waited for', async () => {
      vi.useFakeTimers({ toFake: ['setTimeout', 'setInterval', 'clearInterval'] });
      const { model, backend, events } = bench({ features: DEFAULT | CONTROL, queuePairs: 2, rings: 5, controlAnswer: undefined });
      await backend.open();
      const refused = refusal(backend.start(start({ features: DEFAULT | CONTROL, rings: rings(2) })));
      model.present = false;
      await vi.advanceTimersByTimeAsync(1010);
      expect(await refused).toBe('/dev/vhost-vdpa-7: the device is gone; it is looked for every second');
      await backend.stop();
      expect(events).toEqual(['lost']);
    });

    it('needs a reset, and does not answer on its control queue either', async () => {
      const { model, backend } = bench({ features: DEFAULT | CONTROL, queuePairs: 2, rings: 5, controlAnswer: undefined });
      await backend.open();
      vi.useFakeTimers({ toFake: ['setTimeout', 'performance', 'setInterval', 'clearInterval'] });
      const refused = refusal(backend.start(start({ features: DEFAULT | CONTROL, rings: rings(2) })));
      model.change({ needsReset: true });
      await vi.advanceTimersByTimeAsync(3000);
      expect(await refused).toContain('/dev/vhost-vdpa-7: no answer');
    });
  });

  describe('every request that fails', () => {
    /** A whole life of a port with two queue pairs; everything that is said in it. */
    async function life(failure?: VdpaModel['failure']): Promise<Bench & { readonly said: readonly string[] }> {
      const all = bench({ features: DEFAULT | CONTROL, queuePairs: 2, rings: 5 }, { mac: Uint8Array.of(2, 0, 0, 0, 0, 0x77) });
      const { model, backend, logged } = all;
      model.failure = failure;
      const said: string[] = [];
      const note = async (promise: Promise<unknown>): Promise<boolean> => {
        const text = await refusal(promise);
        if (text !== 'no error') said.push(text);
        return text === 'no error';
      };
      const given = start({ features: DEFAULT | CONTROL, rings: rings(2, 16) });
      if ((await note(backend.open())) && (await note(backend.start(given)))) {
        model.change({ linkUp: false });
        await note(backend.setMac(Uint8Array.of(2, 0, 0, 0, 0, 0x78)));
        await note(backend.stop());
      }
      await backend.close();
      for (const queue of queues.splice(0)) queue.close();
      return { ...all, said: [...said, ...logged] };
    }

    it('is said with its name and the path, and leaves nothing behind', async () => {
      const clean = await life();
      expect(clean.said).toEqual([]);
      const steps = clean.model.journal.length;
      expect(new Set(clean.model.journal).size).toBe(27);
      for (let at = 0; at < steps; at++) {
        const { model, said } = await life({ at, errno: ERRNO.EIO });
        const name = model.journal[at] ?? '';
        // the address that could not be set is missed as well
        const first = said.filter((text) => !text.includes('keeps its address'));
        expect(first, `request ${String(at)}`).toEqual([`/dev/vhost-vdpa-7: Input/output error (${name})`]);
        expect(model.openHandles).toBe(0);
        expect(model.openWatches).toBe(0);
        expect(model.mappings).toEqual([]);
        expect(readdirSync('/proc/self/fd')).toHaveLength(descriptorsBefore);
        expect(publishedBytes()).toBe(0);
      }
    });

    it('does not keep the port from another start', async () => {
      const { model, backend } = bench();
      await backend.open();
      const given = start();
      let step = 0;
      for (; ; step++) {
        model.failure = { at: model.journal.length + step, errno: ERRNO.EIO };
        if ((await refusal(backend.start(given))) === 'no error') break;
        await backend.start(given);
        expect(model.status).toBe(0x0f);
        await backend.stop();
      }
      expect(step).toBe(26);
    });
  });
});

describe('the real system calls', () => {
  it('say that a device is not there, and that another is no vDPA device', async () => {
    const arena = testArena();
    const events = { onOffer: () => undefined, onLost: () => undefined };
    const open = async (path: string): Promise<unknown> => {
      const backend = new VhostVdpa({ arena, path, queueSize: 256, mac: undefined, events, log: () => undefined });
      const before = readdirSync('/proc/self/fd').length;
      const result = await backend.open().catch((error: unknown) => (error instanceof Error ? error.message : error));
      await backend.close();
      expect(readdirSync('/proc/self/fd')).toHaveLength(before);
      return result;
    };
    expect(await open('/dev/vhost-vdpa-that-is-not')).toMatch(
      /^\/dev\/vhost-vdpa-that-is-not: no such device: as root: modprobe vhost_vdpa/,
    );
    expect(await open('/dev/null')).toBe('/dev/null: Inappropriate ioctl for device (VHOST_VDPA_GET_DEVICE_ID)');
    arena.close();
  });

  it('know the limit of locked memory', () => {
    const limit = realVdpaSystem.lockedBytesLimit();
    expect(limit === undefined || limit >= 0).toBe(true);
  });

  it('answer errors with their numbers', () => {
    expect(realVdpaSystem.write(999_999, new Uint8Array(8))).toEqual({ value: -1, errno: ERRNO.EBADF });
    expect(realVdpaSystem.open('/nowhere/at-all')).toEqual({ value: -1, errno: ERRNO.ENOENT });
  });
});
