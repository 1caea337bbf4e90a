/**
 * net_af_packet with DPDK's at the other end of a veth pair: equal counts, and every byte there and back.
 * @module
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { until } from '../support/deadline.ts';
import { enterNetworkNamespace, ip, makeVeth, WHY_NO_NETWORK } from '../support/network.ts';
import { packetBytes, startOnInterfaces } from '../support/interface-peers.ts';
import { readPcap, writePcap } from '../support/pcap-file.ts';
import { WHY_NO_PEERS } from './matrix.ts';

const PACKETS = 2000;
const BURSTS = 60;

describe.skipIf(WHY_NO_NETWORK !== undefined || WHY_NO_PEERS !== undefined)('net_af_packet and DPDK', () => {
  beforeAll(enterNetworkNamespace);
  beforeEach(() => {
    makeVeth('va', 'vb');
    return () => {
      ip('link del va');
    };
  });

  describe.each([1, 2])('%i queue pairs', (queues) => {
    test.each([
      ['dpdk-ts', 'dpdk'],
      ['dpdk', 'dpdk-ts'],
    ] as const)('what %s sends is what the interface carries and what %s receives', async (sender, receiver) => {
      const queueArguments = [`--rxq=${queues}`, `--txq=${queues}`];
      await using from = await startOnInterfaces(sender, 0, [`net_af_packet0,iface=va,qpairs=${queues}`], queueArguments);
      await using to = await startOnInterfaces(
        receiver,
        1,
        [`net_af_packet0,iface=vb,qpairs=${queues},framecnt=4096`],
        [...queueArguments, '--forward-mode=rxonly'],
      );
      for (const size of [64, 1514]) {
        await to.commands('clear port stats all', 'start');
        await from.commands('clear port stats all', `set txpkts ${size}`);
        const carried = (): number =>
          (JSON.parse(ip('-s -j link show vb')) as [{ stats64: { rx: { packets: number } } }])[0].stats64.rx.packets;
        const before = carried();
        // fewer than a ring has frames: DPDK does not count what the kernel drops
        await from.command(`start tx_first ${BURSTS}`);
        await from.command('stop');
        const sent = await from.statistics();
        const received = await to.drained(0, sent.txPackets);
        await to.command('stop');
        expect(sent.txErrors).toBe(0);
        expect(sent.txPackets).toBe(BURSTS * 32 * queues);
        expect(carried() - before).toBe(sent.txPackets);
        expect(received.rxPackets).toBe(sent.txPackets);
        expect(received.rxBytes).toBe(received.rxPackets * size);
        expect(received.rxErrors).toBe(0);
      }
      await from.quit();
      await to.quit();
    });
  });

  test.each(['dpdk-ts', 'dpdk'] as const)('every byte that DPDK sends comes back from %s', async (echo) => {
    const directory = mkdtempSync(join(tmpdir(), 'dpdk-ts-'));
    try {
      const input = join(directory, 'in.pcap');
      const output = join(directory, 'out.pcap');
      const packets = Array.from({ length: PACKETS }, (_, number) => packetBytes(number));
      writePcap(input, packets);
      await using echoing = await startOnInterfaces(echo, 0, ['net_af_packet0,iface=va,framecnt=4096']);
      await echoing.command('start');
      await using source = await startOnInterfaces(
        'dpdk',
        1,
        ['net_af_packet0,iface=vb,framecnt=4096', `net_pcap0,rx_pcap=${input},tx_pcap=${output}`],
        ['--burst=16'],
      );
      await source.command('start');
      await until(
        10_000,
        () => `all packets back\n${source.transcript()}\n${echoing.transcript()}`,
        async () => (await source.statistics(0)).rxPackets >= PACKETS,
      );
      await source.command('stop');
      await echoing.command('stop');
      await source.quit();
      await echoing.quit();
      const returned = readPcap(output);
      expect(returned.length).toBe(PACKETS);
      expect(returned.findIndex((packet, number) => !packet.equals(packets[number] ?? new Uint8Array()))).toBe(-1);
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });
});
