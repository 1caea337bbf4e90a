import { describe, expect, it } from 'vitest';

import { announceOptions, defaultOptions } from '../../src/cli/session.ts';
import { sessionOptions } from '../../src/cli/session/from-arguments.ts';
import { DEFAULT_TESTPMD_OPTIONS } from '../../src/cli/arguments/testpmd-settings.ts';
import { VirtioError } from '../../src/system/error.ts';
import { FakeLcores, FakePort, virtioUserInfo, zero } from './fake-port.ts';
import { fakeSession } from './fake-session.ts';

const warning = '\nWarning! port-topology=paired and odd forward ports number, the last port will pair with itself.\n\n';

const rxtxPort = (port: number): string => `  port ${port}: RX queue number: 1 Tx queue number: 1
    Rx offloads=0x0 Tx offloads=0x0
    RX queue: 0
      RX desc=0 - RX free threshold=0
      RX threshold registers: pthresh=0 hthresh=0  wthresh=0
      RX Offloads=0x0
    TX queue: 0
      TX desc=0 - TX free threshold=0
      TX threshold registers: pthresh=0 hthresh=0  wthresh=0
      TX offloads=0x0 - TX RS bit threshold=0
`;

const total = (rx: number, tx: number): string => `
  +++++++++++++++ Accumulated forward statistics for all ports+++++++++++++++
  RX-packets: ${String(rx).padEnd(14)} RX-dropped: 0             RX-total: ${rx}
  TX-packets: ${String(tx).padEnd(14)} TX-dropped: 0             TX-total: ${tx}
  ++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++
`;

const portBlock = (port: number, rx: number, tx: number): string => `
  ---------------------- Forward statistics for port ${port}  ----------------------
  RX-packets: ${String(rx).padEnd(14)} RX-dropped: 0             RX-total: ${rx}
  TX-packets: ${String(tx).padEnd(14)} TX-dropped: 0             TX-total: ${tx}
  ----------------------------------------------------------------------------
`;

