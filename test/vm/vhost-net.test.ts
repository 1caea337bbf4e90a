/**
 * virtio_user on the kernel's vhost-net: what is sent and received, queues, lives and ends of the port and of its tap, and what is said
 * when something is missing. The command lines are those of DPDK's guides "Virtio_user as Exception Path" and "as Exceptional Path".
 * @module
 */
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { portStatisticsIn } from '../support/statistics.ts';
import { WHY_NO_MACHINE } from './available.ts';
import { runScript, SCRIPT_LIMIT } from './script.ts';

/** Packets in tables of descriptors, compared byte by byte. */
const RINGS = fileURLToPath(new URL('vhost-net-rings.mjs', import.meta.url));
const PROGRAM = 'dpdk-ts-testpmd';
const EAL = '-n 4 --no-pci --in-memory';
const VDEV = 'virtio_user0,path=/dev/vhost-net';

/** Shell: forwards by txonly for two seconds, and waits until everything that was sent has arrived. */
const SEND = `
  all=$(value tap0 statistics/rx_packets)
  tell a 'set fwd txonly'; tell a start; sleep 2; say a stop > /tmp/stopped
  all=$((all + $(sed -n 's/.*TX-packets: \\([0-9]*\\).*/\\1/p' /tmp/stopped | tail -n 1)))
  all_received() { [ "$(value tap0 statistics/rx_packets)" -ge "$all" ]; }
  until_true 20 all_received`;

/** Shell: five packets to a neighbour that our testpmd is. */
const PING = `
  tell a 'set fwd icmpecho'; tell a start
  echoes 5 ping 192.168.1.2`;
const ALL_ANSWERED = /5 of 5 answered/;

/** Packets that each transmit queue has sent, of `show port xstats`. */
function sentByQueue(text: string): number[] {
  return [...text.matchAll(/^tx_q\d+_good_packets: (\d+)/gm)].map(([, count]) => Number(count));
}

const sum = (counts: readonly number[]): number => counts.reduce((total, count) => total + count, 0);

