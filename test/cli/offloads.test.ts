/** Offloads and VLAN tags at the prompt: answers as DPDK 22.11 gave them to the same lines, on a port with virtio_user's capabilities. */
import { describe, expect, it } from 'vitest';

import type { SessionOptions } from '../../src/cli/session.ts';
import { VirtioError } from '../../src/system/error.ts';
import { FakePort, nullInfo, virtioUserInfo } from './fake-port.ts';
import { fakeSession } from './fake-session.ts';
import type { FakeSession } from './fake-session.ts';

const bad = 'Bad arguments\n';
const notStopped = "Error: Can't config offload when Port 0 is not stopped\n";
const noDevice = 'Invalid port_id=9\nError during getting device (port 9) info: No such device\n';
const stopped = 'Stopping ports...\nChecking link statuses...\nDone\n';
const mac = '02:00:00:00:01:00';
const started = `Configuring Port 0 (socket 0)\nPort 0: ${mac}\nChecking link statuses...\nDone\n`;

type Conversation = readonly (readonly [line: string, answer: string])[];

async function converse({ run }: FakeSession, lines: Conversation): Promise<void> {
  for (const [line, answer] of lines) expect([line, await run(line)]).toEqual([line, answer]);
}

/** One stopped port with the capabilities of virtio_user on a vhost-user device. */
function virtioSession(options: Partial<SessionOptions> = {}, begin = true): Promise<FakeSession> {
  return fakeSession({ ports: [new FakePort(0, { name: 'virtio_user0', info: virtioUserInfo })], options, begin });
}

const rx = (port: string, queue?: string): string =>
  `Rx Offloading Configuration of port 0 :\n  Port :${port}\n${queue === undefined ? '' : `  Queue[ 0] :${queue}\n`}\n`;
const tx = (port: string, queue?: string): string => rx(port, queue).replace('Rx', 'Tx');

/** The answer to `show config rxtx`, but for what comes before the port. */
const rxtx = (offloads: readonly [rx: string, tx: string, rxQueue: string, txQueue: string]): string =>
  `    Rx offloads=0x${offloads[0]} Tx offloads=0x${offloads[1]}
    RX queue: 0
      RX desc=0 - RX free threshold=0
      RX threshold registers: pthresh=0 hthresh=0  wthresh=0
      RX Offloads=0x${offloads[2]}
    TX queue: 0
      TX desc=0 - TX free threshold=0
      TX threshold registers: pthresh=0 hthresh=0  wthresh=0
      TX offloads=0x${offloads[3]} - TX RS bit threshold=0
`;