describe('beginning', () => {
  it('starts two ports', async () => {
    const { session, take, ports } = await fakeSession({ begin: false });
    await session.begin();
    expect(take()).toBe(`Configuring Port 0 (socket 0)
Port 0: 02:00:00:00:01:00
Configuring Port 1 (socket 0)
Port 1: 02:00:00:00:01:01
Checking link statuses...
Done
`);
    expect(ports[0]?.calls).toEqual(['configure', 'txq 0 0', 'rxq 0 0', 'start', 'promiscuous']);
  });

  it('warns of an odd port, and goes on without promiscuous mode', async () => {
    const port = new FakePort(0, { mac: 'FE:AF:D0:31:51:32', info: virtioUserInfo });
    port.failing.set('promiscuous', new VirtioError('no control queue', { code: 'EOPNOTSUPP' }));
    const { session, take } = await fakeSession({ begin: false, ports: [port], options: { forwardMode: 'rxonly' } });
    await session.begin();
    expect(take()).toBe(`Set rxonly packet forwarding mode
${warning}Configuring Port 0 (socket 0)
Port 0: FE:AF:D0:31:51:32
Checking link statuses...
Done
Error during enabling promiscuous mode for port 0: Operation not supported - ignore
`);
  });

  it('without link interrupts waits for links and prints them', async () => {
    const { session, take, ports } = await fakeSession({ begin: false, options: { linkInterrupt: false } });
    const late = ports[1];
    if (late !== undefined) late.fixedLink = { up: false };
    const begun = session.begin();
    setTimeout(() => {
      if (late !== undefined) late.fixedLink = { up: true };
    }, 50);
    await begun;
    expect(take()).toContain(`Checking link statuses...
Port 0 Link up at 10 Gbps FDX Fixed
Port 1 Link up at 10 Gbps FDX Fixed
Done
`);
  });

  it('with no ports', async () => {
    const { session, take, run } = await fakeSession({ begin: false, ports: [] });
    await session.begin();
    expect(take()).toBe('Done\n');
    expect(await run('show config fwd')).toBe(
      'io packet forwarding - ports=0 - cores=0 - streams=0 - NUMA support enabled, MP allocation mode: native\n\n',
    );
    expect(await run('show port info 0')).toBe('Invalid port 0\nThe valid ports array is [ ]\n');
  });

  it('leaves ports stopped when asked to', async () => {
    const { run } = await fakeSession({ options: { startPorts: false } });
    expect(await run('start')).toBe('Not all ports were started\n');
  });

  it('takes ports and lcores from the options', async () => {
    const ports = [0, 1, 2].map((id) => new FakePort(id));
    const options = { forwardingPorts: [2, 0, 7], forwardingLcores: [3, 1], peers: new Map([[0, Uint8Array.of(0, 17, 34, 51, 68, 85)]]) };
    const { session, take, run } = await fakeSession({ begin: false, ports, lcores: new FakeLcores([1, 2, 3]), options });
    await session.begin();
    expect(take()).toContain(`previous number of forwarding cores 1 - changed to number of configured cores 2
previous number of forwarding ports 3 - changed to number of configured ports 2
`);
    expect(await run('show config fwd'))
      .toBe(`io packet forwarding - ports=2 - cores=2 - streams=2 - NUMA support enabled, MP allocation mode: native
Logical Core 3 (socket 0) forwards packets on 1 streams:
  RX P=2/Q=0 (socket 0) -> TX P=0/Q=0 (socket 0) peer=00:11:22:33:44:55
Logical Core 1 (socket 0) forwards packets on 1 streams:
  RX P=0/Q=0 (socket 0) -> TX P=2/Q=0 (socket 0) peer=02:00:00:00:00:02

`);
  });

  it.each([
    [{ cores: 2 }, 'nb-cores should be > 0 and <= 1'],
    [{ cores: 0 }, 'nb-cores should be > 0 and <= 1'],
    [{ ports: 3 }, 'Invalid port 3'],
    [{ rxQueues: 2000 }, 'rxq 2000 invalid - must be >= 0 && <= 1024'],
    [{ forwardingLcores: [0] }, 'coremask is not valid'],
    [{ forwardMode: 'foo' }, 'Invalid foo packet forwarding mode'],
  ])('refuses %j', async (options, message) => {
    const { session } = await fakeSession({ begin: false, options });
    await expect(session.begin()).rejects.toThrow(message);
  });

  it('fails where nobody can see to a port that does not start', async () => {
    const failing = (): FakePort => {
      const port = new FakePort(0);
      port.failing.set('configure', new VirtioError('/nonexistent/x.sock: No such file or directory', { code: 'ENOENT' }));
      return port;
    };
    const batch = await fakeSession({ begin: false, ports: [failing()], options: { interactive: false } });
    await expect(batch.session.begin()).rejects.toThrow('Start ports failed');
    const { session, take } = await fakeSession({ begin: false, ports: [failing()] });
    await session.begin();
    expect(take()).toBe(`${warning}Configuring Port 0 (socket 0)
/nonexistent/x.sock: No such file or directory
Fail to configure port 0
Start ports failed
`);
  });

  it('says what was chosen', () => {
    let text = '';
    const print = (part: string): unknown => (text += part);
    announceOptions({ ...defaultOptions, interactive: true, autoStart: true, commandFile: '/tmp/cmds.txt' }, print);
    announceOptions({ ...defaultOptions, txFirst: true }, print);
    expect(text).toBe(`Interactive-mode selected
CLI commands to be read from /tmp/cmds.txt
Auto-start selected
Ports to start sending a burst of packets first
Warning: lsc_interrupt needs to be off when using tx_first. Disabling.
`);
  });

  it('takes the options of the command line', () => {
    const own = Uint8Array.of(2, 0, 0, 0, 0, 9);
    const options = sessionOptions({ ...DEFAULT_TESTPMD_OPTIONS, rxq: 4, ethPeers: [{ port: 1, mac: own }] }, [
      new Uint8Array(6),
      new Uint8Array(6),
    ]);
    expect(options).toMatchObject({ rxQueues: 4, burst: 32, forwardMode: undefined, startPorts: true });
    expect([...options.peers]).toEqual([
      [0, new Uint8Array(6)],
      [1, own],
    ]);
  });
});

