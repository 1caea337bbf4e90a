/** The csum engine's commands, answered as dpdk-testpmd 22.11 answers them. */
import { describe, expect, it } from 'vitest';
import { defaultCsumSettings, type Stream } from '../../src/lcore/forwarding-plan.ts';
import { planStreams } from '../../src/lcore/streams.ts';
import { TX_OFFLOAD_TCP_CKSUM, TX_OFFLOAD_TCP_TSO, TX_OFFLOAD_UDP_CKSUM } from '../../src/port/offloads.ts';
import { FakePort, nullInfo } from './fake-port.ts';
import { fakeSession, type FakeSession } from './fake-session.ts';

const able = { ...nullInfo, txOffloadCapabilities: TX_OFFLOAD_TCP_CKSUM | TX_OFFLOAD_UDP_CKSUM | TX_OFFLOAD_TCP_TSO };

/** A port that has no offloads, and one that has. */
function session(): Promise<FakeSession> {
  return fakeSession({ ports: [new FakePort(0), new FakePort(1, { info: able })] });
}

function shown({ tunnel = 'off', udp = 'sw', tcp = 'sw' } = {}): string {
  return `Parse tunnel is ${tunnel}
IP checksum offload is sw
UDP checksum offload is ${udp}
TCP checksum offload is ${tcp}
SCTP checksum offload is sw
Outer-Ip checksum offload is sw
Outer-Udp checksum offload is sw
`;
}

const answers = async ({ run }: FakeSession, dialogue: readonly (readonly [string, string])[]): Promise<void> => {
  for (const [line, answer] of dialogue) expect(await run(line), line).toBe(answer);
};

