/**
 * What a virtio port asks of its device on the control queue, byte by byte, on a model that records it: also what no QEMU of Debian's
 * offers (notification coalescing, UDP segmentation). Real devices are in test/qtest/control-queue.test.ts.
 */
import { describe, expect, it } from 'vitest';
import { brokenDependencies } from '../../src/backend/feature-dependencies.ts';
import {
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_VERSION_1,
  VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
  VIRTIO_NET_F_CTRL_MAC_ADDR,
  VIRTIO_NET_F_CTRL_RX,
  VIRTIO_NET_F_CTRL_VLAN,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F_GUEST_ANNOUNCE,
  VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F_GUEST_TSO4,
  VIRTIO_NET_F_GUEST_TSO6,
  VIRTIO_NET_F_GUEST_USO4,
  VIRTIO_NET_F_GUEST_USO6,
  VIRTIO_NET_F_HASH_REPORT,
  VIRTIO_NET_F_HOST_USO,
  VIRTIO_NET_F_MAC,
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_NET_F_MTU,
  VIRTIO_NET_F_NOTF_COAL,
  VIRTIO_NET_F_RSS,
  VIRTIO_NET_F_SPEED_DUPLEX,
  VIRTIO_NET_F_STATUS,
  VIRTIO_NET_F_VQ_NOTF_COAL,
} from '../../src/backend/virtio-features.ts';
import { reverseArp } from '../../src/port/announcement.ts';
import { MBUF_FLAGS, MBUF_HASH, MBUF_HASH_VALID } from '../../src/memory/mbuf-layout.ts';
import { RX_OFFLOAD_RSS_HASH, RX_OFFLOAD_TCP_LRO, RX_OFFLOAD_VLAN_FILTER, TX_OFFLOAD_UDP_TSO } from '../../src/port/offloads.ts';
import type { PortConfiguration } from '../../src/port/port.ts';
import { RSS_DEFAULT_KEY, RSS_IP, RSS_IPV4_TCP, RSS_IPV4_UDP } from '../../src/port/rss.ts';
import type { VirtioPortOptions } from '../../src/port/virtio-port.ts';
import { until } from '../support/deadline.ts';
import { PortBench } from '../support/port-pair.ts';
import { frame } from '../support/ring-pair.ts';
import { deviceEnd, portOnModel, QUEUE_SIZE, type VdpaPort } from '../support/vdpa-port.ts';
import type { VdpaModel, VdpaModelOptions } from '../support/vhost-vdpa-model.ts';

const PLAIN =
  VIRTIO_F_VERSION_1 | VIRTIO_F_ACCESS_PLATFORM | VIRTIO_NET_F_MAC | VIRTIO_NET_F_STATUS | VIRTIO_NET_F_MTU | VIRTIO_NET_F_MRG_RXBUF;
const FILTERS = VIRTIO_NET_F_CTRL_VQ | VIRTIO_NET_F_CTRL_RX | VIRTIO_NET_F_CTRL_VLAN | VIRTIO_NET_F_CTRL_MAC_ADDR;
const EVERYTHING =
  PLAIN |
  FILTERS |
  VIRTIO_NET_F_MQ |
  VIRTIO_NET_F_RSS |
  VIRTIO_NET_F_HASH_REPORT |
  VIRTIO_NET_F_NOTF_COAL |
  VIRTIO_NET_F_VQ_NOTF_COAL |
  VIRTIO_NET_F_GUEST_ANNOUNCE |
  VIRTIO_NET_F_SPEED_DUPLEX |
  VIRTIO_NET_F_CSUM |
  VIRTIO_NET_F_HOST_USO |
  VIRTIO_NET_F_GUEST_CSUM |
  VIRTIO_NET_F_GUEST_TSO4 |
  VIRTIO_NET_F_GUEST_TSO6 |
  VIRTIO_NET_F_GUEST_USO4 |
  VIRTIO_NET_F_GUEST_USO6 |
  VIRTIO_NET_F_CTRL_GUEST_OFFLOADS;
