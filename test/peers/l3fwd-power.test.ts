/**
 * l3fwd-power between two ports of a testpmd, DPDK's and ours: packets from capture files in bursts with pauses in between; it sleeps while
 * there are none, wakes on the first, and every packet leaves by the port of its route, as a router has to send it.
 *
 *     testpmd: net_pcap0 --- port 1 ---socket--- port 0 :l3fwd-power: port 1 ---socket--- port 2 --- net_pcap1
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { parseIpAddress } from '../../src/net/ip-address.ts';
import { sleep, until } from '../support/deadline.ts';
import { buildFrame, sum16 } from '../support/frames.ts';
import { usualMemory, memoryArguments } from '../support/huge-pages.ts';
import { L3fwdPower } from '../support/l3fwd-power.ts';
import { readPcap, writePcap } from '../support/pcap-file.ts';
import { lcoresArgument, type Program } from '../support/program.ts';
import { Testpmd } from '../support/testpmd.ts';
import { WHY_NO_PEERS } from './matrix.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'dpdk-ts-l3fwd-'));
  return () => {
    rmSync(directory, { recursive: true, force: true });
  };
});
const path = (name: string): string => join(directory, name);

function signed(bytes: Buffer): Buffer {
  if (bytes.readUInt16BE(12) !== 0x0800) return bytes;
  bytes.writeUInt16BE(0, 24);
  bytes.writeUInt16BE(~sum16(bytes.subarray(14, 34)) & 0xffff, 24);
  return bytes;
}

/** A UDP or TCP packet to an address, its number in the payload. */
function packetTo(to: string, number: number, timeToLive = 64): Buffer {
  const address = parseIpAddress(to) ?? new Uint8Array(4);
  const version = address.length === 4 ? 4 : 6;
  const payload = Buffer.alloc(18 + (number % 7) * 60, number);
  const { bytes } = buildFrame({ version, protocol: number % 2 === 0 ? 'udp' : 'tcp', payload });
  bytes.set(address, version === 4 ? 30 : 38);
  bytes[version === 4 ? 22 : 21] = timeToLive;
  return signed(bytes);
}

/** What leaves by a port whose own address is `source`. */
function sentBy(port: number, source: readonly number[], before: Buffer): Buffer {
  const after = Buffer.from(before);
  after.set([0x02, 0, 0, 0, 0, port, ...source]);
  const place = before.readUInt16BE(12) === 0x0800 ? 22 : 21;
  after[place] = (after[place] ?? 0) - 1;
  return signed(after);
}

interface Traffic {
  readonly packets: readonly Buffer[];
  /** Those that leave by port 0 and by port 1, as they came. */
  readonly back: readonly Buffer[];
  readonly on: readonly Buffer[];
  readonly bad: number;
}

/** One burst: routes of both versions to both ports, no route, and packets that a router must drop. */
function traffic(count: number): Traffic {
  const back: Buffer[] = [];
  const on: Buffer[] = [];
  const packets: Buffer[] = [];
  let bad = 0;
  for (let number = 0; number < count; number++) {
    const kind = number % 8;
    const host = String(1 + (number % 250));
    if (kind === 6) {
      packets.push(packetTo(`2.1.1.${host}`, number, 1));
      bad++;
    } else if (kind === 7) {
      const wrong = packetTo(`2.1.1.${host}`, number);
      wrong.writeUInt16BE(wrong.readUInt16BE(24) ^ 0x5555, 24);
      packets.push(wrong);
      bad++;
    } else {
      const to =
        [`1.1.1.${host}`, `2.1.1.${host}`, `2001:200::${host}`, `2001:200:0:1::${host}`, `192.0.2.${host}`, `2.1.1.${host}`][kind] ?? '';
      const packet = packetTo(to, number);
      packets.push(packet);
      // without a route it goes back
      (kind === 1 || kind === 3 || kind === 5 ? on : back).push(packet);
    }
  }
  return { packets, back, on, bad };
}

/** What l3fwd-power says are its ports' addresses. */
function addressOf(output: string, port: number): number[] {
  const text = new RegExp(`Initializing port ${String(port)} .*Address:([0-9A-F:]{17})`).exec(output)?.[1] ?? '';
  return text.split(':').map((byte) => Number.parseInt(byte, 16));
}

const BURST = 96;
const ROUNDS = 4;

