/** Lines and what dpdk-testpmd 22.11 answers to them, in the order in which it was asked. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { describe, expect, it } from 'vitest';

import { VirtioError } from '../../src/system/error.ts';
import { FakeLcores, FakePort, virtioUserInfo } from './fake-port.ts';
import type { FakeSession } from './fake-session.ts';
import { fakeSession } from './fake-session.ts';

type Dialogue = readonly (readonly [line: string, answer: string])[];

const bad = 'Bad arguments\n';
const notFound = 'Command not found\n';
const noPort9 = 'Invalid port 9\nThe valid ports array is [ 0 1 ]\n';

async function converse({ run }: FakeSession, dialogue: Dialogue): Promise<void> {
  const expected = dialogue.map(([line, answer]) => `testpmd> ${line}\n${answer}`);
  const got: string[] = [];
  for (const [line] of dialogue) got.push(`testpmd> ${line}\n${await run(line)}`);
  expect(got.join('')).toBe(expected.join(''));
}

describe('answers', () => {
  it('to words that are none', async () => {
    await converse(await fakeSession(), [
      ['foo', notFound],
      ['foo bar', notFound],
      ['Quit', notFound],
      ['!ls', notFound],
      ['', ''],
      ['   # comment', ''],
      ['show', bad],
      ['show foo', bad],
      ['show port', bad],
      ['show port foo 0', bad],
      ['show port info', bad],
      ['show port info foo', bad],
      ['show port info -1', bad],
      ['show port info 99999999999', bad],
      ['show port info 0 extra', bad],
      ['show port info 9', noPort9],
      ['show port stats 9', noPort9],
      ['show port xstats 9', noPort9],
      ['show port summary 9', `Number of available ports: 2\nPort MAC Address       Name         Driver         Status   Link\n${noPort9}`],
      ['show fwd', bad],
      ['show fwd stats', bad],
      ['show fwd stats 0', bad],
      ['show config', bad],
      ['show config foo', bad],
      ['clear port stats 9', noPort9],
      ['clear port foo 0', bad],
      ['clear port info all', ''],
      ['start foo', bad],
      ['start tx_first -1', bad],
      ['start tx_first abc', bad],
      ['start tx_first 4294967296', bad],
      ['port foo 0', bad],
      ['port stop', bad],
      ['quit foo', bad],
      ['help foo', bad],
      ['help registers', bad],
      ['load', bad],
      ['load /nonexistent', 'Failed to create file based cmdline context: /nonexistent\n'],
      ['show rxq info 0 0', 'Failed to retrieve information for port: 0, RX queue: 0\nerror desc: Operation not supported(-95)\n'],
      [
        'show rxq info 0 5',
        'Invalid Rx queue_id=5\nFailed to retrieve information for port: 0, RX queue: 5\nerror desc: Invalid argument(-22)\n',
      ],
      [
        'show txq info 0 5',
        'Invalid Tx queue_id=5\nFailed to retrieve information for port: 0, TX queue: 5\nerror desc: Invalid argument(-22)\n',
      ],
      [
        'show rxq info 9 0',
        'Invalid port_id=9\nFailed to retrieve information for port: 9, RX queue: 0\nerror desc: No such device(-19)\n',
      ],
      ['show device info foo', 'EAL: failed to parse device "foo"\ncannot parse identifier\n'],
      ['show port 9 macs', 'Invalid port 9\n'],
      ['show port 9 rx_offload capabilities', 'Invalid port_id=9\nError during getting device (port 9) info: No such device\n'],
      ['show port 9 tx_offload configuration', 'Invalid port_id=9\nError during getting device configuration (port 9): No such device\n'],
      ['show config rxpkts', 'Number of segments: 0\n'],
      ['show config rxoffs', 'Number of offsets: 0\n'],
      ['show config txtimes', 'Interburst gap: 0\nIntraburst gap: 0\n'],
    ]);
  });

  it('to forwarding configuration', async () => {
    await converse(await fakeSession(), [
      ['set fwd foo', bad],
      ['set fwd', bad],
      ['set fwd shared-rxq', bad],
      ['set fwd io', 'Set io packet forwarding mode\n'],
      ['set fwd io retry', 'Set io packet forwarding mode with retry\n'],
      ['set fwd rxonly retry', bad],
      ['set fwd 5tswap', 'Set 5tswap packet forwarding mode\n'],
      ['set burst 0', 'Number of packets per burst set to 0\n'],
      ['set burst 1', 'Number of packets per burst set to 1\n'],
      ['set burst 513', 'nb pkt per burst: 513 > 512 (maximum packet per burst)  ignored\n'],
      ['set burst 32', 'Number of packets per burst set to 32\n'],
      ['set burst', bad],
      ['set burst abc', bad],
      ['set burst tx delay 5', bad],
      ['set burst tx delay 5 retry 3', ''],
      [
        'set nbport 1',
        'Number of forwarding ports set to 1\n\nWarning! port-topology=paired and odd forward ports number, the last port will pair with itself.\n\n',
      ],
      ['set nbport 9', 'nb fwd ports 9 > 2 (number of configured ports) - ignored\n'],
      ['set nbcore 1', 'Number of forwarding cores set to 1\n'],
      ['set nbcore 9', 'nb fwd cores 9 > 1 (max. number of configured lcores) - ignored\n'],
      ['set coremask 0x2', ''],
      [
        'set coremask 0x1',
        'lcore 0 cannot be masked on for running packet forwarding, which is the main lcore and reserved for command line parsing only\n',
      ],
      ['set coremask 0', 'Invalid NULL mask of cores\n'],
      ['set corelist 1', ''],
      [
        'set corelist 0',
        'lcore 0 cannot be masked on for running packet forwarding, which is the main lcore and reserved for command line parsing only\n',
      ],
      ['set corelist 5', 'lcore 5 not enabled\n'],
      ['set corelist 1,1', 'duplicated core 1 at index 0 and 1\n'],
      ['set portlist 0,1', 'previous number of forwarding ports 1 - changed to number of configured ports 2\n'],
      ['set portlist 9', 'Invalid port 9\n'],
      ['set portmask 0x1', 'previous number of forwarding ports 2 - changed to number of configured ports 1\n'],
      ['set portmask 0x0', 'Invalid NULL mask of ports\n'],
      ['set portmask 0x3', 'previous number of forwarding ports 1 - changed to number of configured ports 2\n'],
      ['set portmask 0xF', ''],
      ['set verbose 1', 'Change verbose level from 0 to 1\n'],
      ['set verbose 0', 'Change verbose level from 1 to 0\n'],
      ['set verbose', bad],
      ['set verbose 70000', bad],
      ['set txpkts 64', ''],
      ['set txpkts 10', 'total packet length=10 < 42 - give up\n'],
      ['set txpkts 100000', 'length[0]=100000 > mbuf_data_size=2176 - give up\n'],
      ['set txpkts abc', 'character a is not a decimal digit\n'],
      ['set txpkts', bad],
      ['show config txpkts', 'Number of segments: 1\nSegment sizes: 64\nSplit packet: off\n'],
      ['set txpkts 64,32', ''],
      ['show config txpkts', 'Number of segments: 2\nSegment sizes: 64,32\nSplit packet: off\n'],
      ['show config cores', 'List of forwarding lcores:  1\n'],
      ['set eth-peer 0 00:11:22:33:44:55', ''],
      ['set eth-peer 0 zz:11', 'Error: Invalid ethernet address: zz:11\n'],
      ['set eth-peer 9 00:11:22:33:44:55', 'Error: Invalid port number 9\n'],
      [
        'show config fwd',
        `5tswap packet forwarding - ports=2 - cores=1 - streams=2 - NUMA support enabled, MP allocation mode: native
Logical Core 1 (socket 0) forwards packets on 2 streams:
  RX P=0/Q=0 (socket 0) -> TX P=1/Q=0 (socket 0) peer=02:00:00:00:00:01
  RX P=1/Q=0 (socket 0) -> TX P=0/Q=0 (socket 0) peer=00:11:22:33:44:55

`,
      ],
      ['set default', 'Reset to default forwarding configuration...\n'],
    ]);
  });

  it('shows retry parameters', async () => {
    await converse(await fakeSession({ ports: [new FakePort(0)] }), [
      ['set fwd mac retry', 'Set mac packet forwarding mode with retry\n'],
      ['set burst tx delay 5 retry 3', ''],
      ['set nbport 1', 'Number of forwarding ports set to 1\n'],
      [
        'show config fwd',
        `mac packet forwarding with retry - ports=1 - cores=1 - streams=1 - NUMA support enabled, MP allocation mode: native
TX retry num: 3, delay between TX retries: 5us
Logical Core 1 (socket 0) forwards packets on 1 streams:
  RX P=0/Q=0 (socket 0) -> TX P=0/Q=0 (socket 0) peer=02:00:00:00:00:00

`,
      ],
    ]);
  });

  it('to port configuration', async () => {
    await converse(await fakeSession(), [
      ['port config 0 rx_offload foo on', bad],
      ['port config 0 rx_offload vlan_strip on', "Error: Can't config offload when Port 0 is not stopped\n"],
      ['port config 0 rx_offload vlan_strip maybe', bad],
      ['port config 0 rx_offload', bad],
      ['port config 9 rx_offload vlan_strip on', 'Invalid port_id=9\nError during getting device (port 9) info: No such device\n'],
      ['port config all rxq 2', 'Please stop all ports first\n'],
      ['port stop 0', 'Stopping ports...\nChecking link statuses...\nDone\n'],
      ['port config 0 rx_offload scatter on', ''],
      ['port config 0 rx_offload vlan_strip on', ''],
      [
        'port start 0',
        `Configuring Port 0 (socket 0)
Ethdev port_id=0 requested Rx offloads 0x2001 doesn't match Rx offloads capabilities 0x0 in rte_eth_dev_configure()
Fail to configure port 0
`,
      ],
      ['port stop all', 'Stopping ports...\nChecking link statuses...\nDone\n'],
      ['port config all rxq 2', ''],
      ['port config all rxq 0', ''],
      ['port config all txq 2', ''],
      ['port config all rxd 128', ''],
      ['port config all rxd 100000', bad],
      ['port config all rxd 0', ''],
      ['port config all burst 64', ''],
      ['port config all burst 0', 'PMD does not recommend a burst size.\nUser provided value must be between 1 and 512\n'],
      ['port config all burst 1024', 'burst must be >= 1 && <= 512\n'],
      ['port config all burst 513', 'burst must be >= 1 && <= 512\n'],
      ['port config all foo 1', bad],
      ['port config mtu 0 9000', ''],
      ['port config mtu 0 10', 'MTU (10) < device min MTU (46) for port_id 0\n'],
      ['port config mtu 0 70000', bad],
      ['port config mtu 9 1500', 'Invalid port 9\n'],
      ['port stop 9', 'Invalid port 9\n'],
      ['port start 9', 'Invalid port 9\n'],
      ['port close 9', 'Invalid port 9\n'],
      ['port reset 9', 'Invalid port 9\n'],
      ['port detach 9', 'Invalid port_id=9\n'],
      ['start', 'Either rxq or txq are 0, cannot use io fwd mode\n'],
    ]);
  });

  it('to limits of a device', async () => {
    const port = new FakePort(0, { name: 'virtio_user0', info: virtioUserInfo });
    const fake = await fakeSession({ ports: [port] });
    port.failing.set('mtu', new VirtioError('virtio_user0: an MTU of 9000 needs larger receive buffers', { code: 'EINVAL' }));
    await converse(fake, [
      ['port stop 0', 'Stopping ports...\nChecking link statuses...\nDone\n'],
      ['port config all rxq 2', "Fail: input rxq (2) can't be greater than max_rx_queues (1) of port 0\n"],
      ['port config all txq 2', "Fail: input txq (2) can't be greater than max_tx_queues (1) of port 0\n"],
      ['port config all rxd 16', "Fail: input rxd (16) can't be less than min_rxds (32) of port 0\n"],
      ['port config all txd 32769', "Fail: input txd (32769) can't be greater than max_txds (32768) of port 0\n"],
      ['port config mtu 0 9699', 'MTU (9699) > device max MTU (9698) for port_id 0\n'],
      ['port config mtu 0 9000', 'virtio_user0: an MTU of 9000 needs larger receive buffers\nSet MTU failed. diag=-22\n'],
      [
        'port config all max-pkt-len 9000',
        'virtio_user0: an MTU of 9000 needs larger receive buffers\nFailed to set MTU to 8970 for port 0\n',
      ],
      ['port config all max-pkt-len 63', 'max-pkt-len can not be less than 64\n'],
      ['port config all rxq 0', ''],
      ['port config all txq 0', 'Warning: Either rx or tx queues should be non zero\n'],
    ]);
  });

  it('to what queues hold', async () => {
    const why = 'net_null: no such queue\n';
    await converse(await fakeSession(), [
      ['show port 0 rxq 0 desc 0 status', 'Desc status = AVAILABLE\n'],
      ['show port 0 rxq 0 desc 2 status', 'Desc status = DONE\n'],
      ['show port 0 txq 0 desc 0 status', 'Desc status = FULL\n'],
      ['show port 0 txq 0 desc 4 status', 'Desc status = UNAVAILABLE\n'],
      ['show port 0 rxq 0 desc used count', 'Used desc count = 17\n'],
      ['show port 0 rxq 5 desc 1 status', `Invalid input: queue id = 5, desc id = 1\n${why}`],
      ['show port 0 rxq 5 desc used count', `Invalid queueid = 5\n${why}`],
      ['show port 0 txq 0 desc used count', bad],
      ['show port 9 rxq 0 desc 0 status', 'invalid port id 9\n'],
      ['show port 9 rxq 0 desc used count', 'invalid port id 9\n'],
    ]);
  });

  it('to one queue of a port', async () => {
    const fake = await fakeSession();
    const [port] = fake.ports;
    port?.failing.set('stop tx 0', new VirtioError('net_null0: one queue cannot be stopped', { code: 'EOPNOTSUPP' }));
    port?.failing.set('start rx 0', new VirtioError('net_null0: the device is gone', { code: 'ENODEV' }));
    await converse(fake, [
      ['port 0 rxq 0 stop', ''],
      ['port 0 txq 0 stop', 'Function not supported in PMD\nnet_null0: one queue cannot be stopped\n'],
      ['port 0 rxq 0 start', 'Failed to start the queue: No such device\nnet_null0: the device is gone\n'],
      ['port 0 txq 0 start', ''],
      ['port 0 rxq 7 stop', 'Invalid RX queue 7 (must be < nb_rxq=1)\n'],
      ['port 0 txq 7 start', 'Invalid TX queue 7 (must be < nb_txq=1)\n'],
      ['port 9 rxq 0 stop', 'Invalid port 9\n'],
      ['port 0 rxq 0 pause', bad],
      ['port stop 0', 'Stopping ports...\nChecking link statuses...\nDone\n'],
      ['port 0 rxq 0 stop', 'Please start port 0 first\n'],
    ]);
    expect(port?.calls.filter((call) => /(rx|tx) 0$/.test(call))).toEqual(['stop rx 0', 'stop tx 0', 'start rx 0', 'start tx 0']);
  });

  it('to switches', async () => {
    const fake = await fakeSession();
    fake.ports[1]?.failing.set('promiscuous', new VirtioError('net_null1: always promiscuous', { code: 'EOPNOTSUPP' }));
    await converse(fake, [
      ['set promisc all on', 'Error during enabling promiscuous mode for port 1: Operation not supported\nnet_null1: always promiscuous\n'],
      ['set promisc all foo', bad],
      ['set promisc 9 on', 'Invalid port_id=9\nError during enabling promiscuous mode for port 9: No such device\n'],
      ['set promisc 9 off', 'Invalid port_id=9\nError during disabling promiscuous mode for port 9: No such device\n'],
      ['set allmulti 0 on', ''],
      ['set allmulti 9 off', 'Invalid port_id=9\nError during disabling all-multicast mode for port 9: No such device\n'],
      ['set link-up port 0', '\nSet link up fail.\nnet_null: the link is fixed\n'],
      ['set link-down port 9', 'Invalid port_id=9\n\nSet link down fail.\n'],
      ['mac_addr add 0 00:11:22:33:44:55', 'mac_addr_cmd error: (Operation not supported)\n'],
      ['mac_addr set 0 00:11:22:33:44:66', ''],
      ['mac_addr set 0 00:00:00:00:00:00', 'mac_addr_cmd error: (Invalid argument)\n'],
      ['mac_addr set 0 foo', bad],
      ['mac_addr add 9 00:11:22:33:44:55', 'Invalid port_id=9\nmac_addr_cmd error: (No such device)\n'],
      ['mac_addr set 9 00:11:22:33:44:55', 'Invalid port_id=9\nmac_addr_cmd error: (No such device)\n'],
      ['show port 0 macs', 'Number of MAC address added: 1\n  00:11:22:33:44:66\n'],
    ]);
  });

  it('to attaching, detaching, closing and resetting', async () => {
    const reset = (id: number): string => `Failed to reset port ${id}. diag=-95\nnet_null: what can be reset is fixed\n`;
    await converse(await fakeSession(), [
      ['port attach net_null9', 'Attaching a new port...\nPort 2 is attached. Now total ports is 3\nDone\n'],
      [
        'port attach net_foo0',
        `Attaching a new port...
EAL: failed to parse device "net_foo0"
EAL: Failed to attach device on primary process
testpmd: Failed to attach port net_foo0
`,
      ],
      [
        'port attach net_null9,copy=1',
        'Attaching a new port...\nEAL: Failed to attach device on primary process\nnet_null9 is attached already, as port 2\n',
      ],
      ['start', 'Not all ports were started\n'],
      ['stop', 'Packet forwarding not started\n'],
      ['port reset all', 'Can not reset port(s), please stop port(s) first.\n'],
      ['port detach 0', 'Port not stopped\n'],
      ['port close 0', 'Closing ports...\nCannot close started device (port 0)\nDone\n'],
      ['port stop all', 'Stopping ports...\nChecking link statuses...\nDone\n'],
      ['port reset all', `Resetting ports...\n${reset(0)}${reset(1)}${reset(2)}Done\n`],
      ['port close 0', 'Closing ports...\nPort 0 is closed\nDone\n'],
      ['port close 0', 'Invalid port 0\n'],
      ['port detach 1', 'Port was not closed\nRemoving a device...\nPort 1 is closed\nDevice is detached\nNow total ports is 1\nDone\n'],
      // Holes are filled from below.
      ['port attach net_null7', 'Attaching a new port...\nPort 0 is attached. Now total ports is 2\nDone\n'],
      [
        'port start all',
        'Configuring Port 0 (socket 0)\nPort 0: 02:00:00:00:01:00\nConfiguring Port 2 (socket 0)\nPort 2: 02:00:00:00:01:02\nChecking link statuses...\nDone\n',
      ],
      ['port start 0', 'Port 0 is now not stopped\nPlease stop the ports first\nDone\n'],
      ['port stop 0', 'Stopping ports...\nChecking link statuses...\nDone\n'],
      ['port stop 0', 'Stopping ports...\nDone\n'],
    ]);
  });
});

describe('words of our own', () => {
  it('name an engine that is still missing, and older spellings', async () => {
    const { run, session, lcores } = await fakeSession();
    expect(await run('set fwd noisy')).toMatch(/^Packet forwarding mode noisy is not supported yet; there are io, /);
    expect(await run('set fwd mac_retry')).toBe(
      '"set fwd mac_retry" is an older spelling of "set fwd mac retry"\nSet mac packet forwarding mode with retry\n',
    );
    expect(await run('set fwd mac_fwd')).toBe('"set fwd mac_fwd" is an older spelling of "set fwd mac"\nSet mac packet forwarding mode\n');
    await run('set fwd ./mirror.ts');
    await session.forwarding.start(0);
    expect(lcores.plan?.engine).toMatch(/^file:\/\/.*\/mirror\.ts$/);
  });

  it('name commands that are still missing', async () => {
    const { run } = await fakeSession();
    expect(await run('flow list 0')).toBe("Command not found\nflow: a command of DPDK's testpmd that is not supported yet\n");
  });

  it('refuse what would forward nothing', async () => {
    const { run, lcores } = await fakeSession();
    await run('set burst 0');
    expect(await run('start')).toBe('Packets per burst is 0: choose 1 to 512 with "set burst N"\n');
    expect(await run('set nbcore 0')).toBe('nb fwd cores 0: at least one lcore has to forward - ignored\n');
    expect(lcores.plan).toBeUndefined();
  });

  it('tell why lcores did not start', async () => {
    const lcores = new FakeLcores();
    const { run } = await fakeSession({ lcores });
    lcores.failing = new VirtioError('lcore 1: no such engine', { code: 'ENOENT' });
    expect(await run('start')).toMatch(/lcore 1: no such engine\nPacket forwarding is not ready\n$/);
    expect(await run('stop')).toBe('Packet forwarding not started\n');
  });

  it('name the file and line of a command that is none', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'commands-'));
    try {
      const file = join(directory, 'commands.txt');
      await writeFile(file, 'foo\nset burst 7 # comment\nshow port\n\nquit\nset burst 8\n');
      const { run, session } = await fakeSession();
      expect(await run(`load ${file}`)).toBe(
        `${file}:1: Command not found: foo\nNumber of packets per burst set to 7\n${file}:3: Bad arguments: show port\nRead CLI commands from ${file}\n`,
      );
      expect(session.settings.burst).toBe(7);
      await writeFile(file, `load ${file}\n`);
      expect(await run(`load ${file}`)).toContain('nested more than 16 deep');
      expect(await run(`load ${directory}`)).toMatch(/^Failed to create file based cmdline context: .*\n.*EISDIR/);
    } finally {
      await rm(directory, { recursive: true });
    }
  });

  it('help', async () => {
    const { run } = await fakeSession();
    expect(await run('help')).toContain('\n    help control                    : ');
    expect(await run('help control')).toMatch(/^\nControl forwarding:\n-{19}\n\n[^]*start tx_first \(bursts\)\n {4}/);
    expect(await run('help all')).toContain('port config all (rxq|txq|rxd|txd) (value)');
  });
});
