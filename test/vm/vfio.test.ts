/**
 * Ports on virtio-net-pci devices of QEMU through vfio, behind a virtual IOMMU: against the guest kernel's own driver on the other end of
 * the wire, and beside DPDK's testpmd on the same device.
 * @module
 */
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { WHY_NO_MACHINE } from './available.ts';
import { BEHIND_IOMMU, card, vfioMachine, wire } from './cards.ts';
import { runScript, SCRIPT_LIMIT } from './script.ts';

const CARD = '0000:00:10.0';
const EAL = '-l 0-1 -n 1 --in-memory';
const MBUFS = '--total-num-mbufs=4096';
const STARTS = fileURLToPath(new URL('vfio-starts.mjs', import.meta.url));
const RESETS = fileURLToPath(new URL('vfio-resets.mjs', import.meta.url));

/** A card for us in slot 0x10, on a wire with one for the guest's kernel in 0x11, its eth1. */
const PAIR = [...wire(0, 'h0', 'h1'), ...card('0x10', 'h0', BEHIND_IOMMU), ...card('0x11', 'h1')];

const NEIGHBOUR = 'quiet_interface eth1; ip link set eth1 up; ip addr add 192.168.1.1/24 dev eth1';
/** Shell: three packets to our testpmd. */
const PING = `tell a 'set fwd icmpecho'; tell a start; echoes 3 ping 192.168.1.2; tell a stop`;
const ALL_ANSWERED = /3 of 3 answered/;
/** What the kernel says when a device reached for memory that was not its to have. */
const NO_FAULTS = `! dmesg | grep -i 'DMAR.*fault'`;

