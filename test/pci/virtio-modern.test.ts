import { describe, expect, test } from 'vitest';
import { VIRTIO_F_NOTIF_CONFIG_DATA, VIRTIO_F_NOTIFICATION_DATA, VIRTIO_F_VERSION_1 } from '../../src/backend/virtio-features.ts';
import { TransportBackend } from '../../src/backend/transport-backend.ts';
import { Arena } from '../../src/memory/arena.ts';
import { VirtioModern } from '../../src/pci/virtio-modern.ts';
import { PciFunctionModel } from '../support/pci-function-model.ts';

const RING = { size: 256, base: 0, descriptors: 0x80_0000, available: 0x80_1000, used: 0x80_2000 };

async function open(model: PciFunctionModel): Promise<VirtioModern> {
  const transport = await VirtioModern.open(model, { resetMilliseconds: 20 });
  if (transport === undefined) throw new Error('no modern device');
  return transport;
}

describe('features and status (virtio 1.2, 4.1.4.3)', () => {
  test('64 bits in two words, both ways', async () => {
    const model = new PciFunctionModel();
    const transport = await open(model);
    expect(await transport.readFeatures()).toBe(0x103_30bf_8024n);
    await transport.writeFeatures(VIRTIO_F_VERSION_1 | 0x8020n);
    expect(model.driverFeatures).toBe(0x1_0000_8020n);
  });

  test('a reset is waited for, and one that does not come is an error', async () => {
    const model = new PciFunctionModel();
    const transport = await open(model);
    model.status = 7;
    await transport.reset();
    expect(model.status).toBe(0);
    model.takeStatus = () => 7;
    await expect(transport.reset()).rejects.toMatchObject({
      code: 'ETIMEDOUT',
      message: '0000:00:10.0: the device does not reset within 0.02 s',
    });
  });

  test('a device that is stuck is reset by the bus, where that can be done', async () => {
    const model = new PciFunctionModel();
    const transport = await open(model);
    model.status = 7;
    model.takeStatus = () => 7;
    model.onReset = () => {
      model.status = 0;
      return true;
    };
    await transport.reset();
    expect(model.status).toBe(0);
    // and is still stuck afterwards
    model.onReset = () => true;
    await expect(transport.reset()).rejects.toMatchObject({ code: 'ETIMEDOUT' });
  });

  test('FEATURES_OK that the device never sets is read as it is', async () => {
    const model = new PciFunctionModel();
    const transport = await open(model);
    model.takeStatus = (status) => status & ~8;
    await transport.writeStatus(11);
    expect(await transport.readStatus()).toBe(3);
  });

  test('a device that reads as ones is gone', async () => {
    const model = new PciFunctionModel();
    const transport = await open(model);
    model.status = 0xff;
    await expect(transport.readStatus()).rejects.toMatchObject({ code: 'ENODEV' });
  });
});

describe('the device configuration (4.1.4.3.1, 5.1.4)', () => {
  test('every field at its own width', async () => {
    const model = new PciFunctionModel();
    const transport = await open(model);
    expect((await transport.readConfig(0, 24)).toString('hex')).toBe('020000000010' + '0100' + 'ff'.repeat(16));
    const fields = model.configReads.map(({ offset, width }) => [offset, width]);
    expect(fields).toEqual([
      ...[0, 1, 2, 3, 4, 5].map((at) => [at, 1]),
      ...[6, 8, 10].map((at) => [at, 2]),
      [12, 4],
      [16, 1],
      [17, 1],
      [18, 2],
      [20, 4],
    ]);
  });

  test('one that changes under the read is read again', async () => {
    const model = new PciFunctionModel();
    const transport = await open(model);
    let reads = 0;
    model.beforeConfigRead = () => {
      if (++reads !== 3) return;
      model.deviceConfiguration.fill(0x42, 0, 6);
      model.generation++;
    };
    expect((await transport.readConfig(0, 6)).toString('hex')).toBe('42'.repeat(6));
    expect(reads).toBe(12);
  });

  test('one that never stands still is given up', async () => {
    const model = new PciFunctionModel();
    const transport = await open(model);
    model.beforeConfigRead = () => {
      model.generation++;
    };
    await expect(transport.readConfig(6, 2)).rejects.toMatchObject({
      code: 'EPROTO',
      message: expect.stringMatching(/changes all the time/) as string,
    });
  });

  test('outside of it there is nothing', async () => {
    const transport = await open(new PciFunctionModel());
    await expect(transport.readConfig(0x1000, 2)).rejects.toThrow(RangeError);
  });
});