describe('offloads of a port', () => {
  it('are set while it is stopped, take effect when it starts, and stay', async () => {
    const fake = await virtioSession();
    await converse(fake, [
      ['port config 0 rx_offload tcp_cksum on', notStopped],
      ['port stop 0', stopped],
      ['port config 0 rx_offload tcp_cksum on', ''],
      ['port config 0 rx_offload udp_cksum on', ''],
      ['show port 0 rx_offload configuration', rx('', ' UDP_CKSUM TCP_CKSUM')],
      ['port start 0', started],
      ['show port 0 rx_offload configuration', rx(' UDP_CKSUM TCP_CKSUM', ' UDP_CKSUM TCP_CKSUM')],
      ['port stop 0', stopped],
      ['port config 0 tx_offload multi_segs on', ''],
      ['port start 0', started],
      ['show port 0 rx_offload configuration', rx(' UDP_CKSUM TCP_CKSUM', ' UDP_CKSUM TCP_CKSUM')],
      ['show port 0 tx_offload configuration', tx(' MULTI_SEGS', ' MULTI_SEGS')],
      ['port stop 0', stopped],
      ['port config 0 rx_offload udp_cksum off', ''],
      ['port start 0', started],
      ['show port 0 rx_offload configuration', rx(' TCP_CKSUM', ' TCP_CKSUM')],
    ]);
    expect(fake.ports[0]?.configuration).toMatchObject({ rxOffloads: 0x8, txOffloads: 0x8000 });
    expect(await fake.run('show config rxtx')).toContain(rxtx(['8', '8000', '8', '8000']));
  });

  it('that it has not are refused when it starts', async () => {
    const fake = await virtioSession();
    const refused = (what: string): string => `Configuring Port 0 (socket 0)\nEthdev port_id=0 ${what}\nFail to configure port 0\n`;
    await converse(fake, [
      ['port stop 0', stopped],
      ['port config 0 rx_offload keep_crc on', ''],
      ['port start 0', refused("requested Rx offloads 0x10000 doesn't match Rx offloads capabilities 0x201d in rte_eth_dev_configure()")],
      ['show port 0 rx_offload configuration', rx('', ' KEEP_CRC')],
      ['port config 0 rx_offload keep_crc off', ''],
      ['port config 0 tx_offload tcp_tso on', ''],
      ['port start 0', refused("requested Tx offloads 0x20 doesn't match Tx offloads capabilities 0x800d in rte_eth_dev_configure()")],
      ['port config 0 tx_offload tcp_tso off', ''],
      ['port start 0', started],
    ]);
  });

  it('are asked for by the words that DPDK takes', async () => {
    const fake = await virtioSession();
    await fake.run('port stop 0');
    await converse(fake, [
      ['port config 0 rx_offload TCP_CKSUM on', bad],
      ['port config 0 rx_offload sctp_cksum on', bad],
      ['port config 0 rx_offload rss_hash on', ''],
      ['port config 0 tx_offload udp_tnl_tso on', bad],
      ['port config 0 tx_offload send_on_timestamp on', ''],
      ['port 0 rxq 0 rx_offload rss_hash on', bad],
      ['port 0 txq 0 tx_offload send_on_timestamp on', bad],
      ['port 0 rxq 0 rx_offload foo on', bad],
      ['port config all crc-strip on', bad],
      ['port config all scatter on', bad],
      ['port config 0 drop-en on', bad],
      ['port config 9 rx_offload vlan_strip on', noDevice],
      ['port 9 rxq 0 rx_offload vlan_strip on', noDevice],
      ['port 9 txq 1 tx_offload vlan_insert on', noDevice],
    ]);
  });

  it('of single queues there are none', async () => {
    const fake = await virtioSession();
    const refused = (direction: 'rx' | 'tx'): string =>
      `Configuring Port 0 (socket 0)
Ethdev port_id=0 ${direction}_queue_id=0, new added offloads 0x1 must be within per-queue offload capabilities 0x0 in rte_eth_${direction}_queue_setup()
Fail to configure port 0 ${direction} queues
`;
    await converse(fake, [
      ['port 0 rxq 0 rx_offload vlan_strip on', notStopped],
      ['port stop 0', stopped],
      ['port 0 rxq 0 rx_offload vlan_strip on', ''],
      ['port 0 rxq 9 rx_offload vlan_strip on', 'Error: input queue_id should be 0 ... 0\n'],
      ['port 0 txq 0 tx_offload vlan_insert on', ''],
      ['port 0 txq 1 tx_offload vlan_insert on', 'Error: input queue_id should be 0 ... 0\n'],
      ['port start 0', refused('tx')],
      ['show port 0 rx_offload configuration', rx('', ' VLAN_STRIP')],
      ['show port 0 tx_offload configuration', tx('', ' VLAN_INSERT')],
      ['port 0 txq 0 tx_offload vlan_insert off', ''],
      ['port start 0', refused('rx')],
      [
        'show rxq info 0 0',
        'Rx queue 0 of device with port_id=0 has not been setup\nFailed to retrieve information for port: 0, RX queue: 0\nerror desc: Invalid argument(-22)\n',
      ],
      ['port config 0 rx_offload vlan_strip on', ''],
      // what the port has its queues may have
      ['port start 0', started],
      ['show port 0 rx_offload configuration', rx(' VLAN_STRIP', ' VLAN_STRIP')],
    ]);
  });

  it('asked for by the command line go the same way', async () => {
    const { session, take, run } = await virtioSession({ rxOffloads: 0xe }, false);
    await session.begin();
    expect(take()).toContain(`Configuring Port 0 (socket 0)
Ethdev port_id=0 requested Rx offloads 0xe doesn't match Rx offloads capabilities 0x201d in rte_eth_dev_configure()
Fail to configure port 0
Start ports failed
`);
    expect(await run('show port 0 rx_offload configuration')).toBe(rx(''));
    const shown = await run('show config rxtx');
    expect(shown).toContain('Rx offloads=0xe Tx offloads=0x0\nInvalid Rx queue_id=0\n    RX queue: 0\n');
    expect(shown).toContain('RX Offloads=0xe\nInvalid Tx queue_id=0\n    TX queue: 0\n');
    expect(await run('port 0 rxq 0 rx_offload scatter on')).toBe('Error: input queue_id should be 0 ... -1\n');
  });

  it('lose what cannot be without saying so: fast free, and the hash of a single queue', async () => {
    const { ports } = await virtioSession({ txOffloads: 0x1_0005, rxOffloads: 0 });
    expect(ports[0]?.configuration?.txOffloads).toBe(5);
    const hash = await virtioSession({ rxOffloads: 0x8_0000 }, false);
    await hash.session.begin();
    expect(hash.take()).toContain(
      'Ethdev port_id=0 rx_queue_id=0, new added offloads 0x80000 must be within per-queue offload capabilities 0x0 in rte_eth_rx_queue_setup()\nFail to configure port 0 rx queues\n',
    );
    const shown = await hash.run('show config rxtx');
    expect(shown).toContain('Rx offloads=0x0 Tx offloads=0x0\nRx queue 0 of device with port_id=0 has not been setup\n    RX queue: 0\n');
    expect(shown).toContain('RX Offloads=0x80000\n    TX queue: 0\n');
  });

  it('that a driver switches on by itself are kept', async () => {
    const port = new FakePort(0, { info: virtioUserInfo });
    const configure = port.configure.bind(port);
    port.configure = (configuration) => configure({ ...configuration, rxOffloads: configuration.rxOffloads | 0x2000 });
    const { run } = await fakeSession({ ports: [port] });
    expect(await run('show port 0 rx_offload configuration')).toBe(rx(' SCATTER', ' SCATTER'));
    expect(await run('show config rxtx')).toContain(rxtx(['2000', '0', '2000', '0']));
  });
});

