/** Addresses, VLAN filters and RSS at the prompt: answers as DPDK 22.11 gave them to the same lines, on a card of QEMU with `mq=on,rss=on`. */
import { describe, expect, it } from 'vitest';

import type { SessionOptions } from '../../src/cli/session.ts';
import { formatMac } from '../../src/net/mac-address.ts';
import { RX_OFFLOAD_VLAN_FILTER } from '../../src/port/offloads.ts';
import { defaultRssTable, RSS_DEFAULT_KEY, RSS_IP, rssTypeNames, rssTypesOf } from '../../src/port/rss.ts';
import { VirtioError } from '../../src/system/error.ts';
import { FakePort, virtioUserInfo } from './fake-port.ts';
import { fakeSession } from './fake-session.ts';

const KEY = Buffer.from(RSS_DEFAULT_KEY).toString('hex');
const ip = 'RSS functions:\n  ip  ipv4  ipv4-frag  ipv4-other  ipv6  ipv6-frag  ipv6-other\n  ipv6-ex\n';
const everything =
  'RSS functions:\n  ip  udp  tcp  ipv4  ipv4-frag  ipv4-tcp  ipv4-udp  ipv4-other\n  ipv6  ipv6-frag  ipv6-tcp  ipv6-udp  ipv6-other  ipv6-ex\n' +
  '  ipv6-tcp-ex  ipv6-udp-ex\n';
const withKey = (text: string, key = KEY): string => `${text}RSS key:\n${key.toUpperCase()}\n`;
const modified = (requested: string, configured: string): string =>
  `Port 0 modified RSS hash function based on hardware support,requested:${requested} configured:${configured}\n`;
const entry = (index: number, queue: number): string => `RSS RETA configuration: hash index=${index}, queue=${queue}\n`;

const info = {
  ...virtioUserInfo,
  maxRxQueues: 4,
  maxTxQueues: 4,
  maxMacAddresses: 4,
  hashKeySize: 40,
  redirectionTableSize: 128,
  rssFlowTypes: rssTypeNames(rssTypesOf(0x1ff)),
  rxOffloadCapabilities: virtioUserInfo.rxOffloadCapabilities | RX_OFFLOAD_VLAN_FILTER,
};

interface Card {
  readonly port: FakePort;
  readonly say: (...lines: readonly (readonly [line: string, answer: string])[]) => Promise<void>;
}

async function card(options: Partial<SessionOptions> = { rxQueues: 4, txQueues: 4 }): Promise<Card> {
  const port = new FakePort(0, { name: '0000:00:10.0', info, mac: '02:00:00:00:00:42' });
  port.hash = { key: RSS_DEFAULT_KEY, types: RSS_IP };
  port.table = defaultRssTable(128, 4);
  const { run } = await fakeSession({ ports: [port], options });
  return {
    port,
    say: async (...lines) => {
      for (const [line, answer] of lines) expect([line, await run(line)]).toEqual([line, answer]);
    },
  };
}

