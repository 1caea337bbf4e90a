/** What is printed, against excerpts of dpdk-testpmd 22.11. */
import { describe, expect, it } from 'vitest';

import { forwardStatisticsText } from '../../src/cli/display/forward-statistics.ts';
import { linkSpeedText, linkText } from '../../src/cli/display/link.ts';
import { offloadCapabilitiesText, offloadConfigurationText } from '../../src/cli/display/offloads.ts';
import { deviceInfoText, portInfoText, portSummaryHeader, portSummaryLine } from '../../src/cli/display/port-info.ts';
import { extendedStatisticsText, portStatisticsText } from '../../src/cli/display/port-statistics.ts';
import { rxQueueInfoText, txQueueInfoText } from '../../src/cli/display/queue-info.ts';
import { FakePort, virtioUserInfo, zero } from './fake-port.ts';

async function started(port: FakePort): Promise<FakePort> {
  await port.configure({ rxQueues: 1, txQueues: 1, rxOffloads: 0, txOffloads: 0 });
  await port.start();
  return port;
}

describe('show port info', () => {
  it('net_null', async () => {
    const port = await started(new FakePort(0, { mac: '02:13:55:BE:E7:80' }));
    expect(portInfoText(port)).toBe(`
********************* Infos for port 0  *********************
MAC address: 02:13:55:BE:E7:80
Device name: net_null0
Driver name: net_null
Firmware-version: not available
Devargs: 
Connect to socket: 0
memory allocation on the socket: 0
Link status: up
Link speed: 10 Gbps
Link duplex: full-duplex
Autoneg status: Off
MTU: 1500
Promiscuous mode: enabled
Allmulticast mode: enabled
Maximum number of MAC addresses: 1
Maximum number of MAC addresses of hash filtering: 0
VLAN offload: 
  strip off, filter off, extend off, qinq strip off
Redirection table size: 128
Supported RSS offload flow types:
  ipv4  ipv4-frag  ipv4-tcp  ipv4-udp  ipv4-sctp  ipv4-other
  ipv6  ipv6-frag  ipv6-tcp  ipv6-udp  ipv6-sctp  ipv6-other
  l2-payload  ipv6-ex  ipv6-tcp-ex  ipv6-udp-ex  port  vxlan
  geneve  nvgre  mpls
Minimum size of RX buffer: 0
Maximum configurable length of RX packet: 4294967295
Maximum configurable size of LRO aggregated packet: 0
Current number of RX queues: 1
Max possible RX queues: 1024
Max possible number of RXDs per queue: 65535
Min possible number of RXDs per queue: 0
RXDs number alignment: 1
Current number of TX queues: 1
Max possible TX queues: 1024
Max possible number of TXDs per queue: 65535
Min possible number of TXDs per queue: 0
TXDs number alignment: 1
Max segment number per packet: 65535
Max segment number per MTU/TSO: 65535
Device capabilities: 0x0( )
Device error handling mode: none
`);
  });

  it('virtio_user, whose link is down and which strips VLAN tags', async () => {
    const devargs = 'path=/tmp/t3.sock,queues=1,queue_size=256';
    const port = new FakePort(0, { name: 'virtio_user0', devargs, mac: 'FE:AF:D0:31:51:32', info: virtioUserInfo });
    await port.configure({ rxQueues: 1, txQueues: 1, rxOffloads: 1, txOffloads: 0 });
    port.promiscuous = false;
    port.allMulticast = false;
    port.fixedLink = { up: false, speed: 0, autonegotiation: true };
    expect(portInfoText(port)).toContain(`Driver name: net_virtio_user
Firmware-version: not available
Devargs: path=/tmp/t3.sock,queues=1,queue_size=256
Connect to socket: 0
memory allocation on the socket: 0
Link status: down
Link speed: None
Link duplex: full-duplex
Autoneg status: On
MTU: 1500
Promiscuous mode: disabled
Allmulticast mode: disabled
Maximum number of MAC addresses: 64
Maximum number of MAC addresses of hash filtering: 0
VLAN offload: 
  strip on, filter off, extend off, qinq strip off
No RSS offload flow type is supported.
Minimum size of RX buffer: 64
Maximum configurable length of RX packet: 9728
`);
    port.fixedLink = { up: true, speed: 0, autonegotiation: true };
    expect(portSummaryLine(port)).toBe('0    FE:AF:D0:31:51:32 virtio_user0 net_virtio_user up       Unknown\n');
  });

  it('summary and device', async () => {
    const port = await started(new FakePort(0, { mac: '02:13:55:BE:E7:80' }));
    expect(portSummaryHeader(2) + portSummaryLine(port)).toBe(`Number of available ports: 2
Port MAC Address       Name         Driver         Status   Link
0    02:13:55:BE:E7:80 net_null0    net_null       up       10 Gbps
`);
    expect(deviceInfoText(port)).toBe(`
********************* Infos for device net_null0 *********************
Bus name: vdev
Bus information: 
Driver name: net_null
Devargs: 
Connect to socket: 0

	Port id: 0 
	MAC address: 02:13:55:BE:E7:80
	Device name: net_null0
	Device speed capability: Autonegotiate (all speeds)
`);
  });
});

