/**
 * The icmpecho mode: the kernel's ping through an interface, and DPDK's own over capture files.
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { until } from '../support/deadline.ts';
import { hex, sum16 } from '../support/frames.ts';
import { enterNetworkNamespace, ip, makeVeth, WHY_NO_NETWORK } from '../support/network.ts';
import { readPcap, writePcap } from '../support/pcap-file.ts';
import { findExecutable, lcoresArgument, type Program } from '../support/program.ts';
import { frame } from '../support/ring-pair.ts';
import { Testpmd } from '../support/testpmd.ts';
import { WHY_NO_PEERS } from './matrix.ts';

const EAL = [...lcoresArgument(0), '--no-huge', '-m', '192'];
const APP = ['--total-num-mbufs=4096', '--no-flush-rx', '--forward-mode=icmpecho'];

const ASKER = '020000000001';
const ASKED = '020000000002';
const ETHERNET = `${ASKED} ${ASKER}`;

/** An IPv4 packet from 10.0.0.1 with its checksum. */
function ipv4(payload: Buffer, { protocol = 1, destination = '0a000002', options = '', fragment = 0 } = {}): Buffer {
  const header = hex(`4500 0000 0001 0000 4000 0000 0a000001 ${destination} ${options}`);
  header[0] = 0x40 | (header.length / 4);
  header[9] = protocol;
  header.writeUInt16BE(header.length + payload.length, 2);
  header.writeUInt16BE(fragment, 6);
  header.writeUInt16BE(~sum16(header) & 0xffff, 10);
  return Buffer.concat([header, payload]);
}

function echo(type: number, bytes: number, code = 0): Buffer {
  const icmp = Buffer.concat([Buffer.from([type, code, 0, 0, 0x12, 0x34, 0, 7]), frame(bytes)]);
  icmp.writeUInt16BE(~sum16(icmp) & 0xffff, 2);
  return icmp;
}

const arp = (operation: number, rest = '0001 0800 06 04'): Buffer =>
  hex(`ffffffffffff ${ASKER} 0806 ${rest} 000${operation} ${ASKER} 0a000001 000000000000 0a000002 ${'00'.repeat(18)}`);

const inFrame = (packet: Buffer, type = '0800'): Buffer => Buffer.concat([hex(`${ETHERNET} ${type}`), packet]);

/** What both programs answer, and what neither does. */
const ANSWERED: readonly Buffer[] = [
  arp(1),
  inFrame(ipv4(echo(8, 56))),
  inFrame(ipv4(echo(8, 1400))),
  inFrame(ipv4(echo(8, 1))),
  inFrame(ipv4(echo(8, 56)), '8100 0123 0800'),
  // a group's address: answered as the neighbour of who asks
  inFrame(ipv4(echo(8, 56), { destination: 'e0000001' })),
];
const IGNORED: readonly Buffer[] = [
  arp(2),
  arp(1, '0006 0800 06 04'),
  arp(1, '0001 86dd 06 04'),
  inFrame(ipv4(echo(0, 56))),
  inFrame(ipv4(echo(8, 56, 1))),
  inFrame(ipv4(echo(8, 56), { protocol: 17 })),
  inFrame(frame(46), '88b5'),
];
/** Here DPDK answers what it should not, or not what it should. */
const OURS_IGNORED: readonly Buffer[] = [
  // what comes behind the first fragment does not begin with a header
  inFrame(ipv4(echo(8, 56), { fragment: 0x2000 })),
  inFrame(ipv4(echo(8, 56), { fragment: 0x0005 })),
];

async function answers(program: Program, packets: readonly Buffer[]): Promise<string[]> {
  const directory = mkdtempSync(join(tmpdir(), 'dpdk-ts-'));
  try {
    const input = join(directory, 'in.pcap');
    const output = join(directory, 'out.pcap');
    writePcap(input, packets);
    const eal = [...EAL, '--vdev', `net_pcap0,rx_pcap=${input},tx_pcap=${output}`];
    await using testpmd = await Testpmd.start({ program, eal, app: APP });
    await testpmd.command('start');
    await until(8000, 'all packets read', async () => (await testpmd.statistics()).rxPackets >= packets.length);
    await testpmd.command('stop');
    await testpmd.quit();
    const own = /Port 0: ([0-9A-F:]+)\n/.exec(testpmd.stdout)?.[1] ?? '';
    const address = own.replaceAll(':', '').toLowerCase();
    // the programs' ports have addresses of their own
    return readPcap(output).map((bytes) => bytes.toString('hex').replaceAll(address, ASKED));
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** Runs ping and returns what it prints. */
function ping(...args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(findExecutable('ping') ?? 'ping', [...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    let text = '';
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (part: string) => (text += part));
    child.once('error', reject);
    child.once('close', () => resolve(text));
  });
}

describe.skipIf(WHY_NO_PEERS !== undefined)('icmpecho', () => {
  test('answers what DPDK answers, byte for byte', async () => {
    const packets = [...ANSWERED, ...IGNORED, ...OURS_IGNORED];
    const [ours, theirs] = await Promise.all([answers('dpdk-ts', packets), answers('dpdk', [...ANSWERED, ...IGNORED])]);
    expect(ours).toHaveLength(ANSWERED.length);
    expect(ours).toEqual(theirs);
    const reply = Buffer.from(ours[0] ?? '', 'hex').subarray(0, 42);
    expect(reply).toEqual(hex(`${ASKER} ${ASKED} 0806 0001 0800 06 04 0002 ${ASKED} 0a000002 ${ASKER} 0a000001`));
    for (const text of ours.slice(1)) {
      const bytes = Buffer.from(text, 'hex');
      const start = bytes.readUInt16BE(12) === 0x8100 ? 18 : 14;
      expect(sum16(bytes.subarray(start, start + 20))).toBe(0xffff);
      expect(sum16(bytes.subarray(start + 20))).toBe(0xffff);
    }
  });

  test('finds the request behind IPv4 options', async () => {
    const [reply] = await answers('dpdk-ts', [inFrame(ipv4(echo(8, 56), { options: '01010100' }))]);
    const bytes = Buffer.from(reply ?? '', 'hex');
    expect(bytes[38]).toBe(0);
    expect(sum16(bytes.subarray(38))).toBe(0xffff);
  });

  describe.skipIf(WHY_NO_NETWORK !== undefined || findExecutable('ping') === undefined)('and the kernel', () => {
    beforeAll(enterNetworkNamespace);

    test('answers ping, for any address', async () => {
      makeVeth('ea', 'eb');
      try {
        ip('addr add 10.9.0.1/24 dev ea');
        await using testpmd = await Testpmd.start({ program: 'dpdk-ts', eal: [...EAL, '--vdev', 'net_af_packet0,iface=eb'], app: APP });
        await testpmd.command('start');
        for (const [address, bytes] of [
          ['10.9.0.2', '56'],
          ['10.9.0.77', '1472'],
          ['10.9.0.2', '0'],
          ['10.9.0.77', '56'],
        ] as const) {
          // one each time: of several, ping waits for the last no longer than twice the time of the others
          expect(await ping('-c', '1', '-W', '5', '-s', bytes, address)).toContain('1 packets transmitted, 1 received, 0% packet loss');
        }
        await testpmd.command('stop');
        await testpmd.quit();
      } finally {
        ip('link del ea');
      }
    });
  });
});
