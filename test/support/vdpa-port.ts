/**
 * A virtio port on the model of a vDPA device, and the device's end of its rings.
 * @module
 */
import { VhostVdpa } from '../../src/backend/vhost-vdpa/vhost-vdpa.ts';
import { VirtioPort, type VirtioPortOptions } from '../../src/port/virtio-port.ts';
import { QUEUE_RUNNING } from '../../src/ring/queue-layout.ts';
import { DeviceQueue } from '../../src/ring/virtqueue.ts';
import type { PortBench } from './port-pair.ts';
import { VdpaModel, type VdpaModelOptions } from './vhost-vdpa-model.ts';

export const QUEUE_SIZE = 64;

export interface VdpaPort {
  readonly port: VirtioPort;
  readonly model: VdpaModel;
}

/** A port that has found its device; not configured yet. */
export async function portOnModel(
  bench: PortBench,
  options: VdpaModelOptions = {},
  portOptions: Partial<VirtioPortOptions> = {},
): Promise<VdpaPort> {
  const { context } = bench;
  const model = new VdpaModel(context.arena, options);
  const port = await VirtioPort.open(context, {
    id: 0,
    name: 'virtio_user0',
    devargs: '',
    driverName: 'net_virtio_user',
    mac: Uint8Array.of(2, 9, 9, 9, 9, 9),
    queuePairs: 1,
    queueSize: QUEUE_SIZE,
    mergeable: true,
    inOrder: true,
    packed: false,
    controlQueue: false,
    speed: 0,
    makeBackend: (events) =>
      new VhostVdpa({
        arena: context.arena,
        path: model.path,
        queueSize: QUEUE_SIZE,
        mac: undefined,
        events,
        log: context.log,
        system: model.system,
      }),
    ...portOptions,
  });
  return { port, model };
}

/** The device's end of a ring, where the kernel was told that it is. */
export function deviceEnd(bench: PortBench, model: VdpaModel, index: number, headerBytes = 12): DeviceQueue {
  const { descriptors = 0n, available = 0n, used = 0n, size = 0 } = model.rings[index] ?? {};
  const queue = new DeviceQueue(bench.context.arena, { name: 'device', port: 1, pool: bench.pool.offset });
  queue.attach({
    size,
    descriptors: Number(descriptors),
    available: Number(available),
    used: Number(used),
    features: 0,
    headerBytes,
    regions: bench.bench.regions(),
  });
  queue.setState(QUEUE_RUNNING);
  return queue;
}
