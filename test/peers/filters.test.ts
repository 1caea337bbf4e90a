/**
 * Addresses, group addresses, VLAN filters and RSS at the prompt of both testpmds, on ports whose other end filters nothing: what they
 * say is the same, line by line. Devices that do filter are in test/qtest/control-queue.test.ts.
 */
import { afterAll, beforeAll, describe, test } from 'vitest';
import { SocketDirectory } from '../support/pair.ts';
import { lcoresArgument } from '../support/program.ts';
import { Testpmd } from '../support/testpmd.ts';
import { commandLine, expectSame } from '../support/transcript.ts';
import { WHY_NO_PEERS } from './matrix.ts';

const KEY = '6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa';

const addresses = [
  'mac_addr add 9 02:00:00:00:00:05',
  'mac_addr remove 9 02:00:00:00:00:05',
  'mac_addr set 9 02:00:00:00:00:05',
  'mac_addr add 0 02:00:00:00:00:0g',
  'mac_addr drop 0 02:00:00:00:00:05',
  'mac_addr set 0 00:00:00:00:00:00',
  'mac_addr set 0 01:00:5e:00:00:05',
  'mcast_addr add 0 01:00:5e:00:00:05',
  'mcast_addr add 0 0a:00:00:00:00:05',
  'mcast_addr remove 0 01:00:5e:00:00:06',
  'mcast_addr add 9 01:00:5e:00:00:05',
  'mcast_addr remove 9 01:00:5e:00:00:05',
  'mcast_addr flush 0',
  'show port 0 macs',
  'show port 0 mcast_macs',
  'show port 9 macs',
  'show port 9 mcast_macs',
];
const vlans = [
  'rx_vlan add 5 0',
  'rx_vlan rm 5 0',
  'rx_vlan add all 0',
  'rx_vlan rm all 0',
  'rx_vlan add 4096 0',
  'rx_vlan add 5 9',
  'rx_vlan add all 9',
  'vlan set filter on 0',
  'rx_vlan add 5 0',
];
const hash = [
  'show port 0 rss-hash',
  'show port 0 rss-hash key',
  'show port 0 rss-hash keys',
  'show port 9 rss-hash',
  `port config 0 rss-hash-key ipv4 ${KEY}`,
  'port config 0 rss-hash-key ipv4 6d5a',
  `port config 0 rss-hash-key ip ${KEY}`,
  `port config 0 rss-hash-key l3-pre96 ${KEY}`,
  `port config 0 rss-hash-key vxlan ${KEY}`,
  `port config 0 rss-hash-key l3-src-only ${KEY}`,
  `port config 9 rss-hash-key ipv4 ${KEY}`,
  'port config all rss-hash-key ipv4 00',
  'port config 9 rss reta (0,0)',
  'show port 9 rss reta 128 (1,1)',
  'port config all rss foo',
  'port config all rss ether',
  'port config all rss 0',
  'port config all rss 64',
  'port config all rss -1',
];
/** What the types are, whether a device hashes them or not. */
const types = [
  'all',
  'none',
  'default',
  'ip',
  'udp',
  'tcp',
  'sctp',
  'tunnel',
  'vlan',
  'ipv4',
  'ipv6-udp-ex',
  'gtpu',
  'eth',
  'mpls',
  'l2tpv2',
];
const requested = [...types, 'l3-pre32', 'l3-src-only', 'level-inner', 'level-outer', 'level-default', '1', '63', '3x'];

describe.skipIf(WHY_NO_PEERS !== undefined)('filters and RSS at the prompt, ours and DPDK', () => {
  test('on a port that has none', async () => {
    const more = ['mac_addr add 0 02:00:00:00:00:05', 'mac_addr remove 0 02:00:00:00:00:06', 'mac_addr set 0 02:00:00:00:00:05'];
    await expectSame(
      ['net_null0'],
      [],
      [...addresses, ...more, 'show port 0 macs', ...vlans, ...hash.slice(0, -5), 'port config all rss foo'],
    );
  });

  describe('on a driver whose back-end has none', () => {
    const files = new SocketDirectory();
    let device: Testpmd;
    beforeAll(async () => {
      const options = commandLine('dpdk', [`net_vhost0,iface=${files.socket},queues=2`], ['--rxq=2', '--txq=2']);
      device = await Testpmd.start({ ...options, eal: [...lcoresArgument(1), ...options.eal.slice(2)] });
    });
    afterAll(async () => {
      await device[Symbol.asyncDispose]();
      files[Symbol.dispose]();
    });

    test('one queue pair', async () => {
      await expectSame(
        [`virtio_user0,path=${files.socket}`],
        [],
        [
          ...addresses,
          'mac_addr add 0 00:00:00:00:00:00',
          'mac_addr remove 0 02:00:00:00:00:06',
          ...vlans,
          ...hash,
          'set promisc 0 off',
          'set allmulti 0 off',
          'show port info 0',
        ],
      );
    });

    test('two, with a control queue', async () => {
      const table = [
        'show port 0 rss reta 128 (1,1)',
        'show port 0 rss reta 0 (1)',
        'port config 0 rss reta (0,0)',
        'port config 0 rss reta foo',
      ];
      await expectSame(
        [`virtio_user0,path=${files.socket},queues=2,cq=1`],
        ['--rxq=2', '--txq=2'],
        [
          ...addresses,
          'mac_addr add 0 00:00:00:00:00:00',
          ...vlans,
          ...hash,
          ...table,
          ...requested.map((value) => `port config all rss ${value}`),
          ...['on', 'off'].flatMap((state) => [`set promisc all ${state}`, `set allmulti 0 ${state}`]),
          'show port info 0',
          'port stop 0',
          'port config all rss udp',
          'port start 0',
        ],
      );
    });

    test.each(['--rss-ip', '--rss-udp', '--disable-rss'])('%s', async (option) => {
      await expectSame(
        [`virtio_user0,path=${files.socket},queues=2`],
        [option, '--rxq=2', '--txq=2'],
        ['port config all rss level-inner', 'show config rxtx'],
      );
    });
  });
});