describe.skipIf(WHY_NO_MACHINE !== undefined)('virtio_user on /dev/vhost-net', { timeout: SCRIPT_LIMIT }, () => {
  test('what is sent is what tap0 receives; ping is answered; address, MTU, carrier and link are those of both ends; chains of 9000 bytes', async () => {
    const { text, values, section } = await runScript(`
      launch a ${PROGRAM} -l 0-1 ${EAL} --vdev=${VDEV},queues=1,queue_size=1024,mac=02:00:00:00:00:0a -- -i --nb-cores=1
      quiet_interface tap0; ip addr add 192.168.1.1/24 dev tap0; ip link set tap0 up
      echo "address: $(value tap0 address)"; echo "mtu: $(value tap0 mtu)"; echo "carrier: $(value tap0 carrier)"
      ${SEND}
      mark received; value tap0 statistics/rx_packets; value tap0 statistics/rx_bytes
      mark sent; say a 'show port stats 0'
      mark ping; ${PING}
      tell a stop; tell a 'set fwd 5tswap'; tell a start
      ip neigh replace 192.168.1.2 lladdr 02:00:00:00:00:0b dev tap0 nud permanent
      echoes 2 ping -s 9000 192.168.1.2
      tell a stop; tell a 'mac_addr set 0 02:00:00:00:00:77'; tell a 'port config mtu 0 1400'
      echo "address then: $(value tap0 address)"; echo "mtu then: $(value tap0 mtu)"
      mark refused; say a 'port config mtu 0 67'; say a 'port config mtu 0 9699'; say a 'mac_addr set 0 03:00:00:00:00:01'
      echo "mtu still: $(value tap0 mtu)"
      tell a 'set fwd txonly'; tell a start; ip link set tap0 down; sleep 1; ip link set tap0 up
      before=$(value tap0 statistics/rx_packets); more() { [ "$(value tap0 statistics/rx_packets)" -gt $((before + 1000)) ]; }
      until_true 20 more
      mark stop; say a stop
      tell a 'port stop 0'; echo "carrier of a stopped port: $(value tap0 carrier)"
      tell a 'port start 0'; echo "carrier again: $(value tap0 carrier)"
      mark again; ${PING}
      leave a || give_up "status $?"
      mark left; ls /sys/class/net; ! pgrep vhost-
      mark rings; node ${RINGS}`);
    expect(values.get('address')).toBe('02:00:00:00:00:0a');
    expect(values.get('mtu')).toBe('1500');
    expect(values.get('carrier')).toBe('1');
    const { txPackets, txBytes } = portStatisticsIn(section('sent'), 0);
    expect(txPackets).toBeGreaterThan(1000);
    expect(section('received').trim().split('\n').map(Number), text).toEqual([txPackets, txBytes]);
    expect(section('ping')).toMatch(ALL_ANSWERED);
    expect(section('ping')).toMatch(/2 of 2 answered/);
    expect(values.get('address then')).toBe('02:00:00:00:00:77');
    expect(values.get('mtu then')).toBe('1400');
    expect(section('refused')).toMatch(/MTU \(67\) < device min MTU \(68\)/);
    expect(section('refused')).toMatch(/MTU \(9699\) > device max MTU \(9698\)/);
    expect(values.get('mtu still')).toBe('1400');
    expect(values.get('carrier of a stopped port')).toBe('0');
    expect(values.get('carrier again')).toBe('1');
    expect(section('again')).toMatch(ALL_ANSWERED);
    expect(section('left')).toBe('lo\n');
    expect(JSON.parse(section('rings'))).toEqual({ indirect: true, events: true, there: 32, back: 32 });
  });

  test('two and four queues, a kernel thread and a share of the packets for each; pairs go off and on again', async () => {
    const { text, section } = await runScript(`
      threads() { pgrep -c "^vhost-$(cat /tmp/a.pid)"; }
      measure() {
        tell a 'clear port xstats 0'; before=$(value tap0 statistics/rx_packets)
        ${SEND}
        mark "$1"; echo "queues $(ls -d /sys/class/net/tap0/queues/rx-* | wc -l) threads $(threads)"
        say a 'show port xstats 0'
        mark "$1 received"; echo $(($(value tap0 statistics/rx_packets) - before))
        mark "$1 ping"; ${PING}
        tell a stop
      }
      pairs() {
        tell a 'port stop 0'; tell a "port config all rxq $1"; tell a "port config all txq $1"; tell a 'port start 0'
      }
      launch a ${PROGRAM} -l 2-3 ${EAL} --vdev=${VDEV},queues=2,queue_size=1024 -- -i --txq=2 --rxq=2 --txd=1024 --rxd=1024
      ifconfig tap0 192.168.1.1/24 up; quiet_interface tap0
      measure two
      leave a || give_up "status $?"
      launch a ${PROGRAM} -l 0-3 ${EAL} --vdev=${VDEV},queues=4,queue_size=256 -- -i --nb-cores=3 --txq=4 --rxq=4
      quiet_interface tap0; ifconfig tap0 192.168.1.1/24 up
      measure four
      pairs 1; measure one
      pairs 4; measure all
      leave a || give_up "status $?"`);
    for (const [mark, queues, threads] of [
      ['two', 2, 2],
      ['four', 4, 4],
      ['one', 1, 4],
      ['all', 4, 4],
    ] as const) {
      expect(section(mark), mark).toMatch(new RegExp(`^queues ${String(queues)} threads ${String(threads)}$`, 'm'));
      const sent = sentByQueue(section(mark));
      expect(sent).toHaveLength(queues);
      for (const packets of sent) expect(packets, text).toBeGreaterThan(100);
      expect(Number(section(`${mark} received`)), mark).toBe(sum(sent));
      expect(section(`${mark} ping`)).toMatch(ALL_ANSWERED);
    }
  });

  test('a hundred stops and starts leave nothing open; a tap that is removed is made anew; kill -9 leaves nothing', async () => {
    const { text, values } = await runScript(`
      for cycle in $(seq 100); do echo 'port stop 0'; echo 'port start 0'; done > /tmp/cycles
      launch a ${PROGRAM} -l 0-1 ${EAL} --vdev=${VDEV},iface=fifteen-letters,queues=2 -- -i --nb-cores=1 --rxq=2 --txq=2
      files() { ls /proc/$(cat /tmp/a.pid)/fd | wc -l; }
      starts() { grep -c '^Port 0: ' /tmp/a.log; }
      tell a 'port stop 0'; tell a 'port start 0'
      echo "before: $(files)"
      say a 'load /tmp/cycles' | tail -n 5
      echo "starts: $(starts)"; echo "after: $(files)"
      tell a 'mac_addr set 0 02:00:00:00:00:77'; tell a 'port config mtu 0 1400'; tell a 'set fwd txonly'
      ip link set fifteen-letters up; tell a start
      received() { [ "$(value fifteen-letters statistics/rx_packets)" -gt 1000 ]; }
      until_true 20 received
      ip link del fifteen-letters
      until_true 20 printed a 'the tap was removed'
      until_true 20 test -e /sys/class/net/fifteen-letters
      ip link set fifteen-letters up
      until_true 20 received
      echo "address: $(value fifteen-letters address)"; echo "mtu: $(value fifteen-letters mtu)"
      tell a stop
      echo "files again: $(files)"
      grep -v '^Port 0: \\|^Checking\\|^Done\\|^Stopping ports' /tmp/a.log
      tell a start
      kill -9 $(cat /tmp/a.pid); until_true 10 has_ended a
      gone() { ! pgrep vhost- && ! test -e /sys/class/net/fifteen-letters; }
      until_true 10 gone
      grep HugePages_Free /proc/meminfo`);
    expect(Number(values.get('before'))).toBeGreaterThan(10);
    // at the start, by hand, and a hundred times
    expect(Number(values.get('starts')), text).toBe(102);
    expect(values.get('after')).toBe(values.get('before'));
    expect(values.get('address')).toBe('02:00:00:00:00:77');
    expect(values.get('mtu')).toBe('1400');
    expect(values.get('files again')).toBe(values.get('before'));
    expect(text).toMatch(/HugePages_Free: +768/);
  });

  test('a tap that was there stays; what is missing, taken or too much is said, and nothing is left', async () => {
    const { section, values } = await runScript(`
      ip tuntap add dev single mode tap
      ip tuntap add dev several mode tap multi_queue; ip link set several address 02:00:00:00:00:55
      launch a ${PROGRAM} -l 0-1 ${EAL} -m 64 --vdev=${VDEV},iface=several,queues=2 -- -i --nb-cores=1 --rxq=2 --txq=2 --total-num-mbufs=4096
      files() { ls /proc/$(cat /tmp/a.pid)/fd | wc -l; }
      ip link set several up
      mark existing; say a 'show port info 0' | grep '^MAC'; value several carrier
      tell a 'port stop 0'; tell a 'port close 0'
      before=$(files)
      attach() { mark "$1"; say a "port attach virtio_user1,path=/dev/vhost-net$2"; }
      attach one ,iface=several
      tell a 'port close 0'
      tell a 'port attach virtio_user2,path=/dev/vhost-net,iface=single'
      attach taken ,iface=single
      tell a 'port close 0'
      attach busy ,iface=lo
      attach queues ,iface=single,queues=2
      attach many ,queues=9
      attach long ,iface=sixteen-letters-
      attach number ,iface=vm%d
      attach server ,server=1
      attach size ,queue_size=1000
      mv /dev/net/tun /dev/net/gone; attach tun; mv /dev/net/gone /dev/net/tun
      /vm/busybox rmmod vhost_net; attach vhost
      mknod /dev/vhost-net c 10 238; attach module; rm /dev/vhost-net
      modprobe vhost_net
      attach again; tell a 'port close 0'
      echo "files: $(($(files) - before))"
      leave a || give_up "status $?"
      mark left; ls /sys/class/net
      attempt() { timeout 60 "$@" -- --nb-cores=1 2>&1 < /dev/null; echo "status $?"; }
      mark first; attempt ${PROGRAM} -l 0-1 ${EAL} --vdev=${VDEV},iface=lo
      nobody='setpriv --reuid 65534 --regid 65534 --clear-groups'
      chmod 600 /dev/vhost-net
      mark 'device denied'; attempt $nobody ${PROGRAM} -l 0-1 ${EAL} --no-huge -m 64 --vdev=${VDEV}
      chmod 666 /dev/vhost-net /dev/net/tun
      mark 'tap denied'; attempt $nobody ${PROGRAM} -l 0-1 ${EAL} --no-huge -m 64 --vdev=${VDEV}`);
    expect(section('existing')).toMatch(/MAC address: 02:00:00:00:00:55\n1\n/);
    expect(section('one')).toMatch(/Port 0 is attached|Now total ports is 1/);
    expect(section('taken')).toMatch(/tap single: in use: another process has this tap/);
    expect(section('busy')).toMatch(/tap lo: an interface of this name exists that is no tap/);
    expect(section('queues')).toMatch(/tap single: .*multi_queue/);
    expect(section('many')).toMatch(/queues=9/);
    expect(section('long')).toMatch(/iface=sixteen-letters-: 16 characters/);
    expect(section('number')).toMatch(/iface=vm%d: /);
    expect(section('server')).toMatch(/server=1: \/dev\/vhost-net is no socket/);
    expect(section('size')).toMatch(/queue_size=1000: a split ring needs a power of two/);
    expect(section('tun')).toMatch(/\/dev\/net\/tun: no such file.*modprobe tun/);
    expect(section('vhost')).toMatch(/\/dev\/vhost-net: no such file.*modprobe vhost_net/);
    expect(section('module')).toMatch(/\/dev\/vhost-net: no such device: as root: modprobe vhost_net/);
    expect(section('again')).toMatch(/Now total ports is 1/);
    expect(values.get('files')).toBe('0');
    expect(section('left').trim().split('\n')).toEqual(['lo', 'several', 'single']);
    // as DPDK's: it goes on without the port
    expect(section('first')).toMatch(/tap lo: an interface[^]*No probed ethernet devices[^]*status 0/);
    expect(section('device denied')).toMatch(/\/dev\/vhost-net: permission denied: run as root/);
    expect(section('tap denied')).toMatch(/not permitted: run as root or with CAP_NET_ADMIN/);
  });
});