describe('csum, tso, gro and gso at the prompt', () => {
  it('refuse ports that run or are not there', async () => {
    await answers(await session(), [
      ['csum show 0', 'Please stop port 0 first\n'],
      ['csum show 7', 'Invalid port 7\ninvalid port 7\n'],
      ['csum set tcp hw 0', 'Please stop port 0 first\n'],
      ['csum set tcp hw 9', 'Invalid port 9\ninvalid port 9\n'],
      ['csum parse-tunnel on 9', 'Invalid port 9\n'],
      ['csum mac-swap on 9', 'Invalid port 9\n'],
      ['tso set 1460 0', 'Please stop port 0 first\n'],
      ['tso set 1460 9', 'Invalid port 9\n'],
      ['tso show 9', 'Invalid port 9\n'],
      ['tso set 70000 0', 'Bad arguments\n'],
      ['tunnel_tso set 1000 9', 'Invalid port 9\n'],
      ['set port 9 gro on', 'invalid port id 9\n'],
      ['show port 9 gro', 'Invalid port id 9.\n'],
      ['set port 9 gso on', 'invalid port id 9\n'],
      ['show port 9 gso', 'invalid port id 9\n'],
      ['csum set foo hw 0', 'Bad arguments\n'],
      ['csum mac-swap on', 'Bad arguments\n'],
    ]);
  });

  it('ask for no offload that a port has not', async () => {
    const fake = await session();
    await fake.run('port stop 0');
    await answers(fake, [
      ['csum set tcp hw 0', `TCP checksum offload is not supported by port 0\n${shown()}`],
      ['csum set udp hw 0', `UDP checksum offload is not supported by port 0\n${shown()}`],
      ['csum set ip hw 0', `IP checksum offload is not supported by port 0\n${shown()}`],
      ['csum set sctp hw 0', `SCTP checksum offload is not supported by port 0\n${shown()}`],
      ['csum set outer-ip hw 0', `Outer IP checksum offload is not supported by port 0\n${shown()}`],
      ['csum set outer-udp hw 0', `Outer UDP checksum offload is not supported by port 0\n${shown()}`],
      ['csum set ip sw 0', shown()],
      ['csum parse-tunnel on 0', shown({ tunnel: 'on' })],
      ['csum parse-tunnel off 0', shown()],
      ['csum mac-swap off 0', ''],
      ['tso show 0', 'TSO for non-tunneled packets is disabled\n'],
      ['tso set 1460 0', 'Error: TSO is not supported by port 0\n'],
      ['tso show 0', 'Error: TSO is not supported by port 0\n'],
      ['tso set 0 0', 'TSO for non-tunneled packets is disabled\n'],
      ['tso show 0', 'TSO for non-tunneled packets is disabled\n'],
      ['tunnel_tso set 1000 0', "Error: port=0 don't support tunnel TSO offloads.\n"],
      ['tunnel_tso set 0 0', 'TSO for tunneled packets is disabled\n'],
    ]);
    expect(fake.session.ports.get(0)?.txOffloads).toBe(0);
  });

  it('ask a port for the offloads that it has, at its next start', async () => {
    const fake = await session();
    await fake.run('port stop 1');
    await answers(fake, [
      ['csum set tcp hw 1', shown({ tcp: 'hw' })],
      ['csum set udp hw 1', shown({ tcp: 'hw', udp: 'hw' })],
      ['csum set udp sw 1', shown({ tcp: 'hw' })],
      ['tso set 1460 1', 'TSO segment size for non-tunneled packets is 1460\n'],
      ['tso show 1', 'TSO segment size for non-tunneled packets is 1460\n'],
      ['port config 1 tx_offload udp_cksum on', ''],
      ['csum show 1', shown({ tcp: 'hw', udp: 'hw' })],
    ]);
    expect(fake.ports[1]?.configuration?.txOffloads).toBe(0);
    await fake.run('port start 1');
    expect(fake.ports[1]?.configuration?.txOffloads).toBe(TX_OFFLOAD_TCP_CKSUM | TX_OFFLOAD_UDP_CKSUM | TX_OFFLOAD_TCP_TSO);
    await fake.run('port stop 1');
    await answers(fake, [['tso set 0 1', 'TSO for non-tunneled packets is disabled\n']]);
    expect(fake.session.ports.get(1)?.txOffloads).toBe(TX_OFFLOAD_TCP_CKSUM | TX_OFFLOAD_UDP_CKSUM);
  });

  it('switch gro and gso while nothing is forwarded', async () => {
    const fake = await session();
    const gro = (packets: number, cycles: number): string =>
      `GRO type: TCP/IPv4\nMax number of packets to perform GRO: ${packets}\nFlushing cycles: ${cycles}\n`;
    const outOfRange = 'The flushing cycle be in the range of 1 to 4. Revert to the default value 1.\n';
    await answers(fake, [
      ['show port 0 gro', "Port 0 doesn't enable GRO.\n"],
      ['set port 0 gro off', 'Port 0 has disabled GRO\n'],
      ['set port 0 gro on', ''],
      ['set port 0 gro on', 'Port 0 has enabled GRO. Please disable GRO first\n'],
      ['show port 0 gro', gro(128, 1)],
      ['set gro flush 4', ''],
      ['show port 0 gro', gro(2048, 4)],
      ['set gro flush 0', outOfRange],
      ['set gro flush 10', outOfRange],
      ['set gro flush 300', 'Bad arguments\n'],
      ['show port 0 gro', gro(128, 1)],
      ['show port 0 gso', 'GSO is not enabled on Port 0\n'],
      ['set port 0 gso on', ''],
      ['show port 0 gso', "Max GSO'd packet size: 1514B\nSupported GSO types: TCP/IPv4, TCP/IPv6, UDP/IPv4\n"],
      ['set gso segsz 1', 'gso_size should be larger than 55. Please input a legal value\n'],
      ['set gso segsz 70000', 'Bad arguments\n'],
      ['set gso segsz 100', ''],
    ]);
    await fake.run('start');
    await answers(fake, [
      ['set port 0 gro off', 'Before enable/disable GRO, please stop forwarding first\n'],
      ['set port 0 gso off', 'before enabling GSO, please stop forwarding first\n'],
      ['set gro flush 1', 'Before change flush interval for GRO, please stop forwarding first.\n'],
      ['set gso segsz 1000', 'Before setting GSO segsz, please first stop forwarding\n'],
    ]);
  });

  it('give every stream the settings of its ports, those of tunnels and addresses during a run too', async () => {
    const fake = await session();
    for (const line of [
      'port stop 1',
      'csum set tcp hw 1',
      'tso set 900 1',
      'port start 1',
      'set port 0 gro on',
      'set gro flush 3',
      'set port 1 gso on',
    ])
      await fake.run(line);
    await fake.run('set fwd csum');
    await fake.run('start');
    const { plan } = fake.lcores;
    const [forth, back] = (plan?.streams ?? []) as [Stream, Stream];
    expect(plan?.csum?.(forth)).toEqual({
      ...defaultCsumSettings,
      txOffloads: TX_OFFLOAD_TCP_CKSUM | TX_OFFLOAD_TCP_TSO,
      segmentSize: 900,
      groCycles: 3,
      gsoSize: 1514,
    });
    expect(plan?.csum?.(back)).toEqual(defaultCsumSettings);
    await fake.run('csum parse-tunnel on 0');
    expect(fake.lcores.csum?.(back)).toEqual({ ...defaultCsumSettings, parseTunnels: true });
    await fake.run('csum mac-swap off 1');
    expect(fake.lcores.csum?.(forth).rewriteAddresses).toBe(false);
    expect(await fake.run('stop')).toContain('\n  Bad-ipcsum: 0              Bad-l4csum: 0             Bad-outer-l4csum: 0             \n');
  });
});

describe('icmpecho', () => {
  it('sends by the queue that it received from, without a warning of odd ports', async () => {
    const fake = await fakeSession({ ports: [new FakePort(0)] });
    await fake.run('set fwd icmpecho');
    const text = await fake.run('start');
    expect(text).not.toContain('Warning');
    expect(text).toContain('  RX P=0/Q=0 (socket 0) -> TX P=0/Q=0 (socket 0) peer=02:00:00:00:00:00\n');
    const plan = planStreams({
      ports: [0, 1],
      rxQueues: 2,
      txQueues: 2,
      lcores: [1],
      cores: 1,
      topology: 'paired',
      toItself: true,
      peer: () => new Uint8Array(6),
    });
    const places = plan.lcores.flatMap(({ streams }) =>
      streams.map(({ rxPort, rxQueue, txPort, txQueue }) => [rxPort, rxQueue, txPort, txQueue]),
    );
    expect(places).toEqual([
      [0, 0, 0, 0],
      [0, 1, 0, 1],
      [1, 0, 1, 0],
      [1, 1, 1, 1],
    ]);
  });
});