describe.skipIf(WHY_NO_MACHINE !== undefined)('ports on PCI devices through vfio', { timeout: SCRIPT_LIMIT }, () => {
  test('a modern device: ping, link events, stop and start, and the same with DPDK before and after', async () => {
    const { text, section } = await runScript(
      `
      ${NEIGHBOUR}
      bind vfio-pci 00:10.0
      mark status; dpdk-ts-devbind --status-dev net
      mark before; launch a dpdk-testpmd ${EAL} -m 96 -a ${CARD} -- -i ${MBUFS}; ${PING}; leave a
      launch a dpdk-ts-testpmd ${EAL} -a ${CARD} -- -i ${MBUFS}
      mark probed; cat /tmp/a.log
      mark ping; ${PING}
      mark info; say a 'show port info 0'; say a 'show rxq info 0 0'
      monitor set_link '{"name": "nic10", "up": false}'; until_true 20 printed a 'link state change'
      mark down; say a 'show port summary 0'
      monitor set_link '{"name": "nic10", "up": true}'; events() { [ "$(grep -c 'link state change' /tmp/a.log)" -ge 2 ]; }; until_true 20 events
      mark up; say a 'show port summary 0'
      tell a 'port stop 0'; tell a 'port start 0'
      mark again; ${PING}
      tell a 'port stop 0'; tell a 'port reset 0'; tell a 'port start 0'
      mark reset; ${PING}
      leave a || give_up "status $?"
      mark after; launch a dpdk-testpmd ${EAL} -m 96 -a ${CARD} -- -i ${MBUFS}; ${PING}; leave a
      ${NO_FAULTS}`,
      vfioMachine(PAIR, { monitor: true }),
    );
    expect(section('status')).toMatch(/DPDK-compatible driver\n=+\n0000:00:10\.0 '.* 1041' drv=vfio-pci unused=\n/);
    expect(section('status')).toMatch(/kernel driver\n=+\n0000:00:11\.0 '.* 1041' if=eth1 drv=virtio-pci unused=vfio-pci \*Active\*\n/);
    expect(section('before')).toMatch(ALL_ANSWERED);
    expect(section('probed')).toMatch(/^EAL: Probe PCI driver: net_virtio \(1af4:1041\) device: 0000:00:10\.0 \(socket -1\)$/m);
    expect(section('probed')).toMatch(/^Port 0: 02:00:00:00:00:10$/m);
    expect(section('ping')).toMatch(ALL_ANSWERED);
    expect(section('info')).toMatch(/^Device name: 0000:00:10\.0\nDriver name: net_virtio$/m);
    expect(section('info')).toMatch(/^Number of RXDs: 256$/m);
    expect(section('down')).toMatch(/ down /);
    expect(section('up')).toMatch(/ up /);
    expect(section('again'), text).toMatch(ALL_ANSWERED);
    expect(section('reset'), text).toMatch(ALL_ANSWERED);
    expect(section('after')).toMatch(ALL_ANSWERED);
  });

  test('fifty starts and stops, and ten openings: every vector, mapping and group is given back', async () => {
    const { values } = await runScript(
      `
      ${NEIGHBOUR}
      bind vfio-pci 00:10.0
      node ${STARTS} ${CARD}
      launch a dpdk-ts-testpmd ${EAL} -a ${CARD} -- -i ${MBUFS}
      mark ping; ${PING}; leave a
      ${NO_FAULTS}`,
      vfioMachine(PAIR),
    );
    const held = (name: string): unknown => JSON.parse(values.get(name) ?? '{}');
    const nothing = held('before');
    expect(nothing).toMatchObject({ files: 0, mappings: 0, vectors: 0 });
    // container, group, device; BAR 4; the configuration's and the receive queue's
    expect(held('started')).toMatchObject({ files: 3, mappings: 1, vectors: 2 });
    expect(held('started again')).toEqual(held('started'));
    expect(held('closed')).toEqual(nothing);
    expect(held('closed again')).toEqual(nothing);
  });

  test('without -a, two cards in the order of their addresses, before virtual devices; TCP and a kernel interface through them', async () => {
    const { text, section } = await runScript(
      `
      bind vfio-pci 00:10.0 00:12.0
      for number in 1 3; do
        quiet_interface eth$number; ip netns add ns$number; ip link set eth$number netns ns$number
        ip -n ns$number addr add 10.0.0.$number/24 dev eth$number; ip -n ns$number link set eth$number up
      done
      launch a dpdk-ts-testpmd ${EAL} -b 0000:00:1f.0 --vdev=net_null0 --vdev=virtio_user0,path=/dev/vhost-net -- -i ${MBUFS} --nb-ports=2
      mark ports; say a 'show port summary all'
      tell a 'set portlist 0,1'; tell a 'set fwd io'; tell a start
      ip netns exec ns3 iperf3 -s -1 -D -I /tmp/server.pid; sleep 1
      mark tcp; ip netns exec ns1 iperf3 -c 10.0.0.3 -n 2M || give_up iperf3
      tell a stop
      mark counts; say a 'show port stats all'
      quiet_interface tap0; ip addr add 10.0.0.9/24 dev tap0; ip link set tap0 up
      tell a 'set portlist 0,3'; tell a start
      mark exception; echoes 3 ip netns exec ns1 ping 10.0.0.9
      tell a stop; leave a || give_up "status $?"
      ${NO_FAULTS}`,
      vfioMachine([
        ...wire(0, 'h0', 'h1'),
        ...wire(1, 'h2', 'h3'),
        ...card('0x10', 'h0', BEHIND_IOMMU),
        ...card('0x11', 'h1'),
        ...card('0x12', 'h2', BEHIND_IOMMU),
        ...card('0x13', 'h3'),
      ]),
    );
    expect(section('ports'), text).toMatch(
      /^0 .*0000:00:10\.0 .*net_virtio .*\n1 .*0000:00:12\.0 .*net_virtio .*\n2 .*net_null0 .*\n3 .*virtio_user0 /m,
    );
    expect(section('tcp')).toMatch(/receiver/);
    expect(section('exception')).toMatch(ALL_ANSWERED);
  });

  test('four queue pairs over a tap of the host: every queue receives and sends; fewer, and all again', async () => {
    const tap = 'script=no,downscript=no';
    const { text, section } = await runScript(
      `
      ${NEIGHBOUR}
      bind vfio-pci 00:10.0
      launch a dpdk-ts-testpmd ${EAL} -a ${CARD} -- -i ${MBUFS} --rxq=4 --txq=4
      mark info; say a 'show port info 0'
      mark ping; ${PING}
      tell a 'set fwd txonly'; tell a start; sleep 2; tell a stop
      mark sent; say a 'show port xstats 0'
      tell a 'port stop 0'; tell a 'port config all rxq 2'; tell a 'port config all txq 2'; tell a 'port start 0'
      mark two; ${PING}
      tell a 'port stop 0'; tell a 'port config all rxq 4'; tell a 'port config all txq 4'; tell a 'port start 0'
      mark four; ${PING}
      leave a || give_up "status $?"
      ${NO_FAULTS}`,
      vfioMachine(
        [
          ...['-netdev', `tap,id=t0,ifname=t0,queues=4,${tap}`, '-netdev', `tap,id=t1,ifname=t1,${tap}`],
          ...card('0x10', 't0', `${BEHIND_IOMMU},mq=on,vectors=10`),
          ...card('0x11', 't1'),
        ],
        {
          network: `
            ip link add bridge type bridge; ip link set bridge up
            ip tuntap add t0 mode tap multi_queue; ip tuntap add t1 mode tap
            for name in t0 t1; do ip link set $name up master bridge; done`,
        },
      ),
    );
    expect(section('info')).toMatch(/^Current number of RX queues: 4\nMax possible RX queues: 4$/m);
    for (const name of ['ping', 'two', 'four']) expect(section(name), text).toMatch(ALL_ANSWERED);
    const sent = [...section('sent').matchAll(/^tx_q\d_good_packets: (\d+)/gm)].map(([, count]) => Number(count));
    expect(sent.length).toBe(4);
    for (const count of sent) expect(count, text).toBeGreaterThan(0);
  });

  test('resets; a card that is pulled out is a removed port, and the other goes on; one with a line instead of vectors', async () => {
    const { text, section } = await runScript(
      `
      ${NEIGHBOUR}
      bind vfio-pci 00:10.0 01:00.0
      mark resets; node ${RESETS} ${CARD} 0000:01:00.0
      launch a dpdk-ts-testpmd ${EAL} -a ${CARD} -a 01:00.0 -- -i ${MBUFS} --nb-ports=2
      mark ports; say a 'show port summary all'
      monitor set_link '{"name": "nic10", "up": false}'; until_true 20 printed a 'Port 0: link state change'
      mark down; say a 'show port summary 0'
      monitor set_link '{"name": "nic10", "up": true}'
      tell a 'set fwd txonly'; tell a start
      monitor device_del '{"id": "pulled"}'
      gone() { [ ! -e /sys/bus/pci/devices/0000:01:00.0 ]; }; until_true 40 gone; until_true 20 printed a 'device removal'
      mark gone; cat /tmp/a.log
      tell a stop; tell a 'set portlist 0'
      mark ping; ${PING}
      leave a || give_up "status $?"
      ${NO_FAULTS}`,
      vfioMachine(
        [
          ...wire(0, 'h0', 'h1'),
          ...card('0x10', 'h0', `${BEHIND_IOMMU},vectors=0`),
          ...card('0x11', 'h1'),
          ...['-device', 'pcie-root-port,id=root1,slot=1,chassis=1', '-netdev', 'hubport,id=h2,hubid=1'],
          ...['-device', `virtio-net-pci,id=pulled,bus=root1,netdev=h2,disable-legacy=on,mac=02:00:00:00:00:01${BEHIND_IOMMU}`],
        ],
        { monitor: true },
      ),
    );
    // a card on the root complex has no reset of its own
    expect(section('resets').trim().split('\n')).toEqual([
      '0000:00:10.0: rings reset at status 15, by the bus false, then 15',
      '0000:01:00.0: rings reset at status 15, by the bus true, then 0',
    ]);
    expect(section('ports')).toMatch(/^0 .*0000:00:10\.0 .*\n1 .*0000:01:00\.0 /m);
    expect(section('down')).toMatch(/ down /);
    expect(section('gone'), text).toMatch(/^Port 1: device removal event$/m);
    expect(section('ping'), text).toMatch(ALL_ANSWERED);
  });

  test('a card with all that QEMU offers, attached and detached at the prompt; whoever is killed leaves it as it was; --iova-mode=pa', async () => {
    const { text, section } = await runScript(
      `
      ${NEIGHBOUR}
      launch a dpdk-ts-testpmd ${EAL} --vdev=net_null0 -- -i ${MBUFS}
      mark held; say a 'port attach 00:10.0'
      bind vfio-pci 00:10.0
      mark attached; say a 'port attach 00:10.0'; say a 'port attach 0000:00:10.0'
      tell a 'port start 1'; tell a 'set portlist 1'
      mark ping; ${PING}
      mark info; say a 'show port info 1'
      tell a 'port stop 1'; mark detached; say a 'port detach 1'; say a 'port attach 00:10.0,speed=2500'; tell a 'port start 1'
      mark again; ${PING}
      tell a start; kill -9 $(cat /tmp/a.pid); until_true 10 has_ended a
      launch b dpdk-ts-testpmd ${EAL} -a ${CARD} --iova-mode=pa -- -i ${MBUFS}
      mark killed; cat /tmp/b.log; tell b 'set fwd icmpecho'; tell b start; echoes 3 ping 192.168.1.2; leave b || give_up "status $?"
      ${NO_FAULTS}`,
      vfioMachine([
        ...wire(0, 'h0', 'h1'),
        ...card('0x10', 'h0', `${BEHIND_IOMMU},packed=on,rss=on,hash=on,host_mtu=1400,speed=10000,duplex=full`),
        ...card('0x11', 'h1'),
      ]),
    );
    expect(section('held')).toMatch(/virtio-pci has it, as eth0; .*--bind=vfio-pci 0000:00:10\.0\n.*Failed to attach/);
    expect(section('attached')).toMatch(/^Port 1 is attached\. Now total ports is 2$[^]*0000:00:10\.0 is attached already, as port 1$/m);
    for (const name of ['ping', 'again', 'killed']) expect(section(name), text).toMatch(ALL_ANSWERED);
    expect(section('info')).toMatch(/^Link speed: 10 Gbps$/m);
    expect(section('info')).toMatch(/^MTU: 1400$/m);
    expect(section('detached')).toMatch(/^Port 1 is attached/m);
  });

  test('what cannot be used is named, with what to do, and the others run', async () => {
    const functions = [...wire(0, 'h0', 'h1'), ...wire(1, 'h2', 'h3')];
    const { section } = await runScript(
      `
      bind vfio-pci 00:10.0 2> /tmp/bound; mark bound; cat /tmp/bound
      try() { mark "$1"; shift; echo quit | dpdk-ts-testpmd ${EAL} "$@" -- -i ${MBUFS} 2>&1; echo "status $?"; }
      try missing -a 00:1a.0 --vdev=net_null0
      try strange -a 00:1f.2 --vdev=net_null0
      try held -a 00:10.1 --vdev=net_null0
      try viable -a 00:10.0 --vdev=net_null0
      try alone -a 00:12.0,vdpa=1 --vdev=net_null0
      try key -a 00:12.0,sped=1 --vdev=net_null0
      bind uio_pci_generic 00:12.0
      try uio -a 00:12.0 --vdev=net_null0
      bind vfio-pci 00:12.0
      launch a dpdk-ts-testpmd ${EAL} -a 00:12.0 -- -i ${MBUFS}
      try busy -a 00:12.0 --vdev=net_null0
      mark blocked; say a 'show port summary all'; leave a
      try nothing -b 00:12.0 -b 00:10.0 -b 00:10.1 -b 00:13.0`,
      vfioMachine(
        [
          ...functions,
          ...card('0x10.0', 'h0', `${BEHIND_IOMMU},multifunction=on`),
          ...card('0x10.1', 'h1', BEHIND_IOMMU),
          ...card('0x12', 'h2', BEHIND_IOMMU),
          ...card('0x13', 'h3'),
        ],
        { modules: ['vfio_pci', 'vfio_iommu_type1', 'virtio_net', 'uio_pci_generic'] },
      ),
    );
    const runsOn = /^Port 0: [0-9A-F:]{17}$[^]*^status 0$/m;
    expect(section('bound')).toMatch(/0000:00:10\.0 can be used only when 0000:00:10\.1 \(virtio-pci\) of the same IOMMU group is unbound/);
    expect(section('missing')).toMatch(
      /^0000:00:1a\.0: there is no such PCI device .*\nEAL: Requested device 0000:00:1a\.0 cannot be used\nEAL: Bus \(pci\) probe failed\.$/m,
    );
    expect(section('strange')).toMatch(/^0000:00:1f\.2: it is no virtio network card/m);
    expect(section('held')).toMatch(
      /^0000:00:10\.1: the kernel's driver virtio-pci has it, as eth\d; .*dpdk-ts-devbind --bind=vfio-pci 0000:00:10\.1$/m,
    );
    expect(section('viable')).toMatch(/the group is not viable: .* 0000:00:10\.0, 0000:00:10\.1/);
    expect(section('alone')).not.toMatch(/cannot be used/);
    expect(section('key')).toMatch(/unknown key sped; did you mean speed\?/);
    expect(section('uio')).toMatch(
      /^0000:00:12\.0: an IOMMU translates for it .*uio_pci_generic cannot set that up; .*dpdk-ts-devbind --bind=vfio-pci 0000:00:12\.0$/m,
    );
    expect(section('busy')).toMatch(/^\/dev\/vfio\/\d+: busy: another process/m);
    for (const name of ['missing', 'strange', 'held', 'viable', 'alone', 'key', 'uio', 'busy']) expect(section(name), name).toMatch(runsOn);
    expect(section('blocked')).toMatch(/0000:00:12\.0/);
    expect(section('nothing')).toMatch(/No probed ethernet devices/);
    expect(section('nothing')).not.toMatch(/Probe PCI driver/);
  });
});
