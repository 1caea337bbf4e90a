/**
 * Both testpmds through the same command lines and the same lines at the prompt: what they say of offloads and VLAN tags is the
 * same, line by line.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Pair, SocketDirectory } from '../support/pair.ts';
import { lcoresArgument } from '../support/program.ts';
import { Testpmd } from '../support/testpmd.ts';
import { commandLine, expectSame } from '../support/transcript.ts';
import { MEETINGS, WHY_NO_PEERS } from './matrix.ts';

const both = (port: number): readonly string[] => ['rx', 'tx'].map((direction) => `show port ${port} ${direction}_offload configuration`);
const everything = ['show config rxtx', ...both(0)];

/** Lines that are answered alike whatever a port can do. */
const wrongLines = [
  'port config 0 rx_offload TCP_CKSUM on',
  'port config 0 rx_offload sctp_cksum on',
  'port config 0 rx_offload',
  'port config 0 rx_offload vlan_strip maybe',
  'port config 0 tx_offload udp_tnl_tso on',
  'port 0 rxq 0 rx_offload rss_hash on',
  'port 0 rxq 0 rx_offload foo on',
  'port 0 txq 0 tx_offload send_on_timestamp on',
  'port 9 rxq 0 rx_offload vlan_strip on',
  'port 9 txq 1 tx_offload vlan_insert on',
  'port config 9 tx_offload vlan_insert on',
  'port config all crc-strip on',
  'port config all scatter on',
  'port config all rx-cksum on',
  'port config all hw-vlan on',
  'port config all drop-en maybe',
  'port config all max-lro-pkt-size abc',
  'port config 0 drop-en on',
  'show port 9 rx_offload capabilities',
  'show port 9 tx_offload configuration',
  'vlan set strip maybe 0',
  'vlan set strip on 9',
  'vlan set stripq on 0',
  'vlan set stripq on 9,0',
  'vlan set stripq on 0,0',
  'vlan set stripq off 0,9',
  'vlan set inner tpid 0x8100 0',
  'vlan set outer tpid 0x88a8 0',
  'vlan set outer tpid 0x8100 9',
  'rx_vlan add 5 0',
  'rx_vlan rm all 0',
  'rx_vlan add 5000 0',
  'rx_vlan add 5 9',
  'tx_vlan set 9 5',
  'tx_vlan set 0 70000',
  'tx_vlan reset 9',
  'tx_vlan set pvid 0 5 on',
  'tx_vlan set pvid 9 5 on',
  'tx_vlan set pvid 0 5 maybe',
  'show port 0 rss-hash',
  'show port 0 rss-hash key',
  'show port 9 rss-hash',
  'show port 0 ptypes',
  'show port 9 ptypes',
  'set port 0 ptype_mask 1',
  'set log global 8',
  'set log user1 8',
  'set log user1 9',
  'set log global 99',
  'set log user1 debug',
  'set log user1',
  'set txsplit on',
  'show config txpkts',
  'set txsplit rand',
  'show config txpkts',
  'set txsplit foo',
  'set txsplit',
  'set txsplit off',
  'show config txpkts',
];

