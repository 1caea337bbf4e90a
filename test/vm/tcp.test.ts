/**
 * TCP between two namespaces of the kernel, through our testpmd: a tap and a virtio_user on vhost-net for each, and what a packet needs
 * on its way (checksum, segmentation) passed on or done.
 * @module
 */
import { describe, expect, test } from 'vitest';
import { WHY_NO_MACHINE } from './available.ts';
import { forwarded, runScript, SCRIPT_LIMIT } from './script.ts';

const BYTES = 12_000_000;
const VDEV = (index: number, last: string): string =>
  `--vdev=virtio_user${String(index)},path=/dev/vhost-net,queue_size=1024,mac=02:00:00:00:00:${last}`;
const LAUNCH = `launch a dpdk-ts-testpmd -l 2-3 -n 4 --no-pci --in-memory ${VDEV(0, '0a')} ${VDEV(1, '0b')}`;

/** Shell: a file from ns1 to ns0, what the ports forwarded meanwhile, and how many packets of more than 1518 bytes each of them saw. */
const FETCH = (mark: string): string => `
  tell a 'clear port xstats all'; tell a start
  rm -f /tmp/copy
  ip netns exec ns0 timeout 60 /vm/busybox wget -q -O /tmp/copy http://10.0.0.2:8000/file
  mark '${mark}'; sha256sum < /tmp/copy
  say a stop
  for port in 0 1; do say a "show port xstats $port" | sed -n "s/^\\([rt]x\\)_q0_size_1519_max_packets: /large \\1 $port: /p"; done
  mark end`;

const PREPARE = `
  namespaces_behind_taps
  mkdir -p /tmp/www; head -c ${String(BYTES)} /dev/urandom > /tmp/www/file
  ip netns exec ns1 /vm/busybox httpd -f -p 8000 -h /tmp/www &
  mark file; sha256sum < /tmp/www/file; mark end`;

const END = `
  ip netns del ns0; ip netns del ns1
  leave a || give_up "status $?"`;

/** Packets by direction and port, as `large rx 0: 12` tells them. */
function large(section: string): Record<string, number> {
  return Object.fromEntries([...section.matchAll(/^large (.. \d): (\d+)$/gm)].map(([, key = '', count]) => [key, Number(count)]));
}
const digest = (section: string): string => section.split(' ')[0] ?? '';

describe.skipIf(WHY_NO_MACHINE !== undefined)('TCP through our testpmd', { timeout: SCRIPT_LIMIT }, () => {
  test('without offloads, byte for byte in packets of the MTU', async () => {
    const { section } = await runScript(`${LAUNCH} -- -i --txd=1024 --rxd=1024 ${PREPARE} ${FETCH('io')} ${END}`);
    expect(digest(section('file'))).toMatch(/^[0-9a-f]{64}$/);
    expect(digest(section('io'))).toBe(digest(section('file')));
    expect(large(section('io'))).toEqual({ 'rx 0': 0, 'tx 0': 0, 'rx 1': 0, 'tx 1': 0 });
  });

  test('with TSO and LRO, byte for byte in large packets, in io and in csum', async () => {
    const { section } = await runScript(`
      ${LAUNCH} -- -i --tx-offloads=0x0000002c --enable-lro --txd=1024 --rxd=1024 \\
        --eth-peer=0,02:00:00:00:00:0a --eth-peer=1,02:00:00:00:00:0b
      tell a 'port stop all'
      for port in 0 1; do
        tell a "port config $port rx_offload tcp_cksum on"
        tell a "port config $port rx_offload udp_cksum on"
      done
      tell a 'port start all'
      ${PREPARE} ${FETCH('io')}
      tell a 'set fwd csum'
      tell a 'port stop all'; tell a 'tso set 1460 0'; tell a 'tso set 1460 1'; tell a 'port start all'
      ${FETCH('csum')} ${END}`);
    for (const mode of ['io', 'csum']) {
      expect(digest(section(mode)), mode).toBe(digest(section('file')));
      const packets = large(section(mode));
      expect(packets['tx 0']).toBeGreaterThan(BYTES / 65536);
      // 32 packets of 64 KB fill a ring, and a kernel that waits for a CPU leaves them there: TCP sends again what is dropped then
      const unsent = (packets['rx 1'] ?? 0) - (packets['tx 0'] ?? 0);
      const [client, server] = [forwarded(section(mode), 0), forwarded(section(mode), 1)];
      expect(server.received, section(mode)).toBe(client.sent + client.dropped);
      expect(unsent, section(mode)).toBeGreaterThanOrEqual(0);
      expect(unsent, section(mode)).toBeLessThanOrEqual(client.dropped);
    }
  });
});