describe('links', () => {
  it('in words', () => {
    const link = { up: true, speed: 10000, fullDuplex: true, autonegotiation: false };
    expect(linkText(link)).toBe('Link up at 10 Gbps FDX Fixed');
    expect(linkText({ ...link, speed: 2500, fullDuplex: false, autonegotiation: true })).toBe('Link up at 2.5 Gbps HDX Autoneg');
    expect(linkText({ ...link, up: false })).toBe('Link down');
    expect(linkSpeedText({ ...link, speed: 1 })).toBe('Invalid');
  });
});

describe('port statistics', () => {
  const counters = { ...zero, rxPackets: 1821344, txPackets: 1213056 };

  it('shows no rate the first time', () => {
    expect(portStatisticsText(0, { statistics: counters, nanoseconds: 5n }, undefined)).toBe(`
  ######################## NIC statistics for port 0  ########################
  RX-packets: 1821344    RX-missed: 0          RX-bytes:  0
  RX-errors: 0
  RX-nombuf:  0         
  TX-packets: 1213056    TX-errors: 0          TX-bytes:  0

  Throughput (since last show)
  Rx-pps:            0          Rx-bps:            0
  Tx-pps:            0          Tx-bps:            0
  ############################################################################
`);
  });

  it('shows rates since the last time, and 0 after a counter was cleared', () => {
    const last = { statistics: { ...counters, rxBytes: 100 }, nanoseconds: 0n };
    const now = { statistics: { ...zero, rxPackets: 1821344 + 4000, rxBytes: 100 + 4000 * 64 }, nanoseconds: 2_000_000_000n };
    expect(portStatisticsText(1, now, last)).toContain(`  Throughput (since last show)
  Rx-pps:         2000          Rx-bps:      1024000
  Tx-pps:            0          Tx-bps:            0
`);
  });

  it('extended, with and without zeros', () => {
    const statistics = [
      { name: 'rx_good_packets', value: 0 },
      { name: 'tx_good_packets', value: 12 },
    ];
    expect(extendedStatisticsText(0, statistics, false)).toBe(
      '###### NIC extended statistics for port 0 \nrx_good_packets: 0\ntx_good_packets: 12\n',
    );
    expect(extendedStatisticsText(10, statistics, true)).toBe('###### NIC extended statistics for port 10\ntx_good_packets: 12\n');
  });
});