describe('addresses', () => {
  it('are added, listed and removed', async () => {
    const { port, say } = await card();
    const listed = (...macs: readonly string[]): string =>
      `Number of MAC address added: ${macs.length}\n${macs.map((mac) => `  ${mac}\n`).join('')}`;
    await say(
      ['mac_addr add 0 02:00:00:00:00:05', ''],
      ['mac_addr add 0 00:00:00:00:00:00', 'Port 0: Cannot add NULL MAC address\nmac_addr_cmd error: (Invalid argument)\n'],
      ['mac_addr add 0 01:00:5e:00:00:05', ''],
      ['show port 0 macs', listed('02:00:00:00:00:42', '02:00:00:00:00:05', '01:00:5E:00:00:05')],
      [
        'mac_addr set 0 02:00:00:00:00:05',
        'New default address for port 0 was already in the address list. Please remove it first.\nmac_addr_cmd error: (File exists)\n',
      ],
      ['mac_addr set 0 02:00:00:00:00:09', ''],
      ['mac_addr remove 0 02:00:00:00:00:09', 'Port 0: Cannot remove default MAC address\nmac_addr_cmd error: (Address already in use)\n'],
      ['mac_addr remove 0 02:00:00:00:00:05', ''],
      ['show port 0 macs', listed('02:00:00:00:00:09', '01:00:5E:00:00:05')],
      ['mac_addr add 0 02:00:00:00:00:06', ''],
      ['mac_addr add 0 02:00:00:00:00:07', ''],
      ['mac_addr add 0 02:00:00:00:00:08', 'Port 0: MAC address array full\nmac_addr_cmd error: (No space left on device)\n'],
      ['mac_addr add 0 02:00:00:00:00:07', ''],
    );
    port.failing.set('remove mac', new VirtioError('the device answered 1', { code: 'EPROTO' }));
    await say(['mac_addr remove 0 02:00:00:00:00:07', 'mac_addr_cmd error: (Protocol error)\nthe device answered 1\n']);
  });

  it('of groups are, too', async () => {
    const { port, say } = await card();
    await say(
      ['mcast_addr add 0 01:00:5e:00:00:0a', ''],
      ['mcast_addr add 0 01:00:5e:00:00:0a', 'multicast address already filtered by port\n'],
      ['mcast_addr add 0 01:00:5e:00:00:0b', ''],
      ['mcast_addr add 0 0a:00:00:00:00:0b', 'Invalid multicast addr 0A:00:00:00:00:0B\n'],
      ['show port 0 mcast_macs', 'Number of Multicast MAC address added: 2\n  01:00:5E:00:00:0A\n  01:00:5E:00:00:0B\n'],
      ['mcast_addr remove 0 01:00:5e:00:00:0a', ''],
      ['mcast_addr remove 0 01:00:5e:00:00:0a', 'multicast address not filtered by port 0\n'],
    );
    expect(port.multicastAddresses.map(formatMac)).toEqual(['01:00:5E:00:00:0B']);
    port.failing.set('multicast', new VirtioError('no', { code: 'EOPNOTSUPP' }));
    await say(['mcast_addr remove 0 01:00:5e:00:00:0b', 'rte_eth_dev_set_mc_addr_list(port=0, nb=0) failed. diag=-95\n']);
  });
});

describe('VLANs', () => {
  it('are filtered once the filter is on, one or all', async () => {
    const { port, say } = await card();
    const off = (vlan: number): string =>
      `Port 0: VLAN-filtering disabled\nrte_eth_dev_vlan_filter(port_pi=0, vlan_id=${vlan}, on=1) failed diag=-38\n`;
    await say(
      ['rx_vlan add 5 0', off(5)],
      ['rx_vlan add all 0', off(0)],
      ['vlan set filter on 0', ''],
      ['rx_vlan add 5 0', ''],
      ['rx_vlan add 4096 0', 'Invalid vlan_id 4096 (must be < 4096)\n'],
    );
    expect([...port.vlans]).toEqual([5]);
    await say(['rx_vlan add all 0', '']);
    expect(port.vlans.size).toBe(4096);
    await say(['rx_vlan rm all 0', '']);
    expect(port.vlans.size).toBe(0);
    port.failing.set('vlan filter', new VirtioError('the device answered 1', { code: 'EPROTO' }));
    const failed = 'the device answered 1\nrte_eth_dev_vlan_filter(port_pi=0, vlan_id=0, on=1) failed diag=-71\n';
    await say(['rx_vlan add all 0', failed]);
  });
});

