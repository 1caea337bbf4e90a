/**
 * l3fwd-power on two virtio-net-pci devices of QEMU through vfio, and on two taps of the kernel's vhost-net: a router between two network
 * namespaces of the guest, woken by MSI-X or by the kernel's calls, that takes next to no CPU time while nobody pings.
 * @module
 */
import { describe, expect, test } from 'vitest';
import { WHY_NO_MACHINE } from './available.ts';
import { BEHIND_IOMMU, card, vfioMachine, wire } from './cards.ts';
import type { MachineOptions } from './machine.ts';
import { runScript, SCRIPT_LIMIT } from './script.ts';

/** Cards for us in the slots 0x10 and 0x12, on a wire each with one of the kernel's, eth1 and eth3. */
function machine(more = ''): Partial<MachineOptions> {
  return vfioMachine([
    ...wire(0, 'h0', 'h1'),
    ...wire(1, 'h2', 'h3'),
    ...card('0x10', 'h0', `${BEHIND_IOMMU}${more}`),
    ...card('0x11', 'h1'),
    ...card('0x12', 'h2', `${BEHIND_IOMMU}${more}`),
    ...card('0x13', 'h3'),
  ]);
}

/** Shell: namespaces in the networks that l3fwd-power routes by default, and CPU time of the router in milliseconds. */
const FUNCTIONS = `
network() { # interface, number of the namespace, IPv4 network, IPv6 network, address of our port
  ip netns add ns$2; ip link set $1 netns ns$2; ip -n ns$2 link set $1 up
  ip -n ns$2 addr add $3.2/24 dev $1; ip -n ns$2 addr add $4::2/64 dev $1 nodad
  ip -n ns$2 neigh add $3.1 lladdr $5 dev $1 nud permanent; ip -n ns$2 neigh add $4::1 lladdr $5 dev $1 nud permanent
  ip -n ns$2 route add default via $3.1; ip -n ns$2 -6 route add default via $4::1
}
cpu() { read -r line < /proc/$router/stat; set -- \${line##*) }; echo $(((\${12} + \${13}) * 10)); }
`;

const OPTIONS = '-p 3 -P --config="(0,0,1),(1,0,1)" --no-numa --parse-ptype';

/** Shell: the router on the two cards, a namespace behind each. */
const BEGIN = `${FUNCTIONS}
bind vfio-pci 00:10.0 00:12.0
network eth1 1 1.1.1 2001:200:0:0 02:00:00:00:00:10
network eth3 3 2.1.1 2001:200:0:1 02:00:00:00:00:12
dpdk-ts-l3fwd-power -l 0-1 -- ${OPTIONS} --eth-dest=0,02:00:00:00:00:11 --eth-dest=1,02:00:00:00:00:13 > /tmp/r.log 2>&1 &
router=$!
`;

const END = `
kill -INT $router; wait $router || give_up "status $?"
mark log; cat /tmp/r.log
! dmesg | grep -i 'DMAR.*fault'`;

const ANSWERED = /3 of 3 answered/;

describe.skipIf(WHY_NO_MACHINE !== undefined)('l3fwd-power in the test machine', { timeout: SCRIPT_LIMIT }, () => {
  test('on PCI devices through vfio: sleeps, wakes on the first packet, and routes both versions of IP', async () => {
    const { values, section, text } = await runScript(
      `${BEGIN}
      until_true $PATIENCE printed r 'sleeps until interrupt triggers'
      mark four; echoes 3 ip netns exec ns1 ping 2.1.1.2
      sleep 3
      before=$(cpu); sleep 5; after=$(cpu)
      mark six; echoes 3 ip netns exec ns3 ping -6 2001:200::2
      mark cpu; echo "idle: $((after - before))"
      ${END}`,
      machine(),
    );
    expect(section('four'), text).toMatch(ANSWERED);
    // one less of 64
    expect(section('four')).toMatch(/ttl=63/);
    expect(section('six'), text).toMatch(ANSWERED);
    expect(section('six')).toMatch(/ttl=63/);
    const idle = Number(values.get('idle'));
    console.log(`l3fwd-power on two ports through vfio: ${String(idle)} ms of CPU time in 5 s without packets, emulated`);
    // polling would take all of the 5000
    expect(idle).toBeLessThan(2500);
    const log = section('log');
    expect(log).not.toMatch(/RX interrupt won't enable/);
    expect(log).toMatch(/lcore 1 is waked up from rx interrupt on port 0 queue 0/);
    expect(log).toMatch(/lcore 1 is waked up from rx interrupt on port 1 queue 0/);
    expect(Number(/wake-ups: (\d+)/.exec(log)?.[1])).toBeGreaterThan(5);
  });

  test('on PCI devices with a vector too few: no receive interrupts, and it polls', async () => {
    const { section, text } = await runScript(
      `${BEGIN}
      until_true $PATIENCE printed r "RX interrupt won't enable"
      mark four; echoes 3 ip netns exec ns1 ping 2.1.1.2
      ${END}`,
      machine(',vectors=1'),
    );
    expect(section('four'), text).toMatch(ANSWERED);
    expect(section('log')).toMatch(/lcore 1: sleeps: 0 wake-ups: 0/);
  });

  test('on two taps of vhost-net, whose kernel thread calls', async () => {
    const device = (number: number): string =>
      `--vdev=virtio_user${String(number)},path=/dev/vhost-net,mac=02:00:00:00:00:0${String(number + 1)}`;
    const { section, values, text } = await runScript(
      `${FUNCTIONS}
      dpdk-ts-l3fwd-power -l 0-1 --no-pci ${device(0)} ${device(1)} -- ${OPTIONS} \\
        --eth-dest=0,02:00:00:00:00:01 --eth-dest=1,02:00:00:00:00:02 > /tmp/r.log 2>&1 &
      router=$!
      until_true $PATIENCE printed r 'sleeps until interrupt triggers'
      network tap0 1 1.1.1 2001:200:0:0 02:00:00:00:00:77
      network tap1 3 2.1.1 2001:200:0:1 02:00:00:00:00:77
      mark four; echoes 3 ip netns exec ns1 ping 2.1.1.2
      mark six; echoes 3 ip netns exec ns3 ping -6 2001:200::2
      sleep 3
      before=$(cpu); sleep 5; after=$(cpu)
      mark cpu; echo "idle: $((after - before))"
      ${END}`,
    );
    expect(section('four'), text).toMatch(ANSWERED);
    expect(section('six'), text).toMatch(ANSWERED);
    expect(Number(values.get('idle'))).toBeLessThan(2500);
    expect(Number(/wake-ups: (\d+)/.exec(section('log'))?.[1])).toBeGreaterThan(5);
  });
});