describe('rings (4.1.5.1.3)', () => {
  test('size, vector and addresses first, then the ring is enabled', async () => {
    const model = new PciFunctionModel();
    const transport = await open(model);
    Object.assign(transport, { addressHigh: 1 });
    expect(await transport.setRing(1, RING, 3)).toEqual({ kind: 'register', offset: 0x100_3004, bytes: 2, value: 1 });
    expect(model.rings[1]).toEqual({
      size: 256,
      vector: 3,
      enabled: 1,
      resetting: 0,
      addresses: [0x80_0000, 1, 0x80_1000, 1, 0x80_2000, 1],
    });
    expect(model.rings[0]?.enabled).toBe(0);
  });

  test('a size of zero, or a number beyond the last, is no ring', async () => {
    const model = new PciFunctionModel();
    model.ringSizes[1] = 0;
    const transport = await open(model);
    expect(await transport.ringLimit(1)).toBe(0);
    expect(await transport.ringLimit(7)).toBe(0);
    await expect(transport.setRing(1, RING, undefined)).rejects.toMatchObject({
      code: 'ENOENT',
      message: expect.stringMatching(/ring 1: .*no such ring/) as string,
    });
    await expect(transport.setRing(7, RING, undefined)).rejects.toMatchObject({ code: 'ENOENT' });
    await expect(transport.setRing(2, RING, undefined)).rejects.toThrow('ring 2: 256 descriptors, and the device takes 64 at most');
  });

  test('a vector that the device does not take is an error; with a line there are none', async () => {
    const model = new PciFunctionModel();
    model.vectors = 1;
    const transport = await open(model);
    await transport.setConfigInterrupt(0);
    expect(model.configVector).toBe(0);
    await expect(transport.setRing(0, RING, 1)).rejects.toThrow('0000:00:10.0: the device does not take interrupt 1 for ring 0');
    expect(model.rings[0]?.enabled).toBe(0);
    await expect(transport.setConfigInterrupt(2)).rejects.toMatchObject({ code: 'EBUSY' });
    await transport.setConfigInterrupt(undefined);
    expect(model.configVector).toBe(0xffff);
    const line = new PciFunctionModel();
    line.interruptKind = 'line';
    line.vectors = 0;
    const other = await open(line);
    await other.setRing(0, RING, 0);
    await other.setConfigInterrupt(0);
    line.isr = 3;
    expect(await other.readInterruptStatus()).toBe(3);
    expect(await other.readInterruptStatus()).toBe(0);
    expect(line.rearmed).toBe(2);
  });

  test('one ring is taken back while the others go on (VIRTIO_F_RING_RESET)', async () => {
    const model = new PciFunctionModel();
    const transport = await open(model);
    await transport.setRing(0, RING, undefined);
    await transport.setRing(1, RING, undefined);
    await transport.resetRing(1);
    expect(model.rings.map(({ enabled }) => enabled)).toEqual([1, 0, 0]);
    model.resetsRings = false;
    await expect(transport.resetRing(0)).rejects.toMatchObject({
      code: 'ETIMEDOUT',
      message: expect.stringMatching(/does not give ring 0 back/) as string,
    });
  });
});