describe('forwarding', () => {
  it('starts, shows what it did, and stops', async () => {
    const { run, ports, lcores } = await fakeSession();
    expect(await run('start')).toBe(`io packet forwarding - ports=2 - cores=1 - streams=2 - NUMA support enabled, MP allocation mode: native
Logical Core 1 (socket 0) forwards packets on 2 streams:
  RX P=0/Q=0 (socket 0) -> TX P=1/Q=0 (socket 0) peer=02:00:00:00:00:01
  RX P=1/Q=0 (socket 0) -> TX P=0/Q=0 (socket 0) peer=02:00:00:00:00:00

  io packet forwarding packets/burst=32
  nb forwarding cores=1 - nb forwarding ports=2
${rxtxPort(0)}${rxtxPort(1)}`);
    expect(lcores.plan).toMatchObject({ engine: 'io', burst: 32, retry: undefined, txSegments: [64], txFirst: 0, flushRx: true });
    expect(await run('start')).toBe('Packet forwarding already started\n');
    expect(await run('set portlist 0')).toBe('Please stop forwarding first\n');
    expect(await run('set nbcore 1')).toBe('Please stop forwarding first\n');
    expect(await run('port stop 0')).toBe('Stopping ports...\nPlease remove port 0 from forwarding configuration.\nDone\n');
    expect(await run('port start 0')).toBe('Port 0 is now not stopped\nPlease stop the ports first\nDone\n');
    expect(await run('port close all')).toBe(`Closing ports...
Please remove port 0 from forwarding configuration.
Please remove port 1 from forwarding configuration.
Done
`);
    lcores.current = [
      { rxPackets: 100, txPackets: 100, dropped: 0, noMbuf: 0, badIp: 0, badTransport: 0, unsent: 0, late: 0 },
      { rxPackets: 50, txPackets: 50, dropped: 0, noMbuf: 0, badIp: 0, badTransport: 0, unsent: 0, late: 0 },
    ];
    for (const [index, port] of ports.entries()) port.counters = { ...zero, rxPackets: 7777, txPackets: index === 0 ? 50 : 100 };
    expect(await run('show fwd stats all')).toBe(portBlock(0, 100, 50) + portBlock(1, 50, 100) + total(150, 150));
    const stopped = `Telling cores to stop...
Waiting for lcores to finish...
${portBlock(0, 100, 50)}${portBlock(1, 50, 100)}${total(150, 150)}
Done.
`;
    expect(await run('stop')).toBe(stopped);
    expect(await run('stop')).toBe('Packet forwarding not started\n');
    expect(await run('show fwd stats all')).toBe(portBlock(0, 100, 50) + portBlock(1, 50, 100) + total(150, 150));
    expect(await run('clear fwd stats all')).toBe('');
    expect(await run('show fwd stats all')).toBe(portBlock(0, 0, 0) + portBlock(1, 0, 0) + total(0, 0));
  });

  it('counts drops by the port they were meant for, and what the device missed', async () => {
    const { run, ports, lcores } = await fakeSession();
    const [first] = ports;
    if (first === undefined) throw new Error('no port');
    first.counters = { ...zero, rxMissed: 5, txErrors: 2, rxNoMbuf: 1 };
    await run('start');
    lcores.current = [
      { rxPackets: 100, txPackets: 90, dropped: 10, noMbuf: 0, badIp: 0, badTransport: 0, unsent: 0, late: 0 },
      { rxPackets: 40, txPackets: 37, dropped: 3, noMbuf: 0, badIp: 0, badTransport: 0, unsent: 0, late: 0 },
    ];
    first.counters = { ...zero, rxMissed: 9, txErrors: 3, txPackets: 37, rxNoMbuf: 1 };
    expect(await run('stop')).toContain(`
  ---------------------- Forward statistics for port 0  ----------------------
  RX-packets: 100            RX-dropped: 4             RX-total: 104
  TX-packets: 37             TX-dropped: 4             TX-total: 41
`);
  });

  it('counts from what "clear port stats" left', async () => {
    const { run, ports, lcores } = await fakeSession({ ports: [new FakePort(0)] });
    await run('start');
    const [port] = ports;
    if (port === undefined) throw new Error('no port');
    lcores.current = [{ rxPackets: 30, txPackets: 30, dropped: 0, noMbuf: 0, badIp: 0, badTransport: 0, unsent: 0, late: 0 }];
    port.counters = { ...zero, rxPackets: 30, txPackets: 30 };
    expect(await run('clear port stats all')).toBe('\n  NIC statistics for port 0 cleared\n');
    lcores.current = [{ rxPackets: 32, txPackets: 31, dropped: 0, noMbuf: 0, badIp: 0, badTransport: 0, unsent: 0, late: 0 }];
    port.counters = { ...zero, rxPackets: 2, txPackets: 1 };
    expect(await run('show fwd stats all')).toBe(portBlock(0, 2, 1) + total(2, 1));
  });

  it('shows every stream of several queues', async () => {
    const { run, lcores } = await fakeSession({ ports: [new FakePort(0)], options: { rxQueues: 2, txQueues: 2 } });
    await run('start tx_first 4');
    expect(lcores.plan?.txFirst).toBe(4);
    lcores.current = [
      { rxPackets: 8128, txPackets: 8128, dropped: 0, noMbuf: 0, badIp: 0, badTransport: 0, unsent: 0, late: 0 },
      { rxPackets: 0, txPackets: 0, dropped: 0, noMbuf: 0, badIp: 0, badTransport: 0, unsent: 0, late: 0 },
    ];
    expect(await run('show fwd stats all')).toMatch(
      /^\n {2}------- Forward Stats for RX Port= 0\/Queue= 0 -> TX Port= 0\/Queue= 0 -------\n[^Q]*\n\n {2}-{22} Forward statistics for port 0/,
    );
  });

  it('shows what txonly makes, and keeps the engine of the last start until the next', async () => {
    const { run } = await fakeSession({ ports: [new FakePort(0)] });
    await run('set fwd txonly');
    expect(await run('show config rxtx')).toContain(
      '  txonly packet forwarding packets/burst=32\n  packet len=64 - nb packet segments=1\n  nb forwarding cores=1',
    );
    expect(await run('show config fwd')).toMatch(/^io packet forwarding/);
    expect(await run('start')).toMatch(/^txonly packet forwarding/);
  });

  it('passes retries and segments on', async () => {
    const { run, lcores } = await fakeSession();
    for (const line of ['set fwd mac retry', 'set burst tx delay 5 retry 3', 'set txpkts 64,64', 'set verbose 3', 'set flush_rx off'])
      await run(line);
    expect(await run('start')).toContain('  mac packet forwarding with retry packets/burst=32\n');
    expect(lcores.plan).toMatchObject({ engine: 'mac', retry: { count: 3, delay: 5 }, txSegments: [64, 64], verbose: 3, flushRx: false });
  });
});