describe.skipIf(WHY_NO_PEERS !== undefined)('offloads at the prompt, ours and DPDK', () => {
  test('on ports that have none', async () => {
    await expectSame(
      ['net_null0', 'net_null1'],
      [],
      [
        ...wrongLines,
        'show port 0 rx_offload capabilities',
        'show port 0 tx_offload capabilities',
        ...everything,
        'vlan set strip on 0',
        'vlan set filter on 0',
        'vlan set qinq_strip on 0',
        'vlan set extend on 1',
        'vlan set strip off 0',
        'port config 0 rx_offload vlan_strip on',
        'port 0 rxq 0 rx_offload vlan_strip on',
        'port config all max-lro-pkt-size 1000',
        'port config all drop-en on',
        'tx_vlan set 0 5',
        'port stop 0',
        'tx_vlan set 0 5',
        'tx_vlan set 0 5000',
        'tx_vlan set 0 5 6',
        'port 0 rxq 3 rx_offload vlan_strip on',
        'port config 0 rx_offload rss_hash on',
        'port config 0 rx_offload keep_crc on',
        'port config 0 tx_offload send_on_timestamp on',
        'port 0 txq 0 tx_offload multi_segs on',
        ...everything,
        'port start 0',
        ...everything,
        'port config 0 rx_offload rss_hash off',
        'port config 0 rx_offload keep_crc off',
        'port start 0',
        'port config 0 tx_offload send_on_timestamp off',
        'port start 0',
        ...everything,
        'start',
        'port 0 txq 0 tx_offload multi_segs off',
        'port start 0',
        ...everything,
        'port stop all',
        'port config all drop-en on',
        'port config all max-lro-pkt-size 1000',
        'port config all max-lro-pkt-size 1000',
        'port config 1 rx_offload tcp_lro on',
        'port start 1',
        'port config all max-lro-pkt-size 1518',
        'port start 1',
        'port config 1 rx_offload tcp_lro off',
        'port config all rxq 2',
        'port config all txq 2',
        'port config 1 rx_offload rss_hash on',
        'port start 1',
        'port config all rxq 1',
        ...both(1),
        'port start 1',
        ...everything,
        ...both(1),
        'port start all',
        'start',
        'show config fwd',
      ],
    );
  });

  test('on a device that waits for its driver', async () => {
    using files = new SocketDirectory();
    await expectSame(
      [`net_vhost0,iface=${files.socket}`],
      [],
      [
        ...wrongLines,
        'show port 0 rx_offload capabilities',
        ...everything,
        'vlan set filter on 0',
        'port stop 0',
        'port config 0 rx_offload tcp_cksum on',
        'port config 0 rx_offload udp_cksum on',
        'port config 0 tx_offload tcp_cksum on',
        ...everything,
        'port start 0',
        ...everything,
        'port stop 0',
        'port config 0 rx_offload udp_cksum off',
        'tx_vlan set 0 5',
        'port start 0',
        ...everything,
        'port stop 0',
        'tx_vlan reset 0',
        'port 0 rxq 0 rx_offload vlan_strip on',
        'port start 0',
        ...everything,
        'port config 0 rx_offload vlan_strip on',
        'port config 0 rx_offload outer_ipv4_cksum on',
        'port start 0',
      ],
    );
  });

  describe('on a driver', () => {
    const files = new SocketDirectory();
    let device: Testpmd;
    const vdev = (options = ''): readonly string[] => [`virtio_user0,path=${files.socket}${options}`];
    beforeAll(async () => {
      const options = commandLine('dpdk', [`net_vhost0,iface=${files.socket}`], []);
      device = await Testpmd.start({ ...options, eal: [...lcoresArgument(1), ...options.eal.slice(2)] });
    });
    afterAll(async () => {
      await device[Symbol.asyncDispose]();
      files[Symbol.dispose]();
    });

    test('that runs, stops and starts again', async () => {
      await expectSame(
        vdev(),
        [],
        [
          ...wrongLines,
          'show port 0 rx_offload capabilities',
          'show port 0 tx_offload capabilities',
          ...everything,
          'vlan set strip on 0',
          'vlan set filter on 0',
          'vlan set extend on 0',
          'vlan set qinq_strip on 0',
          ...everything,
          'show port info 0',
          'vlan set strip off 0',
          ...everything,
          'port config 0 rx_offload tcp_cksum on',
          'tx_vlan set 0 5',
          'tx_vlan reset 0',
          'port stop 0',
          'tx_vlan set 0 5',
          'port config 0 rx_offload scatter on',
          ...everything,
          'port start 0',
          ...everything,
          'port stop 0',
          'tx_vlan reset 0',
          'port config 0 rx_offload scatter off',
          'port config 0 rx_offload tcp_cksum on',
          'port config 0 rx_offload udp_cksum on',
          'port config 0 rx_offload tcp_lro on',
          'port config 0 tx_offload tcp_cksum on',
          'port start 0',
          ...everything,
          'vlan set strip on 0',
          'port stop 0',
          'port config 0 rx_offload tcp_lro off',
          'port start 0',
          ...everything,
          'start',
          'stop',
          'port stop 0',
          'port config 0 rx_offload ipv4_cksum on',
          'port start 0',
          'port config 0 rx_offload ipv4_cksum off',
          'port 0 txq 0 tx_offload multi_segs on',
          'port start 0',
          ...everything,
          'port config 0 tx_offload multi_segs on',
          'port start 0',
          ...everything,
        ],
      );
    });

    test.each([
      '--enable-lro',
      '--enable-lro --max-lro-pkt-size=1530',
      '--enable-lro --max-lro-pkt-size=9000',
      '--enable-lro --max-lro-pkt-size=1530 --max-pkt-len=1600',
      '--enable-lro --max-lro-pkt-size=1600 --max-pkt-len=1600',
      '--max-lro-pkt-size=9000',
      '--enable-rx-cksum',
      '--enable-rx-timestamp',
      '--enable-scatter',
      '--disable-crc-strip',
      '--enable-hw-vlan',
      '--enable-hw-vlan-strip --enable-scatter',
      '--enable-hw-vlan-filter',
      '--enable-hw-vlan-extend',
      '--enable-hw-qinq-strip',
      '--enable-drop-en',
      '--enable-lro --rx-offloads=0x8',
      '--rx-offloads=0xC --enable-lro',
      '--rx-offloads=0x80000',
      '--tx-offloads=0x0000002c',
      '--tx-offloads=1800d',
      '--tx-offloads=0 --rx-offloads=0',
      '--disable-device-start --enable-hw-vlan-strip',
    ])('started with %s', async (options) => {
      const asked = ['port config 0 rx_offload scatter on', 'port 0 rxq 0 rx_offload scatter on', ...everything, 'port start 0'];
      await expectSame(vdev(), options.split(' '), [...everything, ...asked, ...everything]);
    });
  });

  test('as the guides to the exception path write it', async () => {
    using files = new SocketDirectory();
    const options = commandLine('dpdk', [`net_vhost0,iface=${files.socket},queues=2,tso=1`], ['--rxq=2', '--txq=2']);
    await using device = await Testpmd.start({ ...options, eal: [...lcoresArgument(1), ...options.eal.slice(2)] });
    const offloads = ['--tx-offloads=0x0000002c', '--enable-lro', '--txd=1024', '--rxd=1024'];
    const prompt = [
      'port stop 0',
      'port config 0 rx_offload tcp_cksum on',
      'port config 0 rx_offload udp_cksum on',
      'port start 0',
      ...everything,
      'start',
      'stop',
    ];
    const said = await expectSame([`virtio_user0,path=${files.socket},queue_size=1024`], offloads, prompt);
    expect(said).toContain('  Port : UDP_CKSUM TCP_CKSUM TCP_LRO');
    expect(said).toContain('  Port : UDP_CKSUM TCP_CKSUM TCP_TSO');
    expect(device.running).toBe(true);
  });
});

