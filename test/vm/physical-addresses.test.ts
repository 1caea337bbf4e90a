/**
 * Virtio network cards that no IOMMU translates for, in a machine without one: legacy, transitional and modern ones on
 * uio_pci_generic, as in the guide "Poll Mode Driver for Emulated Virtio NIC"; the guest kernel's own card is at the other end.
 * @module
 */
import { describe, expect, test } from 'vitest';
import { portStatisticsIn } from '../support/statistics.ts';
import { WHY_NO_MACHINE } from './available.ts';
import { runScript, SCRIPT_LIMIT } from './script.ts';

/** A card at 0000:00:10.0 for us, and one at 0000:00:11.0 for the kernel, on one hub. */
const cards = (kind: string): readonly string[] => [
  ...['-netdev', 'hubport,id=ours,hubid=0', '-netdev', 'hubport,id=kernels,hubid=0'],
  ...['-device', `virtio-net-pci,id=nic10,netdev=ours,addr=0x10,${kind},mac=02:00:00:00:00:10`],
  ...['-device', 'virtio-net-pci,netdev=kernels,addr=0x11,disable-legacy=on,mac=02:00:00:00:00:11'],
];

/** Shell: binds our card, and gives the kernel's an address. */
const PREPARE = `
  nic=$(basename /sys/bus/pci/devices/0000:00:11.0/virtio*/net/*)
  quiet_interface $nic; ip addr add 192.168.1.1/24 dev $nic; ip link set $nic up`;
const PING = `
  tell a 'set fwd icmpecho'; tell a start
  echoes 5 ping 192.168.1.2
  tell a stop`;
const ALL_ANSWERED = /5 of 5 answered/;

describe.skipIf(WHY_NO_MACHINE !== undefined)('virtio-net-pci without an IOMMU', { timeout: SCRIPT_LIMIT }, () => {
  test.each([
    ['legacy', 'disable-modern=on'],
    ['transitional', 'disable-legacy=off,disable-modern=off'],
    ['modern', 'disable-legacy=on'],
  ])('a %s card on uio_pci_generic answers ping, sends, starts again, and hears of its link', async (_, kind) => {
    const { text, section } = await runScript(
      `${PREPARE}
      dpdk-ts-devbind -b uio_pci_generic 00:10.0
      launch a dpdk-ts-testpmd -l 0-1 -n 1 -a 0000:00:10.0 -- -i --nb-cores=1
      mark ping; ${PING}
      tell a 'port stop 0'; tell a 'port start 0'
      mark again; ${PING}
      tell a 'clear port stats all'; tell a 'set fwd icmpecho'; tell a start
      replies() { grep '^Icmp:' /proc/net/snmp | tail -n 1 | cut -d ' ' -f 11; }
      all=$(($(replies) + 200)); all_answered() { [ "$(replies)" -ge "$all" ]; }
      mark many; ping -q -c 200 -i 0.01 192.168.1.2; until_true 20 all_answered; tell a stop
      mark stats; say a 'show port stats 0'
      mark txonly; before=$(value $nic statistics/rx_packets)
      tell a 'set eth-peer 0 02:00:00:00:00:11'; tell a 'set fwd txonly'; tell a start
      more() { [ "$(value $nic statistics/rx_packets)" -gt $((before + 1000)) ]; }
      until_true 20 more; tell a stop
      monitor set_link '{"name": "nic10", "up": false}'; until_true 20 printed a 'link state change'
      mark down; say a 'show port summary 0'
      monitor set_link '{"name": "nic10", "up": true}'; events() { [ "$(grep -c 'link state change' /tmp/a.log)" -ge 2 ]; }; until_true 20 events
      mark up; say a 'show port summary 0'
      mark held; dpdk-ts-testpmd -l 0-1 -a 0000:00:11.0 -- 2>&1 < /dev/null
      mark end; leave a || give_up "status $?"
      dpdk-ts-devbind -b virtio-pci 00:10.0
      until_true 10 test -e /sys/bus/pci/devices/0000:00:10.0/virtio*/net
      mark driver; basename "$(readlink /sys/bus/pci/devices/0000:00:10.0/driver)"`,
      { qemuArguments: cards(kind), modules: ['virtio_net', 'uio_pci_generic'], monitor: true },
    );
    expect(section('ping')).toMatch(ALL_ANSWERED);
    expect(section('again')).toMatch(ALL_ANSWERED);
    expect(section('many'), text).toMatch(/200 packets transmitted/);
    const { rxPackets, txPackets } = portStatisticsIn(section('stats'), 0);
    expect(rxPackets).toBeGreaterThanOrEqual(200);
    expect(txPackets).toBeGreaterThanOrEqual(200);
    // by the line, through the uio device
    expect(section('down')).toMatch(/ down /);
    expect(section('up')).toMatch(/ up /);
    expect(section('held')).toMatch(
      /0000:00:11\.0: the kernel's driver virtio-pci has it, as eth\d; .*dpdk-ts-devbind --bind=uio_pci_generic 0000:00:11\.0/,
    );
    expect(section('driver')).toBe('virtio-pci\n');
  });
});