describe('events', () => {
  it('are printed, those that are wanted', async () => {
    const { ports, take } = await fakeSession({ options: { printEvents: new Set(['intr_lsc']) } });
    ports[0]?.emit({ type: 'queue_state', queue: 0, rx: true, enabled: true });
    ports[0]?.emit({ type: 'intr_lsc' });
    expect(take()).toBe('\nPort 0: link state change event\n');
    const all = await fakeSession();
    all.ports[1]?.emit({ type: 'queue_state', queue: 0, rx: true, enabled: true });
    expect(all.take()).toBe('\nPort 1: queue state event\n');
  });

  it('a device that goes away is removed, and the others go on', async () => {
    const { ports, run, session, take, lcores } = await fakeSession();
    await run('start');
    ports[1]?.emit({ type: 'intr_rmv' });
    await new Promise((resolve) => setTimeout(resolve, 150));
    await session.exclusive(() => undefined);
    expect(take()).toMatch(
      /Port 1: device removal event\n[^]*Port 1 is closed\n[^]*Now total ports is 1\n[^]*ports=1 - cores=1 - streams=1/,
    );
    expect(lcores.running).toBe(true);
    expect(session.ports.ids()).toEqual([0]);
  });
});

describe('the end', () => {
  it('closes what is open, once', async () => {
    const { session, take, ports, run } = await fakeSession();
    await run('start');
    take();
    await Promise.all([session.end(), session.end()]);
    expect(take()).toBe(`Telling cores to stop...
Waiting for lcores to finish...
${portBlock(0, 0, 0)}${portBlock(1, 0, 0)}${total(0, 0)}
Done.

Primary: Sending 'stop_req' request to secondary...

Stopping port 0...
Stopping ports...
Done

Stopping port 1...
Stopping ports...
Done

Shutting down port 0...
Closing ports...
Port 0 is closed
Done

Shutting down port 1...
Closing ports...
Port 1 is closed
Done

Bye...
`);
    expect(ports.map(({ state }) => state)).toEqual(['closed', 'closed']);
  });

  it('goes on when a port does not stop or close', async () => {
    const { session, take, ports } = await fakeSession();
    ports[0]?.failing.set('stop', new VirtioError('peer is gone', { code: 'EPIPE' }));
    ports[0]?.failing.set('close', new VirtioError('peer is gone', { code: 'EPIPE' }));
    await session.end();
    expect(take()).toContain('EAL: rte_eth_dev_stop failed for port 0: peer is gone\n');
    expect(ports[1]?.state).toBe('closed');
  });
});