const OWN = Uint8Array.of(2, 0, 0, 0, 0, 1);
const OTHER = Uint8Array.of(2, 0, 0, 0, 0, 0x22);
const GROUP = Uint8Array.of(1, 0, 0x5e, 0, 0, 9);

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
/** What came since the last look: class.command:data */
const taken = (model: VdpaModel): string[] =>
  model.commands.splice(0).map(({ kind, command, data }) => `${String(kind)}.${String(command)}:${hex(data)}`);

interface Wish {
  readonly model?: VdpaModelOptions;
  readonly port?: Partial<VirtioPortOptions>;
  readonly configuration?: Partial<PortConfiguration>;
}

async function startedOn(bench: PortBench, { model = {}, port: options = {}, configuration = {} }: Wish = {}): Promise<VdpaPort> {
  const made = await portOnModel(
    bench,
    { features: EVERYTHING, queuePairs: 3, rings: 7, ...model },
    { controlQueue: true, queuePairs: undefined, ...options },
  );
  const { port } = made;
  const wanted = { rxQueues: 2, txQueues: 2, rxOffloads: 0, txOffloads: 0, ...configuration };
  await port.configure(wanted);
  for (let queue = 0; queue < wanted.rxQueues; queue++) await port.setupRxQueue(queue, { descriptors: 0, pool: bench.pool });
  for (let queue = 0; queue < wanted.txQueues; queue++) await port.setupTxQueue(queue, { descriptors: 0 });
  await port.start();
  return made;
}

async function closed({ port, model }: VdpaPort): Promise<void> {
  await port.close();
  expect(model.violations).toEqual([]);
  expect(model.openHandles).toBe(0);
}

const entry = (queue: number): string => hex(Uint8Array.of(queue, 0));
/** 5.1.6.5.7.1: types, mask, unclassified queue, table, transmit queues, key length, key. */
const rssBytes = (types: string, table: readonly number[], key = hex(RSS_DEFAULT_KEY)): string =>
  `4.1:${types}7f000000${table.map(entry).join('')}020028${key}`;
const halves = Array.from({ length: 128 }, (_, index) => index % 2);

