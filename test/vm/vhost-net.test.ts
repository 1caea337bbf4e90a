/**
 * The exception path: our virtio_user on the kernel's vhost-net and a tap, as seed documents of DPDK tell it
 * ("Virtio_user as Exception Path").
 *
 * Not yet seen to pass as a whole: run with DPDK_TS_VM_ALL=1 until it has been, and then take that condition out.
 */
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { portStatisticsIn } from '../support/statistics.ts';
import { WHY_NO_MACHINE } from './available.ts';
import { runInMachine } from './machine.ts';

const DRIVE = fileURLToPath(new URL('testpmd.sh', import.meta.url));
const TIME_LIMIT = 150_000;

/** Runs lines of shell in the machine; returns what they printed, with every `KEY: value` line by its key. */
async function run(lines: string): Promise<{ readonly text: string; readonly values: ReadonlyMap<string, string> }> {
  const { status, stdout, stderr } = await runInMachine({ command: `. ${DRIVE}\n${lines}`, limit: TIME_LIMIT - 20_000 });
  expect(status, `${stdout}\n${stderr}`).toBe(0);
  const pairs = [...stdout.matchAll(/^([a-z][a-z0-9 ]*): (.*)$/gm)].map(([, key = '', value = '']) => [key, value] as const);
  return { text: stdout, values: new Map(pairs) };
}

/** The part between two marks that the shell printed. */
function section(text: string, mark: string): string {
  return text.split(`== ${mark}\n`)[1]?.split('\n== ')[0] ?? '';
}

const EAL = '-n 1 --no-pci --in-memory';
const VDEV = '--vdev=virtio_user0,path=/dev/vhost-net';