describe('the size of what LRO makes', () => {
  const lro = { rxOffloads: 0x10 };

  it.each([
    [{ ...lro, maxLroPacketSize: 0 }, undefined],
    [{ ...lro, maxLroPacketSize: 1530 }, undefined],
    [{ rxOffloads: 0, maxLroPacketSize: 9000 }, undefined],
    [{ ...lro, maxLroPacketSize: 9000 }, 'max_lro_pkt_size 9000 != 1530 is not allowed'],
    [{ ...lro, maxLroPacketSize: 1530, maxPacketLength: 3000 }, 'max_lro_pkt_size 1530 != 3000 is not allowed'],
  ])('is one frame where the device states no limit: %j', async (options, refusal) => {
    const { session, take } = await virtioSession(options, false);
    await session.begin();
    if (refusal === undefined) expect(take()).toContain(`Port 0: ${mac}\n`);
    else expect(take()).toContain(`Ethdev port_id=0 ${refusal}\nFail to configure port 0\n`);
  });

  it('is from a frame to the limit that the device states', async () => {
    const port = new FakePort(0, { info: { ...virtioUserInfo, maxLroPacketSize: 65_535 } });
    const fake = await fakeSession({ ports: [port], options: lro });
    const refused = (what: string): string =>
      `Configuring Port 0 (socket 0)\nEthdev port_id=0 max_lro_pkt_size ${what}\nFail to configure port 0\n`;
    await converse(fake, [
      ['port config all max-lro-pkt-size 1000', 'Please stop all ports first\n'],
      ['port stop all', stopped],
      ['port config all max-lro-pkt-size abc', bad],
      ['port config all max-lro-pkt-size 65536', ''],
      ['port start 0', refused('65536 > max allowed value 65535')],
      ['port config all max-lro-pkt-size 63', ''],
      ['port start 0', refused('63 < min allowed value 64')],
      ['port config all max-lro-pkt-size 32000', ''],
      ['port start 0', started],
    ]);
    expect(port.configuration).toMatchObject({ maxLroPacketSize: 32_000 });
  });
});

