/**
 * The csum mode, with DPDK's own as the reference: both read one capture file, and write what they send to another.
 */
import { createSocket } from 'node:dgram';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { until } from '../support/deadline.ts';
import { buildFrame, hex, sum16, type FrameFields } from '../support/frames.ts';
import { enterNetworkNamespace, ip as iproute, makeVeth, WHY_NO_NETWORK } from '../support/network.ts';
import { readPcap, writePcap } from '../support/pcap-file.ts';
import { lcoresArgument, type Program } from '../support/program.ts';
import { frame } from '../support/ring-pair.ts';
import { Testpmd } from '../support/testpmd.ts';
import { WHY_NO_PEERS } from './matrix.ts';

const PROGRAMS = ['dpdk-ts', 'dpdk'] as const satisfies readonly Program[];

/** Stands for the programs' own ports', which differ; the peer's is 02:00:00:00:00:00. */
const PORT_ADDRESS = '02:00:00:00:00:55';

/** What a program sends of `packets` in csum mode after `commands`, and what `stop` prints. */
async function through(
  program: Program,
  packets: readonly Uint8Array[],
  commands: readonly string[],
): Promise<{ sent: string[]; text: string }> {
  const directory = mkdtempSync(join(tmpdir(), 'dpdk-ts-'));
  try {
    const input = join(directory, 'in.pcap');
    const output = join(directory, 'out.pcap');
    writePcap(input, packets);
    await using testpmd = await Testpmd.start({
      program,
      eal: [...lcoresArgument(0), '--no-huge', '-m', '192', '--vdev', `net_pcap0,rx_pcap=${input},tx_pcap=${output}`],
      app: ['--total-num-mbufs=4096', '--no-flush-rx', '--forward-mode=csum'],
    });
    await testpmd.commands(...commands, 'start');
    await until(8000, 'all packets read', async () => (await testpmd.statistics()).rxPackets >= packets.length);
    const text = await testpmd.command('stop');
    await testpmd.quit();
    const own = /Port 0: ([0-9A-F:]+)\n/.exec(testpmd.stdout)?.[1] ?? '';
    const source = own.replaceAll(':', '').toLowerCase();
    const sent = readPcap(output).map((bytes) => bytes.toString('hex'));
    const marked = sent.map((text) =>
      text.startsWith(source, 12) ? text.slice(0, 12) + hex(PORT_ADDRESS).toString('hex') + text.slice(24) : text,
    );
    return { sent: marked, text };
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** A packet with every checksum wrong, and what it ought to be. */
interface Wrong {
  readonly name: string;
  readonly wrong: Buffer;
  readonly right: Buffer;
}

function broken(name: string, fields: FrameFields): Wrong {
  const right = buildFrame(fields);
  const wrong = Buffer.from(buildFrame({ ...fields, checksum: 0x1234 }).bytes);
  if (fields.version === 4) wrong.writeUInt16BE(0xabcd, right.ip + 10);
  return { name, wrong, right: right.bytes };
}

const payload = frame(101, 3);
const PLAIN: readonly Wrong[] = [
  ...([4, 6] as const).flatMap((version) =>
    (['tcp', 'udp'] as const).flatMap((protocol) => [
      broken(`${protocol} over IPv${version}`, { version, protocol, payload }),
      broken(`${protocol} over IPv${version}, tagged`, { version, protocol, payload, vlans: [0x0123] }),
      broken(`${protocol} over IPv${version}, nothing in it`, { version, protocol, payload: Buffer.alloc(0) }),
      broken(`${protocol} over IPv${version}, long`, { version, protocol, payload: frame(1400, 9) }),
    ]),
  ),
  broken('IPv4 options', { version: 4, protocol: 'udp', payload, ipOptions: Buffer.alloc(8, 1) }),
  broken('TCP options', { version: 4, protocol: 'tcp', payload, tcpOptions: Buffer.alloc(12, 1) }),
];

const OUTER = hex('020000000002 020000000001 0800');
/** An IPv4 header from 192.0.2.1 to 192.0.2.2 with its checksum. */
function ipv4(protocol: number, bytes: number): Buffer {
  const header = hex('4500 0000 0001 0000 4000 0000 c0000201 c0000202');
  header[9] = protocol;
  header.writeUInt16BE(20 + bytes, 2);
  header.writeUInt16BE(~sum16(header) & 0xffff, 10);
  return header;
}

/** `inside` in a UDP datagram without a checksum. */
function inUdp(port: number, header: string, inside: Buffer): Buffer {
  const tunnel = hex(header);
  const bytes = 8 + tunnel.length + inside.length;
  const udp = Buffer.alloc(8);
  udp.writeUInt16BE(4321, 0);
  udp.writeUInt16BE(port, 2);
  udp.writeUInt16BE(bytes, 4);
  return Buffer.concat([OUTER, ipv4(17, bytes), udp, tunnel, inside]);
}

function inIp(protocol: number, header: string, inside: Buffer): Buffer {
  const bytes = Buffer.concat([hex(header), inside]);
  return Buffer.concat([OUTER, ipv4(protocol, bytes.length), bytes]);
}

const ip = (bytes: Buffer): Buffer => bytes.subarray(14);

const TUNNELS: readonly Wrong[] = (['tcp', 'udp'] as const).flatMap((protocol) => {
  const inner4 = broken('', { version: 4, protocol, payload });
  const inner6 = broken('', { version: 6, protocol, payload });
  const tunnels: readonly (readonly [string, Wrong, (inside: Buffer) => Buffer])[] = [
    ['VXLAN', inner4, (inside) => inUdp(4789, '0800000000000100', inside)],
    ['VXLAN with IPv6', inner6, (inside) => inUdp(4789, '0800000000000100', inside)],
    ['VXLAN-GPE', inner6, (inside) => inUdp(4790, '0c00000200000100', ip(inside))],
    ['Geneve with options', inner4, (inside) => inUdp(6081, '0100655800000100 00000000', inside)],
    ['Geneve with IPv6', inner6, (inside) => inUdp(6081, '000086dd00000100', ip(inside))],
    ['GTP', inner4, (inside) => inUdp(2152, '30ff00000000002a', ip(inside))],
    ['GTP with a sequence number', inner4, (inside) => inUdp(2152, '32ff00000000002a00010000', ip(inside))],
    ['GRE', inner4, (inside) => inIp(47, '00000800', ip(inside))],
    ['GRE with a key, Ethernet inside', inner6, (inside) => inIp(47, '20006558 00000007', inside)],
    ['IP in IP', inner4, (inside) => inIp(4, '', ip(inside))],
  ];
  return tunnels.map(([name, inner, wrap]) => ({ name: `${protocol} in ${name}`, wrong: wrap(inner.wrong), right: wrap(inner.right) }));
});

/** With the addresses that csum writes. */
function addressed(bytes: Uint8Array): string {
  return Buffer.concat([hex(`02:00:00:00:00:00 ${PORT_ADDRESS}`), bytes.subarray(12)]).toString('hex');
}

describe.skipIf(WHY_NO_PEERS !== undefined)('csum', () => {
  test('recomputes what DPDK recomputes, and leaves alone what DPDK leaves alone', async () => {
    const without = buildFrame({ version: 4, protocol: 'udp', payload, checksum: 0 }).bytes;
    const other = Buffer.concat([hex('020000000002 020000000001 88b5'), frame(60, 1)]);
    const icmp = inIp(1, '0800 1234 00010001', frame(40));
    const packets = [...PLAIN.map(({ wrong }) => wrong), without, other, icmp, ...TUNNELS.map(({ wrong }) => wrong)];
    const [ours, theirs] = await Promise.all(PROGRAMS.map((program) => through(program, packets, [])));
    const expected = [...PLAIN.map(({ right }) => right), without, other, icmp, ...TUNNELS.map(({ wrong }) => wrong)].map(addressed);
    expect(ours?.sent).toEqual(expected);
    expect(theirs?.sent).toEqual(expected);
    const statistics = / {2}RX-packets: [^]*?Bad-outer-ipcsum: .*\n/;
    expect(statistics.exec(ours?.text ?? '')?.[0]).toBe(statistics.exec(theirs?.text ?? '')?.[0]);
  });

  test('looks into tunnels when told to, and writes no addresses when told not to', async () => {
    const packets = TUNNELS.map(({ wrong }) => wrong);
    const commands = ['csum parse-tunnel on 0', 'csum mac-swap off 0'];
    const [ours, theirs] = await Promise.all(PROGRAMS.map((program) => through(program, packets, commands)));
    for (const [index, { name, right }] of TUNNELS.entries()) {
      expect(ours?.sent[index], name).toBe(right.toString('hex'));
      expect(theirs?.sent[index], `${name}, DPDK`).toBe(right.toString('hex'));
    }
  });

  /** DPDK leaves TCP's checksum as it was in one of the packets. */
  const withoutChecksum = (text: string): string => `${text.slice(0, 100)}0000${text.slice(104)}`;

  test('gro: puts the segments of a burst together, which the gso of DPDK takes apart again', async () => {
    // two connections in turn: the other one has another port, and TCP options
    const segments = Array.from({ length: 16 }, (_, index): Buffer => {
      const { bytes, transport } = buildFrame({
        version: 4,
        protocol: 'tcp',
        sequence: 1000 + 1000 * (index >> 1),
        identification: 77 + (index >> 1),
        payload: frame(1000, index >> 1),
        ...(index % 2 === 0 ? {} : { tcpOptions: hex('0101080a 00000001 00000002') }),
      });
      if (index % 2 === 1) bytes.writeUInt16BE(0xc001, transport);
      return bytes;
    });
    const { sent: large } = await through('dpdk-ts', segments, ['set port 0 gro on']);
    const payloads = Buffer.concat(Array.from({ length: 8 }, (_, index) => frame(1000, index)));
    const first = buildFrame({ version: 4, protocol: 'tcp', sequence: 1000, identification: 77, payload: payloads });
    expect(large).toHaveLength(2);
    expect(large[0]).toBe(addressed(first.bytes));
    const back = await through('dpdk', [large.map(hex)[0] ?? Buffer.alloc(0)], ['set port 0 gso on', 'set gso segsz 1054']);
    const firstConnection = segments.filter((_, index) => index % 2 === 0);
    expect(back.sent.map(withoutChecksum)).toEqual(firstConnection.map(addressed).map(withoutChecksum));
  });

  test('gso: cuts TCP into segments, and UDP into fragments', async () => {
    const large: FrameFields = { version: 4, protocol: 'tcp', payload: frame(5000, 5), flags: 0x18, identification: 0xfffe };
    const datagram = buildFrame({ version: 4, protocol: 'udp', payload: frame(3000, 6) });
    // DPDK's fragments forget that fragmentation was forbidden
    datagram.bytes.writeUInt16BE(0, 20);
    const packets = [buildFrame(large).bytes, datagram.bytes, buildFrame({ ...large, payload }).bytes];
    const commands = ['set port 0 gso on', 'set gso segsz 1054'];
    const [ours, theirs] = await Promise.all(PROGRAMS.map((program) => through(program, packets, commands)));
    const cut = Array.from({ length: 5 }, (_, index) =>
      addressed(
        buildFrame({
          ...large,
          payload: frame(5000, 5).subarray(index * 1000, index * 1000 + 1000),
          sequence: 1 + index * 1000,
          identification: (0xfffe + index) & 0xffff,
          flags: index === 4 ? 0x18 : 0x10,
        }).bytes,
      ),
    );
    expect(ours?.sent.slice(0, 5)).toEqual(cut);
    const comparable = (sent: readonly string[] | undefined): readonly string[] | undefined =>
      sent?.map((text) => (text.startsWith('06', 46) ? withoutChecksum(text) : text));
    expect(comparable(ours?.sent)).toEqual(comparable(theirs?.sent));
  });

  describe.skipIf(WHY_NO_NETWORK !== undefined)('and the kernel', () => {
    beforeAll(enterNetworkNamespace);

    test('which takes datagrams and puts fragments together only when everything in them is right', async () => {
      const directory = mkdtempSync(join(tmpdir(), 'dpdk-ts-'));
      makeVeth('ca', 'cb');
      iproute('addr add 10.0.0.2/24 dev ca');
      iproute('addr add 2001:db8::fe/64 dev ca nodad');
      const sockets = [createSocket('udp4'), createSocket('udp6')];
      try {
        const arrived: string[] = [];
        for (const [index, socket] of sockets.entries()) {
          socket.on('message', (message) => arrived.push(message.toString('hex')));
          await new Promise<void>((resolve) => socket.bind(0x5678, index === 0 ? '10.0.0.2' : '2001:db8::fe', resolve));
        }
        const sent: readonly FrameFields[] = [
          { version: 4, protocol: 'udp', payload: frame(333, 1) },
          { version: 6, protocol: 'udp', payload: frame(334, 2), extensions: 1 },
          { version: 4, protocol: 'udp', payload: frame(5000, 3), identification: 77 },
          { version: 4, protocol: 'udp', payload: frame(1473, 4), identification: 78 },
        ];
        const input = join(directory, 'in.pcap');
        writePcap(
          input,
          sent.map((fields) => broken('', fields).wrong),
        );
        await using testpmd = await Testpmd.start({
          program: 'dpdk-ts',
          eal: [
            ...lcoresArgument(0),
            '--no-huge',
            '-m',
            '192',
            '--vdev',
            `net_pcap0,rx_pcap=${input}`,
            '--vdev',
            'net_af_packet1,iface=cb',
          ],
          app: ['--total-num-mbufs=4096', '--no-flush-rx', '--forward-mode=csum'],
        });
        const address = /link.ether ([0-9a-f:]+)/.exec(iproute('link show ca'))?.[1] ?? '';
        await testpmd.commands(`set eth-peer 1 ${address}`, 'set port 1 gso on', 'start');
        await until(
          8000,
          () => `all datagrams\n${testpmd.transcript()}`,
          () => arrived.length >= sent.length,
        );
        await testpmd.command('stop');
        await testpmd.quit();
        expect(arrived.sort()).toEqual(sent.map(({ payload: bytes }) => Buffer.from(bytes).toString('hex')).sort());
      } finally {
        for (const socket of sockets) socket.close();
        iproute('link del ca');
        rmSync(directory, { recursive: true });
      }
    });
  });
});