it('keeps a port that packets go through open, whatever the port list says by now', async () => {
  const { run } = await fakeSession();
  await run('start');
  await run('set nbport 1');
  expect(await run('port close 1')).toBe('Closing ports...\nPlease remove port 1 from forwarding configuration.\nDone\n');
  await run('set nbport 0');
  expect(await run('port stop 0')).toBe('Stopping ports...\nPlease remove port 0 from forwarding configuration.\nDone\n');
});

describe('the rate of generators', () => {
  it('is set for the run and for the next ones, and shown with what was given up', async () => {
    const { run, lcores } = await fakeSession({ options: { forwardMode: 'txonly', txRate: 5 } });
    await run('start');
    expect(lcores.plan?.txRate).toBe(5);
    expect(await run('set txrate 1000000')).toBe('Packets per second on each stream set to 1000000\n');
    expect(lcores.rate).toBe(1_000_000);
    lcores.current = [
      { rxPackets: 0, txPackets: 90, dropped: 0, noMbuf: 0, badIp: 0, badTransport: 0, unsent: 7, late: 3 },
      { rxPackets: 0, txPackets: 100, dropped: 0, noMbuf: 0, badIp: 0, badTransport: 0, unsent: 0, late: 0 },
    ];
    expect(await run('show fwd rate')).toBe(`TX rate: 1000000 packets/s on each stream
  TX Port= 1/Queue= 0: TX-packets: 90             TX-unsent: 7              TX-late: 3
  TX Port= 0/Queue= 0: TX-packets: 100            TX-unsent: 0              TX-late: 0
`);
    expect(await run('show config fwd')).toContain('\nTX rate: 1000000 packets/s on each stream\n');
    await run('stop');
    await run('start');
    expect(lcores.plan?.txRate).toBe(1_000_000);
    expect(await run('set txrate 0')).toBe('Packets are sent as fast as possible\n');
    expect(await run('show config fwd')).not.toContain('TX rate');
    expect(await run('set txrate 4294967296')).toBe('Bad arguments\n');
  });
});

describe('latency', () => {
  it('is shown for each stream of the engine that records it', async () => {
    const { run, lcores } = await fakeSession();
    const bad = 'No latency recorded: start with "set fwd latency"\n';
    expect(await run('show fwd latency')).toBe(bad);
    await run('start');
    lcores.recorded = [undefined, undefined];
    expect(await run('show fwd latency')).toBe(bad);
    lcores.current = [
      { rxPackets: 90, txPackets: 100, dropped: 0, noMbuf: 0, badIp: 0, badTransport: 0, unsent: 7, late: 3 },
      { rxPackets: 0, txPackets: 0, dropped: 0, noMbuf: 0, badIp: 0, badTransport: 0, unsent: 0, late: 0 },
    ];
    const percentiles = [50, 90, 99, 99.9, 99.99, 99.999].map((percent, index) => ({ percent, nanoseconds: 1000 + 500 * index }));
    lcores.recorded = [{ packets: 88, others: 2, percentiles, longest: 12_345_678 }, undefined];
    expect(await run('show fwd latency')).toBe(`Latency on RX Port=0/Queue=0, TX Port=1/Queue=0
  TX-packets: 100 RX-packets: 88 RX-others: 2 TX-unsent: 7 TX-late: 3
  microseconds: p50: 1.000 p90: 1.500 p99: 2.000 p99.9: 2.500 p99.99: 3.000 p99.999: 3.500 max: 12345.678
`);
  });
});
