/**
 * net_af_xdp with DPDK's net_af_packet and net_af_xdp at the other end of a veth pair: equal counts, and every byte there and back.
 * @module
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeAll, describe, expect, test } from 'vitest';
import { until } from '../support/deadline.ts';
import { enterNetworkNamespace, ip, makeVeth, removeInterfaces, WHY_NO_NETWORK } from '../support/network.ts';
import { packetBytes, startOnInterfaces } from '../support/interface-peers.ts';
import { readPcap, writePcap } from '../support/pcap-file.ts';
import { WHY_NO_PEERS } from './matrix.ts';

/** No more than the queue between the ends of a veth holds: whatever sends faster than the other end's CPU takes loses the rest there. */
const PACKETS = 240;
/** Bursts of 32, for the same reason. */
const BURSTS = 7;

function program(name: string): string {
  return /\bxdp\w*/.exec(ip(`link show ${name}`).split('\n', 1)[0] ?? '')?.[0] ?? '';
}

describe.skipIf(WHY_NO_NETWORK !== undefined || WHY_NO_PEERS !== undefined)('net_af_xdp and DPDK', () => {
  beforeAll(enterNetworkNamespace);
  afterEach(removeInterfaces);

  const XDP = 'net_af_xdp0';
  const PACKET = 'net_af_packet0';
  test.each([
    ['dpdk-ts', XDP, 'dpdk', PACKET],
    ['dpdk', PACKET, 'dpdk-ts', XDP],
    ['dpdk-ts', PACKET, 'dpdk', XDP],
    ['dpdk', XDP, 'dpdk-ts', XDP],
  ] as const)('what %s sends on %s is what %s receives on %s', async (sender, from, receiver, to) => {
    makeVeth('va', 'vb');
    await using sink = await startOnInterfaces(receiver, 1, [`${to},iface=vb`], ['--forward-mode=rxonly']);
    await using source = await startOnInterfaces(sender, 0, [`${from},iface=va`]);
    await sink.command('start');
    let packets = 0;
    let bytes = 0;
    for (const size of [64, 1514, 200, 64]) {
      await source.commands(`set txpkts ${size}`, `start tx_first ${BURSTS}`);
      packets += 32 * BURSTS;
      bytes += 32 * BURSTS * size;
      const received = await sink.waitForStatistics('all packets', ({ rxPackets }) => rxPackets >= packets);
      await source.command('stop');
      expect(received).toMatchObject({ rxPackets: packets, rxBytes: bytes, rxErrors: 0, rxMissed: 0 });
      expect(await source.statistics()).toMatchObject({ txPackets: packets, txBytes: bytes, txErrors: 0 });
    }
    await source.quit();
    await sink.quit();
    expect([program('va'), program('vb')]).toEqual(['', '']);
  });

  test.each([
    ['dpdk-ts', 'net_af_xdp0,iface=va', 'net_af_packet0,iface=vb,framecnt=4096'],
    ['dpdk-ts', 'net_af_xdp0,iface=va,queue_count=2,shared_umem=1', 'net_af_packet0,iface=vb,framecnt=4096'],
    ['dpdk', 'net_af_xdp0,iface=va', 'net_af_packet0,iface=vb,framecnt=4096'],
  ] as const)('every byte that DPDK sends comes back from %s: %s, %s', async (echo, device, other) => {
    const directory = mkdtempSync(join(tmpdir(), 'dpdk-ts-'));
    try {
      const input = join(directory, 'in.pcap');
      const output = join(directory, 'out.pcap');
      const packets = Array.from({ length: PACKETS }, (_, number) => packetBytes(number));
      writePcap(input, packets);
      const queues = device.includes('queue_count=2') ? 2 : 1;
      // a packet socket sends on the queue of its CPU: on one that the port at the other end has
      makeVeth('va', 'vb', 1500, queues);
      await using echoing = await startOnInterfaces(echo, 0, [device], [`--rxq=${queues}`, `--txq=${queues}`]);
      await echoing.command('start');
      await using source = await startOnInterfaces('dpdk', 1, [other, `net_pcap0,rx_pcap=${input},tx_pcap=${output}`], ['--burst=16']);
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

  test.each(['SIGKILL', 'SIGINT'] as const)('after %s the interface is as before', async (signal) => {
    makeVeth('va', 'vb');
    await using testpmd = await startOnInterfaces('dpdk-ts', 0, ['net_af_xdp0,iface=va'], ['--forward-mode=txonly']);
    await testpmd.commands('start', 'set promisc 0 on');
    expect([program('va'), ip('-d link show va').includes('promiscuity 1')]).toEqual(['xdp', true]);
    testpmd.signal(signal);
    await testpmd.waitForExit();
    await until(2000, 'the program to go', () => program('va') === '');
    expect(ip('-d link show va')).toMatch(/promiscuity 0/);
    // the queue is free again
    await using next = await startOnInterfaces('dpdk-ts', 0, ['net_af_xdp0,iface=va']);
    expect(program('va')).toBe('xdp');
    await next.quit();
  });
});
