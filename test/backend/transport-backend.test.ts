/**
 * What the backend makes of transports that differ: with vectors, with a line, without interrupts; of devices that go for good. On the
 * model of a vDPA device, whose transport is given those properties; the whole life of a port is in vhost-vdpa.test.ts.
 */
import { readdirSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { TransportBackend, type TransportBackendOptions } from '../../src/backend/transport-backend.ts';
import { VdpaTransport } from '../../src/backend/vhost-vdpa/transport.ts';
import {
  VIRTIO_F_NOTIF_CONFIG_DATA,
  VIRTIO_F_NOTIFICATION_DATA,
  VIRTIO_F_ORDER_PLATFORM,
  VIRTIO_F_VERSION_1,
  VIRTIO_NET_F_STATUS,
} from '../../src/backend/virtio-features.ts';
import type { TransportInterrupts, VirtioTransport } from '../../src/backend/virtio-transport.ts';
import type { Arena } from '../../src/memory/arena.ts';
import { Q_NOTIFY_FD } from '../../src/ring/queue-layout.ts';
import { DriverQueue, NO_DESCRIPTOR } from '../../src/ring/virtqueue.ts';
import { signalEventFd } from '../../src/system/event-fd.ts';
import { VirtioError } from '../../src/system/error.ts';
import { testArena } from '../support/ring-pair.ts';
import { VdpaModel } from '../support/vhost-vdpa-model.ts';

/** Interrupts that are told by hand. */
class FakeInterrupts implements TransportInterrupts {
  readonly kind: 'msix' | 'line';
  readonly count: number;
  readonly enabled: number[][] = [];
  refusal: VirtioError | undefined;

  constructor(kind: 'msix' | 'line', count: number) {
    this.kind = kind;
    this.count = count;
  }

  enable(descriptors: readonly number[]): Promise<void> {
    this.enabled.push([...descriptors]);
    return this.refusal === undefined ? Promise.resolve() : Promise.reject(this.refusal);
  }

  disable(): Promise<void> {
    this.enabled.push([]);
    return Promise.resolve();
  }
}

describe('a backend on a transport', () => {
  let arena: Arena;
  let model: VdpaModel;
  let backend: TransportBackend;
  let queues: DriverQueue[];
  let descriptorsBefore: number;
  let events: string[];
  let logged: string[];
  /** What is watched for being readable. */
  let watches: Map<number, () => void>;

  beforeEach(() => {
    arena = testArena();
    descriptorsBefore = readdirSync('/proc/self/fd').length;
    model = new VdpaModel(arena);
    events = [];
    logged = [];
    watches = new Map();
    queues = [];
  });

  afterEach(async () => {
    await backend.close();
    vi.useRealTimers();
    expect(readdirSync('/proc/self/fd')).toHaveLength(descriptorsBefore);
    expect(model.violations).toEqual([]);
    expect(model.openHandles).toBe(0);
    for (const queue of queues) queue.close();
    arena.close();
  });

  /** Opens the backend on a device whose transport has these properties instead of its own. */
  async function open(own: Partial<VirtioTransport>, options: Partial<TransportBackendOptions> = {}): Promise<void> {
    backend = new TransportBackend({
      arena,
      peer: '0000:00:10.0',
      openTransport: () => {
        const transport = new VdpaTransport(model.path, arena, model.system);
        for (const [name, value] of Object.entries(own)) Object.defineProperty(transport, name, { value });
        return Promise.resolve(transport);
      },
      returns: false,
      queueSize: undefined,
      mac: undefined,
      events: {
        onOffer: () => events.push('offer'),
        onLost: () => events.push('lost'),
        onRemoved: () => events.push('removed'),
        onLink: ({ up }) => events.push(up ? 'up' : 'down'),
      },
      log: (text) => logged.push(text),
      watch: (fd, onReady) => {
        watches.set(fd, onReady);
        return () => watches.delete(fd);
      },
      ...options,
    });
    await backend.open();
  }

  async function start(): Promise<void> {
    queues = [0, 1].map((index) => new DriverQueue(arena, { name: `ring ${String(index)}`, size: 256, port: 0 }));
    await backend.start({ features: VIRTIO_F_VERSION_1 | VIRTIO_NET_F_STATUS, mtu: 1500, rings: queues });
  }

  /** Has the interrupt of the configuration come. */
  async function interrupt(): Promise<void> {
    const [[fd, onReady] = [-1, () => undefined]] = watches;
    signalEventFd(fd);
    onReady();
    await backend.setMtu(1500);
  }

  const second = async (): Promise<void> => {
    await vi.advanceTimersByTimeAsync(1000);
  };

  it('accepts what concerns the transport alone, whatever the port asks for', async () => {
    const transportFeatures = VIRTIO_F_ORDER_PLATFORM | VIRTIO_F_NOTIFICATION_DATA | VIRTIO_F_NOTIF_CONFIG_DATA;
    model = new VdpaModel(arena, { features: VIRTIO_F_VERSION_1 | VIRTIO_NET_F_STATUS | transportFeatures | (1n << 63n) });
    await open({ interrupts: undefined });
    await start();
    expect(model.features & transportFeatures).toBe(transportFeatures);
  });

  it('reads the link every second where nothing tells of it', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
    await open({ interrupts: undefined });
    await start();
    expect(backend.receiveInterrupt(0)).toBeUndefined();
    model.change({ linkUp: false });
    await backend.setMtu(1500);
    expect(events).toEqual([]);
    await second();
    expect(events).toEqual(['down']);
    await backend.stop();
    model.change({ linkUp: true });
    await second();
    expect(events).toEqual(['down']);
  });

  it('has an interrupt for each receive queue and one for the configuration, where there are enough', async () => {
    const interrupts = new FakeInterrupts('msix', 2);
    await open({ interrupts, setConfigInterrupt: () => Promise.resolve() });
    await start();
    const [[config, queue] = []] = interrupts.enabled;
    expect(interrupts.enabled).toHaveLength(1);
    expect(backend.receiveInterrupt(0)).toBe(queue);
    expect(backend.receiveInterrupt(1)).toBeUndefined();
    expect([...watches.keys()]).toEqual([config]);
    model.change({ linkUp: false });
    await interrupt();
    expect(events).toEqual(['down']);
    await backend.stop();
    expect(interrupts.enabled).toEqual([[config, queue], []]);
    expect(backend.receiveInterrupt(0)).toBeUndefined();
    expect(watches.size).toBe(0);
    // the same descriptors again
    await backend.start({ features: VIRTIO_F_VERSION_1, mtu: 1500, rings: queues });
    expect(interrupts.enabled[2]).toEqual([config, queue]);
  });

  it('has the one of the configuration alone where there are too few', async () => {
    const interrupts = new FakeInterrupts('msix', 1);
    await open({ interrupts, setConfigInterrupt: () => Promise.resolve() });
    await start();
    expect(interrupts.enabled[0]).toHaveLength(1);
    expect(backend.receiveInterrupt(0)).toBeUndefined();
    model.change({ linkUp: false });
    await interrupt();
    expect(events).toEqual(['down']);
  });

  it('does without those that the system refuses, and says so', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
    const interrupts = new FakeInterrupts('msix', 8);
    interrupts.refusal = new VirtioError('0000:00:10.0: no vectors left', { code: 'ENOSPC' });
    await open({ interrupts });
    await start();
    expect(logged).toEqual(['0000:00:10.0: no vectors left']);
    expect(backend.receiveInterrupt(0)).toBeUndefined();
    model.change({ linkUp: false });
    await second();
    expect(events).toEqual(['down']);
  });

  it('asks a device with a line what the interrupt was for', async () => {
    let why = 1;
    let asked = 0;
    const readInterruptStatus = (): Promise<number> => {
      asked++;
      return Promise.resolve(why);
    };
    await open({ interrupts: new FakeInterrupts('line', 1), readInterruptStatus, setConfigInterrupt: () => Promise.resolve() });
    await start();
    model.change({ linkUp: false });
    // of a ring
    await interrupt();
    expect([asked, events]).toEqual([1, []]);
    why = 3;
    await interrupt();
    expect([asked, events]).toEqual([2, ['down']]);
  });

  it('takes the notifications from the lcores before a lost device is given up, and does not look for one that was removed', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
    let gone: (reason: string) => void = () => undefined;
    const seen: unknown[] = [];
    const onGone = (listener: typeof gone): void => void (gone = listener);
    const gracePeriod = (): Promise<void> => {
      seen.push(
        queues.map((queue) => queue.get(Q_NOTIFY_FD)),
        model.openHandles,
      );
      return Promise.resolve();
    };
    await open({ onGone }, { gracePeriod });
    await start();
    expect(queues.map((queue) => queue.get(Q_NOTIFY_FD)).includes(NO_DESCRIPTOR)).toBe(false);
    gone('it was pulled out');
    await backend.stop();
    expect(seen).toEqual([[NO_DESCRIPTOR, NO_DESCRIPTOR], 1]);
    expect(events).toEqual(['lost', 'removed']);
    expect(logged).toEqual(['0000:00:10.0: it was pulled out']);
    await second();
    await second();
    expect(events).toEqual(['lost', 'removed']);
    const again = backend.start({ features: VIRTIO_F_VERSION_1, mtu: 1500, rings: queues });
    await expect(again).rejects.toThrow('0000:00:10.0: the device was removed');
  });

  it('opens a device anew that has failed, though it would not come back from its removal', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
    await open({});
    await start();
    model.change({ needsReset: true });
    const [, onReady] = [...watches][0] ?? [];
    onReady?.();
    // it is looked at, and then given up
    await backend.setMtu(1500);
    await backend.setMtu(1500);
    expect(events).toEqual(['lost']);
    await second();
    expect(events).toEqual(['lost', 'offer']);
    await backend.start({ features: VIRTIO_F_VERSION_1, mtu: 1500, rings: queues });
  });
});