describe('a port whose device has a control queue', () => {
  it('takes queue pairs, RSS, MTU and speed from it', async () => {
    await using bench = new PortBench();
    const made = await startedOn(bench, { model: { mtu: 1400, speed: 25_000, halfDuplex: true } });
    const { port, model } = made;
    expect(port.info).toMatchObject({ maxRxQueues: 3, maxTxQueues: 3, hashKeySize: 40, redirectionTableSize: 128, maxMtu: 1400 });
    expect(port.info.rssFlowTypes).toContain('ipv6-udp-ex');
    expect(port.info.rxOffloadCapabilities & (RX_OFFLOAD_VLAN_FILTER | RX_OFFLOAD_RSS_HASH)).toBe(
      RX_OFFLOAD_VLAN_FILTER | RX_OFFLOAD_RSS_HASH,
    );
    expect(port.mtu).toBe(1400);
    expect(port.link()).toEqual({ up: true, speed: 25_000, fullDuplex: false, autonegotiation: true });
    model.change({ speed: 40_000 });
    await until(1000, 'the new speed', () => port.link().speed === 40_000, 1);
    await closed(made);
  });

  it('accepts no feature whose prerequisite the device does not offer', async () => {
    await using bench = new PortBench();
    // no CTRL_VQ, no checksums: nothing that needs them is accepted or shown
    const lacking = EVERYTHING & ~(VIRTIO_NET_F_CTRL_VQ | VIRTIO_NET_F_CSUM | VIRTIO_NET_F_GUEST_CSUM);
    const made = await startedOn(bench, { model: { features: lacking, rings: 2 }, configuration: { rxQueues: 1, txQueues: 1 } });
    const { port, model } = made;
    expect(brokenDependencies(lacking)).not.toEqual([]);
    expect(brokenDependencies(model.features)).toEqual([]);
    expect(port.info.rxOffloadCapabilities & (RX_OFFLOAD_TCP_LRO | RX_OFFLOAD_VLAN_FILTER | RX_OFFLOAD_RSS_HASH)).toBe(0);
    expect(port.info.txOffloadCapabilities & TX_OFFLOAD_UDP_TSO).toBe(0);
    expect(model.commands).toEqual([]);
    await closed(made);
  });

  it('has rings of the device’s own size, whatever was asked for', async () => {
    await using bench = new PortBench();
    const { port } = await portOnModel(bench, {}, { queueSize: undefined });
    await port.configure({ rxQueues: 1, txQueues: 1, rxOffloads: 0, txOffloads: 0 });
    await port.setupRxQueue(0, { descriptors: 512, pool: bench.pool });
    await port.setupTxQueue(0, { descriptors: 0 });
    expect([port.rxQueueInfo(0)?.descriptors, port.txQueueInfo(0)?.descriptors]).toEqual([QUEUE_SIZE, QUEUE_SIZE]);
    expect(bench.log).toEqual(['rx queue 0 of virtio_user0: Warning: nb_desc(512) is not equal to vq size (64), fall to vq size']);
    await port.start();
    await port.close();
  });

  it('is asked for everything at the start, and again at the next', async () => {
    await using bench = new PortBench();
    const made = await startedOn(bench);
    const { port, model } = made;
    const first = [rssBytes('49000000', halves), '0.0:00', '0.1:00'];
    expect(taken(model)).toEqual(first);
    expect(model.features & VIRTIO_NET_F_CTRL_VLAN).toBe(0n);
    expect(model.features & VIRTIO_NET_F_HASH_REPORT).toBe(0n);
    await port.setPromiscuous(true);
    await port.setPromiscuous(true);
    await port.setAllMulticast(true);
    await port.addMac(OTHER);
    await port.addMac(OTHER);
    await port.setMulticastAddresses([GROUP]);
    await port.setInterruptCoalescing('rx', { packets: 32, microseconds: 100 });
    await port.setInterruptCoalescing('tx', { packets: 1, microseconds: 0 }, 1);
    const table = `1.0:01000000${hex(OTHER)}01000000${hex(GROUP)}`;
    const later = ['0.0:01', '0.1:01', `1.0:01000000${hex(OTHER)}00000000`, table, '6.1:2000000064000000', '6.2:030000000100000000000000'];
    expect(taken(model)).toEqual(later);
    await port.stop();
    await port.removeMac(OTHER);
    await port.start();
    expect(taken(model)).toEqual([
      ...[first[0], '0.0:01', '0.1:01'],
      `1.0:0000000001000000${hex(GROUP)}`,
      ...['6.1:2000000064000000', '6.2:030000000100000000000000'],
    ]);
    await closed(made);
  });

  it('that comes back is asked again', async () => {
    await using bench = new PortBench();
    const made = await startedOn(bench);
    const { port, model } = made;
    await port.setPromiscuous(true);
    taken(model);
    model.change({ needsReset: true });
    await until(3000, 'the device is lost', () => !port.link().up, 5);
    await until(3000, 'the device is back', () => port.link().up, 5);
    await until(1000, 'its commands', () => model.commands.length === 3, 1);
    expect(taken(model)).toEqual([rssBytes('49000000', halves), '0.0:01', '0.1:00']);
    await closed(made);
  });

  it('has the address that the port has', async () => {
    await using bench = new PortBench();
    const made = await startedOn(bench);
    const { port, model } = made;
    await port.addMac(GROUP);
    taken(model);
    await port.setMac(OTHER);
    expect(taken(model)).toEqual([`1.1:${hex(OTHER)}`]);
    expect(port.macAddresses.map(hex)).toEqual([hex(OTHER), hex(GROUP)]);
    await port.stop();
    await port.start();
    expect(taken(model)).toContain(`1.1:${hex(OTHER)}`);
    await expect(port.removeMac(OTHER)).rejects.toThrow("the port's own address stays");
    await expect(port.addMac(new Uint8Array(6))).rejects.toThrow('not all zero');
    for (let index = 0; port.macAddresses.length < 64; index++) await port.addMac(Uint8Array.of(2, 1, 0, 0, 0, index));
    await expect(port.addMac(Uint8Array.of(2, 2, 0, 0, 0, 0))).rejects.toMatchObject({ code: 'ENOSPC' });
    await closed(made);
  });

  it('without the control queue has its address by the configuration', async () => {
    await using bench = new PortBench();
    const made = await startedOn(bench, {
      port: { controlQueue: false, queuePairs: 1 },
      configuration: { rxQueues: 1, txQueues: 1 },
    });
    const { port, model } = made;
    expect(model.features & VIRTIO_NET_F_CTRL_VQ).toBe(0n);
    await port.setMac(OTHER);
    expect(hex(model.config.subarray(0, 6))).toBe(hex(OTHER));
    await port.stop();
    await port.setMac(OWN);
    await port.start();
    expect(hex(model.config.subarray(0, 6))).toBe(hex(OWN));
    expect(model.commands).toEqual([]);
    await closed(made);
  });

  it('without CTRL_RX hears of its address by the configuration, and of no filter', async () => {
    await using bench = new PortBench();
    const made = await startedOn(bench, { model: { features: EVERYTHING & ~VIRTIO_NET_F_CTRL_RX } });
    const { port, model } = made;
    expect(model.features & VIRTIO_NET_F_CTRL_MAC_ADDR).toBe(0n);
    await port.setMac(OTHER);
    expect(hex(model.config.subarray(0, 6))).toBe(hex(OTHER));
    await expect(port.addMac(GROUP)).rejects.toMatchObject({ code: 'EPERM' });
    await expect(port.setMulticastAddresses([GROUP])).rejects.toMatchObject({ code: 'EOPNOTSUPP' });
    await port.stop();
    await port.start();
    expect(taken(model).filter((text) => text.startsWith('1.'))).toEqual([]);
    await closed(made);
  });

  it('sends nothing beyond the MTU of its device', async () => {
    await using bench = new PortBench();
    const made = await startedOn(bench, { model: { mtu: 1400 } });
    const { port, model } = made;
    const device = deviceEnd(bench, model, 1);
    expect([1414, 1415, 1900, 60].map((length) => bench.offer(port, length))).toEqual([true, true, true, true]);
    expect(bench.bench.take(bench.context.main.kernels.virtqueueReceive, device.offset, 32).map(({ length }) => length)).toEqual([
      1414, 60,
    ]);
    device.close();
    expect(port.statistics()).toMatchObject({ txPackets: 2, txErrors: 2 });
    expect(port.extendedStatistics()).toContainEqual({ name: 'tx_q0_oversize_packets', value: 2 });
    await closed(made);
  });

  it('filters by VLANs when it is asked to, and starts anew for that', async () => {
    await using bench = new PortBench();
    const made = await startedOn(bench);
    const { port, model } = made;
    await expect(port.setVlanFilter(5, true)).rejects.toMatchObject({ code: 'ENOSYS' });
    await port.setVlanOffloads(RX_OFFLOAD_VLAN_FILTER);
    expect(model.features & VIRTIO_NET_F_CTRL_VLAN).toBe(VIRTIO_NET_F_CTRL_VLAN);
    taken(model);
    await port.setVlanFilter(5, true);
    await port.setVlanFilter(4095, true);
    await port.setVlanFilter(5, false);
    expect(taken(model)).toEqual(['2.0:0500', '2.0:ff0f', '2.1:0500']);
    await expect(port.setVlanFilter(4096, true)).rejects.toMatchObject({ code: 'EINVAL' });
    await port.stop();
    await port.start();
    expect(taken(model)).toContain('2.0:ff0f');
    await port.setVlanOffloads(0);
    expect(model.features & VIRTIO_NET_F_CTRL_VLAN).toBe(0n);
    expect(taken(model).filter((text) => text.startsWith('2.'))).toEqual([]);
    await closed(made);
  });

  it('spreads packets as it is told', async () => {
    await using bench = new PortBench();
    const made = await startedOn(bench, { configuration: { rssTypes: RSS_IPV4_TCP } });
    const { port, model } = made;
    expect(taken(model)[0]).toBe(rssBytes('02000000', halves));
    expect(port.rss()).toEqual({ key: RSS_DEFAULT_KEY, types: RSS_IPV4_TCP });
    const key = Uint8Array.from(RSS_DEFAULT_KEY, (byte) => byte ^ 0xff);
    await port.updateRss({ key, types: RSS_IPV4_UDP });
    expect(taken(model)).toEqual([rssBytes('04000000', halves, hex(key))]);
    const ones = halves.map((queue, index) => (index < 64 ? 1 : queue));
    await port.updateRssTable(halves.map((_, index) => (index < 64 ? 1 : undefined)));
    expect(taken(model)).toEqual([rssBytes('04000000', ones, hex(key))]);
    expect(port.rssTable()).toEqual(ones);
    await expect(port.updateRss({ key: new Uint8Array(39) })).rejects.toThrow('an RSS key has 40 bytes, not 39');
    await expect(port.updateRss({ types: 1n << 6n })).rejects.toMatchObject({ code: 'EINVAL' });
    await expect(port.updateRssTable([0])).rejects.toThrow('the RSS table has 128 entries');
    await expect(port.updateRssTable(halves.map(() => 2))).rejects.toThrow('a queue outside 0..1');
    expect(taken(model)).toEqual([]);
    await port.stop();
    await port.start();
    expect(taken(model)[0]).toBe(rssBytes('04000000', ones, hex(key)));
    await closed(made);
  });

  it('changes that are asked for at once do not undo each other', async () => {
    await using bench = new PortBench();
    const made = await startedOn(bench);
    const { port, model } = made;
    taken(model);
    const key = Uint8Array.from(RSS_DEFAULT_KEY, (byte) => byte ^ 0xff);
    const ones = halves.map(() => 1);
    await Promise.all([port.updateRss({ key }), port.updateRssTable(ones), port.updateRss({ types: RSS_IPV4_TCP })]);
    expect(taken(model).at(-1)).toBe(rssBytes('02000000', ones, hex(key)));
    const third = Uint8Array.of(2, 0, 0, 0, 0, 0x33);
    await Promise.all([
      port.addMac(OTHER),
      port.setMulticastAddresses([GROUP]),
      port.addMac(third),
      port.addMac(third),
      port.removeMac(OTHER),
    ]);
    expect(port.macAddresses.map(hex)).toEqual([OWN, third].map(hex));
    expect(port.multicastAddresses.map(hex)).toEqual([hex(GROUP)]);
    expect(taken(model)).toHaveLength(4);
    await closed(made);
  });

  it.each<[string, Wish]>([
    ['with one receive queue', { configuration: { rxQueues: 1, txQueues: 1 } }],
    ['when nothing is to be hashed', { configuration: { rssTypes: 0n } }],
    ['by a device without RSS', { model: { features: EVERYTHING & ~VIRTIO_NET_F_RSS } }],
    ['by a device whose table is too small', { model: { rss: { tableEntries: 64 } } }],
    ['by a device whose keys are too short', { model: { rss: { keyBytes: 16 } } }],
  ])('does not spread packets %s', async (_, wish) => {
    await using bench = new PortBench();
    const made = await startedOn(bench, wish);
    const { port, model } = made;
    expect(model.features & VIRTIO_NET_F_RSS).toBe(0n);
    expect(model.commands.filter(({ kind, command }) => kind === 4 && command === 1)).toEqual([]);
    expect(model.queuePairsSet).toEqual((wish.configuration?.rxQueues ?? 2) > 1 ? [2] : []);
    expect(() => port.rss()).toThrow('packets are not spread by a hash');
    await expect(port.updateRssTable(halves)).rejects.toMatchObject({ code: 'EOPNOTSUPP' });
    await closed(made);
  });

  it('switches receive offloads while it runs', async () => {
    await using bench = new PortBench();
    const made = await startedOn(bench, { configuration: { rxOffloads: RX_OFFLOAD_TCP_LRO, txOffloads: TX_OFFLOAD_UDP_TSO } });
    const { port, model } = made;
    const uso = VIRTIO_NET_F_GUEST_USO4 | VIRTIO_NET_F_GUEST_USO6;
    expect(model.features & (uso | VIRTIO_NET_F_HOST_USO)).toBe(uso | VIRTIO_NET_F_HOST_USO);
    taken(model);
    await port.setGuestOffloads(VIRTIO_NET_F_GUEST_CSUM);
    await port.setGuestOffloads(VIRTIO_NET_F_GUEST_CSUM | uso);
    expect(taken(model)).toEqual(['5.0:0200000000000000', '5.0:020000000000c000']);
    await expect(port.setGuestOffloads(1n << 10n)).rejects.toMatchObject({ code: 'EINVAL' });
    await closed(made);
  });

  it('announces the port when its device asks for that, and tells it so', async () => {
    await using bench = new PortBench();
    const made = await startedOn(bench);
    const { port, model } = made;
    expect(bench.offer(port)).toBe(true);
    taken(model);
    model.change({ announce: true });
    await until(1000, 'the acknowledgement', () => model.commands.length === 1, 1);
    expect(taken(model)).toEqual(['3.0:']);
    expect(model.config.readUInt16LE(6)).toBe(1);
    expect(bench.offer(port)).toBe(true);
    // between what the port's owner sent before and after
    const device = deviceEnd(bench, model, 1);
    const { handles } = bench.bench;
    expect(bench.context.main.kernels.splitDeviceDequeue(device.offset, handles, 8)).toBe(3);
    const packets = [0, 1, 2].map((index) => bench.context.arena.views.u32[handles / 4 + index] ?? 0);
    expect(packets.map((packet) => hex(bench.bench.bytesOf(packet)))).toEqual([hex(frame(60)), hex(reverseArp(OWN)), hex(frame(60))]);
    for (const packet of packets) bench.context.main.kernels.packetFree(packet, 0);
    device.close();
    await closed(made);
  });

  it('that refuses a command leaves things as they were', async () => {
    await using bench = new PortBench();
    const made = await startedOn(bench);
    const { port, model } = made;
    for (const kind of [0, 1, 4, 6]) model.answers.set(kind, 1);
    const refused = async (work: Promise<void>, name: string): Promise<void> => {
      await expect(work).rejects.toThrow(`/dev/vhost-vdpa-7: VIRTIO_NET_CTRL_${name}: the device answered 1`);
    };
    await refused(port.setPromiscuous(true), 'RX_PROMISC');
    await refused(port.setAllMulticast(true), 'RX_ALLMULTI');
    await refused(port.addMac(OTHER), 'MAC_TABLE_SET');
    await refused(port.setMulticastAddresses([GROUP]), 'MAC_TABLE_SET');
    await refused(port.setMac(OTHER), 'MAC_ADDR_SET');
    await refused(port.updateRss({ types: RSS_IPV4_TCP }), 'MQ_RSS_CONFIG');
    await refused(port.updateRssTable(halves.map(() => 1)), 'MQ_RSS_CONFIG');
    await refused(port.setInterruptCoalescing('tx', { packets: 1, microseconds: 1 }), 'NOTF_COAL_TX_SET');
    expect([port.promiscuous, port.allMulticast]).toEqual([false, false]);
    expect([port.macAddresses, port.multicastAddresses].flat().map(hex)).toEqual([hex(OWN)]);
    expect(port.rss().types).toBe(RSS_IP);
    expect(port.rssTable()).toEqual(halves);
    await port.stop();
    model.answers.delete(4);
    // what it refuses of all else at its start is said, and does not keep the port from it
    await port.start();
    expect(bench.log).toEqual([
      '/dev/vhost-vdpa-7: VIRTIO_NET_CTRL_RX_PROMISC: the device answered 1',
      '/dev/vhost-vdpa-7: VIRTIO_NET_CTRL_RX_ALLMULTI: the device answered 1',
    ]);
    await closed(made);
  });

  it('that has none of it is not asked', async () => {
    await using bench = new PortBench();
    const made = await startedOn(bench, { model: { features: PLAIN | VIRTIO_NET_F_CTRL_VQ }, configuration: { rxQueues: 1, txQueues: 1 } });
    const { port, model } = made;
    await expect(port.setPromiscuous(true)).rejects.toMatchObject({ code: 'EOPNOTSUPP' });
    await expect(port.addMac(OTHER)).rejects.toMatchObject({ code: 'EPERM' });
    await expect(port.setMulticastAddresses([GROUP])).rejects.toMatchObject({ code: 'EOPNOTSUPP' });
    await expect(port.setInterruptCoalescing('rx', { packets: 1, microseconds: 1 })).rejects.toMatchObject({ code: 'EOPNOTSUPP' });
    await expect(port.setInterruptCoalescing('rx', { packets: 1, microseconds: 1 }, 0)).rejects.toMatchObject({ code: 'EOPNOTSUPP' });
    await expect(port.setVlanOffloads(RX_OFFLOAD_VLAN_FILTER)).rejects.toMatchObject({ code: 'EINVAL' });
    await expect(port.setGuestOffloads(0n)).rejects.toMatchObject({ code: 'EOPNOTSUPP' });
    expect(model.commands).toEqual([]);
    await closed(made);
  });
});

