import fc from 'fast-check';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { readCapture } from '../../src/net/pcap.ts';
import { startCapture } from '../../src/port/capture.ts';
import type { Port } from '../../src/port/port.ts';
import { VirtioError } from '../../src/system/error.ts';
import { enhancedBlock, interfaceBlock, pcapFile, pcapngFile, sectionBlock } from '../support/captures.ts';
import { enterNetworkNamespace, ip, makeVeth, removeInterfaces, WHY_NO_NETWORK } from '../support/network.ts';
import { until } from '../support/deadline.ts';
import { PortBench } from '../support/port-pair.ts';
import { frame, TARGETS } from '../support/ring-pair.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'dpdk-ts-pcap-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));
const path = (name: string): string => join(directory, name);
const put = (name: string, bytes: Uint8Array): string => {
  writeFileSync(path(name), bytes);
  return path(name);
};
const frames = (count: number, length = 60): Buffer[] => Array.from({ length: count }, (_, index) => frame(length, index));
const packetsIn = (file: string): Buffer[] => {
  const { packets, problem } = readCapture(file, readFileSync(file));
  expect(problem).toBeUndefined();
  return packets.map(({ bytes }) => Buffer.from(bytes));
};

describe.each(TARGETS)('net_pcap on %s', (target) => {
  let bench: PortBench;
  beforeEach(() => {
    bench = new PortBench(target);
  });
  afterEach(() => bench[Symbol.asyncDispose]());

  const receive = (port: Port, most = 10_000, queue = 0): Buffer[] => {
    const packets: Buffer[] = [];
    while (packets.length < most) {
      const burst = bench.bench.take((_, mbufs, count) => port.rxBurst(queue, mbufs, count), 0, Math.min(32, most - packets.length));
      if (burst.length === 0) break;
      packets.push(...burst);
    }
    return packets;
  };
  const send = (port: Port, packets: readonly Uint8Array[], queue = 0, segments?: readonly number[]): number => {
    let sent = 0;
    for (let at = 0; at < packets.length; at += 32) {
      const handles = packets.slice(at, at + 32).map((bytes) => bench.bench.packet(bench.pool, bytes, { segments }) ?? 0);
      expect(handles).not.toContain(0);
      sent += bench.bench.send((_, mbufs, count) => port.txBurst(queue, mbufs, count), 0, handles);
    }
    return sent;
  };

  it('receives the packets of a file in every form, in order, once a start', async () => {
    const packets = [...frames(70), ...frames(9, 1514), frame(1, 1), frame(14, 2)];
    for (const [index, file] of [
      pcapFile(packets),
      pcapFile(packets, { bigEndian: true, nanoseconds: true }),
      pcapngFile(packets),
      pcapngFile(packets, { bigEndian: true }),
    ].entries()) {
      const port = await bench.open(`net_pcap${index},rx_pcap=${put(`a${index}`, file)}`);
      expect(receive(port)).toEqual(packets);
      expect(receive(port)).toEqual([]);
      expect(port.statistics()).toMatchObject({ rxPackets: 81, rxBytes: 70 * 60 + 9 * 1514 + 15, rxErrors: 0, rxNoMbuf: 0 });
      await port.stop();
      await port.start();
      expect(receive(port)).toEqual(packets);
      await port.close();
    }
    expect(bench.log).toEqual([]);
  });

  it('receives packets longer than an mbuf as chains', async () => {
    const packets = [frame(9000, 1), frame(2048, 2), frame(2049, 3), frame(262_144, 4), frame(60, 5)];
    const port = await bench.open(`net_pcap0,rx_pcap=${put('long.pcap', pcapFile(packets))}`);
    expect(receive(port)).toEqual(packets);
  });

  it('reads a file of many buffers, whatever lies across their borders', async () => {
    const packets = Array.from({ length: 3000 }, (_, index) => frame(100 + ((index * 379) % 1400), index));
    for (const [name, file] of [['a.pcap', pcapFile(packets)] as const, ['a.pcapng', pcapngFile(packets)] as const]) {
      const port = await bench.open(`net_pcap0,rx_pcap=${put(name, file)}`);
      const received = receive(port);
      expect(received.length).toBe(3000);
      expect(Buffer.concat(received).equals(Buffer.concat(packets))).toBe(true);
      await port.close();
    }
  });

  it('loses nothing when the pool is empty for a while', async () => {
    const packets = frames(100);
    const port = await bench.open(`net_pcap0,rx_pcap=${put('a.pcap', pcapFile(packets))}`);
    const { kernels, handles } = bench.bench;
    const all = bench.bench.own(4 * 3000);
    let taken = 0;
    while (kernels.mbufAllocate(bench.pool.offset, 0, all + 4 * taken, 1) === 1) taken++;
    expect(port.rxBurst(0, handles, 32)).toBe(0);
    expect(port.statistics().rxNoMbuf).toBe(32);
    kernels.packetsFree(all, taken, 0);
    expect(receive(port)).toEqual(packets);
  });

  it('goes round with infinite_rx', async () => {
    const packets = frames(5);
    for (const file of [pcapFile(packets, { bigEndian: true }), pcapngFile(packets)]) {
      const port = await bench.open(`net_pcap0,rx_pcap=${put('a', file)},infinite_rx=1`);
      expect(receive(port, 1003)).toEqual(Array.from({ length: 1003 }, (_, index) => packets[index % 5]));
      await port.close();
    }
    await expect(bench.open(`net_pcap1,rx_pcap=${put('b', pcapFile([]))},infinite_rx=1`)).rejects.toThrow(/no packets that infinite_rx=1/);
    const large = put('c', pcapFile(frames(9000, 1500)));
    await expect(bench.open(`net_pcap2,rx_pcap=${large},infinite_rx=1`)).rejects.toThrow(/bytes are not free there; give more with -m/);
  });

  it('writes what it sends, chains too, and begins anew with every start', async () => {
    for (const name of ['out.pcap', 'out.pcapng']) {
      const before = Date.now();
      const port = await bench.open(`net_pcap0,tx_pcap=${path(name)}`);
      const long = [frame(4000, 1), frame(4001, 2)];
      expect(send(port, long, 0, [1, 1500, 1000])).toBe(2);
      expect(send(port, frames(100, 61))).toBe(100);
      await port.stop();
      expect(packetsIn(path(name))).toEqual([...long, ...frames(100, 61)]);
      await port.start();
      expect(send(port, frames(3))).toBe(3);
      expect(port.statistics()).toMatchObject({ txPackets: 105, txBytes: 8001 + 6100 + 180, txErrors: 0 });
      await port.close();
      expect(packetsIn(path(name))).toEqual(frames(3));
      const { format, packets } = readCapture(name, readFileSync(path(name)));
      expect(format).toBe(name.slice(4));
      for (const { seconds, nanoseconds } of packets) {
        const time = seconds * 1000 + nanoseconds / 1e6;
        expect(time).toBeGreaterThan(before - 50);
        expect(time).toBeLessThan(Date.now() + 50);
      }
    }
  });

  it('writes many buffers', async () => {
    const port = await bench.open(`net_pcap0,tx_pcap=${path('out.pcap')}`);
    const packets = frames(2000, 1500);
    for (let at = 0; at < packets.length; at += 32) send(port, packets.slice(at, at + 32));
    await port.close();
    expect(Buffer.concat(packetsIn(path('out.pcap'))).equals(Buffer.concat(packets))).toBe(true);
  });

  it('has a queue a file, and drops or receives nothing where there is none', async () => {
    const [a, b] = [put('a.pcap', pcapFile(frames(3))), put('b.pcap', pcapFile(frames(4, 100)))];
    const reader = await bench.open(`net_pcap0,rx_pcap=${a},rx_pcap=${b}`, 2);
    expect(reader.info).toMatchObject({ maxRxQueues: 2, maxTxQueues: 2 });
    expect([receive(reader, 10, 1), receive(reader, 10, 0)]).toEqual([frames(4, 100), frames(3)]);
    expect(send(reader, frames(7))).toBe(7);
    expect(reader.statistics()).toMatchObject({ txPackets: 7, txBytes: 420 });
    const writer = await bench.open(`net_pcap1,tx_pcap=${path('c.pcap')},tx_pcap=${path('d.pcapng')}`, 2);
    send(writer, frames(5), 1);
    send(writer, frames(6), 0);
    expect(receive(writer)).toEqual([]);
    await writer.stop();
    expect([packetsIn(path('c.pcap')), packetsIn(path('d.pcapng'))]).toEqual([frames(6), frames(5)]);
  });

  it('passes what one file holds into another', async () => {
    const list = fc.array(fc.uint8Array({ minLength: 1, maxLength: 3000 }), { maxLength: 40 });
    await fc.assert(
      fc.asyncProperty(list, fc.boolean(), fc.boolean(), fc.constantFrom('pcap', 'pcapng'), async (packets, blocks, bigEndian, ending) => {
        const made = blocks ? pcapngFile(packets, { bigEndian }) : pcapFile(packets, { bigEndian });
        const port = await bench.open(`net_pcap0,rx_pcap=${put('in', made)},tx_pcap=${path(`out.${ending}`)}`);
        send(port, receive(port));
        await port.close();
        expect(packetsIn(path(`out.${ending}`))).toEqual(packets.map((bytes) => Buffer.from(bytes)));
      }),
      { numRuns: 40 },
    );
  });

  it('uses a file up to where it is cut, and says where', async () => {
    const file = pcapFile(frames(100));
    const port = await bench.open(`net_pcap0,rx_pcap=${put('cut.pcap', file.subarray(0, -30))}`);
    expect(receive(port)).toEqual(frames(99));
    expect(receive(port)).toEqual([]);
    expect(port.statistics()).toMatchObject({ rxPackets: 99, rxErrors: 1 });
    await port.stop();
    expect(bench.log).toEqual([
      `net_pcap0: ${path('cut.pcap')}: at byte ${24 + 99 * 76}: the file is cut in the middle of a packet; what was before it is used`,
    ]);
    await port.start();
    expect(receive(port)).toEqual(frames(99));
  });

  it('stops at a record that is too long, with its offset', async () => {
    const file = Buffer.concat([pcapFile(frames(2)), Buffer.from('00000000 00000000 01000400 01000400'.replaceAll(' ', ''), 'hex')]);
    const port = await bench.open(`net_pcap0,rx_pcap=${put('a.pcap', file)}`);
    expect(receive(port)).toEqual(frames(2));
    await port.stop();
    expect(bench.log).toEqual([`net_pcap0: ${path('a.pcap')}: at byte 176: a packet of more than 262144 bytes; the rest is not read`]);
  });

  it('leaves out packets of another link type, and says so once', async () => {
    const [a, b] = [frame(60, 1), frame(60, 2)];
    const blocks = [
      sectionBlock(),
      interfaceBlock(113),
      interfaceBlock(1),
      enhancedBlock(a, 0, 0),
      enhancedBlock(b, 0, 1),
      enhancedBlock(a, 0, 0),
    ];
    const port = await bench.open(`net_pcap0,rx_pcap=${put('a.pcapng', Buffer.concat(blocks))}`);
    expect(receive(port)).toEqual([b]);
    expect(port.statistics()).toMatchObject({ rxPackets: 1, rxErrors: 2 });
    await port.stop();
    expect(bench.log).toEqual([expect.stringContaining('packets of another link type than Ethernet are left out')]);
  });

  it('agrees with the plain reader on any bytes', async () => {
    const start = fc.constantFrom(
      pcapFile(frames(2)),
      pcapFile([], { bigEndian: true }),
      pcapngFile(frames(4)),
      pcapngFile([], { bigEndian: true }),
    );
    const word = fc.oneof(fc.constantFrom(0, 1, 2, 3, 6, 12, 16, 20, 28, 32, 36, 0x0a0d0d0a, 0x1a2b3c4d, 0xffff_ffff), fc.nat(0xffff_ffff));
    const damage = fc.array(fc.tuple(fc.nat(300), word), { maxLength: 3 });
    await fc.assert(
      fc.asyncProperty(start, fc.array(word, { maxLength: 60 }), damage, async (head, tail, changes) => {
        const file = Buffer.concat([head, Buffer.from(Uint32Array.from(tail).buffer)]);
        for (const [at, value] of changes) if (24 + at + 4 <= file.length) file.writeUInt32LE(value, 24 + at);
        const name = put('any', file);
        const expected = readCapture(name, file);
        const port = await bench.open(`net_pcap0,rx_pcap=${name}`);
        bench.log.length = 0;
        const usable = expected.packets.filter((packet) => packet.linkType === 1 && packet.bytes.length > 0);
        expect(receive(port)).toEqual(usable.map(({ bytes }) => Buffer.from(bytes)));
        await port.close();
        const reason = expected.problem?.replace(/^.*?at byte \d+: /, '');
        if (reason === undefined) expect(bench.log.filter((text) => text.includes('at byte'))).toEqual([]);
        else expect(bench.log).toContainEqual(expect.stringContaining(reason));
      }),
      { numRuns: 300 },
    );
  });

  it('counts what a full disk does not take, says so once, and leaves a file that can be read', async () => {
    const port = await bench.open(`net_pcap0,tx_pcap=/dev/full`).catch((error: unknown) => error);
    expect(port).toBeInstanceOf(VirtioError);
    expect(String(port)).toMatch(/net_pcap0: \/dev\/full: No space left on device/);
    mkdirSync(path('small'));
    const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'none', path('small')]).status === 0;
    // needs root
    if (!mounted) return;
    try {
      const writer = await bench.open(`net_pcap1,tx_pcap=${path('small/out.pcap')}`);
      const packets = frames(1500, 1000);
      expect(send(writer, packets)).toBe(1500);
      await writer.stop();
      const { txPackets, txErrors, txBytes } = writer.statistics();
      expect([txPackets + txErrors, txBytes]).toEqual([1500, 1000 * txPackets]);
      expect(txPackets).toBeGreaterThan(900);
      expect(txErrors).toBeGreaterThan(400);
      expect(bench.log).toEqual([expect.stringMatching(/net_pcap1: .*out\.pcap: cannot write: No space left on device/)]);
      const kept = packetsIn(path('small/out.pcap'));
      expect(kept.length).toBe(txPackets);
      expect(kept.slice(0, 900)).toEqual(packets.slice(0, 900));
      await writer.close();
    } finally {
      spawnSync('umount', [path('small')]);
    }
  });

  it.each([
    ['', /give a file to read, rx_pcap=FILE, or to write/],
    ['rx_pcap=/nowhere/a.pcap', /net_pcap0: \/nowhere\/a.pcap: No such file or directory/],
    ['tx_pcap=/nowhere/a.pcap', /net_pcap0: \/nowhere\/a.pcap: No such file or directory/],
    ['rx_pcap=/dev/zero', /not a regular file/],
    ['rx_pcap=/tmp', /net_pcap0: \/tmp: (not a regular file|Is a directory)/],
    ['rx_pcap=', /rx_pcap=: expected a text that is not empty/],
    ['tx_pcap=/tmp/x,tx_pcap=/tmp/x', /the file has another use in this port/],
    ['rx_pcap=/tmp/x,tx_pcap=/tmp/x', /the file has another use in this port/],
    ['rx_iface=nowhere0', /net_pcap0: iface=nowhere0: no such interface in this network namespace/],
    ['iface=lo,rx_pcap=a', /net_pcap0: iface=lo is for both ways/],
    ['rx_pcap=a,rx_iface=lo', /net_pcap0: rx_pcap and rx_iface: packets come from files or from interfaces/],
    ['tx_pcap=a,tx_iface=lo', /net_pcap0: tx_pcap and tx_iface: packets go to files or to interfaces/],
    ['rx_iface=lo,infinite_rx=1', /infinite_rx=1 needs rx_pcap/],
    ['iface=lo,phy_mac=2', /phy_mac=2: expected 0 or 1/],
    ['tx_pcap=/tmp/x,infinite_rx=1', /infinite_rx=1 needs rx_pcap/],
    ['rx_pcap=a,infinite_rx=2', /infinite_rx=2: expected 0 or 1/],
    ['rx_pcaps=a', /unknown key rx_pcaps; did you mean rx_pcap/],
  ])('refuses "%s"', async (text, message) => {
    await expect(bench.open(text === '' ? 'net_pcap0' : `net_pcap0,${text}`)).rejects.toThrow(message);
  });

  it('refuses files that are none, and closes what it had opened', async () => {
    const descriptors = (): number => readdirSync('/proc/self/fd').length;
    await bench.open(`net_pcap9,rx_pcap=${put('ok', pcapFile([]))}`);
    const before = descriptors();
    for (const [bytes, message] of [
      [Buffer.from('hello, world; no packets here'), /neither pcap nor pcapng: it begins with 68 65 6c 6c/],
      [Buffer.alloc(0), /the file is empty/],
      [pcapFile([], { linkType: 101 }), /its packets are of link type 101; a port takes Ethernet \(1\)/],
    ] as const) {
      await expect(bench.open(`net_pcap0,tx_pcap=${path('t')},rx_pcap=${put('bad', bytes)}`)).rejects.toThrow(message);
    }
    await expect(bench.open(`net_pcap0,tx_pcap=${path('t')},tx_pcap=/nowhere/x`)).rejects.toThrow(/nowhere/);
    expect(descriptors()).toBe(before);
  });
});