describe.skipIf(WHY_NO_MACHINE !== undefined || process.env['DPDK_TS_VM_ALL'] !== '1')(
  'virtio_user on /dev/vhost-net',
  { timeout: TIME_LIMIT },
  () => {
    test('what txonly sends is what tap0 receives, and ping goes through 5tswap and back', async () => {
      const { text, values } = await run(`
      launch a dpdk-ts-testpmd -l 0-1 ${EAL} ${VDEV},queues=1,queue_size=1024,mac=02:00:00:00:00:0a -- -i --nb-cores=1
      echo 1 > /proc/sys/net/ipv6/conf/tap0/disable_ipv6
      ip addr add 192.168.1.1/24 dev tap0 && ip link set tap0 up
      echo "address: $(value tap0 address)"; echo "mtu: $(value tap0 mtu)"; echo "carrier: $(value tap0 carrier)"
      say a 'set fwd txonly' > /dev/null; say a start > /dev/null; sleep 3; say a stop > /dev/null; sleep 1
      echo "received: $(value tap0 statistics/rx_packets)"; echo "bytes: $(value tap0 statistics/rx_bytes)"
      echo "== sent"; say a 'show port stats 0'; echo; echo "== ping"
      say a 'set fwd 5tswap' > /dev/null; say a start > /dev/null
      ip neigh add 192.168.1.2 lladdr 02:00:00:00:00:0b dev tap0 nud permanent
      /vm/busybox ping -c 5 -W 2 192.168.1.2
      /vm/busybox ping -c 2 -W 2 -s 9000 192.168.1.2
      say a 'port stop 0'; say a stop; say a 'port stop 0'; echo "carrier of a stopped port: $(value tap0 carrier)"
      say a 'port start 0'; echo "carrier again: $(value tap0 carrier)"
      leave a || exit 1
      echo "left: $(ls /sys/class/net | tr '\\n' ' ')"`);
      expect(values.get('address')).toBe('02:00:00:00:00:0a');
      expect(values.get('mtu')).toBe('1500');
      expect(values.get('carrier')).toBe('1');
      const { txPackets, txBytes } = portStatisticsIn(section(text, 'sent'), 0);
      expect(txPackets).toBeGreaterThan(10_000);
      expect(Number(values.get('received')), text).toBe(txPackets);
      // the kernel does not count the Ethernet header of what it receives
      expect(Number(values.get('bytes'))).toBe(txBytes - 14 * txPackets);
      expect(text).toMatch(/5 packets transmitted, 5 packets received/);
      expect(text).toMatch(/2 packets transmitted, 2 packets received/);
      expect(values.get('carrier of a stopped port')).toBe('0');
      expect(values.get('carrier again')).toBe('1');
      expect(values.get('left')).not.toMatch(/tap/);
    });

    test('packets go round through a second testpmd on af_packet, and the statistics of both agree', async () => {
      const { text } = await run(`
      launch a dpdk-ts-testpmd -l 0-1 ${EAL} ${VDEV},queues=1,queue_size=1024 -- -i --nb-cores=1
      echo 1 > /proc/sys/net/ipv6/conf/tap0/disable_ipv6
      ip addr add 192.168.1.1/24 dev tap0 && ip link set tap0 up
      launch b dpdk-testpmd -l 2-3 ${EAL} -m 96 --vdev=net_af_packet0,iface=tap0 -- -i --nb-cores=1 --total-num-mbufs=4096
      say b start > /dev/null; say a 'start tx_first' > /dev/null; sleep 5
      say a stop > /dev/null; sleep 1; say b stop > /dev/null
      echo "== a"; say a 'show port stats 0'; echo; echo "== b"; say b 'show port stats 0'; echo
      leave b && leave a`);
      const ours = portStatisticsIn(section(text, 'a'), 0);
      const theirs = portStatisticsIn(section(text, 'b'), 0);
      expect(ours.rxPackets, text).toBeGreaterThan(10_000);
      expect(theirs.rxPackets).toBe(ours.txPackets);
      // the last burst is on its way back when our port stops
      expect(theirs.txPackets - ours.rxPackets).toBeGreaterThanOrEqual(0);
      expect(theirs.txPackets - ours.rxPackets).toBeLessThanOrEqual(64);
    });

    test('two queues: a kernel thread and a share of the packets for each', async () => {
      const { text, values } = await run(`
      launch a dpdk-ts-testpmd -l 0-2 ${EAL} ${VDEV},queues=2,queue_size=1024 -- -i --nb-cores=2 --txq=2 --rxq=2 --txd=1024 --rxd=1024
      echo 1 > /proc/sys/net/ipv6/conf/tap0/disable_ipv6
      ip link set tap0 up; ip addr add 192.168.1.1/24 dev tap0
      echo "queues: $(ls -d /sys/class/net/tap0/queues/rx-* | wc -l)"
      echo "threads: $(grep -l "^vhost-$(cat /tmp/a.pid)" /proc/[0-9]*/comm | wc -l)"
      say a 'set fwd txonly' > /dev/null; say a start > /dev/null; sleep 3; say a stop > /dev/null; sleep 1
      echo "received: $(value tap0 statistics/rx_packets)"
      echo "== sent"; say a 'show port xstats 0'; echo; echo "== ping"
      say a 'set fwd 5tswap' > /dev/null; say a start > /dev/null
      ip neigh add 192.168.1.2 lladdr 02:00:00:00:00:0b dev tap0 nud permanent
      /vm/busybox ping -c 5 -W 2 192.168.1.2
      say a stop > /dev/null; say a 'port stop 0' > /dev/null
      say a 'port config all rxq 1' > /dev/null; say a 'port config all txq 1' > /dev/null; say a 'port start 0' > /dev/null
      echo "queues on: $(ls -d /sys/class/net/tap0/queues/rx-* | wc -l)"
      leave a`);
      expect(values.get('queues')).toBe('2');
      expect(values.get('threads')).toBe('2');
      const sent = [0, 1].map((queue) => Number(new RegExp(`tx_q${queue}_good_packets: (\\d+)`).exec(section(text, 'sent'))?.[1]));
      for (const packets of sent) expect(packets).toBeGreaterThan(1000);
      expect(Number(values.get('received')), text).toBe((sent[0] ?? 0) + (sent[1] ?? 0));
      expect(text).toMatch(/5 packets transmitted, 5 packets received/);
      expect(values.get('queues on')).toBe('1');
    });

    test('a hundred stops and starts leave nothing open, and kill -9 leaves no interface', async () => {
      const { text, values } = await run(`
      for cycle in $(seq 100); do echo 'port stop 0'; echo 'port start 0'; done > /tmp/cycles
      launch a dpdk-ts-testpmd -l 0-1 ${EAL} ${VDEV},iface=fifteen-letters,queues=2 -- -i --nb-cores=1 --rxq=2 --txq=2
      files() { ls /proc/$(cat /tmp/a.pid)/fd | wc -l; }
      say a 'port stop 0' > /dev/null; say a 'port start 0' > /dev/null
      echo "before: $(files)"
      say a 'load /tmp/cycles' > /dev/null
      until_true 60 sh -c '[ $(grep -o "testpmd> " /tmp/a.log | wc -l) -ge 200 ]'
      say a 'show port summary 0'
      echo; echo "after: $(files)"
      ip link set fifteen-letters up; ip link show fifteen-letters; say a 'mac_addr set 0 02:00:00:00:00:77'; say a 'port config mtu 0 1400'
      echo; echo "address: $(value fifteen-letters address)"; echo "mtu: $(value fifteen-letters mtu)"
      ip link del fifteen-letters
      until_true 10 test -e /sys/class/net/fifteen-letters
      until_true 10 [ "$(value fifteen-letters mtu)" = 1400 ]
      say a 'show port summary 0'
      echo; echo "address again: $(value fifteen-letters address)"; echo "files again: $(files)"
      kill -9 $(cat /tmp/a.pid); sleep 1
      echo "left: $(ls /sys/class/net | tr '\n' ' ')"; grep HugePages_Free /proc/meminfo
      echo "threads: $(grep -l "^vhost-" /proc/[0-9]*/comm | wc -l)"`);
      expect(Number(values.get('before'))).toBeGreaterThan(10);
      expect(values.get('after'), text).toBe(values.get('before'));
      expect(values.get('files again')).toBe(values.get('before'));
      expect(values.get('address')).toBe('02:00:00:00:00:77');
      expect(values.get('address again')).toBe('02:00:00:00:00:77');
      expect(values.get('mtu')).toBe('1400');
      expect(values.get('left')).not.toMatch(/fifteen/);
      expect(values.get('threads')).toBe('0');
      expect(text).toMatch(/HugePages_Free: +768/);
    });

    test('what is missing is said', async () => {
      const { text } = await run(`
      try() { echo "== $1"; shift; timeout 60 dpdk-ts-testpmd -l 0-1 ${EAL} "$@" -- --nb-cores=1 2>&1 < /dev/null; echo "status $?"; }
      ip tuntap add dev single mode tap
      try busy ${VDEV},iface=lo
      try queues ${VDEV},iface=single,queues=2
      try long ${VDEV},iface=sixteen-letters-
      try server ${VDEV},server=1
      mv /dev/net/tun /dev/net/gone; try tun ${VDEV}; mv /dev/net/gone /dev/net/tun
      mv /dev/vhost-net /dev/gone; try vhost ${VDEV}
      echo "== end"; ls /sys/class/net`);
      const said = (mark: string): string => section(text, mark);
      expect(said('busy')).toMatch(/tap lo: an interface of this name exists that is no tap/);
      expect(said('queues')).toMatch(/tap single: .*multi_queue/);
      expect(said('long')).toMatch(/virtio_user0: iface=sixteen-letters-: 16 characters/);
      expect(said('server')).toMatch(/server=1: \/dev\/vhost-net is no socket/);
      expect(said('tun')).toMatch(/\/dev\/net\/tun: no such file.*modprobe tun/);
      expect(said('vhost')).toMatch(/\/dev\/vhost-net: no such file.*modprobe vhost_net/);
      for (const mark of ['busy', 'queues', 'long', 'server', 'tun', 'vhost']) expect(said(mark), mark).toMatch(/^status 1$/m);
      expect(said('end')).not.toMatch(/tap\d/);
    });
  },
);
