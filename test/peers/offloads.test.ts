/**
 * Segmentation and checksums left to the other side, with DPDK there: as driver it sends large packets by its csum engine, as
 * device it shows what it was told.
 */
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { until } from '../support/deadline.ts';
import { buildFrame, type FrameFields } from '../support/frames.ts';
import { SocketDirectory } from '../support/pair.ts';
import { readPcap, writePcap } from '../support/pcap-file.ts';
import { Testpmd } from '../support/testpmd.ts';
import { WHY_NO_PEERS } from './matrix.ts';

const MSS = 1448;
const PAYLOAD = 8000;
const PACKETS = 50;
const ADDRESSES_BYTES = 12;

const payloadOf = (seed: number): Buffer =>
  Buffer.from(Array.from({ length: PAYLOAD }, (_, at) => (seed * 31 + at * 7 + (at >>> 8)) & 0xff));

const fieldsOf = (version: 4 | 6, seed: number): FrameFields => ({
  version,
  protocol: 'tcp',
  payload: payloadOf(seed),
  sequence: 1000 * seed,
  identification: 7 * seed,
});

/** What a large packet is to be after it has been cut, addresses aside: engines change them. */
function parts(version: 4 | 6, seed: number): string[] {
  const fields = fieldsOf(version, seed);
  return Array.from({ length: Math.ceil(PAYLOAD / MSS) }, (_, index) =>
    buildFrame({
      ...fields,
      payload: fields.payload.subarray(index * MSS, (index + 1) * MSS),
      sequence: (fields.sequence ?? 0) + index * MSS,
      identification: (fields.identification ?? 0) + index,
    })
      .bytes.subarray(ADDRESSES_BYTES)
      .toString('hex'),
  );
}

const EAL = ['-m', '192', '--in-memory', '--single-file-segments', '-l', '0-1'];
const APP = ['--no-flush-rx', '--total-num-mbufs=8000', '--nb-cores=1', '--burst=8'];

describe.skipIf(WHY_NO_PEERS !== undefined)('work on packets with DPDK at the other end', () => {
  test.each([4, 6] as const)("large IPv%i packets of DPDK's csum engine are cut, summed and written to a file", async (version) => {
    using files = new SocketDirectory();
    const [socket, input, output] = ['sock', 'in.pcap', 'out.pcap'].map((name) => join(files.path, name)) as [string, string, string];
    writePcap(
      input,
      Array.from({ length: PACKETS }, (_, seed) => buildFrame(fieldsOf(version, seed)).bytes),
    );
    await using ours = await Testpmd.start({
      program: 'dpdk-ts',
      eal: [...EAL, '--vdev', `net_vhost0,iface=${socket},tso=1`, '--vdev', `net_pcap1,tx_pcap=${output}`],
      app: APP,
    });
    await using theirs = await Testpmd.start({
      program: 'dpdk',
      eal: [...EAL, '--vdev', `net_pcap0,rx_pcap=${input},tx_pcap=/dev/null`, '--vdev', `virtio_user1,path=${socket},mrg_rxbuf=1`],
      app: APP,
    });
    await theirs.commands('port stop 1', 'port config 1 tx_offload tcp_cksum on', 'port config 1 tx_offload tcp_tso on');
    await theirs.commands('csum set tcp hw 1', 'csum set ip sw 1', `tso set ${MSS} 1`, 'port start 1', 'set fwd csum');
    await ours.waitForLink();
    await ours.commands('set fwd io', 'start');
    await theirs.command('start');
    const all = Array.from({ length: PACKETS }, (_, seed) => parts(version, seed)).flat();
    const transcript = (): string => `all packets written\n${theirs.transcript()}\n${ours.transcript()}`;
    await until(10_000, transcript, async () => (await ours.statistics(1)).txPackets >= all.length);
    expect(await ours.statistics(0)).toMatchObject({ rxPackets: PACKETS });
    await ours.command('stop');
    await ours.quit();
    expect(readPcap(output).map((packet) => packet.subarray(ADDRESSES_BYTES).toString('hex'))).toEqual(all);
  });

  test.each([4, 6] as const)('large IPv%i packets of our csum engine are what DPDK takes for such', async (version) => {
    using files = new SocketDirectory();
    const [socket, input] = ['sock', 'in.pcap'].map((name) => join(files.path, name)) as [string, string];
    writePcap(
      input,
      Array.from({ length: PACKETS }, (_, seed) => buildFrame(fieldsOf(version, seed)).bytes),
    );
    await using theirs = await Testpmd.start({
      program: 'dpdk',
      eal: [...EAL, '--vdev', `net_vhost0,iface=${socket},tso=1`],
      app: APP,
    });
    await using ours = await Testpmd.start({
      program: 'dpdk-ts',
      eal: [...EAL, '--vdev', `net_pcap0,rx_pcap=${input}`, '--vdev', `virtio_user1,path=${socket}`],
      app: APP,
    });
    await ours.commands('port stop 1', 'port config 1 tx_offload tcp_cksum on', 'port config 1 tx_offload tcp_tso on');
    await ours.commands('csum set tcp hw 1', 'csum set ip sw 1', `tso set ${MSS} 1`, 'port start 1', 'set fwd csum');
    await theirs.waitForLink();
    await theirs.commands('set verbose 1', 'set fwd rxonly', 'start');
    await ours.command('start');
    const transcript = (): string => `all packets received\n${theirs.transcript()}\n${ours.transcript()}`;
    await until(10_000, transcript, async () => (await theirs.statistics()).rxPackets >= PACKETS);
    const header = version === 4 ? 54 : 74;
    const shown = theirs.stdout.match(new RegExp(`length=${header + PAYLOAD} .*`, 'g')) ?? [];
    expect(shown, theirs.transcript()).toHaveLength(PACKETS);
    // a large packet, whose partial checksum DPDK's net_vhost found to be one and finished
    expect(theirs.stdout.match(/ol_flags: .*RTE_MBUF_F_RX_L4_CKSUM_GOOD .*RTE_MBUF_F_RX_LRO/g)).toHaveLength(PACKETS);
  });
});
