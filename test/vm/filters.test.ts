/**
 * Addresses, VLAN filters and RSS at the prompt of both testpmds, on the same card of QEMU through vfio, which has all of them: what they
 * say is the same, line by line.
 * @module
 */
import { describe, expect, test } from 'vitest';
import { WHY_NO_MACHINE } from './available.ts';
import { BEHIND_IOMMU, card, vfioMachine } from './cards.ts';
import { runScript, SCRIPT_LIMIT } from './script.ts';

const CARD = '0000:00:10.0';
const KEY = '0d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa';
const entries = 'show port 0 rss reta 128 (0xf,0xf)';
const hash = 'show port 0 rss-hash key';

const SCRIPT = [
  'show port info 0',
  'show port 0 rx_offload capabilities',
  'show port 0 tx_offload capabilities',
  'mac_addr add 0 02:00:00:00:00:05',
  'mac_addr add 0 02:00:00:00:00:05',
  'mac_addr add 0 00:00:00:00:00:00',
  'mac_addr add 0 01:00:5e:00:00:05',
  'show port 0 macs',
  'mac_addr set 0 02:00:00:00:00:09',
  'mac_addr set 0 02:00:00:00:00:05',
  'mac_addr remove 0 02:00:00:00:00:05',
  'mac_addr remove 0 02:00:00:00:00:06',
  'mac_addr remove 0 02:00:00:00:00:09',
  'show port 0 macs',
  'rx_vlan add 5 0',
  'rx_vlan add all 0',
  'vlan set filter on 0',
  'rx_vlan add 5 0',
  'rx_vlan add 4096 0',
  'rx_vlan rm 5 0',
  'rx_vlan rm 6 0',
  'show port info 0',
  'vlan set filter off 0',
  'rx_vlan rm 6 0',
  ...['off', 'on'].flatMap((state) => [`set promisc all ${state}`, `set allmulti 0 ${state}`]),
  hash,
  entries,
  'show port 0 rss reta 128 (0xffffffffffffffff)',
  'show port 0 rss reta 64 (0xff)',
  'show port 0 rss reta 256 (0xf,0xf,0,0)',
  'show port 0 rss reta 128 (0,0)',
  'show port 0 rss reta 0 (0)',
  'port config 0 rss reta (0,3),(65,2)',
  'port config 0 rss reta (2,4)',
  'port config 0 rss reta (200,0)',
  'port config 0 rss reta (0,70000)',
  'port config 0 rss reta foo',
  'port config 0 rss reta (0,1) (1,1)',
  entries,
  ...['ip', 'udp', 'default', 'none', 'all', 'foo', 'level-inner', 'sctp', '12', 'tcp'].flatMap((types) => [
    `port config all rss ${types}`,
    hash,
  ]),
  `port config 0 rss-hash-key ipv4-udp ${KEY}`,
  hash,
  `port config 0 rss-hash-key ipv4 ${KEY.replace('5a', '5z')}`,
  'port config 0 rss-hash-key ipv4 6d5a5',
  `port config 0 rss-hash-key ipv4-sctp ${KEY}`,
  hash,
  'port stop 0',
  'port config all rss ip',
  'show port 0 rss-hash',
  entries,
  'port start 0',
  'show port 0 rss-hash',
  'port stop 0',
  'port config all rxq 1',
  'port start 0',
  hash,
  entries,
  'port config 0 rss reta (0,0)',
  'port config all rss tcp',
];

/** What libraries log beside the answers. */
const LOGGED = /^((EAL|virtio_\w+\(\)|eth_virtio\w*\(\)|TELEMETRY): |Warning: NUMA)/;

/** Without the address of the start: a DPDK that configures a port anew forgets what it was set to. */
const lines = (text: string): string[] =>
  text
    .replaceAll('\r', '')
    .split('\n')
    .filter((line) => !LOGGED.test(line))
    .map((line) => line.replace(/^Port 0: [0-9A-F:]{17}$/, 'Port 0: its address'));

describe.skipIf(WHY_NO_MACHINE !== undefined)('a card that filters and spreads', { timeout: SCRIPT_LIMIT }, () => {
  test('ours and DPDK say the same of it', async () => {
    // one after the other without waiting for prompts, each of which takes the machine its time
    const say = (program: string): string => `
      mark ${program}
      stdbuf -o0 ${program} -l 0-1 -n 1 --in-memory -m 96 -a ${CARD} -- -i --total-num-mbufs=4096 --rxq=4 --txq=4 2>&1 << 'end of script'
${SCRIPT.join('\n')}
quit
end of script
      [ $? = 0 ] || give_up "status of ${program}"`;
    const { section } = await runScript(
      `bind vfio-pci 00:10.0\n${say('dpdk-testpmd')}\n${say('dpdk-ts-testpmd')}`,
      vfioMachine(
        [
          ...['-netdev', 'tap,id=t0,ifname=t0,queues=4,script=no,downscript=no'],
          ...card('0x10', 't0', `${BEHIND_IOMMU},mq=on,vectors=10,rss=on,speed=25000,duplex=full`),
        ],
        { network: 'ip tuntap add t0 mode tap multi_queue; ip link set t0 up' },
      ),
    );
    const theirs = lines(section('dpdk-testpmd'));
    expect(theirs).toContain(KEY.toUpperCase());
    expect(lines(section('dpdk-ts-testpmd'))).toEqual(theirs);
  });
});
