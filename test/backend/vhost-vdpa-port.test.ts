import { describe, expect, it } from 'vitest';
import { createPort } from '../../src/port/drivers.ts';
import { until } from '../support/deadline.ts';
import { PortBench } from '../support/port-pair.ts';
import { frame } from '../support/ring-pair.ts';
import { deviceEnd, portOnModel, type VdpaPort } from '../support/vdpa-port.ts';
import type { VdpaModelOptions } from '../support/vhost-vdpa-model.ts';

describe('a virtio port on a vDPA device (a model)', () => {
  async function portOn(bench: PortBench, options: VdpaModelOptions = {}): Promise<VdpaPort> {
    const made = await portOnModel(bench, options);
    await bench.setUp(made.port, 1);
    return made;
  }

  it('has its rings and packets where the device looks for them', async () => {
    await using bench = new PortBench();
    const { port, model } = await portOn(bench, { features: (1n << 32n) | (1n << 33n) | (1n << 5n) });
    await port.start();
    expect(port.link().up).toBe(true);
    expect([...port.mac]).toEqual([2, 0, 0, 0, 0, 1]);
    const { kernels } = bench.context.main;
    const [toDriver, fromDriver] = [deviceEnd(bench, model, 0), deviceEnd(bench, model, 1)];
    for (let round = 0; round < 20; round++) {
      const packets = Array.from({ length: 8 }, (_, index) => bench.bench.packet(bench.pool, frame(100, round * 8 + index)) ?? 0);
      expect(bench.bench.send((_, mbufs, count) => port.txBurst(0, mbufs, count), 0, packets)).toBe(8);
      const { handles } = bench.bench;
      expect(kernels.splitDeviceDequeue(fromDriver.offset, handles, 8)).toBe(8);
      expect(kernels.splitDeviceEnqueue(toDriver.offset, handles, 8)).toBe(8);
      const back = bench.bench.take((_, mbufs, count) => port.rxBurst(0, mbufs, count), 0, 8);
      expect(back.map((bytes, index) => bytes.equals(frame(100, round * 8 + index)))).toEqual(Array.from({ length: 8 }, () => true));
    }
    toDriver.close();
    fromDriver.close();
    await port.close();
    expect(model.violations).toEqual([]);
    expect(model.openHandles).toBe(0);
  });

  it.each([
    ['path=/dev/vhost-vdpa-none', /^\/dev\/vhost-vdpa-none: no such device: as root: modprobe vhost_vdpa/],
    ['path=/dev/vhost-vdpa-none,server=1', /^virtio_user0: server=1: \/dev\/vhost-vdpa-none is no socket; leave it out$/],
    ['path=/dev/vhost-vdpa-none,iface=tap0', /^virtio_user0: iface=tap0: .*; \/dev\/vhost-vdpa-none has none$/],
  ])('is not made of virtio_user0,%s', async (keys, text) => {
    await using bench = new PortBench();
    await expect(createPort(bench.context, 0, `virtio_user0,${keys}`)).rejects.toThrow(text);
  });

  it('has the link of the device', async () => {
    await using bench = new PortBench();
    const { port, model } = await portOn(bench);
    const seen: boolean[] = [];
    port.onEvent(({ type }) => {
      if (type === 'intr_lsc') seen.push(port.link().up);
    });
    model.change({ linkUp: false });
    await port.start();
    expect(port.link().up).toBe(false);
    model.change({ linkUp: true });
    await until(1000, 'up', () => seen.length === 1, 1);
    model.change({ linkUp: false });
    await until(1000, 'down', () => seen.length === 2, 1);
    expect(seen).toEqual([true, false]);
    await port.stop();
    await port.close();
    expect(model.violations).toEqual([]);
  });

  it('comes back with the device', async () => {
    await using bench = new PortBench();
    const { port, model } = await portOn(bench);
    await port.start();
    model.change({ needsReset: true });
    await until(3000, 'the device is lost', () => !port.link().up, 5);
    await until(3000, 'the device is back', () => port.link().up, 5);
    expect(model.status).toBe(0x0f);
    await port.close();
    expect(model.violations).toEqual([]);
    expect(bench.log).toEqual(['/dev/vhost-vdpa-7: the device needs a reset (DEVICE_NEEDS_RESET); it is opened anew']);
  });
});