describe('a legacy device', () => {
  it('is not asked for FEATURES_OK, and for no feature beyond 31', async () => {
    const arena = testArena();
    const model = new VdpaModel(arena, { features: (1n << 32n) | (1n << 5n) | (1n << 15n) });
    const statuses: number[] = [];
    const backend = new TransportBackend({
      arena,
      peer: 'legacy',
      openTransport: () => {
        const transport = new VdpaTransport(model.path, arena, model.system);
        const write = transport.writeStatus.bind(transport);
        Object.defineProperty(transport, 'legacy', { value: true });
        Object.defineProperty(transport, 'writeStatus', { value: (status: number) => (statuses.push(status), write(status)) });
        return Promise.resolve(transport);
      },
      returns: false,
      queueSize: undefined,
      mac: undefined,
      events: { onOffer: () => undefined, onLost: () => undefined },
      log: () => undefined,
    });
    expect(await backend.open()).toMatchObject({ features: (1n << 5n) | (1n << 15n), ringSizes: [256, 256], legacy: true });
    expect(statuses).toEqual([1, 3]);
    const queues = [0, 1].map((index) => new DriverQueue(arena, { name: `ring ${String(index)}`, size: 256, port: 0 }));
    await backend.start({ features: ~0n, mtu: 1500, rings: queues });
    expect(model.features).toBe((1n << 5n) | (1n << 15n));
    expect(statuses).toEqual([1, 3, 1, 3, 7]);
    await backend.close();
    // the model's kernel knows modern devices only, and notes what it misses
    expect(model.violations.every((text) => text.includes('FEATURES_OK') || text.includes('features are agreed on'))).toBe(true);
    for (const queue of queues) queue.close();
    arena.close();
  });
});