describe.skipIf(WHY_NO_PEERS !== undefined).each(MEETINGS.filter(({ server }) => server === 'device'))(
  'tags of what is sent: $name',
  ({ ours, driver, device, server }) => {
    test('are in the packets of the engines that write headers', async () => {
      await using pair = await Pair.start({ driver: { program: driver }, device: { program: device }, server });
      const [sender, receiver] = ours === 'driver' ? [pair.driver, pair.device] : [pair.device, pair.driver];
      await receiver.commands('set fwd rxonly', 'set verbose 1', 'set burst 1');
      await sender.command('set flush_rx off');
      /**
       * One packet of the receiver comes back by an engine of the sender, which starts last: what is printed of a packet is then
       * not printed into a prompt.
       */
      const returned = async (engine: string, length: number, expected: string): Promise<void> => {
        await receiver.commands(`set txpkts ${length}`, 'start tx_first 1');
        await sender.commands(`set fwd ${engine}`, 'start');
        await receiver.printed(new RegExp(`${expected} - .*\\n.*RTE_MBUF_F_RX.*\\n`));
        await receiver.command('stop');
        await sender.command('stop');
      };
      await returned('macswap', 100, 'type=0x0800 - length=100');
      await sender.commands('port stop 0', 'tx_vlan set 0 291', 'port start 0');
      await pair.linksUp();
      await returned('io', 104, 'type=0x0800 - length=104');
      await returned('mac', 200, 'type=0x8100 - length=204');
      await returned('macswap', 300, 'type=0x8100 - length=304');
      await returned('5tswap', 400, 'type=0x8100 - length=404');
      await sender.commands('port stop 0', 'tx_vlan reset 0', 'port start 0');
      await pair.linksUp();
      await returned('mac', 500, 'type=0x0800 - length=500');
      await pair.quit();
    });
  },
);
