import { describe, expect, it } from 'vitest';
import { parseForwardStats, parsePortStats } from '../../bench/port-stats.ts';

// As dpdk-testpmd 22.11 prints it.
const PORT_STATS = `
  ######################## NIC statistics for port 0  ########################
  RX-packets: 7          RX-missed: 1          RX-bytes:  448
  RX-errors: 2
  RX-nombuf:  3         
  TX-packets: 43610272   TX-errors: 4          TX-bytes:  2791057408

  Throughput (since last show)
  Rx-pps:            0          Rx-bps:            0
  Tx-pps:     17105655          Tx-bps:   8758095536
  ############################################################################
`;

const STOP = `Telling cores to stop...
Waiting for lcores to finish...

  ---------------------- Forward statistics for port 0  ----------------------
  RX-packets: 5              RX-dropped: 6             RX-total: 11
  TX-packets: 44531712       TX-dropped: 3219392       TX-total: 47751104
  ----------------------------------------------------------------------------

  +++++++++++++++ Accumulated forward statistics for all ports+++++++++++++++
  RX-packets: 0              RX-dropped: 0             RX-total: 0
  TX-packets: 0              TX-dropped: 0             TX-total: 0
  ++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++
`;

describe('show port stats', () => {
  it('gives the counters', () => {
    expect(parsePortStats(PORT_STATS)).toEqual({
      rxPackets: 7,
      rxMissed: 1,
      rxBytes: 448,
      rxErrors: 2,
      rxNoMbuf: 3,
      txPackets: 43610272,
      txErrors: 4,
      txBytes: 2791057408,
    });
  });

  it('tells one port from another', () => {
    const two = PORT_STATS + PORT_STATS.replace('port 0', 'port 1').replace('RX-packets: 7', 'RX-packets: 70');
    expect(parsePortStats(two, 1)?.rxPackets).toBe(70);
    expect(parsePortStats(PORT_STATS, 10)).toBeUndefined();
  });

  it('gives nothing for a block cut short', () => {
    expect(parsePortStats(PORT_STATS.slice(0, PORT_STATS.indexOf('TX-packets')))).toBeUndefined();
    expect(parsePortStats(PORT_STATS.replace('RX-nombuf:  3', ''))).toBeUndefined();
    expect(parsePortStats('Bad arguments\n')).toBeUndefined();
  });
});

describe('stop', () => {
  it("gives the port's forward statistics, not the accumulated ones", () => {
    expect(parseForwardStats(STOP)).toEqual({ rxPackets: 5, rxDropped: 6, txPackets: 44531712, txDropped: 3219392 });
    expect(parseForwardStats('Packet forwarding not started\n')).toBeUndefined();
  });
});
