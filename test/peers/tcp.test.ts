/**
 * The kernel's TCP through our testpmd: a stream between two network namespaces, each behind a tap, whole and in order; with
 * offloads as packets of up to 64 KB that nobody cuts on the way, in modes that know nothing of them too.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { connect } from 'node:net';
import { beforeAll, describe, expect, test } from 'vitest';
import { until, within } from '../support/deadline.ts';
import { enterNetworkNamespace, ip, WHY_NO_NETWORK } from '../support/network.ts';
import { lcoresArgument, whyMissing } from '../support/program.ts';
import { Testpmd } from '../support/testpmd.ts';

const WHY = WHY_NO_NETWORK ?? whyMissing('dpdk-ts') ?? (existsSync('/dev/net/tun') ? undefined : 'no /dev/net/tun');
const MEGABYTES = 8;
const TRANSFER_LIMIT = 20_000;
const OTHER = `dpdk-ts-${process.pid}`;
const MACS = ['02:00:00:00:00:0a', '02:00:00:00:00:0b'] as const;

/** Bytes without a pattern, and the same in every run. */
const BLOCK = Buffer.alloc(1024 * 1024);
for (let at = 0; at < BLOCK.length; at += 32) createHash('sha256').update(String(at)).digest().copy(BLOCK, at);

const EXPECTED = ((): string => {
  const hash = createHash('sha256');
  for (let count = 0; count < MEGABYTES; count++) hash.update(BLOCK);
  return hash.digest('hex');
})();

/** Receives one stream and answers with its hash. */
const SERVER = `
  const hash = require('node:crypto').createHash('sha256');
  const server = require('node:net').createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('data', (bytes) => hash.update(bytes));
    socket.on('end', () => socket.end(hash.digest('hex')));
    server.close();
  });
  server.listen(5001, process.argv[1], () => console.log('listening'));
  setTimeout(() => process.exit(1), ${TRANSFER_LIMIT}).unref();`;

/** Sends the stream to a server in the other namespace; resolves with what that says it was. */
async function transfer(address: string): Promise<string> {
  const server = spawn('ip', ['netns', 'exec', OTHER, process.execPath, '-e', SERVER, address], { stdio: ['ignore', 'pipe', 'inherit'] });
  try {
    await within(
      10_000,
      'the server to listen',
      new Promise<void>((resolve) => {
        server.stdout.once('data', () => {
          resolve();
        });
      }),
    );
    return await within(TRANSFER_LIMIT, 'the stream to end', stream(address));
  } finally {
    server.kill('SIGKILL');
  }
}

function stream(host: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port: 5001 });
    let answer = '';
    let sent = 0;
    const more = (): void => {
      while (sent < MEGABYTES) {
        sent++;
        if (!socket.write(BLOCK)) return;
      }
      socket.end();
    };
    socket.setEncoding('latin1');
    socket.on('connect', more);
    socket.on('drain', more);
    socket.on('data', (text: string) => (answer += text));
    socket.on('end', () => {
      resolve(answer);
    });
    socket.on('error', reject);
  });
}

/** Both offloads of the text that seed documents give, and LRO. */
const OFFLOADS = ['--rx-offloads=0x1c', '--tx-offloads=0x2c'];
const PEERS = ['--eth-peer=0,' + MACS[0], '--eth-peer=1,' + MACS[1]];
const CSUM = [
  'port stop all',
  ...[0, 1].flatMap((port) => [`csum set tcp hw ${port}`, `csum set ip sw ${port}`, `tso set 1460 ${port}`]),
  'port start all',
];

interface Way {
  readonly name: string;
  readonly app: readonly string[];
  readonly mode: string;
  readonly commands?: readonly string[];
  /** Packets are large where they arrive, and where they leave. */
  readonly large: readonly [boolean, boolean];
}

const WAYS: readonly Way[] = [
  { name: 'io without offloads', app: [], mode: 'io', large: [false, false] },
  { name: 'io with LRO and TSO', app: OFFLOADS, mode: 'io', large: [true, true] },
  { name: 'io with LRO alone: cut in software', app: ['--enable-lro'], mode: 'io', large: [true, false] },
  { name: 'mac with LRO and TSO', app: [...OFFLOADS, ...PEERS], mode: 'mac', large: [true, true] },
  { name: 'csum in software', app: PEERS, mode: 'csum', large: [false, false] },
  { name: 'csum with tso set', app: [...OFFLOADS, ...PEERS], mode: 'csum', commands: CSUM, large: [true, true] },
];

describe.skipIf(WHY !== undefined)('TCP between two namespaces', () => {
  beforeAll(() => {
    enterNetworkNamespace();
    ip(`netns add ${OTHER}`);
    return () => {
      ip(`netns del ${OTHER}`);
    };
  });

  describe.each([
    ['IPv4', '10.99.0.', '/24'],
    ['IPv6', 'fd99::', '/64'],
  ])('%s', (_, network, prefix) => {
    test.each(WAYS)('$name', async ({ app, mode, commands = [], large }) => {
      await using testpmd = await Testpmd.start({
        program: 'dpdk-ts',
        eal: [
          ...lcoresArgument(0),
          ...['--no-huge', '-m', '160'],
          ...MACS.flatMap((mac, index) => ['--vdev', `net_tap${index},iface=tcp${index},mac=${mac}`]),
        ],
        app: ['--total-num-mbufs=20000', `--forward-mode=${mode}`, ...app],
      });
      await testpmd.commands(...commands, 'start');
      ip(`link set tcp1 netns ${OTHER}`);
      for (const [index, inside] of ['', `-n ${OTHER} `].entries()) {
        ip(`${inside}addr add ${network}${index + 1}${prefix} dev tcp${index}${prefix === '/64' ? ' nodad' : ''}`);
        ip(`${inside}link set tcp${index} up`);
      }
      await until(5000, 'both interfaces to have a carrier', () =>
        ['', `-n ${OTHER} `].every((inside, index) => ip(`${inside}link show tcp${index}`).includes('LOWER_UP')),
      );
      expect(await transfer(`${network}2`), testpmd.transcript()).toBe(EXPECTED);
      const [arrived, left] = [await testpmd.statistics(0), await testpmd.statistics(1)];
      const mean = [arrived.rxBytes / arrived.rxPackets, left.txBytes / left.txPackets] as const;
      expect(arrived.rxBytes).toBeGreaterThan(MEGABYTES * BLOCK.length);
      expect([mean[0] > 2000, mean[1] > 2000], `bytes a packet: ${mean.join(', ')}`).toEqual(large);
      await testpmd.quit();
    });
  });
});