describe('VLAN tags of received packets', () => {
  it('are switched on a running port', async () => {
    const fake = await virtioSession();
    const refused = (call: string, bit: string): string =>
      `Ethdev port_id=0 requested new added VLAN offloads 0x${bit} must be within Rx offloads capabilities 0x201d in rte_eth_dev_set_vlan_offload()
${call}(port_pi=0, on=1) failed diag=-22
`;
    await converse(fake, [
      ['vlan set strip on 0', ''],
      ['show port 0 rx_offload configuration', rx(' VLAN_STRIP', '')],
      ['vlan set filter on 0', refused('rx_vlan_filter_set', '200')],
      ['vlan set extend on 0', refused('rx_vlan_extend_set', '400')],
      ['vlan set qinq_strip on 0', refused('rx_vlan_qinq_strip_set', '20')],
      ['vlan set strip maybe 0', bad],
      ['vlan set strip on', bad],
      ['vlan set strip on x', bad],
      ['vlan set strip on 9', 'Invalid port 9\n'],
      ['vlan set stripq on 0', 'must specify (port,queue_id)\n'],
      ['vlan set stripq on 0,0', 'rx_vlan_strip_set_on_queue(port_pi=0, queue_id=0, on=1) failed diag=-95\n'],
      ['vlan set stripq off 0,9', 'Invalid rx_queue_id=9\nrx_vlan_strip_set_on_queue(port_pi=0, queue_id=9, on=0) failed diag=-22\n'],
      ['vlan set stripq on 9,0', 'Invalid port 9\n'],
      ['vlan set inner tpid 0x8100 0', 'tx_vlan_tpid_set(port_pi=0, vlan_type=1, tpid=33024) failed diag=-95\n'],
      ['vlan set outer tpid 0x8100 9', 'Invalid port 9\n'],
    ]);
    expect(await fake.run('show port info 0')).toContain('VLAN offload: \n  strip on, filter off, extend off, qinq strip off\n');
    expect(await fake.run('show config rxtx')).toContain(rxtx(['1', '0', '0', '0']));
    await converse(fake, [
      // the next start keeps what was switched
      ['port stop 0', stopped],
      ['port config 0 rx_offload scatter on', ''],
      ['port start 0', started],
      ['show port 0 rx_offload configuration', rx(' VLAN_STRIP SCATTER', ' SCATTER')],
      ['vlan set strip off 0', ''],
      ['show port 0 rx_offload configuration', rx(' SCATTER', ' SCATTER')],
    ]);
  });

  it('stay as they are where the driver cannot', async () => {
    const fake = await virtioSession();
    fake.ports[0]?.failing.set('vlan offloads', new VirtioError('virtio_user0: not while it runs', { code: 'EOPNOTSUPP' }));
    await converse(fake, [
      ['vlan set strip on 0', 'virtio_user0: not while it runs\nrx_vlan_strip_set(port_pi=0, on=1) failed diag=-95\n'],
      ['show port 0 rx_offload configuration', rx('', '')],
    ]);
    expect(await fake.run('show config rxtx')).toContain(rxtx(['0', '0', '0', '0']));
  });

  it('are no filter', async () => {
    await converse(await virtioSession(), [
      ['rx_vlan add 5 0', 'Port 0: VLAN-filtering disabled\nrte_eth_dev_vlan_filter(port_pi=0, vlan_id=5, on=1) failed diag=-38\n'],
      ['rx_vlan rm all 0', 'Port 0: VLAN-filtering disabled\nrte_eth_dev_vlan_filter(port_pi=0, vlan_id=0, on=0) failed diag=-38\n'],
      ['rx_vlan add 5000 0', 'Invalid vlan_id 5000 (must be < 4096)\n'],
      ['rx_vlan add 5 9', 'Invalid port 9\n'],
    ]);
  });
});

describe('VLAN tags of what is sent', () => {
  it('are given to a stopped port, and to streams of the engines that write headers', async () => {
    const fake = await virtioSession();
    const { lcores, run } = fake;
    await converse(fake, [
      ['tx_vlan set 0 5', 'Please stop port 0 first\n'],
      ['tx_vlan reset 0', 'Please stop port 0 first\n'],
      ['tx_vlan set 9 5', 'Invalid port 9\n'],
      ['tx_vlan reset 9', 'Invalid port 9\n'],
      ['tx_vlan set pvid 0 5 on', ''],
      ['tx_vlan set pvid 9 5 on', 'Invalid port 9\n'],
      ['tx_vlan set pvid 0 5 maybe', bad],
      ['port stop 0', stopped],
      ['tx_vlan set 0 5000', 'Invalid vlan_id 5000 (must be < 4096)\n'],
      ['tx_vlan set 0 70000', bad],
      ['tx_vlan set 0 5 6', 'Error: qinq insert not supported by port 0\n'],
      ['tx_vlan set 0 5', ''],
      ['show port 0 tx_offload configuration', tx('', '')],
      ['port start 0', started],
      ['show port 0 tx_offload configuration', tx(' VLAN_INSERT', '')],
    ]);
    expect(await run('show config rxtx')).toContain(rxtx(['0', '1', '0', '0']));
    for (const [engine, inserts] of [
      ['txonly', true],
      ['macswap', true],
      ['io', false],
    ] as const) {
      await run(`set fwd ${engine}`);
      await run('start');
      expect(lcores.plan).toMatchObject({ insertsVlan: inserts, streams: [{ txPort: 0, vlan: 5 }] });
      await run('stop');
    }
    await converse(fake, [
      ['port stop 0', stopped],
      ['tx_vlan reset 0', ''],
      ['port start 0', started],
      ['show port 0 tx_offload configuration', tx('', '')],
    ]);
    await run('start');
    expect(lcores.plan?.streams[0]?.vlan).toBeUndefined();
  });

  it('are 0 where the offload is asked for without a tag', async () => {
    const { lcores, run } = await virtioSession({ txOffloads: 1 });
    await run('start');
    expect(lcores.plan?.streams[0]?.vlan).toBe(0);
  });

  it('need a port that can', async () => {
    const fake = await fakeSession();
    await fake.run('port stop all');
    expect(await fake.run('tx_vlan set 0 5')).toBe('Error: vlan insert is not supported by port 0\n');
  });
});