describe('the hash of received packets', () => {
  it.each([
    ['of a device that spreads them', 'wasm', EVERYTHING],
    ['of a device that spreads them', 'javascript', EVERYTHING],
    ['of a device that only tells it', 'wasm', EVERYTHING & ~VIRTIO_NET_F_RSS],
  ] as const)('comes with them, %s, %s', async (_, target, features) => {
    await using bench = new PortBench(target);
    const made = await startedOn(bench, { model: { features }, configuration: { rxOffloads: RX_OFFLOAD_RSS_HASH } });
    const { port, model } = made;
    const configured = model.commands.filter(({ kind, command }) => kind === 4 && command > 0);
    // struct virtio_net_hash_config: types, four reserved words, key length, key
    const hashConfig = `49000000000000000000000028${hex(RSS_DEFAULT_KEY)}`;
    expect(configured.map(({ data }) => hex(data))).toEqual(
      (features & VIRTIO_NET_F_RSS) === 0n ? [hashConfig] : [rssBytes('49000000', halves).slice(4)],
    );
    const device = deviceEnd(bench, model, 0, 20);
    const { views } = bench.context.arena;
    const { kernels } = bench.context.main;
    const { handles } = bench.bench;
    const buffers = [0, 1, 2].map((index) => Number(views.data.getBigUint64(Number(model.rings[0]?.descriptors) + 16 * index, true)));
    const packets = buffers.map((_buffer, index) => bench.bench.packet(bench.pool, frame(80, index)) ?? 0);
    for (const [index, packet] of packets.entries()) views.u32[handles / 4 + index] = packet;
    expect(kernels.splitDeviceEnqueue(device.offset, handles, 3)).toBe(3);
    // type 0: no hash, whatever the field has
    for (const [index, type] of [2, 0, 9].entries()) {
      views.data.setUint32((buffers[index] ?? 0) + 12, 0xdeadbe00 + index, true);
      views.data.setUint16((buffers[index] ?? 0) + 16, type, true);
    }
    expect(port.rxBurst(0, handles, 8)).toBe(3);
    const received = [0, 1, 2].map((index) => views.u32[handles / 4 + index] ?? 0);
    expect(received.map((packet) => bench.bench.ld32(packet + MBUF_FLAGS) & MBUF_HASH_VALID)).toEqual([
      MBUF_HASH_VALID,
      0,
      MBUF_HASH_VALID,
    ]);
    expect([0, 2].map((index) => bench.bench.ld32((received[index] ?? 0) + MBUF_HASH))).toEqual([0xdeadbe00, 0xdeadbe02]);
    expect(received.map((packet) => bench.lengthOf(packet))).toEqual([80, 80, 80]);
    for (const packet of received) kernels.packetFree(packet, 0);
    device.close();
    await closed(made);
  });
});
