/**
 * A virtual machine whose network card lies behind an IOMMU as the front-end: QEMU translates what our net_vhost asks it for
 * (VIRTIO_F_ACCESS_PLATFORM, IOTLB messages), and takes it back whenever the kernel inside unmaps a buffer.
 */
import { describe, expect, test } from 'vitest';
import { SocketDirectory } from '../support/pair.ts';
import { lcoresArgument } from '../support/program.ts';
import { Testpmd } from '../support/testpmd.ts';
import { WHY_NO_MACHINE } from './available.ts';
import { runInMachine } from './machine.ts';

const TIME_LIMIT = 240_000;
/** MiB; all of it is mapped into our window for peers. */
const MEMORY = 512;

describe.skipIf(WHY_NO_MACHINE !== undefined)('a virtual machine with an IOMMU on net_vhost', { timeout: TIME_LIMIT }, () => {
  test.each([
    ['split', ''],
    // and with VIRTIO_F_EVENT_IDX, which the kernel takes on either
    ['packed', ',packed=on'],
  ])('whose kernel maps each buffer for itself and unmaps it at once, %s rings: pings come back', async (_, properties) => {
    using directory = new SocketDirectory();
    await using testpmd = await Testpmd.start({
      program: 'dpdk-ts',
      eal: [...lcoresArgument(1), ...['--no-huge', '-m', '160', '--vdev', `net_vhost0,iface=${directory.socket},iommu-support=1`]],
      app: ['--total-num-mbufs=20000'],
    });
    await testpmd.commands('set fwd icmpecho', 'start');
    const { status, stdout, stderr } = await runInMachine({
      command:
        'ip addr add 192.168.7.1/24 dev eth0; ip link set eth0 up; ip neigh add 192.168.7.2 lladdr 02:00:00:00:00:0b dev eth0; ' +
        '/vm/busybox ping -c 40 -i 0.05 -s 1400 -W 5 192.168.7.2; cat /sys/class/net/eth0/device/features; dmesg | grep -c "Adding to iommu group"',
      cpus: 2,
      memory: MEMORY,
      hugePages: 0,
      modules: ['virtio_net', 'virtio_pci'],
      // unmapped lazily, QEMU 7.2 does not tell the device of every page that the kernel uses anew (docs/ports.md)
      kernelArguments: 'intel_iommu=on iommu.strict=1',
      limit: TIME_LIMIT - 30_000,
      qemuArguments: [
        ...['-device', 'intel-iommu,device-iotlb=on'],
        ...['-object', `memory-backend-memfd,id=memory,size=${MEMORY}M,share=on`, '-machine', 'memory-backend=memory'],
        ...['-chardev', `socket,id=vhost,path=${directory.socket}`, '-netdev', 'vhost-user,id=net,chardev=vhost'],
        // without MSI-X, whose vectors crash QEMU 7.2 where there is no KVM
        ...['-device', `virtio-net-pci,netdev=net,mac=02:00:00:00:00:0a,disable-legacy=on,vectors=0,iommu_platform=on,ats=on${properties}`],
      ],
    });
    const said = `${stdout}\n${stderr}\n${testpmd.transcript()}`;
    expect(status, said).toBe(0);
    // bits 29, 33 and 34: EVENT_IDX, ACCESS_PLATFORM, RING_PACKED
    const features = /^[01]{64}$/m.exec(stdout)?.[0] ?? '';
    expect([features[29], features[33], features[34]], said).toEqual(['1', '1', properties === '' ? '0' : '1']);
    expect(Number(/(\d+)\s*$/.exec(stdout)?.[1] ?? 0), said).toBeGreaterThan(0);
    // a packet whose receive buffer is not translated yet is dropped by the engine, as one for which there is no buffer
    expect(Number(/(\d+) packets received/.exec(stdout)?.[1] ?? 0), said).toBeGreaterThanOrEqual(36);
    const port = await testpmd.statistics(0);
    expect([port.rxErrors, port.txPackets > 36], said).toEqual([0, true]);
    expect(testpmd.transcript()).not.toMatch(/connection closed|stopped:/);
  });
});