describe.skipIf(WHY_NO_NETWORK !== undefined)('net_pcap on interfaces', () => {
  let bench: PortBench;
  beforeAll(enterNetworkNamespace);
  beforeEach(() => {
    bench = new PortBench();
    makeVeth('va', 'vb');
    makeVeth('vc', 'vd');
  });
  afterEach(async () => {
    await bench[Symbol.asyncDispose]();
    removeInterfaces();
  });
  const send = (port: Port, packets: readonly Uint8Array[], queue = 0): number =>
    bench.bench.send(
      (_, mbufs, count) => port.txBurst(queue, mbufs, count),
      0,
      packets.map((bytes) => bench.bench.packet(bench.pool, bytes) ?? 0),
    );
  const receive = async (port: Port, wanted: number, queue = 0): Promise<Buffer[]> => {
    const packets: Buffer[] = [];
    await until(5000, `${String(wanted)} packets; ${bench.log.join('; ')}`, () => {
      packets.push(...bench.bench.take((_, mbufs, count) => port.rxBurst(queue, mbufs, count), 0, 32));
      return packets.length >= wanted;
    });
    return packets;
  };

  it('receives and sends on one, or on one each', async () => {
    const both = await bench.open('net_pcap0,iface=va,phy_mac=1');
    const [other, third] = [await bench.open('net_af_packet0,iface=vb'), await bench.open('net_af_packet1,iface=vd')];
    expect(Buffer.from(both.mac).toString('hex')).toBe(/"address":"([^"]*)"/.exec(ip('-j link show va'))?.[1]?.replaceAll(':', ''));
    await bench.linksUp(both, other, third);
    expect(send(both, frames(5))).toBe(5);
    expect(await receive(other, 5)).toEqual(frames(5));
    expect(send(other, frames(3, 1514))).toBe(3);
    expect(await receive(both, 3)).toEqual(frames(3, 1514));
    expect(both.statistics()).toMatchObject({ rxPackets: 3, txPackets: 5, rxBytes: 3 * 1514, txBytes: 300, rxErrors: 0, txErrors: 0 });
    await both.close();
    const across = await bench.open('net_pcap1,rx_iface=va,tx_iface=vc');
    const capture = startCapture(bench.context, across, { file: path('across.pcapng') });
    expect(Buffer.from(across.mac).toString('hex')).toBe('027063617001');
    await bench.linksUp(across);
    send(other, frames(4));
    expect(await receive(across, 4)).toEqual(frames(4));
    send(across, frames(2, 100));
    expect(await receive(third, 2)).toEqual(frames(2, 100));
    expect(across.extendedStatistics()).toEqual(
      expect.arrayContaining([
        { name: 'rx_q0_packets', value: 4 },
        { name: 'tx_q0_packets', value: 2 },
      ]),
    );
    ip('link set va down');
    await until(3000, 'link down', () => !across.link().up);
    ip('link set va up');
    await bench.linksUp(across);
    await across.stop();
    await across.start();
    send(other, frames(4));
    expect(await receive(across, 4)).toEqual(frames(4));
    await across.close();
    expect(capture.active).toBe(false);
    expect(packetsIn(path('across.pcapng'))).toEqual([...frames(4), ...frames(2, 100), ...frames(4)]);
  });

  it('has files on one side and interfaces on the other, a queue each', async () => {
    const [other, third] = [await bench.open('net_af_packet0,iface=vb'), await bench.open('net_af_packet1,iface=vd')];
    const [a, b] = [put('a.pcap', pcapFile(frames(3))), put('b.pcap', pcapFile(frames(4, 100)))];
    const reader = await bench.open(`net_pcap0,rx_pcap=${a},rx_pcap=${b},tx_iface=va,tx_iface=vc`, 2);
    await bench.linksUp(reader, other, third);
    for (const queue of [0, 1]) {
      const packets = await receive(reader, 3 + queue, queue);
      expect(send(reader, packets, queue)).toBe(packets.length);
    }
    expect(await receive(other, 3)).toEqual(frames(3));
    expect(await receive(third, 4)).toEqual(frames(4, 100));
    await reader.close();
    const writer = await bench.open(`net_pcap1,rx_iface=va,rx_iface_in=vc,tx_pcap=${path('c.pcap')},tx_pcap=${path('d.pcap')}`, 2);
    await bench.linksUp(writer);
    send(other, frames(2));
    send(third, frames(6));
    send(writer, await receive(writer, 2, 0), 0);
    send(writer, await receive(writer, 6, 1), 1);
    await writer.close();
    expect([packetsIn(path('c.pcap')).length, packetsIn(path('d.pcap')).length]).toEqual([2, 6]);
  });
});