describe('notification (4.1.4.4, 4.1.5.2)', () => {
  test('a register in a file, where the BAR is not mapped', async () => {
    const model = new PciFunctionModel();
    model.direct = 'file';
    const transport = await open(model);
    expect(await transport.setRing(2, { ...RING, size: 64 }, undefined)).toEqual({
      kind: 'file',
      fd: 77,
      position: 4 * 2 ** 40 + 0x3008,
      bytes: 2,
      value: 2,
    });
  });

  test('through an eventfd where registers are out of an lcore’s reach; given back by reset and close', async () => {
    const model = new PciFunctionModel();
    model.direct = 'none';
    model.features |= VIRTIO_F_NOTIFICATION_DATA;
    const transport = await open(model);
    // what belongs into the register is not known then
    expect((await transport.readFeatures()) & VIRTIO_F_NOTIFICATION_DATA).toBe(0n);
    expect(await transport.setRing(0, RING, undefined)).toMatchObject({ kind: 'descriptor' });
    await transport.setRing(1, RING, undefined);
    expect(model.openRelays).toBe(2);
    await transport.setRing(1, RING, undefined);
    expect(model.openRelays).toBe(2);
    await transport.reset();
    expect(model.openRelays).toBe(0);
    await transport.setRing(0, RING, undefined);
    await transport.close();
    expect(model.openRelays).toBe(0);
    expect(model.closed).toBe(1);
  });

  test('32 bits with VIRTIO_F_NOTIFICATION_DATA, another number with VIRTIO_F_NOTIF_CONFIG_DATA', async () => {
    const model = new PciFunctionModel();
    model.features |= VIRTIO_F_NOTIFICATION_DATA;
    const transport = await open(model);
    expect((await transport.readFeatures()) & VIRTIO_F_NOTIFICATION_DATA).not.toBe(0n);
    await transport.writeFeatures(VIRTIO_F_VERSION_1 | VIRTIO_F_NOTIFICATION_DATA);
    expect(await transport.setRing(1, RING, undefined)).toMatchObject({ bytes: 4, value: 1 });
    await transport.writeFeatures(VIRTIO_F_VERSION_1 | VIRTIO_F_NOTIF_CONFIG_DATA);
    expect(await transport.setRing(1, RING, undefined)).toMatchObject({ bytes: 2, value: 0x101 });
  });

  test('a register outside of the structure is refused', async () => {
    const model = new PciFunctionModel();
    // notify_off_multiplier
    model.configBytes.writeUInt32LE(0x2000, 0x80);
    const transport = await open(model);
    await expect(transport.setRing(1, RING, undefined)).rejects.toMatchObject({
      code: 'EPROTO',
      message: expect.stringMatching(/ring 1 is notified at 0x2000/) as string,
    });
    expect(model.rings[1]?.enabled).toBe(0);
  });
});

describe('a device that no port can use is said to be so, and closed', () => {
  async function refusal(spoil: (model: PciFunctionModel) => void): Promise<{ error: unknown; closed: number }> {
    const model = new PciFunctionModel();
    spoil(model);
    using arena = new Arena({ bytes: 4 << 20, ownBytes: 2 << 20, peerBytes: 0, pageSize: 4096, warn: () => undefined });
    const backend = new TransportBackend({
      arena,
      peer: model.name,
      openTransport: () => open(model),
      returns: false,
      queueSize: undefined,
      mac: undefined,
      events: { onOffer: () => undefined, onLost: () => undefined },
      log: () => undefined,
    });
    const error = await backend.open().catch((reason: unknown) => reason);
    await backend.close();
    return { error, closed: model.closed };
  }

  test.each<[string, (model: PciFunctionModel) => void, RegExp]>([
    ['FEATURES_OK is never set', (model) => (model.takeStatus = (status) => status & ~8), /refused the features/],
    ['it does not reset', (model) => (model.takeStatus = () => 1), /does not reset/],
    ['a ring has no descriptors', (model) => (model.ringSizes[1] = 0), /ring 1: .*no such ring \(its size is 0\)/],
    [
      'its configuration changes all the time',
      (model) => {
        model.beforeConfigRead = () => {
          model.generation++;
        };
      },
      /configuration changes all the time/,
    ],
    ['it is gone', (model) => (model.takeStatus = () => 0xff), /does not answer any more/],
  ])('%s', async (_, spoil, message) => {
    const { error, closed } = await refusal(spoil);
    expect(error).toMatchObject({ name: 'VirtioError', message: expect.stringMatching(message) as string });
    expect(closed).toBe(1);
  });
});