describe.skipIf(WHY_NO_PEERS !== undefined)('l3fwd-power', () => {
  test.each([
    ['dpdk', 'driver', 'split'],
    ['dpdk', 'driver', 'packed'],
    ['dpdk', 'device', 'split'],
    ['dpdk', 'device', 'packed'],
    ['dpdk-ts', 'driver', 'split'],
    ['dpdk-ts', 'device', 'split'],
  ] as const satisfies readonly (readonly [Program, string, string])[])(
    "with %s's testpmd, its own ports the %s, %s rings",
    async (program, role, format) => {
      const { packets, back, on, bad } = traffic(BURST);
      writePcap(path('in.pcap'), packets);
      writePcap(path('none.pcap'), []);
      const sockets = [path('a.sock'), path('b.sock')] as const;
      const device = (index: 0 | 1, there: boolean): string => {
        const number = String(index);
        // whoever is the device listens
        if ((role === 'driver') === there) return `net_vhost${number},iface=${sockets[index]}`;
        return `virtio_user${number},path=${sockets[index]}${format === 'packed' ? ',packed_vq=1' : ''}`;
      };
      const vdevs = [
        `net_pcap0,rx_pcap=${path('in.pcap')},tx_pcap=${path('back.pcap')}`,
        device(0, true),
        device(1, true),
        `net_pcap1,rx_pcap=${path('none.pcap')},tx_pcap=${path('on.pcap')}`,
      ];
      const memory = memoryArguments(usualMemory());
      const startPeer = (): Promise<Testpmd> =>
        Testpmd.start({
          program,
          eal: [...lcoresArgument(0), ...memory.eal, ...vdevs.flatMap((vdev) => ['--vdev', vdev])],
          app: ['--total-num-mbufs=8192', '--no-flush-rx'],
          wrapper: memory.wrapper,
        });
      const startRouter = (): L3fwdPower =>
        new L3fwdPower([
          '-l',
          '0-1',
          '--vdev',
          device(0, false),
          '--vdev',
          device(1, false),
          '--',
          '-p',
          '3',
          '-P',
          '--config=(0,0,1),(1,0,1)',
          '--no-numa',
          '--parse-ptype',
        ]);
      // whoever listens is first
      const early = role === 'device' ? startRouter() : undefined;
      await using stack = new AsyncStack();
      if (early !== undefined) {
        stack.use(early);
        await early.printed(/Checking link status/);
      }
      const peer = stack.use(await startPeer());
      const router = early ?? stack.use(startRouter());
      await router.printed(/lcore 1 sleeps until interrupt triggers/);
      for (const port of [1, 2]) await peer.waitForLink(true, port);
      // while it starts, DPDK's driver disables its rings and enables them again for each piece of memory that it allocates, without
      // asking for answers, its link up all the while: what the router sends in between is dropped, as a router may
      await sleep(300);

      const addresses = [addressOf(router.output, 0), addressOf(router.output, 1)] as const;
      for (let round = 0; round < ROUNDS; round++) {
        const slept = router.count(/lcore 1 sleeps until/);
        if (round === 1) {
          await sleep(300);
          const before = router.cpuMilliseconds();
          await sleep(1500);
          const used = router.cpuMilliseconds() - before;
          console.log(`l3fwd-power (${program}, ${role}, ${format}): ${String(used)} ms of CPU time in 1.5 s without packets`);
          // polling would take all of the 1500
          expect(used).toBeLessThan(500);
        }
        await peer.commands('clear port stats all', 'start');
        try {
          await peer.waitForStatistics('what goes on', ({ txPackets }) => txPackets >= on.length, 3);
          await peer.waitForStatistics('what goes back', ({ txPackets }) => txPackets >= back.length, 0);
        } catch (cause) {
          throw new Error(`round ${String(round)}; l3fwd-power said:\n${router.output}`, { cause });
        }
        await peer.commands('stop', 'port stop 0', 'port stop 3');
        expect(readPcap(path('on.pcap'))).toEqual(on.map((packet) => sentBy(1, addresses[1], packet)));
        expect(readPcap(path('back.pcap'))).toEqual(back.map((packet) => sentBy(0, addresses[0], packet)));
        await peer.commands('port start 0', 'port start 3');
        await until(
          5000,
          () => `sleep after round ${String(round)}\n${router.output}`,
          () => router.count(/lcore 1 sleeps until/) > slept,
        );
      }
      expect(router.output).toMatch(/lcore 1 is waked up from rx interrupt on port 0 queue 0/);
      // the client first: DPDK's virtio_user does not survive its back-end for long
      if (role === 'device') await peer.quit();
      expect(await router.stop()).toBe(0);
      expect(router.report(0)).toEqual({ received: ROUNDS * BURST, sent: ROUNDS * (BURST - bad), dropped: ROUNDS * bad });
      expect(router.report(1)).toEqual({ received: 0, sent: 0, dropped: 0 });
      if (role === 'driver') await peer.quit();
    },
    60_000,
  );
});

/** Closes what was opened, last first. */
class AsyncStack implements AsyncDisposable {
  readonly #opened: AsyncDisposable[] = [];

  use<Resource extends AsyncDisposable>(resource: Resource): Resource {
    this.#opened.push(resource);
    return resource;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const resource of this.#opened.reverse()) await resource[Symbol.asyncDispose]();
  }
}