describe('forward statistics', () => {
  const none = { rxDropped: 0, rxErrors: 0, rxNoMbuf: 0, txDropped: 0, badIp: 0, badTransport: 0, unsent: 0, late: 0 };

  it('of one port', () => {
    const port = { ...none, port: 0, rxPackets: 0, txPackets: 44531712, txDropped: 3219392 };
    expect(forwardStatisticsText({ streams: [], ports: [port], checksums: false })).toBe(`
  ---------------------- Forward statistics for port 0  ----------------------
  RX-packets: 0              RX-dropped: 0             RX-total: 0
  TX-packets: 44531712       TX-dropped: 3219392       TX-total: 47751104
  ----------------------------------------------------------------------------

  +++++++++++++++ Accumulated forward statistics for all ports+++++++++++++++
  RX-packets: 0              RX-dropped: 0             RX-total: 0
  TX-packets: 44531712       TX-dropped: 3219392       TX-total: 47751104
  ++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++
`);
  });

  it('of streams, and of packets for which there was no mbuf', () => {
    const peer = new Uint8Array(6);
    const stream = { lcore: 1, rxPort: 0, rxQueue: 1, txPort: 0, txQueue: 1, peer };
    const idle = { rxPackets: 0, txPackets: 0, dropped: 0, noMbuf: 0, badIp: 0, badTransport: 0, unsent: 0, late: 0 };
    const streams = [
      { stream: { ...stream, rxQueue: 0, txQueue: 0 }, counters: idle },
      { stream, counters: { ...idle, rxPackets: 8160, txPackets: 8160 } },
    ];
    const port = { ...none, port: 0, rxPackets: 8160, txPackets: 8160, rxNoMbuf: 3 };
    expect(forwardStatisticsText({ streams, ports: [port], checksums: false })).toBe(`
  ------- Forward Stats for RX Port= 0/Queue= 1 -> TX Port= 0/Queue= 1 -------
  RX-packets: 8160           TX-packets: 8160           TX-dropped: 0             

  ---------------------- Forward statistics for port 0  ----------------------
  RX-packets: 8160           RX-dropped: 0             RX-total: 8160
  RX-error: 0
  RX-nombufs: 3             
  TX-packets: 8160           TX-dropped: 0             TX-total: 8160
  ----------------------------------------------------------------------------

  +++++++++++++++ Accumulated forward statistics for all ports+++++++++++++++
  RX-packets: 8160           RX-dropped: 0             RX-total: 8160
  TX-packets: 8160           TX-dropped: 0             TX-total: 8160
  RX-nombufs: 3             
  ++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++
`);
  });

  it('of csum, with the wrong checksums', () => {
    const stream = { lcore: 1, rxPort: 1, rxQueue: 0, txPort: 0, txQueue: 0, peer: new Uint8Array(6) };
    const counters = { rxPackets: 32, txPackets: 32, dropped: 0, noMbuf: 0, badIp: 5, badTransport: 7, unsent: 0, late: 0 };
    const streams = [
      { stream, counters },
      { stream: { ...stream, rxQueue: 1 }, counters: { ...counters, rxPackets: 0, txPackets: 0 } },
    ];
    const port = { ...none, port: 1, rxPackets: 32, txPackets: 0, badIp: 5, badTransport: 7 };
    expect(forwardStatisticsText({ streams, ports: [port], checksums: true })).toContain(`
  ------- Forward Stats for RX Port= 1/Queue= 0 -> TX Port= 0/Queue= 0 -------
  RX-packets: 32             TX-packets: 32             TX-dropped: 0               RX- bad IP checksum: 5               Rx- bad L4 checksum: 7              Rx- bad outer L4 checksum: 0             
 RX- bad outer IP checksum: 0             

  ---------------------- Forward statistics for port 1  ----------------------
  RX-packets: 32             RX-dropped: 0             RX-total: 32
  Bad-ipcsum: 5              Bad-l4csum: 7             Bad-outer-l4csum: 0             
  Bad-outer-ipcsum: 0             
  TX-packets: 0              TX-dropped: 0             TX-total: 0
  ----------------------------------------------------------------------------
`);
  });
});

describe('offloads and queues', () => {
  it('capabilities and configuration', () => {
    expect(offloadCapabilitiesText('Rx', 0, virtioUserInfo.rxOffloadCapabilities)).toBe(`Rx Offloading Capabilities of port 0 :
  Per Queue :
  Per Port  : VLAN_STRIP UDP_CKSUM TCP_CKSUM TCP_LRO SCATTER

`);
    expect(offloadCapabilitiesText('Tx', 0, virtioUserInfo.txOffloadCapabilities)).toBe(`Tx Offloading Capabilities of port 0 :
  Per Queue :
  Per Port  : VLAN_INSERT UDP_CKSUM TCP_CKSUM MULTI_SEGS

`);
    expect(offloadConfigurationText('Rx', 0, 0, [0])).toBe(`Rx Offloading Configuration of port 0 :
  Port :
  Queue[ 0] :

`);
  });

  it('queues', () => {
    const shown = { port: 0, queue: 0, info: { descriptors: 256, poolName: 'mb_pool_0' }, scattered: false, drops: false, started: true };
    expect(rxQueueInfoText(shown)).toMatch(
      /^\n\*{21} Infos for port 0 , RX queue 0 {2}\*{21}\nMempool: mb_pool_0\n[^]*Number of RXDs: 256\n$/,
    );
    expect(txQueueInfoText(shown)).toMatch(
      /^\n\*{21} Infos for port 0 , TX queue 0 {2}\*{21}\n[^]*Number of TXDs: 256\nTx queue state: started\n$/,
    );
    const withMode = { ...shown, info: { ...shown.info, burstMode: 'Scalar mergeable, WebAssembly' } };
    expect(rxQueueInfoText(withMode)).toMatch(/\nNumber of RXDs: 256\nBurst mode: Scalar mergeable, WebAssembly\n$/);
    expect(txQueueInfoText(withMode)).toMatch(/\nTx queue state: started\nBurst mode: Scalar mergeable, WebAssembly\n$/);
  });
});
