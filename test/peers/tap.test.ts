/**
 * net_tap beside DPDK's own: the same command line makes the same interface, and every byte that DPDK sends into it comes back.
 * @module
 */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { until } from '../support/deadline.ts';
import { enterNetworkNamespace, ip, WHY_NO_NETWORK } from '../support/network.ts';
import { packetBytes, startOnInterfaces } from '../support/interface-peers.ts';
import { readPcap, writePcap } from '../support/pcap-file.ts';
import { WHY_NO_PEERS } from './matrix.ts';

const WHY = WHY_NO_NETWORK ?? WHY_NO_PEERS ?? (existsSync('/dev/net/tun') ? undefined : 'no /dev/net/tun');
const NO_IPV6 = '/proc/sys/net/ipv6/conf/default/disable_ipv6';
const PACKETS = 1000;

interface LinkEntry {
  readonly ifname: string;
  readonly mtu: number;
  readonly address: string;
  readonly flags: readonly string[];
}
const link = (name: string): LinkEntry | undefined =>
  (JSON.parse(ip('-j link show')) as readonly LinkEntry[]).find(({ ifname }) => ifname === name);

describe.skipIf(WHY !== undefined)('net_tap', () => {
  beforeAll(() => {
    enterNetworkNamespace();
    // the kernel is to send nothing of its own out of a tap
    if (existsSync(NO_IPV6)) writeFileSync(NO_IPV6, '1');
  });

  test.each(['dpdk', 'dpdk-ts'] as const)('of %s is dtap0, with the properties of the port', async (program) => {
    {
      await using testpmd = await startOnInterfaces(program, 0, ['net_tap0,mac=fixed', 'net_tap1,iface=other,mac=02:00:00:00:00:05']);
      expect(link('dtap0')).toMatchObject({ mtu: 1500, address: '02:64:74:61:70:30' });
      expect(link('other')).toMatchObject({ address: '02:00:00:00:00:05' });
      expect(link('dtap0')?.flags).toEqual(expect.arrayContaining(['UP', 'PROMISC']));
      const info = await testpmd.command('show port info 0');
      for (const line of [
        'MAC address: 02:64:74:61:70:30',
        'Driver name: net_tap',
        'Link speed: 10 Gbps',
        'MTU: 1500',
        'Max possible RX queues: 16',
      ])
        expect(info).toContain(line);
      await testpmd.commands('port config mtu 0 1400', 'set promisc 0 off');
      expect(link('dtap0')).toMatchObject({ mtu: 1400 });
      expect(link('dtap0')?.flags).not.toContain('PROMISC');
      await testpmd.command('port stop 0');
      expect(link('dtap0')?.flags).not.toContain('UP');
      await testpmd.command('port start 0');
      expect(link('dtap0')?.flags).toContain('UP');
      await testpmd.quit();
    }
    expect([link('dtap0'), link('other')]).toEqual([undefined, undefined]);
  });

  test.each(['dpdk', 'dpdk-ts'] as const)('of %s gives back every byte', async (program) => {
    const directory = mkdtempSync(join(tmpdir(), 'dpdk-ts-'));
    try {
      const [input, output] = [join(directory, 'in.pcap'), join(directory, 'out.pcap')];
      const packets = Array.from({ length: PACKETS }, (_, number) => packetBytes(number));
      writePcap(input, packets);
      await using echoing = await startOnInterfaces(program, 0, ['net_tap0,iface=tt0']);
      await echoing.command('start');
      await using source = await startOnInterfaces(
        'dpdk',
        1,
        ['net_af_packet0,iface=tt0,framecnt=4096', `net_pcap0,rx_pcap=${input},tx_pcap=${output}`],
        ['--burst=4'],
      );
      await source.commands('set fwd io retry', 'set burst tx delay 100 retry 1000', 'start');
      await until(
        15_000,
        () => `all packets back\n${source.transcript()}\n${echoing.transcript()}`,
        async () => (await source.statistics(0)).rxPackets >= PACKETS,
      );
      await source.command('stop');
      await echoing.command('stop');
      const { rxErrors, txErrors } = await echoing.statistics();
      expect([rxErrors, txErrors]).toEqual([0, 0]);
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
