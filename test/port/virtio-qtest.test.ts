/** What net_virtio_qtest refuses before it looks for any QEMU, and what it needs of the memory. The devices: test/qtest. */
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseDevargs } from '../../src/port/devargs.ts';
import { memoryDemand } from '../../src/port/drivers.ts';
import { PortBench } from '../support/port-pair.ts';

const directory = mkdtempSync(join(tmpdir(), 'dpdk-ts-qtest-'));
afterAll(() => rmSync(directory, { recursive: true }));

describe('its arguments', () => {
  let bench: PortBench;
  beforeEach(() => {
    bench = new PortBench();
  });
  afterEach(() => bench[Symbol.asyncDispose]());

  it.each([
    ['', /give either qemu=auto, or the socket of a QEMU that runs: qtest=PATH,memory=FILE/],
    [',qemu=auto,qtest=/q', /give either/],
    [',qtest=/q', /give the file of QEMU's memory, memory=FILE .* or that of its ivshmem device, ivshmem=FILE/],
    [',qtest=/q,memory=/m,ivshmem=/i', /give the file of QEMU's memory/],
    [',qemu=auto,memory=/m', /memory= is for a QEMU that runs already/],
    [',qtest=/q,memory=/m,netdev=user', /netdev= is for qemu=auto/],
    [',qtest=/q,memory=/nonexistent', /memory=\/nonexistent is not where the packets of this process are; name it when the process starts/],
    [',qemu=auto,machine=microvm', /machine=microvm: expected q35, pc/],
    [',qemu=auto,irq=nmi', /irq=nmi: expected msix, intx/],
    [',qemu=auto,addr=bus', /addr=bus: expected a slot \(0x4\) or an address/],
    [',qemu=auto,addr=0x1f', /with qemu=auto a slot from 0x2 to 0x1e/],
    [',qemu=auto,addr=0000:01:00.0', /with qemu=auto a slot/],
    [',qemu=auto,queues=9', /queues=9: expected a number from 1 to 8/],
    [',qemu=auto,netdev=[vhost-user]', /give the back-end's socket: \[vhost-user,path=/],
    [',qemu=auto,netdev=[vhost-user,path=/v],irq=msix', /QEMU 7.2 dies of it/],
    [',qemu=auto,packed_vq=1', /unknown key packed_vq/],
  ])('%s', async (text, message) => {
    await expect(bench.open(`net_virtio_qtest0${text}`)).rejects.toThrow(message);
  });
});

describe('its memory', () => {
  const file = (name: string): string => {
    const path = join(directory, name);
    writeFileSync(path, '');
    truncateSync(path, 1 << 20);
    return path;
  };
  const demand = (...texts: readonly string[]): ReturnType<typeof memoryDemand> => memoryDemand(texts.map(parseDevargs));

  it('is the file of a QEMU that runs, or pages of 4 KiB; nothing in particular for others', () => {
    const path = file('one');
    expect(demand('net_null0', 'virtio_user0,path=/v')).toEqual({});
    expect(demand('net_null0', 'net_virtio_qtest0,qemu=auto')).toEqual({ pageSize: 4096 });
    expect(demand(`net_virtio_qtest0,qtest=/q,memory=${path}`)).toEqual({ publishedPath: path });
    expect(demand('net_virtio_qtest0,qemu=auto', `net_virtio_qtest1,qtest=/q,ivshmem=${path}`)).toEqual({
      publishedPath: path,
      pageSize: 4096,
    });
    // what is wrong with it is said when the port is made
    expect(demand('net_virtio_qtest0,nonsense=1', 'nonsense0')).toEqual({});
  });

  it('is one file for all of them, under whatever name', () => {
    const [one, other] = [file('one'), file('other')];
    const same = `${directory}/../${directory.split('/').at(-1) ?? ''}/one`;
    expect(demand(`net_virtio_qtest0,qtest=/q,memory=${one}`, `net_virtio_qtest1,qtest=/r,ivshmem=${same}`)).toEqual({
      publishedPath: one,
    });
    expect(() => demand(`net_virtio_qtest0,qtest=/q,memory=${one}`, `net_virtio_qtest1,qtest=/r,memory=${other}`)).toThrow(
      /packets cannot be in .*one and in .*other: give all QEMUs one memory file/,
    );
  });
});
