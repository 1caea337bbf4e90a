/**
 * A virtual machine as the front-end: the virtio-net driver of its kernel on our net_vhost, through QEMU's vhost-user. Its TCP goes on
 * to the host's kernel by a tap, both ways as large packets with partial checksums.
 */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { beforeAll, describe, expect, test } from 'vitest';
import { enterNetworkNamespace, ip, WHY_NO_NETWORK } from '../support/network.ts';
import { SocketDirectory } from '../support/pair.ts';
import { lcoresArgument } from '../support/program.ts';
import { Testpmd } from '../support/testpmd.ts';
import { WHY_NO_MACHINE } from './available.ts';
import { runInMachine, type MachineResult } from './machine.ts';

const WHY = WHY_NO_MACHINE ?? WHY_NO_NETWORK ?? (existsSync('/dev/net/tun') ? undefined : 'no /dev/net/tun');
const TIME_LIMIT = 150_000;
/** MiB; all of it is mapped into our window for peers. */
const MEMORY = 768;
const MEGABYTES = 4;

/** The same bytes on both sides, without a pattern; whoever is first sends them, the other compares and sends them back. */
const STREAM = `
  const { createHash } = require('node:crypto');
  const block = Buffer.alloc(1 << 20);
  for (let at = 0; at < block.length; at += 32) createHash('sha256').update(String(at)).digest().copy(block, at);
  const all = Buffer.concat(Array.from({ length: ${MEGABYTES} }, () => block));
  const receive = (socket, then) => {
    const parts = [];
    socket.on('data', (bytes) => parts.push(bytes));
    socket.on('end', () => then(Buffer.concat(parts).equals(all)));
  };`;
const SERVER = `${STREAM}
  require('node:net').createServer({ allowHalfOpen: true }, (socket) => {
    receive(socket, (equal) => socket.end(equal ? all : 'not what was sent'));
  }).listen(5001, () => console.log('listening'));`;
const CLIENT = `${STREAM}
  const socket = require('node:net').connect({ host: '192.168.7.2', port: 5001, allowHalfOpen: true });
  receive(socket, (equal) => console.log('intact both ways: ' + equal));
  socket.end(all);`;

/** Boots a machine whose eth0 is our net_vhost; without MSI-X, whose vectors crash QEMU 7.2 here where there is no KVM. */
function runGuest(socket: string, command: string): Promise<MachineResult> {
  return runInMachine({
    command,
    cpus: 2,
    memory: MEMORY,
    hugePages: 0,
    modules: ['virtio_net', 'virtio_pci'],
    limit: TIME_LIMIT - 20_000,
    environment: { CLIENT },
    qemuArguments: [
      ...['-object', `memory-backend-memfd,id=memory,size=${MEMORY}M,share=on`, '-machine', 'memory-backend=memory'],
      ...['-chardev', `socket,id=vhost,path=${socket}`, '-netdev', 'vhost-user,id=net,chardev=vhost'],
      ...['-device', 'virtio-net-pci,netdev=net,mac=02:00:00:00:00:0a,disable-legacy=on,vectors=0'],
    ],
  });
}

const UP = 'ip addr add 192.168.7.1/24 dev eth0; ip link set eth0 up; ';

describe.skipIf(WHY !== undefined)('a virtual machine on net_vhost', { timeout: TIME_LIMIT }, () => {
  beforeAll(enterNetworkNamespace);

  test('TCP with the host, in large packets', async () => {
    using directory = new SocketDirectory();
    await using testpmd = await Testpmd.start({
      program: 'dpdk-ts',
      eal: [
        ...lcoresArgument(1),
        ...['--no-huge', '-m', '160', '--vdev', `net_vhost0,iface=${directory.socket},tso=1`, '--vdev', 'net_tap1,iface=host'],
      ],
      app: ['--total-num-mbufs=20000'],
    });
    const offloads = ['rx_offload tcp_lro', 'rx_offload tcp_cksum', 'tx_offload tcp_cksum', 'tx_offload tcp_tso'];
    await testpmd.commands('port stop 1', ...offloads.map((name) => `port config 1 ${name} on`), 'port start 1', 'start');
    ip('addr add 192.168.7.2/24 dev host');
    ip('link set host up');
    const server = spawn(process.execPath, ['-e', SERVER], { stdio: ['ignore', 'pipe', 'inherit'] });
    try {
      const { status, stdout, stderr } = await runGuest(
        directory.socket,
        `${UP} /vm/busybox ping -c 3 -W 5 192.168.7.2; node -e "$CLIENT"; ethtool -k eth0 | grep tcp-segmentation`,
      );
      expect(status, `${stdout}\n${stderr}\n${testpmd.transcript()}`).toBe(0);
      expect(stdout).toMatch(/3 packets transmitted, 3 packets received/);
      expect(stdout).toMatch(/intact both ways: true/);
      expect(stdout).toMatch(/tcp-segmentation-offload: on/);
      const [guest, host] = [await testpmd.statistics(0), await testpmd.statistics(1)];
      const means = [guest.rxBytes / guest.rxPackets, guest.txBytes / guest.txPackets, host.rxBytes / host.rxPackets];
      // acknowledgements included
      for (const mean of means) expect(mean, means.join(', ')).toBeGreaterThan(1600);
      expect([guest.rxErrors, guest.txErrors, host.rxErrors, host.txErrors]).toEqual([0, 0, 0, 0]);
      await testpmd.waitForLink(false, 0);
    } finally {
      server.kill('SIGKILL');
    }
  });
});
