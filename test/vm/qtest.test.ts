/**
 * The kernel's vhost-net behind the device of a QEMU that is driven from outside, all of it inside the machine.
 *
 *     testpmd --- qtest, shared memory --- virtio-net of a QEMU --- vhost-net --- tap --- the machine's kernel
 * @module
 */
import { describe, expect, test } from 'vitest';
import { WHY_NO_MACHINE } from './available.ts';
import { runScript, SCRIPT_LIMIT } from './script.ts';

describe.skipIf(WHY_NO_MACHINE !== undefined)('a QEMU within the machine', { timeout: SCRIPT_LIMIT }, () => {
  test('a tap with vhost=on: the kernel pings through both', async () => {
    const { section, text } = await runScript(`
      for irq in msix intx; do
        launch a dpdk-ts-testpmd -l 2-3 --no-pci "--vdev=net_virtio_qtest0,qemu=auto,irq=$irq,netdev=[tap,ifname=qt0,vhost=on]" -- -i --total-num-mbufs=4096
        quiet_interface qt0
        ip addr add 1.1.1.1/24 dev qt0
        ip link set qt0 up
        tell a 'set fwd icmpecho'; tell a start
        mark "$irq ping"; echoes 5 ping 1.1.1.2
        mark "$irq descriptors"; ls -l /proc/$(pidof qemu-system-x86_64)/fd
        leave a || give_up "a: status $?"
        mark "$irq log"; tail -n 30 /tmp/a.log; dmesg | tail -n 5
      done
      mark left; ls /sys/class/net; pidof qemu-system-x86_64 || echo none`);
    for (const irq of ['msix', 'intx']) {
      expect(section(`${irq} ping`), text).toMatch(/5 of 5 answered/);
      expect(section(`${irq} descriptors`)).toContain('/dev/vhost-net');
    }
    expect(section('left')).toMatch(/none/);
    expect(section('left')).not.toMatch(/qt0/);
  });
});
