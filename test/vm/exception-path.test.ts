/**
 * "Virtio_user as Exception Path" of DPDK's guides, its command lines as they stand there: a NIC, a testpmd that passes packets on to
 * the kernel's tap0, and a second testpmd that takes them from tap0 and sends them back. In the NIC's place is a veth by af_packet
 * (the guide's `-a <pci BDF>`).
 *
 *     ping -- outside = nic0 -- af_packet -- first testpmd -- virtio_user -- vhost-net -- tap0 -- af_packet -- second testpmd
 * @module
 */
import { describe, expect, test } from 'vitest';
import { WHY_NO_MACHINE } from './available.ts';
import { forwarded, runScript, SCRIPT_LIMIT } from './script.ts';

const OURS = 'dpdk-ts-testpmd';
const DPDK = 'dpdk-testpmd';
const PINGS = 200;
const ALL_ANSWERED = /5 of 5 answered/;

const FIRST = (program: string): string => `
  ip link add nic0 type veth peer name outside
  for name in nic0 outside; do quiet_interface $name; ip link set $name up; done
  ip addr add 10.0.0.1/24 dev outside
  ip neigh add 10.0.0.2 lladdr 02:00:00:00:00:02 dev outside nud permanent
  launch a ${program} -l 0-1 --vdev=net_af_packet0,iface=nic0 --vdev=virtio_user0,path=/dev/vhost-net,queues=1,queue_size=1024
  quiet_interface tap0
  ip addr add 192.168.1.1/24 dev tap0
  ip link set dev tap0 up`;

const SECOND = (name: string, program: string): string => `
  launch ${name} ${program} -l 2-3 --vdev=net_af_packet0,iface=tap0 --in-memory --no-pci
  back=$(($(value outside statistics/rx_packets) + ${PINGS}))
  ping -q -c ${PINGS} -i 0.002 -W 1 10.0.0.2 > /dev/null
  all_back() { [ "$(value outside statistics/rx_packets)" -ge "$back" ]; }
  until_true 20 all_back
  leave ${name} || give_up "${name}: status $?"
  mark ${name}; cat /tmp/${name}.log`;

const END = `
  leave a || give_up "a: status $?"
  mark a; cat /tmp/a.log
  mark left; ls /sys/class/net`;

const round = (packets: number) => ({ received: packets, sent: packets, dropped: 0 });

describe.skipIf(WHY_NO_MACHINE !== undefined)('the exception path', { timeout: SCRIPT_LIMIT }, () => {
  test('ours passes packets to the kernel, a second testpmd, ours or DPDK’s, takes them from tap0 and sends them back', async () => {
    const { section } = await runScript(`${FIRST(OURS)} ${SECOND('b', OURS)} ${SECOND('c', DPDK)} ${END}`);
    expect(forwarded(section('b'), 0)).toEqual(round(PINGS));
    expect(forwarded(section('c'), 0)).toEqual(round(PINGS));
    expect(forwarded(section('a'), 0)).toEqual(round(2 * PINGS));
    expect(forwarded(section('a'), 1)).toEqual(round(2 * PINGS));
    expect(section('left')).not.toMatch(/tap/);
  });

  test('DPDK passes packets to the kernel, ours takes them from tap0 and sends them back', async () => {
    const { section } = await runScript(`${FIRST(DPDK)} ${SECOND('b', OURS)} ${END}`);
    expect(forwarded(section('b'), 0)).toEqual(round(PINGS));
    expect(forwarded(section('a'), 0)).toEqual(round(PINGS));
    expect(forwarded(section('a'), 1)).toEqual(round(PINGS));
  });

  test('the older guide: offloads at the command line and at the prompt, and what of them the kernel sees', async () => {
    const { section } = await runScript(`
      launch a ${OURS} -l 2-3 -n 4 \\
        --vdev=virtio_user0,path=/dev/vhost-net,queue_size=1024 \\
        -- -i --tx-offloads=0x0000002c --enable-lro \\
        --txd=1024 --rxd=1024
      tell a 'port stop 0'
      tell a 'port config 0 rx_offload tcp_cksum on'
      tell a 'port config 0 rx_offload udp_cksum on'
      tell a 'port start 0'
      tell a start
      ifconfig tap0 1.1.1.1/24 up
      mark kernel; ethtool -k tap0
      mark configuration; say a 'show port 0 rx_offload configuration'; say a 'show port 0 tx_offload configuration'
      tell a stop; tell a 'set fwd icmpecho'; tell a start
      mark ping; echoes 5 ping 1.1.1.2
      leave a || give_up "a: status $?"
      launch a ${OURS} -l 2-3 -n 4 \\
        --vdev=virtio_user0,path=/dev/vhost-net,queues=2,queue_size=1024 \\
        -- -i --tx-offloads=0x0000002c --enable-lro \\
        --txq=2 --rxq=2 --txd=1024 --rxd=1024
      ifconfig tap0 1.1.1.1/24 up
      tell a 'set fwd icmpecho'; tell a start
      mark 'two queues'; ls /sys/class/net/tap0/queues; echoes 5 ping 1.1.1.2
      leave a || give_up "a: status $?"`);
    expect(section('kernel')).toMatch(/^tx-checksumming: on/m);
    expect(section('kernel')).toMatch(/^tcp-segmentation-offload: on/m);
    expect(section('configuration')).toMatch(/ Port : UDP_CKSUM TCP_CKSUM TCP_LRO\n[^]* Port : UDP_CKSUM TCP_CKSUM TCP_TSO\n/);
    expect(section('ping')).toMatch(ALL_ANSWERED);
    expect(section('two queues')).toMatch(/^rx-0\nrx-1\ntx-0\ntx-1\n/);
    expect(section('two queues')).toMatch(ALL_ANSWERED);
  });
});