describe('beside offloads', () => {
  it('packet types, hash, log levels, splitting', async () => {
    const layers = ['L2', 'L3', 'L4', 'Tunnel', 'Inner L2', 'Inner L3', 'Inner L4'];
    const segments = (split: string): string => `Number of segments: 1\nSegment sizes: 64\nSplit packet: ${split}\n`;
    await converse(await virtioSession(), [
      ['show port 0 ptypes', layers.map((layer) => `${layer} ptypes unsupported\n`).join('')],
      ['show port 9 ptypes', 'Invalid port_id=9\n'],
      ['set port 0 ptype_mask 1', "Port 0 doesn't support any ptypes.\n"],
      ['show port 0 rss-hash', 'dev_info did not provide a valid hash key size\n'],
      ['show port 0 rss-hash key', 'dev_info did not provide a valid hash key size\n'],
      ['show port 9 rss-hash', 'Invalid port 9\n'],
      ['set log global 8', ''],
      ['set log global 99', ''],
      ['set log pmd.net.virtio 7', ''],
      ['set log foo 9', 'Unable to set log level\n'],
      ['set log foo', bad],
      ['set log foo debug', bad],
      ['set txsplit on', ''],
      ['show config txpkts', segments('on')],
      ['set txsplit rand', ''],
      ['show config txpkts', segments('rand')],
      ['set txsplit foo', 'unknown value: "foo"\n'],
      ['set txsplit off', ''],
      ['show config txpkts', segments('off')],
      ['set txsplit', bad],
    ]);
  });

  it('random splitting is for the packets of txonly', async () => {
    const { lcores, run } = await virtioSession();
    await run('set txsplit rand');
    for (const [engine, random] of [
      ['txonly', true],
      ['flowgen', false],
    ] as const) {
      await run(`set fwd ${engine}`);
      await run('start');
      expect(lcores.plan?.randomSegments).toBe(random);
      await run('stop');
    }
  });

  it('dropping is asked for while ports are stopped, and shown', async () => {
    const fake = await virtioSession();
    if (fake.ports[0] !== undefined) fake.ports[0].queueInfo = { descriptors: 256, poolName: 'mb_pool_0' };
    expect(await fake.run('show rxq info 0 0')).toContain('RX drop packets: off\n');
    await converse(fake, [
      ['port config all drop-en on', 'Please stop all ports first\n'],
      ['port stop all', stopped],
      ['port config all drop-en maybe', bad],
      ['port config all drop-en on', ''],
      ['port start 0', started],
    ]);
    expect(await fake.run('show rxq info 0 0')).toContain('RX drop packets: on\n');
  });

  it('a port that nobody configured has the queues that its driver makes', async () => {
    const ports = [new FakePort(0), new FakePort(1, { info: { ...nullInfo, driverName: 'net_ring', maxRxQueues: 2, maxTxQueues: 2 } })];
    const { run } = await fakeSession({ ports, options: { startPorts: false } });
    expect(await run('show port info 0')).toContain('Current number of RX queues: 1\n');
    expect(await run('show port 1 tx_offload configuration')).toContain('  Queue[ 0] :\n  Queue[ 1] :\n');
    expect(await run('show rxq info 0 0')).toContain('Rx queue 0 of device with port_id=0 has not been setup\n');
  });
});