describe('RSS', () => {
  it('types are what the device can of those asked for', async () => {
    const { port, say } = await card();
    await say(
      ['show port 0 rss-hash', ip],
      ['port config all rss udp', 'rss_hf 0x20820\n'],
      ['show port 0 rss-hash', 'RSS functions:\n  udp  ipv4-udp  ipv6-udp  ipv6-udp-ex\n'],
      ['port config all rss default', ''],
      ['show port 0 rss-hash key', withKey(everything)],
      ['port config all rss none', 'rss_hf 0\n'],
      ['show port 0 rss-hash', 'RSS disabled\n'],
      ['port config all rss all', `${modified('0x137f83fffc', '0x3afbc')}rss_hf 0x137f83fffc\n`],
      ['show port 0 rss-hash', everything],
      ['port config all rss level-inner', `${modified('0x800137f83fffc', '0x3afbc')}rss_hf 0x800137f83fffc\n`],
      ['port config all rss 12', `${modified('0x1000', '0')}rss_hf 0x1000\n`],
    );
    // what was asked for is what the next configuration begins with: nothing that the device has
    await say(['port stop 0', 'Stopping ports...\nChecking link statuses...\nDone\n'], ['port config all rxd 512', '']);
    await say(['port start 0', 'Configuring Port 0 (socket 0)\nPort 0: 02:00:00:00:00:42\nChecking link statuses...\nDone\n']);
    expect(port.configuration?.rssTypes).toBe(0x1000n);
    const none = `Multi-queue RSS mode isn't enabled.\nConfiguration of RSS hash at ethernet port 0 failed with error (95): Operation not supported.\n`;
    await say(['port config all rss ip', none]);
  });

  it('keys come with a type', async () => {
    const { port, say } = await card();
    const other = KEY.replace('6d', '0d');
    await say(
      [`port config 0 rss-hash-key ipv4-udp ${other}`, ''],
      ['show port 0 rss-hash key', withKey('RSS functions:\n  ipv4-udp\n', other)],
      ['port config 0 rss-hash-key ipv4 6d5a5', 'key length: 5 invalid - key must be a string of 80 hexa-decimal numbers\n'],
      [`port config 0 rss-hash-key ipv4 z${KEY.slice(1)}`, 'invalid key: character z at position 0 is not a valid hexa digit\n'],
      [
        `port config 0 rss-hash-key ipv4-sctp ${KEY}`,
        'Ethdev port_id=0 invalid rss_hf: 0x40, valid value: 0x3afbc\noperation failed - diag=-22\n',
      ],
    );
    port.failing.set('rss', new VirtioError('the device answered 1', { code: 'EPROTO' }));
    await say([`port config 0 rss-hash-key ipv4 ${KEY}`, 'operation failed - diag=-71\nthe device answered 1\n']);
    port.hash = undefined;
    await say(
      [`port config 0 rss-hash-key ipv4 ${KEY}`, 'operation not supported by device\n'],
      ['show port 0 rss-hash', 'operation not supported by device\n'],
    );
  });

  it('table entries are shown and set', async () => {
    const { port, say } = await card();
    const size = 'The reta size of port 0 is 128\n';
    const shown = (...queues: readonly number[]): string =>
      [...queues.map((queue, index) => entry(index, queue)), ...[0, 1, 2, 3].map((queue) => entry(64 + queue, queue))].join('');
    const failed = (code: number): string => `Failed to get RSS RETA info, return code = ${code}\n`;
    await say(
      ['show port 0 rss reta 128 (0xf,0xf)', shown(0, 1, 2, 3)],
      [
        'show port 0 rss reta 128 (0xffffffffffffffff)',
        'The bits of masks do not match the number of reta entries: 2\nInvalid string: (0xffffffffffffffff) for reta masks\n',
      ],
      ['show port 0 rss reta 128 0x1,0x1', 'Invalid string: 0x1,0x1 for reta masks\n'],
      ['show port 0 rss reta 64 (0xff)', failed(-22)],
      ['show port 0 rss reta 256 (0xf,0xf,0,0)', 'Invalid redirection table size: 256 (1-128)\n'],
      ['show port 0 rss reta 128 (0,0)', failed(-22)],
      ['show port 0 rss reta 0 (0)', 'Invalid redirection table size: 0 (1-128)\n'],
      ['port config 0 rss reta (0,3),(1,3)', size],
      [
        'port config 0 rss reta (2,4)',
        `${size}reta_conf[0]->reta[2]: 4 exceeds the maximum rxq index: 4\nBad redirection table parameter, return code = -22\n`,
      ],
      ['port config 0 rss reta (200,0)', `${size}Invalid RETA hash index=200\nInvalid RSS Redirection Table config entered\n`],
      ['port config 0 rss reta (0,70000)', `${size}Invalid RSS Redirection Table config entered\n`],
      ['port config 0 rss reta (0,1', `${size}Invalid RSS Redirection Table config entered\n`],
      ['port config 0 rss reta (x,1)', `${size}Invalid RSS Redirection Table config entered\n`],
      ['port config 0 rss reta foo', `${size}Bad redirection table parameter, return code = -22\n`],
      ['port config 0 rss reta (0,1) (1,1)', 'Bad arguments\n'],
      ['show port 0 rss reta 128 (0xf,0xf)', shown(3, 3, 2, 3)],
      ['port config 0 rss reta (0x1,0)(65,1)', size],
    );
    expect([port.table[1], port.table[65]]).toEqual([0, 1]);
    port.hash = undefined;
    await say(['show port 0 rss reta 128 (1,1)', failed(-95)]);
  });

  it('is off with one queue, or when it is left out', async () => {
    for (const options of [{}, { rxQueues: 4, txQueues: 4, rssTypes: 0n }]) {
      const { say } = await card(options);
      await say([
        'port config 0 rss reta (0,0)',
        "The reta size of port 0 is 128\nMulti-queue RSS mode isn't enabled.\nBad redirection table parameter, return code = -95\n",
      ]);
    }
  });
});
